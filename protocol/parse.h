/* parse.h: the results of a parser, the same for all protocols. */
#ifndef CACHECASK_PROTOCOL_PARSE_H
#define CACHECASK_PROTOCOL_PARSE_H

enum parse_status {
    PARSE_REQUEST, /* *request is set, *consumed bytes are used up */
    PARSE_PARTIAL, /* more bytes are needed; *consumed may be above 0: dropped */
    PARSE_CLOSE,   /* the stream ends here: answer request->error unless REPLY_NONE, and close */
    PARSE_PAUSE,   /* *request is set; the bytes after it can be parsed once it has been run */
};

#endif
