/* command.h: what memcached means by a request. */
#ifndef CACHECASK_SRC_COMMAND_COMMAND_H
#define CACHECASK_SRC_COMMAND_COMMAND_H

#include "protocol/request.h"
#include "src/net/worker.h"

enum run_result {
    RUN_DONE,
    RUN_WAIT,  /* a value comes from disk: run it again when conn->fetching is 0 */
    RUN_PAUSE, /* done; what is behind it can be parsed now (PARSE_PAUSE) */
    RUN_CLOSE, /* done; close the connection when all is sent */
    RUN_WATCH, /* done; what else the client sends is dropped */
};

/* Carries out a request and writes its reply to the worker's output. */
enum run_result command_run(struct worker *worker, struct conn *conn, const struct slot *slot);

/* A get that will have to wait behind another: starts to fetch its value from disk, if it lies there. */
void command_look_ahead(struct worker *worker, struct conn *conn, const struct slot *slot);

/* Writes a reply. */
void command_reply(struct worker *worker, struct conn *conn, const struct request *request,
                   const struct reply *reply);

/* The same for any status: REPLY_TEXT is its text, REPLY_NONE nothing. */
void command_say(struct worker *worker, struct conn *conn, const struct request *request,
                 const struct reply *reply);

/* The groups of stats that switch something. False: their answer, or that of any other group, comes from
 * stats_each(); else *reply has it, a text or REPLY_OK. */
bool command_switch_stats(struct worker *worker, struct bytes args, struct reply *reply);

/* The commands that are about the server and not about items (command_admin.c). */
enum run_result command_run_admin(struct worker *worker, struct conn *conn,
                                  const struct request *request, struct reply *reply);

/* What is the binary protocol's alone (command_binary.c). */
enum run_result command_run_binary(struct worker *worker, struct conn *conn,
                                   const struct request *request);

#endif
