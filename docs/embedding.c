/* embedding.c: the store in a program of your own: stores a value and reads it back.
 *
 *     gcc -iquote SOURCE embedding.c libcachecask.a -lxxhash -luring -pthread
 *
 * It wants an empty directory `data`. README.md shows a part of it, and tests/server/test_readme.py
 * builds and runs it.
 */
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <time.h>

#include "storage/store.h"

/* Called from another thread when there is something for this one. */
static void wake(void *woken)
{
    sem_post(woken);
}

static enum store_status put(struct store_session *session, sem_t *woken,
                             const struct store_key *key, uint32_t now_s, struct store_put *what)
{
    for (;;) {
        store_enter(session, now_s);
        enum store_status status = store_put(session, key, what);
        store_leave(session);
        if (status != STORE_WAIT_SPACE)
            return status == STORE_OK ? store_commit(session) : status;
        store_commit(session);
        sem_wait(woken); /* room is being made */
    }
}

/* Prints the value. */
static enum store_status get(struct store_session *session, sem_t *woken,
                             const struct store_key *key, uint32_t now_s)
{
    struct store_fetch fetch = {0};
    struct store_item item;
    enum store_status status;
    store_enter(session, now_s);
    while ((status = store_get(session, key, &fetch, &item)) == STORE_WAIT_READ) {
        if (store_fetch_now(session, &fetch) == STORE_OK)
            continue; /* the system had it in memory */
        store_fetch_start(session, &fetch);
        store_fetch_submit(session);
        while (!store_fetch_next(session))
            sem_wait(woken);
    }
    if (status == STORE_OK)
        printf("%.*s\n", (int)item.value_len, item.value);
    store_leave(session);
    store_fetch_release(&fetch);
    return status;
}

int main(void)
{
    uint32_t now_s = (uint32_t)time(NULL);
    struct store_options options = {
        .dir_fd = open("data", O_RDONLY | O_DIRECTORY),
        .dir_name = "data",
        .memory_limit = 64 << 20,
        .segment_size = 4 << 20,
        .sync_interval_ms = 1000,
        .now_s = now_s,
    };
    struct store *store;
    if (store_open(&store, &options) != STORE_OK)
        return 1;
    sem_t woken;
    sem_init(&woken, 0, 0);
    struct store_session *session = store_session_new(store, wake, &woken, -1);

    struct store_key key;
    struct store_put what = {.value = {{"hello", 5}}};
    store_key_init(store, &key, "greeting", 8);
    bool good = put(session, &woken, &key, now_s, &what) == STORE_OK &&
                get(session, &woken, &key, now_s) == STORE_OK;

    store_session_free(session);
    return store_close(store) && good ? 0 : 1;
}
