/* test_ring.c: reads by io_uring. Where the kernel has none, or liburing is missing, there is nothing to test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "storage/ring.h"

#define FILE_SIZE (1 << 20)

struct rig {
    struct ring *ring;
    int event_fd, fd;
};

static char byte_at(uint64_t offset)
{
    return (char)(offset * 31 >> 3);
}

static int open_rig(void **state)
{
    static char data[FILE_SIZE];
    char name[] = "/tmp/test_ring-XXXXXX";
    struct rig *rig = calloc(1, sizeof *rig);
    rig->event_fd = eventfd(0, EFD_NONBLOCK);
    rig->fd = mkstemp(name);
    rig->ring = ring_new(rig->event_fd);
    for (uint64_t i = 0; i < FILE_SIZE; i++)
        data[i] = byte_at(i);
    assert_true(rig->fd >= 0 && unlink(name) == 0);
    assert_int_equal(write(rig->fd, data, FILE_SIZE), FILE_SIZE);
    *state = rig;
    return 0;
}

static int close_rig(void **state)
{
    struct rig *rig = *state;
    if (rig->ring)
        ring_free(rig->ring);
    close(rig->event_fd);
    close(rig->fd);
    free(rig);
    return 0;
}

static struct ring *ring_of(void **state)
{
    const struct rig *rig = *state;
    if (!rig->ring)
        skip();
    return rig->ring;
}

/* Waits as the server does: for the eventfd, whose count is taken before what has come back. */
static void *wait_next(struct rig *rig, ssize_t *result)
{
    void *owner;
    while (!(owner = ring_next(rig->ring, result))) {
        struct pollfd wanted = {.fd = rig->event_fd, .events = POLLIN};
        eventfd_t count;
        assert_int_equal(poll(&wanted, 1, 10000), 1);
        eventfd_read(rig->event_fd, &count);
    }
    return owner;
}

static void test_each_read_comes_back_once_with_its_bytes(void **state)
{
    struct rig *rig = *state;
    struct ring *ring = ring_of(state);
    static char data[RING_READS][100];
    static int done[RING_READS];
    for (int round = 0; round < 20; round++) {
        memset(done, 0, sizeof done);
        for (uint64_t i = 0; i < RING_READS; i++)
            assert_true(
                ring_add(ring, rig->fd, data[i], 100, i * 4000 + (uint64_t)round, &done[i]));
        ring_submit(ring);
        for (int i = 0; i < RING_READS; i++) {
            ssize_t result;
            int *owner = wait_next(rig, &result);
            assert_int_equal(result, 100);
            assert_int_equal((*owner)++, 0);
        }
        for (uint64_t i = 0; i < RING_READS; i++)
            for (uint64_t k = 0; k < 100; k++)
                assert_int_equal(data[i][k], byte_at(i * 4000 + (uint64_t)round + k));
    }
}

static void test_more_than_it_takes_are_refused_and_none_is_lost(void **state)
{
    struct rig *rig = *state;
    struct ring *ring = ring_of(state);
    static char data[RING_READS][8];
    ssize_t result;
    for (int i = 0; i < RING_READS; i++)
        assert_true(ring_add(ring, rig->fd, data[i], 8, 0, data[i]));
    assert_false(ring_add(ring, rig->fd, data[0], 8, 0, data[0]));
    ring_submit(ring);
    assert_false(ring_add(ring, rig->fd, data[0], 8, 0, data[0]));
    wait_next(rig, &result);
    assert_true(ring_add(ring, rig->fd, data[0], 8, 0, data[0]));
    ring_submit(ring);
    for (int i = 0; i < RING_READS; i++)
        wait_next(rig, &result);
    assert_null(ring_next(ring, &result));
}

static void test_short_and_failed_reads_say_so(void **state)
{
    struct rig *rig = *state;
    struct ring *ring = ring_of(state);
    char data[100];
    ssize_t result;
    assert_true(ring_add(ring, rig->fd, data, 100, FILE_SIZE - 30, data));
    ring_submit(ring);
    assert_ptr_equal(wait_next(rig, &result), data);
    assert_int_equal(result, 30);
    assert_true(ring_add(ring, -1, data, 100, 0, data));
    ring_submit(ring);
    assert_ptr_equal(wait_next(rig, &result), data);
    assert_int_equal(result, -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_read_comes_back_once_with_its_bytes, open_rig,
                                        close_rig),
        cmocka_unit_test_setup_teardown(test_more_than_it_takes_are_refused_and_none_is_lost,
                                        open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_short_and_failed_reads_say_so, open_rig, close_rig),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
