/* clean_moves.c: where moved values came from, as long as a failing disk may drop their copies. */
#include <stdlib.h>
#include <string.h>

#include "storage/clean/clean_job.h"

/* Where the values of a job came from, until their copies are synced (clean_recall). */
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

void clean_note_move(const struct job *job, const struct hint_entry *hinted, uint64_t lsn)
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

void clean_forget_moves(struct store *store, const struct segment *from)
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

void clean_begin_moves(struct job *job)
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
