/* meta.c: what memcached means by the meta commands.
 *
 * An item may be stale (md I, or ms I with an older CAS): it can still be read, and the first mg
 * after that wins (W) the right to renew it; so does the first mg whose R finds that it ends soon,
 * and the one whose N made an empty item of a miss. All later ones are told that a renewal is under
 * way (Z), until the item is set.
 *
 *                  mg with R: W, then Z
 *          plain ───────────────────────▶ win sent
 *            │ md I                         │ md I
 *            ▼                              │
 *          stale ◀──────────────────────────┘
 *            │ ▲
 *    mg: X W │ │ md I
 *            ▼ │
 *       stale, win sent: Z X
 *
 * These states are bits of the item. Setting one is a write of the same value under the same CAS
 * unique, so they are kept by the log as all else is.
 */
#define _GNU_SOURCE
#include <string.h>

#include "protocol/token.h"
#include "src/command/internal.h"
#include "src/base/number.h"

static bool has(const struct request *request, char flag)
{
    return request->meta_flags & META_FLAG(flag);
}

/* -1: for ever. */
static int64_t ttl_of(uint32_t expire_s, uint32_t now_s)
{
    if (!expire_s)
        return -1;
    return expire_s > now_s ? expire_s - now_s : 0;
}

/* Answers without a value; q hides those that are no news. */
static enum run_result finish(const struct command *command, const struct reply *reply)
{
    const struct request *request = &command->request;
    enum reply_status expected = request->op == OP_META_GET ? REPLY_MISS : REPLY_OK;
    if (!has(request, 'q') || reply->status != expected)
        command_reply(command, reply);
    return RUN_DONE;
}

/* mg. */

/* What can be asked for, as it was before this command. */
static struct reply_meta describe(const struct store_item *item, uint32_t now_s)
{
    bool accessed = item->accessed_s && item->accessed_s < now_s;
    return (struct reply_meta){
        .size = item->value_len,
        .ttl_s = ttl_of(item->expire_s, now_s),
        .new_ttl_s = ttl_of(item->expire_s, now_s),
        .idle_s = accessed ? now_s - item->accessed_s : 0,
        .fetched = item->fetched,
        .stale = item->state & STORE_STATE_STALE,
        .win_sent = item->state & STORE_STATE_WIN,
    };
}

/* Flags take effect in their order: an R after a T looks at the new expiry. */
static bool touches_before_recaching(const struct request *request)
{
    const char *at = request->args.data, *end = at + request->args.len;
    if (!has(request, 'T') || !has(request, 'R'))
        return false;
    for (;;) {
        char flag = *token_next(&at, end).data;
        if (flag == 'T' || flag == 'R')
            return flag == 'T';
    }
}

/* R is a time as every expiry: 0 is never, more than 30 days is a date. */
static bool wins(const struct request *request, const struct reply_meta *meta, uint32_t now_s)
{
    uint32_t limit_s = clock_deadline(request->recache_s, now_s);
    int64_t ttl_s = touches_before_recaching(request) ? meta->new_ttl_s : meta->ttl_s;
    bool ends_soon = limit_s > now_s && ttl_s >= 0 && ttl_s < limit_s - now_s;
    return !meta->win_sent && (meta->stale || ends_soon);
}

/* Remembers that a client is told to renew the item. As store_put; if that cannot be written, not
 * even after a wait, nobody is told and the get goes on. */
static enum store_status give_win(const struct command *command, const struct store_item *item,
                                  struct reply_meta *meta)
{
    const struct request *request = &command->request;
    bool touch = has(request, 'T');
    struct store_put what = {
        .condition = STORE_IF_SAME,
        .location = item->location,
        .value = {{item->value, item->value_len}},
        .client_flags = item->client_flags,
        .keep_expiry = !touch,
        .expire_s = clock_expiry(request->exptime, command->client->context->now_s),
        .fetched = item->fetched || !has(request, 'u'),
        .state = item->state | STORE_STATE_WIN,
        .cas = item->cas,
    };
    enum store_status status = command_put(command, &what);
    meta->won = status == STORE_OK;
    if (touch)
        return status;
    if (status == STORE_WAIT_SPACE && !command_wait_for_space(command->client))
        status = STORE_FULL;
    return status == STORE_FULL || status == STORE_READ_ONLY ? STORE_OK : status;
}

/* Writes what a hit changes: the win, the expiry. As store_put. */
static enum store_status mark_hit(const struct command *command, const struct store_item *item,
                                  struct reply_meta *meta)
{
    struct command_context *context = command->client->context;
    const struct request *request = &command->request;
    uint32_t expire_s = clock_expiry(request->exptime, context->now_s);
    if (has(request, 'T'))
        meta->new_ttl_s = ttl_of(expire_s, context->now_s);
    if (wins(request, meta, context->now_s))
        return give_win(command, item, meta);
    if (!has(request, 'T'))
        return STORE_OK;
    return command_touch(command, expire_s, STORE_IF_SAME, item->location);
}

/* Makes an empty item of a miss. As store_put. */
static enum store_status vivify(const struct command *command, struct store_item *item)
{
    const struct request *request = &command->request;
    struct store_put what = {
        .condition = STORE_IF_ABSENT,
        .value = {{"", 0}},
        .expire_s = clock_expiry(request->vivify_exptime, command->client->context->now_s),
        .fetched = !has(request, 'u'),
        .state = STORE_STATE_WIN,
        .cas = request->new_cas,
    };
    enum store_status status = command_put(command, &what);
    *item = (struct store_item){.value = "", .expire_s = what.expire_s, .cas = what.cas};
    return status;
}

/* False: there is no memory for it. */
static bool reply_hit(const struct command *command, const struct lookup *lookup,
                      const struct reply_meta *meta)
{
    const struct request *request = &command->request;
    const struct store_item *item = &lookup->item;
    bool known = has(request, 'C') && request->cas == item->cas;
    struct reply reply = {.status = has(request, 'v') && !known ? REPLY_VALUE : REPLY_OK,
                          .client_flags = item->client_flags,
                          .cas = item->cas,
                          .value = item->value,
                          .value_len = item->value_len,
                          .meta = meta};
    if (reply.status == REPLY_VALUE)
        return command_reply_value(command, &reply, lookup);
    command_reply(command, &reply);
    command_look_up_end(command, lookup);
    return true;
}

/* REPLY_OK: *lookup and *meta are set; *found is what was there before. */
static enum reply_status look_up_or_make(const struct command *command, struct lookup *lookup,
                                         struct reply_meta *meta, enum reply_status *found)
{
    struct command_context *context = command->client->context;
    const struct request *request = &command->request;
    enum look_up_why why = has(request, 'u') ? LOOK_UP_NO_TOUCH : LOOK_UP_GET;
    enum store_status status;
    do {
        *found = command_look_up(command, why, lookup);
        if (*found == REPLY_OK) {
            *meta = describe(&lookup->item, context->now_s);
            status = mark_hit(command, &lookup->item, meta);
            if (status != STORE_OK)
                command_look_up_end(command, lookup);
        } else if (*found == REPLY_NOT_FOUND && has(request, 'N')) {
            lookup->fetched = context->fetches.scratch; /* the one of the miss has ended */
            status = vivify(command, &lookup->item);
            *meta = describe(&lookup->item, context->now_s);
            meta->won = true;
        } else {
            return *found;
        }
    } while (command_has_changed(status));
    return command_answer(command, status);
}

static enum run_result run_get(const struct command *command)
{
    struct command_context *context = command->client->context;
    const struct request *request = &command->request;
    struct lookup lookup;
    struct reply_meta meta;
    enum reply_status found;
    enum reply_status status = look_up_or_make(command, &lookup, &meta, &found);
    bool hit = found == REPLY_OK && status == REPLY_OK;
    if (client_is_held(command->client))
        return RUN_WAIT;
    if (hit && has(request, 'T'))
        command_count_touch(&context->counters, found);
    else
        command_count_get(&context->counters, status == REPLY_OK ? found : status);
    if (watch_wants(&context->watch))
        command_tell_got(command, hit, hit ? lookup.item.value_len : 0);
    if (status == REPLY_OK) {
        if (reply_hit(command, &lookup, &meta))
            return RUN_DONE;
        status = REPLY_READ_NO_MEMORY;
    }
    struct reply reply = {.status = status == REPLY_NOT_FOUND ? REPLY_MISS : status};
    return finish(command, &reply);
}

/* ms. */

/* What an ms puts that need not look at the item first. */
static struct store_put plain_put(const struct command *command)
{
    const struct request *request = &command->request;
    struct store_put what = command_value(command, request->mode == 'E'   ? STORE_IF_ABSENT
                                                   : request->mode == 'R' ? STORE_IF_PRESENT
                                                                          : STORE_ANY);
    what.cas = request->new_cas;
    return what;
}

static enum reply_status reply_of_put(const struct command *command, enum store_status status)
{
    return command_has_changed(status) ? REPLY_NOT_STORED : command_answer(command, status);
}

/* Modes A and P; with N a miss becomes an item. */
static enum reply_status join(const struct command *command, struct stored *stored)
{
    const struct request *request = &command->request;
    for (;;) {
        enum reply_status reply = command_join(command, stored);
        if (reply != REPLY_NOT_FOUND)
            return reply;
        if (!has(request, 'N'))
            return REPLY_NOT_STORED;
        struct store_put fresh = plain_put(command);
        fresh.condition = STORE_IF_ABSENT;
        fresh.expire_s = clock_expiry(request->vivify_exptime, command->client->context->now_s);
        enum store_status status = command_put(command, &fresh);
        stored->cas = fresh.cas;
        if (status != STORE_EXISTS)
            return reply_of_put(command, status);
    }
}

/* Makes *what the put of an ms with C over `item`. REPLY_OK: it may be put; else the answer. An
 * older C is refused, or, with I, stored as stale: better an outdated value than none. */
static enum reply_status compare(const struct request *request, const struct store_item *item,
                                 struct store_put *what)
{
    if (request->mode == 'E')
        return REPLY_NOT_STORED;
    what->condition = STORE_IF_SAME;
    what->location = item->location;
    if (item->cas == request->cas)
        return REPLY_OK;
    if (!has(request, 'I') || request->cas == 0 || request->cas > item->cas)
        return REPLY_EXISTS;
    what->keep_expiry = true;
    what->state = (item->state & STORE_STATE_WIN) | STORE_STATE_STALE;
    return REPLY_OK;
}

/* Modes S, E and R with C. A miss is stored in mode E only. */
static enum reply_status set_if_unchanged(const struct command *command, struct stored *stored)
{
    const struct request *request = &command->request;
    enum store_status status;
    do {
        struct lookup lookup;
        struct store_put what = plain_put(command);
        enum reply_status found = command_look_up(command, LOOK_UP_NO_TOUCH, &lookup);
        if (found == REPLY_OK) {
            enum reply_status reply = compare(request, &lookup.item, &what);
            command_look_up_end(command, &lookup);
            if (reply != REPLY_OK)
                return reply;
        } else if (found != REPLY_NOT_FOUND || request->mode != 'E') {
            return found;
        }
        status = command_put(command, &what);
        stored->cas = what.cas;
    } while (command_has_changed(status));
    return reply_of_put(command, status);
}

static enum reply_status set(const struct command *command, struct stored *stored)
{
    const struct request *request = &command->request;
    if (request->flags & REQUEST_TOO_LARGE)
        return command_refuse_too_large(command);
    if (request->mode == 'A' || request->mode == 'P')
        return join(command, stored);
    if (has(request, 'C')) {
        enum reply_status reply = set_if_unchanged(command, stored);
        command_count_cas(&command->client->context->counters, reply);
        return reply;
    }
    struct store_put what = plain_put(command);
    enum store_status status = command_put(command, &what);
    stored->cas = what.cas;
    return reply_of_put(command, status);
}

static enum run_result run_set(const struct command *command)
{
    struct command_context *context = command->client->context;
    struct stored stored = {.size = command->request.value.len};
    struct reply reply = {.status = set(command, &stored)};
    if (client_is_held(command->client))
        return RUN_WAIT;
    struct reply_meta meta = {.size = stored.size};
    reply.meta = &meta;
    reply.cas = reply.status == REPLY_OK ? stored.cas : 0;
    counter_add(&context->counters.cmd_set, 1);
    if (watch_wants(&context->watch))
        command_tell_stored(command, reply.status == REPLY_OK ? REPLY_STORED : reply.status);
    return finish(command, &reply);
}

/* md. */

/* Makes an item stale (I), or empty (x), or both, or takes it away. As store_put. */
static enum store_status remove_item(const struct command *command, const struct store_item *item)
{
    const struct request *request = &command->request;
    bool stale = has(request, 'I');
    bool empty = has(request, 'x');
    if (!stale && !empty)
        return command_delete(command, STORE_IF_SAME, item->location);
    struct store_put what = {
        .condition = STORE_IF_SAME,
        .location = item->location,
        .value = {{item->value, empty ? 0 : item->value_len}},
        .client_flags = empty ? 0 : item->client_flags,
        .keep_expiry = !has(request, 'T'),
        .expire_s = clock_expiry(request->exptime, command->client->context->now_s),
        .fetched = item->fetched,
        .state = stale ? STORE_STATE_STALE : item->state,
        .cas = request->new_cas,
    };
    return command_put(command, &what);
}

/* md that must look at the item first. */
static enum reply_status remove_looked_up(const struct command *command)
{
    const struct request *request = &command->request;
    enum store_status status = STORE_OK;
    do {
        struct lookup lookup;
        enum reply_status found = command_look_up(command, LOOK_UP_NO_TOUCH, &lookup);
        if (found != REPLY_OK)
            return found;
        bool other = has(request, 'C') && request->cas != lookup.item.cas;
        if (!other)
            status = remove_item(command, &lookup.item);
        command_look_up_end(command, &lookup);
        if (other)
            return REPLY_EXISTS;
    } while (command_has_changed(status));
    return command_answer(command, status);
}

static enum run_result run_delete(const struct command *command)
{
    struct command_context *context = command->client->context;
    const struct request *request = &command->request;
    struct counters *counters = &context->counters;
    bool look = has(request, 'C') || has(request, 'I') || has(request, 'x');
    struct reply reply = {
        .status = look ? remove_looked_up(command)
                       : command_answer(command, command_delete(command, STORE_IF_PRESENT, 0))};
    if (client_is_held(command->client))
        return RUN_WAIT;
    command_count_found(&counters->delete_hits, &counters->delete_misses, reply.status);
    if (watch_wants(&context->watch))
        command_tell_deleted(command, reply.status == REPLY_OK);
    return finish(command, &reply);
}

/* ma. */

static void reply_number(const struct command *command, const struct counted *counted,
                         const struct reply_meta *meta)
{
    const struct request *request = &command->request;
    char digits[NUMBER_DIGITS_MAX];
    struct lookup lookup = {
        .item = {.value = digits, .value_len = (uint32_t)number_format(digits, counted->number)},
        .fetched = command->client->context->fetches.scratch};
    struct reply reply = {.status = has(request, 'v') ? REPLY_VALUE : REPLY_OK,
                          .cas = counted->cas,
                          .value = digits,
                          .value_len = lookup.item.value_len,
                          .meta = meta};
    if (has(request, 'q'))
        return;
    if (reply.status == REPLY_VALUE)
        command_reply_value(command, &reply, &lookup);
    else
        command_reply(command, &reply);
}

static enum run_result run_arithmetic(const struct command *command)
{
    struct command_context *context = command->client->context;
    const struct request *request = &command->request;
    struct counters *counters = &context->counters;
    struct counted counted;
    struct count what = {
        .up = request->mode == 'I' || request->mode == '+',
        .new_cas = request->new_cas,
        .touch = has(request, 'T'),
        .expire_s = clock_expiry(request->exptime, context->now_s),
        .create = has(request, 'N'),
        .initial_expire_s = clock_expiry(request->vivify_exptime, context->now_s),
    };
    struct reply reply = {.status = command_count(command, &what, &counted)};
    if (client_is_held(command->client))
        return RUN_WAIT;
    if (reply.status == REPLY_NOT_FOUND)
        counter_add(what.up ? &counters->incr_misses : &counters->decr_misses, 1);
    if (reply.status != REPLY_NUMBER)
        return finish(command, &reply);
    counter_add(what.up ? &counters->incr_hits : &counters->decr_hits, 1);
    uint32_t expire_s = what.touch && !counted.begun ? what.expire_s : counted.old_expire_s;
    struct reply_meta meta = {.ttl_s = ttl_of(counted.old_expire_s, context->now_s),
                              .new_ttl_s = ttl_of(expire_s, context->now_s)};
    reply_number(command, &counted, &meta);
    return RUN_DONE;
}

/* me. */

static enum run_result run_debug(const struct command *command)
{
    struct command_context *context = command->client->context;
    struct lookup lookup;
    struct reply_meta meta;
    struct reply reply = {.status = command_look_up(command, LOOK_UP_NO_TOUCH, &lookup)};
    if (client_is_held(command->client))
        return RUN_WAIT;
    counter_add(&context->counters.cmd_meta, 1);
    if (reply.status == REPLY_OK) {
        meta = describe(&lookup.item, context->now_s);
        meta.size = store_item_size(command->key.len, lookup.item.value_len);
        reply.cas = lookup.item.cas;
        reply.meta = &meta;
        command_look_up_end(command, &lookup);
    } else if (reply.status == REPLY_NOT_FOUND) {
        reply.status = REPLY_MISS;
    }
    return finish(command, &reply);
}

enum run_result meta_run(const struct command *command)
{
    struct reply noop = {.status = REPLY_OK};
    switch (command->request.op) {
    case OP_META_GET: return run_get(command);
    case OP_META_SET: return run_set(command);
    case OP_META_DELETE: return run_delete(command);
    case OP_META_ARITHMETIC: return run_arithmetic(command);
    case OP_META_DEBUG: return run_debug(command);
    default: return finish(command, &noop);
    }
}
