/* overdue.c: closes connections that have waited for too long, or for whom others have.
 *
 * A value or a sync may still be under way for it: its socket is shut down, and the worker hears of
 * that as of any other end once nothing is.
 */
#define _GNU_SOURCE
#include "src/net/overdue.h"

#include <sys/socket.h>

#include "src/base/server_log.h"

static void shut(struct conn *conn)
{
    conn->close_reason = "error";
    shutdown(conn->client.fd, SHUT_RDWR);
}

bool overdue_disk(struct worker *worker)
{
    uint32_t now_s = worker->context.now_s;
    bool any = false;
    for (struct conn *conn = worker->conns; conn; conn = conn->next) {
        if (!conn->disk_since_s || conn->transport == TRANSPORT_UDP)
            continue;
        any = true;
        if (now_s < conn->disk_since_s + OVERDUE_DISK_S)
            continue;

        conn->disk_since_s = 0;
        shut(conn);
        if (server_log_may_repeat(worker->context.waits_reported_s, now_s))
            server_log(
                "error: the disk has not answered for %d s: connections that wait for it are "
                "closed. Check the disk",
                OVERDUE_DISK_S);
    }
    return any;
}

/* Whether its client holds memory and takes nothing, though something has been sent to it. */
static bool is_stalled(const struct conn *conn)
{
    const struct client *client = &conn->client;
    return client->fetched_bytes + client->fetched_promised > 0 &&
           client_waits_for(client, WAIT_OUTPUT) && !client_waits_for(client, WAIT_SYNC) &&
           conn->transport != TRANSPORT_UDP &&
           client->context->now_s >= conn->sent_s + OVERDUE_READER_S;
}

static void report_stalled(struct command_context *context, const struct conn *conn)
{
    if (server_log_may_repeat(context->memory_reported_s, context->now_s))
        server_log(
            "warning: clients that do not read their replies hold %zu MiB of values from disk in "
            "one worker: those that have taken nothing for %d s are closed while others wait for "
            "memory (response_obj_oom in \"stats\"). The first is %s",
            context->fetches.bytes >> 20, OVERDUE_READER_S, conn->client.address);
}

void overdue_readers(struct worker *worker)
{
    for (struct conn *conn = worker->conns; conn; conn = conn->next) {
        if (!is_stalled(conn))
            continue;
        report_stalled(&worker->context, conn);
        counter_add(&worker->context.counters.response_obj_oom, 1);
        shut(conn);
    }
}
