/* base64.h: keys of any bytes on a line of text (the b flag of the meta commands). */
#ifndef CACHECASK_PROTOCOL_BASE64_H
#define CACHECASK_PROTOCOL_BASE64_H

#include "protocol/request.h"

/* The digits of `len` bytes, padding included. */
#define BASE64_LEN(len) (((len) + 2) / 3 * 4)

/* Writes the digits of `len` bytes to out, which has room for BASE64_LEN(len). Returns how many. */
size_t base64_encode(char *out, const char *data, size_t len);

/* Decodes a word into out, which has room for `room` bytes; like memcached it skips what is not a
 * digit. Returns the bytes, or 0: there are no digits, too many, or not in groups of four. */
size_t base64_decode(char *out, size_t room, struct bytes word);

#endif
