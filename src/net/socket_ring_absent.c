/* socket_ring_absent.c: in place of socket_ring.c where there is no liburing. */
#include "src/net/socket_ring.h"

struct socket_ring *socket_ring_new(void)
{
    return NULL;
}

void socket_ring_free(struct socket_ring *ring)
{
    (void)ring;
}

struct iovec *socket_ring_send(struct socket_ring *ring, int fd, uint32_t count, ssize_t *sent)
{
    (void)ring, (void)fd, (void)count;
    *sent = SOCKET_RING_NOT_TRIED;
    return NULL;
}

bool socket_ring_receive(struct socket_ring *ring, int fd, char *data, size_t size, ssize_t *got)
{
    (void)ring, (void)fd, (void)data, (void)size;
    *got = SOCKET_RING_NOT_TRIED;
    return false;
}

void socket_ring_run(struct socket_ring *ring)
{
    (void)ring;
}
