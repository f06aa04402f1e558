/* hdr_histogram.c: see hdr_histogram.h for the shape of the buckets. */
#include "bench/hdr_histogram.h"

#include <math.h>
#include <string.h>

/* With e = how far ns must be shifted to have SUB_BITS + 1 bits, the bucket is e × 2^SUB_BITS plus
 * what is left after the shift. That value has its top bit set for e > 0, so the buckets of one e
 * follow those of the one before without a gap. */
static unsigned bucket_of(uint64_t ns)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(ns | 1);
    unsigned shift = bits > HDR_HISTOGRAM_SUB_BITS + 1 ? bits - (HDR_HISTOGRAM_SUB_BITS + 1) : 0;

    return (shift << HDR_HISTOGRAM_SUB_BITS) + (unsigned)(ns >> shift);
}

static uint64_t middle_of(unsigned bucket)
{
    unsigned shift = bucket >> HDR_HISTOGRAM_SUB_BITS;
    uint64_t low;

    if (shift <= 1) /* the first two runs of buckets are one nanosecond wide */
        return bucket;
    shift--;
    low = (uint64_t)(bucket - (shift << HDR_HISTOGRAM_SUB_BITS)) << shift;
    return low + (UINT64_C(1) << shift) / 2;
}

void hdr_histogram_init(struct hdr_histogram *histogram)
{
    memset(histogram, 0, sizeof *histogram);
    histogram->min_ns = UINT64_MAX;
}

void hdr_histogram_record(struct hdr_histogram *histogram, uint64_t ns, uint64_t times)
{
    const uint64_t limit = (UINT64_C(1) << HDR_HISTOGRAM_MAX_BITS) - 1;

    if (times == 0)
        return;
    histogram->count += times;
    histogram->sum_ns += ns * times;
    if (ns < histogram->min_ns)
        histogram->min_ns = ns;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
    histogram->buckets[bucket_of(ns < limit ? ns : limit)] += times;
}

void hdr_histogram_merge(struct hdr_histogram *into, const struct hdr_histogram *from)
{
    into->count += from->count;
    into->sum_ns += from->sum_ns;
    if (from->min_ns < into->min_ns)
        into->min_ns = from->min_ns;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
    for (unsigned i = 0; i < HDR_HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

uint64_t hdr_histogram_quantile(const struct hdr_histogram *histogram, double quantile)
{
    uint64_t rank = (uint64_t)ceil(quantile * (double)histogram->count);
    uint64_t seen = 0;

    if (histogram->count == 0)
        return 0;
    if (rank < 1)
        rank = 1;
    for (unsigned i = 0; i < HDR_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= rank) {
            uint64_t ns = middle_of(i);

            /* The middle of the outermost buckets may lie beyond what was really seen. */
            if (ns < histogram->min_ns)
                return histogram->min_ns;
            return ns < histogram->max_ns ? ns : histogram->max_ns;
        }
    }
    return histogram->max_ns;
}

double hdr_histogram_mean(const struct hdr_histogram *histogram)
{
    return histogram->count ? (double)histogram->sum_ns / (double)histogram->count : 0;
}
