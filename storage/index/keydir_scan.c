/* keydir_scan.c: all entries, range by range. */
#include "storage/index/keydir_internal.h"
#include "storage/index/location.h"

#define SCAN_STEP 256 /* homes scanned with a shard's lock held: some ten microseconds */

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

/* Homes keep the order of tags, and other buckets lie at most WINDOW behind: so looks from the
 * first home to the last and behind it, and then at those wrapped to the start, at either size. */
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

/* Fetches what the visits of a scan will look at, most of all items in RAM, before the lock is
 * taken: with it held, each would be waited for. So what it reads may be anything. */
static void prefetch_range(const struct scan *scan)
{
    const struct keydir_shard *shard = scan->shard;
    uint32_t next_size = load_size(&shard->next_size);
    uint32_t to = home_of(shard, scan->last).number + 1 + WINDOW;
    for (uint32_t where = home_of(shard, scan->first).number; where < to && where < next_size;
         where++)
        for (uint32_t i = 0; i < KEYDIR_ENTRIES; i++) {
            uint64_t location = load_word(&bucket_at(shard, where)->locations[i]);
            if (location_in_ram(location))
                __builtin_prefetch(location_item(location));
        }
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
            struct candidates candidates = candidates_of(shard, bucket->words[i]);
            assert(where == candidates.home || where == candidates.other); /* K1 */
            if (where != candidates.home)
                displaced[candidates.home][counter_of(bucket->words[i])]++;
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
