/* distribution.c: uniform, sequential, zipf and what is made of it, and lists.
 *
 * Zipf: rank k has probability proportional to k^-s. It is drawn by rejection-inversion (Hörmann
 * and Derflinger, 1996): k^-s is the height of bar k of a histogram; the smooth curve x^-s has an
 * integral that can be inverted, so a uniform draw of area gives an x under the curve, and the
 * nearest whole k is taken if the area drawn also lies in bar k. Few draws are rejected, whatever n
 * and s are, and a test without logarithms accepts most of the others.
 *
 * The integral of x^-s is (x^(1-s) - 1) / (1-s), and ln x for s = 1. Near s = 1 the quotient loses
 * its digits, so both directions go through expm1 and log1p, whose quotients tend to 1.
 *
 * A scan counts up from n and so meets no key twice, nor one that zipf draws. A shift moves all
 * ranks on by the golden section of n: the keys that become popular are the furthest from having
 * been so, and it takes many shifts until some are popular again.
 */
#include "bench/distribution.h"

#include <math.h>
#include <stdbool.h>

/* (e^x - 1) / x */
static double expm1_over(double x)
{
    return fabs(x) > 1e-8 ? expm1(x) / x : 1 + x / 2;
}

/* ln(1 + x) / x */
static double log1p_over(double x)
{
    return fabs(x) > 1e-8 ? log1p(x) / x : 1 - x / 2;
}

static double height(const struct distribution *distribution, double x)
{
    return exp(-distribution->options.exponent * log(x));
}

static double area(const struct distribution *distribution, double x)
{
    double log_x = log(x);

    return expm1_over((1 - distribution->options.exponent) * log_x) * log_x;
}

static double area_inverse(const struct distribution *distribution, double area_x)
{
    double t = area_x * (1 - distribution->options.exponent);

    if (t < -1)
        t = -1; /* a rounding error beyond the pole */
    return exp(log1p_over(t) * area_x);
}

static uint64_t greatest_common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* The golden section of n, or the next number above it that makes the scramble a bijection. */
static uint64_t choose_stride(uint64_t n)
{
    uint64_t stride = (uint64_t)((double)n * 0.6180339887498949);

    if (stride == 0)
        stride = 1;
    while (greatest_common_divisor(stride, n) != 1)
        stride++;
    return stride;
}

static bool uses_zipf(enum distribution_kind kind)
{
    return kind == DISTRIBUTION_ZIPF || kind == DISTRIBUTION_SCAN || kind == DISTRIBUTION_SHIFT;
}

void distribution_init(struct distribution *distribution,
                       const struct distribution_options *options, uint64_t n)
{
    *distribution = (struct distribution){.options = *options, .n = n};
    if (!uses_zipf(options->kind))
        return;
    distribution->stride = choose_stride(n);
    distribution->area_first = area(distribution, 1.5) - 1;
    distribution->area_last = area(distribution, (double)n + 0.5);

    double second = area(distribution, 2.5) - height(distribution, 2);
    distribution->accept = 2 - area_inverse(distribution, second);
}

static uint64_t first_key(const struct distribution *distribution, const struct chooser *chooser)
{
    if (distribution->options.kind == DISTRIBUTION_SEQUENTIAL)
        return (uint64_t)((unsigned __int128)distribution->n * chooser->thread / chooser->threads);
    if (distribution->options.kind == DISTRIBUTION_SCAN)
        return distribution->n + chooser->thread;
    return chooser->thread;
}

void chooser_init(struct chooser *chooser, const struct distribution *distribution, uint64_t seed,
                  uint32_t thread, uint32_t threads)
{
    *chooser = (struct chooser){.random = {mix64(seed) + mix64((uint64_t)thread + 1)},
                                .thread = thread,
                                .threads = threads};
    chooser->next = first_key(distribution, chooser);
}

uint64_t distribution_rank(const struct distribution *distribution, struct random *random)
{
    for (;;) {
        double uniform = random_fraction(random);
        double drawn = distribution->area_last +
                       uniform * (distribution->area_first - distribution->area_last);
        double x = area_inverse(distribution, drawn);
        double k = floor(x + 0.5);

        if (k < 1)
            k = 1;
        if (k > (double)distribution->n)
            k = (double)distribution->n;
        if (k - x <= distribution->accept ||
            drawn >= area(distribution, k + 0.5) - height(distribution, k))
            return (uint64_t)k;
    }
}

uint64_t distribution_scramble(const struct distribution *distribution, uint64_t rank)
{
    return rank * distribution->stride % distribution->n;
}

static uint64_t draw_zipf(const struct distribution *distribution, struct chooser *chooser)
{
    return distribution_scramble(distribution, distribution_rank(distribution, &chooser->random));
}

static uint64_t draw_sequential(const struct distribution *distribution, struct chooser *chooser)
{
    if (chooser->next >= distribution->n)
        chooser->next = 0;
    return chooser->next++;
}

static uint64_t draw_scan(const struct distribution *distribution, struct chooser *chooser)
{
    const struct distribution_options *options = &distribution->options;
    uint64_t key = chooser->next;

    if (chooser->drawn % (options->scan_every + options->scan_length) < options->scan_every)
        return draw_zipf(distribution, chooser);
    chooser->next += chooser->threads;
    if (chooser->next >= DISTRIBUTION_SCAN_END) /* after a week at a million a second */
        chooser->next = first_key(distribution, chooser);
    return key;
}

static uint64_t draw_shift(const struct distribution *distribution, struct chooser *chooser)
{
    uint64_t shifts = chooser->drawn * chooser->threads / distribution->options.shift_every;
    uint64_t moved = shifts % distribution->n * distribution->stride % distribution->n;
    uint64_t rank = distribution_rank(distribution, &chooser->random);

    return distribution_scramble(distribution, (rank + moved) % distribution->n);
}

static uint64_t draw_trace(const struct distribution *distribution, struct chooser *chooser)
{
    uint64_t at = chooser->next;

    if (at >= distribution->options.sequence_len)
        at = chooser->thread % distribution->options.sequence_len; /* once more */
    chooser->next = at + chooser->threads;
    return distribution->options.sequence[at];
}

static uint64_t draw(const struct distribution *distribution, struct chooser *chooser)
{
    switch (distribution->options.kind) {
    case DISTRIBUTION_ZIPF: return draw_zipf(distribution, chooser);
    case DISTRIBUTION_SEQUENTIAL: return draw_sequential(distribution, chooser);
    case DISTRIBUTION_SCAN: return draw_scan(distribution, chooser);
    case DISTRIBUTION_SHIFT: return draw_shift(distribution, chooser);
    case DISTRIBUTION_TRACE: return draw_trace(distribution, chooser);
    case DISTRIBUTION_UNIFORM: break;
    }
    return scale64(random_next(&chooser->random), distribution->n);
}

uint64_t distribution_draw(const struct distribution *distribution, struct chooser *chooser)
{
    uint64_t key = draw(distribution, chooser);

    chooser->drawn++;
    return key;
}
