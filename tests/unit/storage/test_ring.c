/* test_ring.c: reads by io_uring. Where the kernel has none, or liburing is missing, there is
 * nothing to test. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "storage/read/ring.h"

#define FILE_SIZE (1 << 20)

struct fixture {
    struct ring *ring;
    int event_fd, fd;
};

/* Stands before liburing's own: so many submits go well, and then so many are refused with this
 * errno. */
struct io_uring;
int io_uring_submit(struct io_uring *uring);

static int good_submits, refused_submits, refusal;
static uint32_t submits;

int io_uring_submit(struct io_uring *uring)
{
    int (*submit)(struct io_uring *) =
        (int (*)(struct io_uring *))dlsym(RTLD_NEXT, "io_uring_submit");
    submits++;
    if (good_submits-- > 0 || refused_submits == 0)
        return submit(uring);
    refused_submits--;
    return -refusal;
}

static void refuse(int good, int refused, int error)
{
    good_submits = good;
    refused_submits = refused;
    refusal = error;
    submits = 0;
}

static char byte_at(uint64_t offset)
{
    return (char)(offset * 31 >> 3);
}

static int open_fixture(void **state)
{
    static char data[FILE_SIZE];
    char name[] = "/tmp/test_ring-XXXXXX";
    struct fixture *fixture = calloc(1, sizeof *fixture);
    refuse(0, 0, 0);
    fixture->event_fd = eventfd(0, EFD_NONBLOCK);
    fixture->fd = mkstemp(name);
    fixture->ring = ring_new(fixture->event_fd);
    for (uint64_t i = 0; i < FILE_SIZE; i++)
        data[i] = byte_at(i);
    assert_true(fixture->fd >= 0 && unlink(name) == 0);
    assert_int_equal(write(fixture->fd, data, FILE_SIZE), FILE_SIZE);
    *state = fixture;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *fixture = *state;
    if (fixture->ring)
        ring_free(fixture->ring);
    close(fixture->event_fd);
    close(fixture->fd);
    free(fixture);
    return 0;
}

static struct ring *ring_of(void **state)
{
    const struct fixture *fixture = *state;
    if (!fixture->ring)
        skip();
    return fixture->ring;
}

/* Waits as the server does: for the eventfd, whose count is taken before what has come back. */
static void *wait_next(struct fixture *fixture, ssize_t *result)
{
    void *owner;
    while (!(owner = ring_next(fixture->ring, result))) {
        struct pollfd wanted = {.fd = fixture->event_fd, .events = POLLIN};
        eventfd_t count;
        assert_int_equal(poll(&wanted, 1, 10000), 1);
        eventfd_read(fixture->event_fd, &count);
    }
    return owner;
}

static void test_each_read_comes_back_once_with_its_bytes(void **state)
{
    struct fixture *fixture = *state;
    struct ring *ring = ring_of(state);
    static char data[RING_READS][100];
    static int done[RING_READS];
    for (int round = 0; round < 20; round++) {
        memset(done, 0, sizeof done);
        for (uint64_t i = 0; i < RING_READS; i++)
            assert_true(
                ring_add(ring, fixture->fd, data[i], 100, i * 4000 + (uint64_t)round, &done[i]));
        ring_submit(ring);
        for (int i = 0; i < RING_READS; i++) {
            ssize_t result;
            int *owner = wait_next(fixture, &result);
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
    struct fixture *fixture = *state;
    struct ring *ring = ring_of(state);
    static char data[RING_READS][8];
    ssize_t result;
    for (int i = 0; i < RING_READS; i++)
        assert_true(ring_add(ring, fixture->fd, data[i], 8, 0, data[i]));
    assert_false(ring_add(ring, fixture->fd, data[0], 8, 0, data[0]));
    ring_submit(ring);
    assert_false(ring_add(ring, fixture->fd, data[0], 8, 0, data[0]));
    wait_next(fixture, &result);
    assert_true(ring_add(ring, fixture->fd, data[0], 8, 0, data[0]));
    ring_submit(ring);
    for (int i = 0; i < RING_READS; i++)
        wait_next(fixture, &result);
    assert_null(ring_next(ring, &result));
}

static void test_short_and_failed_reads_say_so(void **state)
{
    struct fixture *fixture = *state;
    struct ring *ring = ring_of(state);
    char data[100];
    ssize_t result;
    assert_true(ring_add(ring, fixture->fd, data, 100, FILE_SIZE - 30, data));
    ring_submit(ring);
    assert_ptr_equal(wait_next(fixture, &result), data);
    assert_int_equal(result, 30);
    assert_true(ring_add(ring, -1, data, 100, 0, data));
    ring_submit(ring);
    assert_ptr_equal(wait_next(fixture, &result), data);
    assert_int_equal(result, -EBADF);
}

static void add_reads(struct fixture *fixture, char data[][8], int from, int to)
{
    for (int i = from; i < to; i++)
        assert_true(ring_add(fixture->ring, fixture->fd, data[i], 8, (uint64_t)i * 8, data[i]));
}

/* A filter of system calls, a module of security, an old kernel: none of these changes its mind. */
static void test_a_ring_that_is_refused_hands_all_back_and_takes_no_more(void **state)
{
    static const int errors[] = {EPERM, EACCES, EINVAL, ENOSYS, EBUSY, EAGAIN};
    ring_of(state);
    for (size_t k = 0; k < sizeof errors / sizeof *errors; k++) {
        void *rigged;
        char data[3][8];
        ssize_t result;
        open_fixture(&rigged);
        struct fixture *fixture = rigged;
        refuse(0, INT32_MAX, errors[k]);
        add_reads(fixture, data, 0, 3);
        assert_null(ring_take_back(fixture->ring));
        assert_int_equal(ring_submit(fixture->ring), errors[k]);
        for (int i = 0; i < 3; i++)
            assert_ptr_equal(ring_take_back(fixture->ring), data[i]);
        assert_null(ring_take_back(fixture->ring));
        assert_null(ring_next(fixture->ring, &result));
        assert_false(ring_add(fixture->ring, fixture->fd, data[0], 8, 0, data[0]));
        assert_int_equal(ring_submit(fixture->ring), 0);
        assert_int_equal(submits, 1);
        close_fixture(&rigged);
    }
}

static void test_what_has_begun_comes_back_from_a_ring_that_is_refused_later(void **state)
{
    struct fixture *fixture = *state;
    struct ring *ring = ring_of(state);
    char data[8][8];
    ssize_t result;
    refuse(1, 1, EPERM);
    add_reads(fixture, data, 0, 5);
    assert_int_equal(ring_submit(ring), 0);
    add_reads(fixture, data, 5, 8);
    assert_int_equal(ring_submit(ring), EPERM);
    for (int i = 5; i < 8; i++)
        assert_ptr_equal(ring_take_back(ring), data[i]);
    assert_null(ring_take_back(ring));
    for (int i = 0; i < 5; i++) {
        const char *owner = wait_next(fixture, &result);
        assert_int_equal(result, 8);
        assert_int_equal(owner[0], byte_at((uint64_t)(owner - data[0])));
    }
    assert_null(ring_next(ring, &result));
}

/* Room for more requests comes with those that end: nothing is tried again before. */
static void test_a_kernel_without_room_is_asked_again_when_a_read_has_come_back(void **state)
{
    struct fixture *fixture = *state;
    struct ring *ring = ring_of(state);
    char data[4][8];
    bool seen[4] = {false};
    ssize_t result;
    eventfd_t count;
    refuse(1, 1, EBUSY);
    add_reads(fixture, data, 0, 2);
    assert_int_equal(ring_submit(ring), 0);
    while (eventfd_read(fixture->event_fd, &count) < 0)
        usleep(1000);
    add_reads(fixture, data, 2, 4);
    assert_int_equal(ring_submit(ring), 0);
    assert_null(ring_take_back(ring));
    assert_int_equal(submits, 2);
    for (int i = 0; i < 4; i++) {
        seen[((char *)wait_next(fixture, &result) - data[0]) / 8] = true;
        assert_int_equal(result, 8);
        assert_int_equal(ring_submit(ring), 0);
    }
    assert_int_equal(submits, 3);
    for (int i = 0; i < 4; i++)
        assert_true(seen[i]);
}

static void test_a_kernel_that_never_has_room_is_not_waited_for(void **state)
{
    struct fixture *fixture = *state;
    struct ring *ring = ring_of(state);
    char data[2][8];
    ssize_t result;
    refuse(1, INT32_MAX, EAGAIN);
    add_reads(fixture, data, 0, 1);
    assert_int_equal(ring_submit(ring), 0);
    add_reads(fixture, data, 1, 2);
    assert_int_equal(ring_submit(ring), 0);
    assert_ptr_equal(wait_next(fixture, &result), data[0]);
    assert_int_equal(ring_submit(ring), EAGAIN);
    assert_ptr_equal(ring_take_back(ring), data[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_read_comes_back_once_with_its_bytes, open_fixture,
                                        close_fixture),
        cmocka_unit_test_setup_teardown(test_more_than_it_takes_are_refused_and_none_is_lost,
                                        open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_short_and_failed_reads_say_so, open_fixture,
                                        close_fixture),
        cmocka_unit_test_setup_teardown(
            test_a_ring_that_is_refused_hands_all_back_and_takes_no_more, open_fixture,
            close_fixture),
        cmocka_unit_test_setup_teardown(
            test_what_has_begun_comes_back_from_a_ring_that_is_refused_later, open_fixture,
            close_fixture),
        cmocka_unit_test_setup_teardown(
            test_a_kernel_without_room_is_asked_again_when_a_read_has_come_back, open_fixture,
            close_fixture),
        cmocka_unit_test_setup_teardown(test_a_kernel_that_never_has_room_is_not_waited_for,
                                        open_fixture, close_fixture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
