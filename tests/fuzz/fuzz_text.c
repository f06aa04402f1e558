/* fuzz_text.c: the text protocol, classic and meta commands: they are lines of one parser. See
 * stream.h. */
#include "tests/fuzz/stream.h"

/* Of the last byte. */
#define LOCKED     1
#define WELCOME    2
#define SMALL      4
#define CUTS_SHIFT 3 /* the rest says how the stream is cut */

#define LONGEST                                                                                    \
    (16 << 10) /* what a server reads at a time: cut into single bytes, more would take too long */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    uint8_t choice = fuzz_take_choice(bytes, &len);
    const char *data = (const char *)bytes;
    const struct way way = {
        .protocol = PROTOCOL_TEXT,
        .item_size_max = choice & SMALL ? 1 << 10 : 1 << 20,
        .locked = choice & LOCKED,
        .welcome = choice & WELCOME,
        .cuts = 1 + (choice >> CUTS_SHIFT),
    };
    if (len <= LONGEST)
        feed_both(way, data, len, !has_long_line(data, len));
    return 0;
}
