/* recover_files.c: which files are the log.
 *
 * Every segment's header is read, and the segments are put into the order of the log and get their slots in that order. What
 * was allocated ahead and never used is removed, as is what a crash left half made. A file that was used and has no valid
 * header stays where it is, for the operator. Where a power loss has left holes the log may end before its last segment does,
 * or before it begins (tail.c); what lies behind its end is removed only when the log goes on, by recover_cut_tail.
 */
#define _GNU_SOURCE
#include "storage/recover_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "storage/tail.h"

struct names {
    uint64_t *ids;
    size_t count;
    uint64_t highest;
    bool failed;
};

struct search {
    struct recovery *recovery;
    struct names names; /* of all segment files, also those that are none */
    struct load *loads;
    size_t count;
};

static void note_name(void *argument, const char *name)
{
    struct names *names = argument;
    uint64_t id = segment_id_of(name, "seg");
    if (id == 0)
        return;
    if (id > names->highest)
        names->highest = id;
    if ((names->count & (names->count - 1)) == 0) { /* full at every power of two */
        size_t room = names->count ? names->count * 2 : 1;
        uint64_t *ids = realloc(names->ids, room * sizeof *ids);
        if (!ids) {
            names->failed = true;
            return;
        }
        names->ids = ids;
    }
    names->ids[names->count++] = id;
}

/* Whether the file begins with zeros: allocated ahead, never used. */
static bool is_blank(const struct recovery *recovery, const char *name)
{
    char data[4096];
    size_t got = 0;
    int fd = recovery->files->open(recovery->files->context, recovery->dir_fd, name, O_RDONLY);
    bool blank = fd >= 0 && file_read_upto(recovery->files, fd, data, sizeof data, 0, &got);
    for (size_t i = 0; i < got; i++)
        blank = blank && data[i] == 0;
    if (fd >= 0)
        recovery->files->close(recovery->files->context, fd);
    return blank;
}

/* A segment that cannot be used: STORE_OK when the start goes on without it. */
static enum store_status pass_over(struct recovery *recovery, uint64_t id, enum store_status status)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, id, "seg");
    if (status == STORE_BAD_VERSION) {
        tell(recovery->tell, TELL_ERROR,
             "%s in data directory %s has a format version that this release does not read: start "
             "the release that wrote it",
             name, recovery->dir_name);
        return status;
    }
    if (status != STORE_CORRUPT) {
        tell(recovery->tell, TELL_ERROR, "cannot read %s in data directory %s: %s", name,
             recovery->dir_name, strerror(errno));
        return status;
    }
    if (is_blank(recovery, name))
        return STORE_OK;
    tell(recovery->tell, TELL_WARNING,
         "%s in data directory %s has no valid header of this store: left alone, its records are "
         "lost",
         name, recovery->dir_name);
    recovery->damage++;
    return STORE_OK;
}

/* Whether a segment says that this one came before it. */
static bool is_named(const struct search *search, uint64_t id)
{
    for (size_t i = 0; i < search->count; i++)
        if (search->loads[i].segment->header.previous_id == id)
            return true;
    return false;
}

/* Files that a crash left half made, and segments that were never used. One that was used, and has lost all, tells where the
 * log ends. */
static void remove_unfinished(void *argument, const char *name)
{
    const struct search *search = argument;
    const struct recovery *recovery = search->recovery;
    uint64_t id = segment_id_of(name, "seg");
    bool blank = id && !is_named(search, id) && is_blank(recovery, name);
    if (blank || segment_id_of(name, "tmp") || segment_id_of(name, "hint-tmp"))
        recovery->files->unlink(recovery->files->context, recovery->dir_fd, name);
}

static int by_lsn(const void *a, const void *b)
{
    uint64_t left = ((const struct load *)a)->segment->header.base_lsn;
    uint64_t right = ((const struct load *)b)->segment->header.base_lsn;
    return left < right ? -1 : left > right;
}

static enum store_status open_one(struct search *search, uint64_t id)
{
    struct recovery *recovery = search->recovery;
    struct segment *segment;
    enum store_status status = segment_open(recovery->files, recovery->dir_fd, id, &segment);
    if (status == STORE_OK &&
        memcmp(segment->header.uuid, recovery->uuid, sizeof segment->header.uuid) != 0) {
        segment_free(recovery->files, segment);
        status = STORE_CORRUPT;
    }
    if (status != STORE_OK)
        return pass_over(recovery, id, status);
    search->loads[search->count++].segment = segment;
    return STORE_OK;
}

static enum store_status open_segments(struct search *search)
{
    struct recovery *recovery = search->recovery;
    struct names *names = &search->names;
    enum store_status status = STORE_OK;
    const struct file_system *files = recovery->files;
    if (files->list(files->context, recovery->dir_fd, note_name, names) < 0)
        status = STORE_IO;
    search->loads = calloc(names->count + 1, sizeof *search->loads);
    if (names->failed || !search->loads)
        status = STORE_NO_MEMORY;
    for (size_t i = 0; i < names->count && status == STORE_OK; i++)
        status = open_one(search, names->ids[i]);
    if (status == STORE_OK &&
        files->list(files->context, recovery->dir_fd, remove_unfinished, search) < 0)
        status = STORE_IO;
    for (size_t i = 0; i < search->count; i++) /* one that is gone may have been the highest */
        if (search->loads[i].segment->header.previous_id > names->highest)
            names->highest = search->loads[i].segment->header.previous_id;
    recovery->next_segment_id = names->highest + 1;
    qsort(search->loads, search->count, sizeof *search->loads, by_lsn);
    return status;
}

static void peek_hints(struct search *search)
{
    for (size_t i = 0; i < search->count; i++) {
        struct load *load = &search->loads[i];
        load->hinted = hint_peek(search->recovery->files, search->recovery->dir_fd, load->segment,
                                 &load->hint) == STORE_OK;
        load->end = load->hinted ? load->hint.end : load->segment->capacity;
    }
}

/* Takes out of the loads what lies behind the end of the log. */
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
        segment_free(recovery->files, load->segment);
    }
    search->count = kept;
}

/* Whether the file of that segment is there, and not the segment. */
static bool is_lost(const struct search *search, uint64_t id)
{
    bool there = false;
    for (size_t i = 0; i < search->names.count; i++)
        there = there || search->names.ids[i] == id;
    for (size_t i = 0; i < search->count; i++)
        there = there && search->loads[i].segment->header.id != id;
    return there;
}

static enum store_status find_tail(struct search *search)
{
    struct recovery *recovery = search->recovery;
    bool cut = false;
    recovery->dropped = calloc(search->count + 1, sizeof *recovery->dropped);
    if (!recovery->dropped)
        return STORE_NO_MEMORY;
    for (size_t i = 0; i < search->count; i++) {
        struct load *load = &search->loads[i];
        load->previous_lost = !load->hinted && is_lost(search, load->segment->header.previous_id);
    }
    enum store_status status =
        tail_find(recovery->files, search->loads, search->count, recovery->boot_id, &cut);
    if (status == STORE_OK)
        drop_rest(search);
    if (cut)
        tell(
            recovery->tell, TELL_WARNING,
            "the machine has started anew since the log was written, and the log has a hole behind "
            "what is known to be synced: it ends there, as after a power loss");
    return status;
}

/* The log takes the segments over, or they are closed. */
static enum store_status adopt_segments(struct search *search, enum store_status status)
{
    struct recovery *recovery = search->recovery;
    for (size_t i = 0; i < search->count; i++)
        if (!log_adopt(recovery->log, search->loads[i].segment)) {
            segment_free(recovery->files, search->loads[i].segment);
            status = STORE_FULL;
        }
    return status;
}

/* The log goes on behind everything that its segments may have held. */
static void find_next_lsn(struct search *search)
{
    for (size_t i = 0; i < search->count; i++) {
        const struct segment *segment = search->loads[i].segment;
        uint64_t end = segment->header.base_lsn + segment->capacity;
        if (end > search->recovery->next_lsn)
            search->recovery->next_lsn = end;
    }
}

enum store_status recover_files(struct recovery *recovery, struct load **loads, size_t *count)
{
    struct search search = {.recovery = recovery};
    enum store_status status = open_segments(&search);
    find_next_lsn(&search);
    peek_hints(&search);
    if (status == STORE_OK)
        status = find_tail(&search);
    status = adopt_segments(&search, status);
    free(search.names.ids);
    *loads = search.loads;
    *count = search.count;
    return status;
}

static void remove_dropped(const struct recovery *recovery)
{
    const struct file_system *files = recovery->files;
    char name[SEGMENT_NAME_SIZE];
    for (size_t i = 0; i < recovery->dropped_count; i++) {
        segment_name(name, recovery->dropped[i], "seg");
        files->unlink(files->context, recovery->dir_fd, name);
    }
    if (recovery->dropped_count)
        files->sync_dir(files->context, recovery->dir_fd);
}

/* All of it durable: the header that says where the log ended will be cleaned some day, and what it hides must not come back
 * then. */
void recover_cut_tail(const struct recovery *recovery)
{
    struct segment *last = recovery->last;
    const struct file_system *files = recovery->files;
    remove_dropped(recovery);
    if (!last || last->hinted || atomic_load(&last->end) == last->capacity)
        return;
    if (files->truncate(files->context, last->fd, atomic_load(&last->end)) == 0 &&
        files->sync(files->context, last->fd) == 0)
        last->capacity = atomic_load(&last->end);
}
