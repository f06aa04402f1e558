/* store_open.c: opening, sessions, statistics, closing. */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "storage/clean/clean_segment.h"
#include "storage/clean/clean_plan.h"
#include "storage/base/monotonic.h"
#include "storage/log/recover.h"
#include "storage/store_internal.h"

#define LOAD_MARGIN (UINT64_C(1) << 20)
#define GROWTH_MIN  (UINT64_C(4) << 30) /* a limit may be raised to this at least */
#define OPEN_FILES  512                 /* half of what a process mostly has at first */

/* The keydir takes up to three quarters of the memory; while the start has deletions in it, a little more. */
static uint64_t keydir_share(uint64_t memory_limit)
{
    return memory_limit / 4 * 3;
}

static void system_random(void *bytes, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t got = getrandom((char *)bytes + done, len - done, 0);
        if (got > 0)
            done += (size_t)got;
        else if (errno != EINTR)
            abort(); /* no kernel that has getrandom fails here */
    }
}

/* Epochs: how the cache knows that nobody looks at a page any more. */

static uint64_t oldest_reader(void *context)
{
    struct store *store = context;
    uint64_t oldest = UINT64_MAX;
    pthread_mutex_lock(&store->sessions_lock);
    for (struct store_session *session = store->sessions; session; session = session->next) {
        uint64_t epoch = atomic_load(&session->epoch);
        if (epoch && epoch < oldest)
            oldest = epoch;
    }
    pthread_mutex_unlock(&store->sessions_lock);
    return oldest;
}

static uint64_t retire(void *context)
{
    struct store *store = context;
    return atomic_fetch_add(&store->epoch, 1);
}

void store_enter(struct store_session *session, uint32_t now_s)
{
    assert(atomic_load_explicit(&session->epoch, memory_order_relaxed) == 0);
    session->now_s = now_s;
    atomic_store(&session->epoch, atomic_load(&session->store->epoch));
    /* Once more, in the one order of all such operations: either the evictor sees our epoch, or we see that it has retired a
     * page, and with it that no entry points there any more. The locks of shards would say the same, but who looks an entry up
     * may do without. */
    (void)atomic_load(&session->store->epoch);
    store_look_at_log(session);
    session->lost_values =
        atomic_load_explicit(&session->store->log.lost_values, memory_order_relaxed);
    count_up(&session->batches, 1);
}

void store_leave(struct store_session *session)
{
    atomic_store_explicit(&session->epoch, 0, memory_order_release);
}

/* Sessions. */

void store_wake_all(struct store *store)
{
    pthread_mutex_lock(&store->sessions_lock);
    for (struct store_session *session = store->sessions; session; session = session->next)
        if (session->wake)
            session->wake(session->context);
    pthread_mutex_unlock(&store->sessions_lock);
}

uint64_t store_batches(struct store *store)
{
    uint64_t batches = 0;
    pthread_mutex_lock(&store->sessions_lock);
    for (struct store_session *session = store->sessions; session; session = session->next)
        batches += atomic_load_explicit(&session->batches, memory_order_relaxed);
    pthread_mutex_unlock(&store->sessions_lock);
    return batches;
}

static void on_synced(void *context)
{
    struct store *store = context;
    if (store->options.sync_interval_ms == STORE_SYNC_ALWAYS)
        store_wake_all(store);
    background_signal(store);
    cleaner_signal(store);
}

static void on_sealed(void *context)
{
    background_signal(context);
    cleaner_signal(context);
}

static void on_room(void *context)
{
    struct store *store = context;
    store_wake_all(store);
    cleaner_signal(store);
}

struct store_session *store_session_new(struct store *store, void (*wake)(void *context),
                                        void *context, int wake_fd)
{
    struct store_session *session = aligned_alloc(64, sizeof *session);
    if (!session)
        return NULL;
    memset(session, 0, sizeof *session);
    session->store = store;
    session->wake = wake;
    session->context = context;
    if (wake_fd >= 0 && store->options.files == &file_system_os && !store->options.no_uring)
        session->ring = ring_new(wake_fd);
    pthread_mutex_init(&session->done_lock, NULL);
    pthread_mutex_lock(&store->sessions_lock);
    session->next = store->sessions;
    store->sessions = session;
    pthread_mutex_unlock(&store->sessions_lock);
    return session;
}

static void add_counters(struct session_counters *sum, const struct session_counters *counters)
{
    count_up(&sum->ram_hits, atomic_load(&counters->ram_hits));
    count_up(&sum->disk_hits, atomic_load(&counters->disk_hits));
    count_up(&sum->user_bytes, atomic_load(&counters->user_bytes));
    count_up(&sum->corrupt_records, atomic_load(&counters->corrupt_records));
    count_up(&sum->read_errors, atomic_load(&counters->read_errors));
    count_up(&sum->expired_items, atomic_load(&counters->expired_items));
    count_up(&sum->expired_unfetched, atomic_load(&counters->expired_unfetched));
    count_up(&sum->flushed_items, atomic_load(&counters->flushed_items));
}

void store_session_free(struct store_session *session)
{
    struct store *store = session->store;
    struct store_session **link = &store->sessions;
    assert(atomic_load(&session->epoch) == 0);
    cache_writer_close(&store->cache, &session->writer);
    pthread_mutex_lock(&store->sessions_lock);
    while (*link != session)
        link = &(*link)->next;
    *link = session->next;
    add_counters(&store->past, &session->counters);
    pthread_mutex_unlock(&store->sessions_lock);
    pthread_mutex_destroy(&session->done_lock);
    if (session->ring)
        ring_free(session->ring);
    free(session);
}

/* Opening: each step undoes what came before it when it fails. */

static struct store *new_store(const struct store_options *options)
{
    struct store *store = aligned_alloc(64, sizeof *store);
    if (!store)
        return NULL;
    memset(store, 0, sizeof *store);
    store->options = *options;
    if (!store->options.files)
        store->options.files = &file_system_os;
    if (!store->options.random)
        store->options.random = system_random;
    if (!store->options.shard_count)
        store->options.shard_count = 256;
    if (!store->options.reader_threads)
        store->options.reader_threads = 8;
    if (!store->options.open_files)
        store->options.open_files = OPEN_FILES;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (!store->options.load_threads)
        store->options.load_threads = processors < 1   ? 1
                                      : processors > 8 ? 8
                                                       : (uint32_t)processors;
    store->shard_mask = store->options.shard_count - 1;
    atomic_store(&store->epoch, 1);
    atomic_store(&store->now_s, options->now_s);
    pthread_mutex_init(&store->sessions_lock, NULL);
    background_init(store);
    cleaner_init(store);
    return store;
}

static void free_store(struct store *store)
{
    pthread_mutex_destroy(&store->sessions_lock);
    background_release(store);
    cleaner_release(store);
    free(store);
}

static enum store_status recover_store(struct store *store, struct recovery *recovery)
{
    const struct store_options *options = &store->options;
    uint64_t start = monotonic_us();
    *recovery = (struct recovery){
        .files = options->files,
        .dir_fd = options->dir_fd,
        .dir_name = options->dir_name,
        .uuid = store->datadir.uuid,
        .hash_seed = store->datadir.hash_seed,
        .threads = options->load_threads,
        .now_s = options->now_s,
        .boot_id = options->boot_id,
        .reporter = &store->options.reporter,
        .keydir = &store->keydir,
        .log = &store->log,
        .more_bytes = options->no_evictions ? 0 : store->memory_max - options->memory_limit,
        .progress = options->progress,
        .progress_context = options->progress_context,
    };
    enum store_status status = recover(recovery);
    atomic_store(&store->keydir.bytes_max, keydir_share(options->memory_limit));
    atomic_store(&store->swept_flush_lsn, atomic_load(&store->log.flush_lsn));
    store->recovery_us = monotonic_us() - start;
    store->recovered_items = recovery->items;
    store->recovery_damage = recovery->damage;
    return status;
}

static bool init_log(struct store *store)
{
    struct log_options options = {
        .files = store->options.files,
        .dir_fd = store->options.dir_fd,
        .boot_id = store->options.boot_id,
        .segment_size = store->options.segment_size,
        .open_files = store->options.open_files,
        .sync_interval_ms = store->options.sync_interval_ms,
        .reporter = store->options.reporter,
        .random = store->options.random,
        .on_synced = on_synced,
        .on_sealed = on_sealed,
        .on_room = on_room,
        .may_make_room = cleaner_may_help,
        .recall = store_recall,
        .lose = store_lose,
        .find_values = store_find_values,
        .disk_limit = store->options.disk_limit,
        .context = store,
    };
    memcpy(options.uuid, store->datadir.uuid, sizeof options.uuid);
    return log_init(&store->log, &options);
}

/* Room for the first segment, and for two more that deletions and cleaning need. */
static bool has_room_to_start(const struct store *store)
{
    return log_free_space(&store->log) >= 3 * (uint64_t)SEGMENT_SIZE_MIN;
}

/* What a start can do without: hint files, from the oldest on; they are made again by scans (H2). */
static uint32_t remove_hints(struct store *store)
{
    const struct store_options *options = &store->options;
    uint32_t removed = 0;
    for (struct segment *segment = store->log.first; segment && !has_room_to_start(store);
         segment = segment->next) {
        char name[SEGMENT_NAME_SIZE];
        segment_name(name, segment->header.id, "hint");
        if (segment->hint_bytes == 0 ||
            options->files->unlink(options->files->context, options->dir_fd, name) < 0)
            continue;
        atomic_store(&segment->hint_bytes, 0);
        removed++;
    }
    return removed;
}

/* A cache gives up its oldest data, a store only segments that are empty. */
static void remove_oldest(struct store *store)
{
    struct cleaner *cleaner = &store->cleaner;
    const struct clean_order order = {
        .oldest = true, .evict = true, .evicted = &cleaner->evicted_disk_full};
    const struct log *log = &store->log;
    bool cache = !store->options.no_evictions;
    while (log->first != log->active && log->first->hinted && !has_room_to_start(store) &&
           (cache || segment_live_bytes(log->first) == 0))
        if (clean_segment(store, log->first, &order) != CLEAN_DONE)
            return;
}

/* On a full disk: so that deletions can make room. */
static void make_room_to_start(struct store *store)
{
    if (has_room_to_start(store))
        return;
    uint32_t hints = remove_hints(store);
    remove_oldest(store);
    report(
        &store->options.reporter, REPORT_WARNING,
        "the disk of data directory %s is full: %u hint files were removed, which makes the next "
        "start slower, and %llu values evicted. Free disk space",
        store->options.dir_name, hints,
        (unsigned long long)atomic_load(&store->cleaner.evicted_disk_full));
}

static void report_no_segment(const struct store *store, int error)
{
    report(
        &store->options.reporter, REPORT_ERROR,
        "cannot make a segment in data directory %s: %s. %s, or name a directory on another disk "
        "with --data-dir",
        store->options.dir_name, strerror(error), file_remedy(error));
}

static enum store_status start_log(struct store *store, const struct recovery *recovery)
{
    make_room_to_start(store);
    enum store_status status = log_start(&store->log, recovery->next_segment_id, recovery->next_lsn,
                                         recovery->next_cas, store->options.now_s);
    bool failed = status == STORE_OK && atomic_load(&store->log.failed);
    if (failed && recover_has_tail(recovery))
        status = STORE_FULL; /* to cut it off takes a header behind it (Y5, Y8) */
    else if (failed)
        report(
            &store->options.reporter, REPORT_WARNING,
            "the disk of data directory %s is full: the store is read-only until there is room for "
            "a segment of %u bytes. Free disk space; it is tried every second",
            store->options.dir_name, SEGMENT_SIZE_MIN);
    if (status != STORE_OK && status != STORE_NO_MEMORY)
        report_no_segment(store, failed ? ENOSPC : errno);
    return status;
}

static enum store_status start_threads(struct store *store)
{
    if (!reader_pool_init(&store->readers, &store->log.segment_files, store->options.reader_threads,
                          store_fetch_done))
        return STORE_NO_MEMORY;
    background_share_memory(store);
    if (!cache_start(&store->cache, oldest_reader, retire, store) || !background_start(store) ||
        (!store->cleaner.manual && !cleaner_start(store)))
        return STORE_NO_MEMORY;
    return STORE_OK;
}

/* As store_close. */
static bool stop_threads(struct store *store)
{
    if (store->readers.threads)
        reader_pool_release(&store->readers);
    cleaner_stop(store);
    background_stop(store);
    bool synced = log_stop(&store->log);
    if (store->loaded && !atomic_load(&store->log.failed))
        background_hints(store);
    background_tell_hints(store, REPORT_EPISODE_LAST);
    cache_stop(&store->cache);
    return synced;
}

static enum store_status start_store(struct store *store)
{
    struct recovery recovery;
    if (!init_log(store))
        return STORE_NO_MEMORY;
    enum store_status status = recover_store(store, &recovery);
    if (status == STORE_OK)
        status = start_log(store, &recovery);
    if (status == STORE_OK && !atomic_load(&store->log.failed))
        status = recover_cut_tail(&recovery);
    recover_release(&recovery);
    store->loaded = status == STORE_OK;
    if (status == STORE_OK)
        status = start_threads(store);
    if (status != STORE_OK)
        stop_threads(store);
    return status;
}

/* Reserves address space for index and cache. */
static bool reserve_memory(struct store *store, uint64_t memory_max)
{
    struct cache_hash hash = {.seed = store->datadir.hash_seed, .shard_mask = store->shard_mask};
    store->memory_max = memory_max;
    if (!keydir_init(&store->keydir, store->options.shard_count, memory_max))
        return false;
    if (cache_init(&store->cache, &store->keydir, hash, store->options.memory_limit, memory_max))
        return true;
    keydir_release(&store->keydir);
    return false;
}

static enum store_status open_in_memory(struct store *store)
{
    uint64_t limit = store->options.memory_limit;
    uint64_t max = limit * 8 > GROWTH_MIN ? limit * 8 : GROWTH_MIN;
    /* A system that counts reserved space as used may refuse: then the limit cannot grow. */
    if (!reserve_memory(store, max) && !reserve_memory(store, limit))
        return STORE_NO_MEMORY;
    /* During recovery all of the memory may be used: values that wait for a TOUCH take entries too; and small tables, filled in
     * another order than they were, may need to grow once more. */
    atomic_store(&store->keydir.bytes_max, limit + LOAD_MARGIN);
    atomic_store(&store->memory_limit, limit);
    enum store_status status = start_store(store);
    if (status != STORE_OK) {
        log_release(&store->log);
        cache_release(&store->cache);
        keydir_release(&store->keydir);
    }
    return status;
}

bool store_set_memory_limit(struct store *store, uint64_t bytes)
{
    if (bytes < STORE_MEMORY_MIN || bytes > store->memory_max)
        return false;
    atomic_store(&store->memory_limit, bytes);
    atomic_store(&store->keydir.bytes_max, keydir_share(bytes));
    background_signal(store);
    return true;
}

void store_set_disk_limit(struct store *store, uint64_t bytes)
{
    log_set_disk_limit(&store->log, bytes ? bytes : UINT64_MAX);
    cleaner_signal(store);
}

static void report_no_memory(const struct reporter *reporter)
{
    report(reporter, REPORT_ERROR,
           "not enough memory, or no more threads (ulimit -u): give a smaller -m, or raise that "
           "limit");
}

static enum store_status open_store(struct store **out, const struct store_options *options,
                                    bool manual)
{
    assert(options->segment_size >= STORE_SEGMENT_SIZE_MIN &&
           options->segment_size <= STORE_SEGMENT_SIZE_MAX &&
           options->memory_limit >= STORE_MEMORY_MIN);
    struct store *store = new_store(options);
    if (!store) {
        report_no_memory(&options->reporter);
        return STORE_NO_MEMORY;
    }
    store->cleaner.manual = manual;
    enum store_status status = datadir_open(&store->datadir, store->options.files, options->dir_fd,
                                            options->dir_name, options->any_owner, options->now_s,
                                            store->options.random, &store->options.reporter);
    if (status == STORE_OK) {
        status = open_in_memory(store);
        if (status != STORE_OK)
            datadir_close(&store->datadir, store->options.files);
    }
    if (status == STORE_NO_MEMORY)
        report_no_memory(&options->reporter);
    if (status != STORE_OK) {
        free_store(store);
        return status;
    }
    *out = store;
    return STORE_OK;
}

enum store_status store_open(struct store **out, const struct store_options *options)
{
    return open_store(out, options, false);
}

enum store_status store_open_manual(struct store **out, const struct store_options *options)
{
    return open_store(out, options, true);
}

bool store_close(struct store *store)
{
    assert(!store->sessions);
    bool synced = stop_threads(store);
    log_release(&store->log);
    cache_release(&store->cache);
    keydir_release(&store->keydir);
    datadir_close(&store->datadir, store->options.files);
    free_store(store);
    return synced;
}

/* Statistics. */

static void sum_segments(struct store *store, struct store_stats *stats)
{
    struct log *log = &store->log;
    uint64_t used = 0;
    pthread_mutex_lock(&log->lock);
    for (struct segment *segment = log->first; segment; segment = segment->next) {
        stats->segments++;
        used += atomic_load_explicit(&segment->end, memory_order_relaxed);
        stats->live_bytes += segment_live_bytes(segment);
    }
    stats->lsn = log->next_lsn;
    pthread_mutex_unlock(&log->lock);
    stats->dead_bytes = used > stats->live_bytes ? used - stats->live_bytes : 0;
}

static void sum_sessions(struct store *store, struct store_stats *stats)
{
    struct session_counters sum = {0};
    pthread_mutex_lock(&store->sessions_lock);
    add_counters(&sum, &store->past);
    for (struct store_session *session = store->sessions; session; session = session->next)
        add_counters(&sum, &session->counters);
    pthread_mutex_unlock(&store->sessions_lock);
    stats->ram_hits = sum.ram_hits;
    stats->disk_hits = sum.disk_hits;
    stats->user_bytes = sum.user_bytes;
    stats->corrupt_records =
        sum.corrupt_records + store->recovery_damage + atomic_load(&store->log.lost_values);
    stats->read_errors = sum.read_errors;
    stats->expired_items = sum.expired_items + atomic_load(&store->cleaner.expired_items);
    stats->expired_unfetched =
        sum.expired_unfetched + atomic_load(&store->cleaner.expired_unfetched);
    stats->flushed_items = sum.flushed_items;
}

void store_stats(struct store *store, struct store_stats *stats)
{
    struct log *log = &store->log;
    uint32_t pages;
    *stats = (struct store_stats){
        .lsn_synced = log_synced_lsn(log),
        .segment_size = log->options.segment_size,
        .disk_bytes = log_disk_bytes(log),
        .disk_limit = atomic_load(&log->disk_limit),
        .cleaner_segments = atomic_load(&store->cleaner.segments),
        .cleaner_moved_bytes = atomic_load(&store->cleaner.moved_bytes),
        .cleaner_backlog_bytes = atomic_load(&store->cleaner.backlog_bytes),
        .evicted_items = atomic_load(&store->cleaner.evicted_items),
        .evicted_unfetched = atomic_load(&store->cleaner.evicted_unfetched),
        .evicted_disk_limit = atomic_load(&store->cleaner.evicted_disk_limit),
        .evicted_disk_full = atomic_load(&store->cleaner.evicted_disk_full),
        .evicted_index = atomic_load(&store->cleaner.evicted_index),
        .disk_limit_effective = atomic_load(&log->effective_limit),
        .cleaner_action =
            clean_action_name((enum clean_action)atomic_load(&store->cleaner.last_action)),
        .cleaner_reason =
            clean_reason_name((enum clean_reason)atomic_load(&store->cleaner.last_reason)),
        .crawler_checked = atomic_load(&store->crawler.checked),
        .crawler_reclaimed = atomic_load(&store->cleaner.expired_items),
        .crawler_passes = atomic_load(&store->crawler.passes),
        .keydir_entries = keydir_count(&store->keydir),
        .keydir_bytes = atomic_load(&store->keydir.bytes),
        .cache_items_evicted = atomic_load(&store->cache.evicted_items),
        .memory_limit = atomic_load(&store->memory_limit),
        .disk_reads = atomic_load(&store->disk_reads),
        .uring_reads = atomic_load(&store->uring_reads),
        .disk_read_us_p50 = histogram_percentile(&store->read_us, 50),
        .disk_read_us_p99 = histogram_percentile(&store->read_us, 99),
        .commits = atomic_load(&log->commits),
        .commit_records = atomic_load(&log->commit_records),
        .bytes_written = atomic_load(&log->bytes_written),
        .syncs = atomic_load(&log->syncs),
        .sync_us_p99 = histogram_percentile(&log->sync_us, 99),
        .sync_held_us = atomic_load(&log->held_us),
        .recovery_us = store->recovery_us,
        .recovered_items = store->recovered_items,
        .read_only = atomic_load(&log->failed),
    };
    memcpy(stats->uuid, store->datadir.uuid, sizeof stats->uuid);
    stats->cache_bytes = cache_bytes(&store->cache, &pages);
    stats->cache_pages = pages;
    sum_segments(store, stats);
    sum_sessions(store, stats);
}

static bool check_entry(void *context, struct keydir_entry *entry)
{
    struct store *store = context;
    uint64_t location = entry->location;
    if (location_in_ram(location)) {
        const struct cache_item *item = location_item(location);
        assert(((location ^ item->location) & LOCATION_SIZE_MASK) == 0); /* C1 */
        location = item->location;
    }
    const struct segment *segment = log_segment(&store->log, location_slot(location));
    assert(segment && atomic_load(&segment->state) != SEGMENT_DOOMED); /* S6 */
    assert(location_offset(location) >= SEGMENT_HEADER_SIZE);
    assert(location_offset(location) < atomic_load(&segment->end)); /* S6 */
    return true;
}

void store_check(struct store *store)
{
    for (uint32_t i = 0; i < store->keydir.shard_count; i++) {
        struct keydir_shard *shard = &store->keydir.shards[i];
        uint64_t cursor = 0;
        keydir_lock(shard);
        keydir_check(shard);
        keydir_scan(shard, &cursor, UINT32_MAX, check_entry, store);
        keydir_unlock(shard);
    }
    log_check(&store->log);
}
