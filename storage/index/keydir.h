/* keydir.h: where is a key? The index of all keys, in memory. See keydir.c for how it is built.
 *
 * A key is known by 67 bits of its hash: 8 choose one of 256 shards, 59 are kept of the tag
 * (KEYDIR_TAG). Each shard has a lock; functions of a shard want it held, except keydir_prefetch,
 * keydir_guess and their variants, and keydir_find_optimistic.
 */
#ifndef CACHECASK_STORAGE_INDEX_KEYDIR_H
#define CACHECASK_STORAGE_INDEX_KEYDIR_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define KEYDIR_STASH   16
#define KEYDIR_ENTRIES 4               /* in a bucket */
#define KEYDIR_TAG     (~UINT64_C(31)) /* the bits of a tag that are kept */

struct keydir_entry {
    uint64_t tag;
    uint64_t location; /* location.h; 0: no entry */
    uint32_t expire_s; /* absolute, 0 for never */
};

struct keydir_bucket {
    /* Of each word the high 59 bits are the tag. Bit 4: the entry expires, and its expiry lies
     * beside the buckets. The low 4 bits are the bucket's own: a counter of entries at home here
     * that live elsewhere, for each two bits of the tag. */
    uint64_t words[KEYDIR_ENTRIES];
    uint64_t locations[KEYDIR_ENTRIES];
};

_Static_assert(sizeof(struct keydir_bucket) == 64, "a bucket is a cache line");

/* The first cache line says where a bucket is: it seldom changes, is read without the lock, and all
 * processors can hold it. The next one is written by each that takes the lock. */
struct keydir_shard {
    _Alignas(64) struct keydir_bucket *blocks; /* its first block, in the first row: see keydir.c */
    uint32_t *expires; /* of its first blocks' entries, in the first row of expiries */
    struct keydir *keydir;
    uint32_t row_shift;         /* from a block to the shard's next one: 2^row_shift buckets */
    _Atomic uint32_t size;      /* buckets; while it is resized, the smaller number of them */
    _Atomic uint32_t next_size; /* and the larger; equal to size when it is not resized */
    _Atomic uint32_t frontier;  /* homes from here on are counted in next_size (K3) */
    bool shrinking;             /* the frontier moves up, to the end of a resize; else down */
    bool expiring;              /* an entry has had an expiry: memory for these is counted */
    bool expiring_seen;         /* since the shrink began */
    _Alignas(64) pthread_mutex_t lock;
    /* The end of the last record that took a key of the shard away or changed its expiry. */
    _Atomic uint64_t mark_lsn;
    _Atomic uint32_t version; /* odd while the lock is held: see keydir_find_optimistic */
    uint32_t count;           /* entries, the stash's included */
    uint32_t inserts;         /* since the growth began */
    _Atomic uint32_t stash_count;
    /* No entry expires before that second; UINT32_MAX: none does. Inserts and changes lower it, and
     * a scan that has seen all entries may raise it. */
    _Atomic uint32_t expires_from_s;
    uint32_t dense_size, dense_count; /* to so few buckets it did not shrink with so many entries */
    struct keydir_entry *stash;       /* entries that found no bucket; nearly always empty */
    uint32_t stash_room;              /* KEYDIR_STASH, and more after an unlucky resize */
    struct keydir_entry own_stash[KEYDIR_STASH];
};

struct keydir {
    struct keydir_shard *shards;
    uint32_t shard_count; /* a power of two */
    uint32_t row_count;   /* rows that there is address space for */
    char *arena, *rows, *expires;
    size_t arena_size;
    uint64_t huge_bytes;   /* of the rows, from the first on, that were asked into huge pages */
    uint64_t huge_expires; /* and of the rows of expiries */
    pthread_mutex_t memory_lock;           /* of the next two; taken last */
    uint32_t rows_used, expires_rows_used; /* that may hold memory */
    _Atomic uint32_t expiring_shards;
    _Atomic uint64_t bytes;     /* of all buckets in use, and of expiries in shards with some */
    _Atomic uint64_t bytes_max; /* no shard grows beyond this in sum */
};

/* Where an entry lies; good until the shard changes. */
struct keydir_ref {
    struct keydir_bucket *bucket; /* NULL: in the stash */
    uint32_t index;
};

/* Makes an empty keydir of at most `bytes_max`, but for its smallest size. False: no memory. */
bool keydir_init(struct keydir *keydir, uint32_t shard_count, uint64_t bytes_max);
void keydir_release(struct keydir *keydir);

/* Makes room for `count` entries in an empty shard at once. A hint: no error. */
void keydir_reserve(struct keydir *keydir, struct keydir_shard *shard, uint64_t count);

/* Moves what all shards have filled into huge pages, if there are any; one thread, no lock. */
void keydir_use_huge_pages(struct keydir *keydir);

static inline void keydir_lock(struct keydir_shard *shard)
{
    pthread_mutex_lock(&shard->lock);
    uint32_t version = atomic_load_explicit(&shard->version, memory_order_relaxed);
    atomic_store_explicit(&shard->version, version + 1, memory_order_relaxed);
}

static inline void keydir_unlock(struct keydir_shard *shard)
{
    uint32_t version = atomic_load_explicit(&shard->version, memory_order_relaxed);
    atomic_store_explicit(&shard->version, version + 1, memory_order_release);
    pthread_mutex_unlock(&shard->lock);
}

/* Fetches the line where `tag` is at home; without the lock. */
void keydir_prefetch(const struct keydir_shard *shard, uint64_t tag);

/* After that, ahead of an insert: fetches its other bucket too, if its home is full. */
void keydir_prefetch_other(const struct keydir_shard *shard, uint64_t tag);

/* What may be the location of `tag`, or 0; without the lock, so only good for a prefetch.
 * *elsewhere: it may be in its other bucket, which is being fetched now and can be asked later. */
uint64_t keydir_guess(const struct keydir_shard *shard, uint64_t tag, bool *elsewhere);
uint64_t keydir_guess_elsewhere(const struct keydir_shard *shard, uint64_t tag);

/* Looks a tag up without the lock (keydir.c). False: somebody had the lock meanwhile, or the stash
 * is in use. True: *present, then *entry, and *mark_lsn were so at one moment of the call. */
bool keydir_find_optimistic(const struct keydir_shard *shard, uint64_t tag,
                            struct keydir_entry *entry, bool *present, uint64_t *mark_lsn);

/* A record that ends at `lsn` has taken a key of the shard away, or changed its expiry. */
static inline void keydir_note_mark(struct keydir_shard *shard, uint64_t lsn)
{
    if (lsn > atomic_load_explicit(&shard->mark_lsn, memory_order_relaxed))
        atomic_store_explicit(&shard->mark_lsn, lsn, memory_order_release);
}

/* True when the tag is there: *entry is a copy, *ref its place. */
bool keydir_find(struct keydir_shard *shard, uint64_t tag, struct keydir_ref *ref,
                 struct keydir_entry *entry);

/* Whether the shard takes one more entry, growing if need be: asked before writing its record. */
bool keydir_has_room(struct keydir *keydir, struct keydir_shard *shard);

/* Adds an entry whose tag is absent. False: no room, which keydir_has_room rules out. */
bool keydir_insert(struct keydir *keydir, struct keydir_shard *shard,
                   const struct keydir_entry *entry);

/* Takes one step, of some ten microseconds, towards a smaller shard, if it is half empty, or if the
 * keydir is larger than bytes_max and there is anything to gain. True: there is more to do, after
 * others had their turn. A shard too dense for the smaller size goes back to the larger one, and
 * inserts may turn a shrink into a growth at any time. */
bool keydir_shrink(struct keydir *keydir, struct keydir_shard *shard);

/* Returns a few MiB of unused memory to the system, without locks. True: there is more. */
bool keydir_return_memory(struct keydir *keydir);

void keydir_set(struct keydir_shard *shard, struct keydir_ref ref, uint64_t location,
                uint32_t expire_s);
void keydir_remove(struct keydir_shard *shard, struct keydir_ref ref);

/* Calls visit for the entries of a range of tags, from *cursor on as many as `buckets` buckets
 * hold, and moves *cursor; visit answers whether the entry stays, and may change its location and
 * expiry. Returns false when the shard is done, and *cursor is 0 again, with which a scan starts. A
 * scan in several calls sees every entry that stays, once, whatever moves in between. */
bool keydir_scan(struct keydir_shard *shard, uint64_t *cursor, uint32_t buckets,
                 bool (*visit)(void *context, struct keydir_entry *entry), void *context);

/* The same for one small range of tags in each of all shards, taking each lock in turn: a client
 * that waits for one gets it before the next call. After each shard it calls rest, if not NULL. */
bool keydir_scan_all(struct keydir *keydir, uint64_t *cursor, void (*rest)(void *context),
                     bool (*visit)(void *context, struct keydir_entry *entry), void *context);

/* All entries of all shards; takes each lock in turn. */
uint64_t keydir_count(struct keydir *keydir);

/* Entries that surely fit into bytes_max, when as many as now have an expiry. */
uint64_t keydir_capacity(const struct keydir *keydir);

/* Aborts when the shard breaks K1 to K4 (storage/README.md). For debug builds and tests. */
void keydir_check(struct keydir_shard *shard);

#endif
