/* request_log.h: what clients do, for the server log, from -vv on; callers check the verbosity. */
#ifndef CACHECASK_SRC_OBSERVE_REQUEST_LOG_H
#define CACHECASK_SRC_OBSERVE_REQUEST_LOG_H

#include "src/base/output.h"
#include "src/observe/observed.h"

/* SERVER_LOG_COMMANDS */
void request_log_opened(int fd, const char *address);
void request_log_closed(int fd);

/* A request that was run, and its answer: the arena from reply_at on, or the last piece. */
void request_log_ran(const struct observed_request *observed, const struct output *output,
                     size_t reply_at);

#endif
