/* log_repair.c: what happens when a write or a sync fails.
 *
 * A failed write or sync is never simply retried: the kernel may have dropped the dirty pages, and
 * report success the next time. Instead every segment that is not known to be synced is copied,
 * from the page cache, into a new file. The copy is checked record by record, what the disk has
 * dropped is written again (rescue.c), and then it is synced and renamed over the old file. Ids,
 * LSNs and offsets stay, so nothing in memory changes except what is lost. If that fails too, the
 * log is `failed`: appends get STORE_READ_ONLY, reads go on, and the syncer tries the repair once a
 * second until it succeeds. A writer may hold the lock of a shard and so cannot ask for what is
 * lost; the syncer does.
 *
 *     working ──failed write──▶ log_repair ──done──▶ working
 *        │                          │ failed, or something was dropped
 *        │                          ▼
 *        │                      read only ──each second: log_repair_stuck──▶ working
 *        │                          ▲ failed
 *        └──failed sync──▶ log_repair_stuck ──done──▶ working
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "storage/log/log_internal.h"

#define COPY_SIZE (256 * 1024)

/* The bytes of the segment that have reached the kernel. */
static uint32_t written_end(struct log *log, const struct segment *segment)
{
    uint64_t written = log_written_lsn(log), base = segment->header.base_lsn;
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

/* Puts a fresh, synced copy in the place of the segment's file, which is in use. What the disk has
 * dropped is written again if the store `may` be asked for it; else it is a failure. */
static bool copy_file(struct log *log, struct segment *segment, bool may_ask)
{
    const struct file_system *files = log->options.files;
    int dir_fd = log->options.dir_fd;
    uint64_t id = segment->header.id;
    struct rescue rescue = {0};
    uint32_t end = written_end(log, segment);
    int fd = segment_files_open(&log->segment_files, id, "tmp", O_RDWR | O_CREAT | O_TRUNC);
    if (fd < 0)
        return false;
    bool ok = files->allocate(files->context, fd, segment->capacity) == 0 &&
              copy_bytes(files, segment->fd, fd, end) &&
              rescue_copy(&rescue, log, segment, fd, end, may_ask) &&
              files->sync(files->context, fd) == 0 &&
              segment_rename_file(files, dir_fd, id, "tmp", "seg") == 0 &&
              files->sync_dir(files->context, dir_fd) == 0 && put_in_place(log, fd, segment);
    int error = errno;
    rescue_end(&rescue, ok);
    if (ok)
        return true;
    files->close(files->context, fd);
    segment_unlink_file(files, dir_fd, id, "tmp");
    errno = error;
    return false;
}

static bool renew_file(struct log *log, struct segment *segment, bool may_ask)
{
    if (segment_files_use(&log->segment_files, segment) != STORE_OK)
        return false;
    bool ok = copy_file(log, segment, may_ask);
    segment_files_done(segment);
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

/* In a log that is never synced, these are only the segments that the failed write was for. */
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

/* Returns whether it was failed before. Only the repair writes now. With write_lock held. */
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
        report(reporter, REPORT_ERROR,
               "the disk works again, but it has dropped what it was to write. Values that are "
               "lost, and their keys absent now: %" PRIu64 "; other records, written anew from "
               "memory: %" PRIu64 ". Look after the disk",
               dropped->lost, dropped->restored);
    else if (dropped->restored)
        report(reporter, REPORT_WARNING,
               "the disk works again; nothing acknowledged was lost, although it has dropped what "
               "it was to write. Records written anew from memory: %" PRIu64
               ". Look after the disk",
               dropped->restored);
    else
        report(reporter, REPORT_WARNING, "the disk works again; nothing acknowledged was lost");
    if (dropped->has_gaps)
        report(reporter, REPORT_WARNING,
               "the disk has also dropped records of which nothing is known: deletions and touches "
               "of the last seconds may be undone by the next start");
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

/* Writes `buffer` if all before it is `renewed`, else errno says why not. With write_lock held. */
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

/* The log stays failed while the lock is released, so nobody else writes, and a thread that holds a
 * shard's lock and waits for this one proceeds: that shard may be asked for what is lost. */
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
