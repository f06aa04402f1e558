/* rights.h: which commands may be asked for, by whom, and how. See rights.c. */
#ifndef CACHECASK_SRC_COMMAND_RIGHTS_H
#define CACHECASK_SRC_COMMAND_RIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/request.h"
#include "src/config/settings.h"

/* How long the answer to a command may become. */
enum rights_answer {
    ANSWER_UNKNOWN, /* there is no row for it */
    ANSWER_LISTING, /* as long as what is stored, or as who is connected, or endless */
    ANSWER_BY_WORD, /* the first word after its name decides */
    ANSWER_SHORT,   /* a line, or a page of statistics, whatever is stored */
    ANSWER_VALUES,  /* the values that were asked for; over UDP within UDP_ANSWER_MAX */
};

/* The option with which, or without which, a command is refused to everybody. */
enum rights_option {
    OPTION_NONE,
    OPTION_FLUSH,    /* with -F */
    OPTION_SHUTDOWN, /* without -A */
    OPTION_DUMP,     /* with -X */
    OPTION_WATCH,    /* with -W */
};

struct rights {
    uint8_t answer;   /* of enum rights_answer: over UDP only what is short, or values */
    bool stranger;    /* may be asked for by a client that has not authenticated itself (-S, -Y) */
    uint8_t option;   /* of enum rights_option */
    uint8_t refusal;  /* of enum reply_status: what is answered where the option forbids it */
    const char *text; /* REPLY_TEXT: that */
};

extern const struct rights rights_of_ops[OP_COUNT];

/* Whether every authenticated client may use an operation, over any transport, with any option. */
static inline bool rights_are_free(enum request_op op)
{
    return rights_of_ops[op].answer >= ANSWER_SHORT && rights_of_ops[op].option == OPTION_NONE;
}

/* Whether a request may be run. False: *refusal is its answer. */
bool rights_allow(const struct settings *settings, bool udp, const struct request *request,
                  struct reply *refusal);

/* What a client may ask for that has not authenticated itself: for parser_lock. */
uint64_t rights_of_strangers(void);

#endif
