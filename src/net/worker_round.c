/* worker_round.c: what a worker does with the connections that have something.
 *
 *     read all ─▶ parse a batch of requests, over all connections ─▶ fetch their buckets ─▶ fetch their items
 *          ─▶ run them in order ─▶ (next batch) ─▶ one commit ─▶ all replies
 *
 * A connection leaves the round early (stopped) when a value must come from disk, when its replies have become many, or
 * when it closes; then it is set back to before the first request that was not run, and that is parsed again later. So no
 * request is ever half done.
 */
#include "src/net/worker.h"

#include <string.h>

#include "src/command/command.h"
#include "src/base/server_log.h"
#include "src/observe/request_log.h"

#define TOGETHER_MIN 4 /* connections: for fewer a call for each costs less */

/* Bytes between what they receive, or all of it would lie in the same few sets of the cache. */
#define APART        192

/* Reading. */

/* Requests that wait come before new ones are read. */
static bool has_left_over(const struct conn *conn)
{
    return conn->stopped && conn->in_len;
}

/* Its only reply is this, and then it closes. */
static void reply_last(struct worker *worker, struct conn *conn, const char *message)
{
    output_begin(&worker->output);
    conn->first_piece = worker->output.count;
    output_add(&worker->output, message, strlen(message), PIECE_ARENA, NULL);
    conn->piece_count = 1;
    conn->closing = true;
}

/* There is no memory for the rest of its request. A client of the binary protocol finds its connection closed. */
static void refuse_input(struct worker *worker, struct conn *conn)
{
    counter_add(&worker->counters.read_buf_oom, 1);
    if (worker_may_report(worker, &worker->server->memory_reported_s))
        server_log(
            "warning: requests that have not arrived whole take %zu MiB in one worker: who needs "
            "more is closed (read_buf_oom in \"stats\"). Raise -o read_buf_mem_limit, or have "
            "clients send less at a time. The first is %s",
            worker->input_bytes >> 20, conn->address);
    conn->close_reason = "error";
    conn->closing = true;
    if (conn->parser.protocol == PROTOCOL_TEXT)
        reply_last(worker, conn, "SERVER_ERROR out of memory reading request\r\n");
    conn->len = conn->pos = 0;
}

static bool fill_conn(struct worker *worker, struct conn *conn, size_t *input_used)
{
    size_t used = 0;
    bool left_over = has_left_over(conn);
    conn->wrote = conn->stopped = false;
    conn->out_bytes = 0;
    conn->turns = 0;
    conn->piece_count = 0;
    if (left_over) {
        conn_reuse(conn);
        return true;
    }
    if (!conn->readable)
        return false;
    conn->readable = false;
    char *arena = conn->arena ? conn->arena : worker->input + *input_used;
    enum conn_received received = conn_receive(conn, arena, &used);
    if (!conn->arena)
        *input_used += used;
    conn->arena = NULL;
    switch (received) {
    case CONN_RECEIVED: return true;
    case CONN_NOTHING: return false;
    case CONN_NO_MEMORY: refuse_input(worker, conn); return true;
    case CONN_GONE: worker_close(worker, conn); return false;
    }
    return false;
}

static bool has_room(size_t used)
{
    return WORKER_INPUT - used >= CONN_ARENA_MIN + APART;
}

/* What the first of those that are ready have sent is received together, if they are several. Answers how much of the arena
 * that may take. */
static size_t receive_together(struct worker *worker)
{
    size_t used = 0;
    uint32_t count = 0;
    if (!worker->socket_ring)
        return 0;
    for (struct conn *conn = worker->ready; conn && count < TOGETHER_MIN; conn = conn->next_ready)
        count++;
    if (count < TOGETHER_MIN)
        return 0;
    count = 0;
    for (struct conn *conn = worker->ready; conn && count < WORKER_ROUND && has_room(used);
         conn = conn->next_ready, count++) {
        if (!conn->readable || has_left_over(conn))
            break;
        size_t reserved = conn_receive_with(conn, worker->input + used, worker->socket_ring);
        if (reserved == 0)
            break;
        used += reserved + APART;
    }
    socket_ring_run(worker->socket_ring);
    return used;
}

static void read_all(struct worker *worker)
{
    size_t used = receive_together(worker);
    worker->round_count = 0;
    for (uint32_t i = 0;
         i < WORKER_ROUND && worker->ready && (worker->ready->arena || has_room(used)); i++) {
        struct conn *conn = worker_take_ready(worker);
        if (fill_conn(worker, conn, &used))
            worker->round[worker->round_count++] = conn;
    }
}

/* Parsing and running. */

/* Parses the next request of a connection into a slot. False: there is none. */
static bool parse_next(struct worker *worker, struct conn *conn)
{
    struct slot *slot = &worker->slots[worker->slot_count];
    size_t consumed = 0;
    if (conn->stopped || conn->closing)
        return false;
    slot->conn = conn;
    slot->parser_before = conn->parser;
    slot->pos_before = conn->pos;
    slot->key.len = 0;
    conn->need = 0;
    enum parse_status status =
        parser_next(&conn->parser, conn->data + conn->pos, conn->len - conn->pos, &slot->request,
                    &consumed, &conn->need);
    conn->pos += consumed;
    slot->close = status == PARSE_CLOSE;
    if (status == PARSE_PARTIAL)
        return false;
    if (status != PARSE_REQUEST)
        conn->closing = true; /* nothing behind it is parsed until the round has ended, or ever */
    else if (slot->request.op != OP_INVALID && slot->request.key.len)
        store_key_init(worker->server->store, &slot->key, slot->request.key.data,
                       slot->request.key.len);
    worker->slot_count++;
    return true;
}

/* Sets a connection back to before a request that is not run now. */
static void stop_before(struct conn *conn, const struct slot *slot)
{
    conn->stopped = true;
    conn->closing = false;
    conn->parser = slot->parser_before;
    conn->pos = slot->pos_before;
    conn->need = 0;
}

/* Whether the connection has had its share of this round: of bytes, or of requests (-R; a multiget is one). */
static bool is_others_turn(const struct worker *worker, const struct slot *slot)
{
    const struct conn *conn = slot->conn;
    return conn->out_bytes > CONN_TURN || slot->pos_before > CONN_TURN ||
           !output_has_room(&worker->output) || conn->turns >= worker->requests_per_event;
}

/* What follows belongs to the next request of a datagram. */
static void end_answer(struct worker *worker, const struct conn *conn)
{
    if (conn->piece_count == 0)
        return;
    worker->output.pieces[worker->output.count - 1].ends_answer = true;
    output_begin(&worker->output);
}

/* All later replies of the connection wait for what its command has written or seen. */
static void note_rests(struct worker *worker, struct conn *conn)
{
    uint64_t lsn = store_answer_lsn(worker->session);
    if (lsn == 0)
        return;
    worker->rests = true;
    if (lsn > conn->rests_lsn)
        conn->rests_lsn = lsn;
}

static void run_slot(struct worker *worker, struct slot *slot)
{
    struct conn *conn = slot->conn;
    size_t reply_at = worker->output.used;
    if (conn->stopped) {
        if (conn->fetching)
            command_look_ahead(worker, conn, slot);
        return;
    }
    if (worker_is_dumping(conn)) {
        stop_before(conn, slot);
        return;
    }
    if (is_others_turn(worker, slot)) {
        counter_add(&worker->counters.conn_yields, 1);
        stop_before(conn, slot);
        return;
    }
    if (conn->piece_count == 0) {
        output_begin(&worker->output);
        conn->first_piece = worker->output.count;
    }
    enum run_result result = command_run(worker, conn, slot);
    note_rests(worker, conn);
    if (result != RUN_WAIT && conn->wrote)
        conn->waiting_since_s = 0; /* there is room */
    if (worker->verbosity >= SERVER_LOG_COMMANDS && result != RUN_WAIT)
        request_log_ran(conn, slot, &worker->output, reply_at);
    conn->turns += !(slot->request.flags & REQUEST_MORE);
    switch (result) {
    case RUN_DONE: break;
    case RUN_WAIT: stop_before(conn, slot); break;
    case RUN_PAUSE:
        conn->closing = false;
        conn->stopped = true;
        break;
    case RUN_CLOSE:
        conn->close_reason = slot->close ? "error" : NULL;
        conn->closing = conn->stopped = true;
        conn->pos = conn->len;
        break;
    case RUN_WATCH:
        conn->closing = false;
        conn->stopped = true;
        conn->pos = conn->len;
        break;
    }
    conn->piece_count = worker->output.count - conn->first_piece;
    if (conn->transport == TRANSPORT_UDP && !conn->stopped && !(slot->request.flags & REQUEST_MORE))
        end_answer(worker, conn);
}

static enum store_use use_of(const struct slot *slot)
{
    return slot->request.op == OP_SET || slot->request.op == OP_META_SET ? STORE_REPLACES
                                                                         : STORE_READS;
}

static void prefetch(struct worker *worker)
{
    const struct store *store = worker->server->store;
    const struct slot *again[WORKER_BATCH];
    uint32_t count = 0;
    for (uint32_t i = 0; i < worker->slot_count; i++) {
        const struct slot *slot = &worker->slots[i];
        if (slot->key.len && !store_prefetch(store, &slot->key, use_of(slot)))
            again[count++] = slot;
    }
    for (uint32_t i = 0; i < count; i++)
        store_prefetch_again(store, &again[i]->key, use_of(again[i]));
}

static void run_batch(struct worker *worker)
{
    prefetch(worker);
    for (uint32_t i = 0; i < worker->slot_count; i++)
        run_slot(worker, &worker->slots[i]);
    worker->slot_count = 0;
}

static void run_all(struct worker *worker)
{
    for (uint32_t i = 0; i < worker->round_count;) {
        if (!parse_next(worker, worker->round[i]))
            i++;
        if (worker->slot_count == WORKER_BATCH)
            run_batch(worker);
    }
    run_batch(worker);
}

/* Committing and replying. */

/* What the replies of this connection rest on cannot be made durable: none of them is sent, and the connection is closed. */
static void refuse_replies(struct worker *worker, struct conn *conn)
{
    static const char message[] = "SERVER_ERROR the disk refuses writes\r\n";
    struct piece *pieces = &worker->output.pieces[conn->first_piece];
    bool told = conn->piece_count > 0 && conn->parser.protocol == PROTOCOL_TEXT;
    for (uint32_t i = 0; i < conn->piece_count; i++)
        piece_release(&pieces[i]);
    if (told) /* else its first piece may be another connection's */
        pieces[0] = (struct piece){.data = message, .len = sizeof message - 1, .kind = PIECE_ARENA};
    conn->piece_count = told;
    conn->closing = true;
}

/* STORE_OK: the connection's replies may be sent; STORE_WAIT_SYNC: when the log is synced; anything else: never. */
static enum store_status may_reply(struct worker *worker, struct conn *conn)
{
    if (!conn->rests_lsn)
        return STORE_OK;
    enum store_status status = store_durable(worker->session, conn->rests_lsn);
    if (status == STORE_OK)
        conn->rests_lsn = 0;
    return status;
}

static void wait_for_sync(struct worker *worker, struct conn *conn)
{
    if (!conn_defer(conn, &worker->output.pieces[conn->first_piece], conn->piece_count)) {
        conn->closing = true;
        return;
    }
    worker_await_disk(worker, conn);
    conn->syncing = true;
    conn->next_syncing = worker->syncing;
    worker->syncing = conn;
}

static void finish_conn(struct worker *worker, struct conn *conn)
{
    enum store_status status = may_reply(worker, conn);
    atomic_store_explicit(&conn->last_command_s, worker->now_s, memory_order_relaxed);
    if (conn->fetched_promised && !conn->in_line)
        fetched_end_promise(conn); /* its request has not needed it after all */
    if (conn->transport == TRANSPORT_UDP && !conn->stopped)
        conn->pos = conn->len; /* no other datagram brings the rest of it */
    if (!conn_keep_rest(conn))
        conn->closing = true;
    if (status != STORE_OK && status != STORE_WAIT_SYNC)
        refuse_replies(worker, conn);
    if (status == STORE_WAIT_SYNC && conn->piece_count) {
        wait_for_sync(worker, conn);
    } else if (conn->piece_count && conn_send(conn, &worker->output) == CONN_BROKEN) {
        conn->close_reason = "error";
        conn->closing = true;
    }
    if (worker->verbosity >= SERVER_LOG_STATES)
        request_log_state(conn);
    worker_resume(conn);
}

/* Sends what may be sent of all connections together; what is left of it is for finish_conn. */
static void send_together(struct worker *worker)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < worker->round_count; i++)
        count += worker->round[i]->piece_count > 0;
    if (!worker->socket_ring || count < TOGETHER_MIN)
        return;
    for (uint32_t i = 0; i < worker->round_count; i++) {
        struct conn *conn = worker->round[i];
        if (conn->piece_count && may_reply(worker, conn) == STORE_OK)
            conn_send_with(conn, &worker->output, worker->socket_ring);
    }
    socket_ring_run(worker->socket_ring);
}

/* Writes all that the answers of this round rest on; may_reply asks whether that has worked. */
static void commit(struct worker *worker)
{
    if (worker->rests)
        store_commit(worker->session);
    worker->rests = false;
}

void worker_run_round(struct worker *worker)
{
    worker->now_s = clock_now_s(&worker->server->clock);
    worker->verbosity = atomic_load_explicit(&worker->server->verbosity, memory_order_relaxed);
    output_reset(&worker->output);
    store_enter(worker->session, worker->now_s);
    read_all(worker);
    run_all(worker);
    store_fetch_submit(worker->session);
    commit(worker);
    send_together(worker);
    for (uint32_t i = 0; i < worker->round_count; i++)
        finish_conn(worker, worker->round[i]);
    store_leave(worker->session);
}
