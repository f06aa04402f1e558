/* worker.c: rounds.
 *
 * A worker waits for events. What its callbacks do is only to note which connections have something; then one round serves
 * all of them together:
 *
 *     read all ─▶ parse a batch of requests, over all connections ─▶ fetch their buckets ─▶ fetch their items
 *          ─▶ run them in order ─▶ (next batch) ─▶ one commit ─▶ all replies
 *
 * A connection leaves the round early (stopped) when a value must come from disk, when its replies have become many, or
 * when it closes; then it is set back to before the first request that was not run, and that is parsed again later. So no
 * request is ever half done.
 *
 * After the round a connection goes on when its output is sent, its fetches have come back, there is room for its write, and,
 * with --sync=always, its writes are on disk; until then its socket is not read, so a client that does not read its answers stops itself.
 */
#define _GNU_SOURCE
#include "src/worker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "src/command.h"
#include "src/dump.h"
#include "src/journal.h"
#include "src/trace.h"
#include "src/udp.h"
#include "src/watch.h"

#define INPUT_SIZE  (512 << 10)
#define ROUNDS_MAX  16         /* between two looks at what else has happened */
#define REPLIES_MAX (64 << 10) /* of one connection in a round */

/* The connection's client waits for a listing of all keys. */
static bool is_dumping(const struct conn *conn)
{
    return conn->worker->dumping == conn;
}

static void abandon_dump(struct worker *worker)
{
    worker->dumping = NULL;
    dump_abandon(worker->server->dump);
}

static void remove_watcher(struct worker *worker, struct conn *conn)
{
    struct conn **at = &worker->watching;
    while (*at != conn)
        at = &(*at)->next_watching;
    *at = conn->next_watching;
    watch_remove(worker->server->watch, conn->watcher);
}

static void close_conn(struct worker *worker, struct conn *conn)
{
    if (is_dumping(conn))
        abandon_dump(worker);
    if (worker->verbosity >= JOURNAL_COMMANDS)
        trace_closed(conn);
    if (conn->watching)
        remove_watcher(worker, conn);
    watch_closed(worker, conn);
    pthread_mutex_lock(&worker->lock);
    if (conn->previous)
        conn->previous->next = conn->next;
    else
        worker->conns = conn->next;
    if (conn->next)
        conn->next->previous = conn->previous;
    worker->conn_count--;
    pthread_mutex_unlock(&worker->lock);
    bool counted = conn->transport != TRANSPORT_UDP;
    conn_free(conn);
    if (counted)
        server_connection_closed(worker->server);
}

static void make_ready(struct conn *conn)
{
    struct worker *worker = conn->worker;
    if (conn->is_ready)
        return;
    conn->is_ready = true;
    conn->next_ready = NULL;
    if (worker->ready)
        worker->ready_tail->next_ready = conn;
    else
        worker->ready = conn;
    worker->ready_tail = conn;
}

static struct conn *take_ready(struct worker *worker)
{
    struct conn *conn = worker->ready;
    if (conn) {
        worker->ready = conn->next_ready;
        conn->is_ready = false;
    }
    return conn;
}

/* Sends one chunk of the dump. False: there is none now. */
static bool send_chunk(struct conn *conn)
{
    struct worker *worker = conn->worker;
    struct piece piece;
    enum dump_taken taken = dump_take(worker->server->dump, &piece);
    if (taken == DUMP_NOTHING)
        return false;
    if (taken != DUMP_CHUNK)
        worker->dumping = NULL;
    if (taken == DUMP_BROKEN || !conn_defer(conn, &piece, 1) ||
        conn_send_pending(conn) == CONN_BROKEN) {
        conn_drop_pending(conn);
        conn->closing = true;
    }
    return true;
}

/* Sends what the dump has ready, once all before it is sent; for more there will be a wake. */
static void feed_dump(struct conn *conn)
{
    for (int i = 0; i < DUMP_CHUNKS; i++) {
        bool can_send = !conn->pending && !conn->sync_lsn && !conn->closing;
        if (!is_dumping(conn) || !can_send || !send_chunk(conn))
            break;
    }
    if (is_dumping(conn) && conn->closing)
        abandon_dump(conn->worker);
}

/* Sends a watcher's lines, as far as its socket takes them; for more there will be a wake. */
static void feed_watcher(struct conn *conn)
{
    struct piece piece;
    while (!conn->pending && !conn->sync_lsn && !conn->closing &&
           watch_take(conn->worker->server->watch, conn->watcher, &piece))
        if (!conn_defer(conn, &piece, 1) || conn_send_pending(conn) == CONN_BROKEN) {
            conn->close_reason = "error";
            conn->closing = true;
        }
    if (conn->closing && !conn->sync_lsn)
        close_conn(conn->worker, conn);
}

/* A watcher has nothing to say any more, but that it has gone. */
static void on_watcher_readable(evutil_socket_t fd, short what, void *context)
{
    struct conn *conn = context;
    size_t used;
    (void)fd;
    (void)what;
    if (conn_receive(conn, conn->worker->input, &used) != CONN_GONE)
        return;
    conn->closing = true;
    conn_listen(conn, false);
    feed_watcher(conn);
}

void worker_add_watcher(struct worker *worker, struct conn *conn, uint32_t watcher)
{
    conn->watching = true;
    conn->watcher = watcher;
    conn->next_watching = worker->watching;
    worker->watching = conn;
    conn_listen(conn, false);
    event_assign(&conn->read_event, worker->base, conn->fd, EV_READ | EV_PERSIST,
                 on_watcher_readable, conn);
    conn_listen(conn, true);
}

/* Goes on with a connection if nothing holds it any more. */
static void resume(struct conn *conn)
{
    if (conn->watching) {
        feed_watcher(conn);
        return;
    }
    feed_dump(conn);
    if (conn->pending || conn->sync_lsn || conn->fetching || conn->parked || is_dumping(conn)) {
        conn_listen(conn, conn->pending && conn_sends_after_reading(conn));
        return;
    }
    if (conn->closing && conn->transport == TRANSPORT_UDP)
        udp_give_up(conn);
    if (conn->closing) {
        close_conn(conn->worker, conn);
        return;
    }
    conn_listen(conn, true);
    if ((conn->stopped && conn->in_len) || conn->readable)
        make_ready(conn);
}

static void send_pending(struct conn *conn)
{
    enum conn_sent sent = conn_send_pending(conn);
    if (sent == CONN_BROKEN) {
        conn_drop_pending(conn);
        conn->closing = true;
    }
    if (sent != CONN_WAITING)
        resume(conn);
}

void worker_on_readable(evutil_socket_t fd, short what, void *context)
{
    struct conn *conn = context;
    (void)fd;
    (void)what;
    if (conn->pending) {
        send_pending(conn);
        return;
    }
    conn->readable = true;
    make_ready(conn);
}

void worker_on_writable(evutil_socket_t fd, short what, void *context)
{
    struct conn *conn = context;
    (void)fd;
    (void)what;
    if (conn->pending) {
        send_pending(conn);
        return;
    }
    conn_receive_again(conn);
    make_ready(conn);
}

/* The round: reading. */

static bool fill_conn(struct worker *worker, struct conn *conn, size_t *input_used)
{
    size_t used = 0;
    bool left_over = conn->stopped && conn->in_len;
    conn->wrote = conn->stopped = false;
    conn->out_bytes = 0;
    conn->turns = 0;
    conn->piece_count = 0;
    if (left_over) { /* requests that wait come before new ones are read */
        conn_reuse(conn);
        return true;
    }
    if (!conn->readable)
        return false;
    conn->readable = false;
    switch (conn_receive(conn, worker->input + *input_used, &used)) {
    case CONN_RECEIVED: *input_used += used; return true;
    case CONN_NOTHING: return false;
    case CONN_GONE: close_conn(worker, conn); return false;
    }
    return false;
}

static void read_all(struct worker *worker)
{
    size_t used = 0;
    worker->round_count = 0;
    while (worker->ready && worker->round_count < WORKER_ROUND &&
           INPUT_SIZE - used >= 2 * CONN_READ_SIZE) {
        struct conn *conn = take_ready(worker);
        if (fill_conn(worker, conn, &used))
            worker->round[worker->round_count++] = conn;
    }
}

/* The round: parsing and running. */

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

/* Whether the connection has had its share of this round: of replies, or of requests (-R; a multiget is one). */
static bool is_others_turn(const struct worker *worker, const struct conn *conn)
{
    return conn->out_bytes > REPLIES_MAX || !output_has_room(&worker->output) ||
           conn->turns >= worker->requests_per_event;
}

/* What follows belongs to the next request of a datagram. */
static void end_answer(struct worker *worker, const struct conn *conn)
{
    if (conn->piece_count == 0)
        return;
    worker->output.pieces[worker->output.count - 1].ends_answer = true;
    output_begin(&worker->output);
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
    if (is_dumping(conn)) {
        stop_before(conn, slot);
        return;
    }
    if (is_others_turn(worker, conn)) {
        counter_add(&worker->counters.conn_yields, 1);
        stop_before(conn, slot);
        return;
    }
    if (conn->piece_count == 0) {
        output_begin(&worker->output);
        conn->first_piece = worker->output.count;
    }
    enum run_result result = command_run(worker, conn, slot);
    if (worker->verbosity >= JOURNAL_COMMANDS && result != RUN_WAIT)
        trace_request(conn, slot, &worker->output, reply_at);
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

static void prefetch(struct worker *worker)
{
    const struct store *store = worker->server->store;
    const struct store_key *again[WORKER_BATCH];
    uint32_t count = 0;
    for (uint32_t i = 0; i < worker->slot_count; i++) {
        const struct store_key *key = &worker->slots[i].key;
        if (key->len && !store_prefetch(store, key))
            again[count++] = key;
    }
    for (uint32_t i = 0; i < count; i++)
        store_prefetch_again(store, again[i]);
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

/* The round: committing and replying. */

/* The writes of this connection could not be made to last: no word of them, and an end. */
static void refuse_writes(struct worker *worker, struct conn *conn)
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

static void wait_for_sync(struct worker *worker, struct conn *conn)
{
    if (!conn_defer(conn, &worker->output.pieces[conn->first_piece], conn->piece_count)) {
        conn->closing = true;
        return;
    }
    conn->sync_lsn = store_commit_lsn(worker->session);
    conn->next_syncing = worker->syncing;
    worker->syncing = conn;
}

static void finish_conn(struct worker *worker, struct conn *conn, enum store_status committed)
{
    atomic_store_explicit(&conn->last_command_s, worker->now_s, memory_order_relaxed);
    if (conn->transport == TRANSPORT_UDP && !conn->stopped)
        conn->pos = conn->len; /* no other datagram brings the rest of it */
    if (!conn_keep_rest(conn))
        conn->closing = true;
    if (conn->wrote && committed != STORE_OK && committed != STORE_AGAIN)
        refuse_writes(worker, conn);
    if (conn->wrote && committed == STORE_AGAIN && conn->piece_count) {
        wait_for_sync(worker, conn);
    } else if (conn->piece_count && conn_send(conn, &worker->output) == CONN_BROKEN) {
        conn->close_reason = "error";
        conn->closing = true;
    }
    if (worker->verbosity >= JOURNAL_STATES)
        trace_state(conn);
    resume(conn);
}

/* STORE_OK: replies may go; STORE_AGAIN: when the log is synced; else they must not. */
static enum store_status commit(struct worker *worker)
{
    if (!worker->wrote)
        return STORE_OK;
    worker->wrote = false;
    enum store_status status = store_commit(worker->session);
    return status == STORE_OK ? store_synced(worker->session, store_commit_lsn(worker->session))
                              : status;
}

static void run_round(struct worker *worker)
{
    worker->now_s = clock_now_s(&worker->server->clock);
    worker->verbosity = atomic_load_explicit(&worker->server->verbosity, memory_order_relaxed);
    output_reset(&worker->output);
    store_enter(worker->session);
    read_all(worker);
    run_all(worker);
    enum store_status committed = commit(worker);
    for (uint32_t i = 0; i < worker->round_count; i++)
        finish_conn(worker, worker->round[i], committed);
    store_leave(worker->session);
}

/* Wakes: connections from the main thread, fetches, syncs. */

static void wake(void *context)
{
    const struct worker *worker = context;
    uint64_t one = 1;
    ssize_t ignored = write(worker->wake_fd, &one, sizeof one); /* full means woken already */
    (void)ignored;
}

static void add_conn(struct worker *worker, struct conn *conn)
{
    atomic_store_explicit(&conn->last_command_s, worker->now_s, memory_order_relaxed);
    pthread_mutex_lock(&worker->lock);
    conn->next = worker->conns;
    if (conn->next)
        conn->next->previous = conn;
    worker->conns = conn;
    worker->conn_count++;
    pthread_mutex_unlock(&worker->lock);
}

static void take_arrivals(struct worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    struct arrival *arrival = worker->arrivals, *next;
    worker->arrivals = NULL;
    pthread_mutex_unlock(&worker->lock);
    worker->now_s = clock_now_s(&worker->server->clock);
    worker->verbosity = atomic_load_explicit(&worker->server->verbosity, memory_order_relaxed);
    for (; arrival; arrival = next) {
        next = arrival->next;
        struct conn *conn = conn_new(worker, arrival->fd, arrival->listener, arrival->address);
        free(arrival);
        if (!conn) {
            server_connection_closed(worker->server);
            continue;
        }
        if (worker->verbosity >= JOURNAL_COMMANDS)
            trace_opened(conn);
        add_conn(worker, conn);
        watch_opened(worker, conn);
    }
}

static void take_fetches(struct worker *worker)
{
    struct store_fetch *fetch;
    while ((fetch = store_fetch_next(worker->session))) {
        struct conn *conn = fetch->owner;
        worker->fetching--;
        if (--conn->fetching == 0)
            resume(conn);
    }
}

static void take_synced(struct worker *worker)
{
    struct conn *conn = worker->syncing, *next;
    worker->syncing = NULL;
    for (; conn; conn = next) {
        next = conn->next_syncing;
        enum store_status status = store_synced(worker->session, conn->sync_lsn);
        if (status == STORE_AGAIN) {
            conn->next_syncing = worker->syncing;
            worker->syncing = conn;
            continue;
        }
        conn->sync_lsn = 0;
        if (status != STORE_OK) { /* never acknowledged: what was to be said is dropped */
            conn_drop_pending(conn);
            conn->closing = true;
        }
        if (conn->pending)
            send_pending(conn);
        else
            resume(conn);
    }
}

void worker_park(struct worker *worker, struct conn *conn)
{
    conn->parked = true;
    conn->next_parked = worker->parked;
    worker->parked = conn;
}

/* There may be room now; those for whom there is none park again. */
static void take_parked(struct worker *worker)
{
    struct conn *conn = worker->parked, *next;
    worker->parked = NULL;
    for (; conn; conn = next) {
        next = conn->next_parked;
        conn->parked = false;
        resume(conn);
    }
}

static void feed_watchers(struct worker *worker)
{
    struct conn *next;
    for (struct conn *conn = worker->watching; conn; conn = next) {
        next = conn->next_watching;
        feed_watcher(conn);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    uint64_t count;
    (void)what;
    ssize_t ignored = read(fd, &count, sizeof count);
    (void)ignored;
    take_arrivals(worker);
    take_fetches(worker);
    take_synced(worker);
    take_parked(worker);
    feed_watchers(worker);
    if (worker->dumping)
        resume(worker->dumping);
}

/* Idle connections (-o idle_timeout). */

/* Whether nothing is under way that would come back to it; a client that does not read its answers is idle too. */
static bool may_be_kicked(const struct conn *conn)
{
    return conn->transport != TRANSPORT_UDP && !conn->listener->is_unix && !conn->is_ready &&
           !conn->sync_lsn && !conn->fetching && !conn->parked && !is_dumping(conn) &&
           !conn->watching;
}

static void kick_idle(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    struct conn *conn, *next;
    uint32_t limit_s = (uint32_t)worker->server->settings.idle_timeout_s;
    (void)fd;
    (void)what;
    worker->now_s = clock_now_s(&worker->server->clock);
    for (conn = worker->conns; conn; conn = next) {
        next = conn->next;
        uint32_t last_s = atomic_load_explicit(&conn->last_command_s, memory_order_relaxed);
        if (worker->now_s <= last_s + limit_s || !may_be_kicked(conn))
            continue;
        if (worker->verbosity >= JOURNAL_EVENTS)
            journal("<%d closed: idle for more than %u s: %s", conn->fd, limit_s, conn->address);
        counter_add(&worker->counters.idle_kicks, 1);
        conn->close_reason = "idle_timeout";
        close_conn(worker, conn);
    }
}

static bool watch_idle(struct worker *worker)
{
    const struct timeval second = {.tv_sec = 1};
    if (!worker->server->settings.idle_timeout_s)
        return true;
    worker->idle_tick = event_new(worker->base, -1, EV_PERSIST, kick_idle, worker);
    return worker->idle_tick && event_add(worker->idle_tick, &second) == 0;
}

static void *run_worker(void *context)
{
    struct worker *worker = context;
    worker->now_s = clock_now_s(&worker->server->clock);
    while (!atomic_load(&worker->stopping) || worker->fetching) {
        event_base_loop(worker->base, worker->ready ? EVLOOP_ONCE | EVLOOP_NONBLOCK : EVLOOP_ONCE);
        for (int i = 0; i < ROUNDS_MAX && worker->ready && !atomic_load(&worker->stopping); i++)
            run_round(worker);
        if (atomic_load(&worker->stopping))
            worker->ready = NULL;
    }
    return NULL;
}

/* The beginning and the end. */

/* A connection of ours for each UDP socket, which all workers share. */
static bool open_udp(struct worker *worker)
{
    const struct server *server = worker->server;
    worker->now_s = clock_now_s(&server->clock);
    for (int i = 0; i < server->listener_count; i++) {
        const struct listener *listener = &server->listeners[i];
        if (listener->transport != TRANSPORT_UDP)
            continue;
        int fd = fcntl(listener->fd, F_DUPFD_CLOEXEC, 0);
        struct conn *conn = fd < 0 ? NULL : conn_new(worker, fd, listener, listener->address);
        if (!conn)
            return false;
        add_conn(worker, conn);
    }
    return true;
}

struct worker *worker_new(struct server *server, uint32_t id)
{
    struct worker *worker = calloc(1, sizeof *worker);
    struct event_config *config = event_config_new();
    if (!worker || !config)
        return NULL;
    worker->server = server;
    worker->id = id;
    worker->requests_per_event =
        server->settings.requests_per_event ? server->settings.requests_per_event : INT_MAX;
    pthread_mutex_init(&worker->lock, NULL);
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_NO_CACHE_TIME);
    worker->base = event_base_new_with_config(config);
    event_config_free(config);
    worker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    worker->input = malloc(INPUT_SIZE);
    worker->scratch = calloc(1, sizeof *worker->scratch);
    worker->session = store_session_new(server->store, wake, worker);
    if (!worker->base || worker->wake_fd < 0 || !worker->input || !worker->scratch ||
        !worker->session || !output_init(&worker->output))
        return NULL;
    worker->wake_event =
        event_new(worker->base, worker->wake_fd, EV_READ | EV_PERSIST, on_wake, worker);
    if (!worker->wake_event || !watch_idle(worker))
        return NULL;
    event_add(worker->wake_event, NULL);
    return open_udp(worker) ? worker : NULL;
}

void worker_wake(struct worker *worker)
{
    wake(worker);
}

bool worker_start(struct worker *worker)
{
    return pthread_create(&worker->thread, NULL, run_worker, worker) == 0;
}

bool worker_add(struct worker *worker, int fd, const struct listener *listener, const char *address)
{
    struct arrival *arrival = calloc(1, sizeof *arrival);
    if (!arrival)
        return false;
    arrival->fd = fd;
    arrival->listener = listener;
    strncpy(arrival->address, address, sizeof arrival->address - 1);
    pthread_mutex_lock(&worker->lock);
    arrival->next = worker->arrivals;
    worker->arrivals = arrival;
    pthread_mutex_unlock(&worker->lock);
    wake(worker);
    return true;
}

void worker_stop(struct worker *worker)
{
    atomic_store(&worker->stopping, true);
    wake(worker);
}

void worker_free(struct worker *worker)
{
    pthread_join(worker->thread, NULL);
    take_arrivals(worker);
    while (worker->conns)
        close_conn(worker, worker->conns);
    store_session_free(worker->session);
    store_fetch_release(worker->scratch);
    free(worker->scratch);
    output_release(&worker->output);
    free(worker->input);
    event_free(worker->wake_event);
    if (worker->idle_tick)
        event_free(worker->idle_tick);
    event_base_free(worker->base);
    close(worker->wake_fd);
    pthread_mutex_destroy(&worker->lock);
    free(worker);
}
