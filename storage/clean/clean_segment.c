/* clean_segment.c: one segment is taken back.
 *
 * What is carried, or the dead rise (each rule is the reason for one line of `decide`; tests/mutations breaks each of them)
 *   The log's last record of a key is its state, and what stands before it is masked by it. A record may be forgotten when
 *   something that stays in the log masks what it masked, or nothing older is left (it is in the oldest segment).
 *   - A value that the keydir points to is moved. It takes its expiry from the keydir, as the TOUCHes behind its old place
 *     no longer stand behind it, and keeps its CAS unique.
 *   - A value that was replaced or deleted is forgotten: the later record masks more.
 *   - A deletion is carried while its key is absent and a segment is left that begins before the deletion was born.
 *   - A value that has expired by its own expiry, and whose key is absent, has masked what is older and becomes a deletion.
 *     So does a TOUCH that has expired. (An expired value without an expiry of its own has such a TOUCH behind it.)
 *   - A TOUCH is carried while the key's value lies before it and still has its expiry; of several in a segment only the last.
 *   - What lies before a flush is forgotten; nothing is moved from before a flush to behind it.
 *
 * Born is the LSN from which on nothing can be masked: a deletion's own, or that of the expired value or TOUCH whose place it takes.
 * Carrying it changes its LSN and not its birth, so it is gone when all segments have been moved once.
 *
 * What cannot be read cannot be moved. After a few attempts it counts as damaged: its segment stays until it is the oldest, and
 * only then its keys are given up, for what stands in it may mask something older.
 *
 * Eviction removes the file first and the keys from the index after that: once a client has been told that a key is not
 * there (its delete writes nothing then), no crash may bring it back.
 */
#define _GNU_SOURCE
#include "storage/clean/clean_segment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "storage/log/hint.h"
#include "storage/base/monotonic.h"

#define WAIT_MS      100
#define WAITS_MAX    10           /* for a ready segment, before there is no room */
#define TOLERANT     3            /* failures, after which what cannot be read counts as damaged */
#define COMMIT_BYTES (128 * 1024) /* moved between two commits: others may have to write it */
#define PACE_LOOK_US 20000        /* how often a pause looks whether it is over */
#define GROUP        32           /* entries whose buckets are fetched ahead together */

/* A segment on its way out. */
struct job {
    struct clean_order order;
    struct store *store;
    struct segment *segment;
    bool unread; /* nothing in it is live: its file need not be there any more */
    struct segment_cursor cursor;
    struct hint hint;
    struct hint_entry *entries;
    uint64_t first_lsn; /* where the oldest segment begins */
    uint64_t end_lsn;   /* of what was appended */
    uint64_t uncommitted;
    uint64_t unreadable; /* records that stay behind */
    uint64_t chunk_started_us;
    struct clean_moves *moves; /* the cleaner's; NULL: no memory */
};

/* Where the values came from that a job has moved: while their copies are not synced a failing disk may drop them (clean_recall). */
struct clean_moves {
    struct clean_moves *next; /* under cleaner.moves_lock */
    struct segment *segment;
    uint64_t end_lsn;       /* of the copies; the cleaner's own */
    _Atomic uint64_t count; /* in the order of the copies */
    struct {
        uint64_t lsn;    /* of the copy */
        uint64_t offset; /* in the segment */
    } moved[];
};

enum action {
    ACTION_FORGET,
    ACTION_LEAVE, /* evicted later */
    ACTION_MOVE,
    ACTION_CARRY,
    ACTION_BURY, /* a deletion takes its place */
};

/* Deciding. */

static uint64_t lsn_at(const struct job *job, const struct hint_entry *hinted)
{
    return job->segment->header.base_lsn + hinted->offset * UINT64_C(8);
}

/* When a mark was born, as far as its hint entry tells: then, or up to a MiB before. */
static uint64_t born_of(const struct job *job, const struct hint_entry *hinted)
{
    bool told = hinted->type == RECORD_DELETE && hinted->expire_s;
    return told ? hint_born_lsn(hinted->expire_s) : lsn_at(job, hinted);
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
           store_lsn_of(store, entry->location) < atomic_load(&store->log.flush_lsn);
}

/* Drops the key of a value that is dead by a flush or by its expiry. With its shard locked. */
static void drop_dead(struct store *store, struct keydir_shard *shard, struct keydir_ref ref,
                      const struct keydir_entry *entry)
{
    if (has_expired(store, entry->expire_s)) {
        store_count_expired(store, entry->location);
        store_mark_expired(store, shard, entry->location);
    }
    store_mark_dead(store, entry->location);
    keydir_remove(shard, ref);
}

/* With the key's shard locked. `entry` is NULL when the key is absent; `born` is a mark's. */
static enum action decide(const struct job *job, const struct hint_entry *hinted, uint64_t born,
                          const struct keydir_entry *entry)
{
    const struct store *store = job->store;
    uint64_t lsn = lsn_at(job, hinted);
    bool flushed = lsn < atomic_load(&store->log.flush_lsn);
    /* There may be something older that it masks. */
    bool masks = !job->order.oldest && !flushed && job->first_lsn < born;
    bool expired = has_expired(store, hinted->expire_s);
    switch (hinted->type) {
    case RECORD_PUT:
        if (entry)
            return names(job, hinted, entry->location) ? decide_live(job, entry) : ACTION_FORGET;
        return expired && masks ? ACTION_BURY : ACTION_FORGET;
    case RECORD_DELETE: return !entry && masks ? ACTION_CARRY : ACTION_FORGET;
    case RECORD_TOUCH:
        if (!masks)
            return ACTION_FORGET;
        if (!entry)
            return expired ? ACTION_BURY : ACTION_FORGET;
        return entry->expire_s == hinted->expire_s && store_lsn_of(store, entry->location) < lsn
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

static void lock_and_decide(const struct job *job, const struct hint_entry *hinted, uint64_t born,
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
    looked->action = decide(job, hinted, born, present ? &looked->entry : NULL);
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
    if (record->type != RECORD_PUT)
        segment_add_mark(room->segment, record->type, size);
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
    store_note_moved(job->store, looked->shard, &looked->entry);
    atomic_fetch_add_explicit(&job->segment->dead_bytes, location_size(looked->entry.location),
                              memory_order_relaxed);
    if (location_in_ram(looked->entry.location)) {
        struct cache_item *item = location_item(looked->entry.location);
        /* The evictor looks without the lock whether it is buried. */
        __atomic_store_n(&item->location, location, __ATOMIC_RELAXED);
    } else {
        keydir_set(looked->shard, looked->ref, location, looked->entry.expire_s);
    }
}

/* With the shard of the record locked: who finds the copy in the keydir finds this. */
static void note_move(const struct job *job, const struct hint_entry *hinted, uint64_t lsn)
{
    struct clean_moves *moves = job->moves;
    if (!moves)
        return;
    uint64_t count = atomic_load_explicit(&moves->count, memory_order_relaxed);
    moves->moved[count].lsn = lsn;
    moves->moved[count].offset = hinted->offset * UINT64_C(8);
    moves->end_lsn = lsn + 1;
    atomic_store_explicit(&moves->count, count + 1, memory_order_release);
}

/* Forgets moves whose copies are synced, or all from a segment (not NULL). */
static void forget_moves(struct store *store, const struct segment *from)
{
    struct cleaner *cleaner = &store->cleaner;
    pthread_mutex_lock(&cleaner->moves_lock);
    struct clean_moves **link = &cleaner->moves;
    while (*link) {
        struct clean_moves *moves = *link;
        if (moves->segment != from && moves->end_lsn > log_synced_lsn(&store->log)) {
            link = &moves->next;
            continue;
        }
        *link = moves->next;
        free(moves);
    }
    pthread_mutex_unlock(&cleaner->moves_lock);
}

static void begin_moves(struct job *job)
{
    struct cleaner *cleaner = &job->store->cleaner;
    struct clean_moves *moves =
        malloc(sizeof *moves + job->hint.count * sizeof *moves->moved); /* memory as used */
    if (!moves)
        return;
    moves->segment = job->segment;
    moves->end_lsn = 0;
    atomic_init(&moves->count, 0);
    pthread_mutex_lock(&cleaner->moves_lock);
    moves->next = cleaner->moves;
    cleaner->moves = job->moves = moves;
    pthread_mutex_unlock(&cleaner->moves_lock);
}

/* Does what was decided. Unlocks the shard. STORE_OK; STORE_WAIT_SPACE: no room yet; else the job is over. */
static enum store_status act(struct job *job, const struct hint_entry *hinted, uint64_t born,
                             struct looked *looked, const struct record *found)
{
    struct log_room room;
    struct store *store = job->store;
    struct record record = *found;
    bool move = looked->action == ACTION_MOVE;
    if (move)
        record.expire_s = looked->entry.expire_s;
    if (looked->action == ACTION_BURY)
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
        note_move(job, hinted, room.lsn);
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
    struct segment_cursor *cursor = &job->cursor;
    uint64_t offset = hinted->offset * UINT64_C(8);
    enum cursor_status status = segment_cursor_read(cursor, offset, record);
    if (status == CURSOR_FAILED && !cursor->careful) {
        cursor->careful = true; /* something near it may be what cannot be read */
        status = segment_cursor_read(cursor, offset, record);
    }
    if (status == CURSOR_FAILED)
        return STORE_IO;
    return status == CURSOR_RECORD && record->type == hinted->type ? STORE_OK : STORE_CORRUPT;
}

/* The disk is given some attempts. */
static bool is_tolerant(const struct job *job)
{
    return job->segment->failures >= TOLERANT;
}

static enum clean_result result_of(enum store_status status)
{
    switch (status) {
    case STORE_OK: return CLEAN_DONE;
    case STORE_WAIT_SPACE:
    case STORE_FULL: return CLEAN_NO_ROOM;
    case STORE_IO:
    case STORE_NO_MEMORY: return CLEAN_FAILED;
    default: return CLEAN_STOPPED;
    }
}

/* Moves or carries a record that was read. What was decided without it may have changed. */
static enum store_status place_record(struct job *job, const struct hint_entry *hinted,
                                      const struct record *record)
{
    uint64_t born =
        record->type == RECORD_DELETE && record->cas ? record->cas : lsn_at(job, hinted);
    struct looked looked = {0};
    enum store_status status;
    uint32_t waits = 0;
    do {
        lock_and_decide(job, hinted, born, &looked);
        if (looked.action == ACTION_FORGET || looked.action == ACTION_LEAVE) {
            keydir_unlock(looked.shard);
            return STORE_OK;
        }
        status = act(job, hinted, born, &looked, record);
    } while (status == STORE_WAIT_SPACE && waits++ < WAITS_MAX &&
             cleaner_wait_ms(job->store, WAIT_MS));
    return status;
}

/* One hint entry. CLEAN_DONE: go on with the next. */
static enum clean_result clean_entry(struct job *job, const struct hint_entry *hinted)
{
    struct looked looked = {0};
    struct record record;
    lock_and_decide(job, hinted, born_of(job, hinted), &looked);
    keydir_unlock(looked.shard);
    if (looked.action == ACTION_FORGET || looked.action == ACTION_LEAVE)
        return CLEAN_DONE;
    enum store_status status = read_record(job, hinted, &record);
    if (status == STORE_OK)
        return result_of(place_record(job, hinted, &record));
    if (status == STORE_IO && !is_tolerant(job))
        return CLEAN_FAILED;
    job->unreadable++; /* it stays behind: see finish */
    return CLEAN_DONE;
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
            keydir_guess(shard_of(job->store, &job->entries[i]), job->entries[i].tag, &elsewhere);
        if (location_in_ram(location))
            __builtin_prefetch(location_item(location));
    }
}

/* Moves and carries. Else than CLEAN_DONE: the segment stays, to be cleaned another time. */
static enum clean_result clean_entries(struct job *job)
{
    uint64_t paced = 0; /* offset up to which the pace was kept */
    for (uint64_t i = 0; i < job->hint.count; i++) {
        const struct hint_entry *hinted = &job->entries[i];
        if (i % GROUP == 0)
            prefetch_group(job, i);
        enum clean_result result = clean_entry(job, hinted);
        if (result != CLEAN_DONE)
            return result;
        if (job->uncommitted >= COMMIT_BYTES && !commit(job))
            return CLEAN_STOPPED;
        uint64_t offset = hinted->offset * UINT64_C(8);
        if (offset - paced >= COMMIT_BYTES) {
            pace(job, offset - paced);
            paced = offset;
            if (cleaner_is_stopping(job->store))
                return CLEAN_STOPPED;
        }
    }
    return CLEAN_DONE;
}

/* All that lets the segment go is on disk, whatever --sync says: the copies that the job appended, and the records that have
 * replaced, deleted or flushed the others. Each was reserved before it took effect on what was looked at. (When evicting, only
 * the copies count: to lose the rest is what it is for.) False: the log refuses writes, or the end has come. */
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
    if (!job->end_lsn)
        return true;
    while (log_synced_lsn(log) < job->end_lsn && !atomic_load(&log->failed)) {
        log_request_sync(log, job->end_lsn); /* a sync signals the cleaner */
        if (!cleaner_wait_ms(job->store, WAIT_MS))
            return false;
    }
    return log_synced_lsn(log) >= job->end_lsn;
}

/* Removing. */

static bool sync_names(const struct job *job)
{
    const struct store_options *options = &job->store->options;
    int result = options->files->sync_dir(options->files->context, options->dir_fd);
    job->store->cleaner.dir_unsynced = result < 0;
    return result == 0;
}

/* Durable too: of two segments that are removed the older must not come back alone (G5). So what an earlier sync of the
 * directory has left open comes first. A file that is gone is as good as removed. */
static bool unlink_files(const struct job *job)
{
    const struct store_options *options = &job->store->options;
    const struct file_system *files = options->files;
    char name[SEGMENT_NAME_SIZE];
    if (job->store->cleaner.dir_unsynced && !sync_names(job))
        return false;
    segment_name(name, job->segment->header.id, "hint");
    files->unlink(files->context, options->dir_fd, name);
    segment_name(name, job->segment->header.id, "seg");
    if (files->unlink(files->context, options->dir_fd, name) < 0 && errno != ENOENT)
        return false;
    return sync_names(job);
}

/* The observer is told of a value that its key still names; with its shard locked. */
static void report_evicted(const struct job *job, const struct keydir_entry *entry,
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
            atomic_fetch_add_explicit(job->order.evicted, 1, memory_order_relaxed);
            if (!store_was_visited(entry.location))
                atomic_fetch_add_explicit(&cleaner->evicted_unfetched, 1, memory_order_relaxed);
            if (observed)
                report_evicted(job, &entry, &record);
        }
        drop_dead(job->store, shard, ref, &entry);
    }
    keydir_unlock(shard);
}

static bool drop_lost(void *context, struct keydir_entry *entry)
{
    struct job *job = context;
    uint64_t location = entry->location;
    if (location_in_ram(location))
        location = ((const struct cache_item *)location_item(location))->location;
    if (location_slot(location) != job->segment->slot)
        return true;
    store_mark_dead(job->store, entry->location);
    job->unreadable++;
    return false;
}

/* What is still named lies in damaged places of the oldest segment, or the hint file did not know of it. */
static void drop_all_lost(struct job *job)
{
    struct store *store = job->store;
    uint64_t cursor = 0;
    job->unreadable = 0;
    while (keydir_scan_all(&store->keydir, &cursor, NULL, drop_lost, job))
        ;
    report(
        &store->options.reporter, REPORT_WARNING,
        "segment %016llx is removed with %llu keys whose records could not be read: they are lost",
        (unsigned long long)job->segment->header.id, (unsigned long long)job->unreadable);
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
    forget_moves(store, job->segment);
    log_doom(&store->log, job->segment);
    atomic_fetch_add_explicit(&store->cleaner.segments, 1, memory_order_relaxed);
}

/* A segment with something that cannot be read stays: older versions must not come back. */
static enum clean_result keep_damaged(const struct job *job)
{
    if (!job->segment->damaged)
        report(&job->store->options.reporter, REPORT_WARNING,
               "segment %016llx has damaged records: it is kept until it is the oldest",
               (unsigned long long)job->segment->header.id);
    job->segment->damaged = true;
    return CLEAN_DONE;
}

/* The last steps of a job whose records are where they should be. */
static enum clean_result finish(struct job *job)
{
    if (!job->order.oldest && (job->unreadable || segment_live_bytes(job->segment) > 0))
        return keep_damaged(job);
    if (!unlink_files(job))
        return CLEAN_FAILED;
    if (job->order.evict)
        evict_entries(job);
    if (segment_live_bytes(job->segment) > 0)
        drop_all_lost(job);
    remove_segment(job);
    return CLEAN_DONE;
}

static int by_key_and_place(const void *a, const void *b)
{
    const struct hint_entry *left = *(struct hint_entry *const *)a;
    const struct hint_entry *right = *(struct hint_entry *const *)b;
    if (left->tag != right->tag)
        return left->tag < right->tag ? -1 : 1;
    if (left->shard_bits != right->shard_bits)
        return left->shard_bits < right->shard_bits ? -1 : 1;
    return left->offset < right->offset ? -1 : left->offset > right->offset;
}

/* Of several TOUCHes of a key in the segment the last one says it all: the others are struck out. (Without memory for that they
 * are carried with it.) */
static void strike_superseded(const struct job *job)
{
    uint64_t count = 0;
    struct hint_entry **touches =
        job->hint.touches > 1 ? malloc(job->hint.touches * sizeof *touches) : NULL;
    if (!touches)
        return;
    for (uint64_t i = 0; i < job->hint.count && count < job->hint.touches; i++)
        if (job->entries[i].type == RECORD_TOUCH)
            touches[count++] = &job->entries[i];
    qsort(touches, count, sizeof *touches, by_key_and_place);
    for (uint64_t i = 0; i + 1 < count; i++)
        if (touches[i]->tag == touches[i + 1]->tag &&
            touches[i]->shard_bits == touches[i + 1]->shard_bits)
            touches[i]->type = RECORD_FLUSH; /* which is never carried */
    free(touches);
}

/* Sets the job's entries. Where they cannot be read after some attempts there are those that can be, or none: the segment has to be
 * the oldest then. */
static bool load_entries(struct job *job)
{
    struct store *store = job->store;
    const struct store_options *options = &store->options;
    const struct reporter silent = {0}; /* keep_damaged and drop_all_lost tell of bad places */
    bool tolerant = is_tolerant(job);
    enum store_status status =
        hint_read(options->files, options->dir_fd, job->segment, &job->hint, &job->entries);
    if (status != STORE_OK)
        status = hint_collect(options->files, job->segment, atomic_load(&job->segment->end),
                              store->datadir.hash_seed, tolerant ? HINT_TOLERANT : 0,
                              tolerant ? &silent : &options->reporter, &job->hint, &job->entries);
    if (status == STORE_OK)
        strike_superseded(job);
    if (status == STORE_OK && job->hint.unreadable)
        job->unreadable++;
    if (status != STORE_IO || !tolerant)
        return status == STORE_OK;
    job->hint = (struct hint){0};
    job->unreadable = 1;
    return true;
}

static struct job job_for(struct store *store, struct segment *segment,
                          const struct clean_order *order)
{
    struct job job = {.order = *order, .store = store, .segment = segment};
    job.chunk_started_us = monotonic_us();
    pthread_mutex_lock(&store->log.lock);
    job.first_lsn = store->log.first->header.base_lsn;
    pthread_mutex_unlock(&store->log.lock);
    return job;
}

static enum clean_result run(struct job *job)
{
    bool unread = job->order.evict && job->order.rescue == 0;
    if (!load_entries(job) || !segment_cursor_init(&job->cursor, job->store->options.files,
                                                   job->segment, atomic_load(&job->segment->end)))
        return CLEAN_FAILED;
    begin_moves(job);
    enum clean_result result = unread ? CLEAN_DONE : clean_entries(job);
    if (result != CLEAN_DONE)
        return result;
    return make_durable(job) ? finish(job) : CLEAN_STOPPED;
}

/* What cannot be opened is done without where that is known to be all that is left: not for want of descriptors. */
static bool may_do_without_file(const struct job *job, int error)
{
    if (error == EMFILE || error == ENFILE)
        return false;
    return (job->unread && error == ENOENT) || is_tolerant(job);
}

/* The file is open before its name goes, for those who have pinned it, and then until it is reaped (S8). */
static enum clean_result with_file(struct job *job, enum clean_result (*work)(struct job *job))
{
    struct log *log = &job->store->log;
    segment_pin(job->segment);
    bool open = segment_files_use(&log->segment_files, job->segment) == STORE_OK;
    enum clean_result result = open || may_do_without_file(job, errno) ? work(job) : CLEAN_FAILED;
    int error = errno;
    if (open)
        segment_files_done(job->segment);
    segment_unpin(job->segment);
    segment_cursor_release(&job->cursor);
    free(job->entries);
    forget_moves(job->store, NULL);
    log_reap(log);
    errno = error;
    return result;
}

/* Writes the record anew that was moved to `hinted` in the segment `to`. */
static size_t copy_again(struct store *store, struct segment *from, uint64_t offset,
                         const struct segment *to, const struct hint_entry *hinted, char *out)
{
    struct segment_cursor cursor;
    struct record record;
    size_t size = 0;
    if (!segment_cursor_init(&cursor, store->options.files, from, atomic_load(&from->end)))
        return 0;
    if (segment_cursor_read(&cursor, offset, &record) == CURSOR_RECORD)
        size = record_size(record.key_len, record.value_len);
    if (size && size_code(size) == size_code(hinted->size * UINT64_C(8))) {
        record.expire_s = hinted->expire_s;
        memcpy(out + RECORD_HEADER_SIZE, record.key, record.key_len + (size_t)record.value_len);
        record_seal(out, &record, to->header.seed, hinted->offset * UINT64_C(8));
    } else {
        size = 0;
    }
    segment_cursor_release(&cursor);
    return size;
}

/* The move whose copy has this LSN. */
static bool find_move(const struct clean_moves *moves, uint64_t lsn, uint64_t *offset)
{
    uint64_t low = 0, high = atomic_load_explicit(&moves->count, memory_order_acquire);
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (moves->moved[middle].lsn == lsn) {
            *offset = moves->moved[middle].offset;
            return true;
        }
        if (moves->moved[middle].lsn < lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

size_t clean_recall(struct store *store, const struct segment *segment,
                    const struct hint_entry *hinted, char *out)
{
    struct cleaner *cleaner = &store->cleaner;
    struct segment_files *files = &store->log.segment_files;
    uint64_t lsn = segment->header.base_lsn + hinted->offset * UINT64_C(8), offset;
    size_t size = 0;
    pthread_mutex_lock(&cleaner->moves_lock); /* so the segment stays */
    const struct clean_moves *moves = cleaner->moves;
    while (moves && !find_move(moves, lsn, &offset))
        moves = moves->next;
    if (moves && segment_files_use(files, moves->segment) == STORE_OK) {
        size = copy_again(store, moves->segment, offset, segment, hinted, out);
        segment_files_done(moves->segment);
    }
    pthread_mutex_unlock(&cleaner->moves_lock);
    return size;
}

void clean_release(struct store *store)
{
    struct clean_moves *next;
    for (struct clean_moves *moves = store->cleaner.moves; moves; moves = next) {
        next = moves->next;
        free(moves);
    }
}

enum clean_result clean_segment(struct store *store, struct segment *segment,
                                const struct clean_order *order)
{
    struct job job = job_for(store, segment, order);
    return with_file(&job, run);
}

static enum clean_result run_unread(struct job *job)
{
    return make_durable(job) ? finish(job) : CLEAN_STOPPED;
}

enum clean_result clean_unread(struct store *store, struct segment *segment, bool oldest)
{
    const struct clean_order order = {.oldest = oldest};
    struct job job = job_for(store, segment, &order);
    job.unread = true;
    return with_file(&job, run_unread);
}

/* Whether a record may be a mark. A live value becomes one when it expires, and is counted then. */
static bool may_be_mark(const struct job *job, const struct hint_entry *hinted)
{
    return hinted->type != RECORD_FLUSH &&
           (hinted->type != RECORD_PUT || has_expired(job->store, hinted->expire_s));
}

/* The bytes that the marks of a segment would take now. */
static uint64_t count_marks(const struct job *job)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < job->hint.count; i++) {
        const struct hint_entry *hinted = &job->entries[i];
        struct looked looked;
        if (i % GROUP == 0)
            prefetch_group(job, i);
        if (!may_be_mark(job, hinted))
            continue;
        lock_and_decide(job, hinted, born_of(job, hinted), &looked);
        keydir_unlock(looked.shard);
        uint64_t size = hinted->size * UINT64_C(8);
        if (looked.action == ACTION_CARRY)
            bytes += size;
        else if (looked.action == ACTION_BURY)
            bytes += size < SEGMENT_MASK_PUT ? size : SEGMENT_MASK_PUT;
    }
    return bytes;
}

static enum clean_result recount(struct job *job)
{
    struct log *log = &job->store->log;
    struct segment *segment = job->segment;
    /* What expires while they are counted may be counted twice: a bound is all that is wanted. */
    uint32_t before = atomic_load(&segment->mask_bytes);
    if (!load_entries(job))
        return CLEAN_FAILED;
    uint64_t marks = count_marks(job);
    if (!job->unreadable && marks < before)
        atomic_fetch_sub(&segment->mask_bytes, before - (uint32_t)marks);
    pthread_mutex_lock(&log->lock);
    segment->recounted_lsn = log->next_lsn;
    pthread_mutex_unlock(&log->lock);
    return CLEAN_DONE;
}

enum clean_result clean_recount(struct store *store, struct segment *segment)
{
    const struct clean_order order = {0};
    struct job job = job_for(store, segment, &order);
    return with_file(&job, recount);
}
