/* write.c: the commands that write values, take them away, or set their expiry.
 *
 * What depends on the old value (cas, append) reads it, computes, and puts on condition that it is
 * still the same; if another was faster, it begins again. A write that finds no space waits
 * (WAIT_SPACE) before it has changed anything.
 */
#define _GNU_SOURCE
#include <string.h>

#include "src/base/clock.h"
#include "src/command/internal.h"

/* A set, and an ms of any mode, takes the old value away, so that nobody reads what was to be
 * replaced. */
enum reply_status command_refuse_too_large(struct command_context *context, struct client *client,
                                           const struct command *command)
{
    enum store_status status = STORE_NOT_FOUND;
    if (command->request.op == OP_SET || command->request.op == OP_META_SET)
        status = command_delete(context, client, command, STORE_IF_PRESENT, 0);
    if (status != STORE_OK && status != STORE_NOT_FOUND)
        return command_answer(context, client, status);
    counter_add(&context->counters.store_too_large, 1);
    return REPLY_TOO_LARGE;
}

/* set, add, replace. */
static enum reply_status store_value(struct command_context *context, struct client *client,
                                     const struct command *command, struct reply *reply)
{
    const struct request *request = &command->request;
    struct store_put what = {
        .condition = request->op == OP_ADD       ? STORE_IF_ABSENT
                     : request->op == OP_REPLACE ? STORE_IF_PRESENT
                                                 : STORE_ANY,
        .value = {{request->value.data, (uint32_t)request->value.len}},
        .client_flags = request->client_flags,
        .expire_s = clock_expiry(request->exptime, context->now_s),
    };
    enum store_status status = command_put(context, client, command, &what);
    reply->cas = what.cas;
    if (command_has_changed(status))
        return REPLY_NOT_STORED; /* the condition does not hold */
    return command_answer(context, client, status);
}

/* cas. */
static enum reply_status store_if_unchanged(struct command_context *context, struct client *client,
                                            const struct command *command, struct reply *reply)
{
    const struct request *request = &command->request;
    struct lookup lookup;
    enum store_status status;
    do {
        enum reply_status found =
            command_look_up(context, client, &command->key, LOOK_UP_NO_TOUCH, &lookup);
        if (found != REPLY_OK)
            return found;
        uint64_t location = lookup.item.location;
        bool same = lookup.item.cas == request->cas;
        command_look_up_end(context, client, &lookup);
        if (!same)
            return REPLY_EXISTS;
        struct store_put what = {
            .condition = STORE_IF_SAME,
            .location = location,
            .value = {{request->value.data, (uint32_t)request->value.len}},
            .client_flags = request->client_flags,
            .expire_s = clock_expiry(request->exptime, context->now_s),
        };
        status = command_put(context, client, command, &what);
        reply->cas = what.cas;
    } while (command_has_changed(status));
    return command_answer(context, client, status);
}

enum reply_status command_join(struct command_context *context, struct client *client,
                               const struct command *command, const struct join *join,
                               struct stored *stored)
{
    const struct request *request = &command->request;
    struct store_bytes more = {request->value.data, (uint32_t)request->value.len};
    struct lookup lookup;
    enum store_status status;
    do {
        enum reply_status found =
            command_look_up(context, client, &command->key, LOOK_UP_NO_TOUCH, &lookup);
        if (found != REPLY_OK)
            return found;
        struct store_bytes old = {lookup.item.value, lookup.item.value_len};
        struct store_put what = {
            .condition = STORE_IF_SAME,
            .location = lookup.item.location,
            .value = {join->append ? old : more, join->append ? more : old},
            .client_flags = lookup.item.client_flags,
            .keep_expiry = true,
            .cas = join->new_cas,
        };
        bool same = !join->cas || join->cas == lookup.item.cas;
        bool fits = (uint64_t)old.len + more.len + command->key.len + ITEM_OVERHEAD <=
                    context->settings->item_size_max;
        status = fits && same ? command_put(context, client, command, &what) : STORE_OK;
        command_look_up_end(context, client, &lookup);
        if (!fits || !same)
            return same ? REPLY_NOT_STORED : REPLY_EXISTS;
        *stored = (struct stored){.cas = what.cas, .size = (size_t)old.len + more.len};
    } while (command_has_changed(status));
    return command_answer(context, client, status);
}

/* append, prepend. */
static enum reply_status store_joined(struct command_context *context, struct client *client,
                                      const struct command *command, struct reply *reply)
{
    struct join join = {.append = command->request.op == OP_APPEND, .cas = command->request.cas};
    struct stored stored = {0};
    enum reply_status status = command_join(context, client, command, &join, &stored);
    reply->cas = stored.cas;
    return status == REPLY_NOT_FOUND ? REPLY_NOT_STORED : status;
}

enum run_result write_run(struct command_context *context, struct client *client,
                          const struct command *command)
{
    struct reply reply = {0};
    if (command->request.flags & REQUEST_TOO_LARGE)
        reply.status = command_refuse_too_large(context, client, command);
    else if (command->request.op == OP_CAS)
        reply.status = store_if_unchanged(context, client, command, &reply);
    else if (command->request.op == OP_APPEND || command->request.op == OP_PREPEND)
        reply.status = store_joined(context, client, command, &reply);
    else
        reply.status = store_value(context, client, command, &reply);
    if (client_is_held(client))
        return RUN_WAIT;
    if (command->request.op == OP_CAS)
        command_count_cas(&context->counters, reply.status);
    if (reply.status == REPLY_OK)
        reply.status = REPLY_STORED;
    counter_add(&context->counters.cmd_set, 1);
    if (watch_wants(&context->watch))
        command_tell_stored(context, client, command, reply.status);
    command_reply(context, client, &command->request, &reply);
    return RUN_DONE;
}

/* A touch that shows what it has touched: flags and CAS unique. They lie in the record, so this one
 * looks it up. */
static enum reply_status touch_and_show(struct command_context *context, struct client *client,
                                        const struct command *command, struct reply *reply)
{
    struct lookup lookup;
    enum reply_status found = command_look_up_and_touch(context, client, command, &lookup);
    if (found != REPLY_OK)
        return found;
    reply->client_flags = lookup.item.client_flags;
    reply->cas = lookup.item.cas;
    command_look_up_end(context, client, &lookup);
    return REPLY_OK;
}

static enum reply_status touch(struct command_context *context, struct client *client,
                               const struct command *command)
{
    uint32_t expire_s = clock_expiry(command->request.exptime, context->now_s);
    return command_answer(context, client,
                          command_touch(context, client, command, expire_s, STORE_IF_PRESENT, 0));
}

enum run_result write_run_touch(struct command_context *context, struct client *client,
                                const struct command *command)
{
    struct reply reply = {0};
    reply.status = command->request.flags & REQUEST_CAS
                       ? touch_and_show(context, client, command, &reply)
                       : touch(context, client, command);
    if (client_is_held(client))
        return RUN_WAIT;
    command_count_touch(&context->counters, reply.status);
    if (reply.status == REPLY_OK)
        reply.status = REPLY_TOUCHED;
    command_reply(context, client, &command->request, &reply);
    if (watch_wants(&context->watch))
        command_tell_ran(context, client, command);
    return RUN_DONE;
}

/* delete with a CAS unique. */
static enum reply_status delete_if_unchanged(struct command_context *context, struct client *client,
                                             const struct command *command)
{
    struct lookup lookup;
    enum store_status status;
    do {
        enum reply_status found =
            command_look_up(context, client, &command->key, LOOK_UP_NO_TOUCH, &lookup);
        if (found != REPLY_OK)
            return found;
        uint64_t location = lookup.item.location;
        bool other = lookup.item.cas != command->request.cas;
        command_look_up_end(context, client, &lookup);
        if (other)
            return REPLY_EXISTS;
        status = command_delete(context, client, command, STORE_IF_SAME, location);
    } while (command_has_changed(status));
    return command_answer(context, client, status);
}

enum run_result write_run_delete(struct command_context *context, struct client *client,
                                 const struct command *command)
{
    struct counters *counters = &context->counters;
    enum reply_status status =
        command->request.cas
            ? delete_if_unchanged(context, client, command)
            : command_answer(context, client,
                             command_delete(context, client, command, STORE_IF_PRESENT, 0));
    if (client_is_held(client))
        return RUN_WAIT;
    command_count_found(&counters->delete_hits, &counters->delete_misses, status);
    if (watch_wants(&context->watch))
        command_tell_deleted(context, client, command, status == REPLY_OK);
    command_reply_status(context, client, &command->request,
                         status == REPLY_OK ? REPLY_DELETED : status);
    return RUN_DONE;
}

enum run_result write_run_flush(struct command_context *context, struct client *client,
                                const struct command *command)
{
    int64_t delay = command->request.exptime;
    uint32_t when = delay > 0 ? clock_deadline(delay, context->now_s) : 0;
    enum store_status status = store_flush(context->session, when);
    command_note_write(client, status);
    enum reply_status reply = command_answer(context, client, status);
    if (client_is_held(client))
        return RUN_WAIT;
    counter_add(&context->counters.cmd_flush, 1);
    if (reply == REPLY_OK)
        watch_system(&context->watch, "flush_all", "at", when ? when : context->now_s);
    command_reply_status(context, client, &command->request, reply);
    return RUN_DONE;
}
