/* buffer_pool.h: buffers of large requests, kept for the next ones.
 *
 * Memory that is given back to the system and taken again costs a page fault every 4 KiB: for a
 * large value, more than copying it. Buffers that nobody takes for a while are freed all the same
 * (buffer_pool_age), so no more is kept than was in use at one time shortly before. For one thread.
 */
#ifndef CACHECASK_SRC_NET_BUFFER_POOL_H
#define CACHECASK_SRC_NET_BUFFER_POOL_H

#include <stdbool.h>
#include <stddef.h>

#define BUFFER_POOL_BUFFERS   64
#define BUFFER_POOL_BYTES_MAX ((size_t)32 << 20) /* of all that are kept */

struct buffer_pool {
    struct pool_buffer {
        char *data; /* from malloc */
        size_t capacity;
        bool rested; /* it was here at the last buffer_pool_age */
    } buffers[BUFFER_POOL_BUFFERS];
    size_t count, bytes;
};

/* Takes the smallest buffer of at least `capacity` bytes; the caller owns it. False: none is that
 * large. */
bool buffer_pool_take(struct buffer_pool *pool, size_t capacity, struct pool_buffer *buffer);

/* Takes a buffer over: keeps it, or frees it. */
void buffer_pool_give(struct buffer_pool *pool, struct pool_buffer buffer);

/* Frees what nobody has taken since the last call. Called now and then, while there are any. */
void buffer_pool_age(struct buffer_pool *pool);

void buffer_pool_release(struct buffer_pool *pool);

#endif
