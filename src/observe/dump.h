/* dump.h: the listing of all keys for a client: lru_crawler metadump and mgdump. See dump.c. */
#ifndef CACHECASK_SRC_OBSERVE_DUMP_H
#define CACHECASK_SRC_OBSERVE_DUMP_H

#include "src/base/output.h"
#include "src/base/waker.h"

#define DUMP_CHUNKS 2 /* that wait to be sent */

struct clock;
struct dump;
struct store;

enum dump_form {
    DUMP_META,  /* a line about each key */
    DUMP_MG,    /* an mg command for each key */
    DUMP_CACHE, /* `stats cachedump`: key, length, expiry */
    DUMP_SIZES, /* `stats sizes`: how many items there are of each size */
};

/* The dump of a store; its thread is made when it is first wanted. NULL: no memory. */
struct dump *dump_new(struct store *store, const struct clock *clock);

/* Ends what runs, and refuses what comes later: before the workers stop. */
void dump_stop(struct dump *dump);
void dump_free(struct dump *dump);

enum dump_started {
    DUMP_STARTED, /* `waker` is called whenever dump_take may have something */
    DUMP_BUSY,    /* there is one already */
    DUMP_FAILED,  /* no thread */
};

/* At most `limit` keys; 0: all. */
enum dump_started dump_start(struct dump *dump, enum dump_form form, uint64_t limit,
                             struct waker waker);

enum dump_taken {
    DUMP_NOTHING, /* not yet */
    DUMP_CHUNK,   /* *piece is to be sent, and more will follow */
    DUMP_LAST,    /* *piece is to be sent, and that was all */
    DUMP_BROKEN,  /* it cannot go on; that was all */
};

/* For the thread that started it, until DUMP_LAST, DUMP_BROKEN or dump_abandon. Never waits. */
enum dump_taken dump_take(struct dump *dump, struct piece *piece);

/* The client has gone. */
void dump_abandon(struct dump *dump);

#endif
