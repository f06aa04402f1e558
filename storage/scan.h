/* scan.h: goes through all live keys: the inside of the listing in store.h. See scan.c. */
#ifndef CACHECASK_STORAGE_SCAN_H
#define CACHECASK_STORAGE_SCAN_H

#include <assert.h>

#include "storage/clean/pace.h"
#include "storage/log/segment.h"
#include "storage/store.h"

#define SCAN_GROUP 32 /* records whose buckets are fetched ahead together */

/* What a listing knows of a shard; under that shard's lock. */
struct scan_shard {
    /* Records from `position_lsn` up to `end_lsn` are still ahead: one that moves away from there
     * is remembered in `moved`. Equal when nothing is ahead. */
    uint64_t position_lsn, end_lsn;
    uint64_t *moved; /* tags of keys whose record was still ahead when a later one took its place */
    _Atomic uint32_t moved_count; /* looked at without the lock, too */
    uint32_t moved_max;
};

/* A value that was met in the log, and that the keydir may name. */
struct scan_found {
    uint64_t tag, lsn;
    uint32_t shard;
    struct record record;
    char key[STORE_KEY_MAX];
};

struct store_scan {
    struct store *store;
    struct scan_shard *shards;
    uint32_t first_shard, stop_shard; /* of the pass that is under way */
    uint32_t drained;                 /* the shard in which the last moved key was found */
    uint64_t end_lsn;                 /* of the pass: nothing from here on is ahead in any shard */
    struct segment *segment;          /* being read, and pinned; NULL: the pass has read them all */
    struct segment_cursor cursor;
    struct scan_found found[SCAN_GROUP];
    uint32_t found_count, next;
    uint64_t unreadable; /* places in the log, and records of moved keys */
    struct pace pace;
};

/* The record at `lsn`, of that shard, is replaced by a later one; with the shard's lock held. */
static inline void scan_note_moved(struct store_scan *scan, uint32_t shard, uint64_t tag,
                                   uint64_t lsn)
{
    struct scan_shard *part = &scan->shards[shard];
    if (lsn < part->position_lsn || lsn >= part->end_lsn)
        return;
    uint32_t count = atomic_load_explicit(&part->moved_count, memory_order_relaxed);
    assert(count < part->moved_max);
    part->moved[count] = tag;
    atomic_store_explicit(&part->moved_count, count + 1, memory_order_relaxed);
}

#endif
