/* command_binary.c: what only the binary protocol has: noop, stat as packets, and SASL. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "src/command/command.h"
#include "src/command/rights.h"
#include "src/command/sasl.h"

/* stat: one packet a line of the text answer, and an empty one at the end. */

struct packets {
    const struct request *request;
    char *data;
    size_t len;
};

static void add_packet(struct packets *packets, struct bytes key, struct bytes value)
{
    char *out = packets->data + packets->len;
    size_t len = binary_reply_part(packets->request, key, value.len, out);
    if (value.len)
        memcpy(out + len, value.data, value.len);
    packets->len += len + value.len;
}

static bool starts_with(struct bytes text, const char *start)
{
    size_t len = strlen(start);
    return text.len >= len && memcmp(text.data, start, len) == 0;
}

/* The next line of the text, without its end. */
static struct bytes take_line(struct bytes *text)
{
    const char *newline = memchr(text->data, '\n', text->len);
    size_t len = newline ? (size_t)(newline - text->data) + 1 : text->len;
    struct bytes line = {text->data, len - (newline ? 1 : 0)};
    if (line.len && line.data[line.len - 1] == '\r')
        line.len--;
    text->data += len;
    text->len -= len;
    return line;
}

/* "STAT name value" */
static void add_row(struct packets *packets, struct bytes line)
{
    const char *name = line.data + sizeof "STAT " - 1;
    const char *end = line.data + line.len;
    const char *blank = memchr(name, ' ', (size_t)(end - name));
    struct bytes key = {name, (size_t)((blank ? blank : end) - name)};
    struct bytes value = {0};
    if (blank)
        value = (struct bytes){blank + 1, (size_t)(end - blank - 1)};
    add_packet(packets, key, value);
}

/* A line that is no row says that something has been done (RESET, OK), which the empty packet says here. */
static void add_rows(struct packets *packets, struct bytes text)
{
    while (text.len) {
        struct bytes line = take_line(&text);
        if (starts_with(line, "STAT "))
            add_row(packets, line);
    }
}

static size_t count_lines(struct bytes text)
{
    size_t lines = 0;
    while (text.len) {
        take_line(&text);
        lines++;
    }
    return lines;
}

static bool add_stats(struct packets *packets, struct bytes text)
{
    static const struct bytes nothing = {0}, detailed = {"detailed", sizeof "detailed" - 1};
    /* A row is shorter than its line but for the header. */
    packets->data = malloc((count_lines(text) + 1) * BINARY_HEADER_LEN + detailed.len + text.len);
    if (!packets->data)
        return false;
    /* What `stats detail dump` prints is no list of rows, and goes as it is. */
    if (starts_with(text, "PREFIX ") ||
        (starts_with(text, "END\r\n") && starts_with(packets->request->args, "detail dump")))
        add_packet(packets, detailed, text);
    else
        add_rows(packets, text);
    add_packet(packets, nothing, nothing);
    return true;
}

static void run_stats(struct worker *worker, struct conn *conn, const struct request *request)
{
    struct reply reply = {.status = REPLY_NOT_FOUND}; /* there is no such group */
    struct packets packets = {.request = request};
    struct reply switched = {0};
    char *text;
    size_t len;
    conn_set_state(conn, CONN_STATE_PARSE);
    if (command_switch_stats(worker, request->args, &switched)) {
        struct bytes rows = {switched.text, switched.text_len}; /* an error has none */
        reply.status = add_stats(&packets, rows) ? REPLY_NONE : REPLY_NO_MEMORY;
    } else if (stats_answer(worker->server, request->args.data, request->args.len, &text, &len)) {
        reply.status =
            add_stats(&packets, (struct bytes){text, len}) ? REPLY_NONE : REPLY_NO_MEMORY;
        free(text);
    }
    if (reply.status != REPLY_NONE) {
        command_reply(worker, conn, request, &reply);
        return;
    }
    output_add(&worker->output, packets.data, packets.len, PIECE_HEAP, packets.data);
    conn->out_bytes += packets.len;
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
