/* text_reply.c: answers in the text protocol.
 *
 * An answer is a head, a value, a tail:
 *
 *     hit         VALUE <key> <flags> <length> [<cas>]\r\n   value   \r\n (last key: \r\nEND\r\n)
 *     miss        nothing (last key: END\r\n)               -       -
 *     any other   its line                                  -       -
 *
 * An error of any key takes the place of END: nothing of that get follows it.
 */
#include <string.h>

#include "protocol/text_output.h"

struct line {
    const char *text;
    size_t len;
};

#define LINE(text)                                                                                 \
    {                                                                                              \
        text "\r\n", sizeof(text) + 1                                                              \
    }

/* The answers that never vary; all others are empty here. */
static const struct line lines[REPLY_STATUS_COUNT] = {
    [REPLY_STORED] = LINE("STORED"),
    [REPLY_NOT_STORED] = LINE("NOT_STORED"),
    [REPLY_EXISTS] = LINE("EXISTS"),
    [REPLY_NOT_FOUND] = LINE("NOT_FOUND"),
    [REPLY_DELETED] = LINE("DELETED"),
    [REPLY_TOUCHED] = LINE("TOUCHED"),
    [REPLY_OK] = LINE("OK"),
    [REPLY_ERROR] = LINE("ERROR"),
    [REPLY_BAD_FORMAT] = LINE("CLIENT_ERROR bad command line format"),
    [REPLY_BAD_DELETE] =
        LINE("CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"),
    [REPLY_BAD_CHUNK] = LINE("CLIENT_ERROR bad data chunk"),
    [REPLY_BAD_DELTA] = LINE("CLIENT_ERROR invalid numeric delta argument"),
    [REPLY_BAD_EXPTIME] = LINE("CLIENT_ERROR invalid exptime argument"),
    [REPLY_NON_NUMERIC] = LINE("CLIENT_ERROR cannot increment or decrement non-numeric value"),
    [REPLY_FLUSH_DISABLED] = LINE("CLIENT_ERROR flush_all not allowed"),
    [REPLY_MEMLIMIT_TOO_SMALL] = LINE("MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m"),
    [REPLY_SHUTDOWN_DISABLED] = LINE("SERVER_ERROR: shutdown not enabled"),
    [REPLY_TOO_LARGE] = LINE("SERVER_ERROR object too large for cache"),
    [REPLY_NO_MEMORY] = LINE("SERVER_ERROR out of memory storing object"),
    [REPLY_READ_ONLY] = LINE("SERVER_ERROR the disk refuses writes"),
    [REPLY_UNREADABLE] = LINE("SERVER_ERROR cannot read the value from disk"),
    [REPLY_READ_NO_MEMORY] = LINE("SERVER_ERROR out of memory reading the value"),
    [REPLY_CONTENDED] = LINE("SERVER_ERROR the item keeps changing, try again"),
    [REPLY_LINE_TOO_LONG] = LINE("CLIENT_ERROR line too long"),
    [REPLY_UNAUTHENTICATED] = LINE("CLIENT_ERROR unauthenticated"),
    [REPLY_WRONG_PASSWORD] = LINE("CLIENT_ERROR authentication failure"),
    [REPLY_BAD_PASSWORD_FORM] = LINE("CLIENT_ERROR bad authentication token format"),
    [REPLY_BAD_TOKEN] = LINE("CLIENT_ERROR bad token in command line format"),
    [REPLY_BAD_KEY] = LINE("CLIENT_ERROR error decoding key"),
    [REPLY_INVALID_FLAG] = LINE("CLIENT_ERROR invalid flag"),
    [REPLY_DUPLICATE_FLAG] = LINE("CLIENT_ERROR duplicate flag"),
    [REPLY_BAD_FLAG] = LINE("CLIENT_ERROR invalid or duplicate flag"),
    [REPLY_TOO_MANY_FLAGS] = LINE("CLIENT_ERROR options flags are too long"),
    [REPLY_OPAQUE_TOO_LONG] = LINE("CLIENT_ERROR opaque token too long"),
    [REPLY_BAD_SET_MODE] = LINE("CLIENT_ERROR invalid mode for ms M token"),
    [REPLY_BAD_ARITHMETIC_MODE] = LINE("CLIENT_ERROR invalid mode for ma M token"),
};

static size_t write_value_head(const struct request *request, const struct reply *reply, char *out)
{
    char *at = text_put(out, "VALUE ", 6);
    at = text_put(at, request->key.data, request->key.len);
    *at++ = ' ';
    at = text_put_number(at, reply->client_flags);
    *at++ = ' ';
    at = text_put_number(at, reply->value_len);
    if (request->flags & REQUEST_CAS) {
        *at++ = ' ';
        at = text_put_number(at, reply->cas);
    }
    return (size_t)(text_put(at, "\r\n", 2) - out);
}

static size_t write_miss(const struct request *request, char *out)
{
    if (request->flags & REQUEST_MORE)
        return 0;
    memcpy(out, "END\r\n", 5);
    return 5;
}

static size_t write_number(const struct reply *reply, char *out)
{
    char *at = text_put_number(out, reply->number);
    return (size_t)(text_put(at, "\r\n", 2) - out);
}

static size_t write_version(const struct reply *reply, char *out)
{
    const size_t room = TEXT_REPLY_MAX - sizeof("VERSION \r\n");
    char *at = text_put(out, "VERSION ", 8);
    at = text_put(at, reply->text, reply->text_len < room ? reply->text_len : room);
    return (size_t)(text_put(at, "\r\n", 2) - out);
}

size_t text_reply_head(const struct request *request, const struct reply *reply, char *out)
{
    if (request->flags & (REQUEST_NOREPLY | REQUEST_META)) {
        size_t len = 0;
        if (request->flags & REQUEST_NOREPLY || meta_reply_head(request, reply, out, &len))
            return len;
    }
    switch (reply->status) {
    case REPLY_VALUE: return write_value_head(request, reply, out);
    case REPLY_MISS: return write_miss(request, out);
    case REPLY_NUMBER: return write_number(reply, out);
    case REPLY_VERSION: return write_version(reply, out);
    default: break;
    }
    const struct line *line = &lines[reply->status];
    if (line->len > 0)
        memcpy(out, line->text, line->len);
    return line->len;
}

size_t text_reply_tail(const struct request *request, const struct reply *reply, char *out)
{
    if (reply->status != REPLY_VALUE)
        return 0;
    size_t len = (request->flags & (REQUEST_MORE | REQUEST_META)) ? 2 : 7;
    memcpy(out, "\r\nEND\r\n", len);
    return len;
}
