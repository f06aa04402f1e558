/* test_store.c: the promises of store.h, one by one. */
#include "tests/unit/storage/support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/log/segment.h"
#include "storage/store_internal.h"

static struct rig rig;
static _Atomic bool disk_stands_still; /* see stop_disk */

/* Right after a start values are not cached: the evictor has made no page yet. */
static bool cache_is_ready(void *context)
{
    (void)context;
    return rig_stats(&rig).cache_pages >= 2;
}

static void reopen_and_wait(void)
{
    rig_reopen(&rig);
    assert_true(wait_until(cache_is_ready, NULL));
}

static int set_up(void **state)
{
    (void)state;
    rig_init(&rig);
    rig_open(&rig);
    return wait_until(cache_is_ready, NULL) ? 0 : -1;
}

static void restart_disk(void)
{
    atomic_store(&disk_stands_still, false);
    faulty_watch(&rig.faulty, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    restart_disk();
    rig_release(&rig);
    return 0;
}

static enum store_status put_if(const char *name, enum store_condition condition, uint64_t place,
                                const char *value)
{
    struct store_key key = rig_key(&rig, name);
    struct store_put put = {
        .condition = condition, .place = place, .value = {{value, (uint32_t)strlen(value)}}};
    return wait_put(rig.session, &key, rig.now_s, &put);
}

static struct store_item get(const char *name)
{
    struct store_key key = rig_key(&rig, name);
    struct store_fetch fetch = {0};
    struct store_item item;
    assert_int_equal(rig_get(&rig, &key, &fetch, &item), STORE_OK);
    store_fetch_release(&fetch);
    return item;
}

/* Conditions. */

static void test_if_absent_stores_only_new_keys(void **state)
{
    (void)state;
    assert_int_equal(put_if("key", STORE_IF_ABSENT, 0, "one"), STORE_OK);
    assert_int_equal(put_if("key", STORE_IF_ABSENT, 0, "two"), STORE_EXISTS);
    rig_expect(&rig, "key", "one");
    rig_delete(&rig, "key");
    assert_int_equal(put_if("key", STORE_IF_ABSENT, 0, "three"), STORE_OK);
    rig_expect(&rig, "key", "three");
}

static void test_if_present_stores_only_known_keys(void **state)
{
    (void)state;
    assert_int_equal(put_if("key", STORE_IF_PRESENT, 0, "one"), STORE_NOT_FOUND);
    rig_expect(&rig, "key", NULL);
    rig_put(&rig, "key", "one");
    assert_int_equal(put_if("key", STORE_IF_PRESENT, 0, "two"), STORE_OK);
    rig_expect(&rig, "key", "two");
}

static void test_if_same_stores_only_what_nobody_has_changed(void **state)
{
    (void)state;
    rig_put(&rig, "key", "one");
    uint64_t place = get("key").place;
    assert_int_equal(put_if("key", STORE_IF_SAME, place, "two"), STORE_OK);
    assert_int_equal(put_if("key", STORE_IF_SAME, place, "three"), STORE_EXISTS);
    rig_expect(&rig, "key", "two");
    place = get("key").place;
    rig_delete(&rig, "key");
    assert_int_equal(put_if("key", STORE_IF_SAME, place, "four"), STORE_NOT_FOUND);
}

static void test_deletes_and_touches_have_conditions_too(void **state)
{
    (void)state;
    rig_put(&rig, "key", "one");
    struct store_key key = rig_key(&rig, "key");
    uint64_t old = get("key").place;
    rig_put(&rig, "key", "two");
    assert_int_equal(wait_delete(rig.session, &key, rig.now_s, STORE_IF_SAME, old), STORE_EXISTS);
    assert_int_equal(wait_touch(rig.session, &key, rig.now_s, 0, STORE_IF_SAME, old), STORE_EXISTS);
    uint64_t place = get("key").place;
    assert_int_equal(wait_touch(rig.session, &key, rig.now_s, 0, STORE_IF_SAME, place), STORE_OK);
    assert_int_equal(wait_delete(rig.session, &key, rig.now_s, STORE_IF_SAME, place), STORE_OK);
    assert_int_equal(wait_delete(rig.session, &key, rig.now_s, STORE_IF_PRESENT, 0),
                     STORE_NOT_FOUND);
    assert_int_equal(wait_touch(rig.session, &key, rig.now_s, 0, STORE_IF_PRESENT, 0),
                     STORE_NOT_FOUND);
}

/* Values, expiry, CAS. */

static void test_a_value_of_two_parts_is_one(void **state)
{
    (void)state;
    struct store_key key = rig_key(&rig, "key");
    struct store_put put = {.value = {{"one ", 4}, {"two", 3}}, .client_flags = 7};
    assert_int_equal(wait_put(rig.session, &key, rig.now_s, &put), STORE_OK);
    rig_expect(&rig, "key", "one two");
    assert_int_equal(get("key").client_flags, 7);
    rig_reopen(&rig);
    rig_expect(&rig, "key", "one two");
    assert_int_equal(get("key").client_flags, 7);
}

static void test_each_put_has_a_higher_cas_unless_it_is_chosen(void **state)
{
    (void)state;
    rig_put(&rig, "key", "one");
    uint64_t first = rig_cas(&rig, "key");
    rig_put(&rig, "key", "two");
    assert_true(rig_cas(&rig, "key") > first);
    struct store_key key = rig_key(&rig, "key");
    struct store_put put = {.value = {{"x", 1}}, .cas = 3};
    assert_int_equal(wait_put(rig.session, &key, rig.now_s, &put), STORE_OK);
    assert_int_equal(rig_cas(&rig, "key"), 3);
    rig_touch(&rig, "key", RIG_NOW + 5);
    assert_int_equal(rig_cas(&rig, "key"), 3);
}

static void test_an_item_is_gone_at_the_second_it_expires(void **state)
{
    (void)state;
    rig_put_until(&rig, "key", "x", RIG_NOW + 2);
    rig.now_s = RIG_NOW + 1;
    rig_expect(&rig, "key", "x");
    rig.now_s = RIG_NOW + 2;
    rig_expect(&rig, "key", NULL);
    assert_int_equal(rig_stats(&rig).expired_items, 1);
}

static void test_keep_expiry_keeps_the_one_of_the_last_touch(void **state)
{
    (void)state;
    struct store_key key = rig_key(&rig, "key");
    struct store_put put = {.value = {{"two", 3}}, .keep_expiry = true, .expire_s = RIG_NOW + 1};
    rig_put_until(&rig, "key", "one", RIG_NOW + 10);
    rig_touch(&rig, "key", RIG_NOW + 20);
    assert_int_equal(wait_put(rig.session, &key, rig.now_s, &put), STORE_OK);
    assert_int_equal(rig_expiry(&rig, "key"), RIG_NOW + 20);
    rig_reopen(&rig);
    assert_int_equal(rig_expiry(&rig, "key"), RIG_NOW + 20);
    rig_expect(&rig, "key", "two");
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
        rig_put_bytes(&rig, key, value, lens[i]);
    }
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
            snprintf(key, sizeof key, "key %zu", i);
            rig_expect_bytes(&rig, key, value, lens[i]);
        }
        rig_reopen(&rig);
    }
}

/* Cold values. */

static void test_a_cold_value_is_fetched_once_and_then_in_ram(void **state)
{
    (void)state;
    rig_put(&rig, "key", "value");
    reopen_and_wait();
    rig_expect(&rig, "key", "value");
    rig_expect(&rig, "key", "value");
    assert_int_equal(rig.cold, 1);
    assert_int_equal(rig_stats(&rig).disk_hits, 1);
    assert_int_equal(rig_stats(&rig).ram_hits, 1);
}

static void test_readers_fetch_what_is_not_in_the_page_cache(void **state)
{
    (void)state;
    rig_put(&rig, "key", "value");
    reopen_and_wait();
    rig.faulty.never_cached = true;
    rig_expect(&rig, "key", "value");
    assert_int_equal(rig_stats(&rig).disk_reads, 1);
}

/* Gets a cold key, lets `meanwhile` happen between the fetch and the second get, and answers that one's status. */
static enum store_status get_while(void (*meanwhile)(void), struct store_fetch *fetch,
                                   struct store_item *item)
{
    rig_put(&rig, "key", "old");
    reopen_and_wait();
    struct store_key key = rig_key(&rig, "key");
    *fetch = (struct store_fetch){0};
    assert_int_equal(store_get(rig.session, &key, rig.now_s, fetch, item), STORE_COLD);
    assert_int_equal(store_fetch_now(rig.session, fetch), STORE_OK);
    meanwhile();
    return store_get(rig.session, &key, rig.now_s, fetch, item);
}

static void put_new(void)
{
    rig_put(&rig, "key", "new value");
}

static void delete_it(void)
{
    rig_delete(&rig, "key");
}

static void touch_it(void)
{
    rig_touch(&rig, "key", RIG_NOW + 7);
}

static void get_it(void)
{
    rig_expect(&rig, "key", "old");
}

static void put_large(void)
{
    static char value[50000];
    rig_put_bytes(&rig, "key", value, sizeof value);
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
    rig_expect(&rig, "key", NULL);
}

static void test_a_large_write_between_fetch_and_get_is_fetched_in_turn(void **state)
{
    (void)state;
    struct store_fetch fetch;
    struct store_item item;
    assert_int_equal(get_while(put_large, &fetch, &item), STORE_COLD);
    struct store_key key = rig_key(&rig, "key");
    assert_int_equal(rig_get(&rig, &key, &fetch, &item), STORE_OK);
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
    assert_int_equal(item.expire_s, RIG_NOW + 7);
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
    rig_put_bytes(&rig, "key", value, sizeof value);
    rig_close(&rig);
    segment_name(name, 1, "seg");
    file_flip_bit(&rig.dir, name, SEGMENT_HEADER_SIZE + 500, 3);
    rig_open(&rig);
}

static void test_a_damaged_record_is_a_miss_and_stays_one(void **state)
{
    (void)state;
    damage_key();
    struct store_key key = rig_key(&rig, "key");
    struct store_fetch fetch = {0};
    struct store_item item;
    assert_int_equal(rig_get(&rig, &key, &fetch, &item), STORE_CORRUPT);
    store_fetch_release(&fetch);
    rig_expect(&rig, "key", NULL);
    assert_int_equal(rig_stats(&rig).corrupt_records, 1);
    rig_put(&rig, "key", "again");
    rig_reopen(&rig);
    rig_expect(&rig, "key", "again");
}

/* A cold key whose reads fail from now on. */
static struct store_key make_unreadable(void)
{
    rig_put(&rig, "key", "old");
    reopen_and_wait();
    rig.faulty.never_cached = true;
    faulty_fail(&rig.faulty, CALL_PREAD, 1, FOREVER, EIO);
    return rig_key(&rig, "key");
}

static void test_a_value_that_cannot_be_read_is_there(void **state)
{
    (void)state;
    struct store_key key = make_unreadable();
    struct store_fetch fetch = {0};
    struct store_item item;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rig_get(&rig, &key, &fetch, &item), STORE_IO);
        store_fetch_release(&fetch);
    }
    assert_int_equal(put_if("key", STORE_IF_ABSENT, 0, "new"), STORE_EXISTS);
    assert_int_equal(rig_stats(&rig).read_errors, 3);
    assert_int_equal(rig.told.errors, 1);
    assert_true(told_has(&rig.told, "cannot be read"));
    rig.now_s += 100; /* the disk has been well for a while, and now another sector fails */
    assert_int_equal(rig_get(&rig, &key, &fetch, &item), STORE_IO);
    store_fetch_release(&fetch);
    assert_int_equal(rig.told.errors, 2);
    faulty_heal(&rig.faulty);
    rig_expect(&rig, "key", "old");
}

/* Reads a record that cannot be read, lets `meanwhile` happen, and answers the next get's status. */
static enum store_status fail_while(void (*meanwhile)(void), struct store_fetch *fetch,
                                    struct store_item *item)
{
    struct store_key key = make_unreadable();
    *fetch = (struct store_fetch){0};
    assert_int_equal(store_get(rig.session, &key, rig.now_s, fetch, item), STORE_COLD);
    store_fetch_start(rig.session, fetch);
    store_fetch_submit(rig.session);
    while (store_fetch_next(rig.session) != fetch)
        sem_wait(&rig.woken);
    faulty_heal(&rig.faulty);
    meanwhile();
    return store_get(rig.session, &key, rig.now_s, fetch, item);
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
    assert_int_equal(rig_stats(&rig).read_errors, 0);
}

static bool takes_writes(void *context)
{
    (void)context;
    return rig_try_put(&rig, "other", "x", 0) == STORE_OK && rig_try_commit(&rig) == STORE_OK;
}

static void test_a_damaged_record_stays_until_its_deletion_is_written(void **state)
{
    (void)state;
    damage_key();
    rig_put(&rig, "other", "x");
    faulty_fail(&rig.faulty, CALL_PWRITE, 1, FOREVER, EIO);
    assert_int_equal(rig_try_commit(&rig), STORE_READ_ONLY);
    struct store_key key = rig_key(&rig, "key");
    struct store_fetch fetch = {0};
    struct store_item item;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rig_get(&rig, &key, &fetch, &item), STORE_IO);
        store_fetch_release(&fetch);
    }
    assert_int_equal(rig_stats(&rig).corrupt_records, 0);
    assert_false(told_has(&rig.told, "damaged"));
    faulty_heal(&rig.faulty);
    assert_true(wait_until(takes_writes, NULL));
    assert_int_equal(rig_get(&rig, &key, &fetch, &item), STORE_CORRUPT);
    store_fetch_release(&fetch);
    rig_expect(&rig, "key", NULL);
    assert_int_equal(rig_stats(&rig).corrupt_records, 1);
}

static void test_what_is_not_written_yet_and_cannot_be_is_no_miss(void **state)
{
    (void)state;
    static char value[50000]; /* too large for the cache: it is read from the file or not at all */
    rig_put_bytes(&rig, "key", value, sizeof value);
    faulty_fail(&rig.faulty, CALL_PWRITE, 1, FOREVER, EIO);
    struct store_key key = rig_key(&rig, "key");
    struct store_fetch fetch = {0};
    struct store_item item;
    assert_int_equal(rig_get(&rig, &key, &fetch, &item), STORE_READ_ONLY);
    store_fetch_release(&fetch);
    faulty_heal(&rig.faulty);
    assert_true(wait_until(takes_writes, NULL));
    rig_expect_bytes(&rig, "key", value, sizeof value);
}

/* Flush. */

static void test_a_flush_takes_what_was_before_and_not_what_comes(void **state)
{
    (void)state;
    rig_put(&rig, "before", "x");
    rig_flush(&rig, 0);
    rig_put(&rig, "after", "x");
    rig_expect(&rig, "before", NULL);
    rig_expect(&rig, "after", "x");
    assert_int_equal(put_if("before", STORE_IF_PRESENT, 0, "y"), STORE_NOT_FOUND);
}

static void test_a_delayed_flush_takes_all_that_came_until_then(void **state)
{
    (void)state;
    rig_put(&rig, "before", "x");
    rig_flush(&rig, RIG_NOW + 10);
    rig_put(&rig, "between", "x");
    rig.now_s = RIG_NOW + 9;
    rig_expect(&rig, "before", "x");
    rig_expect(&rig, "between", "x");
    rig.now_s = RIG_NOW + 10;
    rig_expect(&rig, "before", NULL);
    rig_expect(&rig, "between", NULL);
    rig_put(&rig, "after", "x");
    rig.now_s = RIG_NOW + 20;
    rig_expect(&rig, "after", "x");
}

/* A disk that stands still in the syncer's sync, so that the test alone says whether the log holds its writers. */

static _Atomic bool syncer_stands;

static void hold_syncer(enum file_call call, const char *name)
{
    (void)name;
    if (call != CALL_SYNC || !pthread_equal(pthread_self(), rig.store->log.syncer))
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
    faulty_watch(&rig.faulty, hold_syncer);
    rig_put(&rig, "to be synced", "x");
    rig_commit(&rig);
    log_request_sync(&rig.store->log, log_written_lsn(&rig.store->log));
    assert_true(wait_until(syncer_is_held, NULL));
}

static void hold_writers(bool hold)
{
    atomic_store(&rig.store->log.held, hold ? BACKPRESSURE_AGE : BACKPRESSURE_NONE);
}

static bool somebody_was_held(void *context)
{
    struct log *log = &rig.store->log;
    (void)context;
    pthread_mutex_lock(&log->lock);
    bool any = log->held_any;
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
    store_enter(writer->session);
    writer->status = store_put(writer->session, &writer->key, writer->now_s, &put);
    store_leave(writer->session);
    return NULL;
}

/* The writer's put meets a log that holds it, so that it cannot carry out the flush; then it waits for the lock of its key's shard,
 * and finds a log that takes everything. */
static void put_while_the_log_lets_go(struct writer *writer)
{
    struct keydir_shard *shard = &rig.store->keydir.shards[writer->key.shard];
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
        rig_put(&rig, "before", "x");
        rig_put(&rig, "key", "old");
        rig_flush(&rig, rig.now_s + 1);
        stop_disk();
        struct writer writer = {.session = store_session_new(rig.store, NULL, NULL, -1),
                                .key = rig_key(&rig, "key"),
                                .condition = conditions[i],
                                .now_s = ++rig.now_s};
        put_while_the_log_lets_go(&writer);
        store_session_free(writer.session);
        assert_int_equal(writer.status, STORE_OK);
        restart_disk();
        rig_expect(&rig, "before", NULL);
        rig_expect(&rig, "key", "new");
        rig_commit(&rig);
        rig_crash(&rig);
        rig_open(&rig);
        rig_expect(&rig, "before", NULL);
        rig_expect(&rig, "key", "new");
    }
}

/* Who hears of the second first is told that all is gone, while the log takes no record of it. Another, whose clock is behind,
 * stores after that. */
static void test_a_flush_that_one_was_told_of_comes_before_what_others_store(void **state)
{
    (void)state;
    rig_put(&rig, "key", "old");
    rig_flush(&rig, RIG_NOW + 1);
    stop_disk();
    hold_writers(true);
    rig.now_s = RIG_NOW + 1;
    rig_expect(&rig, "key", NULL);
    hold_writers(false);
    rig.now_s = RIG_NOW;
    rig_put(&rig, "key", "new");
    restart_disk();
    rig.now_s = RIG_NOW + 1;
    rig_expect(&rig, "key", "new");
}

/* Syncs. */

static void test_always_means_that_the_disk_has_it(void **state)
{
    (void)state;
    rig_close(&rig);
    rig.options.sync_interval_ms = STORE_SYNC_ALWAYS;
    rig_open(&rig);
    rig_put(&rig, "key", "x");
    rig_commit(&rig);
    uint64_t lsn = store_commit_lsn(rig.session);
    enum store_status status;
    while ((status = store_durable(rig.session, lsn)) == STORE_AGAIN)
        sem_wait(&rig.woken);
    assert_int_equal(status, STORE_OK);
    assert_true(rig_stats(&rig).lsn_synced >= lsn);
}

static enum store_status put_and_wait(const char *name)
{
    enum store_status status;
    rig_put(&rig, name, "x");
    assert_int_equal(store_commit(rig.session), STORE_OK);
    while ((status = store_durable(rig.session, store_commit_lsn(rig.session))) == STORE_AGAIN)
        sem_wait(&rig.woken);
    return status;
}

/* As the repair notes it, when some of what waited for a sync is lost and the rest is synced (test_dropped.c loses it). */
static void lose_what_was_put(uint64_t from_lsn)
{
    struct log *log = &rig.store->log;
    atomic_store(&log->lost_from_lsn, from_lsn);
    atomic_store(&log->lost_to_lsn, atomic_load(&log->next_lsn));
    atomic_fetch_add(&log->lost_values, 1);
}

static void test_a_reply_that_tells_of_something_lost_is_not_sent(void **state)
{
    (void)state;
    rig_close(&rig);
    rig.options.sync_interval_ms = STORE_SYNC_ALWAYS;
    rig_open(&rig);
    assert_int_equal(put_and_wait("before"), STORE_OK);
    uint64_t before = store_commit_lsn(rig.session);
    rig_put(&rig, "lost", "x");
    lose_what_was_put(before);
    assert_int_equal(store_durable(rig.session, before), STORE_OK);
    assert_int_equal(put_and_wait("in the same batch"), STORE_READ_ONLY);
    store_leave(rig.session);
    store_enter(rig.session);
    assert_int_equal(put_and_wait("in the next"), STORE_OK);
}

static void test_other_settings_do_not_wait_for_the_disk(void **state)
{
    (void)state;
    rig_put(&rig, "key", "x");
    rig_commit(&rig);
    assert_int_equal(store_durable(rig.session, store_commit_lsn(rig.session)), STORE_OK);
}

/* What an answer rests on (S10): a reader sees what the first has not committed yet. */

static struct store_session *reader;

/* Twice: the first get of a key takes the lock, the second may do without. */
static uint64_t rests_of_get(const char *name, enum store_status wanted)
{
    uint64_t rests[2];
    struct store_key key = rig_key(&rig, name);
    for (int i = 0; i < 2; i++) {
        struct store_fetch fetch = {0};
        struct store_item item;
        store_enter(reader);
        assert_int_equal(store_get(reader, &key, rig.now_s, &fetch, &item), wanted);
        store_leave(reader);
        store_fetch_release(&fetch);
        rests[i] = store_answer_lsn(reader);
    }
    assert_true(rests[0] == rests[1]);
    return rests[0];
}

static uint64_t rests_of_add(const char *name)
{
    struct store_key key = rig_key(&rig, name);
    struct store_put put = {.condition = STORE_IF_ABSENT, .value = {{"x", 1}}};
    store_enter(reader);
    assert_int_equal(store_put(reader, &key, rig.now_s, &put), STORE_EXISTS);
    store_leave(reader);
    return store_answer_lsn(reader);
}

static uint64_t rests_of_delete(const char *name)
{
    struct store_key key = rig_key(&rig, name);
    store_enter(reader);
    assert_int_equal(store_delete(reader, &key, rig.now_s, STORE_IF_PRESENT, 0), STORE_NOT_FOUND);
    store_leave(reader);
    return store_answer_lsn(reader);
}

static void assert_waits_for_commit(uint64_t rests)
{
    assert_int_equal(store_durable(reader, rests), STORE_READ_ONLY);
    rig_commit(&rig);
    assert_int_equal(store_durable(reader, rests), STORE_OK);
}

static void test_an_answer_rests_on_what_others_have_written(void **state)
{
    (void)state;
    rig_put(&rig, "bystander", "x");
    rig_commit(&rig);
    rig_put(&rig, "key", "x");
    assert_true(rests_of_get("bystander", STORE_OK) == 0);
    assert_waits_for_commit(rests_of_get("key", STORE_OK));
    assert_true(rests_of_get("key", STORE_OK) == 0);
    rig_put(&rig, "key", "y");
    assert_waits_for_commit(rests_of_add("key"));
    rig_touch(&rig, "key", RIG_NOW + 100);
    assert_waits_for_commit(rests_of_get("key", STORE_OK));
    assert_true(rests_of_add("key") == 0);
    rig_delete(&rig, "key");
    assert_waits_for_commit(rests_of_get("key", STORE_NOT_FOUND));
    assert_true(rests_of_get("key", STORE_NOT_FOUND) == 0);
    rig_put(&rig, "key", "z");
    rig_delete(&rig, "key");
    assert_waits_for_commit(rests_of_delete("key"));
}

static void test_a_miss_rests_on_what_let_the_key_expire(void **state)
{
    (void)state;
    rig_put(&rig, "key", "for ever");
    rig_commit(&rig);
    rig_put_until(&rig, "key", "x", RIG_NOW + 1);
    rig.now_s = RIG_NOW + 1;
    assert_waits_for_commit(rests_of_get("key", STORE_NOT_FOUND));
    assert_true(rests_of_get("key", STORE_NOT_FOUND) == 0);
}

static bool has_swept(void *context)
{
    const struct log *log = &rig.store->log;
    (void)context;
    return atomic_load(&rig.store->swept_flush_lsn) == atomic_load(&log->flush_lsn);
}

static void test_a_miss_rests_on_the_flush(void **state)
{
    (void)state;
    rig_put(&rig, "key", "x");
    rig_commit(&rig);
    rig_flush(&rig, 0);
    assert_waits_for_commit(rests_of_get("key", STORE_NOT_FOUND));
    assert_true(rests_of_get("key", STORE_NOT_FOUND) == 0);
    rig_flush(&rig, 0);
    assert_true(wait_until(has_swept, NULL));
    assert_waits_for_commit(rests_of_get("key", STORE_NOT_FOUND));
}

/* The record that carries it out cannot be written yet, so the one that has announced it must be. */
static void test_a_miss_rests_on_a_flush_that_is_only_due(void **state)
{
    (void)state;
    rig_put(&rig, "key", "x");
    rig_commit(&rig);
    stop_disk();
    rig_flush(&rig, RIG_NOW + 1);
    hold_writers(true);
    rig.now_s = RIG_NOW + 1;
    assert_waits_for_commit(rests_of_get("key", STORE_NOT_FOUND));
    hold_writers(false);
    restart_disk();
}

static bool put_at_once(const char *name)
{
    static const char value[5000];
    struct store_key key = rig_key(&rig, name);
    struct store_put put = {.value = {{value, sizeof value}}};
    return store_put(rig.session, &key, rig.now_s, &put) == STORE_OK;
}

/* Puts the key, and others until the log goes on in its next segment. False: that is not ready yet, and nothing was gained. */
static bool put_before_the_end_of_a_segment(const char *name)
{
    char filler[24];
    uint64_t segments = rig_stats(&rig).segments;
    bool put = put_at_once(name);
    for (int i = 0; put && rig_stats(&rig).segments == segments; i++) {
        snprintf(filler, sizeof filler, "filler %d", i);
        put = put_at_once(filler);
    }
    if (!put)
        rig_commit(&rig);
    return put;
}

static void test_an_answer_rests_on_what_lies_in_a_sealed_segment_too(void **state)
{
    (void)state;
    struct store_key key = rig_key(&rig, "key");
    struct store_fetch fetch = {0};
    struct store_item item;
    store_enter(reader); /* this batch takes the segment for the active one */
    while (!put_before_the_end_of_a_segment("key")) {
        store_leave(reader);
        usleep(1000);
        store_enter(reader);
    }
    enum store_status status = store_get(reader, &key, rig.now_s, &fetch, &item);
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
    reader = failed ? NULL : store_session_new(rig.store, NULL, NULL, -1);
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
    store_key_init(rig.store, &key, name, strlen(name));
    store_enter(session);
    worker->failures += wait_put(session, &key, RIG_NOW, &put) != STORE_OK;
    enum store_status status;
    while ((status = store_get(session, &key, RIG_NOW, &fetch, &item)) == STORE_COLD)
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
    struct store_session *session = store_session_new(rig.store, NULL, NULL, -1);
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
    assert_int_equal(rig_stats(&rig).keydir_entries, WORKERS * 2000);
    rig_reopen(&rig);
    assert_int_equal(rig_stats(&rig).keydir_entries, WORKERS * 2000);
    rig_expect(&rig, "3/1999", "3/1999");
}

/* Puts up to `count` keys, until the store is full; how many there are. */
static uint32_t put_many(uint32_t count)
{
    char key[32];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(key, sizeof key, "key %u", i);
        if (rig_try_put(&rig, key, key, 0) != STORE_OK)
            return i;
        if (i % 100 == 0)
            rig_commit(&rig);
    }
    return count;
}

static void test_a_pinned_value_outlives_its_batch(void **state)
{
    (void)state;
    rig_put(&rig, "pinned", "the pinned value");
    struct store_item item = get("pinned");
    assert_true(item.in_ram);
    void *pin = store_pin(rig.session, &item);
    rig_commit(&rig);
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
    assert_int_equal(rig_try_put(&rig, key, "x", 0), STORE_FULL);
    rig_expect(&rig, key, NULL);
    rig_put(&rig, "key 0", "changed");
    rig_expect(&rig, "key 0", "changed");
    rig_expect(&rig, "key 1", "key 1");
    assert_int_equal(rig_stats(&rig).keydir_entries, count);
}

static void test_two_stores_know_nothing_of_each_other(void **state)
{
    (void)state;
    static struct rig other;
    rig_init(&other);
    rig_open(&other);
    rig_put(&rig, "key", "here");
    rig_put(&other, "key", "there");
    rig_put(&other, "only", "there");
    rig_expect(&rig, "key", "here");
    rig_expect(&rig, "only", NULL);
    rig_reopen(&other);
    rig_expect(&other, "key", "there");
    rig_release(&other);
    rig_expect(&rig, "key", "here");
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
