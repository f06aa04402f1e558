/* clean_segment.c: one segment is taken back. clean_decide.c has the rules.
 *
 * What cannot be read cannot be moved. After a few attempts it counts as damaged: as it may mask
 * something older, its segment stays until it is the oldest, and then its keys are given up.
 *
 * Eviction removes the file first and the keys from the index after that: once a client has been
 * told that a key is not there (its delete writes nothing then), no crash may bring it back.
 */
#include "storage/clean/clean_segment.h"

#include <errno.h>
#include <stdlib.h>

#include "storage/base/monotonic.h"
#include "storage/clean/clean_job.h"

#define WAIT_MS      100
#define COMMIT_BYTES (128 * 1024) /* moved between two commits: others may have to write it */
#define PACE_LOOK_US 20000        /* how often a pause looks whether it is over */

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

/* One hint entry. CLEAN_DONE: go on with the next. */
static enum clean_result clean_entry(struct job *job, const struct hint_entry *hinted)
{
    struct decision decision = {0};
    struct record record;
    clean_lock_and_decide(job, hinted, clean_born(job, hinted), &decision);
    keydir_unlock(decision.shard);
    if (decision.action == ACTION_FORGET || decision.action == ACTION_LEAVE)
        return CLEAN_DONE;
    enum store_status status = clean_read(job, hinted, &record);
    if (status == STORE_OK)
        return result_of(clean_copy(job, hinted, &record));
    if (status == STORE_IO && !clean_is_tolerant(job))
        return CLEAN_FAILED;
    job->unreadable++; /* it stays behind: see finish */
    return CLEAN_DONE;
}

/* Keeps to the clean rate, and if nobody waits lets others go first and the disk catch up (L5). */
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
    while ((now_us < until_us || (log_has_backpressure(&store->log) && !job->order.urgent)) &&
           !thread_is_stopping(&store->cleaner.thread)) {
        bool soon = now_us < until_us && until_us - now_us < PACE_LOOK_US;
        uint64_t rest_us = soon ? until_us - now_us : PACE_LOOK_US;
        thread_sleep_us(rest_us);
        now_us = monotonic_us();
    }
    job->chunk_started_us = now_us;
}

/* Moves and carries. Else than CLEAN_DONE: the segment stays, to be cleaned another time. */
static enum clean_result clean_entries(struct job *job)
{
    uint64_t paced = 0; /* offset up to which the pace was kept */
    for (uint64_t i = 0; i < job->hint.count; i++) {
        const struct hint_entry *hinted = &job->entries[i];
        if (i % CLEAN_GROUP == 0)
            clean_prefetch(job, i);
        enum clean_result result = clean_entry(job, hinted);
        if (result != CLEAN_DONE)
            return result;
        if (job->uncommitted >= COMMIT_BYTES && !clean_commit(job))
            return CLEAN_STOPPED;
        uint64_t offset = hinted->offset * UINT64_C(8);
        if (offset - paced >= COMMIT_BYTES) {
            pace(job, offset - paced);
            paced = offset;
            if (thread_is_stopping(&job->store->cleaner.thread))
                return CLEAN_STOPPED;
        }
    }
    return CLEAN_DONE;
}

/* All that lets the segment go is on disk, whatever --sync says: the copies that the job appended,
 * and the records that have replaced, deleted or flushed the others. Each was reserved before it
 * took effect on what was looked at. (When evicting, only the copies count: to lose the rest is
 * what it is for.) False: the log refuses writes, or the end has come. */
static bool make_durable(struct job *job)
{
    struct log *log = &job->store->log;
    if (!job->order.evict)
        job->end_lsn = store_end_lsn(job->store);
    if (!clean_commit(job))
        return false;
    if (!job->end_lsn)
        return true;
    while (log_synced_lsn(log) < job->end_lsn && !atomic_load(&log->failed)) {
        log_request_sync(log, job->end_lsn); /* a sync signals the cleaner */
        if (!thread_wait_ms(&job->store->cleaner.thread, WAIT_MS))
            return false;
    }
    return log_synced_lsn(log) >= job->end_lsn;
}

static int by_key_and_offset(const void *a, const void *b)
{
    const struct hint_entry *left = *(struct hint_entry *const *)a;
    const struct hint_entry *right = *(struct hint_entry *const *)b;
    if (left->tag != right->tag)
        return left->tag < right->tag ? -1 : 1;
    if (left->shard_bits != right->shard_bits)
        return left->shard_bits < right->shard_bits ? -1 : 1;
    return left->offset < right->offset ? -1 : left->offset > right->offset;
}

/* Of several TOUCHes of a key in the segment the last one says it all: the others are struck out.
 * (Without memory for that they are carried with it.) */
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
    qsort(touches, count, sizeof *touches, by_key_and_offset);
    for (uint64_t i = 0; i + 1 < count; i++)
        if (touches[i]->tag == touches[i + 1]->tag &&
            touches[i]->shard_bits == touches[i + 1]->shard_bits)
            touches[i]->type = RECORD_FLUSH; /* which is never carried */
    free(touches);
}

/* Sets the job's entries. Where they cannot be read after some attempts there are those that can
 * be, or none: the segment has to be the oldest then. */
static bool load_entries(struct job *job)
{
    struct store *store = job->store;
    const struct store_options *options = &store->options;
    const struct reporter silent = {0}; /* keep_damaged and drop_all_lost tell of bad blocks */
    bool tolerant = clean_is_tolerant(job), unreadable = false;
    const struct hint_source source = {.files = options->files,
                                       .segment = job->segment,
                                       .end = atomic_load(&job->segment->end),
                                       .hash_seed = store->datadir.hash_seed,
                                       .how = tolerant ? HINT_TOLERANT : 0,
                                       .reporter = tolerant ? &silent : &options->reporter,
                                       .unreadable = &unreadable};
    enum store_status status =
        hint_read(options->files, options->dir_fd, job->segment, &job->hint, &job->entries);
    if (status != STORE_OK)
        status = hint_collect(&source, &job->hint, &job->entries);
    if (status == STORE_OK)
        strike_superseded(job);
    if (status == STORE_IO)
        atomic_fetch_add_explicit(&store->cleaner.read_errors, 1, memory_order_relaxed);
    if (status == STORE_OK && unreadable)
        job->unreadable++;
    if (status != STORE_IO || !tolerant)
        return status == STORE_OK;
    job->hint = (struct hint){0};
    job->unreadable = 1;
    return true;
}

static enum clean_result finish(struct job *job)
{
    return make_durable(job) ? clean_finish(job) : CLEAN_STOPPED;
}

static enum clean_result run(struct job *job)
{
    bool keeps_none = job->order.evict && job->order.rescue == 0;
    if (!load_entries(job) || !segment_cursor_init(&job->cursor, job->store->options.files,
                                                   job->segment, atomic_load(&job->segment->end)))
        return CLEAN_FAILED;
    clean_begin_moves(job);
    enum clean_result result = keeps_none ? CLEAN_DONE : clean_entries(job);
    return result == CLEAN_DONE ? finish(job) : result;
}

/* Whether the file is gone or damaged for good: not if only descriptors are wanting. */
static bool may_do_without_file(const struct job *job, int error)
{
    if (error == EMFILE || error == ENFILE)
        return false;
    return (job->order.unread && error == ENOENT) || clean_is_tolerant(job);
}

/* The file is open before its name goes, for those who have pinned it, until it is reaped (S8). */
static enum clean_result with_file(struct store *store, struct segment *segment,
                                   const struct clean_order *order,
                                   enum clean_result (*work)(struct job *job))
{
    struct log *log = &store->log;
    struct job job = {.order = *order, .store = store, .segment = segment};
    job.chunk_started_us = monotonic_us();
    pthread_mutex_lock(&log->lock);
    job.first_lsn = log->first->header.base_lsn;
    pthread_mutex_unlock(&log->lock);

    segment_pin(segment);
    bool open = segment_files_use(&log->segment_files, segment) == STORE_OK;
    enum clean_result result = open || may_do_without_file(&job, errno) ? work(&job) : CLEAN_FAILED;
    int error = errno;
    if (open)
        segment_files_done(segment);
    segment_unpin(segment);
    segment_cursor_release(&job.cursor);
    free(job.entries);
    clean_forget_moves(store, NULL);
    log_reap(log);
    errno = error;
    return result;
}

enum clean_result clean_segment(struct store *store, struct segment *segment,
                                const struct clean_order *order)
{
    return with_file(store, segment, order, order->unread ? finish : run);
}

/* Whether a record may be a mark. A live value becomes one when it expires, and is counted then. */
static bool may_be_mark(const struct job *job, const struct hint_entry *hinted)
{
    return hinted->type != RECORD_FLUSH &&
           (hinted->type != RECORD_PUT || clean_has_expired(job->store, hinted->expire_s));
}

/* The bytes that the marks of a segment would take now. */
static uint64_t count_marks(const struct job *job)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < job->hint.count; i++) {
        const struct hint_entry *hinted = &job->entries[i];
        struct decision decision;
        if (i % CLEAN_GROUP == 0)
            clean_prefetch(job, i);
        if (!may_be_mark(job, hinted))
            continue;
        clean_lock_and_decide(job, hinted, clean_born(job, hinted), &decision);
        keydir_unlock(decision.shard);
        uint64_t size = hinted->size * UINT64_C(8);
        if (decision.action == ACTION_CARRY)
            bytes += size;
        else if (decision.action == ACTION_TOMBSTONE)
            bytes += size < SEGMENT_MASK_PUT ? size : SEGMENT_MASK_PUT;
    }
    return bytes;
}

static enum clean_result recount(struct job *job)
{
    struct segment *segment = job->segment;
    /* What expires while they are counted may be counted twice: a bound is all that is wanted. */
    uint32_t before = atomic_load(&segment->mask_bytes);
    if (!load_entries(job))
        return CLEAN_FAILED;
    uint64_t marks = count_marks(job);
    if (!job->unreadable && marks < before)
        atomic_fetch_sub(&segment->mask_bytes, before - (uint32_t)marks);
    segment->recounted_lsn = store_end_lsn(job->store);
    return CLEAN_DONE;
}

enum clean_result clean_recount(struct store *store, struct segment *segment)
{
    return with_file(store, segment, &(struct clean_order){0}, recount);
}
