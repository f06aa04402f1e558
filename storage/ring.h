/* ring.h: reads by io_uring, for which no thread has to wait (io_uring(7)). One ring for each session that has an eventfd; used
 * by the session's thread alone. Built without liburing, or where the kernel refuses, there are none, and threads read
 * (reader.h): so there must always be those too. docs/performance.md compares them. */
#ifndef CACHECASK_STORAGE_RING_H
#define CACHECASK_STORAGE_RING_H

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

/* Queues a read, for ring_submit to begin. `data` and `fd` stay the caller's and must last until ring_next returns `owner`.
 * False: too many are under way. */
bool ring_add(struct ring *ring, int fd, void *data, size_t size, uint64_t offset, void *owner);

/* Begins what is queued. Where the kernel cannot just now, event_fd becomes readable: call it again then. */
void ring_submit(struct ring *ring);

/* The owner of a read that has ended, or NULL. *result is that of pread, or -errno. */
void *ring_next(struct ring *ring, ssize_t *result);

#endif
