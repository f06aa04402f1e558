/* background.c: the background thread of a store.
 *
 * It finishes the hint file of each segment that is sealed and synced (with --sync=none: written),
 * oldest first; removes from the keydir what a flush has killed, so that lookups need not compare
 * LSNs, and what has expired; gives the cache what memory the keydir leaves. An idle tick is cheap.
 */
#include <errno.h>
#include <string.h>

#include "storage/log/hint.h"
#include "storage/base/monotonic.h"
#include "storage/store_internal.h"

#define TICK_MS           100
#define CRAWL_S           60
#define CRAWL_GRACE_S     3
#define CRAWL_MIN         16384  /* buckets a tick: some tenths of a millisecond */
#define CRAWL_MAX         262144 /* and what a large keydir may cost, some percents of a core */
#define CRAWL_STEP        512    /* with a shard's lock held: some hundred microseconds */
/* Between two of these in a shard: to unlock alone would not do, as waiters wake up too late. */
#define PAUSE_US          50
#define SWEEP_US          100000 /* a tick */
#define SWEEP_REST_FACTOR 4      /* beside clients it works a fifth of the time */
#define SHRINK_ROUNDS     4      /* a tick: of 256 shards, some 40 ms */
#define RETURN_ROUNDS     16     /* a tick, of some MiB */

/* The oldest segment that wants a hint file, if it may have it. */
static struct segment *next_unhinted(struct store *store)
{
    struct log *log = &store->log;
    bool synced = log->options.sync_interval_ms >= 0;
    uint64_t lsn = synced ? log_synced_lsn(log) : log_written_lsn(log);
    pthread_mutex_lock(&log->lock);
    while (log->hint_from && log->hint_from->hinted)
        log->hint_from = log->hint_from->next;
    struct segment *segment = log->hint_from;
    bool due = segment && (segment != log->active || thread_is_stopping(&store->background)) &&
               segment->header.base_lsn + atomic_load(&segment->end) <= lsn;
    pthread_mutex_unlock(&log->lock);
    return due ? segment : NULL;
}

static void report_no_hint(struct store *store, const struct segment *segment, int error)
{
    if (report_episode_begins(&store->no_hints, monotonic_us()))
        report(&store->options.reporter, REPORT_WARNING,
               "cannot make the hint file of segment %016llx: %s. The next start reads the segment "
               "instead. %s",
               (unsigned long long)segment->header.id, strerror(error), file_remedy(error));
}

void background_report_hints(struct store *store, uint64_t now_us)
{
    uint64_t times = report_episode_ends(&store->no_hints, now_us);
    if (times)
        report(&store->options.reporter, REPORT_INFO,
               "%llu hint files could not be written, which makes the next start slower",
               (unsigned long long)times);
}

/* False: it did not work, and what is missing is made by a scan at the next start. */
static bool write_hint(struct store *store, struct segment *segment)
{
    const struct store_options *options = &store->options;
    struct hint hint;
    uint32_t end = atomic_load(&segment->end);
    assert(end >= SEGMENT_HEADER_SIZE); /* else the truncate takes it all */
    uint64_t keys = keydir_count(&store->keydir);
    struct hint_writer *writer = segment->hint_writer;
    enum store_status status;
    segment->hint_writer = NULL;
    if (writer)
        status = hint_finish(writer, end, keys, &hint);
    else
        status = hint_make(options->files, options->dir_fd, segment, store->datadir.hash_seed, keys,
                           &options->reporter, &hint);
    if (status != STORE_OK) {
        report_no_hint(store, segment, errno);
        return false;
    }
    bool cut = options->files->truncate(options->files->context, segment->fd, end) == 0;
    log_set_size(&store->log, segment, cut ? end : segment->capacity, hint_file_size(&hint));
    return true;
}

/* One that a start has found may be closed. */
static bool open_and_write_hint(struct store *store, struct segment *segment)
{
    if (segment_files_use(&store->log.segment_files, segment) != STORE_OK)
        return false;
    bool ok = write_hint(store, segment);
    segment_files_done(segment);
    return ok;
}

void background_hints(struct store *store)
{
    struct segment *segment;
    while ((segment = next_unhinted(store))) {
        /* One that could not be read whole gets none, so that the next start tries again (Y9). */
        bool ok = segment->damaged || open_and_write_hint(store, segment);
        pthread_mutex_lock(&store->log.lock);
        segment->hinted = true; /* also after a failure: it would only fail again */
        pthread_mutex_unlock(&store->log.lock);
        thread_signal(&store->cleaner.thread);
        if (!ok || (thread_is_stopping(&store->background) && segment == store->log.active))
            return;
    }
}

static bool keep_unflushed(void *context, struct keydir_entry *entry)
{
    const struct store *store = context;
    if (store_lsn_of(store, entry->location) >= store->sweep.flush_lsn)
        return true;
    store_mark_dead(store, entry->location);
    return false;
}

/* No rest while flushed entries fill a keydir that would soon refuse keys, or evict for them. */
static void rest_from_sweeping(void *context)
{
    struct store *store = context;
    uint64_t bytes = atomic_load(&store->keydir.bytes);
    if (bytes < atomic_load(&store->keydir.bytes_max) / 8 * 7)
        pace_rest(&store->sweep.pace, store);
}

/* Takes out what the last flush has killed; in a large keydir some of it at each tick. */
static void sweep_flushed(struct store *store)
{
    uint64_t until_us = monotonic_us() + SWEEP_US;
    uint64_t flush_lsn = atomic_load(&store->log.flush_lsn);
    bool more = flush_lsn > atomic_load(&store->swept_flush_lsn);
    if (!more)
        return;
    if (store->sweep.flush_lsn != flush_lsn)
        store->sweep.cursor = 0; /* what this one has killed may lie anywhere */
    store->sweep.flush_lsn = flush_lsn;
    store->sweep.pace.rest_factor = SWEEP_REST_FACTOR;
    while (more && !thread_is_stopping(&store->background) && monotonic_us() < until_us)
        more = keydir_scan_all(&store->keydir, &store->sweep.cursor, rest_from_sweeping,
                               keep_unflushed, store);
    if (more)
        return;
    atomic_store(&store->swept_flush_lsn, flush_lsn);
    thread_signal(&store->cleaner.thread); /* there may be empty segments, and room for keys */
}

static bool is_due(const struct store_crawl *crawl, uint32_t expire_s)
{
    return (uint64_t)expire_s + crawl->grace_s <= atomic_load(&crawl->store->now_s);
}

static bool keep_unexpired(void *context, struct keydir_entry *entry)
{
    struct store_crawl *crawl = context;
    struct store *store = crawl->store;
    crawl->seen++;
    if (!entry->expire_s)
        return true;
    if (!is_due(crawl, entry->expire_s)) {
        if (entry->expire_s < crawl->expires_from_s)
            crawl->expires_from_s = entry->expire_s;
        return true;
    }
    crawl->reaped++;
    store_count_expired(store, entry->location);
    store_mark_expired(store, crawl->shard, entry->location);
    store_mark_dead(store, entry->location);
    return false;
}

/* Looks at up to CRAWL_STEP buckets of a shard, from where it was. False: the shard is done, and
 * when it is to be visited again is known. What is inserted meanwhile says that itself. */
static bool crawl_step(struct store_crawl *crawl, struct keydir_shard *shard)
{
    keydir_lock(shard);
    crawl->shard = shard;
    if (crawl->cursor == 0) {
        atomic_store_explicit(&shard->expires_from_s, UINT32_MAX, memory_order_relaxed);
        crawl->expires_from_s = UINT32_MAX;
    }
    bool more = keydir_scan(shard, &crawl->cursor, CRAWL_STEP, keep_unexpired, crawl);
    if (!more && crawl->expires_from_s < atomic_load(&shard->expires_from_s))
        atomic_store_explicit(&shard->expires_from_s, crawl->expires_from_s, memory_order_relaxed);
    keydir_unlock(shard);
    return more;
}

static void crawl_next_shard(struct store *store)
{
    store->crawler.shard = (store->crawler.shard + 1) % store->keydir.shard_count;
    if (store->crawler.shard == 0 && store->crawler.found) {
        atomic_fetch_add_explicit(&store->crawler.passes, 1, memory_order_relaxed);
        store->crawler.found = false;
    }
}

/* The crawler: takes out what has expired. It visits the shards in which something has: if all are
 * such, each at least once in CRAWL_S seconds, and those of a small keydir at each tick. */
static void crawl(struct store *store)
{
    struct store_crawl *way = &store->crawler.way;
    uint64_t all = atomic_load(&store->keydir.bytes) / sizeof(struct keydir_bucket);
    uint64_t share = all * TICK_MS / (CRAWL_S * 1000);
    uint64_t left = share < CRAWL_MIN ? CRAWL_MIN : share < CRAWL_MAX ? share : CRAWL_MAX;
    for (uint32_t shards = 0; shards < store->keydir.shard_count && left > 0;) {
        struct keydir_shard *shard = &store->keydir.shards[store->crawler.shard];
        if (way->cursor || is_due(way, atomic_load(&shard->expires_from_s))) {
            store->crawler.found = true;
            uint64_t step = atomic_load_explicit(&shard->next_size, memory_order_relaxed);
            step = step < CRAWL_STEP ? step : CRAWL_STEP;
            left -= left < step ? left : step;
            bool more = crawl_step(way, shard);
            atomic_store_explicit(&store->crawler.checked, way->seen, memory_order_relaxed);
            if (more) {
                thread_sleep_us(PAUSE_US);
                continue;
            }
        }
        crawl_next_shard(store);
        shards++;
    }
}

bool background_reap_expired(struct store *store)
{
    struct store_crawl way = {.store = store};
    for (uint32_t i = 0; i < store->keydir.shard_count; i++) {
        struct keydir_shard *shard = &store->keydir.shards[i];
        if (!is_due(&way, atomic_load(&shard->expires_from_s)))
            continue;
        for (way.cursor = 0; crawl_step(&way, shard);)
            thread_sleep_us(PAUSE_US);
    }
    return way.reaped > 0;
}

/* After many deletions, or under a lower limit. A step of each shard in turn, so that a client that
 * waits for the lock of one gets it; and no more than so many, for there is other work. */
static void shrink_keydir(struct store *store)
{
    struct keydir *keydir = &store->keydir;
    bool more = true;
    for (uint32_t round = 0; round < SHRINK_ROUNDS && more; round++) {
        more = false;
        for (uint32_t i = 0; i < keydir->shard_count; i++) {
            struct keydir_shard *shard = &keydir->shards[i];
            keydir_lock(shard);
            more |= keydir_shrink(keydir, shard);
            keydir_unlock(shard);
        }
    }
}

static void return_memory(struct store *store)
{
    keydir_use_huge_pages(&store->keydir);
    for (uint32_t i = 0; i < RETURN_ROUNDS && keydir_return_memory(&store->keydir); i++)
        ;
}

void background_share_memory(struct store *store)
{
    uint64_t keydir = atomic_load(&store->keydir.bytes);
    uint64_t limit = atomic_load(&store->memory_limit);
    cache_set_limit(&store->cache, limit > keydir ? limit - keydir : 0);
}

static void *run_background(void *context)
{
    struct store *store = context;
    thread_begin("cc-background", THREAD_LOW);
    while (thread_wait_anew_ms(&store->background, TICK_MS)) {
        sweep_flushed(store);
        crawl(store);
        shrink_keydir(store);
        background_share_memory(store);
        return_memory(store);
        background_hints(store);
        background_report_hints(store, monotonic_us());
        log_let_files_go(&store->log);
    }
    return NULL;
}

void background_init(struct store *store)
{
    thread_init(&store->background);
    store->crawler.way = (struct store_crawl){.store = store, .grace_s = CRAWL_GRACE_S};
}

bool background_start(struct store *store)
{
    return thread_start(&store->background, run_background, store);
}
