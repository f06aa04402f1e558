/* commands.h: a client without a socket, for tests that run commands: one context, one client, and
 * what the client gets to see.
 */
#ifndef CACHECASK_TESTS_UNIT_SRC_COMMANDS_H
#define CACHECASK_TESTS_UNIT_SRC_COMMANDS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "src/command/command.h"

struct commands {
    struct command_context context;
    struct client client;
    struct settings settings;
    _Atomic uint32_t observed;
    _Atomic uint32_t reported_s; /* of all messages */
    struct command command;      /* the last that was parsed */
    enum run_result result;      /* of its last run */
    char answer[OUTPUT_ROOM];    /* all that it has said */
    size_t answer_len;
    uint32_t waits[32]; /* how often a wait has begun, by the number of its bit */
    uint32_t resumed;
};

/* The context has no store yet: it is for the test. */
void commands_init(struct commands *commands);
void commands_release(struct commands *commands);

/* The next request of the protocol is parsed by this client. */
void commands_speak(struct commands *commands, enum protocol protocol);

/* Parses one request, which is all of `bytes`. Its key is not hashed: the store may be a fake. */
void commands_parse(struct commands *commands, const char *bytes, size_t len);

/* Runs the parsed request, for the first time or once more. Its output is in `answer`. */
void commands_run(struct commands *commands);

#endif
