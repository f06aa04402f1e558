/* workload.h: what the keys and values are.
 *
 * Keys are numbered from 0. A key is the prefix and its number, padded with zeros to the key's
 * size, or it is what a trace says. Everything about a key follows from its number, the value seed
 * and the sizes asked for: its length, its value's length and every byte of its value. So another
 * process, or the same one after a crash of the server, can tell whether a value is right, and
 * setting a key again writes the same value. */
#ifndef CACHECASK_BENCH_WORKLOAD_H
#define CACHECASK_BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORKLOAD_KEY_MAX   250
#define WORKLOAD_VALUE_MAX (UINT32_C(1) << 30)

/* A prime, so that a piece of a value that comes from the wrong page or block of a file does not
 * look like the right one; small, so that making values does not empty the processor's cache. */
#define WORKLOAD_POOL_SIZE 65521

struct access_trace;

struct size_range {
    uint32_t min;
    uint32_t max;
};

struct workload {
    uint64_t key_count;
    uint64_t value_seed;
    uint32_t expire_s;
    struct size_range key_size;
    struct size_range value_size;
    const struct access_trace *trace; /* what the keys and perhaps the sizes come from, or NULL */
    bool numeric;                     /* every value is a number of ten digits, for incr */
    char prefix[WORKLOAD_KEY_MAX + 1];
    size_t prefix_len;
    char zeros[WORKLOAD_KEY_MAX + 1]; /* the prefix, then zeros: what every key starts as */
    char pool[WORKLOAD_POOL_SIZE];
};

/* Digits of a key's number. */
unsigned workload_digits(uint64_t key);

/* Takes the fields above `zeros` as they are set and fills the rest. The smallest key must have
 * room for the prefix and the digits of the highest number, unless keys come from a trace. */
void workload_prepare(struct workload *workload);

/* Writes the key to `out`, which has room for WORKLOAD_KEY_MAX bytes; returns its length. */
size_t workload_key(const struct workload *workload, uint64_t key, char *out);

size_t workload_value_size(const struct workload *workload, uint64_t key);

/* Writes the `len` bytes from `offset` of the key's value to `out`. */
void workload_value(const struct workload *workload, uint64_t key, size_t offset, char *out,
                    size_t len);

/* Whether `in` is what workload_value would write. */
bool workload_value_matches(const struct workload *workload, uint64_t key, size_t offset,
                            const char *in, size_t len);

#endif
