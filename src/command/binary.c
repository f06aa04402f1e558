/* binary.c: stat of the binary protocol: a packet for each row, and an empty one at the end. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "src/base/text.h"
#include "src/command/internal.h"

struct packets {
    const struct request *request;
    struct text out;

    /* What `stats detail dump` prints is no list of rows: one packet, as text has it. */
    struct text prefixes;
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
    if (row->is_prefix)
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
static enum reply_status add_stats(struct command_context *context, struct packets *packets)
{
    static const struct bytes nothing = {0};
    const struct request *request = packets->request;
    const struct stats_receiver to = {take_row, packets};
    struct reply switched = {0};
    enum stats_answer answer = STATS_SWITCHED;

    if (!admin_switch_stats(context, request->args, &switched))
        answer = stats_each(context->stats, request->args.data, request->args.len, &to);
    if (answer == STATS_UNKNOWN)
        return REPLY_NOT_FOUND;
    if (answer == STATS_PREFIXES)
        add_prefixes(packets);
    add_packet(packets, nothing, nothing);
    return packets->out.failed || packets->prefixes.failed ? REPLY_NO_MEMORY : REPLY_NONE;
}

enum run_result binary_run_stats(const struct command *command)
{
    struct client *client = command->client;
    struct command_context *context = client->context;
    struct packets packets = {.request = &command->request};
    context->host->running(client);
    struct reply reply = {.status = add_stats(context, &packets)};

    free(packets.prefixes.data);
    if (reply.status == REPLY_NONE) {
        output_add_heap(&context->output, packets.out.data, packets.out.len);
        client->out_bytes += packets.out.len;
    } else {
        free(packets.out.data);
        command_reply(command, &reply);
    }
    return RUN_DONE;
}
