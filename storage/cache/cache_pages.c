/* cache_pages.c: the pages of the cache: their memory, their queues, and who may take one.
 *
 *     free ─cache_alloc─▶ filling ─full─▶ probation ─evict─▶ limbo ─no reader, no pin─▶ free
 *                                         main      ─evict─▶
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "storage/base/memory.h"
#include "storage/base/thread.h"
#include "storage/cache/cache_internal.h"

#define PAGE_SIZE_MAX (UINT32_C(1) << 20)
#define PAGE_SIZE_MIN (UINT32_C(64) << 10)
#define HUGE_PAGE     (UINT64_C(2) << 20)
#define PAGES_WANTED  256  /* so many make what is free or half full a small part of the whole */
#define WORN_LOOKS    1024 /* pages looked at for a worn one: some microseconds */

_Static_assert(PAGE_SIZE_MAX / 2 <= CACHE_ITEM_VALUE_LEN_MAX, "no value in the cache is longer");

void cache_push(struct cache_queue *queue, struct cache_page *page)
{
    page->queue = queue;
    page->next = NULL;
    page->previous = queue->tail;
    if (queue->tail)
        queue->tail->next = page;
    else
        queue->head = page;
    queue->tail = page;
    queue->count++;
}

void cache_unlink(struct cache_page *page)
{
    struct cache_queue *queue = page->queue;
    *(page->previous ? &page->previous->next : &queue->head) = page->next;
    *(page->next ? &page->next->previous : &queue->tail) = page->previous;
    queue->count--;
    page->queue = NULL;
}

struct cache_page *cache_pop(struct cache_queue *queue)
{
    struct cache_page *page = queue->head;
    if (page)
        cache_unlink(page);
    return page;
}

/* A small cache has small pages, so that it still has enough of them to choose from. */
static uint32_t choose_page_size(uint64_t memory)
{
    uint32_t size = PAGE_SIZE_MAX;
    while (size > PAGE_SIZE_MIN && memory / size < PAGES_WANTED)
        size /= 2;
    return size;
}

bool cache_init(struct cache *cache, struct keydir *keydir, struct cache_hash hash, uint64_t memory,
                uint64_t memory_max)
{
    *cache = (struct cache){.keydir = keydir, .hash = hash, .random = 1};
    cache->page_size = choose_page_size(memory);
    cache->page_shift = (uint32_t)__builtin_ctz(cache->page_size);
    cache->page_max = (uint32_t)(memory_max / cache->page_size) + 1;
    cache->arena_size = (uint64_t)cache->page_max * cache->page_size + HUGE_PAGE;
    cache->arena = mmap(NULL, cache->arena_size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    cache->pages = calloc(cache->page_max, sizeof *cache->pages);
    if (cache->arena == MAP_FAILED || !cache->pages) {
        if (cache->arena != MAP_FAILED)
            munmap(cache->arena, cache->arena_size);
        free(cache->pages);
        return false;
    }
    memory_leave_out(cache->arena, cache->arena_size);
    /* Fewer TLB misses; a refusal costs only speed. */
    madvise(cache->arena, cache->arena_size, MADV_HUGEPAGE);
    char *base = (char *)(((uintptr_t)cache->arena + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    for (uint32_t i = 0; i < cache->page_max; i++)
        cache->pages[i].data = base + (size_t)i * cache->page_size;
    pthread_mutex_init(&cache->lock, NULL);
    thread_cond_init(&cache->work);
    return true;
}

void cache_release(struct cache *cache)
{
    munmap(cache->arena, cache->arena_size);
    free(cache->pages);
    pthread_mutex_destroy(&cache->lock);
    pthread_cond_destroy(&cache->work);
}

uint32_t cache_free_target(const struct cache *cache)
{
    uint32_t target = cache->page_limit / 32;
    return target < 3 ? 3 : target > 16 ? 16 : target;
}

bool cache_has_work(const struct cache *cache)
{
    bool any_used = cache->limbo.count || cache->probation.count || cache->main.count;
    bool short_of_pages = cache->free.count < cache_free_target(cache) &&
                          (cache->page_count < cache->page_limit || any_used);
    bool too_many = cache->page_count > cache->page_limit && (cache->free.count || any_used);
    bool too_far_ahead =
        cache->ahead.count && cache->page_count + cache->ahead.count > cache->page_limit;
    return short_of_pages || too_many || too_far_ahead;
}

void cache_set_limit(struct cache *cache, uint64_t bytes)
{
    uint64_t pages = bytes / cache->page_size;
    pthread_mutex_lock(&cache->lock);
    cache->page_limit = pages < cache->page_max ? (uint32_t)pages : cache->page_max;
    if (cache_has_work(cache))
        pthread_cond_signal(&cache->work);
    pthread_mutex_unlock(&cache->lock);
}

struct cache_page *cache_take_page(struct cache *cache, bool for_main)
{
    pthread_mutex_lock(&cache->lock);
    bool any = cache->free.count > (for_main ? 0 : 1) && cache->page_count <= cache->page_limit;
    struct cache_page *page = any ? cache_pop(&cache->free) : NULL;
    if (cache_has_work(cache))
        pthread_cond_signal(&cache->work);
    pthread_mutex_unlock(&cache->lock);
    return page;
}

void cache_close_writer(struct cache *cache, struct cache_writer *writer, struct cache_queue *queue)
{
    if (!writer->page)
        return;
    writer->page->in_main = queue == &cache->main;
    pthread_mutex_lock(&cache->lock);
    cache_push(queue, writer->page);
    pthread_mutex_unlock(&cache->lock);
    *writer = (struct cache_writer){0};
}

uint64_t cache_bytes(struct cache *cache, uint64_t *pages)
{
    pthread_mutex_lock(&cache->lock);
    *pages = cache->page_count;
    uint64_t touched = cache->page_count + cache->ahead.count;
    pthread_mutex_unlock(&cache->lock);
    return touched * cache->page_size;
}

void cache_free_limbo(struct cache *cache)
{
    uint64_t oldest = cache->oldest_reader(cache->context);
    for (uint32_t left = cache->limbo.count; left > 0; left--) {
        struct cache_page *page = cache_pop(&cache->limbo);
        if (page->retired >= oldest || atomic_load_explicit(&page->pins, memory_order_acquire)) {
            cache_push(&cache->limbo, page);
            continue;
        }
        page->used = 0;
        atomic_store_explicit(&page->dead, 0, memory_order_relaxed);
        cache_push(&cache->free, page);
    }
}

struct cache_page *cache_touch_page(struct cache *cache)
{
    struct cache_page *page = cache_pop(&cache->returned);
    if (page)
        madvise(page->data, cache->page_size, MADV_HUGEPAGE);
    if (!page && cache->unborn < cache->page_max)
        page = &cache->pages[cache->unborn++];
    if (!page)
        return NULL;
    pthread_mutex_unlock(&cache->lock);
    for (uint32_t i = 0; i < cache->page_size; i += 4096)
        *(volatile char *)(page->data + i) = 0;
    pthread_mutex_lock(&cache->lock);
    return page;
}

bool cache_add_page(struct cache *cache)
{
    struct cache_page *page =
        cache->ahead.count ? cache_pop(&cache->ahead) : cache_touch_page(cache);
    if (!page)
        return false;
    cache->page_count++;
    cache_push(&cache->free, page);
    return true;
}

static void return_page(struct cache *cache, struct cache_page *page)
{
    madvise(page->data, cache->page_size, MADV_DONTNEED);
    /* Else the system fills the hole again when it makes one huge page of what is around it. */
    madvise(page->data, cache->page_size, MADV_NOHUGEPAGE);
    cache_push(&cache->returned, page);
}

void cache_return_pages(struct cache *cache)
{
    while (cache->ahead.count && cache->page_count + cache->ahead.count > cache->page_limit)
        return_page(cache, cache_pop(&cache->ahead));
    while (cache->free.count && cache->page_count > cache->page_limit) {
        return_page(cache, cache_pop(&cache->free));
        cache->page_count--;
    }
}

struct cache_page *cache_take_worn_page(struct cache *cache)
{
    if (cache->free.count == 0)
        return NULL;
    for (uint32_t looks = 0; looks < WORN_LOOKS && looks < cache->unborn; looks++) {
        if (cache->worn_at >= cache->unborn)
            cache->worn_at = 0;
        struct cache_page *page = &cache->pages[cache->worn_at++];
        bool full = page->queue == &cache->probation || page->queue == &cache->main;
        uint32_t dead = atomic_load_explicit(&page->dead, memory_order_relaxed);
        if (full && dead >= cache->page_size / 4 * 3) {
            cache_unlink(page);
            return page;
        }
    }
    return NULL;
}

bool cache_limbo_ends_soon(const struct cache *cache)
{
    for (const struct cache_page *page = cache->limbo.head; page; page = page->next)
        if (!atomic_load_explicit(&page->pins, memory_order_relaxed))
            return true;
    return false;
}
