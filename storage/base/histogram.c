/* histogram.c: log-linear buckets: values below 4 exactly, then four for each power of two. */
#include "storage/base/histogram.h"

static uint32_t bucket_of(uint64_t us)
{
    if (us < 4)
        return (uint32_t)us;
    uint32_t exponent = 63 - (uint32_t)__builtin_clzll(us);
    uint32_t bucket = (exponent - 1) * 4 + (uint32_t)(us >> (exponent - 2) & 3);
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static uint64_t highest_of(uint32_t bucket)
{
    if (bucket < 4)
        return bucket;
    uint32_t exponent = bucket / 4 + 1;
    return ((UINT64_C(4) + (bucket & 3) + 1) << (exponent - 2)) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t us)
{
    atomic_fetch_add_explicit(&histogram->counts[bucket_of(us)], 1, memory_order_relaxed);
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        total += atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
    double share = (double)total * percent / 100;
    uint64_t wanted = (uint64_t)share + (share > (double)(uint64_t)share);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS && total; i++) {
        seen += atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
        if (seen >= wanted && seen > 0)
            return highest_of(i);
    }
    return 0;
}
