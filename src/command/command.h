/* command.h: what memcached means by a request. */
#ifndef CACHECASK_SRC_COMMAND_COMMAND_H
#define CACHECASK_SRC_COMMAND_COMMAND_H

#include "src/command/client.h"
#include "src/command/context.h"
#include "src/observe/observed.h"

/* A request to be run, and whose it is. */
struct command {
    struct client *client;
    struct request request;
    struct store_key key;        /* len 0: the request has none */
    struct parser parser_before; /* what it was parsed with */
    struct bytes received;       /* its first byte, and all that was received after it */
    bool closes;                 /* the stream cannot go on after it */
};

/* How a run has ended. */
enum run_result {
    RUN_DONE,
    RUN_WAIT,  /* nothing is changed or said: run it again when the client waits no more */
    RUN_PAUSE, /* done; what comes after it is parsed in the next round */
    RUN_CLOSE, /* done; close the connection when all is sent */
    RUN_WATCH, /* done; all else that the client sends is dropped */
};

/* For command_run. */
enum run_result command_dispatch(const struct command *command);

/* Carries out a request and writes its reply to the context's output. The client must not wait for
 * anything. */
static inline enum run_result command_run(const struct command *command)
{
    enum run_result result = command_dispatch(command);
    /* Others' changes do not hold up a client that waits for space. */
    if (result != RUN_WAIT || client_waits_for(command->client, WAIT_SPACE))
        command->client->look_ups = 0;
    return result;
}

/* A get that waits for an earlier one: begins to fetch its value, if that is on disk. */
void command_look_ahead(const struct command *command);

/* Whether it is a further key of a line whose first key came before it. */
static inline bool command_is_further_key(const struct command *command)
{
    return parser_is_in_line(&command->parser_before);
}

/* For the watchers and the log. */
struct observed_request command_observed(const struct command *command);

#endif
