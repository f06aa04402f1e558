/* test_model.c: random operations on a store and on a plain map, which must agree at every step.
 *
 * The store is as small as it can be: 1 MiB of memory, and segments of 64 KiB, so that the log goes
 * from one to the next every few dozen writes; and the disk has not much more room than the values
 * need, so that the cleaner works all the time. Each get's result is compared in value, flags, CAS
 * unique and expiry. Each round draws its own sizes.
 *
 * Operations come in batches, as the workers of the server run them: some operations, then one
 * commit. From time to time the store is closed and opened again, or "killed": its directory is
 * copied as it is at that moment, between any two file changes of the threads in the background,
 * and the store goes on in the copy. Everything committed must be there. Of the batch that was
 * not, a prefix may be: for each operation of it the map knows how to take it back.
 *
 * Some rounds run a store, which refuses what it has no room for: then nothing has changed. The
 * others run a cache that has less room on disk, or in its index, than the keys need: a key may be
 * gone. What was seen to be gone stays gone.
 *
 * The cleaner's thread moves records while the map looks on: a write on condition that nothing has
 * changed may be refused for that, and is tried again.
 *
 * Each seed is printed. Environment:
 *   SEED=n          runs that one again, with the same OPERATIONS
 *   SEEDS=n         so many rounds
 *   OPERATIONS=n    so many in all rounds together
 *   CACHECASK_LONG=1  2,000,000 operations in 50 rounds
 */
#include "tests/unit/storage/support/fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "storage/log/record.h"
#include "storage/log/log.h"
#include "storage/store_internal.h"

#define KEYS_MAX     4000
#define BATCH_MAX    24
#define ROUND        20000 /* operations on one directory, when nothing else is asked for */
#define VALUE_LARGE  (300 * 1024)
#define SEGMENTS_MIN 16 /* of the disk limit */
#define SEGMENTS_MAX 96
#define ROOMY        48 /* with so many there is room for large values */

/* One key as it should be. Values never change in place: the journal may hold older ones. */
struct entry {
    char *value; /* NULL: absent */
    uint32_t value_len;
    uint32_t flags;
    uint32_t expire_s;
    uint64_t cas;
    uint64_t stored; /* number of the operation that stored it: flushes look at it */
    bool evicted;    /* was seen to be gone */
};

/* How to take back one operation of the batch. */
struct undo {
    uint32_t key; /* KEYS_MAX: none */
    struct entry before;
    uint64_t flushed;
    uint32_t deadline_s;
};

struct model {
    struct fixture fixture;
    struct rng rng;
    uint64_t operation; /* counts up */
    uint32_t key_count;
    uint32_t value_max;   /* usual ones */
    uint32_t segments;    /* of the disk limit */
    uint64_t index_bytes; /* limit of the keydir; 0: the usual one */
    bool mortal;          /* many values expire soon */
    bool flushes;
    bool traps;
    /* Batches between two kills, about: many kills try recovery, few let cache and disk fill. */
    uint32_t quiet;
    struct entry entries[KEYS_MAX];
    uint64_t flushed;    /* what was stored before this operation is gone */
    uint32_t deadline_s; /* of a pending flush; 0: none */
    uint64_t cas_max;
    struct undo undo[BATCH_MAX];
    uint32_t undo_count;
    char buffer[VALUE_LARGE];
    struct store_fetch fetch; /* of the key looked at */
    struct store_item item;
    uint64_t gets, crashes, reopenings, lost;
    uint64_t moves;        /* found between a look and a write */
    uint64_t refused;      /* writes, for want of room */
    uint64_t opened_bytes; /* in the directory when the store was opened */
    uint64_t gone;         /* evictions noticed since the store was opened */
    struct {
        uint64_t uncached, cleaned, evicted, gone; /* of all stores that the round has opened */
        uint64_t live_percent;                     /* of the disk limit, at most */
    } sum;
};

/* Printed about a wrong answer before the test ends. */
#define AGREE(model, condition)                                                                    \
    do {                                                                                           \
        if (!(condition))                                                                          \
            disagree(model, __LINE__, #condition);                                                 \
    } while (0)

static _Noreturn void disagree(const struct model *model, int line, const char *condition)
{
    fail_msg("operation %" PRIu64 ", line %d: the store and the model disagree: %s\n%s",
             model->operation, line, condition, model->fixture.messages.text);
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
    return model->deadline_s && model->fixture.now_s >= model->deadline_s;
}

static bool is_cache(const struct model *model)
{
    return !model->fixture.options.no_evictions;
}

static bool alive(const struct model *model, const struct entry *entry)
{
    return entry->value && !entry->evicted && entry->stored > model->flushed && !flush_due(model) &&
           (!entry->expire_s || entry->expire_s > model->fixture.now_s);
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

/* The key was there, and is not any more: no earlier state of it may come back either. */
static void note_gone(struct model *model, uint32_t key)
{
    AGREE(model, is_cache(model));
    model->entries[key].evicted = true;
    for (uint32_t i = 0; i < model->undo_count; i++)
        if (model->undo[i].key == key)
            model->undo[i].before.evicted = true;
    model->gone++;
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

/* Looks at a key; the answer must be the model's. True: it is there, and model->item is good
 * until done_with. */
static bool look(struct model *model, const struct store_key *key, uint32_t number)
{
    const struct entry *entry = &model->entries[number];
    model->gets++;
    model->fixture.use_readers = model->gets % 8 == 0;
    enum store_status status = fixture_get(&model->fixture, key, &model->fetch, &model->item);
    if (!alive(model, entry)) {
        AGREE(model, status == STORE_NOT_FOUND);
        return false;
    }
    if (status == STORE_NOT_FOUND) {
        note_gone(model, number);
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

/* The store reports at least the evictions that the model has noticed: some keys are never read. */
static void check_evictions(struct model *model)
{
    AGREE(model, model->gone <= fixture_stats(&model->fixture).evicted_items);
}

static void note_missing(struct model *model)
{
    char name[STORE_KEY_MAX + 1];
    for (uint32_t i = 0; i < model->key_count; i++) {
        key_name(i, name);
        struct store_key key = fixture_key(&model->fixture, name);
        look(model, &key, i);
        done_with(model);
        if (i % 64 == 0) {
            store_leave(model->fixture.session); /* the cache wants its pages back */
            store_enter(model->fixture.session, model->fixture.now_s);
        }
    }
}

static void look_at_all(struct model *model)
{
    note_missing(model);
    check_evictions(model);
}

/* Writes. */

static uint32_t random_len(struct model *model)
{
    if (rng_one_in(&model->rng, 400) && model->segments >= ROOMY)
        return 100 * 1024 + rng_below(&model->rng, VALUE_LARGE - 100 * 1024 + 1);
    if (rng_one_in(&model->rng, 8))
        return rng_below(&model->rng, 16);
    return rng_below(&model->rng, model->value_max + 1);
}

static uint32_t random_expiry(struct model *model)
{
    if (model->mortal && rng_one_in(&model->rng, 3))
        return model->fixture.now_s + 1 + rng_below(&model->rng, 100);
    switch (rng_below(&model->rng, 8)) {
    case 0: return model->fixture.now_s + 1 + rng_below(&model->rng, 20);
    case 1: return model->fixture.now_s + 1000 + rng_below(&model->rng, 1000);
    case 2: return rng_one_in(&model->rng, 4) ? model->fixture.now_s : 0; /* gone at once */
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

/* A write on condition that nothing has changed was refused: only the record's place may have. */
static enum store_status note_move(struct model *model, const struct store_key *key,
                                   uint32_t number, uint64_t location)
{
    AGREE(model, !look(model, key, number) || model->item.location != location);
    model->moves++;
    return STORE_EXISTS;
}

/* A store without room refuses what makes it grow. */
static enum store_status note_refusal(struct model *model)
{
    AGREE(model, !is_cache(model));
    model->refused++;
    return STORE_FULL;
}

/* The expiry that a put is expected to end with. */
static uint32_t resulting_expiry(const struct model *model, uint32_t number,
                                 const struct store_put *put)
{
    bool keeps = put->keep_expiry && alive(model, &model->entries[number]);
    return keeps ? model->entries[number].expire_s : put->expire_s;
}

/* In a cache the answer tells whether the key is still there: then other answers are right. */
static enum store_status expect_gone(struct model *model, uint32_t number,
                                     const struct store_put *wanted, const struct store_put *put,
                                     enum store_status status, enum store_status expected)
{
    bool there = alive(model, &model->entries[number]);
    bool absent = (status == STORE_NOT_FOUND && wanted->condition >= STORE_IF_PRESENT) ||
                  (status == STORE_OK && wanted->condition == STORE_IF_ABSENT) ||
                  (status == STORE_OK && wanted->keep_expiry && put->expire_s == wanted->expire_s &&
                   there && model->entries[number].expire_s != wanted->expire_s);
    if (!there || !absent)
        return expected;
    note_gone(model, number);
    return status;
}

/* Puts; the answer must be `expected`, or STORE_EXISTS when the record has been moved (then
 * nothing is done, and the caller begins again with a look), or STORE_FULL. */
static enum store_status put(struct model *model, const struct store_key *key, uint32_t number,
                             const struct store_put *wanted, enum store_status expected)
{
    struct store_put put = *wanted;
    enum store_status status = wait_put(model->fixture.session, key, model->fixture.now_s, &put);
    if (status == STORE_EXISTS && expected == STORE_OK && put.condition == STORE_IF_SAME)
        return note_move(model, key, number, put.location);
    if (status == STORE_FULL)
        return note_refusal(model);
    if (is_cache(model))
        expected = expect_gone(model, number, wanted, &put, status, expected);
    AGREE(model, status == expected);
    if (status != STORE_OK)
        return status;
    AGREE(model, put.expire_s == resulting_expiry(model, number, wanted));
    AGREE(model, wanted->cas || put.cas > model->cas_max); /* a new one, never seen before */
    if (!wanted->cas)
        model->cas_max = put.cas;
    remember(model, number);
    store_in_model(model, number, &put);
    return status;
}

static struct store_bytes random_value(struct model *model)
{
    uint32_t len = random_len(model);
    fill_pattern(model->buffer, len, rng_next(&model->rng));
    return (struct store_bytes){.data = model->buffer, .len = len};
}

/* set, add, replace. */
static void do_put(struct model *model, const struct store_key *key, uint32_t number)
{
    bool there = alive(model, &model->entries[number]);
    struct store_put wanted = {.value = {random_value(model)},
                               .client_flags = (uint32_t)rng_next(&model->rng),
                               .expire_s = random_expiry(model),
                               .keep_expiry = rng_one_in(&model->rng, 16),
                               .condition = (enum store_condition)rng_below(&model->rng, 3)};
    if (rng_one_in(&model->rng, 32))
        wanted.cas = 1 + rng_below(&model->rng, 1000);
    enum store_status expected = STORE_OK;
    if (wanted.condition == STORE_IF_ABSENT && there)
        expected = STORE_EXISTS;
    if (wanted.condition == STORE_IF_PRESENT && !there)
        expected = STORE_NOT_FOUND;
    put(model, key, number, &wanted, expected);
}

/* Between a look and a write, to let the cleaner move what was looked at. */
static void hesitate(struct model *model)
{
    if (rng_one_in(&model->rng, 100))
        usleep(200);
}

/* append and prepend: the value in two pieces, one of them the old value, on condition that it has
 * not changed. */
static void do_extend(struct model *model, const struct store_key *key, uint32_t number)
{
    static char piece[64];
    uint32_t len = 1 + rng_below(&model->rng, sizeof piece);
    bool front = rng_one_in(&model->rng, 2);
    struct store_put wanted;
    fill_pattern(piece, len, rng_next(&model->rng));
    do {
        if (!look(model, key, number) || model->item.value_len + len > VALUE_LARGE)
            return;
        hesitate(model);
        struct store_bytes old = {.data = model->item.value, .len = model->item.value_len};
        struct store_bytes more = {.data = piece, .len = len};
        wanted = (struct store_put){.value = {front ? more : old, front ? old : more},
                                    .client_flags = model->item.client_flags,
                                    .keep_expiry = true,
                                    .condition = STORE_IF_SAME,
                                    .location = model->item.location};
    } while (put(model, key, number, &wanted, STORE_OK) == STORE_EXISTS);
}

/* Deletes the key, which was there a moment ago; looks again when it has moved. */
static enum store_status delete_same(struct model *model, const struct store_key *key,
                                     uint32_t number)
{
    enum store_status status;
    do {
        status = wait_delete(model->fixture.session, key, model->fixture.now_s, STORE_IF_SAME,
                             model->item.location);
        if (status == STORE_EXISTS)
            note_move(model, key, number, model->item.location);
    } while (status == STORE_EXISTS && alive(model, &model->entries[number]));
    if (status == STORE_NOT_FOUND && alive(model, &model->entries[number]))
        note_gone(model, number);
    return status;
}

static void forget_value(struct model *model, uint32_t number)
{
    remember(model, number);
    model->entries[number] = (struct entry){0};
}

/* The answer to a write when another writer comes between its read and its write. */
static enum store_status disturb(struct model *model, const struct store_key *key, uint32_t number,
                                 uint32_t how)
{
    static char other[100];
    struct store_put first = {.value = {{other, sizeof other}}};
    if (how == 0)
        return put(model, key, number, &first, STORE_OK) == STORE_OK ? STORE_EXISTS : STORE_FULL;
    enum store_status status = delete_same(model, key, number);
    if (status == STORE_OK)
        forget_value(model, number);
    else
        AGREE(model, !alive(model, &model->entries[number])); /* gone */
    return STORE_NOT_FOUND;
}

/* cas, incr and the like: read, and put on condition; sometimes another writer comes between. */
static void do_compare_and_put(struct model *model, const struct store_key *key, uint32_t number)
{
    uint32_t how = rng_below(&model->rng, 8);
    struct store_put wanted = {
        .value = {random_value(model)}, .keep_expiry = how & 1, .condition = STORE_IF_SAME};
    enum store_status status, expected = STORE_OK;
    do {
        if (!look(model, key, number))
            return;
        hesitate(model);
        wanted.location = model->item.location;
        wanted.client_flags = model->item.client_flags;
        if (how < 2)
            expected = disturb(model, key, number, how);
        if (expected == STORE_FULL)
            return;
        status = put(model, key, number, &wanted, expected);
    } while (status == STORE_EXISTS && expected == STORE_OK);
}

static void do_delete(struct model *model, const struct store_key *key, uint32_t number)
{
    bool there = alive(model, &model->entries[number]);
    enum store_status status =
        wait_delete(model->fixture.session, key, model->fixture.now_s, STORE_IF_PRESENT, 0);
    if (there && status == STORE_NOT_FOUND) {
        note_gone(model, number);
        return;
    }
    AGREE(model, status == (there ? STORE_OK : STORE_NOT_FOUND));
    if (there)
        forget_value(model, number);
}

/* touch, and with a look before it, gat. */
static void do_touch(struct model *model, const struct store_key *key, uint32_t number)
{
    bool get = rng_one_in(&model->rng, 2);
    uint32_t expire_s = random_expiry(model);
    enum store_status status;
    do {
        bool same = get && look(model, key, number);
        hesitate(model);
        status =
            wait_touch(model->fixture.session, key, model->fixture.now_s, expire_s,
                       same ? STORE_IF_SAME : STORE_IF_PRESENT, same ? model->item.location : 0);
        AGREE(model, status != STORE_EXISTS || same);
        if (status == STORE_EXISTS)
            note_move(model, key, number, model->item.location);
    } while (status == STORE_EXISTS);
    bool there = alive(model, &model->entries[number]);
    if (there && status == STORE_NOT_FOUND)
        note_gone(model, number);
    else if (there && status == STORE_FULL)
        note_refusal(model);
    else
        AGREE(model, status == (there ? STORE_OK : STORE_NOT_FOUND));
    if (status != STORE_OK)
        return;
    remember(model, number);
    model->entries[number].expire_s = expire_s;
}

static void commit(struct model *model)
{
    fixture_commit(&model->fixture);
    forget_journal(model);
}

static void do_flush(struct model *model)
{
    uint32_t when_s =
        rng_one_in(&model->rng, 2) ? 0 : model->fixture.now_s + 1 + rng_below(&model->rng, 10);
    AGREE(model, wait_flush(model->fixture.session, when_s, model->fixture.now_s) == STORE_OK);
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
    uint32_t number = rng_below(&model->rng, model->key_count);
    uint32_t choice = rng_below(&model->rng, 1000);
    if (rng_one_in(&model->rng, 4))
        number = rng_below(&model->rng, 50); /* some are hot */
    model->operation++;
    key_name(number, name);
    struct store_key key = fixture_key(&model->fixture, name);
    settle_flush(model);
    if (choice < 200 && number % 4 == 3)
        choice = 900; /* some are never read, but touched */
    if (choice < 200)
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
    else if (model->flushes)
        do_flush(model);
    done_with(model);
}

/* Batches, crashes and reopenings. */

static void run_batch(struct model *model)
{
    uint32_t size = 1 + rng_below(&model->rng, BATCH_MAX / 3);
    for (uint32_t i = 0; i < size; i++)
        do_one(model); /* up to two entries in the journal each */
}

/* Whether the store holds just what the model does (a cache: no more), without ending the test
 * if not. */
static bool same(struct model *model)
{
    char name[STORE_KEY_MAX + 1];
    bool equal = true;
    for (uint32_t i = 0; i < model->key_count && equal; i++) {
        key_name(i, name);
        const struct entry *entry = &model->entries[i];
        struct store_key key = fixture_key(&model->fixture, name);
        enum store_status status = fixture_get(&model->fixture, &key, &model->fetch, &model->item);
        if (alive(model, entry) && !(is_cache(model) && status == STORE_NOT_FOUND))
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

/* The trap: holds the cleaner for a moment when it is about to remove a file, so that a kill can
 * come just then. */

enum trap_state { TRAP_OPEN, TRAP_SET, TRAP_SHUT };

static _Atomic int trap;

#define TRAP_MS (SLOW_BUILD ? 200 : 30) /* writers may wait for the cleaner */

static void step_into_trap(enum file_call call, const char *name)
{
    int set = TRAP_SET;
    (void)name;
    if (call != CALL_UNLINK || !atomic_compare_exchange_strong(&trap, &set, TRAP_SHUT))
        return;
    for (int ms = 0; ms < TRAP_MS && atomic_load(&trap) == TRAP_SHUT; ms++)
        usleep(1000);
    atomic_store(&trap, TRAP_OPEN);
}

/* With the round's limits, which a store does not remember. */
static void open_again(struct model *model)
{
    fixture_open(&model->fixture);
    model->opened_bytes = temp_dir_bytes(&model->fixture.dir);
    if (model->index_bytes)
        atomic_store(&model->fixture.store->keydir.bytes_max, model->index_bytes);
}

/* The store is about to be closed. */
static void sum_up(struct model *model)
{
    struct store_stats stats = fixture_stats(&model->fixture);
    model->sum.uncached += stats.cache_items_evicted;
    model->sum.cleaned += stats.cleaner_segments;
    model->sum.evicted += stats.evicted_items;
    model->sum.gone += model->gone;
    uint64_t percent = stats.live_bytes * 100 / stats.disk_limit;
    if (percent > model->sum.live_percent)
        model->sum.live_percent = percent;
}

static void begin_again(struct model *model)
{
    model->gone = 0; /* of what is missing now */
    model->operation++;
    settle_flush(model);
}

static void crash(struct model *model)
{
    if (is_cache(model) && (rng_one_in(&model->rng, 4) || atomic_load(&trap) == TRAP_SHUT))
        note_missing(model); /* what is seen to be gone now must not come back */
    if (rng_one_in(&model->rng, 2))
        usleep(rng_below(&model->rng, 6000)); /* the cleaner sees what is not committed */
    model->crashes++;
    sum_up(model);
    fixture_crash(&model->fixture);
    atomic_store(&trap, TRAP_OPEN);
    if (rng_one_in(&model->rng, 3))
        model->fixture.now_s += rng_below(&model->rng, 30);
    open_again(model);
    match_some_prefix(model);
    if (is_cache(model))
        note_missing(model);
    begin_again(model);
}

static void reopen(struct model *model)
{
    model->reopenings++;
    sum_up(model);
    fixture_close(&model->fixture);
    forget_journal(model);
    if (rng_one_in(&model->rng, 3))
        model->fixture.now_s += rng_below(&model->rng, 30);
    open_again(model);
    note_missing(model);
    begin_again(model);
}

/* A start takes a segment beyond the limit to go on in, cleaning and deletions one each, and
 * those that a stop has left ready go only when the next start has them; when a kill follows
 * soon, the next one finds that much more. */
static void check_disk(struct model *model)
{
    uint64_t segment = model->segments >= ROOMY ? VALUE_LARGE * 4 / 3 : STORE_SEGMENT_SIZE_MIN;
    uint64_t limit = model->fixture.options.disk_limit;
    uint64_t found = model->opened_bytes > limit ? model->opened_bytes : limit;
    AGREE(model, temp_dir_bytes(&model->fixture.dir) <= found + (LOG_READY + 3) * segment);
}

static void let_time_pass(struct model *model)
{
    model->fixture.now_s += rng_below(&model->rng, model->mortal ? 8 : 3);
    store_tick(model->fixture.store, model->fixture.now_s);
}

static void one_step(struct model *model)
{
    if (model->traps && rng_one_in(&model->rng, model->quiet))
        atomic_store(&trap, TRAP_SET);
    run_batch(model);
    if (atomic_load(&trap) == TRAP_SHUT || rng_one_in(&model->rng, model->quiet)) {
        crash(model); /* before the commit */
        return;
    }
    if (rng_one_in(&model->rng, model->quiet * 2)) {
        reopen(model); /* closing commits */
        return;
    }
    commit(model);
    if (rng_one_in(&model->rng, 4))
        let_time_pass(model);
    if (rng_one_in(&model->rng, model->quiet * 2))
        crash(model);
    if (rng_one_in(&model->rng, 300)) {
        store_check(model->fixture.store);
        check_disk(model);
        look_at_all(model);
    }
}

/* Bytes on disk of an item of a round, about. */
static uint64_t item_size(const struct model *model)
{
    return RECORD_HEADER_SIZE + 16 + model->value_max / 16 * 7;
}

/* Sizes of a round: a disk, values, and so many keys that those that live, so many of 100, take
 * this part of it, in percent. */
static void draw_sizes(struct model *model, uint32_t alive, uint32_t percent)
{
    uint64_t most;
    model->value_max = 1000 * (1 + rng_below(&model->rng, 3));
    while ((most = KEYS_MAX * item_size(model) * alive / percent / STORE_SEGMENT_SIZE_MIN) <
           SEGMENTS_MIN)
        model->value_max += 1000; /* all the keys there are would not fill the least disk */
    if (most > SEGMENTS_MAX)
        most = SEGMENTS_MAX;
    model->segments = SEGMENTS_MIN + rng_below(&model->rng, (uint32_t)most - SEGMENTS_MIN + 1);
    uint64_t share = (uint64_t)model->segments * STORE_SEGMENT_SIZE_MIN * percent / 100;
    uint64_t keys = share * 100 / alive / item_size(model);
    model->key_count = keys > KEYS_MAX ? KEYS_MAX : (uint32_t)keys;
}

static void draw_round(struct model *model)
{
    static const uint32_t quiet[] = {80, 200, 400, 1000, 3000};
    struct store_options *options = &model->fixture.options;
    struct rng *rng = &model->rng;
    bool cache = rng_one_in(rng, 3);
    model->quiet = quiet[rng_below(rng, 5)];
    model->mortal = rng_one_in(rng, 2);
    model->flushes = rng_one_in(rng, 3);
    if (cache)
        draw_sizes(model, model->mortal ? 15 : 40, 150 + rng_below(rng, 100));
    else
        draw_sizes(model, model->mortal ? 30 : 50, 40 + rng_below(rng, 31));
    options->no_evictions = !cache;
    options->disk_limit = (uint64_t)model->segments * STORE_SEGMENT_SIZE_MIN;
    options->sync_interval_ms = rng_one_in(rng, 4) ? STORE_SYNC_NEVER : 2;
    if (cache && rng_one_in(rng, 3))
        model->index_bytes = model->key_count / 8 * sizeof(struct keydir_bucket);
    model->traps = cache || rng_one_in(rng, 2);
    if (model->traps)
        faulty_watch(&model->fixture.faulty, step_into_trap);
}

static void show(const struct model *model)
{
    print_message("%s of %u segments, %u keys, %" PRIu64 " %% alive: %" PRIu64
                  " gets of which %" PRIu64 " cold, %" PRIu64 " kills (%" PRIu64
                  " uncommitted operations lost), %" PRIu64 " reopenings; %" PRIu64
                  " segments cleaned, %" PRIu64 " moves met, %" PRIu64 " writes refused, %" PRIu64
                  " items evicted of which %" PRIu64 " missed\n",
                  is_cache(model) ? "cache" : "store", model->segments, model->key_count,
                  model->sum.live_percent, model->gets, model->fixture.cold, model->crashes,
                  model->lost, model->reopenings, model->sum.cleaned, model->moves, model->refused,
                  model->sum.evicted, model->sum.gone);
}

/* Events that the rounds must have met to be worth anything. */
static struct {
    uint64_t caches, cleaned, evicted, moves, refused;
} met;

static void note_met(const struct model *model)
{
    met.caches += is_cache(model);
    met.cleaned += model->sum.cleaned;
    met.evicted += model->sum.evicted;
    met.moves += model->moves;
    met.refused += model->refused;
}

static void check_met(uint64_t operations)
{
    if (operations < 2 * ROUND)
        return; /* it was for something else */
    assert_true(met.cleaned > 0);
    assert_true(met.caches < 2 || met.evicted > 0);
}

static void run_round(uint64_t seed, uint64_t operations)
{
    static struct model model;
    memset(&model, 0, sizeof model);
    model.rng.state = seed;
    fixture_init(&model.fixture);
    draw_round(&model);
    open_again(&model);
    while (model.operation < operations)
        one_step(&model);
    look_at_all(&model);
    store_check(model.fixture.store);
    for (uint32_t i = 0; i < KEYS_MAX; i++)
        free(model.entries[i].value);
    sum_up(&model);
    show(&model);
    note_met(&model);
    fixture_release(&model.fixture);
}

/* Operations of all rounds, when the environment does not say. */
static uint64_t usual_operations(bool one_round)
{
    if (one_round)
        return ROUND;
    if (number_from_env("CACHECASK_LONG", 0))
        return UINT64_C(50) * 40000;
    return (SLOW_BUILD ? 2 : 8) * ROUND;
}

static uint64_t usual_seeds(uint64_t operations)
{
    return number_from_env("CACHECASK_LONG", 0) ? 50 : (operations + ROUND - 1) / ROUND;
}

static void test_the_store_is_a_map_that_survives(void **state)
{
    (void)state;
    uint64_t seed = number_from_env("SEED", 0);
    uint64_t operations = number_from_env("OPERATIONS", usual_operations(seed != 0));
    uint64_t seeds = number_from_env("SEEDS", seed ? 1 : usual_seeds(operations));
    if (!seed)
        seed = (uint64_t)time(NULL) * 1000;
    for (uint64_t i = 0; i < seeds; i++) {
        print_message("SEED=%" PRIu64 " OPERATIONS=%" PRIu64 ": ", seed + i, operations / seeds);
        run_round(seed + i, operations / seeds);
    }
    check_met(operations);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_store_is_a_map_that_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
