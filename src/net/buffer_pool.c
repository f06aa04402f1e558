#include "src/net/buffer_pool.h"

#include <stdlib.h>

static void take_out(struct buffer_pool *pool, struct pool_buffer *buffer)
{
    pool->bytes -= buffer->capacity;
    *buffer = pool->buffers[--pool->count];
}

bool buffer_pool_take(struct buffer_pool *pool, size_t capacity, struct pool_buffer *buffer)
{
    struct pool_buffer *best = NULL;
    for (size_t i = 0; i < pool->count; i++) {
        struct pool_buffer *candidate = &pool->buffers[i];
        if (candidate->capacity >= capacity && (!best || candidate->capacity < best->capacity))
            best = candidate;
    }
    if (!best)
        return false;
    *buffer = *best;
    take_out(pool, best);
    return true;
}

static struct pool_buffer *smallest_of(struct buffer_pool *pool)
{
    struct pool_buffer *smallest = &pool->buffers[0];
    for (size_t i = 1; i < pool->count; i++)
        if (pool->buffers[i].capacity < smallest->capacity)
            smallest = &pool->buffers[i];
    return smallest;
}

static bool has_room(const struct buffer_pool *pool, size_t capacity)
{
    return pool->count < BUFFER_POOL_BUFFERS && pool->bytes + capacity <= BUFFER_POOL_BYTES_MAX;
}

/* The larger ones stay: they serve small requests too. */
void buffer_pool_give(struct buffer_pool *pool, struct pool_buffer buffer)
{
    while (pool->count && buffer.capacity <= BUFFER_POOL_BYTES_MAX &&
           !has_room(pool, buffer.capacity)) {
        struct pool_buffer *smallest = smallest_of(pool);
        if (smallest->capacity >= buffer.capacity)
            break;
        free(smallest->data);
        take_out(pool, smallest);
    }
    if (!has_room(pool, buffer.capacity)) {
        free(buffer.data);
        return;
    }
    buffer.rested = false;
    pool->buffers[pool->count++] = buffer;
    pool->bytes += buffer.capacity;
}

void buffer_pool_age(struct buffer_pool *pool)
{
    for (size_t i = pool->count; i-- > 0;) {
        struct pool_buffer *buffer = &pool->buffers[i];
        if (buffer->rested) {
            free(buffer->data);
            take_out(pool, buffer);
        } else {
            buffer->rested = true;
        }
    }
}

void buffer_pool_release(struct buffer_pool *pool)
{
    for (size_t i = 0; i < pool->count; i++)
        free(pool->buffers[i].data);
    pool->count = pool->bytes = 0;
}
