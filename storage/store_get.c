/* store_get.c: gets, of hot values and of cold ones. */
#include <string.h>

#include "storage/base/hash.h"
#include "storage/store_find.h"

#define UNREADABLE_PAUSE_S 60

void store_key_init(const struct store *store, struct store_key *key, const char *data, size_t len)
{
    assert(len > 0 && len <= STORE_KEY_MAX);
    struct key_hash hash = hash_key(data, len, store->datadir.hash_seed);
    *key = (struct store_key){.data = data,
                              .len = (uint16_t)len,
                              .shard_bits = (uint16_t)hash.shard_bits,
                              .shard = hash.shard_bits & store->shard_mask,
                              .tag = hash.tag};
    keydir_prefetch(&store->keydir.shards[key->shard], key->tag);
}

/* always_inline: compilers drop calls of a function that only prefetches, as without effect. */
__attribute__((always_inline)) static inline void prefetch_item(uint64_t location,
                                                                enum store_use use)
{
    if (!location_in_ram(location))
        return;
    const char *item = location_item(location);
    __builtin_prefetch(item);
    if (use == STORE_REPLACES) {
        __builtin_prefetch(item + CACHE_ITEM_HEADER_SIZE - 1);
        return;
    }
    __builtin_prefetch(item + 64);
    __builtin_prefetch(item + 128);
}

bool store_prefetch(const struct store *store, const struct store_key *key, enum store_use use)
{
    bool elsewhere;
    prefetch_item(keydir_guess(&store->keydir.shards[key->shard], key->tag, &elsewhere), use);
    return !elsewhere;
}

void store_prefetch_again(const struct store *store, const struct store_key *key,
                          enum store_use use)
{
    prefetch_item(keydir_guess_elsewhere(&store->keydir.shards[key->shard], key->tag), use);
}

static bool is_key(const struct store_key *key, const char *data, uint32_t len)
{
    return key->len == len && memcmp(key->data, data, len) == 0;
}

static void fill_from_ram(struct store_item *item, struct cache_item *cached, uint64_t address,
                          uint32_t expire_s)
{
    *item = (struct store_item){
        .value = cache_item_value(cached),
        .value_len = cache_item_value_len(cached),
        .client_flags = cached->client_flags,
        .expire_s = expire_s,
        .accessed_s = cache_item_accessed_s(cached),
        .cas = cached->cas,
        .location = address,
        .state = cache_item_state(cached),
        .fetched = cache_item_fetched(cached),
        .in_ram = true,
    };
}

static void fill_from_record(struct store_item *item, const struct record *record, uint64_t address,
                             uint32_t expire_s)
{
    *item = (struct store_item){
        .value = record->value,
        .value_len = record->value_len,
        .client_flags = record->client_flags,
        .expire_s = expire_s,
        .cas = record->cas,
        .location = address,
        .state = record->state,
    };
}

/* An entry points to RAM. The page stays readable until store_leave (C3). always_inline, like
 * get_without_lock: calls of both would cost a pipelined hot get a twentieth. */
__attribute__((always_inline)) static inline enum store_status
take_from_ram(struct store_session *session, const struct store_key *key, bool no_touch,
              const struct keydir_entry *entry, uint64_t address, struct store_item *item)
{
    struct cache_item *cached = location_item(entry->location);
    if (!is_key(key, cached->key, cache_item_key_len(cached)))
        return STORE_NOT_FOUND; /* two keys with 67 equal bits: never seen, never wrong */
    fill_from_ram(item, cached, address, entry->expire_s);
    if (!no_touch)
        cache_item_note_access(cached, session->now_s);
    count_up(&session->counters.ram_hits, 1);
    return STORE_OK;
}

/* The same; unlocks the shard. Inline, so that a get does not ask whether it may touch. */
static inline enum store_status get_from_ram(struct store_session *session,
                                             const struct store_key *key, bool no_touch,
                                             struct found *found, struct store_item *item)
{
    uint64_t address = address_of(found->entry.location);
    if (!no_touch && !(found->entry.location & LOCATION_VISITED))
        keydir_set(found->shard, found->ref, found->entry.location | LOCATION_VISITED,
                   found->entry.expire_s);
    keydir_unlock(found->shard);
    return take_from_ram(session, key, no_touch, &found->entry, address, item);
}

/* Most gets of hot values need no lock. False: this one does, because something must be changed or
 * read from disk, or somebody else had the lock. */
__attribute__((always_inline)) static inline bool
get_without_lock(struct store_session *session, const struct store_key *key, bool no_touch,
                 struct store_item *item, enum store_status *status)
{
    const struct store *store = session->store;
    struct keydir_entry entry;
    bool present;
    uint64_t mark_lsn;
    if (store_may_be_flushed(store, session->now_s) ||
        !keydir_find_optimistic(&store->keydir.shards[key->shard], key->tag, &entry, &present,
                                &mark_lsn))
        return false;
    rest_on_mark(session, mark_lsn);
    *status = STORE_NOT_FOUND;
    if (!present) {
        rest_on_flush(session);
        return true;
    }
    if (!location_in_ram(entry.location) || is_expired(entry.expire_s, session->now_s) ||
        !(no_touch || entry.location & LOCATION_VISITED))
        return false;
    uint64_t address = address_of(entry.location);
    rest_on_address(session, address);
    *status = take_from_ram(session, key, no_touch, &entry, address, item);
    return true;
}

/* Whether the entry still points to the place on disk that was fetched. */
static bool is_address_of(const struct found *found, const struct store_fetch *fetch)
{
    return found->present && !location_in_ram(found->entry.location) &&
           location_same_address(found->entry.location, fetch->location);
}

/* The entry points to disk, and not to what `fetch` holds. Unlocks the shard. */
static enum store_status begin_fetch(struct store_session *session, const struct store_key *key,
                                     struct found *found, struct store_fetch *fetch)
{
    uint64_t location = found->entry.location;
    uint64_t lsn = store_lsn_of(session->store, location);
    store_fetch_release(fetch);
    *fetch = (struct store_fetch){
        .tag = key->tag,
        .shard = key->shard,
        .location = location & ~LOCATION_VISITED,
        .segment = store_segment_of(session->store, location),
        .session = session,
        .status = STORE_WAIT_READ,
    };
    segment_pin(fetch->segment);
    keydir_unlock(found->shard);
    enum store_status status = store_make_readable(&session->store->log, lsn);
    return status == STORE_OK ? STORE_WAIT_READ : status;
}

/* With the shard locked: looks at the entry as it is, whatever `fetch` holds. Unlocks the shard. */
static inline enum store_status get_found(struct store_session *session,
                                          const struct store_key *key, bool no_touch,
                                          struct found *found, struct store_fetch *fetch,
                                          struct store_item *item)
{
    rest_on_found(session, found);
    if (found->present && location_in_ram(found->entry.location))
        return get_from_ram(session, key, no_touch, found, item);
    if (found->present)
        return begin_fetch(session, key, found, fetch);
    keydir_unlock(found->shard);
    return STORE_NOT_FOUND;
}

/* A copy of a fetched record in the cache, not indexed yet; NULL: it does not belong there. */
static struct cache_item *copy_to_cache(struct store_session *session, const struct record *record,
                                        uint64_t location)
{
    struct cache *cache = &session->store->cache;
    if (!cache_takes(cache, record->key_len, record->value_len))
        return NULL;
    struct cache_item *item =
        cache_alloc(cache, &session->writer, record->key_len, record->value_len, record->state);
    if (!item)
        return NULL;
    item->location = location & ~LOCATION_VISITED;
    item->cas = record->cas;
    item->client_flags = record->client_flags;
    memcpy(item->key, record->key, record->key_len + (size_t)record->value_len);
    return item;
}

/* A damaged record is a miss, for good: a deletion keeps what it had replaced from coming back.
 * Until that can be written the key is there, and cannot be read. */
static enum store_status drop_corrupt(struct store_session *session, const struct store_key *key,
                                      const struct store_fetch *fetch)
{
    enum store_status status =
        store_delete(session, key, STORE_IF_SAME, fetch->location & LOCATION_ADDRESS_MASK);
    if (status == STORE_EXISTS || status == STORE_NOT_FOUND)
        return status; /* it has been replaced just now */
    if (status != STORE_OK)
        return STORE_IO;
    count_up(&session->counters.corrupt_records, 1);
    report(&session->store->options.reporter, REPORT_WARNING,
           "segment %016llx: the record at byte %u is damaged: its key is lost",
           (unsigned long long)fetch->segment->header.id, location_offset(fetch->location));
    return STORE_CORRUPT;
}

/* A disk that fails reads is reported once, and again when it has been well for a while. */
static void note_unreadable(struct store_session *session, const struct store_fetch *fetch)
{
    struct store *store = session->store;
    count_up(&session->counters.read_errors, 1);
    uint32_t last_s = atomic_exchange(&store->unreadable_s, session->now_s);
    if (last_s && session->now_s - last_s < UNREADABLE_PAUSE_S)
        return;
    report(&store->options.reporter, REPORT_ERROR,
           "segment %016llx cannot be read at byte %u (%s). %s. Clients that ask for what lies "
           "there get an error; `read_errors` in the statistics counts them",
           (unsigned long long)fetch->segment->header.id, location_offset(fetch->location),
           strerror(fetch->error), file_remedy(fetch->error));
}

/* The fetch has brought no record: an error, unless the key has another record by now. */
static enum store_status get_without_record(struct store_session *session,
                                            const struct store_key *key, bool no_touch,
                                            struct store_fetch *fetch, struct store_item *item)
{
    struct found found;
    enum store_status status = fetch->status;
    lock_and_find(session, key, &found);
    if (!is_address_of(&found, fetch))
        return get_found(session, key, no_touch, &found, fetch, item);
    keydir_unlock(found.shard);
    if (status == STORE_IO)
        note_unreadable(session, fetch);
    if (status != STORE_OK)
        return status;
    status = drop_corrupt(session, key, fetch);
    if (status != STORE_EXISTS)
        return status;
    lock_and_find(session, key, &found);
    return get_found(session, key, no_touch, &found, fetch, item);
}

/* The fetch has its bytes: uses them if the entry still points to the place they are from. */
static enum store_status get_from_fetch(struct store_session *session, const struct store_key *key,
                                        bool no_touch, struct store_fetch *fetch,
                                        struct store_item *item)
{
    struct record record;
    struct found found;
    if (fetch->status != STORE_OK ||
        record_decode(fetch->data, fetch->len, fetch->segment->header.seed,
                      location_offset(fetch->location), &record) != RECORD_OK ||
        record.type != RECORD_PUT)
        return get_without_record(session, key, no_touch, fetch, item);
    struct cache_item *cached = copy_to_cache(session, &record, fetch->location);
    lock_and_find(session, key, &found);
    bool same = is_address_of(&found, fetch);
    bool fetched = same && (found.entry.location & LOCATION_VISITED);
    if (same && cached) {
        cache_item_set_accessed(cached, no_touch ? 0 : session->now_s);
        if (fetched || !no_touch)
            cache_item_set_fetched(cached);
        keydir_set(found.shard, found.ref, location_of_item(cached, fetch->location),
                   found.entry.expire_s);
    } else if (same && !no_touch) {
        keydir_set(found.shard, found.ref, found.entry.location | LOCATION_VISITED,
                   found.entry.expire_s);
    }
    if (!same && cached)
        cache_unalloc(&session->writer, cached);
    if (!same)
        return get_found(session, key, no_touch, &found, fetch, item);
    rest_on_found(session, &found);
    keydir_unlock(found.shard);
    if (!is_key(key, record.key, record.key_len))
        return STORE_NOT_FOUND;
    fill_from_record(item, &record, fetch->location & LOCATION_ADDRESS_MASK, found.entry.expire_s);
    item->fetched = fetched;
    if (cached) {
        item->value = cache_item_value(cached);
        item->in_ram = true;
    }
    count_up(&session->counters.disk_hits, 1);
    return STORE_OK;
}

static inline enum store_status look_up(struct store_session *session, const struct store_key *key,
                                        bool no_touch, struct store_fetch *fetch,
                                        struct store_item *item)
{
    struct found found;
    enum store_status status;
    assert(atomic_load_explicit(&session->link.reclaim_epoch, memory_order_relaxed)); /* C3 */
    if (fetch->segment && fetch->status != STORE_WAIT_READ && fetch->tag == key->tag &&
        fetch->shard == key->shard)
        return get_from_fetch(session, key, no_touch, fetch, item);
    if (get_without_lock(session, key, no_touch, item, &status))
        return status;
    lock_and_find(session, key, &found);
    return get_found(session, key, no_touch, &found, fetch, item);
}

enum store_status store_get(struct store_session *session, const struct store_key *key,
                            struct store_fetch *fetch, struct store_item *item)
{
    return look_up(session, key, false, fetch, item);
}

enum store_status store_get_no_touch(struct store_session *session, const struct store_key *key,
                                     struct store_fetch *fetch, struct store_item *item)
{
    return look_up(session, key, true, fetch, item);
}

void *store_pin(struct store_session *session, const struct store_item *item)
{
    assert(item->in_ram);
    return cache_pin(&session->store->cache, item->value);
}

void store_unpin(void *pin)
{
    cache_unpin(pin);
}
