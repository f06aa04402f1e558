/* cache_evict.c: who stays in the cache, and the evictor.
 *
 * A page is filled from front to back and then stands in one of two queues, first in, first out
 * (S3-FIFO, Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023, at the grain
 * of pages). New items go to probation pages, a tenth of all; those visited by the time their page
 * is evicted move to a main page, the others are forgotten; a main page's items stay, in a fresh
 * main page, if they were visited since. So a scan passes through probation and leaves main alone.
 * There are no free lists and no fragments: memory comes and goes in pages.
 *
 * A tenth is right while the popular keys stay popular: then most items of a main page are visited
 * from one eviction to the next. When they change, main holds what was popular once, and the new
 * keys need room until they come again. Main tells: more items than usual leave it unvisited.
 * The more do, the larger the share of probation, up to seven tenths, where the whole behaves much
 * like one FIFO queue. A scan changes nothing: it ages probation alone. Ghosts (remembered keys
 * that go to main at once when they return) were tried and left out: they help when the popular
 * keys change, pollute main when they do not, and cost memory. script/bench hitratio measures.
 *
 * A miss costs about the same for every size, so hits by byte count: several small items fit into
 * the room of a large one. So an unvisited item smaller than the mean gets a second chance by lot,
 * the likelier the smaller it is (GreedyDual-Size without its queue: a lot needs no memory). In
 * probation, where most are never asked for again, only items below half the mean take part, or all
 * below it when main is stale. An item that no get has hit since it was stored gets none, or scans
 * and what is only written would fill main. At least one in four goes, however small, or eviction
 * would copy much and free little. Where all sizes are alike nobody gets one.
 *
 * The evictor thread keeps a few pages free, so that cache_alloc never waits; when there is none
 * the value is not cached. While nobody wants pages it touches memory ahead, an eighth of what is
 * in use: the first touch of a page takes a third of the time of a burst that fills fresh memory.
 *
 * To evict a page the evictor takes each item's shard lock and turns the entry, if it still points
 * to this item, back to the place on disk (C2). After that no new reader finds the page; those
 * inside an epoch may still look, so the page rests in limbo until they have left (C3).
 */
#include <string.h>

#include "storage/base/hash.h"
#include "storage/base/thread.h"
#include "storage/cache/cache_internal.h"
#include "storage/index/location.h"

#define LIMBO_WAIT_MS 1
#define QUIET_MS      50 /* nobody has wanted a page for so long: time to touch one ahead */
#define AVERAGE_PAGES 32 /* moving averages go over about so many pages */
#define GROUP         16 /* items whose buckets are fetched ahead together */

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
static bool gets_second_chance(struct cache *cache, const struct cache_page *page,
                               const struct cache_item *item)
{
    uint32_t size = item_size(item);
    double part = page->in_main ? 1 : 0.5 + 0.5 * staleness(cache);
    uint32_t whole = (uint32_t)(cache->mean_size * part);
    if (size >= whole || !cache_item_fetched(item))
        return false;
    return draw(cache, whole) >= (size > whole / 4 ? size : whole / 4);
}

/* Counts what tells how stale main is; not the small items, which may have got a second chance. */
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
        bool keep = keep_all || visited || gets_second_chance(cache, page, item);
        if (keep && keep_item(cache, shard, ref, &entry, item)) {
            atomic_fetch_add_explicit(&cache->kept_items, 1, memory_order_relaxed);
        } else {
            /* The cleaner asks whether it was ever hit. */
            uint64_t fetched = cache_item_fetched(item) ? LOCATION_VISITED : 0;
            keydir_set(shard, ref, item->location | fetched, entry.expire_s);
            atomic_fetch_add_explicit(&cache->evicted_items, 1, memory_order_relaxed);
        }
    }
    keydir_unlock(shard);
}

/* Evicts up to GROUP items from `offset` on, after fetching all their buckets. Dead ones need no
 * look: no entry points to them, and only readers inside an epoch still see them. */
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
    cache_push(&cache->limbo, page);
    pthread_mutex_unlock(&cache->lock);
}

/* The page that has to go: probation holds its share, the rest is main's. With the lock held. */
static struct cache_page *choose_victim(struct cache *cache)
{
    double share = 0.1 + 0.6 * staleness(cache);
    bool from_probation =
        cache->main.count == 0 || cache->probation.count > share * cache->page_limit;
    struct cache_page *page = from_probation ? cache_pop(&cache->probation) : NULL;
    return page ? page : cache_pop(&cache->main);
}

/* Whether there is to be one more page ahead. With the lock held. */
static bool wants_ahead(const struct cache *cache)
{
    return cache->ahead.count < cache->page_count / 8 &&
           cache->page_count + cache->ahead.count < cache->page_limit &&
           (cache->returned.count || cache->unborn < cache->page_max);
}

/* One step towards enough free pages. False: only readers can help now. With the lock held. */
static bool work_step(struct cache *cache)
{
    cache_free_limbo(cache);
    cache_return_pages(cache);
    if (!cache_has_work(cache))
        return true;
    /* To evict a page of hot items takes a page to move them to, or they are lost. */
    if (cache->free.count == 0 && cache_limbo_ends_soon(cache))
        return false;
    /* What limbo holds will be free soon, if nobody has pinned it. */
    bool wanted =
        cache->free.count == 0 || cache->free.count + cache->limbo.count < cache_free_target(cache);
    bool room = wanted && cache->page_count < cache->page_limit;
    bool too_many = cache->page_count > cache->page_limit + cache->limbo.count;
    struct cache_page *page = room ? cache_take_worn_page(cache) : NULL;
    bool keep_all = page != NULL;
    if (!page && room && cache_add_page(cache))
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

static void touch_ahead(struct cache *cache)
{
    struct cache_page *page = cache_touch_page(cache);
    if (page)
        cache_push(&cache->ahead, page);
}

static void *run_evictor(void *context)
{
    struct cache *cache = context;
    thread_begin("cc-evictor", THREAD_NORMAL);
    pthread_mutex_lock(&cache->lock);
    while (!cache->stopping) {
        if (cache_has_work(cache)) {
            if (!work_step(cache))
                thread_cond_wait_ms(&cache->work, &cache->lock, LIMBO_WAIT_MS);
        } else if (!wants_ahead(cache)) {
            pthread_cond_wait(&cache->work, &cache->lock);
        } else if (!thread_cond_wait_ms(&cache->work, &cache->lock, QUIET_MS)) {
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
