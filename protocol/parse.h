/* parse.h: the results of a parser, the same for all protocols. */
#ifndef CACHECASK_PROTOCOL_PARSE_H
#define CACHECASK_PROTOCOL_PARSE_H

#include <stddef.h>
#include <stdint.h>

enum parse_status {
    PARSE_REQUEST, /* *request is set, *consumed bytes are used up */
    PARSE_PARTIAL, /* more bytes are needed; *consumed may be above 0: dropped */
    PARSE_CLOSE,   /* the stream ends here: answer request->error unless REPLY_NONE, and close */
    PARSE_PAUSE,   /* *request is set; the bytes after it can be parsed once it has been run */
};

/* Drops as much of a refused body or block as has arrived. Returns the number of bytes. */
static inline size_t parse_drop(uint64_t *swallow, size_t len)
{
    size_t dropped = *swallow < len ? (size_t)*swallow : len;
    *swallow -= dropped;
    return dropped;
}

#endif
