/* recover_files.c: which files are the log.
 *
 * Every segment's header is read, and the segments are put into the order of the log and get their
 * indexes in that order. What was allocated ahead and never used is removed, as is what a crash
 * left unfinished. A used file without a valid or readable header is left for the operator, who may
 * repair it some day, so the log continues after the ids and LSNs that it may have (Y7, Y9). The
 * same holds for a segment of which only the hint file is left. If a power loss has left holes the
 * log may end inside its last segment, or before it (tail.c); what is after its end is removed only
 * when the log continues, by recover_cut_tail.
 */
#define _GNU_SOURCE
#include "storage/log/recover_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* No log ever gets this far. Such a name was made up, and after it there might be no ids left. */
#define STRANGE_ID       (UINT64_C(1) << 62)

/* Records follow right after the header, so a file that has lost its header soon shows that it was
 * used. To read all that was allocated ahead would take longer than the rest of the start. */
#define BLANK_SIZE       (UINT64_C(1) << 20)
#define HEADER_PAGE_SIZE 4096

struct names {
    uint64_t *ids; /* in order, once all are there */
    size_t count;
};

struct search {
    struct recovery *recovery;
    struct names segments; /* of all files of that name, also those that are none */
    struct names hints;
    /* Segment files that are no part of the log by their headers; finally the used ones */
    struct names rest;
    struct names unreadable; /* segment files whose headers lie in bad blocks of the disk */
    int error;               /* of the last of these */
    bool no_memory;
    struct load *loads;
    size_t count;
    uint64_t newest_id;   /* of the last load */
    bool same_boot;       /* no power has failed since that was made */
    uint64_t lost_behind; /* segments behind it that cannot be used */
};

static void add_id(struct search *search, struct names *names, uint64_t id)
{
    if (id == 0)
        return;
    if ((names->count & (names->count - 1)) == 0) { /* full at every power of two */
        size_t room = names->count ? names->count * 2 : 1;
        uint64_t *ids = realloc(names->ids, room * sizeof *ids);
        if (!ids) {
            search->no_memory = true;
            return;
        }
        names->ids = ids;
    }
    names->ids[names->count++] = id;
}

static void note_name(void *argument, const char *name)
{
    struct search *search = argument;
    add_id(search, &search->segments, segment_id_of(name, "seg"));
    add_id(search, &search->hints, segment_id_of(name, "hint"));
}

static int by_id(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void sort_names(struct names *names)
{
    if (names->count)
        qsort(names->ids, names->count, sizeof *names->ids, by_id);
}

static bool has_id(const struct names *names, uint64_t id)
{
    return names->count && bsearch(&id, names->ids, names->count, sizeof id, by_id);
}

/* Whether the first `size` bytes of the segment's file are zeros, or all that it has. */
static bool is_blank(const struct recovery *recovery, uint64_t id, uint64_t size)
{
    const struct file_system *files = recovery->files;
    char data[4096];
    size_t got = sizeof data;
    assert(size > 0);
    int fd = segment_open_file(files, recovery->dir_fd, id, "seg", O_RDONLY);
    bool blank = fd >= 0;
    for (uint64_t at = 0; blank && got == sizeof data && at < size; at += sizeof data) {
        blank = file_read_upto(files, fd, data, sizeof data, at, &got);
        for (size_t i = 0; i < got; i++)
            blank = blank && data[i] == 0;
    }
    if (fd >= 0)
        files->close(files->context, fd);
    return blank;
}

/* Reports a segment without which the start cannot go on. */
static void report_refused(const struct recovery *recovery, uint64_t id, enum store_status status)
{
    if (status == STORE_BAD_VERSION)
        report(recovery->reporter, REPORT_ERROR,
               "%016llx.seg in data directory %s has a format version that this release does not "
               "read: start the release that wrote it",
               (unsigned long long)id, recovery->dir_name);
    else
        report(recovery->reporter, REPORT_ERROR, "cannot read %016llx.seg in data directory %s: %s",
               (unsigned long long)id, recovery->dir_name, strerror(errno));
}

/* Whether a segment says that this one came before it. */
static bool is_named(const struct search *search, uint64_t id)
{
    for (size_t i = 0; i < search->count; i++)
        if (search->loads[i].segment->header.previous_id == id)
            return true;
    return false;
}

/* Whether a file without a header was only allocated ahead. One that another segment names was
 * used, has lost everything, and shows where the log ends; one with a hint file was used too. Any
 * other may be the segment that was written last: if no power has failed, what follows its lost
 * header must not be ignored, but after a power loss pages without a header are worth nothing. */
static bool is_unused(const struct search *search, uint64_t id)
{
    return !is_named(search, id) && !has_id(&search->hints, id) &&
           is_blank(search->recovery, id, search->same_boot ? BLANK_SIZE : HEADER_PAGE_SIZE);
}

static void note_lost(struct search *search, uint64_t id)
{
    search->lost_behind += id > search->newest_id;
}

/* Removes unused files. The others stay in `rest`, to be reported once the log's end is known. */
static void look_at_rest(struct search *search)
{
    const struct recovery *recovery = search->recovery;
    struct names *rest = &search->rest;
    size_t used = 0;
    for (size_t i = 0; i < rest->count; i++) {
        uint64_t id = rest->ids[i];
        if (is_unused(search, id)) {
            segment_unlink_file(recovery->files, recovery->dir_fd, id, "seg");
            continue;
        }
        rest->ids[used++] = id;
        note_lost(search, id);
    }
    rest->count = used;
    for (size_t i = 0; i < search->unreadable.count; i++)
        note_lost(search, search->unreadable.ids[i]);
}

/* The cleaner removes the hint file first, so if one is alone, its segment was lost. */
static void look_at_hints(struct search *search)
{
    struct recovery *recovery = search->recovery;
    for (size_t i = 0; i < search->hints.count; i++) {
        uint64_t id = search->hints.ids[i];
        if (has_id(&search->segments, id))
            continue;
        note_lost(search, id);
        recovery->damage++;
        report(recovery->reporter, REPORT_WARNING,
               "%016llx.hint in data directory %s has no segment: that is missing, its records are "
               "lost",
               (unsigned long long)id, recovery->dir_name);
    }
}

static void remove_unfinished(void *argument, const char *name)
{
    const struct search *search = argument;
    const struct recovery *recovery = search->recovery;
    if (segment_id_of(name, "tmp") || segment_id_of(name, "hint-tmp"))
        recovery->files->unlink(recovery->files->context, recovery->dir_fd, name);
}

static int by_lsn(const void *a, const void *b)
{
    uint64_t left = ((const struct load *)a)->segment->header.base_lsn;
    uint64_t right = ((const struct load *)b)->segment->header.base_lsn;
    return left < right ? -1 : left > right;
}

/* STORE_OK also for one without which the start can go on. */
static enum store_status open_one(struct search *search, uint64_t id)
{
    struct recovery *recovery = search->recovery;
    struct segment *segment;
    struct segment_files *table = &recovery->log->segment_files;
    enum store_status status;
    int tries = 0;
    do
        status = segment_open(recovery->files, recovery->dir_fd, id, &segment);
    while (status == STORE_IO && (segment_files_make_way(table, errno, ++tries) ||
                                  (file_is_bad_block(errno) && tries == 1)));
    if (status == STORE_OK &&
        memcmp(segment->header.uuid, recovery->uuid, sizeof segment->header.uuid) != 0) {
        segment_free(recovery->files, segment);
        status = STORE_CORRUPT;
    }
    if (status == STORE_OK) {
        segment_files_add(table, segment);
        search->loads[search->count++].segment = segment;
    } else if (status == STORE_CORRUPT) {
        add_id(search, &search->rest, id); /* look_at_rest */
    } else if (status == STORE_IO && file_is_bad_block(errno)) {
        search->error = errno;
        add_id(search, &search->unreadable, id);
    } else {
        report_refused(recovery, id, status);
        return status;
    }
    return STORE_OK;
}

static void note_highest(uint64_t *highest, uint64_t id)
{
    if (id > *highest)
        *highest = id;
}

/* An id of which anything is left is not given again: not that of an unusable file, of a lone hint
 * file, which would describe another segment then, or of a missing last segment (Y7). */
static void find_next_id(struct search *search)
{
    uint64_t highest = 0;
    const struct names *all[] = {&search->segments, &search->hints};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        for (size_t i = 0; i < all[k]->count; i++)
            if (all[k]->ids[i] < STRANGE_ID)
                note_highest(&highest, all[k]->ids[i]);
    for (size_t i = 0; i < search->count; i++) {
        note_highest(&highest, search->loads[i].segment->header.id);
        note_highest(&highest, search->loads[i].segment->header.previous_id);
    }
    search->recovery->next_segment_id = highest + 1;
}

static enum store_status list_names(struct search *search)
{
    const struct recovery *recovery = search->recovery;
    const struct file_system *files = recovery->files;
    if (files->list(files->context, recovery->dir_fd, note_name, search) < 0)
        return STORE_IO;
    sort_names(&search->segments);
    sort_names(&search->hints);
    search->loads = calloc(search->segments.count + 1, sizeof *search->loads);
    return search->no_memory || !search->loads ? STORE_NO_MEMORY : STORE_OK;
}

static void report_opening(const struct recovery *recovery)
{
    if (recovery->progress)
        recovery->progress(recovery->progress_context, 0, 0);
}

/* Nothing is removed before all have been opened: one of another version lets all as it was. */
static enum store_status open_segments(struct search *search)
{
    struct recovery *recovery = search->recovery;
    const struct file_system *files = recovery->files;
    enum store_status status = list_names(search);
    for (size_t i = 0; i < search->segments.count && status == STORE_OK; i++) {
        status = open_one(search, search->segments.ids[i]);
        report_opening(recovery);
    }
    if (search->count) {
        qsort(search->loads, search->count, sizeof *search->loads, by_lsn);
        const struct segment_header *newest = &search->loads[search->count - 1].segment->header;
        search->newest_id = newest->id;
        search->same_boot = recovery->boot_id && newest->boot_id == recovery->boot_id;
    }
    if (search->no_memory)
        status = STORE_NO_MEMORY;
    if (status != STORE_OK)
        return status;
    if (files->list(files->context, recovery->dir_fd, remove_unfinished, search) < 0)
        return STORE_IO;
    look_at_rest(search);
    look_at_hints(search);
    find_next_id(search);
    return STORE_OK;
}

static void read_hint_headers(struct search *search)
{
    const struct recovery *recovery = search->recovery;
    for (size_t i = 0; i < search->count; i++) {
        struct load *load = &search->loads[i];
        load->hinted = hint_read(recovery->files, recovery->dir_fd, load->segment, &load->hint,
                                 NULL) == STORE_OK;
        load->end = load->hinted ? load->hint.end : load->segment->capacity;
        report_opening(recovery);
    }
}

/* Whether a segment of that id has lost its header in a power loss, and so its place in the log. */
static bool has_lost_header(const struct search *search, uint64_t id)
{
    return has_id(&search->rest, id) && is_blank(search->recovery, id, HEADER_PAGE_SIZE);
}

/* Takes out of the loads what is after the end of the log. */
static void drop_rest(struct search *search)
{
    struct recovery *recovery = search->recovery;
    size_t kept = 0;
    for (size_t i = 0; i < search->count; i++) {
        struct load *load = &search->loads[i];
        const struct segment_header *header = &load->segment->header;
        if (header->next_cas > recovery->next_cas)
            recovery->next_cas = header->next_cas;
        if (load->end) {
            search->loads[kept++] = *load;
            continue;
        }
        recovery->dropped[recovery->dropped_count++] = header->id;
        if (has_lost_header(search, header->previous_id))
            recovery->dropped[recovery->dropped_count++] = header->previous_id;
        segment_files_free(&recovery->log->segment_files, load->segment);
    }
    search->count = kept;
}

static bool is_dropped(const struct recovery *recovery, uint64_t id)
{
    for (size_t i = 0; i < recovery->dropped_count; i++)
        if (recovery->dropped[i] == id)
            return true;
    return false;
}

/* Of the segment's file; 0: not known. */
static uint64_t size_of(const struct recovery *recovery, uint64_t id)
{
    const struct file_system *files = recovery->files;
    uint64_t size = 0;
    int fd = segment_open_file(files, recovery->dir_fd, id, "seg", O_RDONLY);
    if (fd < 0)
        return 0;
    if (files->size(files->context, fd, &size) < 0)
        size = 0;
    files->close(files->context, fd);
    return size;
}

static void report_left(struct recovery *recovery, uint64_t id, const char *why, const char *advice)
{
    char lost[64] = "its";
    uint64_t size = size_of(recovery, id);
    if (size)
        snprintf(lost, sizeof lost, "up to %llu bytes of", (unsigned long long)size);
    report(recovery->reporter, REPORT_WARNING,
           "%016llx.seg in data directory %s %s: left alone, %s records are lost%s",
           (unsigned long long)id, recovery->dir_name, why, lost, advice);
    recovery->damage++;
}

/* The files that stay though they are no part of the log. */
static void report_rest(const struct search *search)
{
    struct recovery *recovery = search->recovery;
    char why[128];
    for (size_t i = 0; i < search->rest.count; i++)
        if (!is_dropped(recovery, search->rest.ids[i]))
            report_left(recovery, search->rest.ids[i], "has no valid header of this store", "");
    snprintf(why, sizeof why, "cannot be read (%s)", strerror(search->error));
    for (size_t i = 0; i < search->unreadable.count; i++)
        report_left(recovery, search->unreadable.ids[i], why,
                    ". Check the disk; each start tries again");
}

static enum store_status find_tail(struct search *search)
{
    struct recovery *recovery = search->recovery;
    bool cut = false;
    recovery->dropped = calloc(2 * search->count + 1, sizeof *recovery->dropped);
    if (!recovery->dropped)
        return STORE_NO_MEMORY;
    for (size_t i = 0; i < search->count; i++) {
        struct load *load = &search->loads[i];
        load->previous_lost =
            !load->hinted && has_id(&search->rest, load->segment->header.previous_id);
    }
    enum store_status status = tail_find(&recovery->log->segment_files, search->loads,
                                         search->count, recovery->boot_id, &cut);
    if (status == STORE_OK)
        drop_rest(search);
    recovery->log->previous_unknown = search->lost_behind && !cut;
    if (cut)
        report(recovery->reporter, REPORT_WARNING,
               "the machine has started anew since the log was written, and the log has a hole "
               "behind what is known to be synced: it ends there, as after a power loss");
    return status;
}

/* The log takes the segments over, or they are closed. */
static enum store_status adopt_segments(struct search *search, enum store_status status)
{
    struct recovery *recovery = search->recovery;
    for (size_t i = 0; i < search->count; i++)
        if (!log_adopt(recovery->log, search->loads[i].segment)) {
            segment_files_free(&recovery->log->segment_files, search->loads[i].segment);
            status = STORE_FULL;
        }
    return status;
}

/* The log continues after everything that its segments may have held, even lost ones: if they are
 * found again, what is written from now on must still be newer (Y7). */
static void find_next_lsn(struct search *search)
{
    for (size_t i = 0; i < search->count; i++) {
        const struct segment *segment = search->loads[i].segment;
        uint64_t end = segment->header.base_lsn + segment->capacity;
        if (end > search->recovery->next_lsn)
            search->recovery->next_lsn = end;
    }
    search->recovery->next_lsn += search->lost_behind * SEGMENT_SIZE_MAX;
}

enum store_status recover_files(struct recovery *recovery)
{
    struct search search = {.recovery = recovery};
    enum store_status status = open_segments(&search);
    find_next_lsn(&search);
    if (status == STORE_OK) {
        read_hint_headers(&search);
        status = find_tail(&search);
    }
    if (status == STORE_OK)
        report_rest(&search);
    int error = errno;
    status = adopt_segments(&search, status);
    free(search.segments.ids);
    free(search.hints.ids);
    free(search.rest.ids);
    free(search.unreadable.ids);
    recovery->loads = search.loads;
    recovery->load_count = search.count;
    errno = error;
    return status;
}

static bool remove_file(const struct recovery *recovery, uint64_t id, const char *suffix)
{
    return segment_unlink_file(recovery->files, recovery->dir_fd, id, suffix) == 0 ||
           errno == ENOENT;
}

static bool remove_dropped(const struct recovery *recovery)
{
    const struct file_system *files = recovery->files;
    for (size_t i = 0; i < recovery->dropped_count; i++)
        if (!remove_file(recovery, recovery->dropped[i], "hint") ||
            !remove_file(recovery, recovery->dropped[i], "seg"))
            return false;
    return !recovery->dropped_count || files->sync_dir(files->context, recovery->dir_fd) == 0;
}

static bool cut_off(struct log *log, struct segment *segment)
{
    const struct file_system *files = log->options.files;
    uint32_t end = atomic_load(&segment->end);
    if (end == segment->capacity)
        return true;
    if (segment_files_use(&log->segment_files, segment) != STORE_OK)
        return false;
    bool ok = files->truncate(files->context, segment->fd, end) == 0 &&
              files->sync(files->context, segment->fd) == 0;
    segment_files_done(segment);
    if (ok)
        log_set_size(log, segment, end, segment->hint_bytes);
    return ok;
}

/* The log ends in its last segment, and has ended where an earlier start cut it: in an older
 * segment if that start came no further than the header of its own. */
static bool ends_in(const struct recovery *recovery, size_t i)
{
    const struct load *load = &recovery->loads[i];
    return !load->hinted && (i + 1 == recovery->load_count || load->end < load->segment->capacity);
}

bool recover_has_tail(const struct recovery *recovery)
{
    bool any = recovery->dropped_count > 0;
    for (size_t i = 0; i < recovery->load_count; i++)
        any |= ends_in(recovery, i);
    return any;
}

enum store_status recover_cut_tail(const struct recovery *recovery)
{
    bool done = remove_dropped(recovery);
    for (size_t i = 0; i < recovery->load_count && done; i++)
        if (ends_in(recovery, i))
            done = cut_off(recovery->log, recovery->loads[i].segment);
    if (done)
        return STORE_OK;
    report(recovery->reporter, REPORT_ERROR,
           "cannot cut off what lies behind the end of the log in data directory %s: %s. Check the "
           "disk and its mount",
           recovery->dir_name, strerror(errno));
    return STORE_IO;
}

void recover_release(struct recovery *recovery)
{
    if (recovery->load_count) /* the last one's, if it was not loaded */
        free(recovery->loads[recovery->load_count - 1].entries);
    free(recovery->loads);
    free(recovery->dropped);
}
