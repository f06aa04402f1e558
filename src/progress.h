/* progress.h: how far a long start has got. See progress.c. */
#ifndef CACHECASK_SRC_PROGRESS_H
#define CACHECASK_SRC_PROGRESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define PROGRESS_LINE_MAX 128

struct progress {
    pthread_mutex_t lock;
    uint64_t began_us;
    uint64_t next_us;    /* when the next line is due */
    uint64_t done_bytes; /* in the last line */
};

/* To be called at the beginning. All times are of one monotonic clock. */
void progress_init(struct progress *progress, uint64_t now_us);
void progress_release(struct progress *progress);

/* If a line is due, *line says that `done_bytes` of `all_bytes` have been read (0: their number is
 * not known yet). False: none is due, or another thread has got further. Any thread. */
bool progress_line(struct progress *progress, uint64_t now_us, uint64_t done_bytes,
                   uint64_t all_bytes, char line[PROGRESS_LINE_MAX]);

#endif
