/* keydir_resize.c: a shard grows and shrinks in place. keydir.c explains how. */
#include <string.h>

#include "storage/index/keydir_internal.h"

#define GROW_STEP   256 /* homes moved at a time */
#define SHRINK_STEP 64  /* the same, where up to SHRINK_MOST homes become one */
#define SHRINK_MOST 4
#define GATHER_MAX  ((GROW_STEP + 4 + WINDOW) * KEYDIR_ENTRIES)

#define FILL_SHRUNK 3380 /* as FILL_MAX, after the table was made smaller */
#define FILL_DENSE  3600 /* more find no place in a range of homes and what is behind it */

bool keydir_begin_growth(struct keydir *keydir, struct keydir_shard *shard)
{
    uint32_t size = load_size(&shard->size);
    uint64_t next = (uint64_t)size + size / 6 + 1;
    if (next > keydir_size_max(keydir) ||
        !keydir_take_bytes(keydir, (next - size) * bucket_bytes(shard)))
        return false;
    keydir_use_rows(shard, next, shard->expiring);
    store_size(&shard->frontier, size);
    shard->inserts = 0;
    return true;
}

/* What a step moves: the entries whose homes, in the smaller size, are [from, to). Before it they
 * lie in `span` buckets from `start` on, wrapped at `end`. */
struct range {
    uint32_t from, to;
    uint32_t start, span, end;
};

static bool is_in_range(const struct keydir_shard *shard, const struct range *range, uint64_t tag)
{
    uint32_t home = scale(tag, load_size(&shard->size));
    return home >= range->from && home < range->to;
}

static uint32_t bucket_in_range(const struct range *range, uint32_t k)
{
    uint32_t where = range->start + k;
    return where < range->end ? where : where - range->end;
}

/* Takes the entries of a range out of their buckets; NULL: only counts them. */
static uint32_t gather(struct keydir_shard *shard, const struct range *range,
                       struct keydir_entry *entries)
{
    uint32_t count = 0;
    for (uint32_t k = 0; k < range->span; k++) {
        uint32_t where = bucket_in_range(range, k);
        const struct keydir_bucket *bucket = bucket_at(shard, where);
        for (uint32_t i = 0; i < KEYDIR_ENTRIES; i++) {
            if (!bucket->locations[i] || !is_in_range(shard, range, bucket->words[i]))
                continue;
            if (entries)
                entries[count] = lift(shard, where, i);
            count++;
        }
    }
    return count;
}

/* Memory for the entries of a step, and for the stash, should it need that. */
static struct keydir_entry *new_gathering(const struct keydir_shard *shard)
{
    return malloc((GATHER_MAX + shard->stash_count) * sizeof(struct keydir_entry));
}

/* Adds entries to the stash; `entries` has room for what is there already, and is given away. */
static void stash_all(struct keydir_shard *shard, struct keydir_entry *entries, uint32_t count)
{
    uint32_t stashed = shard->stash_count;
    if (stashed + count <= shard->stash_room) {
        memcpy(shard->stash + stashed, entries, count * sizeof *entries);
        free(entries);
    } else {
        memcpy(entries + count, shard->stash, stashed * sizeof *entries);
        keydir_free_stash(shard);
        shard->stash = entries;
        shard->stash_room = stashed + count;
    }
    shard->stash_count += count;
}

/* Places the gathered entries; `entries` is given away. */
static void insert_all(struct keydir_shard *shard, struct keydir_entry *entries, uint32_t count)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!insert_entry(shard, &entries[i]))
            entries[left++] = entries[i];
    stash_all(shard, entries, left);
}

static void retry_stash(struct keydir_shard *shard)
{
    for (uint32_t i = shard->stash_count; i-- > 0;)
        if (insert_entry(shard, &shard->stash[i]))
            shard->stash[i] = shard->stash[--shard->stash_count];
    if (shard->stash == shard->own_stash || shard->stash_count > KEYDIR_STASH)
        return;
    memcpy(shard->own_stash, shard->stash, shard->stash_count * sizeof *shard->stash);
    keydir_free_stash(shard);
    shard->stash = shard->own_stash;
    shard->stash_room = KEYDIR_STASH;
}

bool keydir_grow_step(struct keydir_shard *shard)
{
    uint32_t size = load_size(&shard->size), to = load_size(&shard->frontier);
    struct range range = {.to = to, .from = to > GROW_STEP ? to - GROW_STEP : 0, .end = size};
    range.start = range.from;
    range.span = to - range.from + WINDOW < size ? to - range.from + WINDOW : size;
    struct keydir_entry *entries = new_gathering(shard);
    if (!entries)
        return false;
    uint32_t count = gather(shard, &range, entries);
    for (uint32_t home = range.from; home < to; home++)
        forget_displaced(bucket_at(shard, home));
    store_size(&shard->frontier, range.from);
    insert_all(shard, entries, count);
    if (range.from == 0) {
        store_size(&shard->size, load_size(&shard->next_size));
        store_size(&shard->frontier, NOT_RESIZED);
    }
    retry_stash(shard);
    return true;
}

/* The size that a shard should shrink to now, or 0. Far down it goes in several passes, of which
 * the last one meets the size that is wanted. */
static uint32_t smaller_size(const struct keydir *keydir, const struct keydir_shard *shard)
{
    uint32_t size = load_size(&shard->next_size);
    bool too_large = atomic_load(&keydir->bytes) > atomic_load(&keydir->bytes_max);
    uint64_t wanted = (uint64_t)shard->count * 1000 / FILL_SHRUNK + 1;
    if (wanted < size / SHRINK_MOST)
        wanted = wanted * 2 > size / SHRINK_MOST ? wanted * 2 : size / SHRINK_MOST + 1;
    if (wanted < shard->dense_size && shard->count > shard->dense_count / 16 * 15)
        wanted = shard->dense_size; /* it has been tried */
    if (wanted < SIZE_MIN)
        wanted = SIZE_MIN;
    return wanted <= (too_large ? size / 10 * 9 : size / 2) ? (uint32_t)wanted : 0;
}

/* The shard grows back, and does not try this size again before it has lost more entries. */
static void turn_back(struct keydir_shard *shard)
{
    uint32_t size = load_size(&shard->size);
    shard->dense_size = size + (load_size(&shard->next_size) - size) / 2 + 1;
    shard->dense_count = shard->count;
    shard->shrinking = false;
}

static void end_shrink(struct keydir_shard *shard)
{
    uint32_t size = load_size(&shard->size);
    if (!shard->expiring_seen)
        set_expiring(shard, false);
    atomic_fetch_sub(&shard->keydir->bytes,
                     (load_size(&shard->next_size) - size) * bucket_bytes(shard));
    store_size(&shard->next_size, size);
    store_size(&shard->frontier, NOT_RESIZED);
    shard->shrinking = false;
    shard->dense_size = 0;
}

/* The first home, in the larger size, of tags whose home in the smaller one is `home` or later. */
static uint32_t larger_home(const struct keydir_shard *shard, uint32_t home)
{
    uint32_t small = load_size(&shard->size);
    uint64_t high = (((uint64_t)home << 32) + small - 1) / small; /* of such a tag's two halves */
    return high >> 32 ? load_size(&shard->next_size)
                      : scale(high << 32, load_size(&shard->next_size));
}

static struct range next_shrunk(const struct keydir_shard *shard)
{
    uint32_t small = load_size(&shard->size), from = load_size(&shard->frontier);
    struct range range = {.from = from,
                          .to = small - from > SHRINK_STEP ? from + SHRINK_STEP : small,
                          .end = load_size(&shard->next_size)};
    range.start = larger_home(shard, from);
    uint32_t span = larger_home(shard, range.to) + 1 - range.start + WINDOW;
    range.span = span < range.end ? span : range.end;
    return range;
}

/* False: no memory, and nothing has moved. */
static bool shrink_step(struct keydir_shard *shard)
{
    struct range range = next_shrunk(shard);
    uint64_t count_max = (range.to - range.from + WINDOW / 2) * (uint64_t)FILL_DENSE / 1000;
    if (gather(shard, &range, NULL) > count_max) { /* too dense */
        turn_back(shard);
        return true;
    }
    struct keydir_entry *entries = new_gathering(shard);
    if (!entries)
        return false;
    uint32_t count = gather(shard, &range, entries);
    /* But for the last one, which some of the tags behind the range share. */
    for (uint32_t home = range.start; home < larger_home(shard, range.to); home++)
        forget_displaced(bucket_at(shard, home));
    store_size(&shard->frontier, range.to);
    insert_all(shard, entries, count);
    retry_stash(shard);
    if (shard->stash_count > KEYDIR_STASH / 2)
        turn_back(shard);
    else if (range.to == load_size(&shard->size))
        end_shrink(shard);
    return true;
}

bool keydir_shrink(struct keydir *keydir, struct keydir_shard *shard)
{
    if (shard->shrinking)
        return shrink_step(shard);
    uint32_t size = smaller_size(keydir, shard);
    if (!size)
        return false;
    if (resized(shard)) /* what grows does that first */
        return keydir_grow_step(shard);
    shard->shrinking = true;
    shard->expiring_seen = false;
    store_size(&shard->size, size);
    store_size(&shard->frontier, 0);
    return true;
}
