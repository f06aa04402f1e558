/* log_space.c: bytes on disk, within the log's limit, and indexes of segments. */
#define _GNU_SOURCE
#include <assert.h>
#include <sys/mman.h>

#include "storage/log/log_internal.h"

#define TABLE_BYTES (SEGMENT_INDEXES_MAX * (sizeof(struct segment *) + sizeof(uint32_t)))

bool log_new_segment_table(struct log *log)
{
    void *memory = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    log->segments = memory;
    log->free_indexes = (uint32_t *)(log->segments + SEGMENT_INDEXES_MAX);
    return true;
}

void log_free_segment_table(struct log *log)
{
    if (log->segments)
        munmap(log->segments, TABLE_BYTES);
}

bool log_give_index(struct log *log, struct segment *segment)
{
    if (log->free_index_count)
        segment->segment_index = log->free_indexes[--log->free_index_count];
    else if (log->index_count < SEGMENT_INDEXES_MAX)
        segment->segment_index = log->index_count++;
    else
        return false;
    log->segments[segment->segment_index] = segment;
    return true;
}

void log_set_hint_bytes(struct log *log, struct segment *segment, uint32_t bytes)
{
    uint64_t before = atomic_exchange_explicit(&segment->hint_bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&log->hint_bytes, log_on_disk(bytes) - log_on_disk(before),
                              memory_order_relaxed);
}

uint64_t log_disk_bytes_locked(const struct log *log)
{
    return log->file_bytes + atomic_load_explicit(&log->hint_bytes, memory_order_relaxed);
}

uint64_t log_disk_bytes(struct log *log)
{
    pthread_mutex_lock(&log->lock);
    uint64_t bytes = log_disk_bytes_locked(log);
    pthread_mutex_unlock(&log->lock);
    return bytes;
}

void log_set_size(struct log *log, struct segment *segment, uint32_t capacity, uint32_t hint_bytes)
{
    pthread_mutex_lock(&log->lock);
    log->file_bytes += log_on_disk(capacity) - log_on_disk(segment->capacity);
    segment->capacity = capacity;
    log_set_hint_bytes(log, segment, hint_bytes);
    pthread_mutex_unlock(&log->lock);
}

static void sum_sizes(const struct log *log, uint64_t *file_bytes, uint64_t *hint_bytes)
{
    *file_bytes = *hint_bytes = 0;
    for (const struct segment *segment = log->first; segment; segment = segment->next) {
        *file_bytes += log_on_disk(segment->capacity);
        *hint_bytes += log_on_disk(atomic_load(&segment->hint_bytes));
    }
    for (const struct segment *segment = log->doomed; segment; segment = segment->next_doomed)
        *file_bytes += log_on_disk(segment->capacity);
    for (uint32_t i = 0; i < log->ready_count; i++)
        *file_bytes += log_on_disk(log->ready[i]->capacity);
}

void log_count_sizes(struct log *log)
{
    uint64_t hint_bytes;
    sum_sizes(log, &log->file_bytes, &hint_bytes);
    atomic_store(&log->hint_bytes, hint_bytes);
}

void log_check(struct log *log)
{
    uint64_t file_bytes, hint_bytes;
    pthread_mutex_lock(&log->write_lock);
    pthread_mutex_lock(&log->lock);
    sum_sizes(log, &file_bytes, &hint_bytes);
    assert(log->file_bytes == file_bytes && atomic_load(&log->hint_bytes) == hint_bytes);
    for (const struct segment *segment = log->held_from; segment; segment = segment->next)
        assert(segment->fd >= 0 || atomic_load(&log->failed)); /* S8 */
    pthread_mutex_unlock(&log->lock);
    pthread_mutex_unlock(&log->write_lock);
}

uint64_t log_free_space(const struct log *log)
{
    const struct file_system *files = log->options.files;
    uint64_t space;
    if (!files->space || files->space(files->context, log->options.dir_fd, &space) < 0)
        return UINT64_MAX;
    return space;
}

/* At least LOG_SEGMENTS_MIN segments fit, so that there is always one to choose for cleaning. */
static uint32_t largest_usual(const struct log *log, uint64_t limit)
{
    uint64_t share = (limit / LOG_SEGMENTS_MIN) & ~UINT64_C(4095);
    if (share < SEGMENT_SIZE_MIN)
        return SEGMENT_SIZE_MIN;
    return share < log->options.segment_size ? (uint32_t)share : log->options.segment_size;
}

/* The limit that counts, with so much free. With the lock held. */
static uint64_t limit_with(const struct log *log, uint64_t space)
{
    uint64_t limit = atomic_load(&log->disk_limit);
    uint64_t used = log_disk_bytes_locked(log);
    if (space >= limit || used + space >= limit)
        return limit;
    uint64_t kept = largest_usual(log, used + space); /* for hint files, and for others */
    return used + space > kept ? used + space - kept : 0;
}

uint64_t log_refresh_limit(struct log *log)
{
    uint64_t space = log_free_space(log);
    pthread_mutex_lock(&log->lock);
    uint64_t limit = limit_with(log, space);
    uint32_t most = largest_usual(log, limit);
    bool more = limit > atomic_load(&log->effective_limit);
    atomic_store(&log->effective_limit, limit);
    log->usual_size = most;
    if (log->attempt_size > most || log->create_status == STORE_OK)
        log->attempt_size = most;
    if (more)
        pthread_cond_signal(&log->segment_wanted);
    pthread_mutex_unlock(&log->lock);
    return limit;
}

void log_set_disk_limit(struct log *log, uint64_t bytes)
{
    uint64_t limit = bytes == 0 ? UINT64_MAX : bytes < LOG_LIMIT_MIN ? LOG_LIMIT_MIN : bytes;
    atomic_store(&log->disk_limit, limit);
    log_refresh_limit(log);
    pthread_mutex_lock(&log->lock);
    log->freed = true;
    pthread_cond_signal(&log->segment_wanted);
    pthread_mutex_unlock(&log->lock);
}

uint32_t log_next_size(const struct log *log)
{
    return log->wanted_size > log->usual_size ? log->wanted_size : log->attempt_size;
}

bool log_may_allocate(const struct log *log)
{
    uint32_t essential = log->essential_wanted ? 2 : 1;
    if (log->ready_count < essential)
        return true;
    /* One more is kept for cleaning, which takes its segment whatever the limit says. */
    uint64_t bytes = log_disk_bytes_locked(log) + log_next_size(log) + log->usual_size;
    return bytes <= atomic_load(&log->effective_limit);
}
