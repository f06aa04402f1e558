/* dump.c: all keys of the store, streamed to one client.
 *
 * A listing reads from the disk and may take minutes, so it runs in a thread of its own, at low
 * priority, which writes lines into chunks. The worker that has the connection is woken for each
 * and sends it. At most DUMP_CHUNKS wait: a client that does not read stops nobody but this thread.
 *
 *          dump_start        thread           thread, with the last chunk        dump_take
 *     IDLE ───────────▶ WANTED ────▶ RUNNING ─────────────────────────────▶ DONE ──────────▶ IDLE
 *                          │            │ no memory                                            ▲
 *                          │            └──────────▶ FAILED ───────────dump_take───────────────┤
 *                          └── dump_abandon, then the thread has seen it (LEFT) ───────────────┘
 *
 * One dump at a time, as in memcached; one that was left counts until its thread has noticed.
 */
#include "src/observe/dump.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol/base64.h"
#include "protocol/token.h"
#include "src/base/clock.h"
#include "src/base/encode.h"
#include "src/base/number.h"
#include "storage/store.h"

#define CHUNK_SIZE (64 << 10)
#define LINE_SIZE  1024 /* a key with each byte as %XX, and the rest */

enum dump_state {
    IDLE,
    WANTED,
    RUNNING,
    DONE,   /* the last chunk waits to be taken */
    FAILED, /* the worker does not know yet */
    LEFT,   /* nobody wants it any more; the thread has not noticed yet */
};

struct chunk {
    char *data, *end;
};

struct dump {
    struct store *store;
    const struct clock *clock;
    pthread_t thread;
    bool started; /* the thread; a worker's or, at the end, the main thread's own, with the lock */
    _Atomic bool unwanted; /* the thread must end what it does */

    pthread_mutex_t lock; /* all below */
    pthread_cond_t changed;
    bool stopping;
    enum dump_state state;
    enum dump_form form;
    uint64_t limit;
    struct waker waker; /* of the thread that has asked for it */
    struct chunk chunks[DUMP_CHUNKS];
    uint32_t chunk_count;
};

static bool has_room(const struct chunk *chunk)
{
    return chunk->data + CHUNK_SIZE - chunk->end >= 2 * LINE_SIZE;
}

/* Lines. */

static char *put_number(char *out, uint64_t number)
{
    return out + number_format(out, number);
}

/* memcached's line about a key; there is one class here, as in `stats items`. */
static char *write_meta(char *out, const struct store_scanned *item)
{
    out = stpcpy(out, "key=");
    out += encode_url(out, item->key, item->key_len);
    out = stpcpy(out, " exp=");
    out = item->expire_s ? put_number(out, item->expire_s) : stpcpy(out, "-1");
    out = put_number(stpcpy(out, " la="), item->accessed_s);
    out = put_number(stpcpy(out, " cas="), item->cas);
    out = stpcpy(out, item->fetched ? " fetch=yes" : " fetch=no");
    out = put_number(stpcpy(out, " cls=1 size="), item->size);
    out = put_number(stpcpy(out, " flags="), item->client_flags);
    return stpcpy(out, "\n");
}

static bool is_plain(const struct store_scanned *item)
{
    return token_is_plain((struct bytes){item->key, item->key_len});
}

static char *write_mg(char *out, const struct store_scanned *item)
{
    out = stpcpy(out, "mg ");
    if (is_plain(item))
        return stpcpy(mempcpy(out, item->key, item->key_len), "\r\n");
    out += base64_encode(out, item->key, item->key_len);
    return stpcpy(out, " b\r\n");
}

/* This form has no way to write a key that is not plain. */
static char *write_cached(char *out, const struct store_scanned *item)
{
    if (!is_plain(item))
        return out;
    return out + snprintf(out, LINE_SIZE, "ITEM %.*s [%" PRIu32 " b; %" PRIu32 " s]\r\n",
                          (int)item->key_len, item->key, item->value_len, item->expire_s);
}

/* Sizes. */

/* By steps of 32 bytes as in memcached, and above 1 MiB by powers of two. */
#define SIZE_STEP   32
#define SIZE_SMALL  (UINT32_C(1) << 20)
#define SIZE_COUNTS (SIZE_SMALL / SIZE_STEP + 12)

struct sizes {
    uint32_t shown; /* of the counts */
    uint64_t counts[SIZE_COUNTS];
};

static uint64_t size_of_count(uint32_t i)
{
    uint32_t small = SIZE_SMALL / SIZE_STEP;
    return i <= small ? (uint64_t)i * SIZE_STEP : (uint64_t)SIZE_SMALL << (i - small);
}

static void count_size(struct sizes *sizes, const struct store_scanned *item)
{
    uint64_t size = (uint64_t)item->key_len + item->value_len + ITEM_OVERHEAD;
    uint32_t i = size <= SIZE_SMALL ? (uint32_t)((size + SIZE_STEP - 1) / SIZE_STEP)
                                    : SIZE_SMALL / SIZE_STEP;
    while (i < SIZE_COUNTS - 1 && size_of_count(i) < size)
        i++;
    sizes->counts[i]++;
}

/* False: they do not all fit. */
static bool write_sizes(struct sizes *sizes, struct chunk *chunk)
{
    for (; sizes->shown < SIZE_COUNTS; sizes->shown++) {
        uint64_t size = size_of_count(sizes->shown), count = sizes->counts[sizes->shown];
        if (count && !has_room(chunk))
            return false;
        if (count)
            chunk->end +=
                snprintf(chunk->end, LINE_SIZE, "STAT %" PRIu64 " %" PRIu64 "\r\n", size, count);
    }
    return true;
}

/* The thread. */

/* A dump that runs. */
struct run {
    struct store_scan *scan;
    enum dump_form form;
    uint64_t left; /* keys that it may still list */
    struct sizes *sizes;
    bool listed; /* all keys */
};

static bool is_unwanted(struct dump *dump)
{
    return atomic_load_explicit(&dump->unwanted, memory_order_relaxed);
}

static void write_item(struct run *run, struct chunk *chunk, const struct store_scanned *item)
{
    switch (run->form) {
    case DUMP_META: chunk->end = write_meta(chunk->end, item); break;
    case DUMP_MG: chunk->end = write_mg(chunk->end, item); break;
    case DUMP_CACHE: chunk->end = write_cached(chunk->end, item); break;
    case DUMP_SIZES: count_size(run->sizes, item); break;
    }
    run->left--;
}

/* Lists until the chunk is full. STORE_MORE, STORE_NOT_FOUND (that was all) or STORE_NO_MEMORY. */
static enum store_status list_keys(struct dump *dump, struct run *run, struct chunk *chunk)
{
    uint32_t now_s = clock_now_s(dump->clock);
    struct store_scanned item;
    while (has_room(chunk) && !is_unwanted(dump)) {
        enum store_status status =
            run->left ? store_scan_next(run->scan, now_s, &item) : STORE_NOT_FOUND;
        if (status == STORE_OK)
            write_item(run, chunk, &item);
        else if (status != STORE_MORE)
            return status;
    }
    return STORE_MORE;
}

/* The same, with the last line at the end. */
static enum store_status fill_chunk(struct dump *dump, struct run *run, struct chunk *chunk)
{
    enum store_status status = run->listed ? STORE_NOT_FOUND : list_keys(dump, run, chunk);
    if (status != STORE_NOT_FOUND)
        return status;
    run->listed = true;
    if (run->form == DUMP_SIZES && !write_sizes(run->sizes, chunk))
        return STORE_MORE;
    chunk->end = stpcpy(chunk->end, run->form == DUMP_MG ? "EN\r\n" : "END\r\n");
    return STORE_NOT_FOUND;
}

/* Hands a chunk to the worker when there is room. False: nobody wants it. */
static bool push_chunk(struct dump *dump, struct chunk chunk, bool last)
{
    pthread_mutex_lock(&dump->lock);
    while (dump->chunk_count == DUMP_CHUNKS && !is_unwanted(dump))
        pthread_cond_wait(&dump->changed, &dump->lock);
    bool wanted = !is_unwanted(dump);
    struct waker waker = dump->waker;
    if (wanted) {
        dump->chunks[dump->chunk_count++] = chunk;
        dump->state = last ? DONE : RUNNING;
    }
    pthread_mutex_unlock(&dump->lock);
    if (wanted)
        waker_wake(&waker);
    return wanted;
}

/* False: it has failed, or nobody wants it. */
static bool push_all(struct dump *dump, struct run *run)
{
    enum store_status status = STORE_MORE;
    while (status == STORE_MORE) {
        char *data = malloc(CHUNK_SIZE);
        struct chunk chunk = {data, data};
        status = data ? fill_chunk(dump, run, &chunk) : STORE_NO_MEMORY;
        if ((status != STORE_MORE && status != STORE_NOT_FOUND) ||
            !push_chunk(dump, chunk, status == STORE_NOT_FOUND)) {
            free(data);
            return false;
        }
    }
    return true;
}

/* It failed, and the worker must learn of it, or nobody waits for it any more. */
static void give_up(struct dump *dump)
{
    pthread_mutex_lock(&dump->lock);
    bool left = dump->state == LEFT;
    struct waker waker = dump->waker;
    dump->state = left ? IDLE : FAILED;
    pthread_mutex_unlock(&dump->lock);
    if (!left)
        waker_wake(&waker);
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
    pthread_setname_np(pthread_self(), "cc-dump");
    /* Clients come first; a refusal changes nothing that matters. */
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10);
    while (wait_for_work(dump)) {
        /* Form and limit stay as they are until the dump is idle again. */
        struct run run = {
            .form = dump->form, .left = dump->limit, .scan = store_scan_new(dump->store)};
        run.sizes = run.form == DUMP_SIZES ? calloc(1, sizeof *run.sizes) : NULL;
        bool ready = run.scan && (run.sizes || run.form != DUMP_SIZES);
        if (!ready || !push_all(dump, &run))
            give_up(dump);
        store_scan_free(run.scan);
        free(run.sizes);
    }
    return NULL;
}

/* The workers' side. */

enum dump_started dump_start(struct dump *dump, enum dump_form form, uint64_t limit,
                             struct waker waker)
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
        dump->limit = limit ? limit : UINT64_MAX;
        dump->waker = waker;
        atomic_store(&dump->unwanted, false);
        pthread_cond_signal(&dump->changed);
    }
    pthread_mutex_unlock(&dump->lock);
    return result;
}

static enum dump_taken take_chunk(struct dump *dump, struct piece *piece)
{
    const struct chunk *chunk = &dump->chunks[0];
    *piece = piece_of_heap(chunk->data, (size_t)(chunk->end - chunk->data));
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

struct dump *dump_new(struct store *store, const struct clock *clock)
{
    struct dump *dump = calloc(1, sizeof *dump);
    if (!dump)
        return NULL;
    dump->store = store;
    dump->clock = clock;
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
