/* log_sync.c: the syncer: what is written comes to the disk, oldest first; and clients wait where it is behind (L5).
 *
 * It works when the oldest write is half a window old, when a reply or the cleaner waits for it, and when much waits for the
 * disk. What it does after a failed sync stands in log_disk.c, what much is in backpressure.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>

#include "storage/log/log_disk.h"
#include "storage/base/monotonic.h"

#define REPAIR_RETRY_MS 1000
#define REPORT_HELD_US  UINT64_C(1000000)    /* in sum: a moment is nobody's concern */
#define REPORT_LAST_MIN (UINT64_C(16) << 20) /* bytes that no disk should mind */
#define REPORT_LEFT_US  UINT64_C(3000000)
#define EPISODE_END_US  UINT64_C(60000000) /* nobody has waited for so long */

/* What was answered in this life and may be lost when the power fails. */
static uint64_t waiting_bytes(const struct log *log)
{
    uint64_t synced = log_synced_lsn(log);
    uint64_t written = log_written_lsn(log);
    if (synced < log->start_lsn)
        synced = log->start_lsn;
    return written > synced ? written - synced : 0;
}

static enum backpressure_hold look(const struct log *log, uint64_t now_us)
{
    enum backpressure_hold held = (enum backpressure_hold)atomic_load(&log->held);
    return backpressure_look(&log->backpressure, waiting_bytes(log), held, now_us);
}

void log_apply_backpressure(struct log *log)
{
    uint64_t now_us = monotonic_us();
    backpressure_note_write(&log->backpressure, now_us);
    enum backpressure_hold hold = look(log, now_us);
    if (hold && !log_is_held(log)) {
        atomic_store(&log->held_since_us, now_us);
        atomic_store(&log->held, (int)hold);
    }
    bool asked = atomic_load(&log->sync_wanted_lsn) > log_synced_lsn(log);
    if (hold || segment_files_are_crowded(&log->segment_files) ||
        (!asked && backpressure_wants_sync(&log->backpressure, waiting_bytes(log))))
        log_request_sync(log, log_written_lsn(log));
}

/* A second attempt, each second, while the log is failed; not where a writer is just repairing it. */
static void retry_repair(struct log *log)
{
    pthread_mutex_lock(&log->write_lock);
    bool failed = atomic_load(&log->failed);
    pthread_mutex_unlock(&log->write_lock);
    if (failed)
        log_repair_stuck(log);
}

/* Syncs one segment; after a failure, the repair's copies are what is synced. One that a start has found may be closed: that
 * it cannot be opened is no failure of the disk, and a file that somebody has removed cannot be synced. */
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

/* Only the syncer moves it. */
static void set_synced(struct log *log, uint64_t lsn)
{
    if (lsn <= log_synced_lsn(log))
        return;
    atomic_store_explicit(&log->synced_lsn, lsn, memory_order_release);
    log->options.on_synced(log->options.context);
}

/* What was written of this segment before `target` is on disk, as all before it is. A sealed one is done with: so a start that
 * finds thousands that have no hint files comes further with each, even if it is killed soon. */
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

/* While the log ends: how much of it is still to be synced. Told by who syncs. */
static void report_left(struct log *log)
{
    uint64_t all = atomic_load(&log->end_bytes), left = waiting_bytes(log);
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
    uint64_t bytes = waiting_bytes(log);
    log->sync_unable = false;
    struct segment *segment = target == log_synced_lsn(log) ? NULL : log_next_unsynced(log, NULL);
    while (segment && segment->header.base_lsn < target) {
        if (!sync_segment(log, segment)) {
            segment_unpin(segment);
            log->options.on_synced(log->options.context); /* who waits learns that it failed */
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
    if (log_is_held(log) && end_us - begin_us > log->episode.sync_us)
        log->episode.sync_us = end_us - begin_us;
    return true;
}

void log_report_last_sync(struct log *log)
{
    uint64_t bytes = waiting_bytes(log);
    if (bytes < REPORT_LAST_MIN || atomic_load(&log->failed))
        return;
    report(&log->options.reporter, REPORT_INFO,
           "stopping: up to %" PRIu64 " MiB are still to be synced", bytes >> 20);
    log->end_begin_us = monotonic_us();
    atomic_store(&log->end_bytes, bytes);
}

/* A clean stop leaves nothing to chance, whatever --sync says. */
bool log_sync_last(struct log *log)
{
    if ((!atomic_load(&log->failed) && sync_all(log)) || waiting_bytes(log) == 0)
        return true;
    report(&log->options.reporter, REPORT_ERROR,
           "stopped, but not synced: the disk refuses it. Up to %" PRIu64
           " KiB of what was answered "
           "may be lost: look after the disk before the machine is restarted",
           (waiting_bytes(log) + 1023) >> 10);
    return false;
}

/* How long the syncer may rest. The other half of the window is for the sync itself (backpressure.h). */
static struct timespec rest_until(const struct log *log)
{
    if (atomic_load(&log->failed) || log->sync_unable || log->options.sync_interval_ms <= 0)
        return monotonic_in_ms(REPAIR_RETRY_MS);
    uint64_t now_us = monotonic_us();
    uint64_t due_us = backpressure_due_us(&log->backpressure, now_us);
    return monotonic_in_ms(due_us > now_us ? (int)((due_us - now_us + 999) / 1000) : 0);
}

/* Waits until there is something to sync: the time has come, somebody waits, or the end has come. */
static bool wait_for_sync(struct log *log)
{
    struct timespec until = rest_until(log);
    int result = 0;
    pthread_mutex_lock(&log->sync_lock);
    while (!log->stopping && result != ETIMEDOUT &&
           (atomic_load(&log->failed) || log->sync_unable ||
            (!log_is_held(log) && atomic_load(&log->sync_wanted_lsn) <= log_synced_lsn(log))))
        result = pthread_cond_timedwait(&log->sync_cond, &log->sync_lock, &until);
    bool go_on = !log->stopping;
    pthread_mutex_unlock(&log->sync_lock);
    return go_on;
}

static void report_held(struct log *log, enum backpressure_hold why)
{
    const struct log_held_episode *episode = &log->episode;
    double window_s = log->options.sync_interval_ms / 1e3;
    if (why == BACKPRESSURE_AGE && backpressure_is_slow(&log->backpressure, episode->sync_us))
        report(
            &log->options.reporter, REPORT_WARNING,
            "the disk needs %.2f s for a sync and cannot keep --sync=%g: writes wait for it, so "
            "that a loss of power takes no more than the last %g s of them; reads go on (see "
            "sync_held_us and sync_us_p99 in stats store). A faster disk helps, or a larger --sync",
            (double)episode->sync_us / 1e6, window_s, window_s);
    else
        report(
            &log->options.reporter, REPORT_WARNING,
            "clients write more than the disk syncs: writes waited for it for %.1f s, reads go on "
            "(see sync_held_us and sync_us_p99 in stats store). A faster disk helps, or "
            "--sync=none",
            (double)episode->held_us / 1e6);
}

/* Clients have waited from `since_us` to `now_us`. */
static void note_held(struct log *log, enum backpressure_hold why, uint64_t since_us,
                      uint64_t now_us)
{
    struct log_held_episode *episode = &log->episode;
    atomic_fetch_add(&log->held_us, now_us - since_us);
    episode->times++;
    episode->held_us += now_us - since_us;
    episode->end_us = now_us;
    if (episode->reported || episode->held_us < REPORT_HELD_US)
        return;
    report_held(log, why);
    episode->reported = true;
}

static void end_episode(struct log *log)
{
    struct log_held_episode *episode = &log->episode;
    if (!episode->times || log_is_held(log) || monotonic_us() - episode->end_us < EPISODE_END_US)
        return;
    if (episode->reported)
        report(&log->options.reporter, REPORT_INFO,
               "the disk keeps up again: writes have waited for it %" PRIu64
               " times, %.1f s in all",
               episode->times, (double)episode->held_us / 1e6);
    *episode = (struct log_held_episode){0};
}

/* Where the disk has failed they are told so. */
static void release_writers(struct log *log)
{
    if (!log_is_held(log) || (!atomic_load(&log->failed) && look(log, monotonic_us())))
        return;
    pthread_mutex_lock(&log->lock);
    enum backpressure_hold why =
        (enum backpressure_hold)atomic_exchange(&log->held, BACKPRESSURE_NONE);
    bool any = log->held_any;
    log->held_any = false;
    pthread_mutex_unlock(&log->lock);
    note_held(log, why, atomic_load(&log->held_since_us), monotonic_us());
    if (any && log->options.on_room)
        log->options.on_room(log->options.context);
}

void *log_run_syncer(void *context)
{
    struct log *log = context;
    pthread_setname_np(pthread_self(), "cc-syncer");
    while (wait_for_sync(log)) {
        if (atomic_load(&log->failed)) {
            retry_repair(log);
            log->options.on_synced(log->options.context); /* who waits learns that it failed */
        } else if (log->options.sync_interval_ms >= 0 ||
                   atomic_load(&log->sync_wanted_lsn) > log_synced_lsn(log)) {
            sync_all(log);
        }
        release_writers(log);
        end_episode(log);
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
