/* dump.c: all keys of the store, streamed to one client.
 *
 * A listing reads from the disk and may take minutes, so it runs in a thread of its own, at low priority. The thread writes
 * lines into chunks; the worker that has the connection is woken for each chunk and sends it. At most DUMP_CHUNKS wait to be
 * sent: a client that does not read stops this thread and nobody else.
 *
 *            dump_start          thread             thread, with the last chunk        dump_take
 *     IDLE ─────────────▶ WANTED ──────▶ RUNNING ─────────────────────────────▶ DONE ────────────▶ IDLE
 *                            │              │ no memory                                              ▲
 *                            │              └───────────▶ FAILED ────────────dump_take───────────────┤
 *                            └── dump_abandon, then the thread has seen it (LEFT) ───────────────────┘
 *
 * One dump at a time, as in memcached; one that was left counts until its thread has noticed.
 */
#define _GNU_SOURCE
#include "src/dump.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/server.h"
#include "src/worker.h"
#include "storage/store.h"

#define CHUNK_SIZE (64 << 10)
#define LINE_SIZE  1024 /* a key with each byte as %XX, and the rest */

enum dump_state {
    IDLE,
    WANTED,
    RUNNING,
    DONE,   /* the last chunk waits to be taken */
    FAILED, /* the worker has to be told */
    LEFT,   /* nobody wants it any more; the thread has not noticed yet */
};

struct chunk {
    char *data;
    size_t len;
};

struct dump {
    struct server *server;
    pthread_t thread;
    bool started; /* the thread; a worker's or, at the end, the main thread's own, with the lock */
    _Atomic bool unwanted; /* the thread must end what it does */

    pthread_mutex_t lock; /* all below */
    pthread_cond_t changed;
    bool stopping;
    enum dump_state state;
    enum dump_form form;
    struct worker *worker;
    struct chunk chunks[DUMP_CHUNKS];
    uint32_t chunk_count;
};

const char *dump_end_line(enum dump_form form)
{
    return form == DUMP_META ? "END\r\n" : "EN\r\n";
}

/* Lines. */

static size_t write_url_encoded(char *out, const char *key, size_t len)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)key[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     c == '-' || c == '_' || c == '.' || c == '~';
        if (plain) {
            out[used++] = (char)c;
            continue;
        }
        out[used++] = '%';
        out[used++] = hex[c >> 4];
        out[used++] = hex[c & 15];
    }
    return used;
}

static size_t write_base64(char *out, const char *key, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t used = 0;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = 0;
        for (size_t k = i; k < i + 3; k++)
            bits = bits << 8 | (k < len ? (unsigned char)key[k] : 0);
        for (int shift = 18; shift >= 0; shift -= 6)
            out[used++] = digits[bits >> shift & 63];
    }
    for (size_t i = 0; i < (3 - len % 3) % 3; i++)
        out[used - 1 - i] = '=';
    return used;
}

/* memcached's line about a key; there is one class here, as in `stats items`. */
static size_t write_meta(char *out, const struct store_listed *item)
{
    size_t len = 4;
    memcpy(out, "key=", len);
    len += write_url_encoded(out + len, item->key, item->key_len);
    len +=
        (size_t)snprintf(out + len, LINE_SIZE - len,
                         " exp=%" PRId64 " la=%" PRIu32 " cas=%" PRIu64
                         " fetch=%s cls=1 size=%" PRIu64 " flags=%" PRIu32 "\n",
                         item->expire_s ? (int64_t)item->expire_s : -1, item->accessed_s, item->cas,
                         item->fetched ? "yes" : "no", item->size, item->client_flags);
    return len;
}

/* Whether a key can stand in a command as it is. */
static bool is_plain(const struct store_listed *item)
{
    for (size_t i = 0; i < item->key_len; i++)
        if ((unsigned char)item->key[i] <= ' ' || item->key[i] == 127)
            return false;
    return true;
}

static size_t write_mg(char *out, const struct store_listed *item)
{
    const char *end = "\r\n";
    size_t len = 3;
    memcpy(out, "mg ", len);
    if (is_plain(item)) {
        memcpy(out + len, item->key, item->key_len);
        len += item->key_len;
    } else {
        len += write_base64(out + len, item->key, item->key_len);
        end = " b\r\n";
    }
    memcpy(out + len, end, strlen(end));
    return len + strlen(end);
}

/* The thread. */

static bool is_unwanted(struct dump *dump)
{
    return atomic_load_explicit(&dump->unwanted, memory_order_relaxed);
}

/* Fills a chunk. STORE_AGAIN: there is more; STORE_NOT_FOUND: it ends with the last line; STORE_NO_MEMORY. */
static enum store_status fill_chunk(struct dump *dump, struct store_list *list, struct chunk *chunk)
{
    uint32_t now_s = clock_now_s(&dump->server->clock);
    struct store_listed item;
    enum store_status status = STORE_AGAIN;
    while (chunk->len + 2 * LINE_SIZE <= CHUNK_SIZE && !is_unwanted(dump)) {
        status = store_list_next(list, now_s, &item);
        if (status != STORE_OK && status != STORE_AGAIN)
            break;
        if (status == STORE_OK)
            chunk->len += dump->form == DUMP_META ? write_meta(chunk->data + chunk->len, &item)
                                                  : write_mg(chunk->data + chunk->len, &item);
    }
    if (status == STORE_NOT_FOUND) {
        const char *end = dump_end_line(dump->form);
        memcpy(chunk->data + chunk->len, end, strlen(end));
        chunk->len += strlen(end);
    }
    return status == STORE_OK ? STORE_AGAIN : status;
}

/* Hands a chunk to the worker when there is room. False: nobody wants it. */
static bool push_chunk(struct dump *dump, struct chunk chunk, bool last)
{
    pthread_mutex_lock(&dump->lock);
    while (dump->chunk_count == DUMP_CHUNKS && !is_unwanted(dump))
        pthread_cond_wait(&dump->changed, &dump->lock);
    bool wanted = !is_unwanted(dump);
    struct worker *worker = dump->worker;
    if (wanted) {
        dump->chunks[dump->chunk_count++] = chunk;
        dump->state = last ? DONE : RUNNING;
    }
    pthread_mutex_unlock(&dump->lock);
    if (wanted)
        worker_wake(worker);
    return wanted;
}

/* False: it has failed, or nobody wants it. */
static bool push_all(struct dump *dump, struct store_list *list)
{
    enum store_status status = STORE_AGAIN;
    while (status == STORE_AGAIN) {
        struct chunk chunk = {.data = malloc(CHUNK_SIZE)};
        status = chunk.data ? fill_chunk(dump, list, &chunk) : STORE_NO_MEMORY;
        if ((status != STORE_AGAIN && status != STORE_NOT_FOUND) ||
            !push_chunk(dump, chunk, status == STORE_NOT_FOUND)) {
            free(chunk.data);
            return false;
        }
    }
    return true;
}

/* It has not come to its end: for the worker that waits, or because nobody does. */
static void give_up(struct dump *dump)
{
    pthread_mutex_lock(&dump->lock);
    bool left = dump->state == LEFT;
    struct worker *worker = dump->worker;
    dump->state = left ? IDLE : FAILED;
    pthread_mutex_unlock(&dump->lock);
    if (!left)
        worker_wake(worker);
}

static bool wait_for_work(struct dump *dump)
{
    pthread_mutex_lock(&dump->lock);
    while (dump->state != WANTED && dump->state != LEFT && !dump->stopping)
        pthread_cond_wait(&dump->changed, &dump->lock);
    bool stopping = dump->stopping;
    if (dump->state == WANTED)
        dump->state = RUNNING;
    pthread_mutex_unlock(&dump->lock);
    return !stopping;
}

static void *run_dumps(void *context)
{
    struct dump *dump = context;
    /* Clients come first; a refusal changes nothing that matters. */
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10);
    while (wait_for_work(dump)) {
        struct store_list *list = store_list_new(dump->server->store);
        if (!list || !push_all(dump, list))
            give_up(dump);
        store_list_free(list);
    }
    return NULL;
}

/* The workers' side. */

enum dump_started dump_start(struct dump *dump, enum dump_form form, struct worker *worker)
{
    enum dump_started result = DUMP_BUSY;
    pthread_mutex_lock(&dump->lock);
    if (dump->state == IDLE && !dump->stopping) {
        dump->started = dump->started || pthread_create(&dump->thread, NULL, run_dumps, dump) == 0;
        result = dump->started ? DUMP_STARTED : DUMP_FAILED;
    }
    if (result == DUMP_STARTED) {
        dump->state = WANTED;
        dump->form = form;
        dump->worker = worker;
        atomic_store(&dump->unwanted, false);
        pthread_cond_signal(&dump->changed);
    }
    pthread_mutex_unlock(&dump->lock);
    return result;
}

static enum dump_taken take_chunk(struct dump *dump, struct piece *piece)
{
    struct chunk chunk = dump->chunks[0];
    *piece = (struct piece){
        .data = chunk.data, .len = chunk.len, .kind = PIECE_HEAP, .owner = chunk.data};
    dump->chunk_count--;
    memmove(dump->chunks, dump->chunks + 1, dump->chunk_count * sizeof *dump->chunks);
    pthread_cond_signal(&dump->changed);
    if (dump->state != DONE || dump->chunk_count)
        return DUMP_CHUNK;
    dump->state = IDLE;
    return DUMP_LAST;
}

enum dump_taken dump_take(struct dump *dump, struct piece *piece)
{
    enum dump_taken taken = DUMP_NOTHING;
    pthread_mutex_lock(&dump->lock);
    if (dump->chunk_count) {
        taken = take_chunk(dump, piece);
    } else if (dump->state == FAILED) {
        dump->state = IDLE;
        taken = DUMP_BROKEN;
    }
    pthread_mutex_unlock(&dump->lock);
    return taken;
}

static void drop_chunks(struct dump *dump)
{
    while (dump->chunk_count)
        free(dump->chunks[--dump->chunk_count].data);
}

void dump_abandon(struct dump *dump)
{
    pthread_mutex_lock(&dump->lock);
    drop_chunks(dump);
    atomic_store(&dump->unwanted, true);
    dump->state = dump->state == WANTED || dump->state == RUNNING ? LEFT : IDLE;
    pthread_cond_signal(&dump->changed);
    pthread_mutex_unlock(&dump->lock);
}

/* The beginning and the end. */

struct dump *dump_new(struct server *server)
{
    struct dump *dump = calloc(1, sizeof *dump);
    if (!dump)
        return NULL;
    dump->server = server;
    pthread_mutex_init(&dump->lock, NULL);
    pthread_cond_init(&dump->changed, NULL);
    return dump;
}

void dump_stop(struct dump *dump)
{
    pthread_mutex_lock(&dump->lock);
    dump->stopping = true;
    atomic_store(&dump->unwanted, true);
    pthread_cond_signal(&dump->changed);
    pthread_mutex_unlock(&dump->lock);
    if (dump->started)
        pthread_join(dump->thread, NULL);
}

void dump_free(struct dump *dump)
{
    drop_chunks(dump);
    pthread_cond_destroy(&dump->changed);
    pthread_mutex_destroy(&dump->lock);
    free(dump);
}
