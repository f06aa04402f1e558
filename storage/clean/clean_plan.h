/* clean_plan.h: what the cleaner does next: a pure function of what it sees.
 *
 *     clean_plan_init ──▶ clean_plan_add, for each segment from the oldest on ──▶ clean_plan_choose
 */
#ifndef CACHECASK_STORAGE_CLEAN_CLEAN_PLAN_H
#define CACHECASK_STORAGE_CLEAN_CLEAN_PLAN_H

#include <stdbool.h>
#include <stdint.h>

struct segment;

enum clean_action {
    CLEAN_NOTHING,
    CLEAN_REMOVE,  /* a segment in which nothing must be kept goes unread */
    CLEAN_MOVE,    /* what a segment must keep is moved, and the segment goes */
    CLEAN_RECOUNT, /* the marks of a segment are counted: their number was an upper bound */
    /* The oldest segment is moved, although little of it is dead: marks elsewhere die of it */
    CLEAN_ROTATE,
    CLEAN_EVICT, /* the oldest segment goes, and of its values only some that were read live on */
    CLEAN_SEAL,  /* the active segment is sealed, so that it can be taken back */
};

enum clean_reason {
    CLEAN_ENOUGH_ROOM, /* nothing: the disk has room */
    CLEAN_EMPTY,       /* nothing in it is needed */
    CLEAN_GARBAGE,     /* most to gain for its age */
    CLEAN_MARKS,       /* deletions and the like take too much */
    CLEAN_OVER_SHARE,  /* live values take more than their share of the limit */
    CLEAN_DISK_FULL,   /* the same, where the disk has less for us than the limit says */
    CLEAN_INDEX_FULL,  /* keys take more than their share of memory */
    CLEAN_ROOM_WANTED, /* clients wait for room, and there is no garbage */
    CLEAN_NOT_SYNCED,  /* nothing: segments wait for their sync or their hint files */
    CLEAN_BACKING_OFF, /* nothing: what there is to do has failed a moment ago */
    CLEAN_NO_SPACE,    /* nothing: there is no room for the copies */
    CLEAN_NO_GARBAGE,  /* nothing: everything is live */
    CLEAN_LOG_FAILED,  /* nothing: the disk refuses writes */
    CLEAN_REASONS
};

/* "move", "garbage", …: for statistics. */
const char *clean_action_name(enum clean_action action);
const char *clean_reason_name(enum clean_reason reason);

/* The store as a whole. Sizes are in bytes. */
struct clean_view {
    uint64_t limit;        /* of the disk, or what the disk itself has for us */
    uint64_t disk;         /* of all files */
    uint64_t segment_size; /* of the next segment */
    uint64_t copy_room;    /* for copies, before anything was taken back */
    uint64_t wanted;       /* somebody waits for room for a record larger than a segment */
    uint64_t next_lsn;
    bool evicts;        /* a cache */
    bool disk_is_limit; /* the disk has less for us than the configured limit */
    bool room_wanted;   /* somebody waits for room on disk */
    bool index_full;    /* the keys take more than their share */
    bool index_wanted;  /* somebody waits for room in the index */
    bool can_seal;      /* the active segment holds records, and another one is ready */
    bool eager;         /* garbage is taken back although there is room */
};

/* A segment. */
struct clean_segment {
    struct segment *segment;
    uint64_t base_lsn;
    uint64_t end;      /* bytes of log in it */
    uint64_t overhead; /* of its hint file */
    uint64_t live;
    uint64_t marks;         /* bytes that cleaning it may have to carry on besides, at most */
    uint64_t recounted_lsn; /* the end of the log when its marks were counted; 0: never */
    bool active;
    bool ready;   /* sealed, synced, hinted */
    bool failed;  /* taking it back has failed a moment ago */
    bool damaged; /* parts cannot be read: it stays until it is the oldest and room is wanted */
    bool flushed; /* nothing in it is needed: a flush lies behind it */
};

struct clean_choice {
    enum clean_action action;
    enum clean_reason reason;
    struct segment *segment;
    bool oldest;        /* nothing lies before it */
    bool urgent;        /* no pauses */
    uint64_t rescue;    /* CLEAN_EVICT: bytes of visited values that may be moved */
    bool wants_sync;    /* more can be taken back when the log is synced */
    bool refuse;        /* who finds no room need not wait: there will be none */
    uint64_t growth;    /* by so many bytes values may grow before the next choice; 0: full */
    bool nearly_full;   /* that is less than a segment */
    uint64_t lsn;       /* as in the view: what was chosen is true so far */
    bool disk_is_limit; /* as in the view */
    uint64_t backlog;   /* garbage that should be gone */
};

struct clean_plan {
    struct clean_view view;
    uint64_t headroom; /* free when nothing is to be done */
    uint64_t live, used, marks;
    uint32_t count;                                      /* of segments */
    struct clean_segment oldest, empty, victim, recount; /* .segment NULL: there is none */
    double score;
    bool unready, backing_off, no_space;
};

void clean_plan_init(struct clean_plan *plan, const struct clean_view *view);
void clean_plan_add(struct clean_plan *plan, const struct clean_segment *segment);
struct clean_choice clean_plan_choose(const struct clean_plan *plan);

#endif
