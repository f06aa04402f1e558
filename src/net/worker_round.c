/* worker_round.c: what a worker does with the connections that have something.
 *
 *     read all ─▶ parse a batch of requests, over all connections ─▶ fetch their buckets
 *          ─▶ fetch their items ─▶ run them in order ─▶ (next batch) ─▶ one commit ─▶ all replies
 *
 * A connection leaves the round early (TURN_OVER) when a value must come from disk, when its
 * replies have become many, or when it closes. It is set back to before the first request that was
 * not run, and that is parsed again later: no request is ever half done.
 */
#include "src/net/worker.h"

#include <string.h>

#include "src/base/server_log.h"
#include "src/net/waits.h"
#include "src/observe/request_log.h"

#define TOGETHER_MIN 4 /* connections: for fewer a call for each costs less */

/* Bytes between what they receive, or all of it would lie in the same few sets of the cache. */
#define APART        192

/* Reading. */

/* Its only reply is this, and then it closes. */
static void reply_last(struct worker *worker, struct conn *conn, const char *message)
{
    output_begin(&worker->context.output);
    conn->first_piece = worker->context.output.count;
    output_add(&worker->context.output, message, strlen(message), NULL, NULL);
    conn->piece_count = 1;
    conn->closing = true;
}

/* No memory for the rest of its request. Binary clients are not told, but find it closed. */
static void refuse_input(struct worker *worker, struct conn *conn)
{
    counter_add(&worker->context.counters.read_buf_oom, 1);
    if (server_log_may_repeat(worker->context.memory_reported_s, worker->context.now_s))
        server_log(
            "warning: requests that have not arrived whole take %zu MiB in one worker: who needs "
            "more is closed (read_buf_oom in \"stats\"). Raise -o read_buf_mem_limit, or have "
            "clients send less at a time. The first is %s",
            worker->input_bytes >> 20, conn->client.address);
    conn->close_reason = "error";
    conn->closing = true;
    if (conn->client.parser.protocol == PROTOCOL_TEXT)
        reply_last(worker, conn, "SERVER_ERROR out of memory reading request\r\n");
    conn->len = conn->pos = 0;
    conn->turn = TURN_OVER;
}

static bool fill_conn(struct worker *worker, struct conn *conn, size_t *input_used)
{
    size_t used = 0;
    bool left_over = conn_has_requests(conn); /* they come before new ones are read */
    conn->turn = TURN_GOES_ON;
    conn->client.out_bytes = 0;
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

/* Receives together for the first connections that are ready, if they are several. Returns how much
 * of the arena that may take. */
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
        if (!conn->readable || conn_has_requests(conn))
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

/* Parses the next request of a connection into the batch. False: there is none. */
static bool parse_next(struct worker *worker, struct conn *conn)
{
    struct command *command = &worker->batch[worker->batch_count];
    struct client *client = &conn->client;
    size_t consumed = 0;
    if (conn->turn != TURN_GOES_ON)
        return false;

    command->client = client;
    command->parser_before = client->parser;
    const struct bytes received = {conn->data + conn->pos, conn->len - conn->pos};
    command->received = received;
    command->key.len = 0;
    conn->need = 0;
    enum parse_status status = parser_next(&client->parser, received.data, received.len,
                                           &command->request, &consumed, &conn->need);
    conn->pos += consumed;
    command->closes = status == PARSE_CLOSE;
    if (status == PARSE_PARTIAL)
        return false;

    if (status != PARSE_REQUEST)
        conn->turn = TURN_PAUSED;
    else if (command->request.op != OP_INVALID && command->request.key.len)
        store_key_init(worker->context.store, &command->key, command->request.key.data,
                       command->request.key.len);
    worker->batch_count++;
    return true;
}

/* Where a request begins in its connection's bytes. */
static size_t position_of(const struct command *command)
{
    return conn_of_client(command->client)->len - command->received.len;
}

/* Sets the connection back to before a request that is not run now. */
static void stop_before(const struct command *command)
{
    struct conn *conn = conn_of_client(command->client);
    conn->turn = TURN_OVER;
    conn->client.parser = command->parser_before;
    conn->pos = position_of(command);
    conn->need = 0;
}

/* Whether it has had its share of the round: bytes, or requests (-R; a multiget counts as one). */
static bool is_others_turn(const struct worker *worker, const struct command *command)
{
    const struct conn *conn = conn_of_client(command->client);
    return conn->client.out_bytes > CONN_TURN || position_of(command) > CONN_TURN ||
           !output_has_room(&worker->context.output) || conn->turns >= worker->requests_per_event;
}

/* What follows belongs to the next request of a datagram. */
static void end_answer(struct worker *worker, const struct conn *conn)
{
    struct output *output = &worker->context.output;
    if (conn->piece_count == 0)
        return;
    output->pieces[output->count - 1].ends_answer = true;
    output_begin(output);
}

/* All later replies of the connection wait for what its command has written or seen. */
static void note_rests(struct worker *worker, struct client *client)
{
    uint64_t lsn = store_answer_lsn(worker->context.session);
    if (lsn == 0)
        return;
    worker->rests = true;
    if (lsn > client->rests_lsn)
        client->rests_lsn = lsn;
}

/* What a request's result means for its connection. */
static void take_result(const struct command *command, enum run_result result)
{
    struct conn *conn = conn_of_client(command->client);
    switch (result) {
    case RUN_DONE: break;
    case RUN_WAIT: stop_before(command); break;
    case RUN_PAUSE: conn->turn = TURN_OVER; break;
    case RUN_CLOSE:
        conn->close_reason = command->closes ? "error" : NULL;
        conn->closing = true;
        __attribute__((fallthrough)); /* nothing else that it has sent is run */
    case RUN_WATCH:
        conn->turn = TURN_OVER;
        conn->pos = conn->len;
        break;
    }
}

static void run_command(struct worker *worker, const struct command *command)
{
    struct client *client = command->client;
    struct conn *conn = conn_of_client(client);
    struct command_context *context = &worker->context;
    size_t reply_at = context->output.used;
    if (conn->turn == TURN_OVER) {
        if (client_waits_for(client, WAIT_READ))
            command_look_ahead(command);
        return;
    }
    if (client_is_held(client)) { /* a request before it has begun a dump */
        stop_before(command);
        return;
    }
    if (is_others_turn(worker, command)) {
        counter_add(&context->counters.conn_yields, 1);
        stop_before(command);
        return;
    }
    if (conn->piece_count == 0) {
        output_begin(&context->output);
        conn->first_piece = context->output.count;
    }

    enum run_result result = command_run(command);
    bool more = command->request.flags & REQUEST_MORE;
    note_rests(worker, client);
    if (context->verbosity >= SERVER_LOG_COMMANDS && result != RUN_WAIT) {
        const struct observed_request observed = command_observed(command);
        request_log_ran(&observed, &context->output, reply_at);
    }
    conn->turns += !more;
    if (result != RUN_DONE)
        take_result(command, result);
    conn->piece_count = context->output.count - conn->first_piece;
    if (client->is_udp && conn->turn != TURN_OVER && !more)
        end_answer(worker, conn);
}

static enum store_use use_of(const struct command *command)
{
    enum request_op op = command->request.op;
    return op == OP_SET || op == OP_META_SET ? STORE_REPLACES : STORE_READS;
}

static void prefetch(struct worker *worker)
{
    const struct store *store = worker->context.store;
    const struct command *again[WORKER_BATCH];
    uint32_t count = 0;
    for (uint32_t i = 0; i < worker->batch_count; i++) {
        const struct command *command = &worker->batch[i];
        if (command->key.len && !store_prefetch(store, &command->key, use_of(command)))
            again[count++] = command;
    }
    for (uint32_t i = 0; i < count; i++)
        store_prefetch_again(store, &again[i]->key, use_of(again[i]));
}

static void run_batch(struct worker *worker)
{
    prefetch(worker);
    for (uint32_t i = 0; i < worker->batch_count; i++)
        run_command(worker, &worker->batch[i]);
    worker->batch_count = 0;
}

static void run_all(struct worker *worker)
{
    for (uint32_t i = 0; i < worker->round_count;) {
        if (!parse_next(worker, worker->round[i]))
            i++;
        if (worker->batch_count == WORKER_BATCH)
            run_batch(worker);
    }
    run_batch(worker);
}

/* Committing and replying. */

/* What its replies rest on cannot be made durable: none is sent, and the connection is closed. */
static void refuse_replies(struct worker *worker, struct conn *conn)
{
    static const char message[] = "SERVER_ERROR the disk refuses writes\r\n";
    struct piece *pieces = &worker->context.output.pieces[conn->first_piece];
    bool told = conn->piece_count > 0 && conn->client.parser.protocol == PROTOCOL_TEXT;
    for (uint32_t i = 0; i < conn->piece_count; i++)
        piece_release(&pieces[i]);
    if (told) /* else its first piece may be another connection's */
        pieces[0] = (struct piece){.data = message, .len = sizeof message - 1};
    conn->piece_count = told;
    conn->closing = true;
}

/* STORE_OK: its replies may be sent; STORE_WAIT_SYNC: after the next sync; anything else: never. */
static enum store_status may_reply(struct worker *worker, struct conn *conn)
{
    if (!conn->client.rests_lsn)
        return STORE_OK;
    enum store_status status = store_durable(worker->context.session, conn->client.rests_lsn);
    if (status == STORE_OK)
        conn->client.rests_lsn = 0;
    return status;
}

static void wait_for_sync(struct worker *worker, struct conn *conn)
{
    if (!conn_defer(conn, &worker->context.output.pieces[conn->first_piece], conn->piece_count)) {
        conn->closing = true;
        return;
    }
    command_wait(&conn->client, WAIT_SYNC);
}

static void finish_conn(struct worker *worker, struct conn *conn)
{
    enum store_status status = may_reply(worker, conn);
    atomic_store_explicit(&conn->last_command_s, worker->context.now_s, memory_order_relaxed);
    if (conn->client.fetched_promised && !client_waits_for(&conn->client, WAIT_MEMORY))
        fetches_end_promise(&conn->client); /* its request has not needed it after all */
    if (conn->transport == TRANSPORT_UDP && conn->turn != TURN_OVER)
        conn->pos = conn->len; /* no other datagram brings the rest of it */
    if (!conn_keep_rest(conn))
        conn->closing = true;
    if (status != STORE_OK && status != STORE_WAIT_SYNC)
        refuse_replies(worker, conn);
    if (status == STORE_WAIT_SYNC && conn->piece_count) {
        wait_for_sync(worker, conn);
    } else if (conn->piece_count && conn_send(conn, &worker->context.output) == CONN_BROKEN) {
        conn->close_reason = "error";
        conn->closing = true;
    }
    if (worker->context.verbosity >= SERVER_LOG_STATES)
        conn_log_state(conn);
    waits_go_on(conn);
}

/* Sends what may be sent of all connections together; finish_conn sends the rest. */
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
            conn_send_with(conn, &worker->context.output, worker->socket_ring);
    }
    socket_ring_run(worker->socket_ring);
}

/* Writes all that the replies of this round rest on; may_reply finds out whether that worked. */
static void commit(struct worker *worker)
{
    if (worker->rests)
        store_commit(worker->context.session);
    worker->rests = false;
}

void worker_run_round(struct worker *worker)
{
    worker->context.now_s = clock_now_s(&worker->server->clock);
    worker->context.verbosity =
        atomic_load_explicit(worker->context.server_verbosity, memory_order_relaxed);
    output_reset(&worker->context.output);
    store_enter(worker->context.session, worker->context.now_s);
    read_all(worker);
    run_all(worker);
    store_fetch_submit(worker->context.session);
    commit(worker);
    send_together(worker);
    for (uint32_t i = 0; i < worker->round_count; i++)
        finish_conn(worker, worker->round[i]);
    store_leave(worker->context.session);
}
