/* power.h: a file layer whose power can fail.
 *
 * It works on a real directory, and remembers beside it what a disk would have: of each file the
 * bytes of its last sync, and of the directory the names of its last sync_dir. When the power
 * fails, at a step that was chosen before, every call from then on fails. power_restore then makes
 * of the directory one that a disk could have been left with:
 *
 *   - what was written and not synced is there, or not, or torn, in sectors or in pages, each for
 *     itself;
 *   - a length that was not synced is the old one, the new one, or one between;
 *   - of the names made, changed and removed since the last sync_dir any are done; only a rename is
 *     one thing.
 *
 * The disk may also fail a sync alone (power_drop_in). The kernel then drops some of the pages that
 * it was to write: they read as they are on disk. The others stay in the page cache, and count as
 * written although they are not: no later sync writes them, before they are written to again.
 *
 * So nothing is taken for granted of the order in which a file system writes, and nothing is
 * durable that was not synced by its own descriptor or by sync_dir. What was allocated and never
 * written is zeros, as in every file system. The storage maps no files into memory: all that
 * changes one goes through the layer.
 */
#ifndef CACHECASK_TESTS_UNIT_STORAGE_POWER_H
#define CACHECASK_TESTS_UNIT_STORAGE_POWER_H

#include "tests/unit/storage/support/faulty.h"
#include "tests/unit/storage/support/random.h"
#include "tests/unit/storage/support/temp_dir.h"

#define POWER_FDS   1024
#define POWER_NAMES 512

struct power_image; /* a file, by whatever names */

struct power_name {
    char name[NAME_LEN];
    struct power_image *now, *durable; /* NULL: no such file */
};

struct power_change;

struct power {
    struct faulty faulty; /* is off while the power is; its lock is for all below, too */
    const struct temp_dir *dir;
    struct rng rng;
    uint64_t steps;         /* calls that change something or sync */
    uint64_t off_at;        /* the step that fails; 0: none */
    uint64_t after_unlinks; /* so many more, and the power fails soon; 0: whenever */
    enum file_call off_in;  /* what it was */
    uint64_t drop_at;       /* so many more syncs that have something to write, and one fails */
    uint32_t drop_share;    /* of 8 pages that it was to write */
    bool drop_of_all;       /* files that are open */
    struct power_image *images, *open[POWER_FDS];
    struct power_name names[POWER_NAMES];
    uint32_t name_count;
    struct power_change *changes; /* of names since the last sync_dir */
    uint32_t change_count;
};

/* An empty directory. It stays the caller's. */
void power_init(struct power *power, const struct temp_dir *dir, uint64_t seed);
void power_release(struct power *power);

/* The power fails at the nth step from now on (1: the next; 0: never). Any thread. */
void power_fail_in(struct power *power, uint64_t steps);
void power_fail_after_unlinks(struct power *power, uint64_t unlinks); /* soon after the nth */
void power_cut(struct power *power);                                  /* now */
bool power_is_off(struct power *power);
uint64_t power_steps(struct power *power);

/* The nth sync from now on of a file with something to write fails, and of 8 pages so many are
 * dropped: of this file, or of all that are open. */
void power_drop_in(struct power *power, uint64_t syncs, uint32_t share, bool of_all);
bool power_has_dropped(struct power *power); /* it has */

/* The power comes back, and the disk has lost what it could. No file is open. */
void power_restore(struct power *power);

/* It was not the power that failed, only the process: nothing is lost, and nothing more durable
 * than it was. */
void power_revive(struct power *power);

#endif
