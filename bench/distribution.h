/* distribution.h: which key comes next.
 *
 * A distribution draws key numbers from [0, n). Drawing needs no table, so 100 million keys cost
 * no more memory than one; nothing is allocated and nothing is shared, so each thread draws from
 * the same const distribution with its own random state. */
#ifndef BENCH_DISTRIBUTION_H
#define BENCH_DISTRIBUTION_H

#include <stdint.h>

/* More keys than this and the scramble below would need 128-bit division. */
#define DISTRIBUTION_MAX UINT32_MAX

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

/* Maps 64 random bits to [0, n) by a multiplication: no division, and the bias is below 2^-32. */
static inline uint64_t scale64(uint64_t bits, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)bits * n) >> 64);
}

enum distribution_kind { DISTRIBUTION_UNIFORM, DISTRIBUTION_ZIPF, DISTRIBUTION_SEQUENTIAL };

struct distribution {
    enum distribution_kind kind;
    uint64_t n;
    uint64_t stride; /* coprime with n: rank × stride mod n puts hot ranks far apart */
    double exponent;
    double area_first; /* bounds of the area that the sampler inverts, see distribution.c */
    double area_last;
    double accept;
};

/* n is at least 1 and at most DISTRIBUTION_MAX. The exponent counts for ZIPF only, and is > 0. */
void distribution_init(struct distribution *distribution, enum distribution_kind kind, uint64_t n,
                       double exponent);

/* The rank, 1 for the most frequent, of a draw from a ZIPF distribution. */
uint64_t distribution_rank(const struct distribution *distribution, struct random *random);

/* The key number for a rank. */
uint64_t distribution_scramble(const struct distribution *distribution, uint64_t rank);

/* A key number. *cursor is where SEQUENTIAL stands; the others leave it alone. */
uint64_t distribution_draw(const struct distribution *distribution, struct random *random,
                           uint64_t *cursor);

#endif
