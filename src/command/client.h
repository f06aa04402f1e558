/* client.h: what commands know of a connection. Tests run them without one. */
#ifndef CACHECASK_SRC_COMMAND_CLIENT_H
#define CACHECASK_SRC_COMMAND_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/parser.h"
#include "src/command/rights.h"

#define CLIENT_COLD_MAX 32 /* values read from disk at the same time for one client */

struct command_context;
struct fetched;
struct sasl_conn;

#define CLIENT_WAIT_MAX_S 10 /* for space, or for memory for a value from disk: then an error */

/* What a client waits for: a set. Until it is empty the client's socket is not read, and no request
 * of its is run.
 *
 *                   begins in                      ends in
 *     WAIT_READ     fetches_read()                 fetches_came(), with the last of them
 *     WAIT_MEMORY   fetches_read()                 fetches_serve_line(), fetches_tick()
 *     WAIT_SPACE    command_wait_for_space()       any wake of the worker, or its tick
 *     WAIT_SYNC     at the end of a round          a wake that finds the log durable so far
 *     WAIT_OUTPUT   conn_defer()                   conn_drop_pending(): all is sent, or gone
 *     WAIT_DUMP     lru_crawler metadump, …        the last chunk of the dump, or when it closes
 *     WAIT_WATCH    watch                          when it closes
 */
enum wait_reason {
    WAIT_READ = 1 << 0,   /* values from disk */
    WAIT_MEMORY = 1 << 1, /* memory for a value from disk */
    WAIT_SPACE = 1 << 2,  /* space on disk, or in the index */
    WAIT_SYNC = 1 << 3,   /* its replies rest on what is not on disk yet */
    WAIT_OUTPUT = 1 << 4, /* it has not taken all of its replies */
    WAIT_DUMP = 1 << 5,   /* it is being sent a listing of keys */
    WAIT_WATCH = 1 << 6,  /* it watches, and asks for nothing any more */
};

/* Those for which a request is run again from its beginning. */
#define WAIT_TO_RUN (WAIT_READ | WAIT_MEMORY | WAIT_SPACE)

/* Those that the disk ends. */
#define WAIT_DISK   (WAIT_READ | WAIT_SYNC)

struct client {
    struct command_context *context;
    uint32_t waits;    /* of enum wait_reason */
    uint32_t look_ups; /* of the request that runs, or waits for a value, up to now */
    size_t out_bytes;  /* of its replies in this round */
    struct parser parser;

    /* Its next reply goes out when the log is durable up to here; 0: it is. After a quiet command
     * that is the reply of a later one. */
    uint64_t rests_lsn;

    /* The first request that found no space since a write found some; 0: none has. */
    uint32_t space_since_s;

    /* Values from disk: see fetches.c. */
    struct fetched *cold[CLIENT_COLD_MAX]; /* read, or on their way */
    uint32_t cold_count, fetching;         /* all of them; those on their way */
    size_t fetched_bytes;                  /* on the account: of those, and of what is to be sent */
    size_t fetched_wanted;                 /* while it waits for memory */
    size_t fetched_promised;               /* when its turn has come */
    uint32_t memory_since_s; /* the first that found no memory since one did; 0: none has */
    struct client *next_in_line;

    int fd;      /* its name in logs */
    bool is_udp; /* the sender may be somebody else than it says */
    char address[64];
    struct sasl_conn *sasl; /* of libsasl2: an authentication under way, or NULL */
    uint32_t watcher;       /* WAIT_WATCH: its number */
};

static inline bool client_waits_for(const struct client *client, uint32_t reasons)
{
    return client->waits & reasons;
}

static inline bool client_is_held(const struct client *client)
{
    return client->waits != 0;
}

static inline void client_end_wait(struct client *client, uint32_t reasons)
{
    client->waits &= ~reasons;
}

/* A client that is locked may ask for what is open to strangers, and others for everything. */
static inline void client_set_locked(struct client *client, bool locked)
{
    parser_lock(&client->parser, locked ? rights_of_strangers() : 0);
}

#endif
