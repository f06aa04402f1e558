/* rescue.c: what a disk has dropped of a segment that was not synced yet.
 *
 * When the kernel cannot write a page it may drop its contents: the page then reads as what was
 * there before, and the next sync succeeds. So the repair after a failure (log_repair.c) checks
 * each copy that it has made, record by record, before it syncs it. What is not valid there is
 * written again, at its old offset and in its old size:
 *
 *   - as it was: a value that its key still has, and that is in RAM; a TOUCH of such a key; and a
 *     copy made by the cleaner whose original is still there (clean_recall);
 *   - a FLUSH, from its hint entry, which has all of it;
 *   - anything else by the hash of its key (RECORD_STATE_HASHED) from the hint entry, for the key
 *     itself is gone. A DELETE or a TOUCH lose nothing by that. A value is replaced by a deletion:
 *     if it was the newest of its key it is lost, and so counted and reported. The key is absent
 *     from then on, for an older value must not come back.
 *
 * The hint entries come from the hint file that grows with the segment; it may be damaged too, and
 * has a checksum. Without them only the keydir shows what is lost, and only of values. Other
 * records there are unknown: a record without meaning fills the gap, so that after a power loss it
 * is not taken for the end of the log (Y6).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/log/log_internal.h"

#define MARK_SIZE 40   /* of a record by hash, at least */
#define EXACT_MAX 4096 /* bytes that a location counts exactly */
#define LOST      1    /* in hint_entry.zero: a deletion stands in its place now */

_Static_assert(MARK_SIZE == RECORD_HEADER_SIZE + RECORD_HASH_LEN, "and no key is shorter");

static bool begin_walk(const struct rescue *rescue, struct segment_cursor *cursor)
{
    if (!segment_cursor_init(cursor, rescue->log->options.files, &rescue->copy, rescue->end))
        return false;
    cursor->skims = true;
    return true;
}

/* Whether all of the copy is valid records. False: it cannot be read. */
static bool look_through(const struct rescue *rescue, bool *whole)
{
    struct segment_cursor cursor;
    struct record record;
    enum cursor_status status;
    uint32_t offset;
    if (!begin_walk(rescue, &cursor))
        return false;
    do
        status = segment_cursor_next(&cursor, &record, &offset);
    while (status == CURSOR_RECORD);
    *whole = status == CURSOR_END && cursor.offset == rescue->end;
    segment_cursor_release(&cursor);
    return status != CURSOR_FAILED;
}

/* With --sync=none the background thread finishes the hint files of sealed segments meanwhile. */
static bool has_writer(const struct rescue *rescue)
{
    const struct segment *segment = rescue->segment;
    return segment->hint_writer && (rescue->log->options.sync_interval_ms >= 0 ||
                                    atomic_load(&segment->state) == SEGMENT_ACTIVE);
}

static bool load_entries(struct rescue *rescue)
{
    const struct log_options *options = &rescue->log->options;
    struct segment *segment = rescue->segment;
    struct hint_list *list = &rescue->list;
    struct hint hint;
    rescue->exact = true;
    if (has_writer(rescue) && (list->entries = hint_read_back(segment->hint_writer, &list->count)))
        return true;
    if (hint_read(options->files, options->dir_fd, segment, &hint, &list->entries) == STORE_OK) {
        list->count = hint.count;
        return true;
    }
    rescue->exact = false;
    return !options->find_values ||
           options->find_values(options->context, segment, hint_list_add, list);
}

static bool write_and_free(const struct rescue *rescue, char *data, uint64_t size, uint64_t offset)
{
    bool ok = file_write_all(rescue->log->options.files, rescue->copy.fd, data, size, offset);
    int error = errno;
    free(data);
    errno = error;
    return ok;
}

/* Writes the record by the hash of its key, `size` bytes long. */
static bool write_mark(struct rescue *rescue, struct hint_entry *entry, uint64_t size)
{
    const struct segment_header *header = &rescue->segment->header;
    uint64_t offset = entry->offset * UINT64_C(8);
    char *out = calloc(1, size);
    if (!out)
        return false;
    struct record record = {.type = entry->type, .expire_s = entry->expire_s};
    if (entry->type != RECORD_FLUSH) {
        record.key_len = RECORD_HASH_LEN;
        record.client_flags = entry->shard_bits;
        record.state = RECORD_STATE_HASHED;
        record.value_len = (uint32_t)(size - MARK_SIZE);
        memcpy(out + RECORD_HEADER_SIZE, &entry->tag, RECORD_HASH_LEN);
    }
    if (entry->type == RECORD_PUT || entry->type == RECORD_DELETE) {
        entry->zero = entry->type == RECORD_PUT ? LOST : 0;
        record.type = RECORD_DELETE;
        record.expire_s = 0;
        record.cas = header->base_lsn + offset; /* born: never before it was */
    }
    record_seal(out, &record, header->seed, offset);
    rescue->has_marks = true;
    return write_and_free(rescue, out, size, offset);
}

static bool write_again(struct rescue *rescue, struct hint_entry *entry)
{
    const struct log_options *options = &rescue->log->options;
    uint64_t size = entry->size * UINT64_C(8);
    char *data = options->recall ? malloc(size) : NULL;
    size_t len = data ? options->recall(options->context, rescue->segment, entry, data) : 0;
    if (len) {
        rescue->restored++;
        return write_and_free(rescue, data, len, entry->offset * UINT64_C(8));
    }
    free(data);
    if (!rescue->exact && size > EXACT_MAX)
        size = MARK_SIZE; /* what follows may begin before the entry says that this ends */
    rescue->restored += entry->type != RECORD_PUT;
    return write_mark(rescue, entry, size);
}

static bool write_all_again(struct rescue *rescue)
{
    struct segment_cursor cursor;
    struct record record;
    bool ok = true;
    if (!begin_walk(rescue, &cursor))
        return false;
    for (uint64_t i = 0; ok && i < rescue->list.count; i++) {
        struct hint_entry *entry = &rescue->list.entries[i];
        entry->zero = 0;
        enum cursor_status status =
            segment_cursor_read(&cursor, entry->offset * UINT64_C(8), &record);
        ok = status == CURSOR_DAMAGE ? write_again(rescue, entry) : status == CURSOR_RECORD;
    }
    segment_cursor_release(&cursor);
    return ok;
}

/* Writes a deletion of a hash of zeros. Only a FLUSH is shorter than that. */
static bool fill_gap(struct rescue *rescue, uint64_t from, uint64_t to)
{
    struct hint_entry entry = {.offset = (uint32_t)(from / RECORD_ALIGN), .type = RECORD_DELETE};
    rescue->has_gaps = true;
    return to - from < MARK_SIZE || write_mark(rescue, &entry, to - from);
}

static bool fill_gaps(struct rescue *rescue)
{
    struct segment_cursor cursor;
    struct record record;
    enum cursor_status status;
    uint32_t offset;
    bool ok = true;
    if (!begin_walk(rescue, &cursor))
        return false;
    do {
        status = segment_cursor_next(&cursor, &record, &offset);
        if (status == CURSOR_DAMAGE)
            ok = fill_gap(rescue, offset, cursor.offset);
        else if (status == CURSOR_END && offset < rescue->end)
            ok = fill_gap(rescue, offset, rescue->end);
    } while (ok && (status == CURSOR_RECORD || status == CURSOR_DAMAGE));
    segment_cursor_release(&cursor);
    return ok && status != CURSOR_FAILED;
}

bool rescue_copy(struct rescue *rescue, struct log *log, struct segment *segment, int fd,
                 uint32_t end, bool may_ask)
{
    char header[SEGMENT_HEADER_SIZE];
    bool whole;
    *rescue = (struct rescue){
        .log = log, .segment = segment, .copy = {.header = segment->header, .fd = fd}, .end = end};
    if (end < SEGMENT_HEADER_SIZE)
        return true;
    segment_header_encode(header, &segment->header);
    if (!file_write_all(log->options.files, fd, header, sizeof header, 0) ||
        !look_through(rescue, &whole))
        return false;
    if (whole)
        return true;
    errno = EIO;
    return may_ask && load_entries(rescue) && write_all_again(rescue) && fill_gaps(rescue);
}

/* The hint file no longer describes the copy. It is made again by a scan. */
static void drop_hints(struct rescue *rescue)
{
    const struct log_options *options = &rescue->log->options;
    struct segment *segment = rescue->segment;
    if (has_writer(rescue)) {
        hint_abandon(segment->hint_writer);
        segment->hint_writer = NULL;
    }
    segment_unlink_file(options->files, options->dir_fd, segment->header.id, "hint");
    log_set_size(rescue->log, segment, segment->capacity, 0);
}

static void count_lost(struct rescue *rescue)
{
    struct log *log = rescue->log;
    const struct log_options *options = &log->options;
    for (uint64_t i = 0; i < rescue->list.count; i++) {
        const struct hint_entry *entry = &rescue->list.entries[i];
        uint64_t lsn = rescue->segment->header.base_lsn + entry->offset * UINT64_C(8);
        if (entry->zero != LOST)
            continue;
        segment_add_mark(rescue->segment, RECORD_DELETE, MARK_SIZE);
        if (options->lose && !options->lose(options->context, rescue->segment, entry))
            continue;
        log->dropped.lost++;
        if (lsn < log->dropped.first_lsn)
            log->dropped.first_lsn = lsn;
    }
}

void rescue_end(struct rescue *rescue, bool in_place)
{
    if (in_place) {
        count_lost(rescue);
        rescue->log->dropped.restored += rescue->restored;
        rescue->log->dropped.has_gaps |= rescue->has_gaps;
        if (rescue->has_marks)
            drop_hints(rescue);
    }
    free(rescue->list.entries);
}
