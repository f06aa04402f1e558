#include "src/base/output.h"

#include <assert.h>

#include "storage/base/memory.h"

bool output_init(struct output *output)
{
    output->arena = memory_new_private(OUTPUT_ARENA_SIZE);
    output_reset(output);
    return output->arena != NULL;
}

void output_release(struct output *output)
{
    free(output->arena);
}

void output_wrote(struct output *output, size_t len)
{
    const char *data = output_at(output);
    struct piece *last = output->count > output->first ? &output->pieces[output->count - 1] : NULL;
    if (len == 0)
        return;

    output->used += len;
    assert(output->used <= OUTPUT_ARENA_SIZE);

    if (last && !last->release && last->data + last->len == data)
        last->len += len;
    else
        output_add(output, data, len, NULL, NULL);
}

void output_add(struct output *output, const char *data, size_t len, void (*release)(void *owner),
                void *owner)
{
    assert(output->count < OUTPUT_PIECES);
    output->pieces[output->count++] =
        (struct piece){.data = data, .len = len, .release = release, .owner = owner};
}

void output_add_heap(struct output *output, char *data, size_t len)
{
    output_add(output, data, len, free, data);
}

void piece_release(struct piece *piece)
{
    if (piece->release)
        piece->release(piece->owner);
    piece->release = NULL;
}
