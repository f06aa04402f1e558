/* tally.h: what a thread has counted. */
#ifndef CACHECASK_BENCH_TALLY_H
#define CACHECASK_BENCH_TALLY_H

#include <stdint.h>

#include "bench/codec.h"
#include "bench/hdr_histogram.h"

#define TALLY_NO_KEY UINT64_MAX

struct tally {
    uint64_t requests;   /* that were answered; a multiget is one */
    uint64_t operations; /* of them: keys that were asked for or changed */
    uint64_t hits;       /* values that came, keys that incr, touch or delete found */
    uint64_t misses;
    uint64_t stored;
    uint64_t filled;        /* of them: because a get had missed the key */
    uint64_t errors;        /* error replies, refused sets, replies out of step, lost connections */
    uint64_t wrong;         /* values that are not their key's; verify mode only */
    uint64_t unsent;        /* requests that were due by --rate and never went out */
    uint64_t bytes_in;      /* received */
    uint64_t bytes_out;     /* sent */
    uint64_t first_missing; /* a key that was not there, or TALLY_NO_KEY; of gets: verify, fill */
    char first_error[256];
    struct hdr_histogram latency[REQUEST_KINDS];
};

void tally_init(struct tally *tally);

/* Forgets what was counted, but for errors, wrong values and missing keys: the warm-up is over. */
void tally_restart(struct tally *tally);

void tally_merge(struct tally *into, const struct tally *from);

/* Counts an error and keeps the message of the first. */
void tally_error(struct tally *tally, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same for a wrong value. */
void tally_wrong(struct tally *tally, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
