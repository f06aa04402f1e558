/* recall.c: what the store knows of records that a disk has dropped, for rescue.c, without locks */
#include <string.h>

#include "storage/clean/clean_segment.h"

static bool is_at(uint64_t location, const struct segment *segment, uint32_t offset)
{
    location = store_disk_location(location);
    return location_segment_index(location) == segment->segment_index &&
           location_offset(location) == offset;
}

/* The entry of the record's key; with its shard locked, which is set whatever the answer. */
static bool lock_and_find(struct store *store, const struct hint_entry *hinted,
                          struct keydir_shard **shard, struct keydir_ref *ref,
                          struct keydir_entry *entry)
{
    *shard = store_shard_of(store, hinted->shard_bits);
    keydir_lock(*shard);
    return hinted->type != RECORD_FLUSH && keydir_find(*shard, hinted->tag, ref, entry);
}

/* The record as it was, at `out`, which has room for the entry's size. 0: that is not its size. */
static size_t write_record(const struct segment *segment, const struct hint_entry *hinted,
                           const struct cache_item *item, char *out)
{
    struct record record = {
        .type = hinted->type, .expire_s = hinted->expire_s, .key_len = cache_item_key_len(item)};
    if (hinted->type == RECORD_PUT) {
        record.cas = item->cas;
        record.client_flags = item->client_flags;
        record.state = cache_item_state(item);
        record.value_len = cache_item_value_len(item);
    }
    uint64_t size = record_size(record.key_len, record.value_len);
    if (size_code(size) != size_code(hinted->size * UINT64_C(8)))
        return 0;
    memcpy(out + RECORD_HEADER_SIZE, item->key, record.key_len + (size_t)record.value_len);
    record_seal(out, &record, segment->header.seed, hinted->offset * UINT64_C(8));
    return size;
}

size_t store_recall(void *context, const struct segment *segment, const struct hint_entry *hinted,
                    char *out)
{
    struct keydir_shard *shard;
    struct keydir_ref ref;
    struct keydir_entry entry;
    size_t len = 0;
    bool present = lock_and_find(context, hinted, &shard, &ref, &entry);
    bool usable = hinted->type == RECORD_TOUCH ||
                  (hinted->type == RECORD_PUT && present &&
                   is_at(entry.location, segment, hinted->offset * RECORD_ALIGN));
    bool hot = present && location_in_ram(entry.location);
    if (usable && hot)
        len = write_record(segment, hinted, location_item(entry.location), out);
    keydir_unlock(shard);
    if (usable && !hot && hinted->type == RECORD_PUT)
        len = clean_recall(context, segment, hinted, out);
    return len;
}

bool store_lose(void *context, const struct segment *segment, const struct hint_entry *hinted)
{
    struct store *store = context;
    struct keydir_shard *shard;
    struct keydir_ref ref;
    struct keydir_entry entry;
    uint32_t offset = hinted->offset * RECORD_ALIGN;
    bool lost = lock_and_find(store, hinted, &shard, &ref, &entry) &&
                is_at(entry.location, segment, offset);
    if (lost) {
        store_mark_dead(store, entry.location);
        keydir_remove(shard, ref);
        keydir_note_mark(shard, segment->header.base_lsn + offset + 1);
    }
    keydir_unlock(shard);
    return lost;
}

struct search {
    const struct segment *segment;
    hint_visit *visit;
    void *context;
    uint16_t shard;
    bool failed;
};

static bool visit_if_there(void *context, struct keydir_entry *entry)
{
    struct search *search = context;
    uint64_t location = store_disk_location(entry->location);
    if (location_segment_index(location) != search->segment->segment_index || search->failed)
        return true;
    const struct hint_entry hinted = {
        .tag = entry->tag,
        .offset = location_offset(location) / RECORD_ALIGN,
        .size = (uint32_t)(location_size(location) / RECORD_ALIGN),
        .expire_s = entry->expire_s,
        .shard_bits = search->shard,
        .type = RECORD_PUT,
    };
    search->failed = !search->visit(search->context, &hinted);
    return true;
}

bool store_find_values(void *context, const struct segment *segment, hint_visit *visit,
                       void *visit_context)
{
    struct store *store = context;
    struct search search = {.segment = segment, .visit = visit, .context = visit_context};
    for (uint32_t i = 0; i < store->keydir.shard_count; i++) {
        struct keydir_shard *shard = &store->keydir.shards[i];
        uint64_t cursor = 0;
        search.shard = (uint16_t)i;
        for (bool more = true; more;) {
            keydir_lock(shard);
            more = keydir_scan(shard, &cursor, 512, visit_if_there, &search);
            keydir_unlock(shard);
        }
    }
    return !search.failed;
}
