/* Many threads that allocate and free at random: the arenas of the C library fill, and level off. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 24
#define SLOTS 300

static void *work(void *seed_of) {
    unsigned seed = (unsigned)(size_t)seed_of;
    char *slot[SLOTS] = {0};
    for (;;) {
        for (int i = 0; i < 12; i++) {
            int at = rand_r(&seed) % SLOTS;
            size_t size = rand_r(&seed) % 20 ? 100 + rand_r(&seed) % 6000 : 20000 + rand_r(&seed) % 60000;
            free(slot[at]);
            slot[at] = malloc(size);
            memset(slot[at], 1, size);
        }
        usleep(120000);
    }
    return NULL;
}

int main(void) {
    pthread_t thread;
    for (size_t i = 0; i < THREADS; i++) pthread_create(&thread, NULL, work, (void *)(i + 1));
    for (;;) pause();
}
