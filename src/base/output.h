/* output.h: the replies of one round, of all connections that a worker serves in it.
 *
 * Replies are written into one arena, connection after connection, so that each has its bytes in
 * one piece. A large value is not copied: it is a piece of its own, with what keeps it in place.
 */
#ifndef CACHECASK_SRC_BASE_OUTPUT_H
#define CACHECASK_SRC_BASE_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Bytes to be sent. Those of the arena have no owner, and are gone after the round. */
struct piece {
    const char *data;
    size_t len;
    void (*release)(void *owner); /* NULL: bytes of the arena */
    void *owner;
    bool ends_answer; /* for transports that send the answer to each request by itself */
};

/* A piece whose memory comes from malloc and is freed when it is sent. */
static inline struct piece piece_of_heap(char *data, size_t len)
{
    return (struct piece){.data = data, .len = len, .release = free, .owner = data};
}

#define OUTPUT_ARENA_SIZE (UINT32_C(512) << 10)
#define OUTPUT_PIECES     1024
#define OUTPUT_COPY_MAX   (16 << 10)               /* larger values are sent from where they lie */
#define OUTPUT_ROOM       (OUTPUT_COPY_MAX + 1024) /* one reply never needs more of the arena */

struct output {
    char *arena;
    size_t used;
    struct piece pieces[OUTPUT_PIECES];
    uint32_t count;
    uint32_t first; /* first piece of the connection being served */
};

bool output_init(struct output *output);
void output_release(struct output *output);

/* Forgets the last round. */
static inline void output_reset(struct output *output)
{
    output->used = 0;
    output->count = output->first = 0;
}

/* The next pieces belong to another connection. */
static inline void output_begin(struct output *output)
{
    output->first = output->count;
}

/* True if one more reply fits. */
static inline bool output_has_room(const struct output *output)
{
    return OUTPUT_ARENA_SIZE - output->used >= OUTPUT_ROOM && OUTPUT_PIECES - output->count >= 4;
}

/* Where to write up to OUTPUT_ROOM bytes, and then how many they were. */
static inline char *output_at(struct output *output)
{
    return output->arena + output->used;
}

void output_wrote(struct output *output, size_t len);

/* Adds a piece that lies elsewhere; release(owner) ends it. */
void output_add(struct output *output, const char *data, size_t len, void (*release)(void *owner),
                void *owner);

/* Adds a piece of the heap. */
void output_add_heap(struct output *output, char *data, size_t len);

/* Releases what a piece points to. */
void piece_release(struct piece *piece);

#endif
