/* test_record.c: the bytes of a record and what is no record (R1, R2). */
#include "tests/unit/storage/support/basics.h"
#include "tests/unit/storage/support/random.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/log/record.h"

#define SEED   UINT64_C(0x5eed5eed12345678)
#define OFFSET UINT64_C(4096)

/* Seals a record with such a key and value in new memory of exactly its size. */
static char *seal(struct record record, const char *key, const void *value, uint64_t seed,
                  uint64_t offset)
{
    size_t size = record_size(record.key_len, record.value_len);
    char *data = malloc(size);
    memset(data, 0xff, size);
    memcpy(data + RECORD_HEADER_SIZE, key, record.key_len);
    if (record.value_len)
        memcpy(data + RECORD_HEADER_SIZE + record.key_len, value, record.value_len);
    record_seal(data, &record, seed, offset);
    return data;
}

static const struct record a_put = {
    .type = RECORD_PUT,
    .cas = UINT64_C(0xfedcba9876543210),
    .expire_s = 0xabcdef01,
    .client_flags = 0x12345678,
    .state = RECORD_STATE_STALE | RECORD_STATE_CAS_CHOSEN,
    .key_len = 5,
    .value_len = 14,
};

static char *seal_a_put(void)
{
    return seal(a_put, "a key", "with its value", SEED, OFFSET);
}

static void test_what_was_sealed_is_decoded(void **state)
{
    (void)state;
    struct record out;
    char *data = seal_a_put();
    size_t size = record_size(5, 14);
    assert_int_equal(record_decode(data, size, SEED, OFFSET, &out), RECORD_OK);
    assert_int_equal(out.type, RECORD_PUT);
    assert_true(out.cas == a_put.cas);
    assert_int_equal(out.expire_s, a_put.expire_s);
    assert_int_equal(out.client_flags, a_put.client_flags);
    assert_int_equal(out.state, a_put.state);
    assert_int_equal(out.key_len, 5);
    assert_int_equal(out.value_len, 14);
    assert_memory_equal(out.key, "a key", 5);
    assert_memory_equal(out.value, "with its value", 14);
    assert_ptr_equal(out.key, data + RECORD_HEADER_SIZE);
    free(data);
}

static void test_every_length_of_key_and_value_goes_round(void **state)
{
    (void)state;
    static char bytes[400];
    fill_pattern(bytes, sizeof bytes, 1);
    for (uint32_t key_len = 1; key_len <= 255; key_len += key_len < 10 ? 1 : 49)
        for (uint32_t value_len = 0; value_len < 150; value_len++) {
            struct record out;
            struct record in = {
                .type = RECORD_PUT, .key_len = (uint8_t)key_len, .value_len = value_len};
            char *data = seal(in, bytes, bytes + 200, SEED, OFFSET);
            assert_int_equal(
                record_decode(data, record_size(key_len, value_len), SEED, OFFSET, &out),
                RECORD_OK);
            assert_memory_equal(out.key, bytes, key_len);
            assert_memory_equal(out.value, bytes + 200, value_len);
            free(data);
        }
}

static void test_each_type_goes_round(void **state)
{
    (void)state;
    for (int type = RECORD_PUT; type <= RECORD_FLUSH; type++) {
        struct record out;
        struct record in = {
            .type = (uint8_t)type, .key_len = type == RECORD_FLUSH ? 0 : 3, .expire_s = 9};
        char *data = seal(in, "key", "", SEED, OFFSET);
        assert_int_equal(record_decode(data, record_size(in.key_len, 0), SEED, OFFSET, &out),
                         RECORD_OK);
        assert_int_equal(out.type, type);
        assert_int_equal(out.expire_s, 9);
        free(data);
    }
}

static void test_sizes_are_multiples_of_eight(void **state)
{
    (void)state;
    assert_int_equal(record_size(0, 0), 32);
    assert_int_equal(record_size(1, 0), 40);
    assert_int_equal(record_size(4, 4), 40);
    assert_int_equal(record_size(4, 5), 48);
    assert_true(record_size(255, UINT32_MAX) == (UINT64_C(32) + 255 + UINT32_MAX + 7) / 8 * 8);
}

static void test_padding_is_zeros(void **state)
{
    (void)state;
    char *data = seal_a_put();
    for (size_t i = RECORD_HEADER_SIZE + 5 + 14; i < record_size(5, 14); i++)
        assert_int_equal(data[i], 0);
    free(data);
}

static void test_each_flipped_bit_is_caught(void **state)
{
    (void)state;
    struct record out;
    char *data = seal_a_put();
    size_t size = record_size(5, 14);
    for (size_t bit = 0; bit < (RECORD_HEADER_SIZE + 5 + 14) * 8; bit++) {
        data[bit / 8] ^= (char)(1 << bit % 8);
        enum record_status status = record_decode(data, size, SEED, OFFSET, &out);
        assert_int_equal(status,
                         bit / 8 < RECORD_HEADER_SIZE ? RECORD_BAD_HEADER : RECORD_BAD_BODY);
        data[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_int_equal(record_decode(data, size, SEED, OFFSET, &out), RECORD_OK);
    free(data);
}

static void test_a_damaged_body_leaves_the_lengths_to_be_believed(void **state)
{
    (void)state;
    struct record out = {0};
    char *data = seal_a_put();
    data[RECORD_HEADER_SIZE] ^= 1;
    assert_int_equal(record_decode(data, record_size(5, 14), SEED, OFFSET, &out), RECORD_BAD_BODY);
    assert_int_equal(out.key_len, 5);
    assert_int_equal(out.value_len, 14);
    free(data);
}

static void test_the_same_bytes_are_no_record_elsewhere(void **state)
{
    (void)state;
    struct record out;
    char *data = seal_a_put();
    for (uint64_t offset = 0; offset < 1 << 20; offset += RECORD_ALIGN)
        if (offset != OFFSET)
            assert_int_equal(record_decode(data, record_size(5, 14), SEED, offset, &out),
                             RECORD_BAD_HEADER);
    free(data);
}

static void test_the_same_bytes_are_no_record_under_another_seed(void **state)
{
    (void)state;
    struct record out;
    char *data = seal_a_put();
    for (int bit = 0; bit < 64; bit++)
        assert_int_equal(
            record_decode(data, record_size(5, 14), SEED ^ UINT64_C(1) << bit, OFFSET, &out),
            RECORD_BAD_HEADER);
    free(data);
}

static void test_a_cut_record_is_told_from_a_damaged_one(void **state)
{
    (void)state;
    char *whole = seal_a_put();
    size_t body_end = RECORD_HEADER_SIZE + 5 + 14;
    for (size_t len = 0; len <= body_end; len++) {
        struct record out = {0};
        char *data = malloc(len ? len : 1); /* so that a sanitizer sees each byte too far */
        memcpy(data, whole, len);
        enum record_status status = record_decode(data, len, SEED, OFFSET, &out);
        assert_int_equal(status, len < RECORD_HEADER_SIZE ? RECORD_BAD_HEADER
                                 : len < body_end         ? RECORD_CUT
                                                          : RECORD_OK);
        if (status == RECORD_CUT)
            assert_int_equal(record_size(out.key_len, out.value_len), record_size(5, 14));
        free(data);
    }
    free(whole);
}

static void test_zeros_and_noise_are_no_records(void **state)
{
    (void)state;
    struct record out;
    struct rng rng = {42};
    static char data[64];
    assert_int_equal(record_decode(data, sizeof data, SEED, OFFSET, &out), RECORD_BAD_HEADER);
    for (int i = 0; i < 100000; i++) {
        fill_pattern(data, sizeof data, rng_next(&rng));
        assert_int_equal(record_decode(data, sizeof data, SEED, OFFSET, &out), RECORD_BAD_HEADER);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_sealed_is_decoded),
        cmocka_unit_test(test_every_length_of_key_and_value_goes_round),
        cmocka_unit_test(test_each_type_goes_round),
        cmocka_unit_test(test_sizes_are_multiples_of_eight),
        cmocka_unit_test(test_padding_is_zeros),
        cmocka_unit_test(test_each_flipped_bit_is_caught),
        cmocka_unit_test(test_a_damaged_body_leaves_the_lengths_to_be_believed),
        cmocka_unit_test(test_the_same_bytes_are_no_record_elsewhere),
        cmocka_unit_test(test_the_same_bytes_are_no_record_under_another_seed),
        cmocka_unit_test(test_a_cut_record_is_told_from_a_damaged_one),
        cmocka_unit_test(test_zeros_and_noise_are_no_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
