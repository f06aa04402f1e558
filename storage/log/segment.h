/* segment.h: one file of the log: its header, its life, and reading records from it. See segment.c
 * for the format. */
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

/* What a segment's header says. */
struct segment_header {
    uint8_t uuid[16];          /* of the store */
    uint64_t id;               /* counts up, never reused; names the file */
    uint64_t base_lsn;         /* LSN of the file's first byte */
    uint64_t epoch;            /* term of the writer: 0 on a single node */
    uint64_t created_s;        /* wall clock */
    uint64_t seed;             /* of the record checksums; random, known to nobody outside */
    uint64_t flush_lsn;        /* all before this LSN is flushed; 0: nothing is */
    uint32_t flush_deadline_s; /* of a pending flush; 0: none */
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
    /* Who uses the descriptor just now, and SEGMENT_CLOSED. What follows is guarded by the lock of
     * segment_files.c. */
    _Atomic uint32_t users;
    _Atomic bool recently_used;                  /* by any thread */
    bool closable;                               /* may be closed, or is */
    bool kept;                                   /* must not be closed any more */
    bool missing;                                /* it could not be opened: reported */
    struct segment *clock_next, *clock_previous; /* of those that may be closed and are open */
    /* Of values the keydir has been pointed to, and of those that it points to no more: see
     * segment_live_bytes. The first is written under log.lock, or by the start; the second under
     * the lock of the key's shard. */
    _Atomic uint64_t indexed_bytes, dead_bytes;
    /* Bytes that cleaning it may have to carry on, at most: of deletions and TOUCHes, and of what
     * expired values leave behind. 0 means that there is none of these. A value counts from the
     * moment on in which its key leaves the keydir for its expiry, under its shard's lock, before
     * the value counts as dead. */
    _Atomic uint32_t mask_bytes;
    /* Of its hint file, if it grows with the segment; the log's, then the background thread's */
    struct hint_writer *hint_writer;
    bool hinted;                 /* its hint file is written, or will not be; under log.lock */
    _Atomic uint32_t hint_bytes; /* of its hint file, which grows with it */
    /* The cleaner's own: */
    /* It holds live records that cannot be read, or a start could not read all of it */
    bool damaged;
    uint32_t failures;               /* in a row, of taking it back */
    uint64_t retry_us;               /* monotonic: not before this time again */
    uint64_t recounted_lsn;          /* the log's end when its marks were counted; 0: never */
    struct segment *next, *previous; /* in the log; under log.lock */
    struct segment *next_doomed;
};

/* "0000000000000001.seg", ".hint" or ".tmp" of segment `id`. */
void segment_name(char name[SEGMENT_NAME_SIZE], uint64_t id, const char *suffix);

/* The id in a file name with that suffix, or 0 when it is no such name. */
uint64_t segment_id_of(const char *name, const char *suffix);

/* A segment in memory without a file (fd -1); freed by segment_free, which closes the file. NULL:
 * out of memory. */
struct segment *segment_new(void);
void segment_free(const struct file_system *files, struct segment *segment);

/* Makes the file of a segment of `capacity` bytes, allocated on disk and named durably; header->id
 * names it. STORE_FULL when the disk is; STORE_IO with errno. */
enum store_status segment_create(const struct file_system *files, int dir_fd, uint64_t id,
                                 uint32_t capacity, struct segment **out);

/* Opens the file of segment `id` and reads its header. STORE_OK; STORE_CORRUPT: both copies of the
 * header are damaged or blank (a segment allocated ahead and never used); STORE_BAD_VERSION;
 * STORE_IO with errno: neither is valid, and one or both cannot be read. The caller compares the
 * UUID. */
enum store_status segment_open(const struct file_system *files, int dir_fd, uint64_t id,
                               struct segment **out);

/* Writes both copies of the header to out[0..SEGMENT_HEADER_SIZE). */
void segment_header_encode(char *out, const struct segment_header *header);

/* A pin keeps the file readable; taken under a lock that keeps the segment from being doomed
 * meanwhile (a keydir shard's, while an entry points into it). segment_unpin by any thread. */
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

/* Bytes of what lives in it. For a sealed segment also without log.lock; acquire: see
 * store_mark_dead. */
static inline uint64_t segment_live_bytes(const struct segment *segment)
{
    uint64_t dead = atomic_load_explicit(&segment->dead_bytes, memory_order_acquire);
    uint64_t indexed = atomic_load_explicit(&segment->indexed_bytes, memory_order_relaxed);
    assert(dead <= indexed); /* what is dead was indexed before */
    return indexed - dead;
}

/* Counts what a deletion, a TOUCH or an expired value of `size` bytes may leave to be carried on
 * when its segment is cleaned. An expired value becomes a deletion, whose size depends on a key
 * that is not at hand. */
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
    bool unreadable;    /* of the damage that was stepped over last: some of it cannot be read */
    int error;          /* and why */
    uint64_t near_bad;  /* up to here it reads page by page, */
    uint64_t very_near; /* and up to here no more than it must */
    bool skims;         /* long values are checked in pieces and not given: record->value is NULL */
    char key[256];      /* of such a record */
    /* Values that do not come with their keys are neither read nor checked: record->value is NULL.
     * Where the disk fails, as little as possible is lost. */
    bool keys_only;
};

enum cursor_status {
    CURSOR_RECORD, /* *record is valid, at *offset */
    /* What lies from *offset to cursor->offset is no valid record; a valid one or the end
     * follows */
    CURSOR_DAMAGE,
    CURSOR_END,    /* nothing follows, or only zeros: cursor->offset is where the log ends */
    CURSOR_FAILED, /* the read failed (errno), or memory is out */
};

/* From the first record up to `end` bytes of the file (its whole length when 0). False with errno
 * when that is not known. */
bool segment_cursor_init(struct segment_cursor *cursor, const struct file_system *files,
                         const struct segment *segment, uint64_t end);

/* *record views into the cursor's buffer until the next call. */
enum cursor_status segment_cursor_next(struct segment_cursor *cursor, struct record *record,
                                       uint32_t *offset);

/* Reads the record at `offset` alone: CURSOR_RECORD, CURSOR_DAMAGE: there is no valid one, or
 * CURSOR_FAILED. */
enum cursor_status segment_cursor_read(struct segment_cursor *cursor, uint64_t offset,
                                       struct record *record);
void segment_cursor_release(struct segment_cursor *cursor);

#endif
