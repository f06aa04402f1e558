/* text_input.h: what the files of the text parser share. Private to protocol/.
 *
 * text.c finds the line and its end, text_command.c finds the command in it, and a function for
 * each shape of command reads the arguments. They all work on one struct text_input, and note in it
 * how far they have come (done). Calls go from text.c through text_guard.c or text_command.c to the
 * files of the single commands, and never back.
 */
#ifndef CACHECASK_PROTOCOL_TEXT_INPUT_H
#define CACHECASK_PROTOCOL_TEXT_INPUT_H

#include "protocol/text.h"
#include "protocol/token.h"

/* The longest line of all commands but get, whose limit is TEXT_GET_LINE_MAX. */
#define LINE_LEN_MAX       2048

/* memcached counts in 32 bits, including the block's line end, and refuses a longer length. */
#define BLOCK_LEN_MAX      (INT32_MAX - 2)

/* The most blanks before the `get` of a line of more than LINE_LEN_MAX bytes. */
#define LEADING_BLANKS_MAX 100

struct text_input {
    struct text_parser *parser;
    struct request *request;
    const char *line;     /* the beginning of the line */
    const char *at;       /* the end of the words already read */
    const char *line_end; /* the end of its last word */
    const char *next;     /* after its newline: a data block begins here */
    const char *data_end; /* the parser reads nothing from here on */
    const char *done;     /* result: everything before is consumed */
    size_t need;          /* result, with PARSE_PARTIAL: bytes needed from `line` on; 0: unknown */
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

/* The line is refused, and used up. */
static inline enum parse_status text_refuse(struct text_input *in, enum reply_status error)
{
    in->request->op = OP_INVALID;
    in->request->error = error;
    in->done = in->next;
    return PARSE_REQUEST;
}

/* The connection is closed: nothing that has arrived is of use. */
static inline enum parse_status text_close(struct text_input *in, enum reply_status error)
{
    in->next = in->data_end;
    text_refuse(in, error);
    return PARSE_CLOSE;
}

/* The line is a request, and used up. */
static inline enum parse_status text_accept(struct text_input *in, enum request_op op)
{
    in->request->op = op;
    in->done = in->next;
    return PARSE_REQUEST;
}

/* The number of words between a command's name and the length of its data block; -1: no block. */
int text_words_before_length(struct bytes name);

/* The next request of a client that has not yet shown a password. */
enum parse_status text_parse_guarded(struct text_input *in);

/* Parses a complete line, from in->at on. */
enum parse_status text_parse_line(struct text_input *in);

/* The arguments of get, gets (request flags 0 or REQUEST_CAS) and gat, gats (REQUEST_TOUCH). */
enum parse_status text_parse_get(struct text_input *in, uint32_t flags);

/* The next key of a get line whose keys are all valid, from in->line on. */
enum parse_status text_parse_get_key(struct text_input *in);

/* The arguments and the data block of the storage commands. */
enum parse_status text_parse_store(struct text_input *in, enum request_op op);

/* The data block of `len` bytes after the line of a storage command or ms: sets request->value,
 * refuses the block, or waits for the rest of it. */
enum parse_status text_parse_block(struct text_input *in, enum request_op op, uint64_t len);

/* The same without the item limit. request->op is `op` if the block is accepted. */
enum parse_status text_take_block(struct text_input *in, enum request_op op, uint64_t len);

/* If `word`, the first of a line, is a meta command: parses the rest (meta.c), sets *status. */
bool text_parse_meta(struct text_input *in, struct bytes word, enum parse_status *status);

/* As text_refuse, and the announced data block of `len` bytes is dropped as it arrives. */
enum parse_status text_refuse_block(struct text_input *in, enum reply_status error, uint64_t len);

#endif
