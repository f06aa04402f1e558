/* segment_files.h: which segments have their files open, within a bound. See segment_files.c. */
#ifndef CACHECASK_STORAGE_LOG_SEGMENT_FILES_H
#define CACHECASK_STORAGE_LOG_SEGMENT_FILES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "storage/file.h"
#include "storage/log/segment.h"
#include "storage/status.h"
#include "storage/report.h"

/* So many segments may always be held open: an active one, ready ones, and some that wait for the
 * disk. */
#define SEGMENT_FILES_HELD_MIN 12

struct segment_files {
    const struct file_system *files;
    int dir_fd;
    struct reporter reporter;
    uint32_t budget; /* descriptors */

    /* Segments not let go; each counts for two: its hint file is open, too */
    _Atomic uint32_t held;
    _Atomic uint32_t kept; /* DOOMED ones */

    /* All below, and of segments what they say of it; taken last of all, and never while the disk
     * is asked. */
    pthread_mutex_t lock;
    struct segment *hand; /* of the clock of those that are open and may be closed; NULL: none is */
    uint32_t open;        /* of those, and of files being opened for them */
    uint64_t starved_us;  /* when no descriptor was to be had for the last time; 0: never */
};

/* `budget` is what all files of segments and hints may take together; a few dozen at least are
 * taken whatever it says. */
void segment_files_init(struct segment_files *table, const struct file_system *files, int dir_fd,
                        uint32_t budget, const struct reporter *reporter);
void segment_files_release(struct segment_files *table);

/* Between these two the descriptor of a segment stays open; the caller has a pin, or something else
 * that keeps the file there (S7). STORE_OK; STORE_IO with errno, which was reported: the file
 * cannot be opened. May wait for the disk. */
enum store_status segment_files_use(struct segment_files *table, struct segment *segment);
void segment_files_done(struct segment *segment);

/* The same without waiting. False: its file is closed. */
bool segment_files_try_use(struct segment *segment);

/* A segment is about to be made, whose files stay open; or it came to nothing. */
void segment_files_hold(struct segment_files *table);
void segment_files_unhold(struct segment_files *table);

/* Whether so many are held that the next must wait until some are on disk and let go. Any
 * thread. */
bool segment_files_over_share(const struct segment_files *table);

/* A segment that was held may be closed from now on: nothing will be written to it. Closes nothing
 * itself. */
void segment_files_let_go(struct segment_files *table, struct segment *segment);

/* The same for one that the start has found and opened, and which was never held. */
void segment_files_add(struct segment_files *table, struct segment *segment);

/* It must not be closed any more: its name goes. The caller is using it, if its file can be opened
 * at all. */
void segment_files_keep(struct segment_files *table, struct segment *segment);

/* Frees a segment that nobody knows any more, held or added, and closes its file. */
void segment_files_free(struct segment_files *table, struct segment *segment);

/* After a call of the file layer has failed with `error`, for the `tries`th time: true when that
 * was for want of a descriptor and one has been given back, so that it is worth another try. False
 * leaves errno at `error`. */
bool segment_files_make_way(struct segment_files *table, int error, int tries);

#endif
