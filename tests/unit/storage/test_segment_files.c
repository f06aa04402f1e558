/* test_segment_files.c: more segments than descriptors (S8): which are open, that nobody's is
 * closed under him, and what a store does when there is none to be had. */
#include "tests/unit/storage/support/fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/scan.h"
#include "storage/log/segment_files.h"
#include "storage/store_internal.h"

/* The table alone: files that hold their own ids. */

#define FILES   64
#define BUDGET  1 /* as few as the table will do with */
#define THREADS 4
#define USES    (SLOW_BUILD ? 20000 : 200000)

static struct temp_dir dir;
static struct faulty faulty;
static struct messages messages;
static struct segment_files table;
static struct segment *segments[FILES];

static struct segment *make_segment(uint64_t id)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, id, "seg");
    file_save(&dir, name, &id, sizeof id);
    struct segment *segment = segment_new();
    assert_non_null(segment);
    segment->header.id = id;
    segment->fd = faulty.files.open(&faulty, dir.fd, name, O_RDWR);
    return segment;
}

static int make_table(void **state)
{
    (void)state;
    temp_dir_make(&dir);
    faulty_init(&faulty);
    messages_init(&messages);
    segment_files_init(&table, &faulty.files, dir.fd, BUDGET, &messages.reporter);
    for (uint64_t i = 0; i < FILES; i++) {
        segments[i] = make_segment(i + 1);
        segment_files_add(&table, segments[i]);
    }
    return 0;
}

static uint64_t open_count(struct faulty *layer)
{
    return faulty_calls(layer, CALL_OPEN) - faulty_calls(layer, CALL_CLOSE);
}

static int drop_table(void **state)
{
    (void)state;
    faulty_heal(&faulty);
    for (int i = 0; i < FILES; i++)
        if (segments[i])
            segment_files_free(&table, segments[i]);
    segment_files_release(&table);
    temp_dir_remove(&dir);
    return 0;
}

static bool holds_its_id(const struct segment *segment)
{
    uint64_t id = 0;
    return pread(segment->fd, &id, sizeof id, 0) == sizeof id && id == segment->header.id;
}

static void expect_usable(struct segment *segment)
{
    assert_int_equal(segment_files_use(&table, segment), STORE_OK);
    assert_true(holds_its_id(segment));
    segment_files_done(segment);
}

static void test_only_some_are_open(void **state)
{
    (void)state;
    assert_int_equal(table.open, 4);
    for (int i = 0; i < FILES; i++) {
        expect_usable(segments[i]);
        assert_in_range(open_count(&faulty), 1, 4);
    }
}

static void test_what_is_used_often_stays_open(void **state)
{
    (void)state;
    expect_usable(segments[0]);
    uint64_t opened = faulty_calls(&faulty, CALL_OPEN);
    for (int i = 1; i < FILES; i++) {
        expect_usable(segments[i]);
        expect_usable(segments[0]);
    }
    print_message("%llu opens\n", (unsigned long long)(faulty_calls(&faulty, CALL_OPEN) - opened));
    assert_true(faulty_calls(&faulty, CALL_OPEN) - opened <= FILES + 2);
}

static void test_what_is_closed_is_not_opened_without_waiting(void **state)
{
    (void)state;
    uint64_t opened = faulty_calls(&faulty, CALL_OPEN);
    int usable = 0;
    for (int i = 0; i < FILES; i++)
        if (segment_files_try_use(segments[i])) {
            assert_true(holds_its_id(segments[i]));
            segment_files_done(segments[i]);
            usable++;
        }
    assert_int_equal(usable, 4);
    assert_int_equal(faulty_calls(&faulty, CALL_OPEN), opened);
}

/* When all are in use the bound must give way. */
static void test_what_is_in_use_is_not_closed(void **state)
{
    (void)state;
    for (int i = 0; i < FILES; i++)
        assert_int_equal(segment_files_use(&table, segments[i]), STORE_OK);
    for (int i = 0; i < FILES; i++)
        assert_true(holds_its_id(segments[i]));
    for (int i = 0; i < FILES; i++)
        segment_files_done(segments[i]);
    segment_files_hold(&table);
    segment_files_unhold(&table);
    assert_int_equal(open_count(&faulty), 4);
}

static void test_held_segments_leave_less_room_for_others(void **state)
{
    (void)state;
    table.budget = 64;
    for (int i = 0; i < FILES; i++)
        expect_usable(segments[i]);
    assert_int_equal(table.open, 64 - 16);
    for (int i = 0; i < 16; i++) { /* with their hint files half of the budget */
        assert_false(segment_files_over_share(&table));
        segment_files_hold(&table);
    }
    assert_true(segment_files_over_share(&table));
    for (int i = 0; i < FILES; i++)
        expect_usable(segments[i]);
    assert_int_equal(table.open, 64 - 16 - 2 * 16);
    for (int i = 0; i < 16; i++)
        segment_files_unhold(&table);
}

static void test_a_kept_one_is_read_after_its_name_is_gone(void **state)
{
    (void)state;
    assert_int_equal(segment_files_use(&table, segments[7]), STORE_OK);
    segment_files_keep(&table, segments[7]);
    segment_files_done(segments[7]);
    assert_int_equal(unlinkat(dir.fd, "0000000000000008.seg", 0), 0);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < FILES; i++)
            expect_usable(segments[i]);
    segment_files_free(&table, segments[7]);
    segments[7] = NULL;
    assert_int_equal(table.kept, 0);
}

static void test_without_a_descriptor_another_is_closed(void **state)
{
    (void)state;
    faulty_fail(&faulty, CALL_OPEN, 1, 2, EMFILE); /* the third try */
    struct segment *closed = segments[0];
    assert_true(segment_is_closed(closed));
    expect_usable(closed);
    assert_int_equal(messages.errors, 0);
}

static void test_want_of_descriptors_is_told_once_and_as_what_it_is(void **state)
{
    (void)state;
    faulty_fail(&faulty, CALL_OPEN, 1, FOREVER, EMFILE);
    for (int i = 0; i < FILES; i++) {
        errno = 0;
        assert_int_equal(segment_files_use(&table, segments[i]), STORE_IO);
        assert_int_equal(errno, EMFILE);
    }
    assert_int_equal(messages.errors, 1);
    assert_true(messages_have(&messages, "ulimit -n"));
    assert_false(messages_have(&messages, "disk space"));
    faulty_heal(&faulty);
    for (int i = 0; i < FILES; i++)
        expect_usable(segments[i]);
}

static void test_a_file_that_is_gone_is_told_once(void **state)
{
    (void)state;
    assert_true(segment_is_closed(segments[0]));
    assert_int_equal(renameat(dir.fd, "0000000000000001.seg", dir.fd, "aside"), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(segment_files_use(&table, segments[0]), STORE_IO);
    assert_int_equal(messages.errors, 1);
    assert_true(messages_have(&messages, "0000000000000001.seg"));
    assert_int_equal(renameat(dir.fd, "aside", dir.fd, "0000000000000001.seg"), 0);
    expect_usable(segments[0]);
}

/* Threads that use whatever they like, while opens fail now and then. */

static _Atomic uint32_t wrong, refused;

static void *use_many(void *context)
{
    struct rng rng = {.state = (uint64_t)(uintptr_t)context};
    for (int i = 0; i < USES; i++) {
        struct segment *segment = segments[rng_below(&rng, FILES)];
        bool waits = rng_one_in(&rng, 2);
        if (waits ? segment_files_use(&table, segment) != STORE_OK
                  : !segment_files_try_use(segment)) {
            refused += waits;
            continue;
        }
        wrong += !holds_its_id(segment);
        segment_files_done(segment);
    }
    return NULL;
}

static void test_threads_get_the_file_they_ask_for(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    uint64_t seed = number_from_env("SEED", 1);
    print_message("SEED=%llu\n", (unsigned long long)seed);
    atomic_store(&wrong, 0);
    atomic_store(&refused, 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, use_many, (void *)(seed * THREADS + i)) != 0)
            give_up("no thread");
    for (int i = 0; i < 100; i++)
        faulty_fail(&faulty, CALL_OPEN, 1 + (uint64_t)i, 3, EMFILE);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    faulty_heal(&faulty);
    print_message("%llu opens, %u refused\n", (unsigned long long)faulty_calls(&faulty, CALL_OPEN),
                  atomic_load(&refused));
    assert_int_equal(wrong, 0);
    for (int i = 0; i < FILES; i++)
        expect_usable(segments[i]);
    assert_in_range(table.open, 1, 4);
}

/* A store with some hundred segments. */

#define KEYS     200
#define LEN      60000
#define OPEN_MAX 80 /* of 48, with those of readers and of the moment */

static struct fixture fixture;

static int open_store(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture.options.open_files = 4;
    fixture.manual_cleaner = true;
    fixture_open(&fixture);
    return 0;
}

static int close_store(void **state)
{
    (void)state;
    faulty_heal(&fixture.faulty);
    fixture_release(&fixture);
    return 0;
}

static void put(uint32_t number, uint64_t version)
{
    static char value[LEN];
    char name[32];
    snprintf(name, sizeof name, "key-%u", number);
    fill_pattern(value, LEN, number + version * KEYS);
    fixture_put_bytes(&fixture, name, value, LEN);
    fixture_commit(&fixture);
}

static void expect(uint32_t number, uint64_t version)
{
    static char value[LEN];
    char name[32];
    snprintf(name, sizeof name, "key-%u", number);
    fill_pattern(value, LEN, number + version * KEYS);
    fixture_expect_bytes(&fixture, name, value, LEN);
}

static void put_all(uint64_t version)
{
    for (uint32_t i = 0; i < KEYS; i++)
        put(i, version);
}

static void expect_all(uint64_t version)
{
    struct rng rng = {.state = version};
    for (uint32_t i = 0; i < KEYS; i++)
        expect(rng_below(&rng, KEYS), version);
}

/* Of this store, by the links of /proc: other tests' files are none of ours. */
static uint32_t descriptors(void)
{
    char link[64], target[512];
    uint32_t count = 0;
    struct dirent *entry;
    DIR *all = opendir("/proc/self/fd");
    if (!all)
        give_up("no /proc");
    while ((entry = readdir(all))) {
        snprintf(link, sizeof link, "/proc/self/fd/%.20s", entry->d_name);
        ssize_t len = readlink(link, target, sizeof target - 1);
        target[len > 0 ? len : 0] = '\0';
        count += strncmp(target, fixture.dir.path, strlen(fixture.dir.path)) == 0;
    }
    closedir(all);
    return count;
}

static void test_many_segments_and_few_descriptors(void **state)
{
    (void)state;
    uint32_t most = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        put(i, 1);
        most = descriptors() > most ? descriptors() : most;
    }
    expect_all(1);
    assert_true(fixture_stats(&fixture).segments > KEYS / 2);
    print_message("%llu segments, at most %u descriptors\n",
                  (unsigned long long)fixture_stats(&fixture).segments, most);
    assert_true(most < OPEN_MAX && descriptors() < OPEN_MAX);
    fixture_reopen(&fixture);
    expect_all(1);
    fixture_crash(&fixture);
    fixture_open(&fixture);
    expect_all(1);
    assert_true(descriptors() < OPEN_MAX);
}

static void test_a_start_without_hint_files(void **state)
{
    char names[KEYS * 2][NAME_LEN];
    (void)state;
    put_all(1);
    fixture_close(&fixture);
    size_t count = files_with_suffix(&fixture.dir, ".hint", names, KEYS * 2);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(unlinkat(fixture.dir.fd, names[i], 0), 0);
    fixture.options.boot_id++; /* all of it is read to find the end of the log */
    fixture_open(&fixture);
    assert_true(count > KEYS / 2 && descriptors() < OPEN_MAX);
    expect_all(1);
}

/* Without periodic syncs nothing would ever be let go. */
static void test_what_is_never_synced_is_synced_for_its_descriptor(void **state)
{
    (void)state;
    fixture_close(&fixture);
    fixture.options.sync_interval_ms = STORE_SYNC_NEVER;
    fixture_open(&fixture);
    put_all(1);
    expect_all(1);
    assert_true(descriptors() < OPEN_MAX);
    assert_true(fixture_stats(&fixture).syncs > 0);
}

static void clean_all(void)
{
    while (cleaner_step(fixture.store))
        ;
}

static bool is_clean(void *context)
{
    (void)context;
    clean_all();
    return fixture_stats(&fixture).segments < KEYS + KEYS / 4;
}

static void test_closed_segments_are_cleaned(void **state)
{
    (void)state;
    put_all(1);
    put_all(2);
    assert_true(wait_until(is_clean, NULL));
    expect_all(2);
    fixture_crash(&fixture);
    fixture_open(&fixture);
    expect_all(2);
}

static void test_closed_segments_are_listed(void **state)
{
    struct store_scanned listed;
    enum store_status status;
    uint32_t count = 0;
    (void)state;
    put_all(1);
    struct store_scan *list = store_scan_new(fixture.store);
    while ((status = store_scan_next(list, fixture.now_s, &listed)) != STORE_NOT_FOUND)
        count += status == STORE_OK;
    store_scan_free(list);
    assert_int_equal(count, KEYS);
}

static struct segment *segment_of(const char *name)
{
    struct store_key key = fixture_key(&fixture, name);
    struct store_fetch fetch = {0};
    struct store_item item;
    assert_int_equal(store_get(at(fixture.session, fixture.now_s), &key, &fetch, &item),
                     STORE_WAIT_READ);
    struct segment *segment = fetch.segment;
    store_fetch_release(&fetch);
    return segment;
}

/* Rule 3 of the design: a worker does not open, for that may read the disk; a reader does. */
static void test_the_session_leaves_opening_to_the_readers(void **state)
{
    (void)state;
    put_all(1);
    fixture_reopen(&fixture);
    for (uint32_t i = 0; !segment_is_closed(segment_of("key-0")) && i < KEYS; i++)
        expect(KEYS - 1 - i, 1);
    struct store_key key = fixture_key(&fixture, "key-0");
    struct store_fetch fetch = {0};
    struct store_item item;
    assert_int_equal(store_get(at(fixture.session, fixture.now_s), &key, &fetch, &item),
                     STORE_WAIT_READ);
    assert_true(segment_is_closed(fetch.segment));
    assert_int_equal(store_fetch_now(fixture.session, &fetch), STORE_WAIT_READ);
    assert_true(segment_is_closed(fetch.segment));
    store_fetch_release(&fetch);
    expect(0, 1);
}

/* A get waits in a queue while its segment is cleaned: the file has no name any more when a
 * reader comes to it. */
static void test_a_pinned_segment_is_read_after_it_was_cleaned(void **state)
{
    (void)state;
    put_all(1);
    struct store_key key = fixture_key(&fixture, "key-5");
    struct store_fetch fetch = {0};
    struct store_item item;
    assert_int_equal(store_get(at(fixture.session, fixture.now_s), &key, &fetch, &item),
                     STORE_WAIT_READ);
    put_all(2);
    assert_true(wait_until(is_clean, NULL));
    expect_all(2);
    assert_int_equal(atomic_load(&fetch.segment->state), SEGMENT_DOOMED);
    store_fetch_start(fixture.session, &fetch);
    while (store_fetch_next(fixture.session) != &fetch)
        sem_wait(&fixture.woken);
    assert_int_equal(fetch.status, STORE_OK);
    store_fetch_release(&fetch);
}

/* Clients that take their time to receive have pinned as many as may be held, and more. */
static void test_writers_do_not_wait_for_pinned_segments(void **state)
{
    struct store_fetch fetches[2 * SEGMENT_FILES_HELD_MIN] = {0};
    char name[32];
    (void)state;
    put_all(1);
    for (uint32_t i = 0; i < 2 * SEGMENT_FILES_HELD_MIN; i++) {
        struct store_item item;
        snprintf(name, sizeof name, "key-%u", i);
        struct store_key key = fixture_key(&fixture, name);
        assert_int_equal(store_get(at(fixture.session, fixture.now_s), &key, &fetches[i], &item),
                         STORE_WAIT_READ);
    }
    put_all(2);
    assert_true(wait_until(is_clean, NULL));
    assert_int_equal(fixture.store->log.segment_files.kept, 2 * SEGMENT_FILES_HELD_MIN);
    put_all(3);
    expect_all(3);
    for (uint32_t i = 0; i < 2 * SEGMENT_FILES_HELD_MIN; i++)
        store_fetch_release(&fetches[i]);
}

static void test_reads_while_no_descriptor_is_to_be_had(void **state)
{
    (void)state;
    put_all(1);
    fixture_reopen(&fixture);
    messages_clear(&fixture.messages);
    faulty_fail(&fixture.faulty, CALL_OPEN, 1, FOREVER, EMFILE);
    uint32_t failed = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        char name[32];
        struct store_fetch fetch = {0};
        struct store_item item;
        snprintf(name, sizeof name, "key-%u", i);
        struct store_key key = fixture_key(&fixture, name);
        enum store_status status = fixture_get(&fixture, &key, &fetch, &item);
        assert_true(status == STORE_OK || status == STORE_IO);
        failed += status == STORE_IO;
        store_fetch_release(&fetch);
    }
    print_message("%u of %u failed\n", failed, KEYS);
    assert_true(failed > 0);
    assert_false(messages_have(&fixture.messages, "disk space"));
    faulty_heal(&fixture.faulty);
    expect_all(1);
}

/* Each open fails once, and from then on for a while: nothing stops, and nothing is lost. */
static void test_every_open_fails_once(void **state)
{
    static const int errors[] = {EMFILE, EIO};
    (void)state;
    for (uint32_t round = 0; round < 2; round++) {
        put_all(round + 1);
        for (uint64_t nth = 1; nth < (SLOW_BUILD ? 20 : 40); nth++) {
            faulty_fail(&fixture.faulty, CALL_OPEN, nth, nth % 3 ? 1 : 3, errors[round]);
            for (uint32_t i = 0; i < 4; i++)
                put((uint32_t)(nth + i) % KEYS, round + 1);
            clean_all();
            faulty_heal(&fixture.faulty);
        }
        expect_all(round + 1);
        fixture_crash(&fixture);
        fixture_open(&fixture);
        expect_all(round + 1);
    }
}

int main(void)
{
#define TABLE(name) cmocka_unit_test_setup_teardown(name, make_table, drop_table)
#define STORE(name) cmocka_unit_test_setup_teardown(name, open_store, close_store)
    const struct CMUnitTest tests[] = {
        TABLE(test_only_some_are_open),
        TABLE(test_what_is_used_often_stays_open),
        TABLE(test_what_is_closed_is_not_opened_without_waiting),
        TABLE(test_what_is_in_use_is_not_closed),
        TABLE(test_held_segments_leave_less_room_for_others),
        TABLE(test_a_kept_one_is_read_after_its_name_is_gone),
        TABLE(test_without_a_descriptor_another_is_closed),
        TABLE(test_want_of_descriptors_is_told_once_and_as_what_it_is),
        TABLE(test_a_file_that_is_gone_is_told_once),
        TABLE(test_threads_get_the_file_they_ask_for),
        STORE(test_many_segments_and_few_descriptors),
        STORE(test_a_start_without_hint_files),
        STORE(test_what_is_never_synced_is_synced_for_its_descriptor),
        STORE(test_closed_segments_are_cleaned),
        STORE(test_closed_segments_are_listed),
        STORE(test_the_session_leaves_opening_to_the_readers),
        STORE(test_a_pinned_segment_is_read_after_it_was_cleaned),
        STORE(test_writers_do_not_wait_for_pinned_segments),
        STORE(test_reads_while_no_descriptor_is_to_be_had),
        STORE(test_every_open_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
