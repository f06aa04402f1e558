/* reader.h: threads that read cold values from disk, so that nobody else has to wait for it. */
#ifndef CACHECASK_STORAGE_READ_READER_H
#define CACHECASK_STORAGE_READ_READER_H

#include <pthread.h>

#include "storage/log/segment_files.h"
#include "storage/store.h"

struct fetch_queue {
    struct store_fetch *head, *tail;
};

static inline void fetch_push(struct fetch_queue *queue, struct store_fetch *fetch)
{
    fetch->next = NULL;
    *(queue->head ? &queue->tail->next : &queue->head) = fetch;
    queue->tail = fetch;
}

/* NULL: it is empty. */
static inline struct store_fetch *fetch_pop(struct fetch_queue *queue)
{
    struct store_fetch *fetch = queue->head;
    if (fetch)
        queue->head = fetch->next;
    return fetch;
}

struct reader_pool {
    struct segment_files *segment_files;
    void (*done)(struct store_fetch *fetch); /* by a reader: it has its bytes, or has failed */
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct fetch_queue queue;
    pthread_t *threads;
    uint32_t thread_count;
    bool stopping;
};

bool reader_pool_init(struct reader_pool *pool, struct segment_files *table, uint32_t threads,
                      void (*done)(struct store_fetch *fetch));

/* Ends the threads after what is queued is read. */
void reader_pool_release(struct reader_pool *pool);

/* Queues a fetch with a pinned segment and a location; its status stays STORE_WAIT_READ. */
void reader_pool_add(struct reader_pool *pool, struct store_fetch *fetch);

/* Makes room for the bytes of a fetch, and sets their number. False: no memory. */
bool reader_prepare(struct store_fetch *fetch);

/* Reads the bytes of a fetch in this thread. Sets and returns its status; STORE_IO: and error. */
enum store_status reader_read(struct segment_files *table, struct store_fetch *fetch);

/* The same from the page cache: STORE_WAIT_READ when they are not there, or the file is closed. */
enum store_status reader_read_nowait(const struct file_system *files, struct store_fetch *fetch);

#endif
