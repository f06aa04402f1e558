/* answer.c: what a status of the store means to a client, and what observers are told.
 *
 * Only STORE_NOT_FOUND, and a damaged record that is deleted, mean that a key is absent. What
 * cannot be read is there: its command answers an error and changes nothing.
 */
#define _GNU_SOURCE
#include <string.h>

#include "src/base/server_log.h"
#include "src/command/internal.h"

/* Statuses. */

static void report_refused(struct command_context *context)
{
    if (server_log_may_repeat(context->waits_reported_s, context->now_s))
        server_log(
            "warning: writes have found no room for %d s and are refused: see cleaner_reason, "
            "sync_us_p99 and disk_limit_effective in \"stats store\"",
            CLIENT_WAIT_MAX_S);
}

bool command_wait_for_space(struct client *client)
{
    struct command_context *context = client->context;
    uint32_t waited_s = context->now_s - client->space_since_s;
    if (client_waits_for(client, WAIT_SPACE))
        return true;

    if (!client->space_since_s || waited_s >= 2 * CLIENT_WAIT_MAX_S) {
        client->space_since_s = context->now_s;
    } else if (waited_s >= CLIENT_WAIT_MAX_S) {
        report_refused(context); /* the next of its pipeline do not wait as long again either */
        return false;
    }
    command_wait(client, WAIT_SPACE);
    return true;
}

/* An error says nothing about the key, so its reply goes out even if the log takes no writes. */
static enum reply_status answer_error(struct command_context *context, enum reply_status reply)
{
    store_answer_lsn(context->session);
    return reply;
}

enum reply_status command_answer_other(const struct command *command, enum store_status status)
{
    struct command_context *context = command->client->context;
    switch (status) { /* without a default: a new status has to be thought about */
    case STORE_OK: return REPLY_OK;
    case STORE_NOT_FOUND:
    case STORE_CORRUPT: return REPLY_NOT_FOUND;
    case STORE_EXISTS: return REPLY_EXISTS;
    case STORE_WAIT_SPACE:
        if (command_wait_for_space(command->client))
            return REPLY_NONE;
        __attribute__((fallthrough)); /* it has waited long enough */
    case STORE_FULL:
        counter_add(&context->counters.store_no_memory, 1);
        return answer_error(context, REPLY_NO_MEMORY);
    case STORE_NO_MEMORY: return answer_error(context, REPLY_READ_NO_MEMORY);
    case STORE_READ_ONLY: return answer_error(context, REPLY_READ_ONLY);
    case STORE_IO: return answer_error(context, REPLY_UNREADABLE);
    case STORE_WAIT_READ: /* command_look_up has waited for that, and no command is told the rest */
    case STORE_WAIT_SYNC:
    case STORE_MORE:
    case STORE_IN_USE:
    case STORE_BAD_VERSION:
    case STORE_NOT_OURS: break;
    }
    return answer_error(context, REPLY_READ_ONLY);
}

void command_say(const struct command *command, const struct reply *reply)
{
    struct output *output = &command->client->context->output;
    if (reply->status == REPLY_TEXT && !(command->request.flags & REQUEST_NOREPLY)) {
        memcpy(output_at(output), reply->text, reply->text_len);
        command->client->out_bytes += reply->text_len;
        output_wrote(output, reply->text_len);
    } else if (reply->status != REPLY_NONE) {
        command_reply(command, reply);
    }
}

/* Observers. */

struct observed_request command_observed(const struct command *command)
{
    struct observed_request observed = {.fd = command->client->fd, .request = &command->request};
    uint64_t refused = parser_swallows(&command->parser_before); /* of a request before it */
    if (!command_is_further_key(command) && refused < command->received.len)
        observed.received = (struct bytes){command->received.data + refused,
                                           command->received.len - (size_t)refused};
    return observed;
}

void command_tell_ran(const struct command *command)
{
    const struct observed_request observed = command_observed(command);
    watch_ran(&command->client->context->watch, &observed);
}

void command_tell_got(const struct command *command, bool found, size_t value_len)
{
    const struct observed_request observed = command_observed(command);
    watch_got(&command->client->context->watch, &observed, found, value_len);
}

void command_tell_stored(const struct command *command, enum reply_status status)
{
    struct command_context *context = command->client->context;
    const struct observed_request observed = command_observed(command);
    watch_stored(&context->watch, &observed, status, context->now_s);
}

void command_tell_deleted(const struct command *command, bool found)
{
    const struct observed_request observed = command_observed(command);
    watch_deleted(&command->client->context->watch, &observed, found);
}
