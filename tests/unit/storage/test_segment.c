/* test_segment.c: a segment's header stands twice (S2), and the cursor finds every record around
 * damage (S3 to S5). */
#define XXH_INLINE_ALL
#include "tests/unit/storage/support/basics.h"
#include "tests/unit/storage/support/random.h"
#include "tests/unit/storage/support/temp_dir.h"
#include "tests/unit/storage/support/faulty.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <xxhash.h>

#include "tests/unit/storage/support/segment_file.h"

static struct temp_dir dir;
static struct segment_file file;
static struct segment *segment;

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(&dir);
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

/* Header. */

static enum store_status try_open(void)
{
    segment_free(&file_system_os, segment);
    segment = NULL;
    file_save(&dir, "0000000000000005.seg", file.data, 4096);
    return segment_open(&file_system_os, dir.fd, 5, &segment);
}

static void expect_header(void)
{
    const struct segment_header *header = &segment->header;
    assert_memory_equal(header->uuid, file.header.uuid, 16);
    assert_true(header->id == file.header.id);
    assert_true(header->base_lsn == file.header.base_lsn);
    assert_true(header->epoch == file.header.epoch);
    assert_true(header->created_s == file.header.created_s);
    assert_true(header->seed == file.header.seed);
    assert_true(header->flush_lsn == file.header.flush_lsn);
    assert_true(header->flush_deadline_s == file.header.flush_deadline_s);
    assert_true(header->next_cas == file.header.next_cas);
}

static void test_a_header_goes_round(void **state)
{
    (void)state;
    assert_int_equal(try_open(), STORE_OK);
    expect_header();
    assert_int_equal(atomic_load(&segment->state), SEGMENT_SEALED);
    assert_int_equal(atomic_load(&segment->capacity), 4096);
}

static void test_one_copy_of_the_header_is_enough(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < SEGMENT_HEADER_SIZE * 8; bit += SLOW_BUILD ? 7 : 1) {
        file.data[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(try_open(), STORE_OK);
        expect_header();
        file.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t copy = 0; copy < 2; copy++) {
        segment_file_begin(&file, 5);
        memset(file.data + copy * 128, 0, 128);
        assert_int_equal(try_open(), STORE_OK);
        expect_header();
    }
}

static void test_two_damaged_copies_are_no_header(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < 128 * 8; bit += SLOW_BUILD ? 7 : 1) {
        size_t other = 128 * 8 + (bit * 31 + 5) % (128 * 8);
        file.data[bit / 8] ^= (char)(1 << bit % 8);
        file.data[other / 8] ^= (char)(1 << other % 8);
        assert_int_equal(try_open(), STORE_CORRUPT);
        file.data[bit / 8] ^= (char)(1 << bit % 8);
        file.data[other / 8] ^= (char)(1 << other % 8);
    }
}

static void test_a_blank_empty_or_cut_file_is_no_segment(void **state)
{
    (void)state;
    for (size_t len = 0; len < 128; len += 9) {
        file_save(&dir, "0000000000000005.seg", file.data, len);
        assert_int_equal(segment_open(&file_system_os, dir.fd, 5, &segment), STORE_CORRUPT);
        assert_null(segment);
    }
    memset(file.data, 0, SEGMENT_HEADER_SIZE);
    assert_int_equal(try_open(), STORE_CORRUPT);
}

static void test_a_segment_under_the_name_of_another_is_refused(void **state)
{
    (void)state;
    segment_file_begin(&file, 6);
    assert_int_equal(try_open(), STORE_CORRUPT);
}

static void test_another_version_is_told_from_damage(void **state)
{
    (void)state;
    for (int copy = 0; copy < 2; copy++) {
        file.data[copy * 128 + 8] = 2;
        uint64_t check = XXH3_64bits(file.data + copy * 128, 120);
        memcpy(file.data + copy * 128 + 120, &check, 8);
    }
    assert_int_equal(try_open(), STORE_BAD_VERSION);
    file.data[100] ^= 1;
    assert_int_equal(try_open(), STORE_BAD_VERSION);
}

static void test_an_absent_file_is_an_error_of_the_system(void **state)
{
    (void)state;
    assert_int_equal(segment_open(&file_system_os, dir.fd, 9, &segment), STORE_IO);
    assert_int_equal(errno, ENOENT);
}

/* Names and files. */

static void test_names_go_round_and_nothing_else_is_one(void **state)
{
    (void)state;
    char name[SEGMENT_NAME_SIZE];
    struct rng rng = {1};
    for (int i = 0; i < 1000; i++) {
        uint64_t id = rng_next(&rng) >> rng_below(&rng, 64);
        segment_name(name, id, "seg");
        assert_int_equal(strlen(name), 20);
        assert_true(segment_id_of(name, "seg") == id);
        assert_true(segment_id_of(name, "hint") == 0);
    }
    const char *others[] = {"",
                            "store",
                            "lock",
                            ".seg",
                            "1.seg",
                            "000000000000000A.seg",
                            "0000000000000001",
                            "0000000000000001.",
                            "0000000000000001.se",
                            "0000000000000001.segs",
                            "0000000000000001_seg",
                            "00000000000000001.seg",
                            " 000000000000001.seg",
                            "0x00000000000001.seg"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_true(segment_id_of(others[i], "seg") == 0);
}

static void test_a_new_file_is_allocated_and_blank(void **state)
{
    (void)state;
    size_t len;
    assert_int_equal(segment_create(&file_system_os, dir.fd, 5, 65536, &segment), STORE_OK);
    char *data = file_load(&dir, "0000000000000005.seg", &len);
    assert_int_equal(len, 65536);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(data[i], 0);
    free(data);
    assert_int_equal(atomic_load(&segment->state), SEGMENT_ACTIVE);
    assert_true(segment->header.id == 5);
}

static void test_a_file_that_is_there_is_not_made_anew(void **state)
{
    (void)state;
    file_save(&dir, "0000000000000005.seg", "precious", 8);
    uint64_t before = temp_dir_digest(&dir);
    assert_int_equal(segment_create(&file_system_os, dir.fd, 5, 65536, &segment), STORE_IO);
    assert_int_equal(errno, EEXIST);
    assert_true(temp_dir_digest(&dir) == before);
}

static void test_a_file_that_cannot_be_made_leaves_nothing_behind(void **state)
{
    (void)state;
    static struct faulty faulty;
    const enum file_call calls[] = {CALL_OPEN, CALL_ALLOCATE, CALL_SYNC, CALL_SYNC_DIR};
    for (size_t i = 0; i < 4; i++)
        for (int full = 0; full < 2; full++) {
            faulty_init(&faulty);
            faulty_fail(&faulty, calls[i], 1, 1, full ? ENOSPC : EIO);
            assert_int_equal(segment_create(&faulty.files, dir.fd, 5, 65536, &segment),
                             full ? STORE_FULL : STORE_IO);
            assert_int_equal(errno, full ? ENOSPC : EIO);
            assert_null(segment);
            assert_false(file_exists(&dir, "0000000000000005.seg"));
            faulty_heal(&faulty);
        }
}

/* Cursor: what it says of the file, as text: "R" and "D" with places, "E" with the end of the
 * log, "F". */

static char *walk(const struct file_system *files, uint64_t end)
{
    static char said[4096];
    struct segment_cursor cursor;
    struct record record;
    enum cursor_status status;
    size_t len = 0;
    assert_true(segment_cursor_init(&cursor, files, segment, end));
    do {
        uint32_t offset;
        status = segment_cursor_next(&cursor, &record, &offset);
        char letter = status == CURSOR_RECORD   ? 'R'
                      : status == CURSOR_DAMAGE ? 'D'
                      : status == CURSOR_END    ? 'E'
                                                : 'F';
        len += (size_t)snprintf(said + len, sizeof said - len, "%s%c%u", len ? " " : "", letter,
                                status == CURSOR_END ? (uint32_t)cursor.offset : offset);
        if (status == CURSOR_DAMAGE)
            len += (size_t)snprintf(said + len, sizeof said - len, "-%u", (uint32_t)cursor.offset);
    } while (status == CURSOR_RECORD || status == CURSOR_DAMAGE);
    segment_cursor_release(&cursor);
    return said;
}

static char *walk_file(size_t size, uint64_t end)
{
    segment_free(&file_system_os, segment);
    segment = segment_file_open(&file, &dir, size);
    return walk(&file_system_os, end);
}

/* Records of 40 bytes, at 256, 296, 336, 376, 416. */
static void put_five(void)
{
    const char *keys[] = {"a", "b", "c", "d", "e"};
    for (int i = 0; i < 5; i++)
        segment_file_put(&file, keys[i], "value");
}

static void test_the_cursor_finds_all_records(void **state)
{
    (void)state;
    assert_string_equal(walk_file(256, 0), "E256");
    put_five();
    assert_string_equal(walk_file(456, 0), "R256 R296 R336 R376 R416 E456");
}

static void test_zeros_at_the_end_are_no_damage(void **state)
{
    (void)state;
    put_five();
    assert_string_equal(walk_file(65536, 0), "R256 R296 R336 R376 R416 E456");
    for (size_t size = 457; size < 500; size++)
        assert_string_equal(walk_file(size, 0), "R256 R296 R336 R376 R416 E456");
}

static void test_the_cursor_stops_where_it_was_told(void **state)
{
    (void)state;
    put_five();
    assert_string_equal(walk_file(65536, 336), "R256 R296 E336");
}

static void test_a_damaged_body_costs_one_record(void **state)
{
    (void)state;
    put_five();
    for (size_t bit = 0; bit < 6 * 8; bit++) {
        file.data[336 + RECORD_HEADER_SIZE + bit / 8] ^= (char)(1 << bit % 8);
        assert_string_equal(walk_file(65536, 0), "R256 R296 D336-376 R376 R416 E456");
        file.data[336 + RECORD_HEADER_SIZE + bit / 8] ^= (char)(1 << bit % 8);
    }
}

static void test_a_damaged_header_costs_one_record(void **state)
{
    (void)state;
    put_five();
    for (size_t bit = 0; bit < RECORD_HEADER_SIZE * 8; bit++) {
        file.data[336 + bit / 8] ^= (char)(1 << bit % 8);
        assert_string_equal(walk_file(65536, 0), "R256 R296 D336-376 R376 R416 E456");
        file.data[336 + bit / 8] ^= (char)(1 << bit % 8);
    }
}

static void test_a_hole_of_zeros_between_records_is_damage(void **state)
{
    (void)state;
    put_five();
    memset(file.data + 296, 0, 80);
    assert_string_equal(walk_file(65536, 0), "R256 D296-376 R376 R416 E456");
}

/* As it lies on disk when a large segment was allocated ahead. */
static void test_a_long_hole_takes_no_reading(void **state)
{
    (void)state;
    static struct faulty faulty;
    static char last[4096];
    const uint32_t behind = 48u << 20, capacity = 64u << 20;
    put_five();
    segment = segment_file_open(&file, &dir, file.end);
    assert_int_equal(ftruncate(segment->fd, capacity), 0);
    faulty_init(&faulty);
    assert_string_equal(walk(&faulty.files, 0), "R256 R296 R336 R376 R416 E456");
    assert_in_range(faulty.calls[CALL_PREAD], 1, 8);
    struct record record = {.type = RECORD_PUT, .cas = 1};
    uint32_t size = segment_file_seal(&file, last, behind, record, "last", "x", 1);
    assert_int_equal(pwrite(segment->fd, last, size, behind), size);
    char wanted[80];
    snprintf(wanted, sizeof wanted, "R256 R296 R336 R376 R416 D456-%u R%u E%u", behind, behind,
             behind + size);
    assert_string_equal(walk(&faulty.files, 0), wanted);
    faulty_fail(&faulty, CALL_DATA_END, 1, FOREVER, EIO);
    assert_string_equal(walk(&faulty.files, 0), wanted);
}

static void test_damage_at_both_ends_is_stepped_over(void **state)
{
    (void)state;
    put_five();
    memset(file.data + 256, 0x55, 40);
    assert_string_equal(walk_file(456, 0), "D256-296 R296 R336 R376 R416 E456");
    memset(file.data + 416, 0x55, 40);
    assert_string_equal(walk_file(456, 0), "D256-296 R296 R336 R376 D416-456 E456");
    assert_string_equal(walk_file(4096, 0), "D256-296 R296 R336 R376 D416-4096 E4096");
}

static void test_a_record_that_ends_behind_the_end_is_none(void **state)
{
    (void)state;
    put_five();
    for (size_t size = 416 + RECORD_HEADER_SIZE; size < 456; size++) {
        char wanted[40];
        snprintf(wanted, sizeof wanted, "R376 D416-%zu E%zu", size, size);
        assert_string_equal(strstr(walk_file(size, 0), "R376"), wanted);
    }
    assert_string_equal(strstr(walk_file(448, 0), "R376"), "R376 D416-448 E448");
    assert_string_equal(strstr(walk_file(65536, 448), "R376"), "R376 D416-448 E448");
    assert_string_equal(strstr(walk_file(440, 0), "R376"), "R376 E416");
}

static void test_a_value_cannot_pose_as_a_record(void **state)
{
    (void)state;
    static char value[400];
    struct record fake = {.type = RECORD_PUT};
    /* Whole records, sealed with the right seed, but for other places: what a client may have
     * copied from the file. */
    for (uint32_t i = 0; i < 10; i++)
        segment_file_seal(&file, value + i * 40, 256 + i * 40, fake, "k", "value", 5);
    uint32_t offset =
        segment_file_add(&file, (struct record){.type = RECORD_PUT}, "1234567h", value, 400);
    segment_file_put(&file, "next", "x");
    file.data[offset + 20] ^= 1;
    assert_string_equal(walk_file(65536, 0), "D256-696 R696 E736");
}

static void test_large_records_are_read_whole(void **state)
{
    (void)state;
    static char value[3000000];
    fill_pattern(value, sizeof value, 9);
    const struct record put = {.type = RECORD_PUT};
    segment_file_put(&file, "small", "x");
    uint32_t large = segment_file_add(&file, put, "large", value, sizeof value);
    uint32_t small = segment_file_put(&file, "small", "x");
    uint32_t larger = segment_file_add(&file, put, "larger", value, sizeof value - 3);
    char wanted[200];
    snprintf(wanted, sizeof wanted, "R256 R%u R%u R%u E%u", large, small, larger, file.end);
    assert_string_equal(walk_file(file.end, 0), wanted);
    assert_string_equal(walk_file(file.end + 100000, 0), wanted);
    /* Damaged in the body, and then in the header. */
    snprintf(wanted, sizeof wanted, "R256 D%u-%u R%u R%u E%u", large, small, small, larger,
             file.end);
    file.data[large + 2000000] ^= 4;
    assert_string_equal(walk_file(file.end, 0), wanted);
    file.data[large + 24] ^= 4;
    assert_string_equal(walk_file(file.end, 0), wanted);
}

static void test_what_the_cursor_finds_is_the_record(void **state)
{
    (void)state;
    static char value[100000];
    struct segment_cursor cursor;
    struct record record;
    uint32_t offset;
    for (uint32_t i = 0; i < 60; i++) {
        fill_pattern(value, sizeof value, i);
        segment_file_add(&file, (struct record){.type = RECORD_PUT, .cas = i}, "key", value,
                         i * 1500);
    }
    segment = segment_file_open(&file, &dir, file.end);
    assert_true(segment_cursor_init(&cursor, &file_system_os, segment, 0));
    for (uint32_t i = 0; i < 60; i++) {
        fill_pattern(value, sizeof value, i);
        assert_int_equal(segment_cursor_next(&cursor, &record, &offset), CURSOR_RECORD);
        assert_true(record.cas == i);
        assert_int_equal(record.value_len, i * 1500);
        assert_memory_equal(record.value, value, i * 1500);
    }
    assert_int_equal(segment_cursor_next(&cursor, &record, &offset), CURSOR_END);
    assert_int_equal(segment_cursor_next(&cursor, &record, &offset), CURSOR_END);
    segment_cursor_release(&cursor);
}

static void test_short_reads_change_nothing(void **state)
{
    (void)state;
    static struct faulty faulty;
    put_five();
    segment = segment_file_open(&file, &dir, 65536);
    faulty_init(&faulty);
    faulty.short_io = true;
    assert_string_equal(walk(&faulty.files, 0), "R256 R296 R336 R376 R416 E456");
}

static void test_a_failed_read_is_no_damage(void **state)
{
    (void)state;
    static struct faulty faulty;
    put_five();
    segment = segment_file_open(&file, &dir, 65536);
    faulty_init(&faulty);
    faulty_fail(&faulty, CALL_PREAD, 1, FOREVER, EIO);
    assert_string_equal(walk(&faulty.files, 0), "F256");
    assert_int_equal(errno, EIO);
    struct segment_cursor cursor;
    faulty_heal(&faulty);
    faulty_fail(&faulty, CALL_SIZE, 1, 1, EIO);
    assert_false(segment_cursor_init(&cursor, &faulty.files, segment, 0));
}

static void test_a_file_shorter_than_its_log_ends_early(void **state)
{
    (void)state;
    put_five();
    assert_string_equal(walk_file(376, 456), "R256 R296 R336 E376");
    assert_string_equal(walk_file(376, 1 << 20), "R256 R296 R336 E376");
}

static void test_noise_is_survived(void **state)
{
    (void)state;
    struct rng rng = {number_from_env("SEED", 1)};
    for (int round = 0; round < (SLOW_BUILD ? 50 : 300); round++) {
        segment_file_begin(&file, 5);
        put_five();
        put_five();
        uint32_t last = segment_file_put(&file, "last", "x");
        for (uint32_t i = rng_below(&rng, 20); i > 0; i--)
            file.data[256 + rng_below(&rng, last - 256)] = (char)rng_next(&rng);
        char *said = walk_file(file.end, 0);
        char wanted[40];
        snprintf(wanted, sizeof wanted, "R%u E%u", last, file.end);
        assert_true(strlen(said) >= strlen(wanted));
        assert_string_equal(said + strlen(said) - strlen(wanted), wanted);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_header_goes_round),
        TEST(one_copy_of_the_header_is_enough),
        TEST(two_damaged_copies_are_no_header),
        TEST(a_blank_empty_or_cut_file_is_no_segment),
        TEST(a_segment_under_the_name_of_another_is_refused),
        TEST(another_version_is_told_from_damage),
        TEST(an_absent_file_is_an_error_of_the_system),
        TEST(names_go_round_and_nothing_else_is_one),
        TEST(a_new_file_is_allocated_and_blank),
        TEST(a_file_that_is_there_is_not_made_anew),
        TEST(a_file_that_cannot_be_made_leaves_nothing_behind),
        TEST(the_cursor_finds_all_records),
        TEST(zeros_at_the_end_are_no_damage),
        TEST(the_cursor_stops_where_it_was_told),
        TEST(a_damaged_body_costs_one_record),
        TEST(a_damaged_header_costs_one_record),
        TEST(a_hole_of_zeros_between_records_is_damage),
        TEST(a_long_hole_takes_no_reading),
        TEST(damage_at_both_ends_is_stepped_over),
        TEST(a_record_that_ends_behind_the_end_is_none),
        TEST(a_value_cannot_pose_as_a_record),
        TEST(large_records_are_read_whole),
        TEST(what_the_cursor_finds_is_the_record),
        TEST(short_reads_change_nothing),
        TEST(a_failed_read_is_no_damage),
        TEST(a_file_shorter_than_its_log_ends_early),
        TEST(noise_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
