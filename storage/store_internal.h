/* store_internal.h: the store as a whole, for the files that know all of it. */
#ifndef CACHECASK_STORAGE_STORE_INTERNAL_H
#define CACHECASK_STORAGE_STORE_INTERNAL_H

#include <stddef.h>

#include "storage/cache/cache.h"
#include "storage/clean/cleaner.h"
#include "storage/datadir.h"
#include "storage/base/counter.h"
#include "storage/base/expiry.h"
#include "storage/base/histogram.h"
#include "storage/base/sessions.h"
#include "storage/base/thread.h"
#include "storage/index/keydir.h"
#include "storage/scan.h"
#include "storage/index/location.h"
#include "storage/log/log.h"
#include "storage/read/reader.h"
#include "storage/read/ring.h"
#include "storage/store.h"

/* Counted by one thread, read by any. */
struct session_counters {
    _Atomic uint64_t ram_hits, disk_hits, user_bytes, corrupt_records, read_errors;
    _Atomic uint64_t expired_items, expired_unfetched, flushed_items;
};

/* Adds what a session has counted to a sum. */
void store_sum_counters(struct session_counters *sum, const struct session_counters *counters);

struct store_session {
    struct store *store;
    uint32_t now_s;       /* of the batch */
    uint64_t commit_lsn;  /* how far the log must be written for all answers that were taken */
    uint64_t answer_lsn;  /* and for those since store_answer_lsn was called */
    uint64_t durable_lsn; /* so far it was durable when the batch looked (store_look_at_log) */
    /* Its end then. `rolls` is odd if anything before it was not durable */
    struct log_active active;
    uint64_t lost_values; /* log.lost_values when the batch began */
    struct cache_writer writer;
    struct session_counters counters;
    struct ring *ring; /* NULL: the readers read all */
    pthread_mutex_t done_lock;
    struct fetch_queue done; /* fetches that have come back */
    struct session_link link;
};

static inline struct store_session *session_of(struct session_link *link)
{
    return (struct store_session *)((char *)link - offsetof(struct store_session, link));
}

/* A way through a shard, after what has expired. */
struct store_crawl {
    struct store *store;
    uint32_t grace_s; /* what has expired later is left for a get, which counts it (get_expired) */
    struct keydir_shard *shard;
    uint32_t expires_from_s; /* of the entries seen in the shard so far */
    uint64_t cursor;
    uint64_t seen, reaped; /* entries, ever */
};

struct store {
    struct store_options options;
    struct datadir datadir;
    struct keydir keydir;
    struct log log;
    struct cache cache;
    struct reader_pool readers;
    uint32_t shard_mask;
    _Atomic uint64_t memory_limit;
    uint64_t memory_max;             /* address space is reserved for so much */
    struct store_scan *_Atomic scan; /* the scan under way, or NULL */
    bool loaded; /* each segment has its end, and nothing behind it (Y8): hints may be written */

    struct sessions sessions;
    struct session_counters past;     /* of sessions that are gone; under sessions.lock */
    _Atomic uint64_t swept_flush_lsn; /* the keydir holds nothing that this flush killed */

    _Atomic uint32_t now_s; /* the newest time heard of */
    struct cleaner cleaner;

    struct thread background; /* background.c */
    struct {                  /* its way through the keydir, after what a flush has killed */
        uint64_t flush_lsn, cursor;
        struct pace pace;
    } sweep;
    struct { /* and after what has expired */
        struct store_crawl way;
        uint32_t shard;
        bool found; /* in this pass, a shard in which something may have expired */
        _Atomic uint64_t checked, passes;
    } crawler;

    struct histogram read_us;
    _Atomic uint64_t disk_reads, uring_reads;
    _Atomic uint32_t unreadable_s;  /* when a read failed last; 0: never */
    _Atomic bool uring_reported;    /* that a ring is broken */
    struct report_episode no_hints; /* hint files that could not be written; background.c's */
    uint64_t recovery_us, recovered_items, recovery_damage;
};

/* As store_open, but only cleaner_step cleans, and takes garbage back although there is room. */
enum store_status store_open_manual(struct store **out, const struct store_options *options);

/* Gives a fetch that has been read, or could not be, back to its session. Any thread. */
void store_fetch_done(struct store_fetch *fetch);

static inline struct keydir_shard *store_shard_of(const struct store *store, uint32_t shard_bits)
{
    return &store->keydir.shards[shard_bits & store->shard_mask];
}

/* Where the record lies on disk that an entry points to; with its shard's lock held. */
static inline uint64_t store_disk_location(uint64_t location)
{
    if (location_in_ram(location))
        return ((const struct cache_item *)location_item(location))->location;
    return location;
}

static inline struct segment *store_segment_of(const struct store *store, uint64_t disk_location)
{
    return log_segment(&store->log, location_segment_index(disk_location));
}

/* The LSN of what an entry points to; with its shard's lock held. */
static inline uint64_t store_lsn_of(const struct store *store, uint64_t location)
{
    location = store_disk_location(location);
    return store_segment_of(store, location)->header.base_lsn + location_offset(location);
}

/* Where the log ends. */
static inline uint64_t store_end_lsn(struct store *store)
{
    pthread_mutex_lock(&store->log.lock);
    uint64_t end_lsn = store->log.next_lsn;
    pthread_mutex_unlock(&store->log.lock);
    return end_lsn;
}

/* Writes the log's buffer if the record at `lsn` is still in it, so that its file can be read. */
static inline enum store_status store_make_readable(struct log *log, uint64_t lsn)
{
    return log_written_lsn(log) > lsn ? STORE_OK : log_commit(log, lsn + 1);
}

/* How far the log is as durable as an answer promises: it survives the process, or the machine. */
static inline uint64_t store_durable_lsn(const struct store *store)
{
    return store->log.options.sync_interval_ms == STORE_SYNC_ALWAYS ? log_synced_lsn(&store->log)
                                                                    : log_written_lsn(&store->log);
}

/* Looks at the log's end first: the durable LSN may then be too high for it, never too low. */
static inline void store_look_at_log(struct store_session *session)
{
    session->active = log_active(&session->store->log);
    session->durable_lsn = store_durable_lsn(session->store);
    if (session->durable_lsn < session->active.base_lsn)
        session->active.rolls |= 1;
}

/* Whether a flush may have killed entries that the keydir still holds. */
static inline bool store_may_be_flushed(const struct store *store, uint32_t now_s)
{
    return now_s >= atomic_load_explicit(&store->log.flush_deadline_s, memory_order_relaxed) ||
           atomic_load_explicit(&store->log.flush_lsn, memory_order_acquire) >
               atomic_load_explicit(&store->swept_flush_lsn, memory_order_acquire);
}

/* With the shard locked. A flush that is due counts even if the disk refuses its record. */
static inline bool store_is_flushed(const struct store *store, const struct keydir_entry *entry,
                                    uint32_t now_s)
{
    if (now_s >= atomic_load_explicit(&store->log.flush_deadline_s, memory_order_relaxed))
        return true;
    uint64_t flush_lsn = atomic_load_explicit(&store->log.flush_lsn, memory_order_acquire);
    return flush_lsn > atomic_load_explicit(&store->swept_flush_lsn, memory_order_relaxed) &&
           store_lsn_of(store, entry->location) < flush_lsn;
}

/* Whether a get has hit the value since it was stored or moved; with its shard's lock held. */
static inline bool store_was_visited(uint64_t location)
{
    if (location & LOCATION_VISITED)
        return true;
    return location_in_ram(location) &&
           cache_item_fetched((const struct cache_item *)location_item(location));
}

/* The crawler or the cleaner found something expired. */
static inline void store_count_expired(struct store *store, uint64_t location)
{
    atomic_fetch_add_explicit(&store->cleaner.expired_items, 1, memory_order_relaxed);
    if (!store_was_visited(location))
        atomic_fetch_add_explicit(&store->cleaner.expired_unfetched, 1, memory_order_relaxed);
}

/* The key of a value leaves the keydir because it has expired: cleaning its segment may have to put
 * a deletion in its place; and who misses the key rests on the record that let it expire. To be
 * called before store_mark_dead, with the shard's lock held. */
static inline void store_mark_expired(const struct store *store, struct keydir_shard *shard,
                                      uint64_t location)
{
    uint64_t size = location_size(location);
    keydir_note_mark(shard, store_lsn_of(store, location) + 1);
    segment_add_mark(store_segment_of(store, store_disk_location(location)), RECORD_PUT, size);
}

/* The record at a location is dead: its segment holds less that lives. With its shard's lock held.
 * Whoever looked the segment up under that lock before is done with it when the cleaner sees that
 * nothing in it lives: hence release, and acquire there. */
static inline void store_mark_dead(const struct store *store, uint64_t location)
{
    if (location_in_ram(location)) {
        struct cache_item *item = location_item(location);
        location = item->location;
        cache_mark_dead(&store->cache, item);
    }
    atomic_fetch_add_explicit(&store_segment_of(store, location)->dead_bytes,
                              location_size(location), memory_order_release);
}

/* The record of an entry is replaced by one later in the log. With the shard's lock held. */
static inline void store_note_moved(struct store *store, const struct keydir_shard *shard,
                                    const struct keydir_entry *entry)
{
    struct store_scan *scan = atomic_load_explicit(&store->scan, memory_order_acquire);
    if (scan)
        scan_note_moved(scan, (uint32_t)(shard - store->keydir.shards), entry->tag,
                        store_lsn_of(store, entry->location));
}

/* For the log, of records that a disk has dropped (recall.c; struct log_options). */
size_t store_recall(void *context, const struct segment *segment, const struct hint_entry *hinted,
                    char *out);
bool store_lose(void *context, const struct segment *segment, const struct hint_entry *hinted);
bool store_find_values(void *context, const struct segment *segment, hint_visit *visit,
                       void *visit_context);

/* The background thread, store->background: see background.c. */
void background_init(struct store *store);
bool background_start(struct store *store);

/* Takes out all that has expired, before the cleaner evicts or refuses. False: there is none. */
bool background_reap_expired(struct store *store);

/* Gives the cache what the keydir leaves of the memory. */
void background_share_memory(struct store *store);

/* Writes the hint files that are due; at the end also that of the active segment. */
void background_hints(struct store *store);

/* Says how many hint files could not be written, as report_episode_ends has it. */
void background_report_hints(struct store *store, uint64_t now_us);

#endif
