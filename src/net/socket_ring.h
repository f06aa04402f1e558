/* socket_ring.h: what a round receives and sends, for many clients in one call of the system, by
 * io_uring(7). Used by one worker's thread. Built without liburing, or where the kernel refuses,
 * there is none, and each connection has calls of its own: docs/performance.md compares them. */
#ifndef CACHECASK_SRC_NET_SOCKET_RING_H
#define CACHECASK_SRC_NET_SOCKET_RING_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define SOCKET_RING_MAX       256     /* sends and receives at a time */
#define SOCKET_RING_PARTS     1024    /* of all messages */
#define SOCKET_RING_NOT_TRIED INT_MIN /* no result of a call, and no errno */

struct socket_ring;

/* NULL: there is no io_uring here. */
struct socket_ring *socket_ring_new(void);
void socket_ring_free(struct socket_ring *ring);

/* Adds a message of `count` parts to be sent: the parts are for the caller to fill in. What they
 * point to, and *sent, must last until socket_ring_run; *sent is SOCKET_RING_NOT_TRIED until then.
 * NULL: no room. */
struct iovec *socket_ring_send(struct socket_ring *ring, int fd, uint32_t count, ssize_t *sent);

/* Adds a receive of up to `size` bytes, likewise. False: no room. */
bool socket_ring_receive(struct socket_ring *ring, int fd, char *data, size_t size, ssize_t *got);

/* Does what was added, and waits for no socket: each result is the number of bytes, or -errno
 * (-EAGAIN where the socket is full or has nothing), or what it was: then nothing of it is done. */
void socket_ring_run(struct socket_ring *ring);

#endif
