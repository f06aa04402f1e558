/* random.h: random numbers that are the same in every run. */
#ifndef CACHECASK_TESTS_UNIT_STORAGE_SUPPORT_RANDOM_H
#define CACHECASK_TESTS_UNIT_STORAGE_SUPPORT_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Random numbers (splitmix64). */
struct rng {
    uint64_t state;
};

uint64_t rng_next(struct rng *rng);
uint32_t rng_below(struct rng *rng, uint32_t limit);
bool rng_one_in(struct rng *rng, uint32_t sides);

/* For store_options.random: the same bytes in every run, if the order of calls is the same. */
void random_bytes(void *bytes, size_t len);

/* Bytes that differ for each seed and each position. */
void fill_pattern(char *data, size_t len, uint64_t seed);

#endif
