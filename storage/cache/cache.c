/* cache.c: the pages of the cache and who leaves them when.
 *
 * A page is filled from front to back with items and then stands in one of two queues, first in, first out (S3-FIFO, Yang
 * et al., "FIFO queues are all you need for cache eviction", SOSP 2023, at the grain of pages). New items come to probation
 * pages, a tenth of all; who was visited by the time their page is evicted moves on to a main page, the others are
 * forgotten; a main page's items stay, in a fresh main page, for as long as they were visited since. So a scan passes
 * through probation and leaves the main part alone. There are no free lists and no fragments: memory comes and goes in pages.
 *
 * A tenth is right while the popular keys stay popular: then most items of a main page are visited from one eviction to the
 * next. When they change, main holds what was popular once, and the new keys need room until they come again. That shows in
 * main itself: more items than usual leave it unvisited. The more do, the larger the share of probation, up to seven tenths,
 * where the whole behaves much like one FIFO queue. A scan changes nothing: it ages probation alone. Ghosts (keys that have
 * left are remembered, and go to main at once when they come again) were tried and left out: they help when the popular keys
 * change and pollute main when they do not, and cost memory. script/bench hitratio measures.
 *
 * A miss costs about the same for every size, so what counts is hits by byte: in the room of one large item several small
 * ones wait for theirs. So an unvisited item smaller than the mean is spared by lot, and the smaller it is, the likelier
 * (GreedyDual-Size without its queue: a lot has no memory and so needs none). In probation, where most are never asked for
 * again, only items below half the mean take part, or all below it when main is stale; and nowhere an item that no get has hit
 * since it was stored, or what is only written, and scans, would fill main. One in four goes at least, however small, or to
 * evict would copy much and free little. Where all sizes are alike nobody is spared.
 *
 *     free ──cache_alloc──▶ filling ──full──▶ probation ──evict──▶ limbo ──no reader, no pin──▶ free
 *                                             main      ──evict──▶
 *
 * The evictor thread keeps a few pages free, so that cache_alloc never waits; when there is none the value is simply not
 * cached. While nobody wants pages it touches memory ahead, an eighth of what is in use: the system takes its time over a
 * page's first touch, a third of all in a burst of writes that fills fresh memory.
 *
 * To evict a page the evictor takes each item's shard lock and turns the entry, if it still points to this item, back to the
 * place on disk (C2). After that no new reader finds the page; those inside an epoch may still look, so the page rests in
 * limbo until they have left (C3).
 */
#define _GNU_SOURCE
#include "storage/cache/cache.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "storage/base/hash.h"
#include "storage/index/location.h"
#include "storage/base/memory.h"
#include "storage/base/monotonic.h"

#define PAGE_SIZE_MAX (UINT32_C(1) << 20)
#define PAGE_SIZE_MIN (UINT32_C(64) << 10)
#define HUGE_PAGE     (UINT64_C(2) << 20)
#define PAGES_WANTED  256 /* so many make what is free or half full a small part of the whole */
#define LIMBO_WAIT_MS 1
#define QUIET_MS      50   /* nobody has wanted a page for so long: time to touch one ahead */
#define AVERAGE_PAGES 32   /* moving averages go over about so many pages */
#define WORN_LOOKS    1024 /* pages looked at for a worn one: some microseconds */
#define FETCH_AHEAD   1024 /* bytes */
#define GROUP         16   /* items whose buckets are fetched ahead together */

_Static_assert(PAGE_SIZE_MAX / 2 <= CACHE_ITEM_VALUE_LEN_MAX, "no value in the cache is longer");

/* Of items whose bits are these. */
static uint32_t size_of(uint32_t bits)
{
    uint32_t lengths = (bits & UINT8_MAX) + (bits >> 8 & CACHE_ITEM_VALUE_LEN_MAX);
    return (uint32_t)(CACHE_ITEM_HEADER_SIZE + lengths + 7) & ~7u;
}

static uint32_t item_size(const struct cache_item *item)
{
    return size_of(cache_item_bits(item));
}

static void push(struct cache_queue *queue, struct cache_page *page)
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

static void unlink_page(struct cache_page *page)
{
    struct cache_queue *queue = page->queue;
    *(page->previous ? &page->previous->next : &queue->head) = page->next;
    *(page->next ? &page->next->previous : &queue->tail) = page->previous;
    queue->count--;
    page->queue = NULL;
}

static struct cache_page *pop(struct cache_queue *queue)
{
    struct cache_page *page = queue->head;
    if (page)
        unlink_page(page);
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
    madvise(cache->arena, cache->arena_size,
            MADV_HUGEPAGE); /* fewer TLB misses; a refusal costs only speed */
    char *base = (char *)(((uintptr_t)cache->arena + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    for (uint32_t i = 0; i < cache->page_max; i++)
        cache->pages[i].data = base + (size_t)i * cache->page_size;
    pthread_mutex_init(&cache->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&cache->work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return true;
}

void cache_release(struct cache *cache)
{
    munmap(cache->arena, cache->arena_size);
    free(cache->pages);
    pthread_mutex_destroy(&cache->lock);
    pthread_cond_destroy(&cache->work);
}

/* Pages that the evictor keeps free; the last is for itself. */
static uint32_t free_target(const struct cache *cache)
{
    uint32_t target = cache->page_limit / 32;
    return target < 3 ? 3 : target > 16 ? 16 : target;
}

/* With the lock held. */
static bool has_work(const struct cache *cache)
{
    bool short_of_pages = cache->free.count < free_target(cache) &&
                          (cache->page_count < cache->page_limit || cache->limbo.count ||
                           cache->probation.count || cache->main.count);
    bool too_many =
        cache->page_count > cache->page_limit &&
        (cache->free.count || cache->limbo.count || cache->probation.count || cache->main.count);
    bool too_far_ahead =
        cache->ahead.count && cache->page_count + cache->ahead.count > cache->page_limit;
    return short_of_pages || too_many || too_far_ahead;
}

void cache_set_limit(struct cache *cache, uint64_t bytes)
{
    uint64_t pages = bytes / cache->page_size;
    pthread_mutex_lock(&cache->lock);
    cache->page_limit = pages < cache->page_max ? (uint32_t)pages : cache->page_max;
    if (has_work(cache))
        pthread_cond_signal(&cache->work);
    pthread_mutex_unlock(&cache->lock);
}

/* Workers leave the last page to the evictor: a new value that finds none is on disk, but a visited item that cannot move to
 * main is a hot one lost. */
static struct cache_page *take_page(struct cache *cache, bool for_main)
{
    pthread_mutex_lock(&cache->lock);
    bool any = cache->free.count > (for_main ? 0 : 1) && cache->page_count <= cache->page_limit;
    struct cache_page *page = any ? pop(&cache->free) : NULL;
    if (has_work(cache))
        pthread_cond_signal(&cache->work);
    pthread_mutex_unlock(&cache->lock);
    return page;
}

static void close_writer(struct cache *cache, struct cache_writer *writer,
                         struct cache_queue *queue)
{
    if (!writer->page)
        return;
    writer->page->in_main = queue == &cache->main;
    pthread_mutex_lock(&cache->lock);
    push(queue, writer->page);
    pthread_mutex_unlock(&cache->lock);
    *writer = (struct cache_writer){0};
}

void cache_writer_close(struct cache *cache, struct cache_writer *writer)
{
    close_writer(cache, writer, &cache->probation);
}

/* The memory for items to come, some of them ahead: else whatever waits for all stores to be done, like the next lock of a
 * shard, waits for lines that no cache has. Of long items the processor sees by itself what comes next. */
static void fetch_ahead(char *next, uint32_t size)
{
    for (uint32_t at = 0; at < size && at < FETCH_AHEAD; at += 64)
        __builtin_prefetch(next + FETCH_AHEAD + at, 1);
}

static struct cache_item *alloc_in(struct cache *cache, struct cache_writer *writer,
                                   struct cache_queue *queue, uint32_t bits)
{
    uint32_t size = size_of(bits);
    if (!writer->page || writer->page->used + size > cache->page_size) {
        close_writer(cache, writer, queue);
        writer->page = take_page(cache, queue == &cache->main);
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

/* From its last line on the item is the evictor's, which looks without the lock: so that comes behind all else that is done with
 * the item, and with the shard's version being odd (release, and acquire in evict_group). */
void cache_mark_dead(const struct cache *cache, struct cache_item *item)
{
    /* Two threads at once may lose a count, and a page is found worn a little later: cheaper than a locked instruction. */
    atomic_uint *dead = &page_of(cache, item)->dead;
    uint32_t size = atomic_load_explicit(dead, memory_order_relaxed) + item_size(item);
    atomic_store_explicit(dead, size, memory_order_relaxed);
    __atomic_store_n(&item->location, 0, __ATOMIC_RELEASE);
}

uint64_t cache_bytes(struct cache *cache, uint32_t *pages)
{
    pthread_mutex_lock(&cache->lock);
    *pages = cache->page_count;
    uint64_t touched = cache->page_count + cache->ahead.count;
    pthread_mutex_unlock(&cache->lock);
    return touched * cache->page_size;
}

/* Everything from here on is the evictor's. */

/* Gives a visited item a new life in a main page; false: no page is free. */
static bool keep_item(struct cache *cache, struct keydir_shard *shard, struct keydir_ref ref,
                      const struct keydir_entry *entry, const struct cache_item *item)
{
    struct cache_item *copy =
        alloc_in(cache, &cache->main_writer, &cache->main, cache_item_bits(item));
    if (!copy)
        return false;
    copy->location = item->location;
    copy->cas = item->cas;
    copy->client_flags = item->client_flags;
    cache_item_set_accessed(copy, cache_item_accessed_s(item));
    memcpy(copy->key, item->key, cache_item_key_len(item) + (size_t)cache_item_value_len(item));
    keydir_set(shard, ref, location_of_item(copy, item->location), entry->expire_s);
    return true;
}

/* A random number below `bound` (xorshift32). */
static uint32_t draw(struct cache *cache, uint32_t bound)
{
    cache->random ^= cache->random << 13;
    cache->random ^= cache->random >> 17;
    cache->random ^= cache->random << 5;
    return (uint32_t)((uint64_t)cache->random * bound >> 32);
}

/* How stale main is: 0 while it loses at most a quarter of its items unvisited, 1 from 55 % on. */
static double staleness(const struct cache *cache)
{
    double excess = (cache->stale - 0.25) / (0.55 - 0.25);
    return excess < 0 ? 0 : excess > 1 ? 1 : excess;
}

/* Whether an item lives on although nobody visited it. */
static bool spare_item(struct cache *cache, const struct cache_page *page,
                       const struct cache_item *item)
{
    uint32_t size = item_size(item);
    double part = page->in_main ? 1 : 0.5 + 0.5 * staleness(cache);
    uint32_t whole = (uint32_t)(cache->mean_size * part);
    if (size >= whole || !cache_item_fetched(item))
        return false;
    return draw(cache, whole) >= (size > whole / 4 ? size : whole / 4);
}

/* Counts what tells how stale main is; not the small items, who may have been spared. */
static void count_visit(struct cache *cache, uint32_t size, bool visited)
{
    if (size < (uint32_t)cache->mean_size)
        return;
    cache->visited += visited;
    cache->unvisited += !visited;
}

static void evict_item(struct cache *cache, const struct cache_page *page, struct cache_item *item,
                       struct key_hash hash, bool keep_all)
{
    struct keydir_shard *shard = &cache->keydir->shards[hash.shard_bits & cache->hash.shard_mask];
    struct keydir_ref ref;
    struct keydir_entry entry;
    keydir_lock(shard);
    if (keydir_find(shard, hash.tag, &ref, &entry) && location_in_ram(entry.location) &&
        location_item(entry.location) == item) {
        bool visited = entry.location & LOCATION_VISITED;
        count_visit(cache, item_size(item), visited);
        bool keep = keep_all || visited || spare_item(cache, page, item);
        if (keep && keep_item(cache, shard, ref, &entry, item)) {
            atomic_fetch_add_explicit(&cache->kept_items, 1, memory_order_relaxed);
        } else {
            /* The cleaner asks whether it was ever hit. */
            keydir_set(shard, ref,
                       item->location | (cache_item_fetched(item) ? LOCATION_VISITED : 0),
                       entry.expire_s);
            atomic_fetch_add_explicit(&cache->evicted_items, 1, memory_order_relaxed);
        }
    }
    keydir_unlock(shard);
}

/* Evicts up to GROUP items from `offset` on; their buckets are fetched before the first is looked at. Those that are buried
 * need no look: it would find another item, or none, and only who is inside an epoch still looks at them. */
static uint32_t evict_group(struct cache *cache, struct cache_page *page, uint32_t offset,
                            bool keep_all)
{
    struct cache_item *items[GROUP];
    struct key_hash hashes[GROUP];
    uint32_t count = 0;
    while (offset < page->used && count < GROUP) {
        struct cache_item *item = (struct cache_item *)(page->data + offset);
        offset += item_size(item);
        cache->items++;
        if (!__atomic_load_n(&item->location, __ATOMIC_ACQUIRE))
            continue;
        items[count] = item;
        hashes[count] = hash_key(item->key, cache_item_key_len(item), cache->hash.seed);
        keydir_prefetch(&cache->keydir->shards[hashes[count].shard_bits & cache->hash.shard_mask],
                        hashes[count].tag);
        count++;
    }
    for (uint32_t i = 0; i < count; i++)
        evict_item(cache, page, items[i], hashes[i], keep_all);
    return offset;
}

/* Follows how much of main is stale. */
static void note_stale(struct cache *cache)
{
    double count = cache->visited + cache->unvisited;
    if (count > 0)
        cache->stale += (cache->unvisited / count - cache->stale) / AVERAGE_PAGES;
}

/* Follows the mean size of new items. */
static void note_size(struct cache *cache, const struct cache_page *page)
{
    if (cache->items == 0)
        return;
    double mean = (double)page->used / cache->items;
    if (cache->mean_size == 0)
        cache->mean_size = mean;
    cache->mean_size += (mean - cache->mean_size) / AVERAGE_PAGES;
}

static void evict_page(struct cache *cache, struct cache_page *page, bool keep_all)
{
    cache->items = cache->visited = cache->unvisited = 0;
    for (uint32_t offset = 0; offset < page->used;)
        offset = evict_group(cache, page, offset, keep_all);
    if (page->in_main)
        note_stale(cache);
    else
        note_size(cache, page);
    page->retired = cache->retire(cache->context);
    pthread_mutex_lock(&cache->lock);
    push(&cache->limbo, page);
    pthread_mutex_unlock(&cache->lock);
}

/* The share of probation in all pages. */
static double probation_share(const struct cache *cache)
{
    return 0.1 + 0.6 * staleness(cache);
}

/* The page that has to go: probation holds its share, the rest is main's. With the lock held. */
static struct cache_page *choose_victim(struct cache *cache)
{
    bool from_probation = cache->main.count == 0 ||
                          cache->probation.count > probation_share(cache) * cache->page_limit;
    struct cache_page *page = from_probation ? pop(&cache->probation) : pop(&cache->main);
    return page ? page : pop(&cache->main);
}

/* Pages in limbo whose readers have left become free. With the lock held. */
static bool free_limbo(struct cache *cache)
{
    uint64_t oldest = cache->oldest_reader(cache->context);
    bool any = false;
    for (uint32_t left = cache->limbo.count; left > 0; left--) {
        struct cache_page *page = pop(&cache->limbo);
        if (page->retired >= oldest || atomic_load_explicit(&page->pins, memory_order_acquire)) {
            push(&cache->limbo, page);
            continue;
        }
        page->used = 0;
        atomic_store_explicit(&page->dead, 0, memory_order_relaxed);
        push(&cache->free, page);
        any = true;
    }
    return any;
}

/* A page with new memory, touched here and not in a worker; NULL: there is none. With the lock held, let go meanwhile. */
static struct cache_page *touch_page(struct cache *cache)
{
    struct cache_page *page = pop(&cache->returned);
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

/* Puts one more page to use. With the lock held, let go meanwhile. */
static bool add_page(struct cache *cache)
{
    struct cache_page *page = cache->ahead.count ? pop(&cache->ahead) : touch_page(cache);
    if (!page)
        return false;
    cache->page_count++;
    page->used = 0;
    atomic_store_explicit(&page->dead, 0, memory_order_relaxed);
    push(&cache->free, page);
    return true;
}

/* Whether there is to be one more page ahead. With the lock held. */
static bool wants_ahead(const struct cache *cache)
{
    return cache->ahead.count < cache->page_count / 8 &&
           cache->page_count + cache->ahead.count < cache->page_limit &&
           (cache->returned.count || cache->unborn < cache->page_max);
}

static void return_page(struct cache *cache, struct cache_page *page)
{
    madvise(page->data, cache->page_size, MADV_DONTNEED);
    /* Else the system fills the hole again when it makes one huge page of what is around it. */
    madvise(page->data, cache->page_size, MADV_NOHUGEPAGE);
    push(&cache->returned, page);
}

/* Gives pages beyond the limit back to the system, if nothing is in them. With the lock held. */
static void return_pages(struct cache *cache)
{
    while (cache->ahead.count && cache->page_count + cache->ahead.count > cache->page_limit)
        return_page(cache, pop(&cache->ahead));
    while (cache->free.count && cache->page_count > cache->page_limit) {
        return_page(cache, pop(&cache->free));
        cache->page_count--;
    }
}

/* A page of which three quarters are dead: to clear it costs less than the memory of a new one. The oldest need not be
 * among them: where some keys are written again and again, their newer pages are. So the search goes round, and
 * looks at some pages each time. NULL: none of these. With the lock held. */
static struct cache_page *take_worn_page(struct cache *cache)
{
    if (cache->free.count == 0)
        return NULL;
    for (uint32_t left = cache->unborn < WORN_LOOKS ? cache->unborn : WORN_LOOKS; left > 0;
         left--) {
        if (cache->worn_at >= cache->unborn)
            cache->worn_at = 0;
        struct cache_page *page = &cache->pages[cache->worn_at++];
        bool full = page->queue == &cache->probation || page->queue == &cache->main;
        if (full &&
            atomic_load_explicit(&page->dead, memory_order_relaxed) >= cache->page_size / 4 * 3) {
            unlink_page(page);
            return page;
        }
    }
    return NULL;
}

/* Whether a page in limbo waits only for readers inside an epoch, which leave soon. With the lock held. */
static bool limbo_ends_soon(const struct cache *cache)
{
    for (const struct cache_page *page = cache->limbo.head; page; page = page->next)
        if (!atomic_load_explicit(&page->pins, memory_order_relaxed))
            return true;
    return false;
}

/* One step towards enough free pages within the limit. False: only readers can help now. With the lock held. */
static bool work_step(struct cache *cache)
{
    free_limbo(cache);
    return_pages(cache);
    if (!has_work(cache))
        return true;
    /* To evict a page of hot items takes a page to move them to, or they are lost. */
    if (cache->free.count == 0 && limbo_ends_soon(cache))
        return false;
    /* What limbo holds will be free soon, if nobody has pinned it. */
    bool wanted =
        cache->free.count == 0 || cache->free.count + cache->limbo.count < free_target(cache);
    bool room = wanted && cache->page_count < cache->page_limit;
    bool too_many = cache->page_count > cache->page_limit + cache->limbo.count;
    struct cache_page *page = room ? take_worn_page(cache) : NULL;
    bool keep_all = page != NULL;
    if (!page && room && add_page(cache))
        return true;
    if (!page && (wanted || too_many))
        page = choose_victim(cache);
    if (!page)
        return false;
    pthread_mutex_unlock(&cache->lock);
    evict_page(cache, page, keep_all);
    pthread_mutex_lock(&cache->lock);
    return true;
}

/* False: the time is over and nobody has called. */
static bool wait_ms(struct cache *cache, int ms)
{
    struct timespec until = monotonic_in_ms(ms);
    return pthread_cond_timedwait(&cache->work, &cache->lock, &until) == 0;
}

static void touch_ahead(struct cache *cache)
{
    struct cache_page *page = touch_page(cache);
    if (page)
        push(&cache->ahead, page);
}

static void *run_evictor(void *context)
{
    struct cache *cache = context;
    pthread_setname_np(pthread_self(), "cc-evictor");
    pthread_mutex_lock(&cache->lock);
    while (!cache->stopping) {
        if (has_work(cache)) {
            if (!work_step(cache))
                wait_ms(cache, LIMBO_WAIT_MS);
        } else if (!wants_ahead(cache)) {
            pthread_cond_wait(&cache->work, &cache->lock);
        } else if (!wait_ms(cache, QUIET_MS)) {
            touch_ahead(cache);
        }
    }
    pthread_mutex_unlock(&cache->lock);
    return NULL;
}

bool cache_start(struct cache *cache, uint64_t (*oldest_reader)(void *context),
                 uint64_t (*retire)(void *context), void *context)
{
    cache->oldest_reader = oldest_reader;
    cache->retire = retire;
    cache->context = context;
    cache->started = pthread_create(&cache->evictor, NULL, run_evictor, cache) == 0;
    return cache->started;
}

void cache_stop(struct cache *cache)
{
    if (!cache->started)
        return;
    pthread_mutex_lock(&cache->lock);
    cache->stopping = true;
    pthread_cond_signal(&cache->work);
    pthread_mutex_unlock(&cache->lock);
    pthread_join(cache->evictor, NULL);
    cache->started = false;
}
