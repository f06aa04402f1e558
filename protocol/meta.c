/* meta.c: the meta commands: mg, ms, md, ma, me, mn.
 *
 *     mg <key> <flag>*        ms <key> <length> <flag>*, and a data block        mn
 *     md <key> <flag>*        ma <key> <flag>*                                   me <key> [b]
 *
 * A flag is a letter; some have an argument, which follows without a blank. Every command accepts
 * the flags of all: one that means nothing to it is checked and ignored. The data block of an ms
 * with a readable length is dropped if anything else in its line is wrong. (memcached runs it as
 * commands when a word cannot be a flag at all because it does not begin with a letter.)
 */
#include <string.h>

#include "protocol/base64.h"
#include "protocol/text_input.h"

#define WORDS_MAX  20 /* in a line, including the command's name */
#define OPAQUE_MAX 32 /* bytes of an O flag, including its letter */

/* The flags of all commands; P and L are for proxies and mean nothing to a server. */
#define FLAGS_KNOWN                                                                                \
    (META_FLAG('b') | META_FLAG('c') | META_FLAG('f') | META_FLAG('h') | META_FLAG('k') |          \
     META_FLAG('l') | META_FLAG('q') | META_FLAG('s') | META_FLAG('t') | META_FLAG('u') |          \
     META_FLAG('v') | META_FLAG('x') | META_FLAG('C') | META_FLAG('D') | META_FLAG('E') |          \
     META_FLAG('F') | META_FLAG('I') | META_FLAG('J') | META_FLAG('L') | META_FLAG('M') |          \
     META_FLAG('N') | META_FLAG('O') | META_FLAG('P') | META_FLAG('R') | META_FLAG('T'))

#define FLAGS_WITH_ARGUMENT                                                                        \
    (META_FLAG('C') | META_FLAG('D') | META_FLAG('E') | META_FLAG('F') | META_FLAG('J') |          \
     META_FLAG('M') | META_FLAG('N') | META_FLAG('O') | META_FLAG('R') | META_FLAG('T'))

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* REPLY_NONE when a flag's argument is valid. F comes later: see read_client_flags. */
static enum reply_status read_argument(struct request *request, char flag, struct bytes word)
{
    bool valid = true;
    switch (flag) {
    case 'C': valid = token_uint64(word, &request->cas); break;
    case 'D': valid = token_uint64(word, &request->delta); break;
    case 'E': valid = token_uint64(word, &request->new_cas); break;
    case 'J': valid = token_uint64(word, &request->initial); break;
    case 'N': valid = token_exptime(word, &request->vivify_exptime); break;
    case 'R': valid = token_exptime(word, &request->recache_s); break;
    case 'T':
        valid = token_exptime(word, &request->exptime);
        request->vivify_exptime = request->exptime;
        break;
    case 'M': request->mode = word.len > 0 ? word.data[0] : '\0'; break;
    default: break;
    }
    return valid ? REPLY_NONE : REPLY_BAD_TOKEN;
}

static enum reply_status note_flag(struct request *request, char letter)
{
    uint64_t flag = META_FLAG(letter);
    if (!is_letter(letter))
        return REPLY_BAD_FORMAT;
    if (!(flag & FLAGS_KNOWN))
        return REPLY_INVALID_FLAG;
    if (request->meta_flags & flag)
        return REPLY_DUPLICATE_FLAG;
    request->meta_flags |= flag;
    return REPLY_NONE;
}

/* Notes the flags from in->at on. Returns REPLY_NONE, or the first error. */
static enum reply_status note_flags(struct text_input *in, int words_before)
{
    const char *at = in->at;
    int count = words_before;
    for (struct bytes word; (word = token_next(&at, in->line_end)).len > 0; count++) {
        enum reply_status error = note_flag(in->request, word.data[0]);
        if (error != REPLY_NONE)
            return error;
    }
    return count > WORDS_MAX ? REPLY_TOO_MANY_FLAGS : REPLY_NONE;
}

/* Reads the flags' arguments, once the flags are known to be valid. */
static enum reply_status read_arguments(struct text_input *in)
{
    const char *at = in->at;
    for (struct bytes word; (word = token_next(&at, in->line_end)).len > 0;) {
        struct bytes argument = {word.data + 1, word.len - 1};
        enum reply_status error = read_argument(in->request, word.data[0], argument);
        if (error != REPLY_NONE)
            return error;
    }
    return REPLY_NONE;
}

/* The word of a flag that was given. */
static struct bytes find_flag(const struct text_input *in, char letter)
{
    const char *at = in->at;
    struct bytes word;
    do
        word = token_next(&at, in->line_end);
    while (word.len > 0 && word.data[0] != letter);
    return word;
}

static bool read_client_flags(const struct text_input *in, uint32_t *out)
{
    struct bytes word = find_flag(in, 'F');
    return word.len > 1 && token_uint32((struct bytes){word.data + 1, word.len - 1}, out);
}

static bool key_word_ok(const struct request *request)
{
    bool base64 = request->meta_flags & META_FLAG('b');
    size_t len = request->key.len;
    return len > 0 && len <= (base64 ? BASE64_LEN(KEY_LEN_MAX) : KEY_LEN_MAX);
}

/* Replaces a key in base64 (the b flag) by the bytes it stands for. */
static bool decode_key(struct request *request)
{
    if (!(request->meta_flags & META_FLAG('b')))
        return true;
    size_t len = base64_decode(request->key_room, sizeof(request->key_room), request->key);
    request->key = (struct bytes){request->key_room, len};
    return len > 0;
}

/* The letters that M may name, and the error for all others. */
struct modes {
    const char *letters; /* the first is the default */
    enum reply_status error;
};

static const struct modes set_modes = {"SEAPR", REPLY_BAD_SET_MODE};
static const struct modes arithmetic_modes = {"I+D-", REPLY_BAD_ARITHMETIC_MODE};
static const struct modes no_modes = {NULL, REPLY_NONE};

/* Reads the key, and the arguments of the flags noted. Returns REPLY_NONE, or the first error. */
static enum reply_status read_flags(struct text_input *in, struct modes modes)
{
    struct request *request = in->request;
    request->mode = modes.letters ? *modes.letters : '\0';
    request->args = (struct bytes){in->at, (size_t)(in->line_end - in->at)};
    if (request->meta_flags & FLAGS_WITH_ARGUMENT) {
        enum reply_status error = read_arguments(in);
        if (error != REPLY_NONE)
            return error;
    }
    if (!key_word_ok(request))
        return REPLY_BAD_FORMAT;
    if (!decode_key(request))
        return REPLY_BAD_KEY;
    if (request->meta_flags & META_FLAG('F') && !read_client_flags(in, &request->client_flags))
        return REPLY_BAD_FORMAT;
    if (modes.letters && (request->mode == '\0' || !strchr(modes.letters, request->mode)))
        return modes.error;
    if (request->meta_flags & META_FLAG('O') && find_flag(in, 'O').len > OPAQUE_MAX)
        return REPLY_OPAQUE_TOO_LONG;
    return REPLY_NONE;
}

/* mg, md. */
static enum parse_status parse_key_and_flags(struct text_input *in, enum request_op op)
{
    in->request->key = text_word(in);
    enum reply_status error = note_flags(in, 2);
    if (error == REPLY_NONE)
        error = read_flags(in, no_modes);
    return error == REPLY_NONE ? text_accept(in, op) : text_refuse(in, error);
}

/* ma has one error for most invalid flags, like memcached. */
static enum parse_status parse_arithmetic(struct text_input *in)
{
    in->request->delta = 1;
    in->request->key = text_word(in);
    enum reply_status error = note_flags(in, 2);
    if (error == REPLY_BAD_FORMAT || !key_word_ok(in->request))
        return text_refuse(in, REPLY_BAD_FORMAT);
    if (error == REPLY_NONE)
        error = read_flags(in, arithmetic_modes);
    switch (error) {
    case REPLY_NONE: return text_accept(in, OP_META_ARITHMETIC);
    case REPLY_OPAQUE_TOO_LONG:
    case REPLY_BAD_ARITHMETIC_MODE: return text_refuse(in, error);
    default: return text_refuse(in, REPLY_BAD_FLAG);
    }
}

static enum parse_status parse_set(struct text_input *in)
{
    uint64_t len;
    in->request->key = text_word(in);
    if (!token_uint64(text_word(in), &len) || len > BLOCK_LEN_MAX)
        return text_refuse(in, REPLY_BAD_FORMAT);
    enum reply_status error = note_flags(in, 3);
    if (error == REPLY_NONE)
        error = read_flags(in, set_modes);
    if (error != REPLY_NONE)
        return text_refuse_block(in, error, len);
    return text_parse_block(in, OP_META_SET, len);
}

/* me takes its b as a separate word, and ignores any other word there. */
static enum parse_status parse_debug(struct text_input *in)
{
    struct request *request = in->request;
    request->key = text_word(in);
    request->args = text_word(in);
    if (in->at != in->line_end)
        return text_refuse(in, REPLY_BAD_FORMAT);
    if (token_is(request->args, "b", 1))
        request->meta_flags = META_FLAG('b');
    if (!key_word_ok(request) || !decode_key(request))
        return text_refuse(in, REPLY_BAD_FORMAT);
    return text_accept(in, OP_META_DEBUG);
}

bool text_parse_meta(struct text_input *in, struct bytes word, enum parse_status *status)
{
    struct request *request = in->request;
    if (word.data[0] != 'm' || !memchr("gsdaen", word.data[1], 6))
        return false;
    memset((char *)request + REQUEST_COMMON_SIZE, 0,
           offsetof(struct request, key_room) - REQUEST_COMMON_SIZE);
    request->flags = REQUEST_META;
    switch (word.data[1]) {
    case 'g': *status = parse_key_and_flags(in, OP_META_GET); break;
    case 's': *status = parse_set(in); break;
    case 'd': *status = parse_key_and_flags(in, OP_META_DELETE); break;
    case 'a': *status = parse_arithmetic(in); break;
    case 'e': *status = parse_debug(in); break;
    default: *status = text_accept(in, OP_META_NOOP); break;
    }
    return true;
}
