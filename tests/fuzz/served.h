/* served.h: a server without its main thread: the store in a directory that goes with the
 * process, one worker, and whatever its clients send. The worker's rounds run in the caller's
 * thread, when the caller says so: so the bytes arrive in the pieces in which they were sent,
 * and what a round does belongs to the input that caused it. Behind it all is real: sockets, the
 * store's threads, files. */
#ifndef CACHECASK_TESTS_FUZZ_SERVED_H
#define CACHECASK_TESTS_FUZZ_SERVED_H

#include <sys/socket.h>

#include "src/server.h"
#include "src/net/worker.h"
#include "tests/fuzz/fuzz.h"

struct served {
    struct main_thread main_thread; /* which does not run: the part that the others see */
    struct worker *worker;
    struct listener *unix_listener; /* whose connections come from served_connect */
};

/* Starts it with these options; with `udp`, it has a UDP socket on loopback. */
void served_start(struct served *served, const char *const options[], bool udp);

/* A new connection: the client's end of it, which does not block. */
int served_connect(struct served *served);

/* Lets the worker run until it has done what there is to do: `fd` is drained into *answer
 * meanwhile, and no bytes wait in it to be read. True: the server has closed it. Fails when that
 * does not end. */
bool served_settle(struct served *served, int fd, struct summary *answer);

/* The client has no more to say: lets the worker run until it has closed the connection. Fails
 * when it does not. */
void served_end(struct served *served, int fd, struct summary *answer);

/* Does what the main thread does once a second. */
void served_tick(struct served *served);

#endif
