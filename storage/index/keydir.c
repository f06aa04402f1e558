/* keydir.c: a hash table in cache lines that grows in place.
 *
 * A bucket is one cache line with four entries. A tag has a home bucket and one other bucket close
 * behind it (candidates_of); its entry lives in one of the two, or, nearly never, in the shard's
 * stash (K1). Each bucket counts the entries that are at home in it and live in their other bucket,
 * in four counters chosen by two bits of the tag (K2): where the counter is 0, one cache line has
 * told that a key is absent. An insert that finds both buckets full moves others between their two
 * buckets (the cuckoo way, breadth first), which works up to a load of 0.94.
 *
 * Expiries lie beside the buckets, four bytes for each entry, in rows of their own: a bit of the
 * entry tells whether it has one; only shards where some entry has one pay for their memory.
 *
 * Growth. 19 bytes a key leave no room for tables that double: a table grows by a sixth, and in
 * place. A tag's home is its high bits scaled to the number of buckets, so homes keep their order
 * when that number grows: going from the last home to the first, each moves to the right, into room
 * that is already free. The homes from `frontier` on are counted in the new size, those before it
 * in the old one (K3), and each insert moves the frontier a little. The other bucket lies at most
 * WINDOW behind the home, wrapped at the end of the table, so the entries of a range of homes are
 * close together. The shards begin with different sizes, so that they do not all grow at once.
 *
 * Shrinking, after many deletions or under a lower limit, is the same in reverse: the frontier
 * moves from the first home to the last, and each home to the left. The background thread does it,
 * some hundred entries at a time. Growth and shrinking have the same states, so either may turn
 * into the other at any frontier: an insert that finds a shrinking shard full lets it grow again.
 *
 * A resize counts on an even density, but after half a sweep the other half of a shard, as dense as
 * before, does not fit into half of the buckets. So a shrink looks at each range of homes before it
 * moves it; where that is too dense, or the stash fills, it turns back, and aims at a larger size
 * the next time. Entries that find no place go to the stash, which then takes the memory in which
 * they were gathered: a resize never fails in the middle.
 *
 * Reading without the lock. A shard's version is odd while its lock is held. A reader that finds it
 * even, and the same after reading, has read what was there when nobody wrote (K5). Writers store
 * with release and such readers load with acquire (on x86, plain moves): a reader that sees any of
 * a change sees the odd version too.
 *
 * The address space for all buckets is reserved at once and costs memory only as it is touched. The
 * shards share it in rows: a row is a block of 4 KiB, 64 buckets, of each shard in turn. As all
 * shards grow alike, rows fill one after the other, and those that every shard has filled can lie
 * in huge pages: then a lookup seldom misses the TLB. Behind them follow the rows of expiries: 4
 * KiB of each shard in turn, for four blocks.
 */
#include "storage/index/keydir.h"

#include "storage/index/keydir_internal.h"

#define GROW_EVERY 32 /* inserts between two steps: 8 homes for each, at 0.6 a home, outrun them */

void keydir_prefetch(const struct keydir_shard *shard, uint64_t tag)
{
    __builtin_prefetch(bucket_at(shard, home_of(shard, tag).number));
}

void keydir_prefetch_other(const struct keydir_shard *shard, uint64_t tag)
{
    struct home home = home_of(shard, tag);
    const struct keydir_bucket *bucket = bucket_at(shard, home.number);
    bool full = true;
    for (int i = 0; i < KEYDIR_ENTRIES; i++)
        full = full && load_word(&bucket->locations[i]);
    if (full)
        __builtin_prefetch(bucket_at(shard, other_of(home, tag)));
}

static int index_of(const struct keydir_bucket *bucket, uint64_t tag)
{
    for (int i = 0; i < KEYDIR_ENTRIES; i++)
        if (same_tag(load_word(&bucket->words[i]), tag) && load_word(&bucket->locations[i]))
            return i;
    return -1;
}

static uint64_t guess_in(const struct keydir_shard *shard, const struct keydir_bucket *bucket,
                         uint64_t tag)
{
    int i = index_of(bucket, tag);
    if (i < 0)
        return 0;
    if (load_word(&bucket->words[i]) & EXPIRES)
        __builtin_prefetch(expires_of(shard, bucket));
    return load_word(&bucket->locations[i]);
}

uint64_t keydir_guess(const struct keydir_shard *shard, uint64_t tag, bool *elsewhere)
{
    struct home home = home_of(shard, tag);
    const struct keydir_bucket *bucket = bucket_at(shard, home.number);
    uint64_t location = guess_in(shard, bucket, tag);
    *elsewhere = !location && counter(bucket, tag);
    if (*elsewhere)
        __builtin_prefetch(bucket_at(shard, other_of(home, tag)));
    return location;
}

uint64_t keydir_guess_elsewhere(const struct keydir_shard *shard, uint64_t tag)
{
    return guess_in(shard, bucket_at(shard, other_of(home_of(shard, tag), tag)), tag);
}

static bool find_stashed(struct keydir_shard *shard, uint64_t tag, struct keydir_ref *ref,
                         struct keydir_entry *entry)
{
    for (uint32_t i = 0; i < shard->stash_count; i++)
        if (same_tag(shard->stash[i].tag, tag)) {
            *ref = (struct keydir_ref){.bucket = NULL, .index = i};
            *entry = shard->stash[i];
            return true;
        }
    return false;
}

/* Where the tag is in *bucket; -1: in none. */
static int search(const struct keydir_shard *shard, uint64_t tag, struct keydir_bucket **bucket)
{
    struct home home = home_of(shard, tag);
    *bucket = bucket_at(shard, home.number);
    int i = index_of(*bucket, tag);
    if (i < 0 && counter(*bucket, tag)) {
        *bucket = bucket_at(shard, other_of(home, tag));
        i = index_of(*bucket, tag);
    }
    return i;
}

bool keydir_find_optimistic(const struct keydir_shard *shard, uint64_t tag,
                            struct keydir_entry *entry, bool *present, uint64_t *mark_lsn)
{
    struct keydir_bucket *bucket;
    uint32_t version = atomic_load_explicit(&shard->version, memory_order_acquire);
    int i = search(shard, tag, &bucket);
    *present = i >= 0;
    if (*present)
        *entry = get(shard, bucket, (uint32_t)i);
    else if (load_size(&shard->stash_count))
        return false;
    *mark_lsn = atomic_load_explicit(&shard->mark_lsn, memory_order_acquire);
    return version % 2 == 0 &&
           version == atomic_load_explicit(&shard->version, memory_order_relaxed);
}

bool keydir_find(struct keydir_shard *shard, uint64_t tag, struct keydir_ref *ref,
                 struct keydir_entry *entry)
{
    struct keydir_bucket *bucket;
    int i = search(shard, tag, &bucket);
    if (i < 0)
        return shard->stash_count && find_stashed(shard, tag, ref, entry);
    *ref = (struct keydir_ref){.bucket = bucket, .index = (uint32_t)i};
    *entry = get(shard, bucket, (uint32_t)i);
    return true;
}

static bool insert_or_stash(struct keydir_shard *shard, const struct keydir_entry *entry)
{
    if (insert_entry(shard, entry))
        return true;
    if (shard->stash_count >= KEYDIR_STASH)
        return false;
    shard->stash[shard->stash_count] = *entry;
    shard->stash[shard->stash_count++].tag &= KEYDIR_TAG;
    return true;
}

static bool full(const struct keydir_shard *shard)
{
    return (uint64_t)shard->count * 1000 >= (uint64_t)load_size(&shard->size) * FILL_MAX;
}

bool keydir_has_room(struct keydir *keydir, struct keydir_shard *shard)
{
    bool is_full = full(shard);
    /* A stash in use means bad luck or a late growth: hurry. */
    if (shard->shrinking && (is_full || shard->stash_count > KEYDIR_STASH / 2))
        shard->shrinking = false;
    if (!resized(shard) && is_full && !keydir_begin_growth(keydir, shard))
        return false;
    while (shard->stash_count > KEYDIR_STASH / 2)
        if (!(resized(shard) ? keydir_grow_step(shard) : keydir_begin_growth(keydir, shard)))
            return shard->stash_count < KEYDIR_STASH;
    return true;
}

static void note_expiry(struct keydir_shard *shard, uint32_t expire_s)
{
    if (expire_s && expire_s < atomic_load_explicit(&shard->expires_from_s, memory_order_relaxed))
        atomic_store_explicit(&shard->expires_from_s, expire_s, memory_order_relaxed);
}

bool keydir_insert(struct keydir *keydir, struct keydir_shard *shard,
                   const struct keydir_entry *entry)
{
    assert(entry->location);
    if (!keydir_has_room(keydir, shard) || !insert_or_stash(shard, entry))
        return false;
    shard->count++;
    note_expiry(shard, entry->expire_s);
    if (resized(shard) && !shard->shrinking &&
        (++shard->inserts % GROW_EVERY == 0 || shard->stash_count))
        keydir_grow_step(shard);
    return true;
}

void keydir_set(struct keydir_shard *shard, struct keydir_ref ref, uint64_t location,
                uint32_t expire_s)
{
    assert(location);
    note_expiry(shard, expire_s);
    if (!ref.bucket) {
        shard->stash[ref.index].location = location;
        shard->stash[ref.index].expire_s = expire_s;
        return;
    }
    const struct keydir_entry entry = {
        .tag = ref.bucket->words[ref.index], .location = location, .expire_s = expire_s};
    put(shard, ref.bucket, ref.index, &entry);
}

void keydir_remove(struct keydir_shard *shard, struct keydir_ref ref)
{
    shard->count--;
    if (ref.bucket)
        lift(shard, number_of(shard, ref.bucket), ref.index);
    else
        shard->stash[ref.index] = shard->stash[--shard->stash_count];
}
