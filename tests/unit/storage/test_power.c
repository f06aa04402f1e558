/* test_power.c: the power fails, and what was acknowledged is there.
 *
 * A small store with a busy cleaner runs on the layer of power.h: random puts, deletes, touches and
 * flushes, in batches as the workers of the server run them. Each life of it ends in one of four
 * ways, and the next one is compared with the history:
 *
 *   - the power fails at a random step of the layer: in a write, a sync, the making, naming or
 *     removing of a file; while the store runs, in its start, in a start after such a start, or
 *     while it closes;
 *   - the process dies, and the power may fail in the next life: what the first one wrote need not
 *     be on disk then;
 *   - it closes, and then the power fails;
 *   - it closes.
 *
 * What must hold. Each operation has an end in the log. The history up to some operation, and
 * nothing else, must be what a start finds; and that operation is not before the last one that was
 * acknowledged (sync=always: whose sync was waited for), nor before the last one whose end the log
 * counts as synced. A death of the process alone loses nothing that was committed. CAS uniques are
 * never given twice. A cache may have evicted what it likes.
 *
 * Each seed is printed. Environment:
 *   SEED=n           runs that one again; because of the threads no two runs are quite the same
 *   SEEDS=n          so many rounds
 *   LIVES=n          so many lives in each
 *   CACHECASK_LONG=1 300 rounds
 */
#include "tests/unit/storage/support/fixture.h"
#include "tests/unit/storage/support/power.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "storage/store_internal.h"

#define KEYS_MAX  400
#define OPS_MAX   6000
#define BATCH_MAX 8
#define VALUE_MAX (24 * 1024)
#define LIVES     20
#define PATIENCE  400 /* times that a write asks for room */

enum op_kind { OP_PUT, OP_DELETE, OP_TOUCH, OP_FLUSH };

/* One key as it may be. */
struct entry {
    uint64_t version; /* 0: absent */
    uint64_t cas;
    uint32_t expire_s;
};

struct op {
    enum op_kind kind;
    uint32_t key;
    struct entry entry;
    uint64_t end_lsn;
};

enum death { DEATH_POWER, DEATH_PROCESS, DEATH_CLOSE };

struct model {
    struct fixture fixture;
    struct power power;
    struct rng rng;
    uint32_t key_count, value_max;
    bool mortal, stepwise;          /* many values expire; the cleaner runs when we say so */
    struct entry base[KEYS_MAX];    /* before the history */
    struct entry current[KEYS_MAX]; /* after it */
    struct entry found[KEYS_MAX];
    struct op ops[OPS_MAX]; /* the history */
    uint32_t op_count;
    uint32_t committed, acknowledged; /* operations of it */
    uint64_t version, cas_max;
    char value[VALUE_MAX], wanted[VALUE_MAX];
    uint64_t all_ops, lost, losses[CALL_KINDS + 1], deaths[3], cleaned;
};

#define AGREE(model, condition, ...)                                                               \
    do {                                                                                           \
        if (!(condition))                                                                          \
            disagree(model, __LINE__, __VA_ARGS__);                                                \
    } while (0)

static _Noreturn __attribute__((format(printf, 3, 4))) void disagree(struct model *model, int line,
                                                                     const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fail_msg("line %d: %s\n%u operations, %u committed, %u acknowledged; %s\n%s", line, text,
             model->op_count, model->committed, model->acknowledged, model->fixture.dir.path,
             model->fixture.messages.text);
    abort();
}

/* The history. */

static void apply(struct entry *entries, uint32_t key_count, const struct op *op)
{
    if (op->kind == OP_FLUSH)
        memset(entries, 0, key_count * sizeof *entries);
    else if (op->kind == OP_TOUCH)
        entries[op->key].expire_s = op->entry.expire_s;
    else
        entries[op->key] = op->entry;
}

static void note_op(struct model *model, enum op_kind kind, uint32_t key, struct entry entry)
{
    struct op *op = &model->ops[model->op_count++];
    *op = (struct op){.kind = kind,
                      .key = key,
                      .entry = entry,
                      .end_lsn = store_commit_lsn(model->fixture.session)};
    apply(model->current, model->key_count, op);
    model->all_ops++;
}

static bool alive(const struct model *model, const struct entry *entry)
{
    return entry->version && (!entry->expire_s || entry->expire_s > model->fixture.now_s);
}

static bool is_cache(const struct model *model)
{
    return !model->fixture.options.no_evictions;
}

/* True if the key was found as `entry` says. */
static bool matches(const struct model *model, uint32_t key, const struct entry *entry)
{
    const struct entry *found = &model->found[key];
    if (!alive(model, entry) || (is_cache(model) && !found->version))
        return !found->version;
    return found->version == entry->version && found->cas == entry->cas &&
           found->expire_s == entry->expire_s;
}

static void key_name(uint32_t key, char name[32])
{
    snprintf(name, 32, "key-%u", key);
}

/* A value tells its version in its first bytes; the rest follows from that. */
static uint32_t make_value(const struct model *model, uint64_t version, char *value)
{
    struct rng rng = {.state = version};
    uint32_t max = rng_one_in(&rng, 100) ? VALUE_MAX - 8 : model->value_max;
    uint32_t len = 8 + rng_below(&rng, max - 8);
    memset(value, 0, len); /* a part of zeros: as holes in a file are */
    fill_pattern(value, rng_one_in(&rng, 4) ? len / 2 : len, version);
    memcpy(value, &version, sizeof version);
    return len;
}

/* Checks all keys. Each value found must be one that was once put. */
static void look_at_all(struct model *model)
{
    char name[32];
    for (uint32_t i = 0; i < model->key_count; i++) {
        struct store_fetch fetch = {0};
        struct store_item item;
        uint64_t version;
        key_name(i, name);
        struct store_key key = fixture_key(&model->fixture, name);
        enum store_status status = fixture_get(&model->fixture, &key, &fetch, &item);
        model->found[i] = (struct entry){0};
        AGREE(model, status == STORE_OK || status == STORE_NOT_FOUND, "%s: status %d", name,
              status);
        if (status == STORE_OK) {
            memcpy(&version, item.value, sizeof version);
            uint32_t len = make_value(model, version, model->wanted);
            AGREE(model, len == item.value_len && memcmp(item.value, model->wanted, len) == 0,
                  "%s has a value that was never put", name);
            model->found[i] = (struct entry){version, item.cas, item.expire_s};
        }
        store_fetch_release(&fetch);
    }
}

/* Says which key breaks the bound, if it is one alone. */
static _Noreturn void report_broken(struct model *model, uint32_t least)
{
    static struct entry state[KEYS_MAX];
    static bool ever[KEYS_MAX];
    uint32_t count = model->key_count;
    memcpy(state, model->base, sizeof state);
    memset(ever, 0, sizeof ever);
    for (uint32_t p = 0; p <= model->op_count; p++) {
        for (uint32_t i = 0; p >= least && i < count; i++)
            ever[i] = ever[i] || matches(model, i, &state[i]);
        if (p < model->op_count)
            apply(state, count, &model->ops[p]);
    }
    for (uint32_t i = 0; i < count; i++)
        AGREE(model, ever[i],
              "key-%u was found as version %" PRIu64 ", which is older than what must be there "
              "(after the first %u operations), or was never sent",
              i, model->found[i].version, least);
    disagree(model, __LINE__,
             "each key by itself could be as it was found, but together they are no prefix of the "
             "history, behind its first %u operations",
             least);
}

/* The longest prefix of the history that is what was found: `least` operations or more. */
static uint32_t find_prefix(struct model *model, uint32_t least)
{
    static struct entry state[KEYS_MAX];
    uint32_t count = model->key_count, longest = UINT32_MAX;
    memcpy(state, model->base, sizeof state);
    for (uint32_t p = 0; p <= model->op_count; p++) {
        bool all = p >= least;
        for (uint32_t i = 0; i < count && all; i++)
            all = matches(model, i, &state[i]);
        if (all)
            longest = p;
        if (p < model->op_count)
            apply(state, count, &model->ops[p]);
    }
    if (longest == UINT32_MAX)
        report_broken(model, least);
    return longest;
}

/* Operations. */

static uint32_t random_expiry(struct model *model)
{
    if (model->mortal && rng_one_in(&model->rng, 3))
        return model->fixture.now_s + 1 + rng_below(&model->rng, 20);
    return rng_one_in(&model->rng, 10) ? model->fixture.now_s + 100000 : 0;
}

/* True if it should ask for room once more. */
static bool wait_for_room(struct model *model, uint32_t *times)
{
    if (++*times > PATIENCE || power_is_off(&model->power))
        return false;
    store_commit(model->fixture.session);
    if (!model->stepwise || !cleaner_step(model->fixture.store))
        usleep(200);
    return true;
}

static void do_put(struct model *model, const struct store_key *key, uint32_t number)
{
    uint32_t times = 0, expire_s = random_expiry(model);
    uint64_t version = ++model->version;
    uint32_t len = make_value(model, version, model->value);
    struct store_put put;
    enum store_status status;
    do {
        put = (struct store_put){.value = {{model->value, len}}, .expire_s = expire_s};
        status = store_put(at(model->fixture.session, model->fixture.now_s), key, &put);
    } while (status == STORE_WAIT_SPACE && wait_for_room(model, &times));
    if (status != STORE_OK)
        return;
    AGREE(model, put.cas > model->cas_max, "CAS unique %" PRIu64 " is given twice", put.cas);
    model->cas_max = put.cas;
    note_op(model, OP_PUT, number, (struct entry){version, put.cas, expire_s});
}

static void do_delete(struct model *model, const struct store_key *key, uint32_t number)
{
    uint32_t times = 0;
    enum store_status status;
    do
        status = store_delete(at(model->fixture.session, model->fixture.now_s), key,
                              STORE_IF_PRESENT, 0);
    while (status == STORE_WAIT_SPACE && wait_for_room(model, &times));
    if (status == STORE_OK)
        note_op(model, OP_DELETE, number, (struct entry){0});
}

static void do_touch(struct model *model, const struct store_key *key, uint32_t number)
{
    uint32_t times = 0, expire_s = random_expiry(model);
    enum store_status status;
    do
        status = store_touch(at(model->fixture.session, model->fixture.now_s), key, expire_s,
                             STORE_IF_PRESENT, 0);
    while (status == STORE_WAIT_SPACE && wait_for_room(model, &times));
    if (status == STORE_OK)
        note_op(model, OP_TOUCH, number, (struct entry){.expire_s = expire_s});
}

static void do_flush(struct model *model)
{
    if (store_flush(at(model->fixture.session, model->fixture.now_s), 0) == STORE_OK)
        note_op(model, OP_FLUSH, 0, (struct entry){0});
}

static void do_one(struct model *model)
{
    char name[32];
    uint32_t number = rng_below(&model->rng, model->key_count);
    uint32_t choice = rng_below(&model->rng, 1000);
    if (rng_one_in(&model->rng, 3))
        number = number % 16; /* some are hot */
    key_name(number, name);
    struct store_key key = fixture_key(&model->fixture, name);
    if (choice < 700)
        do_put(model, &key, number);
    else if (choice < 850)
        do_delete(model, &key, number);
    else if (choice < 998)
        do_touch(model, &key, number);
    else
        do_flush(model);
}

/* With sync=always the reply waits for the disk. */
static void acknowledge(struct model *model)
{
    enum store_status status;
    uint64_t lsn = store_commit_lsn(model->fixture.session);
    while ((status = store_durable(model->fixture.session, lsn)) == STORE_WAIT_SYNC &&
           !power_is_off(&model->power))
        usleep(20);
    if (status == STORE_OK && model->fixture.options.sync_interval_ms == STORE_SYNC_ALWAYS)
        model->acknowledged = model->op_count;
}

static bool run_batch(struct model *model)
{
    uint32_t size = 1 + rng_below(&model->rng, BATCH_MAX);
    for (uint32_t i = 0; i < size; i++)
        do_one(model);
    if (fixture_try_commit(&model->fixture) != STORE_OK)
        return false;
    model->committed = model->op_count;
    acknowledge(model);
    if (model->stepwise && rng_one_in(&model->rng, 4))
        cleaner_step(model->fixture.store);
    if (rng_one_in(&model->rng, 16)) {
        model->fixture.now_s += rng_below(&model->rng, 3);
        store_tick(model->fixture.store, model->fixture.now_s);
    }
    return !power_is_off(&model->power);
}

/* Lives. */

/* Everything that the log itself counts as synced must be there too. Nothing is synced while the
 * power is off. */
static void note_synced(struct model *model)
{
    uint64_t lsn = log_synced_lsn(&model->fixture.store->log);
    uint32_t p = model->acknowledged;
    while (p < model->op_count && model->ops[p].end_lsn <= lsn)
        p++;
    model->acknowledged = p;
}

/* A store that was opened goes: its threads do what they do when it closes, with or without
 * power. */
static void end_life(struct model *model)
{
    model->cleaned += fixture_stats(&model->fixture).cleaner_segments;
    if (power_is_off(&model->power))
        note_synced(model);
    fixture_close(&model->fixture);
    if (!power_is_off(&model->power)) /* a clean stop leaves nothing to chance */
        model->committed = model->acknowledged = model->op_count;
}

static void lose_power(struct model *model)
{
    power_cut(&model->power);
    power_restore(&model->power);
    model->fixture.options.boot_id++;
}

/* Starts in which the power fails again, or the process dies. */
static void fail_to_start(struct model *model)
{
    while (rng_one_in(&model->rng, 2)) {
        power_fail_in(&model->power, 1 + rng_below(&model->rng, 40));
        if (fixture_try_open(&model->fixture) == STORE_OK) {
            usleep(rng_below(&model->rng, 2000));
            power_cut(&model->power);
            fixture_close(&model->fixture);
        }
        if (rng_one_in(&model->rng, 2))
            lose_power(model);
        else
            power_revive(&model->power);
    }
}

/* Opens the store, and finds out what is left of the history. */
static void check(struct model *model, enum death death)
{
    uint32_t least = death == DEATH_PROCESS ? model->committed : model->acknowledged;
    messages_clear(&model->fixture.messages);
    fixture_open(&model->fixture);
    look_at_all(model);
    uint32_t left = find_prefix(model, least);
    model->lost += model->op_count - left;
    model->op_count = left;
    memcpy(model->current, model->found, sizeof model->current);
    if (death == DEATH_PROCESS) /* not all of it is on disk yet: the history goes on */
        return;
    model->op_count = model->committed = model->acknowledged = 0;
    memcpy(model->base, model->found, sizeof model->base);
}

static enum death live(struct model *model)
{
    static const uint32_t steps[] = {10, 100, 1000, 4000};
    uint32_t batches = rng_below(&model->rng, OPS_MAX / BATCH_MAX / 2);
    uint32_t how = rng_below(&model->rng, 8);
    if (how < 2) /* where one segment goes and not yet the next */
        power_fail_after_unlinks(&model->power, 1 + rng_below(&model->rng, 40));
    else if (how < 6)
        power_fail_in(&model->power, 1 + rng_below(&model->rng, steps[rng_below(&model->rng, 4)]));
    while (batches-- && model->op_count + BATCH_MAX < OPS_MAX && run_batch(model))
        ;
    if (!power_is_off(&model->power) && rng_one_in(&model->rng, 2) &&
        model->op_count < OPS_MAX / 2) {
        power_cut(&model->power);
        end_life(model);
        power_revive(&model->power);
        return DEATH_PROCESS;
    }
    end_life(model);
    if (!power_is_off(&model->power) && rng_one_in(&model->rng, 2)) {
        power_fail_in(&model->power, 0);
        return DEATH_CLOSE;
    }
    if (power_is_off(&model->power))
        model->losses[model->power.off_in]++;
    lose_power(model);
    fail_to_start(model);
    return DEATH_POWER;
}

static void draw_round(struct model *model)
{
    struct store_options *options = &model->fixture.options;
    struct rng *rng = &model->rng;
    static const int intervals[] = {STORE_SYNC_ALWAYS, STORE_SYNC_ALWAYS, 1, 5, 30};
    options->files = &model->power.faulty.files;
    options->sync_interval_ms = intervals[rng_below(rng, 5)];
    options->no_evictions = !rng_one_in(rng, 4);
    options->disk_limit = (16 + rng_below(rng, 17)) * (uint64_t)STORE_SEGMENT_SIZE_MIN;
    model->stepwise = model->fixture.manual_cleaner = rng_one_in(rng, 2);
    model->mortal = rng_one_in(rng, 2);
    model->key_count = 20 + rng_below(rng, KEYS_MAX - 19);
    model->value_max = 100 + rng_below(rng, 1500);
}

static void run_round(uint64_t seed, uint64_t lives)
{
    static struct model model;
    memset(&model, 0, sizeof model);
    model.rng.state = seed;
    fixture_init(&model.fixture);
    power_init(&model.power, &model.fixture.dir, seed * 7);
    draw_round(&model);
    enum death death = DEATH_CLOSE;
    for (uint64_t i = 0; i < lives; i++) {
        check(&model, death);
        death = live(&model);
        model.deaths[death]++;
    }
    check(&model, death);
    print_message("%s, sync %d, %u keys: %" PRIu64 " operations (%" PRIu64 " lost), %" PRIu64
                  " segments cleaned, deaths: %" PRIu64 " power, %" PRIu64 " process, %" PRIu64
                  " closed\n",
                  is_cache(&model) ? "cache" : "store", model.fixture.options.sync_interval_ms,
                  model.key_count, model.all_ops, model.lost, model.cleaned, model.deaths[0],
                  model.deaths[1], model.deaths[2]);
    fixture_release(&model.fixture);
    power_release(&model.power);
}

static void test_acknowledged_is_kept_when_the_power_fails(void **state)
{
    (void)state;
    uint64_t seed = number_from_env("SEED", 0);
    uint64_t usual = number_from_env("CACHECASK_LONG", 0) ? 300 : SLOW_BUILD ? 4 : 8;
    uint64_t seeds = number_from_env("SEEDS", seed ? 1 : usual);
    uint64_t lives = number_from_env("LIVES", LIVES);
    if (!seed)
        seed = (uint64_t)time(NULL) * 1000;
    for (uint64_t i = 0; i < seeds; i++) {
        print_message("SEED=%" PRIu64 " LIVES=%" PRIu64 ": ", seed + i, lives);
        run_round(seed + i, lives);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_acknowledged_is_kept_when_the_power_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
