/* waits.h: what a worker's connections wait for (enum wait_reason): who is told of it, and how each
 * wait ends. See waits.c. */
#ifndef CACHECASK_SRC_NET_WAITS_H
#define CACHECASK_SRC_NET_WAITS_H

#include "src/net/worker.h"

/* The client has begun to wait: for struct command_host, and for net/ itself through
 * command_wait. */
void waits_begin(struct client *client, enum wait_reason reason);

/* One of the client's waits has ended: for struct command_host. */
void waits_resume(struct client *client);

/* Goes on with a connection if nothing holds it any more; it may be closed and freed. */
void waits_go_on(struct conn *conn);

/* After a wake: looks at all that may have ended. */
void waits_look_again(struct worker *worker);

/* Once a second while somebody waits for space, for memory, or for the disk: no client waits for
 * ever, whatever wakes are missed. */
void waits_tick(evutil_socket_t fd, short what, void *context);

/* Before the connection closes: nobody waits for its dump, nor for its lines. */
void waits_end(struct conn *conn);

#endif
