/* command_internal.h: what command.c and command_meta.c share. */
#ifndef CACHECASK_SRC_COMMAND_INTERNAL_H
#define CACHECASK_SRC_COMMAND_INTERNAL_H

#include "src/command.h"

/* A value, and what holds it. */
struct lookup {
    struct store_item item;
    struct store_fetch *fetch; /* may hold the value: until command_look_up_end */
};

/* Why a value is looked up. */
enum look_up_why {
    LOOK_UP_GET,  /* for a client who asks for it */
    LOOK_UP_PEEK, /* for anything else: nobody has accessed it then */
};

/* STORE_OK: lookup->item is set; end it with command_look_up_end or command_reply_value. STORE_AGAIN: wait (RUN_WAIT). Everything
 * else is a miss of some kind. */
enum store_status command_look_up(struct worker *worker, struct conn *conn,
                                  const struct store_key *key, enum look_up_why why,
                                  struct lookup *lookup);
void command_look_up_end(struct worker *worker, struct conn *conn, const struct lookup *lookup);

/* A hit: head, value and tail; ends the lookup. A large value is not copied: what holds it goes along. */
void command_reply_value(struct worker *worker, struct conn *conn, const struct request *request,
                         const struct reply *reply, const struct lookup *lookup);

/* store_put of the request's key, counted. */
enum store_status command_put(struct worker *worker, struct conn *conn, const struct slot *slot,
                              struct store_put *what);

/* The answer to a write that the store refused. REPLY_NONE: the command has to wait until room is made, and is run again
 * then. */
enum reply_status command_failure(struct worker *worker, struct conn *conn,
                                  enum store_status status);

/* The value of the request is too large; the answer, or REPLY_NONE: wait. */
enum reply_status command_refuse_too_large(struct worker *worker, struct conn *conn,
                                           const struct slot *slot);

/* append and prepend. */
struct join {
    bool append;
    uint64_t cas;     /* only if the item's is this; 0: whatever it is */
    uint64_t new_cas; /* 0: the store's choice */
};

/* What became of a write. */
struct stored {
    uint64_t cas;
    size_t size; /* of the value */
};

/* REPLY_STORED, *stored is set; REPLY_NOT_FOUND, REPLY_NOT_STORED, REPLY_EXISTS, what command_failure says, or REPLY_NONE: wait. */
enum reply_status command_join(struct worker *worker, struct conn *conn, const struct slot *slot,
                               const struct join *join, struct stored *stored);

/* incr and decr: 64 bits that wrap, down to 0. */
struct count {
    bool up;
    uint64_t delta;
    uint64_t cas;     /* as in struct join */
    uint64_t new_cas; /* as in struct join */
    bool touch;       /* expire_s is the new expiry; else the old one stays */
    uint32_t expire_s;
    bool create; /* what is missing begins with `initial` */
    uint64_t initial;
    uint32_t initial_expire_s;
};

struct counted {
    uint64_t number;
    uint64_t cas;
    uint32_t old_expire_s;
    bool begun; /* it was not there before */
};

/* REPLY_NUMBER: *counted is set; REPLY_NOT_FOUND, REPLY_EXISTS, REPLY_NON_NUMERIC, what command_failure says, or REPLY_NONE:
 * wait. */
enum reply_status command_count(struct worker *worker, struct conn *conn, const struct slot *slot,
                                const struct count *count, struct counted *counted);

static inline void command_count_get(struct counters *counters, bool hit)
{
    counter_add(&counters->cmd_get, 1);
    counter_add(hit ? &counters->get_hits : &counters->get_misses, 1);
}

static inline void command_count_touch(struct counters *counters, bool hit)
{
    counter_add(&counters->cmd_touch, 1);
    counter_add(hit ? &counters->touch_hits : &counters->touch_misses, 1);
}

/* The meta commands (command_meta.c). */
enum run_result command_run_meta(struct worker *worker, struct conn *conn, const struct slot *slot);

#endif
