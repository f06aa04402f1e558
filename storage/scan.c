/* scan.c: lists every live key, once.
 *
 * Keys are not in the keydir: to list them, each record must be looked at. So a listing reads the
 * log from its oldest segment to the place where the log ended when the listing began, in large
 * reads, and asks the keydir about each value that it meets:
 *
 *     read some records ─▶ fetch their buckets ─▶ for each, with its shard locked:
 *                                                       does the keydir name this record?
 *
 * If it does, the key is listed. Values too long for the read buffer are skipped.
 *
 * Exactly once. A shard's part of the listing begins, under the shard's lock, where the log ends at
 * that moment (end_lsn): all entries of the shard name records before it, and whatever is appended
 * later lies behind it. So a key that stays has one record before end_lsn until a later record
 * takes its place, because the value was replaced or the cleaner moved it; from then on its record
 * lies behind end_lsn, where the listing never looks. Both happen under the shard's lock, and so
 * does listing: scan_value moves the shard's position behind the record that it lists. So whoever
 * replaces a record knows whether it has been listed. If it lies before the position, it has. If it
 * is still ahead, from the position to end_lsn, the key's tag is noted (scan_note_moved), and the
 * listing looks the key up wherever it is then. Its record never is ahead again.
 *
 * So a segment in which nothing is live is not read at all.
 *
 * A key that is deleted is not noted. If it is stored again, its record lies behind end_lsn and is
 * not listed; if its tag had been noted before, it is listed once. Segments that the cleaner
 * removes are no loss: what was live in them has moved, and was noted, or was evicted. Eviction
 * from RAM and promotion to it change no record.
 *
 * Memory. A tag takes 8 bytes, and a shard never notes more tags than it had entries. Room for all
 * is reserved, and touched only as used: little, unless the client stops reading the listing. Where
 * that could be more than an eighth of the memory limit, the shards are listed in two passes.
 */
#include "storage/scan.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/hash.h"
#include "storage/store_internal.h"

/* Beside clients it works a tenth of the time: some 200,000 keys a second */
#define REST_FACTOR  10
#define RECORDS_MAX  1024 /* read in one step, if few of them can be listed */
#define SKIP_ON_FAIL 4096 /* of a segment that cannot be read at some place */

/* Header and key: of the record of a moved key no more is read. */
#define READ_MAX     (RECORD_HEADER_SIZE + STORE_KEY_MAX)

/* Moved keys. */

static bool has_moved(const struct store_scan *scan, uint32_t shard)
{
    return atomic_load_explicit(&scan->shards[shard].moved_count, memory_order_relaxed) > 0;
}

/* A shard with keys that have moved; stop_shard: there is none. */
static uint32_t find_moved(const struct store_scan *scan)
{
    uint32_t shard = scan->drained;
    while (shard < scan->stop_shard && !has_moved(scan, shard))
        shard++;
    if (shard < scan->stop_shard)
        return shard;
    for (shard = scan->first_shard; shard < scan->drained && !has_moved(scan, shard); shard++)
        ;
    return shard < scan->drained ? shard : scan->stop_shard;
}

/* Passes. */

/* From now on, records of the shard that are replaced are noted. */
static bool begin_shard(struct store_scan *scan, uint32_t number)
{
    struct keydir_shard *shard = &scan->store->keydir.shards[number];
    struct scan_shard *part = &scan->shards[number];
    keydir_lock(shard);
    part->moved = malloc((shard->count + 1) * sizeof *part->moved);
    if (part->moved) {
        part->moved_max = shard->count;
        part->position_lsn = 0;
        part->end_lsn = scan->end_lsn = store_end_lsn(scan->store);
    }
    keydir_unlock(shard);
    return part->moved;
}

/* From now on, nothing is noted in the shard. */
static void end_shard(struct store_scan *scan, uint32_t number)
{
    struct keydir_shard *shard = &scan->store->keydir.shards[number];
    keydir_lock(shard);
    scan->shards[number].position_lsn = scan->shards[number].end_lsn;
    keydir_unlock(shard);
}

/* Pins the segment after `previous`, or the first one; NULL: it begins after the end. A removed
 * segment still knows its next one while it is pinned (log_doom). */
static struct segment *pin_next(struct log *log, const struct segment *previous, uint64_t end_lsn)
{
    pthread_mutex_lock(&log->lock);
    struct segment *segment = previous ? previous->next : log->first;
    if (segment && segment->header.base_lsn >= end_lsn)
        segment = NULL;
    if (segment)
        segment_pin(segment);
    pthread_mutex_unlock(&log->lock);
    return segment;
}

/* Whether a segment has anything to list. Its file is in use then, until it is left. */
static bool is_worth_reading(struct store_scan *scan, struct segment *segment)
{
    if (segment_live_bytes(segment) == 0)
        return false;
    bool open = segment_files_use(&scan->store->log.segment_files, segment) == STORE_OK;
    scan->unreadable += !open;
    return open;
}

/* Goes on in the next segment with anything live; scan->segment is NULL when there is none. */
static void next_segment(struct store_scan *scan)
{
    struct segment *segment = scan->segment;
    segment_cursor_release(&scan->cursor);
    if (segment)
        segment_files_done(segment);
    do {
        struct segment *previous = segment;
        segment = pin_next(&scan->store->log, previous, scan->end_lsn);
        if (previous)
            segment_unpin(previous);
    } while (segment && !is_worth_reading(scan, segment));
    scan->segment = segment;
    if (!segment)
        return;
    uint64_t end = atomic_load(&segment->end);
    if (end > scan->end_lsn - segment->header.base_lsn)
        end = scan->end_lsn - segment->header.base_lsn;
    bool ok = segment_cursor_init(&scan->cursor, scan->store->options.files, segment, end);
    assert(ok); /* the end is known */
    (void)ok;
    scan->cursor.keys_only = scan->cursor.tolerant = true;
}

/* Lists the shards from `first` to before `stop`. */
static bool begin_pass(struct store_scan *scan, uint32_t first, uint32_t stop)
{
    scan->first_shard = scan->stop_shard = scan->drained = first;
    while (scan->stop_shard < stop)
        if (!begin_shard(scan, scan->stop_shard++))
            return false;
    /* What is still in the log's buffer cannot be read from the file. */
    if (log_commit(&scan->store->log, scan->end_lsn) != STORE_OK)
        scan->unreadable++;
    next_segment(scan);
    return true;
}

static void end_pass(struct store_scan *scan)
{
    for (uint32_t i = scan->first_shard; i < scan->stop_shard; i++) {
        end_shard(scan, i);
        free(scan->shards[i].moved);
        scan->shards[i].moved = NULL;
    }
    scan->first_shard = scan->stop_shard;
}

/* How many shards are listed in the first pass. */
static uint32_t shards_at_once(struct store *store)
{
    uint64_t bytes = keydir_count(&store->keydir) * sizeof(uint64_t);
    uint32_t all = store->keydir.shard_count;
    return bytes <= atomic_load(&store->memory_limit) / 8 ? all : (all + 1) / 2;
}

struct store_scan *store_scan_new(struct store *store)
{
    struct store_scan *scan = calloc(1, sizeof *scan);
    struct store_scan *none = NULL;
    if (!scan)
        return NULL;
    scan->store = store;
    scan->pace.rest_factor = REST_FACTOR;
    scan->shards = calloc(store->keydir.shard_count, sizeof *scan->shards);
    if (!scan->shards || !atomic_compare_exchange_strong(&store->scan, &none, scan)) {
        free(scan->shards);
        free(scan);
        return NULL;
    }
    if (begin_pass(scan, 0, shards_at_once(store)))
        return scan;
    store_scan_free(scan);
    return NULL;
}

void store_scan_free(struct store_scan *scan)
{
    if (!scan)
        return;
    struct store *store = scan->store;
    atomic_store(&store->scan, NULL);
    end_pass(scan);
    for (uint32_t i = 0; i < store->keydir.shard_count; i++) { /* nobody looks at it any more */
        keydir_lock(&store->keydir.shards[i]);
        keydir_unlock(&store->keydir.shards[i]);
    }
    segment_cursor_release(&scan->cursor);
    if (scan->segment) {
        segment_files_done(scan->segment);
        segment_unpin(scan->segment);
    }
    if (scan->unreadable)
        report(&store->options.reporter, REPORT_WARNING,
               "keys may be missing in a listing: %llu places in the log could not be read",
               (unsigned long long)scan->unreadable);
    free(scan->shards);
    free(scan);
}

/* Looking at one key. */

/* As a get sees it. With its shard's lock held. */
static bool is_dead(const struct store *store, const struct keydir_entry *entry, uint32_t now_s)
{
    return is_expired(entry->expire_s, now_s) || store_is_flushed(store, entry, now_s);
}

static void fill_from_item(struct store_scanned *out, const struct cache_item *item)
{
    out->key_len = cache_item_key_len(item);
    out->value_len = cache_item_value_len(item);
    out->client_flags = item->client_flags;
    out->accessed_s = cache_item_accessed_s(item);
    out->cas = item->cas;
    out->size = record_size(cache_item_key_len(item), cache_item_value_len(item));
    out->fetched = cache_item_fetched(item);
    memcpy(out->key, item->key, cache_item_key_len(item));
}

static void fill_from_record(struct store_scanned *out, const struct record *record)
{
    out->key_len = record->key_len;
    out->value_len = record->value_len;
    out->client_flags = record->client_flags;
    out->accessed_s = 0;
    out->cas = record->cas;
    out->size = record_size(record->key_len, record->value_len);
    out->fetched = false;
    memcpy(out->key, record->key, record->key_len);
}

/* Reads header and key of a record in a segment that is pinned. */
static bool read_key(struct store *store, uint64_t tag, struct segment *segment, uint64_t location,
                     struct store_scanned *out)
{
    char data[READ_MAX];
    struct record record;
    uint32_t offset = location_offset(location);
    uint64_t size = location_size(location);
    size_t len;
    if (segment_files_use(&store->log.segment_files, segment) != STORE_OK)
        return false;
    size = size < READ_MAX ? size : READ_MAX;
    bool ok = file_read_upto(store->options.files, segment->fd, data, size, offset, &len);
    segment_files_done(segment);
    if (!ok)
        return false;
    enum record_status status = record_decode(data, len, segment->header.seed, offset, &record);
    if ((status != RECORD_OK && status != RECORD_CUT) || record.type != RECORD_PUT ||
        len < RECORD_HEADER_SIZE + (size_t)record.key_len)
        return false;
    struct key_hash hash = hash_key(record.key, record.key_len, store->datadir.hash_seed);
    if ((hash.tag ^ tag) & KEYDIR_TAG)
        return false; /* the value is not checked, but its key is */
    fill_from_record(out, &record);
    return true;
}

/* The entry of a moved key points to disk. Unlocks the shard. */
static bool scan_from_disk(struct store *store, struct keydir_shard *shard,
                           const struct keydir_entry *entry, struct store_scanned *out)
{
    struct segment *segment = store_segment_of(store, entry->location);
    uint64_t lsn = store_lsn_of(store, entry->location);
    segment_pin(segment); /* S7: whatever becomes of the entry, this record can be read now */
    keydir_unlock(shard);
    bool ok = store_make_readable(&store->log, lsn) == STORE_OK &&
              read_key(store, entry->tag, segment, entry->location, out);
    segment_unpin(segment);
    return ok;
}

/* Lists a moved key of that shard, if it is still there. */
static enum store_status scan_moved(struct store_scan *scan, uint32_t number, uint32_t now_s,
                                    struct store_scanned *out)
{
    struct store *store = scan->store;
    struct keydir_shard *shard = &store->keydir.shards[number];
    struct scan_shard *part = &scan->shards[number];
    struct keydir_ref ref;
    struct keydir_entry entry;
    scan->drained = number;
    keydir_lock(shard);
    uint32_t count = atomic_load_explicit(&part->moved_count, memory_order_relaxed) - 1;
    atomic_store_explicit(&part->moved_count, count, memory_order_relaxed);
    if (!keydir_find(shard, part->moved[count], &ref, &entry) || is_dead(store, &entry, now_s)) {
        keydir_unlock(shard);
        return STORE_MORE;
    }
    if (location_in_ram(entry.location)) {
        fill_from_item(out, location_item(entry.location));
        keydir_unlock(shard);
    } else if (!scan_from_disk(store, shard, &entry, out)) {
        scan->unreadable++;
        return STORE_MORE;
    }
    out->expire_s = entry.expire_s;
    return STORE_OK;
}

/* Lists the key of a value that was met in the log, if the keydir names it. */
static enum store_status scan_value(struct store_scan *scan, struct scan_found *found,
                                    uint32_t now_s, struct store_scanned *out)
{
    struct store *store = scan->store;
    struct keydir_shard *shard = &store->keydir.shards[found->shard];
    struct scan_shard *part = &scan->shards[found->shard];
    struct keydir_ref ref;
    struct keydir_entry entry;
    keydir_lock(shard);
    if (found->lsn >= part->end_lsn || !keydir_find(shard, found->tag, &ref, &entry) ||
        store_lsn_of(store, entry.location) != found->lsn || is_dead(store, &entry, now_s)) {
        keydir_unlock(shard);
        return STORE_MORE;
    }
    part->position_lsn = found->lsn + 1;
    out->expire_s = entry.expire_s;
    if (location_in_ram(entry.location))
        fill_from_item(out, location_item(entry.location));
    keydir_unlock(shard);
    if (!location_in_ram(entry.location))
        fill_from_record(out, &found->record);
    return STORE_OK;
}

/* Reading. */

/* Keeps what is needed of a value, if its key is one of this pass. */
static void add_found(struct store_scan *scan, const struct record *record, uint32_t offset)
{
    struct store *store = scan->store;
    struct key_hash hash = hash_key(record->key, record->key_len, store->datadir.hash_seed);
    uint32_t shard = hash.shard_bits & store->shard_mask;
    if (shard < scan->first_shard || shard >= scan->stop_shard)
        return;
    struct scan_found *found = &scan->found[scan->found_count++];
    found->tag = hash.tag;
    found->lsn = scan->segment->header.base_lsn + offset;
    found->shard = shard;
    found->record = *record;
    found->record.key = found->key;
    found->record.value = NULL;
    memcpy(found->key, record->key, record->key_len);
    keydir_prefetch(&store->keydir.shards[shard], hash.tag);
}

/* Fetches the items in RAM that the keys found are named to lie in. */
static void prefetch_items(const struct store_scan *scan)
{
    for (uint32_t i = 0; i < scan->found_count; i++) {
        const struct scan_found *found = &scan->found[i];
        bool elsewhere;
        uint64_t location =
            keydir_guess(&scan->store->keydir.shards[found->shard], found->tag, &elsewhere);
        if (location_in_ram(location))
            __builtin_prefetch(location_item(location));
    }
}

/* The segment cannot be read here: goes on behind it. */
static void skip_unreadable(struct store_scan *scan)
{
    scan->unreadable++;
    scan->cursor.offset = (scan->cursor.offset / SKIP_ON_FAIL + 1) * SKIP_ON_FAIL;
}

/* Reads up to SCAN_GROUP values. False: no memory. */
static bool read_group(struct store_scan *scan)
{
    scan->next = scan->found_count = 0;
    for (int i = 0; i < RECORDS_MAX && scan->found_count < SCAN_GROUP && scan->segment; i++) {
        struct record record;
        uint32_t offset;
        switch (segment_cursor_next(&scan->cursor, &record, &offset)) {
        case CURSOR_RECORD:
            if (record.type == RECORD_PUT)
                add_found(scan, &record, offset);
            break;
        case CURSOR_DAMAGE: scan->unreadable++; break;
        case CURSOR_FAILED:
            if (!scan->cursor.buffer)
                return false;
            skip_unreadable(scan);
            break;
        case CURSOR_END: next_segment(scan); break;
        }
    }
    prefetch_items(scan);
    return true;
}

/* All segments are read, and all that had moved by then is listed. */
static enum store_status go_on(struct store_scan *scan)
{
    for (uint32_t i = scan->first_shard; i < scan->stop_shard; i++)
        end_shard(scan, i);
    if (find_moved(scan) < scan->stop_shard)
        return STORE_MORE;
    uint32_t first = scan->stop_shard;
    end_pass(scan);
    if (first == scan->store->keydir.shard_count)
        return STORE_NOT_FOUND;
    return begin_pass(scan, first, scan->store->keydir.shard_count) ? STORE_MORE : STORE_NO_MEMORY;
}

enum store_status store_scan_next(struct store_scan *scan, uint32_t now_s,
                                  struct store_scanned *out)
{
    while (scan->next < scan->found_count) {
        struct scan_found *found = &scan->found[scan->next++];
        if (scan_value(scan, found, now_s, out) == STORE_OK)
            return STORE_OK;
    }
    pace_rest(&scan->pace, scan->store);
    uint32_t moved = find_moved(scan);
    if (moved < scan->stop_shard)
        return scan_moved(scan, moved, now_s, out);
    if (!scan->segment)
        return go_on(scan);
    return read_group(scan) ? STORE_MORE : STORE_NO_MEMORY;
}
