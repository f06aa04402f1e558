#include "commands.h"

#include <stdlib.h>
#include <string.h>

static struct commands *of(struct client *client)
{
    return (struct commands *)((char *)client - offsetof(struct commands, client));
}

static void note_wait(struct client *client, enum wait_reason reason)
{
    of(client)->waits[__builtin_ctz(reason)]++;
}

static void note_resumed(struct client *client)
{
    of(client)->resumed++;
}

static void ignore_running(struct client *client)
{
    (void)client;
}

static void refuse_to_stop(struct command_context *context)
{
    (void)context;
    abort();
}

static bool reload_nothing(struct command_context *context, char why[COMMAND_WHY_MAX])
{
    (void)context;
    strcpy(why, "Error TLS not enabled");
    return false;
}

static const struct command_host host = {
    .wait = note_wait,
    .resume = note_resumed,
    .running = ignore_running,
    .stop = refuse_to_stop,
    .reload_certificates = reload_nothing,
};

void commands_init(struct commands *commands)
{
    memset(commands, 0, sizeof *commands);
    struct command_context *context = &commands->context;
    commands->settings.item_size_max = 1 << 20;
    context->settings = &commands->settings;
    context->host = &host;
    context->now_s = 1000000;
    context->watch.observed = &commands->observed;
    context->waits_reported_s = context->memory_reported_s = &commands->reported_s;
    commands->client.context = context;
    assert_true(fetches_init(&context->fetches, 0, 1));
    assert_true(output_init(&context->output));
    commands_speak(commands, PROTOCOL_TEXT);
}

void commands_release(struct commands *commands)
{
    commands->client.fetching = 0;
    fetches_end_all(&commands->client);
    fetches_release(&commands->context.fetches);
    output_release(&commands->context.output);
}

void commands_speak(struct commands *commands, enum protocol protocol)
{
    parser_init(&commands->client.parser, protocol, (uint32_t)commands->settings.item_size_max);
}

void commands_parse(struct commands *commands, const char *bytes, size_t len)
{
    struct command *command = &commands->command;
    size_t consumed, need = 0;
    memset(command, 0, sizeof *command);
    command->parser_before = commands->client.parser;
    command->received = (struct bytes){bytes, len};
    assert_int_equal(
        parser_next(&commands->client.parser, bytes, len, &command->request, &consumed, &need),
        PARSE_REQUEST);
    assert_int_equal(consumed, len);
    command->key = (struct store_key){.data = command->request.key.data,
                                      .len = (uint16_t)command->request.key.len};
}

void commands_run(struct commands *commands)
{
    struct output *output = &commands->context.output;
    output_reset(output);
    commands->command.client = &commands->client;
    commands->result = command_run(&commands->command);
    commands->answer_len = 0;
    for (uint32_t i = 0; i < output->count; i++) {
        struct piece *piece = &output->pieces[i];
        assert_true(commands->answer_len + piece->len < sizeof commands->answer);
        memcpy(commands->answer + commands->answer_len, piece->data, piece->len);
        commands->answer_len += piece->len;
        piece_release(piece);
    }
    commands->answer[commands->answer_len] = '\0';
}
