/* recover_replay.c: the records of one part are replayed, in the order of the log. */
#include <stdlib.h>

#include "storage/log/recover_internal.h"

#define BATCH   8192 /* changes that are sorted by where in their shard they are at home */
#define FETCHED 32   /* changes whose buckets are fetched ahead together */

/* What a record does to the keydir. */
struct change {
    uint64_t tag;
    uint64_t location; /* of a PUT; 0: that of the key's record stays (a TOUCH) */
    uint32_t expire_s;
    uint16_t shard;
    uint8_t type; /* enum record_type */
    bool dead;    /* the key goes */
};

/* Changes of one part. Neighbours in the log have homes all over a shard; sorted by home, a batch
 * walks the shard from front to back, which avoids most TLB misses, more than half of the time of a
 * large start (docs/performance.md). The changes of one key stay in order. */
struct batch {
    struct recovery_run *run;
    /* By segment index; modulo 2^64, for they may have been added by another thread */
    uint64_t *live_bytes;
    uint32_t count;
    struct change changes[BATCH];
    uint16_t order[BATCH]; /* numbers of changes, by home */
};

static void refuse_full(struct recovery_run *run)
{
    if (!atomic_exchange(&run->reported_full, true))
        report(run->recovery->reporter, REPORT_ERROR,
               "the keys in data directory %s need more memory than -m allows: give a larger -m",
               run->recovery->dir_name);
    recover_fail(run, STORE_FULL);
}

/* A cache takes all keys at first, and evicts the oldest later. False: the limit stays. */
static bool exceed_limit(struct recovery_run *run)
{
    struct recovery *recovery = run->recovery;
    uint64_t step = recovery->more_bytes / 16;
    if (step == 0 || atomic_fetch_add(&run->exceeded, step) + step > recovery->more_bytes)
        return false;
    atomic_fetch_add(&recovery->keydir->bytes_max, step);
    return true;
}

static bool insert(struct recovery_run *run, struct keydir_shard *shard,
                   const struct keydir_entry *entry)
{
    while (!keydir_insert(run->recovery->keydir, shard, entry))
        if (!exceed_limit(run)) {
            refuse_full(run);
            return false;
        }
    return true;
}

/* For a value that was alive by its own record and expires by another, or when all is loaded. */
static void add_expired_mark(const struct recovery_run *run, uint64_t location)
{
    segment_add_mark(log_segment(run->recovery->log, location_segment_index(location)), RECORD_PUT,
                     location_size(location));
}

/* With the shard's lock locked. False: no room. */
static bool apply(struct batch *batch, struct keydir_shard *shard, const struct change *change)
{
    struct keydir_entry old = {0};
    struct keydir_ref ref;
    bool present = keydir_find(shard, change->tag, &ref, &old);
    const struct keydir_entry entry = {
        .tag = change->tag,
        .location = change->location ? change->location : old.location,
        .expire_s = change->expire_s,
    };
    if (present)
        batch->live_bytes[location_segment_index(old.location)] -= location_size(old.location);
    if (change->dead) {
        if (present && change->type == RECORD_TOUCH)
            add_expired_mark(batch->run, old.location);
        if (present)
            keydir_remove(shard, ref);
        return true;
    }
    if (!entry.location)
        return true; /* a TOUCH of what is not there */
    batch->live_bytes[location_segment_index(entry.location)] += location_size(entry.location);
    if (!present)
        return insert(batch->run, shard, &entry);
    keydir_set(shard, ref, entry.location, entry.expire_s);
    return true;
}

/* Up to FETCHED changes, named by their numbers. */
static bool apply_fetched(struct batch *batch, const uint16_t *order, uint32_t count)
{
    struct keydir_shard *shards = batch->run->recovery->keydir->shards;
    struct keydir_shard *locked = NULL;
    const struct change *changes = batch->changes;
    bool ok = true;
    for (uint32_t i = 0; i < count; i++)
        keydir_prefetch(&shards[changes[order[i]].shard], changes[order[i]].tag);
    for (uint32_t i = 0; i < count; i++)
        keydir_prefetch_other(&shards[changes[order[i]].shard], changes[order[i]].tag);
    for (uint32_t i = 0; i < count && ok; i++) {
        const struct change *change = &changes[order[i]];
        struct keydir_shard *shard = &shards[change->shard];
        if (shard != locked) {
            if (locked)
                keydir_unlock(locked);
            keydir_lock(shard);
            locked = shard;
        }
        ok = apply(batch, shard, change);
    }
    if (locked)
        keydir_unlock(locked);
    return ok;
}

static uint32_t home_digit(const struct change *change)
{
    return (uint32_t)(change->tag >> 56);
}

static void sort_by_home(struct batch *batch)
{
    uint32_t next[257] = {0};
    for (uint32_t i = 0; i < batch->count; i++)
        next[home_digit(&batch->changes[i]) + 1]++;
    for (uint32_t digit = 1; digit < 256; digit++)
        next[digit] += next[digit - 1];
    for (uint32_t i = 0; i < batch->count; i++)
        batch->order[next[home_digit(&batch->changes[i])]++] = (uint16_t)i;
}

static bool apply_batch(struct batch *batch)
{
    bool ok = true;
    sort_by_home(batch);
    for (uint32_t i = 0; i < batch->count && ok; i += FETCHED) {
        uint32_t rest = batch->count - i;
        ok = apply_fetched(batch, batch->order + i, rest < FETCHED ? rest : FETCHED);
    }
    batch->count = 0;
    return ok;
}

static void add_change(struct batch *batch, const struct load *load, const struct hint_entry *entry)
{
    struct recovery_run *run = batch->run;
    if ((entry->type != RECORD_PUT && entry->type != RECORD_DELETE &&
         entry->type != RECORD_TOUCH) ||
        is_flushed(run, load, entry))
        return;
    batch->changes[batch->count++] = (struct change){
        .tag = entry->tag,
        .location = entry->type == RECORD_PUT
                        ? location_of(load->segment->segment_index, entry->offset * 8,
                                      entry->size * UINT64_C(8))
                        : 0,
        .expire_s = entry->expire_s,
        .type = entry->type,
        .shard = (uint16_t)(entry->shard_bits & (run->recovery->keydir->shard_count - 1)),
        .dead = is_dead(run, entry),
    };
}

static bool replay_part(struct batch *batch, uint32_t part)
{
    const struct recovery_run *run = batch->run;
    for (size_t i = run->group_begin; i < run->group_end; i++) {
        const struct load *load = &run->loads[i];
        for (uint32_t k = load->parts[part]; k < load->parts[part + 1]; k++) {
            add_change(batch, load, &load->entries[k]);
            if (batch->count == BATCH && !apply_batch(batch))
                return false;
        }
    }
    return apply_batch(batch);
}

/* Each thread counts for itself, or they would contend for the segments' cache lines. */
static void add_live_bytes(const struct recovery_run *run, uint64_t *live_bytes)
{
    for (size_t i = 0; i < run->group_end; i++) {
        struct segment *segment = run->loads[i].segment;
        atomic_fetch_add(&segment->indexed_bytes, live_bytes[segment->segment_index]);
    }
    free(live_bytes);
}

static uint64_t *new_live_bytes(struct recovery_run *run)
{
    uint64_t *live_bytes = calloc(run->recovery->log->index_count, sizeof *live_bytes);
    if (!live_bytes)
        recover_fail(run, STORE_NO_MEMORY);
    return live_bytes;
}

void *recover_run_replayer(void *context)
{
    struct recovery_run *run = context;
    struct batch batch = {.run = run, .live_bytes = new_live_bytes(run)};
    uint32_t part;
    if (!batch.live_bytes)
        return NULL;
    while ((part = atomic_fetch_add(&run->next_part, 1)) < run->part_count &&
           atomic_load(&run->status) == STORE_OK)
        if (!replay_part(&batch, part))
            break;
    add_live_bytes(run, batch.live_bytes);
    return NULL;
}

struct sweep {
    struct recovery_run *run;
    uint64_t *live_bytes; /* by segment index, as in struct batch */
};

/* Whether the entry stays in the keydir. */
static bool sweep_entry(void *context, struct keydir_entry *entry)
{
    struct sweep *sweep = context;
    if (!has_expired(sweep->run, entry->expire_s))
        return true;
    add_expired_mark(sweep->run, entry->location);
    sweep->live_bytes[location_segment_index(entry->location)] -= location_size(entry->location);
    return false;
}

void *recover_run_sweeper(void *context)
{
    struct recovery_run *run = context;
    struct keydir *keydir = run->recovery->keydir;
    struct sweep sweep = {.run = run, .live_bytes = new_live_bytes(run)};
    uint32_t i;
    if (!sweep.live_bytes)
        return NULL;
    while ((i = atomic_fetch_add(&run->next_shard, 1)) < keydir->shard_count) {
        struct keydir_shard *shard = &keydir->shards[i];
        uint64_t cursor = 0;
        keydir_lock(shard);
        keydir_scan(shard, &cursor, UINT32_MAX, sweep_entry, &sweep);
        keydir_unlock(shard);
    }
    add_live_bytes(run, sweep.live_bytes);
    return NULL;
}
