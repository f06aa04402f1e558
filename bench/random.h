/* random.h: random numbers from a seed, always the same ones. */
#ifndef CACHECASK_BENCH_RANDOM_H
#define CACHECASK_BENCH_RANDOM_H

#include <stdint.h>

struct random {
    uint64_t state;
};

/* A bijection of 64 bits in which every input bit reaches every output bit (splitmix64's). */
static inline uint64_t mix64(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline uint64_t random_next(struct random *random)
{
    random->state += 0x9e3779b97f4a7c15u;
    return mix64(random->state);
}

/* From 0 to 1, without 1. */
static inline double random_fraction(struct random *random)
{
    return (double)(random_next(random) >> 11) * 0x1p-53;
}

/* Maps 64 random bits to [0, n) by a multiplication: no division, and the bias is below 2^-32. */
static inline uint64_t scale64(uint64_t bits, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)bits * n) >> 64);
}

#endif
