#define _GNU_SOURCE
#include "src/net/socket_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "storage/base/uring.h"

struct socket_ring {
    struct io_uring uring;
    bool broken; /* the kernel has refused: it is not asked again */
    uint32_t count, part_count;
    ssize_t *results[SOCKET_RING_MAX];
    struct msghdr messages[SOCKET_RING_MAX];
    struct iovec parts[SOCKET_RING_PARTS];
};

struct socket_ring *socket_ring_new(void)
{
    static const uint8_t operations[] = {IORING_OP_SENDMSG, IORING_OP_RECV};
    struct socket_ring *ring = calloc(1, sizeof *ring);
    if (!ring || !uring_init(&ring->uring, SOCKET_RING_MAX)) {
        free(ring);
        return NULL;
    }
    if (uring_enable(&ring->uring, operations, 2))
        return ring;
    socket_ring_free(ring);
    return NULL;
}

void socket_ring_free(struct socket_ring *ring)
{
    if (!ring->broken)
        io_uring_queue_exit(&ring->uring);
    free(ring);
}

/* NULL: no room. All calls are made with MSG_DONTWAIT, so they end before socket_ring_run does. */
static struct io_uring_sqe *add(struct socket_ring *ring, ssize_t *result)
{
    *result = SOCKET_RING_NOT_TRIED;
    if (ring->broken || ring->count == SOCKET_RING_MAX)
        return NULL;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (sqe)
        ring->results[ring->count++] = result;
    return sqe;
}

struct iovec *socket_ring_send(struct socket_ring *ring, int fd, uint32_t count, ssize_t *sent)
{
    struct msghdr *message = &ring->messages[ring->count];
    struct iovec *parts = &ring->parts[ring->part_count];
    *sent = SOCKET_RING_NOT_TRIED;
    if (SOCKET_RING_PARTS - ring->part_count < count)
        return NULL;
    struct io_uring_sqe *sqe = add(ring, sent);
    if (!sqe)
        return NULL;
    *message = (struct msghdr){.msg_iov = parts, .msg_iovlen = count};
    io_uring_prep_sendmsg(sqe, fd, message, MSG_NOSIGNAL | MSG_DONTWAIT);
    io_uring_sqe_set_data(sqe, sent);
    ring->part_count += count;
    return parts;
}

bool socket_ring_receive(struct socket_ring *ring, int fd, char *data, size_t size, ssize_t *got)
{
    struct io_uring_sqe *sqe = add(ring, got);
    if (!sqe)
        return false;
    io_uring_prep_recv(sqe, fd, data, size, MSG_DONTWAIT);
    io_uring_sqe_set_data(sqe, got);
    return true;
}

/* How many the kernel has taken: the first ones. */
static uint32_t submit(struct socket_ring *ring)
{
    uint32_t taken = 0;
    while (taken < ring->count) {
        int result = io_uring_submit_and_wait(&ring->uring, ring->count);
        if (result <= 0 && result != -EINTR)
            break;
        taken += result > 0 ? (uint32_t)result : 0;
    }
    return taken;
}

/* The ring itself was refused, by a filter, a security module or an old kernel; no socket was
 * asked. */
static bool is_refusal(int result)
{
    return result == -EACCES || result == -EPERM || result == -EINVAL || result == -EOPNOTSUPP;
}

/* False: the kernel does not do what it has taken, or does not say what has become of it. */
static bool take_results(struct socket_ring *ring, uint32_t taken)
{
    struct io_uring_cqe *cqe;
    bool good = true;
    for (uint32_t i = 0; i < taken; i++)
        *ring->results[i] = -EIO; /* doing it again might repeat bytes, or lose some */
    for (uint32_t i = 0; i < taken; i++) {
        int result;
        do
            result = io_uring_wait_cqe(&ring->uring, &cqe);
        while (result == -EINTR);
        if (result < 0)
            return false;
        bool refused = is_refusal(cqe->res);
        *(ssize_t *)io_uring_cqe_get_data(cqe) = refused ? SOCKET_RING_NOT_TRIED : cqe->res;
        good = good && !refused;
        io_uring_cqe_seen(&ring->uring, cqe);
    }
    return good;
}

void socket_ring_run(struct socket_ring *ring)
{
    if (ring->count == 0)
        return;
    uint32_t taken = submit(ring);
    if (!take_results(ring, taken) || taken < ring->count) {
        io_uring_queue_exit(&ring->uring); /* with it goes what it has not taken */
        ring->broken = true;
    }
    ring->count = ring->part_count = 0;
}
