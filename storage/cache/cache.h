/* cache.h: hot values in RAM: pages filled from front to back and evicted whole. See cache.c.
 *
 * All of it is also in the log: to forget an item only turns its keydir entry back to the disk.
 */
#ifndef CACHECASK_STORAGE_CACHE_CACHE_H
#define CACHECASK_STORAGE_CACHE_CACHE_H

#include <stddef.h>

#include "storage/index/keydir.h"

/* A value in RAM. Written by its maker before the keydir points to it; after that only `location`
 * changes, under the lock of the key's shard, and what a get notes (cache_item_note_access). */
struct cache_item {
    /* Where the record lies in the log; 0: dead, its key has a newer value or none */
    uint64_t location;
    uint64_t cas;
    _Atomic uint32_t accessed_s;
    uint32_t client_flags;
    _Atomic uint32_t bits; /* 0…7 length of the key, 8…27 of the value, 28…30 state, 31 fetched */
    char key[];            /* and the value right behind it */
};

#define CACHE_ITEM_HEADER_SIZE   offsetof(struct cache_item, key)
#define CACHE_ITEM_VALUE_LEN_MAX ((1u << 20) - 1)
#define CACHE_ITEM_STATE_MAX     7u
#define CACHE_ITEM_FETCHED       (1u << 31) /* a get has hit it since it was stored */

_Static_assert(CACHE_ITEM_HEADER_SIZE == 28, "an item costs 28 bytes over key and value");

static inline uint32_t cache_item_bits(const struct cache_item *item)
{
    return atomic_load_explicit(&item->bits, memory_order_relaxed);
}

static inline uint8_t cache_item_key_len(const struct cache_item *item)
{
    return (uint8_t)cache_item_bits(item);
}

static inline uint32_t cache_item_value_len(const struct cache_item *item)
{
    return cache_item_bits(item) >> 8 & CACHE_ITEM_VALUE_LEN_MAX;
}

static inline uint16_t cache_item_state(const struct cache_item *item)
{
    return cache_item_bits(item) >> 28 & CACHE_ITEM_STATE_MAX;
}

static inline bool cache_item_fetched(const struct cache_item *item)
{
    return cache_item_bits(item) & CACHE_ITEM_FETCHED;
}

static inline const char *cache_item_value(const struct cache_item *item)
{
    return item->key + cache_item_key_len(item);
}

static inline uint32_t cache_item_accessed_s(const struct cache_item *item)
{
    return atomic_load_explicit(&item->accessed_s, memory_order_relaxed);
}

static inline void cache_item_set_accessed(struct cache_item *item, uint32_t now_s)
{
    atomic_store_explicit(&item->accessed_s, now_s, memory_order_relaxed);
}

static inline void cache_item_set_fetched(struct cache_item *item)
{
    uint32_t bits = cache_item_bits(item) | CACHE_ITEM_FETCHED; /* no other bit ever changes */
    atomic_store_explicit(&item->bits, bits, memory_order_relaxed);
}

/* A hit, writing only what changes: the line is shared with everybody who reads the item. */
static inline void cache_item_note_access(struct cache_item *item, uint32_t now_s)
{
    if (cache_item_accessed_s(item) != now_s)
        cache_item_set_accessed(item, now_s);
    if (!cache_item_fetched(item))
        cache_item_set_fetched(item);
}

struct cache_page {
    char *data;
    uint32_t used;
    atomic_uint pins; /* replies being sent from it */
    atomic_uint dead; /* bytes of items that were overwritten or deleted */
    bool in_main;     /* its items were visited in probation, or got a second chance */
    uint64_t retired; /* reclaim epoch of its eviction: readers that entered before may look */
    struct cache_queue *queue; /* NULL: in none */
    struct cache_page *next, *previous;
};

struct cache_queue {
    struct cache_page *head, *tail;
    uint32_t count;
};

/* A page being filled by one thread. */
struct cache_writer {
    struct cache_page *page; /* NULL: none */
    struct cache_item *last; /* the newest allocation */
};

struct cache_hash { /* how to find an item's entry again */
    uint64_t seed;
    uint32_t shard_mask;
};

struct cache {
    struct keydir *keydir;
    struct cache_hash hash;
    char *arena;
    size_t arena_size;
    uint32_t page_size, page_shift; /* 2^page_shift */
    uint32_t page_max;              /* pages that the arena has room for */
    struct cache_page *pages;

    _Alignas(64) pthread_mutex_t lock; /* the queues; under it only what oldest_reader takes */
    pthread_cond_t work;               /* the evictor waits */
    struct cache_queue free, probation, main, limbo;
    uint32_t page_limit;         /* pages that may be in use or free */
    uint32_t page_count;         /* pages that are */
    uint32_t unborn;             /* index of the first page never used */
    uint32_t worn_at;            /* index where the search for worn pages goes on */
    struct cache_queue returned; /* pages whose memory was given back */
    struct cache_queue ahead;    /* pages whose memory was touched and is not in use yet */
    bool stopping;
    pthread_t evictor;
    bool started;

    uint64_t (*oldest_reader)(void *context); /* epoch before which no reader is left */
    uint64_t (*retire)(void *context);        /* ends an epoch: answers its number */
    void *context;

    struct cache_writer main_writer; /* the evictor's */
    uint32_t items;                  /* of the page that it evicts */
    uint32_t visited, unvisited;     /* of these, without the small ones */
    double stale;     /* share of the unvisited in the main pages that it evicted lately */
    double mean_size; /* of the items in the probation pages that it evicted lately */
    uint32_t random;
    _Atomic uint64_t evicted_items, kept_items;
};

/* Makes a cache of at most memory_max bytes ever, with pages for about `memory` bytes; it starts
 * with room for none: cache_set_limit. False: no memory. */
bool cache_init(struct cache *cache, struct keydir *keydir, struct cache_hash hash, uint64_t memory,
                uint64_t memory_max);
void cache_release(struct cache *cache);

/* The evictor thread; `oldest_reader` and `retire` tell it when readers have left a page. */
bool cache_start(struct cache *cache, uint64_t (*oldest_reader)(void *context),
                 uint64_t (*retire)(void *context), void *context);
void cache_stop(struct cache *cache);

/* From now on the cache takes at most `bytes`; the rest goes in the background. Any thread. */
void cache_set_limit(struct cache *cache, uint64_t bytes);

/* Whether a value of such size is cached at all. */
static inline bool cache_takes(const struct cache *cache, uint32_t key_len, uint64_t value_len)
{
    return CACHE_ITEM_HEADER_SIZE + key_len + value_len + 8 <= cache->page_size / 2;
}

/* Room for an item that cache_takes, with its lengths and its state set (of enum record_state), not
 * fetched; NULL when no page is free: then the value is just not cached. It must be indexed or
 * given back before the writer's next allocation. */
struct cache_item *cache_alloc(struct cache *cache, struct cache_writer *writer, uint8_t key_len,
                               uint32_t value_len, uint16_t state);

/* Gives back the newest allocation, which nobody else has seen. */
void cache_unalloc(struct cache_writer *writer, struct cache_item *item);

/* Hands in the page that a writer has begun; the writer may go on. */
void cache_writer_close(struct cache *cache, struct cache_writer *writer);

/* Keeps the page of an item that a reader may see until cache_unpin. */
struct cache_page *cache_pin(struct cache *cache, const void *address);

/* The key of an item has a newer value or none, or will have before the lock of its shard is let
 * go, which the caller holds: its bytes are dead. */
void cache_mark_dead(const struct cache *cache, struct cache_item *item);

static inline void cache_unpin(struct cache_page *page)
{
    atomic_fetch_sub_explicit(&page->pins, 1, memory_order_release);
}

/* Bytes of memory that the cache takes, touched ahead included; *pages: those in use or free. */
uint64_t cache_bytes(struct cache *cache, uint64_t *pages);

#endif
