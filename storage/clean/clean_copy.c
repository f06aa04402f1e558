/* clean_copy.c: what is worth keeping is appended at the end of the log. */
#include <string.h>

#include "storage/clean/clean_job.h"

#define WAIT_MS   100
#define WAITS_MAX 10 /* for a ready segment, before there is no room */

bool clean_commit(struct job *job)
{
    job->uncommitted = 0;
    return !job->end_lsn || log_commit(&job->store->log, job->end_lsn) == STORE_OK;
}

/* `outside` is NULL, or says where the value lies that is not copied. */
static void append(struct job *job, struct log_room *room, const struct record *record,
                   const struct log_outside *outside)
{
    uint64_t size = record_size(record->key_len, record->value_len);
    uint64_t seed = room->segment->header.seed;
    memcpy(room->data + RECORD_HEADER_SIZE, record->key, record->key_len);
    if (outside) {
        record_seal_parts(room->data, record, seed, room->offset, outside->value);
    } else {
        memcpy(room->data + RECORD_HEADER_SIZE + record->key_len, record->value, record->value_len);
        record_seal(room->data, record, seed, room->offset);
    }
    if (record->type != RECORD_PUT)
        segment_add_mark(room->segment, record->type, size);
    log_publish(room);
    job->end_lsn = room->lsn + size;
    job->uncommitted += size;
    atomic_fetch_add_explicit(&job->store->cleaner.moved_bytes, size, memory_order_relaxed);
}

/* Points the keydir's entry, or its item in RAM, to the new place. With the shard locked. */
static void point_to(struct job *job, struct decision *decision, const struct log_room *room,
                     uint64_t size)
{
    uint64_t location = location_of(room->segment->segment_index, room->offset, size);
    store_note_moved(job->store, decision->shard, &decision->entry);
    atomic_fetch_add_explicit(&job->segment->dead_bytes, location_size(decision->entry.location),
                              memory_order_relaxed);
    if (location_in_ram(decision->entry.location)) {
        struct cache_item *item = location_item(decision->entry.location);
        /* The evictor looks without the lock whether it is dead. */
        __atomic_store_n(&item->location, location, __ATOMIC_RELAXED);
    } else {
        keydir_set(decision->shard, decision->ref, location, decision->entry.expire_s);
    }
}

/* Does what was decided; unlocks the shard. STORE_WAIT_SPACE: no room yet; else the job is over. */
static enum store_status act(struct job *job, const struct hint_entry *hinted, uint64_t born,
                             struct decision *decision, const struct record *found)
{
    struct log_room room;
    struct store *store = job->store;
    struct record record = *found;
    bool move = decision->action == ACTION_MOVE;
    if (move)
        record.expire_s = decision->entry.expire_s;
    if (decision->action == ACTION_TOMBSTONE)
        record.type = RECORD_DELETE;
    if (record.type != RECORD_PUT) { /* only the key of a mark is carried on, or its hash */
        record.state &= RECORD_STATE_HASHED;
        record.client_flags = record.state ? record.client_flags : 0;
        record.value_len = 0;
    }
    if (record.type == RECORD_DELETE) {
        record.expire_s = 0;
        record.cas = born;
    }
    uint64_t size = record_size(record.key_len, record.value_len);
    struct hint_entry entry = *hinted;
    entry.type = record.type;
    entry.expire_s = record.type == RECORD_DELETE ? hint_born(born) : record.expire_s;
    entry.size = (uint32_t)(size / RECORD_ALIGN);
    bool large = record.value_len >= LOG_OUTSIDE_MIN;
    struct log_outside outside = {.value = {{record.value, record.value_len}},
                                  .head_len = RECORD_HEADER_SIZE + record.key_len};
    enum store_status status = log_reserve(
        &store->log, &entry, large ? &outside : NULL, LOG_CLEANING,
        move ? lsn_at(job, hinted) : LOG_RESTS_ON_NONE, atomic_load(&store->now_s), &room);
    if (status == STORE_NOT_FOUND) { /* flushed since it was looked up */
        clean_drop_dead(store, decision->shard, decision->ref, &decision->entry);
        keydir_unlock(decision->shard);
        return STORE_OK;
    }
    if (status != STORE_OK) {
        keydir_unlock(decision->shard);
        return status;
    }
    if (move) {
        point_to(job, decision, &room, size);
        clean_note_move(job, hinted, room.lsn);
        if (job->order.evict)
            job->order.rescue -= location_size(decision->entry.location);
    }
    keydir_unlock(decision->shard);
    append(job, &room, &record, large ? &outside : NULL);
    /* A large value is written now: it lies where the next is read to. */
    return !large || clean_commit(job) ? STORE_OK : STORE_READ_ONLY;
}

enum store_status clean_read(struct job *job, const struct hint_entry *hinted,
                             struct record *record)
{
    struct segment_cursor *cursor = &job->cursor;
    uint64_t offset = hinted->offset * UINT64_C(8);
    enum cursor_status status = segment_cursor_read(cursor, offset, record);
    if (status == CURSOR_FAILED && !cursor->careful) {
        cursor->careful = true; /* something near it may be what cannot be read */
        status = segment_cursor_read(cursor, offset, record);
    }
    if (status == CURSOR_FAILED) {
        atomic_fetch_add_explicit(&job->store->cleaner.read_errors, 1, memory_order_relaxed);
        return STORE_IO;
    }
    return status == CURSOR_RECORD && record->type == hinted->type ? STORE_OK : STORE_CORRUPT;
}

enum store_status clean_copy(struct job *job, const struct hint_entry *hinted,
                             const struct record *record)
{
    uint64_t born =
        record->type == RECORD_DELETE && record->cas ? record->cas : lsn_at(job, hinted);
    struct decision decision = {0};
    enum store_status status;
    uint32_t waits = 0;
    do {
        clean_lock_and_decide(job, hinted, born, &decision);
        if (decision.action == ACTION_FORGET || decision.action == ACTION_LEAVE) {
            keydir_unlock(decision.shard);
            return STORE_OK;
        }
        status = act(job, hinted, born, &decision, record);
    } while (status == STORE_WAIT_SPACE && waits++ < WAITS_MAX &&
             thread_wait_ms(&job->store->cleaner.thread, WAIT_MS));
    return status;
}
