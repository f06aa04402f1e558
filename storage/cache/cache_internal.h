/* cache_internal.h: pages and items, for the files of the cache; others use cache.h.
 *
 * cache.c has the items, cache_pages.c the pages, and cache_evict.c decides who stays.
 */
#ifndef CACHECASK_STORAGE_CACHE_CACHE_INTERNAL_H
#define CACHECASK_STORAGE_CACHE_CACHE_INTERNAL_H

#include "storage/cache/cache.h"

#define FETCH_AHEAD 1024 /* bytes */

/* Queues of pages; with the lock held. */
void cache_push(struct cache_queue *queue, struct cache_page *page);
struct cache_page *cache_pop(struct cache_queue *queue); /* NULL: it is empty */
void cache_unlink(struct cache_page *page);

/* Pages that the evictor keeps free; the last is for itself. */
uint32_t cache_free_target(const struct cache *cache);

/* Whether the evictor has something to do. With the lock held. */
bool cache_has_work(const struct cache *cache);

/* NULL: none is free. Workers leave the last page to the evictor: a new value that finds none is on
 * disk, but a visited item that cannot move to main is a hot one lost. */
struct cache_page *cache_take_page(struct cache *cache, bool for_main);

/* Hands in the page of a writer, to one of the queues that are evicted. */
void cache_close_writer(struct cache *cache, struct cache_writer *writer,
                        struct cache_queue *queue);

/* Pages in limbo whose readers have left become free. With the lock held. */
void cache_free_limbo(struct cache *cache);

/* A page with new memory, touched here, not in a worker. With the lock held, let go meanwhile. */
struct cache_page *cache_touch_page(struct cache *cache);

/* Puts one more page to use. With the lock held, let go meanwhile. */
bool cache_add_page(struct cache *cache);

/* Gives pages beyond the limit back to the system, if nothing is in them. With the lock held. */
void cache_return_pages(struct cache *cache);

/* A page of which three quarters are dead: to clear it costs less than the memory of a new one. It
 * need not be an old one: where some keys are written again and again, their newer pages wear. So
 * the search goes round, and looks at some pages each time. NULL: none. With the lock held. */
struct cache_page *cache_take_worn_page(struct cache *cache);

/* Whether a page in limbo waits only for readers, which leave soon. With the lock held. */
bool cache_limbo_ends_soon(const struct cache *cache);

/* Of items whose bits are these. */
static inline uint32_t size_of(uint32_t bits)
{
    uint32_t lengths = (bits & UINT8_MAX) + (bits >> 8 & CACHE_ITEM_VALUE_LEN_MAX);
    return (uint32_t)(CACHE_ITEM_HEADER_SIZE + lengths + 7) & ~7u;
}

static inline uint32_t item_size(const struct cache_item *item)
{
    return size_of(cache_item_bits(item));
}

/* Fetches memory for items to come: else whatever waits for all stores, like the next lock of a
 * shard, waits for lines that no cache has. In long items the processor sees what comes next. */
static inline void fetch_ahead(char *next, uint32_t size)
{
    for (uint32_t at = 0; at < size && at < FETCH_AHEAD; at += 64)
        __builtin_prefetch(next + FETCH_AHEAD + at, 1);
}

static inline struct cache_item *alloc_in(struct cache *cache, struct cache_writer *writer,
                                          struct cache_queue *queue, uint32_t bits)
{
    uint32_t size = size_of(bits);
    if (!writer->page || writer->page->used + size > cache->page_size) {
        cache_close_writer(cache, writer, queue);
        writer->page = cache_take_page(cache, queue == &cache->main);
        if (!writer->page)
            return NULL;
    }
    struct cache_item *item = (struct cache_item *)(writer->page->data + writer->page->used);
    writer->page->used += size;
    writer->last = item;
    fetch_ahead((char *)item + size, size);
    atomic_store_explicit(&item->bits, bits, memory_order_relaxed);
    return item;
}

#endif
