#include "src/net/output.h"

#include <assert.h>
#include <stdlib.h>

#include "src/command/fetches.h"
#include "storage/base/memory.h"
#include "storage/store.h"

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
    if (last && last->kind == PIECE_ARENA && last->data + last->len == data)
        last->len += len;
    else
        output_add(output, data, len, PIECE_ARENA, NULL);
}

void output_add(struct output *output, const char *data, size_t len, enum piece_kind kind,
                void *owner)
{
    assert(output->count < OUTPUT_PIECES);
    output->pieces[output->count++] =
        (struct piece){.data = data, .len = len, .kind = kind, .owner = owner};
}

void piece_release(struct piece *piece)
{
    switch (piece->kind) {
    case PIECE_ARENA: break;
    case PIECE_HEAP: free(piece->owner); break;
    case PIECE_PIN: store_unpin(piece->owner); break;
    case PIECE_FETCHED: fetched_drop(piece->owner); break;
    }
    piece->kind = PIECE_ARENA;
}
