/* keydir.c: a hash table in cache lines that grows in place.
 *
 * A bucket is one cache line with four entries. A tag has a home bucket and one other bucket close behind it
 * (places_of); its entry lives in one of the two, or, nearly never, in the shard's stash (K1). Each bucket counts the
 * entries that are at home in it and live in their other bucket, in four counters chosen by two bits of the tag (K2):
 * where the counter is 0, one cache line has told that a key is absent. An insert that finds both buckets full moves
 * others between their two buckets (the cuckoo way, breadth first), which works up to a load of 0.94.
 *
 * Expiries lie beside the buckets, four bytes for each place of an entry, in rows of their own: a bit of the entry tells
 * whether it has one, and memory for them is touched, and counted, only in shards where some entry has.
 *
 * Growth. 19 bytes a key leave no room for tables that double: a table grows by a sixth, and in place. A tag's home is
 * its high bits scaled to the number of buckets, so homes keep their order when that number grows: going from the last
 * home to the first, each moves to the right, into room that is already free. The homes from `frontier` on are counted
 * in the new size, those before it in the old one (K3), and each insert moves the frontier a little. The other bucket lies
 * at most WINDOW behind the home, wrapped at the end of the table, so the entries of a range of homes are found close by.
 * The shards begin with different sizes, so that they do not all grow at the same time.
 *
 * Shrinking, after many deletions or under a lower limit, is the same in reverse: the frontier moves from the first home to
 * the last, and each home moves to the left. The background thread does it, some hundred entries at a time. A growth and a
 * shrink have the same states, so either may turn into the other wherever the frontier stands: an insert that finds a
 * shrinking shard full lets it grow again.
 *
 * A resize counts on entries that lie evenly. They need not: who removes entries may have come halfway through a shard, and then
 * the other half, at its density of before, does not fit into half of the buckets. So a shrink looks at each range of homes
 * before it moves it, and where that is too dense, or the stash fills, it turns back, and aims at a larger size the next time.
 * Whatever finds no place in a resize goes to the stash, which then takes the memory in which the entries were gathered: a resize
 * never fails in the middle.
 *
 * Reading without the lock. A shard's version is odd while its lock is held. Who finds it even, reads, and finds it the same
 * again, has read what was there when nobody wrote (K5). What a writer stores it stores with release, and such a reader loads with
 * acquire: who has seen any of it sees the odd version too. On x86 these are plain moves.
 *
 * The address space for all buckets is reserved at once and costs memory only as it is touched. The shards share it in rows:
 * a row is a block of 4 KiB, 64 buckets, of each shard in turn. As all shards grow alike, rows fill one after the other,
 * and those that every shard has filled can lie in huge pages: then a lookup seldom misses the TLB. Behind them follow the rows
 * of expiries: 4 KiB of each shard in turn, for four blocks.
 */
#define _GNU_SOURCE
#include "storage/index/keydir.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "storage/index/location.h"
#include "storage/base/memory.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

#define WINDOW                                                                                     \
    256 /* how far the other bucket may lie: smaller fills worse, larger costs more to grow */
#define SIZE_MIN    64  /* buckets of an empty shard, plus up to a sixth */
#define GROW_STEP   256 /* homes moved at a time */
#define SHRINK_STEP 64  /* the same, where up to SHRINK_MOST homes become one */
#define SHRINK_MOST 4
#define GATHER_MAX  ((GROW_STEP + 4 + WINDOW) * KEYDIR_ENTRIES)
#define GROW_EVERY                                                                                 \
    32 /* inserts between two steps: 8 homes an insert outrun the inserts, at 0.6 a home */
#define SEARCH_MAX  256 /* buckets looked at for a free place */
#define NOT_RESIZED UINT32_MAX
#define SCAN_STEP   256 /* homes scanned with a shard's lock held: some ten microseconds */
#define LINE        sizeof(struct keydir_bucket)
#define BLOCK                                                                                      \
    64 /* buckets of a shard in a row: 4 KiB, so that rows filled in part cost no memory */
#define HUGE_PAGE     (UINT64_C(2) << 20)

#define EXPIRES_BLOCK 256                                 /* buckets whose expiries are 4 KiB */
#define EXPIRES_LINE  (KEYDIR_ENTRIES * sizeof(uint32_t)) /* of a bucket's expiries */

/* Fill at which a table begins to grow, in entries a thousand buckets (of four): 0.915 of all places. */
#define FILL_MAX      3660
#define FILL_SHRUNK   3380 /* and after it was made smaller */
#define FILL_SURE     3280 /* a little less than all shards together surely take */
#define FILL_DENSE                                                                                 \
    3600 /* more than so many find no place in a range of homes and what is behind it */

#define RETURN_ROWS 4 /* given back at a time: so long nobody can grow */

#define EXPIRES     UINT64_C(16) /* of an entry's word: see struct keydir_bucket */
#define COUNTER     UINT64_C(15)

static struct keydir_bucket *bucket_at(const struct keydir_shard *shard, uint32_t number)
{
    return shard->blocks + ((uint64_t)(number / BLOCK) << shard->row_shift) + number % BLOCK;
}

static uint32_t number_of(const struct keydir_shard *shard, const struct keydir_bucket *bucket)
{
    uint64_t distance = (uint64_t)(bucket - shard->blocks);
    return (uint32_t)(distance >> shard->row_shift) * BLOCK + (uint32_t)distance % BLOCK;
}

static void store_word(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static uint64_t load_word(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static uint32_t load_size(const _Atomic uint32_t *size)
{
    return atomic_load_explicit(size, memory_order_acquire);
}

static void store_size(_Atomic uint32_t *size, uint32_t value)
{
    atomic_store_explicit(size, value, memory_order_release);
}

static uint32_t scale(uint64_t tag, uint32_t size)
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

struct places {
    uint32_t home;
    uint32_t other;
};

static struct places places_of(const struct keydir_shard *shard, uint64_t tag)
{
    struct home home = home_of(shard, tag);
    return (struct places){.home = home.number, .other = other_of(home, tag)};
}

/* Which of the counters of its home is a tag's. */
static uint32_t counter_of(uint64_t tag)
{
    return (uint32_t)(tag >> 24 & 3);
}

static uint64_t counter(const struct keydir_bucket *home, uint64_t tag)
{
    return load_word(&home->words[counter_of(tag)]) & COUNTER;
}

/* A counter that reached 15 stays there until its bucket is moved: then it only costs a look. */
static void count_displaced(struct keydir_bucket *home, uint64_t tag, int change)
{
    uint64_t *word = &home->words[counter_of(tag)];
    if ((*word & COUNTER) != COUNTER)
        store_word(word, *word + (uint64_t)(int64_t)change);
}

static void forget_displaced(struct keydir_bucket *home)
{
    for (int i = 0; i < KEYDIR_ENTRIES; i++)
        store_word(&home->words[i], home->words[i] & ~COUNTER);
}

static bool same_tag(uint64_t word, uint64_t tag)
{
    return ((word ^ tag) & KEYDIR_TAG) == 0;
}

/* The expiries of a bucket's entries; only those of entries that have one mean anything. */
static uint32_t *expires_at(const struct keydir_shard *shard, uint32_t number)
{
    uint64_t block = number / EXPIRES_BLOCK;
    uint64_t row = block * (EXPIRES_BLOCK / BLOCK * KEYDIR_ENTRIES) << shard->row_shift;
    return shard->expires + row + number % EXPIRES_BLOCK * KEYDIR_ENTRIES;
}

static uint32_t *expires_of(const struct keydir_shard *shard, const struct keydir_bucket *bucket)
{
    return expires_at(shard, number_of(shard, bucket));
}

/* Memory that a bucket of the shard takes. */
static uint64_t bucket_bytes(const struct keydir_shard *shard)
{
    return shard->expiring ? LINE + EXPIRES_LINE : LINE;
}

/* Notes that a shard has, or is about to have, `size` buckets, with or without expiries: from now on their memory is not given
 * back. */
static void use_rows(struct keydir_shard *shard, uint64_t size, bool expiring)
{
    struct keydir *keydir = shard->keydir;
    uint32_t rows = (uint32_t)((size + BLOCK - 1) / BLOCK);
    uint32_t expires_rows = (uint32_t)((size + EXPIRES_BLOCK - 1) / EXPIRES_BLOCK);
    pthread_mutex_lock(&keydir->memory_lock);
    if (rows > keydir->rows_used)
        keydir->rows_used = rows;
    if (expiring && expires_rows > keydir->expires_rows_used)
        keydir->expires_rows_used = expires_rows;
    store_size(&shard->next_size, (uint32_t)size);
    shard->expiring = expiring;
    pthread_mutex_unlock(&keydir->memory_lock);
}

/* From now on, or until it has shrunk, the shard's expiries count. They are not asked whether there is room: what they take
 * too much the next growth does not find. */
static void set_expiring(struct keydir_shard *shard, bool expiring)
{
    uint32_t size = load_size(&shard->next_size);
    uint64_t bytes = (uint64_t)size * EXPIRES_LINE;
    shard->expiring_seen |= expiring;
    if (shard->expiring == expiring)
        return;
    use_rows(shard, size, expiring);
    if (expiring) {
        atomic_fetch_add(&shard->keydir->bytes, bytes);
        atomic_fetch_add(&shard->keydir->expiring_shards, 1);
    } else {
        atomic_fetch_sub(&shard->keydir->bytes, bytes);
        atomic_fetch_sub(&shard->keydir->expiring_shards, 1);
    }
}

/* Reserves address space for `size` bytes, from the start of a huge page on. */
static bool reserve(struct keydir *keydir, uint64_t size)
{
    keydir->arena_size = size + HUGE_PAGE;
    keydir->arena = mmap(NULL, keydir->arena_size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (keydir->arena == MAP_FAILED)
        return false;
    memory_leave_out(keydir->arena, keydir->arena_size);
    keydir->rows = (char *)(((uintptr_t)keydir->arena + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    return true;
}

bool keydir_init(struct keydir *keydir, uint32_t shard_count, uint64_t bytes_max)
{
    assert((shard_count & (shard_count - 1)) == 0);
    uint64_t row_size = shard_count * BLOCK * LINE;
    *keydir = (struct keydir){.shard_count = shard_count};
    /* Shards fill evenly, but not exactly: twice the share is never reached. A row of expiries is for four rows. */
    keydir->row_count = ((uint32_t)(2 * bytes_max / row_size) + 7) / 4 * 4;
    if (!reserve(keydir, keydir->row_count * row_size / 4 * 5))
        return false;
    keydir->expires = keydir->rows + keydir->row_count * row_size;
    keydir->shards = aligned_alloc(64, sizeof *keydir->shards * shard_count);
    if (!keydir->shards) {
        munmap(keydir->arena, keydir->arena_size);
        return false;
    }
    memset(keydir->shards, 0, sizeof *keydir->shards * shard_count);
    atomic_store(&keydir->bytes_max, bytes_max);
    pthread_mutex_init(&keydir->memory_lock, NULL);
    for (uint32_t i = 0; i < shard_count; i++) {
        struct keydir_shard *shard = &keydir->shards[i];
        pthread_mutex_init(&shard->lock, NULL);
        shard->stash = shard->own_stash;
        shard->stash_room = KEYDIR_STASH;
        atomic_store(&shard->expires_from_s, UINT32_MAX);
        shard->blocks = (struct keydir_bucket *)keydir->rows + (size_t)i * BLOCK;
        shard->row_shift = (uint32_t)__builtin_ctzll(row_size / LINE);
        shard->expires = (uint32_t *)keydir->expires + (size_t)i * EXPIRES_BLOCK * KEYDIR_ENTRIES;
        shard->keydir = keydir;
        store_size(&shard->size, SIZE_MIN + i % 11);
        use_rows(shard, SIZE_MIN + i % 11, false);
        store_size(&shard->frontier, NOT_RESIZED);
        atomic_fetch_add(&keydir->bytes, load_size(&shard->size) * LINE);
    }
    return true;
}

static void free_stash(struct keydir_shard *shard)
{
    if (shard->stash != shard->own_stash)
        free(shard->stash);
}

void keydir_release(struct keydir *keydir)
{
    for (uint32_t i = 0; i < keydir->shard_count; i++) {
        pthread_mutex_destroy(&keydir->shards[i].lock);
        free_stash(&keydir->shards[i]);
    }
    pthread_mutex_destroy(&keydir->memory_lock);
    free(keydir->shards);
    munmap(keydir->arena, keydir->arena_size);
}

uint64_t keydir_count(struct keydir *keydir)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < keydir->shard_count; i++) {
        struct keydir_shard *shard = &keydir->shards[i];
        keydir_lock(shard);
        count += shard->count;
        keydir_unlock(shard);
    }
    return count;
}

uint64_t keydir_capacity(const struct keydir *keydir)
{
    uint64_t expiring = atomic_load(&keydir->expiring_shards);
    uint64_t row =
        keydir->shard_count * LINE + expiring * EXPIRES_LINE; /* a bucket of each shard */
    return atomic_load(&keydir->bytes_max) / row * keydir->shard_count * FILL_SURE / 1000;
}

/* Buckets that a shard may have: rows bound them, and numbers of 32 bits. */
static uint64_t size_max(const struct keydir *keydir)
{
    uint64_t size = (uint64_t)keydir->row_count * BLOCK;
    return size < UINT32_MAX / 2 ? size : UINT32_MAX / 2;
}

static bool take_bytes(struct keydir *keydir, uint64_t bytes)
{
    uint64_t max = atomic_load_explicit(&keydir->bytes_max, memory_order_relaxed);
    if (atomic_fetch_add(&keydir->bytes, bytes) + bytes <= max)
        return true;
    atomic_fetch_sub(&keydir->bytes, bytes);
    return false;
}

void keydir_reserve(struct keydir *keydir, struct keydir_shard *shard, uint64_t count)
{
    uint64_t old = load_size(&shard->size);
    uint64_t size = count * 1000 / (FILL_MAX - 100) + 1;
    assert(shard->count == 0 && !shard->expiring && load_size(&shard->frontier) == NOT_RESIZED);
    if (size <= old || size > size_max(keydir) || !take_bytes(keydir, (size - old) * LINE))
        return;
    store_size(&shard->size, (uint32_t)size);
    use_rows(shard, size, false);
}

/* Lets the first `bytes` of an area lie in huge pages; *huge is what does so far. */
static void use_huge_pages(char *area, uint64_t *huge, uint64_t bytes)
{
    bytes &= ~(HUGE_PAGE - 1);
    if (bytes < *huge) /* they have shrunk: what is used again must not come huge */
        madvise(area + bytes, *huge - bytes, MADV_NOHUGEPAGE);
    if (bytes > *huge) {
        /* What is not there yet will come huge; what is there is moved. Refusals cost only speed. */
        madvise(area + *huge, bytes - *huge, MADV_HUGEPAGE);
        madvise(area + *huge, bytes - *huge, MADV_COLLAPSE);
    }
    *huge = bytes;
}

void keydir_use_huge_pages(struct keydir *keydir)
{
    uint64_t full = UINT64_MAX; /* buckets that all shards have */
    for (uint32_t i = 0; i < keydir->shard_count; i++) {
        uint64_t size = load_size(&keydir->shards[i].size);
        full = size < full ? size : full;
    }
    uint64_t row_size = keydir->shard_count * BLOCK * LINE;
    bool expiring = atomic_load(&keydir->expiring_shards) == keydir->shard_count;
    use_huge_pages(keydir->rows, &keydir->huge_bytes, full / BLOCK * row_size);
    use_huge_pages(keydir->expires, &keydir->huge_expires,
                   expiring ? full / EXPIRES_BLOCK * row_size : 0);
}

void keydir_prefetch(const struct keydir_shard *shard, uint64_t tag)
{
    __builtin_prefetch(bucket_at(shard, home_of(shard, tag).number));
}

void keydir_prefetch_other(const struct keydir_shard *shard, uint64_t tag)
{
    struct home home = home_of(shard, tag);
    const struct keydir_bucket *bucket = bucket_at(shard, home.number);
    bool full = true;
    for (int i = 0; i < KEYDIR_ENTRIES; i++)
        full = full && load_word(&bucket->locations[i]);
    if (full)
        __builtin_prefetch(bucket_at(shard, other_of(home, tag)));
}

static int index_of(const struct keydir_bucket *bucket, uint64_t tag)
{
    for (int i = 0; i < KEYDIR_ENTRIES; i++)
        if (same_tag(load_word(&bucket->words[i]), tag) && load_word(&bucket->locations[i]))
            return i;
    return -1;
}

static uint64_t peek(const struct keydir_shard *shard, const struct keydir_bucket *bucket,
                     uint64_t tag)
{
    int i = index_of(bucket, tag);
    if (i < 0)
        return 0;
    if (load_word(&bucket->words[i]) & EXPIRES)
        __builtin_prefetch(expires_of(shard, bucket));
    return load_word(&bucket->locations[i]);
}

uint64_t keydir_guess(const struct keydir_shard *shard, uint64_t tag, bool *elsewhere)
{
    struct home home = home_of(shard, tag);
    const struct keydir_bucket *bucket = bucket_at(shard, home.number);
    uint64_t location = peek(shard, bucket, tag);
    *elsewhere = !location && counter(bucket, tag);
    if (*elsewhere)
        __builtin_prefetch(bucket_at(shard, other_of(home, tag)));
    return location;
}

uint64_t keydir_guess_elsewhere(const struct keydir_shard *shard, uint64_t tag)
{
    return peek(shard, bucket_at(shard, other_of(home_of(shard, tag), tag)), tag);
}

static bool find_stashed(struct keydir_shard *shard, uint64_t tag, struct keydir_ref *ref,
                         struct keydir_entry *entry)
{
    for (uint32_t i = 0; i < shard->stash_count; i++)
        if (same_tag(shard->stash[i].tag, tag)) {
            *ref = (struct keydir_ref){.bucket = NULL, .index = i};
            *entry = shard->stash[i];
            return true;
        }
    return false;
}

static void put(struct keydir_shard *shard, struct keydir_bucket *bucket, uint32_t i,
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

static struct keydir_entry get(const struct keydir_shard *shard, const struct keydir_bucket *bucket,
                               uint32_t i)
{
    uint64_t word = load_word(&bucket->words[i]);
    struct keydir_entry entry = {.tag = word & KEYDIR_TAG,
                                 .location = load_word(&bucket->locations[i])};
    if (word & EXPIRES)
        entry.expire_s = __atomic_load_n(&expires_of(shard, bucket)[i], __ATOMIC_ACQUIRE);
    return entry;
}

/* Where the tag is in *bucket; -1: in none. */
static int search(const struct keydir_shard *shard, uint64_t tag, struct keydir_bucket **bucket)
{
    struct home home = home_of(shard, tag);
    *bucket = bucket_at(shard, home.number);
    int i = index_of(*bucket, tag);
    if (i < 0 && counter(*bucket, tag)) {
        *bucket = bucket_at(shard, other_of(home, tag));
        i = index_of(*bucket, tag);
    }
    return i;
}

bool keydir_find_optimistic(const struct keydir_shard *shard, uint64_t tag,
                            struct keydir_entry *entry, bool *present, uint64_t *mark_lsn)
{
    struct keydir_bucket *bucket;
    uint32_t version = atomic_load_explicit(&shard->version, memory_order_acquire);
    int i = search(shard, tag, &bucket);
    *present = i >= 0;
    if (*present)
        *entry = get(shard, bucket, (uint32_t)i);
    else if (load_size(&shard->stash_count))
        return false;
    *mark_lsn = atomic_load_explicit(&shard->mark_lsn, memory_order_acquire);
    return version % 2 == 0 &&
           version == atomic_load_explicit(&shard->version, memory_order_relaxed);
}

bool keydir_find(struct keydir_shard *shard, uint64_t tag, struct keydir_ref *ref,
                 struct keydir_entry *entry)
{
    struct keydir_bucket *bucket;
    int i = search(shard, tag, &bucket);
    if (i < 0)
        return shard->stash_count && find_stashed(shard, tag, ref, entry);
    *ref = (struct keydir_ref){.bucket = bucket, .index = (uint32_t)i};
    *entry = get(shard, bucket, (uint32_t)i);
    return true;
}

static int free_index(const struct keydir_bucket *bucket)
{
    for (int i = 0; i < KEYDIR_ENTRIES; i++)
        if (!bucket->locations[i])
            return i;
    return -1;
}

/* Puts an entry into bucket `where`, one of its two. */
static void settle(struct keydir_shard *shard, const struct keydir_entry *entry, uint32_t where,
                   uint32_t i)
{
    struct places places = places_of(shard, entry->tag);
    assert(where == places.home || where == places.other);
    put(shard, bucket_at(shard, where), i, entry);
    if (where != places.home)
        count_displaced(bucket_at(shard, places.home), entry->tag, 1);
}

/* Takes an entry out of bucket `where`. */
static struct keydir_entry lift(struct keydir_shard *shard, uint32_t where, uint32_t i)
{
    struct keydir_bucket *bucket = bucket_at(shard, where);
    struct keydir_entry entry = get(shard, bucket, i);
    struct places places = places_of(shard, entry.tag);
    store_word(&bucket->locations[i], 0);
    if (where != places.home)
        count_displaced(bucket_at(shard, places.home), entry.tag, -1);
    return entry;
}

/* One bucket of the search for a free place: reached because the entry at parent's `index` may move into it. */
struct step {
    uint32_t bucket;
    int16_t parent;
    uint16_t index;
};

/* Moves the entries along the path that ends at steps[at], whose bucket has a free place, and leaves one at its start. */
static void shift_along(struct keydir_shard *shard, const struct step *steps, int at, uint32_t hole,
                        const struct keydir_entry *entry)
{
    while (steps[at].parent >= 0) {
        int parent = steps[at].parent;
        struct keydir_entry moved = lift(shard, steps[parent].bucket, steps[at].index);
        settle(shard, &moved, steps[at].bucket, hole);
        hole = steps[at].index;
        at = parent;
    }
    settle(shard, entry, steps[at].bucket, hole);
}

/* Whether the path to steps[at] already goes through `bucket`: moving along a loop would lose the way. */
static bool on_path(const struct step *steps, int at, uint32_t bucket)
{
    for (; at >= 0; at = steps[at].parent)
        if (steps[at].bucket == bucket)
            return true;
    return false;
}

/* Looks for the nearest bucket with room from where entries can move up one by one. Buckets are looked at some steps after
 * their fetch began. */
static bool place_by_moving(struct keydir_shard *shard, const struct keydir_entry *entry,
                            struct places places)
{
    struct step steps[SEARCH_MAX];
    int count = 2;
    steps[0] = (struct step){.bucket = places.home, .parent = -1};
    steps[1] = (struct step){.bucket = places.other, .parent = -1};
    for (int at = 0; at < count; at++) {
        const struct keydir_bucket *bucket = bucket_at(shard, steps[at].bucket);
        int hole = free_index(bucket);
        if (hole >= 0) {
            shift_along(shard, steps, at, (uint32_t)hole, entry);
            return true;
        }
        for (uint16_t i = 0; i < KEYDIR_ENTRIES && count < SEARCH_MAX; i++) {
            struct places theirs = places_of(shard, bucket->words[i]);
            uint32_t to = theirs.home == steps[at].bucket ? theirs.other : theirs.home;
            if (on_path(steps, at, to))
                continue;
            __builtin_prefetch(bucket_at(shard, to));
            steps[count++] = (struct step){.bucket = to, .parent = (int16_t)at, .index = i};
        }
    }
    return false;
}

static bool place(struct keydir_shard *shard, const struct keydir_entry *entry)
{
    struct places places = places_of(shard, entry->tag);
    int i = free_index(bucket_at(shard, places.home));
    if (i >= 0) {
        put(shard, bucket_at(shard, places.home), (uint32_t)i, entry);
        return true;
    }
    i = free_index(bucket_at(shard, places.other));
    if (i >= 0) {
        put(shard, bucket_at(shard, places.other), (uint32_t)i, entry);
        count_displaced(bucket_at(shard, places.home), entry->tag, 1);
        return true;
    }
    return place_by_moving(shard, entry, places);
}

static bool place_or_stash(struct keydir_shard *shard, const struct keydir_entry *entry)
{
    if (place(shard, entry))
        return true;
    if (shard->stash_count >= KEYDIR_STASH)
        return false;
    shard->stash[shard->stash_count] = *entry;
    shard->stash[shard->stash_count++].tag &= KEYDIR_TAG;
    return true;
}

/* Resizing. */

static bool resized(const struct keydir_shard *shard)
{
    return load_size(&shard->frontier) != NOT_RESIZED;
}

static bool begin_growth(struct keydir *keydir, struct keydir_shard *shard)
{
    uint32_t size = load_size(&shard->size);
    uint64_t next = (uint64_t)size + size / 6 + 1;
    if (next > size_max(keydir) || !take_bytes(keydir, (next - size) * bucket_bytes(shard)))
        return false;
    use_rows(shard, next, shard->expiring);
    store_size(&shard->frontier, size);
    shard->inserts = 0;
    return true;
}

/* What a step moves: the entries whose homes, in the smaller size, are [from, to). Before it they lie in `span` buckets from `start`
 * on, wrapped at `end`. */
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

/* Takes the entries of a range out of their buckets. */
static uint32_t gather(struct keydir_shard *shard, const struct range *range,
                       struct keydir_entry *entries)
{
    uint32_t count = 0;
    for (uint32_t k = 0; k < range->span; k++) {
        uint32_t where = bucket_in_range(range, k);
        const struct keydir_bucket *bucket = bucket_at(shard, where);
        for (uint32_t i = 0; i < KEYDIR_ENTRIES; i++)
            if (bucket->locations[i] && is_in_range(shard, range, bucket->words[i]))
                entries[count++] = lift(shard, where, i);
    }
    return count;
}

static uint32_t count_range(const struct keydir_shard *shard, const struct range *range)
{
    uint32_t count = 0;
    for (uint32_t k = 0; k < range->span; k++) {
        const struct keydir_bucket *bucket = bucket_at(shard, bucket_in_range(range, k));
        for (uint32_t i = 0; i < KEYDIR_ENTRIES; i++)
            count += bucket->locations[i] && is_in_range(shard, range, bucket->words[i]);
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
        free_stash(shard);
        shard->stash = entries;
        shard->stash_room = stashed + count;
    }
    shard->stash_count += count;
}

/* Places the gathered entries; `entries` is given away. */
static void place_all(struct keydir_shard *shard, struct keydir_entry *entries, uint32_t count)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!place(shard, &entries[i]))
            entries[left++] = entries[i];
    stash_all(shard, entries, left);
}

static void retry_stash(struct keydir_shard *shard)
{
    for (uint32_t i = shard->stash_count; i-- > 0;)
        if (place(shard, &shard->stash[i]))
            shard->stash[i] = shard->stash[--shard->stash_count];
    if (shard->stash == shard->own_stash || shard->stash_count > KEYDIR_STASH)
        return;
    memcpy(shard->own_stash, shard->stash, shard->stash_count * sizeof *shard->stash);
    free_stash(shard);
    shard->stash = shard->own_stash;
    shard->stash_room = KEYDIR_STASH;
}

static void end_growth(struct keydir_shard *shard)
{
    store_size(&shard->size, load_size(&shard->next_size));
    store_size(&shard->frontier, NOT_RESIZED);
}

/* False: no memory, and nothing has moved. */
static bool grow_step(struct keydir_shard *shard)
{
    uint32_t size = load_size(&shard->size), to = load_size(&shard->frontier);
    struct range range = {.to = to, .from = to > GROW_STEP ? to - GROW_STEP : 0, .end = size};
    range.start = range.from;
    range.span = to - range.from + WINDOW < size ? to - range.from + WINDOW : size;
    struct keydir_entry *entries = to > 0 ? new_gathering(shard) : NULL;
    if (to > 0 && !entries)
        return false;
    if (to > 0) {
        uint32_t count = gather(shard, &range, entries);
        for (uint32_t home = range.from; home < to; home++)
            forget_displaced(bucket_at(shard, home));
        store_size(&shard->frontier, range.from);
        place_all(shard, entries, count);
    }
    if (range.from == 0)
        end_growth(shard);
    retry_stash(shard);
    return true;
}

static bool full(const struct keydir_shard *shard)
{
    return (uint64_t)shard->count * 1000 >= (uint64_t)load_size(&shard->size) * FILL_MAX;
}

/* The size that a shard should shrink to now, or 0. Far down it goes in several passes, of which the last one meets the size that
 * is wanted. */
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

static void begin_shrink(struct keydir_shard *shard, uint32_t size)
{
    shard->shrinking = true;
    shard->expiring_seen = false;
    store_size(&shard->size, size);
    store_size(&shard->frontier, 0);
}

/* The shard goes back to the larger size, and does not try this one again before it has lost more entries. */
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

/* The first home in the larger size of the tags that are at home in `home`, or behind it, in the smaller one. */
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

static bool is_too_dense(const struct range *range, uint32_t count)
{
    return (uint64_t)count * 1000 > (uint64_t)(range->to - range->from + WINDOW / 2) * FILL_DENSE;
}

/* False: no memory, and nothing has moved. */
static bool shrink_step(struct keydir_shard *shard)
{
    struct range range = next_shrunk(shard);
    if (is_too_dense(&range, count_range(shard, &range))) {
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
    place_all(shard, entries, count);
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
        return grow_step(shard);
    begin_shrink(shard, size);
    return true;
}

/* Rows behind the last that a shard has. With memory_lock held: so no shard begins to grow. */
static uint32_t rows_needed(const struct keydir *keydir, uint32_t block, bool expiring)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < keydir->shard_count; i++) {
        const struct keydir_shard *shard = &keydir->shards[i];
        uint32_t size = load_size(&shard->next_size);
        if (size > most && (!expiring || shard->expiring))
            most = size;
    }
    return (most + block - 1) / block;
}

static bool return_rows(struct keydir *keydir, char *area, uint32_t *used, uint32_t needed)
{
    uint64_t row_size = (uint64_t)keydir->shard_count * BLOCK * LINE;
    uint32_t rows = *used > needed ? *used - needed : 0;
    rows = rows < RETURN_ROWS ? rows : RETURN_ROWS;
    if (rows == 0)
        return false;
    *used -= rows;
    madvise(area + *used * row_size, rows * row_size, MADV_DONTNEED);
    return *used > needed;
}

bool keydir_return_memory(struct keydir *keydir)
{
    pthread_mutex_lock(&keydir->memory_lock);
    bool more =
        return_rows(keydir, keydir->rows, &keydir->rows_used, rows_needed(keydir, BLOCK, false));
    more |= return_rows(keydir, keydir->expires, &keydir->expires_rows_used,
                        rows_needed(keydir, EXPIRES_BLOCK, true));
    pthread_mutex_unlock(&keydir->memory_lock);
    return more;
}

bool keydir_has_room(struct keydir *keydir, struct keydir_shard *shard)
{
    bool is_full = full(shard);
    /* A stash in use means bad luck or a late growth: hurry. */
    if (shard->shrinking && (is_full || shard->stash_count > KEYDIR_STASH / 2))
        shard->shrinking = false;
    if (!resized(shard) && is_full && !begin_growth(keydir, shard))
        return false;
    while (shard->stash_count > KEYDIR_STASH / 2)
        if (!(resized(shard) ? grow_step(shard) : begin_growth(keydir, shard)))
            return shard->stash_count < KEYDIR_STASH;
    return true;
}

static void note_expiry(struct keydir_shard *shard, uint32_t expire_s)
{
    if (expire_s && expire_s < atomic_load_explicit(&shard->expires_from_s, memory_order_relaxed))
        atomic_store_explicit(&shard->expires_from_s, expire_s, memory_order_relaxed);
}

bool keydir_insert(struct keydir *keydir, struct keydir_shard *shard,
                   const struct keydir_entry *entry)
{
    assert(entry->location);
    if (!keydir_has_room(keydir, shard) || !place_or_stash(shard, entry))
        return false;
    shard->count++;
    note_expiry(shard, entry->expire_s);
    if (resized(shard) && !shard->shrinking &&
        (++shard->inserts % GROW_EVERY == 0 || shard->stash_count))
        grow_step(shard);
    return true;
}

void keydir_set(struct keydir_shard *shard, struct keydir_ref ref, uint64_t location,
                uint32_t expire_s)
{
    assert(location);
    note_expiry(shard, expire_s);
    if (!ref.bucket) {
        shard->stash[ref.index].location = location;
        shard->stash[ref.index].expire_s = expire_s;
        return;
    }
    const struct keydir_entry entry = {
        .tag = ref.bucket->words[ref.index], .location = location, .expire_s = expire_s};
    put(shard, ref.bucket, ref.index, &entry);
}

void keydir_remove(struct keydir_shard *shard, struct keydir_ref ref)
{
    shard->count--;
    if (ref.bucket)
        lift(shard, number_of(shard, ref.bucket), ref.index);
    else
        shard->stash[ref.index] = shard->stash[--shard->stash_count];
}

/* A scan of the entries with tags from `first` to `last`. */
struct scan {
    struct keydir_shard *shard;
    uint64_t first, last;
    bool (*visit)(void *context, struct keydir_entry *entry);
    void *context;
};

static bool is_scanned(const struct scan *scan, uint64_t word)
{
    uint64_t tag = word & KEYDIR_TAG;
    return tag >= scan->first && tag <= scan->last;
}

static void scan_entry(const struct scan *scan, struct keydir_ref ref, struct keydir_entry entry)
{
    struct keydir_entry before = entry;
    if (!scan->visit(scan->context, &entry))
        keydir_remove(scan->shard, ref);
    else if (entry.location != before.location || entry.expire_s != before.expire_s)
        keydir_set(scan->shard, ref, entry.location, entry.expire_s);
}

static void scan_buckets(const struct scan *scan, uint32_t from, uint32_t to)
{
    for (uint32_t where = from; where < to; where++) {
        struct keydir_bucket *bucket = bucket_at(scan->shard, where);
        for (uint32_t i = 0; i < KEYDIR_ENTRIES; i++)
            if (bucket->locations[i] && is_scanned(scan, bucket->words[i]))
                scan_entry(scan, (struct keydir_ref){.bucket = bucket, .index = i},
                           get(scan->shard, bucket, i));
    }
}

static void scan_stash(const struct scan *scan)
{
    struct keydir_shard *shard = scan->shard;
    for (uint32_t i = shard->stash_count; i-- > 0;)
        if (is_scanned(scan, shard->stash[i].tag))
            scan_entry(scan, (struct keydir_ref){.bucket = NULL, .index = i}, shard->stash[i]);
}

/* The last tag of a range from `first` on that as many as `buckets` buckets hold. */
static uint64_t last_of(const struct keydir_shard *shard, uint64_t first, uint32_t buckets)
{
    uint32_t size = load_size(&shard->next_size);
    uint64_t width = buckets < size ? UINT64_MAX / size * buckets : UINT64_MAX;
    return width < UINT64_MAX - first ? first + width : UINT64_MAX;
}

/* Homes keep the order of tags, while they are resized too, and other buckets lie at most WINDOW behind: so looks from the first
 * home to the last and behind it, and then at those that were wrapped to the start, at either size. */
static void scan_range(const struct scan *scan)
{
    uint32_t size = load_size(&scan->shard->size), next_size = load_size(&scan->shard->next_size);
    uint32_t from = home_of(scan->shard, scan->first).number;
    uint32_t to = home_of(scan->shard, scan->last).number + 1 + WINDOW;
    uint32_t wrapped = to > size ? to - size : 0;
    scan_buckets(scan, from, to < next_size ? to : next_size);
    scan_buckets(scan, 0, wrapped < from ? wrapped : from);
    scan_stash(scan);
}

bool keydir_scan(struct keydir_shard *shard, uint64_t *cursor, uint32_t buckets,
                 bool (*visit)(void *context, struct keydir_entry *entry), void *context)
{
    struct scan scan = {.shard = shard,
                        .first = *cursor,
                        .last = last_of(shard, *cursor, buckets),
                        .visit = visit,
                        .context = context};
    scan_range(&scan);
    *cursor = scan.last + 1;
    return scan.last < UINT64_MAX;
}

/* Without the lock, so what it reads may be anything. */
static void prefetch_items(const struct keydir_shard *shard, uint32_t from, uint32_t to)
{
    for (uint32_t where = from; where < to; where++)
        for (uint32_t i = 0; i < KEYDIR_ENTRIES; i++) {
            uint64_t location = load_word(&bucket_at(shard, where)->locations[i]);
            if (location_in_ram(location))
                __builtin_prefetch(location_item(location));
        }
}

/* Fetches what the visits of a scan will look at, most of all items in RAM, before the lock is taken: with it held, each would be
 * waited for. */
static void prefetch_range(const struct scan *scan)
{
    uint32_t next_size = load_size(&scan->shard->next_size);
    uint32_t from = home_of(scan->shard, scan->first).number;
    uint32_t to = home_of(scan->shard, scan->last).number + 1 + WINDOW;
    prefetch_items(scan->shard, from, to < next_size ? to : next_size);
}

bool keydir_scan_all(struct keydir *keydir, uint64_t *cursor, void (*rest)(void *context),
                     bool (*visit)(void *context, struct keydir_entry *entry), void *context)
{
    struct scan scan = {.first = *cursor,
                        .last = last_of(&keydir->shards[0], *cursor, SCAN_STEP),
                        .visit = visit,
                        .context = context};
    for (uint32_t i = 0; i < keydir->shard_count; i++) {
        scan.shard = &keydir->shards[i];
        prefetch_range(&scan);
        keydir_lock(scan.shard);
        scan_range(&scan);
        keydir_unlock(scan.shard);
        if (rest)
            rest(context);
    }
    *cursor = scan.last + 1;
    return scan.last < UINT64_MAX;
}

void keydir_check(struct keydir_shard *shard)
{
    uint32_t size = load_size(&shard->next_size);
    uint32_t count = shard->stash_count;
    uint8_t(*displaced)[KEYDIR_ENTRIES] = calloc(size, sizeof *displaced);
    assert(displaced);
    for (uint32_t where = 0; where < size; where++)
        for (uint32_t i = 0; i < KEYDIR_ENTRIES; i++) {
            struct keydir_bucket *bucket = bucket_at(shard, where);
            if (!bucket->locations[i])
                continue;
            struct places places = places_of(shard, bucket->words[i]);
            assert(where == places.home || where == places.other); /* K1 */
            if (where != places.home)
                displaced[places.home][counter_of(bucket->words[i])]++;
            count++;
        }
    for (uint32_t home = 0; home < size; home++)
        for (uint32_t k = 0; k < KEYDIR_ENTRIES; k++) {
            uint64_t value = bucket_at(shard, home)->words[k] & COUNTER;
            assert(value == COUNTER || value == displaced[home][k]); /* K2 */
        }
    assert(count == shard->count); /* K4 */
    free(displaced);
}
