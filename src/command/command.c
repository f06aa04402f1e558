/* command.c: what memcached means by get, set and the others.
 *
 * The store knows get, put, delete and touch, each with a condition. What depends on the old value (incr, append, cas) reads
 * it, computes, and puts if it is still the same; if another was faster, it begins again. A value that lies on disk makes
 * the command wait (RUN_WAIT) before it has changed anything; it is run again from its beginning with the value at hand.
 *
 * Only STORE_NOT_FOUND, and a damaged record that is deleted, mean that a key is absent. What cannot be read is there: its command
 * answers an error and changes nothing (command_answer).
 */
#define _GNU_SOURCE
#include "src/command/command_internal.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/number.h"
#include "src/command/rights.h"
#include "src/observe/watch.h"

/* An error says nothing about the key, so its reply rests on nothing: it goes out though the log takes no writes. */
static enum reply_status answer_error(struct worker *worker, enum reply_status reply)
{
    store_answer_lsn(worker->session);
    return reply;
}

enum reply_status command_answer(struct worker *worker, struct conn *conn, enum store_status status)
{
    switch (status) { /* without a default: a new status has to be thought about */
    case STORE_OK: return REPLY_OK;
    case STORE_NOT_FOUND:
    case STORE_CORRUPT: return REPLY_NOT_FOUND;
    case STORE_EXISTS: return REPLY_EXISTS;
    case STORE_WAIT_READ: return REPLY_NONE;
    case STORE_WAIT_SPACE:
        if (conn->parked || worker_park(worker, conn))
            return REPLY_NONE;
        __attribute__((fallthrough)); /* it has waited long enough */
    case STORE_FULL:
        counter_add(&worker->counters.store_no_memory, 1);
        return answer_error(worker, REPLY_NO_MEMORY);
    case STORE_NO_MEMORY: return answer_error(worker, REPLY_READ_NO_MEMORY);
    case STORE_READ_ONLY: return answer_error(worker, REPLY_READ_ONLY);
    case STORE_IO: return answer_error(worker, REPLY_UNREADABLE);
    case STORE_WAIT_SYNC: /* the last five are never the answer to a command */
    case STORE_MORE:
    case STORE_IN_USE:
    case STORE_BAD_VERSION:
    case STORE_NOT_OURS: break;
    }
    return answer_error(worker, REPLY_READ_ONLY);
}

void command_look_up_end(struct worker *worker, struct conn *conn, const struct lookup *lookup)
{
    fetched_end(worker, conn, lookup->fetched);
}

enum reply_status command_look_up(struct worker *worker, struct conn *conn,
                                  const struct store_key *key, enum look_up_why why,
                                  struct lookup *lookup)
{
    struct fetched *fetched = conn->cold_count ? fetched_find(conn, key) : NULL;
    if (!fetched)
        fetched = worker->scratch;
    lookup->fetched = fetched;
    while (conn->look_ups++ < COMMAND_LOOK_UPS_MAX) {
        enum store_status status =
            why == LOOK_UP_GET
                ? store_get(worker->session, key, &fetched->fetch, &lookup->item)
                : store_get_no_touch(worker->session, key, &fetched->fetch, &lookup->item);
        if (status == STORE_OK)
            return REPLY_OK;
        if (status == STORE_WAIT_READ) {
            enum fetched_read read = fetched_read(worker, conn, fetched);
            if (read == FETCHED_HERE)
                continue;
            if (read == FETCHED_LATER)
                return REPLY_NONE;
            status = STORE_NO_MEMORY;
        }
        fetched_end(worker, conn, fetched);
        return command_answer(worker, conn, status);
    }
    fetched_end(worker, conn, fetched);
    return REPLY_CONTENDED;
}

void command_look_ahead(struct worker *worker, struct conn *conn, const struct slot *slot)
{
    struct store_item item;
    struct store_fetch *fetch = &worker->scratch->fetch;
    bool get = slot->request.op == OP_GET || slot->request.op == OP_META_GET;
    if (!get || !slot->key.len || conn->cold_count == CONN_COLD_MAX ||
        fetched_find(conn, &slot->key))
        return;
    if (store_get_no_touch(worker->session, &slot->key, fetch, &item) == STORE_WAIT_READ)
        fetched_read_ahead(worker, conn);
    else
        store_fetch_release(fetch);
}

/* Replies. */

void command_reply(struct worker *worker, struct conn *conn, const struct request *request,
                   const struct reply *reply)
{
    struct output *output = &worker->output;
    size_t len = reply_head(request, reply, output_at(output));
    conn->out_bytes += len;
    output_wrote(output, len);
}

void command_say(struct worker *worker, struct conn *conn, const struct request *request,
                 const struct reply *reply)
{
    struct output *output = &worker->output;
    if (reply->status == REPLY_TEXT && !(request->flags & REQUEST_NOREPLY)) {
        memcpy(output_at(output), reply->text, reply->text_len);
        conn->out_bytes += reply->text_len;
        output_wrote(output, reply->text_len);
    } else if (reply->status != REPLY_NONE) {
        command_reply(worker, conn, request, reply);
    }
}

static void reply_status(struct worker *worker, struct conn *conn, const struct request *request,
                         enum reply_status status)
{
    struct reply reply = {.status = status};
    command_reply(worker, conn, request, &reply);
}

bool command_reply_value(struct worker *worker, struct conn *conn, const struct request *request,
                         const struct reply *reply, const struct lookup *lookup)
{
    struct output *output = &worker->output;
    const struct store_item *item = &lookup->item;
    bool lends = item->value_len > OUTPUT_COPY_MAX && !item->in_ram;
    if (lends && !fetched_keep(worker, conn, lookup->fetched)) {
        fetched_end(worker, conn, lookup->fetched);
        return false;
    }
    char *out = output_at(output);
    size_t len = reply_head(request, reply, out);
    conn->out_bytes += len + item->value_len;
    if (item->value_len <= OUTPUT_COPY_MAX) {
        memcpy(out + len, item->value, item->value_len);
        len += item->value_len;
        len += reply_tail(request, reply, out + len);
        output_wrote(output, len);
        fetched_end(worker, conn, lookup->fetched);
        return true;
    }
    output_wrote(output, len);
    if (lends) {
        output_add(output, item->value, item->value_len, PIECE_FETCHED, lookup->fetched);
    } else {
        output_add(output, item->value, item->value_len, PIECE_PIN,
                   store_pin(worker->session, item));
        fetched_end(worker, conn, lookup->fetched);
    }
    output_wrote(output, reply_tail(request, reply, output_at(output)));
    return true;
}

static void note_write(struct conn *conn, enum store_status status)
{
    conn->wrote |= status == STORE_OK;
}

enum store_status command_put(struct worker *worker, struct conn *conn, const struct slot *slot,
                              struct store_put *what)
{
    enum store_status status = store_put(worker->session, &slot->key, what);
    note_write(conn, status);
    if (status == STORE_OK)
        counter_add(&worker->counters.total_items, 1);
    return status;
}

enum store_status command_touch(struct worker *worker, struct conn *conn, const struct slot *slot,
                                uint32_t expire_s, enum store_condition condition,
                                uint64_t location)
{
    enum store_status status =
        store_touch(worker->session, &slot->key, expire_s, condition, location);
    note_write(conn, status);
    return status;
}

enum store_status command_delete(struct worker *worker, struct conn *conn, const struct slot *slot,
                                 enum store_condition condition, uint64_t location)
{
    enum store_status status = store_delete(worker->session, &slot->key, condition, location);
    note_write(conn, status);
    return status;
}

/* Get. */

/* As command_look_up, and the item's expiry is set to the request's. */
static enum reply_status look_up_and_touch(struct worker *worker, struct conn *conn,
                                           const struct slot *slot, struct lookup *lookup)
{
    uint32_t expire_s = clock_expiry(slot->request.exptime, worker->now_s);
    enum store_status status;
    do {
        enum reply_status found = command_look_up(worker, conn, &slot->key, LOOK_UP_GET, lookup);
        if (found != REPLY_OK)
            return found;
        status = command_touch(worker, conn, slot, expire_s, STORE_IF_SAME, lookup->item.location);
        if (status != STORE_OK)
            command_look_up_end(worker, conn, lookup);
    } while (command_has_changed(status));
    return command_answer(worker, conn, status);
}

/* The error takes the place of END. Asked for several keys, some clients read on until END whatever comes before it, and others
 * stop at an error; the end of the connection keeps both in step. */
static enum run_result refuse_get(struct worker *worker, struct conn *conn, const struct slot *slot,
                                  enum reply_status error)
{
    bool is_one_of_many =
        slot->request.flags & REQUEST_MORE || parser_is_in_line(&slot->parser_before);
    reply_status(worker, conn, &slot->request, error);
    return is_one_of_many ? RUN_CLOSE : RUN_DONE;
}

static enum run_result reply_get(struct worker *worker, struct conn *conn, const struct slot *slot,
                                 enum reply_status found, const struct lookup *lookup)
{
    const struct request *request = &slot->request;
    if (found == REPLY_NOT_FOUND) {
        reply_status(worker, conn, request, REPLY_MISS);
        return RUN_DONE;
    }
    if (found != REPLY_OK)
        return refuse_get(worker, conn, slot, found);
    struct reply reply = {.status = REPLY_VALUE,
                          .client_flags = lookup->item.client_flags,
                          .cas = lookup->item.cas,
                          .value = lookup->item.value,
                          .value_len = lookup->item.value_len};
    if (!command_reply_value(worker, conn, request, &reply, lookup))
        return refuse_get(worker, conn, slot, REPLY_READ_NO_MEMORY);
    return RUN_DONE;
}

static enum run_result run_get(struct worker *worker, struct conn *conn, const struct slot *slot)
{
    bool touch = slot->request.flags & REQUEST_TOUCH;
    struct lookup lookup;
    enum reply_status found = touch
                                  ? look_up_and_touch(worker, conn, slot, &lookup)
                                  : command_look_up(worker, conn, &slot->key, LOOK_UP_GET, &lookup);
    if (found == REPLY_NONE)
        return RUN_WAIT;
    if (touch)
        command_count_touch(&worker->counters, found);
    else
        command_count_get(&worker->counters, found);
    if (watch_wants(worker))
        watch_got(worker, conn, slot, found == REPLY_OK,
                  found == REPLY_OK ? lookup.item.value_len : 0);
    return reply_get(worker, conn, slot, found, &lookup);
}

/* Writes. */

/* A set, and an ms of any mode, takes the old value away, so that nobody reads what was to be replaced. */
enum reply_status command_refuse_too_large(struct worker *worker, struct conn *conn,
                                           const struct slot *slot)
{
    enum store_status status = STORE_NOT_FOUND;
    if (slot->request.op == OP_SET || slot->request.op == OP_META_SET)
        status = command_delete(worker, conn, slot, STORE_IF_PRESENT, 0);
    if (status != STORE_OK && status != STORE_NOT_FOUND)
        return command_answer(worker, conn, status);
    counter_add(&worker->counters.store_too_large, 1);
    return REPLY_TOO_LARGE;
}

/* set, add, replace: REPLY_NONE when the command has to wait. */
static enum reply_status store_value(struct worker *worker, struct conn *conn,
                                     const struct slot *slot, struct reply *reply)
{
    const struct request *request = &slot->request;
    struct store_put what = {
        .condition = request->op == OP_ADD       ? STORE_IF_ABSENT
                     : request->op == OP_REPLACE ? STORE_IF_PRESENT
                                                 : STORE_ANY,
        .value = {{request->value.data, (uint32_t)request->value.len}},
        .client_flags = request->client_flags,
        .expire_s = clock_expiry(request->exptime, worker->now_s),
    };
    enum store_status status = command_put(worker, conn, slot, &what);
    reply->cas = what.cas;
    if (command_has_changed(status))
        return REPLY_NOT_STORED; /* the condition does not hold */
    return command_answer(worker, conn, status);
}

/* cas: REPLY_NONE when the command has to wait. */
static enum reply_status store_if_unchanged(struct worker *worker, struct conn *conn,
                                            const struct slot *slot, struct reply *reply)
{
    const struct request *request = &slot->request;
    struct lookup lookup;
    enum store_status status;
    do {
        enum reply_status found = command_look_up(worker, conn, &slot->key, LOOK_UP_PEEK, &lookup);
        if (found != REPLY_OK)
            return found;
        uint64_t location = lookup.item.location;
        bool same = lookup.item.cas == request->cas;
        command_look_up_end(worker, conn, &lookup);
        if (!same)
            return REPLY_EXISTS;
        struct store_put what = {
            .condition = STORE_IF_SAME,
            .location = location,
            .value = {{request->value.data, (uint32_t)request->value.len}},
            .client_flags = request->client_flags,
            .expire_s = clock_expiry(request->exptime, worker->now_s),
        };
        status = command_put(worker, conn, slot, &what);
        reply->cas = what.cas;
    } while (command_has_changed(status));
    return command_answer(worker, conn, status);
}

enum reply_status command_join(struct worker *worker, struct conn *conn, const struct slot *slot,
                               const struct join *join, struct stored *stored)
{
    const struct request *request = &slot->request;
    struct store_bytes more = {request->value.data, (uint32_t)request->value.len};
    struct lookup lookup;
    enum store_status status;
    do {
        enum reply_status found = command_look_up(worker, conn, &slot->key, LOOK_UP_PEEK, &lookup);
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
        bool fits = (uint64_t)old.len + more.len + slot->key.len + ITEM_OVERHEAD <=
                    worker->server->settings.item_size_max;
        status = fits && same ? command_put(worker, conn, slot, &what) : STORE_OK;
        command_look_up_end(worker, conn, &lookup);
        if (!fits || !same)
            return same ? REPLY_NOT_STORED : REPLY_EXISTS;
        *stored = (struct stored){.cas = what.cas, .size = (size_t)old.len + more.len};
    } while (command_has_changed(status));
    return command_answer(worker, conn, status);
}

/* append, prepend: REPLY_NONE when the command has to wait. */
static enum reply_status store_joined(struct worker *worker, struct conn *conn,
                                      const struct slot *slot, struct reply *reply)
{
    struct join join = {.append = slot->request.op == OP_APPEND, .cas = slot->request.cas};
    struct stored stored = {0};
    enum reply_status status = command_join(worker, conn, slot, &join, &stored);
    reply->cas = stored.cas;
    return status == REPLY_NOT_FOUND ? REPLY_NOT_STORED : status;
}

static enum run_result run_store(struct worker *worker, struct conn *conn, const struct slot *slot)
{
    struct reply reply = {0};
    if (slot->request.flags & REQUEST_TOO_LARGE)
        reply.status = command_refuse_too_large(worker, conn, slot);
    else if (slot->request.op == OP_CAS)
        reply.status = store_if_unchanged(worker, conn, slot, &reply);
    else if (slot->request.op == OP_APPEND || slot->request.op == OP_PREPEND)
        reply.status = store_joined(worker, conn, slot, &reply);
    else
        reply.status = store_value(worker, conn, slot, &reply);
    if (reply.status == REPLY_NONE)
        return RUN_WAIT;
    if (slot->request.op == OP_CAS)
        command_count_cas(&worker->counters, reply.status);
    if (reply.status == REPLY_OK)
        reply.status = REPLY_STORED;
    counter_add(&worker->counters.cmd_set, 1);
    if (watch_wants(worker))
        watch_stored(worker, conn, slot, reply.status);
    command_reply(worker, conn, &slot->request, &reply);
    return RUN_DONE;
}

/* What a shorter result is padded with. */
static const char blanks[NUMBER_LEN_MAX] = {[0 ... NUMBER_LEN_MAX - 1] = ' '};

/* The number of an item, counted up or down. False: it is none. */
static bool compute(const struct store_item *item, const struct count *count, uint64_t *number)
{
    if (item->value_len > NUMBER_LEN_MAX || !number_parse(item->value, item->value_len, number))
        return false;
    if (count->up)
        *number += count->delta;
    else
        *number -= count->delta < *number ? count->delta : *number;
    return true;
}

/* Writes the new number over the old: a shorter one is padded to the old length, and the item stays the same to those who have
 * read it or made it stale; a longer one makes a new item, as in memcached. */
static enum store_status put_number(struct worker *worker, struct conn *conn,
                                    const struct slot *slot, const struct count *count,
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
    enum store_status status = command_put(worker, conn, slot, &what);
    counted->cas = what.cas;
    counted->old_expire_s = item->expire_s;
    return status;
}

/* The counter is not there, and the client has said with what it begins. STORE_EXISTS: now it is there. */
static enum store_status begin_count(struct worker *worker, struct conn *conn,
                                     const struct slot *slot, const struct count *count,
                                     struct counted *counted)
{
    char digits[NUMBER_DIGITS_MAX];
    struct store_put what = {
        .condition = STORE_IF_ABSENT,
        .value = {{digits, (uint32_t)number_format(digits, count->initial)}},
        .expire_s = count->initial_expire_s,
        .cas = count->new_cas,
    };
    enum store_status status = command_put(worker, conn, slot, &what);
    *counted = (struct counted){.number = count->initial,
                                .cas = what.cas,
                                .old_expire_s = what.expire_s,
                                .begun = status == STORE_OK};
    return status;
}

enum reply_status command_count(struct worker *worker, struct conn *conn, const struct slot *slot,
                                const struct count *count, struct counted *counted)
{
    struct lookup lookup;
    enum store_status status;
    *counted = (struct counted){0};
    do {
        enum reply_status found = command_look_up(worker, conn, &slot->key, LOOK_UP_PEEK, &lookup);
        if (found == REPLY_NOT_FOUND && count->create) {
            status = begin_count(worker, conn, slot, count, counted);
            continue;
        }
        if (found != REPLY_OK)
            return found;
        bool empty = lookup.item.value_len == 0; /* is told before the CAS unique is looked at */
        bool same = !count->cas || count->cas == lookup.item.cas;
        bool valid = same && compute(&lookup.item, count, &counted->number);
        if (valid)
            status = put_number(worker, conn, slot, count, &lookup.item, counted);
        command_look_up_end(worker, conn, &lookup);
        if (!valid)
            return same || empty ? REPLY_NON_NUMERIC : REPLY_EXISTS;
    } while (command_has_changed(status));
    return status == STORE_OK ? REPLY_NUMBER : command_answer(worker, conn, status);
}

static enum run_result run_count(struct worker *worker, struct conn *conn, const struct slot *slot)
{
    const struct request *request = &slot->request;
    struct counters *counters = &worker->counters;
    struct counted counted;
    struct count what = {.up = request->op == OP_INCR,
                         .delta = request->delta,
                         .cas = request->cas,
                         .create = request->flags & REQUEST_CREATE,
                         .initial = request->initial};
    if (what.create)
        what.initial_expire_s = clock_expiry(request->exptime, worker->now_s);
    struct reply reply = {.status = command_count(worker, conn, slot, &what, &counted)};
    if (reply.status == REPLY_NONE)
        return RUN_WAIT;
    if (reply.status == REPLY_NOT_FOUND)
        counter_add(what.up ? &counters->incr_misses : &counters->decr_misses, 1);
    else if (reply.status == REPLY_NUMBER && !counted.begun)
        counter_add(what.up ? &counters->incr_hits : &counters->decr_hits, 1);
    reply.number = counted.number;
    reply.cas = counted.cas;
    command_reply(worker, conn, request, &reply);
    return RUN_DONE;
}

/* A touch that shows what it has touched: flags and CAS unique. They lie in the record, so this one looks it up. */
static enum reply_status touch_and_show(struct worker *worker, struct conn *conn,
                                        const struct slot *slot, struct reply *reply)
{
    struct lookup lookup;
    enum reply_status found = look_up_and_touch(worker, conn, slot, &lookup);
    if (found != REPLY_OK)
        return found;
    reply->client_flags = lookup.item.client_flags;
    reply->cas = lookup.item.cas;
    command_look_up_end(worker, conn, &lookup);
    return REPLY_OK;
}

static enum reply_status touch(struct worker *worker, struct conn *conn, const struct slot *slot)
{
    uint32_t expire_s = clock_expiry(slot->request.exptime, worker->now_s);
    return command_answer(worker, conn,
                          command_touch(worker, conn, slot, expire_s, STORE_IF_PRESENT, 0));
}

static enum run_result run_touch(struct worker *worker, struct conn *conn, const struct slot *slot)
{
    struct reply reply = {0};
    reply.status = slot->request.flags & REQUEST_CAS ? touch_and_show(worker, conn, slot, &reply)
                                                     : touch(worker, conn, slot);
    if (reply.status == REPLY_NONE)
        return RUN_WAIT;
    command_count_touch(&worker->counters, reply.status);
    if (reply.status == REPLY_OK)
        reply.status = REPLY_TOUCHED;
    command_reply(worker, conn, &slot->request, &reply);
    return RUN_DONE;
}

/* delete with a CAS unique. */
static enum reply_status delete_if_unchanged(struct worker *worker, struct conn *conn,
                                             const struct slot *slot)
{
    struct lookup lookup;
    enum store_status status;
    do {
        enum reply_status found = command_look_up(worker, conn, &slot->key, LOOK_UP_PEEK, &lookup);
        if (found != REPLY_OK)
            return found;
        uint64_t location = lookup.item.location;
        bool other = lookup.item.cas != slot->request.cas;
        command_look_up_end(worker, conn, &lookup);
        if (other)
            return REPLY_EXISTS;
        status = command_delete(worker, conn, slot, STORE_IF_SAME, location);
    } while (command_has_changed(status));
    return command_answer(worker, conn, status);
}

static enum run_result run_delete(struct worker *worker, struct conn *conn, const struct slot *slot)
{
    struct counters *counters = &worker->counters;
    enum reply_status status =
        slot->request.cas
            ? delete_if_unchanged(worker, conn, slot)
            : command_answer(worker, conn, command_delete(worker, conn, slot, STORE_IF_PRESENT, 0));
    if (status == REPLY_NONE)
        return RUN_WAIT;
    command_count_found(&counters->delete_hits, &counters->delete_misses, status);
    if (watch_wants(worker))
        watch_deleted(worker, conn, slot, status == REPLY_OK);
    reply_status(worker, conn, &slot->request, status == REPLY_OK ? REPLY_DELETED : status);
    return RUN_DONE;
}

static enum run_result run_flush(struct worker *worker, struct conn *conn, const struct slot *slot)
{
    int64_t delay = slot->request.exptime;
    uint32_t when = delay > 0 ? clock_deadline(delay, worker->now_s) : 0;
    enum store_status status = store_flush(worker->session, when);
    note_write(conn, status);
    enum reply_status reply = command_answer(worker, conn, status);
    if (reply == REPLY_NONE)
        return RUN_WAIT;
    counter_add(&worker->counters.cmd_flush, 1);
    if (reply == REPLY_OK)
        watch_system(worker, "flush_all", "at", when ? when : worker->now_s);
    reply_status(worker, conn, &slot->request, reply);
    return RUN_DONE;
}

/* All but those that tell who watches more than their line. */
static enum run_result run_other(struct worker *worker, struct conn *conn, const struct slot *slot)
{
    struct reply reply = {0};
    switch (slot->request.op) {
    case OP_INCR:
    case OP_DECR: return run_count(worker, conn, slot);
    case OP_TOUCH: return run_touch(worker, conn, slot);
    case OP_FLUSH_ALL: return run_flush(worker, conn, slot);
    case OP_INVALID:
        reply_status(worker, conn, &slot->request, slot->request.error);
        return slot->close ? RUN_CLOSE : RUN_DONE;
    case OP_QUIT:
        if (slot->request.protocol == PROTOCOL_BINARY)
            reply_status(worker, conn, &slot->request, REPLY_OK);
        return RUN_CLOSE;
    case OP_META_ARITHMETIC:
    case OP_META_DEBUG:
    case OP_META_NOOP: return command_run_meta(worker, conn, slot);
    case OP_NOOP:
    case OP_SASL_LIST:
    case OP_SASL_AUTH:
    case OP_SASL_STEP: return command_run_binary(worker, conn, &slot->request);
    case OP_STATS:
        if (slot->request.protocol == PROTOCOL_BINARY)
            return command_run_binary(worker, conn, &slot->request);
        return command_run_admin(worker, conn, &slot->request, &reply);
    default: return command_run_admin(worker, conn, &slot->request, &reply);
    }
}

/* What only some may ask for is refused here, before it is looked at any further. */
static bool is_refused(const struct worker *worker, const struct conn *conn,
                       const struct request *request, struct reply *refusal)
{
    return !rights_are_free(request->op) &&
           !rights_allow(&worker->server->settings, conn->transport == TRANSPORT_UDP, request,
                         refusal);
}

static enum run_result run(struct worker *worker, struct conn *conn, const struct slot *slot)
{
    struct reply refusal;
    if (is_refused(worker, conn, &slot->request, &refusal)) {
        command_say(worker, conn, &slot->request, &refusal);
        if (watch_wants(worker))
            watch_ran(worker, conn, slot);
        return RUN_DONE;
    }
    switch (slot->request.op) {
    case OP_GET: return run_get(worker, conn, slot);
    case OP_SET:
    case OP_ADD:
    case OP_REPLACE:
    case OP_APPEND:
    case OP_PREPEND:
    case OP_CAS: return run_store(worker, conn, slot);
    case OP_DELETE: return run_delete(worker, conn, slot);
    case OP_META_GET:
    case OP_META_SET:
    case OP_META_DELETE: return command_run_meta(worker, conn, slot);
    default: break;
    }
    enum run_result result = run_other(worker, conn, slot);
    bool ran = result == RUN_DONE || result == RUN_CLOSE; /* nobody sees how he began to watch */
    if (watch_wants(worker) && ran)
        watch_ran(worker, conn, slot);
    return result;
}

enum run_result command_run(struct worker *worker, struct conn *conn, const struct slot *slot)
{
    enum run_result result = run(worker, conn, slot);
    if (result != RUN_WAIT || conn->parked) /* who waits for room is held up by nobody's changes */
        conn->look_ups = 0;
    return result;
}
