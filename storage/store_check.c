/* store_check.c: the invariants that can be checked at any time (storage/README.md). */
#include "storage/store_internal.h"

static bool check_entry(void *context, struct keydir_entry *entry)
{
    struct store *store = context;
    uint64_t location = entry->location;
    if (location_in_ram(location)) {
        const struct cache_item *item = location_item(location);
        assert(((location ^ item->location) & LOCATION_SIZE_MASK) == 0); /* C1 */
        location = item->location;
    }
    const struct segment *segment = store_segment_of(store, location);
    assert(segment && atomic_load(&segment->state) != SEGMENT_DOOMED); /* S6 */
    assert(location_offset(location) >= SEGMENT_HEADER_SIZE);
    assert(location_offset(location) < atomic_load(&segment->end)); /* S6 */
    return true;
}

void store_check(struct store *store)
{
    for (uint32_t i = 0; i < store->keydir.shard_count; i++) {
        struct keydir_shard *shard = &store->keydir.shards[i];
        uint64_t cursor = 0;
        keydir_lock(shard);
        keydir_check(shard);
        keydir_scan(shard, &cursor, UINT32_MAX, check_entry, store);
        keydir_unlock(shard);
    }
    log_check(&store->log);
}
