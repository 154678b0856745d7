/* A sparse heap under transparent huge pages: one page touched, two MiB held. It levels off. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (160UL << 20)

int main(void) {
    char *heap = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (heap == MAP_FAILED) return 1;
    madvise(heap, SIZE, MADV_HUGEPAGE);
    for (;;) {
        heap[(((size_t)rand() << 15) ^ (size_t)rand()) % SIZE] = 1;
        usleep(300000);
    }
}
