/* log_disk.c: the log and the disk: writing, allocating ahead, and what happens when a write or a sync fails. Syncing is in
 * log_sync.c.
 *
 * After a failed write or sync nothing is tried again and trusted: the kernel may have dropped the dirty pages and say
 * "fine" the next time. Instead every segment that is not known to be synced is copied, read back from the page cache, into
 * a new file; that is looked through, record by record, and what the disk has dropped is written anew (rescue.c); then it is
 * synced, and renamed over the old one. Ids, LSNs and offsets stay, so nothing in memory changes but what is lost.
 * If that fails too, the log is `failed`: appends get STORE_READ_ONLY, reads go on, and the syncer tries the repair once
 * a second until it succeeds. Who writes may hold the lock of a shard, and cannot ask for what is lost: that is the syncer's.
 *
 *     working ──failed write──▶ log_repair ──done──▶ working
 *        │                          │ failed, or something was dropped
 *        │                          ▼
 *        │                      read only ──each second: log_repair_stuck──▶ working
 *        │                          ▲ failed
 *        └──failed sync──▶ log_repair_stuck ──done──▶ working
 */
#define _GNU_SOURCE
#include "storage/log/log_disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "storage/base/memory.h"
#include "storage/base/monotonic.h"
#include "storage/log/rescue.h"

#define DISK_BLOCK        4096
#define COPY_SIZE         (256 * 1024)
#define ALLOCATE_RETRY_US UINT64_C(200000) /* and twice as long after each failure, */
#define RETRY_DOUBLED_MAX 3                /* so many times */

_Static_assert(SEGMENT_FILES_HELD_MIN > LOG_SPARES_MAX + 2,
               "and one that is written, and one more");

#define SLOTS_BYTES (SEGMENT_SLOTS_MAX * (sizeof(struct segment *) + sizeof(uint32_t)))

bool log_new_slots(struct log *log)
{
    void *memory = mmap(NULL, SLOTS_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    log->slots = memory;
    log->free_slots = (uint32_t *)(log->slots + SEGMENT_SLOTS_MAX);
    return true;
}

void log_free_slots(struct log *log)
{
    if (log->slots)
        munmap(log->slots, SLOTS_BYTES);
}

/* Those of segments that are gone are used again. */
bool log_give_slot(struct log *log, struct segment *segment)
{
    if (!log->free_slot_count && log->slot_count == SEGMENT_SLOTS_MAX)
        return false;
    uint32_t slot =
        log->free_slot_count ? log->free_slots[--log->free_slot_count] : log->slot_count++;
    segment->slot = slot;
    log->slots[slot] = segment;
    return true;
}

bool log_init_buffer(struct log_buffer *buffer)
{
    buffer->entries = malloc(LOG_BUFFER_RECORDS * sizeof *buffer->entries);
    buffer->data = memory_new_private(LOG_BUFFER_SIZE);
    return buffer->entries && buffer->data;
}

static void free_kept(struct log_buffer *buffer)
{
    for (uint32_t i = 0; i < buffer->extent_count; i++)
        free(buffer->extents[i].kept);
    buffer->extent_count = 0;
}

void log_free_buffer(struct log_buffer *buffer)
{
    free_kept(buffer);
    free(buffer->data);
    free(buffer->entries);
}

static void reset_buffer(struct log_buffer *buffer)
{
    free_kept(buffer);
    buffer->used = buffer->outside = 0;
    buffer->records = 0;
    atomic_store_explicit(&buffer->published, 0, memory_order_relaxed);
}

void log_keep_outside(struct log_buffer *buffer)
{
    for (uint32_t i = 0; i < buffer->extent_count; i++) {
        struct log_extent *extent = &buffer->extents[i];
        struct record_part *value = extent->outside;
        size_t len = value[0].len + value[1].len;
        if (len == 0 || extent->kept)
            continue;
        extent->kept = malloc(len);
        if (extent->kept) {
            memcpy(extent->kept, value[0].data, value[0].len);
            memcpy(extent->kept + value[0].len, value[1].data, value[1].len);
            value[0].data = extent->kept;
            value[1].data = extent->kept + value[0].len;
        } else {
            memset(value, 0, RECORD_PARTS * sizeof *value);
        }
    }
}

bool log_write_buffer(struct log *log, struct log_buffer *buffer)
{
    for (uint32_t i = 0; i < buffer->extent_count; i++) {
        const struct log_extent *extent = &buffer->extents[i];
        size_t end = i + 1 < buffer->extent_count ? extent[1].start : buffer->used;
        uint64_t offset = extent->offset;
        const struct record_part parts[] = {{buffer->data + extent->start, end - extent->start},
                                            extent->outside[0],
                                            extent->outside[1]};
        for (size_t k = 0; k < sizeof parts / sizeof *parts; offset += parts[k++].len)
            if (parts[k].len && !file_write_all(log->options.files, extent->segment->fd,
                                                parts[k].data, parts[k].len, offset))
                return false;
    }
    return true;
}

/* Of each segment one thread at a time. */
/* What `bytes` of a file take, as far as file systems are alike. */
static uint64_t on_disk(uint64_t bytes)
{
    return (bytes + DISK_BLOCK - 1) & ~(uint64_t)(DISK_BLOCK - 1);
}

static void set_hint_bytes(struct log *log, struct segment *segment, uint32_t bytes)
{
    uint64_t before = atomic_exchange_explicit(&segment->hint_bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&log->hint_bytes, on_disk(bytes) - on_disk(before),
                              memory_order_relaxed);
}

/* The hint file of a segment grows with it. Where that fails it is made by a scan, as after a crash. */
static void add_hints(struct log *log, const struct log_buffer *buffer, uint32_t i)
{
    const struct log_extent *extent = &buffer->extents[i];
    struct segment *segment = extent->segment;
    uint32_t end = i + 1 < buffer->extent_count ? extent[1].record : buffer->records;
    if (extent->offset == 0)
        segment->hint_writer = hint_begin(log->options.files, log->options.dir_fd, segment);
    uint32_t count = end - extent->record;
    uint32_t bytes = count * (uint32_t)sizeof(struct hint_entry);
    if (segment->hint_writer &&
        !hint_add(segment->hint_writer, &buffer->entries[extent->record], count, buffer->cas_max)) {
        hint_abandon(segment->hint_writer);
        segment->hint_writer = NULL;
        set_hint_bytes(log, segment, 0);
    }
    if (segment->hint_writer)
        set_hint_bytes(log, segment, atomic_load(&segment->hint_bytes) + bytes);
}

void log_note_written(struct log *log, struct log_buffer *buffer)
{
    bool sealed = buffer->extent_count > 1;
    for (uint32_t i = 0; i < buffer->extent_count; i++)
        add_hints(log, buffer, i);
    atomic_fetch_add_explicit(&log->commits, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&log->commit_records, buffer->records, memory_order_relaxed);
    uint64_t bytes = buffer->used + buffer->outside;
    atomic_fetch_add_explicit(&log->bytes_written, bytes, memory_order_relaxed);
    atomic_store(&log->written_lsn, buffer->base_lsn + bytes); /* see backpressure_note_write */
    reset_buffer(buffer);
    log_apply_backpressure(log);
    if (sealed)
        log->options.on_sealed(log->options.context);
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

/* The segment's file is that of `fd` from now on. */
static bool put_in_place(const struct log *log, int fd, struct segment *segment)
{
    const struct file_system *files = log->options.files;
    if (segment->fd >= 0)
        return files->replace(files->context, fd, segment->fd) == 0;
    segment->fd = fd; /* it had none: the disk was full at the start */
    return true;
}

static int open_fresh(struct log *log, const char *name)
{
    const struct log_options *options = &log->options;
    int fd, tries = 0;
    do
        fd = options->files->open(options->files->context, options->dir_fd, name,
                                  O_RDWR | O_CREAT | O_TRUNC);
    while (fd < 0 && segment_files_make_way(&log->segment_files, errno, ++tries));
    return fd;
}

/* Puts a fresh, synced copy in the place of the segment's file, which is in use. What the disk has dropped is written anew where
 * somebody may be asked for it; else it is a failure. */
static bool copy_file(struct log *log, struct segment *segment, bool may_ask)
{
    const struct file_system *files = log->options.files;
    char name[SEGMENT_NAME_SIZE], fresh[SEGMENT_NAME_SIZE];
    segment_name(name, segment->header.id, "seg");
    segment_name(fresh, segment->header.id, "tmp");
    struct rescue rescue = {0};
    uint32_t end = written_end(log, segment);
    int fd = open_fresh(log, fresh);
    if (fd < 0)
        return false;
    bool ok = files->allocate(files->context, fd, segment->capacity) == 0 &&
              copy_bytes(files, segment->fd, fd, end) &&
              rescue_copy(&rescue, log, segment, fd, end, may_ask) &&
              files->sync(files->context, fd) == 0 &&
              files->rename(files->context, log->options.dir_fd, fresh, name) == 0 &&
              files->sync_dir(files->context, log->options.dir_fd) == 0 &&
              put_in_place(log, fd, segment);
    int error = errno;
    rescue_end(&rescue, ok);
    if (ok)
        return true;
    files->close(files->context, fd);
    files->unlink(files->context, log->options.dir_fd, fresh);
    errno = error;
    return false;
}

static bool renew_file(struct log *log, struct segment *segment, bool may_ask)
{
    if (segment_files_use(&log->segment_files, segment) != STORE_OK)
        return false;
    bool ok = copy_file(log, segment, may_ask);
    int error = errno;
    segment_files_done(segment);
    errno = error;
    return ok;
}

struct segment *log_next_unsynced(struct log *log, struct segment *segment)
{
    pthread_mutex_lock(&log->lock);
    struct segment *next = segment ? segment->next : log->sync_from;
    if (next)
        segment_pin(next);
    pthread_mutex_unlock(&log->lock);
    if (segment)
        segment_unpin(segment);
    return next;
}

/* A log that is never synced has no such segments but those that the failed write was for. */
static bool renew_unsynced(struct log *log, const struct log_buffer *buffer, bool may_ask)
{
    if (log->active->fd < 0)
        return renew_file(log, log->active, may_ask);
    struct segment *segment = log_next_unsynced(log, NULL);
    const struct segment *from =
        log->options.sync_interval_ms < 0 && buffer ? buffer->extents[0].segment : segment;
    for (; segment; segment = log_next_unsynced(log, segment)) {
        if (segment == from)
            from = NULL;
        if (!from && !renew_file(log, segment, may_ask)) {
            segment_unpin(segment);
            return false;
        }
    }
    return true;
}

/* Answers whether it was failed before. No appends meanwhile, and no writes but those of the repair. With write_lock held. */
static bool begin_repair(struct log *log)
{
    int error = errno;
    bool was_failed = atomic_exchange(&log->failed, true);
    if (!was_failed)
        report(&log->options.reporter, REPORT_ERROR,
               "the disk failed a write or sync (%s): copying what is not synced to new files",
               strerror(error));
    return was_failed;
}

static void report_repaired(const struct log *log)
{
    const struct log_dropped *dropped = &log->dropped;
    const struct reporter *reporter = &log->options.reporter;
    if (dropped->lost)
        report(
            reporter, REPORT_ERROR,
            "the disk works again, but it has dropped what it was to write. Values that are lost, "
            "and their keys absent now: %" PRIu64 "; other records, written anew from memory: "
            "%" PRIu64 ". Look after the disk",
            dropped->lost, dropped->restored);
    else if (dropped->restored)
        report(
            reporter, REPORT_WARNING,
            "the disk works again; nothing acknowledged was lost, although it has dropped what it "
            "was to write. Records written anew from memory: %" PRIu64 ". Look after the disk",
            dropped->restored);
    else
        report(reporter, REPORT_WARNING, "the disk works again; nothing acknowledged was lost");
    if (dropped->has_gaps)
        report(
            reporter, REPORT_WARNING,
            "the disk has also dropped records of which nothing is known: deletions and touches of "
            "the last seconds may be undone by the next start");
}

/* Replies that wait for a sync of what is lost must not be sent when the rest is synced. */
static void note_dropped(struct log *log)
{
    struct log_dropped *dropped = &log->dropped;
    if (dropped->lost) {
        atomic_store(&log->lost_from_lsn, dropped->first_lsn);
        atomic_store(&log->lost_to_lsn, atomic_load(&log->next_lsn));
        atomic_fetch_add(&log->lost_values, dropped->lost);
    }
    *dropped = (struct log_dropped){.first_lsn = UINT64_MAX};
}

/* All that was written before is `renewed`, or errno tells why not; writes what was not. With write_lock held. */
static bool end_repair(struct log *log, struct log_buffer *buffer, bool renewed, bool was_failed)
{
    if (renewed && (!buffer || log_write_buffer(log, buffer))) {
        report_repaired(log);
        note_dropped(log);
        log->stuck = NULL;
        atomic_store(&log->failed, false);
        return true;
    }
    int error = errno;
    log->stuck = buffer;
    if (buffer)
        log_keep_outside(buffer);
    if (!was_failed)
        report(&log->options.reporter, REPORT_ERROR,
               "the store is read-only: its disk refuses writes (%s). %s; writing is tried again "
               "every second",
               strerror(error), file_remedy(error));
    return false;
}

bool log_repair(struct log *log, struct log_buffer *buffer)
{
    bool was_failed = begin_repair(log);
    return end_repair(log, buffer, renew_unsynced(log, buffer, false), was_failed);
}

/* The log stays failed while it is without the lock, so that nobody else writes, and whoever holds a shard's lock and waits for
 * this one gets on: that shard may be asked for what is lost. */
bool log_repair_stuck(struct log *log)
{
    pthread_mutex_lock(&log->write_lock);
    bool was_failed = begin_repair(log);
    struct log_buffer *buffer = log->stuck;
    pthread_mutex_unlock(&log->write_lock);
    bool renewed = renew_unsynced(log, buffer, true);
    int error = errno;
    pthread_mutex_lock(&log->write_lock);
    errno = error;
    bool ok = end_repair(log, buffer, renewed, was_failed);
    if (ok && buffer)
        log_note_written(log, buffer);
    pthread_mutex_unlock(&log->write_lock);
    return ok;
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
    log->file_bytes += on_disk(capacity) - on_disk(segment->capacity);
    segment->capacity = capacity;
    set_hint_bytes(log, segment, hint_bytes);
    pthread_mutex_unlock(&log->lock);
}

static void sum_sizes(const struct log *log, uint64_t *file_bytes, uint64_t *hint_bytes)
{
    *file_bytes = *hint_bytes = 0;
    for (const struct segment *segment = log->first; segment; segment = segment->next) {
        *file_bytes += on_disk(segment->capacity);
        *hint_bytes += on_disk(atomic_load(&segment->hint_bytes));
    }
    for (const struct segment *segment = log->doomed; segment; segment = segment->next_doomed)
        *file_bytes += on_disk(segment->capacity);
    for (uint32_t i = 0; i < log->spare_count; i++)
        *file_bytes += on_disk(log->spares[i]->capacity);
}

void log_count_sizes(struct log *log)
{
    uint64_t file_bytes, hint_bytes;
    sum_sizes(log, &file_bytes, &hint_bytes);
    log->file_bytes = file_bytes;
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

/* A disk has room for LOG_SEGMENTS_MIN segments at least, so that there is always one to choose for cleaning. */
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
    if (log->attempt_size > most || log->spare_status == STORE_OK)
        log->attempt_size = most;
    if (more)
        pthread_cond_signal(&log->spare_wanted);
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
    pthread_cond_signal(&log->spare_wanted);
    pthread_mutex_unlock(&log->lock);
}

static uint32_t next_size(const struct log *log)
{
    return log->spare_size > log->usual_size ? log->spare_size : log->attempt_size;
}

bool log_may_allocate(const struct log *log)
{
    uint32_t essential = log->essential_wanted ? 2 : 1;
    uint64_t kept =
        log->usual_size; /* for cleaning, which takes its segment whatever the limit says */
    return log->spare_count < essential ||
           log_disk_bytes_locked(log) + next_size(log) + kept <= atomic_load(&log->effective_limit);
}

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
        log->spare_failures < RETRY_DOUBLED_MAX ? log->spare_failures : RETRY_DOUBLED_MAX;
    log->spare_retry_us = monotonic_us() + (ALLOCATE_RETRY_US << doubled);
    log->spare_failures++;
    if (status == STORE_FULL && log->attempt_size / 2 >= LOG_SEGMENT_TINY)
        log->attempt_size /= 2; /* a smaller one may still fit */
}

/* The first of a row of failures is reporter, and when it ends. */
static void report_attempt(const struct log *log, enum store_status status, uint32_t size,
                           int error)
{
    if (status == STORE_OK && log->spare_failures)
        report(&log->options.reporter, REPORT_INFO, "segments can be made again");
    if (status == STORE_OK || log->spare_failures)
        return;
    report(&log->options.reporter, REPORT_ERROR,
           "cannot make another segment of %u bytes (%s): when the ready ones are used up, writes "
           "wait or are refused. %s; it is tried again from time to time",
           size, strerror(error), file_remedy(error));
}

/* With the lock held, which is let go while the file is made. */
static void allocate_spare(struct log *log)
{
    struct segment *segment = NULL;
    uint64_t id = log->next_segment_id++;
    uint32_t size = next_size(log);
    pthread_mutex_unlock(&log->lock);
    enum store_status status = create_file(log, id, size, &segment);
    int error = errno;
    pthread_mutex_lock(&log->lock);
    report_attempt(log, status, size, error);
    log->spare_status = status;
    log->freed = false;
    if (status == STORE_OK) {
        log->spares[log->spare_count++] = segment;
        log->file_bytes += on_disk(segment->capacity);
        log->essential_wanted &= log->spare_count < 2;
        log->spare_failures = 0;
        if (log->spare_size <= size)
            log->spare_size = 0;
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

/* With too many segments that wait for the disk, there is none before those are synced (log_let_files_go). */
static bool wants_spare(const struct log *log)
{
    return !segment_files_are_crowded(&log->segment_files) &&
           (log->spare_count < LOG_SPARES ||
            (log->spare_size && log->spare_count < LOG_SPARES_MAX)) &&
           log_may_allocate(log);
}

/* A ready segment that is larger than those that are made now, while the limit is exceeded; or -1. With the lock held. */
static int oversized_spare(const struct log *log)
{
    if (log_disk_bytes_locked(log) <= atomic_load(&log->effective_limit) || log->spare_size)
        return -1;
    for (uint32_t i = 0; i < log->spare_count; i++)
        if (log->spares[i]->capacity / 2 > log->usual_size)
            return (int)i;
    return -1;
}

static void remove_file(struct log *log, struct segment *segment)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, segment->header.id, "seg");
    log->options.files->unlink(log->options.files->context, log->options.dir_fd, name);
    segment_files_free(&log->segment_files, segment);
}

/* With the lock held, which is let go while the file is removed. */
static void drop_spare(struct log *log, uint32_t i)
{
    struct segment *segment = log->spares[i];
    log->spares[i] = log->spares[--log->spare_count];
    log->file_bytes -= on_disk(segment->capacity);
    pthread_mutex_unlock(&log->lock);
    remove_file(log, segment);
    pthread_mutex_lock(&log->lock);
}

/* Whether an attempt must wait: the last one failed a moment ago, and nothing was freed since. */
static bool is_too_early(const struct log *log)
{
    return log->spare_failures && !log->freed && monotonic_us() < log->spare_retry_us;
}

static void wait_to_retry(struct log *log)
{
    uint64_t now_us = monotonic_us();
    uint64_t rest_us = log->spare_retry_us > now_us ? log->spare_retry_us - now_us : 0;
    struct timespec until = monotonic_in_ms((int)(rest_us / 1000) + 1);
    pthread_cond_timedwait(&log->spare_wanted, &log->lock, &until);
}

/* It waits for a signal: a ready segment was taken, one was freed, the limit has changed; or, after a failure, for a time. */
static void *run_allocator(void *context)
{
    struct log *log = context;
    pthread_setname_np(pthread_self(), "cc-allocator");
    pthread_mutex_lock(&log->lock);
    while (!log->stopping) {
        int oversized = oversized_spare(log);
        if (oversized >= 0)
            drop_spare(log, (uint32_t)oversized);
        else if (!wants_spare(log))
            pthread_cond_wait(&log->spare_wanted, &log->lock);
        else if (is_too_early(log))
            wait_to_retry(log);
        else
            allocate_spare(log);
    }
    pthread_mutex_unlock(&log->lock);
    return NULL;
}

/* Removal. */

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
        pthread_cond_signal(&log->spare_wanted);
    pthread_mutex_unlock(&log->lock);
}

void log_doom(struct log *log, struct segment *segment)
{
    pthread_mutex_lock(&log->lock);
    segment_files_keep(&log->segment_files, segment);
    unlink_segment(log, segment);
    atomic_fetch_sub(&log->hint_bytes, on_disk(atomic_load(&segment->hint_bytes)));
    /* Who has pinned a doomed segment goes on from it (next_unsynced). */
    for (struct segment *doomed = log->doomed; doomed; doomed = doomed->next_doomed)
        if (doomed->next == segment)
            doomed->next = segment->next;
    atomic_store(&segment->state, SEGMENT_DOOMED);
    segment->next_doomed = log->doomed;
    log->doomed = segment;
    pthread_mutex_unlock(&log->lock);
}

/* Takes one that nobody reads any more off the list; NULL: there is none. */
static struct segment *take_unpinned(struct log *log)
{
    struct segment **link = &log->doomed;
    while (*link && atomic_load_explicit(&(*link)->pins, memory_order_acquire))
        link = &(*link)->next_doomed;
    struct segment *segment = *link;
    if (segment) {
        *link = segment->next_doomed;
        log->slots[segment->slot] = NULL;
        log->free_slots[log->free_slot_count++] = segment->slot;
        log->file_bytes -= on_disk(segment->capacity);
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
    pthread_cond_signal(&log->spare_wanted);
    pthread_mutex_unlock(&log->lock);
    return left;
}

bool log_start_threads(struct log *log)
{
    if (pthread_create(&log->syncer, NULL, log_run_syncer, log) != 0)
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

/* Their files stay: while the server is down, others may fill the disk, and the next start, which removes them, needs their room. */
static void let_spares_be(struct log *log)
{
    while (log->spare_count) {
        struct segment *segment = log->spares[--log->spare_count];
        log->file_bytes -= on_disk(segment->capacity);
        segment_files_free(&log->segment_files, segment);
    }
}

bool log_stop_threads(struct log *log)
{
    log_report_last_sync(log);
    pthread_mutex_lock(&log->sync_lock);
    pthread_mutex_lock(&log->lock);
    log->stopping = true;
    pthread_cond_broadcast(&log->spare_wanted);
    pthread_mutex_unlock(&log->lock);
    pthread_cond_signal(&log->sync_cond);
    pthread_mutex_unlock(&log->sync_lock);
    pthread_join(log->allocator, NULL);
    pthread_join(log->syncer, NULL);
    bool synced = log_sync_last(log);
    let_spares_be(log);
    return synced;
}
