/* auth.c: how clients say who they are: a password of the text protocol (-Y), SASL of the binary
 * one (-S). What a client has sent after that is parsed in the next round, by the rule that holds
 * then (RUN_PAUSE).
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "src/base/server_log.h"
#include "src/command/auth_file.h"
#include "src/command/internal.h"
#include "src/command/sasl.h"

/* Passwords. */

enum run_result auth_run_password(struct command_context *context, struct client *client,
                                  const struct request *request)
{
    static const enum reply_status answers[] = {
        [AUTH_GRANTED] = REPLY_STORED,
        [AUTH_REFUSED] = REPLY_WRONG_PASSWORD,
        [AUTH_MALFORMED] = REPLY_BAD_PASSWORD_FORM,
    };
    enum auth_result result =
        auth_file_check(context->auth_file, request->value.data, request->value.len);
    client_set_locked(client, result != AUTH_GRANTED);
    command_reply_status(context, client, request, answers[result]);
    counter_add(&context->counters.auth_cmds, 1);
    if (result == AUTH_GRANTED)
        return RUN_PAUSE;

    counter_add(&context->counters.auth_errors, 1);
    if (context->verbosity >= SERVER_LOG_EVENTS)
        server_log("<%d authentication failure: %s", client->fd, client->address);
    return RUN_PAUSE;
}

/* SASL. */

/* A head, and a value that libsasl2 may change before it is sent. */
static void reply_sasl(struct command_context *context, struct client *client,
                       const struct request *request, enum reply_status status, struct bytes value)
{
    struct reply reply = {.status = status, .value = value.data, .value_len = value.len};
    char *copy = value.len ? malloc(value.len) : NULL;
    if (value.len && !copy)
        reply = (struct reply){.status = REPLY_NO_MEMORY};
    command_reply(context, client, request, &reply);
    if (!copy)
        return;
    memcpy(copy, value.data, value.len);
    output_add_heap(&context->output, copy, value.len);
    client->out_bytes += value.len;
}

static void run_sasl_list(struct command_context *context, struct client *client,
                          const struct request *request)
{
    struct sasl_session *session = sasl_session_new();
    if (session)
        reply_sasl(context, client, request, REPLY_SASL_DONE, sasl_session_mechanisms(session));
    else
        reply_sasl(context, client, request, REPLY_SASL_FAILED, (struct bytes){0});
    sasl_session_free(session);
}

/* A start begins anew, whatever was before it. */
static enum sasl_result authenticate(struct client *client, const struct request *request,
                                     struct bytes *answer)
{
    if (request->op == OP_SASL_AUTH) {
        sasl_session_free(client->sasl);
        client->sasl = sasl_session_new();
    }
    if (!client->sasl)
        return SASL_RESULT_FAILED; /* a step without a start */
    return request->op == OP_SASL_AUTH
               ? sasl_session_start(client->sasl, request->args, request->value, answer)
               : sasl_session_step(client->sasl, request->value, answer);
}

static void run_sasl_auth(struct command_context *context, struct client *client,
                          const struct request *request)
{
    static const struct bytes welcome = {"Authenticated", 13};
    struct counters *counters = &context->counters;
    struct bytes answer = {0};
    enum sasl_result result = authenticate(client, request, &answer);
    client_set_locked(client, result != SASL_RESULT_DONE);
    switch (result) {
    case SASL_RESULT_DONE: reply_sasl(context, client, request, REPLY_SASL_DONE, welcome); break;
    case SASL_RESULT_CONTINUE:
        reply_sasl(context, client, request, REPLY_SASL_CONTINUE, answer);
        return;
    case SASL_RESULT_FAILED:
        reply_sasl(context, client, request, REPLY_SASL_FAILED, (struct bytes){0});
        counter_add(&counters->auth_errors, 1);
        break;
    }
    counter_add(&counters->auth_cmds, 1);
    sasl_session_free(client->sasl);
    client->sasl = NULL;
}

enum run_result auth_run_sasl(struct command_context *context, struct client *client,
                              const struct request *request)
{
    const struct reply unknown = {.status = REPLY_ERROR};
    bool list = request->op == OP_SASL_LIST;
    if (!context->settings->enable_sasl)
        command_reply(context, client, request, &unknown);
    else if (list)
        run_sasl_list(context, client, request);
    else
        run_sasl_auth(context, client, request);
    return list ? RUN_DONE : RUN_PAUSE;
}
