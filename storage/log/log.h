/* log.h: the one log that all writes go to: reserve, copy, publish, commit, sync. See log.c.
 *
 * A position in the log is an LSN: bytes, 64 bits, never reused. Any thread may call these
 * functions, except those for the start.
 */
#ifndef CACHECASK_STORAGE_LOG_LOG_H
#define CACHECASK_STORAGE_LOG_LOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "storage/log/backpressure.h"
#include "storage/file.h"
#include "storage/log/hint.h"
#include "storage/base/histogram.h"
#include "storage/log/segment.h"
#include "storage/log/segment_files.h"
#include "storage/status.h"
#include "storage/report.h"

#define LOG_EXTENTS        16
#define LOG_READY          3 /* segments kept ready */
#define LOG_BUFFER_SIZE    (UINT64_C(2) << 20)
#define LOG_BUFFER_RECORDS 16384
#define LOG_READY_MAX      8 /* and with those made for a record larger than a segment */
#define LOG_SEGMENTS_MIN   32
#define LOG_SEGMENT_TINY   (UINT32_C(8) << 10) /* on a disk that is full: room for some deletions */

struct log_options {
    const struct file_system *files;
    int dir_fd;
    uint8_t uuid[16];
    uint64_t boot_id; /* for segment headers */
    uint32_t segment_size;
    uint32_t open_files;  /* descriptors that all files of the log may take together */
    int sync_interval_ms; /* 0: replies wait for the disk; below 0: only synced when asked for */
    /* Bytes on disk; beyond it only what is essential is allocated; see log_set_disk_limit */
    uint64_t disk_limit;
    struct reporter reporter; /* messages to the operator */
    void (*random)(void *bytes, size_t len);
    void (*on_synced)(void *context); /* log_synced_lsn has advanced, or a sync has failed */
    void (*on_sealed)(void *context); /* a segment waits for its hint file */
    void (*on_room)(void *context);   /* after STORE_WAIT_SPACE: try again */
    /* Whether more room may still be made; called with the log's lock held. NULL: no. */
    bool (*may_make_room)(void *context);
    /* What is known of records that the disk has dropped; called by the syncer without any lock.
     * NULL: nothing. `recall` writes a record as it was to `out`, which has room for the entry's
     * size, and returns its size; 0: it cannot. `lose` takes a value's key out of the index; false:
     * the key had another record. `find_values` visits the values that the index has in the
     * segment; their sizes may be rounded up. */
    size_t (*recall)(void *context, const struct segment *segment, const struct hint_entry *entry,
                     char *out);
    bool (*lose)(void *context, const struct segment *segment, const struct hint_entry *entry);
    bool (*find_values)(void *context, const struct segment *segment, hint_visit *visit,
                        void *visit_context);
    void *context;
};

/* What a failing disk has dropped, since it failed; the syncer's. */
struct log_dropped {
    uint64_t lost, restored; /* values; other records that it had dropped */
    uint64_t first_lsn;      /* of the first one lost; UINT64_MAX: none is */
    bool has_gaps;           /* and what lay there is not known */
};

/* Values of this size and more are not copied into a buffer, but written from where they are. */
#define LOG_OUTSIDE_MIN (UINT32_C(256) << 10)

struct log_outside {
    struct record_part value[RECORD_PARTS]; /* the first one is not empty */
    uint32_t head_len;                      /* of the record's header and key */
};

/* A piece of a buffer that belongs to one segment, and what follows it there. */
struct log_extent {
    struct segment *segment;
    size_t start;                             /* in the buffer */
    uint32_t offset;                          /* in the segment */
    uint32_t record;                          /* the first one's number in the buffer */
    struct record_part outside[RECORD_PARTS]; /* a large value */
    char *kept;                               /* a copy of it, if it could not be written */
};

/* What was appended and not yet written. Of two, one is filled while the other is written. */
struct log_buffer {
    char *data; /* LOG_BUFFER_SIZE bytes */
    size_t used;
    uint64_t outside;  /* bytes of the log that are not in data */
    uint64_t base_lsn; /* of data[0], when used is not 0 */
    uint32_t records;
    struct hint_entry *entries; /* of the records; LOG_BUFFER_RECORDS of them, memory as used */
    uint64_t cas_max;           /* highest CAS unique given */
    uint32_t extent_count;
    struct log_extent extents[LOG_EXTENTS];
    _Alignas(64) _Atomic uint32_t published; /* records that are whole */
};

/* What a record is written for. Each use leaves ready segments to the more essential ones, so that
 * deletions can empty a full disk, and their garbage can be cleaned (L6). */
enum log_use {
    LOG_NORMAL,   /* leaves two */
    LOG_DELETION, /* leaves one */
    LOG_CLEANING, /* leaves none; is never held, but asks itself (log_has_backpressure) */
};

/* Successive times in which clients waited for the disk. */
struct log_backpressure_episode {
    uint64_t times, waited_us; /* how often and how long, in sum */
    uint64_t sync_us;          /* the longest sync while they did */
    uint64_t end_us;           /* of the last one */
    bool reported;
};

struct log {
    struct log_options options;
    struct segment_files segment_files;
    struct segment **segments; /* by segment index; SEGMENT_INDEXES_MAX of them, memory as used */
    uint32_t index_count;      /* indexes ever used; 0 is never */
    uint32_t *free_indexes; /* those below index_count that are free, a stack; after `segments` */
    uint32_t free_index_count; /* both under `lock` */
    struct segment *first;     /* oldest */
    struct segment *doomed;    /* removed, but the file may still be read; by next_doomed */

    _Alignas(64) pthread_mutex_t lock; /* all below, up to write_lock; taken last of all locks */
    pthread_cond_t segment_wanted;     /* the allocator waits */
    enum log_use reserved; /* the active segment is for this use only, and more essential ones */
    bool room_wanted;      /* STORE_WAIT_SPACE was returned for want of a segment, */
    bool essential_wanted; /* to a deletion, */
    bool writers_wait;     /* or because writers are held */
    bool previous_unknown; /* segments are lost: the next one cannot say where the log ended */
    struct log_buffer *current; /* being filled */
    struct segment *active;
    struct segment *ready[LOG_READY_MAX]; /* allocated ahead: see enum log_use */
    uint32_t ready_count;
    uint32_t wanted_size;            /* of the next one, at least; 0: the usual size */
    uint32_t usual_size;             /* of a new segment: segment_size, or less on a small disk */
    uint32_t attempt_size;           /* the same, or less on a disk that has refused that */
    enum store_status create_status; /* of the last attempt to make one */
    uint32_t create_failures;        /* since one succeeded */
    uint64_t create_retry_us;        /* not before this time, unless something was freed */
    bool freed;                      /* since the last attempt */
    uint64_t next_segment_id;
    _Atomic uint64_t next_lsn; /* may be read without the lock */
    uint64_t start_lsn;        /* the first one of this run */
    uint64_t next_cas;
    uint32_t now_s;            /* the newest time passed in: what is due by it is done */
    uint64_t file_bytes;       /* of all segments, once the log has started; see log_disk_bytes */
    struct segment *hint_from; /* the first one whose hint file is neither written nor given up */
    struct segment *held_from; /* the first one that segment_files has not been given yet */
    bool stopping;

    _Alignas(64) pthread_mutex_t write_lock; /* one writer at a time; taken before `lock` */
    struct log_buffer buffers[2];
    struct log_buffer *stuck;  /* could not be written: kept until the disk works again */
    struct segment *sync_from; /* first segment that may hold unsynced bytes */

    /* All before is in the kernel, and survives the process; on disk, and survives the machine. */
    _Alignas(64) _Atomic uint64_t written_lsn;
    _Atomic uint64_t synced_lsn;
    _Atomic uint64_t sync_wanted_lsn;
    _Atomic bool failed; /* nothing is appended until a repair succeeds */
    _Atomic int hold;    /* enum backpressure_hold: why clients wait (L5); cleared under `lock` */
    struct backpressure backpressure;

    /* Read by every get: not on a cache line that commits write. */
    _Alignas(64) _Atomic uint64_t flush_lsn; /* all before is dead */
    _Atomic uint64_t flush_record_lsn; /* of the last FLUSH, which may be pending; or flush_lsn */
    /* The active segment, to be read without `lock`: log_active. */
    _Atomic uint64_t active_base_lsn;
    _Atomic uint32_t active_index;
    _Atomic uint32_t rolls;            /* odd while the two change */
    _Atomic uint32_t flush_deadline_s; /* of a pending flush; UINT32_MAX: none */
    _Atomic uint64_t disk_limit;       /* as configured */
    _Atomic uint64_t effective_limit;  /* and by the space on the disk: log_refresh_limit */

    _Alignas(64) pthread_mutex_t sync_lock;
    pthread_cond_t sync_cond;
    pthread_t allocator, syncer;
    bool threads;

    _Atomic uint64_t backpressure_since_us;  /* since when clients wait; */
    _Atomic uint64_t waited_us;              /* how long they did before */
    struct log_backpressure_episode episode; /* the syncer's */
    struct log_dropped dropped;
    _Atomic uint64_t lost_from_lsn, lost_to_lsn; /* between these some was lost unsynced */
    _Atomic uint64_t lost_values;                /* ever */
    _Atomic uint64_t end_bytes;  /* to be synced at the end, if much is; 0: it is not the end */
    uint64_t end_begin_us;       /* set before end_bytes */
    uint64_t end_reported_us;    /* when the rest was last reported */
    bool sync_unable;            /* the syncer's: a file could not be opened, it tries again soon */
    _Atomic uint64_t hint_bytes; /* of all hint files of segments in the log, once it has started */
    _Atomic uint64_t commits, commit_records, bytes_written, syncs;
    struct histogram sync_us;
};

/* Room for one record, filled by its owner: nothing after it is committed before log_publish. */
struct log_room {
    char *data; /* for all of it, or for header and key */
    struct segment *segment;
    uint32_t offset;
    uint64_t lsn;
    uint64_t cas; /* a new CAS unique */
    struct log_buffer *buffer;
};

/* For the start, in this order: init, adopt each segment that recovery found (oldest first), start.
 * If the disk is too full for a segment log_start returns STORE_OK, and the log is failed until
 * there is room. log_stop commits, syncs, ends the threads; false: not all is synced (reported). */
bool log_init(struct log *log, const struct log_options *options);
uint64_t log_free_space(const struct log *log); /* of the disk; UINT64_MAX: unknown */
bool log_adopt(struct log *log, struct segment *segment);
enum store_status log_start(struct log *log, uint64_t next_segment_id, uint64_t first_lsn,
                            uint64_t next_cas, uint32_t now_s);
bool log_stop(struct log *log);
void log_release(struct log *log);

#define LOG_RESTS_ON_NONE UINT64_MAX

/* Reserves room at the end of the log for the record that *entry describes (all but its offset);
 * the order of calls is the order of the log. The caller writes the record to room->data and then
 * calls log_publish, soon and without taking a lock in between. `rests_on` is the LSN of the record
 * that this one depends on, or LOG_RESTS_ON_NONE. A value of LOG_OUTSIDE_MIN bytes and more is not
 * copied: it is `outside` (else NULL), and must stay there until log_commit has returned, even if
 * that fails. Never waits for a file to be made, or for the disk. STORE_WAIT_SPACE: no room yet, or
 * the disk must catch up first, and on_room will be called; STORE_NOT_FOUND: a flush has killed
 * what it rests on; STORE_FULL; STORE_READ_ONLY. */
enum store_status log_reserve(struct log *log, const struct hint_entry *entry,
                              const struct log_outside *outside, enum log_use use,
                              uint64_t rests_on, uint32_t now_s, struct log_room *room);

static inline void log_publish(struct log_room *room)
{
    atomic_fetch_add_explicit(&room->buffer->published, 1, memory_order_release);
}

/* Appends a FLUSH record: everything before it is dead from now on (`when_s` 0), or at that second.
 * Replaces a pending flush, which is carried out first if it is due. *end_lsn is set for the
 * commit. Returns as log_reserve does. */
enum store_status log_flush(struct log *log, uint32_t when_s, uint32_t now_s, uint64_t *end_lsn);

/* Carries out a pending flush that is due, as log_reserve and log_flush do before anything else. If
 * the log takes nothing just now it stays due. */
void log_flush_if_due(struct log *log, uint32_t now_s);

/* Returns when all before `lsn` is written to the kernel. STORE_READ_ONLY: it cannot be. */
enum store_status log_commit(struct log *log, uint64_t lsn);

/* Asks for a sync of all before `lsn`; on_synced is called when log_synced_lsn reaches it. */
void log_request_sync(struct log *log, uint64_t lsn);

/* Takes a segment whose files are unlinked out of the log: nothing points into it any more. It
 * stays readable while it is pinned. log_reap frees those that are not, and returns how many are
 * left. For the cleaner's thread. */
void log_doom(struct log *log, struct segment *segment);
uint32_t log_reap(struct log *log);

/* Sets what the segment takes on disk, once it has its hint file, or will have none. */
void log_set_size(struct log *log, struct segment *segment, uint32_t capacity, uint32_t hint_bytes);

/* Segments that are synced and have their hint files need not stay open: lets go of any such. */
void log_let_files_go(struct log *log);

/* Checks what can be checked at any time, and aborts if it is broken. For tests. */
void log_check(struct log *log);

/* Bytes on disk of all segments (ready and doomed ones too) and their hint files. */
uint64_t log_disk_bytes(struct log *log);
uint64_t log_disk_bytes_locked(const struct log *log); /* with log->lock held */
void log_set_disk_limit(struct log *log, uint64_t bytes);

/* Determines and returns the effective limit: the configured one, or, if less, what we have and
 * what is free, except for a little. LOG_SEGMENTS_MIN new segments fit into it. */
uint64_t log_refresh_limit(struct log *log);

/* The smallest limit that can be kept to. */
#define LOG_LIMIT_MIN ((uint64_t)16 * SEGMENT_SIZE_MIN)

/* Whether the disk is full: it has refused a segment since anything was freed. With log->lock. */
bool log_met_full_disk(const struct log *log);

/* Continues in the next segment. False: the active one holds nothing, or none is ready. */
bool log_seal_active(struct log *log);

static inline uint64_t log_written_lsn(const struct log *log)
{
    return atomic_load_explicit(&log->written_lsn, memory_order_acquire);
}

static inline uint64_t log_synced_lsn(const struct log *log)
{
    return atomic_load_explicit(&log->synced_lsn, memory_order_acquire);
}

/* The segment at the end of the log at one moment of the call, and until log->rolls changes. */
struct log_active {
    uint64_t base_lsn;
    uint32_t segment_index;
    uint32_t rolls;
};

static inline struct log_active log_active(const struct log *log)
{
    for (;;) {
        struct log_active active;
        active.rolls = atomic_load_explicit(&log->rolls, memory_order_acquire);
        active.base_lsn = atomic_load_explicit(&log->active_base_lsn, memory_order_acquire);
        active.segment_index = atomic_load_explicit(&log->active_index, memory_order_acquire);
        if (active.rolls % 2 == 0 &&
            active.rolls == atomic_load_explicit(&log->rolls, memory_order_relaxed))
            return active;
    }
}

/* Whether writers wait for the disk to catch up. */
static inline bool log_has_backpressure(const struct log *log)
{
    return atomic_load_explicit(&log->hold, memory_order_relaxed) != BACKPRESSURE_NONE;
}

/* Whether a reply that waited for a sync must not be sent, because a loss may have taken what it
 * depends on. `lost_values` is log->lost_values when the first of that was appended. */
static inline bool log_may_have_lost(const struct log *log, uint64_t lsn, uint64_t lost_values)
{
    return lsn > atomic_load_explicit(&log->lost_from_lsn, memory_order_relaxed) &&
           (lsn <= atomic_load_explicit(&log->lost_to_lsn, memory_order_relaxed) ||
            lost_values != atomic_load_explicit(&log->lost_values, memory_order_relaxed));
}

static inline struct segment *log_segment(const struct log *log, uint32_t segment_index)
{
    return log->segments[segment_index];
}

#endif
