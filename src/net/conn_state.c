/* conn_state.c: what a connection does, in memcached's words, for `stats conns`.
 *
 * The worker that owns a connection notes its state before it turns to the next one, and other
 * threads read it at any time: so the state says what the connection waits for. Only the connection
 * that asks is shown as conn_parse_cmd.
 */
#include "src/net/conn.h"

#include "src/base/server_log.h"

static const char *const names[] = {
    [CONN_STATE_NEW] = "conn_new_cmd",     [CONN_STATE_READ] = "conn_read",
    [CONN_STATE_PARSE] = "conn_parse_cmd", [CONN_STATE_BODY] = "conn_nread",
    [CONN_STATE_SWALLOW] = "conn_swallow", [CONN_STATE_DISK] = "conn_io_queue",
    [CONN_STATE_WRITE] = "conn_mwrite",    [CONN_STATE_WATCH] = "conn_watch",
};

/* For the data of a request whose line or header is there. */
static bool waits_for_body(const struct conn *conn)
{
    bool has_header =
        conn->client.parser.protocol != PROTOCOL_BINARY || conn->in_len >= BINARY_HEADER_LEN;
    return conn->in_len && conn->need && has_header;
}

static enum conn_state state_of(const struct conn *conn)
{
    const struct client *client = &conn->client;
    if (client_waits_for(client, WAIT_WATCH))
        return CONN_STATE_WATCH;
    if (client_waits_for(client, WAIT_READ | WAIT_MEMORY | WAIT_SPACE | WAIT_SYNC))
        return CONN_STATE_DISK;
    if (client_waits_for(client, WAIT_OUTPUT))
        return CONN_STATE_WRITE;
    if (client_waits_for(client, WAIT_DUMP))
        return CONN_STATE_DISK;
    if (conn_has_requests(conn))
        return CONN_STATE_PARSE;
    if (parser_swallows(&client->parser))
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

/* For -vvv: the first that holds it. */
static const struct {
    enum wait_reason reason;
    const char *words;
} waits[] = {
    {WAIT_READ, "waits for values from disk"},
    {WAIT_SYNC, "waits for the disk to sync"},
    {WAIT_SPACE, "waits for room"},
    {WAIT_MEMORY, "waits for memory"},
    {WAIT_DUMP, "is sent a list of keys"},
    {WAIT_OUTPUT, "waits for its client to read"},
};

static const char *describe(const struct conn *conn)
{
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
        if (client_waits_for(&conn->client, waits[i].reason))
            return waits[i].words;
    if (conn->closing)
        return "closes";
    if (conn->turn == TURN_OVER)
        return "has more requests and gives others their turn";
    return conn->in_len ? "waits for the rest of a request" : "waits for a request";
}

void conn_log_state(const struct conn *conn)
{
    server_log("%d: %zu of %zu bytes done, %zu bytes of replies; %s", conn->client.fd, conn->pos,
               conn->len, conn->client.out_bytes, describe(conn));
}
