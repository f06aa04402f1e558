/* keydir_internal.h: buckets and entries, for the files of the keydir; others use keydir.h.
 *
 * keydir.c finds, inserts and removes; keydir_cuckoo.c makes room when both buckets of a tag are
 * full, keydir_resize.c when a shard is; keydir_memory.c has the memory, keydir_scan.c the scans.
 */
#ifndef CACHECASK_STORAGE_INDEX_KEYDIR_INTERNAL_H
#define CACHECASK_STORAGE_INDEX_KEYDIR_INTERNAL_H

#include <assert.h>
#include <stdlib.h>

#include "storage/index/keydir.h"

/* How far the other bucket may lie: smaller fills worse, larger costs more to grow. */
#define WINDOW        256
#define SIZE_MIN      64 /* buckets of an empty shard, plus up to a sixth */
#define NOT_RESIZED   UINT32_MAX
#define LINE          sizeof(struct keydir_bucket)
#define BLOCK         64 /* buckets of a shard in a row: 4 KiB, so partial rows cost no memory */

#define EXPIRES_BLOCK 256                                 /* buckets whose expiries are 4 KiB */
#define EXPIRES_LINE  (KEYDIR_ENTRIES * sizeof(uint32_t)) /* of a bucket's expiries */

/* Entries in a thousand buckets of four at which a table begins to grow: 0.915 of all. */
#define FILL_MAX      3660

#define EXPIRES       UINT64_C(16) /* of an entry's word: see struct keydir_bucket */
#define COUNTER       UINT64_C(15)

static inline struct keydir_bucket *bucket_at(const struct keydir_shard *shard, uint32_t number)
{
    return shard->blocks + ((uint64_t)(number / BLOCK) << shard->row_shift) + number % BLOCK;
}

static inline uint32_t number_of(const struct keydir_shard *shard,
                                 const struct keydir_bucket *bucket)
{
    uint64_t distance = (uint64_t)(bucket - shard->blocks);
    return (uint32_t)(distance >> shard->row_shift) * BLOCK + (uint32_t)distance % BLOCK;
}

static inline void store_word(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline uint64_t load_word(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline uint32_t load_size(const _Atomic uint32_t *size)
{
    return atomic_load_explicit(size, memory_order_acquire);
}

static inline void store_size(_Atomic uint32_t *size, uint32_t value)
{
    atomic_store_explicit(size, value, memory_order_release);
}

static inline uint32_t scale(uint64_t tag, uint32_t size)
{
    return (uint32_t)((tag >> 32) * size >> 32);
}

struct home {
    uint32_t number; /* of the bucket */
    uint32_t size;   /* of the table that it is counted in */
};

/* Nearly all look-ups end there. */
static inline struct home home_of(const struct keydir_shard *shard, uint64_t tag)
{
    uint32_t size = load_size(&shard->size);
    uint32_t home = scale(tag, size);
    if (home < load_size(&shard->frontier))
        return (struct home){.number = home, .size = size};
    size = load_size(&shard->next_size);
    return (struct home){.number = scale(tag, size), .size = size};
}

static inline uint32_t other_of(struct home home, uint64_t tag)
{
    uint32_t window = home.size / 2 < WINDOW ? home.size / 2 : WINDOW;
    uint32_t other = home.number + 1 + (uint32_t)((tag >> 8 & 0xffff) * window >> 16);
    return other < home.size ? other : other - home.size;
}

struct candidates {
    uint32_t home;
    uint32_t other;
};

static inline struct candidates candidates_of(const struct keydir_shard *shard, uint64_t tag)
{
    struct home home = home_of(shard, tag);
    return (struct candidates){.home = home.number, .other = other_of(home, tag)};
}

/* Which of the counters of its home is a tag's. */
static inline uint32_t counter_of(uint64_t tag)
{
    return (uint32_t)(tag >> 24 & 3);
}

static inline uint64_t counter(const struct keydir_bucket *home, uint64_t tag)
{
    return load_word(&home->words[counter_of(tag)]) & COUNTER;
}

/* A counter that reached 15 stays there until its bucket is moved: then it only costs a look. */
static inline void count_displaced(struct keydir_bucket *home, uint64_t tag, int change)
{
    uint64_t *word = &home->words[counter_of(tag)];
    if ((*word & COUNTER) != COUNTER)
        store_word(word, *word + (uint64_t)(int64_t)change);
}

static inline void forget_displaced(struct keydir_bucket *home)
{
    for (int i = 0; i < KEYDIR_ENTRIES; i++)
        store_word(&home->words[i], home->words[i] & ~COUNTER);
}

static inline bool same_tag(uint64_t word, uint64_t tag)
{
    return ((word ^ tag) & KEYDIR_TAG) == 0;
}

/* The expiries of a bucket's entries; only those of entries that have one mean anything. */
static inline uint32_t *expires_of(const struct keydir_shard *shard,
                                   const struct keydir_bucket *bucket)
{
    uint32_t number = number_of(shard, bucket);
    uint64_t block = number / EXPIRES_BLOCK;
    uint64_t row = block * (EXPIRES_BLOCK / BLOCK * KEYDIR_ENTRIES) << shard->row_shift;
    return shard->expires + row + number % EXPIRES_BLOCK * KEYDIR_ENTRIES;
}

/* Memory that a bucket of the shard takes. */
static inline uint64_t bucket_bytes(const struct keydir_shard *shard)
{
    return shard->expiring ? LINE + EXPIRES_LINE : LINE;
}

/* keydir_memory.c */

/* A shard has, or will have, `size` buckets, with or without expiries: their memory is kept. */
void keydir_use_rows(struct keydir_shard *shard, uint64_t size, bool expiring);

/* Buckets that a shard may have: rows bound them, and numbers of 32 bits. */
uint64_t keydir_size_max(const struct keydir *keydir);

/* False: that would be more than bytes_max. */
bool keydir_take_bytes(struct keydir *keydir, uint64_t bytes);

void keydir_change_expiring(struct keydir_shard *shard, bool expiring);

/* keydir_resize.c */

/* False: there is no more memory for the keydir. */
bool keydir_begin_growth(struct keydir *keydir, struct keydir_shard *shard);

/* False: no memory, and nothing has moved. */
bool keydir_grow_step(struct keydir_shard *shard);

/* keydir_cuckoo.c */

/* Looks for the nearest bucket with room from where entries can move up one by one. */
bool keydir_insert_by_moving(struct keydir_shard *shard, const struct keydir_entry *entry,
                             struct candidates candidates);

static inline void set_expiring(struct keydir_shard *shard, bool expiring)
{
    shard->expiring_seen |= expiring;
    if (shard->expiring != expiring)
        keydir_change_expiring(shard, expiring);
}

static inline void keydir_free_stash(struct keydir_shard *shard)
{
    if (shard->stash != shard->own_stash)
        free(shard->stash);
}

static inline void put(struct keydir_shard *shard, struct keydir_bucket *bucket, uint32_t i,
                       const struct keydir_entry *entry)
{
    uint64_t own = bucket->words[i] & COUNTER;
    store_word(&bucket->words[i],
               (entry->tag & KEYDIR_TAG) | (entry->expire_s ? EXPIRES : 0) | own);
    store_word(&bucket->locations[i], entry->location);
    if (entry->expire_s) {
        set_expiring(shard, true);
        __atomic_store_n(&expires_of(shard, bucket)[i], entry->expire_s, __ATOMIC_RELEASE);
    }
}

static inline struct keydir_entry get(const struct keydir_shard *shard,
                                      const struct keydir_bucket *bucket, uint32_t i)
{
    uint64_t word = load_word(&bucket->words[i]);
    struct keydir_entry entry = {.tag = word & KEYDIR_TAG,
                                 .location = load_word(&bucket->locations[i])};
    if (word & EXPIRES)
        entry.expire_s = __atomic_load_n(&expires_of(shard, bucket)[i], __ATOMIC_ACQUIRE);
    return entry;
}

static inline int free_index(const struct keydir_bucket *bucket)
{
    for (int i = 0; i < KEYDIR_ENTRIES; i++)
        if (!bucket->locations[i])
            return i;
    return -1;
}

/* Takes an entry out of bucket `where`. */
static inline struct keydir_entry lift(struct keydir_shard *shard, uint32_t where, uint32_t i)
{
    struct keydir_bucket *bucket = bucket_at(shard, where);
    struct keydir_entry entry = get(shard, bucket, i);
    struct candidates candidates = candidates_of(shard, entry.tag);
    store_word(&bucket->locations[i], 0);
    if (where != candidates.home)
        count_displaced(bucket_at(shard, candidates.home), entry.tag, -1);
    return entry;
}

static inline bool insert_entry(struct keydir_shard *shard, const struct keydir_entry *entry)
{
    struct candidates candidates = candidates_of(shard, entry->tag);
    int i = free_index(bucket_at(shard, candidates.home));
    if (i >= 0) {
        put(shard, bucket_at(shard, candidates.home), (uint32_t)i, entry);
        return true;
    }
    i = free_index(bucket_at(shard, candidates.other));
    if (i >= 0) {
        put(shard, bucket_at(shard, candidates.other), (uint32_t)i, entry);
        count_displaced(bucket_at(shard, candidates.home), entry->tag, 1);
        return true;
    }
    return keydir_insert_by_moving(shard, entry, candidates);
}

static inline bool resized(const struct keydir_shard *shard)
{
    return load_size(&shard->frontier) != NOT_RESIZED;
}

#endif
