/* log_sync.c: the syncer: what is written comes to the disk, oldest first; and clients wait where it is behind (L5).
 *
 * It works each half window, when a reply or the cleaner waits for it, and when much waits for the disk. What it does after a
 * failed sync stands in log_disk.c, what much is in backpressure.h.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "storage/log_disk.h"
#include "storage/monotonic.h"

#define REPAIR_RETRY_MS 1000
#define TELL_HELD_US    UINT64_C(1000000)
#define TELL_AGAIN_US   UINT64_C(60000000)

/* What was answered in this life and may be lost when the power fails. */
static uint64_t waiting_bytes(const struct log *log)
{
    uint64_t synced = log_synced_lsn(log);
    uint64_t written = log_written_lsn(log);
    if (synced < log->start_lsn)
        synced = log->start_lsn;
    return written > synced ? written - synced : 0;
}

static bool is_behind(const struct log *log)
{
    return backpressure_is_behind(&log->backpressure, waiting_bytes(log), monotonic_us());
}

void log_press_back(struct log *log)
{
    bool behind = is_behind(log);
    if (behind && !log_is_held(log)) {
        atomic_store(&log->held_since_us, monotonic_us());
        atomic_store(&log->held, true);
    }
    bool asked = atomic_load(&log->sync_wanted_lsn) > log_synced_lsn(log);
    if (behind || (!asked && backpressure_wants_sync(&log->backpressure, waiting_bytes(log))))
        log_request_sync(log, log_written_lsn(log));
}

/* A second attempt, each second, while the log is failed. */
static void retry_repair(struct log *log)
{
    pthread_mutex_lock(&log->write_lock);
    if (atomic_load(&log->failed))
        log_repair_stuck(log);
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
        ok = log_repair_stuck(log);
        pthread_mutex_unlock(&log->write_lock);
    }
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

void log_sync_all(struct log *log)
{
    uint64_t begin_us = monotonic_us(); /* before the look at what is written */
    uint64_t bytes = waiting_bytes(log);
    uint64_t target = log_written_lsn(log);
    struct segment *segment = target == log_synced_lsn(log) ? NULL : log_next_unsynced(log, NULL);
    while (segment && segment->header.base_lsn < target) {
        if (!sync_segment(log, segment)) {
            segment_unpin(segment);
            log->options.on_synced(log->options.context); /* who waits learns that it failed */
            return;
        }
        note_synced(log, segment, target);
        segment = log_next_unsynced(log, segment);
    }
    if (segment)
        segment_unpin(segment);
    set_synced(log, target);
    backpressure_note_sync(&log->backpressure, bytes, begin_us, monotonic_us());
}

/* How long the syncer may rest. The other half of the interval is for the sync itself (backpressure.h). */
static int rest_ms(const struct log *log)
{
    int interval = log->options.sync_interval_ms;
    if (atomic_load(&log->failed) || interval <= 0)
        return REPAIR_RETRY_MS;
    return interval > 1 ? interval / 2 : 1;
}

/* Waits until there is something to sync: the time has come, somebody waits, or the end has come. */
static bool wait_for_sync(struct log *log)
{
    struct timespec until = monotonic_in_ms(rest_ms(log));
    int result = 0;
    pthread_mutex_lock(&log->sync_lock);
    while (!log->stopping && result != ETIMEDOUT &&
           (atomic_load(&log->failed) ||
            (!log_is_held(log) && atomic_load(&log->sync_wanted_lsn) <= log_synced_lsn(log))))
        result = pthread_cond_timedwait(&log->sync_cond, &log->sync_lock, &until);
    bool go_on = !log->stopping;
    pthread_mutex_unlock(&log->sync_lock);
    return go_on;
}

/* A moment is nobody's concern. */
static void tell_held(struct log *log, uint64_t now_us)
{
    uint64_t held_us = atomic_load(&log->held_us) - log->told_held_us;
    if (held_us < TELL_HELD_US || (log->told_us && now_us - log->told_us < TELL_AGAIN_US))
        return;
    tell(
        &log->options.tell, TELL_WARNING,
        "clients write more than the disk syncs: writes waited for it for %.1f s, reads go on (see "
        "sync_held_us and sync_us_p99 in stats store). A faster disk helps, or --sync=none",
        (double)held_us / 1e6);
    log->told_held_us += held_us;
    log->told_us = now_us;
}

/* Where the disk has failed they are told so. */
static void let_writers_go(struct log *log)
{
    if (!log_is_held(log) || (!atomic_load(&log->failed) && is_behind(log)))
        return;
    uint64_t now_us = monotonic_us();
    pthread_mutex_lock(&log->lock);
    atomic_store(&log->held, false);
    bool any = log->held_any;
    log->held_any = false;
    pthread_mutex_unlock(&log->lock);
    atomic_fetch_add(&log->held_us, now_us - atomic_load(&log->held_since_us));
    tell_held(log, now_us);
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
            log_sync_all(log);
        }
        let_writers_go(log);
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
