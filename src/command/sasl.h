/* sasl.h: clients say who they are (-S), through Cyrus libsasl2. Only sasl.c knows that library; a
 * build without it has sasl_absent.c, and refuses -S.
 *
 * The configuration is that of memcached: `memcached.conf` in $SASL_CONF_PATH or where libsasl2
 * looks by itself, or a file of our own, $MEMCACHED_SASL_PWDB, one `user:password` a line. The file
 * is read again for every client; where it is given it alone decides, and PLAIN is the only
 * mechanism. A password in it ends at the line's end or at another colon.
 */
#ifndef CACHECASK_SRC_COMMAND_SASL_H
#define CACHECASK_SRC_COMMAND_SASL_H

#include <stdatomic.h>
#include <stdbool.h>

struct client;
struct command;

bool sasl_built_in(void);

/* Before the first client, and after the last one. libsasl2 logs to standard error while *verbosity
 * is above 0. False: the reason has been printed. */
bool sasl_setup(const _Atomic int *verbosity);
void sasl_teardown(void);

/* Carries out OP_SASL_LIST, OP_SASL_AUTH or OP_SASL_STEP, and replies. */
void sasl_run(const struct command *command);

/* Forgets an authentication that is under way, if there is one. */
void sasl_end(struct client *client);

#endif
