/* test_recover.c: what is there after a stop, a kill, and damage (Y1 to Y5).
 *
 * "Stop" closes the store: all segments have hint files then. "Kill" goes on in a copy of the directory as it was. Segments
 * are 64 KiB and log_fill writes a few of them, so that what matters lies in different ones.
 */
#define XXH_INLINE_ALL
#include "tests/unit/storage/support.h"

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

static struct rig rig;

static int set_up(void **state)
{
    (void)state;
    rig_init(&rig);
    rig.manual_cleaner = true; /* what is on disk stays there */
    rig_open(&rig);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rig_release(&rig);
    return 0;
}

/* Writes `segments` segments full of a key that nobody asks for. */
static void log_fill(uint32_t segments)
{
    static char value[30000];
    for (uint32_t i = 0; i < segments * 3; i++) {
        fill_pattern(value, sizeof value, i);
        rig_put_bytes(&rig, "filling", value, sizeof value);
    }
    rig_commit(&rig);
}

static size_t count_files(const char *suffix)
{
    static char names[FILES_MAX][NAME_LEN];
    return files_with_suffix(&rig.dir, suffix, names, FILES_MAX);
}

static void remove_files(const char *suffix)
{
    static char names[FILES_MAX][NAME_LEN];
    size_t count = files_with_suffix(&rig.dir, suffix, names, FILES_MAX);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(unlinkat(rig.dir.fd, names[i], 0), 0);
}

static void kill_and_open(void)
{
    rig_commit(&rig);
    rig_crash(&rig);
    rig_open(&rig);
}

static void kill_and_open_without_hints(void)
{
    rig_commit(&rig);
    rig_crash(&rig);
    remove_files(".hint");
    rig_open(&rig);
}

static void reopen(void)
{
    rig_reopen(&rig);
}

static void stop_and_open_at(uint32_t now_s)
{
    rig_close(&rig);
    rig.now_s = now_s;
    rig_open(&rig);
}

/* Runs `expect` after a stop, a kill, and a kill without hint files. */
static void in_every_start(void (*expect)(void))
{
    expect();
    rig_reopen(&rig);
    expect();
    kill_and_open();
    expect();
    kill_and_open_without_hints();
    expect();
    rig_close(&rig);
    remove_files(".hint");
    rig_open(&rig);
    expect();
}

/* Values, deletions. */

static void test_an_empty_store_opens_again(void **state)
{
    (void)state;
    rig_reopen(&rig);
    kill_and_open();
    assert_int_equal(rig_stats(&rig).keydir_entries, 0);
    assert_int_equal(rig.told.errors + rig.told.warnings, 0);
}

static void expect_two(void)
{
    rig_expect(&rig, "one", "1");
    rig_expect(&rig, "two", "2");
    rig_expect(&rig, "three", NULL);
    assert_int_equal(rig_stats(&rig).keydir_entries, 2);
}

static void test_what_was_stored_is_there(void **state)
{
    (void)state;
    rig_put(&rig, "one", "1");
    rig_put(&rig, "two", "2");
    in_every_start(expect_two);
    assert_int_equal(rig.told.errors + rig.told.warnings, 0);
}

static void expect_newest(void)
{
    rig_expect(&rig, "key", "third");
}

static void test_the_newest_value_wins(void **state)
{
    (void)state;
    rig_put(&rig, "key", "first");
    log_fill(2);
    rig_put(&rig, "key", "second");
    rig_put(&rig, "key", "third");
    log_fill(2);
    in_every_start(expect_newest);
}

static void expect_deleted(void)
{
    rig_expect(&rig, "key", NULL);
    rig_expect(&rig, "again", "new");
}

static void test_deleted_stays_deleted(void **state)
{
    (void)state;
    rig_put(&rig, "key", "old");
    rig_put(&rig, "again", "old");
    log_fill(2);
    rig_delete(&rig, "key");
    rig_delete(&rig, "again");
    log_fill(2);
    rig_put(&rig, "again", "new");
    in_every_start(expect_deleted);
}

static void test_a_kill_loses_only_what_was_not_committed(void **state)
{
    (void)state;
    rig_put(&rig, "one", "1");
    rig_put(&rig, "two", "2");
    rig_commit(&rig);
    rig_put(&rig, "three", "3");
    rig_delete(&rig, "one");
    rig_crash(&rig);
    rig_open(&rig);
    expect_two();
}

/* Times. */

static void expect_expired(void)
{
    rig_expect(&rig, "key", NULL);
    rig_expect(&rig, "later", "x");
    assert_int_equal(rig_expiry(&rig, "later"), RIG_NOW + 1000);
}

static void test_expired_brings_no_older_value_back(void **state)
{
    (void)state;
    rig_put(&rig, "key", "old, for ever");
    log_fill(1);
    rig_put_until(&rig, "key", "new", RIG_NOW + 10);
    rig_put_until(&rig, "later", "x", RIG_NOW + 1000);
    stop_and_open_at(RIG_NOW + 10);
    in_every_start(expect_expired);
}

static void expect_touched(void)
{
    rig_expect(&rig, "longer", "x");
    assert_int_equal(rig_expiry(&rig, "longer"), 0);
    assert_int_equal(rig_expiry(&rig, "twice"), RIG_NOW + 300);
    assert_int_equal(rig_expiry(&rig, "stored after"), 0);
    rig_expect(&rig, "shorter", NULL);
    rig_expect(&rig, "deleted", NULL);
}

static void test_touches_are_applied_in_their_order(void **state)
{
    (void)state;
    rig_put_until(&rig, "longer", "x", RIG_NOW + 10);
    rig_put(&rig, "shorter", "x");
    rig_put(&rig, "twice", "x");
    rig_put(&rig, "deleted", "x");
    rig_touch(&rig, "twice", RIG_NOW + 100);
    rig_put(&rig, "stored after", "x");
    rig_touch(&rig, "stored after", RIG_NOW + 10);
    rig_touch(&rig, "deleted", RIG_NOW + 1000);
    log_fill(1);
    rig_touch(&rig, "longer", 0);
    rig_touch(&rig, "shorter", RIG_NOW + 10);
    rig_touch(&rig, "twice", RIG_NOW + 200);
    log_fill(1);
    rig_touch(&rig, "twice", RIG_NOW + 300);
    rig_put(&rig, "stored after", "y");
    rig_delete(&rig, "deleted");
    stop_and_open_at(RIG_NOW + 20);
    in_every_start(expect_touched);
}

/* Any history: what a start finds is what there was, and no segment is said to hold more or less than it does. */

#define HISTORY_KEYS 60

struct history {
    struct dice dice;
    bool present[HISTORY_KEYS];
    uint32_t expire_s[HISTORY_KEYS];
    int value[HISTORY_KEYS];
};

static bool is_alive(const struct history *history, uint32_t k)
{
    uint32_t expire_s = history->expire_s[k];
    return history->present[k] && (!expire_s || expire_s > rig.now_s);
}

static uint32_t some_expiry(struct history *history)
{
    return dice_one_in(&history->dice, 3) ? 0 : rig.now_s + 1 + dice_below(&history->dice, 200);
}

static void change_one(struct history *history, int number)
{
    uint32_t k = dice_below(&history->dice, HISTORY_KEYS);
    uint32_t expire_s = some_expiry(history);
    char key[32], value[32];
    snprintf(key, sizeof key, "key %u", k);
    snprintf(value, sizeof value, "value %d", number);
    if (!is_alive(history, k) || dice_one_in(&history->dice, 3)) {
        rig_put_until(&rig, key, value, expire_s);
        history->present[k] = true;
        history->value[k] = number;
    } else if (dice_one_in(&history->dice, 3)) {
        rig_delete(&rig, key);
        history->present[k] = false;
    } else {
        rig_touch(&rig, key, expire_s);
    }
    history->expire_s[k] = expire_s;
}

static void change_many(struct history *history, int *number)
{
    for (int end = *number + 400; *number < end; ++*number) {
        change_one(history, *number);
        rig.now_s += dice_one_in(&history->dice, 10);
        if (dice_one_in(&history->dice, 100))
            log_fill(1);
        if (dice_one_in(&history->dice, 2000)) {
            rig_flush(&rig, 0);
            memset(history->present, 0, sizeof history->present);
        }
    }
}

static bool add_live(void *context, struct keydir_entry *entry)
{
    uint64_t *live_bytes = context;
    live_bytes[location_slot(entry->location)] += location_size(entry->location);
    return true;
}

/* Right after a start, when all entries point to the log. */
static void expect_exact_live_bytes(void)
{
    struct store *store = rig.store;
    uint64_t *live_bytes = calloc(store->log.slot_count, sizeof *live_bytes);
    for (uint32_t i = 0; i < store->keydir.shard_count; i++) {
        uint64_t cursor = 0;
        keydir_lock(&store->keydir.shards[i]);
        keydir_scan(&store->keydir.shards[i], &cursor, UINT32_MAX, add_live, live_bytes);
        keydir_unlock(&store->keydir.shards[i]);
    }
    for (const struct segment *segment = store->log.first; segment; segment = segment->next)
        assert_int_equal(segment_live_bytes(segment), live_bytes[segment->slot]);
    free(live_bytes);
}

static void expect_history(const struct history *history)
{
    char key[32], value[32];
    expect_exact_live_bytes();
    for (uint32_t k = 0; k < HISTORY_KEYS; k++) {
        snprintf(key, sizeof key, "key %u", k);
        snprintf(value, sizeof value, "value %d", history->value[k]);
        rig_expect(&rig, key, is_alive(history, k) ? value : NULL);
        if (is_alive(history, k))
            assert_int_equal(rig_expiry(&rig, key), history->expire_s[k]);
    }
}

static void test_any_history_is_replayed(void **state)
{
    (void)state;
    static void (*const starts[])(void) = {kill_and_open, kill_and_open_without_hints, reopen};
    uint64_t seed = number_from_env("SEED", 20261130);
    print_message("SEED=%llu\n", (unsigned long long)seed);
    struct history history = {.dice = {seed}};
    int number = 0;
    for (int round = 0; round < (SLOW_BUILD ? 15 : 60); round++) {
        change_many(&history, &number);
        rig_commit(&rig);
        rig.now_s += dice_below(&history.dice, 150);
        starts[dice_below(&history.dice, 3)]();
        expect_history(&history);
    }
}

/* Y2: a TOUCH is found wherever it lies, and may lie in a segment whose hint file is bad. */
static void test_a_touch_in_a_segment_with_a_damaged_hint_file_prolongs(void **state)
{
    (void)state;
    static char names[FILES_MAX][NAME_LEN];
    rig_put_until(&rig, "key", "x", RIG_NOW + 10);
    rig_put_until(&rig, "short", "x", RIG_NOW + 10);
    log_fill(2);
    rig_touch(&rig, "key", RIG_NOW + 1000);
    log_fill(2);
    rig_close(&rig);
    size_t count = files_with_suffix(&rig.dir, ".hint", names, FILES_MAX);
    for (size_t i = 0; i < count; i++)
        file_flip_bit(&rig.dir, names[i], 120, 1);
    rig.now_s = RIG_NOW + 20;
    rig_open(&rig);
    assert_int_equal(rig_expiry(&rig, "key"), RIG_NOW + 1000);
    rig_expect(&rig, "short", NULL);
}

/* Flushes (Y4). */

static void expect_only_after(void)
{
    rig_expect(&rig, "before", NULL);
    rig_expect(&rig, "after", "x");
    rig_expect(&rig, "filling", NULL);
}

static void test_a_flush_stays_done(void **state)
{
    (void)state;
    rig_put(&rig, "before", "x");
    log_fill(1);
    rig_flush(&rig, 0);
    rig_put(&rig, "after", "x");
    in_every_start(expect_only_after);
}

static void expect_flushed_long_ago(void)
{
    rig_expect(&rig, "before", NULL);
    rig_expect(&rig, "after", "x");
}

static void test_each_segment_header_repeats_the_flush(void **state)
{
    (void)state;
    rig_put(&rig, "before", "x");
    log_fill(1);
    rig_flush(&rig, 0);
    rig_put(&rig, "after", "x");
    log_fill(4);
    in_every_start(expect_flushed_long_ago);
}

static void expect_pending(void)
{
    rig_expect(&rig, "before", "x");
    rig_expect(&rig, "after", "x");
}

static void test_a_pending_flush_waits_and_comes(void **state)
{
    (void)state;
    rig_put(&rig, "before", "x");
    rig_flush(&rig, RIG_NOW + 50);
    log_fill(3);
    rig_put(&rig, "after", "x");
    in_every_start(expect_pending);
    rig.now_s = RIG_NOW + 50;
    rig_expect(&rig, "before", NULL);
    rig_expect(&rig, "after", NULL);
    rig_put(&rig, "after", "x");
    in_every_start(expect_only_after);
}

static void test_a_flush_comes_while_nobody_runs(void **state)
{
    (void)state;
    rig_put(&rig, "before", "x");
    rig_flush(&rig, RIG_NOW + 50);
    rig_put(&rig, "after", "y");
    log_fill(3);
    stop_and_open_at(RIG_NOW + 51);
    rig_expect(&rig, "before", NULL);
    rig_expect(&rig, "after", NULL);
    rig_put(&rig, "after", "x");
    in_every_start(expect_only_after);
}

static void test_a_later_flush_takes_the_place_of_a_pending_one(void **state)
{
    (void)state;
    rig_put(&rig, "before", "x");
    rig_flush(&rig, RIG_NOW + 50);
    log_fill(2);
    rig_flush(&rig, RIG_NOW + 100);
    rig_put(&rig, "after", "x");
    stop_and_open_at(RIG_NOW + 60);
    in_every_start(expect_pending);
    stop_and_open_at(RIG_NOW + 100);
    rig_expect(&rig, "before", NULL);
    rig_expect(&rig, "after", NULL);
}

static void test_a_flush_at_once_cancels_a_pending_one(void **state)
{
    (void)state;
    rig_put(&rig, "before", "x");
    rig_flush(&rig, RIG_NOW + 50);
    rig_flush(&rig, 0);
    rig_put(&rig, "after", "x");
    stop_and_open_at(RIG_NOW + 60);
    in_every_start(expect_only_after);
}

/* Numbers that are given once. */

static void test_cas_uniques_grow_over_restarts(void **state)
{
    (void)state;
    uint64_t last = 0;
    for (int i = 0; i < 6; i++) {
        rig_put(&rig, "key", "x");
        assert_true(rig_cas(&rig, "key") > last);
        last = rig_cas(&rig, "key");
        if (i % 2)
            rig_reopen(&rig);
        else
            kill_and_open_without_hints();
        assert_int_equal(rig_cas(&rig, "key"), last);
    }
}

static void test_cas_uniques_of_lost_writes_are_not_given_again(void **state)
{
    (void)state;
    uint64_t last = 0;
    for (int i = 0; i < 4; i++) {
        /* Another session may have seen it by then. */
        struct store_key key = rig_key(&rig, "key");
        struct store_put put = {.value = {{"x", 1}}};
        assert_int_equal(wait_put(rig.session, &key, rig.now_s, &put), STORE_OK);
        assert_true(put.cas > last);
        last = put.cas;
        rig_crash(&rig);
        rig_open(&rig);
        rig_expect(&rig, "key", NULL);
    }
}

static void test_a_chosen_cas_unique_changes_nothing_for_others(void **state)
{
    (void)state;
    struct store_key key = rig_key(&rig, "chosen");
    struct store_put put = {.value = {{"x", 1}}, .cas = UINT64_MAX - 5};
    assert_int_equal(wait_put(rig.session, &key, rig.now_s, &put), STORE_OK);
    kill_and_open_without_hints();
    assert_true(rig_cas(&rig, "chosen") == UINT64_MAX - 5);
    rig_put(&rig, "key", "x");
    assert_true(rig_cas(&rig, "key") < UINT64_MAX / 2);
}

static void test_no_lsn_is_given_twice(void **state)
{
    (void)state;
    uint64_t last = 0;
    for (int i = 0; i < 6; i++) {
        rig_put(&rig, "key", "x");
        rig_commit(&rig);
        uint64_t lsn = rig_stats(&rig).lsn;
        assert_true(lsn > last);
        last = lsn;
        if (i % 2)
            rig_reopen(&rig);
        else
            kill_and_open();
        assert_true(rig_stats(&rig).lsn >= last + SEGMENT_HEADER_SIZE);
    }
}

/* Files. */

static void test_half_made_files_are_removed(void **state)
{
    (void)state;
    rig_put(&rig, "key", "x");
    rig_close(&rig);
    file_save(&rig.dir, "0000000000000001.tmp", "half", 4);
    file_save(&rig.dir, "0000000000000001.hint-tmp", "half", 4);
    rig_open(&rig);
    assert_false(file_exists(&rig.dir, "0000000000000001.tmp"));
    assert_false(file_exists(&rig.dir, "0000000000000001.hint-tmp"));
    rig_expect(&rig, "key", "x");
}

static void test_segments_allocated_ahead_do_not_pile_up(void **state)
{
    (void)state;
    rig_put(&rig, "key", "x");
    rig_commit(&rig);
    for (int i = 0; i < 5; i++)
        kill_and_open();
    rig_close(&rig);
    assert_int_equal(count_files(".seg"), 6); /* one a start */
    assert_int_equal(count_files(".hint"), 6);
}

static void test_segments_of_another_store_are_left_alone(void **state)
{
    (void)state;
    static struct rig other;
    static char names[FILES_MAX][NAME_LEN];
    size_t len;
    rig_init(&other);
    rig_open(&other);
    rig_put(&other, "other's", "x");
    rig_close(&other);
    rig_put(&rig, "key", "x");
    rig_close(&rig);
    assert_int_equal(files_with_suffix(&other.dir, ".seg", names, FILES_MAX), 1);
    char *data = file_load(&other.dir, names[0], &len);
    file_save(&rig.dir, "0000000000000077.seg", data, len);
    free(data);
    rig_open(&rig);
    assert_true(told_has(&rig.told, "0000000000000077.seg"));
    rig_expect(&rig, "key", "x");
    rig_expect(&rig, "other's", NULL);
    rig_put(&rig, "key", "y");
    rig_reopen(&rig);
    rig_expect(&rig, "key", "y");
    data = file_load(&rig.dir, "0000000000000077.seg", &len);
    assert_true(len > SEGMENT_HEADER_SIZE);
    free(data);
    rig_release(&other);
}

static void test_a_segment_of_another_version_is_refused(void **state)
{
    (void)state;
    static char names[FILES_MAX][NAME_LEN];
    size_t len;
    rig_put(&rig, "key", "x");
    rig_close(&rig);
    assert_int_equal(files_with_suffix(&rig.dir, ".seg", names, FILES_MAX), 1);
    char *data = file_load(&rig.dir, names[0], &len);
    for (int copy = 0; copy < 2; copy++) {
        data[copy * 128 + 8] = 2;
        uint64_t check = XXH3_64bits(data + copy * 128, 120);
        memcpy(data + copy * 128 + 120, &check, sizeof check);
    }
    file_save(&rig.dir, names[0], data, len);
    free(data);
    file_save(&rig.dir, "0000000000000001.hint-tmp", "half", 4);
    unlinkat(rig.dir.fd, "lock", 0);
    uint64_t before = temp_dir_digest(&rig.dir);
    assert_int_equal(rig_try_open(&rig), STORE_BAD_VERSION);
    assert_true(told_has(&rig.told, "version"));
    unlinkat(rig.dir.fd, "lock", 0);
    assert_true(temp_dir_digest(&rig.dir) == before);
}

/* Hint files (H1, H2). */

static void store_many(void)
{
    char key[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        rig_put(&rig, key, key);
        if (i % 3 == 0)
            rig_touch(&rig, key, RIG_NOW + 1000);
        if (i % 5 == 0)
            rig_delete(&rig, key);
    }
    log_fill(1);
}

static void expect_many(void)
{
    char key[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        rig_expect(&rig, key, i % 5 == 0 ? NULL : key);
        if (i % 5 && i % 3 == 0)
            assert_int_equal(rig_expiry(&rig, key), RIG_NOW + 1000);
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
        rig_close(&rig);
        size_t count = files_with_suffix(&rig.dir, ".hint", names, FILES_MAX);
        assert_true(count > 0);
        file_flip_bit(&rig.dir, names[0], byte, (int)byte % 8);
        told_clear(&rig.told);
        rig_open(&rig);
        assert_true(told_has(&rig.told, "hint file of segment 0000000000000001 is damaged"));
        expect_many();
    }
}

static void test_a_hint_file_of_another_segment_is_not_believed(void **state)
{
    (void)state;
    store_many();
    log_fill(2);
    rig_close(&rig);
    assert_true(count_files(".hint") > 2);
    assert_int_equal(
        renameat(rig.dir.fd, "0000000000000002.hint", rig.dir.fd, "0000000000000001.hint"), 0);
    rig_open(&rig);
    expect_many();
}

static bool all_hinted(void *context)
{
    (void)context;
    return count_files(".hint") + 1 == (size_t)rig_stats(&rig).segments;
}

static void test_hint_files_are_written_in_the_background(void **state)
{
    (void)state;
    rig_close(&rig);
    rig.options.sync_interval_ms = 10;
    rig_open(&rig);
    log_fill(5);
    assert_true(wait_until(all_hinted, NULL));
    rig_close(&rig);
    rig.options.sync_interval_ms = STORE_SYNC_NEVER;
    rig_open(&rig);
    log_fill(5);
    assert_true(wait_until(all_hinted, NULL));
}

/* The hint file of a segment that is still in the log, and what a scan of it finds. */
static void compare_hint_with_scan(const struct segment *segment)
{
    struct hint hint, scanned;
    struct hint_entry *entries, *found;
    uint64_t seed = rig.store->datadir.hash_seed;
    assert_int_equal(hint_read(&file_system_os, rig.dir.fd, segment, &hint, &entries), STORE_OK);
    assert_int_equal(hint_collect(&file_system_os, segment, atomic_load(&segment->end), seed, 0,
                                  &rig.told.reporter, &scanned, &found),
                     STORE_OK);
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
        rig_put_until(&rig, key, "some value", i % 3 ? RIG_NOW + 1000 : 0);
        if (i % 5 == 0)
            rig_touch(&rig, key, RIG_NOW + 2000);
        if (i % 7 == 0)
            rig_delete(&rig, key);
        if (i % 999 == 0)
            rig_flush(&rig, RIG_NOW + 100000);
    }
    rig_commit(&rig);
    assert_true(count_files("hint-tmp") >= 1); /* of the segment that is being filled */
    log_fill(2);
    assert_true(wait_until(all_hinted, NULL));
    const struct log *log = &rig.store->log;
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
    rig_put(&rig, "a", "x");
    rig_put_bytes(&rig, "b", value, sizeof value);
    rig_put(&rig, "c", "x");
    rig_close(&rig);
    remove_files(".hint");
    first_segment(name);
    file_flip_bit(&rig.dir, name, SEGMENT_HEADER_SIZE + 40 + 500, 3);
    rig_open(&rig);
    assert_true(told_has(&rig.told, "no valid record at bytes 296 to 1336"));
    rig_expect(&rig, "a", "x");
    rig_expect(&rig, "b", NULL);
    rig_expect(&rig, "c", "x");
    assert_int_equal(rig_stats(&rig).corrupt_records, 1);
}

/* Long values are not read as a whole, but checked all the same. */
static void test_a_flipped_bit_in_a_long_value_costs_that_value(void **state)
{
    (void)state;
    static char value[1000000];
    char name[NAME_LEN];
    for (size_t flip = 0; flip < sizeof value; flip += sizeof value / 3) {
        rig_put(&rig, "a", "x");
        rig_put_bytes(&rig, "b", value, sizeof value);
        rig_put_bytes(&rig, "c", value, sizeof value);
        rig_put(&rig, "d", "x");
        rig_commit(&rig);
        uint64_t id = 0; /* each has a segment of its own: the second one's */
        size_t at = SEGMENT_HEADER_SIZE + RECORD_HEADER_SIZE + 1 + flip;
        for (const struct segment *segment = rig.store->log.first; segment; segment = segment->next)
            if (atomic_load(&segment->end) > sizeof value)
                id = segment->header.id;
        rig_close(&rig);
        remove_files(".hint");
        segment_name(name, id, "seg");
        file_flip_bit(&rig.dir, name, at, 3);
        rig_open(&rig);
        rig_expect(&rig, "a", "x");
        rig_expect_bytes(&rig, "b", value, sizeof value);
        rig_expect(&rig, "c", NULL);
        rig_expect(&rig, "d", "x");
    }
}

static void test_a_flipped_bit_in_a_segment_header_costs_nothing(void **state)
{
    (void)state;
    char name[NAME_LEN];
    rig_put(&rig, "key", "x");
    first_segment(name);
    for (size_t byte = 0; byte < SEGMENT_HEADER_SIZE; byte += 5) {
        rig_close(&rig);
        file_flip_bit(&rig.dir, name, byte, (int)byte % 8);
        rig_open(&rig);
        rig_expect(&rig, "key", "x");
        rig_close(&rig);
        file_flip_bit(&rig.dir, name, byte, (int)byte % 8);
        rig_open(&rig);
    }
    assert_int_equal(rig.told.errors + rig.told.warnings, 0);
}

static void test_a_lost_segment_header_is_told(void **state)
{
    (void)state;
    char name[NAME_LEN];
    rig_put(&rig, "key", "x");
    log_fill(1);
    rig_put(&rig, "later", "x");
    rig_close(&rig);
    first_segment(name);
    file_flip_bit(&rig.dir, name, 70, 0);
    file_flip_bit(&rig.dir, name, 128 + 70, 0);
    rig_open(&rig);
    assert_true(told_has(&rig.told, "0000000000000001.seg"));
    assert_true(told_has(&rig.told, "no valid header"));
    rig_expect(&rig, "key", NULL);
    rig_expect(&rig, "later", "x");
    assert_true(file_exists(&rig.dir, name));
}

/* Kills the store, and cuts what it leaves behind the first `keep` bytes of its only segment. */
static void crash_with_torn_tail(size_t keep, bool zeros)
{
    char name[NAME_LEN];
    size_t len;
    rig_commit(&rig);
    rig_crash(&rig);
    first_segment(name);
    char *data = file_load(&rig.dir, name, &len);
    if (zeros)
        memset(data + keep, 0, len - keep);
    file_save(&rig.dir, name, data, zeros ? len : keep);
    free(data);
    told_clear(&rig.told);
    rig_open(&rig);
}

static void test_a_torn_tail_is_cut_and_is_no_damage(void **state)
{
    (void)state;
    /* Two records of 40 bytes, and the second one torn at each byte: in a file that ends there, or in zeros. */
    for (size_t torn = 0; torn < 40; torn += 3)
        for (int zeros = 0; zeros < 2; zeros++) {
            rig_put(&rig, "one", "1");
            rig_put(&rig, "two", "2");
            crash_with_torn_tail(SEGMENT_HEADER_SIZE + 40 + torn, zeros);
            rig_expect(&rig, "one", "1");
            rig_expect(&rig, "two", torn < 36 ? NULL : zeros ? "2" : NULL);
            if (rig.told.warnings)
                print_error("torn after %zu bytes (zeros: %d): %s\n", torn, zeros, rig.told.text);
            assert_int_equal(rig.told.warnings, 0);
            kill_and_open();
            assert_int_equal(rig.told.warnings, 0);
            rig_release(&rig);
            set_up(NULL);
        }
}

/* A log that a death of the process leaves, with a hole: 40 values of 1040 bytes, of which one is damaged, and segments. */
static void crash_with_a_hole(uint32_t segments_behind)
{
    static char value[1000];
    char name[NAME_LEN], key[16];
    for (int i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "key-%02d", i);
        rig_put_bytes(&rig, key, value, sizeof value);
    }
    segment_name(name, rig.store->log.active->header.id, "seg");
    log_fill(segments_behind);
    rig_crash(&rig);
    file_flip_bit(&rig.dir, name, SEGMENT_HEADER_SIZE + 20 * 1040 + 500, 3);
    told_clear(&rig.told);
}

static void test_a_hole_in_what_was_written_in_this_boot_costs_one_record(void **state)
{
    (void)state;
    crash_with_a_hole(0);
    rig_open(&rig);
    assert_true(told_has(&rig.told, "no valid record"));
    rig_expect(&rig, "key-20", NULL);
    assert_true(rig_cas(&rig, "key-21") != 0);
    assert_true(rig_cas(&rig, "key-39") != 0);
}

/* Y6 */
static void test_a_hole_ends_the_log_when_the_machine_has_started_anew(void **state)
{
    (void)state;
    crash_with_a_hole(0);
    rig.options.boot_id++;
    rig_open(&rig);
    assert_true(told_has(&rig.told, "it ends there"));
    for (int times = 0; times < 3; times++) {
        assert_true(rig_cas(&rig, "key-19") != 0);
        rig_expect(&rig, "key-20", NULL);
        rig_expect(&rig, "key-21", NULL);
        kill_and_open();
    }
    assert_int_equal(rig_stats(&rig).corrupt_records, 0);
}

/* Y8: a start finds the end, and dies when the header of its segment is on disk. The next one has to cut off what is behind
 * that end: when the header has been cleaned, it would be a hole before all that was written since. */
static void test_what_a_start_found_behind_the_end_is_cut_by_the_next_one(void **state)
{
    (void)state;
    char names[FILES_MAX][NAME_LEN];
    crash_with_a_hole(0);
    rig.options.boot_id++;
    rig.options.sync_interval_ms = 3600 * 1000; /* so no hint files, which would be believed */
    faulty_fail(&rig.faulty, CALL_TRUNCATE, 2, 1, EIO); /* the first is the lock file's */
    assert_int_equal(rig_try_open(&rig), STORE_IO);
    assert_true(told_has(&rig.told, "cannot cut off"));
    /* Behind the header's segment there may be ready ones. */
    assert_in_range(files_with_suffix(&rig.dir, ".seg", names, FILES_MAX), 2, 2 + LOG_SPARES);
    rig_open(&rig);
    rig_put(&rig, "later", "value");
    rig_commit(&rig);
    rig_crash(&rig);
    assert_int_equal(unlinkat(rig.dir.fd, names[1], 0), 0);
    rig.options.boot_id++;
    told_clear(&rig.told);
    rig_open(&rig);
    assert_int_equal(rig.told.warnings, 0);
    assert_true(rig_cas(&rig, "key-19") != 0);
    rig_expect(&rig, "key-21", NULL);
    rig_expect(&rig, "later", "value");
}

#define FIRST_FILE "00000000000003e8.seg" /* segment 1000 */

/* What the header of a log's second segment says of the first, of which it is the only trace. */
static void open_without_first_segment(uint64_t first_id, const char *first_file, size_t len)
{
    char name[NAME_LEN], header[SEGMENT_HEADER_SIZE];
    rig_reopen(&rig);
    rig_put(&rig, "key", "value");
    rig_commit(&rig);
    struct segment_header second = rig.store->log.active->header;
    rig_crash(&rig);
    for (uint64_t id = 1; id < second.id; id++) {
        segment_name(name, id, "seg");
        unlinkat(rig.dir.fd, name, 0);
        segment_name(name, id, "hint");
        unlinkat(rig.dir.fd, name, 0);
    }
    second.previous_id = first_id;
    segment_header_encode(header, &second);
    segment_name(name, second.id, "seg");
    int fd = openat(rig.dir.fd, name, O_WRONLY);
    assert_int_equal(pwrite(fd, header, sizeof header, 0), sizeof header);
    close(fd);
    segment_name(name, first_id, "seg");
    if (first_file)
        file_save(&rig.dir, name, first_file, len);
    told_clear(&rig.told);
    rig.options.boot_id++;
    rig_open(&rig);
}

/* L4, Y6: what was before it was cleaned, and its id is not given again, or a lost segment could take its place some day. */
static void test_a_segment_that_is_gone_is_no_hole(void **state)
{
    (void)state;
    open_without_first_segment(1000, NULL, 0);
    assert_int_equal(rig.told.warnings, 0);
    rig_expect(&rig, "key", "value");
    assert_true(rig.store->log.active->header.id > 1000);
}

static void test_a_segment_that_has_lost_its_header_is_a_hole(void **state)
{
    (void)state;
    open_without_first_segment(1000, "torn", 4);
    assert_true(told_has(&rig.told, "it ends there"));
    assert_true(told_has(&rig.told, FIRST_FILE) && told_has(&rig.told, "left alone"));
    assert_true(file_exists(&rig.dir, FIRST_FILE));
    assert_int_equal(rig_stats(&rig).corrupt_records, 1);
    rig_expect(&rig, "key", NULL);
}

/* What the power loss has left of it is less than a header: it goes, and nobody is told that it stays. */
static void test_a_segment_whose_header_was_never_on_disk_goes_with_what_is_behind(void **state)
{
    (void)state;
    static char page[8192];
    page[5000] = 1;
    open_without_first_segment(1000, page, sizeof page);
    assert_true(told_has(&rig.told, "it ends there"));
    assert_false(told_has(&rig.told, "left alone"));
    assert_false(file_exists(&rig.dir, FIRST_FILE));
    assert_int_equal(rig_stats(&rig).corrupt_records, 0);
    rig_expect(&rig, "key", NULL);
}

/* Y9 */
static void test_a_segment_that_cannot_be_read_is_no_hole(void **state)
{
    (void)state;
    faulty_bad_place(&rig.faulty, FIRST_FILE, 0, 4096);
    open_without_first_segment(1000, "no header", 9);
    assert_false(told_has(&rig.told, "it ends there"));
    assert_true(told_has(&rig.told, FIRST_FILE) && told_has(&rig.told, "left alone"));
    assert_true(file_exists(&rig.dir, FIRST_FILE));
    assert_int_equal(rig_stats(&rig).corrupt_records, 1);
    rig_expect(&rig, "key", "value");
}

static void test_a_record_found_damaged_by_a_get_is_a_miss(void **state)
{
    (void)state;
    static char value[1000];
    char name[NAME_LEN];
    rig_put_bytes(&rig, "key", value, sizeof value);
    rig_close(&rig);
    first_segment(name);
    file_flip_bit(&rig.dir, name, SEGMENT_HEADER_SIZE + 500, 3);
    rig_open(&rig);
    struct store_key key = rig_key(&rig, "key");
    struct store_fetch fetch = {0};
    struct store_item item;
    assert_int_equal(rig_get(&rig, &key, &fetch, &item), STORE_CORRUPT);
    store_fetch_release(&fetch);
    assert_true(told_has(&rig.told, "segment 0000000000000001: the record at byte 256 is damaged"));
    rig_expect(&rig, "key", NULL);
    assert_int_equal(rig_stats(&rig).corrupt_records, 1);
}

/* Memory. */

static void test_deleted_keys_in_the_log_do_not_keep_the_store_from_starting(void **state)
{
    (void)state;
    char key[32];
    rig_put(&rig, "alive", "x");
    for (int i = 0; i < 100000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        rig_put(&rig, key, "x");
        rig_delete(&rig, key);
        if (i % 100 == 0)
            rig_commit(&rig);
    }
    rig_close(&rig);
    assert_int_equal(rig_try_open(&rig), STORE_OK);
    rig_expect(&rig, "alive", "x");
}

/* What is dead takes no memory: 100,000 keys that lived for a second, and of which the last segment, which has no hint file,
 * might prolong any. A thousandth of them is prolonged, by TOUCHes in every segment. */
#define SHORT_LIVED  100000
#define PROLONGED(i) ((i) % 1000 == 999)

static void store_short_lived(bool touch)
{
    char key[32];
    rig_put(&rig, "alive", "x");
    for (int i = 0; i < SHORT_LIVED; i++) {
        snprintf(key, sizeof key, "key %d", i);
        rig_put_until(&rig, key, "x", rig.now_s + 1);
        if (touch && PROLONGED(i))
            rig_touch(&rig, key, RIG_NOW + 100000);
        if (i % 10000 == 9999) {
            rig.now_s += 10;
            for (int j = i - 9999; j <= i; j++) {
                snprintf(key, sizeof key, "key %d", j);
                rig_expect(&rig, key, touch && PROLONGED(j) ? "x" : NULL);
            }
        }
        if (i % 100 == 0)
            rig_commit(&rig);
    }
}

static void expect_prolonged(void)
{
    char key[32];
    assert_int_equal(rig_stats(&rig).keydir_entries, 1 + SHORT_LIVED / 1000);
    for (int i = 999; i < SHORT_LIVED; i += 1000) {
        snprintf(key, sizeof key, "key %d", i);
        assert_int_equal(rig_expiry(&rig, key), RIG_NOW + 100000);
    }
    rig_expect(&rig, "alive", "x");
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
    assert_int_equal(rig_stats(&rig).keydir_entries, 1);
    assert_int_equal(atomic_load(&rig.store->keydir.expiring_shards), 0);
    kill_and_open_without_hints();
    assert_int_equal(rig_stats(&rig).keydir_entries, 1);
    assert_int_equal(atomic_load(&rig.store->keydir.expiring_shards), 0);
}

static bool is_swept(void *context)
{
    (void)context;
    return rig_stats(&rig).keydir_entries == 0;
}

static void test_flushed_keys_in_the_log_do_not_keep_the_store_from_starting(void **state)
{
    (void)state;
    char key[32];
    for (int i = 0; i < 100000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        rig_put(&rig, key, "x");
        if (i % 10000 == 9999) {
            rig_flush(&rig, 0);
            assert_true(wait_until(is_swept, NULL)); /* or the index is full before that */
        }
        if (i % 100 == 0)
            rig_commit(&rig);
    }
    rig_put(&rig, "alive", "x");
    rig_close(&rig);
    assert_int_equal(rig_try_open(&rig), STORE_OK);
    rig_expect(&rig, "alive", "x");
}

static void test_missing_hints_of_many_segments_do_not_exhaust_the_memory(void **state)
{
    (void)state;
    static char value[3000];
    char key[32];
    for (int i = 0; i < 6000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        fill_pattern(value, sizeof value, (uint64_t)i);
        rig_put_bytes(&rig, key, value, sizeof value);
        if (i % 20 == 0)
            rig_commit(&rig);
    }
    rig_close(&rig);
    remove_files(".hint");
    assert_int_equal(rig_try_open(&rig), STORE_OK);
    assert_int_equal(rig_stats(&rig).keydir_entries, 6000);
    rig_expect_bytes(&rig, "key 5999", value, sizeof value);
}

static void test_more_keys_than_memory_are_refused_with_advice(void **state)
{
    (void)state;
    char key[32];
    int count = 0;
    rig_close(&rig);
    rig.options.memory_limit = 8 << 20;
    rig_open(&rig);
    for (int i = 0; i < 150000; i++, count++) {
        snprintf(key, sizeof key, "key %d", i);
        rig_put(&rig, key, "x");
        if (i % 100 == 0)
            rig_commit(&rig);
    }
    rig_close(&rig);
    rig.options.memory_limit = 1 << 20;
    assert_int_equal(rig_try_open(&rig), STORE_FULL);
    assert_true(told_has(&rig.told, "-m"));
    rig.options.memory_limit = 8 << 20;
    rig_open(&rig);
    assert_int_equal(rig_stats(&rig).keydir_entries, count);
}

/* Y5: at any point of a start that fails, the next one finds everything. */

static void fail_starts(const struct temp_dir *left, enum file_call call, void (*expect)(void))
{
    bool reached = true;
    for (uint64_t nth = 1; reached; nth++) {
        rig_close(&rig);
        temp_dir_remove(&rig.dir);
        temp_dir_copy(left, &rig.dir);
        if (nth % 2)
            remove_files(".hint");
        uint64_t last = faulty_calls(&rig.faulty, call) + nth;
        faulty_fail(&rig.faulty, call, nth, 1, EIO);
        enum store_status status = rig_try_open(&rig);
        reached = faulty_calls(&rig.faulty, call) >= last;
        faulty_heal(&rig.faulty);
        if (status == STORE_OK)
            expect();
        else
            assert_true(rig.told.errors > 0);
        if (status == STORE_IO) /* in whatever thread it was */
            assert_true(told_has(&rig.told, strerror(EIO)));
        told_clear(&rig.told);
        rig_close(&rig);
        rig_open(&rig);
        expect();
    }
}

static void test_a_start_that_fails_anywhere_can_be_repeated(void **state)
{
    (void)state;
    struct temp_dir left;
    store_many();
    rig_commit(&rig);
    temp_dir_copy(&rig.dir, &left);
    for (enum file_call call = 0; call < CALL_KINDS; call++)
        fail_starts(&left, call, expect_many);
    temp_dir_remove(&left);
}

static void expect_what_is_before_the_hole(void)
{
    assert_true(rig_cas(&rig, "key-19") != 0);
    rig_expect(&rig, "key-20", NULL);
    rig_expect(&rig, "key-21", NULL);
    rig_expect(&rig, "filling", NULL);
}

/* Y5, Y8: so also while it cuts off what lies behind the end of the log. */
static void test_a_start_that_fails_while_it_cuts_can_be_repeated(void **state)
{
    (void)state;
    struct temp_dir left;
    rig_close(&rig);
    rig.options.sync_interval_ms = 3600 * 1000; /* so no hint files, which would be believed */
    rig_open(&rig);
    crash_with_a_hole(2);
    temp_dir_copy(&rig.dir, &left);
    rig.options.boot_id++;
    for (enum file_call call = 0; call < CALL_KINDS; call++)
        fail_starts(&left, call, expect_what_is_before_the_hole);
    temp_dir_remove(&left);
}

/* The real thing: a process that writes and tells, and dies. */

static void write_and_tell(const struct temp_dir *dir, int pipe_fd)
{
    static struct rig writer;
    char key[32], value[32];
    rig_init(&writer);
    temp_dir_remove(&writer.dir);
    writer.dir = *dir;
    rig_open(&writer);
    for (uint32_t i = 0;; i++) {
        snprintf(key, sizeof key, "key %u", i % 100);
        snprintf(value, sizeof value, "value %u", i);
        rig_put(&writer, key, value);
        rig_commit(&writer);
        if (write(pipe_fd, &i, sizeof i) != sizeof i)
            _exit(1);
    }
}

static void test_a_killed_process_has_lost_nothing_it_told(void **state)
{
    (void)state;
    rig_close(&rig);
    for (int cycle = 0; cycle < 5; cycle++) {
        int ends[2];
        uint32_t last = 0, got;
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            write_and_tell(&rig.dir, ends[1]);
        close(ends[1]);
        for (int i = 0; i < 500 + cycle * 100 && read(ends[0], &got, sizeof got) == sizeof got; i++)
            last = got;
        kill(child, SIGKILL);
        while (read(ends[0], &got, sizeof got) == sizeof got)
            last = got;
        assert_int_equal(waitpid(child, NULL, 0), child);
        close(ends[0]);
        rig_open(&rig);
        for (uint32_t i = last - 99; i <= last; i++) {
            char key[32], value[32];
            snprintf(key, sizeof key, "key %u", i % 100);
            snprintf(value, sizeof value, "value %u", i);
            if (i > last - 99) /* the oldest may have been written once more without being told */
                rig_expect(&rig, key, value);
        }
        rig_close(&rig);
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
