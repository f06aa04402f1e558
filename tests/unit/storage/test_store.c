/* test_store.c: the promises of store.h, one by one. */
#include "tests/unit/storage/support/fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/log/segment.h"
#include "storage/store_internal.h"

static struct fixture fixture;
static _Atomic bool disk_stands_still; /* see stop_disk */

/* Right after a start values are not cached: the evictor has made no page yet. */
static bool cache_is_ready(void *context)
{
    (void)context;
    return fixture_stats(&fixture).cache_pages >= 2;
}

static void reopen_and_wait(void)
{
    fixture_reopen(&fixture);
    assert_true(wait_until(cache_is_ready, NULL));
}

static int set_up(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture_open(&fixture);
    return wait_until(cache_is_ready, NULL) ? 0 : -1;
}

static void restart_disk(void)
{
    atomic_store(&disk_stands_still, false);
    faulty_watch(&fixture.faulty, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    restart_disk();
    fixture_release(&fixture);
    return 0;
}

static enum store_status put_if(const char *name, enum store_condition condition, uint64_t location,
                                const char *value)
{
    struct store_key key = fixture_key(&fixture, name);
    struct store_put put = {
        .condition = condition, .location = location, .value = {{value, (uint32_t)strlen(value)}}};
    return wait_put(fixture.session, &key, fixture.now_s, &put);
}

static struct store_item get(const char *name)
{
    struct store_key key = fixture_key(&fixture, name);
    struct store_fetch fetch = {0};
    struct store_item item;
    assert_int_equal(fixture_get(&fixture, &key, &fetch, &item), STORE_OK);
    store_fetch_release(&fetch);
    return item;
}

/* Conditions. */

static void test_if_absent_stores_only_new_keys(void **state)
{
    (void)state;
    assert_int_equal(put_if("key", STORE_IF_ABSENT, 0, "one"), STORE_OK);
    assert_int_equal(put_if("key", STORE_IF_ABSENT, 0, "two"), STORE_EXISTS);
    fixture_expect(&fixture, "key", "one");
    fixture_delete(&fixture, "key");
    assert_int_equal(put_if("key", STORE_IF_ABSENT, 0, "three"), STORE_OK);
    fixture_expect(&fixture, "key", "three");
}

static void test_if_present_stores_only_known_keys(void **state)
{
    (void)state;
    assert_int_equal(put_if("key", STORE_IF_PRESENT, 0, "one"), STORE_NOT_FOUND);
    fixture_expect(&fixture, "key", NULL);
    fixture_put(&fixture, "key", "one");
    assert_int_equal(put_if("key", STORE_IF_PRESENT, 0, "two"), STORE_OK);
    fixture_expect(&fixture, "key", "two");
}

static void test_if_same_stores_only_what_nobody_has_changed(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "one");
    uint64_t location = get("key").location;
    assert_int_equal(put_if("key", STORE_IF_SAME, location, "two"), STORE_OK);
    assert_int_equal(put_if("key", STORE_IF_SAME, location, "three"), STORE_EXISTS);
    fixture_expect(&fixture, "key", "two");
    location = get("key").location;
    fixture_delete(&fixture, "key");
    assert_int_equal(put_if("key", STORE_IF_SAME, location, "four"), STORE_NOT_FOUND);
}

static void test_deletes_and_touches_have_conditions_too(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "one");
    struct store_key key = fixture_key(&fixture, "key");
    uint64_t old = get("key").location;
    fixture_put(&fixture, "key", "two");
    assert_int_equal(wait_delete(fixture.session, &key, fixture.now_s, STORE_IF_SAME, old),
                     STORE_EXISTS);
    assert_int_equal(wait_touch(fixture.session, &key, fixture.now_s, 0, STORE_IF_SAME, old),
                     STORE_EXISTS);
    uint64_t location = get("key").location;
    assert_int_equal(wait_touch(fixture.session, &key, fixture.now_s, 0, STORE_IF_SAME, location),
                     STORE_OK);
    assert_int_equal(wait_delete(fixture.session, &key, fixture.now_s, STORE_IF_SAME, location),
                     STORE_OK);
    assert_int_equal(wait_delete(fixture.session, &key, fixture.now_s, STORE_IF_PRESENT, 0),
                     STORE_NOT_FOUND);
    assert_int_equal(wait_touch(fixture.session, &key, fixture.now_s, 0, STORE_IF_PRESENT, 0),
                     STORE_NOT_FOUND);
}

/* Values, expiry, CAS. */

static void test_a_value_of_two_parts_is_one(void **state)
{
    (void)state;
    struct store_key key = fixture_key(&fixture, "key");
    struct store_put put = {.value = {{"one ", 4}, {"two", 3}}, .client_flags = 7};
    assert_int_equal(wait_put(fixture.session, &key, fixture.now_s, &put), STORE_OK);
    fixture_expect(&fixture, "key", "one two");
    assert_int_equal(get("key").client_flags, 7);
    fixture_reopen(&fixture);
    fixture_expect(&fixture, "key", "one two");
    assert_int_equal(get("key").client_flags, 7);
}

static void test_each_put_has_a_higher_cas_unless_it_is_chosen(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "one");
    uint64_t first = fixture_cas(&fixture, "key");
    fixture_put(&fixture, "key", "two");
    assert_true(fixture_cas(&fixture, "key") > first);
    struct store_key key = fixture_key(&fixture, "key");
    struct store_put put = {.value = {{"x", 1}}, .cas = 3};
    assert_int_equal(wait_put(fixture.session, &key, fixture.now_s, &put), STORE_OK);
    assert_int_equal(fixture_cas(&fixture, "key"), 3);
    fixture_touch(&fixture, "key", FIXTURE_NOW + 5);
    assert_int_equal(fixture_cas(&fixture, "key"), 3);
}

static void test_an_item_is_gone_at_the_second_it_expires(void **state)
{
    (void)state;
    fixture_put_until(&fixture, "key", "x", FIXTURE_NOW + 2);
    fixture.now_s = FIXTURE_NOW + 1;
    fixture_expect(&fixture, "key", "x");
    fixture.now_s = FIXTURE_NOW + 2;
    fixture_expect(&fixture, "key", NULL);
    assert_int_equal(fixture_stats(&fixture).expired_items, 1);
}

static void test_keep_expiry_keeps_the_one_of_the_last_touch(void **state)
{
    (void)state;
    struct store_key key = fixture_key(&fixture, "key");
    struct store_put put = {
        .value = {{"two", 3}}, .keep_expiry = true, .expire_s = FIXTURE_NOW + 1};
    fixture_put_until(&fixture, "key", "one", FIXTURE_NOW + 10);
    fixture_touch(&fixture, "key", FIXTURE_NOW + 20);
    assert_int_equal(wait_put(fixture.session, &key, fixture.now_s, &put), STORE_OK);
    assert_int_equal(fixture_expiry(&fixture, "key"), FIXTURE_NOW + 20);
    fixture_reopen(&fixture);
    assert_int_equal(fixture_expiry(&fixture, "key"), FIXTURE_NOW + 20);
    fixture_expect(&fixture, "key", "two");
}

static void test_values_larger_than_a_page_and_a_segment_are_kept(void **state)
{
    (void)state;
    static char value[5000000];
    static const uint32_t lens[] = {0, 32000, 40000, 65536, 70000, 300000, sizeof value};
    char key[32];
    fill_pattern(value, sizeof value, 1);
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        snprintf(key, sizeof key, "key %zu", i);
        fixture_put_bytes(&fixture, key, value, lens[i]);
    }
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
            snprintf(key, sizeof key, "key %zu", i);
            fixture_expect_bytes(&fixture, key, value, lens[i]);
        }
        fixture_reopen(&fixture);
    }
}

/* Cold values. */

static void test_a_cold_value_is_fetched_once_and_then_in_ram(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "value");
    reopen_and_wait();
    fixture_expect(&fixture, "key", "value");
    fixture_expect(&fixture, "key", "value");
    assert_int_equal(fixture.cold, 1);
    assert_int_equal(fixture_stats(&fixture).disk_hits, 1);
    assert_int_equal(fixture_stats(&fixture).ram_hits, 1);
}

static void test_readers_fetch_what_is_not_in_the_page_cache(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "value");
    reopen_and_wait();
    fixture.faulty.never_cached = true;
    fixture_expect(&fixture, "key", "value");
    assert_int_equal(fixture_stats(&fixture).disk_reads, 1);
}

/* Gets a cold key, lets `meanwhile` happen between the fetch and the second get, and answers
 * that one's status. */
static enum store_status get_while(void (*meanwhile)(void), struct store_fetch *fetch,
                                   struct store_item *item)
{
    fixture_put(&fixture, "key", "old");
    reopen_and_wait();
    struct store_key key = fixture_key(&fixture, "key");
    *fetch = (struct store_fetch){0};
    assert_int_equal(store_get(at(fixture.session, fixture.now_s), &key, fetch, item),
                     STORE_WAIT_READ);
    assert_int_equal(store_fetch_now(fixture.session, fetch), STORE_OK);
    meanwhile();
    return store_get(at(fixture.session, fixture.now_s), &key, fetch, item);
}

static void put_new(void)
{
    fixture_put(&fixture, "key", "new value");
}

static void delete_it(void)
{
    fixture_delete(&fixture, "key");
}

static void touch_it(void)
{
    fixture_touch(&fixture, "key", FIXTURE_NOW + 7);
}

static void get_it(void)
{
    fixture_expect(&fixture, "key", "old");
}

static void put_large(void)
{
    static char value[50000];
    fixture_put_bytes(&fixture, "key", value, sizeof value);
}

static void test_a_write_between_fetch_and_get_wins(void **state)
{
    (void)state;
    struct store_fetch fetch;
    struct store_item item;
    assert_int_equal(get_while(put_new, &fetch, &item), STORE_OK);
    assert_int_equal(item.value_len, 9);
    assert_memory_equal(item.value, "new value", 9);
    store_fetch_release(&fetch);
    assert_int_equal(get_while(delete_it, &fetch, &item), STORE_NOT_FOUND);
    store_fetch_release(&fetch);
    fixture_expect(&fixture, "key", NULL);
}

static void test_a_large_write_between_fetch_and_get_is_fetched_in_turn(void **state)
{
    (void)state;
    struct store_fetch fetch;
    struct store_item item;
    assert_int_equal(get_while(put_large, &fetch, &item), STORE_WAIT_READ);
    struct store_key key = fixture_key(&fixture, "key");
    assert_int_equal(fixture_get(&fixture, &key, &fetch, &item), STORE_OK);
    assert_int_equal(item.value_len, 50000);
    store_fetch_release(&fetch);
}

static void test_a_touch_or_get_between_fetch_and_get_does_no_harm(void **state)
{
    (void)state;
    struct store_fetch fetch;
    struct store_item item;
    assert_int_equal(get_while(touch_it, &fetch, &item), STORE_OK);
    assert_memory_equal(item.value, "old", 3);
    assert_int_equal(item.expire_s, FIXTURE_NOW + 7);
    store_fetch_release(&fetch);
    assert_int_equal(get_while(get_it, &fetch, &item), STORE_OK);
    assert_memory_equal(item.value, "old", 3);
    store_fetch_release(&fetch);
}

/* A key whose record is damaged, which its hint file does not tell. */
static void damage_key(void)
{
    static char value[1000];
    char name[NAME_LEN];
    fixture_put_bytes(&fixture, "key", value, sizeof value);
    fixture_close(&fixture);
    segment_name(name, 1, "seg");
    file_flip_bit(&fixture.dir, name, SEGMENT_HEADER_SIZE + 500, 3);
    fixture_open(&fixture);
}

static void test_a_damaged_record_is_a_miss_and_stays_one(void **state)
{
    (void)state;
    damage_key();
    struct store_key key = fixture_key(&fixture, "key");
    struct store_fetch fetch = {0};
    struct store_item item;
    assert_int_equal(fixture_get(&fixture, &key, &fetch, &item), STORE_CORRUPT);
    store_fetch_release(&fetch);
    fixture_expect(&fixture, "key", NULL);
    assert_int_equal(fixture_stats(&fixture).corrupt_records, 1);
    fixture_put(&fixture, "key", "again");
    fixture_reopen(&fixture);
    fixture_expect(&fixture, "key", "again");
}

/* A cold key whose reads fail from now on. */
static struct store_key make_unreadable(void)
{
    fixture_put(&fixture, "key", "old");
    reopen_and_wait();
    fixture.faulty.never_cached = true;
    faulty_fail(&fixture.faulty, CALL_PREAD, 1, FOREVER, EIO);
    return fixture_key(&fixture, "key");
}

static void test_a_value_that_cannot_be_read_is_there(void **state)
{
    (void)state;
    struct store_key key = make_unreadable();
    struct store_fetch fetch = {0};
    struct store_item item;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fixture_get(&fixture, &key, &fetch, &item), STORE_IO);
        store_fetch_release(&fetch);
    }
    assert_int_equal(put_if("key", STORE_IF_ABSENT, 0, "new"), STORE_EXISTS);
    assert_int_equal(fixture_stats(&fixture).read_errors, 3);
    assert_int_equal(fixture.messages.errors, 1);
    assert_true(messages_have(&fixture.messages, "cannot be read"));
    fixture.now_s += 100; /* the disk has been well for a while, and now another sector fails */
    assert_int_equal(fixture_get(&fixture, &key, &fetch, &item), STORE_IO);
    store_fetch_release(&fetch);
    assert_int_equal(fixture.messages.errors, 2);
    faulty_heal(&fixture.faulty);
    fixture_expect(&fixture, "key", "old");
}

/* Reads a record that cannot be read, lets `meanwhile` happen, and answers the next get's
 * status. */
static enum store_status fail_while(void (*meanwhile)(void), struct store_fetch *fetch,
                                    struct store_item *item)
{
    struct store_key key = make_unreadable();
    *fetch = (struct store_fetch){0};
    assert_int_equal(store_get(at(fixture.session, fixture.now_s), &key, fetch, item),
                     STORE_WAIT_READ);
    store_fetch_start(fixture.session, fetch);
    store_fetch_submit(fixture.session);
    while (store_fetch_next(fixture.session) != fetch)
        sem_wait(&fixture.woken);
    faulty_heal(&fixture.faulty);
    meanwhile();
    return store_get(at(fixture.session, fixture.now_s), &key, fetch, item);
}

static void test_a_failed_read_is_nothing_to_those_who_replace_the_value(void **state)
{
    (void)state;
    struct store_fetch fetch;
    struct store_item item;
    assert_int_equal(fail_while(put_new, &fetch, &item), STORE_OK);
    assert_memory_equal(item.value, "new value", 9);
    store_fetch_release(&fetch);
    assert_int_equal(fail_while(delete_it, &fetch, &item), STORE_NOT_FOUND);
    store_fetch_release(&fetch);
    assert_int_equal(fixture_stats(&fixture).read_errors, 0);
}

static bool takes_writes(void *context)
{
    (void)context;
    return fixture_try_put(&fixture, "other", "x", 0) == STORE_OK &&
           fixture_try_commit(&fixture) == STORE_OK;
}

static void test_a_damaged_record_stays_until_its_deletion_is_written(void **state)
{
    (void)state;
    damage_key();
    fixture_put(&fixture, "other", "x");
    faulty_fail(&fixture.faulty, CALL_PWRITE, 1, FOREVER, EIO);
    assert_int_equal(fixture_try_commit(&fixture), STORE_READ_ONLY);
    struct store_key key = fixture_key(&fixture, "key");
    struct store_fetch fetch = {0};
    struct store_item item;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fixture_get(&fixture, &key, &fetch, &item), STORE_IO);
        store_fetch_release(&fetch);
    }
    assert_int_equal(fixture_stats(&fixture).corrupt_records, 0);
    assert_false(messages_have(&fixture.messages, "damaged"));
    faulty_heal(&fixture.faulty);
    assert_true(wait_until(takes_writes, NULL));
    assert_int_equal(fixture_get(&fixture, &key, &fetch, &item), STORE_CORRUPT);
    store_fetch_release(&fetch);
    fixture_expect(&fixture, "key", NULL);
    assert_int_equal(fixture_stats(&fixture).corrupt_records, 1);
}

static void test_what_is_not_written_yet_and_cannot_be_is_no_miss(void **state)
{
    (void)state;
    static char value[50000]; /* too large for the cache: it is read from the file or not at all */
    fixture_put_bytes(&fixture, "key", value, sizeof value);
    faulty_fail(&fixture.faulty, CALL_PWRITE, 1, FOREVER, EIO);
    struct store_key key = fixture_key(&fixture, "key");
    struct store_fetch fetch = {0};
    struct store_item item;
    assert_int_equal(fixture_get(&fixture, &key, &fetch, &item), STORE_READ_ONLY);
    store_fetch_release(&fetch);
    faulty_heal(&fixture.faulty);
    assert_true(wait_until(takes_writes, NULL));
    fixture_expect_bytes(&fixture, "key", value, sizeof value);
}

/* Flush. */

static void test_a_flush_takes_what_was_before_and_not_what_comes(void **state)
{
    (void)state;
    fixture_put(&fixture, "before", "x");
    fixture_flush(&fixture, 0);
    fixture_put(&fixture, "after", "x");
    fixture_expect(&fixture, "before", NULL);
    fixture_expect(&fixture, "after", "x");
    assert_int_equal(put_if("before", STORE_IF_PRESENT, 0, "y"), STORE_NOT_FOUND);
}

static void test_a_delayed_flush_takes_all_that_came_until_then(void **state)
{
    (void)state;
    fixture_put(&fixture, "before", "x");
    fixture_flush(&fixture, FIXTURE_NOW + 10);
    fixture_put(&fixture, "between", "x");
    fixture.now_s = FIXTURE_NOW + 9;
    fixture_expect(&fixture, "before", "x");
    fixture_expect(&fixture, "between", "x");
    fixture.now_s = FIXTURE_NOW + 10;
    fixture_expect(&fixture, "before", NULL);
    fixture_expect(&fixture, "between", NULL);
    fixture_put(&fixture, "after", "x");
    fixture.now_s = FIXTURE_NOW + 20;
    fixture_expect(&fixture, "after", "x");
}

/* A disk that stands still in the syncer's sync, so that the test alone says whether the log
 * holds its writers. */

static _Atomic bool syncer_stands;

static void hold_syncer(enum file_call call, const char *name)
{
    (void)name;
    if (call != CALL_SYNC || !pthread_equal(pthread_self(), fixture.store->log.syncer))
        return;
    atomic_store(&syncer_stands, true);
    while (atomic_load(&disk_stands_still))
        usleep(1000);
}

static bool syncer_is_held(void *context)
{
    (void)context;
    return atomic_load(&syncer_stands);
}

static void stop_disk(void)
{
    atomic_store(&syncer_stands, false);
    atomic_store(&disk_stands_still, true);
    faulty_watch(&fixture.faulty, hold_syncer);
    fixture_put(&fixture, "to be synced", "x");
    fixture_commit(&fixture);
    log_request_sync(&fixture.store->log, log_written_lsn(&fixture.store->log));
    assert_true(wait_until(syncer_is_held, NULL));
}

static void hold_writers(bool hold)
{
    atomic_store(&fixture.store->log.hold, hold ? BACKPRESSURE_AGE : BACKPRESSURE_NONE);
}

static bool somebody_was_held(void *context)
{
    struct log *log = &fixture.store->log;
    (void)context;
    pthread_mutex_lock(&log->lock);
    bool any = log->writers_wait;
    pthread_mutex_unlock(&log->lock);
    return any;
}

struct writer {
    pthread_t thread;
    struct store_session *session;
    struct store_key key;
    enum store_condition condition;
    uint32_t now_s;
    enum store_status status;
};

static void *run_put(void *context)
{
    struct writer *writer = context;
    struct store_put put = {.condition = writer->condition, .value = {{"new", 3}}};
    store_enter(writer->session, writer->now_s);
    writer->status = store_put(at(writer->session, writer->now_s), &writer->key, &put);
    store_leave(writer->session);
    return NULL;
}

/* The writer's put meets a log that holds it, so that it cannot carry out the flush; then it
 * waits for the lock of its key's shard, and finds a log that takes everything. */
static void put_while_the_log_lets_go(struct writer *writer)
{
    struct keydir_shard *shard = &fixture.store->keydir.shards[writer->key.shard];
    keydir_lock(shard);
    hold_writers(true);
    assert_int_equal(pthread_create(&writer->thread, NULL, run_put, writer), 0);
    assert_true(wait_until(somebody_was_held, NULL));
    hold_writers(false);
    keydir_unlock(shard);
    pthread_join(writer->thread, NULL);
}

static void test_what_is_stored_in_the_second_of_a_flush_comes_after_it(void **state)
{
    (void)state;
    static const enum store_condition conditions[] = {STORE_ANY, STORE_IF_ABSENT};
    for (int i = 0; i < 2; i++) {
        fixture_put(&fixture, "before", "x");
        fixture_put(&fixture, "key", "old");
        fixture_flush(&fixture, fixture.now_s + 1);
        stop_disk();
        struct writer writer = {.session = store_session_new(fixture.store, NULL, NULL, -1),
                                .key = fixture_key(&fixture, "key"),
                                .condition = conditions[i],
                                .now_s = ++fixture.now_s};
        put_while_the_log_lets_go(&writer);
        store_session_free(writer.session);
        assert_int_equal(writer.status, STORE_OK);
        restart_disk();
        fixture_expect(&fixture, "before", NULL);
        fixture_expect(&fixture, "key", "new");
        fixture_commit(&fixture);
        fixture_crash(&fixture);
        fixture_open(&fixture);
        fixture_expect(&fixture, "before", NULL);
        fixture_expect(&fixture, "key", "new");
    }
}

/* The first to learn of the new second is told that all is gone, while the log refuses the record
 * of it. Another client, whose clock is behind, stores after that. */
static void test_a_flush_that_one_was_told_of_comes_before_what_others_store(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "old");
    fixture_flush(&fixture, FIXTURE_NOW + 1);
    stop_disk();
    hold_writers(true);
    fixture.now_s = FIXTURE_NOW + 1;
    fixture_expect(&fixture, "key", NULL);
    hold_writers(false);
    fixture.now_s = FIXTURE_NOW;
    fixture_put(&fixture, "key", "new");
    restart_disk();
    fixture.now_s = FIXTURE_NOW + 1;
    fixture_expect(&fixture, "key", "new");
}

/* Syncs. */

static void test_always_means_that_the_disk_has_it(void **state)
{
    (void)state;
    fixture_close(&fixture);
    fixture.options.sync_interval_ms = STORE_SYNC_ALWAYS;
    fixture_open(&fixture);
    fixture_put(&fixture, "key", "x");
    fixture_commit(&fixture);
    uint64_t lsn = store_commit_lsn(fixture.session);
    enum store_status status;
    while ((status = store_durable(fixture.session, lsn)) == STORE_WAIT_SYNC)
        sem_wait(&fixture.woken);
    assert_int_equal(status, STORE_OK);
    assert_true(fixture_stats(&fixture).lsn_synced >= lsn);
}

static enum store_status put_and_wait(const char *name)
{
    enum store_status status;
    fixture_put(&fixture, name, "x");
    assert_int_equal(store_commit(fixture.session), STORE_OK);
    while ((status = store_durable(fixture.session, store_commit_lsn(fixture.session))) ==
           STORE_WAIT_SYNC)
        sem_wait(&fixture.woken);
    return status;
}

/* As the repair notes it, when some of what waited for a sync is lost and the rest is synced
 * (test_dropped.c loses it). */
static void lose_what_was_put(uint64_t from_lsn)
{
    struct log *log = &fixture.store->log;
    atomic_store(&log->lost_from_lsn, from_lsn);
    atomic_store(&log->lost_to_lsn, atomic_load(&log->next_lsn));
    atomic_fetch_add(&log->lost_values, 1);
}

static void test_a_reply_that_tells_of_something_lost_is_not_sent(void **state)
{
    (void)state;
    fixture_close(&fixture);
    fixture.options.sync_interval_ms = STORE_SYNC_ALWAYS;
    fixture_open(&fixture);
    assert_int_equal(put_and_wait("before"), STORE_OK);
    uint64_t before = store_commit_lsn(fixture.session);
    fixture_put(&fixture, "lost", "x");
    lose_what_was_put(before);
    assert_int_equal(store_durable(fixture.session, before), STORE_OK);
    assert_int_equal(put_and_wait("in the same batch"), STORE_READ_ONLY);
    store_leave(fixture.session);
    store_enter(fixture.session, fixture.now_s);
    assert_int_equal(put_and_wait("in the next"), STORE_OK);
}

static void test_other_settings_do_not_wait_for_the_disk(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "x");
    fixture_commit(&fixture);
    assert_int_equal(store_durable(fixture.session, store_commit_lsn(fixture.session)), STORE_OK);
}

/* The records that an answer depends on (S10): a reader sees writes that the first has not
 * committed yet. */

static struct store_session *reader;

/* Twice: the first get of a key takes the lock, the second may do without. */
static uint64_t rests_of_get(const char *name, enum store_status wanted)
{
    uint64_t rests[2];
    struct store_key key = fixture_key(&fixture, name);
    for (int i = 0; i < 2; i++) {
        struct store_fetch fetch = {0};
        struct store_item item;
        store_enter(reader, fixture.now_s);
        assert_int_equal(store_get(at(reader, fixture.now_s), &key, &fetch, &item), wanted);
        store_leave(reader);
        store_fetch_release(&fetch);
        rests[i] = store_answer_lsn(reader);
    }
    assert_true(rests[0] == rests[1]);
    return rests[0];
}

static uint64_t rests_of_add(const char *name)
{
    struct store_key key = fixture_key(&fixture, name);
    struct store_put put = {.condition = STORE_IF_ABSENT, .value = {{"x", 1}}};
    store_enter(reader, fixture.now_s);
    assert_int_equal(store_put(at(reader, fixture.now_s), &key, &put), STORE_EXISTS);
    store_leave(reader);
    return store_answer_lsn(reader);
}

static uint64_t rests_of_delete(const char *name)
{
    struct store_key key = fixture_key(&fixture, name);
    store_enter(reader, fixture.now_s);
    assert_int_equal(store_delete(at(reader, fixture.now_s), &key, STORE_IF_PRESENT, 0),
                     STORE_NOT_FOUND);
    store_leave(reader);
    return store_answer_lsn(reader);
}

static void assert_waits_for_commit(uint64_t rests)
{
    assert_int_equal(store_durable(reader, rests), STORE_READ_ONLY);
    fixture_commit(&fixture);
    assert_int_equal(store_durable(reader, rests), STORE_OK);
}

static void test_an_answer_rests_on_what_others_have_written(void **state)
{
    (void)state;
    fixture_put(&fixture, "bystander", "x");
    fixture_commit(&fixture);
    fixture_put(&fixture, "key", "x");
    assert_true(rests_of_get("bystander", STORE_OK) == 0);
    assert_waits_for_commit(rests_of_get("key", STORE_OK));
    assert_true(rests_of_get("key", STORE_OK) == 0);
    fixture_put(&fixture, "key", "y");
    assert_waits_for_commit(rests_of_add("key"));
    fixture_touch(&fixture, "key", FIXTURE_NOW + 100);
    assert_waits_for_commit(rests_of_get("key", STORE_OK));
    assert_true(rests_of_add("key") == 0);
    fixture_delete(&fixture, "key");
    assert_waits_for_commit(rests_of_get("key", STORE_NOT_FOUND));
    assert_true(rests_of_get("key", STORE_NOT_FOUND) == 0);
    fixture_put(&fixture, "key", "z");
    fixture_delete(&fixture, "key");
    assert_waits_for_commit(rests_of_delete("key"));
}

static void test_a_miss_rests_on_what_let_the_key_expire(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "for ever");
    fixture_commit(&fixture);
    fixture_put_until(&fixture, "key", "x", FIXTURE_NOW + 1);
    fixture.now_s = FIXTURE_NOW + 1;
    assert_waits_for_commit(rests_of_get("key", STORE_NOT_FOUND));
    assert_true(rests_of_get("key", STORE_NOT_FOUND) == 0);
}

static bool has_swept(void *context)
{
    const struct log *log = &fixture.store->log;
    (void)context;
    return atomic_load(&fixture.store->swept_flush_lsn) == atomic_load(&log->flush_lsn);
}

static void test_a_miss_rests_on_the_flush(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "x");
    fixture_commit(&fixture);
    fixture_flush(&fixture, 0);
    assert_waits_for_commit(rests_of_get("key", STORE_NOT_FOUND));
    assert_true(rests_of_get("key", STORE_NOT_FOUND) == 0);
    fixture_flush(&fixture, 0);
    assert_true(wait_until(has_swept, NULL));
    assert_waits_for_commit(rests_of_get("key", STORE_NOT_FOUND));
}

/* The record that carries it out cannot be written yet, so the one that has announced it must
 * be. */
static void test_a_miss_rests_on_a_flush_that_is_only_due(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "x");
    fixture_commit(&fixture);
    stop_disk();
    fixture_flush(&fixture, FIXTURE_NOW + 1);
    hold_writers(true);
    fixture.now_s = FIXTURE_NOW + 1;
    assert_waits_for_commit(rests_of_get("key", STORE_NOT_FOUND));
    hold_writers(false);
    restart_disk();
}

static bool put_at_once(const char *name)
{
    static const char value[5000];
    struct store_key key = fixture_key(&fixture, name);
    struct store_put put = {.value = {{value, sizeof value}}};
    return store_put(at(fixture.session, fixture.now_s), &key, &put) == STORE_OK;
}

/* Puts the key, and others until the log goes on in its next segment. False: that is not ready
 * yet, and nothing was gained. */
static bool put_before_the_end_of_a_segment(const char *name)
{
    char filler[24];
    uint64_t segments = fixture_stats(&fixture).segments;
    bool put = put_at_once(name);
    for (int i = 0; put && fixture_stats(&fixture).segments == segments; i++) {
        snprintf(filler, sizeof filler, "filler %d", i);
        put = put_at_once(filler);
    }
    if (!put)
        fixture_commit(&fixture);
    return put;
}

static void test_an_answer_rests_on_what_lies_in_a_sealed_segment_too(void **state)
{
    (void)state;
    struct store_key key = fixture_key(&fixture, "key");
    struct store_fetch fetch = {0};
    struct store_item item;
    store_enter(reader, fixture.now_s); /* this batch takes the segment for the active one */
    while (!put_before_the_end_of_a_segment("key")) {
        store_leave(reader);
        usleep(1000);
        store_enter(reader, fixture.now_s);
    }
    enum store_status status = store_get(at(reader, fixture.now_s), &key, &fetch, &item);
    store_leave(reader);
    assert_int_equal(status, STORE_OK);
    uint64_t rests = store_answer_lsn(reader);
    assert_int_equal(store_durable(reader, rests), STORE_READ_ONLY);
    assert_waits_for_commit(rests_of_get("key", STORE_OK));
    assert_int_equal(store_durable(reader, rests), STORE_OK);
    assert_true(rests_of_get("key", STORE_OK) == 0);
}

static int set_up_two(void **state)
{
    int failed = set_up(state);
    reader = failed ? NULL : store_session_new(fixture.store, NULL, NULL, -1);
    return reader ? 0 : -1;
}

static int tear_down_two(void **state)
{
    store_session_free(reader);
    return tear_down(state);
}

/* Sessions, stores, memory. */

#define WORKERS 4

struct worker {
    pthread_t thread;
    int number;
    uint32_t failures;
};

static void work_on(struct worker *worker, struct store_session *session, int i)
{
    char name[32];
    struct store_key key;
    struct store_item item;
    struct store_fetch fetch = {0};
    struct store_put put = {.value = {{name, 0}}};
    snprintf(name, sizeof name, "%d/%d", worker->number, i);
    put.value[0].len = (uint32_t)strlen(name);
    store_key_init(fixture.store, &key, name, strlen(name));
    store_enter(session, fixture.now_s);
    worker->failures += wait_put(session, &key, FIXTURE_NOW, &put) != STORE_OK;
    enum store_status status;
    while ((status = store_get(at(session, FIXTURE_NOW), &key, &fetch, &item)) == STORE_WAIT_READ)
        worker->failures += store_fetch_now(session, &fetch) != STORE_OK;
    worker->failures += status != STORE_OK || item.value_len != strlen(name) ||
                        memcmp(item.value, name, item.value_len) != 0;
    store_leave(session);
    store_fetch_release(&fetch);
    worker->failures += i % 8 == 0 && store_commit(session) != STORE_OK;
}

static void *run_worker(void *context)
{
    struct worker *worker = context;
    struct store_session *session = store_session_new(fixture.store, NULL, NULL, -1);
    for (int i = 0; i < 2000; i++)
        work_on(worker, session, i);
    worker->failures += store_commit(session) != STORE_OK;
    store_session_free(session);
    return NULL;
}

static void test_sessions_work_side_by_side(void **state)
{
    (void)state;
    struct worker workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.number = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]), 0);
    }
    for (int i = 0; i < WORKERS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_int_equal(workers[i].failures, 0);
    }
    assert_int_equal(fixture_stats(&fixture).keydir_entries, WORKERS * 2000);
    fixture_reopen(&fixture);
    assert_int_equal(fixture_stats(&fixture).keydir_entries, WORKERS * 2000);
    fixture_expect(&fixture, "3/1999", "3/1999");
}

/* Puts up to `count` keys, until the store is full; how many there are. */
static uint32_t put_many(uint32_t count)
{
    char key[32];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(key, sizeof key, "key %u", i);
        if (fixture_try_put(&fixture, key, key, 0) != STORE_OK)
            return i;
        if (i % 100 == 0)
            fixture_commit(&fixture);
    }
    return count;
}

static void test_a_pinned_value_outlives_its_batch(void **state)
{
    (void)state;
    fixture_put(&fixture, "pinned", "the pinned value");
    struct store_item item = get("pinned");
    assert_true(item.in_ram);
    void *pin = store_pin(fixture.session, &item);
    fixture_commit(&fixture);
    put_many(20000);
    assert_memory_equal(item.value, "the pinned value", 16);
    store_unpin(pin);
}

static void test_a_full_index_refuses_new_keys_and_keeps_the_old(void **state)
{
    (void)state;
    char key[32];
    uint32_t count = put_many(200000);
    assert_true(count > 10000 && count < 200000);
    snprintf(key, sizeof key, "key %u", count);
    assert_int_equal(fixture_try_put(&fixture, key, "x", 0), STORE_FULL);
    fixture_expect(&fixture, key, NULL);
    fixture_put(&fixture, "key 0", "changed");
    fixture_expect(&fixture, "key 0", "changed");
    fixture_expect(&fixture, "key 1", "key 1");
    assert_int_equal(fixture_stats(&fixture).keydir_entries, count);
}

static void test_two_stores_know_nothing_of_each_other(void **state)
{
    (void)state;
    static struct fixture other;
    fixture_init(&other);
    fixture_open(&other);
    fixture_put(&fixture, "key", "here");
    fixture_put(&other, "key", "there");
    fixture_put(&other, "only", "there");
    fixture_expect(&fixture, "key", "here");
    fixture_expect(&fixture, "only", NULL);
    fixture_reopen(&other);
    fixture_expect(&other, "key", "there");
    fixture_release(&other);
    fixture_expect(&fixture, "key", "here");
}

#define TEST(name)     cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)
#define TEST_TWO(name) cmocka_unit_test_setup_teardown(test_##name, set_up_two, tear_down_two)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(if_absent_stores_only_new_keys),
        TEST(if_present_stores_only_known_keys),
        TEST(if_same_stores_only_what_nobody_has_changed),
        TEST(deletes_and_touches_have_conditions_too),
        TEST(a_value_of_two_parts_is_one),
        TEST(each_put_has_a_higher_cas_unless_it_is_chosen),
        TEST(an_item_is_gone_at_the_second_it_expires),
        TEST(keep_expiry_keeps_the_one_of_the_last_touch),
        TEST(values_larger_than_a_page_and_a_segment_are_kept),
        TEST(a_cold_value_is_fetched_once_and_then_in_ram),
        TEST(readers_fetch_what_is_not_in_the_page_cache),
        TEST(a_write_between_fetch_and_get_wins),
        TEST(a_large_write_between_fetch_and_get_is_fetched_in_turn),
        TEST(a_touch_or_get_between_fetch_and_get_does_no_harm),
        TEST(a_damaged_record_is_a_miss_and_stays_one),
        TEST(a_value_that_cannot_be_read_is_there),
        TEST(a_failed_read_is_nothing_to_those_who_replace_the_value),
        TEST(a_damaged_record_stays_until_its_deletion_is_written),
        TEST(what_is_not_written_yet_and_cannot_be_is_no_miss),
        TEST(a_flush_takes_what_was_before_and_not_what_comes),
        TEST(a_delayed_flush_takes_all_that_came_until_then),
        TEST(what_is_stored_in_the_second_of_a_flush_comes_after_it),
        TEST(a_flush_that_one_was_told_of_comes_before_what_others_store),
        TEST(always_means_that_the_disk_has_it),
        TEST(a_reply_that_tells_of_something_lost_is_not_sent),
        TEST(other_settings_do_not_wait_for_the_disk),
        TEST_TWO(an_answer_rests_on_what_others_have_written),
        TEST_TWO(a_miss_rests_on_what_let_the_key_expire),
        TEST_TWO(a_miss_rests_on_the_flush),
        TEST_TWO(a_miss_rests_on_a_flush_that_is_only_due),
        TEST_TWO(an_answer_rests_on_what_lies_in_a_sealed_segment_too),
        TEST(sessions_work_side_by_side),
        TEST(a_pinned_value_outlives_its_batch),
        TEST(a_full_index_refuses_new_keys_and_keeps_the_old),
        TEST(two_stores_know_nothing_of_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
