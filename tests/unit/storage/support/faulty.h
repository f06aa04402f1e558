/* faulty.h: a file layer over the operating system's that counts calls, and fails on purpose. A
 * layer that changes more has this one as its first member, and replaces some of its functions. */
#ifndef CACHECASK_TESTS_UNIT_STORAGE_SUPPORT_FAULTY_H
#define CACHECASK_TESTS_UNIT_STORAGE_SUPPORT_FAULTY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "storage/file.h"
#include "tests/unit/storage/support/temp_dir.h"

enum file_call {
    CALL_OPEN,
    CALL_CLOSE,
    CALL_PREAD,
    CALL_PREAD_NOWAIT,
    CALL_PWRITE,
    CALL_SYNC,
    CALL_SYNC_DIR,
    CALL_ALLOCATE,
    CALL_TRUNCATE,
    CALL_SIZE,
    CALL_DATA_END,
    CALL_RENAME,
    CALL_LIST,
    CALL_UNLINK,
    CALL_REPLACE,
    CALL_KINDS
};

#define CALLS_REMEMBERED 4096

struct file_event {
    enum file_call call;
    int fd;
    off_t offset;
    size_t len;
    char name[NAME_LEN]; /* of an unlinked file */
};

typedef void file_watcher(enum file_call call, const char *name);

struct faulty {
    struct file_system files;
    pthread_rwlock_t frozen; /* held by every change of a file; for writing: to copy all files */
    pthread_mutex_t lock;    /* all below, up to `watched` */
    uint64_t calls[CALL_KINDS];
    uint64_t fail_at[CALL_KINDS]; /* number of the first call that fails; 0: none */
    uint64_t fail_count[CALL_KINDS];
    int error[CALL_KINDS];
    bool off;                /* every call fails with EIO */
    bool short_io;           /* reads and writes do about half of what they are asked for */
    bool never_cached;       /* pread_nowait always answers EAGAIN */
    bool really_sync;        /* else syncs do nothing: the death of a process loses no writes */
    char bad_name[NAME_LEN]; /* how the names of files with unreadable bytes end; empty: none */
    off_t bad_from, bad_to;
    int64_t space;      /* bytes that may still be allocated; below 0: any number */
    size_t write_limit; /* a pwrite writes at most this many bytes; 0: any number */
    uint32_t event_count;
    struct file_event events[CALLS_REMEMBERED]; /* writes, completed syncs, renames, unlinks */
    pthread_rwlock_t watched; /* held while `before` runs; for writing: to set it */
    file_watcher *before;
};

void faulty_init(struct faulty *faulty);

/* The nth call of a kind from now on (1: the next) fails, and so do the `times` - 1 after it. */
void faulty_fail(struct faulty *faulty, enum file_call call, uint64_t nth, uint64_t times,
                 int error);
void faulty_heal(struct faulty *faulty);

/* From now on reads of the bytes [from, to) fail with EIO in files whose names end like this.
 * NULL: in none. */
void faulty_bad_place(struct faulty *faulty, const char *name, off_t from, off_t to);

uint64_t faulty_calls(struct faulty *faulty, enum file_call call);
void faulty_forget_events(struct faulty *faulty);

/* From now on `before` is called before each call that changes something or syncs, by several
 * threads at once and with none of the locks above: to look, or to delay the call. NULL: none
 * is, and the previous one has returned. */
void faulty_watch(struct faulty *faulty, file_watcher *before);

void faulty_set_space(struct faulty *faulty, int64_t bytes);

#define FOREVER UINT64_MAX

#endif
