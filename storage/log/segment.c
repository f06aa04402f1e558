/* segment.c: one file of the log.
 *
 * A segment holds the log from base_lsn up to base_lsn + end. It is ACTIVE while log.c appends to
 * it, then SEALED, and DOOMED when it is no longer needed; its file goes with the last pin. The LSN
 * of a byte is base_lsn plus its offset in the file, header included.
 *
 *     offset  size  field
 *          0     8  magic "CCASKSEG"
 *          8     4  format version
 *         12     4  pending flush: its deadline in absolute seconds, 0 for none
 *         16    16  UUID of the store
 *         32     8  segment id
 *         40     8  LSN of the file's first byte
 *         48     8  epoch
 *         56     8  creation time, seconds
 *         64     8  seed of the record checksums
 *         72     8  flush LSN: everything before it is dead
 *         80     8  next CAS unique: higher than all given before this segment
 *         88     8  id of the segment before this one in the log; 0: none
 *         96     8  LSN where the log ended in that one
 *        104     8  boot of the machine in which this was made; 0: unknown
 *        112     8  zeros
 *        120     8  XXH3-64 of bytes 0 to 119
 *        128   128  the same 128 bytes again
 *        256     …  records (record.c), then zeros up to the allocated size
 *
 * The header is there twice: without the seed no record can be checked, so one flipped bit must not
 * cost it (S2).
 *
 * A record is valid if and only if its header checksum matches under this segment's seed and its
 * offset (S3), it ends within the file (S4), and its body checksum matches (S5). After damage every
 * multiple of 8 is tried. Zeros up to the end are the allocated rest and no damage.
 */
#define XXH_INLINE_ALL
#include "storage/log/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define MAGIC       "CCASKSEG"
#define COPY_SIZE   128
#define READ_SIZE   (256 * 1024)
#define PAGE_SIZE   4096
#define SECTOR_SIZE 512
#define NEAR        (64 * 1024) /* reading this much is cheaper than another read */

struct disk_header {
    char magic[8];
    struct segment_header header;
    uint64_t zeros;
    uint64_t check;
};

_Static_assert(sizeof(struct disk_header) == COPY_SIZE, "the header is 128 bytes on disk");
_Static_assert(2 * COPY_SIZE == SEGMENT_HEADER_SIZE, "and stands there twice");

void segment_name(char name[SEGMENT_NAME_SIZE], uint64_t id, const char *suffix)
{
    snprintf(name, SEGMENT_NAME_SIZE, "%016llx.%s", (unsigned long long)id, suffix);
}

uint64_t segment_id_of(const char *name, const char *suffix)
{
    uint64_t id = 0;
    for (int i = 0; i < 16; i++) {
        const char *digits = "0123456789abcdef";
        const char *digit = name[i] ? strchr(digits, name[i]) : NULL;
        if (!digit)
            return 0;
        id = id << 4 | (uint64_t)(digit - digits);
    }
    return name[16] == '.' && strcmp(name + 17, suffix) == 0 ? id : 0;
}

int segment_open_file(const struct file_system *files, int dir_fd, uint64_t id, const char *suffix,
                      int flags)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, id, suffix);
    return files->open(files->context, dir_fd, name, flags);
}

int segment_unlink_file(const struct file_system *files, int dir_fd, uint64_t id,
                        const char *suffix)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, id, suffix);
    return files->unlink(files->context, dir_fd, name);
}

int segment_rename_file(const struct file_system *files, int dir_fd, uint64_t id, const char *from,
                        const char *to)
{
    char from_name[SEGMENT_NAME_SIZE], to_name[SEGMENT_NAME_SIZE];
    segment_name(from_name, id, from);
    segment_name(to_name, id, to);
    return files->rename(files->context, dir_fd, from_name, to_name);
}

struct segment *segment_new(void)
{
    struct segment *segment = calloc(1, sizeof *segment);
    if (segment)
        segment->fd = -1;
    return segment;
}

void segment_free(const struct file_system *files, struct segment *segment)
{
    int error = errno;
    if (segment && segment->fd >= 0)
        files->close(files->context, segment->fd);
    free(segment);
    errno = error;
}

enum store_status segment_create(const struct file_system *files, int dir_fd, uint64_t id,
                                 uint32_t capacity, struct segment **out)
{
    struct segment *segment = segment_new();
    if (!segment)
        return STORE_NO_MEMORY;
    segment->header.id = id;
    segment->capacity = capacity;
    segment->fd = segment_open_file(files, dir_fd, id, "seg", O_RDWR | O_CREAT | O_EXCL);
    if (segment->fd < 0 || files->allocate(files->context, segment->fd, capacity) < 0 ||
        files->sync(files->context, segment->fd) < 0 ||
        files->sync_dir(files->context, dir_fd) < 0) {
        int error = errno;
        if (segment->fd >= 0)
            segment_unlink_file(files, dir_fd, id, "seg");
        errno = error;
        segment_free(files, segment);
        return error == ENOSPC || error == EDQUOT || error == EFBIG ? STORE_FULL : STORE_IO;
    }
    *out = segment;
    return STORE_OK;
}

void segment_header_encode(char *out, const struct segment_header *header)
{
    struct disk_header disk = {.magic = MAGIC, .header = *header};
    disk.header.version = 1;
    disk.check = XXH3_64bits(&disk, offsetof(struct disk_header, check));
    memcpy(out, &disk, sizeof disk);
    memcpy(out + COPY_SIZE, &disk, sizeof disk);
}

static enum store_status header_decode(const char *data, struct segment_header *header)
{
    struct disk_header disk;
    memcpy(&disk, data, sizeof disk);
    if (memcmp(disk.magic, MAGIC, sizeof disk.magic) != 0 ||
        disk.check != XXH3_64bits(&disk, offsetof(struct disk_header, check)))
        return STORE_CORRUPT;
    if (disk.header.version != 1)
        return STORE_BAD_VERSION;
    *header = disk.header;
    return STORE_OK;
}

/* Both copies at once, and if that fails each by itself (S2); one that cannot be read is left as
 * zeros. Returns 0, or the errno of the first that cannot. */
static int read_copies(const struct file_system *files, int fd, char *data)
{
    size_t got;
    int error = 0;
    if (file_read_upto(files, fd, data, SEGMENT_HEADER_SIZE, 0, &got))
        return 0;
    for (uint64_t at = 0; at < SEGMENT_HEADER_SIZE; at += COPY_SIZE)
        if (!file_read_upto(files, fd, data + at, COPY_SIZE, at, &got) && !error)
            error = errno;
    return error;
}

static enum store_status read_header(const struct file_system *files, struct segment *segment)
{
    char data[SEGMENT_HEADER_SIZE] = {0};
    uint64_t size;
    if (files->size(files->context, segment->fd, &size) < 0)
        return STORE_IO;
    int error = read_copies(files, segment->fd, data);
    segment->capacity = size > SEGMENT_SIZE_MAX ? SEGMENT_SIZE_MAX : (uint32_t)size;
    enum store_status status = header_decode(data, &segment->header);
    if (status == STORE_CORRUPT)
        status = header_decode(data + COPY_SIZE, &segment->header);
    errno = error;
    return status == STORE_CORRUPT && error ? STORE_IO : status;
}

enum store_status segment_open(const struct file_system *files, int dir_fd, uint64_t id,
                               struct segment **out)
{
    struct segment *segment = segment_new();
    if (!segment)
        return STORE_NO_MEMORY;
    segment->fd = segment_open_file(files, dir_fd, id, "seg", O_RDWR);
    enum store_status status = segment->fd < 0 ? STORE_IO : read_header(files, segment);
    if (status == STORE_OK && segment->header.id != id)
        status = STORE_CORRUPT; /* a file under another's name */
    if (status != STORE_OK) {
        segment_free(files, segment);
        return status;
    }
    segment->state = SEGMENT_SEALED;
    *out = segment;
    return STORE_OK;
}

bool segment_cursor_init(struct segment_cursor *cursor, const struct file_system *files,
                         const struct segment *segment, uint64_t end)
{
    *cursor = (struct segment_cursor){
        .files = files, .segment = segment, .offset = SEGMENT_HEADER_SIZE, .end = end};
    if (end == 0 && files->size(files->context, segment->fd, &cursor->end) < 0)
        return false;
    if (cursor->end > SEGMENT_SIZE_MAX)
        cursor->end = SEGMENT_SIZE_MAX;
    /* Asked before any read: some file systems fill holes when read. Only used at zeros. */
    cursor->data_end = files->data_end ? files->data_end(files->context, segment->fd) : UINT64_MAX;
    return true;
}

void segment_cursor_release(struct segment_cursor *cursor)
{
    int error = errno;
    free(cursor->buffer);
    cursor->buffer = NULL;
    errno = error;
}

/* How many bytes to read at `offset`, if no more are wanted: few if keys are far apart. */
static size_t read_size(const struct segment_cursor *cursor, uint64_t offset)
{
    if (cursor->careful || offset < cursor->very_near)
        return 0;
    if (offset < cursor->near_bad)
        return PAGE_SIZE - offset % PAGE_SIZE;
    bool far = cursor->keys_only && offset > cursor->start + cursor->len + NEAR;
    return far ? PAGE_SIZE : READ_SIZE;
}

static bool read_at(struct segment_cursor *cursor, uint64_t offset, uint64_t size)
{
    if (offset + size > cursor->end)
        size = cursor->end - offset;
    cursor->start = offset;
    cursor->len = 0;
    return file_read_upto(cursor->files, cursor->segment->fd, cursor->buffer, size, offset,
                          &cursor->len);
}

/* Whether the read that has failed just now counts as damage. */
static bool is_tolerated(struct segment_cursor *cursor)
{
    if (!cursor->tolerant || !file_is_bad_block(errno))
        return false;
    cursor->error = errno;
    return true;
}

/* After a read of `size` bytes has failed: reads to the end of its page, or only what is needed. */
static bool read_near(struct segment_cursor *cursor, uint64_t offset, uint64_t want, uint64_t size)
{
    uint64_t page_end = (offset / PAGE_SIZE + 1) * PAGE_SIZE;
    if (!is_tolerated(cursor) && !cursor->keys_only)
        return false;
    if (cursor->near_bad < offset + size)
        cursor->near_bad = offset + size;
    if (size > page_end - offset && want < page_end - offset &&
        read_at(cursor, offset, page_end - offset))
        return true;
    cursor->very_near = page_end;
    return read_at(cursor, offset, want);
}

/* Reads at least `want` bytes from `offset` on into the buffer, or all there are. */
static bool fill(struct segment_cursor *cursor, uint64_t offset, uint64_t want)
{
    if (offset + want > cursor->end)
        want = offset < cursor->end ? cursor->end - offset : 0;
    if (offset >= cursor->start && offset + want <= cursor->start + cursor->len)
        return true;
    size_t usual = read_size(cursor, offset);
    size_t size = want > usual ? want : usual;
    size_t capacity = size > READ_SIZE ? size : READ_SIZE;
    if (cursor->capacity < capacity) {
        free(cursor->buffer); /* what it holds is read again */
        cursor->capacity = cursor->len = 0;
        cursor->buffer = malloc(capacity);
        if (!cursor->buffer)
            return false;
        cursor->capacity = capacity;
    }
    return read_at(cursor, offset, size) || read_near(cursor, offset, want, size);
}

/* The bytes from `offset` on that the buffer holds. */
static const char *at(const struct segment_cursor *cursor, uint64_t offset, size_t *len)
{
    *len = cursor->start + cursor->len > offset ? cursor->start + cursor->len - offset : 0;
    return cursor->buffer + (offset - cursor->start);
}

struct long_record {
    struct segment_cursor *cursor;
    uint64_t offset;
    bool failed; /* to read it; else it may just end too early */
};

static size_t read_piece(void *context, uint64_t place, uint64_t len, const char **data)
{
    struct long_record *record = context;
    uint64_t offset = record->offset + place;
    size_t got;
    if (len > READ_SIZE)
        len = READ_SIZE;
    record->failed = !fill(record->cursor, offset, len);
    if (record->failed)
        return 0;
    *data = at(record->cursor, offset, &got);
    return got < len ? got : len;
}

/* Reads header and key of a record into the buffer. RECORD_CUT: the file is shorter than it was. */
static enum record_status fill_key(struct segment_cursor *cursor, uint64_t offset,
                                   const struct record *record, const char **data)
{
    size_t want = RECORD_HEADER_SIZE + (size_t)record->key_len, len;
    if (!fill(cursor, offset, want))
        return RECORD_FAILED;
    *data = at(cursor, offset, &len);
    return len < want ? RECORD_CUT : RECORD_OK;
}

/* Checks a record without having all of it in memory. */
static enum record_status skim(struct segment_cursor *cursor, uint64_t offset,
                               struct record *record)
{
    char header[RECORD_HEADER_SIZE];
    struct long_record context = {.cursor = cursor, .offset = offset};
    const char *data;
    enum record_status status = fill_key(cursor, offset, record, &data);
    if (status != RECORD_OK)
        return status;
    memcpy(header, data, RECORD_HEADER_SIZE);
    memcpy(cursor->key, data + RECORD_HEADER_SIZE, record->key_len);
    record->key = cursor->key;
    record->value = NULL;
    status = record_check_body(header, cursor->segment->header.seed, offset, read_piece, &context);
    return context.failed ? RECORD_FAILED : status;
}

/* Makes do with the key of a record whose value is not in the buffer. */
static enum record_status take_key(struct segment_cursor *cursor, uint64_t offset,
                                   struct record *record)
{
    const char *data;
    enum record_status status = fill_key(cursor, offset, record, &data);
    if (status == RECORD_OK)
        record->key = data + RECORD_HEADER_SIZE;
    record->value = NULL;
    return status;
}

/* What the read that has failed just now says of a record: `damage` where that is tolerated. */
static enum record_status judge_failure(struct segment_cursor *cursor, enum record_status damage)
{
    if (!is_tolerated(cursor))
        return RECORD_FAILED;
    cursor->unreadable = true;
    return damage;
}

static enum record_status decode(struct segment_cursor *cursor, uint64_t offset,
                                 struct record *record)
{
    uint64_t seed = cursor->segment->header.seed;
    size_t len;
    if (!fill(cursor, offset, RECORD_HEADER_SIZE))
        return judge_failure(cursor, RECORD_BAD_HEADER);
    const char *data = at(cursor, offset, &len);
    enum record_status status = record_decode(data, len, seed, offset, record);
    if (status == RECORD_BAD_HEADER)
        return status;
    uint64_t size = record_size(record->key_len, record->value_len);
    if (offset + size > cursor->end) /* S4 */
        return RECORD_CUT;
    if (status != RECORD_CUT)
        return status;
    if (cursor->keys_only)
        return take_key(cursor, offset, record);
    if (cursor->skims && size > READ_SIZE) {
        status = skim(cursor, offset, record);
        return status == RECORD_FAILED ? judge_failure(cursor, RECORD_BAD_BODY) : status;
    }
    if (!fill(cursor, offset, size))
        return judge_failure(cursor, RECORD_BAD_BODY);
    data = at(cursor, offset, &len);
    return record_decode(data, len, seed, offset, record);
}

enum cursor_status segment_cursor_read(struct segment_cursor *cursor, uint64_t offset,
                                       struct record *record)
{
    enum record_status status = decode(cursor, offset, record);
    if (status == RECORD_FAILED)
        return CURSOR_FAILED;
    return status == RECORD_OK ? CURSOR_RECORD : CURSOR_DAMAGE;
}

/* Where to continue after a bad block. Most disks and file systems return a whole page or nothing:
 * to try each of its sectors might take minutes. */
static uint64_t after_bad_block(struct segment_cursor *cursor, uint64_t offset)
{
    uint64_t page_end = (offset / PAGE_SIZE + 1) * PAGE_SIZE;
    uint64_t end = page_end < cursor->end ? page_end : cursor->end;
    bool part = read_at(cursor, (end - 1) / SECTOR_SIZE * SECTOR_SIZE, SECTOR_SIZE);
    return part ? (offset / SECTOR_SIZE + 1) * SECTOR_SIZE : page_end;
}

/* Looks for the next valid record after damage at cursor->offset, and moves there, or to the end.
 * CURSOR_END, without moving: only zeros follow. */
static enum cursor_status skip_damage(struct segment_cursor *cursor)
{
    struct record record;
    bool zeros = true;
    for (uint64_t offset = cursor->offset; offset + RECORD_ALIGN <= cursor->end;
         offset += RECORD_ALIGN) {
        if (!fill(cursor, offset, RECORD_HEADER_SIZE)) {
            if (judge_failure(cursor, RECORD_BAD_HEADER) == RECORD_FAILED)
                return CURSOR_FAILED;
            zeros = false;
            offset = after_bad_block(cursor, offset) - RECORD_ALIGN;
            continue;
        }
        size_t len;
        uint64_t word;
        const char *data = at(cursor, offset, &len);
        if (len < sizeof word)
            break; /* the file is shorter than it was */
        memcpy(&word, data, sizeof word);
        if (word == 0 && offset >= cursor->data_end)
            break;
        if (word == 0) /* a checksum of zeros is as likely as any, but no reason to hash a hole */
            continue;
        if (offset > cursor->offset) {
            enum record_status status = decode(cursor, offset, &record);
            if (status == RECORD_FAILED)
                return CURSOR_FAILED;
            if (status == RECORD_OK) {
                cursor->offset = offset;
                return CURSOR_DAMAGE;
            }
        }
        zeros = false;
    }
    if (zeros)
        return CURSOR_END;
    cursor->offset = cursor->end;
    return CURSOR_DAMAGE;
}

enum cursor_status segment_cursor_next(struct segment_cursor *cursor, struct record *record,
                                       uint32_t *offset)
{
    *offset = (uint32_t)cursor->offset;
    cursor->unreadable = false;
    if (cursor->offset + RECORD_HEADER_SIZE > cursor->end)
        return CURSOR_END;
    enum record_status status = decode(cursor, cursor->offset, record);
    if (status == RECORD_FAILED)
        return CURSOR_FAILED;
    if (status != RECORD_OK && status != RECORD_BAD_BODY)
        return skip_damage(cursor);
    cursor->offset += record_size(record->key_len, record->value_len);
    return status == RECORD_OK ? CURSOR_RECORD : CURSOR_DAMAGE;
}
