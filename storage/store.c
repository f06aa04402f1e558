/* store.c: what the store does for one key: look up, put, delete, touch.
 *
 * Each operation holds one shard's lock for a few dozen instructions (S1: never two). Under it the entry is found, the
 * decision is made, a place in the log reserved and the entry set; so the order of a key's records in the log is the order
 * of its states. Copying values and checksums happen outside: before the lock into the cache, where nobody sees the item
 * yet, and after it into the log's buffer, where log_commit waits for it.
 *
 * store_open.c opens and closes, background.c is the background thread.
 */
#define _GNU_SOURCE
#include "storage/store.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/hash.h"
#include "storage/base/monotonic.h"
#include "storage/store_internal.h"

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

/* always_inline: a compiler takes a function that only prefetches for one without effect, and drops its calls. */
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

/* The place in the log of what an entry points to: tells whether it is still the same. Not all that ask hold the shard's lock,
 * under which the cleaner changes an item's place. */
static uint64_t place_of(uint64_t location)
{
    if (!location_in_ram(location))
        return location & LOCATION_PLACE_MASK;
    const struct cache_item *item = location_item(location);
    return __atomic_load_n(&item->location, __ATOMIC_RELAXED) & LOCATION_PLACE_MASK;
}

/* What an answer rests on (S10).
 *
 * An answer tells of records: those that it has written, the one that a hit has found, the one that has removed a missing key. It
 * may be sent when all of them are durable. The log's order is the order of the store, so one LSN is enough: the highest. For most
 * answers one comparison decides, because the record lies in a segment before the active one, and these segments are durable. A
 * record that the cleaner copies stays in its old segment until the copy is synced, so no answer has to wait for a copy. One that
 * finds a value which was moved just now does wait, which costs little. */

static inline void rest_on(struct store_session *session, uint64_t lsn)
{
    if (lsn > session->answer_lsn)
        session->answer_lsn = lsn;
}

static inline void rest_on_mark(struct store_session *session, uint64_t lsn)
{
    if (lsn > session->durable_lsn)
        rest_on(session, lsn);
}

/* The place was not durable when the batch looked at the log, or the log has gone on in another segment since. Meanwhile another
 * record may have taken the place, so its LSN may be too high: never wait for more than has been appended. */
static void rest_on_late_place(struct store_session *session, uint64_t place)
{
    store_look_at_log(session);
    uint64_t next_lsn = atomic_load(&session->store->log.next_lsn);
    uint64_t lsn = session->active.base_lsn;
    if (location_slot(place) == session->active.slot)
        lsn += location_offset(place) + 1;
    rest_on_mark(session, lsn < next_lsn ? lsn : next_lsn);
}

static inline void rest_on_place(struct store_session *session, uint64_t place)
{
    const struct log_active *active = &session->active;
    uint32_t rolls = atomic_load_explicit(&session->store->log.rolls, memory_order_relaxed);
    if (rolls != active->rolls ||
        (location_slot(place) == active->slot &&
         active->base_lsn + location_offset(place) >= session->durable_lsn))
        rest_on_late_place(session, place);
}

/* A key is absent. A flush whose time has come counts, even if the log does not take the record that carries it out. */
static inline void rest_on_flush(struct store_session *session)
{
    const struct log *log = &session->store->log;
    rest_on_mark(session, atomic_load_explicit(&log->flush_record_lsn, memory_order_acquire) + 1);
}

/* An entry that was looked up: absent when there is none, or what it points to has expired or was flushed. */
struct found {
    struct keydir_shard *shard;
    struct keydir_ref ref;
    struct keydir_entry entry;
    bool present;
};

/* Takes an entry out of the keydir. */
static void drop(struct store *store, struct found *found)
{
    store_mark_dead(store, found->entry.location);
    keydir_remove(found->shard, found->ref);
    found->present = false;
}

/* Locks the key's shard and looks it up; the caller unlocks found->shard. What is dead is dropped on the way. */
static void lock_and_find(struct store_session *session, const struct store_key *key,
                          struct found *found)
{
    struct store *store = session->store;
    if (session->now_s >= atomic_load_explicit(&store->log.flush_deadline_s, memory_order_relaxed))
        log_flush_if_due(&store->log, session->now_s);
    found->shard = &store->keydir.shards[key->shard];
    keydir_lock(found->shard);
    found->present = keydir_find(found->shard, key->tag, &found->ref, &found->entry);
    if (!found->present)
        return;
    if (store_is_expired(found->entry.expire_s, session->now_s)) {
        count_up(&session->counters.expired_items, 1);
        if (!store_was_visited(found->entry.location))
            count_up(&session->counters.expired_unfetched, 1);
        store_mark_expired(store, found->shard, found->entry.location);
        drop(store, found);
    } else if (store_is_flushed(store, &found->entry, session->now_s)) {
        drop(store, found);
        count_up(&session->counters.flushed_items, 1);
    }
}

static enum store_status check_condition(const struct found *found, enum store_condition condition,
                                         uint64_t place)
{
    switch (condition) {
    case STORE_ANY: return STORE_OK;
    case STORE_IF_ABSENT: return found->present ? STORE_EXISTS : STORE_OK;
    case STORE_IF_PRESENT: return found->present ? STORE_OK : STORE_NOT_FOUND;
    case STORE_IF_SAME: break;
    }
    if (!found->present)
        return STORE_NOT_FOUND;
    return place_of(found->entry.location) == place ? STORE_OK : STORE_EXISTS;
}

/* Get. */

static bool is_key(const struct store_key *key, const char *data, uint32_t len)
{
    return key->len == len && memcmp(key->data, data, len) == 0;
}

static void fill_from_ram(struct store_item *item, struct cache_item *cached, uint64_t place,
                          uint32_t expire_s)
{
    *item = (struct store_item){
        .value = cache_item_value(cached),
        .value_len = cache_item_value_len(cached),
        .client_flags = cached->client_flags,
        .expire_s = expire_s,
        .accessed_s = cache_item_accessed_s(cached),
        .cas = cached->cas,
        .location = place,
        .state = cache_item_state(cached),
        .fetched = cache_item_fetched(cached),
        .in_ram = true,
    };
}

static void fill_from_record(struct store_item *item, const struct record *record, uint64_t place,
                             uint32_t expire_s)
{
    *item = (struct store_item){
        .value = record->value,
        .value_len = record->value_len,
        .client_flags = record->client_flags,
        .expire_s = expire_s,
        .cas = record->cas,
        .location = place,
        .state = record->state,
    };
}

/* A hit, a miss or a refusal, whatever of them; with the shard locked. */
static void rest_on_found(struct store_session *session, const struct found *found)
{
    rest_on_mark(session, atomic_load_explicit(&found->shard->mark_lsn, memory_order_relaxed));
    rest_on_flush(session);
    if (found->present)
        rest_on_place(session, place_of(found->entry.location));
}

/* An entry points to RAM. The page stays readable until store_leave (C3). always_inline, like get_without_lock: every get of what is
 * hot comes along here, and a compiler that calls both costs a pipelined get a twentieth. */
__attribute__((always_inline)) static inline enum store_status
take_from_ram(struct store_session *session, const struct store_key *key, bool peek,
              const struct keydir_entry *entry, uint64_t place, struct store_item *item)
{
    struct cache_item *cached = location_item(entry->location);
    if (!is_key(key, cached->key, cache_item_key_len(cached)))
        return STORE_NOT_FOUND; /* two keys with 67 equal bits: never seen, never wrong */
    fill_from_ram(item, cached, place, entry->expire_s);
    if (!peek)
        cache_item_note_access(cached, session->now_s);
    count_up(&session->counters.ram_hits, 1);
    return STORE_OK;
}

/* The same, with the shard locked; unlocks it. Inline, so that a get does not ask whether it is a peek. */
static inline enum store_status get_from_ram(struct store_session *session,
                                             const struct store_key *key, bool peek,
                                             struct found *found, struct store_item *item)
{
    uint64_t place = place_of(found->entry.location);
    if (!peek && !(found->entry.location & LOCATION_VISITED))
        keydir_set(found->shard, found->ref, found->entry.location | LOCATION_VISITED,
                   found->entry.expire_s);
    keydir_unlock(found->shard);
    return take_from_ram(session, key, peek, &found->entry, place, item);
}

/* What is only looked at, most gets of what is hot, needs no lock. False: this one does, because something is to be changed on
 * the way or read from disk, or because somebody else had the lock. */
__attribute__((always_inline)) static inline bool
get_without_lock(struct store_session *session, const struct store_key *key, bool peek,
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
    if (!location_in_ram(entry.location) || store_is_expired(entry.expire_s, session->now_s) ||
        !(peek || entry.location & LOCATION_VISITED))
        return false;
    uint64_t place = place_of(entry.location);
    rest_on_place(session, place);
    *status = take_from_ram(session, key, peek, &entry, place, item);
    return true;
}

/* Whether the entry still points to the place on disk that was fetched. */
static bool is_place_of(const struct found *found, const struct store_fetch *fetch)
{
    return found->present && !location_in_ram(found->entry.location) &&
           location_same_place(found->entry.location, fetch->location);
}

/* The entry points to disk, and not to what `fetch` holds. Unlocks the shard. */
static enum store_status begin_fetch(struct store_session *session, const struct store_key *key,
                                     struct found *found, struct store_fetch *fetch)
{
    struct log *log = &session->store->log;
    uint64_t location = found->entry.location;
    uint64_t lsn = store_lsn_of(session->store, location);
    store_fetch_release(fetch);
    *fetch = (struct store_fetch){
        .tag = key->tag,
        .shard = key->shard,
        .location = location & ~LOCATION_VISITED,
        .segment = log_segment(log, location_slot(location)),
        .session = session,
        .status = STORE_WAIT_READ,
    };
    segment_pin(fetch->segment);
    keydir_unlock(found->shard);
    /* What is still in the log's buffer cannot be read from the file; a buffer is written as a whole. */
    enum store_status status = log_written_lsn(log) > lsn ? STORE_OK : log_commit(log, lsn + 1);
    return status == STORE_OK ? STORE_WAIT_READ : status;
}

/* With the shard locked: looks at the entry as it is, whatever `fetch` holds. Unlocks the shard. */
static inline enum store_status get_found(struct store_session *session,
                                          const struct store_key *key, bool peek,
                                          struct found *found, struct store_fetch *fetch,
                                          struct store_item *item)
{
    rest_on_found(session, found);
    if (found->present && location_in_ram(found->entry.location))
        return get_from_ram(session, key, peek, found, item);
    if (found->present)
        return begin_fetch(session, key, found, fetch);
    keydir_unlock(found->shard);
    return STORE_NOT_FOUND;
}

/* A copy of a fetched record in the cache, indexed by nobody yet; NULL when it does not belong there. */
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

/* A damaged record is a miss, for good: a deletion keeps what it had replaced from coming back. Until that can be written
 * the key is there, and cannot be read. */
static enum store_status drop_corrupt(struct store_session *session, const struct store_key *key,
                                      const struct store_fetch *fetch)
{
    enum store_status status =
        store_delete(session, key, STORE_IF_SAME, fetch->location & LOCATION_PLACE_MASK);
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

/* A disk that fails reads is told of once, and again when it has been well for a while. */
static void note_unreadable(struct store_session *session, const struct store_fetch *fetch)
{
    struct store *store = session->store;
    count_up(&session->counters.read_errors, 1);
    uint32_t last_s = atomic_exchange(&store->unreadable_s, session->now_s);
    if (last_s && session->now_s - last_s < UNREADABLE_PAUSE_S)
        return;
    report(
        &store->options.reporter, REPORT_ERROR,
        "segment %016llx cannot be read at byte %u (%s). %s. Clients that ask for what lies there "
        "get an error; `read_errors` in the statistics counts them",
        (unsigned long long)fetch->segment->header.id, location_offset(fetch->location),
        strerror(fetch->error), file_remedy(fetch->error));
}

/* The fetch has brought no record. That is an error, or the end of the key; but not if the key has another record by now. */
static enum store_status get_without_record(struct store_session *session,
                                            const struct store_key *key, bool peek,
                                            struct store_fetch *fetch, struct store_item *item)
{
    struct found found;
    enum store_status status = fetch->status;
    lock_and_find(session, key, &found);
    if (!is_place_of(&found, fetch))
        return get_found(session, key, peek, &found, fetch, item);
    keydir_unlock(found.shard);
    if (status == STORE_IO)
        note_unreadable(session, fetch);
    if (status != STORE_OK)
        return status;
    status = drop_corrupt(session, key, fetch);
    if (status != STORE_EXISTS)
        return status;
    lock_and_find(session, key, &found);
    return get_found(session, key, peek, &found, fetch, item);
}

/* The fetch has its bytes: uses them if the entry still points to the place they are from. */
static enum store_status get_from_fetch(struct store_session *session, const struct store_key *key,
                                        bool peek, struct store_fetch *fetch,
                                        struct store_item *item)
{
    struct record record;
    struct found found;
    if (fetch->status != STORE_OK ||
        record_decode(fetch->data, fetch->len, fetch->segment->header.seed,
                      location_offset(fetch->location), &record) != RECORD_OK ||
        record.type != RECORD_PUT)
        return get_without_record(session, key, peek, fetch, item);
    struct cache_item *cached = copy_to_cache(session, &record, fetch->location);
    lock_and_find(session, key, &found);
    bool same = is_place_of(&found, fetch);
    bool fetched = same && (found.entry.location & LOCATION_VISITED);
    if (same && cached) {
        cache_item_set_accessed(cached, peek ? 0 : session->now_s);
        if (fetched || !peek)
            cache_item_set_fetched(cached);
        keydir_set(found.shard, found.ref, location_of_item(cached, fetch->location),
                   found.entry.expire_s);
    } else if (same && !peek) {
        keydir_set(found.shard, found.ref, found.entry.location | LOCATION_VISITED,
                   found.entry.expire_s);
    }
    if (!same && cached)
        cache_unalloc(&session->writer, cached);
    if (!same)
        return get_found(session, key, peek, &found, fetch, item);
    rest_on_found(session, &found);
    keydir_unlock(found.shard);
    if (!is_key(key, record.key, record.key_len))
        return STORE_NOT_FOUND;
    fill_from_record(item, &record, fetch->location & LOCATION_PLACE_MASK, found.entry.expire_s);
    item->fetched = fetched;
    if (cached) {
        item->value = cache_item_value(cached);
        item->in_ram = true;
    }
    count_up(&session->counters.disk_hits, 1);
    return STORE_OK;
}

static inline enum store_status look_up(struct store_session *session, const struct store_key *key,
                                        bool peek, struct store_fetch *fetch,
                                        struct store_item *item)
{
    struct found found;
    enum store_status status;
    assert(atomic_load_explicit(&session->epoch, memory_order_relaxed)); /* C3 */
    if (fetch->segment && fetch->status != STORE_WAIT_READ && fetch->tag == key->tag &&
        fetch->shard == key->shard)
        return get_from_fetch(session, key, peek, fetch, item);
    if (get_without_lock(session, key, peek, item, &status))
        return status;
    lock_and_find(session, key, &found);
    return get_found(session, key, peek, &found, fetch, item);
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

/* Put, delete, touch. */

static void copy_value(char *to, const struct store_put *put)
{
    memcpy(to, put->value[0].data, put->value[0].len);
    if (put->value[1].len)
        memcpy(to + put->value[0].len, put->value[1].data, put->value[1].len);
}

/* The new value in the cache, seen by nobody yet; NULL: it will only be in the log. */
static struct cache_item *prepare_item(struct store_session *session, const struct store_key *key,
                                       const struct store_put *put)
{
    uint32_t value_len = put->value[0].len + put->value[1].len;
    struct cache *cache = &session->store->cache;
    if (!cache_takes(cache, key->len, value_len))
        return NULL;
    struct cache_item *item =
        cache_alloc(cache, &session->writer, (uint8_t)key->len, value_len, put->state);
    if (!item)
        return NULL;
    item->client_flags = put->client_flags;
    if (put->fetched)
        cache_item_set_fetched(item);
    memcpy(item->key, key->data, key->len);
    copy_value(item->key + key->len, put);
    return item;
}

/* Publishes a record that is sealed, and remembers it for the commit. */
static void publish_record(struct store_session *session, struct log_room *room,
                           const struct record *record)
{
    uint64_t size = record_size(record->key_len, record->value_len);
    log_publish(room);
    rest_on(session, room->lsn + size);
    count_up(&session->counters.user_bytes, record->key_len + (uint64_t)record->value_len);
}

/* Writes a record without a value, or with a small one. */
static void write_record(struct store_session *session, struct log_room *room,
                         const struct store_key *key, const struct record *record,
                         const struct store_put *put)
{
    memcpy(room->data + RECORD_HEADER_SIZE, key->data, key->len);
    if (put)
        copy_value(room->data + RECORD_HEADER_SIZE + key->len, put);
    record_seal(room->data, record, room->segment->header.seed, room->offset);
    publish_record(session, room, record);
}

/* Writes a record with a large value, from where that lies. */
static void write_large(struct store_session *session, struct log_room *room,
                        const struct store_key *key, const struct record *record,
                        const struct log_outside *outside)
{
    memcpy(room->data + RECORD_HEADER_SIZE, key->data, key->len);
    record_seal_parts(room->data, record, room->segment->header.seed, room->offset, outside->value);
    publish_record(session, room, record);
    log_commit(&session->store->log, session->answer_lsn); /* its status: by store_commit, too */
}

/* Whether the value is written from where it lies; sets *outside. */
static bool is_large(const struct store_key *key, const struct store_put *put,
                     struct log_outside *outside)
{
    const struct store_bytes *value = put->value;
    if ((uint64_t)value[0].len + value[1].len < LOG_OUTSIDE_MIN)
        return false;
    bool swap = value[0].len == 0;
    *outside = (struct log_outside){
        .value = {{value[swap].data, value[swap].len}, {value[!swap].data, value[!swap].len}},
        .head_len = RECORD_HEADER_SIZE + key->len,
    };
    return true;
}

/* What the log is told of a record that is to be written. */
static struct hint_entry entry_for(const struct store_key *key, uint8_t type, uint64_t value_len,
                                   uint32_t expire_s)
{
    return (struct hint_entry){
        .tag = key->tag,
        .size = (uint32_t)(record_size(key->len, value_len) / RECORD_ALIGN),
        .expire_s = expire_s,
        .shard_bits = key->shard_bits,
        .type = type,
    };
}

/* Points the key to its new record; `item` is the value in RAM, or NULL. */
static enum store_status index_put(struct store *store, const struct store_key *key,
                                   struct found *found, uint64_t location, struct cache_item *item,
                                   uint32_t expire_s)
{
    uint64_t indexed = item ? location_of_item(item, location) : location;
    if (item)
        item->location = location;
    if (found->present) {
        store_note_moved(store, found->shard, &found->entry);
        store_mark_dead(store, found->entry.location);
        keydir_set(found->shard, found->ref, indexed, expire_s);
        return STORE_OK;
    }
    struct keydir_entry entry = {.tag = key->tag, .location = indexed, .expire_s = expire_s};
    bool inserted = keydir_insert(&store->keydir, found->shard, &entry);
    assert(inserted); /* keydir_has_room said so */
    (void)inserted;
    return STORE_OK;
}

/* Whether the index and the disk's share for what lives take it. */
static enum store_status check_room(struct store *store, const struct found *found, uint64_t size)
{
    uint64_t old_size = found->present ? location_size(found->entry.location) : 0;
    if (size > old_size && store->options.no_evictions) {
        enum store_status status = cleaner_may_grow(store, size);
        if (status != STORE_OK)
            return status;
    }
    if (found->present || keydir_has_room(&store->keydir, found->shard))
        return STORE_OK;
    return cleaner_want_index(store);
}

/* With the shard locked: decides, reserves and indexes. */
static enum store_status put_locked(struct store *store, const struct store_key *key,
                                    uint32_t now_s, struct store_put *put, struct found *found,
                                    struct cache_item *item, const struct log_outside *outside,
                                    struct log_room *room)
{
    uint64_t value_len = (uint64_t)put->value[0].len + put->value[1].len;
    uint64_t size = record_size(key->len, value_len);
    enum store_status status = check_condition(found, put->condition, put->location);
    if (status == STORE_OK)
        status = check_room(store, found, size);
    if (status != STORE_OK)
        return status;
    uint64_t rests_on = LOG_RESTS_ON_NONE;
    if (put->condition == STORE_IF_SAME || put->condition == STORE_IF_PRESENT)
        rests_on = store_lsn_of(store, found->entry.location);
    if (put->keep_expiry && found->present)
        put->expire_s = found->entry.expire_s;
    struct hint_entry entry = entry_for(key, RECORD_PUT, value_len, put->expire_s);
    status = log_reserve(&store->log, &entry, outside, LOG_NORMAL, rests_on, now_s, room);
    if (status != STORE_OK)
        return status;
    put->cas = put->cas ? put->cas : room->cas;
    if (item) {
        item->cas = put->cas;
        cache_item_set_accessed(item, now_s);
    }
    uint64_t location = location_of(room->segment->slot, room->offset, size);
    if (put->fetched && !item)
        location |= LOCATION_VISITED;
    return index_put(store, key, found, location, item, put->expire_s);
}

enum store_status store_put(struct store_session *session, const struct store_key *key,
                            struct store_put *put)
{
    struct found found;
    struct log_room room;
    struct log_outside outside;
    bool large = is_large(key, put, &outside);
    static_assert((int)STORE_STATE_STALE == RECORD_STATE_STALE, "one bit, two names");
    static_assert((int)STORE_STATE_WIN == RECORD_STATE_WIN, "one bit, two names");
    put->state &= STORE_STATE_STALE | STORE_STATE_WIN;
    if (put->cas)
        put->state |= RECORD_STATE_CAS_CHOSEN;
    struct cache_item *item = prepare_item(session, key, put);
    lock_and_find(session, key, &found);
    enum store_status status = put_locked(session->store, key, session->now_s, put, &found, item,
                                          large ? &outside : NULL, &room);
    if (status != STORE_OK)
        rest_on_found(session, &found);
    keydir_unlock(found.shard);
    if (status != STORE_OK) {
        if (item)
            cache_unalloc(&session->writer, item);
        return status;
    }
    struct record record = {
        .type = RECORD_PUT,
        .cas = put->cas,
        .expire_s = put->expire_s,
        .client_flags = put->client_flags,
        .value_len = put->value[0].len + put->value[1].len,
        .key_len = (uint8_t)key->len,
        .state = put->state,
    };
    if (large)
        write_large(session, &room, key, &record, &outside);
    else
        write_record(session, &room, key, &record, put);
    return STORE_OK;
}

uint64_t store_item_size(uint32_t key_len, uint64_t value_len)
{
    return record_size(key_len, value_len);
}

/* Looks the key up; on STORE_OK the shard stays locked. */
static enum store_status lock_and_check(struct store_session *session, const struct store_key *key,
                                        enum store_condition condition, uint64_t place,
                                        struct found *found)
{
    assert(condition == STORE_IF_PRESENT || condition == STORE_IF_SAME);
    lock_and_find(session, key, found);
    enum store_status status = check_condition(found, condition, place);
    if (status == STORE_OK)
        return STORE_OK;
    rest_on_found(session, found);
    keydir_unlock(found->shard);
    return status;
}

/* Reserves room for *entry, which has no value; if that fails the shard is unlocked. */
static enum store_status reserve_mark(struct store_session *session, struct found *found,
                                      const struct hint_entry *entry, struct log_room *room)
{
    enum log_use use = entry->type == RECORD_DELETE ? LOG_DELETION : LOG_NORMAL;
    uint64_t rests_on = store_lsn_of(session->store, found->entry.location);
    enum store_status status =
        log_reserve(&session->store->log, entry, NULL, use, rests_on, session->now_s, room);
    if (status == STORE_OK)
        return STORE_OK;
    rest_on_found(session, found);
    keydir_unlock(found->shard);
    return status;
}

static void write_mark(struct store_session *session, const struct store_key *key, uint8_t type,
                       uint32_t expire_s, struct log_room *room)
{
    struct record record = {.type = type, .expire_s = expire_s, .key_len = (uint8_t)key->len};
    if (type == RECORD_DELETE)
        record.cas = room->lsn; /* when it was born (clean_segment.c) */
    segment_add_mark(room->segment, type, record_size(key->len, 0));
    write_record(session, room, key, &record, NULL);
}

enum store_status store_delete(struct store_session *session, const struct store_key *key,
                               enum store_condition condition, uint64_t place)
{
    struct found found;
    struct log_room room;
    struct hint_entry entry = entry_for(key, RECORD_DELETE, 0, 0);
    enum store_status status = lock_and_check(session, key, condition, place, &found);
    if (status == STORE_OK)
        status = reserve_mark(session, &found, &entry, &room);
    if (status != STORE_OK)
        return status;
    drop(session->store, &found);
    keydir_note_mark(found.shard, room.lsn + 1);
    keydir_unlock(found.shard);
    write_mark(session, key, RECORD_DELETE, 0, &room);
    return STORE_OK;
}

/* Sets the entry's expiry; with the shard locked. */
static void set_expiry(const struct found *found, uint32_t now_s, uint32_t expire_s, bool access)
{
    uint64_t location = found->entry.location;
    keydir_set(found->shard, found->ref, location | (access ? LOCATION_VISITED : 0), expire_s);
    if (access && location_in_ram(location))
        cache_item_note_access(location_item(location), now_s);
}

enum store_status store_touch(struct store_session *session, const struct store_key *key,
                              uint32_t expire_s, enum store_condition condition, uint64_t place)
{
    struct found found;
    struct log_room room;
    struct hint_entry entry = entry_for(key, RECORD_TOUCH, 0, expire_s);
    bool access = condition == STORE_IF_PRESENT;
    enum store_status status = lock_and_check(session, key, condition, place, &found);
    if (status != STORE_OK)
        return status;
    if (found.entry.expire_s == expire_s) { /* nothing to write */
        set_expiry(&found, session->now_s, expire_s, access);
        rest_on_found(session, &found);
        keydir_unlock(found.shard);
        return STORE_OK;
    }
    status = reserve_mark(session, &found, &entry, &room);
    if (status != STORE_OK)
        return status;
    set_expiry(&found, session->now_s, expire_s, access);
    keydir_note_mark(found.shard, room.lsn + 1);
    keydir_unlock(found.shard);
    write_mark(session, key, RECORD_TOUCH, expire_s, &room);
    return STORE_OK;
}

void store_tick(struct store *store, uint32_t now_s)
{
    if (now_s > atomic_load(&store->now_s))
        atomic_store(&store->now_s, now_s);
    if (now_s >= atomic_load(&store->log.flush_deadline_s))
        log_flush_if_due(&store->log, now_s);
}

enum store_status store_flush(struct store_session *session, uint32_t when_s)
{
    struct store *store = session->store;
    uint64_t end_lsn;
    enum store_status status =
        log_flush(&store->log, when_s > session->now_s ? when_s : 0, session->now_s, &end_lsn);
    if (status != STORE_OK)
        return status;
    rest_on(session, end_lsn);
    background_signal(store);
    return STORE_OK;
}

uint64_t store_answer_lsn(struct store_session *session)
{
    uint64_t lsn = session->answer_lsn;
    if (lsn > session->commit_lsn)
        session->commit_lsn = lsn;
    session->answer_lsn = 0;
    return lsn;
}

uint64_t store_commit_lsn(struct store_session *session)
{
    store_answer_lsn(session);
    return session->commit_lsn;
}

enum store_status store_commit(struct store_session *session)
{
    return log_commit(&session->store->log, store_commit_lsn(session));
}

/* Whether the syncer has come past it; else asks it to. */
static enum store_status await_sync(struct log *log, uint64_t lsn)
{
    log_request_sync(log, lsn);
    if (atomic_load(&log->failed)) /* what a start has found is read from a full disk, too */
        return lsn <= log->start_lsn ? STORE_OK : STORE_READ_ONLY;
    return log_synced_lsn(log) >= lsn ? STORE_OK : STORE_WAIT_SYNC;
}

enum store_status store_durable(struct store_session *session, uint64_t lsn)
{
    struct log *log = &session->store->log;
    bool always = log->options.sync_interval_ms == STORE_SYNC_ALWAYS;
    enum store_status status = STORE_OK;
    if (store_durable_lsn(session->store) < lsn)
        status = always ? await_sync(log, lsn) : STORE_READ_ONLY;
    if (status == STORE_OK && always && log_may_have_lost(log, lsn, session->lost_values))
        return STORE_READ_ONLY;
    return status;
}
