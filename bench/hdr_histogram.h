/* hdr_histogram.h: how often each duration was seen, to one part in a thousand.
 *
 * Log-linear, as HdrHistogram is: durations below 2,048 ns have a bucket each; above that every
 * doubling is cut into 1,024 equal buckets, so a bucket is at most 1/1024 of its lower edge wide,
 * and the middle of it, which is reported, is off by at most 0.05 %. Minimum, maximum and sum are
 * kept exactly. Durations over 2^42 ns (73 minutes) are counted as that. */
#ifndef CACHECASK_BENCH_HDR_HISTOGRAM_H
#define CACHECASK_BENCH_HDR_HISTOGRAM_H

#include <stdint.h>

#define HDR_HISTOGRAM_SUB_BITS 10
#define HDR_HISTOGRAM_MAX_BITS 42
#define HDR_HISTOGRAM_BUCKETS                                                                      \
    ((HDR_HISTOGRAM_MAX_BITS - HDR_HISTOGRAM_SUB_BITS + 1) << HDR_HISTOGRAM_SUB_BITS)

struct hdr_histogram {
    uint64_t count;
    uint64_t sum_ns;
    uint64_t min_ns; /* of an empty histogram: UINT64_MAX */
    uint64_t max_ns;
    uint64_t buckets[HDR_HISTOGRAM_BUCKETS];
};

void hdr_histogram_init(struct hdr_histogram *histogram);

/* Counts `times` durations of `ns`: the replies of one read arrived together. */
void hdr_histogram_record(struct hdr_histogram *histogram, uint64_t ns, uint64_t times);

/* Adds what `from` has seen to `into`. */
void hdr_histogram_merge(struct hdr_histogram *into, const struct hdr_histogram *from);

/* The duration that a share of `quantile` (0 to 1) of all does not exceed; 0 when there are
 * none. */
uint64_t hdr_histogram_quantile(const struct hdr_histogram *histogram, double quantile);

/* 0 when there are none. */
double hdr_histogram_mean(const struct hdr_histogram *histogram);

#endif
