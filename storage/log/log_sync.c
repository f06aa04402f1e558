/* log_sync.c: the syncer brings what is written to the disk, oldest first.
 *
 * It works when the oldest write is half a window old, when a reply or the cleaner waits for it,
 * and when much waits for the disk (backpressure.h). log_repair.c has what follows a failed sync.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>

#include "storage/base/monotonic.h"
#include "storage/base/thread.h"
#include "storage/log/log_internal.h"

#define REPAIR_RETRY_MS 1000
#define REPORT_LAST_MIN (UINT64_C(16) << 20) /* bytes that no disk should mind */
#define REPORT_LEFT_US  UINT64_C(3000000)

/* Each second while the log is failed; unless a writer is repairing it just now. */
static void retry_repair(struct log *log)
{
    pthread_mutex_lock(&log->write_lock);
    bool failed = atomic_load(&log->failed);
    pthread_mutex_unlock(&log->write_lock);
    if (failed)
        log_repair_stuck(log);
}

/* Syncs one segment, or after a failure its copy (log_repair.c). One found at startup may be
 * closed: if it cannot be opened the disk has not failed, and a removed file needs no sync. */
static bool sync_segment(struct log *log, struct segment *segment)
{
    const struct file_system *files = log->options.files;
    uint64_t start = monotonic_us();
    if (segment_files_use(&log->segment_files, segment) != STORE_OK) {
        log->sync_unable = errno != ENOENT;
        return !log->sync_unable;
    }
    bool ok = files->sync(files->context, segment->fd) == 0;
    segment_files_done(segment);
    if (!ok)
        ok = log_repair_stuck(log);
    histogram_add(&log->sync_us, monotonic_us() - start);
    atomic_fetch_add_explicit(&log->syncs, 1, memory_order_relaxed);
    return ok;
}

static void set_synced(struct log *log, uint64_t lsn)
{
    if (lsn <= log_synced_lsn(log))
        return;
    atomic_store_explicit(&log->synced_lsn, lsn, memory_order_release);
    log->options.on_synced(log->options.context);
}

/* What was written of this segment before `target` is on disk. A sealed one is finished: so a start
 * that finds thousands without hint files advances with each, even if it is killed soon. */
static void note_synced(struct log *log, struct segment *segment, uint64_t target)
{
    pthread_mutex_lock(&log->lock);
    int state = atomic_load(&segment->state);
    uint64_t end_lsn = segment->header.base_lsn + atomic_load(&segment->end);
    bool done = state == SEGMENT_SEALED && segment->next && end_lsn <= target;
    if (done)
        log->sync_from = segment->next;
    else if (state != SEGMENT_DOOMED)
        log->sync_from = segment;
    pthread_mutex_unlock(&log->lock);
    if (done)
        set_synced(log, end_lsn);
}

/* While the log ends: how much is still to be synced. */
static void report_left(struct log *log)
{
    uint64_t all = atomic_load(&log->end_bytes), left = log_waiting_bytes(log);
    if (all == 0 || left == 0 || left >= all)
        return;
    uint64_t now_us = monotonic_us(), begin_us = log->end_begin_us;
    uint64_t reported_us = log->end_reported_us > begin_us ? log->end_reported_us : begin_us;
    if (now_us - reported_us < REPORT_LEFT_US)
        return;
    report(&log->options.reporter, REPORT_INFO,
           "stopping: %" PRIu64 " of %" PRIu64 " MiB are still to be synced, in about %.0f s",
           left >> 20, all >> 20,
           (double)left / (double)(all - left) * (double)(now_us - begin_us) / 1e6);
    log->end_reported_us = now_us;
}

/* False: a sync has failed, and so has the repair. */
static bool sync_all(struct log *log)
{
    uint64_t begin_us = monotonic_us();
    backpressure_begin_sync(&log->backpressure); /* before the look at what is written */
    uint64_t target = atomic_load(&log->written_lsn);
    uint64_t bytes = log_waiting_bytes(log);
    log->sync_unable = false;
    struct segment *segment = target == log_synced_lsn(log) ? NULL : log_next_unsynced(log, NULL);
    while (segment && segment->header.base_lsn < target) {
        if (!sync_segment(log, segment)) {
            segment_unpin(segment);
            log->options.on_synced(log->options.context); /* waiting replies fail */
            return false;
        }
        note_synced(log, segment, target);
        report_left(log);
        segment = log_next_unsynced(log, segment);
    }
    if (segment)
        segment_unpin(segment);
    set_synced(log, target);
    uint64_t end_us = monotonic_us();
    backpressure_end_sync(&log->backpressure, bytes, begin_us, end_us);
    if (log_has_backpressure(log) && end_us - begin_us > log->episode.sync_us)
        log->episode.sync_us = end_us - begin_us;
    return true;
}

void log_report_last_sync(struct log *log)
{
    uint64_t bytes = log_waiting_bytes(log);
    if (bytes < REPORT_LAST_MIN || atomic_load(&log->failed))
        return;
    report(&log->options.reporter, REPORT_INFO,
           "stopping: up to %" PRIu64 " MiB are still to be synced", bytes >> 20);
    log->end_begin_us = monotonic_us();
    atomic_store(&log->end_bytes, bytes);
}

/* Whatever --sync says. */
bool log_sync_last(struct log *log)
{
    if ((!atomic_load(&log->failed) && sync_all(log)) || log_waiting_bytes(log) == 0)
        return true;
    report(&log->options.reporter, REPORT_ERROR,
           "stopped, but not synced: the disk refuses it. Up to %" PRIu64 " KiB of what was "
           "answered may be lost: look after the disk before the machine is restarted",
           (log_waiting_bytes(log) + 1023) >> 10);
    return false;
}

/* How long the syncer may rest. */
static struct timespec rest_until(const struct log *log)
{
    if (atomic_load(&log->failed) || log->sync_unable || log->options.sync_interval_ms <= 0)
        return monotonic_in_ms(REPAIR_RETRY_MS);
    uint64_t now_us = monotonic_us();
    uint64_t due_us = backpressure_due_us(&log->backpressure, now_us);
    return monotonic_in_ms(due_us > now_us ? (int)((due_us - now_us + 999) / 1000) : 0);
}

/* Whether there is no reason for a sync before its time. */
static bool may_rest(const struct log *log)
{
    return atomic_load(&log->failed) || log->sync_unable ||
           (!log_has_backpressure(log) && !log_is_sync_wanted(log));
}

/* Waits until there is something to sync. False: the log ends. */
static bool wait_for_sync(struct log *log)
{
    struct timespec until = rest_until(log);
    int result = 0;
    pthread_mutex_lock(&log->sync_lock);
    while (!log->stopping && result != ETIMEDOUT && may_rest(log))
        result = pthread_cond_timedwait(&log->sync_cond, &log->sync_lock, &until);
    bool go_on = !log->stopping;
    pthread_mutex_unlock(&log->sync_lock);
    return go_on;
}

void *log_run_syncer(void *context)
{
    struct log *log = context;
    thread_begin("cc-syncer", THREAD_NORMAL);
    while (wait_for_sync(log)) {
        if (atomic_load(&log->failed)) {
            retry_repair(log);
            log->options.on_synced(log->options.context); /* waiting replies fail */
        } else if (log->options.sync_interval_ms >= 0 || log_is_sync_wanted(log)) {
            sync_all(log);
        }
        log_release_writers(log);
        log_end_episode(log);
    }
    return NULL;
}
