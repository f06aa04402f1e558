/* tail.c: where the log ends.
 *
 * After a death of the process the log is what was written: a prefix of what was appended (L1). After a power loss it is a
 * prefix only up to the last sync; behind that the disk may have written this page and not that one. What lies behind a hole
 * there must go: it was never acknowledged as synced, and what survives is to be a prefix. A bit that has rotted makes a hole
 * too, and costs no more than its record. Three things tell them apart:
 *
 *   - Each segment header names the boot of the machine in which it was made. When the newest one was made in this boot no
 *     power has failed since, and a hole is damage.
 *   - Hints are finished after the sync of their segment: all before the end of the last hinted segment is on disk, and a hole
 *     is damage.
 *   - Each segment header says which segment was before it and where the log ended there. So one that has lost its end leaves
 *     a hole that can be seen, and so does one that has lost its own header: its file is there, for a name is on disk before
 *     it is used. Where the file is gone the segment was cleaned, and that is no hole.
 *
 * All other holes end the log: the first of them does (Y6). The header of the segment in which the log goes on repeats where
 * that is, and only when it is on disk what lies behind is removed: until then another start finds the same end. (Damage in
 * what was synced last, and not hinted yet, and then a power loss, costs what lies behind it: that is the price.)
 */
#include "storage/tail.h"

static uint64_t base_of(const struct tail_part *part)
{
    return part->segment->header.base_lsn;
}

/* What lies between the end of the log and the segment that went on from there is no part of it. */
static void end_at(struct tail_part *parts, size_t count, uint64_t end_lsn)
{
    for (size_t i = count; i-- > 0;) {
        if (base_of(&parts[i]) >= end_lsn) {
            parts[i].end = 0;
            continue;
        }
        if (base_of(&parts[i]) + parts[i].end > end_lsn)
            parts[i].end = end_lsn - base_of(&parts[i]);
        return; /* the others end before this one begins */
    }
}

static void cut_where_starts_have_cut(struct tail_part *parts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (parts[i].segment->header.previous_id)
            end_at(parts, i, parts[i].segment->header.log_end_lsn);
}

/* The first one behind the last that is hinted. */
static size_t first_unsynced(const struct tail_part *parts, size_t count)
{
    size_t i = count;
    while (i > 0 && !(parts[i - 1].hinted && parts[i - 1].end))
        i--;
    return i;
}

/* Goes through a segment up to its end, or to the first hole. */
static enum store_status scan(const struct file_system *files, const struct tail_part *part,
                              uint64_t *end_lsn, bool *hole)
{
    struct segment_cursor cursor;
    struct record record;
    uint32_t offset;
    enum cursor_status status;
    if (!segment_cursor_init(&cursor, files, part->segment, part->end))
        return STORE_IO;
    cursor.skims = true;
    *end_lsn = base_of(part) + SEGMENT_HEADER_SIZE;
    do {
        status = segment_cursor_next(&cursor, &record, &offset);
        if (status != CURSOR_RECORD)
            continue;
        *hole = base_of(part) + offset > *end_lsn;
        if (!*hole)
            *end_lsn = base_of(part) + cursor.offset;
    } while (!*hole && (status == CURSOR_RECORD || status == CURSOR_DAMAGE));
    segment_cursor_release(&cursor);
    return status == CURSOR_FAILED ? STORE_IO : STORE_OK;
}

/* Whether parts[i] is not what follows on the log up to end_lsn. */
static bool is_behind_hole(const struct tail_part *parts, size_t i, uint64_t end_lsn)
{
    const struct segment_header *header = &parts[i].segment->header;
    bool adjacent = i > 0 && header->previous_id == parts[i - 1].segment->header.id;
    return parts[i].previous_lost || (adjacent && header->log_end_lsn > end_lsn);
}

enum store_status tail_find(const struct file_system *files, struct tail_part *parts, size_t count,
                            uint64_t boot_id, bool *cut)
{
    enum store_status status = STORE_OK;
    bool hole = false;
    cut_where_starts_have_cut(parts, count);
    *cut = false;
    if (count && boot_id && parts[count - 1].segment->header.boot_id == boot_id)
        return STORE_OK; /* and if it had failed before, then a start has seen to that */
    size_t i = first_unsynced(parts, count);
    uint64_t end_lsn = i > 0 ? base_of(&parts[i - 1]) + parts[i - 1].end : 0;
    for (; i < count && status == STORE_OK && !hole; i++) {
        if (parts[i].end == 0)
            continue;
        hole = is_behind_hole(parts, i, end_lsn);
        if (!hole)
            status = scan(files, &parts[i], &end_lsn, &hole);
    }
    if (hole)
        end_at(parts, count, end_lsn);
    *cut = hole;
    return status;
}
