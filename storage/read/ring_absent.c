/* ring_absent.c: in place of ring.c where there is no liburing. */
#include "storage/read/ring.h"

struct ring *ring_new(int event_fd)
{
    (void)event_fd;
    return NULL;
}

void ring_free(struct ring *ring)
{
    (void)ring;
}

bool ring_add(struct ring *ring, int fd, void *data, size_t size, uint64_t offset, void *owner)
{
    (void)ring, (void)fd, (void)data, (void)size, (void)offset, (void)owner;
    return false;
}

int ring_submit(struct ring *ring)
{
    (void)ring;
    return 0;
}

void *ring_take_back(struct ring *ring)
{
    (void)ring;
    return NULL;
}

void *ring_next(struct ring *ring, ssize_t *result)
{
    (void)ring, (void)result;
    return NULL;
}
