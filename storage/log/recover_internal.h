/* recover_internal.h: what the files of the recovery share; others use recover.h. */
#ifndef CACHECASK_STORAGE_LOG_RECOVER_INTERNAL_H
#define CACHECASK_STORAGE_LOG_RECOVER_INTERNAL_H

#include <pthread.h>

#include "storage/base/expiry.h"
#include "storage/index/location.h"
#include "storage/log/recover.h"

#define PARTS_MAX 256 /* of the keydir's shards, at the most */

/* A segment on its way into the index. */
struct load {
    struct segment *segment;
    uint64_t end;       /* bytes of it that are log, or may be; 0: no part of the log any more */
    bool previous_lost; /* the file of the segment before it is there, and has no valid header */
    bool hinted;        /* it has a hint file; that was finished after its sync */
    bool unreadable;    /* in part: there are bad blocks of the disk in it (Y9) */
    bool scanned; /* `entries` held what is in the segment before the load; only of the last one */
    struct hint hint; /* before the load: what the hint file says of itself, if there is one */
    struct hint_entry *entries; /* hint.count of them, while they are needed */
    uint32_t *parts; /* when they are sorted: where each part begins, and the last one ends */
};

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

/* Whether the key is dead after it. A DELETE has no expiry; an expired value may be extended. */
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

/* recover_files.c */

/* Opens the segments in the order of the log, finds its end, and gives them to recovery->log.
 * Removes unfinished files. Sets next_segment_id, next_lsn, loads, dropped, and next_cas to the
 * highest CAS unique in a header; adds to damage. STORE_OK; STORE_BAD_VERSION, STORE_FULL (too many
 * segments), STORE_NO_MEMORY, STORE_IO. */
enum store_status recover_files(struct recovery *recovery);

/* tail.c */

/* Finds the end of the log, of loads in its order whose segment, hint, end and previous_lost are
 * set, and sets their `end` to it. boot_id is the machine's, 0 when unknown. *cut: a hole has ended
 * the log that no start has found before. Changes nothing on disk. STORE_OK, STORE_IO (errno). */
enum store_status tail_find(struct segment_files *table, struct load *loads, size_t count,
                            uint64_t boot_id, bool *cut);

/* recover_threads.c */

/* Notes the first failure, and the errno of its thread. */
void recover_fail(struct recovery_run *run, enum store_status status);

/* Runs `work` in all threads, this one among them. */
enum store_status recover_run_all(struct recovery_run *run, void *(*work)(void *context));

/* Reports progress: another segment has been read. */
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
