/* datadir.h: whose directory is this? The `store` and `lock` files of a data directory. See
 * datadir.c. */
#ifndef CACHECASK_STORAGE_DATADIR_H
#define CACHECASK_STORAGE_DATADIR_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/file.h"
#include "storage/status.h"
#include "storage/report.h"

struct datadir {
    uint8_t uuid[16];
    uint64_t hash_seed; /* of the keys' hashes: secret and random */
    int lock_fd;
};

/* Takes the directory for this process and reads who it is; an empty one becomes a new store's. It
 * must belong to the user we run as, unless any_owner allows others. `name` is for messages. What
 * is wrong is reporter, and then nothing has been changed: STORE_IN_USE, STORE_BAD_VERSION,
 * STORE_NOT_OURS, STORE_CORRUPT, STORE_IO. */
enum store_status datadir_open(struct datadir *datadir, const struct file_system *files, int dir_fd,
                               const char *name, bool any_owner, uint32_t now_s,
                               void (*random)(void *bytes, size_t len),
                               const struct reporter *reporter);

/* Lets it go. */
void datadir_close(struct datadir *datadir, const struct file_system *files);

#endif
