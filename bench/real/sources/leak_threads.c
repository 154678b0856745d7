/* Threads that wait for ever, each with the stack that it touched. Arguments: seconds, MiB to lose. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TOUCHED (192 * 1024)

static void *wait_for_ever(void *nothing) {
    volatile char buffer[TOUCHED];
    for (size_t i = 0; i < sizeof buffer; i += 512) buffer[i] = 1;
    for (;;) pause();
    return nothing;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    double pause_s = atof(argv[1]) / (atof(argv[2]) * 1048576 / (TOUCHED + 12288));
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 1 << 20);
    for (;;) {
        pthread_t thread;
        pthread_create(&thread, &attr, wait_for_ever, NULL);
        usleep((useconds_t)(pause_s * 1e6));
    }
}
