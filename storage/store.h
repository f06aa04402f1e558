/* store.h: an embeddable, persistent key-value store with a cache: the header of libcachecask.
 *
 * A store keeps its keys in a data directory: all writes go to one append-only log, an index in
 * memory (19 bytes a key) knows where each key's last record lies, and hot values are in RAM. Any
 * number of stores can be open in one process.
 *
 * Threads. Each thread that works on the store has a session, and works in batches: between
 * store_enter and store_leave it runs any number of operations, and then store_commit makes its
 * writes survive the process, all with one system call. Found items are good until store_leave.
 *
 * Time is an argument of store_enter, and stands still during the batch: `now_s` is the wall clock
 * in seconds and never goes back between calls. Expiries are absolute seconds, 0 for never; an item
 * with an expiry of `now_s` or before is gone.
 *
 * Nothing waits for a disk read. STORE_WAIT_READ: a value is on disk, and the caller fetches it:
 *
 *     store_get ──STORE_WAIT_READ──▶ store_fetch_now ──STORE_OK──▶ store_get again, with the fetch
 *                                          │                           ▲
 *                                          │ STORE_WAIT_READ           │
 *                                          ▼                           │
 *             store_fetch_start, _submit … wake() … store_fetch_next ──┘
 *
 * Writes that depend on the old value (incr, append, cas) read it, compute, and put on condition
 * that it has not changed meanwhile (STORE_IF_SAME); else they begin again.
 */
#ifndef CACHECASK_STORAGE_STORE_H
#define CACHECASK_STORAGE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/file.h"
#include "storage/status.h"
#include "storage/report.h"

/* The index keeps addresses of 48 bits, and reserves the address space that it may need. */
_Static_assert(sizeof(void *) == 8 && sizeof(size_t) == 8, "cachecask needs a 64-bit system");

#define STORE_KEY_MAX          250
#define STORE_VALUE_MAX        (UINT32_C(1) << 30)
#define STORE_SEGMENT_SIZE_MIN (UINT32_C(64) << 10)
#define STORE_SEGMENT_SIZE_MAX (UINT32_C(1) << 30)
#define STORE_MEMORY_MIN       (UINT64_C(1) << 20)
#define STORE_OPEN_FILES_MIN   48

#define STORE_SYNC_NEVER       (-1) /* the kernel decides: a power failure loses data */
#define STORE_SYNC_ALWAYS      0    /* a write is acknowledged when it is on disk: store_durable */

struct store;

/* A value that is evicted: reported by the cleaner, just before it goes. */
struct store_evicted {
    const char *key;
    uint16_t key_len;
    bool fetched;        /* a get has hit it, as far as known */
    uint32_t accessed_s; /* last get, as far as known; 0: unknown */
    uint32_t expire_s;   /* 0: never */
    uint32_t value_len;
};

/* Who wants to know what is evicted. Both are called by the cleaner's thread, and must not wait. */
struct store_observer {
    void *context;
    bool (*wants_evicted)(void *context); /* keys are read from the disk only if it says so */
    void (*evicted)(void *context, const struct store_evicted *evicted);
};

struct store_session;
struct store_scan;

struct store_options {
    const struct file_system *files; /* NULL: the operating system */
    int dir_fd;                      /* the data directory, open; stays the caller's */
    const char *dir_name;            /* for messages */
    bool any_owner;                  /* of the directory: else it must be the user we run as */
    uint64_t memory_limit; /* bytes for index and hot values together, at least STORE_MEMORY_MIN */
    uint32_t segment_size; /* bytes of a file of the log, between the limits above */
    uint64_t disk_limit;  /* bytes of all files; 0: only the disk's own. See store_set_disk_limit */
    uint64_t clean_rate;  /* bytes a second that the cleaner may read; 0: as many as it needs */
    bool no_evictions;    /* a store: full is full; else a cache, which forgets its oldest data */
    int sync_interval_ms; /* or STORE_SYNC_NEVER, STORE_SYNC_ALWAYS */
    uint32_t shard_count; /* of the index; a power of two up to 65536; 0: 256 */
    uint32_t open_files;  /* for segments and hints; 0: 512; at least STORE_OPEN_FILES_MIN */
    uint32_t reader_threads; /* for values on disk; 0: 8 */
    bool no_uring;           /* they read all of them, also where the kernel has io_uring */
    uint32_t load_threads;   /* for the start; 0: as many as there are processors, up to 8 */
    uint32_t now_s;
    /* Differs after each start of the machine; 0: unknown. Where it is the same as before, no power
     * has failed, so all that was written is there. */
    uint64_t boot_id;
    struct store_observer observer; /* all NULL: nobody */
    struct reporter reporter;       /* where messages go; also says why store_open failed */
    void (*random)(void *bytes, size_t len); /* NULL: the operating system's */
    /* How far recovery has come (all_bytes 0: not known yet). Any thread; NULL: nobody asks. */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t all_bytes);
    void *progress_context;
};

/* Opens the store in options->dir_fd and recovers it; an empty directory becomes a new store. On
 * STORE_OK *out is set. Else nothing in the directory was touched, and options->reporter has said
 * why and what to do: STORE_IN_USE, STORE_BAD_VERSION, STORE_NOT_OURS, STORE_IO, STORE_FULL,
 * STORE_CORRUPT, STORE_NO_MEMORY. */
enum store_status store_open(struct store **out, const struct store_options *options);

/* Writes and syncs everything, reporting how much when that is much, and closes; all sessions are
 * freed before. False: all is written, but the disk refused to sync some of it, as reported. */
bool store_close(struct store *store);

/* Tells the crawler and the cleaner the time. Called about once a second, by any thread. */
void store_tick(struct store *store, uint32_t now_s);

/* A session for one thread; NULL: no memory. Any thread calls `wake` when store_fetch_next has
 * something, store_durable may have changed, or there is room after STORE_WAIT_SPACE; it must only
 * wake the session's thread. `wake_fd`: an eventfd to which the kernel writes when it has read a
 * value; -1: none. */
struct store_session *store_session_new(struct store *store, void (*wake)(void *context),
                                        void *context, int wake_fd);
void store_session_free(struct store_session *session);

/* Begins and ends a batch. Items of the batch are good until store_leave. */
void store_enter(struct store_session *session, uint32_t now_s);
void store_leave(struct store_session *session);

/* A key, hashed for one store. `data` stays the caller's. */
struct store_key {
    const char *data;
    uint16_t len;        /* 1 to STORE_KEY_MAX */
    uint16_t shard_bits; /* the low ones are the shard */
    uint32_t shard;
    uint64_t tag;
};

/* What an item is wanted for: its value, or only what a write needs to know of it. */
enum store_use { STORE_READS, STORE_REPLACES };

/* Hashes a key and begins to fetch its place in the index; store_prefetch, called for many keys
 * after that, begins to fetch their items. Where it answers false the key may be in a second place,
 * now on its way too, and store_prefetch_again, called after the others, fetches the item. Together
 * they take the waiting for memory out of a batch. */
void store_key_init(const struct store *store, struct store_key *key, const char *data, size_t len);
bool store_prefetch(const struct store *store, const struct store_key *key, enum store_use use);
void store_prefetch_again(const struct store *store, const struct store_key *key,
                          enum store_use use);

/* Bits of an item's state, which the store keeps and does not look at. */
enum store_state {
    STORE_STATE_STALE = 1 << 0, /* invalidated, but still to be had */
    STORE_STATE_WIN = 1 << 1,   /* somebody was told to make it anew */
};

/* What store_get found. */
struct store_item {
    const char *value;
    uint32_t value_len;
    uint32_t client_flags;
    uint32_t expire_s;
    uint32_t accessed_s; /* last get before this one, as far as known; 0: unknown */
    uint64_t cas;
    uint64_t location; /* tells whether it is still the same: for STORE_IF_SAME */
    uint16_t state;    /* of enum store_state, and bits of the store's own */
    bool fetched;      /* a get has hit it before, as far as known */
    bool in_ram;
};

/* A value on its way from disk. Begin with zeros; end with store_fetch_release after its return. */
struct store_fetch {
    uint64_t tag;
    uint64_t location;
    uint32_t shard;
    /* STORE_WAIT_READ until the bytes are there, then STORE_OK, STORE_IO or STORE_NO_MEMORY */
    enum store_status status;
    int error; /* STORE_IO: errno */
    char *data;
    size_t len;
    struct segment *segment; /* pinned */
    struct store_session *session;
    struct store_fetch *next; /* the store's while it is under way, else the caller's */
    uint64_t started_us;
};

/* Looks a key up. STORE_OK: *item is set, and good until store_leave (if it is not in_ram: until
 * the fetch is released). STORE_NOT_FOUND. STORE_WAIT_READ: *fetch says what to read; come again
 * with it. STORE_CORRUPT: the record on disk is damaged; counted, reporter, and the key is not
 * there any more. All else says nothing about the key: STORE_IO, the record cannot be read (or is
 * damaged, and that could not be written down); STORE_NO_MEMORY, for the fetch; STORE_READ_ONLY, it
 * is not on disk yet and the disk takes nothing. Coming again at once would bring the same.
 * Whatever the answer: a fetch that is not all zeros any more must be released in the end. */
enum store_status store_get(struct store_session *session, const struct store_key *key,
                            struct store_fetch *fetch, struct store_item *item);

/* As store_get, but it counts as no get: the item is not kept any longer for it. */
enum store_status store_get_no_touch(struct store_session *session, const struct store_key *key,
                                     struct store_fetch *fetch, struct store_item *item);

/* Bytes of memory that a value takes while it is fetched, after STORE_WAIT_READ: its record's. */
size_t store_fetch_size(const struct store_fetch *fetch);

/* Reads a cold value if that needs no disk: STORE_OK, or STORE_WAIT_READ. */
enum store_status store_fetch_now(struct store_session *session, struct store_fetch *fetch);

/* Reads it in the background, after store_fetch_submit; store_fetch_next has it after a wake. */
void store_fetch_start(struct store_session *session, struct store_fetch *fetch);
void store_fetch_submit(struct store_session *session);
struct store_fetch *store_fetch_next(struct store_session *session); /* NULL: none has come back */
void store_fetch_release(struct store_fetch *fetch);

/* Keeps the bytes of an item that is in_ram beyond store_leave, until store_unpin (any thread). */
void *store_pin(struct store_session *session, const struct store_item *item);
void store_unpin(void *pin);

enum store_condition {
    STORE_ANY,
    STORE_IF_ABSENT,  /* else STORE_EXISTS */
    STORE_IF_PRESENT, /* else STORE_NOT_FOUND */
    STORE_IF_SAME,    /* as store_get found it: else STORE_NOT_FOUND or STORE_EXISTS */
};

struct store_bytes {
    const char *data;
    uint32_t len;
};

struct store_put {
    enum store_condition condition;
    uint64_t location;           /* STORE_IF_SAME: the item's */
    struct store_bytes value[2]; /* the value is both, one behind the other */
    uint32_t client_flags;
    uint32_t expire_s;
    bool keep_expiry; /* the old item's expiry stays, whatever expire_s says */
    bool fetched;     /* it counts as hit by a get */
    uint16_t state;   /* of enum store_state */
    uint64_t cas;     /* in: chosen by the caller, 0: by the store; out: the item's */
};

/* Stores a value. STORE_OK (acknowledge it after store_commit); STORE_EXISTS or STORE_NOT_FOUND by
 * the condition; STORE_WAIT_SPACE: room is being made; commit, and come again after the next wake.
 * STORE_FULL: there is none to be made; STORE_READ_ONLY. */
enum store_status store_put(struct store_session *session, const struct store_key *key,
                            struct store_put *put);

/* The bytes that an item takes in the log. */
uint64_t store_item_size(uint32_t key_len, uint64_t value_len);

/* Deletes a key: STORE_OK, STORE_NOT_FOUND, STORE_EXISTS (STORE_IF_SAME), STORE_WAIT_SPACE,
 * STORE_FULL, STORE_READ_ONLY. */
enum store_status store_delete(struct store_session *session, const struct store_key *key,
                               enum store_condition condition, uint64_t location);

/* Sets a key's expiry; the CAS unique stays. The same expiry costs no disk. Counts as a get,
 * but for STORE_IF_SAME, which follows one. Answers as store_delete. */
enum store_status store_touch(struct store_session *session, const struct store_key *key,
                              uint32_t expire_s, enum store_condition condition, uint64_t location);

/* Makes everything stored before go away: at once (when_s 0 or not after now_s), or at that second,
 * then with all that is stored until then. A later flush takes the place of a pending one.
 * STORE_OK, STORE_WAIT_SPACE, STORE_FULL, STORE_READ_ONLY. */
enum store_status store_flush(struct store_session *session, uint32_t when_s);

/* What the session's answers since the last call rest on, misses and refusals included: they tell
 * of records before this LSN, and must not be sent before those are durable. 0: all of them are. */
uint64_t store_answer_lsn(struct store_session *session);

/* Writes all that the answers of this session rest on: after STORE_OK it survives the process.
 * Group commit: one write for all sessions that wait. STORE_READ_ONLY: it could not be written, and
 * must not be told. store_commit_lsn: up to there. */
enum store_status store_commit(struct store_session *session);
uint64_t store_commit_lsn(struct store_session *session);

/* After the commit, whether all before `lsn` survives the process, or with STORE_SYNC_ALWAYS the
 * machine: STORE_OK; STORE_WAIT_SYNC, and a wake follows; STORE_READ_ONLY. */
enum store_status store_durable(struct store_session *session, uint64_t lsn);

/* One key of the store for store_stats: the figures of `stats store`. */
struct store_stats {
    uint8_t uuid[16];
    uint64_t epoch, lsn, lsn_synced;
    uint64_t segments, segment_size, disk_bytes, disk_limit, live_bytes, dead_bytes;
    uint64_t keydir_entries, keydir_bytes;
    uint64_t cache_bytes, cache_pages, cache_items_evicted;
    uint64_t memory_limit;
    uint64_t ram_hits, disk_hits, disk_reads, uring_reads, disk_read_us_p50, disk_read_us_p99;
    uint64_t commits, commit_records, bytes_written, user_bytes, syncs, sync_us_p99, sync_held_us;
    uint64_t corrupt_records, read_errors, expired_items, flushed_items;
    uint64_t recovery_us, recovered_items;
    uint64_t cleaner_segments, cleaner_moved_bytes, cleaner_backlog_bytes;
    uint64_t evicted_items, evicted_unfetched, expired_unfetched;
    /* Of evicted_items: over the limit, on a disk that has less, for keys over their memory. */
    uint64_t evicted_disk_limit, evicted_disk_full, evicted_index;
    uint64_t disk_limit_effective; /* of the disk, or what the disk itself has for us */
    const char *cleaner_action, *cleaner_reason; /* the last decision of the cleaner, and why */
    /* Keydir entries looked at, passes through all, and what it found of expired_items. */
    uint64_t crawler_checked, crawler_passes, crawler_reclaimed;
    bool read_only;
};

void store_stats(struct store *store, struct store_stats *stats);

/* Changes options->memory_limit, in both directions; memory is given back in the background, and
 * what the index has already taken stays. False: more than the address space reserved at the start
 * (eight times the limit of then, at least 4 GiB, unless the system refused). Any thread. */
bool store_set_memory_limit(struct store *store, uint64_t bytes);

/* Changes options->disk_limit, in both directions: 0 for none. Beyond it a cache forgets its oldest
 * data, and a store refuses growth. The files may briefly take a segment more. Any thread. */
void store_set_disk_limit(struct store *store, uint64_t bytes);

/* Lists all keys that live, for operators. A listing belongs to one thread, which needs no session;
 * unlike everything else here it waits for reads from the disk. A key that lives from
 * store_scan_new to the end is listed once; one that is stored, deleted or expires meanwhile once
 * or not at all. Goes at full speed while no session enters a batch, and else keeps out of the way.
 * Takes 8 bytes for each key that is overwritten or moved before its turn comes, at most an eighth
 * of the memory limit (a sixth where the index is full). Ended before the store is closed; what
 * cannot be read is left out and then reported. */
struct store_scanned {
    char key[STORE_KEY_MAX];
    uint8_t key_len;
    bool fetched;        /* a get has hit it, as far as known */
    uint32_t expire_s;   /* 0: never */
    uint32_t accessed_s; /* 0: unknown */
    uint32_t client_flags;
    uint32_t value_len;
    uint64_t cas;
    uint64_t size; /* bytes in the log */
};

/* NULL: no memory, or there is a listing already. */
struct store_scan *store_scan_new(struct store *store);
void store_scan_free(struct store_scan *scan);

/* One step. STORE_OK: *out is the next key; STORE_MORE: none this time, go on; STORE_NOT_FOUND:
 * that was all; STORE_NO_MEMORY: the listing cannot go on. */
enum store_status store_scan_next(struct store_scan *scan, uint32_t now_s,
                                  struct store_scanned *out);

/* Checks the invariants of storage/README.md; aborts when one is broken. Slow: for tests. */
void store_check(struct store *store);

#endif
