/* recover.c: the start.
 *
 * 1. Files: segments are put into the order of the log and get their slots in that order; and the end of the log is found
 *    (recover_files.c).
 * 2. Flush: the last segment's header repeats the flush state of all before, its FLUSH records come on top (Y4). A pending
 *    flush whose time came while nobody ran takes everything. What is flushed is not loaded.
 * 3. Touches: a filter of the keys that TOUCH records prolong beyond now (Y2).
 * 4. Load, a group of segments at a time. First each segment is read, from its hint file, else by a scan, and its records
 *    are sorted into parts: some shards of the keydir each. Then each part is replayed, by one thread and in the order of
 *    the log, so that the keydir is the state of the log up to there (Y1, Y3), and nothing dead takes an entry: a deletion,
 *    or a value that has expired, just takes away what its key had. Only an expired value that a TOUCH may prolong waits in
 *    the keydir for that TOUCH (Y2). Each segment's live bytes are counted on the way.
 * 5. Sweep, if there were such values: those that were not prolonged leave.
 *
 * The log goes on in a new segment behind all LSNs that may ever have been given, so none is given twice.
 */
#define _GNU_SOURCE
#include "storage/log/recover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/index/location.h"
#include "storage/log/recover_files.h"

#define RECORD_SIZE_USUAL 160
#define KEY_COST          18  /* bytes of keydir for one key, its expiry excepted */
#define PARTS_MAX         256 /* of the keydir's shards, at the most */
#define GROUP_BYTES       (UINT64_C(64) << 20) /* records of a group, in memory */
#define BATCH             8192 /* changes that are sorted by where in their shard they are at home */
#define FETCHED           32   /* changes whose buckets are fetched ahead together */
#define FILTER_BITS_MIN   15

/* CAS uniques that a lost tail of the log may have given: those are skipped. */
#define CAS_GAP           (UINT64_C(1) << 30)

struct state {
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
    _Atomic bool told_full;
    _Atomic uint64_t exceeded; /* bytes of recovery->more_bytes that were taken */
};

static void fail(struct state *state, enum store_status status)
{
    int none = STORE_OK, error = errno;
    if (atomic_compare_exchange_strong(&state->status, &none, status))
        state->error = error;
}

/* Runs `work` in all threads, this one among them. */
static enum store_status run_all(struct state *state, void *(*work)(void *context))
{
    pthread_t threads[64];
    uint32_t count = 0;
    uint32_t wanted = state->recovery->threads < 64 ? state->recovery->threads : 64;
    while (count + 1 < wanted && pthread_create(&threads[count], NULL, work, state) == 0)
        count++;
    work(state);
    for (uint32_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    errno = state->error;
    return (enum store_status)atomic_load(&state->status);
}

static bool is_expired(const struct state *state, uint32_t expire_s)
{
    return expire_s && expire_s <= state->recovery->now_s;
}

/* Walking through a segment's records before they are loaded. */
struct walk {
    struct state *state;
    const struct load *load;
};

/* hint_scan of a segment whose file may be closed, up to the end of the log in it. */
static enum store_status scan_segment(struct state *state, const struct load *load,
                                      hint_visit *visit, void *context, struct hint *hint)
{
    struct recovery *recovery = state->recovery;
    const struct reporter silent = {0}; /* damage is told when the segment is loaded */
    enum store_status status = segment_files_use(&recovery->log->segment_files, load->segment);
    if (status != STORE_OK)
        return status;
    status = hint_scan(recovery->files, load->segment, load->end, recovery->hash_seed,
                       HINT_TORN_TAIL | HINT_TOLERANT, &silent, visit, context, hint);
    int error = errno;
    segment_files_done(load->segment);
    errno = error;
    return status;
}

/* hint_collect, the same. */
static enum store_status collect_segment(struct state *state, struct load *load,
                                         bool tail_may_be_torn)
{
    struct recovery *recovery = state->recovery;
    uint32_t how = HINT_TOLERANT | (tail_may_be_torn ? HINT_TORN_TAIL : 0);
    enum store_status status = segment_files_use(&recovery->log->segment_files, load->segment);
    if (status != STORE_OK)
        return status;
    status = hint_collect(recovery->files, load->segment, load->end, recovery->hash_seed, how,
                          recovery->reporter, &load->hint, &load->entries);
    int error = errno;
    segment_files_done(load->segment);
    errno = error;
    return status;
}

static enum store_status walk(struct state *state, struct load *load, hint_visit *visit)
{
    struct recovery *recovery = state->recovery;
    struct walk walk = {.state = state, .load = load};
    struct hint hint = load->hint;
    struct hint_entry *entries = load->entries;
    enum store_status status = load->scanned ? STORE_OK : STORE_NOT_FOUND;
    if (load->hinted)
        status = hint_read(recovery->files, recovery->dir_fd, load->segment, &hint, &entries);
    if (status != STORE_OK)
        return scan_segment(state, load, visit, &walk, &hint);
    for (uint64_t i = 0; i < hint.count; i++)
        visit(&walk, &entries[i]);
    if (!load->scanned)
        free(entries);
    return STORE_OK;
}

/* The flush (Y4). */

static bool visit_flushes(void *context, const struct hint_entry *entry)
{
    const struct walk *walk = context;
    struct log *log = walk->state->recovery->log;
    if (entry->type != RECORD_FLUSH)
        return true;
    if (entry->expire_s == 0)
        atomic_store(&log->flush_lsn, walk->load->segment->header.base_lsn + entry->offset * 8ull);
    atomic_store(&log->flush_deadline_s, entry->expire_s ? entry->expire_s : UINT32_MAX);
    return true;
}

/* The last segment is needed more than once, and mostly has no hint: what a scan finds is kept. If that fails, walk tries
 * without memory, and says why it cannot. */
static void scan_last(struct state *state, struct load *last)
{
    last->scanned = collect_segment(state, last, true) == STORE_OK;
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
        scan_last(state, last);
    enum store_status status = walk(state, last, visit_flushes);
    if (recovery->now_s >= atomic_load(&recovery->log->flush_deadline_s)) {
        atomic_store(&recovery->log->flush_lsn, recovery->next_lsn);
        atomic_store(&recovery->log->flush_deadline_s, UINT32_MAX);
    }
    return status;
}

/* The filter of keys that are prolonged (Y2): a value that has expired is dead, unless a TOUCH behind it says otherwise. To
 * keep all of them until the last TOUCH is loaded might take more memory than the keys that live. */

static bool visit_touches(void *context, const struct hint_entry *entry)
{
    struct state *state = ((struct walk *)context)->state;
    uint64_t bit = entry->tag >> state->touched_shift;
    if (entry->type == RECORD_TOUCH && !is_expired(state, entry->expire_s))
        atomic_fetch_or_explicit(&state->touched[bit / 64], UINT64_C(1) << bit % 64,
                                 memory_order_relaxed);
    return true;
}

static bool is_touched(const struct state *state, uint64_t tag)
{
    uint64_t bit = tag >> state->touched_shift;
    return state->touched &&
           atomic_load_explicit(&state->touched[bit / 64], memory_order_relaxed) >> bit % 64 & 1;
}

/* Whether the load has TOUCHes, as far as is known before it is read. */
static bool has_touches(const struct load *load)
{
    return !(load->hinted || load->scanned) || load->hint.touches;
}

/* For the operator: another segment has been read. */
static void note_read(struct state *state, const struct load *load)
{
    const struct recovery *recovery = state->recovery;
    uint64_t bytes = load->segment->capacity;
    uint64_t done = atomic_fetch_add(&state->done_bytes, bytes) + bytes;
    if (recovery->progress)
        recovery->progress(recovery->progress_context, done, state->all_bytes);
}

static void *run_toucher(void *context)
{
    struct state *state = context;
    size_t i;
    while ((i = atomic_fetch_add(&state->next, 1)) < state->count &&
           atomic_load(&state->status) == STORE_OK) {
        struct load *load = &state->loads[i];
        if (!has_touches(load))
            continue;
        enum store_status status = walk(state, load, visit_touches);
        if (status != STORE_OK)
            fail(state, status);
        note_read(state, load);
    }
    return NULL;
}

/* A thirty-second of the memory, or up to twice as much. A false alarm costs an entry until the sweep. */
static bool make_filter(struct state *state)
{
    uint64_t bytes = atomic_load(&state->recovery->keydir->bytes_max) / 32;
    uint32_t bits = FILTER_BITS_MIN;
    while (UINT64_C(1) << bits < bytes * 8)
        bits++;
    state->touched_shift = 64 - bits;
    state->touched = calloc((size_t)1 << (bits - 6), sizeof *state->touched);
    return state->touched;
}

static enum store_status find_touches(struct state *state)
{
    bool needed = false;
    for (size_t i = 0; i < state->count; i++)
        needed = needed || has_touches(&state->loads[i]);
    if (!needed)
        return STORE_OK;
    if (!make_filter(state))
        return STORE_NO_MEMORY;
    atomic_store(&state->next, 0);
    return run_all(state, run_toucher);
}

/* Reading: the records of one segment, sorted into parts. */

static bool is_last(const struct state *state, const struct load *load)
{
    return load == &state->loads[state->count - 1];
}

static enum store_status read_by_hint(struct state *state, struct load *load)
{
    return hint_read(state->recovery->files, state->recovery->dir_fd, load->segment, &load->hint,
                     &load->entries);
}

/* Its hint file is damaged or stale, cannot be read (errno), or is missing (then silently). */
static enum store_status read_by_scan(struct state *state, struct load *load, enum store_status why)
{
    struct recovery *recovery = state->recovery;
    if (why == STORE_CORRUPT)
        report(recovery->reporter, REPORT_WARNING,
               "the hint file of segment %016llx is damaged or stale: reading the segment instead",
               (unsigned long long)load->segment->header.id);
    if (why == STORE_IO && file_is_bad_place(errno))
        report(recovery->reporter, REPORT_WARNING,
               "%016llx.hint cannot be read (%s): reading the segment instead. Check the disk",
               (unsigned long long)load->segment->header.id, strerror(errno));
    if (load->scanned)
        return STORE_OK;
    enum store_status status = collect_segment(state, load, is_last(state, load));
    if (status == STORE_IO)
        report(recovery->reporter, REPORT_ERROR, "cannot read segment %016llx: %s",
               (unsigned long long)load->segment->header.id, strerror(errno));
    return status;
}

/* Why a segment was scanned before its turn: it has no hint file, or a bad one, which is to be told. */
static enum store_status why_scanned(const struct state *state, const struct load *load)
{
    const struct recovery *recovery = state->recovery;
    struct hint ignored;
    enum store_status status =
        hint_read_header(recovery->files, recovery->dir_fd, load->segment, &ignored);
    return status == STORE_OK ? STORE_NOT_FOUND : status;
}

static uint32_t part_of(const struct state *state, const struct hint_entry *entry)
{
    return entry->shard_bits & (state->part_count - 1);
}

/* The order among the records of one part stays. */
static bool sort_into_parts(const struct state *state, struct load *load)
{
    uint32_t next[PARTS_MAX + 1] = {0};
    uint64_t count = load->hint.count;
    struct hint_entry *sorted = malloc((count + !count) * sizeof *sorted);
    load->parts = malloc(sizeof next);
    if (!sorted || !load->parts) {
        free(sorted);
        return false;
    }
    for (uint64_t i = 0; i < count; i++)
        next[part_of(state, &load->entries[i]) + 1]++;
    for (uint32_t part = 0; part < state->part_count; part++)
        next[part + 1] += next[part];
    memcpy(load->parts, next, sizeof next);
    for (uint64_t i = 0; i < count; i++)
        sorted[next[part_of(state, &load->entries[i])]++] = load->entries[i];
    free(load->entries);
    load->entries = sorted;
    return true;
}

static bool is_flushed(const struct state *state, const struct load *load,
                       const struct hint_entry *entry)
{
    return load->segment->header.base_lsn + entry->offset * 8ull <
           atomic_load_explicit(&state->recovery->log->flush_lsn, memory_order_relaxed);
}

/* Whether the record leaves its key dead: a DELETE's expiry means something else, and an expired one may be prolonged yet. */
static bool is_dead(struct state *state, const struct hint_entry *entry)
{
    if (entry->type == RECORD_DELETE)
        return true;
    if (!is_expired(state, entry->expire_s))
        return false;
    if (!is_touched(state, entry->tag))
        return true;
    atomic_store_explicit(&state->has_expired, true, memory_order_relaxed);
    return false;
}

/* What cleaning the segment may have to carry on. An expired value that another one has replaced counts too: the bound is an
 * upper one, and the cleaner counts again where that matters. */
static void add_marks(struct state *state, const struct load *load)
{
    for (uint64_t i = 0; i < load->hint.count; i++) {
        const struct hint_entry *entry = &load->entries[i];
        if (entry->type != RECORD_PUT || (is_dead(state, entry) && !is_flushed(state, load, entry)))
            segment_add_mark(load->segment, entry->type, entry->size * UINT64_C(8));
    }
}

static enum store_status read_one(struct state *state, struct load *load)
{
    enum store_status status = load->scanned ? why_scanned(state, load) : read_by_hint(state, load);
    load->hinted = status == STORE_OK;
    if (status != STORE_OK)
        status = read_by_scan(state, load, status);
    load->segment->hinted = load->hinted;
    load->segment->hint_bytes = load->hinted ? hint_file_size(&load->hint) : 0;
    load->segment->damaged = load->hint.unreadable > 0; /* Y9 */
    atomic_store(&load->segment->end, (uint32_t)load->hint.end);
    if (status != STORE_OK)
        return status;
    add_marks(state, load);
    return sort_into_parts(state, load) ? STORE_OK : STORE_NO_MEMORY;
}

static void *run_reader(void *context)
{
    struct state *state = context;
    size_t i;
    while ((i = atomic_fetch_add(&state->next, 1)) < state->group_end &&
           atomic_load(&state->status) == STORE_OK) {
        struct load *load = &state->loads[i];
        enum store_status status = read_one(state, load);
        if (status != STORE_OK)
            fail(state, status);
        note_read(state, load);
    }
    return NULL;
}

/* Replaying: the records of one part, in the order of the log. */

/* What a record does to the keydir. */
struct change {
    uint64_t tag;
    uint64_t location; /* of a PUT; 0: that of the key's record stays (a TOUCH) */
    uint32_t expire_s;
    uint16_t shard;
    uint8_t type; /* enum record_type */
    bool dead;    /* the key goes */
};

/* Changes of one part. Neighbours in the log are at home all over a shard; sorted by their home, a batch goes through the
 * shard from front to back, which spares most misses of the TLB: more than half of a large start's time (docs/performance.md).
 * The order among the changes of one key stays. */
struct batch {
    struct state *state;
    uint64_t *live_bytes; /* by slot; modulo 2^64, for they may have been added by another thread */
    uint32_t count;
    struct change changes[BATCH];
    uint16_t order[BATCH]; /* numbers of changes, by home */
};

static bool refuse_full(struct state *state)
{
    if (!atomic_exchange(&state->told_full, true))
        report(state->recovery->reporter, REPORT_ERROR,
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
    return done || refuse_full(state);
}

/* A value that was alive by its own record expires by another one, or when all is loaded. */
static void add_expired_mark(const struct state *state, uint64_t location)
{
    segment_add_mark(log_segment(state->recovery->log, location_slot(location)), RECORD_PUT,
                     location_size(location));
}

/* With the shard's lock held. False: no room. */
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
        batch->live_bytes[location_slot(old.location)] -= location_size(old.location);
    if (change->dead) {
        if (present && change->type == RECORD_TOUCH)
            add_expired_mark(batch->state, old.location);
        if (present)
            keydir_remove(shard, ref);
        return true;
    }
    if (!entry.location)
        return true; /* a TOUCH of what is not there */
    batch->live_bytes[location_slot(entry.location)] += location_size(entry.location);
    if (!present)
        return insert(batch->state, shard, &entry);
    keydir_set(shard, ref, entry.location, entry.expire_s);
    return true;
}

/* Up to FETCHED changes, named by their numbers. */
static bool apply_fetched(struct batch *batch, const uint16_t *order, uint32_t count)
{
    struct keydir_shard *shards = batch->state->recovery->keydir->shards;
    struct keydir_shard *held = NULL;
    bool ok = true;
    for (uint32_t i = 0; i < count; i++)
        keydir_prefetch(&shards[batch->changes[order[i]].shard], batch->changes[order[i]].tag);
    for (uint32_t i = 0; i < count; i++)
        keydir_prefetch_other(&shards[batch->changes[order[i]].shard],
                              batch->changes[order[i]].tag);
    for (uint32_t i = 0; i < count && ok; i++) {
        const struct change *change = &batch->changes[order[i]];
        struct keydir_shard *shard = &shards[change->shard];
        if (shard != held) {
            if (held)
                keydir_unlock(held);
            keydir_lock(shard);
            held = shard;
        }
        ok = apply(batch, shard, change);
    }
    if (held)
        keydir_unlock(held);
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
    struct state *state = batch->state;
    if ((entry->type != RECORD_PUT && entry->type != RECORD_DELETE &&
         entry->type != RECORD_TOUCH) ||
        is_flushed(state, load, entry))
        return;
    batch->changes[batch->count++] = (struct change){
        .tag = entry->tag,
        .location = entry->type == RECORD_PUT ? location_of(load->segment->slot, entry->offset * 8,
                                                            entry->size * UINT64_C(8))
                                              : 0,
        .expire_s = entry->expire_s,
        .type = entry->type,
        .shard = (uint16_t)(entry->shard_bits & (state->recovery->keydir->shard_count - 1)),
        .dead = is_dead(state, entry),
    };
}

static bool replay_part(struct batch *batch, uint32_t part)
{
    const struct state *state = batch->state;
    for (size_t i = state->group_begin; i < state->group_end; i++) {
        const struct load *load = &state->loads[i];
        for (uint32_t k = load->parts[part]; k < load->parts[part + 1]; k++) {
            add_change(batch, load, &load->entries[k]);
            if (batch->count == BATCH && !apply_batch(batch))
                return false;
        }
    }
    return apply_batch(batch);
}

/* Each thread counts for itself: they would take the segments' lines from each other for every record. */
static void add_live_bytes(const struct state *state, uint64_t *live_bytes)
{
    for (size_t i = 0; i < state->group_end; i++) {
        struct segment *segment = state->loads[i].segment;
        atomic_fetch_add(&segment->indexed_bytes, live_bytes[segment->slot]);
    }
    free(live_bytes);
}

static uint64_t *new_live_bytes(struct state *state)
{
    uint64_t *live_bytes = calloc(state->recovery->log->slot_count, sizeof *live_bytes);
    if (!live_bytes)
        fail(state, STORE_NO_MEMORY);
    return live_bytes;
}

static void *run_replayer(void *context)
{
    struct state *state = context;
    struct batch batch = {.state = state, .live_bytes = new_live_bytes(state)};
    uint32_t part;
    if (!batch.live_bytes)
        return NULL;
    while ((part = atomic_fetch_add(&state->next_part, 1)) < state->part_count &&
           atomic_load(&state->status) == STORE_OK)
        if (!replay_part(&batch, part))
            break;
    add_live_bytes(state, batch.live_bytes);
    return NULL;
}

/* Groups. */

/* Bytes of a segment's records in memory. */
static uint64_t bytes_in_memory(const struct load *load)
{
    uint64_t count = load->hinted ? load->hint.count : load->segment->capacity / RECORD_SIZE_USUAL;
    return count * sizeof(struct hint_entry);
}

/* As many segments as may be in memory, and no thread has one more to read than the others, if there are that many. */
static void choose_group(struct state *state)
{
    uint64_t limit = atomic_load(&state->recovery->keydir->bytes_max) / 8;
    uint64_t bytes = 0;
    size_t end = state->group_begin;
    limit = limit < GROUP_BYTES ? limit : GROUP_BYTES;
    do
        bytes += bytes_in_memory(&state->loads[end++]);
    while (end < state->count && bytes + bytes_in_memory(&state->loads[end]) <= limit);
    size_t width = end - state->group_begin;
    if (end < state->count && width > state->recovery->threads)
        width -= width % state->recovery->threads;
    state->group_end = state->group_begin + width;
}

static void release_load(struct load *load)
{
    free(load->entries);
    free(load->parts);
    load->entries = NULL;
    load->parts = NULL;
}

static enum store_status load_group(struct state *state)
{
    choose_group(state);
    atomic_store(&state->next, state->group_begin);
    atomic_store(&state->next_part, 0);
    enum store_status status = run_all(state, run_reader);
    if (status == STORE_OK)
        status = run_all(state, run_replayer);
    for (size_t i = state->group_begin; i < state->group_end; i++)
        release_load(&state->loads[i]);
    return status;
}

/* The sweep: what had expired and was not prolonged. */

struct sweep {
    struct state *state;
    uint64_t *live_bytes; /* by slot, as in struct batch */
};

/* Whether the entry stays in the keydir. */
static bool sweep_entry(void *context, struct keydir_entry *entry)
{
    struct sweep *sweep = context;
    if (!is_expired(sweep->state, entry->expire_s))
        return true;
    add_expired_mark(sweep->state, entry->location);
    sweep->live_bytes[location_slot(entry->location)] -= location_size(entry->location);
    return false;
}

static void *run_sweeper(void *context)
{
    struct state *state = context;
    struct keydir *keydir = state->recovery->keydir;
    struct sweep sweep = {.state = state, .live_bytes = new_live_bytes(state)};
    uint32_t i;
    if (!sweep.live_bytes)
        return NULL;
    while ((i = atomic_fetch_add(&state->next_shard, 1)) < keydir->shard_count) {
        struct keydir_shard *shard = &keydir->shards[i];
        uint64_t cursor = 0;
        keydir_lock(shard);
        keydir_scan(shard, &cursor, UINT32_MAX, sweep_entry, &sweep);
        keydir_unlock(shard);
    }
    add_live_bytes(state, sweep.live_bytes);
    return NULL;
}

/* The start. */

/* How many keys to expect: what the newest hint that knows says, and all records since; in a segment without a hint, as
 * many as usual ones have. */
static uint64_t expected_keys(const struct state *state)
{
    uint64_t records = 0, keys = 0;
    for (size_t i = 0; i < state->count; i++) {
        const struct load *load = &state->loads[i];
        uint64_t count =
            load->hinted ? load->hint.count : load->segment->capacity / RECORD_SIZE_USUAL;
        records += count;
        keys = load->hint.keys ? load->hint.keys : keys + count;
    }
    return keys < records ? keys : records;
}

/* Never more than three quarters of the memory: should all keys expire, their expiries take the rest. */
static void reserve_keydir(const struct state *state)
{
    struct keydir *keydir = state->recovery->keydir;
    uint64_t most = atomic_load(&keydir->bytes_max) / 4 * 3 / KEY_COST;
    uint64_t keys = expected_keys(state);
    uint64_t share = (keys < most ? keys : most) / keydir->shard_count;
    for (uint32_t i = 0; i < keydir->shard_count; i++)
        keydir_reserve(keydir, &keydir->shards[i], share);
    keydir_use_huge_pages(keydir);
}

static void prepare(struct state *state)
{
    uint32_t shard_count = state->recovery->keydir->shard_count;
    state->part_count = shard_count < PARTS_MAX ? shard_count : PARTS_MAX;
    for (size_t i = 0; i < state->count; i++) /* what may have TOUCHes is read twice */
        state->all_bytes +=
            state->loads[i].segment->capacity * (has_touches(&state->loads[i]) ? UINT64_C(2) : 1);
    reserve_keydir(state);
}

static enum store_status load_all(struct state *state)
{
    enum store_status status = find_flush(state);
    if (status == STORE_OK) {
        prepare(state);
        status = find_touches(state);
    }
    for (; state->group_end < state->count && status == STORE_OK;
         state->group_begin = state->group_end)
        status = load_group(state);
    if (status == STORE_OK && atomic_load(&state->has_expired))
        status = run_all(state, run_sweeper);
    free(state->touched);
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
    report(state->recovery->reporter, REPORT_WARNING,
           "segment %016llx: the log went on to byte %llu, and nothing is left behind byte %llu",
           (unsigned long long)load->segment->header.id,
           (unsigned long long)(next->log_end_lsn - load->segment->header.base_lsn),
           (unsigned long long)load->hint.end);
}

/* Where the last segment ends in a bad place nobody knows where the log does; unless this start has cut it there. */
static void look_for_unknown_end(const struct state *state)
{
    const struct load *last = &state->loads[state->count - 1];
    if (last->hint.unreadable && last->hint.end == last->segment->capacity &&
        !state->recovery->dropped_count)
        state->recovery->log->previous_unknown = true;
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
    recovery->items = keydir_count(recovery->keydir);
}

enum store_status recover(struct recovery *recovery)
{
    struct state state = {.recovery = recovery};
    enum store_status status = recover_files(recovery);
    state.loads = recovery->loads;
    state.count = recovery->load_count;
    if (status == STORE_OK && state.count)
        status = load_all(&state);
    for (size_t i = 0; i + 1 < state.count && status == STORE_OK; i++)
        look_for_lost_end(&state, i);
    if (status == STORE_OK && state.count)
        look_for_unknown_end(&state);
    sum_up(&state);
    if (status == STORE_IO)
        report(recovery->reporter, REPORT_ERROR, "cannot read data directory %s: %s",
               recovery->dir_name, strerror(errno));
    return status;
}
