#include "src/spare.h"

#include <stdlib.h>

static void take_out(struct spare *spare, struct spare_buffer *buffer)
{
    spare->bytes -= buffer->capacity;
    *buffer = spare->buffers[--spare->count];
}

bool spare_take(struct spare *spare, size_t capacity, struct spare_buffer *buffer)
{
    struct spare_buffer *best = NULL;
    for (size_t i = 0; i < spare->count; i++) {
        struct spare_buffer *candidate = &spare->buffers[i];
        if (candidate->capacity >= capacity && (!best || candidate->capacity < best->capacity))
            best = candidate;
    }
    if (!best)
        return false;
    *buffer = *best;
    take_out(spare, best);
    return true;
}

static struct spare_buffer *smallest_of(struct spare *spare)
{
    struct spare_buffer *smallest = &spare->buffers[0];
    for (size_t i = 1; i < spare->count; i++)
        if (spare->buffers[i].capacity < smallest->capacity)
            smallest = &spare->buffers[i];
    return smallest;
}

static bool has_room(const struct spare *spare, size_t capacity)
{
    return spare->count < SPARE_BUFFERS && spare->bytes + capacity <= SPARE_BYTES_MAX;
}

/* The larger ones stay: they serve small requests too. */
void spare_give(struct spare *spare, struct spare_buffer buffer)
{
    while (spare->count && buffer.capacity <= SPARE_BYTES_MAX &&
           !has_room(spare, buffer.capacity)) {
        struct spare_buffer *smallest = smallest_of(spare);
        if (smallest->capacity >= buffer.capacity)
            break;
        free(smallest->data);
        take_out(spare, smallest);
    }
    if (!has_room(spare, buffer.capacity)) {
        free(buffer.data);
        return;
    }
    buffer.rested = false;
    spare->buffers[spare->count++] = buffer;
    spare->bytes += buffer.capacity;
}

void spare_age(struct spare *spare)
{
    for (size_t i = spare->count; i-- > 0;) {
        struct spare_buffer *buffer = &spare->buffers[i];
        if (buffer->rested) {
            free(buffer->data);
            take_out(spare, buffer);
        } else {
            buffer->rested = true;
        }
    }
}

void spare_release(struct spare *spare)
{
    for (size_t i = 0; i < spare->count; i++)
        free(spare->buffers[i].data);
    spare->count = spare->bytes = 0;
}
