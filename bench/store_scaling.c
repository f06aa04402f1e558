/* store_scaling.c: the store alone, without sockets and protocols, by several threads at once.
 *
 * Each thread has a session and works as a worker of the server does: it enters, hashes and
 * prefetches a batch of keys, gets or puts them, commits, leaves. The CPU time of an operation
 * tells what the threads cost each other: where it stays the same, they scale as far as there are
 * cores. The gets of one key show the worst case, the puts what the one log costs.
 *
 * usage: bench-store DIRECTORY KEYS SECONDS     (the directory is empty, and stays full)
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/random.h"
#include "storage/base/monotonic.h"
#include "storage/store.h"

#define BATCH       32
#define KEY_BYTES   16
#define VALUE_BYTES 100
#define THREADS_MAX 8

enum work { GET, GET_ONE_KEY, PUT };

struct bench {
    struct store *store;
    uint64_t keys;
    enum work work;
    _Atomic bool stopping;
};

struct thread {
    pthread_t id;
    struct bench *bench;
    struct random random;
    uint64_t operations;
};

static void die(const char *what)
{
    fprintf(stderr, "bench-store: %s failed\n", what);
    exit(1);
}

static void get(struct store_session *session, const struct store_key *key)
{
    struct store_fetch fetch = {0};
    struct store_item item;

    enum store_status status = store_get(session, key, &fetch, &item);
    if (status == STORE_WAIT_READ && store_fetch_now(session, &fetch) == STORE_OK)
        status = store_get(session, key, &fetch, &item); /* there was no room in the cache */
    store_fetch_release(&fetch);
    if (status != STORE_OK && status != STORE_WAIT_READ)
        die("get");
}

static void put(struct store_session *session, const struct store_key *key)
{
    static const char value[VALUE_BYTES];
    struct store_put put = {.value = {{.data = value, .len = VALUE_BYTES}}};
    enum store_status status;

    while ((status = store_put(session, key, &put)) == STORE_WAIT_SPACE) {
        store_commit(session); /* room is being made */
        store_leave(session);
        usleep(100);
        store_enter(session, 1);
    }
    if (status != STORE_OK)
        die("put");
}

/* By hand: snprintf would be a tenth of what is measured. */
static void name_key(char name[KEY_BYTES], uint64_t number)
{
    memcpy(name, "key:", 4);
    for (int i = KEY_BYTES - 1; i >= 4; i--, number /= 10)
        name[i] = (char)('0' + number % 10);
}

static void run_batch(const struct bench *bench, struct store_session *session,
                      const uint64_t *numbers)
{
    char names[BATCH][KEY_BYTES];
    struct store_key keys[BATCH];
    enum store_use use = bench->work == PUT ? STORE_REPLACES : STORE_READS;

    store_enter(session, 1);
    for (int i = 0; i < BATCH; i++) {
        name_key(names[i], numbers[i]);
        store_key_init(bench->store, &keys[i], names[i], KEY_BYTES);
    }
    for (int i = 0; i < BATCH; i++)
        if (!store_prefetch(bench->store, &keys[i], use))
            store_prefetch_again(bench->store, &keys[i], use);
    for (int i = 0; i < BATCH; i++)
        (bench->work == PUT ? put : get)(session, &keys[i]);
    if (bench->work == PUT && store_commit(session) != STORE_OK)
        die("commit");
    store_leave(session);
}

static uint64_t choose(struct thread *thread)
{
    if (thread->bench->work == GET_ONE_KEY)
        return 0;
    return scale64(random_next(&thread->random), thread->bench->keys);
}

static void *run_thread(void *context)
{
    struct thread *thread = context;
    struct bench *bench = thread->bench;
    struct store_session *session = store_session_new(bench->store, NULL, NULL, -1);
    uint64_t numbers[BATCH];
    if (!session)
        die("store_session_new");

    while (!atomic_load_explicit(&bench->stopping, memory_order_relaxed)) {
        for (int i = 0; i < BATCH; i++)
            numbers[i] = choose(thread);
        run_batch(bench, session, numbers);
        thread->operations += BATCH;
    }
    store_session_free(session);
    return NULL;
}

static void fill(struct bench *bench)
{
    struct store_session *session = store_session_new(bench->store, NULL, NULL, -1);
    uint64_t numbers[BATCH];
    if (!session)
        die("store_session_new");

    bench->work = PUT;
    for (uint64_t at = 0; at < bench->keys; at += BATCH) {
        for (uint64_t i = 0; i < BATCH; i++)
            numbers[i] = (at + i) % bench->keys;
        run_batch(bench, session, numbers);
    }
    store_session_free(session);
}

static void measure(struct bench *bench, const char *title, uint32_t count, double seconds)
{
    struct thread threads[THREADS_MAX] = {0};
    uint64_t before_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t started_ns = monotonic_ns(), operations = 0;

    atomic_store(&bench->stopping, false);
    for (uint32_t i = 0; i < count; i++) {
        threads[i].bench = bench;
        threads[i].random.state = i + 1;
        if (pthread_create(&threads[i].id, NULL, run_thread, &threads[i]) != 0)
            die("pthread_create");
    }

    usleep((useconds_t)(seconds * 1e6));
    atomic_store(&bench->stopping, true);
    for (uint32_t i = 0; i < count; i++) {
        pthread_join(threads[i].id, NULL);
        operations += threads[i].operations;
    }

    printf("| %s | %u | %.2f | %.0f |\n", title, count,
           (double)operations / (double)(monotonic_ns() - started_ns) * 1e3,
           (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before_ns) / (double)operations);
    fflush(stdout);
}

static void say(void *context, enum report_level level, const char *text)
{
    (void)context;
    if (level != REPORT_INFO)
        fprintf(stderr, "bench-store: %s\n", text);
}

int main(int argc, char **argv)
{
    static const char *titles[] = {[GET] = "get", [GET_ONE_KEY] = "get of one key", [PUT] = "put"};
    struct bench bench = {.keys = argc == 4 ? strtoull(argv[2], NULL, 10) : 0};
    double seconds = argc == 4 ? strtod(argv[3], NULL) : 0;
    if (bench.keys == 0 || seconds <= 0) {
        fprintf(stderr, "usage: bench-store DIRECTORY KEYS SECONDS\n");
        return 2;
    }

    const struct store_options options = {
        .dir_fd = open(argv[1], O_RDONLY | O_DIRECTORY),
        .dir_name = argv[1],
        .memory_limit = UINT64_C(1) << 30,
        .segment_size = 64 << 20,
        .disk_limit = UINT64_C(4) << 30,
        .sync_interval_ms = 1000,
        .now_s = 1,
        .reporter = {.write = say},
    };
    if (options.dir_fd < 0 || store_open(&bench.store, &options) != STORE_OK)
        die("opening the directory");

    fill(&bench);
    puts("| work | threads | million operations/s | CPU ns an operation |\n|---|---:|---:|---:|");
    for (enum work work = GET; work <= PUT; work++)
        for (uint32_t count = 1; count <= THREADS_MAX; count *= 2) {
            bench.work = work;
            measure(&bench, titles[work], count, seconds);
        }

    store_close(bench.store);
    close(options.dir_fd);
    return 0;
}
