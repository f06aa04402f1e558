/* fetches.h: values read from disk for clients, and the memory they may take. See fetches.c. */
#ifndef CACHECASK_SRC_COMMAND_FETCHES_H
#define CACHECASK_SRC_COMMAND_FETCHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/store.h"

#define FETCHES_AHEAD_MAX (2 << 20) /* bytes for requests after the one that waits, per client */

struct client;
struct command_context;

struct fetched {
    struct store_fetch fetch; /* first, so that what the store gives back is this */
    struct client *client;    /* for whom */
    size_t bytes;             /* on the account */
};

/* The values of a thread's clients, and the account of their memory from read to sent. */
struct fetches {
    struct fetched *scratch; /* for what the page cache has */
    uint32_t under_way;      /* with the store */
    size_t bytes, limit;
    struct client *first, *last; /* those whose request waits for memory, as they came */
};

/* One of `threads` that together may take an eighth of `memory_limit` bytes, but at least 64 MiB.
 * False: no memory. */
bool fetches_init(struct fetches *fetches, uint64_t memory_limit, int threads);
void fetches_release(struct fetches *fetches);

/* What was fetched for a request that had to wait; NULL: nothing. */
struct fetched *fetches_find(const struct client *client, const struct store_key *key);

enum fetches_read {
    FETCHES_HERE,
    FETCHES_LATER,     /* the client waits for it, or for memory: run the request again then */
    FETCHES_NO_MEMORY, /* and none came while the client waited */
};

/* Reads the value of a fetch that the store has answered with STORE_WAIT_READ: one that
 * fetches_find has found, or the scratch. */
enum fetches_read fetches_read(struct client *client, struct fetched *fetched);

/* Likewise, with the scratch, for a request after the one that waits, if there is room for it. */
void fetches_read_ahead(struct client *client);

/* A value that was read is not needed any more. */
void fetches_end(struct client *client, struct fetched *fetched);

/* It stays beyond its command, until fetches_drop. False: no memory, and nothing has happened. */
bool fetches_keep(struct client *client, struct fetched *fetched);
void fetches_drop(void *fetched); /* as the owner of a piece */

/* A read has ended; with the last one its client's wait. */
void fetches_came(struct command_context *context, struct store_fetch *fetch);

/* Ends waits for memory as it is given back. Called before the thread waits for events. */
void fetches_serve_line(struct command_context *context);

/* Once a second while clients wait for memory: ends waits that have taken too long. The request is
 * run once more, and refused if there is still no room. */
void fetches_tick(struct command_context *context);
static inline bool fetches_someone_waits(const struct fetches *fetches)
{
    return fetches->first != NULL;
}

/* The client's request is done, or the client goes: gives back what was promised, or everything. */
void fetches_end_promise(struct client *client);
void fetches_end_all(struct client *client);

#endif
