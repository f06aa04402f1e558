/* write.c: the commands that write values, take them away, or set their expiry.
 *
 * What depends on the old value (cas, append) reads it, computes, and puts on condition that it is
 * still the same; if another was faster, it begins again. A write that finds no space waits
 * (WAIT_SPACE) before it has changed anything.
 */
#define _GNU_SOURCE
#include "src/command/internal.h"

/* A set, and an ms of any mode, takes the old value away, so that nobody reads what was to be
 * replaced. */
enum reply_status command_refuse_too_large(const struct command *command)
{
    enum store_status status = STORE_NOT_FOUND;
    if (command->request.op == OP_SET || command->request.op == OP_META_SET)
        status = command_delete(command, STORE_IF_PRESENT, 0);
    if (status != STORE_OK && status != STORE_NOT_FOUND)
        return command_answer(command, status);
    counter_add(&command->client->context->counters.store_too_large, 1);
    return REPLY_TOO_LARGE;
}

/* set, add, replace. */
static enum reply_status store_value(const struct command *command, struct reply *reply)
{
    enum request_op op = command->request.op;
    struct store_put what = command_value(command, op == OP_ADD       ? STORE_IF_ABSENT
                                                   : op == OP_REPLACE ? STORE_IF_PRESENT
                                                                      : STORE_ANY);
    enum store_status status = command_put(command, &what);
    reply->cas = what.cas;
    if (command_has_changed(status))
        return REPLY_NOT_STORED; /* the condition does not hold */
    return command_answer(command, status);
}

/* REPLY_OK: the item's CAS unique is the request's, and *location is the item's. */
static enum reply_status look_up_same(const struct command *command, uint64_t *location)
{
    struct lookup lookup;
    enum reply_status found = command_look_up(command, LOOK_UP_NO_TOUCH, &lookup);
    if (found != REPLY_OK)
        return found;
    bool same = lookup.item.cas == command->request.cas;
    *location = lookup.item.location;
    command_look_up_end(command, &lookup);
    return same ? REPLY_OK : REPLY_EXISTS;
}

/* cas. */
static enum reply_status store_if_same(const struct command *command, struct reply *reply)
{
    enum store_status status;
    do {
        struct store_put what = command_value(command, STORE_IF_SAME);
        enum reply_status found = look_up_same(command, &what.location);
        if (found != REPLY_OK)
            return found;
        status = command_put(command, &what);
        reply->cas = what.cas;
    } while (command_has_changed(status));
    return command_answer(command, status);
}

enum reply_status command_join(const struct command *command, struct stored *stored)
{
    const struct request *request = &command->request;
    bool meta = request->flags & REQUEST_META;
    bool append = meta ? request->mode == 'A' : request->op == OP_APPEND;
    struct store_bytes more = {request->value.data, (uint32_t)request->value.len};
    struct lookup lookup;
    enum store_status status;
    do {
        enum reply_status found = command_look_up(command, LOOK_UP_NO_TOUCH, &lookup);
        if (found != REPLY_OK)
            return found;
        struct store_bytes old = {lookup.item.value, lookup.item.value_len};
        struct store_put what = {
            .condition = STORE_IF_SAME,
            .location = lookup.item.location,
            .value = {append ? old : more, append ? more : old},
            .client_flags = lookup.item.client_flags,
            .keep_expiry = true,
            .cas = meta ? request->new_cas : 0,
        };
        bool same = !request->cas || request->cas == lookup.item.cas;
        bool fits = (uint64_t)old.len + more.len + command->key.len + ITEM_OVERHEAD <=
                    command->client->context->settings->item_size_max;
        status = fits && same ? command_put(command, &what) : STORE_OK;
        command_look_up_end(command, &lookup);
        if (!fits || !same)
            return same ? REPLY_NOT_STORED : REPLY_EXISTS;
        *stored = (struct stored){.cas = what.cas, .size = (size_t)old.len + more.len};
    } while (command_has_changed(status));
    return command_answer(command, status);
}

/* append, prepend. */
static enum reply_status store_joined(const struct command *command, struct reply *reply)
{
    struct stored stored = {0};
    enum reply_status status = command_join(command, &stored);
    reply->cas = stored.cas;
    return status == REPLY_NOT_FOUND ? REPLY_NOT_STORED : status;
}

enum run_result write_run(const struct command *command)
{
    struct command_context *context = command->client->context;
    struct reply reply = {0};
    if (command->request.flags & REQUEST_TOO_LARGE)
        reply.status = command_refuse_too_large(command);
    else if (command->request.op == OP_CAS)
        reply.status = store_if_same(command, &reply);
    else if (command->request.op == OP_APPEND || command->request.op == OP_PREPEND)
        reply.status = store_joined(command, &reply);
    else
        reply.status = store_value(command, &reply);
    if (client_is_held(command->client))
        return RUN_WAIT;
    if (command->request.op == OP_CAS)
        command_count_cas(&context->counters, reply.status);
    if (reply.status == REPLY_OK)
        reply.status = REPLY_STORED;
    counter_add(&context->counters.cmd_set, 1);
    if (watch_wants(&context->watch))
        command_tell_stored(command, reply.status);
    command_reply(command, &reply);
    return RUN_DONE;
}

/* A touch that shows what it has touched: flags and CAS unique. They lie in the record, so this one
 * looks it up. */
static enum reply_status touch_and_show(const struct command *command, struct reply *reply)
{
    struct lookup lookup;
    enum reply_status found = command_look_up_and_touch(command, &lookup);
    if (found != REPLY_OK)
        return found;
    reply->client_flags = lookup.item.client_flags;
    reply->cas = lookup.item.cas;
    command_look_up_end(command, &lookup);
    return REPLY_OK;
}

static enum reply_status touch(const struct command *command)
{
    uint32_t expire_s = clock_expiry(command->request.exptime, command->client->context->now_s);
    return command_answer(command, command_touch(command, expire_s, STORE_IF_PRESENT, 0));
}

enum run_result write_run_touch(const struct command *command)
{
    struct command_context *context = command->client->context;
    struct reply reply = {0};
    reply.status =
        command->request.flags & REQUEST_CAS ? touch_and_show(command, &reply) : touch(command);
    if (client_is_held(command->client))
        return RUN_WAIT;
    command_count_touch(&context->counters, reply.status);
    if (reply.status == REPLY_OK)
        reply.status = REPLY_TOUCHED;
    command_reply(command, &reply);
    if (watch_wants(&context->watch))
        command_tell_ran(command);
    return RUN_DONE;
}

/* delete with a CAS unique. */
static enum reply_status delete_if_same(const struct command *command)
{
    enum store_status status;
    do {
        uint64_t location;
        enum reply_status found = look_up_same(command, &location);
        if (found != REPLY_OK)
            return found;
        status = command_delete(command, STORE_IF_SAME, location);
    } while (command_has_changed(status));
    return command_answer(command, status);
}

enum run_result write_run_delete(const struct command *command)
{
    struct command_context *context = command->client->context;
    struct counters *counters = &context->counters;
    enum reply_status status =
        command->request.cas
            ? delete_if_same(command)
            : command_answer(command, command_delete(command, STORE_IF_PRESENT, 0));
    if (client_is_held(command->client))
        return RUN_WAIT;
    command_count_found(&counters->delete_hits, &counters->delete_misses, status);
    if (watch_wants(&context->watch))
        command_tell_deleted(command, status == REPLY_OK);
    command_reply_status(command, status == REPLY_OK ? REPLY_DELETED : status);
    return RUN_DONE;
}

enum run_result write_run_flush(const struct command *command)
{
    struct command_context *context = command->client->context;
    int64_t delay = command->request.exptime;
    uint32_t when = delay > 0 ? clock_deadline(delay, context->now_s) : 0;
    enum store_status status = store_flush(context->session, when);
    command_note_write(command->client, status);
    enum reply_status reply = command_answer(command, status);
    if (client_is_held(command->client))
        return RUN_WAIT;
    counter_add(&context->counters.cmd_flush, 1);
    if (reply == REPLY_OK)
        watch_system(&context->watch, "flush_all", "at", when ? when : context->now_s);
    command_reply_status(command, reply);
    return RUN_DONE;
}
