/* waits.h: how the waits of a worker's connections begin and end. See waits.c. */
#ifndef CACHECASK_SRC_NET_WAITS_H
#define CACHECASK_SRC_NET_WAITS_H

#include "src/net/worker.h"

/* For struct command_host: the client has begun to wait; one of its waits has ended. */
void waits_begin(struct client *client, enum wait_reason reason);
void waits_resume(struct client *client);

/* Goes on with a connection if nothing holds it any more; it may be closed and freed. */
void waits_go_on(struct conn *conn);

/* After a wake: ends what has come to its end. */
void waits_look_again(struct worker *worker);

/* Once a second while a client waits for space, for memory, or for the disk: none waits for ever,
 * whatever wakes are missed. */
void waits_tick(evutil_socket_t fd, short what, void *context);

/* Before the connection closes: ends its dump, or its watching. */
void waits_end(struct conn *conn);

#endif
