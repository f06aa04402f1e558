/* recover_read.c: reading segments for the recovery: the flush, the TOUCHes, and all records.
 *
 * An expired value is dead unless a TOUCH extends it (Y2). All expired values might take more
 * memory than the live keys, so a filter says which keys have a TOUCH.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/log/recover_internal.h"

#define FILTER_BITS_MIN 15

/* Walking through a segment's records before they are loaded. */
struct walk {
    struct recovery_run *run;
    const struct load *load;
};

/* Scans a segment, whose file may be closed, up to the end of the log in it. Its entries become the
 * load's; or, with `visit`, they are only shown, and damage is reported when they are loaded. */
static enum store_status scan_segment(struct recovery_run *run, struct load *load,
                                      hint_visit *visit, struct walk *walk)
{
    const struct recovery *recovery = run->recovery;
    const struct reporter silent = {0};
    bool is_last = load == &run->loads[run->count - 1];
    const struct hint_source source = {.files = recovery->files,
                                       .segment = load->segment,
                                       .end = load->end,
                                       .hash_seed = recovery->hash_seed,
                                       .how = HINT_TOLERANT | (is_last ? HINT_TORN_TAIL : 0),
                                       .reporter = visit ? &silent : recovery->reporter,
                                       .unreadable = visit ? NULL : &load->unreadable};
    struct hint ignored;
    enum store_status status = segment_files_use(&recovery->log->segment_files, load->segment);
    if (status != STORE_OK)
        return status;
    status = visit ? hint_scan(&source, visit, walk, &ignored)
                   : hint_collect(&source, &load->hint, &load->entries);
    segment_files_done(load->segment);
    return status;
}

static enum store_status walk(struct recovery_run *run, struct load *load, hint_visit *visit)
{
    struct recovery *recovery = run->recovery;
    struct walk walk = {.run = run, .load = load};
    struct hint hint = load->hint;
    struct hint_entry *entries = load->entries;
    enum store_status status = load->scanned ? STORE_OK : STORE_NOT_FOUND;
    if (load->hinted)
        status = hint_read(recovery->files, recovery->dir_fd, load->segment, &hint, &entries);
    if (status != STORE_OK)
        return scan_segment(run, load, visit, &walk);
    for (uint64_t i = 0; i < hint.count; i++)
        visit(&walk, &entries[i]);
    if (!load->scanned)
        free(entries);
    return STORE_OK;
}

static bool visit_flushes(void *context, const struct hint_entry *entry)
{
    const struct walk *walk = context;
    struct log *log = walk->run->recovery->log;
    if (entry->type != RECORD_FLUSH)
        return true;
    if (entry->expire_s == 0)
        atomic_store(&log->flush_lsn, walk->load->segment->header.base_lsn + entry->offset * 8ull);
    atomic_store(&log->flush_deadline_s, entry->expire_s ? entry->expire_s : UINT32_MAX);
    return true;
}

enum store_status recover_find_flush(struct recovery_run *run)
{
    struct recovery *recovery = run->recovery;
    struct load *last = &run->loads[run->count - 1];
    const struct segment_header *header = &last->segment->header;
    atomic_store(&recovery->log->flush_lsn, header->flush_lsn);
    atomic_store(&recovery->log->flush_deadline_s,
                 header->flush_deadline_s ? header->flush_deadline_s : UINT32_MAX);
    /* The last segment is needed more than once, and mostly has no hint: what a scan finds is kept.
     * If that fails, walk tries without memory, and says why it cannot. */
    if (!last->hinted)
        last->scanned = scan_segment(run, last, NULL, NULL) == STORE_OK;
    enum store_status status = walk(run, last, visit_flushes);
    if (recovery->now_s >= atomic_load(&recovery->log->flush_deadline_s)) {
        atomic_store(&recovery->log->flush_lsn, recovery->next_lsn);
        atomic_store(&recovery->log->flush_deadline_s, UINT32_MAX);
    }
    return status;
}

static bool visit_touches(void *context, const struct hint_entry *entry)
{
    struct recovery_run *run = ((struct walk *)context)->run;
    uint64_t bit = entry->tag >> run->touched_shift;
    if (entry->type == RECORD_TOUCH && !has_expired(run, entry->expire_s))
        atomic_fetch_or_explicit(&run->touched[bit / 64], UINT64_C(1) << bit % 64,
                                 memory_order_relaxed);
    return true;
}

static void *run_toucher(void *context)
{
    struct recovery_run *run = context;
    size_t i;
    while ((i = atomic_fetch_add(&run->next, 1)) < run->count &&
           atomic_load(&run->status) == STORE_OK) {
        struct load *load = &run->loads[i];
        if (!recover_has_touches(load))
            continue;
        enum store_status status = walk(run, load, visit_touches);
        if (status != STORE_OK)
            recover_fail(run, status);
        recover_note_read(run, load);
    }
    return NULL;
}

/* At least a thirty-second of the memory. A false alarm costs an entry until the sweep. */
static bool make_filter(struct recovery_run *run)
{
    uint64_t bytes = atomic_load(&run->recovery->keydir->bytes_max) / 32;
    uint32_t bits = FILTER_BITS_MIN;
    while (UINT64_C(1) << bits < bytes * 8)
        bits++;
    run->touched_shift = 64 - bits;
    run->touched = calloc((size_t)1 << (bits - 6), sizeof *run->touched);
    return run->touched;
}

enum store_status recover_find_touches(struct recovery_run *run)
{
    bool needed = false;
    for (size_t i = 0; i < run->count; i++)
        needed = needed || recover_has_touches(&run->loads[i]);
    if (!needed)
        return STORE_OK;
    if (!make_filter(run))
        return STORE_NO_MEMORY;
    atomic_store(&run->next, 0);
    return recover_run_all(run, run_toucher);
}

/* Its hint file is damaged or stale, cannot be read (errno), or is missing (then silently). */
static enum store_status read_by_scan(struct recovery_run *run, struct load *load,
                                      enum store_status why)
{
    struct recovery *recovery = run->recovery;
    if (why == STORE_CORRUPT)
        report(recovery->reporter, REPORT_WARNING,
               "the hint file of segment %016llx is damaged or stale: reading the segment instead",
               (unsigned long long)load->segment->header.id);
    if (why == STORE_IO && file_is_bad_block(errno))
        report(recovery->reporter, REPORT_WARNING,
               "%016llx.hint cannot be read (%s): reading the segment instead. Check the disk",
               (unsigned long long)load->segment->header.id, strerror(errno));
    if (load->scanned)
        return STORE_OK;
    enum store_status status = scan_segment(run, load, NULL, NULL);
    if (status == STORE_IO)
        report(recovery->reporter, REPORT_ERROR, "cannot read segment %016llx: %s",
               (unsigned long long)load->segment->header.id, strerror(errno));
    return status;
}

/* Reads the segment's hint file. One that was scanned before its turn has none, or a bad one, which
 * is reported now: never STORE_OK. */
static enum store_status read_by_hint(const struct recovery_run *run, struct load *load)
{
    const struct recovery *recovery = run->recovery;
    struct hint ignored;
    enum store_status status =
        hint_read(recovery->files, recovery->dir_fd, load->segment,
                  load->scanned ? &ignored : &load->hint, load->scanned ? NULL : &load->entries);
    return status == STORE_OK && load->scanned ? STORE_NOT_FOUND : status;
}

static uint32_t part_of(const struct recovery_run *run, const struct hint_entry *entry)
{
    return entry->shard_bits & (run->part_count - 1);
}

/* The order among the records of one part stays. */
static bool sort_into_parts(const struct recovery_run *run, struct load *load)
{
    uint32_t next[PARTS_MAX + 1] = {0};
    uint64_t count = load->hint.count;
    struct hint_entry *sorted = malloc((count + !count) * sizeof *sorted);
    load->parts = malloc(sizeof next);
    if (!sorted || !load->parts) {
        free(sorted);
        return false;
    }
    for (uint64_t i = 0; i < count; i++)
        next[part_of(run, &load->entries[i]) + 1]++;
    for (uint32_t part = 0; part < run->part_count; part++)
        next[part + 1] += next[part];
    memcpy(load->parts, next, sizeof next);
    for (uint64_t i = 0; i < count; i++)
        sorted[next[part_of(run, &load->entries[i])]++] = load->entries[i];
    free(load->entries);
    load->entries = sorted;
    return true;
}

/* What cleaning the segment may have to carry on. An expired value that another one has replaced
 * counts too: the bound is an upper one, and the cleaner counts again where that matters. */
static void add_marks(struct recovery_run *run, const struct load *load)
{
    for (uint64_t i = 0; i < load->hint.count; i++) {
        const struct hint_entry *entry = &load->entries[i];
        if (entry->type != RECORD_PUT || (is_dead(run, entry) && !is_flushed(run, load, entry)))
            segment_add_mark(load->segment, entry->type, entry->size * UINT64_C(8));
    }
}

static enum store_status read_one(struct recovery_run *run, struct load *load)
{
    enum store_status status = read_by_hint(run, load);
    load->hinted = status == STORE_OK;
    if (status != STORE_OK)
        status = read_by_scan(run, load, status);
    load->segment->hinted = load->hinted;
    load->segment->hint_bytes = load->hinted ? hint_file_size(&load->hint) : 0;
    load->segment->damaged = load->unreadable;
    atomic_store(&load->segment->end, (uint32_t)load->hint.end);
    if (status != STORE_OK)
        return status;
    add_marks(run, load);
    return sort_into_parts(run, load) ? STORE_OK : STORE_NO_MEMORY;
}

void *recover_run_reader(void *context)
{
    struct recovery_run *run = context;
    size_t i;
    while ((i = atomic_fetch_add(&run->next, 1)) < run->group_end &&
           atomic_load(&run->status) == STORE_OK) {
        struct load *load = &run->loads[i];
        enum store_status status = read_one(run, load);
        if (status != STORE_OK)
            recover_fail(run, status);
        recover_note_read(run, load);
    }
    return NULL;
}
