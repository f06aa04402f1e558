/* histogram.h: latencies in microseconds, counted by any thread, read as percentiles.
 *
 * Four buckets for each power of two: a percentile is at most a quarter too high.
 */
#ifndef CACHECASK_STORAGE_BASE_HISTOGRAM_H
#define CACHECASK_STORAGE_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_BUCKETS 160

struct histogram {
    _Atomic uint64_t counts[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t us);

/* The time that `percent` of all did not exceed, rounded up; 0 when nothing was counted. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

#endif
