#define _GNU_SOURCE
#include "storage/ring.h"

#include <stdlib.h>
#include <sys/eventfd.h>

#include "storage/uring.h"

struct ring {
    struct io_uring uring;
    int event_fd;
    uint32_t under_way; /* queued ones included */
};

struct ring *ring_new(int event_fd)
{
    static const uint8_t read_only = IORING_OP_READ;
    struct ring *ring = calloc(1, sizeof *ring);
    if (!ring || !uring_init(&ring->uring, RING_READS)) {
        free(ring);
        return NULL;
    }
    ring->event_fd = event_fd;
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
    if (ring->under_way < RING_READS && size <= INT32_MAX)
        sqe = io_uring_get_sqe(&ring->uring);
    if (!sqe)
        return false;
    io_uring_prep_read(sqe, fd, data, (unsigned)size, offset);
    io_uring_sqe_set_data(sqe, owner);
    ring->under_way++;
    return true;
}

void ring_submit(struct ring *ring)
{
    if (io_uring_sq_ready(&ring->uring) && io_uring_submit(&ring->uring) < 0)
        eventfd_write(ring->event_fd, 1);
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
