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

/* May always be held open: the active segment, ready ones, some that wait for the disk. */
#define SEGMENT_FILES_HELD_MIN 12

struct segment_files {
    const struct file_system *files;
    int dir_fd;
    struct reporter reporter;
    uint32_t budget; /* descriptors */

    /* Segments not let go; each counts for two: its hint file is open, too */
    _Atomic uint32_t held;
    _Atomic uint32_t kept; /* DOOMED ones */

    pthread_mutex_t lock; /* of all below; taken last of all, and never held during a system call */
    struct segment *hand; /* of the clock of those that are open and may be closed; NULL: none is */
    uint32_t open;        /* of those, and of files being opened for them */
    uint64_t starved_us;  /* when descriptors were last short; 0: never */
};

/* `budget`: descriptors of all segments and hint files; a few dozen are taken in any case. */
void segment_files_init(struct segment_files *table, const struct file_system *files, int dir_fd,
                        uint32_t budget, const struct reporter *reporter);
void segment_files_release(struct segment_files *table);

/* Between these two the descriptor of a segment stays open; the caller has a pin, or something else
 * that keeps the file there (S7). STORE_OK; STORE_IO with errno, which was reported: the file
 * cannot be opened. May wait for the disk. segment_files_done leaves errno as it was. */
enum store_status segment_files_use(struct segment_files *table, struct segment *segment);
void segment_files_done(struct segment *segment);

/* The same without waiting. False: its file is closed. */
bool segment_files_try_use(struct segment *segment);

/* A segment, whose files stay open, is about to be made; or it could not be. */
void segment_files_hold(struct segment_files *table);
void segment_files_unhold(struct segment_files *table);

/* Whether too many are held to make another before some are let go. Any thread. */
bool segment_files_over_share(const struct segment_files *table);

/* A held segment may be closed from now on: it is written to no more. Closes nothing itself. */
void segment_files_let_go(struct segment_files *table, struct segment *segment);

/* The same for one that was found and opened at startup, and never held. */
void segment_files_add(struct segment_files *table, struct segment *segment);

/* It must not be closed any more: its name is removed. The caller uses it, if it can be opened. */
void segment_files_keep(struct segment_files *table, struct segment *segment);

/* Frees a segment that is no longer referenced, held or added, and closes its file. */
void segment_files_free(struct segment_files *table, struct segment *segment);

/* After a call of the file layer has failed with `error`, for the `tries`th time: true if that was
 * for want of a descriptor, and one has been given back, so it is worth another try; else errno is
 * `error`. */
bool segment_files_make_way(struct segment_files *table, int error, int tries);

/* segment_open_file, which makes way for itself. */
int segment_files_open(struct segment_files *table, uint64_t id, const char *suffix, int flags);

#endif
