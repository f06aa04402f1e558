/* log_backpressure.c: writers wait while the disk is behind (L5); see backpressure.h. */
#include <inttypes.h>

#include "storage/base/monotonic.h"
#include "storage/log/log_internal.h"

#define REPORT_WAITED_US UINT64_C(1000000)  /* in sum: a moment does not matter */
#define EPISODE_END_US   UINT64_C(60000000) /* nobody has waited for so long */

void log_request_sync(struct log *log, uint64_t lsn)
{
    pthread_mutex_lock(&log->sync_lock);
    if (atomic_load(&log->sync_wanted_lsn) < lsn)
        atomic_store(&log->sync_wanted_lsn, lsn);
    pthread_cond_signal(&log->sync_cond);
    pthread_mutex_unlock(&log->sync_lock);
}

uint64_t log_waiting_bytes(const struct log *log)
{
    uint64_t synced = log_synced_lsn(log);
    uint64_t written = log_written_lsn(log);
    if (synced < log->start_lsn)
        synced = log->start_lsn;
    return written > synced ? written - synced : 0;
}

static enum backpressure_hold look(const struct log *log, uint64_t now_us)
{
    enum backpressure_hold held = (enum backpressure_hold)atomic_load(&log->hold);
    return backpressure_look(&log->backpressure, log_waiting_bytes(log), held, now_us);
}

void log_apply_backpressure(struct log *log)
{
    uint64_t now_us = monotonic_us();
    backpressure_note_write(&log->backpressure, now_us);
    enum backpressure_hold hold = look(log, now_us);
    if (hold && !log_has_backpressure(log)) {
        atomic_store(&log->backpressure_since_us, now_us);
        atomic_store(&log->hold, (int)hold);
    }
    if (hold || segment_files_over_share(&log->segment_files) ||
        (!log_is_sync_wanted(log) &&
         backpressure_wants_sync(&log->backpressure, log_waiting_bytes(log))))
        log_request_sync(log, log_written_lsn(log));
}

static void report_backpressure(struct log *log, enum backpressure_hold why)
{
    const struct log_backpressure_episode *episode = &log->episode;
    const struct reporter *reporter = &log->options.reporter;
    double window_s = log->options.sync_interval_ms / 1e3;
    if (why == BACKPRESSURE_AGE && backpressure_is_slow(&log->backpressure, episode->sync_us))
        report(reporter, REPORT_WARNING,
               "the disk needs %.2f s for a sync and cannot keep --sync=%g: writes wait for it, so "
               "that a loss of power takes no more than the last %g s of them; reads go on (see "
               "sync_held_us and sync_us_p99 in stats store). A faster disk helps, or a larger "
               "--sync",
               (double)episode->sync_us / 1e6, window_s, window_s);
    else
        report(reporter, REPORT_WARNING,
               "clients write more than the disk syncs: writes waited for it for %.1f s, reads go "
               "on (see sync_held_us and sync_us_p99 in stats store). A faster disk helps, or "
               "--sync=none",
               (double)episode->waited_us / 1e6);
}

/* Clients have waited from `since_us` to `now_us`. */
static void note_backpressure(struct log *log, enum backpressure_hold why, uint64_t since_us,
                              uint64_t now_us)
{
    struct log_backpressure_episode *episode = &log->episode;
    atomic_fetch_add(&log->waited_us, now_us - since_us);
    episode->times++;
    episode->waited_us += now_us - since_us;
    episode->end_us = now_us;
    if (episode->reported || episode->waited_us < REPORT_WAITED_US)
        return;
    report_backpressure(log, why);
    episode->reported = true;
}

void log_end_episode(struct log *log)
{
    struct log_backpressure_episode *episode = &log->episode;
    if (!episode->times || log_has_backpressure(log) ||
        monotonic_us() - episode->end_us < EPISODE_END_US)
        return;
    if (episode->reported)
        report(&log->options.reporter, REPORT_INFO,
               "the disk keeps up again: writes have waited for it %" PRIu64
               " times, %.1f s in all",
               episode->times, (double)episode->waited_us / 1e6);
    *episode = (struct log_backpressure_episode){0};
}

/* If the disk has failed, the writers learn of it by trying again. */
void log_release_writers(struct log *log)
{
    if (!log_has_backpressure(log) || (!atomic_load(&log->failed) && look(log, monotonic_us())))
        return;
    pthread_mutex_lock(&log->lock);
    enum backpressure_hold why =
        (enum backpressure_hold)atomic_exchange(&log->hold, BACKPRESSURE_NONE);
    bool any = log->writers_wait;
    log->writers_wait = false;
    pthread_mutex_unlock(&log->lock);
    note_backpressure(log, why, atomic_load(&log->backpressure_since_us), monotonic_us());
    if (any && log->options.on_room)
        log->options.on_room(log->options.context);
}
