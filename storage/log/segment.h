/* segment.h: one file of the log: its header, its life, and reading its records. See segment.c. */
#ifndef CACHECASK_STORAGE_LOG_SEGMENT_H
#define CACHECASK_STORAGE_LOG_SEGMENT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "storage/file.h"
#include "storage/log/record.h"
#include "storage/status.h"

#define SEGMENT_HEADER_SIZE 256
#define SEGMENT_SIZE_MIN    (UINT32_C(64) << 10)
#define SEGMENT_SIZE_MAX    (UINT32_C(1) << 31) /* 28 bits of offset, in units of 8 bytes */
#define SEGMENT_INDEXES_MAX (1 << 20)
#define SEGMENT_NAME_SIZE   32
#define SEGMENT_MASK_PUT    64                  /* bytes: a usual key's deletion */
#define SEGMENT_CLOSED      (UINT32_C(1) << 31) /* in segment.users: there is no descriptor */

/* What a segment's header says. In memory as on disk, bytes 8 to 111 of each copy. */
struct segment_header {
    uint32_t version;          /* of the format; set by segment_header_encode */
    uint32_t flush_deadline_s; /* of a pending flush; 0: none */
    uint8_t uuid[16];          /* of the store */
    uint64_t id;               /* counts up, never reused; names the file */
    uint64_t base_lsn;         /* LSN of the file's first byte */
    uint64_t epoch;            /* term of the writer: 0 on a single node */
    uint64_t created_s;        /* wall clock */
    uint64_t seed;             /* of the record checksums; random, known to nobody outside */
    uint64_t flush_lsn;        /* all before this LSN is flushed; 0: nothing is */
    uint64_t next_cas;         /* CAS uniques given before this segment are lower */
    uint64_t previous_id;      /* of the segment before it in the log; 0: none, or unknown */
    uint64_t log_end_lsn;      /* where the log ended in that one */
    uint64_t boot_id;          /* the machine's when this was made; 0: unknown */
};

enum segment_state {
    SEGMENT_ACTIVE, /* records are appended */
    SEGMENT_SEALED, /* never changes again */
    SEGMENT_DOOMED, /* nothing in it is needed; the file goes with the last pin */
};

struct hint_writer;

struct segment {
    struct segment_header header;
    uint32_t segment_index;    /* its number in locations: see location.h */
    int fd;                    /* for those whom `users` counts (S8); -1: closed */
    _Atomic uint32_t capacity; /* bytes allocated for the file */
    _Atomic uint32_t end;      /* bytes of log in it, the header's included */
    _Atomic int state;         /* enum segment_state */
    atomic_uint pins;          /* readers that need the file (S7) */
    _Atomic uint32_t users;    /* of the descriptor, or SEGMENT_CLOSED; see segment_files.c */
    /* Guarded by the lock of segment_files.c: */
    _Atomic bool recently_used;                  /* by any thread */
    bool closable;                               /* may be closed, or is */
    bool kept;                                   /* must not be closed any more */
    bool missing;                                /* could not be opened: reported */
    struct segment *clock_next, *clock_previous; /* of those that may be closed and are open */
    /* Of values that the keydir ever pointed to, and of those it no longer does. The first is
     * written under log.lock, or at startup, the second under the lock of the key's shard. */
    _Atomic uint64_t indexed_bytes, dead_bytes;
    /* Bytes that cleaning it may have to carry on, at most: of deletions, of TOUCHes, and of what
     * expired values leave. 0: none. A value counts once its key leaves the keydir for its expiry,
     * under its shard's lock, before the value counts as dead. */
    _Atomic uint32_t mask_bytes;
    struct hint_writer *hint_writer; /* the log's, then the background thread's; or NULL */
    bool hinted;                     /* its hint file is written, or will not be; under log.lock */
    _Atomic uint32_t hint_bytes;     /* of its hint file, which grows with it */
    /* The cleaner's own: */
    bool damaged;           /* it has live records that cannot be read, or had at startup */
    uint32_t failures;      /* in a row, of reclaiming it */
    uint64_t retry_us;      /* monotonic: not before this time again */
    uint64_t recounted_lsn; /* the log's end when its marks were counted; 0: never */
    struct segment *next, *previous; /* in the log; under log.lock */
    struct segment *next_doomed;
};

/* "0000000000000001.seg", ".hint" or ".tmp" of segment `id`. */
void segment_name(char name[SEGMENT_NAME_SIZE], uint64_t id, const char *suffix);

/* The id in a file name with that suffix, or 0 when it is no such name. */
uint64_t segment_id_of(const char *name, const char *suffix);

/* Opens, removes or renames the file of segment `id` with that suffix, as the system call does. */
int segment_open_file(const struct file_system *files, int dir_fd, uint64_t id, const char *suffix,
                      int flags);
int segment_unlink_file(const struct file_system *files, int dir_fd, uint64_t id,
                        const char *suffix);
int segment_rename_file(const struct file_system *files, int dir_fd, uint64_t id, const char *from,
                        const char *to);

/* A segment without a file (fd -1); NULL: no memory. Freeing closes the file, and keeps errno. */
struct segment *segment_new(void);
void segment_free(const struct file_system *files, struct segment *segment);

/* Makes the file of segment `id`, with `capacity` bytes allocated and its name durable. STORE_FULL
 * when the disk is; STORE_IO with errno. */
enum store_status segment_create(const struct file_system *files, int dir_fd, uint64_t id,
                                 uint32_t capacity, struct segment **out);

/* Opens the file of segment `id` and reads its header. STORE_OK; STORE_CORRUPT: both copies of the
 * header are damaged or blank (allocated ahead and never used); STORE_BAD_VERSION; STORE_IO with
 * errno: neither is valid, and at least one cannot be read. The caller compares the UUID. */
enum store_status segment_open(const struct file_system *files, int dir_fd, uint64_t id,
                               struct segment **out);

/* Writes both copies of the header to out[0..SEGMENT_HEADER_SIZE). */
void segment_header_encode(char *out, const struct segment_header *header);

/* A pin keeps the file readable (S7). It is taken under a lock that keeps the segment from being
 * doomed, such as a keydir shard's while an entry points into it. Any thread may unpin. */
static inline void segment_pin(struct segment *segment)
{
    atomic_fetch_add_explicit(&segment->pins, 1, memory_order_relaxed);
}

static inline void segment_unpin(struct segment *segment)
{
    atomic_fetch_sub_explicit(&segment->pins, 1, memory_order_release);
}

static inline bool segment_is_closed(const struct segment *segment)
{
    return atomic_load_explicit(&segment->users, memory_order_acquire) & SEGMENT_CLOSED;
}

/* Bytes of live values; of a sealed segment also without log.lock. Acquire: see store_mark_dead. */
static inline uint64_t segment_live_bytes(const struct segment *segment)
{
    uint64_t dead = atomic_load_explicit(&segment->dead_bytes, memory_order_acquire);
    uint64_t indexed = atomic_load_explicit(&segment->indexed_bytes, memory_order_relaxed);
    assert(dead <= indexed); /* what is dead was indexed before */
    return indexed - dead;
}

/* Counts what a deletion, a TOUCH or an expired value of `size` bytes may leave to be carried on
 * when its segment is cleaned. An expired value becomes a deletion, of a key of unknown size. */
static inline void segment_add_mark(struct segment *segment, uint8_t type, uint64_t size)
{
    if (type == RECORD_FLUSH)
        return;
    if (type == RECORD_PUT && size > SEGMENT_MASK_PUT)
        size = SEGMENT_MASK_PUT;
    atomic_fetch_add_explicit(&segment->mask_bytes, (uint32_t)size, memory_order_relaxed);
}

/* Reads a segment's records from front to back, in large reads. */
struct segment_cursor {
    const struct file_system *files;
    const struct segment *segment;
    char *buffer;
    size_t capacity;
    size_t len;         /* bytes in the buffer */
    uint64_t start;     /* offset in the segment of buffer[0] */
    uint64_t offset;    /* of the next record */
    uint64_t end;       /* where to stop */
    uint64_t data_end;  /* from here on the file system knows of zeros only */
    bool careful;       /* reads no more than it must: what is near may be unreadable */
    bool tolerant;      /* a bad block of the disk is damage, and no failure */
    bool unreadable;    /* some of the damage that was skipped last cannot be read, */
    int error;          /* and why */
    uint64_t near_bad;  /* up to here it reads page by page, */
    uint64_t very_near; /* and up to here no more than it must */
    bool skims;         /* long values are checked in pieces and not given: record->value is NULL */
    char key[256];      /* of such a record */
    bool keys_only; /* values that are not read with their keys are not checked: value is NULL */
};

enum cursor_status {
    CURSOR_RECORD, /* *record is valid, at *offset */
    /* Up to cursor->offset there is no valid record; a valid one or the end follows */
    CURSOR_DAMAGE,
    CURSOR_END,    /* nothing follows, or only zeros: cursor->offset is where the log ends */
    CURSOR_FAILED, /* the read failed (errno), or memory is out */
};

/* From the first record up to `end` bytes (0: all of the file; false with errno: not known). */
bool segment_cursor_init(struct segment_cursor *cursor, const struct file_system *files,
                         const struct segment *segment, uint64_t end);

/* *record views into the cursor's buffer until the next call. */
enum cursor_status segment_cursor_next(struct segment_cursor *cursor, struct record *record,
                                       uint32_t *offset);

/* Reads only the record at `offset`. CURSOR_RECORD; CURSOR_DAMAGE: not valid; CURSOR_FAILED. */
enum cursor_status segment_cursor_read(struct segment_cursor *cursor, uint64_t offset,
                                       struct record *record);

/* Leaves errno as it was. */
void segment_cursor_release(struct segment_cursor *cursor);

#endif
