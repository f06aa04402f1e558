/* meta_reply.c: answers to the meta commands.
 *
 *     VA <length> <flag>*\r\n<value>\r\n   a hit, with its value
 *     HD <flag>*\r\n                       a hit, or done
 *     EN <flag>*  NF <flag>*               not found: of mg, of the others
 *     NS <flag>*  EX <flag>*               not stored; another CAS unique
 *     ME <key> <name>=<value>*             me
 *     MN                                   mn
 *
 * Flags are answered in the order of the request, followed by W, X and Z, which are not asked for.
 * If nothing was found, only the key and the opaque are repeated.
 *
 * A key is repeated as it was sent: with the b flag in base64, followed by a b. (memcached sends
 * the raw bytes of a key that was not stored as base64, even if they contain a line end.)
 */
#include <string.h>

#include "protocol/base64.h"
#include "protocol/text_output.h"
#include "protocol/token.h"

static char *put_letter(char *out, char letter)
{
    *out++ = ' ';
    *out++ = letter;
    return out;
}

static char *put_flag(char *out, char letter, uint64_t number)
{
    return text_put_number(put_letter(out, letter), number);
}

static char *put_ttl(char *out, int64_t ttl_s)
{
    return ttl_s < 0 ? text_put(out, " t-1", 4) : put_flag(out, 't', (uint64_t)ttl_s);
}

static char *put_key(char *out, const struct request *request)
{
    struct bytes key = request->key;
    out = put_letter(out, 'k');
    if (!(request->meta_flags & META_FLAG('b')))
        return text_put(out, key.data, key.len);
    out += base64_encode(out, key.data, key.len);
    return put_letter(out, 'b');
}

/* Answers one flag of the request. `touched`: a T came before it. */
static char *put_answer(char *out, const struct request *request, const struct reply *reply,
                        struct bytes flag, bool touched)
{
    const struct reply_meta *meta = reply->meta;
    switch (flag.data[0]) {
    case 'c': return put_flag(out, 'c', reply->cas);
    case 'f': return put_flag(out, 'f', reply->client_flags);
    case 'h': return put_flag(out, 'h', meta->fetched);
    case 'k': return put_key(out, request);
    case 'l': return put_flag(out, 'l', meta->idle_s);
    case 's': return put_flag(out, 's', meta->size);
    case 't': return put_ttl(out, touched ? meta->new_ttl_s : meta->ttl_s);
    default: *out++ = ' '; return text_put(out, flag.data, flag.len); /* O */
    }
}

/* The flags that are answered. */
static uint64_t answered_flags(const struct request *request, enum reply_status status)
{
    const uint64_t echo = META_FLAG('k') | META_FLAG('O');
    bool found = status == REPLY_VALUE || status == REPLY_OK;
    if (request->op == OP_META_SET)
        return echo | META_FLAG('c') | META_FLAG('s');
    if (found && request->op == OP_META_ARITHMETIC)
        return echo | META_FLAG('c') | META_FLAG('t');
    if (found && request->op == OP_META_GET)
        return echo | META_FLAG('c') | META_FLAG('f') | META_FLAG('h') | META_FLAG('l') |
               META_FLAG('s') | META_FLAG('t');
    return echo;
}

static char *put_answers(char *out, const struct request *request, const struct reply *reply)
{
    const uint64_t answered = answered_flags(request, reply->status) & request->meta_flags;
    bool touched = false;
    if (!answered) /* mn does not even have args */
        return out;
    const char *at = request->args.data;
    const char *end = at + request->args.len;
    for (struct bytes flag; (flag = token_next(&at, end)).len > 0;) {
        touched |= flag.data[0] == 'T';
        if (answered & META_FLAG(flag.data[0]))
            out = put_answer(out, request, reply, flag, touched);
    }
    return out;
}

/* The client that is to renew a stale item sees `X W`, the others `Z X`. */
static char *put_states(char *out, const struct reply_meta *meta)
{
    if (meta == NULL)
        return out;
    if (meta->win_sent)
        out = put_letter(out, 'Z');
    if (meta->stale)
        out = put_letter(out, 'X');
    if (meta->won)
        out = put_letter(out, 'W');
    return out;
}

static char *put_named(char *out, const char *name, uint64_t number)
{
    return text_put_number(text_put(out, name, strlen(name)), number);
}

/* The line of me; a key that would break the line is written in base64. */
static char *put_debug(char *out, const struct request *request, const struct reply *reply)
{
    const struct reply_meta *meta = reply->meta;
    struct bytes key = request->key;
    *out++ = ' ';
    if (!(request->meta_flags & META_FLAG('b')) || token_is_plain(key))
        out = text_put(out, key.data, key.len);
    else
        out += base64_encode(out, key.data, key.len);
    out = text_put(out, " exp=-1", meta->ttl_s < 0 ? 7 : 5);
    if (meta->ttl_s >= 0)
        out = text_put_number(out, (uint64_t)meta->ttl_s);
    out = put_named(out, " la=", meta->idle_s);
    out = put_named(out, " cas=", reply->cas);
    out = text_put(out, meta->fetched ? " fetch=yes" : " fetch=no", meta->fetched ? 10 : 9);
    return put_named(out, " cls=1 size=", meta->size);
}

/* The two letters, or NULL when the answer is the status's usual line. */
static const char *code_of(const struct request *request, enum reply_status status)
{
    switch (status) {
    case REPLY_VALUE: return "VA";
    case REPLY_OK:
        return request->op == OP_META_NOOP ? "MN" : request->op == OP_META_DEBUG ? "ME" : "HD";
    case REPLY_MISS: return "EN";
    case REPLY_NOT_FOUND: return "NF";
    case REPLY_NOT_STORED: return "NS";
    case REPLY_EXISTS: return "EX";
    default: return NULL;
    }
}

bool meta_reply_head(const struct request *request, const struct reply *reply, char *out,
                     size_t *len)
{
    const char *code = code_of(request, reply->status);
    if (code == NULL)
        return false;
    char *at = text_put(out, code, 2);
    if (reply->status == REPLY_VALUE) {
        *at++ = ' ';
        at = text_put_number(at, reply->value_len);
    }
    if (request->op == OP_META_DEBUG && reply->status == REPLY_OK)
        at = put_debug(at, request, reply);
    else
        at = put_states(put_answers(at, request, reply), reply->meta);
    *len = (size_t)(text_put(at, "\r\n", 2) - out);
    return true;
}
