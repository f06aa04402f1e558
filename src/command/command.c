/* command.c: which command a request is, and whether this client may ask for it.
 *
 * The store knows get, put, delete and touch, each with a condition. A command that cannot be
 * completed now waits (client.h) before it has changed anything, and is run again from its
 * beginning.
 */
#define _GNU_SOURCE
#include "src/command/command.h"

#include "src/command/internal.h"
#include "src/command/rights.h"

static enum run_result run_invalid(const struct command *command)
{
    command_reply_status(command, command->request.error);
    return command->closes ? RUN_CLOSE : RUN_DONE;
}

static enum run_result run_quit(const struct command *command)
{
    if (command->request.protocol == PROTOCOL_BINARY)
        command_reply_status(command, REPLY_OK);
    return RUN_CLOSE;
}

/* The commands of which watchers see only the line. */
static enum run_result run_other(const struct command *command)
{
    bool binary = command->request.protocol == PROTOCOL_BINARY;
    switch (command->request.op) {
    case OP_FLUSH_ALL: return write_run_flush(command);
    case OP_META_ARITHMETIC:
    case OP_META_DEBUG:
    case OP_META_NOOP: return meta_run(command);
    case OP_INVALID: return run_invalid(command);
    case OP_QUIT: return run_quit(command);
    case OP_AUTHENTICATE: return auth_run_password(command);
    case OP_SASL_LIST:
    case OP_SASL_AUTH:
    case OP_SASL_STEP: return auth_run_sasl(command);
    case OP_NOOP: command_reply_status(command, REPLY_OK); return RUN_DONE;
    case OP_STATS: return binary ? binary_run_stats(command) : admin_run(command);
    default: return admin_run(command);
    }
}

__attribute__((noinline)) static enum run_result run_and_tell(const struct command *command)
{
    enum run_result result = run_other(command);
    /* Watchers are not told of SASL, nor a new one of its own watch. */
    bool tell = result == RUN_DONE || result == RUN_CLOSE || command->request.op == OP_AUTHENTICATE;
    if (tell && watch_wants(&command->client->context->watch))
        command_tell_ran(command);
    return result;
}

__attribute__((noinline)) static enum run_result run_if_allowed(const struct command *command)
{
    const struct client *client = command->client;
    struct reply refusal;
    if (rights_allow(client->context->settings, client->is_udp, &command->request, &refusal))
        return run_and_tell(command);
    command_say(command, &refusal);
    if (watch_wants(&client->context->watch))
        command_tell_ran(command);
    return RUN_DONE;
}

/* The commands called here tell the watchers themselves. All others are kept out of line, so that
 * the way to get and set stays short. */
enum run_result command_dispatch(const struct command *command)
{
    if (!rights_are_free(command->request.op))
        return run_if_allowed(command);

    switch (command->request.op) {
    case OP_GET: return get_run(command);
    case OP_SET:
    case OP_ADD:
    case OP_REPLACE:
    case OP_APPEND:
    case OP_PREPEND:
    case OP_CAS: return write_run(command);
    case OP_INCR:
    case OP_DECR: return arithmetic_run(command);
    case OP_TOUCH: return write_run_touch(command);
    case OP_DELETE: return write_run_delete(command);
    case OP_META_GET:
    case OP_META_SET:
    case OP_META_DELETE: return meta_run(command);
    default: return run_and_tell(command);
    }
}
