/* store_put.c: what changes a key, or all of them: put, delete, touch, flush. */
#include <string.h>

#include "storage/store_find.h"

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
static void index_put(struct store *store, const struct store_key *key, struct found *found,
                      uint64_t location, struct cache_item *item, uint32_t expire_s)
{
    uint64_t indexed = item ? location_of_item(item, location) : location;
    if (item)
        item->location = location;
    if (found->present) {
        store_note_moved(store, found->shard, &found->entry);
        store_mark_dead(store, found->entry.location);
        keydir_set(found->shard, found->ref, indexed, expire_s);
        return;
    }
    struct keydir_entry entry = {.tag = key->tag, .location = indexed, .expire_s = expire_s};
    bool inserted = keydir_insert(&store->keydir, found->shard, &entry);
    assert(inserted); /* keydir_has_room said so */
    (void)inserted;
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
static enum store_status put_locked(struct store_session *session, const struct store_key *key,
                                    struct store_put *put, struct found *found,
                                    struct cache_item *item, const struct log_outside *outside,
                                    struct log_room *room)
{
    struct store *store = session->store;
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
    status = log_reserve(&store->log, &entry, outside, LOG_NORMAL, rests_on, session->now_s, room);
    if (status != STORE_OK)
        return status;
    put->cas = put->cas ? put->cas : room->cas;
    if (item) {
        item->cas = put->cas;
        cache_item_set_accessed(item, session->now_s);
    }
    uint64_t location = location_of(room->segment->segment_index, room->offset, size);
    if (put->fetched && !item)
        location |= LOCATION_VISITED;
    index_put(store, key, found, location, item, put->expire_s);
    return STORE_OK;
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
    enum store_status status =
        put_locked(session, key, put, &found, item, large ? &outside : NULL, &room);
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

/* An answer that tells of what was found, and writes nothing. Unlocks the shard. */
static enum store_status answer(struct store_session *session, const struct found *found,
                                enum store_status status)
{
    rest_on_found(session, found);
    keydir_unlock(found->shard);
    return status;
}

/* Looks the key up; on STORE_OK the shard stays locked. */
static enum store_status lock_and_check(struct store_session *session, const struct store_key *key,
                                        enum store_condition condition, uint64_t address,
                                        struct found *found)
{
    assert(condition == STORE_IF_PRESENT || condition == STORE_IF_SAME);
    lock_and_find(session, key, found);
    enum store_status status = check_condition(found, condition, address);
    return status == STORE_OK ? STORE_OK : answer(session, found, status);
}

/* Reserves room for *entry, which has no value; if that fails the shard is unlocked. */
static enum store_status reserve_mark(struct store_session *session, struct found *found,
                                      const struct hint_entry *entry, struct log_room *room)
{
    enum log_use use = entry->type == RECORD_DELETE ? LOG_DELETION : LOG_NORMAL;
    uint64_t rests_on = store_lsn_of(session->store, found->entry.location);
    enum store_status status =
        log_reserve(&session->store->log, entry, NULL, use, rests_on, session->now_s, room);
    return status == STORE_OK ? STORE_OK : answer(session, found, status);
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
                               enum store_condition condition, uint64_t address)
{
    struct found found;
    struct log_room room;
    struct hint_entry entry = entry_for(key, RECORD_DELETE, 0, 0);
    enum store_status status = lock_and_check(session, key, condition, address, &found);
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
                              uint32_t expire_s, enum store_condition condition, uint64_t address)
{
    struct found found;
    struct log_room room;
    struct hint_entry entry = entry_for(key, RECORD_TOUCH, 0, expire_s);
    bool access = condition == STORE_IF_PRESENT;
    enum store_status status = lock_and_check(session, key, condition, address, &found);
    if (status != STORE_OK)
        return status;
    if (found.entry.expire_s == expire_s) { /* nothing to write */
        set_expiry(&found, session->now_s, expire_s, access);
        return answer(session, &found, STORE_OK);
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
    thread_signal(&store->background);
    return STORE_OK;
}
