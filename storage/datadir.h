/* datadir.h: whose directory is this? The `store` and `lock` files of a data directory. */
#ifndef CACHECASK_STORAGE_DATADIR_H
#define CACHECASK_STORAGE_DATADIR_H

#include "storage/file.h"
#include "storage/status.h"
#include "storage/report.h"

struct datadir {
    uint8_t uuid[16];
    uint64_t hash_seed; /* of the keys' hashes: secret and random */
    int lock_fd;
};

/* Where the data is. */
struct datadir_place {
    const struct file_system *files;
    int dir_fd;
    const char *name; /* for messages */
    bool any_owner;   /* it may belong to another than the user we run as */
    const struct reporter *reporter;
};

/* Takes the directory for this process and reads it; an empty one becomes a new store's. Any error
 * is reported, and nothing changed: STORE_IN_USE, _BAD_VERSION, _NOT_OURS, _CORRUPT, _IO. */
enum store_status datadir_open(struct datadir *datadir, const struct datadir_place *place,
                               uint32_t now_s, void (*random)(void *bytes, size_t len));

/* Lets it go. */
void datadir_close(struct datadir *datadir, const struct file_system *files);

#endif
