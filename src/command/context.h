/* context.h: what commands work with, one for each thread that runs them. Commands know neither
 * worker nor connection nor event loop: struct command_host stands for those. */
#ifndef CACHECASK_SRC_COMMAND_CONTEXT_H
#define CACHECASK_SRC_COMMAND_CONTEXT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "src/base/output.h"
#include "src/base/waker.h"
#include "src/command/client.h"
#include "src/command/fetches.h"
#include "src/config/settings.h"
#include "src/observe/stats.h"
#include "src/observe/watch.h"
#include "storage/store.h"

struct auth_file;
struct dump;

#define COMMAND_WHY_MAX 512

/* What commands ask of whoever runs them. All are called by the context's thread. */
struct command_host {
    /* The client has begun to wait: command_wait. */
    void (*wait)(struct client *client, enum wait_reason reason);

    /* One of the client's waits has ended. If it was the last, its requests are run, later. */
    void (*resume)(struct client *client);

    /* The client's request shows the state of all clients: it is not waiting itself. */
    void (*running)(struct client *client);

    /* Stops the server. */
    void (*stop)(struct command_context *context);

    /* Reads the certificates again. False: they stay as they are, and `why` says why. */
    bool (*reload_certificates)(struct command_context *context, char why[COMMAND_WHY_MAX]);
};

struct command_context {
    struct store_session *session;
    struct store *store;
    const struct settings *settings;
    uint32_t now_s;
    int verbosity; /* of the server, as this round found it */
    struct watch_writer watch;
    struct fetches fetches;
    struct counters counters;
    const struct command_host *host;
    struct waker waker; /* wakes the thread */

    /* What all threads share. */
    struct dump *dump;
    struct auth_file *auth_file; /* NULL: no password is asked for */
    const struct stats_source *stats;
    _Atomic int *server_verbosity;
    _Atomic bool *sizes_enabled; /* stats sizes answers */

    /* When it was last logged that clients have waited too long, or take too much memory. */
    _Atomic uint32_t *waits_reported_s, *memory_reported_s;

    struct output output;
};

/* Makes the client wait, if it does not already. */
static inline void command_wait(struct client *client, enum wait_reason reason)
{
    if (client_waits_for(client, reason))
        return;
    client->waits |= reason;
    client->context->host->wait(client, reason);
}

#endif
