/* test_dropped.c: a sync fails, and the kernel drops pages that it was to write (L8, rescue.c).
 *
 * Some hundred keys are stored and synced. Then most are stored again, some deleted, some touched;
 * and of each 8 pages of the next sync the disk (power.h) drops some. While the store runs on, and
 * after a later loss of power:
 *
 *   - all that is in RAM is there; so are all deletions and touches;
 *   - of all else the newest value is there or none, and never an older one;
 *   - all that are missing are counted and reported, once;
 *   - with --sync=always nothing is missing whose sync was waited for with success;
 *   - the loss of power changes nothing of that.
 */
#include "tests/unit/storage/support/fixture.h"
#include "tests/unit/storage/support/power.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/clean/clean_segment.h"
#include "storage/store_internal.h"

#define KEYS      1500
#define BATCH     50
#define VALUE_LEN 4000
#define VALUE_MAX 40000 /* too large for the cache of a small store */

struct scene {
    int sync_interval_ms;
    uint32_t value_len;
    uint64_t memory_limit;
    uint32_t segment_size, share;
    uint32_t keys;      /* 0: KEYS */
    bool hot;           /* all fit in memory */
    bool without_hints; /* the hint file could not be written, */
    bool of_all;        /* or loses pages too */
};

/* A key as it must be, or was found. */
struct state {
    uint32_t version; /* 0: absent */
    uint32_t expire_s;
};

static struct fixture fixture;
static struct power power;
static const struct scene *scene;
static struct state wanted[KEYS], found[KEYS];
static bool acknowledged[KEYS];
static uint32_t key_count;
static bool refused; /* something of this batch, at first */
static char value[VALUE_MAX];

static struct store_key key_of(uint32_t i)
{
    static char name[32];
    snprintf(name, sizeof name, "key-%u", i);
    return fixture_key(&fixture, name);
}

static void make_value(uint32_t i, uint32_t version)
{
    memset(value, 0, sizeof value);
    fill_pattern(value, scene->value_len & ~7u, i * UINT64_C(1000) + version);
    memcpy(value, &version, sizeof version);
}

static bool is_synced(void *context)
{
    const struct log *log = &fixture.store->log;
    (void)context;
    return !atomic_load(&log->failed) && log_synced_lsn(log) >= log_written_lsn(log);
}

static void sync_all(void)
{
    log_request_sync(&fixture.store->log, log_written_lsn(&fixture.store->log));
    assert_true(wait_until(is_synced, NULL));
}

static enum store_status do_once(uint32_t i, uint32_t version)
{
    struct store_key key = key_of(i);
    if (version == 2 && i % 10 == 0)
        return store_delete(at(fixture.session, fixture.now_s), &key, STORE_IF_PRESENT, 0);
    if (version == 2 && i % 10 == 1)
        return store_touch(at(fixture.session, fixture.now_s), &key, FIXTURE_NOW + 1000,
                           STORE_IF_PRESENT, 0);
    struct store_put put = {.value = {{value, scene->value_len}}};
    make_value(i, version);
    return store_put(at(fixture.session, fixture.now_s), &key, &put);
}

/* Used when all values must be hot: one for which no page was ready is stored again. */
static bool is_cold(uint32_t i)
{
    struct store_key key = key_of(i);
    struct store_fetch fetch = {0};
    struct store_item item;
    bool cold = scene->hot && store_get_no_touch(at(fixture.session, fixture.now_s), &key, &fetch,
                                                 &item) == STORE_WAIT_READ;
    store_fetch_release(&fetch);
    return cold;
}

/* A disk that has failed takes writes again soon. */
static void do_one(uint32_t i, uint32_t version)
{
    enum store_status status;
    for (int ms = 0; (status = do_once(i, version)) != STORE_OK || is_cold(i); ms++) {
        assert_true(status == STORE_OK || status == STORE_WAIT_SPACE || status == STORE_READ_ONLY);
        assert_true(ms < SOON_MS);
        refused = refused || status == STORE_READ_ONLY;
        fixture_try_commit(&fixture);
        usleep(1000);
    }
    if (version == 2 && i % 10 == 1)
        wanted[i].expire_s = FIXTURE_NOW + 1000;
    else
        wanted[i] = (struct state){.version = version == 2 && i % 10 == 0 ? 0 : version};
}

/* True if a worker of the server would acknowledge the batch. */
static bool end_batch(void)
{
    enum store_status status = STORE_OK;
    for (int ms = 0; store_commit(fixture.session) != STORE_OK; ms++) {
        refused = true;
        assert_true(ms < SOON_MS);
        usleep(1000);
    }
    uint64_t lsn = store_commit_lsn(fixture.session);
    while (sem_trywait(&fixture.woken) == 0)
        ; /* of earlier syncs */
    while ((status = store_durable(fixture.session, lsn)) == STORE_WAIT_SYNC)
        sem_wait(&fixture.woken); /* it does not look in between, when the log has failed */
    store_leave(fixture.session);
    store_enter(fixture.session, fixture.now_s);
    bool ok = status == STORE_OK && !refused;
    refused = false;
    return ok;
}

static void do_all(uint32_t version)
{
    for (uint32_t begin = 0; begin < key_count; begin += BATCH) {
        bool drops = version == 2 && begin % (10 * BATCH) == 0;
        if (drops && scene->sync_interval_ms == STORE_SYNC_ALWAYS)
            power_drop_in(&power, 1, scene->share, scene->of_all);
        for (uint32_t i = begin; i < begin + BATCH; i++)
            do_one(i, version);
        bool ok = end_batch();
        for (uint32_t i = begin; i < begin + BATCH; i++)
            acknowledged[i] = ok;
    }
}

static struct state look_at(uint32_t i)
{
    struct store_key key = key_of(i);
    struct store_fetch fetch = {0};
    struct store_item item;
    struct state state = {0};
    enum store_status status = fixture_get(&fixture, &key, &fetch, &item);
    assert_true(status == STORE_OK || status == STORE_NOT_FOUND);
    if (status == STORE_OK) {
        memcpy(&state.version, item.value, sizeof state.version);
        state.expire_s = item.expire_s;
        make_value(i, state.version);
        assert_int_equal(item.value_len, scene->value_len);
        assert_memory_equal(item.value, value, item.value_len);
    }
    store_fetch_release(&fetch);
    return state;
}

static bool cache_is_ready(void *context)
{
    (void)context;
    return fixture_stats(&fixture).cache_pages >= 2;
}

static void open_store(void)
{
    fixture_open(&fixture);
    assert_true(wait_until(cache_is_ready, NULL));
}

static void lose_power(void)
{
    power_cut(&power);
    fixture_close(&fixture);
    power_restore(&power);
    fixture.options.boot_id++;
}

static void drop_hint_writer(void)
{
    struct log *log = &fixture.store->log;
    pthread_mutex_lock(&log->write_lock);
    hint_abandon(log->active->hint_writer);
    log->active->hint_writer = NULL;
    log_set_size(log, log->active, log->active->capacity, 0);
    pthread_mutex_unlock(&log->write_lock);
}

static bool has_dropped_and_works(void *context)
{
    return power_has_dropped(&power) && is_synced(context);
}

static void fail_a_sync(void)
{
    do_all(1);
    sync_all();
    if (scene->without_hints)
        drop_hint_writer();
    if (scene->sync_interval_ms != STORE_SYNC_ALWAYS)
        power_drop_in(&power, 1, scene->share, scene->of_all);
    do_all(2);
    log_request_sync(&fixture.store->log, log_written_lsn(&fixture.store->log));
    assert_true(wait_until(has_dropped_and_works, NULL));
}

/* How many values are missing. */
static uint32_t compare(void)
{
    uint32_t missing = 0;
    for (uint32_t i = 0; i < key_count; i++) {
        found[i] = look_at(i);
        if (found[i].version == wanted[i].version) {
            assert_int_equal(found[i].expire_s, wanted[i].expire_s);
            continue;
        }
        if (found[i].version != 0)
            fail_msg("key-%u has version %u instead of %u", i, found[i].version, wanted[i].version);
        assert_false(acknowledged[i] && scene->sync_interval_ms == STORE_SYNC_ALWAYS);
        missing++;
    }
    return missing;
}

static void check_told(uint32_t missing)
{
    char text[64];
    const char *line = strstr(fixture.messages.text, "the disk works again");
    assert_non_null(line);
    if (scene->sync_interval_ms == STORE_SYNC_ALWAYS)
        return;
    assert_null(strstr(line + 1, "the disk works again"));
    snprintf(text, sizeof text, "and their keys absent now: %u;", missing);
    assert_true(messages_have(&fixture.messages, missing ? text : "nothing acknowledged was lost"));
}

static void check_again(void)
{
    for (uint32_t i = 0; i < key_count; i++) {
        struct state state = look_at(i);
        if ((scene->without_hints || scene->of_all) && i % 10 < 2)
            continue; /* nobody knows of these any more, and that was reported */
        if (state.version != found[i].version || state.expire_s != found[i].expire_s)
            fail_msg("key-%u had version %u until %u, and has %u until %u", i, found[i].version,
                     found[i].expire_s, state.version, state.expire_s);
    }
}

static bool is_hinted(void *context)
{
    struct log *log = &fixture.store->log;
    bool hinted = true;
    (void)context;
    pthread_mutex_lock(&log->lock);
    for (struct segment *segment = log->first; segment != log->active; segment = segment->next)
        hinted = hinted && segment->hinted;
    pthread_mutex_unlock(&log->lock);
    return hinted;
}

/* Takes all segments but the first back, so that what is older stays, and sees to it that all
 * marks are carried on. */
static void clean_all(void)
{
    const struct clean_order order = {0};
    struct log *log = &fixture.store->log;
    const struct segment *last = log->active;
    assert_true(wait_until(is_hinted, NULL));
    for (struct segment *segment = log->first->next; segment != last;) {
        struct segment *next = segment->next;
        assert_int_equal(clean_segment(fixture.store, segment, &order), CLEAN_DONE);
        segment = next;
    }
}

/* The next start reads the segments themselves. */
static void remove_hints(void)
{
    static char names[POWER_NAMES][NAME_LEN];
    size_t count = files_with_suffix(&fixture.dir, ".hint", names, POWER_NAMES);
    for (size_t i = 0; i < count; i++)
        unlinkat(fixture.dir.fd, names[i], 0);
}

static int finish(void **state)
{
    (void)state;
    if (!scene)
        return 0;
    scene = NULL;
    power_cut(&power);
    fixture_release(&fixture);
    power_release(&power);
    return 0;
}

static void open_for(const struct scene *what)
{
    scene = what;
    key_count = scene->keys ? scene->keys : KEYS;
    fixture_init(&fixture);
    power_init(&power, &fixture.dir, number_from_env("SEED", 7));
    fixture.options.files = &power.faulty.files;
    fixture.options.sync_interval_ms = scene->sync_interval_ms;
    fixture.options.memory_limit = scene->memory_limit;
    fixture.options.segment_size = scene->segment_size;
    fixture.manual_cleaner = true;
    open_store();
}

static void play(const struct scene *what)
{
    open_for(what);
    fail_a_sync();
    uint32_t missing = compare();
    print_message("%u of %u values are missing\n", missing, key_count);
    if (scene->hot || scene->share == 0)
        assert_int_equal(missing, 0);
    else if (scene->sync_interval_ms != 1000) /* else who knows what was synced before */
        assert_true(missing > 0);
    assert_int_equal(fixture_stats(&fixture).corrupt_records, missing);
    check_told(missing);
    fixture_reopen(&fixture);
    check_again();
    lose_power();
    open_store();
    check_again();
    clean_all();
    fixture_close(&fixture);
    remove_hints();
    fixture_open(&fixture);
    check_again();
    finish(NULL);
}

#define MIB (UINT32_C(1) << 20)

static void test_what_lies_in_ram_is_written_anew(void **state)
{
    (void)state;
    play(&(struct scene){1000, 100, 16 * MIB, STORE_SEGMENT_SIZE_MIN, .share = 3, .hot = true});
    play(&(struct scene){STORE_SYNC_ALWAYS, 100, 16 * MIB, STORE_SEGMENT_SIZE_MIN, .share = 3,
                         .hot = true});
}

static void test_what_does_not_is_lost_counted_and_told(void **state)
{
    (void)state;
    play(&(struct scene){1000, VALUE_LEN, MIB, MIB, .share = 3});
    play(&(struct scene){3600 * 1000, VALUE_LEN, MIB, 32 * MIB, .share = 3});
}

static void test_what_was_acknowledged_as_synced_is_not_lost(void **state)
{
    (void)state;
    play(&(struct scene){STORE_SYNC_ALWAYS, VALUE_MAX, MIB, MIB, .share = 8, .keys = 3 * BATCH});
}

static void test_pages_that_count_as_written_are_not_believed(void **state)
{
    (void)state;
    play(&(struct scene){1000, VALUE_LEN, MIB, MIB, .share = 0});
}

static void test_without_hints_values_are_rescued_all_the_same(void **state)
{
    (void)state;
    play(&(struct scene){1000, 100, 16 * MIB, 2 * MIB, 3, .hot = true, .without_hints = true});
    play(&(struct scene){1000, VALUE_LEN, MIB, 32 * MIB, 3, .without_hints = true});
    play(&(struct scene){3600 * 1000, 100, 16 * MIB, 64 << 10, 3, .hot = true, .of_all = true});
    play(&(struct scene){3600 * 1000, VALUE_LEN, MIB, MIB, 3, .of_all = true});
}

/* The lost data had been on disk before. */
static void test_what_the_cleaner_has_moved_is_read_from_where_it_was(void **state)
{
    (void)state;
    open_for(&(struct scene){3600 * 1000, VALUE_LEN, MIB, MIB, .share = 8});
    do_all(1);
    fixture_reopen(&fixture);
    assert_true(wait_until(is_hinted, NULL));
    const struct clean_order order = {0};
    struct log *log = &fixture.store->log;
    for (int i = 0; i < 3; i++) {
        power_drop_in(&power, 1, scene->share, false);
        enum clean_result result;
        while ((result = clean_segment(fixture.store, log->first, &order)) != CLEAN_DONE)
            assert_true((result == CLEAN_STOPPED || result == CLEAN_NO_ROOM) &&
                        wait_until(is_synced, NULL));
        assert_true(power_has_dropped(&power));
    }
    assert_int_equal(compare(), 0);
    assert_int_equal(fixture_stats(&fixture).corrupt_records, 0);
    lose_power();
    open_store();
    assert_int_equal(compare(), 0);
    finish(NULL);
}

#define TEST(name) cmocka_unit_test_teardown(test_##name, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_lies_in_ram_is_written_anew),
        TEST(what_does_not_is_lost_counted_and_told),
        TEST(what_was_acknowledged_as_synced_is_not_lost),
        TEST(pages_that_count_as_written_are_not_believed),
        TEST(what_the_cleaner_has_moved_is_read_from_where_it_was),
        TEST(without_hints_values_are_rescued_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
