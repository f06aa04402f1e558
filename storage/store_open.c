/* store_open.c: opening and closing a store, and its limits. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "storage/clean/clean_segment.h"
#include "storage/base/monotonic.h"
#include "storage/log/recover.h"
#include "storage/store_internal.h"

#define LOAD_MARGIN (UINT64_C(1) << 20)
#define GROWTH_MIN  (UINT64_C(4) << 30) /* a limit may be raised to this at least */
#define OPEN_FILES  512                 /* half of what a process mostly has at first */

/* The keydir takes up to three quarters of the memory; a little more during the start. */
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

static void on_sealed(void *context)
{
    struct store *store = context;
    thread_signal(&store->background);
    thread_signal(&store->cleaner.thread);
}

static void on_synced(void *context)
{
    struct store *store = context;
    if (store->options.sync_interval_ms == STORE_SYNC_ALWAYS)
        sessions_wake_all(&store->sessions);
    on_sealed(store);
}

static void on_room(void *context)
{
    struct store *store = context;
    sessions_wake_all(&store->sessions);
    thread_signal(&store->cleaner.thread);
}

/* Opening: each step undoes what came before it when it fails. */

static struct store_options with_defaults(struct store_options options)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t threads = processors < 1 ? 1 : processors > 8 ? 8 : (uint32_t)processors;
    options.files = options.files ? options.files : &file_system_os;
    options.random = options.random ? options.random : system_random;
    options.shard_count = options.shard_count ? options.shard_count : 256;
    options.reader_threads = options.reader_threads ? options.reader_threads : 8;
    options.open_files = options.open_files ? options.open_files : OPEN_FILES;
    options.load_threads = options.load_threads ? options.load_threads : threads;
    return options;
}

static struct store *new_store(const struct store_options *options)
{
    struct store *store = aligned_alloc(64, sizeof *store);
    if (!store)
        return NULL;
    memset(store, 0, sizeof *store);
    store->options = with_defaults(*options);
    store->shard_mask = store->options.shard_count - 1;
    atomic_store(&store->now_s, options->now_s);
    sessions_init(&store->sessions);
    background_init(store);
    cleaner_init(store);
    return store;
}

static void free_store(struct store *store)
{
    sessions_release(&store->sessions);
    thread_release(&store->background);
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

/* Removes hint files, from the oldest on: they are made again by scans (H2). */
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
    char removed[96] = "";
    if (hints)
        snprintf(removed, sizeof removed,
                 "%u hint files were removed, which makes the next start slower, and ", hints);
    remove_oldest(store);
    report(&store->options.reporter, REPORT_WARNING,
           "the disk of data directory %s is full: %s%llu values %sevicted. Free disk space",
           store->options.dir_name, removed,
           (unsigned long long)atomic_load(&store->cleaner.evicted_disk_full),
           hints ? "" : "were ");
}

static enum store_status start_log(struct store *store, const struct recovery *recovery)
{
    make_room_to_start(store);
    enum store_status status = log_start(&store->log, recovery->next_segment_id, recovery->next_lsn,
                                         recovery->next_cas, store->options.now_s);
    bool failed = status == STORE_OK && atomic_load(&store->log.failed);
    int error = failed ? ENOSPC : errno;
    if (failed && recover_has_tail(recovery))
        status = STORE_FULL; /* to cut it off takes a header behind it (Y5, Y8) */
    else if (failed)
        report(&store->options.reporter, REPORT_WARNING,
               "the disk of data directory %s is full: the store is read-only until there is room "
               "for a segment of %u bytes. Free disk space; it is tried every second",
               store->options.dir_name, SEGMENT_SIZE_MIN);
    if (status != STORE_OK && status != STORE_NO_MEMORY)
        report(&store->options.reporter, REPORT_ERROR,
               "cannot make a segment in data directory %s: %s. %s, or name a directory on another "
               "disk with --data-dir",
               store->options.dir_name, strerror(error), file_remedy(error));
    return status;
}

static enum store_status start_threads(struct store *store)
{
    if (!reader_pool_init(&store->readers, &store->log.segment_files, store->options.reader_threads,
                          store_fetch_done))
        return STORE_NO_MEMORY;
    background_share_memory(store);
    if (!cache_start(&store->cache, sessions_oldest_reader, sessions_retire, &store->sessions) ||
        !background_start(store) || (!store->cleaner.manual && !cleaner_start(store)))
        return STORE_NO_MEMORY;
    return STORE_OK;
}

/* As store_close. */
static bool stop_threads(struct store *store)
{
    if (store->readers.threads)
        reader_pool_release(&store->readers);
    thread_stop(&store->cleaner.thread);
    thread_stop(&store->background);
    bool synced = log_stop(&store->log);
    if (store->loaded && !atomic_load(&store->log.failed))
        background_hints(store);
    background_report_hints(store, REPORT_EPISODE_LAST);
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
    /* During recovery all of the memory may be used: values that wait for a TOUCH take entries too;
     * and small tables, filled in another order than they were, may need to grow once more. */
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
    thread_signal(&store->background);
    return true;
}

void store_set_disk_limit(struct store *store, uint64_t bytes)
{
    log_set_disk_limit(&store->log, bytes ? bytes : UINT64_MAX);
    thread_signal(&store->cleaner.thread);
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
    const struct datadir_place place = {.files = store->options.files,
                                        .dir_fd = options->dir_fd,
                                        .name = options->dir_name,
                                        .any_owner = options->any_owner,
                                        .reporter = &store->options.reporter};
    enum store_status status =
        datadir_open(&store->datadir, &place, options->now_s, store->options.random);
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
    assert(!store->sessions.first);
    bool synced = stop_threads(store);
    log_release(&store->log);
    cache_release(&store->cache);
    keydir_release(&store->keydir);
    datadir_close(&store->datadir, store->options.files);
    free_store(store);
    return synced;
}
