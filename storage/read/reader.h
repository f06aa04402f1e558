/* reader.h: threads that read cold values from disk, so that nobody else has to wait for it. */
#ifndef CACHECASK_STORAGE_READ_READER_H
#define CACHECASK_STORAGE_READ_READER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "storage/log/segment_files.h"
#include "storage/store.h"

struct reader_pool {
    struct segment_files *segment_files;
    void (*done)(
        struct store_fetch
            *fetch); /* called by a reader with each fetch that has its bytes or has failed */
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct store_fetch *head, *tail;
    pthread_t *threads;
    uint32_t thread_count;
    bool stopping;
};

bool reader_pool_init(struct reader_pool *pool, struct segment_files *table, uint32_t threads,
                      void (*done)(struct store_fetch *fetch));

/* Ends the threads after what is queued is read. */
void reader_pool_release(struct reader_pool *pool);

/* Queues a fetch whose segment is pinned and whose location is set; its status stays
 * STORE_WAIT_READ meanwhile. */
void reader_pool_add(struct reader_pool *pool, struct store_fetch *fetch);

/* Makes room for the bytes of a fetch, and sets their number. False: no memory. */
bool reader_prepare(struct store_fetch *fetch);

/* Reads the bytes of a fetch in this thread, from disk if need be. Sets and returns fetch->status;
 * STORE_IO: and fetch->error. */
enum store_status reader_read(struct segment_files *table, struct store_fetch *fetch);

/* The same from the page cache alone: STORE_WAIT_READ when they are not there, or the file is not
 * open. */
enum store_status reader_read_nowait(const struct file_system *files, struct store_fetch *fetch);

#endif
