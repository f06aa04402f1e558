/* test_cleaner.c: disk is taken back, and nothing dead comes back with it.
 *
 * Most tests clean by hand (fixture.manual_cleaner): they lay out segments one by one, with `seal`
 * between them, wait until these may be cleaned, and take the steps. A segment with the value
 * "garbage" in it is worth cleaning once that was written again; one with a "ballast" is not.
 *
 * Each rule of clean_segment.c has a test whose layout goes wrong without it: script/mutate shows
 * that.
 */
#define _GNU_SOURCE
#include "tests/unit/storage/support/fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "storage/log/hint.h"
#include "storage/base/monotonic.h"
#include "storage/store_internal.h"

#define SEGMENT STORE_SEGMENT_SIZE_MIN
#define BIG     45000 /* bytes of a ballast: of a segment more than a quarter, less than all */

static struct fixture fixture;

/* The fixture, not yet open: a store that is cleaned by hand. */
static void begin(void)
{
    fixture_init(&fixture);
    fixture.manual_cleaner = true;
    fixture.options.sync_interval_ms = 3600 * 1000; /* when somebody asks for it */
}

static int set_up(void **state)
{
    (void)state;
    begin();
    fixture_open(&fixture);
    return 0;
}

static int set_up_closed(void **state)
{
    (void)state;
    begin();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_release(&fixture);
    return 0;
}

/* Layout. */

static bool has_spares(void *context)
{
    struct log *log = context;
    pthread_mutex_lock(&log->lock);
    bool has = log->ready_count >= LOG_READY;
    pthread_mutex_unlock(&log->lock);
    return has;
}

static void write_all(void)
{
    struct log *log = &fixture.store->log;
    assert_int_equal(log_commit(log, log->next_lsn), STORE_OK);
}

static uint64_t active_id(void)
{
    return fixture.store->log.active->header.id;
}

/* Goes on in the next segment; the answer is the id of the one that is sealed. */
static uint64_t seal(void)
{
    struct log *log = &fixture.store->log;
    uint64_t id = active_id();
    assert_true(wait_until(has_spares, log));
    write_all();
    log_seal_active(log);
    write_all();
    assert_true(active_id() != id);
    return id;
}

static void put_big(const char *key, uint64_t seed)
{
    static char value[BIG];
    fill_pattern(value, sizeof value, seed);
    fixture_put_bytes(&fixture, key, value, sizeof value);
}

static void expect_big(const char *key, uint64_t seed)
{
    static char value[BIG];
    fill_pattern(value, sizeof value, seed);
    fixture_expect_bytes(&fixture, key, value, sizeof value);
}

/* The segment that holds the newest of these is worth cleaning when the next one is written. */
static void put_garbage(void)
{
    static uint64_t seed;
    put_big("garbage", seed++);
}

static void put_ballast(const char *key)
{
    put_big(key, 7);
}

static bool all_ready(void *context)
{
    struct log *log = context;
    bool ready = true;
    pthread_mutex_lock(&log->lock);
    for (struct segment *segment = log->first; segment; segment = segment->next)
        ready =
            ready &&
            (segment == log->active ||
             (segment->hinted && segment->header.base_lsn + segment->end <= log_synced_lsn(log)));
    pthread_mutex_unlock(&log->lock);
    return ready;
}

/* Waits until all sealed segments may be cleaned. */
static void settle(void)
{
    write_all();
    log_request_sync(&fixture.store->log, fixture.store->log.next_lsn);
    assert_true(wait_until(all_ready, &fixture.store->log));
}

/* True if the log still has a segment. */
static bool segment_is_in_log(uint64_t id)
{
    bool found = false;
    pthread_mutex_lock(&fixture.store->log.lock);
    for (struct segment *segment = fixture.store->log.first; segment; segment = segment->next)
        found |= segment->header.id == id;
    pthread_mutex_unlock(&fixture.store->log.lock);
    return found;
}

static uint32_t clean(void)
{
    uint32_t steps = 0;
    settle();
    while (cleaner_step(fixture.store))
        steps++;
    return steps;
}

static bool is_there(uint64_t id)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, id, "seg");
    return file_exists(&fixture.dir, name);
}

static void kill_and_open(void)
{
    fixture_crash(&fixture);
    fixture_open(&fixture);
}

static bool is_present(const char *name)
{
    struct store_key key = fixture_key(&fixture, name);
    struct store_fetch fetch = {0};
    struct store_item item;
    enum store_status status = fixture_get(&fixture, &key, &fetch, &item);
    store_fetch_release(&fetch);
    return status == STORE_OK;
}

/* The rules. */

/* Lays out segments; the answer is the id of one that the cleaner will take. */
typedef uint64_t layout(void);

/* Checks that everything is right after a kill. */
typedef bool verdict(void);

static void check_layout(layout *lay_out, verdict *judge)
{
    begin();
    fixture_open(&fixture);
    uint64_t id = lay_out();
    assert_true(is_there(id));
    clean();
    assert_false(is_there(id));
    kill_and_open();
    bool right = judge();
    fixture_reopen(&fixture);
    right = right && judge();
    fixture_release(&fixture);
    assert_true(right);
}

static uint64_t seal_and_bury(void)
{
    put_garbage();
    uint64_t id = seal();
    put_garbage();
    return id;
}

static void put_old_value(void)
{
    fixture_put(&fixture, "key", "old");
    put_ballast("keeps the old value's segment");
    seal();
}

static bool key_is_absent(void)
{
    return !is_present("key");
}

static uint64_t lay_out_deletion(void)
{
    put_old_value();
    fixture_delete(&fixture, "key");
    return seal_and_bury();
}

static void test_a_deletion_is_carried(void **state)
{
    (void)state;
    check_layout(lay_out_deletion, key_is_absent);
}

static void pass_time(uint32_t seconds)
{
    fixture.now_s += seconds;
    store_tick(fixture.store, fixture.now_s);
}

static uint64_t lay_out_expired(void)
{
    put_old_value();
    fixture_put_until(&fixture, "key", "new", fixture.now_s + 10);
    uint64_t id = seal_and_bury();
    pass_time(20);
    return id;
}

static void test_an_expired_value_becomes_a_deletion(void **state)
{
    (void)state;
    check_layout(lay_out_expired, key_is_absent);
}

static uint64_t lay_out_expired_and_seen(void)
{
    uint64_t id = lay_out_expired();
    fixture_expect(&fixture, "key", NULL); /* takes it out of the index */
    return id;
}

static void test_so_does_one_that_was_seen_to_be_expired(void **state)
{
    (void)state;
    check_layout(lay_out_expired_and_seen, key_is_absent);
}

static uint64_t lay_out_expired_touch(void)
{
    put_old_value();
    fixture_touch(&fixture, "key", fixture.now_s + 10);
    uint64_t id = seal_and_bury();
    pass_time(20);
    return id;
}

static void test_an_expired_touch_becomes_a_deletion(void **state)
{
    (void)state;
    check_layout(lay_out_expired_touch, key_is_absent);
}

static bool key_has_expiry(void)
{
    return is_present("key") && fixture_expiry(&fixture, "key") == FIXTURE_NOW + 1000;
}

static uint64_t lay_out_touch(void)
{
    put_old_value();
    fixture_touch(&fixture, "key", fixture.now_s + 1000);
    return seal_and_bury();
}

static void test_a_touch_is_carried(void **state)
{
    (void)state;
    check_layout(lay_out_touch, key_has_expiry);
}

static void test_a_touch_is_not_carried_behind_a_later_one(void **state)
{
    (void)state;
    put_old_value();
    fixture_touch(&fixture, "key", fixture.now_s + 500);
    uint64_t id = seal_and_bury();
    fixture_touch(&fixture, "key", fixture.now_s + 1000);
    clean();
    assert_false(is_there(id));
    kill_and_open();
    assert_int_equal(fixture_expiry(&fixture, "key"), FIXTURE_NOW + 1000);
}

static uint64_t lay_out_touched_value(void)
{
    fixture_put(&fixture, "key", "value");
    uint64_t id = seal_and_bury();
    fixture_touch(&fixture, "key", fixture.now_s + 1000);
    return id;
}

static void test_a_moved_value_takes_its_expiry_along(void **state)
{
    (void)state;
    check_layout(lay_out_touched_value, key_has_expiry);
}

static uint64_t stored_cas;

static uint64_t lay_out_cas(void)
{
    fixture_put(&fixture, "key", "value");
    stored_cas = fixture_cas(&fixture, "key");
    return seal_and_bury();
}

static bool key_has_its_cas(void)
{
    return fixture_cas(&fixture, "key") == stored_cas;
}

static void test_a_moved_value_keeps_its_cas_unique(void **state)
{
    (void)state;
    check_layout(lay_out_cas, key_has_its_cas);
}

/* The background thread would take what is flushed out of the index before the cleaner sees it. */
static void stop_background(void)
{
    thread_stop(&fixture.store->background);
}

static uint64_t lay_out_flush(void)
{
    fixture_put(&fixture, "key", "value");
    uint64_t id = seal_and_bury();
    settle();
    stop_background();
    fixture_flush(&fixture, 0);
    return id;
}

static void test_nothing_is_moved_behind_a_flush(void **state)
{
    (void)state;
    check_layout(lay_out_flush, key_is_absent);
}

/* True if the last write before an event had been synced. */
static bool is_synced_before(const struct faulty *faulty, uint32_t number)
{
    int written = -1;
    for (uint32_t i = 0; i < number; i++) {
        const struct file_event *event = &faulty->events[i];
        if (event->call == CALL_PWRITE)
            written = event->fd;
        if (event->call == CALL_SYNC && event->fd == written)
            written = -1;
    }
    return written < 0;
}

/* Checks that for each removal of a segment; the syncer may still be at work. */
static bool writes_are_synced_before_unlinks(void)
{
    struct faulty *faulty = &fixture.faulty;
    uint32_t unlinked = 0, synced = 0;
    pthread_mutex_lock(&faulty->lock);
    for (uint32_t i = 0; i < faulty->event_count; i++) {
        if (faulty->events[i].call != CALL_UNLINK || !strstr(faulty->events[i].name, ".seg"))
            continue;
        unlinked++;
        synced += is_synced_before(faulty, i);
    }
    pthread_mutex_unlock(&faulty->lock);
    assert_true(unlinked > 0);
    return synced == unlinked;
}

static bool is_synced_first(layout *lay_out)
{
    begin();
    fixture_open(&fixture);
    uint64_t id = lay_out();
    faulty_forget_events(&fixture.faulty);
    while (cleaner_step(fixture.store))
        ;
    assert_false(is_there(id));
    bool right = writes_are_synced_before_unlinks();
    fixture_release(&fixture);
    return right;
}

static uint64_t lay_out_move(void)
{
    fixture_put(&fixture, "key", "value");
    uint64_t id = seal_and_bury();
    settle();
    return id;
}

static void test_copies_are_on_disk_before_the_segment_goes(void **state)
{
    (void)state;
    assert_true(is_synced_first(lay_out_move));
}

static uint64_t lay_out_replaced(void)
{
    fixture_put(&fixture, "key", "value");
    uint64_t id = seal();
    settle();
    fixture_put(&fixture, "key", "newer"); /* in the log's buffer, not even written */
    return id;
}

static void test_what_replaces_a_value_is_on_disk_before_the_value_goes(void **state)
{
    (void)state;
    assert_true(is_synced_first(lay_out_replaced));
}

/* Takes a picture of the directory when the first segment is about to go. */
static struct {
    bool taken, seen;
    struct temp_dir dir;
} picture;

static void take_picture(enum file_call call, const char *name)
{
    if (picture.taken || call != CALL_UNLINK || !strstr(name, ".seg"))
        return;
    picture.taken = true;
    picture.seen = is_present("key");
    fixture_take_picture(&fixture, &picture.dir);
}

static void open_the_picture(void)
{
    faulty_watch(&fixture.faulty, NULL);
    assert_true(picture.taken);
    fixture_go_on_in(&fixture, &picture.dir);
    fixture_open(&fixture);
}

/* Segments full of live values, and a limit that asks for less. */
static uint64_t lay_out_crowd(void)
{
    char name[20];
    fixture_put(&fixture, "key", "oldest");
    put_ballast("oldest");
    uint64_t id = seal();
    for (int i = 0; i < 16; i++) {
        snprintf(name, sizeof name, "ballast %d", i);
        put_ballast(name);
        seal();
    }
    settle();
    return id;
}

static void limit_to_what_there_is(void)
{
    store_set_disk_limit(fixture.store, fixture_stats(&fixture).disk_bytes);
}

static bool stays_gone(void)
{
    begin();
    fixture.options.no_evictions = false;
    fixture_open(&fixture);
    uint64_t id = lay_out_crowd();
    limit_to_what_there_is();
    picture.taken = false;
    faulty_watch(&fixture.faulty, take_picture);
    clean();
    assert_false(is_there(id));
    assert_true(!is_present("key"));
    open_the_picture();
    bool right = picture.seen || !is_present("key");
    fixture_release(&fixture);
    return right;
}

static void test_evicted_keys_leave_the_disk_before_the_index(void **state)
{
    (void)state;
    assert_true(stays_gone());
}

/* A callback for evictions. */

struct seen {
    bool wants;
    uint32_t asked, keys, in_memory;
    uint64_t value_bytes;
    char last[STORE_KEY_MAX + 1];
};

static bool wants_evicted(void *context)
{
    struct seen *seen = context;
    seen->asked++;
    return seen->wants;
}

static void see_evicted(void *context, const struct store_evicted *evicted)
{
    struct seen *seen = context;
    memcpy(seen->last, evicted->key, evicted->key_len);
    seen->last[evicted->key_len] = '\0';
    assert_int_equal(evicted->expire_s, 0);
    seen->keys++;
    assert_false(evicted->fetched);
    assert_true(evicted->accessed_s == 0 || evicted->accessed_s == fixture.now_s);
    seen->in_memory += evicted->accessed_s != 0; /* else nobody knows any more */
    seen->value_bytes += evicted->value_len;
}

/* The cache gets its pages from a thread; a value that finds none is not cached. */
static bool put_in_memory(void *context)
{
    (void)context;
    struct store_key key = fixture_key(&fixture, "in memory");
    struct store_fetch fetch = {0};
    struct store_item item = {0};
    fixture_put(&fixture, "in memory", "small");
    enum store_status status =
        store_get_no_touch(at(fixture.session, fixture.now_s), &key, &fetch, &item);
    store_fetch_release(&fetch);
    return status == STORE_OK && item.in_ram;
}

static void evict_seen_by(struct seen *seen, uint64_t memory_limit)
{
    begin();
    fixture.options.memory_limit = memory_limit;
    fixture.options.no_evictions = false;
    fixture.options.observer = (struct store_observer){seen, wants_evicted, see_evicted};
    fixture_open(&fixture);
    assert_true(wait_until(put_in_memory, NULL));
    lay_out_crowd();
    limit_to_what_there_is();
    clean();
    assert_true(fixture_stats(&fixture).evicted_items > 0);
    assert_true(seen->asked > 0);
}

static void test_who_wants_to_know_is_told_what_is_evicted(void **state)
{
    (void)state;
    for (int mib = 1; mib <= 16; mib *= 16) { /* what is evicted is no more in memory, or is */
        struct seen seen = {.wants = true}, nobody = {.wants = false};
        evict_seen_by(&seen, UINT64_C(1048576) * (uint64_t)mib);
        assert_int_equal(seen.keys, fixture_stats(&fixture).evicted_items);
        assert_true(seen.value_bytes > 0);
        assert_true(mib == 1 || seen.in_memory > 0);
        assert_false(is_present(seen.last));
        fixture_release(&fixture);
        evict_seen_by(&nobody, UINT64_C(1048576) * (uint64_t)mib);
        assert_int_equal(nobody.keys, 0);
        fixture_release(&fixture);
    }
}

/* The pace, and values that are not copied on their way. */

#define LARGE   LOG_OUTSIDE_MIN
#define DISCARD (6 * LARGE)
#define RATE    (4 * LARGE) /* bytes a second */

static void test_a_large_value_is_moved_and_the_clean_rate_kept(void **state)
{
    (void)state;
    static char value[DISCARD];
    fill_pattern(value, sizeof value, 3);
    fixture.options.segment_size = 8 * LARGE;
    fixture.options.clean_rate = RATE;
    fixture_open(&fixture);
    fixture_put_bytes(&fixture, "large", value, LARGE);
    fixture_put_bytes(&fixture, "discarded", value, DISCARD);
    uint64_t id = seal();
    fixture_delete(&fixture, "discarded");
    seal();
    settle();
    uint64_t start_us = monotonic_us();
    assert_true(cleaner_step(fixture.store));
    /* It has kept to the rate when it comes to the second record. */
    assert_true(monotonic_us() - start_us >= UINT64_C(1000000) * LARGE / RATE);
    assert_false(is_there(id));
    assert_in_range(fixture_stats(&fixture).cleaner_moved_bytes, LARGE, LARGE + 1000);
    fixture_expect_bytes(&fixture, "large", value, LARGE);
    kill_and_open();
    fixture_expect_bytes(&fixture, "large", value, LARGE);
    assert_false(is_present("discarded"));
}

/* A kill at each step. */

#define PICTURES_MAX 200

static struct temp_dir pictures[PICTURES_MAX];
static uint32_t picture_count;
static pthread_mutex_t pictures_lock = PTHREAD_MUTEX_INITIALIZER;

static void take_every_picture(enum file_call call, const char *name)
{
    (void)call;
    (void)name;
    pthread_mutex_lock(&pictures_lock); /* the syncer's calls and the allocator's are told, too */
    if (picture_count < PICTURES_MAX)
        fixture_take_picture(&fixture, &pictures[picture_count++]);
    pthread_mutex_unlock(&pictures_lock);
}

static void test_a_kill_before_the_commit_of_what_replaces_a_value(void **state)
{
    (void)state;
    uint64_t id = lay_out_replaced();
    picture_count = 0;
    faulty_watch(&fixture.faulty, take_every_picture);
    while (cleaner_step(fixture.store))
        ;
    faulty_watch(&fixture.faulty, NULL);
    assert_false(is_there(id));
    for (uint32_t i = 0; i < picture_count; i++) {
        fixture_go_on_in(&fixture, &pictures[i]);
        fixture_open(&fixture);
        assert_true(is_present("key")); /* this value or that */
    }
    fixture_expect(&fixture, "key", "newer");
}

static void lay_out_everything(void)
{
    put_old_value();
    fixture_put(&fixture, "deleted", "x");
    fixture_put(&fixture, "expired", "old");
    fixture_put(&fixture, "touched", "x");
    fixture_put(&fixture, "touched away", "x");
    put_ballast("more");
    seal();
    fixture_delete(&fixture, "deleted");
    fixture_put_until(&fixture, "expired", "new", fixture.now_s + 10);
    fixture_touch(&fixture, "touched", fixture.now_s + 1000);
    fixture_touch(&fixture, "touched away", fixture.now_s + 10);
    fixture_put(&fixture, "moved", "x");
    seal_and_bury();
    fixture_touch(&fixture, "moved", fixture.now_s + 1000);
    seal_and_bury();
    fixture_delete(&fixture, "garbage");
    seal();
    pass_time(20);
    settle();
}

static void expect_everything(void)
{
    fixture_expect(&fixture, "key", "old");
    fixture_expect(&fixture, "deleted", NULL);
    fixture_expect(&fixture, "expired", NULL);
    fixture_expect(&fixture, "touched", "x");
    assert_int_equal(fixture_expiry(&fixture, "touched"), FIXTURE_NOW + 1000);
    fixture_expect(&fixture, "touched away", NULL);
    fixture_expect(&fixture, "moved", "x");
    assert_int_equal(fixture_expiry(&fixture, "moved"), FIXTURE_NOW + 1000);
    fixture_expect(&fixture, "garbage", NULL);
    expect_big("more", 7);
}

static void test_a_kill_at_any_step_changes_nothing(void **state)
{
    (void)state;
    lay_out_everything();
    picture_count = 0;
    faulty_watch(&fixture.faulty, take_every_picture);
    assert_true(clean() >= 2);
    faulty_watch(&fixture.faulty, NULL);
    expect_everything();
    assert_true(picture_count >= 8 && picture_count < PICTURES_MAX);
    for (uint32_t i = 0; i < picture_count; i++) {
        fixture_go_on_in(&fixture, &pictures[i]);
        fixture_open(&fixture);
        expect_everything();
        clean(); /* and the rest of it after the kill */
        expect_everything();
        kill_and_open();
        expect_everything();
    }
}

static void test_a_moved_value_keeps_flags_expiry_and_bytes(void **state)
{
    (void)state;
    struct store_key key = fixture_key(&fixture, "key");
    struct store_put put = {
        .value = {{"val", 3}, {"ue", 2}}, .client_flags = 0xdeadbeef, .expire_s = FIXTURE_NOW + 77};
    assert_int_equal(wait_put(fixture.session, &key, fixture.now_s, &put), STORE_OK);
    uint64_t id = seal_and_bury();
    clean();
    assert_false(is_there(id));
    for (int i = 0; i < 2; i++) {
        struct store_fetch fetch = {0};
        struct store_item item;
        assert_int_equal(fixture_get(&fixture, &key, &fetch, &item), STORE_OK);
        assert_int_equal(item.value_len, 5);
        assert_memory_equal(item.value, "value", 5);
        assert_int_equal(item.client_flags, 0xdeadbeef);
        assert_int_equal(item.expire_s, FIXTURE_NOW + 77);
        assert_int_equal(item.cas, put.cas);
        store_fetch_release(&fetch);
        kill_and_open();
        key = fixture_key(&fixture, "key");
    }
}

/* Which segment goes, and how. */

static void test_a_dead_segment_goes_unread(void **state)
{
    (void)state;
    put_old_value();
    put_garbage();
    uint64_t dead = seal();
    put_garbage();
    settle();
    uint64_t reads = faulty_calls(&fixture.faulty, CALL_PREAD);
    assert_true(cleaner_step(fixture.store));
    assert_false(is_there(dead));
    assert_int_equal(faulty_calls(&fixture.faulty, CALL_PREAD), reads);
    assert_int_equal(fixture_stats(&fixture).cleaner_moved_bytes, 0);
}

static void test_the_oldest_goes_unread_with_all_its_deletions(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "x");
    fixture_delete(&fixture, "key");
    put_garbage();
    uint64_t oldest = seal();
    fixture_put(&fixture, "other", "x");
    fixture_delete(&fixture, "other");
    put_ballast("lives");
    uint64_t newer = seal();
    put_garbage();
    settle();
    uint64_t reads = faulty_calls(&fixture.faulty, CALL_PREAD);
    assert_true(cleaner_step(fixture.store));
    assert_false(is_there(oldest));
    assert_true(is_there(newer));
    assert_int_equal(faulty_calls(&fixture.faulty, CALL_PREAD), reads);
}

static void test_a_file_is_closed_when_its_last_reader_is_done(void **state)
{
    (void)state;
    struct store_fetch fetch = {0};
    struct store_item item;
    fixture_put(&fixture, "key", "value");
    uint64_t id = seal_and_bury();
    fixture_reopen(&fixture); /* now it is cold */
    struct store_key key = fixture_key(&fixture, "key");
    assert_int_equal(store_get(at(fixture.session, fixture.now_s), &key, &fetch, &item),
                     STORE_WAIT_READ);
    fixture_put(&fixture, "key", "newer");
    clean();
    assert_false(is_there(id));
    assert_int_equal(log_reap(&fixture.store->log), 1);
    assert_int_equal(store_fetch_now(fixture.session, &fetch),
                     STORE_OK); /* from a file without a name */
    assert_int_equal(fetch.status, STORE_OK);
    assert_int_equal(fixture_get(&fixture, &key, &fetch, &item), STORE_OK);
    assert_memory_equal(item.value, "newer", 5);
    store_fetch_release(&fetch);
    assert_int_equal(log_reap(&fixture.store->log), 0);
}

/* The byte of a file where the words stand. */
static size_t find_in_file(const char *name, const char *words)
{
    size_t len;
    char *data = file_load(&fixture.dir, name, &len);
    char *at = memmem(data, len, words, strlen(words));
    assert_non_null(at);
    size_t offset = (size_t)(at - data);
    free(data);
    return offset;
}

static void test_a_damaged_record_keeps_its_segment_until_it_is_the_oldest(void **state)
{
    (void)state;
    char name[SEGMENT_NAME_SIZE];
    put_old_value();
    fixture_put(&fixture, "key", "this will be damaged");
    fixture_put(&fixture, "other", "x");
    uint64_t id = seal_and_bury();
    settle();
    segment_name(name, id, "seg");
    file_flip_bit(&fixture.dir, name, find_in_file(name, "this will be damaged"), 3);
    clean();
    assert_true(is_there(id));
    assert_true(messages_have(&fixture.messages, "damaged"));
    assert_int_equal(fixture.messages.warnings, 1);
    fixture_delete(&fixture, "keeps the old value's segment");
    clean(); /* the oldest goes, then this one is it */
    settle();
    store_set_disk_limit(fixture.store, 1);
    clean();
    assert_false(is_there(id));
    fixture_expect(&fixture, "key", NULL);
    fixture_expect(&fixture, "other", "x");
    kill_and_open();
    fixture_expect(&fixture, "key", NULL);
    fixture_expect(&fixture, "other", "x");
}

static void test_nothing_flushed_comes_back(void **state)
{
    (void)state;
    fixture_put(&fixture, "key", "x");
    put_ballast("lives");
    uint64_t first = seal();
    fixture_put(&fixture, "key", "y");
    uint64_t second = seal_and_bury();
    fixture_flush(&fixture, 0);
    fixture_put(&fixture, "after", "x");
    while (clean() || is_there(first) || is_there(second))
        ; /* the sweep takes its time */
    kill_and_open();
    fixture_expect(&fixture, "key", NULL);
    fixture_expect(&fixture, "lives", NULL);
    fixture_expect(&fixture, "after", "x");
    assert_int_equal(fixture_stats(&fixture).keydir_entries, 1);
}

/* Marks: what dies, and when. */

/* It dies though it is not in the oldest segment: all that is left was written after its birth. */
static void test_a_deletion_dies_when_nothing_older_is_left(void **state)
{
    (void)state;
    static const char keeper[] = "keeps the old value's segment";
    put_old_value();
    fixture_delete(&fixture, "key");
    uint64_t id = seal_and_bury();
    put_ballast("static");
    seal();
    clean(); /* moves it after the static value */
    assert_false(is_there(id));
    fixture_delete(&fixture, keeper);
    clean(); /* takes the old value away, and with it all that the deletion masks */
    id = seal_and_bury();
    uint64_t before = fixture_stats(&fixture).cleaner_moved_bytes;
    clean();
    assert_false(is_there(id));
    uint64_t moved = fixture_stats(&fixture).cleaner_moved_bytes - before;
    assert_true(moved == record_size(sizeof keeper - 1, 0)); /* the other deletion is younger */
    kill_and_open();
    assert_false(is_present("key") || is_present(keeper));
}

/* A deletion that is carried keeps its birth: in the record and in the hint. */
static void test_a_carried_deletion_keeps_its_birth(void **state)
{
    (void)state;
    put_old_value();
    uint64_t born = atomic_load(&fixture.store->log.next_lsn);
    fixture_delete(&fixture, "key");
    uint64_t id = seal_and_bury();
    clean();
    assert_false(is_there(id));
    uint64_t carried = seal();
    settle();
    struct segment *segment = fixture.store->log.first;
    while (segment->header.id != carried)
        segment = segment->next;
    struct segment_cursor cursor;
    struct record record;
    uint32_t offset;
    bool found = false;
    assert_true(segment_cursor_init(&cursor, &file_system_os, segment, segment->end));
    while (segment_cursor_next(&cursor, &record, &offset) == CURSOR_RECORD)
        if (record.type == RECORD_DELETE && record.key_len == 3) {
            assert_true(record.cas == born);
            found = true;
        }
    segment_cursor_release(&cursor);
    assert_true(found);
}

static void test_of_several_touches_of_a_key_the_last_is_carried(void **state)
{
    (void)state;
    put_old_value();
    for (uint32_t i = 0; i < 100; i++) {
        fixture_touch(&fixture, "key", fixture.now_s + 1000 + i % 2);
        fixture_touch(&fixture, "key", fixture.now_s + 1000);
    }
    uint64_t before = fixture_stats(&fixture).cleaner_moved_bytes;
    uint64_t id = seal_and_bury();
    clean();
    assert_false(is_there(id));
    assert_true(fixture_stats(&fixture).cleaner_moved_bytes - before <= 2 * record_size(3, 0));
    kill_and_open();
    assert_int_equal(fixture_expiry(&fixture, "key"), FIXTURE_NOW + 1000);
}

static void test_a_touch_that_changes_nothing_writes_nothing(void **state)
{
    (void)state;
    fixture_put_until(&fixture, "key", "x", fixture.now_s + 100);
    uint64_t lsn = fixture_stats(&fixture).lsn;
    for (int i = 0; i < 10; i++)
        fixture_touch(&fixture, "key", fixture.now_s + 100);
    fixture_commit(&fixture);
    assert_true(fixture_stats(&fixture).lsn == lsn);
    kill_and_open();
    assert_int_equal(fixture_expiry(&fixture, "key"), FIXTURE_NOW + 100);
}

/* Failures (G7). If the cleaner's steps are taken by hand, the test must wait out its back-off. */

static void clean_until_gone(uint64_t id)
{
    uint64_t until_us = monotonic_us() + SOON_MS * UINT64_C(1000);
    while (is_there(id) || segment_is_in_log(id)) {
        clean();
        if (monotonic_us() > until_us)
            give_up("segment %d is still there", (int)id);
        const struct timespec pause = {.tv_nsec = 20000000};
        nanosleep(&pause, NULL);
    }
}

static void test_a_segment_whose_file_is_gone_counts_as_removed(void **state)
{
    (void)state;
    char name[SEGMENT_NAME_SIZE];
    uint64_t id = lay_out_deletion();
    settle();
    segment_name(name, id, "seg");
    assert_int_equal(unlinkat(fixture.dir.fd, name, 0), 0);
    clean_until_gone(id);
    fixture_put(&fixture, "goes on", "x");
    fixture_expect(&fixture, "goes on", "x");
    assert_false(is_present("key"));
}

/* The cleaner's next sync of the directory fails: not that of a spare segment that is still
 * being made. */
static void fail_to_sync_dir(void)
{
    settle();
    assert_true(wait_until(has_spares, &fixture.store->log));
    faulty_fail(&fixture.faulty, CALL_SYNC_DIR, 1, 1, EIO);
}

static void test_an_unlink_that_is_not_durable_is_made_so_before_the_next(void **state)
{
    (void)state;
    uint64_t id = lay_out_deletion();
    fail_to_sync_dir();
    uint32_t errors = fixture.messages.errors;
    clean_until_gone(id);
    faulty_heal(&fixture.faulty);
    assert_int_equal(fixture.messages.errors, errors + 1);
    kill_and_open();
    assert_false(is_present("key"));
}

static uint32_t dir_syncs, dir_syncs_at[2], segments_unlinked;

static void note_order(enum file_call call, const char *name)
{
    dir_syncs += call == CALL_SYNC_DIR;
    if (call == CALL_UNLINK && strstr(name, ".seg") && segments_unlinked < 2)
        dir_syncs_at[segments_unlinked++] = dir_syncs;
}

/* G5: two files are removed, and the sync of the directory after the first fails. */
static void test_what_is_not_durable_comes_first(void **state)
{
    (void)state;
    put_garbage();
    seal();
    put_garbage();
    seal();
    put_garbage();
    fail_to_sync_dir();
    dir_syncs = segments_unlinked = 0;
    faulty_watch(&fixture.faulty, note_order);
    clean();
    faulty_watch(&fixture.faulty, NULL);
    assert_int_equal(segments_unlinked, 2);
    assert_int_equal(dir_syncs_at[1], dir_syncs_at[0] + 2);
}

/* A store at its brim. */

static enum store_status put_growing(uint32_t *count, uint32_t expire_s)
{
    static char value[1000];
    char name[24];
    snprintf(name, sizeof name, "growing %u", *count);
    struct store_key key = fixture_key(&fixture, name);
    struct store_put put = {.value = {{value, sizeof value}}, .expire_s = expire_s};
    enum store_status status = store_put(at(fixture.session, fixture.now_s), &key, &put);
    fixture_commit(&fixture);
    *count += status == STORE_OK;
    return status;
}

/* Acts like a waiting client: each time it must try again, the cleaner takes a step. */
static void grow_until_full(uint32_t *count, uint32_t expire_s)
{
    enum store_status status;
    while ((status = put_growing(count, expire_s)) != STORE_FULL)
        if (status == STORE_WAIT_SPACE) {
            settle();
            cleaner_step(fixture.store);
        }
}

static void test_a_store_fills_no_further_than_its_share(void **state)
{
    (void)state;
    uint32_t count = 0;
    uint64_t limit = 40 * (uint64_t)SEGMENT;
    store_set_disk_limit(fixture.store, limit);
    settle();
    cleaner_step(fixture.store);
    grow_until_full(&count, 0);
    uint64_t live = fixture_stats(&fixture).live_bytes;
    assert_in_range(live, limit / 2, (limit - 6 * SEGMENT) / 8 * 7);
    for (uint32_t i = 0; i < 3 * count; i++) { /* and can be overwritten as often as one likes */
        uint32_t again = i % count;
        enum store_status status = put_growing(&again, 0);
        while (status == STORE_WAIT_SPACE) {
            clean();
            status = put_growing(&again, 0);
        }
        assert_int_equal(status, STORE_OK);
    }
    assert_true(fixture_stats(&fixture).disk_bytes <= limit);
}

/* Just expired values are left to gets, not to the crawler; but they are removed before a write is
 * refused. */
static void test_what_has_expired_goes_before_a_write_is_refused(void **state)
{
    (void)state;
    uint32_t count = 0;
    store_set_disk_limit(fixture.store, 40 * (uint64_t)SEGMENT);
    settle();
    cleaner_step(fixture.store);
    grow_until_full(&count, fixture.now_s + 10);
    uint32_t old = count;
    pass_time(11);
    while (put_growing(&count, 0) != STORE_OK) {
        settle();
        cleaner_step(fixture.store);
    }
    assert_true(fixture_stats(&fixture).expired_items >= old);
}

static void forget_failures(void)
{
    for (struct segment *segment = fixture.store->log.first; segment; segment = segment->next)
        segment->retry_us = 0;
}

/* A segment that cannot be read does not block the cleaner for ever; but first the disk gets a few
 * attempts. */
static void test_the_oldest_segment_goes_though_it_cannot_be_read(void **state)
{
    (void)state;
    fixture_put(&fixture, "unreadable", "x");
    uint64_t id = seal_and_bury();
    fixture_put(&fixture, "other", "y");
    seal();
    settle();
    faulty_fail(&fixture.faulty, CALL_PREAD, 1, FOREVER, EIO);
    for (int attempt = 0; attempt < 3; attempt++) {
        forget_failures();
        clean();
        assert_true(is_there(id));
        assert_int_equal(fixture.messages.errors, 1); /* only the first is logged */
    }
    assert_false(messages_have(&fixture.messages, "1 keys whose records"));
    forget_failures();
    clean();
    assert_false(is_there(id));
    assert_true(messages_have(&fixture.messages, "1 keys whose records could not be read"));
    faulty_heal(&fixture.faulty);
    fixture_expect(&fixture, "unreadable", NULL);
    fixture_expect(&fixture, "other", "y");
}

/* A deletion that cannot be read could not be carried: what it masks must not come back. */
static void test_a_segment_with_an_unreadable_deletion_stays(void **state)
{
    (void)state;
    uint64_t id = lay_out_deletion();
    settle();
    faulty_fail(&fixture.faulty, CALL_PREAD, 2, FOREVER, EIO); /* but for the hint file */
    for (int attempt = 0; attempt < 6; attempt++) {
        forget_failures();
        clean();
    }
    assert_true(is_there(id));
    assert_true(messages_have(&fixture.messages, "kept until it is the oldest"));
    faulty_heal(&fixture.faulty);
    kill_and_open();
    assert_false(is_present("key"));
}

/* The store starts again without the hint file of a segment, some of which cannot be read. */
static void open_with_bad_place(uint64_t id, off_t from, off_t to)
{
    char name[SEGMENT_NAME_SIZE], hint[SEGMENT_NAME_SIZE];
    segment_name(name, id, "seg");
    segment_name(hint, id, "hint");
    fixture_crash(&fixture);
    unlinkat(fixture.dir.fd, hint, 0);
    faulty_bad_place(&fixture.faulty, name, from, to);
    fixture_open(&fixture);
}

/* Room is wanted: the segment goes after a few attempts to read all of it. */
static void clean_until_it_goes(uint64_t id)
{
    store_set_disk_limit(fixture.store, 2 * SEGMENT);
    for (int attempt = 0; attempt < 4; attempt++) {
        assert_true(is_there(id));
        forget_failures();
        clean();
    }
    assert_false(is_there(id));
}

/* Y9: it may be the oldest, and nothing in it be known to live. */
static void test_what_a_start_could_not_read_goes_only_when_room_is_wanted(void **state)
{
    (void)state;
    char name[SEGMENT_NAME_SIZE], hint[SEGMENT_NAME_SIZE];
    fixture_put(&fixture, "unreadable", "x");
    uint64_t id = seal();
    segment_name(name, id, "seg");
    segment_name(hint, id, "hint");
    fixture_put(&fixture, "other", "y");
    seal();
    for (int start = 0; start < 2; start++) {
        messages_clear(&fixture.messages);
        if (start == 0)
            open_with_bad_place(id, SEGMENT_HEADER_SIZE, SEGMENT);
        else
            fixture_open(&fixture);
        assert_true(messages_have(&fixture.messages, name));
        clean();
        fixture_expect(&fixture, "unreadable", NULL);
        fixture_expect(&fixture, "other", "y");
        fixture_close(&fixture);
        assert_true(is_there(id) && !file_exists(&fixture.dir, hint));
        assert_false(messages_have(&fixture.messages, "hint file"));
    }
    faulty_bad_place(&fixture.faulty, NULL, 0, 0);
    fixture_open(&fixture);
    fixture_expect(&fixture, "unreadable", "x");
    open_with_bad_place(id, SEGMENT_HEADER_SIZE, SEGMENT);
    clean_until_it_goes(id);
    fixture_expect(&fixture, "other", "y");
}

static void test_what_stands_beside_a_bad_block_is_moved(void **state)
{
    (void)state;
    static char value[8000];
    fixture_put(&fixture, "before", "x");
    fixture_put_bytes(&fixture, "unreadable", value, sizeof value);
    fixture_put(&fixture, "after", "y");
    uint64_t id = seal();
    fixture_put(&fixture, "other", "z");
    seal();
    open_with_bad_place(id, 4096, 8192);
    clean_until_it_goes(id);
    for (int start = 0; start < 2; start++) {
        fixture_expect(&fixture, "before", "x");
        fixture_expect(&fixture, "unreadable", NULL);
        fixture_expect(&fixture, "after", "y");
        fixture_expect(&fixture, "other", "z");
        kill_and_open();
    }
}

/* A start on a full disk. */

static bool is_writable(void *context)
{
    const struct store *store = context;
    return !atomic_load(&store->log.failed);
}

static void fill_disk(void)
{
    char name[24];
    for (int i = 0; i < 14; i++) {
        snprintf(name, sizeof name, "big %d", i);
        put_big(name, (uint64_t)i);
        seal();
    }
    settle();
    fixture_close(&fixture);
    faulty_set_space(&fixture.faulty, 0);
}

static void test_a_store_on_a_full_disk_starts_and_deletions_make_room(void **state)
{
    (void)state;
    char hints[32][NAME_LEN], said[64];
    fixture_put(&fixture, "small", "x");
    fill_disk();
    size_t before = files_with_suffix(&fixture.dir, ".hint", hints, 32);
    assert_true(before > 0);
    faulty_set_space(&fixture.faulty,
                     2 * SEGMENT + 20000); /* a little less than it needs: the hint files go */
    fixture_open(&fixture);
    snprintf(said, sizeof said, "%zu hint files were removed", before);
    assert_true(messages_have(&fixture.messages, said));
    assert_int_equal(files_with_suffix(&fixture.dir, ".hint", hints, 32), 0);
    fixture_expect(&fixture, "small", "x");
    expect_big("big 3", 3);
    for (int i = 0; i < 14; i++) {
        char name[24];
        snprintf(name, sizeof name, "big %d", i);
        fixture_delete(&fixture, name);
        fixture_commit(&fixture);
    }
    clean();
    put_big("new", 1);
    fixture_commit(&fixture);
    kill_and_open();
    expect_big("new", 1);
    fixture_expect(&fixture, "small", "x");
    assert_false(is_present("big 5"));
}

static void test_a_store_without_any_room_is_read_only_until_there_is_some(void **state)
{
    (void)state;
    fixture_put(&fixture, "small", "x");
    fill_disk();
    fixture_open(&fixture);
    assert_true(fixture_stats(&fixture).read_only);
    assert_true(messages_have(&fixture.messages, "read-only until there is room"));
    fixture_expect(&fixture, "small", "x");
    expect_big("big 13", 13);
    assert_int_equal(fixture_try_put(&fixture, "new", "y", 0), STORE_READ_ONLY);
    faulty_set_space(&fixture.faulty, 20 * SEGMENT);
    assert_true(wait_until(is_writable, fixture.store));
    fixture_put(&fixture, "new", "y");
    fixture_commit(&fixture);
    kill_and_open();
    fixture_expect(&fixture, "new", "y");
    expect_big("big 13", 13);
}

/* While the server is down, others may fill the disk: a clean stop keeps its ready segments for
 * the next start. */
static void test_a_clean_stop_keeps_room_for_the_next_start(void **state)
{
    (void)state;
    fixture.keep_ready = true;
    fixture_put(&fixture, "small", "x");
    fill_disk();
    fixture_open(&fixture);
    assert_false(fixture_stats(&fixture).read_only);
    assert_false(messages_have(&fixture.messages, "hint files were removed"));
    fixture_delete(&fixture, "big 3");
    fixture_commit(&fixture);
    kill_and_open();
    assert_false(is_present("big 3"));
    fixture_expect(&fixture, "small", "x");
}

static void test_a_cache_on_a_full_disk_gives_up_its_oldest_and_says_so(void **state)
{
    (void)state;
    fixture.options.no_evictions = false;
    fixture_open(&fixture);
    fill_disk();
    fixture_open(&fixture);
    assert_false(fixture_stats(&fixture).read_only);
    assert_true(fixture_stats(&fixture).evicted_disk_full > 0);
    assert_true(messages_have(&fixture.messages, "values evicted"));
    assert_false(is_present("big 0"));
    expect_big("big 13", 13);
}

/* Eviction. */

static void test_a_cache_drops_its_oldest_and_keeps_what_was_read(void **state)
{
    (void)state;
    fixture.options.no_evictions = false;
    fixture_open(&fixture);
    fixture_put(&fixture, "read", "x");
    uint64_t id = lay_out_crowd();
    fixture_expect(&fixture, "read", "x");
    limit_to_what_there_is();
    clean();
    assert_false(is_there(id));
    assert_true(fixture_stats(&fixture).evicted_items >= 2);
    assert_true(fixture_stats(&fixture).evicted_unfetched >= 2);
    for (int i = 0; i < 2; i++) {
        fixture_expect(&fixture, "read", "x");
        fixture_expect(&fixture, "key", NULL);
        fixture_expect(&fixture, "oldest", NULL);
        expect_big("ballast 15", 7);
        kill_and_open();
    }
}

/* From here on with the cleaner's thread. */

static void open_with_thread(bool cache, uint32_t segments)
{
    fixture.manual_cleaner = false;
    fixture.options.no_evictions = !cache;
    fixture.options.sync_interval_ms = 10;
    fixture.options.disk_limit = segments * (uint64_t)SEGMENT;
    fixture_open(&fixture);
}

static enum store_status try_put_bytes(const char *name, uint32_t len, uint64_t seed)
{
    static char value[BIG];
    struct store_key key = fixture_key(&fixture, name);
    struct store_put put = {.value = {{value, len}}};
    fill_pattern(value, len, seed);
    enum store_status status = wait_put(fixture.session, &key, fixture.now_s, &put);
    fixture_commit(&fixture);
    return status;
}

static void numbered(char name[20], uint32_t number)
{
    snprintf(name, 20, "number %u", number);
}

/* Puts keys with values of 3000 bytes until the store is full; the answer is how many. */
static uint32_t fill_up(void)
{
    char name[20];
    enum store_status status = STORE_OK;
    uint32_t count = 0;
    for (; status == STORE_OK && count < 5000; count++) {
        numbered(name, count);
        status = try_put_bytes(name, 3000, count);
        assert_true(temp_dir_bytes(&fixture.dir) <= fixture.options.disk_limit + SEGMENT);
    }
    assert_int_equal(status, STORE_FULL);
    return count - 1;
}

static bool may_grow_again(void *context)
{
    (void)context;
    return try_put_bytes("one more", 3000, 1) == STORE_OK;
}

static void expect_numbers(uint32_t from, uint32_t to)
{
    static char value[3000];
    char name[20];
    for (uint32_t i = from; i < to; i++) {
        numbered(name, i);
        fill_pattern(value, sizeof value, i);
        fixture_expect_bytes(&fixture, name, value, sizeof value);
    }
}

static void test_a_full_store_refuses_growth_and_nothing_else(void **state)
{
    (void)state;
    char name[20];
    open_with_thread(false, 24);
    uint32_t count = fill_up();
    assert_true(count * 3000 > 24 * SEGMENT / 2);
    expect_numbers(0, count);
    assert_int_equal(try_put_bytes("number 0", 4000, 1), STORE_FULL);
    expect_numbers(0, 1); /* the old value stays */
    assert_int_equal(try_put_bytes("number 0", 100, 1), STORE_OK);
    for (uint32_t i = 1; i < count / 3; i++) {
        numbered(name, i);
        fixture_delete(&fixture, name);
        fixture_commit(&fixture);
        assert_true(temp_dir_bytes(&fixture.dir) <= fixture.options.disk_limit + SEGMENT);
    }
    assert_true(wait_until(may_grow_again, NULL));
    expect_numbers(count / 3, count);
    kill_and_open();
    expect_numbers(count / 3, count);
    fixture_expect(&fixture, "number 1", NULL);
    assert_int_equal(fixture_stats(&fixture).evicted_items, 0);
}

static void test_a_full_disk_is_a_limit(void **state)
{
    (void)state;
    open_with_thread(false, 200);
    faulty_set_space(&fixture.faulty, 20 * SEGMENT);
    uint32_t count = fill_up();
    assert_true(count * 3000 > 8 * SEGMENT);
    expect_numbers(0, count);
    fixture_delete(&fixture, "number 0");
    faulty_set_space(&fixture.faulty, -1);
    assert_true(wait_until(may_grow_again, NULL));
    expect_numbers(1, count);
    kill_and_open();
    expect_numbers(1, count);
    fixture_expect(&fixture, "number 0", NULL);
}

static void test_a_full_disk_can_be_emptied(void **state)
{
    (void)state;
    char name[20];
    open_with_thread(false, 200);
    faulty_set_space(&fixture.faulty, 20 * SEGMENT);
    uint32_t count = fill_up();
    for (uint32_t i = 0; i < count / 2; i++) {
        numbered(name, i);
        fixture_delete(&fixture, name);
        fixture_commit(&fixture);
    }
    assert_true(wait_until(may_grow_again, NULL));
    expect_numbers(count / 2, count);
}

static void test_a_cache_takes_every_write_within_its_limit(void **state)
{
    (void)state;
    char name[20];
    open_with_thread(true, 24);
    for (uint32_t i = 0; i < 2000; i++) {
        numbered(name, i);
        assert_int_equal(try_put_bytes(name, 3000, i), STORE_OK);
        assert_true(temp_dir_bytes(&fixture.dir) <= fixture.options.disk_limit + SEGMENT);
    }
    expect_numbers(1900, 2000);
    fixture_expect(&fixture, "number 0", NULL);
    assert_true(fixture_stats(&fixture).evicted_items > 1000);
    kill_and_open();
    fixture_expect(&fixture, "number 0", NULL);
    expect_numbers(1900, 2000);
}

/* A record larger than a segment wants more room at once than is usually kept free. */
static void test_room_is_made_for_a_large_value(void **state)
{
    (void)state;
    static char value[6 * SEGMENT];
    open_with_thread(true, 24);
    char name[20];
    for (uint32_t i = 0; i < 1000; i++) {
        numbered(name, i);
        assert_int_equal(try_put_bytes(name, 3000, i), STORE_OK);
    }
    fixture_put_bytes(&fixture, "large", value, sizeof value);
    fixture_expect_bytes(&fixture, "large", value, sizeof value);
}

static void test_what_can_never_fit_is_refused_at_once(void **state)
{
    (void)state;
    static char value[24 * SEGMENT];
    open_with_thread(true, 24);
    fixture_put(&fixture, "key", "x");
    struct store_key key = fixture_key(&fixture, "too large");
    struct store_put put = {.value = {{value, sizeof value}}};
    assert_int_equal(wait_put(fixture.session, &key, fixture.now_s, &put), STORE_FULL);
    fixture_expect(&fixture, "key", "x"); /* nothing was evicted for it */
    fixture_put(&fixture, "key", "y");
}

/* The index. */

static enum store_status fill_index(uint32_t count)
{
    char name[20];
    enum store_status status = STORE_OK;
    for (uint32_t i = 0; i < count && status == STORE_OK; i++) {
        numbered(name, i);
        status = try_put_bytes(name, 100, i);
    }
    return status;
}

static void limit_index(void)
{
    atomic_store(&fixture.store->keydir.bytes_max, 16 * 72 * sizeof(struct keydir_bucket));
}

static void test_a_cache_evicts_when_its_index_is_full(void **state)
{
    (void)state;
    open_with_thread(true, 100);
    limit_index();
    assert_int_equal(fill_index(8000), STORE_OK);
    assert_true(fixture_stats(&fixture).evicted_items > 3000);
    fixture_expect(&fixture, "number 0", NULL);
    assert_true(is_present("number 7999"));
}

static void test_a_store_refuses_when_its_index_is_full(void **state)
{
    (void)state;
    open_with_thread(false, 100);
    limit_index();
    assert_int_equal(fill_index(8000), STORE_FULL);
    assert_int_equal(fixture_stats(&fixture).evicted_items, 0);
    assert_true(is_present("number 0"));
    assert_int_equal(try_put_bytes("number 0", 50, 1), STORE_OK); /* no new key */
    assert_true(fixture_stats(&fixture).keydir_entries > 2000);
}

/* Segment indexes. */

static void test_slots_are_used_again(void **state)
{
    (void)state;
    const uint32_t segments = SLOW_BUILD ? 300 : 2000;
    char name[20];
    open_with_thread(true, 24);
    for (uint32_t i = 0; i < segments; i++) {
        numbered(name, i);
        assert_int_equal(try_put_bytes(name, 40000, i), STORE_OK);
        assert_int_equal(try_put_bytes("always", 20000, i), STORE_OK);
        if (i % 16 == 0)
            store_check(fixture.store);
    }
    assert_true(fixture_stats(&fixture).cleaner_segments > segments - 40);
    assert_true(fixture.store->log.index_count < 60);
    kill_and_open();
    assert_true(is_present("always"));
    assert_true(is_present(name));
}

#define BY_HAND(test)   cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define BY_THREAD(test) cmocka_unit_test_setup_teardown(test, set_up_closed, tear_down)
#define ALONE(test)     cmocka_unit_test(test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALONE(test_a_deletion_is_carried),
        BY_HAND(test_a_deletion_dies_when_nothing_older_is_left),
        BY_HAND(test_a_carried_deletion_keeps_its_birth),
        BY_HAND(test_of_several_touches_of_a_key_the_last_is_carried),
        BY_HAND(test_a_touch_that_changes_nothing_writes_nothing),
        BY_HAND(test_a_segment_whose_file_is_gone_counts_as_removed),
        BY_HAND(test_an_unlink_that_is_not_durable_is_made_so_before_the_next),
        BY_HAND(test_what_is_not_durable_comes_first),
        BY_HAND(test_a_store_fills_no_further_than_its_share),
        BY_HAND(test_what_has_expired_goes_before_a_write_is_refused),
        BY_HAND(test_the_oldest_segment_goes_though_it_cannot_be_read),
        BY_HAND(test_a_segment_with_an_unreadable_deletion_stays),
        BY_HAND(test_what_a_start_could_not_read_goes_only_when_room_is_wanted),
        BY_HAND(test_what_stands_beside_a_bad_block_is_moved),
        BY_HAND(test_a_store_on_a_full_disk_starts_and_deletions_make_room),
        BY_HAND(test_a_store_without_any_room_is_read_only_until_there_is_some),
        BY_HAND(test_a_clean_stop_keeps_room_for_the_next_start),
        BY_THREAD(test_a_cache_on_a_full_disk_gives_up_its_oldest_and_says_so),
        ALONE(test_an_expired_value_becomes_a_deletion),
        ALONE(test_so_does_one_that_was_seen_to_be_expired),
        ALONE(test_an_expired_touch_becomes_a_deletion),
        ALONE(test_a_touch_is_carried),
        ALONE(test_a_moved_value_takes_its_expiry_along),
        ALONE(test_a_moved_value_keeps_its_cas_unique),
        ALONE(test_nothing_is_moved_behind_a_flush),
        ALONE(test_copies_are_on_disk_before_the_segment_goes),
        ALONE(test_what_replaces_a_value_is_on_disk_before_the_value_goes),
        ALONE(test_evicted_keys_leave_the_disk_before_the_index),
        ALONE(test_who_wants_to_know_is_told_what_is_evicted),
        BY_THREAD(test_a_large_value_is_moved_and_the_clean_rate_kept),
        BY_HAND(test_a_touch_is_not_carried_behind_a_later_one),
        BY_HAND(test_a_kill_before_the_commit_of_what_replaces_a_value),
        BY_HAND(test_a_kill_at_any_step_changes_nothing),
        BY_HAND(test_a_moved_value_keeps_flags_expiry_and_bytes),
        BY_HAND(test_a_dead_segment_goes_unread),
        BY_HAND(test_the_oldest_goes_unread_with_all_its_deletions),
        BY_HAND(test_a_file_is_closed_when_its_last_reader_is_done),
        BY_HAND(test_a_damaged_record_keeps_its_segment_until_it_is_the_oldest),
        BY_HAND(test_nothing_flushed_comes_back),
        BY_THREAD(test_a_cache_drops_its_oldest_and_keeps_what_was_read),
        BY_THREAD(test_a_full_store_refuses_growth_and_nothing_else),
        BY_THREAD(test_a_full_disk_is_a_limit),
        BY_THREAD(test_a_full_disk_can_be_emptied),
        BY_THREAD(test_a_cache_takes_every_write_within_its_limit),
        BY_THREAD(test_room_is_made_for_a_large_value),
        BY_THREAD(test_what_can_never_fit_is_refused_at_once),
        BY_THREAD(test_a_cache_evicts_when_its_index_is_full),
        BY_THREAD(test_a_store_refuses_when_its_index_is_full),
        BY_THREAD(test_slots_are_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
