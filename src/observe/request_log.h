/* request_log.h: what clients do, for the journal, from -vv on. Callers ask worker->verbosity first: that branch is the whole cost
 * when nobody looks. */
#ifndef CACHECASK_SRC_OBSERVE_REQUEST_LOG_H
#define CACHECASK_SRC_OBSERVE_REQUEST_LOG_H

#include "src/net/worker.h"

/* SERVER_LOG_COMMANDS */
void request_log_opened(const struct conn *conn);
void request_log_closed(const struct conn *conn);

/* A request that was run, and what was answered: the bytes of the worker's arena from reply_at on, or the last piece. */
void request_log_ran(const struct conn *conn, const struct slot *slot, const struct output *output,
                     size_t reply_at);

/* SERVER_LOG_STATES: what a connection does at the end of a round. */
void request_log_state(const struct conn *conn);

#endif
