/* test_keydir.c: the index says what a plain table says (K1 to K5), fits into its memory, and
 * says when it is full. */
#include "tests/unit/storage/support/basics.h"
#include "tests/unit/storage/support/random.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/index/keydir.h"

#define MUCH (UINT64_C(1) << 30)

static struct rng rng;

static int set_up(void **state)
{
    (void)state;
    rng.state = number_from_env("SEED", 1);
    return 0;
}

/* The nth tag of a sequence that never repeats: splitmix64 is a permutation. */
static uint64_t tag_of(uint64_t n)
{
    struct rng one = {n};
    return rng_next(&one);
}

static struct keydir_shard *shard_of(const struct keydir *keydir, uint64_t n)
{
    return &keydir->shards[n % keydir->shard_count];
}

static bool insert(struct keydir *keydir, struct keydir_shard *shard, uint64_t tag,
                   uint64_t location, uint32_t expire_s)
{
    struct keydir_entry entry = {.tag = tag, .location = location, .expire_s = expire_s};
    keydir_lock(shard);
    bool ok = keydir_insert(keydir, shard, &entry);
    keydir_unlock(shard);
    return ok;
}

/* Inserts the numbers from `n` to `last` as places under their tags. */
static void insert_all(struct keydir *keydir, struct keydir_shard *shard, uint64_t n, uint64_t last,
                       uint32_t expire_s)
{
    for (; n <= last; n++)
        assert_true(insert(keydir, shard, tag_of(n), n, expire_s));
}

static bool is_there(struct keydir_shard *shard, uint64_t tag, uint64_t location, uint32_t expire_s)
{
    struct keydir_ref ref;
    struct keydir_entry entry;
    keydir_lock(shard);
    bool found = keydir_find(shard, tag, &ref, &entry);
    keydir_unlock(shard);
    return found && entry.tag == (tag & KEYDIR_TAG) && entry.location == location &&
           entry.expire_s == expire_s;
}

static bool is_absent(struct keydir_shard *shard, uint64_t tag)
{
    struct keydir_ref ref;
    struct keydir_entry entry;
    keydir_lock(shard);
    bool found = keydir_find(shard, tag, &ref, &entry);
    keydir_unlock(shard);
    return !found;
}

static void check_all(const struct keydir *keydir)
{
    for (uint32_t i = 0; i < keydir->shard_count; i++) {
        keydir_lock(&keydir->shards[i]);
        keydir_check(&keydir->shards[i]);
        keydir_unlock(&keydir->shards[i]);
    }
}

/* As far as it goes. Answers whether there was anything to do. */
static bool shrink(struct keydir *keydir, struct keydir_shard *shard)
{
    bool any = false;
    while (keydir_shrink(keydir, shard))
        any = true;
    return any;
}

static void test_an_empty_keydir_finds_nothing(void **state)
{
    (void)state;
    struct keydir keydir;
    assert_true(keydir_init(&keydir, 4, MUCH));
    for (uint64_t n = 0; n < 1000; n++) {
        assert_true(is_absent(shard_of(&keydir, n), tag_of(n)));
        bool elsewhere;
        assert_true(keydir_guess(shard_of(&keydir, n), tag_of(n), &elsewhere) == 0 && !elsewhere);
    }
    assert_true(keydir_count(&keydir) == 0);
    check_all(&keydir);
    keydir_release(&keydir);
}

/* Bits 26 to 31 choose no bucket and no counter, and the low five are not kept. */
static uint64_t alike(uint64_t n)
{
    return n << 26 | n;
}

/* So these tags have the same two, and the stash takes what they do not (K1). */
static void test_tags_with_the_same_two_buckets_are_told_apart(void **state)
{
    (void)state;
    struct keydir keydir;
    struct keydir_ref ref;
    struct keydir_entry entry;
    assert_true(keydir_init(&keydir, 1, MUCH));
    struct keydir_shard *shard = &keydir.shards[0];
    for (uint64_t n = 0; n < 14;
         n++) { /* the tag 0 is one like any other, though free places hold zeros */
        assert_true(is_absent(shard, alike(n)));
        assert_true(insert(&keydir, shard, alike(n), n + 1, (uint32_t)n));
        keydir_check(shard);
    }
    assert_int_equal(shard->stash_count, 14 - 2 * KEYDIR_ENTRIES);
    for (uint64_t n = 0; n < 14; n++)
        assert_true(is_there(shard, alike(n) ^ 31, n + 1, (uint32_t)n));
    for (uint64_t n = 0; n < 14; n++) {
        assert_true(keydir_find(shard, alike(n), &ref, &entry));
        keydir_set(shard, ref, n + 100, 7);
        assert_true(is_there(shard, alike(n), n + 100, 7));
        assert_true(keydir_find(shard, alike(n), &ref, &entry));
        keydir_remove(shard, ref);
        assert_true(is_absent(shard, alike(n)));
        keydir_check(shard);
    }
    assert_true(keydir_count(&keydir) == 0);
    keydir_release(&keydir);
}

/* A plain table of what must be there: by number of the tag. */
#define NUMBERS 40000

struct reference {
    uint64_t location; /* 0: absent */
    uint32_t expire_s;
};

static void change_one(struct keydir *keydir, struct reference *table, uint32_t n,
                       bool mostly_insert)
{
    struct keydir_shard *shard = shard_of(keydir, n);
    struct reference *wanted = &table[n];
    struct keydir_ref ref;
    struct keydir_entry entry = {.tag = tag_of(n)};
    keydir_lock(shard);
    bool found = keydir_find(shard, tag_of(n), &ref, &entry);
    assert_int_equal(found, wanted->location != 0);
    if (found) {
        assert_true(entry.location == wanted->location);
        assert_int_equal(entry.expire_s, wanted->expire_s);
    }
    bool remove = found && rng_one_in(&rng, mostly_insert ? 8 : 2);
    *wanted = (struct reference){.location = remove ? 0 : rng_next(&rng) | 1,
                                 .expire_s = (uint32_t)rng_next(&rng)};
    if (remove) {
        keydir_remove(shard, ref);
    } else if (found) {
        keydir_set(shard, ref, wanted->location, wanted->expire_s);
    } else {
        entry.location = wanted->location;
        entry.expire_s = wanted->expire_s;
        assert_true(keydir_has_room(keydir, shard));
        assert_true(keydir_insert(keydir, shard, &entry));
    }
    keydir_unlock(shard);
}

static void compare_all(struct keydir *keydir, const struct reference *table, uint32_t numbers)
{
    uint64_t count = 0;
    for (uint32_t n = 0; n < numbers; n++) {
        struct keydir_shard *shard = shard_of(keydir, n);
        if (table[n].location)
            assert_true(is_there(shard, tag_of(n), table[n].location, table[n].expire_s));
        else
            assert_true(is_absent(shard, tag_of(n)));
        count += table[n].location != 0;
    }
    assert_true(keydir_count(keydir) == count);
    check_all(keydir);
}

static void test_it_says_what_a_plain_table_says_while_it_grows(void **state)
{
    (void)state;
    static struct reference table[NUMBERS];
    struct keydir keydir;
    memset(table, 0, sizeof table);
    assert_true(keydir_init(&keydir, 4, MUCH));
    for (uint32_t step = 1; step <= (SLOW_BUILD ? 10 : 40); step++) {
        uint32_t numbers = step < 20 ? NUMBERS / 20 * step : NUMBERS;
        for (uint32_t i = 0; i < numbers; i++)
            change_one(&keydir, table, rng_below(&rng, numbers), step < 25);
        compare_all(&keydir, table, NUMBERS);
    }
    keydir_release(&keydir);
}

static void test_its_invariants_hold_after_every_step(void **state)
{
    (void)state;
    static struct reference table[2000];
    struct keydir keydir;
    memset(table, 0, sizeof table);
    assert_true(keydir_init(&keydir, 1, MUCH));
    for (uint32_t i = 0; i < (SLOW_BUILD ? 4000 : 12000); i++) {
        uint32_t numbers = i / 3 + 1 < 2000 ? i / 3 + 1 : 2000;
        change_one(&keydir, table, rng_below(&rng, numbers), i < 8000);
        keydir_check(&keydir.shards[0]);
    }
    compare_all(&keydir, table, 2000);
    keydir_release(&keydir);
}

/* A million keys, of which each `one_in` expires, take at most `most` bytes each, and no more
 * while they become so many. */
static void fill_with_a_million(struct keydir *keydir, uint32_t one_in, double most)
{
    assert_true(keydir_init(keydir, 256, MUCH));
    for (uint64_t n = 1; n <= 1000000; n++) {
        uint32_t expire_s = one_in && n % one_in == 0 ? (uint32_t)n : 0;
        if (!insert(keydir, shard_of(keydir, n), tag_of(n), n, expire_s))
            fail();
        uint64_t bytes = atomic_load(&keydir->bytes);
        if (n >= 200000 && n % 100 == 0 && (double)bytes > most * (double)n)
            fail_msg("%llu keys take %llu bytes", (unsigned long long)n, (unsigned long long)bytes);
    }
    for (uint64_t n = 1; n <= 1000000; n++)
        if (!is_there(shard_of(keydir, n), tag_of(n), n,
                      one_in && n % one_in == 0 ? (uint32_t)n : 0))
            fail();
    check_all(keydir);
}

static void test_a_million_keys_take_20_bytes_each(void **state)
{
    (void)state;
    struct keydir keydir;
    fill_with_a_million(&keydir, 0, 20);
    assert_true(keydir_capacity(&keydir) > MUCH / 20);
    keydir_release(&keydir);
}

static void test_a_million_keys_that_expire_take_25_bytes_each(void **state)
{
    (void)state;
    struct keydir keydir;
    fill_with_a_million(&keydir, 1, 25);
    assert_true(keydir_capacity(&keydir) > MUCH / 25);
    keydir_release(&keydir);
    fill_with_a_million(&keydir, 1000, 25); /* whose shards all have such a key soon */
    keydir_release(&keydir);
}

/* One key that expires makes its shard's expiries count, in a shard that is growing too; without
 * it, they are given back when the shard is rebuilt. */
static void test_expiries_take_memory_only_where_there_are_some(void **state)
{
    (void)state;
    struct keydir keydir;
    assert_true(keydir_init(&keydir, 2, MUCH));
    struct keydir_shard *shard = &keydir.shards[0];
    uint64_t n = 0;
    for (; n < 100000 || atomic_load(&shard->size) == atomic_load(&shard->next_size); n++)
        assert_true(insert(&keydir, shard, tag_of(n + 1), n + 1, 0));
    uint64_t before = atomic_load(&keydir.bytes);
    assert_true(before % sizeof(struct keydir_bucket) == 0);
    n++;
    assert_true(insert(&keydir, shard, tag_of(n), n, 77));
    assert_true(atomic_load(&keydir.bytes) - before ==
                atomic_load(&shard->next_size) * KEYDIR_ENTRIES * sizeof(uint32_t));
    insert_all(&keydir, shard, n + 1, n + 100000, 0);
    n += 100000;
    uint64_t buckets = atomic_load(&shard->next_size) + atomic_load(&keydir.shards[1].size);
    assert_true(atomic_load(&keydir.bytes) ==
                buckets * sizeof(struct keydir_bucket) +
                    atomic_load(&shard->next_size) * KEYDIR_ENTRIES * sizeof(uint32_t));
    for (uint64_t k = 1; k <= n; k++) {
        struct keydir_ref ref;
        struct keydir_entry entry;
        assert_true(keydir_find(shard, tag_of(k), &ref, &entry));
        assert_true(entry.location == k && (entry.expire_s == 77) == (entry.expire_s != 0));
        if (entry.expire_s || k % 4)
            keydir_remove(shard, ref);
    }
    assert_true(shrink(&keydir, shard));
    buckets = atomic_load(&shard->size) + atomic_load(&keydir.shards[1].size);
    assert_true(atomic_load(&keydir.bytes) == buckets * sizeof(struct keydir_bucket));
    check_all(&keydir);
    keydir_release(&keydir);
}

static void test_reserved_room_is_as_small_and_takes_what_was_said(void **state)
{
    (void)state;
    struct keydir keydir;
    assert_true(keydir_init(&keydir, 1, MUCH));
    struct keydir_shard *shard = &keydir.shards[0];
    keydir_reserve(&keydir, shard, 100000);
    uint64_t bytes = atomic_load(&keydir.bytes);
    assert_true(bytes <= UINT64_C(26) * 100000);
    insert_all(&keydir, shard, 1, 100000, 0);
    assert_true(atomic_load(&keydir.bytes) == bytes);
    insert_all(&keydir, shard, 100001, 150000, 0);
    for (uint64_t n = 1; n <= 150000; n++)
        assert_true(is_there(shard, tag_of(n), n, 0));
    check_all(&keydir);
    keydir_release(&keydir);
}

/* Inserts until it is refused; the number that found room. */
static uint64_t fill_up(struct keydir *keydir)
{
    uint64_t n = 1;
    while (insert(keydir, shard_of(keydir, n), tag_of(n), n, 0)) {
        assert_true(n < 10000000);
        n++;
    }
    return n - 1;
}

static void test_a_full_keydir_refuses_and_keeps_what_it_has(void **state)
{
    (void)state;
    struct keydir keydir;
    assert_true(keydir_init(&keydir, 4, 1 << 20));
    uint64_t count = fill_up(&keydir);
    assert_true(count >= (1 << 20) / 30);
    assert_true(atomic_load(&keydir.bytes) <= 1 << 20);
    struct keydir_shard *shard = shard_of(&keydir, count + 1);
    keydir_lock(shard);
    assert_false(keydir_has_room(&keydir, shard));
    keydir_unlock(shard);
    assert_true(is_absent(shard, tag_of(count + 1)));
    for (uint64_t n = 1; n <= count; n++)
        assert_true(is_there(shard_of(&keydir, n), tag_of(n), n, 0));
    assert_true(keydir_count(&keydir) == count);
    check_all(&keydir);
    keydir_release(&keydir);
}

static void test_a_full_keydir_takes_a_key_for_each_that_leaves(void **state)
{
    (void)state;
    struct keydir keydir;
    assert_true(keydir_init(&keydir, 1, 1 << 18));
    struct keydir_shard *shard = &keydir.shards[0];
    uint64_t count = fill_up(&keydir);
    for (uint64_t n = 1; n <= 3 * count; n++) {
        struct keydir_ref ref;
        struct keydir_entry entry;
        assert_true(keydir_find(shard, tag_of(n), &ref, &entry));
        keydir_remove(shard, ref);
        assert_true(keydir_has_room(&keydir, shard));
        assert_true(insert(&keydir, shard, tag_of(n + count), n + count, 0));
        if (n % 97 == 0)
            keydir_check(shard);
    }
    for (uint64_t n = 3 * count + 1; n <= 4 * count; n++)
        assert_true(is_there(shard, tag_of(n), n, 0));
    assert_true(keydir_count(&keydir) == count);
    keydir_release(&keydir);
}

static void test_more_memory_makes_a_full_keydir_grow(void **state)
{
    (void)state;
    struct keydir keydir;
    assert_true(keydir_init(&keydir, 1, 1 << 20));
    atomic_store(&keydir.bytes_max, 1 << 18);
    uint64_t count = fill_up(&keydir);
    atomic_store(&keydir.bytes_max, 1 << 20);
    for (uint64_t n = count + 1; n <= 2 * count; n++)
        assert_true(insert(&keydir, &keydir.shards[0], tag_of(n), n, 0));
    for (uint64_t n = 1; n <= 2 * count; n++)
        assert_true(is_there(&keydir.shards[0], tag_of(n), n, 0));
    check_all(&keydir);
    keydir_release(&keydir);
}

static void test_what_is_removed_is_gone_and_nothing_else(void **state)
{
    (void)state;
    struct keydir keydir;
    struct keydir_ref ref;
    struct keydir_entry entry;
    assert_true(keydir_init(&keydir, 2, MUCH));
    for (uint64_t n = 0; n < 20000; n++)
        assert_true(insert(&keydir, shard_of(&keydir, n), tag_of(n), n + 1, (uint32_t)n));
    for (uint64_t n = 0; n < 20000; n += 2 + n % 3) {
        assert_true(keydir_find(shard_of(&keydir, n), tag_of(n), &ref, &entry));
        keydir_remove(shard_of(&keydir, n), ref);
    }
    check_all(&keydir);
    uint64_t removed = 0;
    for (uint64_t n = 0; n < 20000; n++) {
        if (n == removed) {
            assert_true(is_absent(shard_of(&keydir, n), tag_of(n)));
            removed += 2 + removed % 3;
        } else {
            assert_true(is_there(shard_of(&keydir, n), tag_of(n), n + 1, (uint32_t)n));
        }
    }
    keydir_release(&keydir);
}

static void remove_one(struct keydir_shard *shard, uint64_t n)
{
    struct keydir_ref ref;
    struct keydir_entry entry;
    assert_true(keydir_find(shard, tag_of(n), &ref, &entry));
    keydir_remove(shard, ref);
}

/* Inserts 1, 2, … at least `least` of them, until no growth is under way; answers the last. */
static uint64_t fill_shard(struct keydir *keydir, struct keydir_shard *shard, uint64_t least)
{
    uint64_t n = 0;
    while (n < least || atomic_load(&shard->frontier) != UINT32_MAX) {
        n++;
        assert_true(insert(keydir, shard, tag_of(n), n, (uint32_t)n));
    }
    return n;
}

static void test_a_half_empty_shard_shrinks_and_keeps_its_entries(void **state)
{
    (void)state;
    struct keydir keydir;
    assert_true(keydir_init(&keydir, 1, MUCH));
    struct keydir_shard *shard = &keydir.shards[0];
    uint64_t last = fill_shard(&keydir, shard, 100000);
    uint64_t before = atomic_load(&keydir.bytes);
    assert_false(shrink(&keydir, shard)); /* it is full */
    for (uint64_t n = 1; n <= last; n++)
        if (n % 10)
            remove_one(shard, n);
    assert_true(shrink(&keydir, shard));
    assert_true(atomic_load(&keydir.bytes) < before / 4);
    keydir_check(shard);
    for (uint64_t n = 10; n <= last; n += 10) {
        struct keydir_ref ref;
        struct keydir_entry entry;
        assert_true(keydir_find(shard, tag_of(n), &ref, &entry));
        assert_true(entry.location == n && entry.expire_s == n);
    }
    insert_all(&keydir, shard, 300000, 399999, 0);
    keydir_check(shard);
    keydir_release(&keydir);
}

static void test_a_keydir_over_its_limit_shrinks_as_far_as_it_can(void **state)
{
    (void)state;
    struct keydir keydir;
    assert_true(keydir_init(&keydir, 1, MUCH));
    struct keydir_shard *shard = &keydir.shards[0];
    uint64_t last = fill_shard(&keydir, shard, 20000);
    for (uint64_t n = 1; n <= last / 3; n++)
        remove_one(shard, n);
    assert_false(shrink(&keydir, shard));
    atomic_store(&keydir.bytes_max, 1000);
    assert_true(shrink(&keydir, shard));
    assert_false(shrink(&keydir, shard));
    keydir_check(shard);
    keydir_release(&keydir);
}

/* Uneven holes: entries are removed from a part of a shard only, as by a crawler that has come
 * so far. Tags keep the order of homes, so a range of tags is a range of buckets. */

#define PARTS 16

struct uneven {
    struct keydir keydir;
    struct keydir_shard *shard;
    bool *present; /* by number */
    uint64_t last;
};

static void uneven_init(struct uneven *uneven, uint64_t count)
{
    assert_true(keydir_init(&uneven->keydir, 1, MUCH));
    uneven->shard = &uneven->keydir.shards[0];
    uneven->present = calloc(8 * count + 1, sizeof *uneven->present);
    uneven->last = 0;
    assert_non_null(uneven->present);
}

static void uneven_release(struct uneven *uneven)
{
    free(uneven->present);
    keydir_release(&uneven->keydir);
}

static void uneven_add(struct uneven *uneven)
{
    uint64_t n = ++uneven->last;
    assert_true(insert(&uneven->keydir, uneven->shard, tag_of(n), n, n % 3 ? 0 : (uint32_t)n));
    uneven->present[n] = true;
}

static void uneven_remove(struct uneven *uneven, uint64_t n)
{
    remove_one(uneven->shard, n);
    uneven->present[n] = false;
}

/* Removes those in parts [from, to), but for one in `rare`. */
static void uneven_thin(struct uneven *uneven, uint32_t from, uint32_t to, uint64_t rare)
{
    for (uint64_t n = 1; n <= uneven->last; n++) {
        uint64_t part = (tag_of(n) >> 32) * PARTS >> 32;
        if (uneven->present[n] && part >= from && part < to && n % rare)
            uneven_remove(uneven, n);
    }
}

static void uneven_check(struct uneven *uneven)
{
    keydir_check(uneven->shard);
    for (uint64_t n = 1; n <= uneven->last; n++)
        if (uneven->present[n])
            assert_true(is_there(uneven->shard, tag_of(n), n, n % 3 ? 0 : (uint32_t)n));
        else
            assert_true(is_absent(uneven->shard, tag_of(n)));
}

/* Shrinks as far as it goes, with an insert or a removal after every few steps; it must come to
 * an end. */
static void uneven_shrink(struct uneven *uneven, uint32_t changes)
{
    uint64_t steps = 0, most = 64 + atomic_load(&uneven->shard->next_size);
    while (keydir_shrink(&uneven->keydir, uneven->shard)) {
        assert_true(++steps <= most);
        uint64_t n = 1 + rng_next(&rng) % uneven->last;
        if (!changes || steps % 4)
            continue;
        if (uneven->present[n])
            uneven_remove(uneven, n);
        for (uint32_t i = rng_below(&rng, changes); i > 0; i--)
            uneven_add(uneven);
    }
}

static void uneven_case(uint64_t count, uint32_t from, uint32_t to, uint64_t rare, uint32_t changes)
{
    struct uneven uneven;
    uneven_init(&uneven, count);
    while (uneven.last < count)
        uneven_add(&uneven);
    uneven_thin(&uneven, from, to, rare);
    uneven_shrink(&uneven, changes);
    uneven_check(&uneven);
    while (uneven.last < 2 * count) /* and it grows again, uneven as it is */
        uneven_add(&uneven);
    uneven_check(&uneven);
    uneven_thin(&uneven, 0, PARTS, UINT64_MAX);
    uneven_shrink(&uneven, 0);
    uneven_check(&uneven);
    assert_true(atomic_load(&uneven.keydir.bytes) < 20000); /* all memory counts as given back */
    uneven_release(&uneven);
}

static void test_a_shard_with_uneven_holes_shrinks_or_turns_back_and_loses_nothing(void **state)
{
    (void)state;
    const uint64_t rares[] = {UINT64_MAX, 7, 2};
    uint64_t most = SLOW_BUILD ? 20000 : 60000;
    for (uint64_t count = 100; count <= most; count += count / 3 + rng_below(&rng, 50))
        for (uint32_t from = 0; from < PARTS; from += 1 + rng_below(&rng, 3))
            for (uint32_t to = from + 1; to <= PARTS; to += 1 + rng_below(&rng, 5))
                uneven_case(count, from, to, rares[rng_below(&rng, 3)], rng_below(&rng, 40));
}

/* Case 01: what is left of a shard lies in its last part, and would be far too dense after a
 * shrink by its count alone. */
static void test_a_dense_rest_turns_a_shrink_back_until_it_has_thinned(void **state)
{
    (void)state;
    struct uneven uneven;
    uneven_init(&uneven, 50000);
    while (uneven.last < 50000)
        uneven_add(&uneven);
    uint64_t before = atomic_load(&uneven.keydir.bytes);
    uneven_thin(&uneven, 0, PARTS - 2, UINT64_MAX);
    uneven_shrink(&uneven, 0);
    uneven_check(&uneven);
    assert_true(uneven.shard->stash_count <= KEYDIR_STASH / 2);
    assert_true(atomic_load(&uneven.keydir.bytes) >
                before / 8); /* as dense as it was it cannot lie */
    uneven_thin(&uneven, PARTS - 2, PARTS, 20);
    uneven_shrink(&uneven, 0);
    uneven_check(&uneven);
    assert_true(atomic_load(&uneven.keydir.bytes) < before / 32);
    uneven_release(&uneven);
}

static uint64_t resident_bytes(void)
{
    unsigned long all = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu %lu", &all, &resident), 2);
    fclose(file);
    return resident * UINT64_C(4096);
}

static void test_memory_of_what_has_shrunk_is_given_back(void **state)
{
    (void)state;
    struct keydir keydir;
    const uint64_t count = 1000000;
    assert_true(keydir_init(&keydir, 4, MUCH));
    for (uint64_t n = 1; n <= count; n++)
        assert_true(insert(&keydir, shard_of(&keydir, n), tag_of(n), n, (uint32_t)n));
    uint64_t full = resident_bytes();
    for (uint64_t n = 1; n <= count; n++)
        remove_one(shard_of(&keydir, n), n);
    for (uint32_t i = 0; i < keydir.shard_count; i++)
        shrink(&keydir, &keydir.shards[i]);
    while (keydir_return_memory(&keydir))
        ;
    if (!SLOW_BUILD) /* sanitizers have memory of their own */
        assert_true(resident_bytes() < full - 20 * count);
    for (uint64_t n = 1; n <= 1000; n++)
        assert_true(insert(&keydir, shard_of(&keydir, n), tag_of(n), n, (uint32_t)n));
    check_all(&keydir);
    keydir_release(&keydir);
}

static void test_peek_finds_what_lies_in_a_bucket(void **state)
{
    (void)state;
    struct keydir keydir;
    uint64_t home = 0;
    assert_true(keydir_init(&keydir, 1, MUCH));
    for (uint64_t n = 1; n <= 10000; n++)
        assert_true(insert(&keydir, &keydir.shards[0], tag_of(n), n, 0));
    for (uint64_t n = 1; n <= 10000; n++) {
        bool elsewhere;
        uint64_t location = keydir_guess(&keydir.shards[0], tag_of(n), &elsewhere);
        assert_true(location == n || elsewhere);
        if (elsewhere)
            assert_true(keydir_guess_elsewhere(&keydir.shards[0], tag_of(n)) == n);
        home += location == n;
    }
    assert_true(home > 7000 && home < 10000);
    keydir_release(&keydir);
}

/* Scans. Locations are numbers of tags. */

#define SCANNED 30000

struct visits {
    uint32_t seen[SCANNED + 1];
};

static bool visit(void *context, struct keydir_entry *entry)
{
    struct visits *visits = context;
    assert_true(entry->location >= 1 && entry->location <= SCANNED);
    assert_true(entry->tag == (tag_of(entry->location) & KEYDIR_TAG));
    visits->seen[entry->location]++;
    return true;
}

static bool visit_and_thin(void *context, struct keydir_entry *entry)
{
    uint64_t *count = context;
    ++*count;
    entry->expire_s = 77;
    return entry->location % 3 != 0;
}

static void scan_all(struct keydir *keydir, uint32_t buckets, struct visits *visits)
{
    memset(visits, 0, sizeof *visits);
    for (uint32_t i = 0; i < keydir->shard_count; i++) {
        uint64_t cursor = 0;
        while (keydir_scan(&keydir->shards[i], &cursor, buckets, visit, visits))
            ;
    }
}

/* K5. */
static void test_a_glance_says_what_is_there_or_that_it_does_not_know(void **state)
{
    (void)state;
    struct keydir keydir;
    struct keydir_ref ref;
    struct keydir_entry entry = {0};
    bool present;
    uint64_t mark_lsn;
    const uint64_t stashed = 2 * KEYDIR_ENTRIES;
    assert_true(keydir_init(&keydir, 1, MUCH));
    struct keydir_shard *shard = &keydir.shards[0];
    for (uint64_t n = 0; n <= stashed; n++)
        assert_true(insert(&keydir, shard, alike(n), n + 1, (uint32_t)n));
    assert_int_equal(shard->stash_count, 1);
    for (uint64_t n = 0; n < stashed; n++) {
        assert_true(keydir_find_optimistic(shard, alike(n), &entry, &present, &mark_lsn) &&
                    present);
        assert_true(entry.location == n + 1 && entry.expire_s == n);
    }
    assert_false(keydir_find_optimistic(shard, alike(stashed), &entry, &present, &mark_lsn));
    keydir_lock(shard);
    assert_true(keydir_find(shard, alike(stashed), &ref, &entry));
    keydir_remove(shard, ref);
    assert_false(keydir_find_optimistic(shard, alike(0), &entry, &present, &mark_lsn));
    keydir_unlock(shard);
    assert_true(keydir_find_optimistic(shard, alike(0), &entry, &present, &mark_lsn) && present);
    assert_true(keydir_find_optimistic(shard, alike(stashed), &entry, &present, &mark_lsn) &&
                !present);
    keydir_release(&keydir);
}

#define STEADY   2000    /* keys that are always there */
#define VERSIONS 1000000 /* of the value of each */
#define READERS  3

struct glances {
    struct keydir_shard *shard;
    struct rng rng;
    atomic_bool *done;
    uint64_t answered;
};

/* Each steady key's expiry is the version that its location tells, whichever it is. */
static bool is_whole(uint64_t n, const struct keydir_entry *entry)
{
    return entry->tag == (tag_of(n) & KEYDIR_TAG) && entry->location / VERSIONS == n + 1 &&
           entry->expire_s == entry->location % VERSIONS;
}

static void *glance_about(void *context)
{
    struct glances *glances = context;
    do { /* once at least, however late this thread begins */
        struct keydir_entry entry;
        bool present;
        uint64_t mark_lsn;
        uint64_t n = rng_below(&glances->rng, STEADY), never = tag_of(n + (UINT64_C(1) << 40));
        if (keydir_find_optimistic(glances->shard, tag_of(n), &entry, &present, &mark_lsn)) {
            glances->answered++;
            if (!present || !is_whole(n, &entry))
                give_up("key %d is not what it ever was", (int)n);
        }
        if (keydir_find_optimistic(glances->shard, never, &entry, &present, &mark_lsn) && present)
            give_up("a key that never was is there");
    } while (!atomic_load(glances->done));
    return NULL;
}

static void set_steady(struct keydir *keydir, struct keydir_shard *shard, uint64_t n,
                       uint32_t version)
{
    struct keydir_ref ref;
    struct keydir_entry entry;
    uint64_t location = (n + 1) * VERSIONS + version;
    keydir_lock(shard);
    bool found = keydir_find(shard, tag_of(n), &ref, &entry);
    if (found)
        keydir_set(shard, ref, location, version);
    keydir_unlock(shard);
    if (!found)
        assert_true(insert(keydir, shard, tag_of(n), location, version));
}

static void remove_tag(struct keydir_shard *shard, uint64_t tag)
{
    struct keydir_ref ref;
    struct keydir_entry entry;
    keydir_lock(shard);
    assert_true(keydir_find(shard, tag, &ref, &entry));
    keydir_remove(shard, ref);
    keydir_unlock(shard);
}

/* Keys come, move others about, make the shard grow, leave, and let it shrink. */
static void write_about(struct keydir *keydir, struct keydir_shard *shard, uint32_t rounds)
{
    for (uint32_t round = 2; round < rounds + 2; round++) {
        for (uint64_t n = STEADY; n < 5 * STEADY; n++) {
            assert_true(insert(keydir, shard, tag_of(n), n, 0));
            set_steady(keydir, shard, rng_below(&rng, STEADY), round);
        }
        for (uint64_t n = STEADY; n < 5 * STEADY; n++)
            remove_tag(shard, tag_of(n));
        keydir_lock(shard);
        shrink(keydir, shard);
        keydir_unlock(shard);
    }
}

static void test_a_glance_beside_a_writer_sees_nothing_half_done(void **state)
{
    (void)state;
    struct keydir keydir;
    struct glances glances[READERS];
    pthread_t threads[READERS];
    atomic_bool done = false;
    uint64_t answered = 0;
    assert_true(keydir_init(&keydir, 1, MUCH));
    struct keydir_shard *shard = &keydir.shards[0];
    for (uint64_t n = 0; n < STEADY; n++)
        set_steady(&keydir, shard, n, 1);
    for (int i = 0; i < READERS; i++) {
        glances[i] = (struct glances){.shard = shard, .rng = {rng_next(&rng)}, .done = &done};
        assert_int_equal(pthread_create(&threads[i], NULL, glance_about, &glances[i]), 0);
    }
    write_about(&keydir, shard, SLOW_BUILD ? 3 : 20);
    atomic_store(&done, true);
    for (int i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        answered += glances[i].answered;
    }
    assert_true(answered > 0);
    check_all(&keydir);
    keydir_release(&keydir);
}

static void test_a_scan_sees_each_entry_once(void **state)
{
    (void)state;
    static struct visits visits;
    struct keydir keydir;
    assert_true(keydir_init(&keydir, 2, MUCH));
    for (uint64_t n = 1; n <= SCANNED; n++) {
        assert_true(insert(&keydir, shard_of(&keydir, n), tag_of(n), n, 0));
        if (n % 1777 && n != SCANNED)
            continue; /* among these are moments in the middle of a growth */
        scan_all(&keydir, n % 2 ? UINT32_MAX : 7, &visits);
        for (uint64_t k = 1; k <= SCANNED; k++)
            assert_int_equal(visits.seen[k], k <= n);
    }
    keydir_release(&keydir);
}

static void test_a_scan_of_all_shards_sees_each_entry_once(void **state)
{
    (void)state;
    static struct visits visits;
    struct keydir keydir;
    uint64_t cursor = 0, n = 0;
    assert_true(keydir_init(&keydir, 4, MUCH));
    while (n < SCANNED - 1000) {
        n++;
        assert_true(insert(&keydir, shard_of(&keydir, n), tag_of(n), n, 0));
    }
    uint64_t before = n;
    while (keydir_scan_all(&keydir, &cursor, NULL, visit, &visits))
        for (int i = 0; i < 50 && n < SCANNED; i++) {
            n++;
            assert_true(insert(&keydir, shard_of(&keydir, n), tag_of(n), n, 0));
        }
    assert_true(n > before);
    for (uint64_t k = 1; k <= n; k++)
        assert_true(visits.seen[k] == 1 || (k > before && visits.seen[k] == 0));
    keydir_release(&keydir);
}

static void test_a_scan_may_change_and_remove(void **state)
{
    (void)state;
    struct keydir keydir;
    uint64_t count = 0, cursor = 0;
    assert_true(keydir_init(&keydir, 1, MUCH));
    struct keydir_shard *shard = &keydir.shards[0];
    insert_all(&keydir, shard, 1, SCANNED, 5);
    while (keydir_scan(shard, &cursor, 100, visit_and_thin, &count))
        keydir_check(shard);
    assert_true(count == SCANNED);
    for (uint64_t n = 1; n <= SCANNED; n++)
        if (n % 3)
            assert_true(is_there(shard, tag_of(n), n, 77));
        else
            assert_true(is_absent(shard, tag_of(n)));
    assert_true(keydir_count(&keydir) == SCANNED - SCANNED / 3);
    keydir_check(shard);
    keydir_release(&keydir);
}

/* One scan in small pieces with inserts in between: entries move all the time. */
static void scan_while_inserting(struct keydir *keydir, uint64_t *n, uint32_t pause)
{
    static struct visits visits;
    struct keydir_shard *shard = &keydir->shards[0];
    uint32_t calls = 0;
    uint64_t before = *n, cursor = 0;
    memset(&visits, 0, sizeof visits);
    while (keydir_scan(shard, &cursor, 64, visit, &visits))
        for (uint32_t i = 0; ++calls % pause == 0 && i < 40 && *n < SCANNED; i++) {
            ++*n;
            assert_true(insert(keydir, shard, tag_of(*n), *n, 0));
        }
    for (uint64_t k = 1; k <= *n; k++)
        assert_true(visits.seen[k] == 1 || (k > before && visits.seen[k] == 0));
}

static void test_a_scan_sees_once_what_inserts_move(void **state)
{
    (void)state;
    struct keydir keydir;
    uint64_t n = 0;
    assert_true(keydir_init(&keydir, 1, MUCH));
    while (n < SCANNED) {
        n++;
        assert_true(insert(&keydir, &keydir.shards[0], tag_of(n), n, 0));
        scan_while_inserting(&keydir, &n, 1 + rng_below(&rng, 30));
    }
    keydir_release(&keydir);
}

static bool visit_and_keep_few(void *context, struct keydir_entry *entry)
{
    (void)context;
    return entry->location % 8 == 0;
}

/* At each stage of a shrink: entries move to the left while the scan goes to the right. */
static void test_a_scan_sees_once_what_a_shrink_moves(void **state)
{
    (void)state;
    static struct visits visits;
    for (uint32_t buckets = 16; buckets <= 1024; buckets *= 4) {
        struct keydir keydir;
        uint64_t cursor = 0;
        assert_true(keydir_init(&keydir, 1, MUCH));
        struct keydir_shard *shard = &keydir.shards[0];
        insert_all(&keydir, shard, 1, SCANNED, 0);
        keydir_scan(shard, &cursor, UINT32_MAX, visit_and_keep_few, NULL);
        while (keydir_shrink(&keydir, shard)) {
            uint32_t steps = 0;
            memset(&visits, 0, sizeof visits);
            while (keydir_scan(shard, &cursor, buckets, visit, &visits))
                if (++steps % 2 == 0)
                    keydir_shrink(&keydir, shard);
            for (uint64_t k = 1; k <= SCANNED; k++)
                assert_int_equal(visits.seen[k], k % 8 == 0);
        }
        keydir_check(shard);
        keydir_release(&keydir);
    }
}

static void test_a_scan_sees_and_removes_what_is_in_the_stash(void **state)
{
    (void)state;
    struct keydir keydir;
    uint64_t count = 0, cursor = 0;
    assert_true(keydir_init(&keydir, 1, MUCH));
    struct keydir_shard *shard = &keydir.shards[0];
    for (uint64_t n = 1; n <= 2 * KEYDIR_ENTRIES + 4; n++)
        assert_true(insert(&keydir, shard, alike(n), n, 0));
    assert_int_equal(shard->stash_count, 4);
    while (keydir_scan(shard, &cursor, 1, visit_and_thin, &count))
        ;
    assert_int_equal(count, 2 * KEYDIR_ENTRIES + 4);
    assert_int_equal(shard->count, count - count / 3);
    keydir_check(shard);
    keydir_release(&keydir);
}

static void test_a_shard_knows_when_the_first_of_its_entries_expires(void **state)
{
    (void)state;
    struct keydir keydir;
    struct keydir_ref ref;
    struct keydir_entry entry;
    assert_true(keydir_init(&keydir, 1, MUCH));
    struct keydir_shard *shard = &keydir.shards[0];
    assert_int_equal(atomic_load(&shard->expires_from_s), UINT32_MAX);
    assert_true(insert(&keydir, shard, tag_of(1), 1, 0));
    assert_int_equal(atomic_load(&shard->expires_from_s), UINT32_MAX);
    assert_true(insert(&keydir, shard, tag_of(2), 2, 700));
    assert_true(insert(&keydir, shard, tag_of(3), 3, 800));
    assert_int_equal(atomic_load(&shard->expires_from_s), 700);
    assert_true(keydir_find(shard, tag_of(1), &ref, &entry));
    keydir_set(shard, ref, 1, 600);
    assert_int_equal(atomic_load(&shard->expires_from_s), 600);
    keydir_set(shard, ref, 1, 0); /* a lower bound it stays */
    assert_int_equal(atomic_load(&shard->expires_from_s), 600);
    keydir_release(&keydir);
}

#define TEST(name) cmocka_unit_test_setup(test_##name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_keydir_finds_nothing),
        TEST(tags_with_the_same_two_buckets_are_told_apart),
        TEST(a_half_empty_shard_shrinks_and_keeps_its_entries),
        TEST(a_keydir_over_its_limit_shrinks_as_far_as_it_can),
        TEST(a_shard_with_uneven_holes_shrinks_or_turns_back_and_loses_nothing),
        TEST(a_dense_rest_turns_a_shrink_back_until_it_has_thinned),
        TEST(memory_of_what_has_shrunk_is_given_back),
        TEST(it_says_what_a_plain_table_says_while_it_grows),
        TEST(its_invariants_hold_after_every_step),
        TEST(a_million_keys_take_20_bytes_each),
        TEST(a_million_keys_that_expire_take_25_bytes_each),
        TEST(expiries_take_memory_only_where_there_are_some),
        TEST(reserved_room_is_as_small_and_takes_what_was_said),
        TEST(a_full_keydir_refuses_and_keeps_what_it_has),
        TEST(a_full_keydir_takes_a_key_for_each_that_leaves),
        TEST(more_memory_makes_a_full_keydir_grow),
        TEST(what_is_removed_is_gone_and_nothing_else),
        TEST(peek_finds_what_lies_in_a_bucket),
        TEST(a_glance_says_what_is_there_or_that_it_does_not_know),
        TEST(a_glance_beside_a_writer_sees_nothing_half_done),
        TEST(a_scan_sees_each_entry_once),
        TEST(a_scan_of_all_shards_sees_each_entry_once),
        TEST(a_scan_may_change_and_remove),
        TEST(a_scan_sees_once_what_inserts_move),
        TEST(a_scan_sees_once_what_a_shrink_moves),
        TEST(a_scan_sees_and_removes_what_is_in_the_stash),
        TEST(a_shard_knows_when_the_first_of_its_entries_expires),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
