/* meta.c: what memcached means by the meta commands.
 *
 * An item may be stale (md I, or ms I with an older CAS): it is still to be had, and the first mg
 * after that wins (W) the right to make it anew; so does the first mg whose R finds that it ends
 * soon, and the one whose N made an empty item of a miss. All later ones are told that somebody is
 * at it (Z), until the item is set.
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
#include "src/base/clock.h"
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
static enum run_result finish(struct command_context *context, struct client *client,
                              const struct request *request, const struct reply *reply)
{
    enum reply_status expected = request->op == OP_META_GET ? REPLY_MISS : REPLY_OK;
    if (!has(request, 'q') || reply->status != expected)
        command_reply(context, client, request, reply);
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

/* Flags take effect in their order: an R behind a T looks at the new expiry. */
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

/* Remembers that a client was told to make the item anew. As store_put; where nothing can be
 * written any more, nor after a wait, nobody is told and the get goes on. */
static enum store_status give_win(struct command_context *context, struct client *client,
                                  const struct command *command, const struct store_item *item,
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
        .expire_s = touch ? clock_expiry(request->exptime, context->now_s) : 0,
        .fetched = item->fetched || !has(request, 'u'),
        .state = item->state | STORE_STATE_WIN,
        .cas = item->cas,
    };
    enum store_status status = command_put(context, client, command, &what);
    meta->won = status == STORE_OK;
    if (touch)
        return status;
    if (status == STORE_WAIT_SPACE && !command_wait_for_space(client))
        status = STORE_FULL;
    return status == STORE_FULL || status == STORE_READ_ONLY ? STORE_OK : status;
}

/* Writes what a hit changes: the win, the expiry. As store_put. */
static enum store_status mark_hit(struct command_context *context, struct client *client,
                                  const struct command *command, const struct store_item *item,
                                  struct reply_meta *meta)
{
    const struct request *request = &command->request;
    uint32_t expire_s = clock_expiry(request->exptime, context->now_s);
    if (has(request, 'T'))
        meta->new_ttl_s = ttl_of(expire_s, context->now_s);
    if (wins(request, meta, context->now_s))
        return give_win(context, client, command, item, meta);
    if (!has(request, 'T'))
        return STORE_OK;
    return command_touch(context, client, command, expire_s, STORE_IF_SAME, item->location);
}

/* Makes an empty item of a miss. As store_put. */
static enum store_status vivify(struct command_context *context, struct client *client,
                                const struct command *command, struct store_item *item)
{
    const struct request *request = &command->request;
    struct store_put what = {
        .condition = STORE_IF_ABSENT,
        .value = {{"", 0}},
        .expire_s = clock_expiry(request->vivify_exptime, context->now_s),
        .fetched = !has(request, 'u'),
        .state = STORE_STATE_WIN,
        .cas = request->new_cas,
    };
    enum store_status status = command_put(context, client, command, &what);
    *item = (struct store_item){.value = "", .expire_s = what.expire_s, .cas = what.cas};
    return status;
}

/* False: there is no memory for it. */
static bool reply_hit(struct command_context *context, struct client *client,
                      const struct request *request, const struct lookup *lookup,
                      const struct reply_meta *meta)
{
    const struct store_item *item = &lookup->item;
    bool known = has(request, 'C') && request->cas == item->cas;
    struct reply reply = {.status = has(request, 'v') && !known ? REPLY_VALUE : REPLY_OK,
                          .client_flags = item->client_flags,
                          .cas = item->cas,
                          .value = item->value,
                          .value_len = item->value_len,
                          .meta = meta};
    if (reply.status == REPLY_VALUE)
        return command_reply_value(context, client, request, &reply, lookup);
    command_reply(context, client, request, &reply);
    command_look_up_end(context, client, lookup);
    return true;
}

/* REPLY_OK: *lookup and *meta are set; *found is what was there before. */
static enum reply_status look_up_or_make(struct command_context *context, struct client *client,
                                         const struct command *command, struct lookup *lookup,
                                         struct reply_meta *meta, enum reply_status *found)
{
    const struct request *request = &command->request;
    enum look_up_why why = has(request, 'u') ? LOOK_UP_NO_TOUCH : LOOK_UP_GET;
    enum store_status status;
    do {
        *found = command_look_up(context, client, &command->key, why, lookup);
        if (*found == REPLY_OK) {
            *meta = describe(&lookup->item, context->now_s);
            status = mark_hit(context, client, command, &lookup->item, meta);
            if (status != STORE_OK)
                command_look_up_end(context, client, lookup);
        } else if (*found == REPLY_NOT_FOUND && has(request, 'N')) {
            lookup->fetched = context->fetches.scratch; /* the one of the miss has ended */
            status = vivify(context, client, command, &lookup->item);
            *meta = describe(&lookup->item, context->now_s);
            meta->won = true;
        } else {
            return *found;
        }
    } while (command_has_changed(status));
    return command_answer(context, client, status);
}

static enum run_result run_get(struct command_context *context, struct client *client,
                               const struct command *command)
{
    const struct request *request = &command->request;
    struct lookup lookup;
    struct reply_meta meta;
    enum reply_status found;
    enum reply_status status = look_up_or_make(context, client, command, &lookup, &meta, &found);
    bool hit = found == REPLY_OK && status == REPLY_OK;
    if (client_is_held(client))
        return RUN_WAIT;
    if (hit && has(request, 'T'))
        command_count_touch(&context->counters, found);
    else
        command_count_get(&context->counters, status == REPLY_OK ? found : status);
    if (watch_wants(&context->watch))
        command_tell_got(context, client, command, hit, hit ? lookup.item.value_len : 0);
    if (status == REPLY_OK) {
        if (reply_hit(context, client, request, &lookup, &meta))
            return RUN_DONE;
        status = REPLY_READ_NO_MEMORY;
    }
    struct reply reply = {.status = status == REPLY_NOT_FOUND ? REPLY_MISS : status};
    return finish(context, client, request, &reply);
}

/* ms. */

/* What an ms puts, if nothing is to be looked at before. */
static struct store_put plain_put(const struct command_context *context,
                                  const struct request *request)
{
    return (struct store_put){
        .condition = request->mode == 'E'   ? STORE_IF_ABSENT
                     : request->mode == 'R' ? STORE_IF_PRESENT
                                            : STORE_ANY,
        .value = {{request->value.data, (uint32_t)request->value.len}},
        .client_flags = request->client_flags,
        .expire_s = clock_expiry(request->exptime, context->now_s),
        .cas = request->new_cas,
    };
}

static enum reply_status reply_of_put(struct command_context *context, struct client *client,
                                      enum store_status status)
{
    return command_has_changed(status) ? REPLY_NOT_STORED : command_answer(context, client, status);
}

/* Modes A and P; with N a miss becomes an item. */
static enum reply_status join(struct command_context *context, struct client *client,
                              const struct command *command, struct stored *stored)
{
    const struct request *request = &command->request;
    struct join what = {
        .append = request->mode == 'A', .cas = request->cas, .new_cas = request->new_cas};
    for (;;) {
        enum reply_status reply = command_join(context, client, command, &what, stored);
        if (reply != REPLY_NOT_FOUND)
            return reply;
        if (!has(request, 'N'))
            return REPLY_NOT_STORED;
        struct store_put fresh = plain_put(context, request);
        fresh.condition = STORE_IF_ABSENT;
        fresh.expire_s = clock_expiry(request->vivify_exptime, context->now_s);
        enum store_status status = command_put(context, client, command, &fresh);
        stored->cas = fresh.cas;
        if (status != STORE_EXISTS)
            return reply_of_put(context, client, status);
    }
}

/* Makes *what the put of an ms with C over `item`. REPLY_OK: it may be put; else the answer. An
 * older C is refused, or, with I, stored as stale: whoever made the value did not know the newest,
 * but it is better than none. */
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
static enum reply_status set_if_unchanged(struct command_context *context, struct client *client,
                                          const struct command *command, struct stored *stored)
{
    const struct request *request = &command->request;
    enum store_status status;
    do {
        struct lookup lookup;
        struct store_put what = plain_put(context, request);
        enum reply_status found =
            command_look_up(context, client, &command->key, LOOK_UP_NO_TOUCH, &lookup);
        if (found == REPLY_OK) {
            enum reply_status reply = compare(request, &lookup.item, &what);
            command_look_up_end(context, client, &lookup);
            if (reply != REPLY_OK)
                return reply;
        } else if (found != REPLY_NOT_FOUND || request->mode != 'E') {
            return found;
        }
        status = command_put(context, client, command, &what);
        stored->cas = what.cas;
    } while (command_has_changed(status));
    return reply_of_put(context, client, status);
}

static enum reply_status set(struct command_context *context, struct client *client,
                             const struct command *command, struct stored *stored)
{
    const struct request *request = &command->request;
    if (request->flags & REQUEST_TOO_LARGE)
        return command_refuse_too_large(context, client, command);
    if (request->mode == 'A' || request->mode == 'P')
        return join(context, client, command, stored);
    if (has(request, 'C')) {
        enum reply_status reply = set_if_unchanged(context, client, command, stored);
        command_count_cas(&context->counters, reply);
        return reply;
    }
    struct store_put what = plain_put(context, request);
    enum store_status status = command_put(context, client, command, &what);
    stored->cas = what.cas;
    return reply_of_put(context, client, status);
}

static enum run_result run_set(struct command_context *context, struct client *client,
                               const struct command *command)
{
    struct stored stored = {.size = command->request.value.len};
    struct reply reply = {.status = set(context, client, command, &stored)};
    if (client_is_held(client))
        return RUN_WAIT;
    struct reply_meta meta = {.size = stored.size};
    reply.meta = &meta;
    reply.cas = reply.status == REPLY_OK ? stored.cas : 0;
    counter_add(&context->counters.cmd_set, 1);
    if (watch_wants(&context->watch))
        command_tell_stored(context, client, command,
                            reply.status == REPLY_OK ? REPLY_STORED : reply.status);
    return finish(context, client, &command->request, &reply);
}

/* md. */

/* Makes an item stale (I), or empty (x), or both, or takes it away. As store_put. */
static enum store_status remove_item(struct command_context *context, struct client *client,
                                     const struct command *command, const struct store_item *item)
{
    const struct request *request = &command->request;
    bool stale = has(request, 'I');
    bool empty = has(request, 'x');
    if (!stale && !empty)
        return command_delete(context, client, command, STORE_IF_SAME, item->location);
    bool touch = has(request, 'T');
    struct store_put what = {
        .condition = STORE_IF_SAME,
        .location = item->location,
        .value = {{item->value, empty ? 0 : item->value_len}},
        .client_flags = empty ? 0 : item->client_flags,
        .keep_expiry = !touch,
        .expire_s = touch ? clock_expiry(request->exptime, context->now_s) : 0,
        .fetched = item->fetched,
        .state = stale ? STORE_STATE_STALE : item->state,
        .cas = request->new_cas,
    };
    return command_put(context, client, command, &what);
}

/* md that must look at the item first. */
static enum reply_status remove_looked_up(struct command_context *context, struct client *client,
                                          const struct command *command)
{
    const struct request *request = &command->request;
    enum store_status status = STORE_OK;
    do {
        struct lookup lookup;
        enum reply_status found =
            command_look_up(context, client, &command->key, LOOK_UP_NO_TOUCH, &lookup);
        if (found != REPLY_OK)
            return found;
        bool other = has(request, 'C') && request->cas != lookup.item.cas;
        if (!other)
            status = remove_item(context, client, command, &lookup.item);
        command_look_up_end(context, client, &lookup);
        if (other)
            return REPLY_EXISTS;
    } while (command_has_changed(status));
    return command_answer(context, client, status);
}

static enum run_result run_delete(struct command_context *context, struct client *client,
                                  const struct command *command)
{
    const struct request *request = &command->request;
    struct counters *counters = &context->counters;
    bool look = has(request, 'C') || has(request, 'I') || has(request, 'x');
    struct reply reply = {.status = look ? remove_looked_up(context, client, command)
                                         : command_answer(context, client,
                                                          command_delete(context, client, command,
                                                                         STORE_IF_PRESENT, 0))};
    if (client_is_held(client))
        return RUN_WAIT;
    command_count_found(&counters->delete_hits, &counters->delete_misses, reply.status);
    if (watch_wants(&context->watch))
        command_tell_deleted(context, client, command, reply.status == REPLY_OK);
    return finish(context, client, request, &reply);
}

/* ma. */

static void reply_number(struct command_context *context, struct client *client,
                         const struct request *request, const struct counted *counted,
                         const struct reply_meta *meta)
{
    char digits[NUMBER_DIGITS_MAX];
    struct lookup lookup = {
        .item = {.value = digits, .value_len = (uint32_t)number_format(digits, counted->number)},
        .fetched = context->fetches.scratch};
    struct reply reply = {.status = has(request, 'v') ? REPLY_VALUE : REPLY_OK,
                          .cas = counted->cas,
                          .value = digits,
                          .value_len = lookup.item.value_len,
                          .meta = meta};
    if (has(request, 'q'))
        return;
    if (reply.status == REPLY_VALUE)
        command_reply_value(context, client, request, &reply, &lookup);
    else
        command_reply(context, client, request, &reply);
}

static enum run_result run_arithmetic(struct command_context *context, struct client *client,
                                      const struct command *command)
{
    const struct request *request = &command->request;
    struct counters *counters = &context->counters;
    struct counted counted;
    struct count what = {
        .up = request->mode == 'I' || request->mode == '+',
        .delta = request->delta,
        .cas = request->cas,
        .new_cas = request->new_cas,
        .touch = has(request, 'T'),
        .expire_s = clock_expiry(request->exptime, context->now_s),
        .create = has(request, 'N'),
        .initial = request->initial,
        .initial_expire_s = clock_expiry(request->vivify_exptime, context->now_s),
    };
    struct reply reply = {.status = command_count(context, client, command, &what, &counted)};
    if (client_is_held(client))
        return RUN_WAIT;
    if (reply.status == REPLY_NOT_FOUND)
        counter_add(what.up ? &counters->incr_misses : &counters->decr_misses, 1);
    if (reply.status != REPLY_NUMBER)
        return finish(context, client, request, &reply);
    counter_add(what.up ? &counters->incr_hits : &counters->decr_hits, 1);
    uint32_t expire_s = what.touch && !counted.begun ? what.expire_s : counted.old_expire_s;
    struct reply_meta meta = {.ttl_s = ttl_of(counted.old_expire_s, context->now_s),
                              .new_ttl_s = ttl_of(expire_s, context->now_s)};
    reply_number(context, client, request, &counted, &meta);
    return RUN_DONE;
}

/* me. */

static enum run_result run_debug(struct command_context *context, struct client *client,
                                 const struct command *command)
{
    struct lookup lookup;
    struct reply_meta meta;
    struct reply reply = {
        .status = command_look_up(context, client, &command->key, LOOK_UP_NO_TOUCH, &lookup)};
    if (client_is_held(client))
        return RUN_WAIT;
    counter_add(&context->counters.cmd_meta, 1);
    if (reply.status == REPLY_OK) {
        meta = describe(&lookup.item, context->now_s);
        meta.size = store_item_size(command->key.len, lookup.item.value_len);
        reply.cas = lookup.item.cas;
        reply.meta = &meta;
        command_look_up_end(context, client, &lookup);
    } else if (reply.status == REPLY_NOT_FOUND) {
        reply.status = REPLY_MISS;
    }
    return finish(context, client, &command->request, &reply);
}

enum run_result meta_run(struct command_context *context, struct client *client,
                         const struct command *command)
{
    struct reply noop = {.status = REPLY_OK};
    switch (command->request.op) {
    case OP_META_GET: return run_get(context, client, command);
    case OP_META_SET: return run_set(context, client, command);
    case OP_META_DELETE: return run_delete(context, client, command);
    case OP_META_ARITHMETIC: return run_arithmetic(context, client, command);
    case OP_META_DEBUG: return run_debug(context, client, command);
    default: return finish(context, client, &command->request, &noop);
    }
}
