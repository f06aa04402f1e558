/* fuzz_record.c: any bytes as a record of the log (storage/log/record.c).
 *
 * - record_decode reads nothing outside of them, and takes what docs/format.md says is a record,
 *   and nothing else.
 * - What it takes lies within them, and is the same bytes when it is written again, in one piece or
 *   in parts.
 * - At another place it is no record (R1), and one byte shorter neither.
 * - A body that comes in pieces is judged as one that is whole.
 */
#include "tests/fuzz/sealed.h"

/* Of the last byte. */
#define SEAL_HEADER 1 /* put its checksum right */
#define SEAL_BODY   2
#define CUTS_SHIFT  2

struct place {
    uint64_t seed, offset;
};

static void check_fields(const struct record *record, const char *data, size_t len)
{
    size_t body = record->key_len + (size_t)record->value_len;
    FUZZ_CHECK(RECORD_HEADER_SIZE + body <= len);
    FUZZ_CHECK(record->key == data + RECORD_HEADER_SIZE);
    FUZZ_CHECK(record->value == record->key + record->key_len);
    FUZZ_CHECK(record->type >= RECORD_PUT && record->type <= RECORD_FLUSH);
    FUZZ_CHECK((record->key_len == 0) == (record->type == RECORD_FLUSH));
    bool hashed = record->type != RECORD_PUT && record->type != RECORD_FLUSH &&
                  record->state & RECORD_STATE_HASHED;
    FUZZ_CHECK(record->value_len == 0 || record->type == RECORD_PUT || hashed);
    FUZZ_CHECK(!hashed || record->key_len == RECORD_HASH_LEN);
}

/* Writes it again, with the value right after the key or in two parts. */
static void check_written(const struct record *record, struct place place, const char *data,
                          uint32_t *dice)
{
    size_t size = record_size(record->key_len, record->value_len);
    size_t body = record->key_len + (size_t)record->value_len;
    size_t split = record->value_len ? fuzz_roll(dice) % record->value_len : 0;
    const struct record_part parts[RECORD_PARTS] = {
        {record->value, split}, {record->value + split, record->value_len - split}};
    char *whole = malloc(size);
    char *head = malloc(RECORD_HEADER_SIZE + (size_t)record->key_len);
    FUZZ_CHECK(whole && head);
    memset(whole, 0xaa, size);
    memcpy(whole + RECORD_HEADER_SIZE, data + RECORD_HEADER_SIZE, body);
    memcpy(head + RECORD_HEADER_SIZE, record->key, record->key_len);
    record_seal(whole, record, place.seed, place.offset);
    record_seal_parts(head, record, place.seed, place.offset, parts);
    FUZZ_CHECK(memcmp(whole, data, RECORD_HEADER_SIZE + body) == 0);
    FUZZ_CHECK(memcmp(head, data, RECORD_HEADER_SIZE + (size_t)record->key_len) == 0);
    for (size_t i = RECORD_HEADER_SIZE + body; i < size; i++)
        FUZZ_CHECK(whole[i] == 0);
    free(whole);
    free(head);
}

/* Both checksums of 32 bits would have to match by chance. */
static void check_elsewhere(const char *data, size_t len, struct place place)
{
    struct record record;
    FUZZ_CHECK(record_decode(data, len, place.seed, place.offset + RECORD_ALIGN, &record) !=
               RECORD_OK);
    FUZZ_CHECK(record_decode(data, len, ~place.seed, place.offset, &record) != RECORD_OK);
}

static void check_shorter(const char *data, size_t len, struct place place)
{
    struct record record;
    struct block block = block_of(data, len - 1);
    enum record_status status =
        record_decode(block.data, len - 1, place.seed, place.offset, &record);
    FUZZ_CHECK(status == (len > RECORD_HEADER_SIZE ? RECORD_CUT : RECORD_BAD_HEADER));
    block_free(block);
}

struct pieces {
    const char *data;
    size_t len;
    uint32_t cuts, dice;
    struct block block; /* of the last piece */
};

static size_t read_piece(void *context, uint64_t at, uint64_t len, const char **data)
{
    struct pieces *pieces = context;
    FUZZ_CHECK(at >= RECORD_HEADER_SIZE);
    if (at >= pieces->len)
        return 0;
    size_t left = len < pieces->len - at ? (size_t)len : pieces->len - (size_t)at;
    size_t piece = fuzz_piece(pieces->cuts, &pieces->dice, left);
    block_free(pieces->block);
    pieces->block = block_of(pieces->data + at, piece);
    *data = pieces->block.data;
    return piece;
}

static void check_pieces(const char *data, size_t len, struct place place, uint32_t cuts,
                         enum record_status whole)
{
    struct pieces pieces = {.data = data, .len = len, .cuts = cuts, .dice = cuts};
    enum record_status status =
        record_check_body(data, place.seed, place.offset, read_piece, &pieces);
    FUZZ_CHECK(status == whole);
    block_free(pieces.block);
}

/* The answer that must come where the checksums are right. */
static void check_sealed(const char *data, size_t len, uint8_t choice, enum record_status status)
{
    if (len < RECORD_HEADER_SIZE || !(choice & SEAL_HEADER))
        return;
    FUZZ_CHECK((status == RECORD_BAD_HEADER) == !sealed_is_sane(data));
    if (status != RECORD_BAD_HEADER && status != RECORD_CUT && choice & SEAL_BODY)
        FUZZ_CHECK(status == RECORD_OK);
}

static void run(char *data, size_t len, struct place place, uint8_t choice)
{
    struct record record;
    uint32_t dice = choice;
    if (len >= RECORD_HEADER_SIZE && choice & SEAL_BODY)
        seal_body(data, len, place.seed, place.offset);
    if (len >= RECORD_HEADER_SIZE && choice & SEAL_HEADER)
        seal_header(data, place.seed, place.offset);
    enum record_status status = record_decode(data, len, place.seed, place.offset, &record);
    FUZZ_CHECK(status == RECORD_BAD_HEADER || len >= RECORD_HEADER_SIZE);
    check_sealed(data, len, choice, status);
    if (status == RECORD_BAD_HEADER)
        return;
    size_t body = record.key_len + (size_t)record.value_len;
    FUZZ_CHECK(record.key_len == (uint8_t)data[28] && record.value_len == sealed_value_len(data));
    FUZZ_CHECK((status == RECORD_CUT) == (len - RECORD_HEADER_SIZE < body));
    check_pieces(data, len, place, choice >> CUTS_SHIFT, status);
    if (status != RECORD_OK)
        return;
    check_fields(&record, data, len);
    check_written(&record, place, data, &dice);
    check_elsewhere(data, len, place);
    check_shorter(data, RECORD_HEADER_SIZE + body, place);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    uint8_t choice = fuzz_take_choice(bytes, &len);
    struct place place = {.seed = UINT64_C(0x0123456789abcdef) * (choice + UINT64_C(1)),
                          .offset = 256 + RECORD_ALIGN * (uint64_t)(choice * 4099)};
    struct block block = block_of(bytes, len);
    run(block.data, len, place, choice);
    block_free(block);
    return 0;
}
