/* distribution.c: uniform, sequential and zipf.
 *
 * Zipf: rank k has probability proportional to k^-s. It is drawn by rejection-inversion (Hörmann
 * and Derflinger, 1996): k^-s is the height of bar k of a histogram; the smooth curve x^-s has an
 * integral that can be inverted, so a uniform draw of area gives an x under the curve, and the
 * nearest whole k is taken if the area drawn also lies in bar k. Few draws are rejected, whatever n
 * and s are, and a test without logarithms accepts most of the others.
 *
 * The integral of x^-s is (x^(1-s) - 1) / (1-s), and ln x for s = 1. Near s = 1 the quotient loses
 * its digits, so both directions go through expm1 and log1p, whose quotients tend to 1.
 */
#include "bench/distribution.h"

#include <math.h>

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
    return exp(-distribution->exponent * log(x));
}

static double area(const struct distribution *distribution, double x)
{
    double log_x = log(x);

    return expm1_over((1 - distribution->exponent) * log_x) * log_x;
}

static double area_inverse(const struct distribution *distribution, double area_x)
{
    double t = area_x * (1 - distribution->exponent);

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

void distribution_init(struct distribution *distribution, enum distribution_kind kind, uint64_t n,
                       double exponent)
{
    *distribution = (struct distribution){.kind = kind, .n = n, .exponent = exponent};
    if (kind != DISTRIBUTION_ZIPF)
        return;
    distribution->stride = choose_stride(n);
    distribution->area_first = area(distribution, 1.5) - 1;
    distribution->area_last = area(distribution, (double)n + 0.5);
    distribution->accept =
        2 - area_inverse(distribution, area(distribution, 2.5) - height(distribution, 2));
}

uint64_t distribution_rank(const struct distribution *distribution, struct random *random)
{
    for (;;) {
        double uniform = (double)(random_next(random) >> 11) * 0x1p-53;
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

uint64_t distribution_draw(const struct distribution *distribution, struct random *random,
                           uint64_t *cursor)
{
    switch (distribution->kind) {
    case DISTRIBUTION_ZIPF:
        return distribution_scramble(distribution, distribution_rank(distribution, random));
    case DISTRIBUTION_SEQUENTIAL:
        if (*cursor >= distribution->n)
            *cursor = 0;
        return (*cursor)++;
    case DISTRIBUTION_UNIFORM: break;
    }
    return scale64(random_next(random), distribution->n);
}
