/* recover.h: from the files of a data directory to the index in memory. See recover.c. */
#ifndef CACHECASK_STORAGE_LOG_RECOVER_H
#define CACHECASK_STORAGE_LOG_RECOVER_H

#include "storage/index/keydir.h"
#include "storage/log/log.h"

struct load;

struct recovery {
    const struct file_system *files;
    int dir_fd;
    const char *dir_name;
    const uint8_t *uuid;
    uint64_t hash_seed;
    uint32_t threads;
    uint32_t now_s;
    uint64_t boot_id;
    const struct reporter *reporter;
    struct keydir *keydir; /* empty; filled */
    struct log *log;       /* initialized; segments are adopted, its flush set */
    /* What the keydir may take beyond its limit: a cache evicts the keys that do not fit soon */
    uint64_t more_bytes;
    /* Reports how much has been read, of how much (0: not known yet). Any thread; or NULL. */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t all_bytes);
    void *progress_context;

    /* What came out. */
    uint64_t next_segment_id;
    uint64_t next_lsn;
    uint64_t next_cas;
    uint64_t items;
    uint64_t damage;    /* records or places that were not valid */
    struct load *loads; /* the segments, in the order of the log */
    size_t load_count;
    uint64_t *dropped; /* ids of files that are after the end of the log (Y6) */
    size_t dropped_count;
};

/* Loads everything. Changes nothing on disk but unfinished and never used files, so it may die and
 * run again at any point (Y5, Y6). STORE_OK; STORE_BAD_VERSION, STORE_FULL (the keys do not fit
 * into the memory limit), STORE_NO_MEMORY, STORE_IO: reported. */
enum store_status recover(struct recovery *recovery);

/* Whether there is anything after the end of the log for recover_cut_tail. */
bool recover_has_tail(const struct recovery *recovery);

/* Once the log continues in a new segment, whose header says where it ended: cuts off what is after
 * that end, and removes segments that are wholly after it; also what earlier starts have left. All
 * durably, before any segment is cleaned (Y8). STORE_OK; STORE_IO: reported. */
enum store_status recover_cut_tail(const struct recovery *recovery);

/* Also if recover has failed. */
void recover_release(struct recovery *recovery);

#endif
