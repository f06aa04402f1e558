/* test_fault_loop.c: the loop of allocator, cleaner and writers goes on, whatever fails (G6 to G8).
 *
 * The fault loop: a small store is worked at its brim, so that segments are made, filled, synced,
 * cleaned and removed all the time. Each call of the file layer fails in turn, once or for as long
 * as the work lasts; then the disk is healed. While it is broken writes may be refused or wait.
 * After that each must be stored: nothing may be stuck, and no key may be lost or stale. STRIDE=1
 * tries every point, which takes long; SEED chooses other ones.
 */
#include "tests/unit/storage/support/fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/clean/clean_plan.h"
#include "storage/base/monotonic.h"
#include "storage/store_internal.h"

#define SEGMENT     STORE_SEGMENT_SIZE_MIN
#define KEEPSAKES   20 /* keys that stay */
#define CHURNED     12 /* keys that are written again and again */
#define CHURN_LEN   20000
#define PATIENCE_MS 20 /* of a client while the disk is broken */

static struct fixture fixture;
static uint32_t versions[CHURNED]; /* last one that was stored, or may have been */
static bool certain[CHURNED];

static void begin(bool cache, uint32_t segments)
{
    fixture_init(&fixture);
    fixture.options.no_evictions = !cache;
    fixture.options.sync_interval_ms = 10;
    fixture.options.disk_limit = segments * (uint64_t)SEGMENT;
}

static int set_up(void **state)
{
    (void)state;
    begin(false, 24);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_release(&fixture);
    return 0;
}

static void rest_ms(uint32_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    sem_timedwait(&fixture.woken, &until);
}

/* Puts, and waits for room and for the disk no longer than that. */
static enum store_status put_patiently(const char *name, const char *value, uint32_t len,
                                       uint32_t expire_s, uint64_t patience_ms)
{
    struct store_key key = fixture_key(&fixture, name);
    uint64_t until_us = monotonic_us() + patience_ms * 1000;
    for (;;) {
        struct store_put put = {.value = {{value, len}}, .expire_s = expire_s};
        enum store_status status = store_put(at(fixture.session, fixture.now_s), &key, &put);
        enum store_status committed = fixture_try_commit(&fixture);
        if (status == STORE_OK)
            return committed;
        if (status != STORE_WAIT_SPACE || monotonic_us() > until_us)
            return status;
        rest_ms(5);
    }
}

static void keepsake(char name[24], char value[40], int i)
{
    snprintf(name, 24, "keepsake %d", i);
    snprintf(value, 40, "the value of keepsake %d", i);
}

static void put_keepsakes(void)
{
    char name[24], value[40];
    for (int i = 0; i < KEEPSAKES; i++) {
        keepsake(name, value, i);
        fixture_put(&fixture, name, value);
    }
    fixture_commit(&fixture);
}

static void churn_name(char name[24], uint32_t i)
{
    snprintf(name, 24, "churned %u", i);
}

static uint64_t pattern_of(uint32_t i, uint32_t version)
{
    return (uint64_t)version << 32 | i;
}

/* Writes a key's next version. A write that was refused, or whose outcome is unknown, may still
 * have taken effect. */
static enum store_status churn(uint32_t i, uint64_t patience_ms)
{
    static char value[CHURN_LEN];
    char name[24];
    churn_name(name, i);
    fill_pattern(value, sizeof value, pattern_of(i, versions[i] + 1));
    enum store_status status = put_patiently(name, value, sizeof value, 0, patience_ms);
    certain[i] = status == STORE_OK;
    versions[i] += status == STORE_OK || status == STORE_READ_ONLY;
    return status;
}

static void delete_and_touch(uint32_t round)
{
    char name[24];
    struct store_key key;
    snprintf(name, sizeof name, "passing %u", round);
    put_patiently(name, "x", 1, fixture.now_s + 1000, PATIENCE_MS);
    key = fixture_key(&fixture, name);
    store_touch(at(fixture.session, fixture.now_s), &key, fixture.now_s + 2000 + round,
                STORE_IF_PRESENT, 0);
    store_delete(at(fixture.session, fixture.now_s), &key, STORE_IF_PRESENT, 0);
    fixture_try_commit(&fixture);
}

/* Twice the limit, so that each segment is taken back. */
static void work(uint64_t patience_ms, bool must_be_stored)
{
    uint64_t rounds = 2 * fixture.options.disk_limit / CHURN_LEN;
    for (uint32_t round = 0; round < rounds; round++) {
        enum store_status status = churn(round % CHURNED, patience_ms);
        if (must_be_stored && status != STORE_OK)
            give_up("a write is not stored on a disk that works again: status %d, %s", (int)status,
                    clean_reason_name(
                        (enum clean_reason)atomic_load(&fixture.store->cleaner.last_reason)));
        if (round % 4 == 0)
            delete_and_touch(round);
        if (!must_be_stored && status != STORE_OK && round > rounds / 4)
            return; /* it is broken, and has been for a while */
    }
}

static void expect_keepsakes(void)
{
    char name[24], value[40];
    for (int i = 0; i < KEEPSAKES; i++) {
        keepsake(name, value, i);
        fixture_expect(&fixture, name, value);
    }
}

static void expect_churned(void)
{
    static char value[CHURN_LEN];
    char name[24];
    for (uint32_t i = 0; i < CHURNED; i++) {
        churn_name(name, i);
        fill_pattern(value, sizeof value, pattern_of(i, versions[i]));
        fixture_expect_bytes(&fixture, name, value, sizeof value);
    }
}

/* Calls that the work does by itself, so that there is something to fail. */
static uint64_t calls_of(enum file_call call)
{
    return faulty_calls(&fixture.faulty, call);
}

/* A log that was broken, and a segment that could not be made, are tried again after a second or
 * two. */
static void recover(void)
{
    uint64_t until_us = monotonic_us() + SOON_MS * UINT64_C(1000);
    for (uint32_t i = 0; i < CHURNED; i++)
        while (churn(i, SOON_MS) != STORE_OK) {
            if (monotonic_us() > until_us)
                give_up("nothing is stored although the disk works again");
            rest_ms(50);
        }
}

/* One point. Answers whether the fault was met. */
static bool try_point(bool cache, enum file_call call, uint64_t nth, uint64_t times)
{
    memset(versions, 0, sizeof versions);
    begin(cache, 24);
    fixture_open(&fixture);
    put_keepsakes();
    uint64_t before = calls_of(call);
    faulty_fail(&fixture.faulty, call, nth, times, EIO);
    work(PATIENCE_MS, false);
    bool met = calls_of(call) >= before + nth;
    faulty_heal(&fixture.faulty);
    recover();
    work(SOON_MS, true);
    expect_churned();
    if (!cache)
        expect_keepsakes();
    fixture_release(&fixture);
    return met;
}

static void run_fault_loop(bool cache)
{
    const enum file_call calls[] = {CALL_OPEN,     CALL_PREAD,    CALL_PWRITE,
                                    CALL_SYNC,     CALL_SYNC_DIR, CALL_ALLOCATE,
                                    CALL_TRUNCATE, CALL_RENAME,   CALL_UNLINK};
    uint64_t stride = number_from_env("STRIDE", SLOW_BUILD ? 60 : 25);
    uint64_t points = 0;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        for (int forever = 0; forever < 2; forever++)
            for (uint64_t nth = 1; try_point(cache, calls[i], nth, forever ? FOREVER : 1);
                 nth += stride, points++)
                ;
    print_message("%u points tried, none stuck\n", (unsigned)points);
    assert_true(points >= 2 * sizeof calls / sizeof *calls); /* each was met once at least */
}

static void test_a_store_goes_on_whatever_call_fails(void **state)
{
    (void)state;
    run_fault_loop(false);
}

static void test_a_cache_goes_on_whatever_call_fails(void **state)
{
    (void)state;
    run_fault_loop(true);
}

#define BY_ITSELF(name) cmocka_unit_test(test_##name)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BY_ITSELF(a_store_goes_on_whatever_call_fails),
        BY_ITSELF(a_cache_goes_on_whatever_call_fails),
    };
    (void)set_up;
    (void)tear_down;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
