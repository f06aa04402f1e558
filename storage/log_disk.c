/* log_disk.c: the log and the disk: writing, syncing, allocating ahead, and what happens when that fails.
 *
 * After a failed write or sync nothing is tried again and trusted: the kernel may have dropped the dirty pages and say
 * "fine" the next time. Instead every segment that is not known to be synced is copied, read back from the page cache, into
 * a new file; that is synced, and renamed over the old one. Ids, LSNs and offsets stay, so nothing in memory changes.
 * If that fails too, the log is `failed`: appends get STORE_READ_ONLY, reads go on, and the syncer tries the repair once
 * a second until it succeeds.
 *
 *     working ──failed write or sync──▶ log_repair ──done──▶ working
 *                                           │ failed
 *                                           ▼
 *                                      read only ──each second: log_repair──▶ working
 */
#define _GNU_SOURCE
#include "storage/log_disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "storage/monotonic.h"

#define COPY_SIZE         (256 * 1024)
#define ALLOCATE_RETRY_MS 200
#define REPAIR_RETRY_MS   1000

struct segment **log_new_slots(void)
{
    void *slots = mmap(NULL, SEGMENT_SLOTS_MAX * sizeof(struct segment *), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return slots == MAP_FAILED ? NULL : slots;
}

void log_free_slots(struct segment **slots)
{
    if (slots)
        munmap(slots, SEGMENT_SLOTS_MAX * sizeof(struct segment *));
}

bool log_give_slot(struct log *log, struct segment *segment)
{
    if (log->slot_count == SEGMENT_SLOTS_MAX)
        return false;
    segment->slot = log->slot_count++;
    log->slots[segment->slot] = segment;
    return true;
}

bool log_size_buffer(struct log_buffer *buffer, size_t capacity)
{
    char *data = malloc(capacity);
    if (!data)
        return false;
    free(buffer->data);
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void log_reset_buffer(struct log_buffer *buffer)
{
    buffer->used = 0;
    buffer->records = 0;
    buffer->extent_count = 0;
    if (buffer->capacity > LOG_BUFFER_SIZE)
        log_size_buffer(buffer, LOG_BUFFER_SIZE);
}

bool log_write_buffer(struct log *log, struct log_buffer *buffer)
{
    for (uint32_t i = 0; i < buffer->extent_count; i++) {
        const struct log_extent *extent = &buffer->extents[i];
        size_t end = i + 1 < buffer->extent_count ? extent[1].start : buffer->used;
        if (!file_write_all(log->options.files, extent->segment->fd, buffer->data + extent->start,
                            end - extent->start, extent->offset))
            return false;
    }
    return true;
}

/* The bytes of the segment that have reached the kernel. */
static uint32_t written_end(struct log *log, const struct segment *segment)
{
    uint64_t written = log_written_lsn(log);
    uint64_t base = segment->header.base_lsn;
    uint32_t end = atomic_load(&segment->end);
    if (written <= base)
        return 0;
    return written - base < end ? (uint32_t)(written - base) : end;
}

static bool copy_bytes(const struct file_system *files, int from, int to, uint32_t end)
{
    char *buffer = malloc(COPY_SIZE);
    bool ok = buffer != NULL;
    for (uint32_t offset = 0; ok && offset < end;) {
        size_t len = end - offset < COPY_SIZE ? end - offset : COPY_SIZE;
        ok = file_read_all(files, from, buffer, len, offset) &&
             file_write_all(files, to, buffer, len, offset);
        offset += (uint32_t)len;
    }
    free(buffer);
    return ok;
}

/* Puts a fresh, synced copy in the place of the segment's file. */
static bool renew_file(struct log *log, struct segment *segment)
{
    const struct file_system *files = log->options.files;
    char name[SEGMENT_NAME_SIZE], fresh[SEGMENT_NAME_SIZE];
    segment_name(name, segment->header.id, "seg");
    segment_name(fresh, segment->header.id, "tmp");
    int fd = files->open(files->context, log->options.dir_fd, fresh, O_RDWR | O_CREAT | O_TRUNC);
    if (fd < 0)
        return false;
    if (files->allocate(files->context, fd, segment->capacity) == 0 &&
        copy_bytes(files, segment->fd, fd, written_end(log, segment)) &&
        files->sync(files->context, fd) == 0 &&
        files->rename(files->context, log->options.dir_fd, fresh, name) == 0 &&
        files->sync_dir(files->context, log->options.dir_fd) == 0 &&
        files->replace(files->context, fd, segment->fd) == 0)
        return true;
    int error = errno;
    files->close(files->context, fd);
    files->unlink(files->context, log->options.dir_fd, fresh);
    errno = error;
    return false;
}

/* The first segment that may hold unsynced bytes (segment NULL), or the one behind `segment`. */
static struct segment *next_unsynced(struct log *log, const struct segment *segment)
{
    pthread_mutex_lock(&log->lock);
    struct segment *next = segment ? segment->next : log->sync_from;
    pthread_mutex_unlock(&log->lock);
    return next;
}

/* A log that is never synced has no such segments but those that the failed write was for. */
static bool renew_unsynced(struct log *log, const struct log_buffer *buffer)
{
    bool never = log->options.sync_interval_ms < 0 && buffer;
    struct segment *segment = never ? buffer->extents[0].segment : next_unsynced(log, NULL);
    for (; segment; segment = next_unsynced(log, segment))
        if (!renew_file(log, segment))
            return false;
    return true;
}

bool log_repair(struct log *log, struct log_buffer *buffer)
{
    int error = errno;
    bool was_failed = atomic_exchange(&log->failed, true); /* no appends meanwhile */
    if (!was_failed)
        tell(&log->options.tell, TELL_ERROR,
             "the disk failed a write or sync (%s): copying what is not synced to new files",
             strerror(error));
    if (renew_unsynced(log, buffer) && (!buffer || log_write_buffer(log, buffer))) {
        log->stuck = NULL;
        atomic_store(&log->failed, false);
        tell(&log->options.tell, TELL_WARNING,
             "the disk works again; nothing acknowledged was lost");
        return true;
    }
    error = errno;
    log->stuck = buffer;
    if (!was_failed)
        tell(&log->options.tell, TELL_ERROR,
             "the store is read-only: its disk refuses writes (%s). Check the disk, its mount and "
             "its "
             "free space; writing is tried again every second",
             strerror(error));
    return false;
}

/* Repairs and writes what is stuck, too. With write_lock held. */
static bool repair_with_stuck(struct log *log)
{
    struct log_buffer *buffer = log->stuck;
    if (!log_repair(log, buffer))
        return false;
    if (buffer) {
        atomic_store(&log->written_lsn, buffer->base_lsn + buffer->used);
        log_reset_buffer(buffer);
    }
    return true;
}

/* A second attempt, each second, while the log is failed. */
static void retry_repair(struct log *log)
{
    pthread_mutex_lock(&log->write_lock);
    if (atomic_load(&log->failed))
        repair_with_stuck(log);
    pthread_mutex_unlock(&log->write_lock);
}

/* Syncs one segment; after a failure, the repair's copies are what is synced. */
static bool sync_segment(struct log *log, struct segment *segment)
{
    const struct file_system *files = log->options.files;
    uint64_t start = monotonic_us();
    bool ok = files->sync(files->context, segment->fd) == 0;
    if (!ok) {
        pthread_mutex_lock(&log->write_lock);
        ok = repair_with_stuck(log);
        pthread_mutex_unlock(&log->write_lock);
    }
    histogram_add(&log->sync_us, monotonic_us() - start);
    atomic_fetch_add_explicit(&log->syncs, 1, memory_order_relaxed);
    return ok;
}

/* Syncs all that is written, oldest first, so that what a power loss leaves is a prefix (L2). */
static void sync_all(struct log *log)
{
    uint64_t target = log_written_lsn(log);
    if (target == log_synced_lsn(log))
        return;
    struct segment *segment = log->sync_from;
    for (;;) {
        if (!sync_segment(log, segment)) {
            log->options.on_synced(log->options.context); /* who waits learns that it failed */
            return;
        }
        struct segment *next = next_unsynced(log, segment);
        if (!next || next->header.base_lsn >= target)
            break;
        segment = next;
    }
    pthread_mutex_lock(&log->lock);
    log->sync_from = segment;
    pthread_mutex_unlock(&log->lock);
    atomic_store_explicit(&log->synced_lsn, target, memory_order_release);
    log->options.on_synced(log->options.context);
}

/* Waits until there is something to sync: the interval is over, a reply waits, or the end has come. */
static bool wait_for_sync(struct log *log)
{
    int interval = log->options.sync_interval_ms;
    if (atomic_load(&log->failed) || interval < 0)
        interval = REPAIR_RETRY_MS;
    struct timespec until = monotonic_in_ms(interval > 0 ? interval : REPAIR_RETRY_MS);
    int result = 0;
    pthread_mutex_lock(&log->sync_lock);
    while (!log->stopping && result != ETIMEDOUT &&
           (atomic_load(&log->failed) || atomic_load(&log->sync_wanted_lsn) <= log_synced_lsn(log)))
        result = pthread_cond_timedwait(&log->sync_cond, &log->sync_lock, &until);
    bool go_on = !log->stopping;
    pthread_mutex_unlock(&log->sync_lock);
    return go_on;
}

static void *run_syncer(void *context)
{
    struct log *log = context;
    while (wait_for_sync(log)) {
        if (atomic_load(&log->failed)) {
            retry_repair(log);
            log->options.on_synced(log->options.context); /* who waits learns that it failed */
        } else if (log->options.sync_interval_ms >= 0) {
            sync_all(log);
        }
    }
    return NULL;
}

void log_request_sync(struct log *log, uint64_t lsn)
{
    pthread_mutex_lock(&log->sync_lock);
    if (atomic_load(&log->sync_wanted_lsn) < lsn)
        atomic_store(&log->sync_wanted_lsn, lsn);
    pthread_cond_signal(&log->sync_cond);
    pthread_mutex_unlock(&log->sync_lock);
}

/* With the lock held, which is let go while the file is made. */
static void allocate_spare(struct log *log)
{
    struct segment *segment = NULL;
    uint64_t id = log->next_segment_id++;
    bool large = log->spare_size > log->options.segment_size;
    uint32_t size = large ? log->spare_size : log->options.segment_size;
    bool was_fine = log->spare_status == STORE_OK;
    pthread_mutex_unlock(&log->lock);
    enum store_status status =
        segment_create(log->options.files, log->options.dir_fd, id, size, &segment);
    int error = errno;
    pthread_mutex_lock(&log->lock);
    log->spare_status = status;
    if (large && log->spare_size <= size)
        log->spare_size = 0;
    if (status == STORE_OK)
        log->spares[log->spare_count++] = segment;
    else if (was_fine)
        tell(&log->options.tell, TELL_ERROR,
             "cannot make another segment of %u bytes (%s): writes are refused when the current "
             "one is "
             "full. Free disk space; it is tried again all the time",
             size, strerror(error));
    pthread_cond_broadcast(&log->spare_ready);
}

static void *run_allocator(void *context)
{
    struct log *log = context;
    pthread_mutex_lock(&log->lock);
    while (!log->stopping) {
        if (log->spare_count < LOG_SPARES ||
            (log->spare_size && log->spare_count < LOG_SPARES_MAX)) {
            allocate_spare(log);
            if (log->spare_status == STORE_OK)
                continue;
            struct timespec until = monotonic_in_ms(ALLOCATE_RETRY_MS);
            pthread_cond_timedwait(&log->spare_wanted, &log->lock, &until);
        } else {
            pthread_cond_wait(&log->spare_wanted, &log->lock);
        }
    }
    pthread_mutex_unlock(&log->lock);
    return NULL;
}

bool log_start_threads(struct log *log)
{
    if (pthread_create(&log->syncer, NULL, run_syncer, log) != 0)
        return false;
    if (pthread_create(&log->allocator, NULL, run_allocator, log) == 0) {
        log->threads = true;
        return true;
    }
    pthread_mutex_lock(&log->sync_lock);
    log->stopping = true;
    pthread_cond_signal(&log->sync_cond);
    pthread_mutex_unlock(&log->sync_lock);
    pthread_join(log->syncer, NULL);
    return false;
}

static void drop_spares(struct log *log)
{
    for (uint32_t i = 0; i < log->spare_count; i++) {
        char name[SEGMENT_NAME_SIZE];
        segment_name(name, log->spares[i]->header.id, "seg");
        log->options.files->unlink(log->options.files->context, log->options.dir_fd, name);
        segment_free(log->options.files, log->spares[i]);
    }
    log->spare_count = 0;
}

void log_stop_threads(struct log *log)
{
    pthread_mutex_lock(&log->sync_lock);
    pthread_mutex_lock(&log->lock);
    log->stopping = true;
    pthread_cond_broadcast(&log->spare_wanted);
    pthread_cond_broadcast(&log->spare_ready);
    pthread_mutex_unlock(&log->lock);
    pthread_cond_signal(&log->sync_cond);
    pthread_mutex_unlock(&log->sync_lock);
    pthread_join(log->allocator, NULL);
    pthread_join(log->syncer, NULL);
    if (!atomic_load(&log->failed))
        sync_all(log); /* a clean stop leaves nothing to chance, whatever --sync says */
    drop_spares(log);
}
