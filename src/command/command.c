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

static enum run_result run_invalid(struct command_context *context, struct client *client,
                                   const struct command *command)
{
    command_reply_status(context, client, &command->request, command->request.error);
    return command->closes ? RUN_CLOSE : RUN_DONE;
}

static enum run_result run_quit(struct command_context *context, struct client *client,
                                const struct request *request)
{
    if (request->protocol == PROTOCOL_BINARY)
        command_reply_status(context, client, request, REPLY_OK);
    return RUN_CLOSE;
}

/* All but those that tell who watches more than their line. */
static enum run_result run_other(struct command_context *context, struct client *client,
                                 const struct command *command)
{
    const struct request *request = &command->request;
    bool binary = request->protocol == PROTOCOL_BINARY;
    switch (request->op) {
    case OP_FLUSH_ALL: return write_run_flush(context, client, command);
    case OP_META_ARITHMETIC:
    case OP_META_DEBUG:
    case OP_META_NOOP: return meta_run(context, client, command);
    case OP_INVALID: return run_invalid(context, client, command);
    case OP_QUIT: return run_quit(context, client, request);
    case OP_AUTHENTICATE: return auth_run_password(context, client, request);
    case OP_SASL_LIST:
    case OP_SASL_AUTH:
    case OP_SASL_STEP: return auth_run_sasl(context, client, request);
    case OP_NOOP: return binary_run(context, client, request);
    case OP_STATS:
        return binary ? binary_run(context, client, request) : admin_run(context, client, request);
    default: return admin_run(context, client, request);
    }
}

/* A client who begins to watch is not told of that himself, nor anybody of SASL. */
static bool is_told(const struct request *request, enum run_result result)
{
    return result == RUN_DONE || result == RUN_CLOSE || request->op == OP_AUTHENTICATE;
}

__attribute__((noinline)) static enum run_result
run_and_tell(struct command_context *context, struct client *client, const struct command *command)
{
    enum run_result result = run_other(context, client, command);
    if (watch_wants(&context->watch) && is_told(&command->request, result))
        command_tell_ran(context, client, command);
    return result;
}

static enum run_result refuse(struct command_context *context, struct client *client,
                              const struct command *command, const struct reply *refusal)
{
    command_say(context, client, &command->request, refusal);
    if (watch_wants(&context->watch))
        command_tell_ran(context, client, command);
    return RUN_DONE;
}

/* What only some may ask for is refused here, before it is looked at any further. */
__attribute__((noinline)) static enum run_result run_if_allowed(struct command_context *context,
                                                                struct client *client,
                                                                const struct command *command)
{
    struct reply refusal;
    if (!rights_allow(context->settings, client->is_udp, &command->request, &refusal))
        return refuse(context, client, command, &refusal);
    return run_and_tell(context, client, command);
}

/* What is called here tells those who watch by itself. What is not is kept out of line, so that the
 * way to get and set stays short. */
enum run_result command_dispatch(struct command_context *context, struct client *client,
                                 const struct command *command)
{
    if (!rights_are_free(command->request.op))
        return run_if_allowed(context, client, command);

    switch (command->request.op) {
    case OP_GET: return get_run(context, client, command);
    case OP_SET:
    case OP_ADD:
    case OP_REPLACE:
    case OP_APPEND:
    case OP_PREPEND:
    case OP_CAS: return write_run(context, client, command);
    case OP_INCR:
    case OP_DECR: return arithmetic_run(context, client, command);
    case OP_TOUCH: return write_run_touch(context, client, command);
    case OP_DELETE: return write_run_delete(context, client, command);
    case OP_META_GET:
    case OP_META_SET:
    case OP_META_DELETE: return meta_run(context, client, command);
    default: return run_and_tell(context, client, command);
    }
}
