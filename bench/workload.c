/* workload.c: keys and values from numbers.
 *
 * A value is 8 bytes of the key's hash, then a piece of a pool of random bytes that starts where
 * the hash says and wraps around. The hash tells the values of any two keys apart; the pool makes
 * a value as cheap as a copy. Values are binary and contain line ends, as real ones may.
 */
#include "bench/workload.h"

#include <string.h>

#include "bench/access_trace.h"
#include "bench/random.h"

#define TAG_SIZE 8

static const char number_text[] = "1000000000";

/* One pair of digits a step: half the divisions. */
static const char digit_pairs[] = "00010203040506070809101112131415161718192021222324"
                                  "25262728293031323334353637383940414243444546474849"
                                  "50515253545556575859606162636465666768697071727374"
                                  "75767778798081828384858687888990919293949596979899";

static uint64_t key_hash(const struct workload *workload, uint64_t key)
{
    return mix64((key + 1) * 0x9e3779b97f4a7c15u ^ mix64(workload->value_seed));
}

static size_t pick_size(const struct size_range *range, uint64_t hash)
{
    if (range->min == range->max)
        return range->min;
    return range->min + (size_t)scale64(hash, (uint64_t)range->max - range->min + 1);
}

unsigned workload_digits(uint64_t key)
{
    unsigned digits = 1;

    for (; key >= 10; key /= 10)
        digits++;
    return digits;
}

void workload_prepare(struct workload *workload)
{
    struct random random = {workload->value_seed};

    workload->prefix_len = strlen(workload->prefix);
    memset(workload->zeros, '0', sizeof workload->zeros);
    memcpy(workload->zeros, workload->prefix, workload->prefix_len);
    for (size_t i = 0; i < WORKLOAD_POOL_SIZE; i++)
        workload->pool[i] = (char)(random_next(&random) >> 56);
}

static size_t request_log_key(const struct access_trace *trace, uint64_t key, char *out)
{
    const struct access_trace_key *found = &trace->keys[key];

    memcpy(out, trace->text + found->offset, found->len);
    return found->len;
}

static size_t numbered_key(const struct workload *workload, uint64_t key, char *out)
{
    size_t len = pick_size(&workload->key_size, key_hash(workload, ~key));
    char *at = out + len;

    memcpy(out, workload->zeros, len);
    while (key >= 10) {
        const char *pair = digit_pairs + 2 * (key % 100);

        key /= 100;
        *--at = pair[1];
        *--at = pair[0];
    }
    if (key > 0)
        *--at = (char)('0' + key);
    return len;
}

size_t workload_key(const struct workload *workload, uint64_t key, char *out)
{
    if (workload->trace)
        return request_log_key(workload->trace, key, out);
    return numbered_key(workload, key, out);
}

size_t workload_value_size(const struct workload *workload, uint64_t key)
{
    if (workload->numeric)
        return sizeof number_text - 1;
    if (workload->trace && workload->trace->keys[key].size != ACCESS_TRACE_NO_SIZE)
        return workload->trace->keys[key].size;
    if (workload->value_size.min == workload->value_size.max)
        return workload->value_size.min;
    return pick_size(&workload->value_size, key_hash(workload, key));
}

/* A piece of a value that lies in one place of memory: what is at `offset`, and how far it goes. */
struct piece {
    const char *data;
    size_t len;
};

static struct piece value_piece(const struct workload *workload, const uint64_t *hash,
                                size_t offset, size_t len)
{
    struct piece piece;
    size_t room;

    if (workload->numeric) {
        piece.data = number_text + offset;
        room = sizeof number_text - 1 - offset;
    } else if (offset < TAG_SIZE) {
        piece.data = (const char *)hash + offset;
        room = TAG_SIZE - offset;
    } else {
        size_t at = ((*hash >> 32) + offset) % WORKLOAD_POOL_SIZE;

        piece.data = workload->pool + at;
        room = WORKLOAD_POOL_SIZE - at;
    }
    piece.len = len < room ? len : room;
    return piece;
}

void workload_value(const struct workload *workload, uint64_t key, size_t offset, char *out,
                    size_t len)
{
    uint64_t hash = key_hash(workload, key);

    while (len > 0) {
        struct piece piece = value_piece(workload, &hash, offset, len);

        memcpy(out, piece.data, piece.len);
        out += piece.len;
        offset += piece.len;
        len -= piece.len;
    }
}

bool workload_value_matches(const struct workload *workload, uint64_t key, size_t offset,
                            const char *in, size_t len)
{
    uint64_t hash = key_hash(workload, key);

    while (len > 0) {
        struct piece piece = value_piece(workload, &hash, offset, len);

        if (memcmp(in, piece.data, piece.len) != 0)
            return false;
        in += piece.len;
        offset += piece.len;
        len -= piece.len;
    }
    return true;
}
