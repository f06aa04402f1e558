/* hint.c: hint files.
 *
 *     offset  size  field
 *          0     8  magic "CCASKHNT"
 *          8     4  format version
 *         12     4  size of an entry: 24
 *         16    16  UUID of the store
 *         32     8  segment id
 *         40     8  LSN of the segment's first byte
 *         48     8  bytes of log in the segment
 *         56     8  number of entries
 *         64     8  TOUCHes among them
 *         72     8  keys in the store when this was written
 *         80     8  highest CAS unique in the segment
 *         88     8  places in the segment that were no valid record
 *         96     8  XXH3-64 of the entries, seeded by the segment's seed
 *        104     8  XXH3-64 of bytes 0 to 103
 *        112     …  entries, in the order of the log (struct hint_entry)
 *
 * A hint file is trusted if and only if both checksums match, it names this segment of this store,
 * and its length fits its count (H1). A missing one is made again by a scan (H2). It is written
 * under another name while the segment fills, and renamed when complete, without a sync: a torn one
 * does not match its checksum.
 */
#define XXH_INLINE_ALL
#include "storage/log/hint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "storage/base/hash.h"

#define MAGIC "CCASKHNT"

struct disk_header {
    char magic[8];
    uint32_t version;
    uint32_t entry_size;
    uint8_t uuid[16];
    uint64_t id;
    uint64_t base_lsn;
    struct hint hint;
    uint64_t entries_check;
    uint64_t check;
};

_Static_assert(sizeof(struct disk_header) == HINT_HEADER_SIZE, "the header is 112 bytes on disk");

#define CHUNK 1024 /* entries written at a time */

/* Whether the header is whole and speaks of this segment, in a file of such size. */
static bool header_fits(const struct disk_header *header, const struct segment *segment,
                        uint64_t size)
{
    return memcmp(header->magic, MAGIC, sizeof header->magic) == 0 &&
           header->check == XXH3_64bits(header, offsetof(struct disk_header, check)) &&
           header->version == 1 && header->entry_size == sizeof(struct hint_entry) &&
           memcmp(header->uuid, segment->header.uuid, sizeof header->uuid) == 0 &&
           header->id == segment->header.id && header->base_lsn == segment->header.base_lsn &&
           header->hint.end <= segment->capacity &&
           header->hint.count == (size - sizeof *header) / sizeof(struct hint_entry) &&
           size == sizeof *header + header->hint.count * sizeof(struct hint_entry);
}

static enum store_status read_header(const struct file_system *files, int fd,
                                     const struct segment *segment, struct disk_header *header)
{
    uint64_t size;
    if (files->size(files->context, fd, &size) < 0)
        return STORE_IO;
    if (size < sizeof *header)
        return STORE_CORRUPT;
    if (!file_read_all(files, fd, header, sizeof *header, 0))
        return STORE_IO;
    return header_fits(header, segment, size) ? STORE_OK : STORE_CORRUPT;
}

static enum store_status read_entries(const struct file_system *files, int fd,
                                      const struct disk_header *header, uint64_t seed,
                                      struct hint_entry **out)
{
    size_t len = header->hint.count * sizeof(struct hint_entry);
    struct hint_entry *entries = malloc(len ? len : 1);
    if (!entries)
        return STORE_NO_MEMORY;
    bool ok = file_read_all(files, fd, entries, len, sizeof *header);
    if (ok && XXH3_64bits_withSeed(entries, len, seed) == header->entries_check) {
        *out = entries;
        return STORE_OK;
    }
    free(entries);
    return ok ? STORE_CORRUPT : STORE_IO;
}

enum store_status hint_read(const struct file_system *files, int dir_fd,
                            const struct segment *segment, struct hint *hint,
                            struct hint_entry **entries)
{
    struct disk_header header;
    int fd = segment_open_file(files, dir_fd, segment->header.id, "hint", O_RDONLY);
    if (fd < 0)
        return errno == ENOENT ? STORE_NOT_FOUND : STORE_IO;
    enum store_status status = read_header(files, fd, segment, &header);
    if (status == STORE_OK && entries)
        status = read_entries(files, fd, &header, segment->header.seed, entries);
    int error = errno;
    files->close(files->context, fd);
    errno = error;
    if (status == STORE_OK)
        *hint = header.hint;
    return status;
}

static struct key_hash hash_of(const struct record *record, uint64_t seed)
{
    struct key_hash hash = {0};
    if (record->type != RECORD_PUT && record->state & RECORD_STATE_HASHED) {
        memcpy(&hash.tag, record->key, sizeof hash.tag);
        hash.shard_bits = record->client_flags;
    } else if (record->key_len) {
        hash = hash_key(record->key, record->key_len, seed);
    }
    return hash;
}

static struct hint_entry entry_of(const struct record *record, uint32_t offset, uint64_t seed)
{
    struct key_hash hash = hash_of(record, seed);
    uint64_t value_len = record->type == RECORD_PUT ? record->value_len : 0; /* of a mark: filler */
    return (struct hint_entry){
        .tag = hash.tag,
        .offset = offset / RECORD_ALIGN,
        .size = (uint32_t)(record_size(record->key_len, value_len) / RECORD_ALIGN),
        .expire_s = record->type == RECORD_DELETE ? hint_born(record->cas) : record->expire_s,
        .shard_bits = (uint16_t)hash.shard_bits,
        .type = record->type,
    };
}

/* A scan under way. */
struct scan {
    const struct hint_source *source;
    struct hint *hint;
    /* A place that is no valid record; it is damage if something valid follows. */
    uint32_t gap_from;
    uint64_t gap_end; /* 0: there is none */
    /* Bad blocks of the disk: one message reports all that a segment has. */
    uint64_t bad_count;
    uint32_t bad_from; /* the first */
    uint64_t bad_end;  /* of the last */
    uint64_t bad_bytes;
    int error;
};

static bool visit_record(struct scan *scan, const struct record *record, uint32_t offset,
                         hint_visit *visit, void *context)
{
    struct hint *hint = scan->hint;
    struct hint_entry entry = entry_of(record, offset, scan->source->hash_seed);
    bool unique = record->type != RECORD_DELETE && !(record->state & RECORD_STATE_CAS_CHOSEN);
    if (unique && record->cas > hint->cas_max)
        hint->cas_max = record->cas;
    hint->count++;
    hint->touches += record->type == RECORD_TOUCH;
    return visit(context, &entry);
}

static void note_damage(struct scan *scan)
{
    if (scan->gap_end == 0)
        return;
    scan->hint->damage++;
    report(scan->source->reporter, REPORT_WARNING,
           "segment %016llx: no valid record at bytes %u to %llu: skipped",
           (unsigned long long)scan->source->segment->header.id, scan->gap_from,
           (unsigned long long)scan->gap_end);
    scan->gap_end = 0;
}

/* An unfinished write of a process that died; or a disk has lost it, which looks the same. */
static void report_torn(const struct scan *scan)
{
    if (scan->gap_end)
        report(scan->source->reporter, REPORT_INFO,
               "segment %016llx: no whole record behind byte %u: the log ends there",
               (unsigned long long)scan->source->segment->header.id, scan->gap_from);
}

static void note_bad_block(struct scan *scan, int error)
{
    struct hint *hint = scan->hint;
    bool more = scan->bad_count && scan->gap_from == scan->bad_end; /* a record reaches into it */
    if (scan->bad_count == 0)
        scan->bad_from = scan->gap_from;
    scan->bad_count += !more;
    scan->bad_end = scan->gap_end;
    scan->error = error;
    hint->damage += !more;
    scan->bad_bytes += scan->gap_end - scan->gap_from;
    hint->end = scan->gap_end; /* it may have been a record's */
    scan->gap_end = 0;
}

static void report_bad_blocks(const struct scan *scan)
{
    if (scan->bad_count)
        report(scan->source->reporter, REPORT_WARNING,
               "%016llx.seg cannot be read in %llu places, the first at byte %u (%s): what stands "
               "in these %llu bytes is lost, all else is used. Check the disk, and copy the file "
               "if it is to be rescued: it is kept while there is room, and each start tries again",
               (unsigned long long)scan->source->segment->header.id,
               (unsigned long long)scan->bad_count, scan->bad_from, strerror(scan->error),
               (unsigned long long)scan->bad_bytes);
}

enum store_status hint_scan(const struct hint_source *source, hint_visit *visit, void *context,
                            struct hint *hint)
{
    struct scan scan = {.source = source, .hint = hint};
    struct segment_cursor cursor;
    struct record record;
    uint32_t offset;
    bool go_on = true;
    enum cursor_status at = CURSOR_END;
    *hint = (struct hint){.end = SEGMENT_HEADER_SIZE};
    if (!segment_cursor_init(&cursor, source->files, source->segment, source->end))
        return STORE_IO;
    cursor.skims = true;
    cursor.tolerant = source->how & HINT_TOLERANT;
    while (go_on) {
        at = segment_cursor_next(&cursor, &record, &offset);
        if (at != CURSOR_RECORD && at != CURSOR_DAMAGE)
            break;
        note_damage(&scan);
        if (at == CURSOR_DAMAGE) {
            scan.gap_from = offset;
            scan.gap_end = cursor.offset;
            if (cursor.unreadable)
                note_bad_block(&scan, cursor.error);
            continue;
        }
        hint->end = cursor.offset;
        go_on = visit_record(&scan, &record, offset, visit, context);
    }
    if (source->how & HINT_TORN_TAIL)
        report_torn(&scan);
    else
        note_damage(&scan);
    report_bad_blocks(&scan);
    if (source->unreadable)
        *source->unreadable = scan.bad_count > 0;
    segment_cursor_release(&cursor);
    if (!go_on)
        return STORE_NO_MEMORY;
    return at == CURSOR_FAILED ? STORE_IO : STORE_OK;
}

bool hint_list_add(void *context, const struct hint_entry *entry)
{
    struct hint_list *list = context;
    if (list->count == list->room) {
        uint64_t room = list->room ? list->room * 2 : CHUNK;
        struct hint_entry *entries = realloc(list->entries, room * sizeof *entries);
        if (!entries)
            return false;
        list->entries = entries;
        list->room = room;
    }
    list->entries[list->count++] = *entry;
    return true;
}

enum store_status hint_collect(const struct hint_source *source, struct hint *hint,
                               struct hint_entry **entries)
{
    struct hint_list list = {0};
    enum store_status status = hint_scan(source, hint_list_add, &list, hint);
    if (status == STORE_OK)
        *entries = list.entries;
    else
        free(list.entries);
    return status;
}

/* A hint file being written. */
struct hint_writer {
    const struct file_system *files;
    const struct segment *segment;
    struct hint hint;
    int dir_fd, fd;
    uint64_t offset;
    uint32_t count;
    XXH3_state_t check;
    struct hint_entry entries[CHUNK];
};

struct hint_writer *hint_begin(const struct file_system *files, int dir_fd,
                               const struct segment *segment)
{
    struct hint_writer *writer = aligned_alloc(64, (sizeof *writer + 63) & ~(size_t)63);
    if (!writer)
        return NULL;
    *writer = (struct hint_writer){
        .files = files, .segment = segment, .dir_fd = dir_fd, .offset = sizeof(struct disk_header)};
    XXH3_64bits_reset_withSeed(&writer->check, segment->header.seed);
    writer->fd = segment_open_file(files, dir_fd, segment->header.id, "hint-tmp",
                                   O_RDWR | O_CREAT | O_TRUNC);
    if (writer->fd >= 0)
        return writer;
    int error = errno;
    free(writer);
    errno = error;
    return NULL;
}

static bool flush(struct hint_writer *writer)
{
    size_t len = writer->count * sizeof(struct hint_entry);
    XXH3_64bits_update(&writer->check, writer->entries, len);
    bool ok = file_write_all(writer->files, writer->fd, writer->entries, len, writer->offset);
    writer->offset += len;
    writer->count = 0;
    return ok;
}

static bool write_entry(void *context, const struct hint_entry *entry)
{
    struct hint_writer *writer = context;
    writer->entries[writer->count++] = *entry;
    return writer->count < CHUNK || flush(writer);
}

bool hint_add(struct hint_writer *writer, const struct hint_entry *entries, uint32_t count,
              uint64_t cas_max)
{
    writer->hint.cas_max = cas_max;
    writer->hint.count += count;
    for (uint32_t i = 0; i < count; i++) {
        writer->hint.touches += entries[i].type == RECORD_TOUCH;
        if (!write_entry(writer, &entries[i]))
            return false;
    }
    return true;
}

struct hint_entry *hint_read_back(const struct hint_writer *writer, uint64_t *count)
{
    const struct file_system *files = writer->files;
    size_t len = writer->offset - sizeof(struct disk_header);
    size_t rest = writer->count * sizeof(struct hint_entry);
    struct hint_entry *entries = malloc(len + rest + 1);
    if (!entries || !file_read_all(files, writer->fd, entries, len, sizeof(struct disk_header)) ||
        XXH3_64bits_withSeed(entries, len, writer->segment->header.seed) !=
            XXH3_64bits_digest(&writer->check)) {
        free(entries);
        return NULL;
    }
    memcpy((char *)entries + len, writer->entries, rest);
    *count = len / sizeof *entries + writer->count;
    return entries;
}

static bool write_header(struct hint_writer *writer)
{
    const struct segment *segment = writer->segment;
    struct disk_header header = {.magic = MAGIC,
                                 .version = 1,
                                 .entry_size = sizeof(struct hint_entry),
                                 .id = segment->header.id,
                                 .base_lsn = segment->header.base_lsn,
                                 .hint = writer->hint,
                                 .entries_check = XXH3_64bits_digest(&writer->check)};
    memcpy(header.uuid, segment->header.uuid, sizeof header.uuid);
    header.check = XXH3_64bits(&header, offsetof(struct disk_header, check));
    return file_write_all(writer->files, writer->fd, &header, sizeof header, 0);
}

/* Closes the file, and renames it when it is `whole`, else removes it. */
static bool put_away(struct hint_writer *writer, bool whole)
{
    const struct file_system *files = writer->files;
    uint64_t id = writer->segment->header.id;
    int error = errno;
    bool closed = files->close(files->context, writer->fd) == 0;
    if (whole) {
        whole = closed && segment_rename_file(files, writer->dir_fd, id, "hint-tmp", "hint") == 0;
        error = errno;
    }
    if (!whole)
        segment_unlink_file(files, writer->dir_fd, id, "hint-tmp");
    free(writer);
    errno = error;
    return whole;
}

enum store_status hint_finish(struct hint_writer *writer, uint64_t end, uint64_t keys,
                              struct hint *hint)
{
    writer->hint.end = end;
    writer->hint.keys = keys;
    *hint = writer->hint;
    bool whole = flush(writer) && write_header(writer);
    return put_away(writer, whole) ? STORE_OK : STORE_IO;
}

void hint_abandon(struct hint_writer *writer)
{
    put_away(writer, false);
}

enum store_status hint_make(const struct file_system *files, int dir_fd,
                            const struct segment *segment, uint64_t hash_seed, uint64_t keys,
                            const struct reporter *reporter, struct hint *hint)
{
    struct hint_writer *writer = hint_begin(files, dir_fd, segment);
    if (!writer)
        return STORE_IO;
    const struct hint_source source = {.files = files,
                                       .segment = segment,
                                       .end = atomic_load(&segment->end),
                                       .hash_seed = hash_seed,
                                       .reporter = reporter};
    enum store_status status = hint_scan(&source, write_entry, writer, &writer->hint);
    if (status == STORE_OK)
        return hint_finish(writer, writer->hint.end, keys, hint);
    hint_abandon(writer);
    return status;
}
