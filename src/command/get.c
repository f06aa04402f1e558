/* get.c: looking values up, and answering with them.
 *
 * A value on disk makes its command wait (WAIT_READ, or WAIT_MEMORY before that) before it has
 * changed anything. The command is run again from its beginning with the value at hand.
 */
#define _GNU_SOURCE
#include <string.h>

#include "src/base/clock.h"
#include "src/command/internal.h"

enum reply_status command_look_up(const struct command *command, enum look_up_why why,
                                  struct lookup *lookup)
{
    struct client *client = command->client;
    struct command_context *context = client->context;
    const struct store_key *key = &command->key;
    struct fetched *fetched = client->cold_count ? fetches_find(client, key) : NULL;
    if (!fetched)
        fetched = context->fetches.scratch;
    lookup->fetched = fetched;
    while (client->look_ups++ < COMMAND_LOOK_UPS_MAX) {
        enum store_status status =
            why == LOOK_UP_GET
                ? store_get(context->session, key, &fetched->fetch, &lookup->item)
                : store_get_no_touch(context->session, key, &fetched->fetch, &lookup->item);
        if (status == STORE_OK)
            return REPLY_OK;
        if (status == STORE_WAIT_READ) {
            enum fetches_read read = fetches_read(client, fetched);
            if (read == FETCHES_HERE)
                continue;
            if (read == FETCHES_LATER)
                return REPLY_NONE;
            status = STORE_NO_MEMORY;
        }
        command_look_up_end(command, lookup);
        return command_answer(command, status);
    }
    command_look_up_end(command, lookup);
    return REPLY_CONTENDED;
}

void command_look_ahead(const struct command *command)
{
    struct client *client = command->client;
    struct command_context *context = client->context;
    struct store_item item;
    struct store_fetch *fetch = &context->fetches.scratch->fetch;
    bool get = command->request.op == OP_GET || command->request.op == OP_META_GET;
    if (!get || !command->key.len || client->cold_count == CLIENT_COLD_MAX ||
        fetches_find(client, &command->key))
        return;
    if (store_get_no_touch(context->session, &command->key, fetch, &item) == STORE_WAIT_READ)
        fetches_read_ahead(client);
    else
        store_fetch_release(fetch);
}

/* Replies. */

bool command_reply_value(const struct command *command, const struct reply *reply,
                         const struct lookup *lookup)
{
    struct client *client = command->client;
    const struct request *request = &command->request;
    struct output *output = &client->context->output;
    const struct store_item *item = &lookup->item;
    bool lends = item->value_len > OUTPUT_COPY_MAX && !item->in_ram;
    if (lends && !fetches_keep(client, lookup->fetched)) {
        command_look_up_end(command, lookup);
        return false;
    }
    char *out = output_at(output);
    size_t len = reply_head(request, reply, out);
    client->out_bytes += len + item->value_len;
    if (item->value_len <= OUTPUT_COPY_MAX) {
        memcpy(out + len, item->value, item->value_len);
        len += item->value_len;
        len += reply_tail(request, reply, out + len);
        output_wrote(output, len);
        command_look_up_end(command, lookup);
        return true;
    }
    output_wrote(output, len);
    if (lends) {
        output_add(output, item->value, item->value_len, fetches_drop, lookup->fetched);
    } else {
        output_add(output, item->value, item->value_len, store_unpin,
                   store_pin(client->context->session, item));
        command_look_up_end(command, lookup);
    }
    output_wrote(output, reply_tail(request, reply, output_at(output)));
    return true;
}

/* get, gets, gat, gats. */

enum reply_status command_look_up_and_touch(const struct command *command, struct lookup *lookup)
{
    uint32_t expire_s = clock_expiry(command->request.exptime, command->client->context->now_s);
    enum store_status status;
    do {
        enum reply_status found = command_look_up(command, LOOK_UP_GET, lookup);
        if (found != REPLY_OK)
            return found;
        status = command_touch(command, expire_s, STORE_IF_SAME, lookup->item.location);
        if (status != STORE_OK)
            command_look_up_end(command, lookup);
    } while (command_has_changed(status));
    return command_answer(command, status);
}

/* The error takes the place of END. Asked for several keys, some clients read on until END whatever
 * comes before it, and others stop at an error; the end of the connection keeps both in step. */
static enum run_result refuse_get(const struct command *command, enum reply_status error)
{
    bool is_one_of_many = command->request.flags & REQUEST_MORE || command_is_further_key(command);
    command_reply_status(command, error);
    return is_one_of_many ? RUN_CLOSE : RUN_DONE;
}

static enum run_result reply_get(const struct command *command, enum reply_status found,
                                 const struct lookup *lookup)
{
    if (found == REPLY_NOT_FOUND) {
        command_reply_status(command, REPLY_MISS);
        return RUN_DONE;
    }
    if (found != REPLY_OK)
        return refuse_get(command, found);
    struct reply reply = {.status = REPLY_VALUE,
                          .client_flags = lookup->item.client_flags,
                          .cas = lookup->item.cas,
                          .value = lookup->item.value,
                          .value_len = lookup->item.value_len};
    if (!command_reply_value(command, &reply, lookup))
        return refuse_get(command, REPLY_READ_NO_MEMORY);
    return RUN_DONE;
}

enum run_result get_run(const struct command *command)
{
    struct command_context *context = command->client->context;
    bool touch = command->request.flags & REQUEST_TOUCH;
    struct lookup lookup;
    enum reply_status found = touch ? command_look_up_and_touch(command, &lookup)
                                    : command_look_up(command, LOOK_UP_GET, &lookup);
    if (client_is_held(command->client))
        return RUN_WAIT;
    if (touch)
        command_count_touch(&context->counters, found);
    else
        command_count_get(&context->counters, found);
    if (watch_wants(&context->watch))
        command_tell_got(command, found == REPLY_OK, found == REPLY_OK ? lookup.item.value_len : 0);
    return reply_get(command, found, &lookup);
}
