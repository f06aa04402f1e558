/* forbidden_calls.c: loaded before the C library, it is the intruder: it makes calls of the system that a server never makes.
 *
 * The first read that is given to a ring becomes another operation if FORBIDDEN_CALL is "ring". What was not prevented is
 * said on standard error. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static bool is_wanted(const char *name)
{
    const char *wanted = getenv("FORBIDDEN_CALL");
    return wanted && strcmp(wanted, name) == 0;
}

/* The page cache never has anything, so all reads go to the ring. */
ssize_t preadv2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
    (void)fd, (void)pieces, (void)count, (void)offset, (void)flags;
    errno = EAGAIN;
    return -1;
}

int io_uring_submit(struct io_uring *ring)
{
    static bool done;
    int (*submit)(struct io_uring *) =
        (int (*)(struct io_uring *))dlsym(RTLD_NEXT, "io_uring_submit");
    if (!is_wanted("ring") || done)
        return submit(ring);
    done = true;
    struct io_uring_sqe *sqe = &ring->sq.sqes[(ring->sq.sqe_tail - 1) & *ring->sq.kring_mask];
    struct io_uring_cqe *cqe;
    sqe->opcode = IORING_OP_OPENAT;
    sqe->fd = AT_FDCWD;
    sqe->addr = (unsigned long)"/dev/null";
    sqe->off = sqe->len = 0;
    int result = submit(ring);
    while (io_uring_peek_cqe(ring, &cqe) != 0)
        usleep(1000);
    fprintf(stderr, cqe->res >= 0 ? "the ring has opened a file\n" : "the ring refuses: %s\n",
            strerror(-cqe->res));
    return result;
}
