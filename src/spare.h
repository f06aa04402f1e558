/* spare.h: buffers of large requests, kept for the next ones.
 *
 * Memory that is given back to the system and taken again costs a page fault every 4 KiB, and for a large value those cost
 * more than copying it does. What nobody takes for a while goes back all the same (spare_age), so what is kept is never more
 * than was in use at one time shortly before. Not for use by two threads.
 */
#ifndef CACHECASK_SPARE_H
#define CACHECASK_SPARE_H

#include <stdbool.h>
#include <stddef.h>

#define SPARE_BUFFERS   64
#define SPARE_BYTES_MAX ((size_t)32 << 20) /* of all that are kept */

struct spare {
    struct spare_buffer {
        char *data; /* from malloc */
        size_t capacity;
        bool rested; /* it was here at the last spare_age */
    } buffers[SPARE_BUFFERS];
    size_t count, bytes;
};

/* Takes the smallest buffer of at least `capacity` bytes; the caller owns it. False: none is that large. */
bool spare_take(struct spare *spare, size_t capacity, struct spare_buffer *buffer);

/* Takes a buffer over: keeps it, or frees it. */
void spare_give(struct spare *spare, struct spare_buffer buffer);

/* Frees what nobody has taken since the last call. Called now and then, while there are any. */
void spare_age(struct spare *spare);

void spare_release(struct spare *spare);

#endif
