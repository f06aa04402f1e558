/* keydir_memory.c: the memory of the keydir: address space, rows, huge pages, and its limit. */
#include <string.h>
#include <sys/mman.h>

#include "storage/base/memory.h"
#include "storage/index/keydir_internal.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

#define HUGE_PAGE   (UINT64_C(2) << 20)
#define FILL_SURE   3280 /* as FILL_MAX: a little less than all shards together surely take */
#define RETURN_ROWS 4    /* given back at a time: so long nobody can grow */

void keydir_use_rows(struct keydir_shard *shard, uint64_t size, bool expiring)
{
    struct keydir *keydir = shard->keydir;
    uint32_t rows = (uint32_t)((size + BLOCK - 1) / BLOCK);
    uint32_t expires_rows = (uint32_t)((size + EXPIRES_BLOCK - 1) / EXPIRES_BLOCK);
    pthread_mutex_lock(&keydir->memory_lock);
    if (rows > keydir->rows_used)
        keydir->rows_used = rows;
    if (expiring && expires_rows > keydir->expires_rows_used)
        keydir->expires_rows_used = expires_rows;
    store_size(&shard->next_size, (uint32_t)size);
    shard->expiring = expiring;
    pthread_mutex_unlock(&keydir->memory_lock);
}

/* From now on, or until it has shrunk, the shard's expiries count. They are not asked whether there
 * is room: what they take too much the next growth does not find. */
void keydir_change_expiring(struct keydir_shard *shard, bool expiring)
{
    uint32_t size = load_size(&shard->next_size);
    uint64_t bytes = (uint64_t)size * EXPIRES_LINE;
    keydir_use_rows(shard, size, expiring);
    if (expiring) {
        atomic_fetch_add(&shard->keydir->bytes, bytes);
        atomic_fetch_add(&shard->keydir->expiring_shards, 1);
    } else {
        atomic_fetch_sub(&shard->keydir->bytes, bytes);
        atomic_fetch_sub(&shard->keydir->expiring_shards, 1);
    }
}

/* Reserves address space for `size` bytes, from the start of a huge page on. */
static bool reserve(struct keydir *keydir, uint64_t size)
{
    keydir->arena_size = size + HUGE_PAGE;
    keydir->arena = mmap(NULL, keydir->arena_size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (keydir->arena == MAP_FAILED)
        return false;
    memory_leave_out(keydir->arena, keydir->arena_size);
    keydir->rows = (char *)(((uintptr_t)keydir->arena + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    return true;
}

bool keydir_init(struct keydir *keydir, uint32_t shard_count, uint64_t bytes_max)
{
    assert((shard_count & (shard_count - 1)) == 0);
    uint64_t row_size = shard_count * BLOCK * LINE;
    *keydir = (struct keydir){.shard_count = shard_count};
    /* Shards fill evenly, so none reaches twice its share. A row of expiries is for four rows. */
    keydir->row_count = ((uint32_t)(2 * bytes_max / row_size) + 7) / 4 * 4;
    if (!reserve(keydir, keydir->row_count * row_size / 4 * 5))
        return false;
    keydir->expires = keydir->rows + keydir->row_count * row_size;
    keydir->shards = aligned_alloc(64, sizeof *keydir->shards * shard_count);
    if (!keydir->shards) {
        munmap(keydir->arena, keydir->arena_size);
        return false;
    }
    memset(keydir->shards, 0, sizeof *keydir->shards * shard_count);
    atomic_store(&keydir->bytes_max, bytes_max);
    pthread_mutex_init(&keydir->memory_lock, NULL);
    for (uint32_t i = 0; i < shard_count; i++) {
        struct keydir_shard *shard = &keydir->shards[i];
        pthread_mutex_init(&shard->lock, NULL);
        shard->stash = shard->own_stash;
        shard->stash_room = KEYDIR_STASH;
        atomic_store(&shard->expires_from_s, UINT32_MAX);
        shard->blocks = (struct keydir_bucket *)keydir->rows + (size_t)i * BLOCK;
        shard->row_shift = (uint32_t)__builtin_ctzll(row_size / LINE);
        shard->expires = (uint32_t *)keydir->expires + (size_t)i * EXPIRES_BLOCK * KEYDIR_ENTRIES;
        shard->keydir = keydir;
        store_size(&shard->size, SIZE_MIN + i % 11);
        keydir_use_rows(shard, SIZE_MIN + i % 11, false);
        store_size(&shard->frontier, NOT_RESIZED);
        atomic_fetch_add(&keydir->bytes, load_size(&shard->size) * LINE);
    }
    return true;
}

void keydir_release(struct keydir *keydir)
{
    for (uint32_t i = 0; i < keydir->shard_count; i++) {
        pthread_mutex_destroy(&keydir->shards[i].lock);
        keydir_free_stash(&keydir->shards[i]);
    }
    pthread_mutex_destroy(&keydir->memory_lock);
    free(keydir->shards);
    munmap(keydir->arena, keydir->arena_size);
}

uint64_t keydir_count(struct keydir *keydir)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < keydir->shard_count; i++) {
        struct keydir_shard *shard = &keydir->shards[i];
        keydir_lock(shard);
        count += shard->count;
        keydir_unlock(shard);
    }
    return count;
}

uint64_t keydir_capacity(const struct keydir *keydir)
{
    uint64_t expiring = atomic_load(&keydir->expiring_shards);
    uint64_t row = keydir->shard_count * LINE + expiring * EXPIRES_LINE; /* a bucket of each */
    return atomic_load(&keydir->bytes_max) / row * keydir->shard_count * FILL_SURE / 1000;
}

uint64_t keydir_size_max(const struct keydir *keydir)
{
    uint64_t size = (uint64_t)keydir->row_count * BLOCK;
    return size < UINT32_MAX / 2 ? size : UINT32_MAX / 2;
}

bool keydir_take_bytes(struct keydir *keydir, uint64_t bytes)
{
    uint64_t max = atomic_load_explicit(&keydir->bytes_max, memory_order_relaxed);
    if (atomic_fetch_add(&keydir->bytes, bytes) + bytes <= max)
        return true;
    atomic_fetch_sub(&keydir->bytes, bytes);
    return false;
}

void keydir_reserve(struct keydir *keydir, struct keydir_shard *shard, uint64_t count)
{
    uint64_t old = load_size(&shard->size);
    uint64_t size = count * 1000 / (FILL_MAX - 100) + 1;
    assert(shard->count == 0 && !shard->expiring && load_size(&shard->frontier) == NOT_RESIZED);
    if (size <= old || size > keydir_size_max(keydir) ||
        !keydir_take_bytes(keydir, (size - old) * LINE))
        return;
    store_size(&shard->size, (uint32_t)size);
    keydir_use_rows(shard, size, false);
}

/* Lets the first `bytes` of an area lie in huge pages; *huge is what does so far. */
static void use_huge_pages(char *area, uint64_t *huge, uint64_t bytes)
{
    bytes &= ~(HUGE_PAGE - 1);
    if (bytes < *huge) /* they have shrunk: what is used again must not come huge */
        madvise(area + bytes, *huge - bytes, MADV_NOHUGEPAGE);
    if (bytes > *huge) {
        /* What is not there yet will come huge, what is there is moved; refusals cost speed. */
        madvise(area + *huge, bytes - *huge, MADV_HUGEPAGE);
        madvise(area + *huge, bytes - *huge, MADV_COLLAPSE);
    }
    *huge = bytes;
}

void keydir_use_huge_pages(struct keydir *keydir)
{
    uint64_t full = UINT64_MAX; /* buckets that all shards have */
    for (uint32_t i = 0; i < keydir->shard_count; i++) {
        uint64_t size = load_size(&keydir->shards[i].size);
        full = size < full ? size : full;
    }
    uint64_t row_size = keydir->shard_count * BLOCK * LINE;
    bool expiring = atomic_load(&keydir->expiring_shards) == keydir->shard_count;
    use_huge_pages(keydir->rows, &keydir->huge_bytes, full / BLOCK * row_size);
    use_huge_pages(keydir->expires, &keydir->huge_expires,
                   expiring ? full / EXPIRES_BLOCK * row_size : 0);
}

/* Rows behind the last that a shard has. With memory_lock held: so no shard begins to grow. */
static uint32_t rows_needed(const struct keydir *keydir, uint32_t block, bool expiring)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < keydir->shard_count; i++) {
        const struct keydir_shard *shard = &keydir->shards[i];
        uint32_t size = load_size(&shard->next_size);
        if (size > most && (!expiring || shard->expiring))
            most = size;
    }
    return (most + block - 1) / block;
}

static bool return_rows(struct keydir *keydir, char *area, uint32_t *used, uint32_t needed)
{
    uint64_t row_size = (uint64_t)keydir->shard_count * BLOCK * LINE;
    uint32_t rows = *used > needed ? *used - needed : 0;
    rows = rows < RETURN_ROWS ? rows : RETURN_ROWS;
    if (rows == 0)
        return false;
    *used -= rows;
    madvise(area + *used * row_size, rows * row_size, MADV_DONTNEED);
    return *used > needed;
}

bool keydir_return_memory(struct keydir *keydir)
{
    pthread_mutex_lock(&keydir->memory_lock);
    bool more =
        return_rows(keydir, keydir->rows, &keydir->rows_used, rows_needed(keydir, BLOCK, false));
    more |= return_rows(keydir, keydir->expires, &keydir->expires_rows_used,
                        rows_needed(keydir, EXPIRES_BLOCK, true));
    pthread_mutex_unlock(&keydir->memory_lock);
    return more;
}
