/* cache.c: the items of the cache: allocated in their makers' pages, pinned, and marked dead. */
#include "storage/cache/cache.h"

#include <assert.h>

#include "storage/cache/cache_internal.h"

void cache_writer_close(struct cache *cache, struct cache_writer *writer)
{
    cache_close_writer(cache, writer, &cache->probation);
}

struct cache_item *cache_alloc(struct cache *cache, struct cache_writer *writer, uint8_t key_len,
                               uint32_t value_len, uint16_t state)
{
    assert(cache_takes(cache, key_len, value_len));
    uint32_t known = state & CACHE_ITEM_STATE_MAX;
    return alloc_in(cache, writer, &cache->probation, known << 28 | value_len << 8 | key_len);
}

void cache_unalloc(struct cache_writer *writer, struct cache_item *item)
{
    assert(writer->last == item);
    writer->page->used -= item_size(item);
    writer->last = NULL;
}

static struct cache_page *page_of(const struct cache *cache, const void *address)
{
    size_t offset = (size_t)((const char *)address - cache->pages[0].data);
    return &cache->pages[offset >> cache->page_shift];
}

struct cache_page *cache_pin(struct cache *cache, const void *address)
{
    struct cache_page *page = page_of(cache, address);
    atomic_fetch_add_explicit(&page->pins, 1, memory_order_relaxed);
    return page;
}

/* From its last line on the item is the evictor's, which looks without the lock: so it comes after
 * all other uses of the item, while the shard's version is odd (acquire in evict_group). */
void cache_mark_dead(const struct cache *cache, struct cache_item *item)
{
    /* Two threads at once may lose a count: cheaper than a locked instruction. */
    atomic_uint *dead = &page_of(cache, item)->dead;
    uint32_t size = atomic_load_explicit(dead, memory_order_relaxed) + item_size(item);
    atomic_store_explicit(dead, size, memory_order_relaxed);
    __atomic_store_n(&item->location, 0, __ATOMIC_RELEASE);
}
