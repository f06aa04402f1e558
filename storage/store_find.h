/* store_find.h: looking a key up, for store_get.c and store_put.c.
 *
 * Each operation holds one shard's lock for a few dozen instructions (S1: never two). Under it the
 * entry is found, room in the log is reserved and the entry is set: a key's records are in the log
 * in the order of its states. Values are copied outside the lock: before it into the cache, where
 * nobody sees the item yet, and after it into the log's buffer, where log_commit waits for them.
 */
#ifndef CACHECASK_STORAGE_STORE_FIND_H
#define CACHECASK_STORAGE_STORE_FIND_H

#include "storage/store_internal.h"

/* The place in the log of what an entry points to: tells whether it is still the same. Not all that
 * ask hold the shard's lock, under which the cleaner changes an item's place. */
static inline uint64_t address_of(uint64_t location)
{
    if (!location_in_ram(location))
        return location & LOCATION_ADDRESS_MASK;
    const struct cache_item *item = location_item(location);
    return __atomic_load_n(&item->location, __ATOMIC_RELAXED) & LOCATION_ADDRESS_MASK;
}

/* What an answer rests on (S10).
 *
 * An answer tells of records: those that it has written, the one that a hit has found, the one that
 * has removed a missing key. It may be sent when all of them are durable. The log's order is the
 * order of the store, so one LSN is enough: the highest. For most answers one comparison decides,
 * because the record lies in a segment before the active one, and these segments are durable. A
 * record that the cleaner copies stays in its old segment until the copy is synced, so no answer
 * has to wait for a copy; one that finds a value just moved does, which costs little. */

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

/* The place was not durable when the batch looked at the log, or the log has gone on in another
 * segment since. Meanwhile another record may have taken the address, so its LSN may be too high:
 * never wait for more than has been appended. */
static inline void rest_on_late_address(struct store_session *session, uint64_t address)
{
    store_look_at_log(session);
    uint64_t next_lsn = atomic_load(&session->store->log.next_lsn);
    uint64_t lsn = session->active.base_lsn;
    if (location_segment_index(address) == session->active.segment_index)
        lsn += location_offset(address) + 1;
    rest_on_mark(session, lsn < next_lsn ? lsn : next_lsn);
}

static inline void rest_on_address(struct store_session *session, uint64_t address)
{
    const struct log_active *active = &session->active;
    uint32_t rolls = atomic_load_explicit(&session->store->log.rolls, memory_order_relaxed);
    if (rolls != active->rolls ||
        (location_segment_index(address) == active->segment_index &&
         active->base_lsn + location_offset(address) >= session->durable_lsn))
        rest_on_late_address(session, address);
}

/* A key is absent. A flush that is due counts, even if the log does not take its record. */
static inline void rest_on_flush(struct store_session *session)
{
    const struct log *log = &session->store->log;
    rest_on_mark(session, atomic_load_explicit(&log->flush_record_lsn, memory_order_acquire) + 1);
}

/* An entry that was looked up: absent also when its value has expired or was flushed. */
struct found {
    struct keydir_shard *shard;
    struct keydir_ref ref;
    struct keydir_entry entry;
    bool present;
};

/* Takes an entry out of the keydir. */
static inline void drop(struct store *store, struct found *found)
{
    store_mark_dead(store, found->entry.location);
    keydir_remove(found->shard, found->ref);
    found->present = false;
}

/* Locks the key's shard, looks the key up, drops it if dead; the caller unlocks found->shard. */
static inline void lock_and_find(struct store_session *session, const struct store_key *key,
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
    if (is_expired(found->entry.expire_s, session->now_s)) {
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

static inline enum store_status check_condition(const struct found *found,
                                                enum store_condition condition, uint64_t address)
{
    switch (condition) {
    case STORE_ANY: return STORE_OK;
    case STORE_IF_ABSENT: return found->present ? STORE_EXISTS : STORE_OK;
    case STORE_IF_PRESENT: return found->present ? STORE_OK : STORE_NOT_FOUND;
    case STORE_IF_SAME: break;
    }
    if (!found->present)
        return STORE_NOT_FOUND;
    return address_of(found->entry.location) == address ? STORE_OK : STORE_EXISTS;
}

/* A hit, a miss or a refusal, whatever of them; with the shard locked. */
static inline void rest_on_found(struct store_session *session, const struct found *found)
{
    rest_on_mark(session, atomic_load_explicit(&found->shard->mark_lsn, memory_order_relaxed));
    rest_on_flush(session);
    if (found->present)
        rest_on_address(session, address_of(found->entry.location));
}

#endif
