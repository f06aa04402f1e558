/* arithmetic.c: incr and decr, of all protocols. */
#define _GNU_SOURCE
#include "src/base/number.h"
#include "src/command/internal.h"

/* A shorter result is padded with these. */
static const char blanks[NUMBER_LEN_MAX] = {[0 ... NUMBER_LEN_MAX - 1] = ' '};

/* The number of an item, counted up or down. False: it is none. */
static bool compute(const struct store_item *item, bool up, uint64_t delta, uint64_t *number)
{
    if (item->value_len > NUMBER_LEN_MAX || !number_parse(item->value, item->value_len, number))
        return false;
    if (up)
        *number += delta;
    else
        *number -= delta < *number ? delta : *number;
    return true;
}

/* Writes the new number over the old: a shorter one is padded to the old length, and the item stays
 * the same to those who have read it or made it stale; a longer one makes a new item, as in
 * memcached. */
static enum store_status put_number(const struct command *command, const struct count *count,
                                    const struct store_item *item, struct counted *counted)
{
    char digits[NUMBER_DIGITS_MAX];
    uint32_t len = (uint32_t)number_format(digits, counted->number);
    bool in_place = len <= item->value_len;
    struct store_put what = {
        .condition = STORE_IF_SAME,
        .location = item->location,
        .value = {{digits, len}, {blanks, in_place ? item->value_len - len : 0}},
        .client_flags = item->client_flags,
        .keep_expiry = !count->touch,
        .expire_s = count->expire_s,
        .fetched = in_place && item->fetched,
        .state = in_place ? item->state : 0,
        .cas = count->new_cas,
    };
    enum store_status status = command_put(command, &what);
    counted->cas = what.cas;
    counted->old_expire_s = item->expire_s;
    return status;
}

/* The counter is not there, and the client has said with what it begins. STORE_EXISTS: now it is
 * there. */
static enum store_status begin_count(const struct command *command, const struct count *count,
                                     struct counted *counted)
{
    char digits[NUMBER_DIGITS_MAX];
    uint64_t initial = command->request.initial;
    struct store_put what = {
        .condition = STORE_IF_ABSENT,
        .value = {{digits, (uint32_t)number_format(digits, initial)}},
        .expire_s = count->initial_expire_s,
        .cas = count->new_cas,
    };
    enum store_status status = command_put(command, &what);
    *counted = (struct counted){.number = initial,
                                .cas = what.cas,
                                .old_expire_s = what.expire_s,
                                .begun = status == STORE_OK};
    return status;
}

enum reply_status command_count(const struct command *command, const struct count *count,
                                struct counted *counted)
{
    const struct request *request = &command->request;
    struct lookup lookup;
    enum store_status status;
    *counted = (struct counted){0};
    do {
        enum reply_status found = command_look_up(command, LOOK_UP_NO_TOUCH, &lookup);
        if (found == REPLY_NOT_FOUND && count->create) {
            status = begin_count(command, count, counted);
            continue;
        }
        if (found != REPLY_OK)
            return found;
        bool empty = lookup.item.value_len == 0; /* counts for more than another CAS unique */
        bool same = !request->cas || request->cas == lookup.item.cas;
        bool valid = same && compute(&lookup.item, count->up, request->delta, &counted->number);
        if (valid)
            status = put_number(command, count, &lookup.item, counted);
        command_look_up_end(command, &lookup);
        if (!valid)
            return same || empty ? REPLY_NON_NUMERIC : REPLY_EXISTS;
    } while (command_has_changed(status));
    return status == STORE_OK ? REPLY_NUMBER : command_answer(command, status);
}

enum run_result arithmetic_run(const struct command *command)
{
    struct command_context *context = command->client->context;
    const struct request *request = &command->request;
    struct counters *counters = &context->counters;
    struct counted counted;
    struct count what = {.up = request->op == OP_INCR, .create = request->flags & REQUEST_CREATE};
    if (what.create)
        what.initial_expire_s = clock_expiry(request->exptime, context->now_s);
    struct reply reply = {.status = command_count(command, &what, &counted)};
    if (client_is_held(command->client))
        return RUN_WAIT;
    if (reply.status == REPLY_NOT_FOUND)
        counter_add(what.up ? &counters->incr_misses : &counters->decr_misses, 1);
    else if (reply.status == REPLY_NUMBER && !counted.begun)
        counter_add(what.up ? &counters->incr_hits : &counters->decr_hits, 1);
    reply.number = counted.number;
    reply.cas = counted.cas;
    command_reply(command, &reply);
    if (watch_wants(&context->watch))
        command_tell_ran(command);
    return RUN_DONE;
}
