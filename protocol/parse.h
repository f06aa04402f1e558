/* parse.h: what a parser answers, whatever protocol it reads. */
#ifndef CACHECASK_PROTOCOL_PARSE_H
#define CACHECASK_PROTOCOL_PARSE_H

enum parse_status {
    PARSE_REQUEST, /* *request is set, *consumed bytes are done with */
    PARSE_PARTIAL, /* more bytes are needed; *consumed may be above 0: swallowed */
    PARSE_CLOSE,   /* the stream ends here: answer request->error (if not REPLY_NONE), close */
    PARSE_PAUSE,   /* *request is set, and what is behind it can be parsed when that has been run */
};

#endif
