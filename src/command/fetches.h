/* fetches.h: values that a worker has read from disk for its connections, and the memory that they may take. See fetches.c. */
#ifndef CACHECASK_SRC_COMMAND_FETCHES_H
#define CACHECASK_SRC_COMMAND_FETCHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/store.h"

#define FETCHED_AHEAD_MAX                                                                          \
    (2 << 20)               /* bytes of requests behind the one that runs, for one connection */
#define FETCHED_STALLED_S 5 /* so long may a client take nothing while others wait for memory */

struct conn;
struct worker;

struct fetched {
    struct store_fetch fetch; /* begins it, so that what the store gives back is this */
    struct conn *conn;        /* for whom */
    size_t bytes;             /* on the worker's account */
};

/* What the values of a worker take, from when they are read until they are sent. */
struct fetched_account {
    size_t bytes, limit;
    struct conn *first, *last; /* those whose request waits for memory, as they came */
};

/* The account of each of `workers`, so that all together may take an eighth of `memory_limit` bytes, at least 64 MiB. */
void fetched_init(struct fetched_account *account, uint64_t memory_limit, int workers);

/* What was fetched for a request of the connection that had to wait; NULL: nothing. */
struct fetched *fetched_find(const struct conn *conn, const struct store_key *key);

enum fetched_read {
    FETCHED_HERE,
    FETCHED_LATER, /* it is being read, or the connection waits in line for memory: run the request again then */
    FETCHED_NO_MEMORY, /* and none came while it waited */
};

/* Reads the value of a fetch that the store has answered STORE_WAIT_READ with: the one that fetched_find has found, or
 * worker->scratch. */
enum fetched_read fetched_read(struct worker *worker, struct conn *conn, struct fetched *fetched);

/* The same for a request behind the one that waits: worker->scratch, if memory and disk have time for it. */
void fetched_read_ahead(struct worker *worker, struct conn *conn);

/* A value that was read is not needed any more. */
void fetched_end(struct worker *worker, struct conn *conn, struct fetched *fetched);

/* It stays beyond its command, until fetched_drop. False: no memory, and nothing has happened. */
bool fetched_keep(struct worker *worker, struct conn *conn, struct fetched *fetched);
void fetched_drop(struct fetched *fetched);

/* A read has ended: its connection goes on when it was the last one. */
void fetched_came(struct worker *worker, struct store_fetch *fetch);

/* Those that have waited in line go on as memory is given back. Before the worker waits for events. */
void fetched_serve_line(struct worker *worker);

/* Once a second while fetched_someone_waits: refuses who has waited in line too long, and closes connections whose clients hold
 * memory and take nothing. */
void fetched_tick(struct worker *worker);
static inline bool fetched_someone_waits(const struct fetched_account *account)
{
    return account->first != NULL;
}

/* The connection has run its request, or closes: gives back what was kept for it, or all that it holds. */
void fetched_end_promise(struct conn *conn);
void fetched_end_all(struct conn *conn);

#endif
