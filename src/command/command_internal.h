/* command_internal.h: what command.c and command_meta.c share. */
#ifndef CACHECASK_SRC_COMMAND_COMMAND_INTERNAL_H
#define CACHECASK_SRC_COMMAND_COMMAND_INTERNAL_H

#include "src/command/command.h"

/* A value, and what holds it. */
struct lookup {
    struct store_item item;
    struct fetched *fetched; /* may hold the value: until command_look_up_end */
};

/* Why a value is looked up. */
enum look_up_why {
    LOOK_UP_GET,  /* for a client who asks for it */
    LOOK_UP_PEEK, /* for anything else: nobody has accessed it then */
};

/* What a status of the store is answered with: the one place that knows. The first three have other names in many commands:
 *
 *     REPLY_OK         done
 *     REPLY_NOT_FOUND  the key is absent; nothing else means that
 *     REPLY_EXISTS     the condition of a write does not hold
 *     REPLY_NONE       the command has to wait (RUN_WAIT); for room the connection is parked here
 *     any other        an error, and the answer as it is
 */
enum reply_status command_answer(struct worker *worker, struct conn *conn,
                                 enum store_status status);

/* As command_answer: REPLY_OK: lookup->item is set; end it with command_look_up_end or command_reply_value. A command that finds that
 * others have changed the item since looks it up again, and so do those that waited for its value; after COMMAND_LOOK_UPS_MAX of
 * them the answer is REPLY_CONTENDED. So no loop of "it has changed, look again" needs a bound of its own. */
#define COMMAND_LOOK_UPS_MAX 100
enum reply_status command_look_up(struct worker *worker, struct conn *conn,
                                  const struct store_key *key, enum look_up_why why,
                                  struct lookup *lookup);
void command_look_up_end(struct worker *worker, struct conn *conn, const struct lookup *lookup);

/* A hit: head, value and tail; ends the lookup. A large value is not copied: what holds it goes along. False: there is no memory for
 * that, and nothing was written. */
bool command_reply_value(struct worker *worker, struct conn *conn, const struct request *request,
                         const struct reply *reply, const struct lookup *lookup);

/* Whether a write on condition that nothing has changed must begin again: somebody was faster. */
static inline bool command_has_changed(enum store_status status)
{
    return status == STORE_EXISTS || status == STORE_NOT_FOUND;
}

/* store_put, store_touch and store_delete of the request's key: what they have written is committed before the answer goes out. */
enum store_status command_put(struct worker *worker, struct conn *conn, const struct slot *slot,
                              struct store_put *what);
enum store_status command_touch(struct worker *worker, struct conn *conn, const struct slot *slot,
                                uint32_t expire_s, enum store_condition condition,
                                uint64_t location);
enum store_status command_delete(struct worker *worker, struct conn *conn, const struct slot *slot,
                                 enum store_condition condition, uint64_t location);

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

/* REPLY_OK, *stored is set; REPLY_NOT_FOUND, REPLY_NOT_STORED (too large), REPLY_EXISTS, or what command_answer says. */
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

/* REPLY_NUMBER: *counted is set; REPLY_NOT_FOUND, REPLY_EXISTS, REPLY_NON_NUMERIC, or what command_answer says. */
enum reply_status command_count(struct worker *worker, struct conn *conn, const struct slot *slot,
                                const struct count *count, struct counted *counted);

/* REPLY_OK is a hit, REPLY_NOT_FOUND a miss; an error is neither. */
static inline void command_count_found(_Atomic uint64_t *hits, _Atomic uint64_t *misses,
                                       enum reply_status status)
{
    if (status == REPLY_OK)
        counter_add(hits, 1);
    else if (status == REPLY_NOT_FOUND)
        counter_add(misses, 1);
}

static inline void command_count_get(struct counters *counters, enum reply_status status)
{
    counter_add(&counters->cmd_get, 1);
    command_count_found(&counters->get_hits, &counters->get_misses, status);
}

static inline void command_count_touch(struct counters *counters, enum reply_status status)
{
    counter_add(&counters->cmd_touch, 1);
    command_count_found(&counters->touch_hits, &counters->touch_misses, status);
}

static inline void command_count_cas(struct counters *counters, enum reply_status status)
{
    command_count_found(&counters->cas_hits, &counters->cas_misses, status);
    if (status == REPLY_EXISTS)
        counter_add(&counters->cas_badval, 1);
}

/* The meta commands (command_meta.c). */
enum run_result command_run_meta(struct worker *worker, struct conn *conn, const struct slot *slot);

#endif
