/* cleaner.c: disk and index are taken back.
 *
 * One thread takes one step after the other: it looks at the store (survey), chooses what to do
 * (clean_plan.c), and does it (clean_segment.c): it goes through a segment's hint entries, decides
 * on each with its shard locked, appends the records worth keeping to the log, makes that durable,
 * and only then unlinks the segment. So a crash leaves a record in its old place, or in both.
 *
 * A step that fails is reported once, and its segment left alone for a while (G7). When nothing can
 * be done the thread waits for a tick or a signal: of a writer that finds no room, a sync, a hint
 * file, or a freed segment.
 */
#include "storage/clean/cleaner.h"

#include <errno.h>
#include <string.h>

#include "storage/clean/clean_segment.h"
#include "storage/clean/clean_plan.h"
#include "storage/base/monotonic.h"

#define TICK_MS       100
#define BACK_OFF_MIN  UINT64_C(1000000) /* us */
#define BACK_OFF_MAX  UINT64_C(60000000)
#define BACK_OFF_ONCE 100000 /* after a job for which there was no room */
#define REAP_LONG_US  UINT64_C(20000)

/* Looking. */

/* Whether a segment may be cleaned: it and its hint are final and on disk. With log.lock held. */
static bool is_ready(const struct log *log, const struct segment *segment, bool *unsynced)
{
    if (segment == log->sync_from && log->options.sync_interval_ms >= 0)
        *unsynced = true; /* and so are all behind it */
    return segment != log->active && segment->hinted && !*unsynced &&
           atomic_load(&segment->state) == SEGMENT_SEALED;
}

/* Room for copies: in the active segment, in ready ones, and in those that may still be made. */
static uint64_t copy_room(const struct log *log, const struct clean_view *view)
{
    uint64_t room = log->active->capacity - atomic_load(&log->active->end);
    uint64_t free = view->limit > view->disk ? view->limit - view->disk : 0;
    for (uint32_t i = 0; i < log->ready_count; i++)
        room += log->ready[i]->capacity - SEGMENT_HEADER_SIZE;
    if (log->ready_count == 0 && !log_met_full_disk(log)) /* one is made, whatever the limit */
        room += view->segment_size - SEGMENT_HEADER_SIZE;
    return room + free / view->segment_size * (view->segment_size - SEGMENT_HEADER_SIZE);
}

static struct clean_view look_around(struct store *store)
{
    struct log *log = &store->log;
    bool evicts = !store->options.no_evictions;
    bool index_wanted = evicts && atomic_load(&store->cleaner.index_wanted);
    bool index_full =
        evicts && (index_wanted || keydir_count(&store->keydir) > keydir_capacity(&store->keydir));
    uint64_t limit = log_refresh_limit(log);
    pthread_mutex_lock(&log->lock);
    struct clean_view view = {
        .limit = limit,
        .disk = log_disk_bytes_locked(log),
        .segment_size = log->usual_size,
        .wanted = log->wanted_size ? log->wanted_size + LOG_READY * (uint64_t)log->usual_size : 0,
        .next_lsn = log->next_lsn,
        .evicts = evicts,
        .disk_is_limit = atomic_load(&log->disk_limit) > limit,
        .room_wanted = log->room_wanted,
        .index_full = index_full,
        .index_wanted = index_wanted,
        .can_seal = log->ready_count && atomic_load(&log->active->end) > SEGMENT_HEADER_SIZE,
        .eager = store->cleaner.manual,
    };
    /* A disk that refused a segment is full, whatever it says, until something was freed. */
    if (log_met_full_disk(log) && view.disk < view.limit) {
        view.limit = view.disk;
        view.disk_is_limit = true;
    }
    view.copy_room = copy_room(log, &view);
    pthread_mutex_unlock(&log->lock);
    return view;
}

static void add_segment(struct store *store, struct clean_plan *plan, struct segment *segment,
                        bool ready, uint64_t now_us)
{
    uint64_t end = atomic_load(&segment->end);
    uint64_t end_lsn = segment->header.base_lsn + end;
    struct clean_segment facts = {
        .segment = segment,
        .base_lsn = segment->header.base_lsn,
        .end = end,
        .overhead = atomic_load_explicit(&segment->hint_bytes, memory_order_relaxed),
        .live = segment_live_bytes(segment),
        .marks = atomic_load_explicit(&segment->mask_bytes, memory_order_relaxed),
        .recounted_lsn = segment->recounted_lsn,
        .active = segment == store->log.active,
        .ready = ready,
        .failed = segment->retry_us > now_us,
        .damaged = segment->damaged,
        .flushed = end_lsn <= atomic_load(&store->swept_flush_lsn),
    };
    clean_plan_add(plan, &facts);
}

static struct clean_choice survey(struct store *store)
{
    struct log *log = &store->log;
    struct clean_plan plan;
    bool unsynced = false;
    uint64_t now_us = monotonic_us();
    struct clean_view view = look_around(store);
    clean_plan_init(&plan, &view);
    pthread_mutex_lock(&log->lock);
    for (struct segment *segment = log->first; segment; segment = segment->next)
        add_segment(store, &plan, segment, is_ready(log, segment, &unsynced), now_us);
    pthread_mutex_unlock(&log->lock);
    return clean_plan_choose(&plan);
}

/* Acting. */

/* Which statistic an evicted value belongs to. */
static _Atomic uint64_t *evicted_counter(struct cleaner *cleaner, const struct clean_choice *choice)
{
    if (choice->reason == CLEAN_INDEX_FULL)
        return &cleaner->evicted_index;
    return choice->disk_is_limit ? &cleaner->evicted_disk_full : &cleaner->evicted_disk_limit;
}

static enum clean_result act_on(struct store *store, const struct clean_choice *choice)
{
    struct clean_order order = {.oldest = choice->oldest,
                                .unread = choice->action == CLEAN_REMOVE,
                                .urgent = choice->urgent,
                                .rescue = choice->rescue};
    switch (choice->action) {
    case CLEAN_NOTHING: return CLEAN_DONE;
    case CLEAN_SEAL: return log_seal_active(&store->log) ? CLEAN_DONE : CLEAN_NO_ROOM;
    case CLEAN_RECOUNT: return clean_recount(store, choice->segment);
    case CLEAN_EVICT:
        order.evict = true;
        order.evicted = evicted_counter(&store->cleaner, choice);
        break;
    case CLEAN_REMOVE:
    case CLEAN_MOVE:
    case CLEAN_ROTATE: break;
    }
    return clean_segment(store, choice->segment, &order);
}

/* Leaves a segment alone that could not be taken back, the longer the more often it has failed. */
static void back_off(struct store *store, const struct clean_choice *choice,
                     enum clean_result result)
{
    struct segment *segment = choice->segment;
    uint64_t wait_us = BACK_OFF_ONCE;
    if (result == CLEAN_FAILED) {
        uint32_t doubled = segment->failures < 6 ? segment->failures : 6;
        wait_us = BACK_OFF_MIN << doubled;
        wait_us = wait_us < BACK_OFF_MAX ? wait_us : BACK_OFF_MAX;
        if (segment->failures++ == 0)
            report(&store->options.reporter, REPORT_ERROR,
                   "cannot take back segment %016llx in data directory %s: %s. It is tried again "
                   "later, after others. Check the disk",
                   (unsigned long long)segment->header.id, store->options.dir_name,
                   strerror(errno));
    }
    segment->retry_us = monotonic_us() + wait_us;
}

/* What a full data directory is full of, in words. */
static const char *full_of(const struct cleaner *cleaner, const struct clean_choice *choice)
{
    if (atomic_load(&cleaner->index_refuses))
        return "index";
    bool no_space = choice->refuse && choice->reason == CLEAN_NO_SPACE;
    return no_space ? "no room to clean in" : "live values";
}

/* Entering and leaving, a line each: it is over when nobody was refused for a minute. */
static void report_full(struct store *store, const struct clean_choice *choice)
{
    struct cleaner *cleaner = &store->cleaner;
    uint64_t now_us = monotonic_us();
    if (atomic_exchange(&cleaner->refused, false) &&
        report_episode_begins(&cleaner->refusals, now_us))
        report(&store->options.reporter, REPORT_WARNING,
               "data directory %s is full (%s): writes are refused. Delete something, or give it "
               "more room: a larger --disk-limit, a larger disk, or more memory for keys (-m)",
               store->options.dir_name, full_of(cleaner, choice));
    if (report_episode_ends(&cleaner->refusals, now_us))
        report(&store->options.reporter, REPORT_INFO,
               "data directory %s: no write was refused for a minute", store->options.dir_name);
}

/* The disk has less for us than --disk-limit, and values are evicted for it: reported when it
 * begins, and how many there were when it has not happened for a minute. */
static void report_evicting(struct store *store, const struct clean_choice *choice)
{
    struct cleaner *cleaner = &store->cleaner;
    uint64_t now_us = monotonic_us();
    bool evicts = choice->action == CLEAN_EVICT && choice->reason != CLEAN_INDEX_FULL &&
                  choice->disk_is_limit;
    uint64_t evicted = atomic_load(&cleaner->evicted_disk_full);
    if (evicts && report_episode_begins(&cleaner->full_disk, now_us)) {
        cleaner->reported_evicted = evicted;
        report(&store->options.reporter, REPORT_WARNING,
               "the disk of data directory %s is full before --disk-limit is reached: the oldest "
               "data is evicted (evicted_disk_full in stats store). Free disk space, or lower the "
               "limit",
               store->options.dir_name);
    }
    if (report_episode_ends(&cleaner->full_disk, now_us))
        report(&store->options.reporter, REPORT_INFO,
               "%llu values were evicted because the disk was full",
               (unsigned long long)(evicted - cleaner->reported_evicted));
}

/* Says what the next step could bring to those who find no room. */
static void report_waiting(struct store *store, const struct clean_choice *choice)
{
    struct cleaner *cleaner = &store->cleaner;
    uint64_t lsn = choice->lsn, refuses_at_lsn = choice->refuse ? lsn : UINT64_MAX;
    bool changed = atomic_exchange(&cleaner->refuses_at_lsn, refuses_at_lsn) != refuses_at_lsn;
    atomic_store(&cleaner->grow_until_lsn,
                 choice->growth < UINT64_MAX - lsn ? lsn + choice->growth : UINT64_MAX);
    atomic_store(&cleaner->growth, choice->growth);
    changed |= atomic_exchange(&cleaner->grow_wanted, false);
    atomic_store(&cleaner->backlog_bytes, choice->backlog);
    atomic_store(&cleaner->last_action, (int)choice->action);
    atomic_store(&cleaner->last_reason, (int)choice->reason);
    report_full(store, choice);
    report_evicting(store, choice);
    if (changed)
        sessions_wake_all(&store->sessions);
}

/* Whether there may be more to do. What has failed backs off, so it is not chosen again at once. */
static bool step(struct store *store, const struct clean_choice *choice)
{
    enum clean_result result = act_on(store, choice);
    bool failed = result == CLEAN_FAILED || result == CLEAN_NO_ROOM;
    if (choice->action == CLEAN_NOTHING || result == CLEAN_STOPPED)
        return false;
    if (failed && choice->segment)
        back_off(store, choice, result);
    if (choice->action == CLEAN_EVICT && !failed &&
        atomic_exchange(&store->cleaner.index_wanted, false))
        sessions_wake_all(&store->sessions);
    return !failed || choice->segment;
}

/* Whether values will be evicted or refused, if nothing else is found. */
static bool is_short_of_room(const struct store *store, const struct clean_choice *choice)
{
    return choice->action == CLEAN_EVICT || choice->refuse || choice->nearly_full ||
           atomic_load(&store->cleaner.index_wanted);
}

/* What has expired goes first. With many keys that takes its time: half of it at most. */
static bool reap_expired(struct store *store)
{
    uint64_t begin_us = monotonic_us();
    if (begin_us < store->cleaner.reap_after_us)
        return false;
    bool any = background_reap_expired(store);
    uint64_t end_us = monotonic_us();
    uint64_t took_us = end_us - begin_us;
    store->cleaner.reap_after_us = end_us + (took_us > REAP_LONG_US ? took_us : 0);
    return any;
}

/* Tells those who found no room in the index whether a sweep or an eviction will make some. */
static void judge_index(struct store *store, bool reaped)
{
    struct cleaner *cleaner = &store->cleaner;
    bool sweeping = atomic_load(&store->log.flush_lsn) > atomic_load(&store->swept_flush_lsn);
    if (!atomic_load(&cleaner->index_wanted) ||
        (!reaped && (sweeping || !store->options.no_evictions)))
        return;
    atomic_store(&cleaner->index_refuses, !reaped);
    atomic_store(&cleaner->index_wanted, false);
    sessions_wake_all(&store->sessions);
}

static struct clean_choice choose(struct store *store)
{
    if (atomic_load(&store->log.failed))
        return (struct clean_choice){.reason = CLEAN_LOG_FAILED, .growth = UINT64_MAX};
    return survey(store);
}

bool cleaner_step(struct store *store)
{
    struct clean_choice choice = choose(store);
    if (is_short_of_room(store, &choice)) {
        bool reaped = reap_expired(store);
        judge_index(store, reaped);
        if (reaped)
            choice = choose(store);
    }
    if (choice.wants_sync) /* what is not synced cannot be taken back */
        log_request_sync(&store->log, log_written_lsn(&store->log));
    report_waiting(store, &choice);
    return step(store, &choice);
}

/* The thread. */

static void *run_cleaner(void *context)
{
    struct store *store = context;
    struct thread *thread = &store->cleaner.thread;
    /* Where clients leave no time for cleaning, their writes find no room in the end, and park. */
    thread_begin("cc-cleaner", THREAD_LOW);
    while (thread_wait_ms(thread, TICK_MS)) {
        while (!thread_is_stopping(thread) && cleaner_step(store))
            ;
        log_reap(&store->log);
    }
    return NULL;
}

/* What was written since the cleaner looked may have left garbage. */
static bool refuses_now(struct store *store)
{
    return atomic_load(&store->cleaner.refuses_at_lsn) == atomic_load(&store->log.next_lsn);
}

bool cleaner_may_help(void *context)
{
    struct store *store = context;
    bool refuses = refuses_now(store);
    if (refuses)
        atomic_store(&store->cleaner.refused, true);
    else
        thread_signal(&store->cleaner.thread);
    return !refuses;
}

enum store_status cleaner_want_index(struct store *store)
{
    struct cleaner *cleaner = &store->cleaner;
    bool refuses =
        store->options.no_evictions ? atomic_load(&cleaner->index_refuses) : refuses_now(store);
    atomic_store(&cleaner->index_wanted, true);
    if (refuses)
        atomic_store(&cleaner->refused, true);
    thread_signal(&cleaner->thread); /* though it refuses now: it may not refuse the next */
    return refuses ? STORE_FULL : STORE_WAIT_SPACE;
}

enum store_status cleaner_may_grow(struct store *store, uint64_t size)
{
    struct cleaner *cleaner = &store->cleaner;
    uint64_t lsn = atomic_load_explicit(&store->log.next_lsn, memory_order_relaxed);
    if (lsn + size <= atomic_load_explicit(&cleaner->grow_until_lsn, memory_order_relaxed))
        return STORE_OK;
    if (size > atomic_load(&cleaner->growth)) {
        if (!atomic_exchange(&cleaner->refused, true))
            thread_signal(&cleaner->thread); /* to be reported */
        return STORE_FULL;
    }
    atomic_store(&cleaner->grow_wanted, true);
    thread_signal(&cleaner->thread);
    return STORE_WAIT_SPACE;
}

void cleaner_init(struct store *store)
{
    struct cleaner *cleaner = &store->cleaner;
    thread_init(&cleaner->thread);
    cleaner->thread.signalled = true; /* one that is killed again and again gets to its work */
    atomic_store(&cleaner->growth, UINT64_MAX);
    atomic_store(&cleaner->grow_until_lsn, UINT64_MAX);
    atomic_store(&cleaner->refuses_at_lsn, UINT64_MAX);
    pthread_mutex_init(&cleaner->moves_lock, NULL);
}

void cleaner_release(struct store *store)
{
    clean_release(store);
    pthread_mutex_destroy(&store->cleaner.moves_lock);
    thread_release(&store->cleaner.thread);
}

bool cleaner_start(struct store *store)
{
    struct clean_choice choice = survey(store); /* so the first writes know how far they may go */
    report_waiting(store, &choice);
    return thread_start(&store->cleaner.thread, run_cleaner, store);
}
