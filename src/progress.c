/* progress.c: a line every few seconds, and none if the start is quick.
 *
 * Clients that connect during a start get no answer: the log says that one is under way, and how
 * long it will take.
 */
#include "src/progress.h"

#include <stdio.h>

#define FIRST_US 2000000 /* until the first line */
#define EVERY_US 5000000 /* from one to the next */

void progress_init(struct progress *progress, uint64_t now_us)
{
    *progress = (struct progress){.began_us = now_us, .next_us = now_us + FIRST_US};
    pthread_mutex_init(&progress->lock, NULL);
}

void progress_release(struct progress *progress)
{
    pthread_mutex_destroy(&progress->lock);
}

static bool is_due(struct progress *progress, uint64_t now_us, uint64_t done_bytes)
{
    pthread_mutex_lock(&progress->lock);
    bool due = now_us >= progress->next_us && done_bytes >= progress->done_bytes;
    if (due) {
        progress->next_us = now_us + EVERY_US;
        progress->done_bytes = done_bytes;
    }
    pthread_mutex_unlock(&progress->lock);
    return due;
}

/* If the rest is read as fast. */
static double seconds_left(const struct progress *progress, uint64_t now_us, uint64_t done_bytes,
                           uint64_t all_bytes)
{
    double per_byte = (double)(now_us - progress->began_us) / 1e6 / (double)done_bytes;
    return per_byte * (double)(all_bytes - done_bytes);
}

bool progress_line(struct progress *progress, uint64_t now_us, uint64_t done_bytes,
                   uint64_t all_bytes, char line[PROGRESS_LINE_MAX])
{
    if (!is_due(progress, now_us, done_bytes))
        return false;
    if (all_bytes == 0 || done_bytes == 0)
        snprintf(line, PROGRESS_LINE_MAX, "recovering: opening the segments of the log");
    else
        snprintf(line, PROGRESS_LINE_MAX, "recovering: %.0f %% of %.1f GB read, about %.0f s left",
                 (double)done_bytes / (double)all_bytes * 100, (double)all_bytes / 1e9,
                 seconds_left(progress, now_us, done_bytes, all_bytes));
    return true;
}
