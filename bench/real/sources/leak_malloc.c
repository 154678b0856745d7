/* malloc without free, among work that frees. Arguments: seconds, MiB to lose. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    double a_second = atof(argv[2]) * 1048576 / atof(argv[1]), owed = 0, last = now();
    for (;;) {
        for (int i = 0; i < 500; i++) {
            size_t size = 100 + rand() % 20000;
            char *request = malloc(size);
            memset(request, 1, size);
            free(request);
        }
        owed += (now() - last) * a_second;
        last = now();
        while (owed > 0) {
            size_t size = 50 + rand() % 3000;
            char *session = malloc(size);
            if (!session) return 1;
            memset(session, 2, size);
            owed -= size + 16;
        }
        usleep(50000);
    }
}
