/* clean.c: one segment is taken back.
 *
 * What is carried, or the dead rise (the rules of enum cleaner_rule; each is the reason for one line of `decide`)
 *   The log's last record of a key is its state, and what stands before it is masked by it. A record may be forgotten when
 *   something that stays in the log masks what it masked, or nothing older is left (it is in the oldest segment).
 *   - A value that the keydir points to is moved. It takes its expiry from the keydir, as the TOUCHes behind its old place
 *     no longer stand behind it, and keeps its CAS unique.
 *   - A value that was replaced or deleted is forgotten: the later record masks more.
 *   - A deletion is carried while its key is absent.
 *   - A value that has expired by its own expiry, and whose key is absent, has masked what is older and becomes a deletion.
 *     So does a TOUCH that has expired. (An expired value without an expiry of its own has such a TOUCH behind it.)
 *   - A TOUCH is carried while the key's value lies before it and still has its expiry.
 *   - What lies before a flush is forgotten; nothing is moved from before a flush to behind it.
 *
 * Eviction removes the file first and the keys from the index after that: once a client has been told that a key is not
 * there (its delete writes nothing then), no crash may bring it back.
 */
#define _GNU_SOURCE
#include "storage/clean.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "storage/hint.h"
#include "storage/monotonic.h"

#define WAIT_MS      10
#define WAITS_MAX    50           /* for a spare segment, before the disk counts as full */
#define COMMIT_BYTES (128 * 1024) /* moved between two commits: others may have to write it */
#define PACE_LOOK_US 20000        /* how often a pause looks whether it is over */
#define GROUP        32           /* entries whose buckets are fetched ahead together */

/* A segment on its way out. */
struct job {
    struct clean_order order;
    struct store *store;
    struct segment *segment;
    struct segment_cursor cursor;
    struct hint hint;
    struct hint_entry *entries;
    uint64_t end_lsn; /* of what was appended */
    uint64_t uncommitted;
    uint64_t chunk_started_us;
};

enum action {
    ACTION_FORGET,
    ACTION_LEAVE, /* evicted later */
    ACTION_MOVE,
    ACTION_CARRY,
    ACTION_BURY, /* a deletion takes its place */
};

static bool follows(const struct store *store, uint32_t rule)
{
    return !(atomic_load_explicit(&store->cleaner.skipped_rules, memory_order_relaxed) & rule);
}

/* Deciding. */

static uint64_t lsn_at(const struct job *job, const struct hint_entry *hinted)
{
    return job->segment->header.base_lsn + hinted->offset * UINT64_C(8);
}

/* Whether the entry names exactly the record of the hint entry. */
static bool names(const struct job *job, const struct hint_entry *hinted, uint64_t location)
{
    if (location_in_ram(location))
        location = ((const struct cache_item *)location_item(location))->location;
    return location_slot(location) == job->segment->slot &&
           location_offset(location) == hinted->offset * 8;
}

static bool has_expired(const struct store *store, uint32_t expire_s)
{
    return store_is_expired(expire_s, atomic_load_explicit(&store->now_s, memory_order_relaxed));
}

/* What is done with a value that the keydir names. */
static enum action decide_live(const struct job *job, const struct keydir_entry *entry)
{
    if (!job->order.evict)
        return ACTION_MOVE;
    return store_was_visited(entry->location) && location_size(entry->location) <= job->order.rescue
               ? ACTION_MOVE
               : ACTION_LEAVE;
}

static bool is_dead(const struct store *store, const struct keydir_entry *entry)
{
    return has_expired(store, entry->expire_s) ||
           (store_lsn_of(store, entry->location) < atomic_load(&store->log.flush_lsn) &&
            follows(store, CLEANER_RULE_FLUSH));
}

/* Drops the key of a value that is dead by a flush or by its expiry. With its shard locked. */
static void drop_dead(struct store *store, struct keydir_shard *shard, struct keydir_ref ref,
                      const struct keydir_entry *entry)
{
    if (has_expired(store, entry->expire_s))
        store_count_expired(store, entry->location);
    store_bury(store, entry->location);
    keydir_remove(shard, ref);
}

/* With the key's shard locked. `entry` is NULL when the key is absent. */
static enum action decide(const struct job *job, const struct hint_entry *hinted,
                          const struct keydir_entry *entry)
{
    const struct store *store = job->store;
    uint64_t lsn = lsn_at(job, hinted);
    bool flushed = lsn < atomic_load(&store->log.flush_lsn) && follows(store, CLEANER_RULE_FLUSH);
    bool masks = !job->order.oldest && !flushed; /* there may be something older that it masks */
    bool expired = has_expired(store, hinted->expire_s);
    switch (hinted->type) {
    case RECORD_PUT:
        if (entry)
            return names(job, hinted, entry->location) ? decide_live(job, entry) : ACTION_FORGET;
        return expired && masks && follows(store, CLEANER_RULE_EXPIRED) ? ACTION_BURY
                                                                        : ACTION_FORGET;
    case RECORD_DELETE:
        return !entry && masks && follows(store, CLEANER_RULE_DELETE) ? ACTION_CARRY
                                                                      : ACTION_FORGET;
    case RECORD_TOUCH:
        if (!masks)
            return ACTION_FORGET;
        if (!entry)
            return expired && follows(store, CLEANER_RULE_EXPIRED_TOUCH) ? ACTION_BURY
                                                                         : ACTION_FORGET;
        return entry->expire_s == hinted->expire_s && store_lsn_of(store, entry->location) < lsn &&
                       follows(store, CLEANER_RULE_TOUCH)
                   ? ACTION_CARRY
                   : ACTION_FORGET;
    default: return ACTION_FORGET; /* FLUSH: its effect hangs on its place; headers repeat it */
    }
}

static struct keydir_shard *shard_of(const struct store *store, const struct hint_entry *hinted)
{
    return &store->keydir.shards[hinted->shard_bits & store->shard_mask];
}

/* An entry with its shard locked, and what is to be done with it. */
struct looked {
    struct keydir_shard *shard;
    struct keydir_ref ref;
    struct keydir_entry entry;
    enum action action;
};

static void lock_and_decide(const struct job *job, const struct hint_entry *hinted,
                            struct looked *looked)
{
    looked->shard = shard_of(job->store, hinted);
    keydir_lock(looked->shard);
    bool present = hinted->type != RECORD_FLUSH &&
                   keydir_find(looked->shard, hinted->tag, &looked->ref, &looked->entry);
    if (present && is_dead(job->store, &looked->entry)) {
        drop_dead(job->store, looked->shard, looked->ref, &looked->entry);
        present = false;
    }
    looked->action = decide(job, hinted, present ? &looked->entry : NULL);
}

/* Appending. */

static bool commit(struct job *job)
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
    segment_add_mask(room->segment, record->type, record->expire_s, size);
    log_publish(room);
    job->end_lsn = room->lsn + size;
    job->uncommitted += size;
    atomic_fetch_add_explicit(&job->store->cleaner.moved_bytes, size, memory_order_relaxed);
}

/* The keydir's entry, or the item in RAM that it points to, learns of the new place. With the shard locked. */
static void point_to(struct job *job, struct looked *looked, const struct log_room *room,
                     uint64_t size)
{
    uint64_t location = location_of(room->segment->slot, room->offset, size);
    atomic_fetch_add_explicit(&job->segment->buried_bytes, location_size(looked->entry.location),
                              memory_order_relaxed);
    if (location_in_ram(looked->entry.location)) {
        struct cache_item *item = location_item(looked->entry.location);
        /* The evictor looks without the lock whether it is buried. */
        __atomic_store_n(&item->location, location, __ATOMIC_RELAXED);
    } else {
        keydir_set(looked->shard, looked->ref, location, looked->entry.expire_s);
    }
}

/* Does what was decided. Unlocks the shard. STORE_OK; STORE_AGAIN: no room yet; else the job is over. */
static enum store_status act(struct job *job, const struct hint_entry *hinted,
                             struct looked *looked, const struct record *found)
{
    struct log_room room;
    struct store *store = job->store;
    struct record record = *found;
    bool move = looked->action == ACTION_MOVE;
    if (move && follows(store, CLEANER_RULE_EXPIRY))
        record.expire_s = looked->entry.expire_s;
    if (looked->action == ACTION_BURY)
        record = (struct record){
            .type = RECORD_DELETE, .key = found->key, .key_len = found->key_len, .value = ""};
    uint64_t size = record_size(record.key_len, record.value_len);
    struct hint_entry entry = *hinted;
    entry.type = record.type;
    entry.expire_s = record.expire_s;
    entry.size = (uint32_t)(size / RECORD_ALIGN);
    bool rests = move && follows(store, CLEANER_RULE_FLUSH);
    bool large = record.value_len >= LOG_OUTSIDE_MIN;
    struct log_outside outside = {.value = {{record.value, record.value_len}},
                                  .head_len = RECORD_HEADER_SIZE + record.key_len};
    enum store_status status = log_reserve(
        &store->log, &entry, large ? &outside : NULL, LOG_CLEANING,
        rests ? lsn_at(job, hinted) : LOG_RESTS_ON_NONE, atomic_load(&store->now_s), &room);
    if (status == STORE_NOT_FOUND) { /* flushed since it was looked up */
        drop_dead(store, looked->shard, looked->ref, &looked->entry);
        keydir_unlock(looked->shard);
        return STORE_OK;
    }
    if (status != STORE_OK) {
        keydir_unlock(looked->shard);
        return status;
    }
    if (move) {
        point_to(job, looked, &room, size);
        if (!follows(store, CLEANER_RULE_CAS))
            record.cas = room.cas;
        if (job->order.evict)
            job->order.rescue -= location_size(looked->entry.location);
    }
    keydir_unlock(looked->shard);
    append(job, &room, &record, large ? &outside : NULL);
    return !large || commit(job) ? STORE_OK
                                 : STORE_READ_ONLY; /* the record lies where the next is read to */
}

/* Reads the record of a hint entry. STORE_CORRUPT: it is damaged; STORE_IO: it cannot be read now. */
static enum store_status read_record(struct job *job, const struct hint_entry *hinted,
                                     struct record *record)
{
    uint32_t offset;
    job->cursor.offset = hinted->offset * UINT64_C(8);
    enum cursor_status status = segment_cursor_next(&job->cursor, record, &offset);
    if (status == CURSOR_FAILED)
        return STORE_IO;
    return status == CURSOR_RECORD && record->type == hinted->type ? STORE_OK : STORE_CORRUPT;
}

/* One hint entry. False: the job is over. */
static bool clean_entry(struct job *job, const struct hint_entry *hinted)
{
    struct looked looked = {0};
    struct record record;
    enum store_status status;
    uint32_t waits = 0;
    lock_and_decide(job, hinted, &looked);
    keydir_unlock(looked.shard);
    if (looked.action == ACTION_FORGET || looked.action == ACTION_LEAVE)
        return true;
    status = read_record(job, hinted, &record);
    if (status != STORE_OK)
        return status == STORE_CORRUPT; /* it stays behind: see finish */
    do {                                /* what was decided without the record may have changed */
        lock_and_decide(job, hinted, &looked);
        if (looked.action == ACTION_FORGET || looked.action == ACTION_LEAVE) {
            keydir_unlock(looked.shard);
            return true;
        }
        status = act(job, hinted, &looked, &record);
    } while (status == STORE_AGAIN && waits++ < WAITS_MAX && cleaner_wait_ms(job->store, WAIT_MS));
    if (status == STORE_AGAIN || status == STORE_FULL)
        job->store->cleaner.cramped = true;
    return status == STORE_OK;
}

/* Keeps to the clean rate, and when there is time lets others go first and the disk catch up (L5). */
static void pace(struct job *job, uint64_t bytes)
{
    struct store *store = job->store;
    uint64_t now_us = monotonic_us();
    uint64_t pause_us = job->order.urgent ? 0 : now_us - job->chunk_started_us;
    uint64_t rate = store->options.clean_rate;
    if (rate) {
        uint64_t *allowance = &store->cleaner.allowance_us;
        *allowance = (*allowance > now_us ? *allowance : now_us) + bytes * 1000000 / rate;
        if (*allowance > now_us + pause_us)
            pause_us = *allowance - now_us;
    }
    uint64_t until_us = now_us + pause_us;
    while ((now_us < until_us || (log_is_held(&store->log) && !job->order.urgent)) &&
           !cleaner_is_stopping(store)) {
        bool soon = now_us < until_us && until_us - now_us < PACE_LOOK_US;
        uint64_t rest_us = soon ? until_us - now_us : PACE_LOOK_US;
        struct timespec rest = {.tv_nsec = (long)rest_us * 1000};
        nanosleep(&rest, NULL);
        now_us = monotonic_us();
    }
    job->chunk_started_us = now_us;
}

/* Fetches the buckets of a group of entries, and then the items in RAM that those point to. */
static void prefetch_group(const struct job *job, uint64_t first)
{
    uint64_t end = first + GROUP < job->hint.count ? first + GROUP : job->hint.count;
    for (uint64_t i = first; i < end; i++)
        keydir_prefetch(shard_of(job->store, &job->entries[i]), job->entries[i].tag);
    for (uint64_t i = first; i < end; i++) {
        bool elsewhere;
        uint64_t location =
            keydir_peek(shard_of(job->store, &job->entries[i]), job->entries[i].tag, &elsewhere);
        if (location_in_ram(location))
            __builtin_prefetch(location_item(location));
    }
}

/* Moves and carries. False: the segment stays, to be cleaned another time. */
static bool clean_entries(struct job *job)
{
    uint64_t paced = 0; /* offset up to which the pace was kept */
    for (uint64_t i = 0; i < job->hint.count; i++) {
        const struct hint_entry *hinted = &job->entries[i];
        if (i % GROUP == 0)
            prefetch_group(job, i);
        if (!clean_entry(job, hinted))
            return false;
        if (job->uncommitted >= COMMIT_BYTES && !commit(job))
            return false;
        uint64_t offset = hinted->offset * UINT64_C(8);
        if (offset - paced >= COMMIT_BYTES) {
            pace(job, offset - paced);
            paced = offset;
            if (cleaner_is_stopping(job->store))
                return false;
        }
    }
    return true;
}

/* All that lets the segment go is on disk, whatever --sync says: the copies that the job appended, and the records that have
 * replaced, deleted or flushed the others. Each was reserved before it took effect on what was looked at. (When evicting, only
 * the copies count: to lose the rest is what it is for.) */
static bool make_durable(struct job *job)
{
    struct log *log = &job->store->log;
    if (!job->order.evict) {
        pthread_mutex_lock(&log->lock);
        job->end_lsn = log->next_lsn;
        pthread_mutex_unlock(&log->lock);
    }
    if (!commit(job))
        return false;
    if (!job->end_lsn || !follows(job->store, CLEANER_RULE_SYNC))
        return true;
    while (log_synced_lsn(log) < job->end_lsn && !atomic_load(&log->failed)) {
        log_request_sync(log, job->end_lsn);
        if (!cleaner_wait_ms(job->store, WAIT_MS))
            return false;
    }
    return log_synced_lsn(log) >= job->end_lsn;
}

/* Removing. */

static bool unlink_files(struct job *job)
{
    const struct store_options *options = &job->store->options;
    const struct file_system *files = options->files;
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, job->segment->header.id, "hint");
    files->unlink(files->context, options->dir_fd, name);
    segment_name(name, job->segment->header.id, "seg");
    /* Durable too: of two segments that are removed the older must not come back alone. */
    if (files->unlink(files->context, options->dir_fd, name) == 0 &&
        files->sync_dir(files->context, options->dir_fd) == 0)
        return true;
    if (!job->segment->damaged)
        tell(&options->tell, TELL_ERROR, "cannot remove %s in data directory %s: %s", name,
             options->dir_name, strerror(errno));
    job->segment->damaged = true; /* not again and again */
    return false;
}

/* The observer is told of a value that its key still names; with its shard locked. */
static void tell_evicted(const struct job *job, const struct keydir_entry *entry,
                         const struct record *record)
{
    const struct store_observer *observer = &job->store->options.observer;
    struct store_evicted evicted = {.key = record->key,
                                    .key_len = (uint16_t)record->key_len,
                                    .fetched = store_was_visited(entry->location),
                                    .expire_s = entry->expire_s,
                                    .value_len = record->value_len};
    if (location_in_ram(entry->location)) {
        const struct cache_item *item = location_item(entry->location);
        evicted.accessed_s = atomic_load_explicit(&item->accessed_s, memory_order_relaxed);
    }
    observer->evicted(observer->context, &evicted);
}

/* Whether somebody wants to know about the value of a hint entry, and its key can be read. */
static bool read_for_observer(struct job *job, const struct hint_entry *hinted,
                              struct record *record)
{
    const struct store_observer *observer = &job->store->options.observer;
    return observer->evicted && hinted->type == RECORD_PUT &&
           observer->wants_evicted(observer->context) &&
           read_record(job, hinted, record) == STORE_OK;
}

/* Takes the keys of the values that were not moved out of the keydir. */
static void evict_entry(struct job *job, const struct hint_entry *hinted)
{
    struct keydir_shard *shard = shard_of(job->store, hinted);
    struct cleaner *cleaner = &job->store->cleaner;
    struct keydir_entry entry;
    struct keydir_ref ref;
    struct record record;
    bool observed = read_for_observer(job, hinted, &record);
    keydir_lock(shard);
    if (hinted->type == RECORD_PUT && keydir_find(shard, hinted->tag, &ref, &entry) &&
        names(job, hinted, entry.location)) {
        bool dead = has_expired(job->store, entry.expire_s) ||
                    lsn_at(job, hinted) < atomic_load(&job->store->log.flush_lsn);
        if (!dead) {
            atomic_fetch_add_explicit(&cleaner->evicted_items, 1, memory_order_relaxed);
            if (!store_was_visited(entry.location))
                atomic_fetch_add_explicit(&cleaner->evicted_unfetched, 1, memory_order_relaxed);
            if (observed)
                tell_evicted(job, &entry, &record);
        }
        drop_dead(job->store, shard, ref, &entry);
    }
    keydir_unlock(shard);
}

static bool drop_lost(void *context, struct keydir_entry *entry)
{
    const struct job *job = context;
    uint64_t location = entry->location;
    if (location_in_ram(location))
        location = ((const struct cache_item *)location_item(location))->location;
    if (location_slot(location) != job->segment->slot)
        return true;
    store_bury(job->store, entry->location);
    return false;
}

/* What is still named lies in damaged places of the oldest segment, or the hint file did not know of it. */
static void drop_all_lost(struct job *job)
{
    struct store *store = job->store;
    for (uint32_t i = 0; i < store->keydir.shard_count; i++) {
        struct keydir_shard *shard = &store->keydir.shards[i];
        uint32_t cursor = 0;
        keydir_lock(shard);
        keydir_scan(shard, &cursor, UINT32_MAX, drop_lost, job);
        keydir_unlock(shard);
    }
}

static void evict_entries(struct job *job)
{
    for (uint64_t i = 0; i < job->hint.count; i++) {
        if (i % GROUP == 0)
            prefetch_group(job, i);
        evict_entry(job, &job->entries[i]);
    }
}

static void remove_segment(struct job *job)
{
    struct store *store = job->store;
    store->cleaner.cramped = false;
    log_doom(&store->log, job->segment);
    log_reap(&store->log);
    atomic_fetch_add_explicit(&store->cleaner.segments, 1, memory_order_relaxed);
}

/* The last steps of a job whose records are where they should be. */
static bool finish(struct job *job)
{
    if (!job->order.oldest && segment_live_bytes(job->segment) > 0) {
        tell(&job->store->options.tell, TELL_WARNING,
             "segment %016llx has damaged records: it is kept until it is the oldest",
             (unsigned long long)job->segment->header.id);
        job->segment->damaged = true; /* their older versions must not come back */
        return true;
    }
    bool evict_first = !follows(job->store, CLEANER_RULE_EVICT);
    if (evict_first && job->order.evict)
        evict_entries(job);
    if (!unlink_files(job))
        return false;
    if (job->order.evict)
        evict_entries(job);
    if (segment_live_bytes(job->segment) > 0)
        drop_all_lost(job);
    remove_segment(job);
    return true;
}

static bool load_entries(struct job *job)
{
    struct store *store = job->store;
    const struct store_options *options = &store->options;
    enum store_status status =
        hint_read(options->files, options->dir_fd, job->segment, &job->hint, &job->entries);
    if (status != STORE_OK)
        status = hint_collect(options->files, job->segment, atomic_load(&job->segment->end),
                              store->datadir.hash_seed, false, &options->tell, &job->hint,
                              &job->entries);
    return status == STORE_OK;
}

bool clean_segment(struct store *store, struct segment *segment, const struct clean_order *order)
{
    struct job job = {.order = *order, .store = store, .segment = segment};
    job.chunk_started_us = monotonic_us();
    bool unread = order->evict && order->rescue == 0;
    bool ok = load_entries(&job) &&
              segment_cursor_init(&job.cursor, store->options.files, segment,
                                  atomic_load(&segment->end)) &&
              (unread || clean_entries(&job)) && make_durable(&job) && finish(&job);
    segment_cursor_release(&job.cursor);
    free(job.entries);
    return ok;
}

bool clean_unread(struct store *store, struct segment *segment, bool oldest)
{
    struct job job = {.order = {.oldest = oldest}, .store = store, .segment = segment};
    return make_durable(&job) && finish(&job);
}
