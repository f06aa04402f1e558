/* hint.h: a summary of a sealed segment, so that a start need not read the values. See hint.c. */
#ifndef CACHECASK_STORAGE_LOG_HINT_H
#define CACHECASK_STORAGE_LOG_HINT_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/log/segment.h"
#include "storage/status.h"
#include "storage/report.h"

/* One record. On disk as in memory: 24 bytes, little-endian. */
struct hint_entry {
    uint64_t tag;
    uint32_t offset;   /* in units of 8 bytes */
    uint32_t size;     /* in units of 8 bytes */
    uint32_t expire_s; /* of a deletion: hint_born */
    uint16_t shard_bits;
    uint8_t type; /* enum record_type */
    uint8_t zero;
};

_Static_assert(sizeof(struct hint_entry) == 24, "an entry is 24 bytes on disk");

/* When a deletion was born, in MiB of the log, rounded up. 0: unknown (earlier releases). */
static inline uint32_t hint_born(uint64_t born_lsn)
{
    uint64_t mib = (born_lsn >> 20) + (born_lsn % (UINT64_C(1) << 20) != 0);
    return mib < UINT32_MAX ? (uint32_t)mib : UINT32_MAX;
}

/* It was born at this LSN, or up to a MiB before it. */
static inline uint64_t hint_born_lsn(uint32_t born)
{
    return born < UINT32_MAX ? (uint64_t)born << 20 : UINT64_MAX;
}

/* What a hint file says of itself. In memory as on disk, bytes 48 to 95 of the file. */
struct hint {
    uint64_t end;     /* bytes of log in the segment */
    uint64_t count;   /* entries */
    uint64_t touches; /* those that are TOUCHes */
    uint64_t keys;    /* in the store when it was made: what the next start expects; 0: unknown */
    uint64_t cas_max; /* highest CAS unique given in the segment */
    uint64_t damage;  /* places that were no valid record when it was made */
};

/* Bytes of the hint file. */
#define HINT_HEADER_SIZE 112
static inline uint32_t hint_file_size(const struct hint *hint)
{
    return (uint32_t)(HINT_HEADER_SIZE + hint->count * sizeof(struct hint_entry));
}

/* Called for each entry of a scan; false ends it. */
typedef bool hint_visit(void *context, const struct hint_entry *entry);

/* How a segment is scanned: 0, or several of these. */
enum hint_scan {
    HINT_TORN_TAIL = 1, /* what follows the last valid record is no damage */
    HINT_TOLERANT = 2,  /* bad blocks of the disk are damage, and no failure */
};

/* A segment that is to be scanned. */
struct hint_source {
    const struct file_system *files;
    const struct segment *segment;
    uint64_t end; /* of the log in it, in bytes; 0: all of the file */
    uint64_t hash_seed;
    uint32_t how; /* of enum hint_scan */
    const struct reporter *reporter;
    bool *unreadable; /* set by the scan: whether it met bad blocks of the disk; or NULL */
};

/* Reads the records of a segment and calls visit for each. Damage is reported with its offset, and
 * counted. Sets *hint, except keys. STORE_OK; STORE_IO; STORE_NO_MEMORY, also if visit says so. */
enum store_status hint_scan(const struct hint_source *source, hint_visit *visit, void *context,
                            struct hint *hint);

/* Entries in memory: {0} is empty, and the owner frees `entries`. hint_list_add is a hint_visit
 * whose context is such a list, which grows as needed. */
struct hint_list {
    struct hint_entry *entries;
    uint64_t count, room;
};

bool hint_list_add(void *context, const struct hint_entry *entry);

/* As hint_scan, but sets *entries to hint->count entries in memory, that the caller frees. */
enum store_status hint_collect(const struct hint_source *source, struct hint *hint,
                               struct hint_entry **entries);

/* A hint file that is written while its segment grows. */
struct hint_writer;

/* Begins one, under another name. NULL, with errno: the file cannot be made, or out of memory. */
struct hint_writer *hint_begin(const struct file_system *files, int dir_fd,
                               const struct segment *segment);

/* Adds records in the order of the log. `cas_max`: the highest CAS unique so far. False: errno. */
bool hint_add(struct hint_writer *writer, const struct hint_entry *entries, uint32_t count,
              uint64_t cas_max);

/* The entries added so far, for the caller to free. NULL: they are lost, or out of memory. */
struct hint_entry *hint_read_back(const struct hint_writer *writer, uint64_t *count);

/* Gives the file its header and its name when the segment is sealed with `end` bytes of log; sets
 * *hint. STORE_OK; STORE_IO: no file. Frees the writer; hint_abandon also removes the file. */
enum store_status hint_finish(struct hint_writer *writer, uint64_t end, uint64_t keys,
                              struct hint *hint);
void hint_abandon(struct hint_writer *writer);

/* Scans a sealed segment and writes its hint file, in constant memory. On STORE_OK sets *hint;
 * STORE_IO, STORE_NO_MEMORY: there is none, and the next start scans the segment. */
enum store_status hint_make(const struct file_system *files, int dir_fd,
                            const struct segment *segment, uint64_t hash_seed, uint64_t keys,
                            const struct reporter *reporter, struct hint *hint);

/* Reads a hint file: sets *hint, and *entries to hint->count entries that the caller frees; with
 * `entries` NULL they are not checked either. STORE_NOT_FOUND: there is none; STORE_CORRUPT:
 * damaged, or of another segment; STORE_NO_MEMORY; STORE_IO. */
enum store_status hint_read(const struct file_system *files, int dir_fd,
                            const struct segment *segment, struct hint *hint,
                            struct hint_entry **entries);

#endif
