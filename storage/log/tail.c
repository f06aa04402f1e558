/* tail.c: where the log ends.
 *
 * After a crash of the process the log is what was written: a prefix of what was appended (L1).
 * After a power loss it is a prefix only up to the last sync; of what follows, the disk may have
 * written some pages and not others. What is after a hole there must go: it was never acknowledged
 * as synced, and what survives has to be a prefix. A flipped bit makes a hole too, and costs only
 * its record. Three things tell them apart:
 *
 *   - Each segment header names the boot of the machine in which it was made. If the newest one was
 *     made in this boot no power has failed since, and a hole is damage.
 *   - Hints are finished after the sync of their segment: all before the end of the last hinted
 *     segment is on disk, and a hole is damage.
 *   - Each segment header names the segment before it, and where the log ended there. So a segment
 *     that has lost its end leaves a visible hole, as does one that has lost its own header: its
 *     file is there, for a name is on disk before it is used. If the file is gone the segment was
 *     cleaned, and that is no hole. Nor is what cannot be read: a power loss leaves what was there
 *     before, or zeros (Y9).
 *
 * The first of all other holes ends the log (Y6). The header of the segment in which the log
 * continues records that position, and only when it is on disk what follows is removed: until then
 * another start finds the same end. (The price: damage in what was synced last and not hinted yet,
 * followed by a power loss, costs everything after it.)
 */
#include "storage/log/recover_internal.h"

static uint64_t base_of(const struct load *load)
{
    return load->segment->header.base_lsn;
}

/* What is between the end of the log and the segment that continued it is no part of the log. */
static void end_at(struct load *loads, size_t count, uint64_t end_lsn)
{
    for (size_t i = count; i-- > 0;) {
        if (base_of(&loads[i]) >= end_lsn) {
            loads[i].end = 0;
            continue;
        }
        if (base_of(&loads[i]) + loads[i].end > end_lsn)
            loads[i].end = end_lsn - base_of(&loads[i]);
        return; /* the others end before this one begins */
    }
}

static void cut_where_starts_have_cut(struct load *loads, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (loads[i].segment->header.previous_id)
            end_at(loads, i, loads[i].segment->header.log_end_lsn);
}

/* The first one after the last that is hinted. */
static size_t first_unsynced(const struct load *loads, size_t count)
{
    size_t i = count;
    while (i > 0 && !(loads[i - 1].hinted && loads[i - 1].end))
        i--;
    return i;
}

/* Scans a segment, whose file is open, up to its end, or to the first hole. */
static enum store_status scan_open(const struct file_system *files, const struct load *load,
                                   uint64_t *end_lsn, bool *hole)
{
    struct segment_cursor cursor;
    struct record record;
    uint32_t offset;
    enum cursor_status status;
    if (!segment_cursor_init(&cursor, files, load->segment, load->end))
        return STORE_IO;
    cursor.skims = cursor.tolerant = true;
    *end_lsn = base_of(load) + SEGMENT_HEADER_SIZE;
    do {
        status = segment_cursor_next(&cursor, &record, &offset);
        if (status == CURSOR_DAMAGE && cursor.unreadable && base_of(load) + offset == *end_lsn)
            *end_lsn = base_of(load) + cursor.offset; /* damage, and no hole */
        if (status != CURSOR_RECORD)
            continue;
        *hole = base_of(load) + offset > *end_lsn;
        if (!*hole)
            *end_lsn = base_of(load) + cursor.offset;
    } while (!*hole && (status == CURSOR_RECORD || status == CURSOR_DAMAGE));
    segment_cursor_release(&cursor);
    return status == CURSOR_FAILED ? STORE_IO : STORE_OK;
}

static enum store_status scan(struct segment_files *table, const struct load *load,
                              uint64_t *end_lsn, bool *hole)
{
    enum store_status status = segment_files_use(table, load->segment);
    if (status != STORE_OK)
        return status;
    status = scan_open(table->files, load, end_lsn, hole);
    segment_files_done(load->segment);
    return status;
}

/* Whether loads[i] is not what follows on the log up to end_lsn. */
static bool is_behind_hole(const struct load *loads, size_t i, uint64_t end_lsn)
{
    const struct segment_header *header = &loads[i].segment->header;
    bool adjacent = i > 0 && header->previous_id == loads[i - 1].segment->header.id;
    return loads[i].previous_lost || (adjacent && header->log_end_lsn > end_lsn);
}

enum store_status tail_find(struct segment_files *table, struct load *loads, size_t count,
                            uint64_t boot_id, bool *cut)
{
    enum store_status status = STORE_OK;
    bool hole = false;
    cut_where_starts_have_cut(loads, count);
    *cut = false;
    if (count && boot_id && loads[count - 1].segment->header.boot_id == boot_id)
        return STORE_OK; /* and if it had failed before, then a start has seen to that */
    size_t i = first_unsynced(loads, count);
    uint64_t end_lsn = i > 0 ? base_of(&loads[i - 1]) + loads[i - 1].end : 0;
    for (; i < count && status == STORE_OK && !hole; i++) {
        if (loads[i].end == 0)
            continue;
        hole = is_behind_hole(loads, i, end_lsn);
        if (!hole)
            status = scan(table, &loads[i], &end_lsn, &hole);
    }
    if (hole)
        end_at(loads, count, end_lsn);
    *cut = hole;
    return status;
}
