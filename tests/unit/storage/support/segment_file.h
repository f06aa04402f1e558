/* segment_file.h: segments written by hand, for tests of what reads them. */
#ifndef CACHECASK_TESTS_UNIT_STORAGE_SEGMENT_FILE_H
#define CACHECASK_TESTS_UNIT_STORAGE_SEGMENT_FILE_H

#include "storage/log/segment.h"
#include "tests/unit/storage/support/basics.h"
#include "tests/unit/storage/support/temp_dir.h"

#define SEGMENT_FILE_MAX (8u << 20)

/* A segment in memory, on its way to a file. */
struct segment_file {
    struct segment_header header;
    uint32_t end;
    char data[SEGMENT_FILE_MAX];
};

/* Begins anew, with such an id and everything else made from it. */
static inline void segment_file_begin(struct segment_file *file, uint64_t id)
{
    memset(file, 0, sizeof *file);
    file->header = (struct segment_header){
        .id = id,
        .base_lsn = id * 1000000,
        .epoch = 7,
        .created_s = 1000000000 + id,
        .seed = id * UINT64_C(0x123456789abcdef1),
        .flush_lsn = id * 500000,
        .flush_deadline_s = (uint32_t)id * 3,
        .next_cas = id * 17,
        .previous_id = id + 1000, /* which was cleaned */
        .log_end_lsn = id * 1000000 - 1000,
        .boot_id = id * 19,
    };
    memset(file->header.uuid, (int)id + 1, sizeof file->header.uuid);
    segment_header_encode(file->data, &file->header);
    file->end = SEGMENT_HEADER_SIZE;
}

/* Seals a record for place `offset` at `out`. */
static inline uint32_t segment_file_seal(const struct segment_file *file, char *out,
                                         uint32_t offset, struct record record, const char *key,
                                         const void *value, uint32_t value_len)
{
    record.key_len = (uint8_t)strlen(key);
    record.value_len = value_len;
    memcpy(out + RECORD_HEADER_SIZE, key, record.key_len);
    if (value_len)
        memcpy(out + RECORD_HEADER_SIZE + record.key_len, value, value_len);
    record_seal(out, &record, file->header.seed, offset);
    return (uint32_t)record_size(record.key_len, value_len);
}

/* Appends a record; the answer is its offset. */
static inline uint32_t segment_file_add(struct segment_file *file, struct record record,
                                        const char *key, const void *value, uint32_t value_len)
{
    uint32_t offset = file->end;
    if (offset + record_size(255, value_len) > sizeof file->data)
        give_up("the segment is full");
    file->end +=
        segment_file_seal(file, file->data + offset, offset, record, key, value, value_len);
    return offset;
}

static inline uint32_t segment_file_put(struct segment_file *file, const char *key,
                                        const char *value)
{
    return segment_file_add(file, (struct record){.type = RECORD_PUT, .cas = file->end}, key, value,
                            (uint32_t)strlen(value));
}

/* Saves the first `size` bytes under the name of the segment, and opens it. */
static inline struct segment *segment_file_open(const struct segment_file *file,
                                                const struct temp_dir *dir, size_t size)
{
    char name[SEGMENT_NAME_SIZE];
    struct segment *opened;
    segment_name(name, file->header.id, "seg");
    file_save(dir, name, file->data, size);
    enum store_status status = segment_open(&file_system_os, dir->fd, file->header.id, &opened);
    if (status != STORE_OK)
        give_up("cannot open a segment: %d", status);
    atomic_store(&opened->end, file->end);
    return opened;
}

#endif
