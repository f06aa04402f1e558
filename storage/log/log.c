/* log.c: append and group commit.
 *
 * Appending is three steps. log_reserve, under the log's lock, gives a record its address, its LSN,
 * a CAS unique, and room in the buffer that is being filled. The caller then copies and seals the
 * record without any lock, and log_publish marks it as done. So the order of the log is decided in
 * a few instructions, and copies run in parallel.
 *
 * log_commit is group commit. The first thread takes the write lock, swaps the buffers, waits for
 * copies still under way (they take no locks and are short), and writes the whole buffer with one
 * pwrite per segment; others wait for the lock meanwhile, and mostly find their records written.
 * What is written is always a contiguous prefix of the log (L1).
 *
 * A large value is not copied: the buffer has only its header and key, and a pointer to the value.
 * Its owner commits before freeing it. If the disk refuses it, it is copied for the repair.
 *
 * The header of a segment goes through the buffer like a record, in the segment's first commit.
 *
 * When a segment is full the next ready one becomes active. The allocator thread makes these ahead,
 * so that a full disk shows when a file is made and never in the middle of a record (L3). The last
 * ones are kept for deletions and for cleaning (enum log_use). If none is ready nobody waits:
 * STORE_WAIT_SPACE is returned, and on_room says when to try again; likewise if more is written
 * than the disk takes (backpressure.h). A segment that is larger than new ones ends early, for only
 * a sealed segment can be reclaimed.
 */
#define _GNU_SOURCE
#include "storage/log/log.h"

#include <sched.h>
#include <string.h>

#include "storage/index/location.h"
#include "storage/log/log_internal.h"

#define CREATE_FAILURES_MAX 5 /* attempts to make a segment, before nobody waits for the next */

static uint64_t next_lsn(const struct log *log)
{
    return atomic_load_explicit(&log->next_lsn, memory_order_relaxed);
}

/* There is one writer, who holds the lock: no locked instruction is needed. */
static void advance(struct log *log, uint32_t size)
{
    atomic_store_explicit(&log->next_lsn, next_lsn(log) + size, memory_order_relaxed);
}

/* Takes `size` bytes of the buffer and of the active segment; both have room. */
static char *take(struct log *log, uint32_t size)
{
    struct log_buffer *buffer = log->current;
    struct segment *segment = log->active;
    uint32_t end = atomic_load_explicit(&segment->end, memory_order_relaxed);
    if (buffer->used == 0)
        buffer->base_lsn = next_lsn(log);
    const struct log_extent *last =
        buffer->extent_count ? &buffer->extents[buffer->extent_count - 1] : NULL;
    if (!last || last->segment != segment || last->outside[0].len)
        buffer->extents[buffer->extent_count++] = (struct log_extent){
            .segment = segment, .start = buffer->used, .offset = end, .record = buffer->records};
    char *data = buffer->data + buffer->used;
    buffer->used += size;
    atomic_store_explicit(&segment->end, end + size, memory_order_relaxed);
    advance(log, size);
    return data;
}

/* Takes room in the segment for what is written from elsewhere, after what the buffer holds. */
static void take_outside(struct log *log, const struct record_part value[RECORD_PARTS])
{
    struct log_buffer *buffer = log->current;
    struct log_extent *extent = &buffer->extents[buffer->extent_count - 1];
    uint32_t len = 0;
    for (int i = 0; i < RECORD_PARTS; i++) {
        extent->outside[i] = value[i];
        len += (uint32_t)value[i].len;
    }
    assert(value[0].len); /* tells that there is something */
    buffer->outside += len;
    atomic_fetch_add_explicit(&log->active->end, len, memory_order_relaxed);
    advance(log, len);
}

void log_link_segment(struct log *log, struct segment *segment)
{
    segment->previous = log->active;
    if (log->active)
        log->active->next = segment;
    else
        log->first = segment;
    log->active = segment;
}

/* Nothing of the segment is indexed yet: it is published before any thread finds a record in it. */
static void publish_active(struct log *log)
{
    uint32_t rolls = atomic_load_explicit(&log->rolls, memory_order_relaxed);
    atomic_store_explicit(&log->rolls, rolls + 1, memory_order_relaxed);
    atomic_store_explicit(&log->active_base_lsn, log->active->header.base_lsn,
                          memory_order_release);
    atomic_store_explicit(&log->active_index, log->active->segment_index, memory_order_release);
    atomic_store_explicit(&log->rolls, rolls + 2, memory_order_release);
}

void log_activate(struct log *log, struct segment *segment)
{
    struct segment_header *header = &segment->header;
    uint32_t deadline = atomic_load(&log->flush_deadline_s);
    memcpy(header->uuid, log->options.uuid, sizeof header->uuid);
    header->base_lsn = next_lsn(log);
    header->created_s = log->now_s;
    header->flush_lsn = atomic_load(&log->flush_lsn);
    header->flush_deadline_s = deadline == UINT32_MAX ? 0 : deadline;
    header->next_cas = log->next_cas;
    header->boot_id = log->options.boot_id;
    if (log->active && !log->previous_unknown) {
        header->previous_id = log->active->header.id;
        header->log_end_lsn = log->active->header.base_lsn + atomic_load(&log->active->end);
    }
    log->previous_unknown = false;
    log->options.random(&header->seed, sizeof header->seed);
    log_link_segment(log, segment);
    publish_active(log);
    segment_header_encode(take(log, SEGMENT_HEADER_SIZE), header);
}

/* The smallest that is large enough. */
static struct segment *take_ready(struct log *log, uint32_t capacity)
{
    uint32_t best = log->ready_count;
    for (uint32_t i = 0; i < log->ready_count; i++)
        if (log->ready[i]->capacity >= capacity &&
            (best == log->ready_count || log->ready[i]->capacity < log->ready[best]->capacity))
            best = i;
    if (best == log->ready_count)
        return NULL;
    struct segment *segment = log->ready[best];
    memmove(&log->ready[best], &log->ready[best + 1],
            (--log->ready_count - best) * sizeof *log->ready);
    return segment;
}

/* Ready segments that a use leaves to the more essential ones. */
static uint32_t ready_left_by(enum log_use use)
{
    return use == LOG_NORMAL ? 2 : use == LOG_DELETION ? 1 : 0;
}

/* What the ready segments that are left are for. */
static enum log_use use_of_rest(const struct log *log)
{
    return log->ready_count >= 2 ? LOG_NORMAL : log->ready_count == 1 ? LOG_DELETION : LOG_CLEANING;
}

bool log_met_full_disk(const struct log *log)
{
    return log->create_status == STORE_FULL && !log->freed;
}

/* Whether there may be room for `capacity` bytes soon. */
static bool may_come(struct log *log, uint32_t capacity)
{
    const struct log_options *options = &log->options;
    uint64_t least = capacity + LOG_READY * (uint64_t)log->usual_size;
    if (capacity > log->usual_size && least > atomic_load(&log->effective_limit))
        return false; /* and were all else thrown away */
    bool broken = log->create_failures >= CREATE_FAILURES_MAX && log->create_status != STORE_FULL;
    if (log->stopping || broken)
        return false;
    return (log->create_failures == 0 && log_may_allocate(log)) ||
           (options->may_make_room && options->may_make_room(options->context));
}

/* No segment is ready for `capacity` bytes: asks for one. */
static enum store_status want_segment(struct log *log, uint32_t capacity, enum log_use use)
{
    log->essential_wanted |= use != LOG_NORMAL;
    if (!may_come(log, capacity)) {
        log->wanted_size = 0;
        return STORE_FULL;
    }
    if (capacity > log->usual_size && capacity > log->wanted_size)
        log->wanted_size = capacity;
    log->room_wanted = true;
    pthread_cond_signal(&log->segment_wanted);
    return STORE_WAIT_SPACE;
}

/* Goes on in the next segment. STORE_WAIT_SPACE: none is ready; STORE_FULL: and none will be. */
static enum store_status roll(struct log *log, uint32_t size, enum log_use use)
{
    uint32_t capacity = size + SEGMENT_HEADER_SIZE;
    bool allowed = log->ready_count > ready_left_by(use);
    struct segment *sealed = log->active;
    struct segment *segment = allowed ? take_ready(log, capacity) : NULL;
    if (!segment)
        return want_segment(log, capacity, use);
    if (!log_give_index(log, segment)) {
        log->file_bytes -= segment->capacity; /* whole blocks: it is new */
        segment_files_free(&log->segment_files, segment);
        return STORE_FULL;
    }
    log_activate(log, segment);
    log->reserved = use_of_rest(log);
    atomic_store(&sealed->state, SEGMENT_SEALED);
    pthread_cond_signal(&log->segment_wanted);
    return STORE_OK;
}

bool log_seal_active(struct log *log)
{
    bool sealed = false;
    pthread_mutex_lock(&log->lock);
    if (atomic_load(&log->active->end) > SEGMENT_HEADER_SIZE && log->ready_count > 0 &&
        log->current->extent_count + 1 < LOG_EXTENTS && !atomic_load(&log->failed) &&
        log->current->used + SEGMENT_HEADER_SIZE <= LOG_BUFFER_SIZE)
        sealed = roll(log, RECORD_HEADER_SIZE, LOG_CLEANING) == STORE_OK;
    pthread_mutex_unlock(&log->lock);
    return sealed;
}

/* Whether the current buffer takes `size` bytes and a segment header without being written first. A
 * record makes at most three extents: a header, and the parts before and after its value. */
static bool buffer_has_room(const struct log *log, uint64_t size)
{
    const struct log_buffer *buffer = log->current;
    return buffer->used + size + SEGMENT_HEADER_SIZE <= LOG_BUFFER_SIZE &&
           buffer->records < LOG_BUFFER_RECORDS && buffer->extent_count + 2 < LOG_EXTENTS;
}

/* Whether the active segment takes `size` bytes more. */
static bool segment_has_room(const struct log *log, uint32_t size)
{
    uint64_t end = atomic_load_explicit(&log->active->end, memory_order_relaxed);
    uint32_t capacity = log->active->capacity;
    if (capacity > log->usual_size && end > SEGMENT_HEADER_SIZE)
        capacity = log->usual_size;
    return end + size <= capacity;
}

/* Whether the active segment is left to more essential writes, until enough are ready again. */
static bool is_kept_back(struct log *log, enum log_use use)
{
    if (log->ready_count >= ready_left_by(LOG_NORMAL))
        log->reserved = LOG_NORMAL;
    return use < log->reserved;
}

static uint64_t value_len_of(const struct log_outside *outside)
{
    return outside ? outside->value[0].len + outside->value[1].len : 0;
}

/* Header and key, the value from elsewhere, the padding. */
static char *take_around(struct log *log, uint32_t size, const struct log_outside *outside)
{
    uint32_t padding = size - outside->head_len - (uint32_t)value_len_of(outside);
    char *data = take(log, outside->head_len);
    take_outside(log, outside->value);
    if (padding)
        memset(take(log, padding), 0, padding);
    return data;
}

/* The caller points the keydir to it before it unlocks the key's shard. */
static void count_indexed(struct segment *segment, uint32_t size)
{
    uint64_t bytes = atomic_load_explicit(&segment->indexed_bytes, memory_order_relaxed);
    bytes += size_of_code(size_code(size)); /* as location_size says of it */
    atomic_store_explicit(&segment->indexed_bytes, bytes, memory_order_relaxed);
}

static void reserve_locked(struct log *log, const struct hint_entry *entry,
                           const struct log_outside *outside, struct log_room *room)
{
    uint32_t size = entry->size * RECORD_ALIGN;
    struct log_buffer *buffer = log->current;
    room->segment = log->active;
    room->offset = atomic_load_explicit(&log->active->end, memory_order_relaxed);
    room->lsn = next_lsn(log);
    room->cas = log->next_cas++;
    room->buffer = buffer;
    room->data = outside ? take_around(log, size, outside) : take(log, size);
    if (entry->type == RECORD_PUT)
        count_indexed(room->segment, size);
    buffer->cas_max = room->cas;
    struct hint_entry *hinted = &buffer->entries[buffer->records++];
    *hinted = *entry;
    hinted->offset = room->offset / RECORD_ALIGN;
    if (entry->type == RECORD_DELETE && !entry->expire_s)
        hinted->expire_s = hint_born(room->lsn);
}

/* With the lock held: the FLUSH record, and what it means. */
static uint64_t append_flush(struct log *log, uint32_t when_s)
{
    struct log_room room;
    struct hint_entry entry = {
        .size = RECORD_HEADER_SIZE / RECORD_ALIGN, .expire_s = when_s, .type = RECORD_FLUSH};
    reserve_locked(log, &entry, NULL, &room);
    struct record record = {.type = RECORD_FLUSH, .expire_s = when_s};
    record_seal(room.data, &record, room.segment->header.seed, room.offset);
    atomic_store(&log->flush_record_lsn, room.lsn);
    if (when_s == 0)
        atomic_store(&log->flush_lsn, room.lsn);
    atomic_store(&log->flush_deadline_s, when_s ? when_s : UINT32_MAX);
    log_publish(&room);
    return room.lsn + RECORD_HEADER_SIZE;
}

/* On STORE_OK the lock is held and `size` bytes may be reserved, `buffered` of them in the buffer.
 * A flush that is due by the newest time passed in comes first: so it is in the log before all that
 * was decided by that time (L7). */
static enum store_status lock_with_room(struct log *log, uint32_t size, uint64_t buffered,
                                        enum log_use use, uint32_t now_s)
{
    enum store_status status = STORE_OK;
    pthread_mutex_lock(&log->lock);
    if (now_s > log->now_s)
        log->now_s = now_s;
    while (status == STORE_OK) {
        if (atomic_load_explicit(&log->failed, memory_order_relaxed)) {
            status = STORE_READ_ONLY;
        } else if (log_has_backpressure(log) && use != LOG_CLEANING) {
            log->writers_wait = true;
            status = STORE_WAIT_SPACE;
        } else if (!buffer_has_room(log, buffered)) {
            uint64_t lsn = next_lsn(log);
            pthread_mutex_unlock(&log->lock);
            status = log_commit(log, lsn);
            pthread_mutex_lock(&log->lock);
        } else if (is_kept_back(log, use)) {
            status = want_segment(log, size + SEGMENT_HEADER_SIZE, use);
        } else if (!segment_has_room(log, size)) {
            status = roll(log, size, use);
        } else if (log->now_s >=
                   atomic_load_explicit(&log->flush_deadline_s, memory_order_relaxed)) {
            append_flush(log, 0); /* no longer than any record; room for both is checked again */
        } else {
            return STORE_OK;
        }
    }
    pthread_mutex_unlock(&log->lock);
    return status;
}

enum store_status log_reserve(struct log *log, const struct hint_entry *entry,
                              const struct log_outside *outside, enum log_use use,
                              uint64_t rests_on, uint32_t now_s, struct log_room *room)
{
    uint32_t size = entry->size * RECORD_ALIGN;
    assert(entry->size >= RECORD_HEADER_SIZE / RECORD_ALIGN);
    assert(size - value_len_of(outside) <= LOG_BUFFER_SIZE / 2);
    enum store_status status = lock_with_room(log, size, size - value_len_of(outside), use, now_s);
    if (status != STORE_OK)
        return status;
    bool flushed = rests_on < atomic_load_explicit(&log->flush_lsn, memory_order_relaxed);
    if (!flushed)
        reserve_locked(log, entry, outside, room);
    pthread_mutex_unlock(&log->lock);
    return flushed ? STORE_NOT_FOUND : STORE_OK;
}

enum store_status log_flush(struct log *log, uint32_t when_s, uint32_t now_s, uint64_t *end_lsn)
{
    enum store_status status =
        lock_with_room(log, RECORD_HEADER_SIZE, RECORD_HEADER_SIZE, LOG_DELETION, now_s);
    if (status != STORE_OK)
        return status;
    *end_lsn = append_flush(log, when_s);
    pthread_mutex_unlock(&log->lock);
    return STORE_OK;
}

void log_flush_if_due(struct log *log, uint32_t now_s)
{
    if (lock_with_room(log, RECORD_HEADER_SIZE, RECORD_HEADER_SIZE, LOG_DELETION, now_s) ==
        STORE_OK)
        pthread_mutex_unlock(&log->lock); /* else it stays due */
}

/* Takes the filled buffer, and waits for those still copying into it. NULL: it is empty. */
static struct log_buffer *swap_buffers(struct log *log)
{
    pthread_mutex_lock(&log->lock);
    struct log_buffer *buffer = log->current->used ? log->current : NULL;
    if (buffer)
        log->current = &log->buffers[buffer == &log->buffers[0]];
    pthread_mutex_unlock(&log->lock);
    if (!buffer)
        return NULL;
    for (int spins = 0;
         atomic_load_explicit(&buffer->published, memory_order_acquire) < buffer->records; spins++)
        if (spins > 100)
            sched_yield();
    return buffer;
}

static enum store_status commit_locked(struct log *log)
{
    if (atomic_load(&log->failed)) {
        pthread_mutex_lock(&log->lock);
        log_keep_outside(log->current);
        pthread_mutex_unlock(&log->lock);
        return STORE_READ_ONLY;
    }
    struct log_buffer *buffer = swap_buffers(log);
    if (!buffer)
        return STORE_OK;
    if (!log_write_buffer(log, buffer) && !log_repair(log, buffer))
        return STORE_READ_ONLY;
    log_note_written(log, buffer);
    return STORE_OK;
}

enum store_status log_commit(struct log *log, uint64_t lsn)
{
    enum store_status status = STORE_OK;
    if (log_written_lsn(log) >= lsn)
        return STORE_OK;
    pthread_mutex_lock(&log->write_lock);
    while (status == STORE_OK && log_written_lsn(log) < lsn)
        status = commit_locked(log);
    pthread_mutex_unlock(&log->write_lock);
    return status;
}
