/* internal.h: what the files of commands share. What is called for each get and set is inline
 * here. */
#ifndef CACHECASK_SRC_COMMAND_INTERNAL_H
#define CACHECASK_SRC_COMMAND_INTERNAL_H

#include "src/command/command.h"

/* Answers. */

/* What a status of the store is answered with: answer.c is the one place that knows. The first
 * three have other names in many commands:
 *
 *     REPLY_OK         done
 *     REPLY_NOT_FOUND  the key is absent; nothing else means that
 *     REPLY_EXISTS     the condition of a write does not hold
 *     REPLY_NONE       nothing is answered: client_is_held() now, and the command returns RUN_WAIT
 *     any other        an error, and the answer as it is
 */
enum reply_status command_answer_other(struct command_context *context, struct client *client,
                                       enum store_status status);

static inline enum reply_status command_answer(struct command_context *context,
                                               struct client *client, enum store_status status)
{
    return status == STORE_OK ? REPLY_OK : command_answer_other(context, client, status);
}

/* A write has found no space: the client waits (WAIT_SPACE), and its request is run again when
 * there may be some. False: it has waited for CLIENT_WAIT_MAX_S already, and is to be refused. */
bool command_wait_for_space(struct client *client);

/* Writes a reply. */
static inline void command_reply(struct command_context *context, struct client *client,
                                 const struct request *request, const struct reply *reply)
{
    struct output *output = &context->output;
    size_t len = reply_head(request, reply, output_at(output));
    client->out_bytes += len;
    output_wrote(output, len);
}

/* One that is nothing but its status. */
static inline void command_reply_status(struct command_context *context, struct client *client,
                                        const struct request *request, enum reply_status status)
{
    const struct reply reply = {.status = status};
    command_reply(context, client, request, &reply);
}

/* One of any status: REPLY_TEXT is its text, REPLY_NONE nothing. */
void command_say(struct command_context *context, struct client *client,
                 const struct request *request, const struct reply *reply);

/* Looking up: get.c. */

/* A value, and what holds it. */
struct lookup {
    struct store_item item;
    struct fetched *fetched; /* may hold the value: until command_look_up_end */
};

/* Why a value is looked up. */
enum look_up_why {
    LOOK_UP_GET,      /* for a client who asks for it */
    LOOK_UP_NO_TOUCH, /* for anything else: nobody has accessed it then */
};

/* As command_answer; REPLY_OK: lookup->item is set, and command_look_up_end or command_reply_value
 * ends it. A command that finds that others have changed the item since looks it up again, and so
 * do those that waited for its value; after COMMAND_LOOK_UPS_MAX of them the answer is
 * REPLY_CONTENDED. So no loop of "it has changed, look again" needs a bound of its own. */
#define COMMAND_LOOK_UPS_MAX 100
enum reply_status command_look_up(struct command_context *context, struct client *client,
                                  const struct store_key *key, enum look_up_why why,
                                  struct lookup *lookup);

/* As command_look_up, and the item's expiry is set to the request's. */
enum reply_status command_look_up_and_touch(struct command_context *context, struct client *client,
                                            const struct command *command, struct lookup *lookup);

static inline void command_look_up_end(const struct command_context *context, struct client *client,
                                       const struct lookup *lookup)
{
    struct fetched *fetched = lookup->fetched;
    if (fetched != context->fetches.scratch || fetched->fetch.segment)
        fetches_end(client, fetched);
}

/* A hit: head, value and tail; ends the lookup. A large value is not copied: what holds it goes
 * along. False: there is no memory for that, and nothing was written. */
bool command_reply_value(struct command_context *context, struct client *client,
                         const struct request *request, const struct reply *reply,
                         const struct lookup *lookup);

/* Writing: write.c. */

/* Whether a write on condition that nothing has changed must begin again: somebody was faster. */
static inline bool command_has_changed(enum store_status status)
{
    return status == STORE_EXISTS || status == STORE_NOT_FOUND;
}

/* A write that succeeds has found space. */
static inline void command_note_write(struct client *client, enum store_status status)
{
    if (status == STORE_OK)
        client->space_since_s = 0;
}

/* store_put, store_touch and store_delete of the request's key. */
static inline enum store_status command_put(struct command_context *context, struct client *client,
                                            const struct command *command, struct store_put *what)
{
    enum store_status status = store_put(context->session, &command->key, what);
    command_note_write(client, status);
    if (status == STORE_OK)
        counter_add(&context->counters.total_items, 1);
    return status;
}

static inline enum store_status command_touch(struct command_context *context,
                                              struct client *client, const struct command *command,
                                              uint32_t expire_s, enum store_condition condition,
                                              uint64_t location)
{
    enum store_status status =
        store_touch(context->session, &command->key, expire_s, condition, location);
    command_note_write(client, status);
    return status;
}

static inline enum store_status command_delete(struct command_context *context,
                                               struct client *client, const struct command *command,
                                               enum store_condition condition, uint64_t location)
{
    enum store_status status = store_delete(context->session, &command->key, condition, location);
    command_note_write(client, status);
    return status;
}

/* The value of the request is too large: the answer, as of command_answer. */
enum reply_status command_refuse_too_large(struct command_context *context, struct client *client,
                                           const struct command *command);

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

/* REPLY_OK, *stored is set; REPLY_NOT_FOUND, REPLY_NOT_STORED (too large), REPLY_EXISTS, or what
 * command_answer says. */
enum reply_status command_join(struct command_context *context, struct client *client,
                               const struct command *command, const struct join *join,
                               struct stored *stored);

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

/* REPLY_NUMBER: *counted is set; REPLY_NOT_FOUND, REPLY_EXISTS, REPLY_NON_NUMERIC, or what
 * command_answer says. (arithmetic.c) */
enum reply_status command_count(struct command_context *context, struct client *client,
                                const struct command *command, const struct count *count,
                                struct counted *counted);

/* Counters. REPLY_OK is a hit, REPLY_NOT_FOUND a miss; an error is neither. */
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

/* For those who watch; called only if watch_wants(). */
void command_tell_ran(struct command_context *context, const struct client *client,
                      const struct command *command);
void command_tell_got(struct command_context *context, const struct client *client,
                      const struct command *command, bool found, size_t value_len);
void command_tell_stored(struct command_context *context, const struct client *client,
                         const struct command *command, enum reply_status status);
void command_tell_deleted(struct command_context *context, const struct client *client,
                          const struct command *command, bool found);

/* The commands, by file. */
enum run_result get_run(struct command_context *context, struct client *client,
                        const struct command *command);
enum run_result write_run(struct command_context *context, struct client *client,
                          const struct command *command); /* set … cas, append, prepend */
enum run_result write_run_delete(struct command_context *context, struct client *client,
                                 const struct command *command);
enum run_result write_run_touch(struct command_context *context, struct client *client,
                                const struct command *command);
enum run_result write_run_flush(struct command_context *context, struct client *client,
                                const struct command *command);
enum run_result arithmetic_run(struct command_context *context, struct client *client,
                               const struct command *command);
enum run_result meta_run(struct command_context *context, struct client *client,
                         const struct command *command);

/* The commands that are about the server and not about items. */
enum run_result admin_run(struct command_context *context, struct client *client,
                          const struct request *request);

/* The groups of stats that switch something, or say that it is off: sets the answer, a text or
 * REPLY_OK. False: it is none of them. */
bool admin_switch_stats(struct command_context *context, struct bytes args, struct reply *reply);

/* stats and noop of the binary protocol. */
enum run_result binary_run(struct command_context *context, struct client *client,
                           const struct request *request);

/* How clients say who they are: a password of the text protocol, SASL of the binary one. */
enum run_result auth_run_password(struct command_context *context, struct client *client,
                                  const struct request *request);
enum run_result auth_run_sasl(struct command_context *context, struct client *client,
                              const struct request *request);

#endif
