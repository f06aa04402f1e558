/* test_hint.c: a hint file says what a scan says, or is not believed (H1, H2). */
#define XXH_INLINE_ALL
#include "tests/unit/storage/support/basics.h"
#include "tests/unit/storage/support/random.h"
#include "tests/unit/storage/support/temp_dir.h"
#include "tests/unit/storage/support/messages.h"
#include "tests/unit/storage/support/faulty.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <xxhash.h>

#include "storage/base/hash.h"
#include "storage/log/hint.h"
#include "tests/unit/storage/support/segment_file.h"

#define HASH_SEED UINT64_C(0x1122334455667788)
#define NAME      "0000000000000005.hint"
#define KEYS      12345
#define ALL_MAX   20000
#define CHECK_AT  104 /* of the header's checksum */

static struct temp_dir dir;
static struct segment_file file;
static struct segment *segment;
static struct messages messages;

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(&dir);
    messages_init(&messages);
    segment_file_begin(&file, 5);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    segment_free(&file_system_os, segment);
    segment = NULL;
    temp_dir_remove(&dir);
    return 0;
}

/* One record of each type, and a CAS unique that a client chose. */
static void add_some(void)
{
    static char value[5000];
    segment_file_add(&file, (struct record){.type = RECORD_PUT, .cas = 20, .expire_s = 99}, "one",
                     "value", 5);
    segment_file_add(
        &file,
        (struct record){.type = RECORD_PUT, .cas = 1 << 30, .state = RECORD_STATE_CAS_CHOSEN},
        "two", value, sizeof value);
    segment_file_add(&file, (struct record){.type = RECORD_TOUCH, .expire_s = 77}, "one", "", 0);
    segment_file_add(&file, (struct record){.type = RECORD_DELETE, .cas = 30}, "two", "", 0);
    segment_file_add(&file, (struct record){.type = RECORD_FLUSH, .expire_s = 5}, "", "", 0);
}

static void open_segment(void)
{
    segment_free(&file_system_os, segment);
    segment = segment_file_open(&file, &dir, file.end + 4096);
}

static enum store_status make(struct hint *hint)
{
    return hint_make(&file_system_os, dir.fd, segment, HASH_SEED, KEYS, &messages.reporter, hint);
}

static enum store_status try_read(void)
{
    struct hint hint;
    struct hint_entry *entries;
    enum store_status status = hint_read(&file_system_os, dir.fd, segment, &hint, &entries);
    if (status == STORE_OK)
        free(entries);
    return status;
}

static enum store_status try_peek(void)
{
    struct hint hint;
    return hint_read(&file_system_os, dir.fd, segment, &hint, NULL);
}

/* The entries that a scan finds. */
struct found {
    uint64_t count;
    uint64_t stop_at; /* 0: never */
    struct hint_entry entries[ALL_MAX];
};

static struct found found;

static bool note(void *context, const struct hint_entry *entry)
{
    (void)context;
    if (found.count == ALL_MAX)
        give_up("too many entries");
    found.entries[found.count++] = *entry;
    return found.count != found.stop_at;
}

static enum store_status scan(bool tail_may_be_torn, struct hint *hint)
{
    found.count = 0;
    const struct hint_source source = {.files = &file_system_os,
                                       .segment = segment,
                                       .hash_seed = HASH_SEED,
                                       .how = tail_may_be_torn ? HINT_TORN_TAIL : 0,
                                       .reporter = &messages.reporter};
    return hint_scan(&source, note, NULL, hint);
}

static void expect_hint_equals_scan(void)
{
    struct hint made, scanned, read, peeked;
    struct hint_entry *entries;
    open_segment();
    assert_int_equal(make(&made), STORE_OK);
    assert_int_equal(scan(false, &scanned), STORE_OK);
    assert_int_equal(hint_read(&file_system_os, dir.fd, segment, &read, &entries), STORE_OK);
    assert_int_equal(hint_read(&file_system_os, dir.fd, segment, &peeked, NULL), STORE_OK);
    assert_memory_equal(&read, &made, sizeof read);
    assert_memory_equal(&read, &peeked, sizeof read);
    assert_true(read.keys == KEYS);
    scanned.keys = KEYS;
    assert_memory_equal(&read, &scanned, sizeof read);
    assert_true(read.count == found.count);
    assert_memory_equal(entries, found.entries, found.count * sizeof *entries);
    free(entries);
}

static void test_a_hint_tells_of_each_record(void **state)
{
    (void)state;
    const uint8_t types[] = {RECORD_PUT, RECORD_PUT, RECORD_TOUCH, RECORD_DELETE, RECORD_FLUSH};
    const uint32_t sizes[] = {40, 5040, 40, 40, 32};
    const char *keys[] = {"one", "two", "one", "two", NULL};
    const uint32_t expiries[] = {99, 0, 77, hint_born(30), 5};
    struct hint hint;
    struct hint_entry *entries;
    uint32_t offset = SEGMENT_HEADER_SIZE;
    add_some();
    open_segment();
    assert_int_equal(make(&hint), STORE_OK);
    assert_int_equal(hint_read(&file_system_os, dir.fd, segment, &hint, &entries), STORE_OK);
    assert_int_equal(hint.count, 5);
    assert_int_equal(hint.touches, 1);
    assert_true(hint.cas_max == 20); /* not what the client chose, nor when a deletion was born */
    assert_true(hint.end == file.end);
    assert_int_equal(hint.damage, 0);
    for (int i = 0; i < 5; i++) {
        struct key_hash hash = {0};
        if (keys[i])
            hash = hash_key(keys[i], 3, HASH_SEED);
        assert_int_equal(entries[i].type, types[i]);
        assert_int_equal(entries[i].offset * 8, offset);
        assert_int_equal(entries[i].size * 8, sizes[i]);
        assert_int_equal(entries[i].expire_s, expiries[i]);
        assert_true(entries[i].tag == hash.tag);
        assert_int_equal(entries[i].shard_bits, (uint16_t)hash.shard_bits);
        offset += sizes[i];
    }
    free(entries);
    assert_false(file_exists(&dir, "0000000000000005.hint-tmp"));
}

static void test_hint_and_scan_say_the_same(void **state)
{
    (void)state;
    struct rng rng = {number_from_env("SEED", 1)};
    expect_hint_equals_scan();
    add_some();
    expect_hint_equals_scan();
    for (int i = 0; i < 15000; i++) { /* more than are written at a time */
        char key[32];
        snprintf(key, sizeof key, "key %d", i);
        segment_file_add(&file,
                         (struct record){.type = rng_one_in(&rng, 5) ? RECORD_TOUCH : RECORD_DELETE,
                                         .cas = rng_below(&rng, 1000),
                                         .expire_s = rng_below(&rng, 1000)},
                         key, "", 0);
    }
    expect_hint_equals_scan();
}

static void test_hint_and_scan_say_the_same_of_a_damaged_segment(void **state)
{
    (void)state;
    struct rng rng = {number_from_env("SEED", 1)};
    add_some();
    add_some();
    for (int i = 0; i < 30; i++) {
        file.data[SEGMENT_HEADER_SIZE + rng_below(&rng, file.end - SEGMENT_HEADER_SIZE)] ^= 1;
        expect_hint_equals_scan();
    }
    assert_true(messages_have(&messages, "segment 0000000000000005: no valid record at bytes"));
}

static void test_an_absent_hint_is_told_from_a_bad_one(void **state)
{
    (void)state;
    open_segment();
    assert_int_equal(try_read(), STORE_NOT_FOUND);
    assert_int_equal(try_peek(), STORE_NOT_FOUND);
}

static char *make_and_load(size_t *len)
{
    struct hint hint;
    add_some();
    open_segment();
    assert_int_equal(make(&hint), STORE_OK);
    return file_load(&dir, NAME, len);
}

static void test_each_flipped_bit_is_caught(void **state)
{
    (void)state;
    size_t len;
    char *data = make_and_load(&len);
    assert_int_equal(len, 112 + 5 * 24);
    for (size_t bit = 0; bit < len * 8; bit++) {
        data[bit / 8] ^= (char)(1 << bit % 8);
        file_save(&dir, NAME, data, len);
        assert_int_equal(try_read(), STORE_CORRUPT);
        assert_int_equal(try_peek(), bit < 112 * 8 ? STORE_CORRUPT : STORE_OK);
        data[bit / 8] ^= (char)(1 << bit % 8);
    }
    free(data);
}

static void test_a_hint_of_another_length_is_caught(void **state)
{
    (void)state;
    size_t len;
    char *made = make_and_load(&len);
    char *data = realloc(made, len + 100);
    assert_non_null(data);
    memset(data + len, 0, 100);
    for (size_t cut = 0; cut < len + 100; cut++) {
        file_save(&dir, NAME, data, cut);
        assert_int_equal(try_read(), cut == len ? STORE_OK : STORE_CORRUPT);
        assert_int_equal(try_peek(), cut == len ? STORE_OK : STORE_CORRUPT);
    }
    free(data);
}

/* A header that is whole, but says something else. */
static void expect_refused(const char *made, size_t len, size_t at, uint64_t value, size_t size)
{
    char *data = malloc(len);
    memcpy(data, made, len);
    memcpy(data + at, &value, size);
    uint64_t check = XXH3_64bits(data, CHECK_AT);
    memcpy(data + CHECK_AT, &check, sizeof check);
    file_save(&dir, NAME, data, len);
    assert_int_equal(try_peek(), STORE_CORRUPT);
    assert_int_equal(try_read(), STORE_CORRUPT);
    free(data);
}

static void test_another_version_and_impossible_numbers_are_refused(void **state)
{
    (void)state;
    size_t len;
    char *data = make_and_load(&len);
    expect_refused(data, len, 8, 2, 4);                  /* version */
    expect_refused(data, len, 12, 32, 4);                /* size of an entry */
    expect_refused(data, len, 48, UINT64_C(1) << 40, 8); /* the end lies after the file's */
    expect_refused(data, len, 56, 4, 8);                 /* count */
    expect_refused(data, len, 56, 6, 8);
    expect_refused(data, len, 56, (UINT64_C(1) << 61) + 5, 8); /* 24 times this is as 24 times 5 */
    expect_refused(data, len, 56, UINT64_MAX, 8);
    free(data);
}

static void test_a_hint_of_another_segment_or_store_is_refused(void **state)
{
    (void)state;
    size_t len;
    char *data = make_and_load(&len);
    const struct segment_header own = segment->header;
    segment->header.base_lsn++;
    assert_int_equal(try_read(), STORE_CORRUPT);
    segment->header = own;
    segment->header.uuid[15] ^= 1;
    assert_int_equal(try_read(), STORE_CORRUPT);
    segment->header = own;
    segment->header.seed++; /* recreated under the same id: only the entries' checksum knows */
    assert_int_equal(try_read(), STORE_CORRUPT);
    segment->header = own;
    segment->header.id = 6;
    file_save(&dir, "0000000000000006.hint", data, len);
    assert_int_equal(try_read(), STORE_CORRUPT);
    segment->header = own;
    assert_int_equal(try_read(), STORE_OK);
    free(data);
}

static void test_a_hint_for_a_segment_that_was_cut_is_refused(void **state)
{
    (void)state;
    size_t len;
    free(make_and_load(&len));
    atomic_store(&segment->capacity, file.end);
    assert_int_equal(try_read(), STORE_OK);
    atomic_store(&segment->capacity, file.end - 8);
    assert_int_equal(try_read(), STORE_CORRUPT);
}

static void test_a_hint_that_cannot_be_written_leaves_nothing_behind(void **state)
{
    (void)state;
    static struct faulty faulty;
    struct hint hint;
    const enum file_call calls[] = {CALL_OPEN, CALL_PREAD, CALL_PWRITE, CALL_CLOSE, CALL_RENAME};
    add_some();
    open_segment();
    uint64_t before = temp_dir_digest(&dir);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        for (uint64_t nth = 1;; nth++) {
            faulty_init(&faulty);
            faulty_fail(&faulty, calls[i], nth, 1, EIO);
            enum store_status status = hint_make(&faulty.files, dir.fd, segment, HASH_SEED, KEYS,
                                                 &messages.reporter, &hint);
            if (faulty_calls(&faulty, calls[i]) < nth) {
                assert_int_equal(status, STORE_OK);
                assert_int_equal(unlinkat(dir.fd, NAME, 0), 0);
                break;
            }
            assert_int_equal(status, STORE_IO);
            assert_true(temp_dir_digest(&dir) == before);
        }
}

static void test_a_hint_that_cannot_be_read_is_no_damage(void **state)
{
    (void)state;
    static struct faulty faulty;
    struct hint hint;
    struct hint_entry *entries;
    const enum file_call calls[] = {CALL_OPEN, CALL_SIZE, CALL_PREAD, CALL_PREAD};
    const uint64_t nth[] = {1, 1, 1, 2};
    size_t len;
    free(make_and_load(&len));
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        faulty_init(&faulty);
        faulty_fail(&faulty, calls[i], nth[i], 1, EIO);
        assert_int_equal(hint_read(&faulty.files, dir.fd, segment, &hint, &entries), STORE_IO);
        assert_int_equal(errno, EIO);
    }
}

static void test_a_torn_tail_is_damage_only_where_none_may_be(void **state)
{
    (void)state;
    struct hint hint;
    add_some();
    uint32_t torn = segment_file_put(&file, "torn", "value");
    file.data[torn + 35] ^= 1;
    open_segment();
    assert_int_equal(scan(true, &hint), STORE_OK);
    assert_int_equal(hint.damage, 0);
    assert_true(hint.end == torn);
    assert_int_equal(messages.warnings, 0);
    assert_int_equal(scan(false, &hint), STORE_OK);
    assert_int_equal(hint.damage, 1);
    assert_true(hint.end == torn);
    assert_int_equal(messages.warnings, 1);
}

static void test_a_scan_ends_when_its_visitor_says_so(void **state)
{
    (void)state;
    struct hint hint;
    add_some();
    open_segment();
    found.stop_at = 2;
    assert_int_equal(scan(false, &hint), STORE_NO_MEMORY);
    assert_int_equal(found.count, 2);
    found.stop_at = 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_hint_tells_of_each_record),
        TEST(hint_and_scan_say_the_same),
        TEST(hint_and_scan_say_the_same_of_a_damaged_segment),
        TEST(an_absent_hint_is_told_from_a_bad_one),
        TEST(each_flipped_bit_is_caught),
        TEST(a_hint_of_another_length_is_caught),
        TEST(another_version_and_impossible_numbers_are_refused),
        TEST(a_hint_of_another_segment_or_store_is_refused),
        TEST(a_hint_for_a_segment_that_was_cut_is_refused),
        TEST(a_hint_that_cannot_be_written_leaves_nothing_behind),
        TEST(a_hint_that_cannot_be_read_is_no_damage),
        TEST(a_torn_tail_is_damage_only_where_none_may_be),
        TEST(a_scan_ends_when_its_visitor_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
