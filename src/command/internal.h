/* internal.h: what the files of commands share; inline, what each get and set calls. */
#ifndef CACHECASK_SRC_COMMAND_INTERNAL_H
#define CACHECASK_SRC_COMMAND_INTERNAL_H

#include "src/base/clock.h"
#include "src/command/command.h"

/* Answers. */

/* The answer to a status of the store; only answer.c knows it. Many commands give the first three
 * other names:
 *
 *     REPLY_OK         done
 *     REPLY_NOT_FOUND  the key is absent; nothing else means that
 *     REPLY_EXISTS     the condition of a write does not hold
 *     REPLY_NONE       nothing is answered: client_is_held() now, and the command returns RUN_WAIT
 *     any other        an error, and the answer as it is
 */
enum reply_status command_answer_other(const struct command *command, enum store_status status);

static inline enum reply_status command_answer(const struct command *command,
                                               enum store_status status)
{
    return status == STORE_OK ? REPLY_OK : command_answer_other(command, status);
}

/* A write has found no space: the client waits (WAIT_SPACE), and its request is run again when
 * there may be some. False: it has waited for CLIENT_WAIT_MAX_S, and is refused. */
bool command_wait_for_space(struct client *client);

/* Writes a reply. */
static inline void command_reply(const struct command *command, const struct reply *reply)
{
    struct output *output = &command->client->context->output;
    size_t len = reply_head(&command->request, reply, output_at(output));
    command->client->out_bytes += len;
    output_wrote(output, len);
}

static inline void command_reply_status(const struct command *command, enum reply_status status)
{
    const struct reply reply = {.status = status};
    command_reply(command, &reply);
}

/* One of any status: REPLY_TEXT is its text, REPLY_NONE nothing. */
void command_say(const struct command *command, const struct reply *reply);

/* Looking up: get.c. */

struct lookup {
    struct store_item item;
    struct fetched *fetched; /* may hold the value: until command_look_up_end */
};

enum look_up_why {
    LOOK_UP_GET,      /* for a client that asks for the value */
    LOOK_UP_NO_TOUCH, /* for anything else: it does not count as an access */
};

/* As command_answer; REPLY_OK: lookup->item is set, until command_look_up_end or
 * command_reply_value. A command looks again when others have changed the item since, or when its
 * value has come from disk; after COMMAND_LOOK_UPS_MAX times the answer is REPLY_CONTENDED, so no
 * such loop needs a bound of its own. */
#define COMMAND_LOOK_UPS_MAX 100
enum reply_status command_look_up(const struct command *command, enum look_up_why why,
                                  struct lookup *lookup);

/* As command_look_up, and the item's expiry is set to the request's. */
enum reply_status command_look_up_and_touch(const struct command *command, struct lookup *lookup);

static inline void command_look_up_end(const struct command *command, const struct lookup *lookup)
{
    struct fetched *fetched = lookup->fetched;
    if (fetched != command->client->context->fetches.scratch || fetched->fetch.segment)
        fetches_end(command->client, fetched);
}

/* A hit: head, value and tail; ends the lookup. A large value is sent from where it lies. False: no
 * memory for that; nothing was written. */
bool command_reply_value(const struct command *command, const struct reply *reply,
                         const struct lookup *lookup);

/* Writing: write.c. */

/* Whether the condition of a write did not hold, because somebody was faster: it begins again. */
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

/* The put of the request's value, with its flags and expiry. */
static inline struct store_put command_value(const struct command *command,
                                             enum store_condition condition)
{
    const struct request *request = &command->request;
    return (struct store_put){
        .condition = condition,
        .value = {{request->value.data, (uint32_t)request->value.len}},
        .client_flags = request->client_flags,
        .expire_s = clock_expiry(request->exptime, command->client->context->now_s),
    };
}

/* store_put, store_touch and store_delete of the request's key. */
static inline enum store_status command_put(const struct command *command, struct store_put *what)
{
    struct command_context *context = command->client->context;
    enum store_status status = store_put(context->session, &command->key, what);
    command_note_write(command->client, status);
    if (status == STORE_OK)
        counter_add(&context->counters.total_items, 1);
    return status;
}

static inline enum store_status command_touch(const struct command *command, uint32_t expire_s,
                                              enum store_condition condition, uint64_t location)
{
    enum store_status status = store_touch(command->client->context->session, &command->key,
                                           expire_s, condition, location);
    command_note_write(command->client, status);
    return status;
}

static inline enum store_status command_delete(const struct command *command,
                                               enum store_condition condition, uint64_t location)
{
    enum store_status status =
        store_delete(command->client->context->session, &command->key, condition, location);
    command_note_write(command->client, status);
    return status;
}

/* The value of the request is too large: the answer, as of command_answer. */
enum reply_status command_refuse_too_large(const struct command *command);

/* The result of a write. */
struct stored {
    uint64_t cas;
    size_t size; /* of the value */
};

/* append, prepend, and ms in modes A and P. REPLY_OK: *stored is set; REPLY_NOT_FOUND,
 * REPLY_NOT_STORED (too large), REPLY_EXISTS, or what command_answer says. */
enum reply_status command_join(const struct command *command, struct stored *stored);

/* How a request counts, beyond what all of them say in the same way. */
struct count {
    bool up;
    bool touch;  /* expire_s is the new expiry; else the old one stays */
    bool create; /* a missing counter begins with the request's `initial` */
    uint32_t expire_s, initial_expire_s;
    uint64_t new_cas; /* 0: the store's choice */
};

struct counted {
    uint64_t number;
    uint64_t cas;
    uint32_t old_expire_s;
    bool begun; /* it was not there before */
};

/* incr, decr and ma: 64 bits that wrap upwards and stop at 0 downwards. REPLY_NUMBER: *counted is
 * set; REPLY_NOT_FOUND, REPLY_EXISTS, REPLY_NON_NUMERIC, or what command_answer says.
 * (arithmetic.c) */
enum reply_status command_count(const struct command *command, const struct count *count,
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
void command_tell_ran(const struct command *command);
void command_tell_got(const struct command *command, bool found, size_t value_len);
void command_tell_stored(const struct command *command, enum reply_status status);
void command_tell_deleted(const struct command *command, bool found);

/* The commands, by file. */
enum run_result get_run(const struct command *command);
enum run_result write_run(const struct command *command); /* set … cas, append, prepend */
enum run_result write_run_delete(const struct command *command);
enum run_result write_run_touch(const struct command *command);
enum run_result write_run_flush(const struct command *command);
enum run_result arithmetic_run(const struct command *command);
enum run_result meta_run(const struct command *command);
enum run_result admin_run(const struct command *command);

enum run_result binary_run_stats(const struct command *command);
enum run_result auth_run_password(const struct command *command);
enum run_result auth_run_sasl(const struct command *command);

/* Groups of stats that switch something: sets the answer, a text or REPLY_OK. False: it is none of
 * them. */
bool admin_switch_stats(struct command_context *context, struct bytes args, struct reply *reply);

#endif
