#include "bench/sender.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct sender {
    struct io_uring ring;
    unsigned count;
};

struct sender *sender_new(void)
{
    struct sender *sender = calloc(1, sizeof *sender);

    if (sender && io_uring_queue_init(SENDER_MAX, &sender->ring, 0) != 0) {
        free(sender);
        return NULL;
    }
    return sender;
}

void sender_free(struct sender *sender)
{
    io_uring_queue_exit(&sender->ring);
    free(sender);
}

void sender_add(struct sender *sender, int fd, const char *bytes, size_t len, ssize_t *sent)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&sender->ring);

    assert(sqe);
    /* MSG_DONTWAIT: it ends within the call that begins it. */
    io_uring_prep_send(sqe, fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    io_uring_sqe_set_data(sqe, sent);
    sender->count++;
}

static void die(int error)
{
    fprintf(stderr, "cachecask-bench: io_uring: %s\n", strerror(error));
    exit(1);
}

void sender_run(struct sender *sender)
{
    unsigned taken = 0;
    struct io_uring_cqe *cqe;

    while (taken < sender->count) {
        int result = io_uring_submit_and_wait(&sender->ring, sender->count);

        if (result < 0 && result != -EINTR)
            die(-result);
        taken += result > 0 ? (unsigned)result : 0;
    }
    while (sender->count > 0) {
        int result = io_uring_wait_cqe(&sender->ring, &cqe);

        if (result == -EINTR)
            continue;
        if (result < 0)
            die(-result);
        *(ssize_t *)io_uring_cqe_get_data(cqe) = cqe->res;
        io_uring_cqe_seen(&sender->ring, cqe);
        sender->count--;
    }
}
