#include "storage/base/uring.h"

#include <assert.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Disabled until restricted. COOP_TASKRUN spares a busy thread interruptions, since Linux 5.19. */
bool uring_init(struct io_uring *uring, unsigned entries)
{
    const unsigned disabled = IORING_SETUP_R_DISABLED;
    return io_uring_queue_init(entries, uring, disabled | IORING_SETUP_COOP_TASKRUN) == 0 ||
           io_uring_queue_init(entries, uring, disabled) == 0;
}

/* By hand: liburing 2.3 declares functions for this that its shared library lacks. */
bool uring_enable(const struct io_uring *uring, const uint8_t *operations, unsigned count)
{
    struct io_uring_restriction only[URING_OPERATIONS_MAX] = {0};
    assert(count <= URING_OPERATIONS_MAX);
    for (unsigned i = 0; i < count; i++)
        only[i] = (struct io_uring_restriction){.opcode = IORING_RESTRICTION_SQE_OP,
                                                .sqe_op = operations[i]};
    return syscall(SYS_io_uring_register, uring->ring_fd, IORING_REGISTER_RESTRICTIONS, only,
                   count) == 0 &&
           syscall(SYS_io_uring_register, uring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) ==
               0;
}
