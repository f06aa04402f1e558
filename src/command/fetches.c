/* fetches.c: values from disk, on behalf of connections.
 *
 * A value from disk has memory of its own, from when its read begins until its last byte is sent, and how long that takes is up to
 * the client. So that clients who do not read cannot fill the memory:
 *
 *   A read begins when the worker's account has room for it, or is empty: so the largest value has its turn, too.
 *   A request that finds no room waits in line, first come, first served. It holds nothing meanwhile: what was read ahead for its
 *   connection is dropped, or several might wait for each other.
 *   What lies behind a request that waits is read ahead, but only for a small part of the account each, and half of it together.
 *   While somebody is in line, connections that hold memory and whose clients have taken nothing for FETCHED_STALLED_S are closed.
 *   Who has been in line for WORKER_WAIT_MAX_S gets an error.
 *
 * A small value that the page cache has is copied into the reply at once, and takes no part in this. Nor do values in RAM: they are
 * sent from where they lie.
 */
#include "src/command/fetches.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "src/base/server_log.h"
#include "src/net/worker.h"

#define LIMIT_MIN  ((uint64_t)64 << 20)
#define LIMIT_PART 8 /* of -m */

void fetched_init(struct fetched_account *account, uint64_t memory_limit, int workers)
{
    uint64_t limit = memory_limit / LIMIT_PART;
    *account = (struct fetched_account){.limit = (size_t)(limit > LIMIT_MIN ? limit : LIMIT_MIN) /
                                                 (size_t)workers};
}

struct fetched *fetched_find(const struct conn *conn, const struct store_key *key)
{
    for (uint32_t i = 0; i < conn->cold_count; i++) {
        const struct store_fetch *fetch = &conn->cold[i]->fetch;
        if (fetch->tag == key->tag && fetch->shard == key->shard)
            return conn->cold[i];
    }
    return NULL;
}

static void forget(struct conn *conn, const struct fetched *fetched)
{
    for (uint32_t i = 0; i < conn->cold_count; i++)
        if (conn->cold[i] == fetched)
            conn->cold[i] = conn->cold[--conn->cold_count];
}

/* The account. */

static bool has_room(const struct fetched_account *account, size_t bytes)
{
    return account->bytes == 0 || account->bytes + bytes <= account->limit;
}

static void take(struct conn *conn, struct fetched *fetched, size_t bytes)
{
    fetched->conn = conn;
    fetched->bytes += bytes;
    conn->fetched_bytes += bytes;
    conn->worker->fetched.bytes += bytes;
}

/* Frees the value, and gives its memory back to the account. */
static void release(struct fetched *fetched)
{
    if (fetched->bytes) {
        fetched->conn->fetched_bytes -= fetched->bytes;
        fetched->conn->worker->fetched.bytes -= fetched->bytes;
        fetched->bytes = 0;
    }
    store_fetch_release(&fetched->fetch);
}

static size_t missing(const struct fetched *fetched)
{
    size_t size = store_fetch_size(&fetched->fetch);
    return size > fetched->bytes ? size - fetched->bytes : 0;
}

/* Takes what the value needs. Who is in line comes first, and takes what was promised when its turn came. */
static bool take_room(struct conn *conn, struct fetched *fetched)
{
    struct fetched_account *account = &conn->worker->fetched;
    size_t bytes = missing(fetched);
    bool promised = conn->fetched_promised > 0;
    if (bytes && !promised && (fetched_someone_waits(account) || !has_room(account, bytes)))
        return false;
    if (bytes) {
        fetched_end_promise(conn);
        take(conn, fetched, bytes);
        conn->in_line_since_s = 0;
    }
    return true;
}

void fetched_end_promise(struct conn *conn)
{
    conn->worker->fetched.bytes -= conn->fetched_promised;
    conn->fetched_promised = 0;
}

/* The line. */

static void leave_line(struct conn *conn)
{
    struct fetched_account *account = &conn->worker->fetched;
    struct conn **at = &account->first, *before = NULL;
    for (; *at != conn; at = &(*at)->next_in_line)
        before = *at;
    *at = conn->next_in_line;
    if (account->last == conn)
        account->last = before;
    conn->in_line = false;
}

static bool has_waited_too_long(const struct conn *conn)
{
    return conn->in_line_since_s &&
           conn->worker->now_s >= conn->in_line_since_s + WORKER_WAIT_MAX_S;
}

static void drop_read_ahead(struct conn *conn)
{
    while (conn->cold_count) {
        struct fetched *fetched = conn->cold[--conn->cold_count];
        release(fetched);
        free(fetched);
    }
}

/* The next requests of a pipeline that was refused are refused, too, for a while. */
static enum fetched_read wait_in_line(struct worker *worker, struct conn *conn,
                                      struct fetched *fetched)
{
    struct fetched_account *account = &worker->fetched;
    size_t bytes = store_fetch_size(&fetched->fetch);
    if (has_waited_too_long(conn) &&
        worker->now_s < conn->in_line_since_s + 2 * WORKER_WAIT_MAX_S) {
        counter_add(&worker->counters.response_obj_oom, 1);
        return FETCHED_NO_MEMORY;
    }
    if (has_waited_too_long(conn) || !conn->in_line_since_s)
        conn->in_line_since_s = worker->now_s;
    fetched_end(worker, conn, fetched);
    assert(conn->fetching == 0);
    drop_read_ahead(conn);
    conn->fetched_wanted = bytes;
    conn->in_line = true;
    conn->next_in_line = NULL;
    if (account->first)
        account->last->next_in_line = conn;
    else
        account->first = conn;
    account->last = conn;
    worker_await_tick(worker);
    return FETCHED_LATER;
}

void fetched_serve_line(struct worker *worker)
{
    struct fetched_account *account = &worker->fetched;
    while (account->first && has_room(account, account->first->fetched_wanted)) {
        struct conn *conn = account->first;
        leave_line(conn);
        conn->fetched_promised = conn->fetched_wanted;
        account->bytes += conn->fetched_promised;
        worker_resume(conn);
    }
}

/* Whether its client holds memory and takes nothing. One that waits for a sync has not been sent anything to take. */
static bool is_stalled(const struct conn *conn)
{
    return conn->fetched_bytes + conn->fetched_promised > 0 && conn->pending && !conn->syncing &&
           conn->transport != TRANSPORT_UDP &&
           conn->worker->now_s >= conn->sent_s + FETCHED_STALLED_S;
}

static void report_stalled(struct worker *worker, const struct conn *conn)
{
    if (worker_may_report(worker, &worker->server->memory_reported_s))
        server_log(
            "warning: clients that do not read their replies hold %zu MiB of values from disk in "
            "one worker: those that have taken nothing for %d s are closed while others wait for "
            "memory (response_obj_oom in \"stats\"). The first is %s",
            worker->fetched.bytes >> 20, FETCHED_STALLED_S, conn->address);
}

static void close_stalled(struct worker *worker)
{
    for (struct conn *conn = worker->conns; conn; conn = conn->next) {
        if (!is_stalled(conn))
            continue;
        report_stalled(worker, conn);
        conn->close_reason = "error";
        counter_add(&worker->counters.response_obj_oom, 1);
        shutdown(conn->fd, SHUT_RDWR); /* the worker hears of it like of any other end */
    }
}

void fetched_tick(struct worker *worker)
{
    struct fetched_account *account = &worker->fetched;
    while (account->first && has_waited_too_long(account->first)) {
        struct conn *conn = account->first;
        leave_line(conn);
        worker_resume(
            conn); /* its request is run once more, and refused if there is still no room */
    }
    if (account->first)
        close_stalled(worker);
}

/* Reading. */

/* The worker has another scratch, and this one is the caller's. */
static bool take_scratch(struct worker *worker)
{
    struct fetched *fresh = calloc(1, sizeof *fresh);
    if (fresh)
        worker->scratch = fresh;
    return fresh != NULL;
}

/* Hands a fetch to the readers. False: too many already, or no memory. */
static bool start(struct worker *worker, struct conn *conn, struct fetched *fetched)
{
    if (fetched == worker->scratch) {
        if (conn->cold_count == CONN_COLD_MAX || !take_scratch(worker))
            return false;
        conn->cold[conn->cold_count++] = fetched;
    }
    worker_await_disk(worker, conn);
    conn->fetching++;
    worker->fetching++;
    store_fetch_start(worker->session, &fetched->fetch);
    return true;
}

enum fetched_read fetched_read(struct worker *worker, struct conn *conn, struct fetched *fetched)
{
    bool is_small = store_fetch_size(&fetched->fetch) <= OUTPUT_COPY_MAX;
    if (!is_small && !take_room(conn, fetched))
        return wait_in_line(worker, conn, fetched);
    if (store_fetch_now(worker->session, &fetched->fetch) == STORE_OK)
        return FETCHED_HERE;
    if (!take_room(conn, fetched))
        return wait_in_line(worker, conn, fetched);
    return start(worker, conn, fetched) ? FETCHED_LATER : FETCHED_NO_MEMORY;
}

void fetched_read_ahead(struct worker *worker, struct conn *conn)
{
    const struct fetched_account *account = &worker->fetched;
    struct fetched *fetched = worker->scratch;
    size_t bytes = store_fetch_size(&fetched->fetch);
    if (conn->fetched_bytes + bytes > FETCHED_AHEAD_MAX ||
        account->bytes + bytes > account->limit / 2 ||
        store_fetch_now(worker->session, &fetched->fetch) == STORE_OK ||
        !take_room(conn, fetched) || !start(worker, conn, fetched))
        release(fetched);
}

void fetched_came(struct worker *worker, struct store_fetch *fetch)
{
    struct conn *conn = ((struct fetched *)fetch)->conn;
    worker->fetching--;
    if (--conn->fetching == 0) {
        conn->disk_since_s = 0;
        worker_resume(conn);
    }
}

void fetched_end(struct worker *worker, struct conn *conn, struct fetched *fetched)
{
    if (fetched->fetch.segment)
        release(fetched);
    if (fetched != worker->scratch) {
        forget(conn, fetched);
        free(fetched);
    }
}

bool fetched_keep(struct worker *worker, struct conn *conn, struct fetched *fetched)
{
    if (fetched == worker->scratch)
        return take_scratch(worker);
    forget(conn, fetched);
    return true;
}

void fetched_drop(struct fetched *fetched)
{
    release(fetched);
    free(fetched);
}

void fetched_end_all(struct conn *conn)
{
    assert(conn->fetching == 0);
    if (conn->in_line)
        leave_line(conn);
    fetched_end_promise(conn);
    drop_read_ahead(conn);
}
