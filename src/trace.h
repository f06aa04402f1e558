/* trace.h: what clients do, for the journal, from -vv on. Callers ask worker->verbosity first: that branch is the whole cost
 * when nobody looks. */
#ifndef CACHECASK_SRC_TRACE_H
#define CACHECASK_SRC_TRACE_H

#include "src/worker.h"

/* JOURNAL_COMMANDS */
void trace_opened(const struct conn *conn);
void trace_closed(const struct conn *conn);

/* A request that was run, and what was answered: the bytes of the worker's arena from reply_at on, or the last piece. */
void trace_request(const struct conn *conn, const struct slot *slot, const struct output *output,
                   size_t reply_at);

/* JOURNAL_STATES: what a connection does at the end of a round. */
void trace_state(const struct conn *conn);

#endif
