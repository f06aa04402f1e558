#include "storage/read/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/uring.h"

struct ring {
    struct io_uring uring;
    bool broken;
    uint32_t under_way; /* have begun, and have not come back */
    uint32_t queued;
    void *owners[RING_READS]; /* of the queued ones, the oldest first */
};

struct ring *ring_new(int event_fd)
{
    static const uint8_t read_only = IORING_OP_READ;
    struct ring *ring = calloc(1, sizeof *ring);
    if (!ring || !uring_init(&ring->uring, RING_READS)) {
        free(ring);
        return NULL;
    }
    if (io_uring_register_eventfd(&ring->uring, event_fd) == 0 &&
        uring_enable(&ring->uring, &read_only, 1))
        return ring;
    ring_free(ring);
    return NULL;
}

void ring_free(struct ring *ring)
{
    io_uring_queue_exit(&ring->uring);
    free(ring);
}

bool ring_add(struct ring *ring, int fd, void *data, size_t size, uint64_t offset, void *owner)
{
    struct io_uring_sqe *sqe = NULL;
    /* The queue of what has ended is twice as long, so it never overflows. */
    if (!ring->broken && ring->under_way + ring->queued < RING_READS && size <= INT32_MAX)
        sqe = io_uring_get_sqe(&ring->uring);
    if (!sqe)
        return false;
    io_uring_prep_read(sqe, fd, data, (unsigned)size, offset);
    io_uring_sqe_set_data(sqe, owner);
    ring->owners[ring->queued++] = owner;
    return true;
}

/* The oldest `count` of the queued ones are not queued any more. */
static void unqueue(struct ring *ring, uint32_t count)
{
    ring->queued -= count;
    memmove(ring->owners, ring->owners + count, ring->queued * sizeof *ring->owners);
}

int ring_submit(struct ring *ring)
{
    while (ring->queued && !ring->broken) {
        int result = io_uring_submit(&ring->uring);
        if (result > 0) {
            ring->under_way += (uint32_t)result;
            unqueue(ring, (uint32_t)result);
        } else if (result != -EINTR) {
            bool for_now = result == 0 || result == -EAGAIN || result == -EBUSY;
            if (for_now && ring->under_way)
                return 0; /* there will be an event */
            ring->broken = true;
            return result ? -result : EAGAIN;
        }
    }
    return 0;
}

void *ring_take_back(struct ring *ring)
{
    if (!ring->broken || !ring->queued)
        return NULL;
    void *owner = ring->owners[0];
    unqueue(ring, 1);
    return owner;
}

void *ring_next(struct ring *ring, ssize_t *result)
{
    struct io_uring_cqe *cqe;
    if (!ring->under_way || io_uring_peek_cqe(&ring->uring, &cqe) != 0)
        return NULL;
    void *owner = io_uring_cqe_get_data(cqe);
    *result = cqe->res;
    io_uring_cqe_seen(&ring->uring, cqe);
    ring->under_way--;
    return owner;
}
