/* ring.h: reads by io_uring(7), for which no thread has to wait. Each session that has an eventfd
 * has a ring, used by its thread alone. Without liburing, or where the kernel refuses, there are
 * none, and threads read (reader.h). docs/performance.md compares them.
 *
 * A kernel, a filter or a security module may refuse a ring's use at any time. Then it is broken:
 * it takes no more reads, and hands back those that have not begun; the others still come back. */
#ifndef CACHECASK_STORAGE_READ_RING_H
#define CACHECASK_STORAGE_READ_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RING_READS 256 /* under way at a time */

struct ring;

/* `event_fd` is written to by the kernel when a read has ended. NULL: there is no io_uring here. */
struct ring *ring_new(int event_fd);

/* With nothing under way. */
void ring_free(struct ring *ring);

/* Queues a read, for ring_submit to begin. `data` and `fd` must last until ring_next or
 * ring_take_back returns `owner`. False: too many are under way, or the ring is broken. */
bool ring_add(struct ring *ring, int fd, void *data, size_t size, uint64_t offset, void *owner);

/* Begins what is queued. Where the kernel has no room just now and reads are under way, the rest
 * stays queued: call it again when one of them has come back. Returns 0, or, in the one call that
 * finds the ring broken, the errno that says why. */
int ring_submit(struct ring *ring);

/* The owner of a read that a broken ring has not begun, the oldest first. NULL: there is none. */
void *ring_take_back(struct ring *ring);

/* The owner of a read that has ended, or NULL. *result is that of pread, or -errno. */
void *ring_next(struct ring *ring, ssize_t *result);

#endif
