/* sasl.h: clients say who they are (-S), through Cyrus libsasl2, of which nobody else here knows.
 *
 * What is asked for is configured as with memcached: `memcached.conf` in $SASL_CONF_PATH or where
 * libsasl2 looks by itself, or a file of our own, $MEMCACHED_SASL_PWDB, one `user:password` a line.
 * The file is read anew for every client; where it is given it alone decides, and PLAIN is the only
 * mechanism. A password in it ends at the line's end or at another colon.
 *
 * In a build without libsasl2 (sasl_absent.c) nothing here does anything, and -S is refused.
 */
#ifndef CACHECASK_SRC_COMMAND_SASL_H
#define CACHECASK_SRC_COMMAND_SASL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "protocol/request.h"

bool sasl_built_in(void);

/* Before the first session, and when there are none any more. What libsasl2 has to say goes to
 * standard error while *verbosity is above 0. False: said why. */
bool sasl_setup(const _Atomic int *verbosity);
void sasl_teardown(void);

/* One client on its way. NULL: no memory, or the configuration is wrong. */
struct sasl_session *sasl_session_new(void);
void sasl_session_free(struct sasl_session *session);

/* The mechanisms that the client may choose from, separated by blanks. Good as long as the
 * session. */
struct bytes sasl_session_mechanisms(struct sasl_session *session);

enum sasl_result {
    SASL_RESULT_DONE,     /* it is the one it says it is */
    SASL_RESULT_CONTINUE, /* *answer goes to the client, which then says more */
    SASL_RESULT_FAILED,
};

/* The client's first words, and its further ones. They may wait: for a file, or for a daemon that
 * knows passwords. *answer is good until the next call. */
enum sasl_result sasl_session_start(struct sasl_session *session, struct bytes mechanism,
                                    struct bytes data, struct bytes *answer);
enum sasl_result sasl_session_step(struct sasl_session *session, struct bytes data,
                                   struct bytes *answer);

#endif
