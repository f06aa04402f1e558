/* recover.c: the start.
 *
 * 1. Files: segments are put into the order of the log and get their indexes in that order, and the
 *    end of the log is found (recover_files.c).
 * 2. Flush: the last segment's header repeats the flush state of all before, to which its FLUSH
 *    records are added (Y4). A pending flush that came due since the last run takes everything.
 *    What is flushed is not loaded.
 * 3. Touches: a filter of the keys that TOUCH records extend beyond now (Y2).
 * 4. Load, a group of segments at a time. First each segment is read, from its hint file or by a
 *    scan, and its records are sorted into parts: some shards of the keydir each. Then each part is
 *    replayed, by one thread and in the order of the log, so that the keydir is the state of the
 *    log up to there (Y1, Y3). Nothing dead takes an entry: a deletion or an expired value just
 *    removes its key. Only an expired value that a TOUCH may extend waits in the keydir for that
 *    TOUCH (Y2). The live bytes of segments are counted on the way.
 * 5. Sweep: such values that were not extended are removed.
 *
 * The log continues in a new segment, after all LSNs that may have been assigned: none is reused.
 */
#define _GNU_SOURCE
#include "storage/log/recover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/log/recover_internal.h"

#define RECORD_SIZE_USUAL 160
#define KEY_COST          18 /* bytes of keydir for one key, its expiry excepted */
#define GROUP_BYTES       (UINT64_C(64) << 20) /* records of a group, in memory */

/* CAS uniques that a lost tail of the log may have given: those are skipped. */
#define CAS_GAP           (UINT64_C(1) << 30)

/* Records of a segment; without a hint file, as many as are usual. */
static uint64_t records_of(const struct load *load)
{
    return load->hinted ? load->hint.count : load->segment->capacity / RECORD_SIZE_USUAL;
}

/* As many segments as may be in memory, and equally many for each thread, if there are enough. */
static void choose_group(struct recovery_run *run)
{
    uint64_t limit = atomic_load(&run->recovery->keydir->bytes_max) / 8;
    uint64_t records = 0;
    size_t end = run->group_begin;
    limit = (limit < GROUP_BYTES ? limit : GROUP_BYTES) / sizeof(struct hint_entry);
    do
        records += records_of(&run->loads[end++]);
    while (end < run->count && records + records_of(&run->loads[end]) <= limit);
    size_t width = end - run->group_begin;
    if (end < run->count && width > run->recovery->threads)
        width -= width % run->recovery->threads;
    run->group_end = run->group_begin + width;
}

static enum store_status load_group(struct recovery_run *run)
{
    choose_group(run);
    atomic_store(&run->next, run->group_begin);
    atomic_store(&run->next_part, 0);
    enum store_status status = recover_run_all(run, recover_run_reader);
    if (status == STORE_OK)
        status = recover_run_all(run, recover_run_replayer);
    for (size_t i = run->group_begin; i < run->group_end; i++) {
        struct load *load = &run->loads[i];
        free(load->entries);
        free(load->parts);
        load->entries = NULL;
        load->parts = NULL;
    }
    return status;
}

/* How many keys to expect: as the newest hint that knows says, and all records since. */
static uint64_t expected_keys(const struct recovery_run *run)
{
    uint64_t records = 0, keys = 0;
    for (size_t i = 0; i < run->count; i++) {
        const struct load *load = &run->loads[i];
        records += records_of(load);
        keys = load->hint.keys ? load->hint.keys : keys + records_of(load);
    }
    return keys < records ? keys : records;
}

/* At most three quarters of the memory: if all keys expire, their expiries take the rest. */
static void reserve_keydir(const struct recovery_run *run)
{
    struct keydir *keydir = run->recovery->keydir;
    uint64_t most = atomic_load(&keydir->bytes_max) / 4 * 3 / KEY_COST;
    uint64_t keys = expected_keys(run);
    uint64_t share = (keys < most ? keys : most) / keydir->shard_count;
    for (uint32_t i = 0; i < keydir->shard_count; i++)
        keydir_reserve(keydir, &keydir->shards[i], share);
    keydir_use_huge_pages(keydir);
}

static enum store_status load_all(struct recovery_run *run)
{
    uint32_t shard_count = run->recovery->keydir->shard_count;
    enum store_status status = recover_find_flush(run);
    run->part_count = shard_count < PARTS_MAX ? shard_count : PARTS_MAX;
    for (size_t i = 0; i < run->count; i++) /* what may have TOUCHes is read twice */
        run->all_bytes += run->loads[i].segment->capacity *
                          (recover_has_touches(&run->loads[i]) ? UINT64_C(2) : 1);
    if (status == STORE_OK) {
        reserve_keydir(run);
        status = recover_find_touches(run);
    }
    for (; run->group_end < run->count && status == STORE_OK; run->group_begin = run->group_end)
        status = load_group(run);
    if (status == STORE_OK && atomic_load(&run->has_expired))
        status = recover_run_all(run, recover_run_sweeper);
    free(run->touched);
    return status;
}

/* A segment cut between two records has no damage in it: only the next header shows the loss. */
static void look_for_lost_end(struct recovery_run *run, size_t i)
{
    struct load *load = &run->loads[i];
    const struct segment_header *next = &run->loads[i + 1].segment->header;
    uint64_t end_lsn = load->segment->header.base_lsn + load->hint.end;
    if (load->hinted || load->hint.damage || next->previous_id != load->segment->header.id ||
        next->log_end_lsn <= end_lsn)
        return;
    load->hint.damage++;
    report(run->recovery->reporter, REPORT_WARNING,
           "segment %016llx: the log went on to byte %llu, and nothing is left behind byte %llu",
           (unsigned long long)load->segment->header.id,
           (unsigned long long)(next->log_end_lsn - load->segment->header.base_lsn),
           (unsigned long long)load->hint.end);
}

/* If the last segment ends in a bad block the log's end is unknown, unless this start cut it. */
static void look_for_unknown_end(const struct recovery_run *run)
{
    const struct load *last = &run->loads[run->count - 1];
    if (last->unreadable && last->hint.end == last->segment->capacity &&
        !run->recovery->dropped_count)
        run->recovery->log->previous_unknown = true;
}

static void sum_up(struct recovery_run *run)
{
    struct recovery *recovery = run->recovery;
    for (size_t i = 0; i < run->count; i++) {
        const struct load *load = &run->loads[i];
        if (load->hint.cas_max > recovery->next_cas)
            recovery->next_cas = load->hint.cas_max;
        recovery->damage += load->hint.damage;
    }
    recovery->next_cas += recovery->next_cas ? CAS_GAP + 1 : 1;
    recovery->items = keydir_count(recovery->keydir);
}

enum store_status recover(struct recovery *recovery)
{
    struct recovery_run run = {.recovery = recovery};
    enum store_status status = recover_files(recovery);
    run.loads = recovery->loads;
    run.count = recovery->load_count;
    if (status == STORE_OK && run.count)
        status = load_all(&run);
    for (size_t i = 0; i + 1 < run.count && status == STORE_OK; i++)
        look_for_lost_end(&run, i);
    if (status == STORE_OK && run.count)
        look_for_unknown_end(&run);
    sum_up(&run);
    if (status == STORE_IO)
        report(recovery->reporter, REPORT_ERROR, "cannot read data directory %s: %s",
               recovery->dir_name, strerror(errno));
    return status;
}
