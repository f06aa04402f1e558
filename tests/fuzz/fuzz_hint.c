/* fuzz_hint.c: any bytes as a segment that is scanned, or as the hint file of one
 * (storage/log/segment.c, storage/log/hint.c).
 *
 * As a segment: the bytes are its records. Those that carry SEAL_MARK get the checksums of a record
 * at their place, if they may be one; so records, damage, holes and lengths that lie come in any
 * order.
 * - A scan finds exactly the records that were sealed: damage costs what it damages and no more
 *   (R2, S3 to S5).
 * - Its entries lie within the segment, one after the other, and match the records.
 * - A hint file made of it reads back as the same entries (H2).
 *
 * As a hint file: its header may be anything, with checksums that are right.
 * - It is believed only if it names the segment, has the length that its count says, and matches
 *   its checksums (H1).
 * - Only its own bytes are read.
 */
#include "tests/fuzz/memory_files.h"
#include "tests/fuzz/sealed.h"

#include "storage/base/hash.h"
#include "storage/log/hint.h"

/* Of the last byte. */
#define AS_HINT       1
#define KEEP_CHECK    2 /* of the header: as it is in the input */
#define KEEP_ENTRIES  4 /* their checksum, too */
#define TORN          2 /* of a segment: its tail may be */
#define MORE          4 /* followed by zeros */
#define BEYOND        8 /* and the file goes on with zeros, but not the log */

#define ID            5
#define BASE_LSN      5000000
#define SEED          UINT64_C(0x123456789abcdef1)
#define HASH_SEED     UINT64_C(0x1122334455667788)
#define KEYS          77
#define CAPACITY      (1 << 20)
#define SEAL_MARK     0x80 /* in the last byte of a header, of the state bits that nobody uses */
#define RECORDS_MAX   4096
#define ZEROS         4096
#define HEADER_CHECK  104
#define ENTRIES_CHECK 96
#define ENTRIES_COUNT 56

static const struct reporter silent = {0};

/* The records that the segment under test has. */
struct sealed {
    uint32_t count;
    uint64_t end; /* of the last one */
    struct {
        uint32_t offset, size;
    } record[RECORDS_MAX];
};

static bool may_be_record(const char *data, size_t left)
{
    return (uint8_t)data[31] & SEAL_MARK && sealed_is_sane(data) &&
           record_size((uint8_t)data[28], sealed_value_len(data)) <= left;
}

/* A length that lies: its header is good, and it ends behind the log (S4) or the file. (If it
 * ended before, it would be believed: R2.) */
static bool lies(const char *data, size_t left)
{
    return (uint8_t)data[31] & SEAL_MARK &&
           record_size((uint8_t)data[28], sealed_value_len(data)) > left;
}

/* The log has `end` bytes, the file may have more. */
static void seal_all(char *data, size_t end, size_t file_size, struct sealed *sealed)
{
    size_t at = SEGMENT_HEADER_SIZE;
    *sealed = (struct sealed){.end = SEGMENT_HEADER_SIZE};
    while (at + RECORD_HEADER_SIZE <= end && sealed->count < RECORDS_MAX) {
        char *header = data + at;
        bool record = may_be_record(header, end - at);
        if (record || lies(header, end - at)) {
            seal_body(header, file_size - at, SEED, at);
            seal_header(header, SEED, at);
        }
        if (!record) {
            at += RECORD_ALIGN;
            continue;
        }
        /* Filler in the place of a mark is not counted. */
        uint32_t value_len = header[29] == RECORD_PUT ? sealed_value_len(header) : 0;
        sealed->record[sealed->count].offset = (uint32_t)at;
        sealed->record[sealed->count++].size =
            (uint32_t)record_size((uint8_t)header[28], value_len);
        at += record_size((uint8_t)header[28], sealed_value_len(header));
        sealed->end = at;
    }
}

/* An entry of a scan, beside the record that it stands for. */
static void check_entry(const struct hint_entry *entry, const struct sealed *sealed, uint64_t i,
                        const char *data)
{
    FUZZ_CHECK(i < sealed->count);
    uint64_t offset = entry->offset * UINT64_C(8), size = entry->size * UINT64_C(8);
    FUZZ_CHECK(offset >= SEGMENT_HEADER_SIZE && offset + size <= sealed->end);
    FUZZ_CHECK(offset == sealed->record[i].offset && size == sealed->record[i].size);
    const char *header = data + offset;
    uint32_t expire_s;
    uint64_t cas;
    memcpy(&expire_s, header + 16, sizeof expire_s);
    memcpy(&cas, header + 8, sizeof cas);
    if (header[29] == RECORD_DELETE)
        expire_s = hint_born(cas);
    FUZZ_CHECK(entry->type == (uint8_t)header[29] && entry->expire_s == expire_s);
    if (header[28] == 0)
        return;
    struct key_hash hash = hash_key(header + RECORD_HEADER_SIZE, (uint8_t)header[28], HASH_SEED);
    if (header[29] != RECORD_PUT && header[30] & RECORD_STATE_HASHED) {
        memcpy(&hash.tag, header + RECORD_HEADER_SIZE, sizeof hash.tag);
        memcpy(&hash.shard_bits, header + 20, sizeof(uint16_t));
    }
    FUZZ_CHECK(entry->tag == hash.tag && entry->shard_bits == (uint16_t)hash.shard_bits);
}

static void check_made(struct memory_files *memory, const struct segment *segment,
                       const struct hint_entry *entries, const struct hint *scanned)
{
    struct hint made, read, peeked;
    struct hint_entry *again = NULL;
    const struct file_system *files = &memory->files;
    FUZZ_CHECK(hint_make(files, 0, segment, HASH_SEED, KEYS, &silent, &made) == STORE_OK);
    FUZZ_CHECK(hint_read(files, 0, segment, &read, &again) == STORE_OK);
    FUZZ_CHECK(hint_read(files, 0, segment, &peeked, NULL) == STORE_OK);
    FUZZ_CHECK(read.count == scanned->count && read.end == scanned->end && read.keys == KEYS);
    FUZZ_CHECK(read.touches == scanned->touches && read.cas_max == scanned->cas_max);
    FUZZ_CHECK(memcmp(&read, &peeked, sizeof read) == 0);
    FUZZ_CHECK(read.count == 0 || memcmp(entries, again, read.count * sizeof *entries) == 0);
    free(again);
}

static struct segment *open_segment(struct memory_files *memory, const char *data, size_t end,
                                    size_t size)
{
    char name[SEGMENT_NAME_SIZE];
    struct segment *segment = NULL;
    segment_name(name, ID, "seg");
    struct memory_file *file = memory_save(memory, name, data, size);
    FUZZ_CHECK(segment_open(&memory->files, 0, ID, &segment) == STORE_OK);
    FUZZ_CHECK(segment->capacity == size && file->opened == 1);
    atomic_store(&segment->end, (uint32_t)end);
    return segment;
}

static void make_header(char out[SEGMENT_HEADER_SIZE])
{
    struct segment_header header = {.id = ID, .base_lsn = BASE_LSN, .seed = SEED};
    memset(header.uuid, ID + 1, sizeof header.uuid);
    segment_header_encode(out, &header);
}

static void run_segment(const char *bytes, size_t bytes_len, uint8_t choice)
{
    static struct sealed sealed;
    struct memory_files memory;
    struct hint hint;
    struct hint_entry *entries = NULL;
    size_t end = SEGMENT_HEADER_SIZE + bytes_len + (choice & MORE ? ZEROS : 0);
    size_t size = end + (choice & BEYOND ? ZEROS : 0);
    char *data = calloc(1, size);
    FUZZ_CHECK(data != NULL);
    memory_init(&memory);
    make_header(data);
    if (bytes_len)
        memcpy(data + SEGMENT_HEADER_SIZE, bytes, bytes_len);
    seal_all(data, end, size, &sealed);
    struct segment *segment = open_segment(&memory, data, end, size);
    const struct hint_source source = {.files = &memory.files,
                                       .segment = segment,
                                       .end = choice & BEYOND ? end : 0,
                                       .hash_seed = HASH_SEED,
                                       .how = choice & TORN ? HINT_TORN_TAIL : 0,
                                       .reporter = &silent};
    FUZZ_CHECK(hint_collect(&source, &hint, &entries) == STORE_OK);
    FUZZ_CHECK(hint.count == sealed.count && hint.end == sealed.end);
    for (uint64_t i = 0; i < hint.count; i++)
        check_entry(&entries[i], &sealed, i, data);
    check_made(&memory, segment, entries, &hint);
    free(entries);
    segment_free(&memory.files, segment);
    memory_release(&memory);
    free(data);
}

/* Puts right what the choice does not want as it is. */
static void seal_hint(char *data, size_t len, uint8_t choice)
{
    if (len < HINT_HEADER_SIZE)
        return;
    if (!(choice & KEEP_ENTRIES)) {
        uint64_t check =
            XXH3_64bits_withSeed(data + HINT_HEADER_SIZE, len - HINT_HEADER_SIZE, SEED);
        memcpy(data + ENTRIES_CHECK, &check, sizeof check);
    }
    if (!(choice & KEEP_CHECK)) {
        uint64_t check = XXH3_64bits(data, HEADER_CHECK);
        memcpy(data + HEADER_CHECK, &check, sizeof check);
    }
}

static void check_believed(const char *data, size_t len, const struct hint *hint,
                           const struct hint_entry *entries)
{
    uint64_t check;
    FUZZ_CHECK(len == HINT_HEADER_SIZE + hint->count * sizeof *entries);
    FUZZ_CHECK(memcmp(data, "CCASKHNT\1\0\0\0\x18\0\0\0", 16) == 0);
    FUZZ_CHECK(memcmp(data + ENTRIES_COUNT, &hint->count, sizeof hint->count) == 0);
    FUZZ_CHECK(hint->end <= CAPACITY);
    FUZZ_CHECK(hint_file_size(hint) == len);
    memcpy(&check, data + ENTRIES_CHECK, sizeof check);
    FUZZ_CHECK(check ==
               XXH3_64bits_withSeed(data + HINT_HEADER_SIZE, len - HINT_HEADER_SIZE, SEED));
    FUZZ_CHECK(memcmp(entries, data + HINT_HEADER_SIZE, len - HINT_HEADER_SIZE) == 0);
}

static void run_hint(const char *bytes, size_t len, uint8_t choice)
{
    char name[SEGMENT_NAME_SIZE];
    struct memory_files memory;
    struct segment segment = {
        .header = {.id = ID, .base_lsn = BASE_LSN, .seed = SEED}, .capacity = CAPACITY, .fd = -1};
    struct hint hint, peeked;
    struct hint_entry *entries = NULL;
    memset(segment.header.uuid, ID + 1, sizeof segment.header.uuid);
    memory_init(&memory);
    segment_name(name, ID, "hint");
    struct memory_file *file = memory_save(&memory, name, bytes, len);
    seal_hint(file->data, len, choice);
    enum store_status status = hint_read(&memory.files, 0, &segment, &hint, &entries);
    enum store_status peek = hint_read(&memory.files, 0, &segment, &peeked, NULL);
    FUZZ_CHECK(status == STORE_OK || status == STORE_CORRUPT);
    FUZZ_CHECK(peek == STORE_OK || (peek == STORE_CORRUPT && status == STORE_CORRUPT));
    if (status == STORE_OK)
        check_believed(file->data, len, &hint, entries);
    free(entries);
    memory_release(&memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    uint8_t choice = fuzz_take_choice(bytes, &len);
    if (choice & AS_HINT)
        run_hint((const char *)bytes, len, choice);
    else
        run_segment((const char *)bytes, len, choice);
    return 0;
}
