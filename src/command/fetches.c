/* fetches.c: values from disk, on behalf of clients.
 *
 * A value from disk has memory of its own, from when its read begins until its last byte is sent,
 * and how long that takes is up to the client. To keep clients that do not read from filling the
 * memory:
 *
 * - A read begins when the account of its thread has room for it, or is empty: so the largest value
 *   has its turn, too.
 * - A request that finds no room waits in line (WAIT_MEMORY), first come, first served. Meanwhile
 *   it holds nothing, or several might wait for each other: what was read ahead is dropped.
 * - Values for requests after one that waits are read ahead, but only for a small part of the
 *   account each, and half of it together.
 * - While a client is in line, connections that hold memory but take nothing are closed
 *   (src/net/overdue.c).
 * - A client that has been in line for CLIENT_WAIT_MAX_S gets an error.
 *
 * A small value that the page cache has is copied into the reply at once, and takes no part in
 * this. Nor do values in RAM: they are sent from where they lie.
 */
#include "src/command/fetches.h"

#include <assert.h>
#include <stdlib.h>

#include "src/command/client.h"
#include "src/command/context.h"

#define LIMIT_MIN  ((uint64_t)64 << 20)
#define LIMIT_PART 8 /* of -m */

bool fetches_init(struct fetches *fetches, uint64_t memory_limit, int threads)
{
    uint64_t limit = memory_limit / LIMIT_PART;
    if (limit < LIMIT_MIN)
        limit = LIMIT_MIN;

    *fetches = (struct fetches){.limit = (size_t)limit / (size_t)threads,
                                .scratch = calloc(1, sizeof *fetches->scratch)};
    return fetches->scratch != NULL;
}

void fetches_release(struct fetches *fetches)
{
    fetches_drop(fetches->scratch);
}

struct fetched *fetches_find(const struct client *client, const struct store_key *key)
{
    for (uint32_t i = 0; i < client->cold_count; i++) {
        const struct store_fetch *fetch = &client->cold[i]->fetch;
        if (fetch->tag == key->tag && fetch->shard == key->shard)
            return client->cold[i];
    }
    return NULL;
}

static void forget(struct client *client, const struct fetched *fetched)
{
    for (uint32_t i = 0; i < client->cold_count; i++)
        if (client->cold[i] == fetched)
            client->cold[i] = client->cold[--client->cold_count];
}

static struct fetches *fetches_of(const struct client *client)
{
    return &client->context->fetches;
}

/* The account. */

static bool has_room(const struct fetches *fetches, size_t bytes)
{
    return fetches->bytes == 0 || fetches->bytes + bytes <= fetches->limit;
}

/* Frees the value, and gives its memory back to the account. */
static void release(struct fetched *fetched)
{
    if (fetched->bytes) {
        fetched->client->fetched_bytes -= fetched->bytes;
        fetches_of(fetched->client)->bytes -= fetched->bytes;
        fetched->bytes = 0;
    }
    store_fetch_release(&fetched->fetch);
}

/* Takes what the value needs and has not taken yet. Whoever is in line comes first, and takes what
 * was promised when its turn came. */
static bool take_room(struct client *client, struct fetched *fetched)
{
    struct fetches *fetches = fetches_of(client);
    size_t size = store_fetch_size(&fetched->fetch);
    if (size <= fetched->bytes)
        return true;
    size_t bytes = size - fetched->bytes;
    if (!client->fetched_promised && (fetches_someone_waits(fetches) || !has_room(fetches, bytes)))
        return false;

    fetches_end_promise(client);
    fetched->client = client;
    fetched->bytes = size;
    client->fetched_bytes += bytes;
    fetches->bytes += bytes;
    client->memory_since_s = 0;
    return true;
}

void fetches_end_promise(struct client *client)
{
    fetches_of(client)->bytes -= client->fetched_promised;
    client->fetched_promised = 0;
}

/* The line. */

static void enter_line(struct client *client)
{
    struct fetches *fetches = fetches_of(client);
    client->next_in_line = NULL;
    if (fetches->first)
        fetches->last->next_in_line = client;
    else
        fetches->first = client;
    fetches->last = client;
    command_wait(client, WAIT_MEMORY);
}

static void leave_line(struct client *client)
{
    struct fetches *fetches = fetches_of(client);
    struct client **at = &fetches->first, *before = NULL;
    for (; *at != client; at = &(*at)->next_in_line)
        before = *at;

    *at = client->next_in_line;
    if (fetches->last == client)
        fetches->last = before;
    client_end_wait(client, WAIT_MEMORY);
}

static bool has_waited_too_long(const struct client *client)
{
    return client->memory_since_s &&
           client->context->now_s >= client->memory_since_s + CLIENT_WAIT_MAX_S;
}

static void drop_read_ahead(struct client *client)
{
    while (client->cold_count)
        fetches_drop(client->cold[--client->cold_count]);
}

/* The next requests of a pipeline that was refused are refused, too, for a while. */
static enum fetches_read wait_in_line(struct client *client, struct fetched *fetched)
{
    struct command_context *context = client->context;
    size_t bytes = store_fetch_size(&fetched->fetch);
    bool too_long = has_waited_too_long(client);
    if (too_long && context->now_s < client->memory_since_s + 2 * CLIENT_WAIT_MAX_S) {
        counter_add(&context->counters.response_obj_oom, 1);
        return FETCHES_NO_MEMORY;
    }

    if (too_long || !client->memory_since_s)
        client->memory_since_s = context->now_s;
    fetches_end(client, fetched);
    assert(client->fetching == 0);
    drop_read_ahead(client);
    client->fetched_wanted = bytes;
    enter_line(client);
    return FETCHES_LATER;
}

void fetches_serve_line(struct command_context *context)
{
    struct fetches *fetches = &context->fetches;
    while (fetches->first && has_room(fetches, fetches->first->fetched_wanted)) {
        struct client *client = fetches->first;
        leave_line(client);
        client->fetched_promised = client->fetched_wanted;
        fetches->bytes += client->fetched_promised;
        context->host->resume(client);
    }
}

void fetches_tick(struct command_context *context)
{
    const struct fetches *fetches = &context->fetches;
    while (fetches->first && has_waited_too_long(fetches->first)) {
        struct client *client = fetches->first;
        leave_line(client);
        context->host->resume(client);
    }
}

/* Reading. */

/* Gives the scratch to the caller, and makes another. False: no memory. */
static bool take_scratch(struct fetches *fetches)
{
    struct fetched *fresh = calloc(1, sizeof *fresh);
    if (fresh)
        fetches->scratch = fresh;
    return fresh != NULL;
}

/* Hands a fetch to the store. False: too many already, or no memory. */
static bool start(struct client *client, struct fetched *fetched)
{
    struct fetches *fetches = fetches_of(client);
    if (fetched == fetches->scratch) {
        if (client->cold_count == CLIENT_COLD_MAX || !take_scratch(fetches))
            return false;
        client->cold[client->cold_count++] = fetched;
    }

    client->fetching++;
    fetches->under_way++;
    command_wait(client, WAIT_READ);
    store_fetch_start(client->context->session, &fetched->fetch);
    return true;
}

enum fetches_read fetches_read(struct client *client, struct fetched *fetched)
{
    bool is_small = store_fetch_size(&fetched->fetch) <= OUTPUT_COPY_MAX;
    if (!is_small && !take_room(client, fetched))
        return wait_in_line(client, fetched);
    if (store_fetch_now(client->context->session, &fetched->fetch) == STORE_OK)
        return FETCHES_HERE;
    if (!take_room(client, fetched))
        return wait_in_line(client, fetched);
    return start(client, fetched) ? FETCHES_LATER : FETCHES_NO_MEMORY;
}

void fetches_read_ahead(struct client *client)
{
    const struct fetches *fetches = fetches_of(client);
    struct fetched *fetched = fetches->scratch;
    size_t bytes = store_fetch_size(&fetched->fetch);
    if (client->fetched_bytes + bytes > FETCHES_AHEAD_MAX ||
        fetches->bytes + bytes > fetches->limit / 2 ||
        store_fetch_now(client->context->session, &fetched->fetch) == STORE_OK ||
        !take_room(client, fetched) || !start(client, fetched))
        release(fetched);
}

void fetches_came(struct command_context *context, struct store_fetch *fetch)
{
    struct client *client = ((struct fetched *)fetch)->client;
    context->fetches.under_way--;
    if (--client->fetching)
        return;
    client_end_wait(client, WAIT_READ);
    context->host->resume(client);
}

void fetches_end(struct client *client, struct fetched *fetched)
{
    if (fetched->fetch.segment)
        release(fetched);
    if (fetched != fetches_of(client)->scratch) {
        forget(client, fetched);
        free(fetched);
    }
}

bool fetches_keep(struct client *client, struct fetched *fetched)
{
    struct fetches *fetches = fetches_of(client);
    if (fetched == fetches->scratch)
        return take_scratch(fetches);
    forget(client, fetched);
    return true;
}

void fetches_drop(void *owner)
{
    struct fetched *fetched = owner;
    release(fetched);
    free(fetched);
}

void fetches_end_all(struct client *client)
{
    assert(client->fetching == 0);
    if (client_waits_for(client, WAIT_MEMORY))
        leave_line(client);
    fetches_end_promise(client);
    drop_read_ahead(client);
}
