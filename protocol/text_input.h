/* text_input.h: what the files of the text parser share. Private to protocol/.
 *
 * text.c finds the line and its end, text_command.c the command in it, and one function for each
 * shape of command reads the arguments. All of them work on one struct text_input and leave in it
 * how far they came (done).
 */
#ifndef CACHECASK_PROTOCOL_TEXT_INPUT_H
#define CACHECASK_PROTOCOL_TEXT_INPUT_H

#include "protocol/text.h"
#include "protocol/token.h"

/* A line longer than this is waited for only if it is a get's, and that one up to TEXT_GET_LINE_MAX. */
#define LINE_LEN_MAX       2048

/* memcached counts in 32 bits, the block's line end included; it cannot read a longer length. */
#define BLOCK_LEN_MAX      (INT32_MAX - 2)

/* As many blanks may stand before the `get` of a line that is longer than that. */
#define LEADING_BLANKS_MAX 100

struct text_input {
    struct text_parser *parser;
    struct request *request;
    const char *line;     /* where the line begins */
    const char *at;       /* how far its words have been read */
    const char *line_end; /* behind its last word */
    const char *next;     /* behind its newline: a data block begins here */
    const char *data_end; /* nothing is read from here on */
    const char *done;     /* result: what lies before is consumed */
    size_t need; /* result, with PARSE_PARTIAL: bytes wanted from `line` on, 0 if unknown */
};

static inline struct bytes text_word(struct text_input *in)
{
    return token_next(&in->at, in->line_end);
}

static inline bool text_key_ok(struct bytes key)
{
    return key.len - 1 < KEY_LEN_MAX;
}

/* REQUEST_NOREPLY if the last word not yet read is `noreply`, else 0. */
static inline uint32_t text_noreply(const struct text_input *in)
{
    static const char noreply[] = " noreply";
    const size_t len = sizeof(noreply) - 1;
    if ((size_t)(in->line_end - in->at) < len)
        return 0;
    return memcmp(in->line_end - len, noreply, len) == 0 ? REQUEST_NOREPLY : 0;
}

/* The line ends at this newline: sets line_end and next. */
static inline void text_end_line(struct text_input *in, const char *newline)
{
    const char *end = newline;
    if (end > in->line && end[-1] == '\r')
        end--;
    while (end > in->line && end[-1] == ' ')
        end--;
    in->line_end = end;
    in->next = newline + 1;
}

/* The line is refused and done with. */
static inline enum parse_status text_refuse(struct text_input *in, enum reply_status error)
{
    in->request->op = OP_INVALID;
    in->request->error = error;
    in->done = in->next;
    return PARSE_REQUEST;
}

/* The line made a request and is done with. */
static inline enum parse_status text_accept(struct text_input *in, enum request_op op)
{
    in->request->op = op;
    in->done = in->next;
    return PARSE_REQUEST;
}

/* How many words stand between the name of a command and the length of its data block; -1: it has
 * none. */
int text_words_before_length(struct bytes name);

/* The next request of a client that has not shown a password yet. */
enum parse_status text_parse_guarded(struct text_input *in);

/* Dispatches a complete line; in->at stands at its beginning. */
enum parse_status text_parse_line(struct text_input *in);

/* The arguments of get, gets (request flags 0 or REQUEST_CAS) and gat, gats (with REQUEST_TOUCH) of
 * a complete line. */
enum parse_status text_parse_get(struct text_input *in, uint32_t flags);

/* The next key of a get line whose keys are all good, from in->line on. */
enum parse_status text_parse_get_key(struct text_input *in);

/* The arguments of the storage commands, and their data block. */
enum parse_status text_parse_store(struct text_input *in, enum request_op op);

/* The data block of `len` bytes behind the line: sets request->value, or refuses it, or waits for
 * it. ms uses it too. */
enum parse_status text_parse_block(struct text_input *in, enum request_op op, uint64_t len);

/* The same, however large it is: request->op is `op` when it is taken. */
enum parse_status text_take_block(struct text_input *in, enum request_op op, uint64_t len);

/* `word` is the first of a line: if it is a meta command, parses the rest (meta.c) and sets *status. */
bool text_parse_meta(struct text_input *in, struct bytes word, enum parse_status *status);

/* As text_refuse, and the data block of `len` bytes that was announced is dropped when it comes. */
enum parse_status text_refuse_block(struct text_input *in, enum reply_status error, uint64_t len);

#endif
