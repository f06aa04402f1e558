/* list.c: lists every key that lives, once.
 *
 * Keys are not in the keydir: to list them, each record (or its item in RAM) must be looked at, and on disk that should
 * happen in the order of the files. So the listing goes from one group of shards to the next:
 *
 *     copy the entries of a few shards ─▶ sort the copies by place ─▶ for each: look its tag up again, read its key
 *
 * A copy is only a reminder that there was a key with this tag. Where it lies, when it expires, whether it lives at all
 * is asked anew when its turn comes, under its shard's lock; the place in the copy only orders the reads. So values may be
 * overwritten, evicted, cleaned away or moved at any time: a key that lives all the time is found wherever it is then.
 *
 * Exactly once. A shard is copied in steps, between which others have the lock. A step is a range of tags, and not of
 * buckets: so each entry belongs to one step, and it does not matter that growth and inserts move entries from bucket to bucket
 * meanwhile, or that a key is deleted and stored again.
 */
#define _GNU_SOURCE
#include "storage/list.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "storage/hash.h"
#include "storage/monotonic.h"
#include "storage/store_internal.h"

#define STEP_BUCKETS 1024 /* homes of a range: the lock is held for some ten microseconds */
#define STEP_ENTRIES (KEYDIR_ENTRIES * STEP_BUCKETS)
#define PAUSE_US     20  /* between two steps */
#define BURST_US     200 /* worked at a time; rested as long, at most ten times that */
#define BURST_KEYS   64
#define BURST_MOVES  4096 /* of copies in a sort */
#define SHARD_BITS   16
#define ON_DISK      (UINT64_C(1) << 63)
#define FIRST_BIT    (UINT64_C(1) << 63)

/* Header and key: of a large record no more is read. */
#define READ_MAX     (RECORD_HEADER_SIZE + STORE_KEY_MAX)

struct store_list *store_list_new(struct store *store)
{
    struct store_list *list = calloc(1, sizeof *list);
    if (list)
        list->store = store;
    return list;
}

void store_list_free(struct store_list *list)
{
    if (!list)
        return;
    if (list->unreadable)
        tell(&list->store->options.tell, TELL_WARNING,
             "%llu keys are missing in a listing: their records could not be read",
             (unsigned long long)list->unreadable);
    free(list->copies);
    free(list);
}

static void sleep_us(uint64_t us)
{
    const struct timespec pause = {.tv_nsec = (long)us * 1000};
    nanosleep(&pause, NULL);
}

/* Works half of the time, in short bursts. A low priority alone would not keep this thread out of the way: where all
 * processors are busy a scheduler lets it have its milliseconds, and a client waits. */
static void rest(struct list_pace *pace)
{
    uint64_t worked_us = monotonic_us() - pace->since_us;
    if (worked_us < BURST_US)
        return;
    sleep_us(worked_us < 10 * BURST_US ? worked_us : 10 * BURST_US);
    pace->since_us = monotonic_us();
}

/* Radix exchange: in place, for qsort may take as much memory again. */
void list_sort(struct list_copy *copies, size_t count, uint64_t bit, struct list_pace *pace)
{
    for (; count > 1 && bit; bit >>= 1) {
        size_t low = 0, high = count;
        while (low < high) {
            if (++pace->moves % BURST_MOVES == 0)
                rest(pace);
            if (!(copies[low].order & bit)) {
                low++;
                continue;
            }
            struct list_copy swapped = copies[low];
            copies[low] = copies[--high];
            copies[high] = swapped;
        }
        list_sort(copies, low, bit >> 1, pace);
        copies += low;
        count -= low;
    }
}

/* Copying. */

/* Where a key's turn comes. What is in RAM is read first, before it is evicted; items that lie one behind the other there
 * also do in the log, more or less. The three bits that give way to the shard do not matter for the order. */
static uint64_t order_of(uint64_t location, uint32_t shard)
{
    uint64_t order = (location & LOCATION_PLACE_MASK) >> 3 << SHARD_BITS | shard;
    return location_in_ram(location) ? order : order | ON_DISK;
}

static void copy_entry(void *context, const struct keydir_entry *entry)
{
    struct store_list *list = context;
    if (list->count == list->capacity)
        list->overflow = true;
    else
        list->copies[list->count++] =
            (struct list_copy){.tag = entry->tag, .order = order_of(entry->location, list->shard)};
}

/* How many copies a group may have. */
static uint64_t group_max(const struct store_list *list)
{
    uint64_t bytes = atomic_load(&list->store->memory_limit) / 8;
    return (bytes < LIST_GROUP_MAX ? bytes : LIST_GROUP_MAX) / sizeof(struct list_copy);
}

static bool make_room(struct store_list *list, size_t more)
{
    uint64_t need = list->count + more;
    uint64_t twice = list->capacity * 2;
    if (need <= list->capacity)
        return true;
    uint64_t capacity = twice < group_max(list) ? twice : group_max(list);
    if (capacity < need)
        capacity = need;
    struct list_copy *copies = realloc(list->copies, capacity * sizeof *copies);
    if (!copies)
        return false;
    list->copies = copies;
    list->capacity = capacity;
    return true;
}

/* Copies the entries with tags from `first` to `last`. */
static bool copy_range(struct store_list *list, struct keydir_shard *shard, uint64_t first,
                       uint64_t last)
{
    size_t from = list->count;
    size_t more = STEP_ENTRIES;
    do {
        list->count = from;
        list->overflow = false;
        if (!make_room(list, more))
            return false;
        keydir_lock(shard);
        keydir_scan_tags(shard, first, last, copy_entry, list);
        keydir_unlock(shard);
        more *= 2; /* the shard has grown since it was cut into ranges */
    } while (list->overflow);
    return true;
}

/* Adds the entries of the next shard. */
static bool copy_shard(struct store_list *list)
{
    struct keydir_shard *shard = &list->store->keydir.shards[list->shard];
    uint64_t steps = atomic_load_explicit(&shard->size, memory_order_relaxed) / STEP_BUCKETS + 1;
    uint64_t width = UINT64_MAX / steps;
    for (uint64_t i = 0; i < steps; i++) {
        uint64_t first = i * width;
        uint64_t last = i + 1 == steps ? UINT64_MAX : first + width - 1;
        if (i > 0) /* to unlock it alone would not do: who waits for the lock wakes up too late */
            sleep_us(PAUSE_US);
        rest(&list->pace);
        if (!copy_range(list, shard, first, last))
            return false;
    }
    list->shard++;
    return true;
}

static uint64_t count_of(struct keydir_shard *shard)
{
    keydir_lock(shard);
    uint64_t count = shard->count;
    keydir_unlock(shard);
    return count;
}

/* The next group: as many shards as fit, one at least. */
static enum store_status gather(struct store_list *list)
{
    struct keydir *keydir = &list->store->keydir;
    list->next = list->count = 0;
    do {
        if (!copy_shard(list))
            return STORE_NO_MEMORY;
    } while (list->shard < keydir->shard_count &&
             list->count + count_of(&keydir->shards[list->shard]) <= group_max(list));
    list_sort(list->copies, list->count, FIRST_BIT, &list->pace);
    return STORE_AGAIN;
}

/* Looking at one key. */

/* As a get sees it. With its shard's lock held. */
static bool is_dead(const struct store *store, const struct keydir_entry *entry, uint32_t now_s)
{
    return store_is_expired(entry->expire_s, now_s) || store_is_flushed(store, entry, now_s);
}

static void fill_from_item(struct store_listed *out, const struct cache_item *item)
{
    *out = (struct store_listed){
        .key_len = cache_item_key_len(item),
        .value_len = cache_item_value_len(item),
        .client_flags = item->client_flags,
        .accessed_s = cache_item_accessed_s(item),
        .cas = item->cas,
        .size = record_size(cache_item_key_len(item), cache_item_value_len(item)),
        .fetched = cache_item_fetched(item),
    };
    memcpy(out->key, item->key, cache_item_key_len(item));
}

static void fill_from_record(struct store_listed *out, const struct record *record)
{
    *out = (struct store_listed){
        .key_len = record->key_len,
        .value_len = record->value_len,
        .client_flags = record->client_flags,
        .cas = record->cas,
        .size = record_size(record->key_len, record->value_len),
    };
    memcpy(out->key, record->key, record->key_len);
}

/* Whether a record is what the keydir takes it for. The body's checksum can be checked when all of it was read; else the
 * hash of the key must do: it is as long as two checksums. */
static bool is_right(const struct store *store, const struct list_copy *copy,
                     enum record_status status, size_t len, const struct record *record)
{
    if (status != RECORD_OK && status != RECORD_CUT)
        return false;
    if (record->type != RECORD_PUT || len < RECORD_HEADER_SIZE + (size_t)record->key_len)
        return false;
    struct key_hash hash = hash_key(record->key, record->key_len, store->datadir.hash_seed);
    return (hash.tag & KEYDIR_TAG) == copy->tag &&
           (hash.shard_bits & store->shard_mask) == (uint16_t)copy->order;
}

/* Reads a key from a segment that is pinned. */
static bool read_key(struct store *store, const struct list_copy *copy, struct segment *segment,
                     uint64_t location, struct store_listed *out)
{
    char data[READ_MAX];
    struct record record;
    uint32_t offset = location_offset(location);
    uint64_t size = location_size(location);
    size_t got;
    if (segment_files_use(&store->log.segment_files, segment) != STORE_OK)
        return false;
    bool ok = file_read_upto(store->options.files, segment->fd, data,
                             size < READ_MAX ? size : READ_MAX, offset, &got);
    segment_files_done(segment);
    if (!ok)
        return false;
    enum record_status status = record_decode(data, got, segment->header.seed, offset, &record);
    if (!is_right(store, copy, status, got, &record))
        return false;
    fill_from_record(out, &record);
    return true;
}

/* The entry points to disk. Unlocks the shard. */
static bool list_from_disk(struct store *store, const struct list_copy *copy,
                           struct keydir_shard *shard, uint64_t location, struct store_listed *out)
{
    struct segment *segment = log_segment(&store->log, location_slot(location));
    uint64_t lsn = store_lsn_of(store, location);
    segment_pin(segment); /* S7: whatever becomes of the entry, this record can be read now */
    keydir_unlock(shard);
    /* What is still in the log's buffer cannot be read from the file; a buffer is written as a whole. */
    bool ok = log_written_lsn(&store->log) > lsn || log_commit(&store->log, lsn + 1) == STORE_OK;
    ok = ok && read_key(store, copy, segment, location, out);
    segment_unpin(segment);
    return ok;
}

static enum store_status list_copied(struct store_list *list, const struct list_copy *copy,
                                     uint32_t now_s, struct store_listed *out)
{
    struct store *store = list->store;
    struct keydir_shard *shard = &store->keydir.shards[(uint16_t)copy->order];
    struct keydir_ref ref;
    struct keydir_entry entry;
    keydir_lock(shard);
    if (!keydir_find(shard, copy->tag, &ref, &entry) || is_dead(store, &entry, now_s)) {
        keydir_unlock(shard);
        return STORE_AGAIN;
    }
    if (location_in_ram(entry.location)) {
        fill_from_item(out, location_item(entry.location));
        keydir_unlock(shard);
    } else if (!list_from_disk(store, copy, shard, entry.location, out)) {
        list->unreadable++;
        return STORE_AGAIN;
    }
    out->expire_s = entry.expire_s;
    return STORE_OK;
}

enum store_status store_list_next(struct store_list *list, uint32_t now_s, struct store_listed *out)
{
    if (list->next % BURST_KEYS == 0)
        rest(&list->pace);
    if (list->next < list->count)
        return list_copied(list, &list->copies[list->next++], now_s, out);
    if (list->shard < list->store->keydir.shard_count)
        return gather(list);
    return STORE_NOT_FOUND;
}
