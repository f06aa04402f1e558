/* recover.c: the start.
 *
 * 1. Files: segments are put into the order of the log and get their slots in that order, so that during recovery a higher
 *    place is a later one; and the end of the log is found (recover_files.c).
 * 2. Flush: the last segment's header repeats the flush state of all before, its FLUSH records come on top (Y4). A pending
 *    flush whose time came while nobody ran takes everything. What is flushed is not loaded.
 * 3. Load, a group of segments at a time and the segments of a group side by side: from the hint file, else by a scan. Of two
 *    records of a key the one with the higher place wins (Y1). Deletions and expired records stay in the keydir at least
 *    until their group is loaded (Y2): they may still have to win against an older record. A deletion is an entry whose
 *    size code is 0. Then the group's TOUCH records are applied in the order of the log, where they lie behind the record
 *    that their key has now (Y3): the keydir is the state of the log up to there.
 * 4. Sweep: deletions and expired entries leave; what is left is counted, and gives each segment's live bytes. When there
 *    are many, a sweep comes between two groups, so that what is dead needs no memory; expired ones go then only if no
 *    TOUCH can follow that would prolong them. Where a group might not fit at all, its segments are loaded one after the
 *    other: in the order of the log a deletion just takes the entry away.
 *
 * The log goes on in a new segment behind all LSNs that may ever have been given, so none is given twice.
 */
#define _GNU_SOURCE
#include "storage/recover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/location.h"
#include "storage/recover_files.h"

#define ENTRY_COST        25 /* bytes of keydir for one key that expires, while it grows */
#define RECORD_SIZE_MIN   40
#define RECORD_SIZE_USUAL 160
#define FETCHED           32   /* entries whose buckets are fetched ahead together */
#define BATCH             4096 /* entries that are sorted by shard: some 16 for each of 256 */
#define RADIX             256  /* of that sort, which looks at as many bits of the shard */

/* CAS uniques that a lost tail of the log may have given: those are skipped. */
#define CAS_GAP           (UINT64_C(1) << 30)

struct state {
    struct recovery *recovery;
    struct load *loads;
    size_t count;
    size_t group_end;    /* loads up to here belong to the group */
    _Atomic size_t next; /* load to be taken by the next thread */
    _Atomic uint32_t next_shard;
    _Atomic uint64_t dead; /* deletions and expired entries met since the last sweep */
    bool may_touch;        /* behind the group there may be TOUCHes */
    bool in_order;         /* the group is one segment, and memory is short */
    bool last_sweep;
    _Atomic uint64_t done_bytes;
    uint64_t all_bytes;
    _Atomic int status; /* enum store_status: the first that failed */
    _Atomic uint64_t items;
    _Atomic bool told_full;
    _Atomic uint64_t exceeded; /* bytes of recovery->more_bytes that were taken */
};

static void fail(struct state *state, enum store_status status)
{
    int none = STORE_OK;
    atomic_compare_exchange_strong(&state->status, &none, status);
}

static struct keydir_shard *shard_of(const struct state *state, const struct hint_entry *entry)
{
    struct keydir *keydir = state->recovery->keydir;
    return &keydir->shards[entry->shard_bits & (keydir->shard_count - 1)];
}

static uint64_t place_of(const struct load *load, const struct hint_entry *entry)
{
    uint64_t size = entry->type == RECORD_DELETE ? 0 : (uint64_t)entry->size * 8;
    return location_of(load->segment->slot, entry->offset * 8, size);
}

static bool refuse_full(struct state *state)
{
    if (!atomic_exchange(&state->told_full, true))
        tell(state->recovery->tell, TELL_ERROR,
             "the keys in data directory %s need more memory than -m allows: give a larger -m",
             state->recovery->dir_name);
    fail(state, STORE_FULL);
    return false;
}

/* A cache takes all keys at first, and gives the oldest up when it runs. False: there is no more to take. */
static bool exceed_limit(struct state *state)
{
    struct recovery *recovery = state->recovery;
    uint64_t step = recovery->more_bytes / 16;
    if (step == 0 || atomic_fetch_add(&state->exceeded, step) + step > recovery->more_bytes)
        return false;
    atomic_fetch_add(&recovery->keydir->bytes_max, step);
    return true;
}

static bool insert(struct state *state, struct keydir_shard *shard,
                   const struct keydir_entry *entry)
{
    bool done;
    while (!(done = keydir_insert(state->recovery->keydir, shard, entry)) && exceed_limit(state))
        ;
    return done;
}

static bool is_expired(const struct state *state, uint32_t expire_s)
{
    return expire_s && expire_s <= state->recovery->now_s;
}

/* Whether a record needs no entry of its own, if the records come in order and one before it is forgotten. */
static bool leaves_nothing(const struct state *state, const struct hint_entry *hinted)
{
    return hinted->type == RECORD_DELETE ||
           (is_expired(state, hinted->expire_s) && !state->may_touch);
}

/* A PUT or a DELETE, with its shard's lock held: the later place wins (Y1). False: no room. */
static bool apply(struct state *state, const struct load *load, struct keydir_shard *shard,
                  const struct hint_entry *hinted)
{
    struct keydir_entry entry = {
        .tag = hinted->tag, .location = place_of(load, hinted), .expire_s = hinted->expire_s};
    struct keydir_entry old;
    struct keydir_ref ref;
    if (load->segment->header.base_lsn + hinted->offset * 8ull < state->recovery->log->flush_lsn)
        return true;
    bool nothing = state->in_order && leaves_nothing(state, hinted);
    if (nothing && hinted->type == RECORD_PUT)
        segment_add_mark(load->segment, RECORD_PUT, hinted->size * UINT64_C(8));
    if (!nothing && (hinted->type == RECORD_DELETE || is_expired(state, hinted->expire_s)))
        atomic_fetch_add_explicit(&state->dead, 1, memory_order_relaxed);
    if (!keydir_find(shard, hinted->tag, &ref, &old))
        return nothing || insert(state, shard, &entry);
    if (nothing)
        keydir_remove(shard, ref);
    else if ((old.location & LOCATION_PLACE_MASK) < (entry.location & LOCATION_PLACE_MASK))
        keydir_set(shard, ref, entry.location, entry.expire_s);
    return true;
}

/* The entries of a load lie in the order of the log, so neighbours are of different shards. Taken shard by shard, a lock is
 * taken, and the shard's own cache line fetched from another thread, once for many entries instead of for each: a fifth of a
 * start's time (docs/performance.md). The order among the entries of one key stays. */
struct batch {
    struct hint_entry scanned[BATCH]; /* what a scan has gathered */
    uint32_t count;                   /* of them */
    uint16_t order[BATCH];            /* numbers of entries, by shard */
};

/* Threads side by side begin at different shards, and seldom meet. */
static uint32_t digit_of(const struct load *load, const struct hint_entry *entry)
{
    return (entry->shard_bits + load->segment->slot * (RADIX / 2 + 1)) % RADIX;
}

static void sort_by_shard(struct batch *batch, const struct load *load,
                          const struct hint_entry *entries, uint32_t count)
{
    uint32_t next[RADIX + 1] = {0};
    for (uint32_t i = 0; i < count; i++)
        next[digit_of(load, &entries[i]) + 1]++;
    for (uint32_t digit = 1; digit < RADIX; digit++)
        next[digit] += next[digit - 1];
    for (uint32_t i = 0; i < count; i++)
        batch->order[next[digit_of(load, &entries[i])]++] = (uint16_t)i;
}

/* Up to FETCHED entries, named by their numbers. */
static bool apply_fetched(struct state *state, const struct load *load,
                          const struct hint_entry *entries, const uint16_t *order, uint32_t count)
{
    struct keydir_shard *held = NULL;
    bool ok = true;
    for (uint32_t i = 0; i < count; i++)
        keydir_prefetch(shard_of(state, &entries[order[i]]), entries[order[i]].tag);
    for (uint32_t i = 0; i < count; i++)
        keydir_prefetch_other(shard_of(state, &entries[order[i]]), entries[order[i]].tag);
    for (uint32_t i = 0; i < count && ok; i++) {
        const struct hint_entry *entry = &entries[order[i]];
        if (entry->type != RECORD_PUT && entry->type != RECORD_DELETE)
            continue;
        struct keydir_shard *shard = shard_of(state, entry);
        if (shard != held) {
            if (held)
                keydir_unlock(held);
            keydir_lock(shard);
            held = shard;
        }
        ok = apply(state, load, shard, entry);
    }
    if (held)
        keydir_unlock(held);
    return ok || refuse_full(state);
}

static bool apply_batch(struct state *state, const struct load *load, struct batch *batch,
                        const struct hint_entry *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (entries[i].type != RECORD_PUT)
            segment_add_mark(load->segment, entries[i].type, entries[i].size * UINT64_C(8));
    sort_by_shard(batch, load, entries, count);
    for (uint32_t i = 0; i < count; i += FETCHED) {
        uint32_t rest = count - i;
        if (!apply_fetched(state, load, entries, batch->order + i, rest < FETCHED ? rest : FETCHED))
            return false;
    }
    return true;
}

/* A TOUCH (Y3). */
static void apply_touch(struct state *state, const struct load *load,
                        const struct hint_entry *hinted)
{
    struct keydir_shard *shard = shard_of(state, hinted);
    struct keydir_entry entry;
    struct keydir_ref ref;
    uint64_t place = place_of(load, hinted) & LOCATION_PLACE_MASK;
    keydir_lock(shard);
    if (keydir_find(shard, hinted->tag, &ref, &entry) && (entry.location & LOCATION_SIZE_MASK) &&
        (entry.location & LOCATION_PLACE_MASK) < place)
        keydir_set(shard, ref, entry.location, hinted->expire_s);
    keydir_unlock(shard);
}

/* What a scan does with its entries: a batch at a time to the keydir. */
struct scan {
    struct state *state;
    const struct load *load;
    struct batch *batch;
};

static bool visit_scanned(void *context, const struct hint_entry *entry)
{
    struct scan *scan = context;
    struct batch *batch = scan->batch;
    batch->scanned[batch->count++] = *entry;
    if (batch->count < BATCH)
        return true;
    batch->count = 0;
    return apply_batch(scan->state, scan->load, batch, batch->scanned, BATCH);
}

static bool visit_touches(void *context, const struct hint_entry *entry)
{
    struct scan *scan = context;
    if (entry->type == RECORD_TOUCH)
        apply_touch(scan->state, scan->load, entry);
    return true;
}

static bool visit_flushes(void *context, const struct hint_entry *entry)
{
    struct scan *scan = context;
    struct log *log = scan->state->recovery->log;
    if (entry->type != RECORD_FLUSH)
        return true;
    if (entry->expire_s == 0)
        atomic_store(&log->flush_lsn, scan->load->segment->header.base_lsn + entry->offset * 8ull);
    atomic_store(&log->flush_deadline_s, entry->expire_s ? entry->expire_s : UINT32_MAX);
    return true;
}

/* Walks a segment's entries a second time. */
static enum store_status walk(struct state *state, struct load *load, hint_visit *visit)
{
    struct recovery *recovery = state->recovery;
    struct scan scan = {.state = state, .load = load};
    struct hint hint = load->hint;
    struct hint_entry *entries = load->entries;
    const struct tell silent = {0}; /* damage was told the first time */
    enum store_status status = load->scanned ? STORE_OK : STORE_NOT_FOUND;
    if (load->hinted)
        status = hint_read(recovery->files, recovery->dir_fd, load->segment, &hint, &entries);
    if (status != STORE_OK)
        return hint_scan(recovery->files, load->segment, load->end, recovery->hash_seed, true,
                         &silent, visit, &scan, &hint);
    for (uint64_t i = 0; i < hint.count; i++)
        visit(&scan, &entries[i]);
    if (!load->scanned)
        free(entries);
    return STORE_OK;
}

/* The last segment is needed twice, for its flushes and then for its keys, and mostly has no hint: what a scan finds is
 * kept, in no more memory than a hint file's entries take. */
static void scan_last(struct state *state, struct load *last)
{
    struct recovery *recovery = state->recovery;
    last->scanned = hint_collect(recovery->files, last->segment, last->end, recovery->hash_seed,
                                 true, recovery->tell, &last->hint, &last->entries) == STORE_OK;
}

static bool is_last(const struct state *state, const struct load *load)
{
    return load == &state->loads[state->count - 1];
}

static enum store_status load_by_scan(struct state *state, struct load *load, struct batch *batch)
{
    struct recovery *recovery = state->recovery;
    struct scan scan = {.state = state, .load = load, .batch = batch};
    batch->count = 0;
    enum store_status status =
        hint_scan(recovery->files, load->segment, load->end, recovery->hash_seed,
                  is_last(state, load), recovery->tell, visit_scanned, &scan, &load->hint);
    if (status == STORE_OK && !apply_batch(state, load, batch, batch->scanned, batch->count))
        status = STORE_FULL;
    return status;
}

static enum store_status load_entries(struct state *state, const struct load *load,
                                      struct batch *batch, const struct hint_entry *entries)
{
    for (uint64_t i = 0; i < load->hint.count; i += BATCH) {
        uint64_t rest = load->hint.count - i;
        if (!apply_batch(state, load, batch, entries + i, rest < BATCH ? (uint32_t)rest : BATCH))
            return STORE_FULL;
    }
    return STORE_OK;
}

static enum store_status load_by_hint(struct state *state, struct load *load, struct batch *batch)
{
    struct recovery *recovery = state->recovery;
    struct hint_entry *entries;
    enum store_status status =
        hint_read(recovery->files, recovery->dir_fd, load->segment, &load->hint, &entries);
    if (status != STORE_OK)
        return status;
    status = load_entries(state, load, batch, entries);
    free(entries);
    return status;
}

/* Its hint file is damaged or stale, or missing (then silently). */
static enum store_status load_without_hint(struct state *state, struct load *load,
                                           struct batch *batch, enum store_status why)
{
    if (why == STORE_CORRUPT)
        tell(state->recovery->tell, TELL_WARNING,
             "the hint file of segment %016llx is damaged or stale: reading the segment instead",
             (unsigned long long)load->segment->header.id);
    enum store_status status = load->scanned ? load_entries(state, load, batch, load->entries)
                                             : load_by_scan(state, load, batch);
    if (status == STORE_IO)
        tell(state->recovery->tell, TELL_ERROR, "cannot read segment %016llx: %s",
             (unsigned long long)load->segment->header.id, strerror(errno));
    return status;
}

/* Why a segment was scanned before its turn: it has no hint file, or a bad one, which is to be told. */
static enum store_status why_scanned(const struct state *state, const struct load *load)
{
    const struct recovery *recovery = state->recovery;
    struct hint ignored;
    enum store_status status =
        hint_peek(recovery->files, recovery->dir_fd, load->segment, &ignored);
    return status == STORE_OK ? STORE_NOT_FOUND : status;
}

static enum store_status load_one(struct state *state, struct load *load, struct batch *batch)
{
    enum store_status status =
        load->scanned ? why_scanned(state, load) : load_by_hint(state, load, batch);
    load->hinted = status == STORE_OK;
    if (status != STORE_OK && status != STORE_FULL)
        status = load_without_hint(state, load, batch, status);
    load->segment->hinted = load->hinted;
    load->segment->hint_bytes = load->hinted ? hint_file_size(&load->hint) : 0;
    atomic_store(&load->segment->end, (uint32_t)load->hint.end);
    return status;
}

static void *run_loader(void *context)
{
    struct state *state = context;
    struct batch batch;
    size_t i;
    while ((i = atomic_fetch_add(&state->next, 1)) < state->group_end &&
           atomic_load(&state->status) == STORE_OK) {
        struct load *load = &state->loads[i];
        enum store_status status = load_one(state, load, &batch);
        if (status != STORE_OK)
            fail(state, status);
        uint64_t done = atomic_fetch_add(&state->done_bytes, load->segment->capacity);
        if (state->recovery->progress)
            state->recovery->progress(state->recovery->progress_context,
                                      done + load->segment->capacity, state->all_bytes);
    }
    return NULL;
}

/* Runs `work` in all threads, this one among them. */
static void run_all(struct state *state, void *(*work)(void *context))
{
    pthread_t threads[64];
    uint32_t count = 0;
    uint32_t wanted = state->recovery->threads < 64 ? state->recovery->threads : 64;
    while (count + 1 < wanted && pthread_create(&threads[count], NULL, work, state) == 0)
        count++;
    work(state);
    for (uint32_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

/* How many keys to expect: what the newest hint that knows says, and all records since; in a segment without a hint, as
 * many as usual ones have. Never more than half of the memory: a guess must not take what the keys need. */
static uint64_t expected_keys(struct state *state)
{
    uint64_t records = 0, keys = 0;
    for (size_t i = 0; i < state->count; i++) {
        struct load *load = &state->loads[i];
        uint64_t count =
            load->hinted ? load->hint.count : load->segment->capacity / RECORD_SIZE_USUAL;
        records += count;
        keys = load->hint.keys ? load->hint.keys : keys + count;
        state->all_bytes += load->segment->capacity;
    }
    uint64_t most = atomic_load(&state->recovery->keydir->bytes_max) / 2 / ENTRY_COST;
    keys = keys < records ? keys : records;
    return keys < most ? keys : most;
}

static void reserve_keydir(struct state *state)
{
    struct keydir *keydir = state->recovery->keydir;
    uint64_t share = expected_keys(state) / keydir->shard_count;
    for (uint32_t i = 0; i < keydir->shard_count; i++)
        keydir_reserve(keydir, &keydir->shards[i], share);
    keydir_use_huge_pages(keydir);
}

static enum store_status find_flush(struct state *state)
{
    struct recovery *recovery = state->recovery;
    struct load *last = &state->loads[state->count - 1];
    const struct segment_header *header = &last->segment->header;
    atomic_store(&recovery->log->flush_lsn, header->flush_lsn);
    atomic_store(&recovery->log->flush_deadline_s,
                 header->flush_deadline_s ? header->flush_deadline_s : UINT32_MAX);
    if (!last->hinted)
        scan_last(state,
                  last); /* if that fails, walk tries without memory, and says why it cannot */
    enum store_status status = walk(state, last, visit_flushes);
    if (recovery->now_s >= atomic_load(&recovery->log->flush_deadline_s)) {
        atomic_store(&recovery->log->flush_lsn, recovery->next_lsn);
        atomic_store(&recovery->log->flush_deadline_s, UINT32_MAX);
    }
    return status;
}

/* What one thread sweeps. Neighbours in the keydir lie all over the log: were each added to its segment at once, the threads
 * would take the same few lines from each other for every entry. */
struct sweep {
    struct state *state;
    uint64_t *live_bytes; /* by slot */
};

/* Whether the entry stays in the keydir. */
static bool sweep_entry(void *context, struct keydir_entry *entry)
{
    struct sweep *sweep = context;
    if (!(entry->location & LOCATION_SIZE_MASK))
        return false;
    if (is_expired(sweep->state, entry->expire_s) && !sweep->state->may_touch) {
        segment_add_mark(log_segment(sweep->state->recovery->log, location_slot(entry->location)),
                         RECORD_PUT, location_size(entry->location));
        return false;
    }
    sweep->live_bytes[location_slot(entry->location)] += location_size(entry->location);
    return true;
}

static void *run_sweeper(void *context)
{
    struct state *state = context;
    struct keydir *keydir = state->recovery->keydir;
    struct log *log = state->recovery->log;
    struct sweep sweep = {.state = state, .live_bytes = calloc(log->slot_count, sizeof(uint64_t))};
    uint32_t i;
    if (!sweep.live_bytes) {
        fail(state, STORE_NO_MEMORY);
        return NULL;
    }
    while ((i = atomic_fetch_add(&state->next_shard, 1)) < keydir->shard_count) {
        struct keydir_shard *shard = &keydir->shards[i];
        uint32_t cursor = 0;
        keydir_lock(shard);
        keydir_scan(shard, &cursor, UINT32_MAX, sweep_entry, &sweep);
        atomic_fetch_add(&state->items, shard->count);
        keydir_unlock(shard);
    }
    for (size_t k = 0; k < state->count && state->last_sweep; k++) {
        struct segment *segment = state->loads[k].segment;
        atomic_fetch_add(&segment->indexed_bytes, sweep.live_bytes[segment->slot]);
    }
    free(sweep.live_bytes);
    return NULL;
}

static enum store_status sweep(struct state *state, bool last)
{
    atomic_store(&state->next_shard, 0);
    atomic_store(&state->items, 0);
    atomic_store(&state->dead, 0);
    state->last_sweep = last;
    run_all(state, run_sweeper);
    return (enum store_status)atomic_load(&state->status);
}

/* Many: what is dead takes an eighth of what the keydir may take. */
static bool many_dead(const struct state *state)
{
    uint64_t bytes = atomic_load(&state->dead) * sizeof(struct keydir_bucket) / KEYDIR_ENTRIES;
    return bytes > atomic_load(&state->recovery->keydir->bytes_max) / 8;
}

static bool touches_from(const struct state *state, size_t i)
{
    for (; i < state->count; i++)
        if (!state->loads[i].hinted || state->loads[i].hint.touches)
            return true;
    return false;
}

/* Whether the keydir surely takes all records of the loads [begin, end), dead or alive. */
static bool group_fits(const struct state *state, size_t begin, size_t end)
{
    struct keydir *keydir = state->recovery->keydir;
    uint64_t records = keydir_count(keydir);
    for (size_t i = begin; i < end; i++) {
        const struct load *load = &state->loads[i];
        records += load->hinted ? load->hint.count : load->segment->capacity / RECORD_SIZE_MIN;
    }
    return records * ENTRY_COST <= atomic_load(&keydir->bytes_max);
}

static void choose_group(struct state *state, size_t begin)
{
    size_t rest = state->count - begin;
    size_t width = rest < state->recovery->threads ? rest : state->recovery->threads;
    state->in_order = !group_fits(state, begin, begin + width);
    state->group_end = state->in_order ? begin + 1 : begin + width;
    if (state->in_order && atomic_load(&state->dead))
        sweep(state, false);
    state->may_touch = touches_from(state, state->in_order ? begin : state->group_end);
}

static enum store_status load_group(struct state *state, size_t begin)
{
    choose_group(state, begin);
    atomic_store(&state->next, begin);
    run_all(state, run_loader);
    enum store_status status = (enum store_status)atomic_load(&state->status);
    for (size_t i = begin; i < state->group_end && status == STORE_OK; i++)
        if (state->loads[i].hint.touches)
            status = walk(state, &state->loads[i], visit_touches);
    state->may_touch = touches_from(state, state->group_end);
    if (status == STORE_OK && many_dead(state))
        status = sweep(state, false);
    return status;
}

static enum store_status load_all(struct state *state)
{
    enum store_status status = find_flush(state);
    for (size_t begin = 0; begin < state->count && status == STORE_OK; begin = state->group_end)
        status = load_group(state, begin);
    return status;
}

/* A segment that was cut between two records has no damage in it: only the header of the next one knows that there was more. */
static void look_for_lost_end(struct state *state, size_t i)
{
    struct load *load = &state->loads[i];
    const struct segment_header *next = &state->loads[i + 1].segment->header;
    uint64_t end_lsn = load->segment->header.base_lsn + load->hint.end;
    if (load->hinted || load->hint.damage || next->previous_id != load->segment->header.id ||
        next->log_end_lsn <= end_lsn)
        return;
    load->hint.damage++;
    tell(state->recovery->tell, TELL_WARNING,
         "segment %016llx: the log went on to byte %llu, and nothing is left behind byte %llu",
         (unsigned long long)load->segment->header.id,
         (unsigned long long)(next->log_end_lsn - load->segment->header.base_lsn),
         (unsigned long long)load->hint.end);
}

static void sum_up(struct state *state)
{
    struct recovery *recovery = state->recovery;
    for (size_t i = 0; i < state->count; i++) {
        const struct load *load = &state->loads[i];
        if (load->hint.cas_max > recovery->next_cas)
            recovery->next_cas = load->hint.cas_max;
        recovery->damage += load->hint.damage;
    }
    recovery->next_cas += recovery->next_cas ? CAS_GAP + 1 : 1;
    recovery->items = atomic_load(&state->items);
}

enum store_status recover(struct recovery *recovery)
{
    struct state state = {.recovery = recovery};
    enum store_status status = recover_files(recovery);
    state.loads = recovery->loads;
    state.count = recovery->load_count;
    if (status == STORE_OK && state.count) {
        reserve_keydir(&state);
        status = load_all(&state);
    }
    state.may_touch = false;
    if (status == STORE_OK)
        status = sweep(&state, true);
    for (size_t i = 0; i + 1 < state.count && status == STORE_OK; i++)
        look_for_lost_end(&state, i);
    sum_up(&state);
    if (status == STORE_IO)
        tell(recovery->tell, TELL_ERROR, "cannot read data directory %s: %s", recovery->dir_name,
             strerror(errno));
    return status;
}
