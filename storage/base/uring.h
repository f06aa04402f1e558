/* uring.h: a ring of io_uring(7) that does what it is for. What a ring is told no filter of system
 * calls sees, so it is no way around one: it refuses everything else, whoever asks. */
#ifndef CACHECASK_STORAGE_BASE_URING_H
#define CACHECASK_STORAGE_BASE_URING_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

/* Makes a ring that does nothing yet. False: there is no io_uring here, or no room for a ring. */
bool uring_init(struct io_uring *uring, unsigned entries);

#define URING_OPERATIONS_MAX 2

/* From now on it does only these operations (IORING_OP_…). False: the kernel does not know how. */
bool uring_enable(const struct io_uring *uring, const uint8_t *operations, unsigned count);

#endif
