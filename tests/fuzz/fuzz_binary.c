/* fuzz_binary.c: the binary protocol, and the choice between the two by a client's first byte.
 * See stream.h. */
#include "tests/fuzz/stream.h"

/* Of the last byte. */
#define LOCKED     1
#define WELCOME    2
#define SMALL      4
#define EITHER     8 /* it may speak text as well */
#define CUTS_SHIFT 4

#define LONGEST    (16 << 10)

/* Part of an answer of several, with a name that long. */
static void check_part(const char *data, size_t len)
{
    const struct request request = {.op = OP_STATS, .protocol = PROTOCOL_BINARY};
    size_t key_len = len < KEY_LEN_MAX ? len : KEY_LEN_MAX;
    char *out = malloc(BINARY_REPLY_MAX);
    FUZZ_CHECK(out != NULL);
    size_t part_len = binary_reply_part(&request, (struct bytes){data, key_len}, UINT16_MAX, out);
    FUZZ_CHECK(part_len == BINARY_HEADER_LEN + key_len);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    uint8_t choice = fuzz_take_choice(bytes, &len);
    const char *data = (const char *)bytes;
    bool locked = choice & LOCKED;
    bool either = choice & EITHER && !locked; /* only one of them can be locked */
    const struct way way = {
        .protocol = either ? PROTOCOL_AUTO : PROTOCOL_BINARY,
        .item_size_max = choice & SMALL ? 1 << 10 : 1 << 20,
        .locked = locked,
        .welcome = choice & WELCOME,
        .cuts = 1 + (choice >> CUTS_SHIFT),
    };
    if (len > LONGEST)
        return 0;
    bool text = either && len > 0 && bytes[0] != BINARY_MAGIC;
    feed_both(way, data, len, !(text && has_long_line(data, len)));
    check_part(data, len);
    return 0;
}
