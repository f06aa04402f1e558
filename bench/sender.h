/* sender.h: many sends in one system call, by io_uring(7), so that the load needs less of its core
 * than servers do of theirs. Without liburing, or where the kernel refuses, there is no sender, and
 * each is sent by itself. */
#ifndef CACHECASK_BENCH_SENDER_H
#define CACHECASK_BENCH_SENDER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define SENDER_MAX       256     /* sends at a time */
#define SENDER_NOT_TRIED INT_MIN /* no result of a send, and no errno */

struct sender;

/* NULL: there is no io_uring here. */
struct sender *sender_new(void);
void sender_free(struct sender *sender);

/* Adds a send, one of SENDER_MAX at most, for sender_run; the bytes and *sent must last until
 * then. */
void sender_add(struct sender *sender, int fd, const char *bytes, size_t len, ssize_t *sent);

/* Sends what was added. Each *sent is the number of bytes, or -errno. Where the kernel fails, the
 * program ends. */
void sender_run(struct sender *sender);

#endif
