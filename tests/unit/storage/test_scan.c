/* test_scan.c: each live key is listed once, whatever happens to the others meanwhile. */
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/scan.h"
#include "storage/index/location.h"
#include "storage/log/record.h"
#include "storage/store_internal.h"
#include "tests/unit/storage/support/fixture.h"

#define KEYS   (SLOW_BUILD ? 4000 : 12000)
#define VALUE  200
#define CHURN  3000
#define ROUNDS 200

static struct fixture fixture;

/* The keys of name_of(0) to name_of(count - 1) that a listing has shown. */
struct seen {
    uint32_t count;
    uint8_t *times;
    uint32_t others; /* keys with another name */
};

static void name_of(char name[32], const char *kind, uint32_t number)
{
    snprintf(name, 32, "%s-%u", kind, number);
}

static void seen_init(struct seen *seen, uint32_t count)
{
    *seen = (struct seen){.count = count, .times = calloc(count, 1)};
    assert_non_null(seen->times);
}

static void note(struct seen *seen, const struct store_scanned *item)
{
    char name[STORE_KEY_MAX + 1];
    unsigned number;
    memcpy(name, item->key, item->key_len);
    name[item->key_len] = '\0';
    if (sscanf(name, "key-%u", &number) != 1 || number >= seen->count)
        seen->others++;
    else
        seen->times[number]++;
}

/* Right after a start values are not cached: the evictor has made no page yet. */
static bool cache_is_ready(void *context)
{
    (void)context;
    return fixture_stats(&fixture).cache_pages >= 2;
}

static void open_and_wait(void)
{
    fixture_open(&fixture);
    assert_true(wait_until(cache_is_ready, NULL));
}

/* The next key; false at the end. */
static bool next(struct store_scan *list, struct store_scanned *item)
{
    enum store_status status;
    while ((status = store_scan_next(list, fixture.now_s, item)) == STORE_MORE)
        ;
    if (status != STORE_OK)
        assert_int_equal(status, STORE_NOT_FOUND);
    return status == STORE_OK;
}

static void list_all(struct seen *seen)
{
    struct store_scanned item;
    struct store_scan *list = store_scan_new(fixture.store);
    assert_non_null(list);
    while (next(list, &item))
        note(seen, &item);
    store_scan_free(list);
}

/* All of [from, to) were listed so many times. */
static void assert_times(const struct seen *seen, uint32_t from, uint32_t to, uint32_t times)
{
    for (uint32_t i = from; i < to; i++)
        if (seen->times[i] != times)
            fail_msg("key-%u was listed %u times", i, seen->times[i]);
}

static void put_all(const char *kind, uint32_t from, uint32_t to)
{
    char name[32], value[VALUE];
    for (uint32_t i = from; i < to; i++) {
        name_of(name, kind, i);
        fill_pattern(value, sizeof value, i);
        fixture_put_bytes(&fixture, name, value, sizeof value);
        if (i % 100 == 0)
            fixture_commit(&fixture);
    }
    fixture_commit(&fixture);
}

static int set_up(void **state)
{
    (void)state;
    fixture_init(&fixture);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_release(&fixture);
    return 0;
}

static void test_an_empty_store_has_nothing_to_list(void **state)
{
    (void)state;
    struct store_scanned item;
    open_and_wait();
    struct store_scan *list = store_scan_new(fixture.store);
    assert_false(next(list, &item));
    assert_int_equal(store_scan_next(list, fixture.now_s, &item), STORE_NOT_FOUND);
    store_scan_free(list);
}

/* Lists one key that is alone in the store. */
static struct store_scanned list_one(void)
{
    struct store_scanned item, more;
    struct store_scan *list = store_scan_new(fixture.store);
    assert_true(next(list, &item));
    assert_false(next(list, &more));
    store_scan_free(list);
    return item;
}

static void assert_listed(const struct store_scanned *item, uint32_t value_len, uint64_t cas)
{
    assert_int_equal(item->key_len, 6);
    assert_memory_equal(item->key, "single", 6);
    assert_int_equal(item->value_len, value_len);
    assert_int_equal(item->client_flags, 77);
    assert_int_equal(item->expire_s, FIXTURE_NOW + 50);
    assert_true(item->cas == cas);
    assert_int_equal(item->size, record_size(6, value_len));
}

static void test_what_is_listed_of_a_key_hot_and_cold(void **state)
{
    (void)state;
    const uint32_t lengths[] = {0, 1, 243, 244, 245, 252, 260, 300, 40000};
    static char value[40000];
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        fixture_release(&fixture);
        fixture_init(&fixture);
        fixture.options.memory_limit = UINT64_C(32) << 20; /* all are cached */
        open_and_wait();
        struct store_key key = fixture_key(&fixture, "single");
        struct store_put put = {
            .value = {{value, lengths[i]}}, .client_flags = 77, .expire_s = FIXTURE_NOW + 20};
        assert_int_equal(store_put(at(fixture.session, fixture.now_s), &key, &put), STORE_OK);
        struct store_scanned item = list_one();
        assert_false(item.fetched);
        fixture_touch(&fixture, "single", FIXTURE_NOW + 50); /* counts as a get */
        item = list_one();
        assert_listed(&item, lengths[i], put.cas);
        assert_int_equal(item.accessed_s, FIXTURE_NOW);
        assert_true(item.fetched);
        fixture_expect_bytes(&fixture, "single", value, lengths[i]);
        fixture_reopen(&fixture);
        item = list_one();
        assert_listed(&item, lengths[i], put.cas);
        assert_int_equal(item.accessed_s, 0);
        assert_false(item.fetched);
    }
}

static void test_the_longest_and_the_shortest_key(void **state)
{
    (void)state;
    struct seen seen;
    char longest[STORE_KEY_MAX + 1];
    memset(longest, 'k', STORE_KEY_MAX);
    longest[STORE_KEY_MAX] = '\0';
    open_and_wait();
    fixture_put(&fixture, longest, "some value");
    fixture_put(&fixture, "s", "some value");
    fixture_commit(&fixture);
    for (int turn = 0; turn < 2; turn++) {
        seen_init(&seen, 1);
        list_all(&seen);
        assert_int_equal(seen.others, 2);
        free(seen.times);
        fixture_reopen(&fixture);
    }
}

/* More values than fit into memory. */
static void test_each_key_of_a_large_store_once(void **state)
{
    (void)state;
    struct seen seen;
    open_and_wait();
    put_all("key", 0, KEYS);
    for (int turn = 0; turn < 2; turn++) {
        seen_init(&seen, KEYS);
        list_all(&seen);
        assert_times(&seen, 0, KEYS, 1);
        assert_int_equal(seen.others, 0);
        free(seen.times);
        fixture_reopen(&fixture);
    }
}

static void test_a_store_with_one_shard(void **state)
{
    (void)state;
    struct seen seen;
    fixture.options.shard_count = 1;
    open_and_wait();
    put_all("key", 0, KEYS);
    seen_init(&seen, KEYS);
    list_all(&seen);
    assert_times(&seen, 0, KEYS, 1);
    free(seen.times);
}

static void test_one_listing_at_a_time(void **state)
{
    (void)state;
    open_and_wait();
    struct store_scan *list = store_scan_new(fixture.store);
    assert_non_null(list);
    assert_null(store_scan_new(fixture.store));
    store_scan_free(list);
    list = store_scan_new(fixture.store);
    assert_non_null(list);
    store_scan_free(list);
}

static void test_what_is_dead_is_not_listed(void **state)
{
    (void)state;
    struct seen seen;
    open_and_wait();
    put_all("key", 0, 10);
    fixture_delete(&fixture, "key-1");
    fixture_put_until(&fixture, "key-2", "x", FIXTURE_NOW + 10);
    fixture_touch(&fixture, "key-3", FIXTURE_NOW + 10);
    fixture_touch(&fixture, "key-4", FIXTURE_NOW + 11);
    fixture_put(&fixture, "key-5", "another value");
    fixture_commit(&fixture);
    fixture.now_s += 10;
    seen_init(&seen, 10);
    list_all(&seen);
    assert_times(&seen, 0, 1, 1);
    assert_times(&seen, 1, 4, 0);
    assert_times(&seen, 4, 10, 1);
    free(seen.times);

    thread_stop(&fixture.store->background); /* what is flushed stays in the index */
    fixture_flush(&fixture, 0);
    put_all("key", 7, 8);
    seen_init(&seen, 10);
    list_all(&seen);
    assert_times(&seen, 0, 7, 0);
    assert_times(&seen, 7, 8, 1);
    assert_times(&seen, 8, 10, 0);
    free(seen.times);

    fixture_flush(&fixture, fixture.now_s + 5);
    fixture_commit(&fixture);
    fixture.now_s += 5;
    seen_init(&seen, 10);
    list_all(&seen);
    assert_times(&seen, 0, 10, 0);
    free(seen.times);
}

/* Lists until `count` keys have been seen. */
static void list_some(struct store_scan *list, struct seen *seen, uint32_t count)
{
    struct store_scanned item;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(next(list, &item));
        note(seen, &item);
    }
}

static void list_rest(struct store_scan *list, struct seen *seen)
{
    struct store_scanned item;
    while (next(list, &item))
        note(seen, &item);
    store_scan_free(list);
}

/* A key is listed with the value it has when its turn comes. */
static void test_what_changes_during_a_listing(void **state)
{
    (void)state;
    struct seen seen;
    open_and_wait();
    put_all("key", 0, 400);
    seen_init(&seen, 400);
    struct store_scan *list = store_scan_new(fixture.store);
    for (uint32_t i = 0; i < 100; i++) {
        char name[32];
        name_of(name, "key", i);
        fixture_delete(&fixture, name);
        name_of(name, "key", i + 100);
        fixture_touch(&fixture, name, FIXTURE_NOW);
        name_of(name, "key", i + 200);
        fixture_delete(&fixture, name);
        fixture_put(&fixture, name, "stored again");
    }
    put_all("key", 300, 350);
    put_all("key", 300, 320);
    put_all("new", 0, KEYS); /* all others are evicted, and entries change their buckets */
    list_rest(list, &seen);
    assert_times(&seen, 0, 300, 0); /* what is stored again is a new key */
    assert_times(&seen, 300, 400, 1);
    assert_int_equal(seen.others, 0);
    free(seen.times);
}

/* Keys already listed and keys not yet listed, wherever their new values lie. */
static void test_keys_that_are_overwritten_during_a_listing(void **state)
{
    (void)state;
    for (int passes = 1; passes <= 2; passes++) {
        struct seen seen;
        fixture_release(&fixture);
        fixture_init(&fixture);
        open_and_wait();
        put_all("key", 0, 4000);
        seen_init(&seen, 4000);
        if (passes == 2) /* as if the tags of so many keys were an eighth of it and more */
            atomic_store(&fixture.store->memory_limit, 4000 * 8 * 8 - 1);
        struct store_scan *list = store_scan_new(fixture.store);
        assert_int_equal(list->stop_shard, fixture.store->keydir.shard_count / (uint32_t)passes);
        for (uint32_t i = 0; i < 4; i++) {
            put_all("key", i * 1000, i * 1000 + 500);
            list_some(list, &seen, 300);
            put_all("key", 0, 4000);
        }
        list_some(list, &seen, 1500);
        put_all("key", 0, 4000);
        list_rest(list, &seen);
        assert_times(&seen, 0, 4000, 1);
        assert_int_equal(seen.others, 0);
        free(seen.times);
    }
}

/* A tag that was noted names the key that is there when its turn comes, or none. */
static void test_keys_that_are_overwritten_and_then_deleted(void **state)
{
    (void)state;
    struct seen seen;
    open_and_wait();
    put_all("key", 0, 300);
    seen_init(&seen, 300);
    struct store_scan *list = store_scan_new(fixture.store);
    put_all("key", 0, 300);
    for (uint32_t i = 0; i < 200; i++) {
        char name[32];
        name_of(name, "key", i);
        fixture_delete(&fixture, name);
    }
    put_all("key", 100, 200);
    list_rest(list, &seen);
    assert_times(&seen, 0, 100, 0);
    assert_times(&seen, 100, 300, 1);
    free(seen.times);
}

/* A record that is not cached and not yet written can only be listed after a commit. */
static void test_what_is_still_in_the_logs_buffer(void **state)
{
    (void)state;
    static char value[200000];
    struct seen seen;
    fixture.options.memory_limit = UINT64_C(4) << 20;
    fixture.options.segment_size = UINT32_C(4) << 20;
    open_and_wait();
    uint64_t commits = fixture_stats(&fixture).commits;
    fixture_put_bytes(&fixture, "key-0", value, sizeof value);
    assert_true(fixture_stats(&fixture).commits == commits);
    seen_init(&seen, 1);
    list_all(&seen);
    assert_times(&seen, 0, 1, 1);
    free(seen.times);
}

/* Flips a bit of the segment file that holds the records. */
static void damage(uint32_t offset)
{
    char names[8][NAME_LEN];
    assert_true(files_with_suffix(&fixture.dir, ".seg", names, 8) >= 1);
    file_flip_bit(&fixture.dir, names[0], offset, 3);
}

static void test_damaged_records_are_left_out_and_told(void **state)
{
    (void)state;
    /* In the header, the key and the value of a small record; in the key of a large one. */
    const uint32_t places[] = {8, RECORD_HEADER_SIZE + 1, RECORD_HEADER_SIZE + 7};
    for (size_t i = 0; i < 6; i++) {
        static char value[1000];
        uint32_t len = i < 3 ? 4 : sizeof value;
        uint32_t location = SEGMENT_HEADER_SIZE + places[i % 3];
        struct seen seen;
        fixture_release(&fixture);
        fixture_init(&fixture);
        open_and_wait();
        fixture_put_bytes(&fixture, "key-0", value, len);
        fixture_put_bytes(&fixture, "key-1", value, len);
        fixture_commit(&fixture);
        fixture_reopen(&fixture); /* what recovery reads is whole */
        damage(location);
        seen_init(&seen, 2);
        list_all(&seen);
        assert_times(&seen, 0, 1, 0);
        assert_times(&seen, 1, 2, 1);
        assert_int_equal(fixture.messages.warnings, 1);
        assert_true(messages_have(&fixture.messages, "keys may be missing in a listing: 1 places"));
        free(seen.times);
    }
}

/* The reads of a listing. */
static struct {
    pthread_t thread;
    uint64_t reads, bytes, backwards;
    int fd;
    off_t offset;
    off_t bad; /* of a block in each file that cannot be read; 0: all can */
    off_t bad_size;
} reads;

static ssize_t watch_pread(void *context, int fd, void *data, size_t len, off_t offset)
{
    (void)context;
    if (!pthread_equal(pthread_self(), reads.thread))
        return file_system_os.pread(NULL, fd, data, len, offset);
    if (reads.bad && offset < reads.bad + reads.bad_size && reads.bad < offset + (off_t)len) {
        errno = EIO;
        return -1;
    }
    reads.reads++;
    reads.bytes += len;
    reads.backwards += fd == reads.fd && offset < reads.offset;
    reads.fd = fd;
    reads.offset = offset;
    return file_system_os.pread(NULL, fd, data, len, offset);
}

static void watch_reads(off_t bad, off_t bad_size)
{
    memset(&reads, 0, sizeof reads);
    reads.thread = pthread_self();
    reads.bad = bad;
    reads.bad_size = bad_size;
    fixture.faulty.files.pread = watch_pread;
}

static void test_a_bad_block_costs_only_the_keys_in_it(void **state)
{
    (void)state;
    struct seen seen;
    open_and_wait();
    put_all("key", 0, 200); /* 48 KB in one segment */
    fixture_reopen(&fixture);
    for (off_t size = 4096; size >= 512; size /= 8) { /* a page, a sector of it */
        watch_reads(5 * 4096, size);
        seen_init(&seen, 200);
        list_all(&seen);
        uint32_t listed = 0;
        for (uint32_t i = 0; i < 200; i++) {
            assert_true(seen.times[i] <= 1);
            listed += seen.times[i];
        }
        assert_true(listed < 200 && listed >= 200 - (uint32_t)size / 240 - 1);
        assert_true(messages_have(&fixture.messages, "keys may be missing in a listing"));
        messages_clear(&fixture.messages);
        free(seen.times);
    }
}

static void test_short_reads(void **state)
{
    (void)state;
    struct seen seen;
    open_and_wait();
    put_all("key", 0, 100);
    fixture_reopen(&fixture);
    fixture.faulty.short_io = true;
    seen_init(&seen, 100);
    list_all(&seen);
    assert_times(&seen, 0, 100, 1);
    free(seen.times);
}

static void test_files_are_read_in_order_by_large_reads(void **state)
{
    (void)state;
    struct seen seen;
    open_and_wait();
    put_all("key", 0, 4000);
    fixture_reopen(&fixture);
    uint32_t segments = (uint32_t)fixture_stats(&fixture).segments;
    watch_reads(0, 0);
    seen_init(&seen, 4000);
    list_all(&seen);
    assert_times(&seen, 0, 4000, 1);
    assert_int_equal(reads.backwards, 0);
    assert_true(reads.reads <= segments + 4000 * 240 / (128 << 10));
    free(seen.times);
}

static void test_large_values_are_not_read(void **state)
{
    (void)state;
    static char value[1000000];
    struct seen seen;
    fixture.options.segment_size = UINT32_C(16) << 20;
    open_and_wait();
    for (uint32_t i = 0; i < 20; i++) {
        char name[32];
        name_of(name, "key", i);
        fixture_put_bytes(&fixture, name, value, sizeof value);
        fixture_commit(&fixture);
    }
    put_all("key", 20, 100);
    fixture_reopen(&fixture);
    watch_reads(0, 0);
    seen_init(&seen, 100);
    list_all(&seen);
    assert_times(&seen, 0, 100, 1);
    assert_true(reads.bytes < 20 * sizeof value / 10);
    free(seen.times);
}

/* Other threads at work: keys come and go, are overwritten and moved, so that entries change their
 * buckets and places all the time. */
struct busy {
    struct store_session *session;
    pthread_t thread;
    sem_t listing; /* one begins, and so many rounds may be run: */
    /* or a slow listing would have ever more to read, where nothing limits the disk. */
    uint32_t at_a_time;
    _Atomic bool stop;
    uint64_t rounds;
};

static void no_wake(void *context)
{
    (void)context;
}

static void busy_put(struct busy *busy, const char *name, uint32_t len)
{
    static const char value[VALUE];
    struct store_key key;
    store_key_init(fixture.store, &key, name, strlen(name));
    struct store_put put = {.value = {{value, len}}};
    enum store_status status = wait_put(busy->session, &key, FIXTURE_NOW, &put);
    if (status != STORE_OK)
        give_up("store_put: status %d %s", status, fixture.messages.text);
}

static void busy_delete(struct busy *busy, const char *name)
{
    struct store_key key;
    store_key_init(fixture.store, &key, name, strlen(name));
    wait_delete(busy->session, &key, FIXTURE_NOW, STORE_IF_PRESENT, 0);
}

static void run_round(struct busy *busy, struct rng *rng)
{
    char name[32];
    store_enter(busy->session, FIXTURE_NOW);
    for (int i = 0; i < 50; i++) {
        name_of(name, "key", rng_below(rng, KEYS / 2)); /* overwritten */
        busy_put(busy, name, rng_below(rng, VALUE));
        name_of(name, "new", rng_below(rng, KEYS)); /* the table grows */
        busy_put(busy, name, 1);
    }
    uint32_t first = rng_below(rng, CHURN - 100);
    for (uint32_t i = 0; i < 100; i++) {
        name_of(name, "churn", first + i);
        busy_delete(busy, name);
    }
    for (uint32_t i = 100; i-- > 0;) { /* stored again where there is room now */
        name_of(name, "churn", first + i);
        busy_put(busy, name, 10);
    }
    store_leave(busy->session);
    if (store_commit(busy->session) != STORE_OK)
        give_up("store_commit: %s", fixture.messages.text);
    busy->rounds++;
}

static void *keep_busy(void *context)
{
    struct busy *busy = context;
    struct rng rng = {.state = 9};
    do {
        sem_wait(&busy->listing);
        uint32_t rounds = 0;
        do
            run_round(busy, &rng);
        while (++rounds < busy->at_a_time && !atomic_load(&busy->stop));
    } while (!atomic_load(&busy->stop));
    return NULL;
}

/* Counts keys that stay and are not listed once, and keys that come and go and are listed twice. */
static uint32_t list_beside(void)
{
    struct store_scanned item;
    uint8_t stay[KEYS] = {0}, churn[CHURN] = {0};
    uint32_t wrong = 0;
    struct store_scan *list = store_scan_new(fixture.store);
    while (next(list, &item)) {
        char name[STORE_KEY_MAX + 1] = "";
        unsigned number;
        memcpy(name, item.key, item.key_len);
        if (sscanf(name, "key-%u", &number) == 1)
            stay[number]++;
        else if (sscanf(name, "churn-%u", &number) == 1)
            churn[number]++;
    }
    store_scan_free(list);
    for (uint32_t i = 0; i < KEYS; i++)
        wrong += stay[i] != 1;
    for (uint32_t i = 0; i < CHURN; i++)
        wrong += churn[i] > 1;
    return wrong;
}

static bool has_cleaned(void)
{
    return fixture_stats(&fixture).cleaner_moved_bytes > KEYS * VALUE;
}

static void start_busy(struct busy *busy)
{
    store_leave(fixture.session); /* idle in a batch it would keep the cache from evicting */
    busy->session = store_session_new(fixture.store, no_wake, NULL, -1);
    assert_non_null(busy->session);
    assert_int_equal(sem_init(&busy->listing, 0, 0), 0);
    assert_int_equal(pthread_create(&busy->thread, NULL, keep_busy, busy), 0);
}

static void stop_busy(struct busy *busy)
{
    atomic_store(&busy->stop, true);
    sem_post(&busy->listing);
    pthread_join(busy->thread, NULL);
    sem_destroy(&busy->listing);
    store_session_free(busy->session);
    store_enter(fixture.session, fixture.now_s);
}

static void test_while_others_write(void **state)
{
    (void)state;
    const uint32_t shards[] = {1, 16, 16};
    for (int i = 0; i < 3; i++) {
        bool clean = i == 2; /* records are moved, and segments vanish */
        struct busy busy = {.at_a_time = clean ? UINT32_MAX : ROUNDS};
        uint32_t wrong = 0;
        fixture_release(&fixture);
        fixture_init(&fixture);
        fixture.options.shard_count = shards[i];
        fixture.options.memory_limit = UINT64_C(2) << 20;
        fixture.options.no_evictions = true;
        fixture.options.disk_limit = clean ? KEYS * UINT64_C(700) : 0;
        open_and_wait();
        put_all("key", 0, KEYS);
        start_busy(&busy);
        int turns = SLOW_BUILD ? 5 : 10;
        for (int turn = 0; turn < turns || (clean && !has_cleaned() && turn < 1000); turn++) {
            sem_post(&busy.listing);
            wrong += list_beside();
        }
        stop_busy(&busy);
        assert_int_equal(wrong, 0);
        assert_true(busy.rounds > 0);
        assert_true(!clean || has_cleaned());
        store_check(fixture.store);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_store_has_nothing_to_list),
        TEST(what_is_listed_of_a_key_hot_and_cold),
        TEST(the_longest_and_the_shortest_key),
        TEST(each_key_of_a_large_store_once),
        TEST(a_store_with_one_shard),
        TEST(one_listing_at_a_time),
        TEST(what_is_dead_is_not_listed),
        TEST(what_changes_during_a_listing),
        TEST(keys_that_are_overwritten_during_a_listing),
        TEST(keys_that_are_overwritten_and_then_deleted),
        TEST(what_is_still_in_the_logs_buffer),
        TEST(damaged_records_are_left_out_and_told),
        TEST(a_bad_block_costs_only_the_keys_in_it),
        TEST(short_reads),
        TEST(files_are_read_in_order_by_large_reads),
        TEST(large_values_are_not_read),
        TEST(while_others_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
