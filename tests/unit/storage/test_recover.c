/* test_recover.c: what is there after a stop, a kill, and damage (Y1 to Y5).
 *
 * "Stop" closes the store: all segments have hint files then. "Kill" goes on in a copy of the
 * directory as it was. Segments are 64 KiB and log_fill writes a few of them, so that what matters
 * lies in different ones.
 */
#define XXH_INLINE_ALL
#include "tests/unit/storage/support/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xxhash.h>

#include "storage/log/hint.h"
#include "storage/log/segment.h"
#include "storage/store_internal.h"

#define FILES_MAX 1000

static struct fixture fixture;

static int set_up(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture.manual_cleaner = true; /* what is on disk stays there */
    fixture_open(&fixture);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_release(&fixture);
    return 0;
}

/* Writes `segments` segments full of a key that nobody asks for. */
static void log_fill(uint32_t segments)
{
    static char value[30000];
    for (uint32_t i = 0; i < segments * 3; i++) {
        fill_pattern(value, sizeof value, i);
        fixture_put_bytes(&fixture, "filling", value, sizeof value);
    }
    fixture_commit(&fixture);
}

static size_t count_files(const char *suffix)
{
    static char names[FILES_MAX][NAME_LEN];
    return files_with_suffix(&fixture.dir, suffix, names, FILES_MAX);
}

static void remove_files(const char *suffix)
{
    static char names[FILES_MAX][NAME_LEN];
    size_t count = files_with_suffix(&fixture.dir, suffix, names, FILES_MAX);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(unlinkat(fixture.dir.fd, names[i], 0), 0);
}

static void kill_and_open(void)
{
    fixture_commit(&fixture);
    fixture_crash(&fixture);
    fixture_open(&fixture);
}

static void kill_and_open_without_hints(void)
{
    fixture_commit(&fixture);
    fixture_crash(&fixture);
    remove_files(".hint");
    fixture_open(&fixture);
}

static void reopen(void)
{
    fixture_reopen(&fixture);
}

static void stop_and_open_at(uint32_t now_s)
{
    fixture_close(&fixture);
    fixture.now_s = now_s;
    fixture_open(&fixture);
}

/* Runs `expect` after a stop, a kill, and a kill without hint files. */
static void in_every_start(void (*expect)(void))
{
    expect();
    fixture_reopen(&fixture);
    expect();
    kill_and_open();
    expect();
    kill_and_open_without_hints();
    expect();
    fixture_close(&fixture);
    remove_files(".hint");
    fixture_open(&fixture);
    expect();
}

/* Values, deletions. */

static void test_an_empty_store_opens_again(void **state)
{
    (void)state;
    fixture_reopen(&fixture);
    kill_and_open();
    assert_int_equal(fixture_stats(&fixture).keydir_entries, 0);
    assert_int_equal(fixture.messages.errors + fixture.messages.warnings, 0);
}

static void expect_two(void)
{
    fixture_expect(&fixture, "one", "1");
    fixture_expect(&fixture, "two", "2");
    fixture_expect(&fixture, "three", NULL);
    assert_int_equal(fixture_stats(&fixture).keydir_entries, 2);
}

static void test_what_was_stored_is_there(void **state)
{
    (void)state;
    fixture_put(&fixture, "one", "1");
    fixture_put(&fixture, "two", "2");
    in_every_start(expect_two);
    assert_int_equal(fixture.messages.errors + fixture.messages.warnings, 0);
}

static void expect_newest(void)
{
    fixture_expect(&fixture, "key", "third");
}

static void test_the_newest_value_wins(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "first");
    log_fill(2);
    fixture_put(&fixture, "key", "second");
    fixture_put(&fixture, "key", "third");
    log_fill(2);
    in_every_start(expect_newest);
}

static void expect_deleted(void)
{
    fixture_expect(&fixture, "key", NULL);
    fixture_expect(&fixture, "again", "new");
}

static void test_deleted_stays_deleted(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "old");
    fixture_put(&fixture, "again", "old");
    log_fill(2);
    fixture_delete(&fixture, "key");
    fixture_delete(&fixture, "again");
    log_fill(2);
    fixture_put(&fixture, "again", "new");
    in_every_start(expect_deleted);
}

static void test_a_kill_loses_only_what_was_not_committed(void **state)
{
    (void)state;
    fixture_put(&fixture, "one", "1");
    fixture_put(&fixture, "two", "2");
    fixture_commit(&fixture);
    fixture_put(&fixture, "three", "3");
    fixture_delete(&fixture, "one");
    fixture_crash(&fixture);
    fixture_open(&fixture);
    expect_two();
}

/* Times. */

static void expect_expired(void)
{
    fixture_expect(&fixture, "key", NULL);
    fixture_expect(&fixture, "later", "x");
    assert_int_equal(fixture_expiry(&fixture, "later"), FIXTURE_NOW + 1000);
}

static void test_expired_brings_no_older_value_back(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "old, for ever");
    log_fill(1);
    fixture_put_until(&fixture, "key", "new", FIXTURE_NOW + 10);
    fixture_put_until(&fixture, "later", "x", FIXTURE_NOW + 1000);
    stop_and_open_at(FIXTURE_NOW + 10);
    in_every_start(expect_expired);
}

static void expect_touched(void)
{
    fixture_expect(&fixture, "longer", "x");
    assert_int_equal(fixture_expiry(&fixture, "longer"), 0);
    assert_int_equal(fixture_expiry(&fixture, "twice"), FIXTURE_NOW + 300);
    assert_int_equal(fixture_expiry(&fixture, "stored after"), 0);
    fixture_expect(&fixture, "shorter", NULL);
    fixture_expect(&fixture, "deleted", NULL);
}

static void test_touches_are_applied_in_their_order(void **state)
{
    (void)state;
    fixture_put_until(&fixture, "longer", "x", FIXTURE_NOW + 10);
    fixture_put(&fixture, "shorter", "x");
    fixture_put(&fixture, "twice", "x");
    fixture_put(&fixture, "deleted", "x");
    fixture_touch(&fixture, "twice", FIXTURE_NOW + 100);
    fixture_put(&fixture, "stored after", "x");
    fixture_touch(&fixture, "stored after", FIXTURE_NOW + 10);
    fixture_touch(&fixture, "deleted", FIXTURE_NOW + 1000);
    log_fill(1);
    fixture_touch(&fixture, "longer", 0);
    fixture_touch(&fixture, "shorter", FIXTURE_NOW + 10);
    fixture_touch(&fixture, "twice", FIXTURE_NOW + 200);
    log_fill(1);
    fixture_touch(&fixture, "twice", FIXTURE_NOW + 300);
    fixture_put(&fixture, "stored after", "y");
    fixture_delete(&fixture, "deleted");
    stop_and_open_at(FIXTURE_NOW + 20);
    in_every_start(expect_touched);
}

/* Any history: what a start finds is what there was, and no segment is said to hold more or less
 * than it does. */

#define HISTORY_KEYS 60

struct history {
    struct rng rng;
    bool present[HISTORY_KEYS];
    uint32_t expire_s[HISTORY_KEYS];
    int value[HISTORY_KEYS];
};

static bool is_alive(const struct history *history, uint32_t k)
{
    uint32_t expire_s = history->expire_s[k];
    return history->present[k] && (!expire_s || expire_s > fixture.now_s);
}

static uint32_t some_expiry(struct history *history)
{
    return rng_one_in(&history->rng, 3) ? 0 : fixture.now_s + 1 + rng_below(&history->rng, 200);
}

static void change_one(struct history *history, int number)
{
    uint32_t k = rng_below(&history->rng, HISTORY_KEYS);
    uint32_t expire_s = some_expiry(history);
    char key[32], value[32];
    snprintf(key, sizeof key, "key %u", k);
    snprintf(value, sizeof value, "value %d", number);
    if (!is_alive(history, k) || rng_one_in(&history->rng, 3)) {
        fixture_put_until(&fixture, key, value, expire_s);
        history->present[k] = true;
        history->value[k] = number;
    } else if (rng_one_in(&history->rng, 3)) {
        fixture_delete(&fixture, key);
        history->present[k] = false;
    } else {
        fixture_touch(&fixture, key, expire_s);
    }
    history->expire_s[k] = expire_s;
}

static void change_many(struct history *history, int *number)
{
    for (int end = *number + 400; *number < end; ++*number) {
        change_one(history, *number);
        fixture.now_s += rng_one_in(&history->rng, 10);
        if (rng_one_in(&history->rng, 100))
            log_fill(1);
        if (rng_one_in(&history->rng, 2000)) {
            fixture_flush(&fixture, 0);
            memset(history->present, 0, sizeof history->present);
        }
    }
}

static bool add_live(void *context, struct keydir_entry *entry)
{
    uint64_t *live_bytes = context;
    live_bytes[location_segment_index(entry->location)] += location_size(entry->location);
    return true;
}

/* Right after a start, when all entries point to the log. */
static void expect_exact_live_bytes(void)
{
    struct store *store = fixture.store;
    uint64_t *live_bytes = calloc(store->log.index_count, sizeof *live_bytes);
    for (uint32_t i = 0; i < store->keydir.shard_count; i++) {
        uint64_t cursor = 0;
        keydir_lock(&store->keydir.shards[i]);
        keydir_scan(&store->keydir.shards[i], &cursor, UINT32_MAX, add_live, live_bytes);
        keydir_unlock(&store->keydir.shards[i]);
    }
    for (const struct segment *segment = store->log.first; segment; segment = segment->next)
        assert_int_equal(segment_live_bytes(segment), live_bytes[segment->segment_index]);
    free(live_bytes);
}

static void expect_history(const struct history *history)
{
    char key[32], value[32];
    expect_exact_live_bytes();
    for (uint32_t k = 0; k < HISTORY_KEYS; k++) {
        snprintf(key, sizeof key, "key %u", k);
        snprintf(value, sizeof value, "value %d", history->value[k]);
        fixture_expect(&fixture, key, is_alive(history, k) ? value : NULL);
        if (is_alive(history, k))
            assert_int_equal(fixture_expiry(&fixture, key), history->expire_s[k]);
    }
}

static void test_any_history_is_replayed(void **state)
{
    (void)state;
    static void (*const starts[])(void) = {kill_and_open, kill_and_open_without_hints, reopen};
    uint64_t seed = number_from_env("SEED", 20261130);
    print_message("SEED=%llu\n", (unsigned long long)seed);
    struct history history = {.rng = {seed}};
    int number = 0;
    for (int round = 0; round < (SLOW_BUILD ? 15 : 60); round++) {
        change_many(&history, &number);
        fixture_commit(&fixture);
        fixture.now_s += rng_below(&history.rng, 150);
        starts[rng_below(&history.rng, 3)]();
        expect_history(&history);
    }
}

/* Y2: a TOUCH is found wherever it lies, and may lie in a segment whose hint file is bad. */
static void test_a_touch_in_a_segment_with_a_damaged_hint_file_prolongs(void **state)
{
    (void)state;
    static char names[FILES_MAX][NAME_LEN];
    fixture_put_until(&fixture, "key", "x", FIXTURE_NOW + 10);
    fixture_put_until(&fixture, "short", "x", FIXTURE_NOW + 10);
    log_fill(2);
    fixture_touch(&fixture, "key", FIXTURE_NOW + 1000);
    log_fill(2);
    fixture_close(&fixture);
    size_t count = files_with_suffix(&fixture.dir, ".hint", names, FILES_MAX);
    for (size_t i = 0; i < count; i++)
        file_flip_bit(&fixture.dir, names[i], 120, 1);
    fixture.now_s = FIXTURE_NOW + 20;
    fixture_open(&fixture);
    assert_int_equal(fixture_expiry(&fixture, "key"), FIXTURE_NOW + 1000);
    fixture_expect(&fixture, "short", NULL);
}

/* Flushes (Y4). */

static void expect_only_after(void)
{
    fixture_expect(&fixture, "before", NULL);
    fixture_expect(&fixture, "after", "x");
    fixture_expect(&fixture, "filling", NULL);
}

static void test_a_flush_stays_done(void **state)
{
    (void)state;
    fixture_put(&fixture, "before", "x");
    log_fill(1);
    fixture_flush(&fixture, 0);
    fixture_put(&fixture, "after", "x");
    in_every_start(expect_only_after);
}

static void expect_flushed_long_ago(void)
{
    fixture_expect(&fixture, "before", NULL);
    fixture_expect(&fixture, "after", "x");
}

static void test_each_segment_header_repeats_the_flush(void **state)
{
    (void)state;
    fixture_put(&fixture, "before", "x");
    log_fill(1);
    fixture_flush(&fixture, 0);
    fixture_put(&fixture, "after", "x");
    log_fill(4);
    in_every_start(expect_flushed_long_ago);
}

static void expect_pending(void)
{
    fixture_expect(&fixture, "before", "x");
    fixture_expect(&fixture, "after", "x");
}

static void test_a_pending_flush_waits_and_comes(void **state)
{
    (void)state;
    fixture_put(&fixture, "before", "x");
    fixture_flush(&fixture, FIXTURE_NOW + 50);
    log_fill(3);
    fixture_put(&fixture, "after", "x");
    in_every_start(expect_pending);
    fixture.now_s = FIXTURE_NOW + 50;
    fixture_expect(&fixture, "before", NULL);
    fixture_expect(&fixture, "after", NULL);
    fixture_put(&fixture, "after", "x");
    in_every_start(expect_only_after);
}

static void test_a_flush_comes_while_nobody_runs(void **state)
{
    (void)state;
    fixture_put(&fixture, "before", "x");
    fixture_flush(&fixture, FIXTURE_NOW + 50);
    fixture_put(&fixture, "after", "y");
    log_fill(3);
    stop_and_open_at(FIXTURE_NOW + 51);
    fixture_expect(&fixture, "before", NULL);
    fixture_expect(&fixture, "after", NULL);
    fixture_put(&fixture, "after", "x");
    in_every_start(expect_only_after);
}

static void test_a_later_flush_takes_the_place_of_a_pending_one(void **state)
{
    (void)state;
    fixture_put(&fixture, "before", "x");
    fixture_flush(&fixture, FIXTURE_NOW + 50);
    log_fill(2);
    fixture_flush(&fixture, FIXTURE_NOW + 100);
    fixture_put(&fixture, "after", "x");
    stop_and_open_at(FIXTURE_NOW + 60);
    in_every_start(expect_pending);
    stop_and_open_at(FIXTURE_NOW + 100);
    fixture_expect(&fixture, "before", NULL);
    fixture_expect(&fixture, "after", NULL);
}

static void test_a_flush_at_once_cancels_a_pending_one(void **state)
{
    (void)state;
    fixture_put(&fixture, "before", "x");
    fixture_flush(&fixture, FIXTURE_NOW + 50);
    fixture_flush(&fixture, 0);
    fixture_put(&fixture, "after", "x");
    stop_and_open_at(FIXTURE_NOW + 60);
    in_every_start(expect_only_after);
}

/* Numbers that are given once. */

static void test_cas_uniques_grow_over_restarts(void **state)
{
    (void)state;
    uint64_t last = 0;
    for (int i = 0; i < 6; i++) {
        fixture_put(&fixture, "key", "x");
        assert_true(fixture_cas(&fixture, "key") > last);
        last = fixture_cas(&fixture, "key");
        if (i % 2)
            fixture_reopen(&fixture);
        else
            kill_and_open_without_hints();
        assert_int_equal(fixture_cas(&fixture, "key"), last);
    }
}

static void test_cas_uniques_of_lost_writes_are_not_given_again(void **state)
{
    (void)state;
    uint64_t last = 0;
    for (int i = 0; i < 4; i++) {
        /* Another session may have seen it by then. */
        struct store_key key = fixture_key(&fixture, "key");
        struct store_put put = {.value = {{"x", 1}}};
        assert_int_equal(wait_put(fixture.session, &key, fixture.now_s, &put), STORE_OK);
        assert_true(put.cas > last);
        last = put.cas;
        fixture_crash(&fixture);
        fixture_open(&fixture);
        fixture_expect(&fixture, "key", NULL);
    }
}

static void test_a_chosen_cas_unique_changes_nothing_for_others(void **state)
{
    (void)state;
    struct store_key key = fixture_key(&fixture, "chosen");
    struct store_put put = {.value = {{"x", 1}}, .cas = UINT64_MAX - 5};
    assert_int_equal(wait_put(fixture.session, &key, fixture.now_s, &put), STORE_OK);
    kill_and_open_without_hints();
    assert_true(fixture_cas(&fixture, "chosen") == UINT64_MAX - 5);
    fixture_put(&fixture, "key", "x");
    assert_true(fixture_cas(&fixture, "key") < UINT64_MAX / 2);
}

static void test_no_lsn_is_given_twice(void **state)
{
    (void)state;
    uint64_t last = 0;
    for (int i = 0; i < 6; i++) {
        fixture_put(&fixture, "key", "x");
        fixture_commit(&fixture);
        uint64_t lsn = fixture_stats(&fixture).lsn;
        assert_true(lsn > last);
        last = lsn;
        if (i % 2)
            fixture_reopen(&fixture);
        else
            kill_and_open();
        assert_true(fixture_stats(&fixture).lsn >= last + SEGMENT_HEADER_SIZE);
    }
}

/* Files. */

static void test_half_made_files_are_removed(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "x");
    fixture_close(&fixture);
    file_save(&fixture.dir, "0000000000000001.tmp", "half", 4);
    file_save(&fixture.dir, "0000000000000001.hint-tmp", "half", 4);
    fixture_open(&fixture);
    assert_false(file_exists(&fixture.dir, "0000000000000001.tmp"));
    assert_false(file_exists(&fixture.dir, "0000000000000001.hint-tmp"));
    fixture_expect(&fixture, "key", "x");
}

static void test_segments_allocated_ahead_do_not_pile_up(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "x");
    fixture_commit(&fixture);
    for (int i = 0; i < 5; i++)
        kill_and_open();
    fixture_close(&fixture);
    assert_int_equal(count_files(".seg"), 6); /* one a start */
    assert_int_equal(count_files(".hint"), 6);
}

static void test_segments_of_another_store_are_left_alone(void **state)
{
    (void)state;
    static struct fixture other;
    static char names[FILES_MAX][NAME_LEN];
    size_t len;
    fixture_init(&other);
    fixture_open(&other);
    fixture_put(&other, "other's", "x");
    fixture_close(&other);
    fixture_put(&fixture, "key", "x");
    fixture_close(&fixture);
    assert_int_equal(files_with_suffix(&other.dir, ".seg", names, FILES_MAX), 1);
    char *data = file_load(&other.dir, names[0], &len);
    file_save(&fixture.dir, "0000000000000077.seg", data, len);
    free(data);
    fixture_open(&fixture);
    assert_true(messages_have(&fixture.messages, "0000000000000077.seg"));
    fixture_expect(&fixture, "key", "x");
    fixture_expect(&fixture, "other's", NULL);
    fixture_put(&fixture, "key", "y");
    fixture_reopen(&fixture);
    fixture_expect(&fixture, "key", "y");
    data = file_load(&fixture.dir, "0000000000000077.seg", &len);
    assert_true(len > SEGMENT_HEADER_SIZE);
    free(data);
    fixture_release(&other);
}

static void test_a_segment_of_another_version_is_refused(void **state)
{
    (void)state;
    static char names[FILES_MAX][NAME_LEN];
    size_t len;
    fixture_put(&fixture, "key", "x");
    fixture_close(&fixture);
    assert_int_equal(files_with_suffix(&fixture.dir, ".seg", names, FILES_MAX), 1);
    char *data = file_load(&fixture.dir, names[0], &len);
    for (int copy = 0; copy < 2; copy++) {
        data[copy * 128 + 8] = 2;
        uint64_t check = XXH3_64bits(data + copy * 128, 120);
        memcpy(data + copy * 128 + 120, &check, sizeof check);
    }
    file_save(&fixture.dir, names[0], data, len);
    free(data);
    file_save(&fixture.dir, "0000000000000001.hint-tmp", "half", 4);
    unlinkat(fixture.dir.fd, "lock", 0);
    uint64_t before = temp_dir_digest(&fixture.dir);
    assert_int_equal(fixture_try_open(&fixture), STORE_BAD_VERSION);
    assert_true(messages_have(&fixture.messages, "version"));
    unlinkat(fixture.dir.fd, "lock", 0);
    assert_true(temp_dir_digest(&fixture.dir) == before);
}

/* Hint files (H1, H2). */

static void store_many(void)
{
    char key[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        fixture_put(&fixture, key, key);
        if (i % 3 == 0)
            fixture_touch(&fixture, key, FIXTURE_NOW + 1000);
        if (i % 5 == 0)
            fixture_delete(&fixture, key);
    }
    log_fill(1);
}

static void expect_many(void)
{
    char key[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        fixture_expect(&fixture, key, i % 5 == 0 ? NULL : key);
        if (i % 5 && i % 3 == 0)
            assert_int_equal(fixture_expiry(&fixture, key), FIXTURE_NOW + 1000);
    }
}

static void test_hints_and_scans_say_the_same(void **state)
{
    (void)state;
    store_many();
    in_every_start(expect_many);
}

static void test_a_damaged_hint_file_is_told_and_not_believed(void **state)
{
    (void)state;
    static char names[FILES_MAX][NAME_LEN];
    store_many();
    for (size_t byte = 3; byte < 4000; byte += 391) {
        fixture_close(&fixture);
        size_t count = files_with_suffix(&fixture.dir, ".hint", names, FILES_MAX);
        assert_true(count > 0);
        file_flip_bit(&fixture.dir, names[0], byte, (int)byte % 8);
        messages_clear(&fixture.messages);
        fixture_open(&fixture);
        assert_true(
            messages_have(&fixture.messages, "hint file of segment 0000000000000001 is damaged"));
        expect_many();
    }
}

static void test_a_hint_file_of_another_segment_is_not_believed(void **state)
{
    (void)state;
    store_many();
    log_fill(2);
    fixture_close(&fixture);
    assert_true(count_files(".hint") > 2);
    assert_int_equal(
        renameat(fixture.dir.fd, "0000000000000002.hint", fixture.dir.fd, "0000000000000001.hint"),
        0);
    fixture_open(&fixture);
    expect_many();
}

static bool all_hinted(void *context)
{
    (void)context;
    return count_files(".hint") + 1 == (size_t)fixture_stats(&fixture).segments;
}

static void test_hint_files_are_written_in_the_background(void **state)
{
    (void)state;
    fixture_close(&fixture);
    fixture.options.sync_interval_ms = 10;
    fixture_open(&fixture);
    log_fill(5);
    assert_true(wait_until(all_hinted, NULL));
    fixture_close(&fixture);
    fixture.options.sync_interval_ms = STORE_SYNC_NEVER;
    fixture_open(&fixture);
    log_fill(5);
    assert_true(wait_until(all_hinted, NULL));
}

/* The hint file of a segment that is still in the log, and what a scan of it finds. */
static void compare_hint_with_scan(const struct segment *segment)
{
    struct hint hint, scanned;
    struct hint_entry *entries, *found;
    assert_int_equal(hint_read(&file_system_os, fixture.dir.fd, segment, &hint, &entries),
                     STORE_OK);
    const struct hint_source source = {.files = &file_system_os,
                                       .segment = segment,
                                       .end = atomic_load(&segment->end),
                                       .hash_seed = fixture.store->datadir.hash_seed,
                                       .reporter = &fixture.messages.reporter};
    assert_int_equal(hint_collect(&source, &scanned, &found), STORE_OK);
    assert_int_equal(hint.count, scanned.count);
    assert_int_equal(hint.touches, scanned.touches);
    assert_int_equal(hint.end, scanned.end);
    assert_true(hint.cas_max >= scanned.cas_max);
    assert_memory_equal(entries, found, hint.count * sizeof *entries);
    free(entries);
    free(found);
}

static void test_a_hint_that_grew_with_its_segment_says_what_a_scan_finds(void **state)
{
    (void)state;
    for (int i = 0; i < 3000; i++) {
        char key[16];
        snprintf(key, sizeof key, "key %d", i);
        fixture_put_until(&fixture, key, "some value", i % 3 ? FIXTURE_NOW + 1000 : 0);
        if (i % 5 == 0)
            fixture_touch(&fixture, key, FIXTURE_NOW + 2000);
        if (i % 7 == 0)
            fixture_delete(&fixture, key);
        if (i % 999 == 0)
            fixture_flush(&fixture, FIXTURE_NOW + 100000);
    }
    fixture_commit(&fixture);
    assert_true(count_files("hint-tmp") >= 1); /* of the segment that is being filled */
    log_fill(2);
    assert_true(wait_until(all_hinted, NULL));
    const struct log *log = &fixture.store->log;
    for (const struct segment *segment = log->first; segment != log->active;
         segment = segment->next)
        compare_hint_with_scan(segment);
}

/* Damage. */

static void first_segment(char name[NAME_LEN])
{
    segment_name(name, 1, "seg");
}

static void test_one_flipped_bit_costs_one_value(void **state)
{
    (void)state;
    static char value[1000];
    char name[NAME_LEN];
    fixture_put(&fixture, "a", "x");
    fixture_put_bytes(&fixture, "b", value, sizeof value);
    fixture_put(&fixture, "c", "x");
    fixture_close(&fixture);
    remove_files(".hint");
    first_segment(name);
    file_flip_bit(&fixture.dir, name, SEGMENT_HEADER_SIZE + 40 + 500, 3);
    fixture_open(&fixture);
    assert_true(messages_have(&fixture.messages, "no valid record at bytes 296 to 1336"));
    fixture_expect(&fixture, "a", "x");
    fixture_expect(&fixture, "b", NULL);
    fixture_expect(&fixture, "c", "x");
    assert_int_equal(fixture_stats(&fixture).corrupt_records, 1);
}

/* Long values are not read as a whole, but checked all the same. */
static void test_a_flipped_bit_in_a_long_value_costs_that_value(void **state)
{
    (void)state;
    static char value[1000000];
    char name[NAME_LEN];
    for (size_t flip = 0; flip < sizeof value; flip += sizeof value / 3) {
        fixture_put(&fixture, "a", "x");
        fixture_put_bytes(&fixture, "b", value, sizeof value);
        fixture_put_bytes(&fixture, "c", value, sizeof value);
        fixture_put(&fixture, "d", "x");
        fixture_commit(&fixture);
        uint64_t id = 0; /* each has a segment of its own: the second one's */
        size_t at = SEGMENT_HEADER_SIZE + RECORD_HEADER_SIZE + 1 + flip;
        for (const struct segment *segment = fixture.store->log.first; segment;
             segment = segment->next)
            if (atomic_load(&segment->end) > sizeof value)
                id = segment->header.id;
        fixture_close(&fixture);
        remove_files(".hint");
        segment_name(name, id, "seg");
        file_flip_bit(&fixture.dir, name, at, 3);
        fixture_open(&fixture);
        fixture_expect(&fixture, "a", "x");
        fixture_expect_bytes(&fixture, "b", value, sizeof value);
        fixture_expect(&fixture, "c", NULL);
        fixture_expect(&fixture, "d", "x");
    }
}

static void test_a_flipped_bit_in_a_segment_header_costs_nothing(void **state)
{
    (void)state;
    char name[NAME_LEN];
    fixture_put(&fixture, "key", "x");
    first_segment(name);
    for (size_t byte = 0; byte < SEGMENT_HEADER_SIZE; byte += 5) {
        fixture_close(&fixture);
        file_flip_bit(&fixture.dir, name, byte, (int)byte % 8);
        fixture_open(&fixture);
        fixture_expect(&fixture, "key", "x");
        fixture_close(&fixture);
        file_flip_bit(&fixture.dir, name, byte, (int)byte % 8);
        fixture_open(&fixture);
    }
    assert_int_equal(fixture.messages.errors + fixture.messages.warnings, 0);
}

static void test_a_lost_segment_header_is_told(void **state)
{
    (void)state;
    char name[NAME_LEN];
    fixture_put(&fixture, "key", "x");
    log_fill(1);
    fixture_put(&fixture, "later", "x");
    fixture_close(&fixture);
    first_segment(name);
    file_flip_bit(&fixture.dir, name, 70, 0);
    file_flip_bit(&fixture.dir, name, 128 + 70, 0);
    fixture_open(&fixture);
    assert_true(messages_have(&fixture.messages, "0000000000000001.seg"));
    assert_true(messages_have(&fixture.messages, "no valid header"));
    fixture_expect(&fixture, "key", NULL);
    fixture_expect(&fixture, "later", "x");
    assert_true(file_exists(&fixture.dir, name));
}

/* Kills the store, and cuts off everything after the first `keep` bytes of its only segment. */
static void crash_with_torn_tail(size_t keep, bool zeros)
{
    char name[NAME_LEN];
    size_t len;
    fixture_commit(&fixture);
    fixture_crash(&fixture);
    first_segment(name);
    char *data = file_load(&fixture.dir, name, &len);
    if (zeros)
        memset(data + keep, 0, len - keep);
    file_save(&fixture.dir, name, data, zeros ? len : keep);
    free(data);
    messages_clear(&fixture.messages);
    fixture_open(&fixture);
}

static void test_a_torn_tail_is_cut_and_is_no_damage(void **state)
{
    (void)state;
    /* Two records of 40 bytes, and the second one torn at each byte: in a file that ends there,
     * or in zeros. */
    for (size_t torn = 0; torn < 40; torn += 3)
        for (int zeros = 0; zeros < 2; zeros++) {
            fixture_put(&fixture, "one", "1");
            fixture_put(&fixture, "two", "2");
            crash_with_torn_tail(SEGMENT_HEADER_SIZE + 40 + torn, zeros);
            fixture_expect(&fixture, "one", "1");
            fixture_expect(&fixture, "two", torn < 36 ? NULL : zeros ? "2" : NULL);
            if (fixture.messages.warnings)
                print_error("torn after %zu bytes (zeros: %d): %s\n", torn, zeros,
                            fixture.messages.text);
            assert_int_equal(fixture.messages.warnings, 0);
            kill_and_open();
            assert_int_equal(fixture.messages.warnings, 0);
            fixture_release(&fixture);
            set_up(NULL);
        }
}

/* A log that a death of the process leaves, with a hole: 40 values of 1040 bytes, of which one
 * is damaged, and segments. */
static void crash_with_a_hole(uint32_t segments_behind)
{
    static char value[1000];
    char name[NAME_LEN], key[16];
    for (int i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "key-%02d", i);
        fixture_put_bytes(&fixture, key, value, sizeof value);
    }
    segment_name(name, fixture.store->log.active->header.id, "seg");
    log_fill(segments_behind);
    fixture_crash(&fixture);
    file_flip_bit(&fixture.dir, name, SEGMENT_HEADER_SIZE + 20 * 1040 + 500, 3);
    messages_clear(&fixture.messages);
}

static void test_a_hole_in_what_was_written_in_this_boot_costs_one_record(void **state)
{
    (void)state;
    crash_with_a_hole(0);
    fixture_open(&fixture);
    assert_true(messages_have(&fixture.messages, "no valid record"));
    fixture_expect(&fixture, "key-20", NULL);
    assert_true(fixture_cas(&fixture, "key-21") != 0);
    assert_true(fixture_cas(&fixture, "key-39") != 0);
}

/* Y6 */
static void test_a_hole_ends_the_log_when_the_machine_has_started_anew(void **state)
{
    (void)state;
    crash_with_a_hole(0);
    fixture.options.boot_id++;
    fixture_open(&fixture);
    assert_true(messages_have(&fixture.messages, "it ends there"));
    for (int times = 0; times < 3; times++) {
        assert_true(fixture_cas(&fixture, "key-19") != 0);
        fixture_expect(&fixture, "key-20", NULL);
        fixture_expect(&fixture, "key-21", NULL);
        kill_and_open();
    }
    assert_int_equal(fixture_stats(&fixture).corrupt_records, 0);
}

/* Y8: a start finds the end, and dies when the header of its segment is on disk. The next start
 * must cut off whatever follows that end: once the header has been cleaned, it would be a hole
 * before everything written since. */
static void test_what_a_start_found_behind_the_end_is_cut_by_the_next_one(void **state)
{
    (void)state;
    char names[FILES_MAX][NAME_LEN];
    crash_with_a_hole(0);
    fixture.options.boot_id++;
    fixture.options.sync_interval_ms = 3600 * 1000; /* so no hint files, which would be believed */
    faulty_fail(&fixture.faulty, CALL_TRUNCATE, 2, 1, EIO); /* the first is the lock file's */
    assert_int_equal(fixture_try_open(&fixture), STORE_IO);
    assert_true(messages_have(&fixture.messages, "cannot cut off"));
    /* Behind the header's segment there may be ready ones. */
    assert_in_range(files_with_suffix(&fixture.dir, ".seg", names, FILES_MAX), 2, 2 + LOG_READY);
    fixture_open(&fixture);
    fixture_put(&fixture, "later", "value");
    fixture_commit(&fixture);
    fixture_crash(&fixture);
    assert_int_equal(unlinkat(fixture.dir.fd, names[1], 0), 0);
    fixture.options.boot_id++;
    messages_clear(&fixture.messages);
    fixture_open(&fixture);
    assert_int_equal(fixture.messages.warnings, 0);
    assert_true(fixture_cas(&fixture, "key-19") != 0);
    fixture_expect(&fixture, "key-21", NULL);
    fixture_expect(&fixture, "later", "value");
}

#define FIRST_FILE "00000000000003e8.seg" /* segment 1000 */

/* The header of a log's second segment is the only trace of the first, and this is what it says of
 * it. */
static void open_without_first_segment(uint64_t first_id, const char *first_file, size_t len)
{
    char name[NAME_LEN], header[SEGMENT_HEADER_SIZE];
    fixture_reopen(&fixture);
    fixture_put(&fixture, "key", "value");
    fixture_commit(&fixture);
    struct segment_header second = fixture.store->log.active->header;
    fixture_crash(&fixture);
    for (uint64_t id = 1; id < second.id; id++) {
        segment_name(name, id, "seg");
        unlinkat(fixture.dir.fd, name, 0);
        segment_name(name, id, "hint");
        unlinkat(fixture.dir.fd, name, 0);
    }
    second.previous_id = first_id;
    segment_header_encode(header, &second);
    segment_name(name, second.id, "seg");
    int fd = openat(fixture.dir.fd, name, O_WRONLY);
    assert_int_equal(pwrite(fd, header, sizeof header, 0), sizeof header);
    close(fd);
    segment_name(name, first_id, "seg");
    if (first_file)
        file_save(&fixture.dir, name, first_file, len);
    messages_clear(&fixture.messages);
    fixture.options.boot_id++;
    fixture_open(&fixture);
}

/* L4, Y6: what was before it was cleaned, and its id is not given again, or a lost segment could
 * take its place some day. */
static void test_a_segment_that_is_gone_is_no_hole(void **state)
{
    (void)state;
    open_without_first_segment(1000, NULL, 0);
    assert_int_equal(fixture.messages.warnings, 0);
    fixture_expect(&fixture, "key", "value");
    assert_true(fixture.store->log.active->header.id > 1000);
}

static void test_a_segment_that_has_lost_its_header_is_a_hole(void **state)
{
    (void)state;
    open_without_first_segment(1000, "torn", 4);
    assert_true(messages_have(&fixture.messages, "it ends there"));
    assert_true(messages_have(&fixture.messages, FIRST_FILE) &&
                messages_have(&fixture.messages, "left alone"));
    assert_true(file_exists(&fixture.dir, FIRST_FILE));
    assert_int_equal(fixture_stats(&fixture).corrupt_records, 1);
    fixture_expect(&fixture, "key", NULL);
}

/* The power loss has left less than a header of it: it is removed, and no message says that it
 * stays. */
static void test_a_segment_whose_header_was_never_on_disk_goes_with_what_is_behind(void **state)
{
    (void)state;
    static char page[8192];
    page[5000] = 1;
    open_without_first_segment(1000, page, sizeof page);
    assert_true(messages_have(&fixture.messages, "it ends there"));
    assert_false(messages_have(&fixture.messages, "left alone"));
    assert_false(file_exists(&fixture.dir, FIRST_FILE));
    assert_int_equal(fixture_stats(&fixture).corrupt_records, 0);
    fixture_expect(&fixture, "key", NULL);
}

/* Y9 */
static void test_a_segment_that_cannot_be_read_is_no_hole(void **state)
{
    (void)state;
    faulty_bad_place(&fixture.faulty, FIRST_FILE, 0, 4096);
    open_without_first_segment(1000, "no header", 9);
    assert_false(messages_have(&fixture.messages, "it ends there"));
    assert_true(messages_have(&fixture.messages, FIRST_FILE) &&
                messages_have(&fixture.messages, "left alone"));
    assert_true(file_exists(&fixture.dir, FIRST_FILE));
    assert_int_equal(fixture_stats(&fixture).corrupt_records, 1);
    fixture_expect(&fixture, "key", "value");
}

static void test_a_record_found_damaged_by_a_get_is_a_miss(void **state)
{
    (void)state;
    static char value[1000];
    char name[NAME_LEN];
    fixture_put_bytes(&fixture, "key", value, sizeof value);
    fixture_close(&fixture);
    first_segment(name);
    file_flip_bit(&fixture.dir, name, SEGMENT_HEADER_SIZE + 500, 3);
    fixture_open(&fixture);
    struct store_key key = fixture_key(&fixture, "key");
    struct store_fetch fetch = {0};
    struct store_item item;
    assert_int_equal(fixture_get(&fixture, &key, &fetch, &item), STORE_CORRUPT);
    store_fetch_release(&fetch);
    assert_true(messages_have(&fixture.messages,
                              "segment 0000000000000001: the record at byte 256 is damaged"));
    fixture_expect(&fixture, "key", NULL);
    assert_int_equal(fixture_stats(&fixture).corrupt_records, 1);
}

/* Memory. */

static void test_deleted_keys_in_the_log_do_not_keep_the_store_from_starting(void **state)
{
    (void)state;
    char key[32];
    fixture_put(&fixture, "alive", "x");
    for (int i = 0; i < 100000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        fixture_put(&fixture, key, "x");
        fixture_delete(&fixture, key);
        if (i % 100 == 0)
            fixture_commit(&fixture);
    }
    fixture_close(&fixture);
    assert_int_equal(fixture_try_open(&fixture), STORE_OK);
    fixture_expect(&fixture, "alive", "x");
}

/* Dead keys take no memory: 100,000 keys that lived for a second, any of which the last segment,
 * which has no hint file, might prolong. One in a thousand is prolonged, by TOUCHes in every
 * segment. */
#define SHORT_LIVED  100000
#define PROLONGED(i) ((i) % 1000 == 999)

static void store_short_lived(bool touch)
{
    char key[32];
    fixture_put(&fixture, "alive", "x");
    for (int i = 0; i < SHORT_LIVED; i++) {
        snprintf(key, sizeof key, "key %d", i);
        fixture_put_until(&fixture, key, "x", fixture.now_s + 1);
        if (touch && PROLONGED(i))
            fixture_touch(&fixture, key, FIXTURE_NOW + 100000);
        if (i % 10000 == 9999) {
            fixture.now_s += 10;
            for (int j = i - 9999; j <= i; j++) {
                snprintf(key, sizeof key, "key %d", j);
                fixture_expect(&fixture, key, touch && PROLONGED(j) ? "x" : NULL);
            }
        }
        if (i % 100 == 0)
            fixture_commit(&fixture);
    }
}

static void expect_prolonged(void)
{
    char key[32];
    assert_int_equal(fixture_stats(&fixture).keydir_entries, 1 + SHORT_LIVED / 1000);
    for (int i = 999; i < SHORT_LIVED; i += 1000) {
        snprintf(key, sizeof key, "key %d", i);
        assert_int_equal(fixture_expiry(&fixture, key), FIXTURE_NOW + 100000);
    }
    fixture_expect(&fixture, "alive", "x");
}

static void test_expired_keys_in_the_log_do_not_keep_the_store_from_starting(void **state)
{
    (void)state;
    store_short_lived(true);
    in_every_start(expect_prolonged);
}

/* Not for a moment: no shard has ever had an entry with an expiry. */
static void test_expired_keys_take_no_entries_when_nothing_prolongs_them(void **state)
{
    (void)state;
    store_short_lived(false);
    kill_and_open();
    assert_int_equal(fixture_stats(&fixture).keydir_entries, 1);
    assert_int_equal(atomic_load(&fixture.store->keydir.expiring_shards), 0);
    kill_and_open_without_hints();
    assert_int_equal(fixture_stats(&fixture).keydir_entries, 1);
    assert_int_equal(atomic_load(&fixture.store->keydir.expiring_shards), 0);
}

static bool is_swept(void *context)
{
    (void)context;
    return fixture_stats(&fixture).keydir_entries == 0;
}

static void test_flushed_keys_in_the_log_do_not_keep_the_store_from_starting(void **state)
{
    (void)state;
    char key[32];
    for (int i = 0; i < 100000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        fixture_put(&fixture, key, "x");
        if (i % 10000 == 9999) {
            fixture_flush(&fixture, 0);
            assert_true(wait_until(is_swept, NULL)); /* or the index is full before that */
        }
        if (i % 100 == 0)
            fixture_commit(&fixture);
    }
    fixture_put(&fixture, "alive", "x");
    fixture_close(&fixture);
    assert_int_equal(fixture_try_open(&fixture), STORE_OK);
    fixture_expect(&fixture, "alive", "x");
}

static void test_missing_hints_of_many_segments_do_not_exhaust_the_memory(void **state)
{
    (void)state;
    static char value[3000];
    char key[32];
    for (int i = 0; i < 6000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        fill_pattern(value, sizeof value, (uint64_t)i);
        fixture_put_bytes(&fixture, key, value, sizeof value);
        if (i % 20 == 0)
            fixture_commit(&fixture);
    }
    fixture_close(&fixture);
    remove_files(".hint");
    assert_int_equal(fixture_try_open(&fixture), STORE_OK);
    assert_int_equal(fixture_stats(&fixture).keydir_entries, 6000);
    fixture_expect_bytes(&fixture, "key 5999", value, sizeof value);
}

static void test_more_keys_than_memory_are_refused_with_advice(void **state)
{
    (void)state;
    char key[32];
    int count = 0;
    fixture_close(&fixture);
    fixture.options.memory_limit = 8 << 20;
    fixture_open(&fixture);
    for (int i = 0; i < 150000; i++, count++) {
        snprintf(key, sizeof key, "key %d", i);
        fixture_put(&fixture, key, "x");
        if (i % 100 == 0)
            fixture_commit(&fixture);
    }
    fixture_close(&fixture);
    fixture.options.memory_limit = 1 << 20;
    assert_int_equal(fixture_try_open(&fixture), STORE_FULL);
    assert_true(messages_have(&fixture.messages, "-m"));
    fixture.options.memory_limit = 8 << 20;
    fixture_open(&fixture);
    assert_int_equal(fixture_stats(&fixture).keydir_entries, count);
}

/* Y5: at any point of a start that fails, the next one finds everything. */

static void fail_starts(const struct temp_dir *left, enum file_call call, void (*expect)(void))
{
    bool reached = true;
    for (uint64_t nth = 1; reached; nth++) {
        fixture_close(&fixture);
        temp_dir_remove(&fixture.dir);
        temp_dir_copy(left, &fixture.dir);
        if (nth % 2)
            remove_files(".hint");
        uint64_t last = faulty_calls(&fixture.faulty, call) + nth;
        faulty_fail(&fixture.faulty, call, nth, 1, EIO);
        enum store_status status = fixture_try_open(&fixture);
        reached = faulty_calls(&fixture.faulty, call) >= last;
        faulty_heal(&fixture.faulty);
        if (status == STORE_OK)
            expect();
        else
            assert_true(fixture.messages.errors > 0);
        if (status == STORE_IO) /* in whatever thread it was */
            assert_true(messages_have(&fixture.messages, strerror(EIO)));
        messages_clear(&fixture.messages);
        fixture_close(&fixture);
        fixture_open(&fixture);
        expect();
    }
}

static void test_a_start_that_fails_anywhere_can_be_repeated(void **state)
{
    (void)state;
    struct temp_dir left;
    store_many();
    fixture_commit(&fixture);
    temp_dir_copy(&fixture.dir, &left);
    for (enum file_call call = 0; call < CALL_KINDS; call++)
        fail_starts(&left, call, expect_many);
    temp_dir_remove(&left);
}

static void expect_what_is_before_the_hole(void)
{
    assert_true(fixture_cas(&fixture, "key-19") != 0);
    fixture_expect(&fixture, "key-20", NULL);
    fixture_expect(&fixture, "key-21", NULL);
    fixture_expect(&fixture, "filling", NULL);
}

/* Y5, Y8: the same while it cuts off whatever follows the end of the log. */
static void test_a_start_that_fails_while_it_cuts_can_be_repeated(void **state)
{
    (void)state;
    struct temp_dir left;
    fixture_close(&fixture);
    fixture.options.sync_interval_ms = 3600 * 1000; /* so no hint files, which would be believed */
    fixture_open(&fixture);
    crash_with_a_hole(2);
    temp_dir_copy(&fixture.dir, &left);
    fixture.options.boot_id++;
    for (enum file_call call = 0; call < CALL_KINDS; call++)
        fail_starts(&left, call, expect_what_is_before_the_hole);
    temp_dir_remove(&left);
}

/* The real thing: a process that writes and tells, and dies. */

static void write_and_tell(const struct temp_dir *dir, int pipe_fd)
{
    static struct fixture writer;
    char key[32], value[32];
    fixture_init(&writer);
    temp_dir_remove(&writer.dir);
    writer.dir = *dir;
    fixture_open(&writer);
    for (uint32_t i = 0;; i++) {
        snprintf(key, sizeof key, "key %u", i % 100);
        snprintf(value, sizeof value, "value %u", i);
        fixture_put(&writer, key, value);
        fixture_commit(&writer);
        if (write(pipe_fd, &i, sizeof i) != sizeof i)
            _exit(1);
    }
}

static void test_a_killed_process_has_lost_nothing_it_told(void **state)
{
    (void)state;
    fixture_close(&fixture);
    for (int cycle = 0; cycle < 5; cycle++) {
        int ends[2];
        uint32_t last = 0, got;
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            write_and_tell(&fixture.dir, ends[1]);
        close(ends[1]);
        for (int i = 0; i < 500 + cycle * 100 && read(ends[0], &got, sizeof got) == sizeof got; i++)
            last = got;
        kill(child, SIGKILL);
        while (read(ends[0], &got, sizeof got) == sizeof got)
            last = got;
        assert_int_equal(waitpid(child, NULL, 0), child);
        close(ends[0]);
        fixture_open(&fixture);
        for (uint32_t i = last - 99; i <= last; i++) {
            char key[32], value[32];
            snprintf(key, sizeof key, "key %u", i % 100);
            snprintf(value, sizeof value, "value %u", i);
            if (i > last - 99) /* the oldest may have been written once more without being told */
                fixture_expect(&fixture, key, value);
        }
        fixture_close(&fixture);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_store_opens_again),
        TEST(what_was_stored_is_there),
        TEST(the_newest_value_wins),
        TEST(deleted_stays_deleted),
        TEST(a_kill_loses_only_what_was_not_committed),
        TEST(expired_brings_no_older_value_back),
        TEST(touches_are_applied_in_their_order),
        TEST(any_history_is_replayed),
        TEST(a_touch_in_a_segment_with_a_damaged_hint_file_prolongs),
        TEST(a_flush_stays_done),
        TEST(each_segment_header_repeats_the_flush),
        TEST(a_pending_flush_waits_and_comes),
        TEST(a_flush_comes_while_nobody_runs),
        TEST(a_later_flush_takes_the_place_of_a_pending_one),
        TEST(a_flush_at_once_cancels_a_pending_one),
        TEST(cas_uniques_grow_over_restarts),
        TEST(cas_uniques_of_lost_writes_are_not_given_again),
        TEST(a_chosen_cas_unique_changes_nothing_for_others),
        TEST(no_lsn_is_given_twice),
        TEST(half_made_files_are_removed),
        TEST(segments_allocated_ahead_do_not_pile_up),
        TEST(segments_of_another_store_are_left_alone),
        TEST(a_segment_of_another_version_is_refused),
        TEST(hints_and_scans_say_the_same),
        TEST(a_damaged_hint_file_is_told_and_not_believed),
        TEST(a_hint_file_of_another_segment_is_not_believed),
        TEST(hint_files_are_written_in_the_background),
        TEST(a_hint_that_grew_with_its_segment_says_what_a_scan_finds),
        TEST(one_flipped_bit_costs_one_value),
        TEST(a_flipped_bit_in_a_long_value_costs_that_value),
        TEST(a_flipped_bit_in_a_segment_header_costs_nothing),
        TEST(a_lost_segment_header_is_told),
        TEST(a_torn_tail_is_cut_and_is_no_damage),
        TEST(a_hole_in_what_was_written_in_this_boot_costs_one_record),
        TEST(a_hole_ends_the_log_when_the_machine_has_started_anew),
        TEST(what_a_start_found_behind_the_end_is_cut_by_the_next_one),
        TEST(a_segment_that_is_gone_is_no_hole),
        TEST(a_segment_that_has_lost_its_header_is_a_hole),
        TEST(a_segment_whose_header_was_never_on_disk_goes_with_what_is_behind),
        TEST(a_segment_that_cannot_be_read_is_no_hole),
        TEST(a_record_found_damaged_by_a_get_is_a_miss),
        TEST(deleted_keys_in_the_log_do_not_keep_the_store_from_starting),
        TEST(expired_keys_in_the_log_do_not_keep_the_store_from_starting),
        TEST(expired_keys_take_no_entries_when_nothing_prolongs_them),
        TEST(flushed_keys_in_the_log_do_not_keep_the_store_from_starting),
        TEST(missing_hints_of_many_segments_do_not_exhaust_the_memory),
        TEST(more_keys_than_memory_are_refused_with_advice),
        TEST(a_start_that_fails_anywhere_can_be_repeated),
        TEST(a_start_that_fails_while_it_cuts_can_be_repeated),
        TEST(a_killed_process_has_lost_nothing_it_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
