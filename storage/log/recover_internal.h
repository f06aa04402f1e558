/* recover_internal.h: one run of the recovery, for its files; others use recover.h. */
#ifndef CACHECASK_STORAGE_LOG_RECOVER_INTERNAL_H
#define CACHECASK_STORAGE_LOG_RECOVER_INTERNAL_H

#include <pthread.h>

#include "storage/base/expiry.h"
#include "storage/index/location.h"
#include "storage/log/load.h"
#include "storage/log/recover.h"

#define PARTS_MAX 256 /* of the keydir's shards, at the most */

/* One run of recover(). */
struct recovery_run {
    struct recovery *recovery;
    struct load *loads;
    size_t count;
    size_t group_begin, group_end; /* the loads from the one up to the other are loaded together */
    _Atomic size_t next;           /* load to be taken by the next thread */
    uint32_t part_count;           /* a power of two */
    _Atomic uint32_t next_part;
    _Atomic uint32_t next_shard;
    _Atomic uint64_t *touched; /* the filter, a bit for the first bits of a tag; NULL: no TOUCHes */
    uint32_t touched_shift;    /* from a tag to its bit */
    _Atomic bool has_expired;  /* the keydir holds values that have expired */
    _Atomic uint64_t done_bytes;
    uint64_t all_bytes;
    _Atomic int status; /* enum store_status: the first that failed */
    int error;          /* and the errno of its thread */
    _Atomic bool reported_full;
    _Atomic uint64_t exceeded; /* bytes of recovery->more_bytes that were taken */
};

static inline bool has_expired(const struct recovery_run *run, uint32_t expire_s)
{
    return is_expired(expire_s, run->recovery->now_s);
}

/* Whether the load has TOUCHes, as far as is known before it is read. */
static inline bool recover_has_touches(const struct load *load)
{
    return !(load->hinted || load->scanned) || load->hint.touches;
}

static inline bool is_touched(const struct recovery_run *run, uint64_t tag)
{
    uint64_t bit = tag >> run->touched_shift;
    return run->touched &&
           atomic_load_explicit(&run->touched[bit / 64], memory_order_relaxed) >> bit % 64 & 1;
}

static inline bool is_flushed(const struct recovery_run *run, const struct load *load,
                              const struct hint_entry *entry)
{
    return load->segment->header.base_lsn + entry->offset * 8ull <
           atomic_load_explicit(&run->recovery->log->flush_lsn, memory_order_relaxed);
}

/* Whether the record leaves its key dead: a DELETE's expiry means something else, and an expired
 * one may be prolonged yet. */
static inline bool is_dead(struct recovery_run *run, const struct hint_entry *entry)
{
    if (entry->type == RECORD_DELETE)
        return true;
    if (!has_expired(run, entry->expire_s))
        return false;
    if (!is_touched(run, entry->tag))
        return true;
    atomic_store_explicit(&run->has_expired, true, memory_order_relaxed);
    return false;
}

/* recover_threads.c */

/* Notes the first failure, and the errno of its thread. */
void recover_fail(struct recovery_run *run, enum store_status status);

/* Runs `work` in all threads, this one among them. */
enum store_status recover_run_all(struct recovery_run *run, void *(*work)(void *context));

/* For the operator: another segment has been read. */
void recover_note_read(struct recovery_run *run, const struct load *load);

/* recover_read.c */

/* Finds the flush that counts (Y4). */
enum store_status recover_find_flush(struct recovery_run *run);

/* Makes the filter of keys that a TOUCH extends (Y2), if there are any. */
enum store_status recover_find_touches(struct recovery_run *run);

/* A thread's work: reads segments of the group and sorts their records into parts. */
void *recover_run_reader(void *run);

/* recover_replay.c: a thread's work: replays parts; and sweeps shards of what has expired. */
void *recover_run_replayer(void *run);
void *recover_run_sweeper(void *run);

#endif
