/* test_socket_ring.c: many clients in one call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/net/socket_ring.h"

struct pair {
    int near, far;
    ssize_t sent;
};

static void open_pair(struct pair *pair)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    *pair = (struct pair){.near = fds[0], .far = fds[1]};
}

static void close_pair(struct pair *pair)
{
    if (pair->near >= 0)
        close(pair->near);
    if (pair->far >= 0)
        close(pair->far);
}

static void open_pairs(struct pair *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        open_pair(&pairs[i]);
}

static void close_pairs(struct pair *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        close_pair(&pairs[i]);
}

/* NULL, and the test is skipped, where there is no io_uring. */
static struct socket_ring *new_ring(void)
{
    struct socket_ring *ring = socket_ring_new();
    if (!ring)
        skip();
    return ring;
}

static bool add(struct socket_ring *ring, struct pair *pair, const char *data, size_t len)
{
    struct iovec *parts = socket_ring_send(ring, pair->near, 1, &pair->sent);
    if (parts)
        parts[0] = (struct iovec){.iov_base = (char *)data, .iov_len = len};
    return parts != NULL;
}

static void assert_comes(const struct pair *pair, const char *wanted)
{
    char got[100];
    ssize_t len = recv(pair->far, got, sizeof got, MSG_DONTWAIT);
    assert_int_equal(len, strlen(wanted));
    assert_memory_equal(got, wanted, strlen(wanted));
}

static void test_each_gets_its_own(void **state)
{
    (void)state;
    struct socket_ring *ring = new_ring();
    struct pair pairs[40];
    open_pairs(pairs, 40);
    for (int round = 0; round < 20; round++) { /* in sum more than its queues hold */
        for (size_t i = 0; i < 40; i++) {
            struct iovec *parts = socket_ring_send(ring, pairs[i].near, 2, &pairs[i].sent);
            assert_non_null(parts);
            assert_int_equal(pairs[i].sent, SOCKET_RING_NOT_TRIED);
            parts[0] = (struct iovec){.iov_base = (char *)"VALUE ", .iov_len = 6};
            parts[1] =
                (struct iovec){.iov_base = (char *)(i % 2 ? "odd" : "even"), .iov_len = 4 - i % 2};
        }
        socket_ring_run(ring);
        for (size_t i = 0; i < 40; i++) {
            assert_int_equal(pairs[i].sent, 10 - i % 2);
            assert_comes(&pairs[i], i % 2 ? "VALUE odd" : "VALUE even");
        }
    }
    socket_ring_run(ring); /* nothing */
    close_pairs(pairs, 40);
    socket_ring_free(ring);
}

/* Sockets that do not take it, or not all of it, hold nobody up: these block if they are asked
 * to. */
static void test_what_a_socket_does_not_take_is_told(void **state)
{
    (void)state;
    struct socket_ring *ring = new_ring();
    struct pair pairs[5];
    struct pair *gone = &pairs[0], *full = &pairs[1], *slow = &pairs[2], *good = &pairs[3];
    struct pair *closed = &pairs[4];
    static char much[8 << 20];
    open_pairs(pairs, 5);
    close(gone->far);
    gone->far = -1;
    while (send(full->near, much, sizeof much, MSG_DONTWAIT) > 0)
        ;
    close(closed->near);
    assert_true(add(ring, gone, "x", 1));
    assert_true(add(ring, full, "x", 1));
    assert_true(add(ring, slow, much, sizeof much));
    assert_true(add(ring, closed, "x", 1));
    closed->near = -1;
    assert_true(add(ring, good, "STORED", 6));
    socket_ring_run(ring);
    assert_int_equal(gone->sent, -EPIPE);
    assert_int_equal(full->sent, -EAGAIN);
    assert_int_equal(closed->sent, -EBADF);
    assert_in_range(slow->sent, 1, sizeof much - 1);
    assert_int_equal(good->sent, 6);
    assert_comes(good, "STORED");
    close_pairs(pairs, 5);
    socket_ring_free(ring);
}

static void test_each_is_received_from(void **state)
{
    (void)state;
    struct socket_ring *ring = new_ring();
    struct pair pairs[5]; /* a byte, nothing, an end, more than is asked for, an error */
    char got[5][4];
    ssize_t len[5];
    open_pairs(pairs, 5);
    assert_int_equal(send(pairs[0].far, "1", 1, 0), 1);
    close(pairs[2].far);
    pairs[2].far = -1;
    assert_int_equal(send(pairs[3].far, "123456", 6, 0), 6);
    close(pairs[4].near);
    for (size_t i = 0; i < 5; i++)
        assert_true(socket_ring_receive(ring, pairs[i].near, got[i], 4, &len[i]));
    pairs[4].near = -1;
    assert_int_equal(len[0], SOCKET_RING_NOT_TRIED);
    socket_ring_run(ring);
    assert_int_equal(len[0], 1);
    assert_int_equal(got[0][0], '1');
    assert_int_equal(len[1], -EAGAIN);
    assert_int_equal(len[2], 0);
    assert_int_equal(len[3], 4);
    assert_memory_equal(got[3], "1234", 4);
    assert_int_equal(len[4], -EBADF);
    assert_true(socket_ring_receive(ring, pairs[3].near, got[3], 4, &len[3]));
    socket_ring_run(ring);
    assert_int_equal(len[3], 2);
    close_pairs(pairs, 5);
    socket_ring_free(ring);
}

static void test_it_takes_no_more_than_it_has_room_for(void **state)
{
    (void)state;
    struct socket_ring *ring = new_ring();
    struct pair pair;
    open_pair(&pair);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < SOCKET_RING_MAX; i++)
            assert_true(add(ring, &pair, "x", 1));
        assert_false(add(ring, &pair, "y", 1));
        assert_int_equal(pair.sent, SOCKET_RING_NOT_TRIED);
        socket_ring_run(ring);
        char got[SOCKET_RING_MAX + 1];
        assert_int_equal(recv(pair.far, got, sizeof got, MSG_DONTWAIT), SOCKET_RING_MAX);
        assert_non_null(memchr(got, 'x', 1));
    }
    pair.sent = 0;
    assert_null(socket_ring_send(ring, pair.near, SOCKET_RING_PARTS + 1, &pair.sent));
    assert_int_equal(pair.sent, SOCKET_RING_NOT_TRIED);
    close_pair(&pair);
    socket_ring_free(ring);
}

/* One that is not connected stands for a kernel that refuses the operation. */
static void test_a_ring_that_is_refused_is_given_up(void **state)
{
    (void)state;
    struct socket_ring *ring = new_ring();
    struct pair pair;
    char got[4];
    ssize_t len[2];
    int alone = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    open_pair(&pair);
    assert_int_equal(send(pair.far, "1", 1, 0), 1);
    assert_true(socket_ring_receive(ring, alone, got, 4, &len[0]));
    assert_true(socket_ring_receive(ring, pair.near, got, 4, &len[1]));
    socket_ring_run(ring);
    assert_int_equal(len[0], SOCKET_RING_NOT_TRIED);
    assert_int_equal(len[1], 1);
    assert_false(socket_ring_receive(ring, pair.near, got, 4, &len[1]));
    assert_int_equal(len[1], SOCKET_RING_NOT_TRIED);
    socket_ring_run(ring);
    close(alone);
    close_pair(&pair);
    socket_ring_free(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_gets_its_own),
        cmocka_unit_test(test_what_a_socket_does_not_take_is_told),
        cmocka_unit_test(test_each_is_received_from),
        cmocka_unit_test(test_it_takes_no_more_than_it_has_room_for),
        cmocka_unit_test(test_a_ring_that_is_refused_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
