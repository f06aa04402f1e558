/* test_damage.c: damaged files cost what was damaged, and no more.
 *
 * A store of a few segments is written once. Each case restores its files, damages them, opens
 * the store on them, and compares every key with what the log says: it has its value; or, if a
 * record of it was damaged, it is missing, or as if that record had never been written. Nothing
 * else is there, a message names the segment, the store passes its own checks, and it can be
 * written, closed and opened again.
 *
 * The store is damaged as a stop leaves it, with hint files, and as it is read without them. SEED=…
 * runs the same random choices again; CACHECASK_LONG=1 tries every byte and every bit, an hour and
 * a half in all, best with TMPDIR in memory; TEST=… runs the tests whose names match, so that parts
 * can run side by side.
 */
#define XXH_INLINE_ALL
#include "tests/unit/storage/support/fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <xxhash.h>

#include "storage/log/hint.h"
#include "storage/log/segment.h"
#include "storage/store_internal.h"

#define KEYS       200
#define OPERATIONS 440
#define FILES_MAX  100
#define LARGE      (4u << 20)
#define CASES      (SLOW_BUILD ? 12 : 40) /* of each kind, in the short form */
#define REOPENED                                                                                   \
    16 /* in the long form, one case of so many is also written to and opened once more */

static struct fixture fixture;
static struct rng rng;

static bool is_long(void)
{
    return getenv("CACHECASK_LONG") != NULL;
}

/* One record, in the order of the log. */
struct entry {
    struct record record; /* views into the picture */
    int key;
    size_t file;
    uint64_t offset, size;
    bool damaged;
};

struct file {
    char name[NAME_LEN];
    char *data;
    size_t len;
    uint64_t id; /* of the segment; else 0 */
};

/* A store as it lies on disk. */
struct picture {
    struct file files[FILES_MAX];
    size_t file_count;
    struct entry *entries;
    size_t entry_count;
};

static struct picture *picture; /* that of the test */

/* Making pictures. */

/* -1: it is none that check_keys asks for. */
static int key_of(const struct record *record)
{
    char digits[4] = {0};
    if (record->key_len != 7)
        return -1;
    memcpy(digits, record->key + 4, 3);
    return atoi(digits);
}

static void name_key(char name[16], int key)
{
    snprintf(name, 16, "key %03d", key);
}

static void add_entries(struct picture *made, size_t index)
{
    struct file *file = &made->files[index];
    struct segment *segment;
    struct segment_cursor cursor;
    struct record record;
    uint32_t offset;
    enum cursor_status status;
    if (segment_open(&file_system_os, fixture.dir.fd, file->id, &segment) != STORE_OK) {
        file->id = 0; /* allocated ahead */
        return;
    }
    if (!segment_cursor_init(&cursor, &file_system_os, segment, 0))
        give_up("cannot read %s", file->name);
    while ((status = segment_cursor_next(&cursor, &record, &offset)) == CURSOR_RECORD) {
        struct entry *entry = &made->entries[made->entry_count++];
        *entry = (struct entry){
            .record = record, .key = key_of(&record), .file = index, .offset = offset};
        entry->size = record_size(record.key_len, record.value_len);
        entry->record.value = file->data + offset + RECORD_HEADER_SIZE + record.key_len;
    }
    assert_int_equal(status, CURSOR_END);
    segment_cursor_release(&cursor);
    segment_free(&file_system_os, segment);
}

#define ENTRIES_MAX 200000

static struct picture *take_picture(void)
{
    static char names[FILES_MAX][NAME_LEN];
    struct picture *made = calloc(1, sizeof *made);
    made->entries = calloc(ENTRIES_MAX, sizeof *made->entries);
    size_t count = files_with_suffix(&fixture.dir, "", names, FILES_MAX);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], "lock") == 0 || names[i][0] == '.')
            continue;
        struct file *file = &made->files[made->file_count++];
        memcpy(file->name, names[i], NAME_LEN);
        file->data = file_load(&fixture.dir, names[i], &file->len);
        file->id = segment_id_of(names[i], "seg");
    }
    for (size_t i = 0; i < made->file_count;
         i++) /* in the order of their ids, which is that of the log */
        if (made->files[i].id)
            add_entries(made, i);
    return made;
}

static void free_picture(struct picture *gone)
{
    for (size_t i = 0; i < gone->file_count; i++)
        free(gone->files[i].data);
    free(gone->entries);
    free(gone);
}

/* And what was allocated ahead. */
static void drop_hints(struct picture *from)
{
    size_t kept = 0;
    for (size_t i = 0; i < from->file_count; i++) {
        if (!from->files[i].id && strcmp(from->files[i].name, "store") != 0)
            free(from->files[i].data);
        else if (kept++ != i)
            from->files[kept - 1] = from->files[i];
    }
    from->file_count = kept;
    from->entry_count = 0; /* they name their files by number */
    for (size_t i = 0; i < from->file_count; i++)
        if (from->files[i].id)
            add_entries(from, i);
}

/* Values that are overwritten, deleted and touched. */
static void write_store(int operations, uint32_t value_max)
{
    char name[16], *value = malloc(value_max + 8);
    for (int i = 0; i < operations; i++) {
        name_key(name, (int)rng_below(&rng, KEYS));
        uint32_t len = rng_below(&rng, value_max);
        fill_pattern(value, len, (uint64_t)i + 1);
        bool there = fixture_cas(&fixture, name) != 0;
        if (there && rng_one_in(&rng, 6))
            fixture_delete(&fixture, name);
        else if (there && rng_one_in(&rng, 6))
            fixture_touch(&fixture, name, FIXTURE_NOW + 1000 + (uint32_t)i);
        else
            fixture_put_bytes(&fixture, name, value, len);
        if (i % 10 == 0)
            fixture_commit(&fixture);
    }
    fixture_commit(&fixture);
    free(value);
}

enum kind {
    STOPPED, /* with hint files, and files that end with the log */
    KILLED,  /* none, and zeros after the log */
    KINDS
};

static struct picture *make_picture(enum kind kind, int operations, uint32_t value_max)
{
    write_store(operations, value_max);
    if (kind == STOPPED)
        fixture_close(&fixture);
    else
        fixture_crash(&fixture);
    struct picture *made = take_picture();
    if (kind == KILLED)
        drop_hints(made);
    return made;
}

static int set_up(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture.manual_cleaner = true; /* what is on disk stays there */
    if (is_long())
        fixture.options.reader_threads = fixture.options.load_threads =
            1; /* a third of a case was their start */
    fixture_open(&fixture);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (picture)
        free_picture(picture);
    picture = NULL;
    fixture_release(&fixture);
    return 0;
}

/* A case: the damage, and the messages it may cause. */

#define DAMAGED_MAX 8
static uint64_t damaged_ids[DAMAGED_MAX];
static size_t damaged_count;

static void lay_out(void)
{
    static char names[FILES_MAX][NAME_LEN];
    fixture_close(&fixture);
    size_t count = files_with_suffix(&fixture.dir, "", names, FILES_MAX);
    for (size_t i = 0; i < count; i++)
        if (names[i][0] != '.')
            unlinkat(fixture.dir.fd, names[i], 0);
    for (size_t i = 0; i < picture->file_count; i++)
        file_save(&fixture.dir, picture->files[i].name, picture->files[i].data,
                  picture->files[i].len);
    for (size_t i = 0; i < picture->entry_count; i++)
        picture->entries[i].damaged = false;
    damaged_count = 0;
    messages_clear(&fixture.messages);
}

static struct file *file_named(const char *name)
{
    for (size_t i = 0; i < picture->file_count; i++)
        if (strcmp(picture->files[i].name, name) == 0)
            return &picture->files[i];
    give_up("no file %s in the picture", name);
}

static void note_id(uint64_t id)
{
    assert_true(damaged_count < DAMAGED_MAX);
    damaged_ids[damaged_count++] = id;
}

/* Bytes [from, to) of a file are not what they were. Nobody looks at the padding of a record, as
 * long as it is there. */
static void note_damage(const struct file *file, uint64_t from, uint64_t to, bool is_there)
{
    for (size_t i = 0; i < picture->entry_count; i++) {
        struct entry *entry = &picture->entries[i];
        uint64_t used = RECORD_HEADER_SIZE + entry->record.key_len + entry->record.value_len;
        if (&picture->files[entry->file] == file && entry->offset < to &&
            entry->offset + (is_there ? used : entry->size) > from)
            entry->damaged = true;
    }
    note_id(file->id);
}

static void note_all_damaged(const struct file *file)
{
    note_damage(file, 0, UINT64_MAX, false);
}

static void flip(const struct file *file, uint64_t bit)
{
    file_flip_bit(&fixture.dir, file->name, bit / 8, (int)(bit % 8));
    note_damage(file, bit / 8, bit / 8 + 1, true);
}

/* The last PUT of a key in the log, with *expire_s; NULL: there is none. */
static const struct entry *state_of(int key, bool with_damaged, uint32_t *expire_s)
{
    const struct entry *found = NULL;
    for (size_t i = 0; i < picture->entry_count; i++) {
        const struct entry *entry = &picture->entries[i];
        if (entry->key != key || (entry->damaged && !with_damaged))
            continue;
        if (entry->record.type == RECORD_PUT || entry->record.type == RECORD_DELETE)
            found = entry->record.type == RECORD_PUT ? entry : NULL;
        if (found)
            *expire_s = entry->record.expire_s;
    }
    return found;
}

static bool is_damaged(int key)
{
    for (size_t i = 0; i < picture->entry_count; i++)
        if (picture->entries[i].key == key && picture->entries[i].damaged)
            return true;
    return false;
}

static bool equals(const struct entry *wanted, uint32_t expire_s, enum store_status status,
                   const struct store_item *item)
{
    if (!wanted || status != STORE_OK)
        return !wanted && status != STORE_OK;
    return item->value_len == wanted->record.value_len && item->cas == wanted->record.cas &&
           item->expire_s == expire_s &&
           memcmp(item->value, wanted->record.value, item->value_len) == 0;
}

/* Looks one key up. Answers whether it is there, and sets *lost if it is not as the whole log
 * says. */
static bool check_key(int key, bool *lost)
{
    char name[16];
    struct store_fetch fetch = {0};
    struct store_item item = {0};
    uint32_t whole_expiry = 0, rest_expiry = 0;
    name_key(name, key);
    struct store_key made = fixture_key(&fixture, name);
    enum store_status status = fixture_get(&fixture, &made, &fetch, &item);
    const struct entry *whole = state_of(key, true, &whole_expiry);
    const struct entry *rest = state_of(key, false, &rest_expiry);
    bool right = equals(whole, whole_expiry, status, &item);
    bool allowed =
        is_damaged(key) && (status == STORE_NOT_FOUND || status == STORE_CORRUPT ||
                            status == STORE_IO || equals(rest, rest_expiry, status, &item));
    if (!right && !allowed)
        print_error("%s: status %d, %u bytes; messages:\n%s", name, status, item.value_len,
                    fixture.messages.text);
    assert_true(right || allowed);
    *lost = *lost || !right;
    store_fetch_release(&fetch);
    return status == STORE_OK || status == STORE_IO; /* which is there, and cannot be read */
}

/* All keys. Answers whether something was lost. */
static bool check_keys(uint32_t others)
{
    bool lost = false;
    uint32_t present = others;
    for (int key = 0; key < KEYS; key++)
        present += check_key(key, &lost);
    assert_int_equal(fixture_stats(&fixture).keydir_entries, present); /* nothing was invented */
    store_check(fixture.store);
    return lost;
}

static bool told_of_damage(void)
{
    char id[20];
    for (size_t i = 0; i < damaged_count; i++) {
        snprintf(id, sizeof id, "%016llx", (unsigned long long)damaged_ids[i]);
        if (messages_have(&fixture.messages, id))
            return true;
    }
    return false;
}

/* Opens what was damaged, and compares. True: something was lost. */
static bool check_case(bool may_be_silent)
{
    if (fixture_try_open(&fixture) != STORE_OK)
        give_up("the store does not open:\n%s", fixture.messages.text);
    bool lost = check_keys(0);
    if (lost && !may_be_silent && !told_of_damage())
        print_error("nothing told of segment %llx but:\n%s", (unsigned long long)damaged_ids[0],
                    fixture.messages.text);
    assert_true(!lost || may_be_silent || told_of_damage());
    if (is_long() && !rng_one_in(&rng, REOPENED))
        return lost;
    fixture_put(&fixture, "afterwards", "written");
    fixture_reopen(&fixture);
    fixture_expect(&fixture, "afterwards", "written");
    check_keys(1);
    return lost;
}

/* The cases of a kind: some of them, or all. */
static uint64_t case_count(uint64_t all, uint64_t some)
{
    return is_long() || all < some ? all : some;
}

static uint64_t case_number(uint64_t i, uint64_t all)
{
    return is_long() ? i : rng_next(&rng) % all;
}

static struct file *segment_number(size_t number)
{
    for (size_t i = 0; i < picture->file_count; i++)
        if (picture->files[i].id && number-- == 0)
            return &picture->files[i];
    return NULL;
}

static size_t segment_count(void)
{
    size_t count = 0;
    while (segment_number(count))
        count++;
    return count;
}

static struct file *last_segment(void)
{
    return segment_number(segment_count() - 1);
}

/* Where the log ends in a segment. */
static uint64_t end_of(const struct file *file)
{
    uint64_t end = SEGMENT_HEADER_SIZE;
    for (size_t i = 0; i < picture->entry_count; i++)
        if (&picture->files[picture->entries[i].file] == file)
            end = picture->entries[i].offset + picture->entries[i].size;
    return end;
}

/* Bits. */

/* The first bit of a record that a key still has: without it something is lost, where bits by
 * chance may all meet what was overwritten since. */
static uint64_t bit_that_costs(const struct file *file)
{
    uint32_t expire_s;
    for (size_t i = 0; i < picture->entry_count; i++) {
        const struct entry *entry = &picture->entries[i];
        if (&picture->files[entry->file] == file && state_of(entry->key, true, &expire_s) == entry)
            return entry->offset * 8;
    }
    give_up("no key has its value in %s", file->name);
}

static void flip_bits_of_a_segment(enum kind kind)
{
    picture = make_picture(kind, OPERATIONS, 800);
    assert_true(segment_count() >= 3);
    const struct file *file = segment_number(1);
    uint64_t all = file->len * 8, count = case_count(all, CASES);
    lay_out();
    flip(file, bit_that_costs(file));
    assert_true(check_case(false));
    for (uint64_t i = 0; i < count; i++) {
        lay_out();
        bool in_header = !is_long() && i % 4 == 0; /* which would hardly be met by chance */
        flip(file, in_header ? rng_below(&rng, SEGMENT_HEADER_SIZE * 8) : case_number(i, all));
        check_case(false);
    }
}

static void test_a_flipped_bit_costs_its_record(void **state)
{
    (void)state;
    flip_bits_of_a_segment(STOPPED);
}

static void test_a_flipped_bit_costs_its_record_without_a_hint(void **state)
{
    (void)state;
    flip_bits_of_a_segment(KILLED);
}

/* Some bits at a time: each costs its record and no other. */
static void test_flipped_bits_of_a_large_segment_cost_their_records(void **state)
{
    (void)state;
    fixture_close(&fixture);
    fixture.options.segment_size = LARGE;
    fixture.options.memory_limit = 4 << 20;
    fixture_open(&fixture);
    picture = make_picture(KILLED, 3000, 3000);
    const struct file *file = last_segment();
    uint64_t end = end_of(file), flips = is_long() ? 20000 : SLOW_BUILD ? 30 : 100;
    assert_true(end > LARGE / 2);
    for (uint64_t i = 0; i < flips; i += 5) {
        lay_out();
        for (int k = 0; k < 5; k++)
            flip(file, rng_below(&rng, (uint32_t)end * 8));
        check_case(false);
    }
}

static void test_a_flipped_bit_of_a_hint_file_costs_nothing(void **state)
{
    (void)state;
    picture = make_picture(STOPPED, OPERATIONS, 800);
    const struct file *file = file_named("0000000000000002.hint");
    uint64_t all = file->len * 8, count = case_count(all, CASES);
    for (uint64_t i = 0; i < count; i++) {
        bool in_header = !is_long() && i % 2 == 0;
        uint64_t bit = in_header ? rng_below(&rng, HINT_HEADER_SIZE * 8) : case_number(i, all);
        lay_out();
        file_flip_bit(&fixture.dir, file->name, bit / 8, (int)(bit % 8));
        assert_false(check_case(false));
        assert_true(
            messages_have(&fixture.messages, "hint file of segment 0000000000000002 is damaged"));
    }
}

/* Files that are cut, or end in zeros. */

static void cut(const struct file *file, uint64_t keep, bool zeros)
{
    char *data = malloc(file->len + 1);
    memcpy(data, file->data, file->len);
    memset(data + keep, 0, file->len - keep);
    file_save(&fixture.dir, file->name, data, zeros ? file->len : keep);
    free(data);
    while (zeros && keep < file->len && file->data[keep] == 0)
        keep++;
    note_damage(file, keep, UINT64_MAX, zeros);
}

static bool all_zeros(const char *data, uint64_t from, uint64_t to)
{
    while (from < to && data[from] == 0)
        from++;
    return from >= to;
}

/* Without a hint file nobody can know what followed a whole record, or that a file without a header
 * was used. The rest of a cut record is reported if it is more than the beginning of a header, and
 * more than zeros are missing. */
static bool may_be_unseen(enum kind kind, const struct file *file, uint64_t keep)
{
    bool whole = keep <= SEGMENT_HEADER_SIZE;
    for (size_t i = 0; i < picture->entry_count; i++) {
        const struct entry *entry = &picture->entries[i];
        if (&picture->files[entry->file] == file && keep >= entry->offset &&
            keep < entry->offset + entry->size)
            whole = whole || keep < entry->offset + RECORD_HEADER_SIZE ||
                    all_zeros(file->data, keep, entry->offset + entry->size);
    }
    return kind == KILLED && file == last_segment() && whole;
}

static void cut_a_segment(enum kind kind, bool last, bool zeros)
{
    picture = make_picture(kind, OPERATIONS, 800);
    const struct file *file = last ? last_segment() : segment_number(1);
    uint64_t all = end_of(file), count = case_count(all, CASES), lost = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t keep = i == 0 ? 0 : i == 1 ? SEGMENT_HEADER_SIZE / 2 : case_number(i, all);
        lay_out();
        cut(file, keep, zeros);
        lost += check_case(may_be_unseen(kind, file, keep));
    }
    assert_true(lost > 0);
    free_picture(picture);
    picture = NULL;
}

static void cut_segments(bool last, bool zeros)
{
    for (enum kind kind = 0; kind < KINDS; kind++) {
        cut_a_segment(kind, last, zeros);
        fixture_release(&fixture);
        set_up(NULL);
    }
}

static void test_a_last_segment_that_was_cut_keeps_what_is_left(void **state)
{
    (void)state;
    cut_segments(true, false);
}

static void test_a_last_segment_that_ends_in_zeros_keeps_what_is_left(void **state)
{
    (void)state;
    cut_segments(true, true);
}

static void test_a_segment_that_was_cut_keeps_what_is_left(void **state)
{
    (void)state;
    cut_segments(false, false);
}

static void test_a_segment_that_ends_in_zeros_keeps_what_is_left(void **state)
{
    (void)state;
    cut_segments(false, true);
}

static void test_a_hint_file_that_was_cut_costs_nothing(void **state)
{
    (void)state;
    picture = make_picture(STOPPED, OPERATIONS, 800);
    const struct file *file = file_named("0000000000000002.hint");
    uint64_t count = case_count(file->len, CASES / 4);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t keep = case_number(i, file->len);
        lay_out();
        if (i % 2) {
            char *data = calloc(1, file->len);
            memcpy(data, file->data, keep);
            file_save(&fixture.dir, file->name, data, file->len);
            free(data);
        } else {
            file_save(&fixture.dir, file->name, file->data, keep);
        }
        assert_false(check_case(false));
    }
}

/* The header is gone, but the rest is still there: a file that was used must not be taken for a new
 * one. */
static void test_a_segment_that_begins_with_zeros_is_told_and_stays(void **state)
{
    (void)state;
    char *zeros = calloc(1, 4096);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        picture = make_picture(kind, OPERATIONS, 800);
        for (size_t i = 0; i < segment_count(); i++) {
            const struct file *file = segment_number(i);
            assert_true(end_of(file) > 8192);
            lay_out();
            int fd = openat(fixture.dir.fd, file->name, O_WRONLY);
            assert_int_equal(pwrite(fd, zeros, 4096, 0), 4096);
            close(fd);
            note_all_damaged(file);
            assert_true(check_case(false));
            assert_true(file_exists(&fixture.dir, file->name));
        }
        free_picture(picture);
        picture = NULL;
        fixture_release(&fixture);
        set_up(NULL);
    }
    free(zeros);
}

/* Bad blocks of the disk (Y9). */

#define BLOCK  4096 /* the disk gives all of it or nothing */
#define SECTOR 512

static struct picture *make_same_picture(enum kind kind, int operations, uint32_t value_max)
{
    rng.state = number_from_env("SEED", 1);
    return make_picture(kind, operations, value_max);
}

static void expect_all_again(uint32_t others)
{
    for (size_t i = 0; i < picture->entry_count; i++)
        picture->entries[i].damaged = false;
    assert_false(check_keys(others));
}

/* The store starts twice, with what can be read. Nothing of the file is gone when the disk is
 * well again. True: something could not be read. */
static bool check_bad_place(enum kind kind, const struct file *file, uint64_t from, uint64_t to)
{
    bool whole = from == 0 && to >= SEGMENT_HEADER_SIZE;
    lay_out();
    faulty_bad_place(&fixture.faulty, file->name, (off_t)from, (off_t)to);
    note_damage(file, whole ? 0 : from, whole ? UINT64_MAX : to, false);
    bool lost = check_case(false);
    struct store_stats stats = fixture_stats(&fixture);
    assert_true(!lost || stats.corrupt_records + stats.read_errors > 0);
    assert_true(file_exists(&fixture.dir, file->name));
    faulty_bad_place(&fixture.faulty, NULL, 0, 0);
    if (kind == KILLED)
        fixture_crash(&fixture);
    fixture_reopen(&fixture);
    expect_all_again(fixture_cas(&fixture, "afterwards") != 0);
    return lost;
}

/* One block of so many is tried, in each segment. */
static void check_each_block(enum kind kind, bool new_boot, uint64_t size, uint64_t step)
{
    uint64_t lost = 0;
    picture = make_same_picture(kind, OPERATIONS, 800);
    assert_true(segment_count() >= 3);
    fixture.options.boot_id += new_boot;
    for (size_t i = 0; i < segment_count(); i++) {
        const struct file *file = segment_number(i);
        for (int copy = 0; copy < 2; copy++) /* S2 */
            assert_false(check_bad_place(kind, file, copy * 128ul, copy * 128ul + 128));
        for (uint64_t from = 0; from < file->len; from += step * size)
            lost += check_bad_place(kind, file, from, from + size);
    }
    assert_true(lost > 2 * segment_count()); /* not only the headers */
}

static void test_a_block_that_cannot_be_read_costs_what_is_in_it(void **state)
{
    (void)state;
    check_each_block(STOPPED, false, BLOCK, 1);
}

static void test_a_block_that_cannot_be_read_costs_what_is_in_it_without_a_hint(void **state)
{
    (void)state;
    check_each_block(KILLED, false, BLOCK, 1);
}

static void test_a_sector_that_cannot_be_read_costs_what_is_in_it(void **state)
{
    (void)state;
    check_each_block(KILLED, false, SECTOR, is_long() ? 1 : 5);
}

/* Where there is no hole a block that cannot be read makes none. */
static void test_a_block_that_cannot_be_read_is_no_hole(void **state)
{
    (void)state;
    check_each_block(KILLED, true, BLOCK, 1);
}

/* If the log ends in a bad block, nobody knows where exactly. The next segment must not say: if the
 * block can be read later and is empty, and the machine has rebooted, everything written since
 * would follow a hole. */
static void test_an_end_that_cannot_be_read_makes_no_hole_later(void **state)
{
    (void)state;
    picture = make_same_picture(KILLED, OPERATIONS, 800);
    const struct file *file = last_segment();
    uint64_t from = (end_of(file) / BLOCK + 1) * BLOCK;
    assert_true(from < file->len);
    lay_out();
    fixture.options.sync_interval_ms = 3600 * 1000; /* so no hint files, which would be believed */
    faulty_bad_place(&fixture.faulty, file->name, (off_t)from, INT32_MAX);
    fixture_open(&fixture);
    assert_true(messages_have(&fixture.messages, file->name));
    fixture_put(&fixture, "afterwards", "written");
    fixture_commit(&fixture);
    fixture_crash(&fixture);
    faulty_bad_place(&fixture.faulty, NULL, 0, 0);
    fixture.options.boot_id++;
    messages_clear(&fixture.messages);
    fixture_open(&fixture);
    assert_int_equal(fixture.messages.warnings, 0);
    fixture_expect(&fixture, "afterwards", "written");
    expect_all_again(1);
}

static void test_a_hint_file_that_cannot_be_read_costs_nothing(void **state)
{
    (void)state;
    picture = make_picture(STOPPED, OPERATIONS, 800);
    for (size_t i = 0; i < picture->file_count; i++) {
        const struct file *file = &picture->files[i];
        if (!segment_id_of(file->name, "hint"))
            continue;
        for (uint64_t from = 0; from < file->len; from += BLOCK) {
            lay_out();
            faulty_bad_place(&fixture.faulty, file->name, (off_t)from, (off_t)from + BLOCK);
            assert_false(check_case(false));
            assert_true(messages_have(&fixture.messages, file->name));
        }
    }
    faulty_bad_place(&fixture.faulty, NULL, 0, 0);
}

static void test_a_bad_place_in_a_large_value_costs_that_value(void **state)
{
    (void)state;
    fixture_close(&fixture);
    fixture.options.segment_size = LARGE;
    fixture.options.memory_limit = 4 << 20;
    fixture_open(&fixture);
    picture = make_same_picture(KILLED, 40, 700000);
    for (int i = 0; i < 12; i++) {
        const struct file *file = segment_number(rng_below(&rng, (uint32_t)segment_count()));
        uint64_t from = (1 + rng_below(&rng, (uint32_t)file->len / BLOCK - 1)) * (uint64_t)BLOCK;
        check_bad_place(KILLED, file, from, from + BLOCK);
    }
}

/* A disk that reads nothing when the store starts, and is well again later. */
static void test_a_log_that_cannot_be_read_at_all_is_there_when_it_can(void **state)
{
    (void)state;
    for (enum kind kind = 0; kind < KINDS; kind++)
        for (int headers_too = 0; headers_too < 2; headers_too++) {
            picture = make_picture(kind, OPERATIONS, 800);
            lay_out();
            faulty_bad_place(&fixture.faulty, ".seg", headers_too ? 0 : SEGMENT_HEADER_SIZE,
                             INT32_MAX);
            fixture_open(&fixture);
            for (size_t i = 0; i < segment_count(); i++)
                assert_true(messages_have(&fixture.messages, segment_number(i)->name) ||
                            !headers_too);
            fixture_close(&fixture);
            faulty_bad_place(&fixture.faulty, NULL, 0, 0);
            fixture_open(&fixture);
            expect_all_again(0);
            free_picture(picture);
            picture = NULL;
            fixture_release(&fixture);
            set_up(NULL);
        }
}

static void test_a_store_file_that_cannot_be_read_is_refused_by_its_name(void **state)
{
    (void)state;
    picture = make_picture(STOPPED, OPERATIONS, 800);
    lay_out();
    faulty_bad_place(&fixture.faulty, "/store", 0, BLOCK);
    uint64_t before = temp_dir_digest(&fixture.dir);
    assert_int_equal(fixture_try_open(&fixture), STORE_IO);
    fixture.store = NULL;
    assert_true(messages_have(&fixture.messages, "the file `store` in data directory"));
    assert_int_equal(fixture.messages.errors, 1);
    assert_true(temp_dir_digest(&fixture.dir) == before); /* D2 */
    faulty_bad_place(&fixture.faulty, NULL, 0, 0);
    fixture_open(&fixture);
    expect_all_again(0);
}

/* Whole files in the wrong place, or in none. */

static void hint_name(char name[SEGMENT_NAME_SIZE], const struct file *file)
{
    segment_name(name, file->id, "hint");
}

static void test_a_missing_segment_costs_its_records(void **state)
{
    (void)state;
    picture = make_picture(STOPPED, OPERATIONS, 800);
    for (size_t i = 0; i < segment_count(); i++)
        for (int hint_too = 0; hint_too < 2; hint_too++) {
            const struct file *file = segment_number(i);
            char hint[SEGMENT_NAME_SIZE];
            hint_name(hint, file);
            lay_out();
            unlinkat(fixture.dir.fd, file->name, 0);
            if (hint_too)
                unlinkat(fixture.dir.fd, hint, 0);
            note_all_damaged(file);
            assert_true(check_case(hint_too)); /* without both it looks as if it was cleaned (L4) */
        }
}

static void test_missing_hint_files_cost_nothing(void **state)
{
    (void)state;
    picture = make_picture(STOPPED, OPERATIONS, 800);
    for (size_t i = 0; i < segment_count(); i++) {
        char hint[SEGMENT_NAME_SIZE];
        hint_name(hint, segment_number(i));
        lay_out();
        unlinkat(fixture.dir.fd, hint, 0);
        assert_false(check_case(false));
    }
}

/* Its hint file is left alone, and must not be taken for that of a new segment. */
static void test_the_id_of_a_missing_segment_is_not_given_again(void **state)
{
    (void)state;
    picture = make_picture(STOPPED, OPERATIONS, 800);
    const struct file *file = last_segment();
    lay_out();
    unlinkat(fixture.dir.fd, file->name, 0);
    fixture_open(&fixture);
    assert_true(fixture.store->log.active->header.id > file->id);
    for (int i = 0; i < 200; i++) { /* more than the lone hint file tells of */
        char name[16];
        snprintf(name, sizeof name, "new %d", i);
        fixture_put_bytes(&fixture, name, file->data, 250);
    }
    fixture_commit(&fixture);
    fixture_crash(&fixture);
    fixture_open(&fixture);
    for (int i = 0; i < 200; i++) {
        char name[16];
        snprintf(name, sizeof name, "new %d", i);
        fixture_expect_bytes(&fixture, name, file->data, 250);
    }
}

static void move_to(const char *from, uint64_t id, const char *suffix)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, id, suffix);
    assert_int_equal(renameat(fixture.dir.fd, from, fixture.dir.fd, name), 0);
}

/* Even if it is renamed to the highest id there is: no id is left after that. */
static void test_a_renamed_segment_costs_its_records(void **state)
{
    (void)state;
    const uint64_t ids[] = {77, UINT64_MAX >> 2, UINT64_MAX};
    picture = make_picture(STOPPED, OPERATIONS, 800);
    for (size_t i = 0; i < segment_count(); i++)
        for (size_t k = 0; k < sizeof ids / sizeof *ids; k++) {
            const struct file *file = segment_number(i);
            char hint[SEGMENT_NAME_SIZE];
            hint_name(hint, file);
            lay_out();
            move_to(file->name, ids[k], "seg");
            if (i % 2)
                move_to(hint, ids[k], "hint");
            note_all_damaged(file);
            note_id(ids[k]);
            assert_true(check_case(false));
        }
}

static void test_a_duplicate_of_a_segment_changes_nothing(void **state)
{
    (void)state;
    const uint64_t ids[] = {77, UINT64_MAX};
    picture = make_picture(STOPPED, OPERATIONS, 800);
    for (size_t i = 0; i < segment_count(); i++)
        for (size_t k = 0; k < sizeof ids / sizeof *ids; k++) {
            const struct file *file = segment_number(i);
            char name[SEGMENT_NAME_SIZE], hint[SEGMENT_NAME_SIZE];
            lay_out();
            segment_name(name, ids[k], "seg");
            file_save(&fixture.dir, name, file->data, file->len);
            hint_name(hint, file);
            segment_name(name, ids[k], "hint");
            file_save(&fixture.dir, name, file_named(hint)->data, file_named(hint)->len);
            assert_false(check_case(false));
            segment_name(name, ids[k], "seg");
            assert_true(messages_have(&fixture.messages, name));
        }
}

static void swap_files(const char *left, const char *right)
{
    assert_int_equal(renameat(fixture.dir.fd, left, fixture.dir.fd, "aside"), 0);
    assert_int_equal(renameat(fixture.dir.fd, right, fixture.dir.fd, left), 0);
    assert_int_equal(renameat(fixture.dir.fd, "aside", fixture.dir.fd, right), 0);
}

static void test_swapped_segments_cost_their_records(void **state)
{
    (void)state;
    for (enum kind kind = 0; kind < KINDS; kind++) {
        picture = make_picture(kind, OPERATIONS, 800);
        for (size_t i = 0; i + 1 < segment_count(); i++) {
            lay_out();
            swap_files(segment_number(i)->name, segment_number(i + 1)->name);
            note_all_damaged(segment_number(i));
            note_all_damaged(segment_number(i + 1));
            assert_true(check_case(false));
        }
        free_picture(picture);
        picture = NULL;
        fixture_release(&fixture);
        set_up(NULL);
    }
}

static void test_swapped_hint_files_cost_nothing(void **state)
{
    (void)state;
    picture = make_picture(STOPPED, OPERATIONS, 800);
    for (size_t i = 0; i + 1 < segment_count(); i++) {
        char left[SEGMENT_NAME_SIZE], right[SEGMENT_NAME_SIZE];
        hint_name(left, segment_number(i));
        hint_name(right, segment_number(i + 1));
        lay_out();
        swap_files(left, right);
        assert_false(check_case(false));
        assert_true(messages_have(&fixture.messages, "hint file of segment"));
    }
}

/* Restoring the lost segments brings everything back, except for what was overwritten since. */
static void test_segments_that_are_found_again_are_older_than_what_was_written_since(void **state)
{
    (void)state;
    char name[16];
    bool lost = false;
    picture = make_picture(STOPPED, OPERATIONS, 800);
    size_t last = segment_count() - 1;
    for (int times = 0; times < 2; times++) {
        lay_out();
        swap_files(segment_number(last - 1)->name, segment_number(last)->name);
        fixture_open(&fixture);
        for (int key = 0; key < KEYS; key += 2) {
            name_key(name, key);
            fixture_put(&fixture, name, "since");
        }
        if (times)
            fixture_reopen(&fixture);
        fixture_close(&fixture);
        swap_files(segment_number(last - 1)->name, segment_number(last)->name);
        fixture_open(&fixture);
        for (int key = 0; key < KEYS; key++) {
            name_key(name, key);
            if (key % 2)
                check_key(key, &lost);
            else
                fixture_expect(&fixture, name, "since");
        }
        assert_false(lost);
    }
}

/* Another store with the same keys, and its file under the name of one of ours. */
static void test_a_segment_of_another_store_is_never_served(void **state)
{
    (void)state;
    struct picture *other = make_picture(STOPPED, OPERATIONS, 800);
    fixture_release(&fixture);
    set_up(NULL);
    picture = make_picture(STOPPED, OPERATIONS, 800);
    for (size_t i = 0; i < other->file_count; i++) {
        const struct file *file = &other->files[i];
        if (!strstr(file->name, ".hint") && !file->id)
            continue;
        if (file->id > segment_count())
            break;
        for (int with_hint = 0; with_hint < 2; with_hint++) {
            char hint[SEGMENT_NAME_SIZE];
            lay_out();
            file_save(&fixture.dir, file->name, file->data, file->len);
            if (file->id) {
                hint_name(hint, file);
                note_all_damaged(file_named(file->name));
            }
            if (file->id && with_hint)
                for (size_t k = 0; k < other->file_count; k++)
                    if (strcmp(other->files[k].name, hint) == 0)
                        file_save(&fixture.dir, hint, other->files[k].data, other->files[k].len);
            assert_true(check_case(false) == (file->id != 0));
        }
    }
    free_picture(other);
}

static void test_the_store_file_of_another_store_makes_all_of_them_foreign(void **state)
{
    (void)state;
    struct picture *other = make_picture(STOPPED, 10, 100);
    fixture_release(&fixture);
    set_up(NULL);
    picture = make_picture(STOPPED, OPERATIONS, 800);
    lay_out();
    for (size_t i = 0; i < other->file_count; i++)
        if (strcmp(other->files[i].name, "store") == 0)
            file_save(&fixture.dir, "store", other->files[i].data, other->files[i].len);
    for (size_t i = 0; i < segment_count(); i++)
        note_all_damaged(segment_number(i));
    assert_true(check_case(false));
    for (size_t i = 0; i < segment_count(); i++) {
        size_t len;
        char *data = file_load(&fixture.dir, segment_number(i)->name, &len);
        assert_int_equal(len, segment_number(i)->len);
        assert_memory_equal(data, segment_number(i)->data, len);
        free(data);
    }
    free_picture(other);
}

/* A value with whole records in it, copies of a real one. The record that carries them is
 * damaged, so that a scan looks for records inside. */
static void forge(bool same_segment)
{
    static char value[4000], pad[1000];
    const char *file = same_segment ? "0000000000000001.seg" : "0000000000000002.seg";
    size_t len, offset = SEGMENT_HEADER_SIZE; /* of the record that carries them */
    fixture_put_bytes(&fixture, "pad", pad, sizeof pad);
    fixture_put(&fixture, "victim", "forged");
    fixture_put(&fixture, "victim", "right");
    fixture_commit(&fixture);
    if (same_segment)
        offset += record_size(3, sizeof pad) + 2 * record_size(6, 6);
    else
        fixture_reopen(&fixture);
    char *first = file_load(&fixture.dir, "0000000000000001.seg", &len);
    size_t real = SEGMENT_HEADER_SIZE + record_size(3, sizeof pad), size = record_size(6, 6);
    size_t begin = offset + RECORD_HEADER_SIZE + 8; /* of the value in its file */
    assert_memory_equal(first + real + RECORD_HEADER_SIZE, "victimforged", 12);
    size_t at = same_segment ? begin : begin + (real - begin) % size;
    for (; at + size <= begin + sizeof value; at += size)
        memcpy(value + at - begin, first + real, size);
    free(first);
    fixture_put_bytes(&fixture, "carrier!", value, sizeof value);
    fixture_put(&fixture, "behind", "it");
    fixture_commit(&fixture);
    fixture_expect_bytes(&fixture, "carrier!", value, sizeof value);
    fixture_crash(&fixture);
    char *data = file_load(&fixture.dir, file, &len);
    assert_memory_equal(data + offset + RECORD_HEADER_SIZE, "carrier!", 8);
    if (!same_segment) /* where the real one lies in its own file */
        assert_memory_equal(data + real + RECORD_HEADER_SIZE, "victimforged", 12);
    free(data);
    unlinkat(fixture.dir.fd, "0000000000000001.hint", 0);
    file_flip_bit(&fixture.dir, file, offset + 9, 1);
    messages_clear(&fixture.messages);
    for (int times = 0; times < 2; times++) {
        fixture_open(&fixture);
        fixture_expect(&fixture, "victim", "right");
        fixture_expect(&fixture, "carrier!", NULL);
        fixture_expect(&fixture, "behind", "it");
        assert_int_equal(fixture_stats(&fixture).keydir_entries, 3);
        assert_true(messages_have(&fixture.messages, "no valid record at bytes"));
        fixture_close(&fixture);
    }
}

/* R1 */
static void test_a_forged_record_in_a_value_is_none(void **state)
{
    (void)state;
    forge(true);
    fixture_release(&fixture);
    set_up(NULL);
    forge(false);
}

/* Newer versions. */

static void set_version(char *copy)
{
    copy[8] = 2;
    uint64_t check = XXH3_64bits(copy, 120);
    memcpy(copy + 120, &check, sizeof check);
}

/* Of any segment, in either copy of its header, and whatever else lies there. */
static void test_a_segment_of_a_newer_version_is_refused_and_all_left_untouched(void **state)
{
    (void)state;
    picture = make_picture(STOPPED, OPERATIONS, 800);
    for (size_t i = 0; i < segment_count(); i++)
        for (int copies = 1; copies < 4; copies++) {
            const struct file *file = segment_number(i);
            lay_out();
            char *data = malloc(file->len);
            memcpy(data, file->data, file->len);
            for (int copy = 0; copy < 2; copy++)
                if (copies >> copy & 1)
                    set_version(data + copy * 128);
                else
                    data[copy * 128 + 50] ^= 4;
            file_save(&fixture.dir, file->name, data, file->len);
            free(data);
            file_save(&fixture.dir, "0000000000000003.hint-tmp", "half", 4);
            file_save(&fixture.dir, "0000000000000099.seg", "\0\0\0\0", 4);
            uint64_t before = temp_dir_digest(&fixture.dir);
            assert_int_equal(fixture_try_open(&fixture), STORE_BAD_VERSION);
            fixture.store = NULL;
            assert_true(messages_have(&fixture.messages, file->name));
            unlinkat(fixture.dir.fd, "lock", 0);
            assert_true(temp_dir_digest(&fixture.dir) == before);
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_flipped_bit_costs_its_record),
        TEST(a_flipped_bit_costs_its_record_without_a_hint),
        TEST(flipped_bits_of_a_large_segment_cost_their_records),
        TEST(a_flipped_bit_of_a_hint_file_costs_nothing),
        TEST(a_last_segment_that_was_cut_keeps_what_is_left),
        TEST(a_last_segment_that_ends_in_zeros_keeps_what_is_left),
        TEST(a_segment_that_was_cut_keeps_what_is_left),
        TEST(a_segment_that_ends_in_zeros_keeps_what_is_left),
        TEST(a_hint_file_that_was_cut_costs_nothing),
        TEST(a_segment_that_begins_with_zeros_is_told_and_stays),
        TEST(a_block_that_cannot_be_read_costs_what_is_in_it),
        TEST(a_block_that_cannot_be_read_costs_what_is_in_it_without_a_hint),
        TEST(a_sector_that_cannot_be_read_costs_what_is_in_it),
        TEST(a_block_that_cannot_be_read_is_no_hole),
        TEST(an_end_that_cannot_be_read_makes_no_hole_later),
        TEST(a_hint_file_that_cannot_be_read_costs_nothing),
        TEST(a_bad_place_in_a_large_value_costs_that_value),
        TEST(a_log_that_cannot_be_read_at_all_is_there_when_it_can),
        TEST(a_store_file_that_cannot_be_read_is_refused_by_its_name),
        TEST(a_missing_segment_costs_its_records),
        TEST(missing_hint_files_cost_nothing),
        TEST(the_id_of_a_missing_segment_is_not_given_again),
        TEST(a_renamed_segment_costs_its_records),
        TEST(a_duplicate_of_a_segment_changes_nothing),
        TEST(swapped_segments_cost_their_records),
        TEST(swapped_hint_files_cost_nothing),
        TEST(segments_that_are_found_again_are_older_than_what_was_written_since),
        TEST(a_segment_of_another_store_is_never_served),
        TEST(the_store_file_of_another_store_makes_all_of_them_foreign),
        TEST(a_forged_record_in_a_value_is_none),
        TEST(a_segment_of_a_newer_version_is_refused_and_all_left_untouched),
    };
    uint64_t entropy;
    if (getentropy(&entropy, sizeof entropy) < 0)
        give_up("no entropy");
    rng.state = number_from_env("SEED", entropy & UINT32_MAX);
    print_message("SEED=%llu\n", (unsigned long long)rng.state);
    cmocka_set_test_filter(getenv("TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
