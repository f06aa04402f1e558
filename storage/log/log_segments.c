/* log_segments.c: segments are made ahead of use, and removed. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "storage/base/monotonic.h"
#include "storage/base/thread.h"
#include "storage/log/log_internal.h"

#define ALLOCATE_RETRY_US UINT64_C(200000) /* and twice as long after each failure, */
#define RETRY_DOUBLED_MAX 3                /* so many times */

_Static_assert(SEGMENT_FILES_HELD_MIN > LOG_READY_MAX + 2, "and one that is written, and one more");

/* Makes a file, and room for it among those that are open. */
static enum store_status create_file(struct log *log, uint64_t id, uint32_t size,
                                     struct segment **out)
{
    enum store_status status;
    int tries = 0;
    segment_files_hold(&log->segment_files);
    do
        status = segment_create(log->options.files, log->options.dir_fd, id, size, out);
    while (status == STORE_IO && segment_files_make_way(&log->segment_files, errno, ++tries));
    if (status != STORE_OK)
        segment_files_unhold(&log->segment_files);
    return status;
}

enum store_status log_create_segment(struct log *log, uint64_t id, struct segment **out)
{
    enum store_status status = STORE_FULL;
    for (uint32_t size = log->usual_size; size >= LOG_SEGMENT_TINY && status == STORE_FULL;
         size /= 2)
        status = create_file(log, id, size, out);
    return status;
}

/* Notes that a segment could not be made. With the lock held. */
static void note_failure(struct log *log, enum store_status status)
{
    uint32_t doubled =
        log->create_failures < RETRY_DOUBLED_MAX ? log->create_failures : RETRY_DOUBLED_MAX;
    log->create_retry_us = monotonic_us() + (ALLOCATE_RETRY_US << doubled);
    log->create_failures++;
    if (status == STORE_FULL && log->attempt_size / 2 >= LOG_SEGMENT_TINY)
        log->attempt_size /= 2; /* a smaller one may still fit */
}

/* The first of a row of failures is reported, and the end of the row. */
static void report_attempt(const struct log *log, enum store_status status, uint32_t size,
                           int error)
{
    if (status == STORE_OK && log->create_failures)
        report(&log->options.reporter, REPORT_INFO, "segments can be made again");
    if (status != STORE_OK && !log->create_failures)
        report(&log->options.reporter, REPORT_ERROR,
               "cannot make another segment of %u bytes (%s): when the ready ones are used up, "
               "writes wait or are refused. %s; it is tried again from time to time",
               size, strerror(error), file_remedy(error));
}

/* With the lock held, which is released while the file is made. */
static void allocate_segment(struct log *log)
{
    struct segment *segment = NULL;
    uint64_t id = log->next_segment_id++;
    uint32_t size = log_next_size(log);
    pthread_mutex_unlock(&log->lock);
    enum store_status status = create_file(log, id, size, &segment);
    int error = errno;
    pthread_mutex_lock(&log->lock);
    report_attempt(log, status, size, error);
    log->create_status = status;
    log->freed = false;
    if (status == STORE_OK) {
        log->ready[log->ready_count++] = segment;
        log->file_bytes += log_on_disk(segment->capacity);
        log->essential_wanted &= log->ready_count < 2;
        log->create_failures = 0;
        if (log->wanted_size <= size)
            log->wanted_size = 0;
    } else {
        note_failure(log, status);
    }
    bool wanted = log->room_wanted;
    log->room_wanted = false;
    pthread_mutex_unlock(&log->lock);
    if (wanted && log->options.on_room)
        log->options.on_room(log->options.context);
    pthread_mutex_lock(&log->lock);
}

/* While too many segments wait for the disk none is made (log_let_files_go). */
static bool wants_segment(const struct log *log)
{
    return !segment_files_over_share(&log->segment_files) &&
           (log->ready_count < LOG_READY ||
            (log->wanted_size && log->ready_count < LOG_READY_MAX)) &&
           log_may_allocate(log);
}

/* With the lock held: a ready segment larger than new ones, while the limit is exceeded; or -1. */
static int oversized_ready(const struct log *log)
{
    if (log_disk_bytes_locked(log) <= atomic_load(&log->effective_limit) || log->wanted_size)
        return -1;
    for (uint32_t i = 0; i < log->ready_count; i++)
        if (log->ready[i]->capacity / 2 > log->usual_size)
            return (int)i;
    return -1;
}

/* With the lock held, which is released while the file is removed. */
static void drop_ready(struct log *log, uint32_t i)
{
    struct segment *segment = log->ready[i];
    log->ready[i] = log->ready[--log->ready_count];
    log->file_bytes -= log_on_disk(segment->capacity);
    pthread_mutex_unlock(&log->lock);
    segment_unlink_file(log->options.files, log->options.dir_fd, segment->header.id, "seg");
    segment_files_free(&log->segment_files, segment);
    pthread_mutex_lock(&log->lock);
}

/* Whether an attempt must wait: the last one failed a moment ago, and nothing was freed since. */
static bool is_too_early(const struct log *log)
{
    return log->create_failures && !log->freed && monotonic_us() < log->create_retry_us;
}

static void wait_to_retry(struct log *log)
{
    uint64_t now_us = monotonic_us();
    uint64_t rest_us = log->create_retry_us > now_us ? log->create_retry_us - now_us : 0;
    thread_cond_wait_ms(&log->segment_wanted, &log->lock, (uint32_t)(rest_us / 1000) + 1);
}

/* It is signalled when a ready segment was taken or one was freed, and when the limit has changed;
 * after a failure it also waits for a time only. */
void *log_run_allocator(void *context)
{
    struct log *log = context;
    thread_begin("cc-allocator", THREAD_NORMAL);
    pthread_mutex_lock(&log->lock);
    while (!log->stopping) {
        int oversized = oversized_ready(log);
        if (oversized >= 0)
            drop_ready(log, (uint32_t)oversized);
        else if (!wants_segment(log))
            pthread_cond_wait(&log->segment_wanted, &log->lock);
        else if (is_too_early(log))
            wait_to_retry(log);
        else
            allocate_segment(log);
    }
    pthread_mutex_unlock(&log->lock);
    return NULL;
}

/* With the lock held. It is not the active one. */
static void unlink_segment(struct log *log, const struct segment *segment)
{
    struct segment **from[] = {&log->first, &log->sync_from, &log->hint_from, &log->held_from};
    for (size_t i = 0; i < sizeof from / sizeof *from; i++)
        if (*from[i] == segment)
            *from[i] = segment->next;
    if (segment->previous)
        segment->previous->next = segment->next;
    segment->next->previous = segment->previous;
}

void log_let_files_go(struct log *log)
{
    pthread_mutex_lock(&log->lock);
    const struct segment *first = log->held_from;
    uint64_t synced = log_synced_lsn(log);
    while (log->held_from != log->active && log->held_from->hinted &&
           log->held_from->header.base_lsn + atomic_load(&log->held_from->end) <= synced) {
        struct segment *segment = log->held_from;
        log->held_from = segment->next;
        segment_files_let_go(&log->segment_files, segment);
    }
    if (log->held_from != first)
        pthread_cond_signal(&log->segment_wanted);
    pthread_mutex_unlock(&log->lock);
}

void log_doom(struct log *log, struct segment *segment)
{
    pthread_mutex_lock(&log->lock);
    segment_files_keep(&log->segment_files, segment);
    unlink_segment(log, segment);
    atomic_fetch_sub(&log->hint_bytes, log_on_disk(atomic_load(&segment->hint_bytes)));
    /* log_next_unsynced continues from a segment that is doomed meanwhile. */
    for (struct segment *doomed = log->doomed; doomed; doomed = doomed->next_doomed)
        if (doomed->next == segment)
            doomed->next = segment->next;
    atomic_store(&segment->state, SEGMENT_DOOMED);
    segment->next_doomed = log->doomed;
    log->doomed = segment;
    pthread_mutex_unlock(&log->lock);
}

/* Takes one that is not pinned off the list of doomed segments; NULL: there is none. */
static struct segment *take_unpinned(struct log *log)
{
    struct segment **link = &log->doomed;
    while (*link && atomic_load_explicit(&(*link)->pins, memory_order_acquire))
        link = &(*link)->next_doomed;
    struct segment *segment = *link;
    if (segment) {
        *link = segment->next_doomed;
        log->segments[segment->segment_index] = NULL;
        log->free_indexes[log->free_index_count++] = segment->segment_index;
        log->file_bytes -= log_on_disk(segment->capacity);
    }
    return segment;
}

uint32_t log_reap(struct log *log)
{
    struct segment *segment;
    uint32_t left = 0;
    pthread_mutex_lock(&log->lock);
    while ((segment = take_unpinned(log))) {
        log->freed = true;
        pthread_mutex_unlock(&log->lock);
        segment_files_free(&log->segment_files, segment);
        pthread_mutex_lock(&log->lock);
    }
    for (segment = log->doomed; segment; segment = segment->next_doomed)
        left++;
    pthread_cond_signal(&log->segment_wanted);
    pthread_mutex_unlock(&log->lock);
    return left;
}
