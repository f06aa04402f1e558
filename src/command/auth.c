/* auth.c: how clients say who they are: a password of the text protocol (-Y), SASL of the binary
 * one (-S). What a client has sent after that is parsed in the next round, by the rule that holds
 * then (RUN_PAUSE).
 */
#define _GNU_SOURCE
#include "src/base/server_log.h"
#include "src/command/auth_file.h"
#include "src/command/internal.h"
#include "src/command/sasl.h"

enum run_result auth_run_password(const struct command *command)
{
    static const enum reply_status answers[] = {
        [AUTH_GRANTED] = REPLY_STORED,
        [AUTH_REFUSED] = REPLY_WRONG_PASSWORD,
        [AUTH_MALFORMED] = REPLY_BAD_PASSWORD_FORM,
    };
    struct client *client = command->client;
    struct command_context *context = client->context;
    struct bytes shown = command->request.value;
    enum auth_result result = auth_file_check(context->auth_file, shown.data, shown.len);
    client_set_locked(client, result != AUTH_GRANTED);
    command_reply_status(command, answers[result]);
    counter_add(&context->counters.auth_cmds, 1);
    if (result == AUTH_GRANTED)
        return RUN_PAUSE;

    counter_add(&context->counters.auth_errors, 1);
    if (context->verbosity >= SERVER_LOG_EVENTS)
        server_log("<%d authentication failure: %s", client->fd, client->address);
    return RUN_PAUSE;
}

enum run_result auth_run_sasl(const struct command *command)
{
    if (command->client->context->settings->enable_sasl)
        sasl_run(command);
    else
        command_reply_status(command, REPLY_ERROR);
    return command->request.op == OP_SASL_LIST ? RUN_DONE : RUN_PAUSE;
}
