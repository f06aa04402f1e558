/* text_command.c: the table of commands, and the arguments of commands of one short line. Errors of
 * form are found here; the meaning of a well-formed argument is up to the command layer.
 */
#include <string.h>

#include "protocol/text_input.h"

enum shape {
    SHAPE_GET,
    SHAPE_STORE,
    SHAPE_DELETE,
    SHAPE_KEY_AND_NUMBER,
    SHAPE_FLUSH_ALL,
    SHAPE_VERBOSITY,
    SHAPE_MEMLIMIT,
    SHAPE_ARGS, /* any words; with flag REQUEST_NOREPLY the last may be noreply */
};

struct command {
    const char *name;
    uint8_t name_len;
    uint8_t shape;
    uint8_t op;
    uint8_t flags;
};

#define COMMAND(name, shape, op, flags)                                                            \
    {                                                                                              \
        name, sizeof(name) - 1, shape, op, flags                                                   \
    }

/* The most frequent first: the table is searched from the top. get and set do not come here. */
static const struct command commands[] = {
    COMMAND("gets", SHAPE_GET, OP_GET, REQUEST_CAS),
    COMMAND("add", SHAPE_STORE, OP_ADD, 0),
    COMMAND("cas", SHAPE_STORE, OP_CAS, 0),
    COMMAND("incr", SHAPE_KEY_AND_NUMBER, OP_INCR, 0),
    COMMAND("decr", SHAPE_KEY_AND_NUMBER, OP_DECR, 0),
    COMMAND("delete", SHAPE_DELETE, OP_DELETE, 0),
    COMMAND("touch", SHAPE_KEY_AND_NUMBER, OP_TOUCH, 0),
    COMMAND("gat", SHAPE_GET, OP_GET, REQUEST_TOUCH),
    COMMAND("gats", SHAPE_GET, OP_GET, REQUEST_TOUCH | REQUEST_CAS),
    COMMAND("replace", SHAPE_STORE, OP_REPLACE, 0),
    COMMAND("append", SHAPE_STORE, OP_APPEND, 0),
    COMMAND("prepend", SHAPE_STORE, OP_PREPEND, 0),
    COMMAND("get", SHAPE_GET, OP_GET, 0),
    COMMAND("set", SHAPE_STORE, OP_SET, 0),
    COMMAND("stats", SHAPE_ARGS, OP_STATS, 0),
    COMMAND("version", SHAPE_ARGS, OP_VERSION, 0),
    COMMAND("quit", SHAPE_ARGS, OP_QUIT, 0),
    COMMAND("flush_all", SHAPE_FLUSH_ALL, OP_FLUSH_ALL, 0),
    COMMAND("verbosity", SHAPE_VERBOSITY, OP_VERBOSITY, 0),
    COMMAND("cache_memlimit", SHAPE_MEMLIMIT, OP_CACHE_MEMLIMIT, 0),
    COMMAND("cache_disklimit", SHAPE_MEMLIMIT, OP_CACHE_DISKLIMIT, 0),
    COMMAND("shutdown", SHAPE_ARGS, OP_SHUTDOWN, 0),
    COMMAND("watch", SHAPE_ARGS, OP_WATCH, 0),
    COMMAND("lru", SHAPE_ARGS, OP_LRU, REQUEST_NOREPLY),
    COMMAND("lru_crawler", SHAPE_ARGS, OP_LRU_CRAWLER, 0),
    COMMAND("slabs", SHAPE_ARGS, OP_SLABS, REQUEST_NOREPLY),
    COMMAND("refresh_certs", SHAPE_ARGS, OP_REFRESH_CERTS, 0),
};

static const struct command *find_command(struct bytes name)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (token_is(name, commands[i].name, commands[i].name_len))
            return &commands[i];
    return NULL;
}

int text_words_before_length(struct bytes name)
{
    if (token_is(name, "ms", 2))
        return 1;
    const struct command *command = find_command(name);
    return command != NULL && command->shape == SHAPE_STORE ? 3 : -1;
}

/* Reads the first argument, the key. False if it is missing or cannot be a key. */
static bool read_key(struct text_input *in)
{
    in->request->key = text_word(in);
    in->request->flags |= text_noreply(in);
    return text_key_ok(in->request->key);
}

/* incr, decr and touch: a key and a number. */
static enum parse_status parse_key_and_number(struct text_input *in, enum request_op op)
{
    struct request *request = in->request;
    bool key_ok = read_key(in), touch = op == OP_TOUCH;
    struct bytes number = text_word(in);
    if (!key_ok || number.len == 0)
        return text_refuse(in, REPLY_BAD_FORMAT);
    if (touch ? token_exptime(number, &request->exptime) : token_uint64(number, &request->delta))
        return text_accept(in, op);
    return text_refuse(in, touch ? REPLY_BAD_EXPTIME : REPLY_BAD_DELTA);
}

/* `delete k` or `delete k 0`, either with noreply. The 0 dates from when delete took a time. */
static enum parse_status parse_delete(struct text_input *in, enum request_op op)
{
    if (!read_key(in))
        return text_refuse(in, REPLY_BAD_FORMAT);
    struct bytes word = text_word(in);
    if (token_is(word, "0", 1))
        word = text_word(in);
    bool last = in->at == in->line_end;
    if (last && (word.len == 0 || token_is(word, "noreply", 7)))
        return text_accept(in, op);
    return text_refuse(in, REPLY_BAD_DELETE);
}

static enum parse_status parse_flush_all(struct text_input *in, enum request_op op)
{
    in->request->flags |= text_noreply(in);
    struct bytes delay = text_word(in);
    bool last = in->at == in->line_end;
    if (delay.len == 0 || (last && token_is(delay, "noreply", 7)))
        return text_accept(in, op);
    if (!token_exptime(delay, &in->request->exptime))
        return text_refuse(in, REPLY_BAD_EXPTIME);
    return text_accept(in, op);
}

/* One number, which goes to request->delta. */
static enum parse_status parse_number(struct text_input *in, enum request_op op,
                                      enum reply_status error)
{
    in->request->flags |= text_noreply(in);
    struct bytes number = text_word(in);
    if (!token_uint64(token_without_plus(number), &in->request->delta))
        return text_refuse(in, error);
    return text_accept(in, op);
}

static enum parse_status parse_args(struct text_input *in, enum request_op op, uint32_t flags)
{
    const char *at = in->at;
    const char *end = in->line_end;
    in->request->flags |= text_noreply(in) & flags;
    if (in->request->flags & REQUEST_NOREPLY)
        end -= strlen("noreply");
    while (at < end && *at == ' ')
        at++;
    while (end > at && end[-1] == ' ')
        end--;
    in->request->args = (struct bytes){at, (size_t)(end - at)};
    return text_accept(in, op);
}

static enum parse_status parse_command(struct text_input *in, const struct command *command)
{
    enum request_op op = (enum request_op)command->op;
    switch ((enum shape)command->shape) {
    case SHAPE_GET: return text_parse_get(in, command->flags);
    case SHAPE_STORE: return text_parse_store(in, op);
    case SHAPE_DELETE: return parse_delete(in, op);
    case SHAPE_KEY_AND_NUMBER: return parse_key_and_number(in, op);
    case SHAPE_FLUSH_ALL: return parse_flush_all(in, op);
    case SHAPE_VERBOSITY: return parse_number(in, op, REPLY_BAD_FORMAT);
    case SHAPE_MEMLIMIT: return parse_number(in, op, REPLY_ERROR);
    case SHAPE_ARGS: break;
    }
    return parse_args(in, op, command->flags);
}

/* A browser, or something that acts like one (`POST / HTTP/1.1`), gets no answer. */
static bool is_http(const struct text_input *in)
{
    const char *word = in->line_end;
    while (word > in->line && word[-1] != ' ')
        word--;
    return in->line_end - word >= 5 && memcmp(word, "HTTP/", 5) == 0;
}

static enum parse_status parse_unknown(struct text_input *in, struct bytes name)
{
    if (is_http(in)) {
        text_refuse(in, REPLY_NONE);
        return PARSE_CLOSE;
    }
    bool short_line = name.len <= 1 && in->at == in->line_end;
    return text_refuse(in, short_line ? REPLY_BAD_FORMAT : REPLY_ERROR);
}

enum parse_status text_parse_line(struct text_input *in)
{
    if (in->line_end - in->line > 4) {
        bool get = memcmp(in->line, "get ", 4) == 0;
        if (get || memcmp(in->line, "set ", 4) == 0) {
            in->at = in->line + 4;
            return get ? text_parse_get(in, 0) : text_parse_store(in, OP_SET);
        }
    }
    struct bytes name = text_word(in);
    enum parse_status status;
    if (name.len == 2 && text_parse_meta(in, name, &status))
        return status;
    const struct command *command = find_command(name);
    return command != NULL ? parse_command(in, command) : parse_unknown(in, name);
}
