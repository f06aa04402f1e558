/* distribution.h: which key comes next.
 *
 * A distribution draws key numbers from [0, n); a scan goes beyond. Drawing needs no table, so 100
 * million keys cost no more memory than one; nothing is allocated, and all threads draw from the
 * same const distribution, each with a chooser of its own. */
#ifndef CACHECASK_BENCH_DISTRIBUTION_H
#define CACHECASK_BENCH_DISTRIBUTION_H

#include <stdint.h>

#include "bench/random.h"

/* More keys than this and the scramble below would need 128-bit division. */
#define DISTRIBUTION_MAX      UINT32_MAX

/* Keys of scans are below this: 12 digits. */
#define DISTRIBUTION_SCAN_END UINT64_C(1000000000000)

enum distribution_kind {
    DISTRIBUTION_UNIFORM,
    DISTRIBUTION_ZIPF,
    DISTRIBUTION_SEQUENTIAL,
    DISTRIBUTION_SCAN,  /* zipf, interrupted by runs of keys that never come again */
    DISTRIBUTION_SHIFT, /* zipf, where other keys become the popular ones from time to time */
    DISTRIBUTION_TRACE  /* what a list says */
};

struct distribution_options {
    enum distribution_kind kind;
    double exponent;          /* ZIPF, SCAN and SHIFT: more than 0 */
    uint64_t scan_every;      /* SCAN: draws of a thread between two scans, */
    uint64_t scan_length;     /* and keys of each; together at least 1 */
    uint64_t shift_every;     /* SHIFT: draws of all threads; at least 1 */
    const uint32_t *sequence; /* TRACE: the keys, of which there is at least one */
    uint64_t sequence_len;
};

struct distribution {
    struct distribution_options options;
    uint64_t n;
    uint64_t stride;   /* coprime with n: rank × stride mod n puts hot ranks far apart */
    double area_first; /* bounds of the area that the sampler inverts, see distribution.c */
    double area_last;
    double accept;
};

/* Where one thread stands. */
struct chooser {
    struct random random;
    uint32_t thread; /* its index, */
    uint32_t threads;
    uint64_t drawn;
    uint64_t next; /* SEQUENTIAL and SCAN: the key, TRACE: the place in the list */
};

/* n is at least 1 and at most DISTRIBUTION_MAX. */
void distribution_init(struct distribution *distribution,
                       const struct distribution_options *options, uint64_t n);

/* Each thread begins a sequence at its share of the keys, and takes every threads-th of a list and
 * of the keys of scans. */
void chooser_init(struct chooser *chooser, const struct distribution *distribution, uint64_t seed,
                  uint32_t thread, uint32_t threads);

/* The rank, 1 for the most frequent, of a draw from a ZIPF distribution. */
uint64_t distribution_rank(const struct distribution *distribution, struct random *random);

/* The key number for a rank. */
uint64_t distribution_scramble(const struct distribution *distribution, uint64_t rank);

/* A key number. */
uint64_t distribution_draw(const struct distribution *distribution, struct chooser *chooser);

#endif
