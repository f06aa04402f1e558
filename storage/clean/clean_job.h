/* clean_job.h: a segment on its way out: what the files share that take it back.
 *
 *     clean_segment ─▶ clean_copy ─▶ clean_decide
 *           │              └───────▶ clean_moves
 *           └────────▶ clean_remove ─▶ both
 */
#ifndef CACHECASK_STORAGE_CLEAN_CLEAN_JOB_H
#define CACHECASK_STORAGE_CLEAN_CLEAN_JOB_H

#include "storage/clean/clean_segment.h"
#include "storage/log/hint.h"

#define CLEAN_GROUP    32 /* entries whose buckets are fetched ahead together */
#define CLEAN_TOLERANT 3  /* failures, after which what cannot be read counts as damaged */

/* A segment on its way out. */
struct job {
    struct clean_order order;
    struct store *store;
    struct segment *segment;
    struct segment_cursor cursor;
    struct hint hint;
    struct hint_entry *entries;
    uint64_t first_lsn; /* where the oldest segment begins */
    uint64_t end_lsn;   /* of what was appended */
    uint64_t uncommitted;
    uint64_t unreadable; /* records that stay behind */
    uint64_t chunk_started_us;
    struct clean_moves *moves; /* the cleaner's; NULL: no memory */
};

enum action {
    ACTION_FORGET,
    ACTION_LEAVE, /* evicted later */
    ACTION_MOVE,
    ACTION_CARRY,
    ACTION_TOMBSTONE, /* a deletion takes its place */
};

/* An entry with its shard locked, and what is to be done with it. */
struct decision {
    struct keydir_shard *shard;
    struct keydir_ref ref;
    struct keydir_entry entry;
    enum action action;
};

static inline uint64_t lsn_at(const struct job *job, const struct hint_entry *hinted)
{
    return job->segment->header.base_lsn + hinted->offset * UINT64_C(8);
}

/* The disk is given some attempts. */
static inline bool clean_is_tolerant(const struct job *job)
{
    return job->segment->failures >= CLEAN_TOLERANT;
}

/* Whether the entry names exactly the record of the hint entry. */
static inline bool clean_names(const struct job *job, const struct hint_entry *hinted,
                               uint64_t location)
{
    location = store_disk_location(location);
    return location_segment_index(location) == job->segment->segment_index &&
           location_offset(location) == hinted->offset * 8;
}

static inline bool clean_has_expired(const struct store *store, uint32_t expire_s)
{
    return is_expired(expire_s, atomic_load_explicit(&store->now_s, memory_order_relaxed));
}

/* clean_decide.c */

/* When a mark was born, as far as its hint entry tells: then, or up to a MiB before. */
uint64_t clean_born(const struct job *job, const struct hint_entry *hinted);

void clean_lock_and_decide(const struct job *job, const struct hint_entry *hinted, uint64_t born,
                           struct decision *decision);

/* Drops the key of a value that is dead by a flush or by its expiry. With its shard locked. */
void clean_drop_dead(struct store *store, struct keydir_shard *shard, struct keydir_ref ref,
                     const struct keydir_entry *entry);

/* Fetches the buckets of a group of entries, and then the items in RAM that those point to. */
void clean_prefetch(const struct job *job, uint64_t first);

/* clean_moves.c */

/* From now on the job's moves are noted, if there is memory for that. */
void clean_begin_moves(struct job *job);

/* With the shard of the record locked: who finds the copy in the keydir finds this. */
void clean_note_move(const struct job *job, const struct hint_entry *hinted, uint64_t lsn);

/* Forgets moves whose copies are synced, or all from a segment (not NULL). */
void clean_forget_moves(struct store *store, const struct segment *from);

/* clean_copy.c */

/* Reads the record of a hint entry. STORE_CORRUPT: it is damaged; STORE_IO: unreadable for now. */
enum store_status clean_read(struct job *job, const struct hint_entry *hinted,
                             struct record *record);

/* Moves or carries a record that was read. What was decided without it may have changed. */
enum store_status clean_copy(struct job *job, const struct hint_entry *hinted,
                             const struct record *record);

/* Commits what was appended. False: the log refuses writes. */
bool clean_commit(struct job *job);

/* clean_remove.c: the last steps of a job whose records are where they should be. */
enum clean_result clean_finish(struct job *job);

#endif
