/* reader.c: a queue and a few threads. A fetch knows its record's size, so one read brings it. */
#include "storage/read/reader.h"

#include <errno.h>
#include <stdlib.h>

#include "storage/base/thread.h"
#include "storage/index/location.h"
#include "storage/log/segment.h"

static size_t read_size(const struct store_fetch *fetch)
{
    uint64_t size = location_size(fetch->location);
    uint64_t rest = atomic_load_explicit(&fetch->segment->end, memory_order_relaxed) -
                    location_offset(fetch->location);
    return size < rest ? size : rest;
}

bool reader_prepare(struct store_fetch *fetch)
{
    /* A second attempt uses the first one's buffer and size, though the segment may have grown. */
    if (fetch->data)
        return true;
    fetch->len = read_size(fetch);
    fetch->data = malloc(fetch->len);
    return fetch->data != NULL;
}

enum store_status reader_read(struct segment_files *table, struct store_fetch *fetch)
{
    if (!reader_prepare(fetch))
        return fetch->status = STORE_NO_MEMORY;
    bool open = segment_files_use(table, fetch->segment) == STORE_OK;
    bool ok = open && file_read_upto(table->files, fetch->segment->fd, fetch->data, fetch->len,
                                     location_offset(fetch->location), &fetch->len);
    if (!ok)
        fetch->error = errno;
    if (open)
        segment_files_done(fetch->segment);
    return fetch->status = ok ? STORE_OK : STORE_IO;
}

enum store_status reader_read_nowait(const struct file_system *files, struct store_fetch *fetch)
{
    if (!reader_prepare(fetch))
        return fetch->status = STORE_NO_MEMORY;
    if (!segment_files_try_use(fetch->segment))
        return fetch->status = STORE_WAIT_READ;
    ssize_t got = files->pread_nowait(files->context, fetch->segment->fd, fetch->data, fetch->len,
                                      location_offset(fetch->location));
    segment_files_done(fetch->segment);
    return fetch->status = got == (ssize_t)fetch->len ? STORE_OK : STORE_WAIT_READ;
}

static struct store_fetch *take(struct reader_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (!pool->queue.head && !pool->stopping)
        pthread_cond_wait(&pool->work, &pool->lock);
    struct store_fetch *fetch = fetch_pop(&pool->queue);
    pthread_mutex_unlock(&pool->lock);
    return fetch;
}

static void *run_reader(void *context)
{
    struct reader_pool *pool = context;
    struct store_fetch *fetch;
    thread_begin("cc-reader", THREAD_NORMAL);
    while ((fetch = take(pool))) {
        reader_read(pool->segment_files, fetch);
        pool->done(fetch);
    }
    return NULL;
}

bool reader_pool_init(struct reader_pool *pool, struct segment_files *table, uint32_t threads,
                      void (*done)(struct store_fetch *fetch))
{
    *pool = (struct reader_pool){.segment_files = table, .done = done};
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pool->threads = calloc(threads, sizeof *pool->threads);
    while (pool->threads && pool->thread_count < threads) {
        if (pthread_create(&pool->threads[pool->thread_count], NULL, run_reader, pool) != 0)
            break;
        pool->thread_count++;
    }
    return pool->thread_count > 0;
}

void reader_pool_release(struct reader_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    free(pool->threads);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->work);
}

void reader_pool_add(struct reader_pool *pool, struct store_fetch *fetch)
{
    pthread_mutex_lock(&pool->lock);
    fetch_push(&pool->queue, fetch);
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}
