/* support.h: what the tests of storage/ share: directories that vanish, a file layer that fails on purpose, captured
 * messages, random numbers that can be had again, and a store with everything around it (struct fixture).
 *
 * What a helper cannot do ends the test program with a message: a test need not look at its result.
 */
#ifndef CACHECASK_TESTS_UNIT_STORAGE_SUPPORT_H
#define CACHECASK_TESTS_UNIT_STORAGE_SUPPORT_H

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "storage/file.h"
#include "storage/store.h"
#include "storage/report.h"

/* True in a build with the address or thread sanitizer: then tests do less of the same. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW_BUILD 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW_BUILD 1
#endif
#endif
#ifndef SLOW_BUILD
#define SLOW_BUILD 0
#endif

/* Ends the program: a helper met what no test wants to look at. */
_Noreturn __attribute__((format(printf, 1, 2))) void give_up(const char *format, ...);

/* Random numbers (splitmix64). */
struct rng {
    uint64_t state;
};

uint64_t rng_next(struct rng *rng);
uint32_t rng_below(struct rng *rng, uint32_t limit);
bool rng_one_in(struct rng *rng, uint32_t sides);

/* For store_options.random: the same bytes in each run of the program, as far as the order of calls is the same. */
void random_bytes(void *bytes, size_t len);

/* A number from the environment, or `otherwise`. */
uint64_t number_from_env(const char *name, uint64_t otherwise);

/* Directories. All lie in $TMPDIR or /var/tmp, whose file system is a real one. */
struct temp_dir {
    char path[256];
    int fd;
};

void temp_dir_make(struct temp_dir *dir);
void temp_dir_remove(struct temp_dir *dir);

/* A new directory with the files of another as they are now: what a kill -9 at this moment would leave. */
void temp_dir_copy(const struct temp_dir *from, struct temp_dir *to);

/* Whole files. The one read is the caller's to free. */
char *file_load(const struct temp_dir *dir, const char *name, size_t *len);
void file_save(const struct temp_dir *dir, const char *name, const void *data, size_t len);
bool file_exists(const struct temp_dir *dir, const char *name);
void file_flip_bit(const struct temp_dir *dir, const char *name, size_t byte, int bit);

/* Names with this suffix, in order; names[] has room for `max`. */
#define NAME_LEN 64
size_t files_with_suffix(const struct temp_dir *dir, const char *suffix, char (*names)[NAME_LEN],
                         size_t max);

/* The sizes of all files together. */
uint64_t temp_dir_bytes(const struct temp_dir *dir);

/* A digest of all names, owners, modes and bytes: unchanged means untouched. */
uint64_t temp_dir_digest(const struct temp_dir *dir);

/* What was told to the operator. Any thread. */
struct told {
    struct reporter reporter;
    pthread_mutex_t lock;
    uint32_t errors, warnings;
    char text[16384]; /* all lines */
};

void told_init(struct told *told);
void told_clear(struct told *told);
bool told_has(struct told *told, const char *words);

/* A file layer over the operating system's that counts and fails on purpose. */
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
    char name[NAME_LEN]; /* of what is unlinked */
};

typedef void file_watcher(enum file_call call, const char *name);

struct faulty {
    struct file_system files;
    pthread_rwlock_t
        frozen; /* held by whatever changes a file, and for writing by who wants a picture of all */
    pthread_mutex_t lock; /* all below, up to `watched` */
    uint64_t calls[CALL_KINDS];
    uint64_t fail_at[CALL_KINDS]; /* number of the first call that fails; 0: none */
    uint64_t fail_count[CALL_KINDS];
    int error[CALL_KINDS];
    bool short_io;     /* reads and writes do about half of what they are asked */
    bool never_cached; /* pread_nowait always answers EAGAIN */
    bool really_sync;  /* else syncs do nothing: a dead process needs none */
    char bad_name
        [NAME_LEN]; /* ends the names of files that cannot be read in these bytes; empty: all can */
    off_t bad_from, bad_to;
    int64_t
        space; /* bytes that may still be allocated, unlinks give some back; below 0: any number */
    size_t write_limit; /* a pwrite writes no more than so many bytes; 0: any number */
    uint32_t event_count;
    struct file_event
        events[CALLS_REMEMBERED]; /* writes, syncs (done), renames, unlinks, in order */
    pthread_rwlock_t watched;     /* held while `before` runs, and for writing by who sets it */
    file_watcher *before;
};

void faulty_init(struct faulty *faulty);

/* The nth call of a kind from now on (1: the next) fails, and so do the `times` - 1 after it. */
void faulty_fail(struct faulty *faulty, enum file_call call, uint64_t nth, uint64_t times,
                 int error);
void faulty_heal(struct faulty *faulty);
/* From now on files whose names end like this cannot be read where bytes [from, to) are: EIO. NULL: all can. */
void faulty_bad_place(struct faulty *faulty, const char *name, off_t from, off_t to);

uint64_t faulty_calls(struct faulty *faulty, enum file_call call);
void faulty_forget_events(struct faulty *faulty);

/* From now on `before` is called before each call that changes something or syncs, by several threads at a time and with none of
 * the locks above that a call takes: to look, or to dawdle. NULL: nobody is; and who was called has returned. */
void faulty_watch(struct faulty *faulty, file_watcher *before);

void faulty_set_space(struct faulty *faulty, int64_t bytes);

#define FOREVER UINT64_MAX

/* A store, its directory, its file layer, its messages, and one session of it. */
struct fixture {
    struct temp_dir dir;
    struct faulty faulty;
    struct told told;
    struct store_options options;
    struct store *store;
    struct store_session *session;
    sem_t woken;
    uint32_t now_s;
    bool manual_cleaner; /* the store is opened with store_open_manual */
    bool
        keep_ready; /* fixture_close leaves the segments that a clean stop keeps for the next start */
    bool use_readers; /* cold values come from the reader threads, and never from fetch_now */
    uint64_t cold;    /* gets that were */
};

#define FIXTURE_NOW UINT32_C(1000000)
#define SOON_MS     60000 /* what waits longer for a background thread has failed */

/* A small store (1 MiB, segments of 64 KiB, 16 shards, no syncs), not yet open: options may be changed. */
void fixture_init(struct fixture *fixture);
enum store_status fixture_try_open(struct fixture *fixture);
void fixture_open(struct fixture *fixture);
void fixture_close(struct fixture *fixture);  /* the store */
void fixture_reopen(struct fixture *fixture); /* cleanly */
void fixture_take_picture(struct fixture *fixture,
                          struct temp_dir *picture); /* what a kill -9 would leave */
void fixture_crash(
    struct fixture *fixture); /* closes the store, but goes on in what a kill -9 would have left */
void fixture_release(struct fixture *fixture); /* after a store_check */

/* Closes the store and goes on in a picture that temp_dir_copy has made of its directory. */
void fixture_go_on_in(struct fixture *fixture, const struct temp_dir *picture);

/* Ends the batch that the fixture's session is always in, commits it, and begins the next. */
enum store_status fixture_try_commit(struct fixture *fixture);
void fixture_commit(struct fixture *fixture);

/* The session, whose batch goes on at that second. */
struct store_session *at(struct store_session *session, uint32_t now_s);

/* As the store_ functions of these names, but they wait for room where those say STORE_WAIT_SPACE. */
enum store_status wait_put(struct store_session *session, const struct store_key *key,
                           uint32_t now_s, struct store_put *put);
enum store_status wait_delete(struct store_session *session, const struct store_key *key,
                              uint32_t now_s, enum store_condition condition, uint64_t location);
enum store_status wait_touch(struct store_session *session, const struct store_key *key,
                             uint32_t now_s, uint32_t expire_s, enum store_condition condition,
                             uint64_t location);
enum store_status wait_flush(struct store_session *session, uint32_t when_s, uint32_t now_s);

struct store_key fixture_key(const struct fixture *fixture, const char *key);

/* Gets a value, cold or hot. fetch begins with zeros and is released by the caller. */
enum store_status fixture_get(struct fixture *fixture, const struct store_key *key,
                              struct store_fetch *fetch, struct store_item *item);

/* One-liners for texts. Those that return nothing want STORE_OK. */
enum store_status fixture_try_put(struct fixture *fixture, const char *key, const char *value,
                                  uint32_t expire_s);
void fixture_put(struct fixture *fixture, const char *key, const char *value);
void fixture_put_until(struct fixture *fixture, const char *key, const char *value,
                       uint32_t expire_s);
void fixture_put_bytes(struct fixture *fixture, const char *key, const char *value, uint32_t len);
void fixture_delete(struct fixture *fixture, const char *key);
void fixture_touch(struct fixture *fixture, const char *key, uint32_t expire_s);
void fixture_flush(struct fixture *fixture, uint32_t when_s);
void fixture_expect(struct fixture *fixture, const char *key, const char *value); /* NULL: absent */
void fixture_expect_bytes(struct fixture *fixture, const char *key, const char *value,
                          uint32_t len);
uint64_t fixture_cas(struct fixture *fixture, const char *key);    /* 0: absent */
uint32_t fixture_expiry(struct fixture *fixture, const char *key); /* of a key that is there */
struct store_stats fixture_stats(struct fixture *fixture);

/* Waits until `done` says so; false when it never does. */
bool wait_until(bool (*done)(void *context), void *context);

/* Bytes that differ for each seed and each place. */
void fill_pattern(char *data, size_t len, uint64_t seed);

#endif
