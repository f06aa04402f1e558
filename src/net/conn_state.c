/* conn_state.c: what a connection does, in memcached's words, for `stats conns`.
 *
 * The worker that owns a connection notes its state each time it turns to the next one; other threads read it at any time. So the
 * state tells what the connection waits for. Only the connection that asks shows itself as conn_parse_cmd.
 */
#include "protocol/binary.h"
#include "src/net/conn.h"
#include "src/net/worker.h"

static const char *const names[] = {
    [CONN_STATE_NEW] = "conn_new_cmd",     [CONN_STATE_READ] = "conn_read",
    [CONN_STATE_PARSE] = "conn_parse_cmd", [CONN_STATE_BODY] = "conn_nread",
    [CONN_STATE_SWALLOW] = "conn_swallow", [CONN_STATE_DISK] = "conn_io_queue",
    [CONN_STATE_WRITE] = "conn_mwrite",    [CONN_STATE_WATCH] = "conn_watch",
};

/* A request whose line or header is there, and whose data is not. */
static bool waits_for_body(const struct conn *conn)
{
    bool has_header = conn->parser.protocol != PROTOCOL_BINARY || conn->in_len >= BINARY_HEADER_LEN;
    return conn->in_len && conn->need && has_header;
}

static enum conn_state state_of(const struct conn *conn)
{
    if (conn->watching)
        return CONN_STATE_WATCH;
    if (conn->fetching || conn->syncing || conn->parked || conn->in_line)
        return CONN_STATE_DISK;
    if (conn->pending)
        return CONN_STATE_WRITE;
    if (conn->worker->dumping == conn)
        return CONN_STATE_DISK;
    if (conn->stopped && conn->in_len)
        return CONN_STATE_PARSE;
    if (parser_swallows(&conn->parser))
        return CONN_STATE_SWALLOW;
    return waits_for_body(conn) ? CONN_STATE_BODY : CONN_STATE_READ;
}

void conn_set_state(struct conn *conn, enum conn_state state)
{
    atomic_store_explicit(&conn->state, state, memory_order_relaxed);
}

void conn_note_state(struct conn *conn)
{
    conn_set_state(conn, state_of(conn));
}

const char *conn_state_name(const struct conn *conn)
{
    return names[atomic_load_explicit(&conn->state, memory_order_relaxed)];
}
