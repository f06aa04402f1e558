/* random.c: see random.h. */
#include "tests/unit/storage/support/random.h"

#include <stdatomic.h>
#include <string.h>

uint64_t rng_next(struct rng *rng)
{
    uint64_t z = rng->state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

uint32_t rng_below(struct rng *rng, uint32_t limit)
{
    return (uint32_t)((rng_next(rng) >> 32) * limit >> 32);
}

bool rng_one_in(struct rng *rng, uint32_t sides)
{
    return rng_below(rng, sides) == 0;
}

void random_bytes(void *bytes, size_t len)
{
    static _Atomic uint64_t calls;
    struct rng rng = {.state = atomic_fetch_add(&calls, 1) * 1000003};
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)rng_next(&rng);
}

void fill_pattern(char *data, size_t len, uint64_t seed)
{
    struct rng rng = {.state = seed};
    for (size_t i = 0; i < len; i += 8) {
        uint64_t word = rng_next(&rng);
        memcpy(data + i, &word, len - i < 8 ? len - i : 8);
    }
}
