/* text_output.h: what the writers of text answers share. Private to protocol/. */
#ifndef CACHECASK_PROTOCOL_TEXT_OUTPUT_H
#define CACHECASK_PROTOCOL_TEXT_OUTPUT_H

#include "protocol/text.h"

/* Writes the digits of a number; returns the end. */
char *text_put_number(char *out, uint64_t number);

/* Whether the answer to a meta command has a form of its own (meta_reply.c), and not the line that its status has in all
 * commands. If so writes it, up to the value, and sets *len. */
bool meta_reply_head(const struct request *request, const struct reply *reply, char *out,
                     size_t *len);

#endif
