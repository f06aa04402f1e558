/* command_binary.c: what only the binary protocol has: noop, stat as packets, and SASL. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "src/base/text.h"
#include "src/command/command.h"
#include "src/command/rights.h"
#include "src/command/sasl.h"

/* stat: a packet for each row, and an empty one at the end. */

struct packets {
    const struct request *request;
    struct text out;
    struct text
        prefixes; /* what `stats detail dump` prints is no list of rows: one packet, as text has it */
};

static void add_packet(struct packets *packets, struct bytes key, struct bytes value)
{
    char *out = text_reserve(&packets->out, BINARY_HEADER_LEN + key.len + value.len);
    if (!out)
        return;
    size_t len = binary_reply_part(packets->request, key, value.len, out);
    if (value.len)
        memcpy(out + len, value.data, value.len);
    packets->out.len += len + value.len;
}

static void take_row(void *context, const struct stats_row *row)
{
    struct packets *packets = context;
    struct bytes name = {row->name, strlen(row->name)};
    struct bytes value = {row->value, strlen(row->value)};
    if (row->kind == STATS_PREFIX)
        text_add(&packets->prefixes, "PREFIX %s %s\r\n", row->name, row->value);
    else
        add_packet(packets, name, value);
}

static void add_prefixes(struct packets *packets)
{
    static const struct bytes detailed = {"detailed", sizeof "detailed" - 1};
    text_add(&packets->prefixes, "END\r\n");
    add_packet(packets, detailed, (struct bytes){packets->prefixes.data, packets->prefixes.len});
}

/* That something was done (RESET, OK) is said by the empty packet alone. */
static enum reply_status add_stats(struct worker *worker, struct packets *packets)
{
    static const struct bytes nothing = {0};
    const struct request *request = packets->request;
    const struct stats_receiver to = {take_row, packets};
    struct reply switched = {0};
    enum stats_answer answer = STATS_SWITCHED;

    if (!command_switch_stats(worker, request->args, &switched))
        answer = stats_each(&worker->server->stats, request->args.data, request->args.len, &to);
    if (answer == STATS_UNKNOWN)
        return REPLY_NOT_FOUND;
    if (answer == STATS_PREFIXES)
        add_prefixes(packets);
    add_packet(packets, nothing, nothing);
    return packets->out.failed || packets->prefixes.failed ? REPLY_NO_MEMORY : REPLY_NONE;
}

static void run_stats(struct worker *worker, struct conn *conn, const struct request *request)
{
    struct packets packets = {.request = request};
    conn_set_state(conn, CONN_STATE_PARSE);
    struct reply reply = {.status = add_stats(worker, &packets)};

    free(packets.prefixes.data);
    if (reply.status != REPLY_NONE) {
        free(packets.out.data);
        command_reply(worker, conn, request, &reply);
        return;
    }
    output_add(&worker->output, packets.out.data, packets.out.len, PIECE_HEAP, packets.out.data);
    conn->out_bytes += packets.out.len;
}

/* SASL */

/* A head, and a value that libsasl2 may change before it is sent. */
static void reply_sasl(struct worker *worker, struct conn *conn, const struct request *request,
                       enum reply_status status, struct bytes value)
{
    struct reply reply = {.status = status, .value = value.data, .value_len = value.len};
    char *copy = value.len ? malloc(value.len) : NULL;
    if (value.len && !copy)
        reply = (struct reply){.status = REPLY_NO_MEMORY};
    command_reply(worker, conn, request, &reply);
    if (!copy)
        return;
    memcpy(copy, value.data, value.len);
    output_add(&worker->output, copy, value.len, PIECE_HEAP, copy);
    conn->out_bytes += value.len;
}

static void run_sasl_list(struct worker *worker, struct conn *conn, const struct request *request)
{
    struct sasl_session *session = sasl_session_new();
    if (session)
        reply_sasl(worker, conn, request, REPLY_SASL_DONE, sasl_session_mechanisms(session));
    else
        reply_sasl(worker, conn, request, REPLY_SASL_FAILED, (struct bytes){0});
    sasl_session_free(session);
}

/* A start begins anew, whatever was before it. */
static enum sasl_result authenticate(struct conn *conn, const struct request *request,
                                     struct bytes *answer)
{
    if (request->op == OP_SASL_AUTH) {
        sasl_session_free(conn->sasl);
        conn->sasl = sasl_session_new();
    }
    if (!conn->sasl)
        return SASL_RESULT_FAILED; /* a step without a start */
    return request->op == OP_SASL_AUTH
               ? sasl_session_start(conn->sasl, request->args, request->value, answer)
               : sasl_session_step(conn->sasl, request->value, answer);
}

static void run_sasl_auth(struct worker *worker, struct conn *conn, const struct request *request)
{
    static const struct bytes welcome = {"Authenticated", 13};
    struct counters *counters = &worker->counters;
    struct bytes answer = {0};
    enum sasl_result result = authenticate(conn, request, &answer);
    parser_lock(&conn->parser, result == SASL_RESULT_DONE ? 0 : rights_of_strangers());
    switch (result) {
    case SASL_RESULT_DONE: reply_sasl(worker, conn, request, REPLY_SASL_DONE, welcome); break;
    case SASL_RESULT_CONTINUE:
        reply_sasl(worker, conn, request, REPLY_SASL_CONTINUE, answer);
        return;
    case SASL_RESULT_FAILED:
        reply_sasl(worker, conn, request, REPLY_SASL_FAILED, (struct bytes){0});
        counter_add(&counters->auth_errors, 1);
        break;
    }
    counter_add(&counters->auth_cmds, 1);
    sasl_session_free(conn->sasl);
    conn->sasl = NULL;
}

static enum run_result run_sasl(struct worker *worker, struct conn *conn,
                                const struct request *request)
{
    const struct reply unknown = {.status = REPLY_ERROR};
    bool list = request->op == OP_SASL_LIST;
    if (!worker->server->settings.enable_sasl)
        command_reply(worker, conn, request, &unknown);
    else if (list)
        run_sasl_list(worker, conn, request);
    else
        run_sasl_auth(worker, conn, request);
    return list ? RUN_DONE : RUN_PAUSE;
}

enum run_result command_run_binary(struct worker *worker, struct conn *conn,
                                   const struct request *request)
{
    const struct reply ok = {.status = REPLY_OK};
    switch (request->op) {
    case OP_STATS: run_stats(worker, conn, request); return RUN_DONE;
    case OP_SASL_LIST:
    case OP_SASL_AUTH:
    case OP_SASL_STEP: return run_sasl(worker, conn, request);
    default: command_reply(worker, conn, request, &ok); return RUN_DONE; /* noop */
    }
}
