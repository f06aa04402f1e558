/* cleaner.c: disk and index are taken back.
 *
 * One thread takes one sealed segment after the other. It goes through the segment's hint entries, decides for each with its
 * key's shard locked, reads the records that are worth keeping, and appends them at the end of the log; makes that durable;
 * and only then unlinks the segment. So a crash at any point leaves a record in its old place, or in both.
 *
 * Which segment
 *   - One without anything alive goes unread if nothing in it could mask an older version, or nothing older is left: it is
 *     the oldest, or lies before a flush.
 *   - Else the one with the most to gain for its age, when the disk comes near its limit, or more is dead than is tolerated.
 *   - When the disk comes near its limit and what lives takes more than its share of it, or the keys take more than theirs
 *     of memory, a cache evicts: the oldest segment goes, and what was visited since it was written is moved: up to half of
 *     it, or an eighth while writers wait.
 *     A store refuses instead (`full`), at a share that leaves enough dead bytes for cleaning to go on.
 */
#define _GNU_SOURCE
#include "storage/cleaner.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "storage/clean.h"
#include "storage/monotonic.h"

#define TICK_MS     100
#define HEADROOM    4 /* segments: what is free when no cleaning is needed */
#define GARBAGE_MAX (UINT64_C(1) << 30)

struct survey {
    uint64_t disk, limit;
    uint64_t live, garbage;
    uint64_t headroom;
    struct segment *first;
    bool first_ready;
    struct segment *empty;  /* may go unread */
    struct segment *victim; /* most to gain for its age */
    double score;
    uint64_t gain;
    bool unready; /* a sealed segment waits for its hint file or its sync */
    bool room_wanted, disk_full;
    uint64_t wanted; /* somebody waits for room for a record larger than a segment */
};

/* Choosing. */

/* Whether the segment may be cleaned at all: its content and its hint are final and on disk. With log.lock held. */
static bool is_ready(const struct log *log, const struct segment *segment, bool *unsynced)
{
    if (segment == log->sync_from && log->options.sync_interval_ms >= 0)
        *unsynced = true; /* and so are all behind it */
    return segment != log->active && segment->hinted && !*unsynced &&
           atomic_load(&segment->state) == SEGMENT_SEALED;
}

static void weigh(struct survey *survey, const struct store *store, struct segment *segment)
{
    uint64_t live = segment_live_bytes(segment);
    uint64_t end = atomic_load(&segment->end);
    bool oldest = segment == survey->first;
    uint64_t keep =
        live + (oldest ? 0 : atomic_load_explicit(&segment->mask_bytes, memory_order_relaxed));
    bool flushed = segment->header.base_lsn + end <= atomic_load(&store->swept_flush_lsn);
    if (live == 0 && (oldest || keep == 0 || flushed)) {
        survey->empty = segment;
        return;
    }
    if (segment->damaged && !oldest)
        return;
    uint64_t gain = end > keep ? end - keep : 0;
    double age = (double)(store->log.next_lsn - segment->header.base_lsn);
    double score = (double)gain * age / (double)(end + keep);
    if (gain >= end / 16 && score > survey->score) {
        survey->victim = segment;
        survey->score = score;
        survey->gain = gain;
    }
}

/* The limit, or what the disk itself has for us. */
static uint64_t real_limit(const struct store *store, uint64_t used)
{
    const struct file_system *files = store->options.files;
    uint64_t limit = atomic_load(&store->log.disk_limit);
    uint64_t space;
    if (!files->space || files->space(files->context, store->options.dir_fd, &space) < 0)
        return limit;
    return space < limit && used + space < limit ? used + space : limit;
}

static void look_around(struct store *store, struct survey *survey)
{
    struct log *log = &store->log;
    bool unsynced = false;
    uint64_t used = 0;
    *survey = (struct survey){.disk = log_disk_bytes(log)};
    survey->limit = real_limit(store, survey->disk);
    pthread_mutex_lock(&log->lock);
    survey->first = log->first;
    survey->room_wanted = log->room_wanted;
    survey->disk_full = log->spare_status == STORE_FULL;
    survey->wanted = log->spare_size ? log->spare_size + (uint64_t)log->usual_size : 0;
    if (log->spare_count)
        store->cleaner.cramped = false;
    survey->headroom = HEADROOM * (uint64_t)log->usual_size;
    for (struct segment *segment = log->first; segment; segment = segment->next) {
        survey->live += segment_live_bytes(segment);
        used += atomic_load(&segment->end);
        bool ready = is_ready(log, segment, &unsynced);
        if (segment == log->first)
            survey->first_ready = ready;
        if (ready && !survey->empty)
            weigh(survey, store, segment);
        else if (!ready && segment != log->active)
            survey->unready = true;
    }
    pthread_mutex_unlock(&log->lock);
    survey->garbage = used > survey->live ? used - survey->live : 0;
    if (survey->disk_full && survey->limit > survey->disk)
        survey->limit = survey->disk; /* the disk itself is the limit */
    if (survey->limit < UINT64_MAX && survey->limit / 16 > survey->headroom)
        survey->headroom = survey->limit / 16;
}

/* The disk comes near its limit. */
static bool is_tight(const struct survey *survey)
{
    uint64_t room = survey->wanted > survey->headroom ? survey->wanted : survey->headroom;
    return survey->disk + room > survey->limit;
}

/* What lives takes more than its share: the rest is what cleaning needs to be cheap (a cache) or possible (a store). */
static bool is_crowded(const struct store *store, const struct survey *survey)
{
    uint64_t usable = survey->limit > survey->headroom ? survey->limit - survey->headroom : 0;
    uint64_t share = store->options.no_evictions ? usable / 8 * 7 : usable / 16 * 13;
    return survey->live > share;
}

/* The keydir comes near its limit. */
static bool is_index_crowded(struct store *store)
{
    return keydir_count(&store->keydir) > keydir_capacity(&store->keydir);
}

static bool evict_oldest(struct store *store, const struct survey *survey, bool urgent)
{
    if (!survey->first_ready) {
        if (survey->first == store->log.active)
            log_seal_active(&store->log);
        return false;
    }
    uint64_t end = atomic_load(&survey->first->end);
    struct clean_order order = {
        .oldest = true,
        .evict = true,
        .urgent = true,
        .rescue = store->cleaner.cramped ? 0 : end / (urgent ? 8 : 2),
    };
    return clean_segment(store, survey->first, &order);
}

static bool clean_victim(struct store *store, const struct survey *survey)
{
    struct clean_order order = {
        .oldest = survey->victim == survey->first,
        .urgent = survey->room_wanted || survey->disk + survey->headroom / 2 > survey->limit,
    };
    return clean_segment(store, survey->victim, &order);
}

/* The garbage that may lie about while the disk has room: the deader a segment, the less there is to move. It is bounded by
 * what a start has to read of hint files. */
static uint64_t tolerated_garbage(const struct survey *survey)
{
    uint64_t share = survey->limit / 8 < GARBAGE_MAX ? survey->limit / 8 : GARBAGE_MAX;
    return share > 2 * survey->live ? share : 2 * survey->live;
}

static bool is_worth_cleaning(const struct store *store, const struct survey *survey)
{
    if (!survey->victim || is_tight(survey))
        return survey->victim;
    bool wanted = store->options.manual_cleaner || survey->garbage > tolerated_garbage(survey);
    return wanted && survey->gain >= atomic_load(&survey->victim->end) / 4 * 3;
}

static bool act_on(struct store *store, const struct survey *survey)
{
    bool cache = !store->options.no_evictions;
    bool tight = is_tight(survey);
    if (survey->empty)
        return clean_unread(store, survey->empty, survey->empty == survey->first);
    if (store->cleaner.cramped) /* what needs room to make room must wait */
        return cache && evict_oldest(store, survey, true);
    if (cache && (atomic_load(&store->cleaner.index_full) || is_index_crowded(store)))
        return evict_oldest(store, survey, atomic_load(&store->cleaner.index_full));
    if (cache && tight && is_crowded(store, survey)) /* there is still room for what was visited */
        return evict_oldest(store, survey, survey->room_wanted);
    if (is_worth_cleaning(store, survey))
        return clean_victim(store, survey);
    bool last_resort = tight && survey->room_wanted && !survey->unready;
    return cache && last_resort && evict_oldest(store, survey, true);
}

/* Says what the next step could bring to those who find no room. */
static void tell_waiting(struct store *store, const struct survey *survey, bool acted)
{
    struct cleaner *cleaner = &store->cleaner;
    bool cache =
        !store->options.no_evictions; /* it waits with evicting until somebody wants room */
    bool full = !cache && is_crowded(store, survey);
    bool tried = !cache || (survey->room_wanted && survey->first_ready);
    bool helpless = !acted && tried && !survey->unready && (is_tight(survey) || survey->disk_full);
    bool changed = atomic_exchange(&cleaner->full, full) != full;
    changed |= atomic_exchange(&cleaner->helpless, helpless) != helpless;
    if (acted)
        changed |= atomic_exchange(&cleaner->index_full, false);
    atomic_store(&cleaner->backlog_bytes, is_tight(survey) ? survey->garbage : 0);
    if (changed)
        store_wake_all(store);
}

bool cleaner_step(struct store *store)
{
    struct survey survey;
    if (atomic_load(&store->log.failed))
        return false;
    look_around(store, &survey);
    if (survey.unready &&
        (is_tight(&survey) ||
         is_crowded(store, &survey))) /* what is not synced cannot be taken back */
        log_request_sync(&store->log, log_written_lsn(&store->log));
    bool acted = act_on(store, &survey);
    tell_waiting(store, &survey, acted);
    return acted;
}

/* The thread. */

bool cleaner_is_stopping(struct store *store)
{
    pthread_mutex_lock(&store->cleaner.lock);
    bool stopping = store->cleaner.stopping;
    pthread_mutex_unlock(&store->cleaner.lock);
    return stopping;
}

bool cleaner_wait_ms(struct store *store, uint32_t ms)
{
    struct cleaner *cleaner = &store->cleaner;
    struct timespec until = monotonic_in_ms(ms);
    int result = 0;
    pthread_mutex_lock(&cleaner->lock);
    while (!cleaner->stopping && !cleaner->signalled && result != ETIMEDOUT)
        result = pthread_cond_timedwait(&cleaner->wake, &cleaner->lock, &until);
    cleaner->signalled = false;
    bool go_on = !cleaner->stopping;
    pthread_mutex_unlock(&cleaner->lock);
    return go_on;
}

static void *run_cleaner(void *context)
{
    struct store *store = context;
    pthread_setname_np(pthread_self(), "cc-cleaner");
    /* Clients come first: where they leave no time for cleaning their writes find no room in the end, and park. */
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10);
    while (cleaner_wait_ms(store, TICK_MS)) {
        while (!cleaner_is_stopping(store) && cleaner_step(store))
            ;
        log_reap(&store->log);
    }
    return NULL;
}

void cleaner_signal(struct store *store)
{
    struct cleaner *cleaner = &store->cleaner;
    pthread_mutex_lock(&cleaner->lock);
    cleaner->signalled = true;
    pthread_cond_signal(&cleaner->wake);
    pthread_mutex_unlock(&cleaner->lock);
}

bool cleaner_may_help(void *context)
{
    struct store *store = context;
    if (atomic_load(&store->cleaner.helpless))
        return false;
    cleaner_signal(store);
    return true;
}

void cleaner_init(struct store *store)
{
    struct cleaner *cleaner = &store->cleaner;
    pthread_condattr_t monotonic;
    cleaner->signalled = true; /* one that is killed again and again must still get to its work */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&cleaner->lock, NULL);
    pthread_cond_init(&cleaner->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void cleaner_release(struct store *store)
{
    pthread_mutex_destroy(&store->cleaner.lock);
    pthread_cond_destroy(&store->cleaner.wake);
}

bool cleaner_start(struct store *store)
{
    store->cleaner.started = pthread_create(&store->cleaner.thread, NULL, run_cleaner, store) == 0;
    return store->cleaner.started;
}

void cleaner_stop(struct store *store)
{
    struct cleaner *cleaner = &store->cleaner;
    pthread_mutex_lock(&cleaner->lock);
    cleaner->stopping = true;
    pthread_cond_signal(&cleaner->wake);
    pthread_mutex_unlock(&cleaner->lock);
    if (cleaner->started)
        pthread_join(cleaner->thread, NULL);
    cleaner->started = false;
}
