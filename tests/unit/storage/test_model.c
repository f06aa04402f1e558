/* test_model.c: random operations on a store and on a plain map, which must agree at every step.
 *
 * The store is as small as it can be: 1 MiB of memory for several times as much data, so that most values are cold and the
 * cache evicts all the time, and segments of 64 KiB, so that the log goes from one to the next every few dozen writes. What
 * a get finds is compared in value, flags, CAS unique and expiry.
 *
 * Operations come in batches, as the workers of the server run them: some operations, then one commit. From time to time the
 * store is closed and opened again, or "killed": its directory is copied as it is at that moment and the store goes on in
 * the copy. What was committed must all be there. Of the batch that was not, a prefix may be: for each operation of it the
 * map knows how to take it back.
 *
 * The seed is printed. SEED=n runs that one again, OPERATIONS=n so many operations, CACHECASK_LONG=1 many seeds.
 */
#include "tests/unit/storage/support.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define KEYS_MAX    4000
#define BATCH_MAX   24
#define ROUND       12000 /* operations on one directory: without a cleaner the log only grows */
#define VALUE_SMALL 3000
#define VALUE_LARGE (300 * 1024)

/* One key as it should be. Values never change in place: the journal may hold older ones. */
struct entry {
    char *value; /* NULL: absent */
    uint32_t value_len;
    uint32_t flags;
    uint32_t expire_s;
    uint64_t cas;
    uint64_t stored; /* number of the operation that stored it: flushes look at it */
};

/* How to take back one operation of the batch. */
struct undo {
    uint32_t key; /* KEYS_MAX: none */
    struct entry before;
    uint64_t flushed;
    uint32_t deadline_s;
};

struct model {
    struct rig rig;
    struct dice dice;
    uint64_t operation; /* counts up */
    uint32_t key_count;
    uint32_t
        quiet; /* batches between two kills, about: many kills try recovery, few let the cache fill */
    struct entry entries[KEYS_MAX];
    uint64_t flushed;    /* what was stored before this operation is gone */
    uint32_t deadline_s; /* of a pending flush; 0: none */
    uint64_t cas_max;
    struct undo undo[BATCH_MAX];
    uint32_t undo_count;
    char buffer[VALUE_LARGE];
    struct store_fetch fetch; /* of the key looked at */
    struct store_item item;
    uint64_t gets, crashes, reopenings, lost, evicted;
};

/* What a wrong answer says before it ends the test. */
#define AGREE(model, condition)                                                                    \
    do {                                                                                           \
        if (!(condition))                                                                          \
            disagree(model, __LINE__, #condition);                                                 \
    } while (0)

static _Noreturn void disagree(const struct model *model, int line, const char *condition)
{
    fail_msg("operation %" PRIu64 ", line %d: the store and the model disagree: %s",
             model->operation, line, condition);
    abort();
}

static void key_name(uint32_t key, char name[STORE_KEY_MAX + 1])
{
    /* Short and long ones: a few are as long as can be. */
    int len = snprintf(name, STORE_KEY_MAX + 1, "key-%u", key);
    uint32_t pad = key % 50 == 0 ? STORE_KEY_MAX - (uint32_t)len : key % 7;
    memset(name + len, 'k', pad);
    name[(uint32_t)len + pad] = '\0';
}

static bool flush_due(const struct model *model)
{
    return model->deadline_s && model->rig.now_s >= model->deadline_s;
}

static bool alive(const struct model *model, const struct entry *entry)
{
    return entry->value && entry->stored > model->flushed && !flush_due(model) &&
           (!entry->expire_s || entry->expire_s > model->rig.now_s);
}

/* The journal. */

static struct undo *remember(struct model *model, uint32_t key)
{
    struct undo *undo = &model->undo[model->undo_count++];
    assert_true(model->undo_count <= BATCH_MAX);
    *undo = (struct undo){.key = key, .flushed = model->flushed, .deadline_s = model->deadline_s};
    if (key < KEYS_MAX)
        undo->before = model->entries[key];
    return undo;
}

static void take_back(struct model *model)
{
    struct undo *undo = &model->undo[--model->undo_count];
    model->flushed = undo->flushed;
    model->deadline_s = undo->deadline_s;
    if (undo->key == KEYS_MAX)
        return;
    struct entry *entry = &model->entries[undo->key];
    if (entry->value != undo->before.value)
        free(entry->value);
    *entry = undo->before;
}

static void forget_journal(struct model *model)
{
    for (uint32_t i = 0; i < model->undo_count; i++) {
        struct undo *undo = &model->undo[i];
        if (undo->key == KEYS_MAX)
            continue;
        bool used = undo->before.value == model->entries[undo->key].value;
        for (uint32_t j = i + 1; j < model->undo_count; j++)
            used = used || (model->undo[j].key == undo->key &&
                            model->undo[j].before.value == undo->before.value);
        if (!used)
            free(undo->before.value);
    }
    model->undo_count = 0;
}

/* A pending flush takes effect with the first operation after its deadline. */
static void settle_flush(struct model *model)
{
    if (!flush_due(model))
        return;
    model->flushed = model->operation - 1;
    model->deadline_s = 0;
}

/* Gets. */

/* Looks at a key; the answer must be the model's. model->item is good until done_with. */
static bool look(struct model *model, const struct store_key *key, uint32_t number)
{
    const struct entry *entry = &model->entries[number];
    model->gets++;
    model->rig.use_readers = model->gets % 8 == 0;
    enum store_status status = rig_get(&model->rig, key, &model->fetch, &model->item);
    if (!alive(model, entry)) {
        AGREE(model, status == STORE_NOT_FOUND);
        return false;
    }
    AGREE(model, status == STORE_OK);
    AGREE(model, model->item.value_len == entry->value_len);
    AGREE(model, memcmp(model->item.value, entry->value, entry->value_len) == 0);
    AGREE(model, model->item.client_flags == entry->flags);
    AGREE(model, model->item.expire_s == entry->expire_s);
    AGREE(model, model->item.cas == entry->cas);
    return true;
}

static void done_with(struct model *model)
{
    store_fetch_release(&model->fetch);
}

static void look_at_all(struct model *model)
{
    char name[STORE_KEY_MAX + 1];
    for (uint32_t i = 0; i < model->key_count; i++) {
        key_name(i, name);
        struct store_key key = rig_key(&model->rig, name);
        look(model, &key, i);
        done_with(model);
        if (i % 64 == 0) {
            store_leave(model->rig.session); /* the cache wants its pages back */
            store_enter(model->rig.session);
        }
    }
}

/* Writes. */

static uint32_t random_len(struct model *model)
{
    if (dice_one_in(&model->dice, 400))
        return 100 * 1024 + dice_below(&model->dice, VALUE_LARGE - 100 * 1024 + 1);
    if (dice_one_in(&model->dice, 8))
        return dice_below(&model->dice, 16);
    return dice_below(&model->dice, VALUE_SMALL + 1);
}

static uint32_t random_expiry(struct model *model)
{
    switch (dice_below(&model->dice, 8)) {
    case 0: return model->rig.now_s + 1 + dice_below(&model->dice, 20);
    case 1: return model->rig.now_s + 1000 + dice_below(&model->dice, 1000);
    case 2: return dice_one_in(&model->dice, 4) ? model->rig.now_s : 0; /* gone at once */
    default: return 0;
    }
}

/* The store has taken `put`, and so does the model. */
static void store_in_model(struct model *model, uint32_t number, const struct store_put *put)
{
    uint32_t len = put->value[0].len + put->value[1].len;
    struct entry *entry = &model->entries[number];
    char *value = malloc(len ? len : 1);
    assert_non_null(value);
    memcpy(value, put->value[0].data, put->value[0].len);
    if (put->value[1].len)
        memcpy(value + put->value[0].len, put->value[1].data, put->value[1].len);
    *entry = (struct entry){.value = value,
                            .value_len = len,
                            .flags = put->client_flags,
                            .expire_s = put->expire_s,
                            .cas = put->cas,
                            .stored = model->operation};
}

static void put(struct model *model, const struct store_key *key, uint32_t number,
                struct store_put *put, enum store_status expected)
{
    bool chosen = put->cas != 0;
    bool keeps = put->keep_expiry && alive(model, &model->entries[number]);
    uint32_t expire_s = keeps ? model->entries[number].expire_s : put->expire_s;
    enum store_status status = wait_put(model->rig.session, key, model->rig.now_s, put);
    AGREE(model, status == expected);
    if (status != STORE_OK)
        return;
    AGREE(model, put->expire_s == expire_s);
    AGREE(model, chosen || put->cas > model->cas_max); /* a new one, never seen before */
    if (!chosen)
        model->cas_max = put->cas;
    remember(model, number);
    store_in_model(model, number, put);
}

static struct store_bytes random_value(struct model *model)
{
    uint32_t len = random_len(model);
    fill_pattern(model->buffer, len, dice_next(&model->dice));
    return (struct store_bytes){.data = model->buffer, .len = len};
}

/* set, add, replace. */
static void do_put(struct model *model, const struct store_key *key, uint32_t number)
{
    bool there = alive(model, &model->entries[number]);
    struct store_put wanted = {.value = {random_value(model)},
                               .client_flags = (uint32_t)dice_next(&model->dice),
                               .expire_s = random_expiry(model),
                               .keep_expiry = dice_one_in(&model->dice, 16),
                               .condition = (enum store_condition)dice_below(&model->dice, 3)};
    if (dice_one_in(&model->dice, 32))
        wanted.cas = 1 + dice_below(&model->dice, 1000);
    enum store_status expected = STORE_OK;
    if (wanted.condition == STORE_IF_ABSENT && there)
        expected = STORE_EXISTS;
    if (wanted.condition == STORE_IF_PRESENT && !there)
        expected = STORE_NOT_FOUND;
    put(model, key, number, &wanted, expected);
}

/* append and prepend: the value in two pieces, one of them the old one, under the condition that it has not changed. */
static void do_extend(struct model *model, const struct store_key *key, uint32_t number)
{
    static char piece[64];
    uint32_t len = 1 + dice_below(&model->dice, sizeof piece);
    bool front = dice_one_in(&model->dice, 2);
    fill_pattern(piece, len, dice_next(&model->dice));
    if (!look(model, key, number))
        return;
    if (model->item.value_len + len > VALUE_LARGE)
        return;
    struct store_bytes old = {.data = model->item.value, .len = model->item.value_len};
    struct store_bytes more = {.data = piece, .len = len};
    struct store_put wanted = {.value = {front ? more : old, front ? old : more},
                               .client_flags = model->item.client_flags,
                               .keep_expiry = true,
                               .condition = STORE_IF_SAME,
                               .place = model->item.place};
    put(model, key, number, &wanted, STORE_OK);
}

/* cas, incr and the like: read, and put on condition; sometimes another writer comes between. */
static void do_compare_and_put(struct model *model, const struct store_key *key, uint32_t number)
{
    static char other[100];
    uint32_t disturb = dice_below(&model->dice, 8);
    struct store_bytes value = random_value(model);
    if (!look(model, key, number))
        return;
    uint64_t place = model->item.place;
    enum store_status expected = STORE_OK;
    if (disturb == 0) {
        struct store_put first = {.value = {{other, sizeof other}}};
        put(model, key, number, &first, STORE_OK);
        expected = STORE_EXISTS;
    } else if (disturb == 1) {
        AGREE(model, wait_delete(model->rig.session, key, model->rig.now_s, STORE_IF_SAME, place) ==
                         STORE_OK);
        remember(model, number);
        model->entries[number] = (struct entry){0};
        expected = STORE_NOT_FOUND;
    }
    struct store_put wanted = {.value = {value},
                               .client_flags = model->item.client_flags,
                               .keep_expiry = disturb & 1,
                               .condition = STORE_IF_SAME,
                               .place = place};
    put(model, key, number, &wanted, expected);
}

static void do_delete(struct model *model, const struct store_key *key, uint32_t number)
{
    bool there = alive(model, &model->entries[number]);
    enum store_status status =
        wait_delete(model->rig.session, key, model->rig.now_s, STORE_IF_PRESENT, 0);
    AGREE(model, status == (there ? STORE_OK : STORE_NOT_FOUND));
    if (!there)
        return;
    remember(model, number);
    model->entries[number] = (struct entry){0};
}

/* touch, and with a look before it, gat. */
static void do_touch(struct model *model, const struct store_key *key, uint32_t number)
{
    bool there = alive(model, &model->entries[number]);
    bool get = dice_one_in(&model->dice, 2);
    uint32_t expire_s = random_expiry(model);
    enum store_condition condition = STORE_IF_PRESENT;
    if (get && look(model, key, number))
        condition = STORE_IF_SAME;
    enum store_status status =
        wait_touch(model->rig.session, key, model->rig.now_s, expire_s, condition,
                   condition == STORE_IF_SAME ? model->item.place : 0);
    AGREE(model, status == (there ? STORE_OK : STORE_NOT_FOUND));
    if (!there)
        return;
    remember(model, number);
    model->entries[number].expire_s = expire_s;
}

static void commit(struct model *model)
{
    rig_commit(&model->rig);
    forget_journal(model);
}

static void do_flush(struct model *model)
{
    uint32_t when_s =
        dice_one_in(&model->dice, 2) ? 0 : model->rig.now_s + 1 + dice_below(&model->dice, 10);
    AGREE(model, wait_flush(model->rig.session, when_s, model->rig.now_s) == STORE_OK);
    bool shows = when_s == 0 && model->deadline_s == 0;
    remember(model, KEYS_MAX);
    model->deadline_s = when_s;
    if (when_s == 0)
        model->flushed = model->operation;
    if (!shows)
        commit(model); /* after a kill nobody could tell whether a pending one is still there */
}

static void do_one(struct model *model)
{
    char name[STORE_KEY_MAX + 1];
    uint32_t number = dice_below(&model->dice, model->key_count);
    uint32_t choice = dice_below(&model->dice, 1000);
    if (dice_one_in(&model->dice, 4))
        number = dice_below(&model->dice, 50); /* some are hot */
    model->operation++;
    key_name(number, name);
    struct store_key key = rig_key(&model->rig, name);
    settle_flush(model);
    if (choice < 400)
        look(model, &key, number);
    else if (choice < 700)
        do_put(model, &key, number);
    else if (choice < 760)
        do_extend(model, &key, number);
    else if (choice < 830)
        do_compare_and_put(model, &key, number);
    else if (choice < 900)
        do_delete(model, &key, number);
    else if (choice < 999)
        do_touch(model, &key, number);
    else if (dice_one_in(&model->dice, 1 + model->quiet / 100))
        do_flush(model);
    done_with(model);
}

/* Batches, crashes and reopenings. */

static void run_batch(struct model *model)
{
    uint32_t size = 1 + dice_below(&model->dice, BATCH_MAX / 3);
    for (uint32_t i = 0; i < size; i++)
        do_one(model); /* up to two entries in the journal each */
}

/* Whether the store holds just what the model does, without ending the test if not. */
static bool same(struct model *model)
{
    char name[STORE_KEY_MAX + 1];
    bool equal = true;
    for (uint32_t i = 0; i < model->key_count && equal; i++) {
        key_name(i, name);
        const struct entry *entry = &model->entries[i];
        struct store_key key = rig_key(&model->rig, name);
        enum store_status status = rig_get(&model->rig, &key, &model->fetch, &model->item);
        if (alive(model, entry))
            equal = status == STORE_OK && model->item.value_len == entry->value_len &&
                    memcmp(model->item.value, entry->value, entry->value_len) == 0 &&
                    model->item.client_flags == entry->flags &&
                    model->item.expire_s == entry->expire_s && model->item.cas == entry->cas;
        else
            equal = status == STORE_NOT_FOUND;
        done_with(model);
    }
    return equal;
}

/* After a crash the log holds the batch up to some operation: finds out which. */
static void match_some_prefix(struct model *model)
{
    while (!same(model)) {
        AGREE(model,
              model->undo_count > 0); /* something committed is lost, or something dead is back */
        take_back(model);
        model->lost++;
    }
    forget_journal(model);
}

static void crash(struct model *model)
{
    model->crashes++;
    model->evicted += rig_stats(&model->rig).cache_items_evicted;
    rig_crash(&model->rig);
    if (dice_one_in(&model->dice, 3))
        model->rig.now_s += dice_below(&model->dice, 30);
    rig_open(&model->rig);
    match_some_prefix(model);
    model->operation++;
    settle_flush(model);
}

static void reopen(struct model *model)
{
    model->reopenings++;
    model->evicted += rig_stats(&model->rig).cache_items_evicted;
    rig_close(&model->rig);
    forget_journal(model);
    if (dice_one_in(&model->dice, 3))
        model->rig.now_s += dice_below(&model->dice, 30);
    rig_open(&model->rig);
    look_at_all(model);
    model->operation++;
    settle_flush(model);
}

static void one_step(struct model *model)
{
    run_batch(model);
    if (dice_one_in(&model->dice, model->quiet)) {
        crash(model); /* before the commit */
        return;
    }
    if (dice_one_in(&model->dice, model->quiet * 2)) {
        reopen(model); /* closing commits */
        return;
    }
    commit(model);
    if (dice_one_in(&model->dice, 4))
        model->rig.now_s += dice_below(&model->dice, 3);
    if (dice_one_in(&model->dice, model->quiet * 2))
        crash(model);
    if (dice_one_in(&model->dice, 300)) {
        store_check(model->rig.store);
        look_at_all(model);
    }
}

static void run_round(uint64_t seed, uint64_t operations)
{
    static struct model model;
    memset(&model, 0, sizeof model);
    model.dice.state = seed;
    model.key_count = 1000 + dice_below(&model.dice, KEYS_MAX - 1000 + 1);
    model.quiet = dice_one_in(&model.dice, 2) ? 100 : dice_one_in(&model.dice, 2) ? 600 : 3000;
    rig_init(&model.rig);
    model.rig.options.sync_interval_ms = dice_one_in(&model.dice, 4) ? STORE_SYNC_NEVER : 20;
    rig_open(&model.rig);
    while (model.operation < operations)
        one_step(&model);
    look_at_all(&model);
    store_check(model.rig.store);
    for (uint32_t i = 0; i < KEYS_MAX; i++)
        free(model.entries[i].value);
    model.evicted += rig_stats(&model.rig).cache_items_evicted;
    print_message("%" PRIu64 " gets of which %" PRIu64 " cold, %" PRIu64 " items evicted, %" PRIu64
                  " kills (%" PRIu64 " uncommitted operations lost), %" PRIu64 " reopenings\n",
                  model.gets, model.rig.cold, model.evicted, model.crashes, model.lost,
                  model.reopenings);
    rig_release(&model.rig);
}

static void test_the_store_is_a_map_that_survives(void **state)
{
    (void)state;
    uint64_t seed = number_from_env("SEED", 0);
    uint64_t operations = number_from_env("OPERATIONS", SLOW_BUILD ? 30000 : 200000);
    bool forever = number_from_env("CACHECASK_LONG", 0);
    if (seed) {
        print_message("SEED=%" PRIu64 "\n", seed);
        run_round(seed, operations < ROUND ? operations : ROUND);
        return;
    }
    seed = (uint64_t)time(NULL) * 1000;
    uint64_t rounds = forever ? 400 : (operations + ROUND - 1) / ROUND;
    for (uint64_t i = 0; i < rounds; i++) {
        print_message("SEED=%" PRIu64 ": ", seed + i);
        run_round(seed + i, operations < ROUND ? operations : ROUND);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_store_is_a_map_that_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
