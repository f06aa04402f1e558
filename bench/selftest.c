/* selftest.c: histogram against sorted numbers, zipf against its formula, keys and values against
 * themselves, the decoder on every prefix. */
#include "bench/selftest.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/codec.h"
#include "bench/distribution.h"
#include "bench/histogram.h"
#include "bench/workload.h"

#define SAMPLES 200000

static bool expect(bool holds, const char *what)
{
    printf("%s: %s\n", holds ? "ok" : "FAILED", what);
    return holds;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Quantiles of numbers spread over ten orders of magnitude are right to 0.05 %. */
static bool check_histogram(void)
{
    static const double quantiles[] = {0, 0.01, 0.5, 0.9, 0.99, 0.999, 0.9999, 1};
    static struct histogram histogram;
    static uint64_t samples[SAMPLES];
    struct random random = {1};
    bool right = true;

    histogram_init(&histogram);
    for (size_t i = 0; i < SAMPLES; i++) {
        samples[i] = random_next(&random) >> (24 + scale64(random_next(&random), 40));
        histogram_record(&histogram, samples[i], 1);
    }
    qsort(samples, SAMPLES, sizeof(samples[0]), compare_u64);
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        double rank = ceil(quantiles[i] * SAMPLES);
        double exact = (double)samples[rank < 1 ? 0 : (size_t)rank - 1];
        double shown = (double)histogram_quantile(&histogram, quantiles[i]);

        right = right && fabs(shown - exact) <= exact * 0.0005;
    }
    return expect(right && histogram.max_ns == samples[SAMPLES - 1] && histogram.count == SAMPLES,
                  "histogram: quantiles within 0.05 %, maximum exact");
}

/* The first ranks, and all behind them together, come as often as k^-s says. */
static bool check_zipf_exponent(double exponent)
{
    enum { N = 10000, DRAWS = 1000000, RANKS = 8 };
    uint64_t seen[RANKS + 1] = {0};
    struct distribution distribution;
    struct random random = {2};
    double total = 0;
    double rest = 1;
    bool right = true;

    distribution_init(&distribution, DISTRIBUTION_ZIPF, N, exponent);
    for (int k = N; k >= 1; k--)
        total += pow(k, -exponent);
    for (int i = 0; i < DRAWS; i++) {
        uint64_t rank = distribution_rank(&distribution, &random);

        right = right && rank >= 1 && rank <= N;
        seen[rank <= RANKS ? rank - 1 : RANKS]++;
    }
    for (int k = 1; k <= RANKS + 1; k++) {
        double share = k <= RANKS ? pow(k, -exponent) / total : rest;
        double deviation = sqrt(share * (1 - share) * DRAWS);

        rest -= share;
        right = right && fabs((double)seen[k - 1] - share * DRAWS) < 5 * deviation + 1;
    }
    return right;
}

static bool check_zipf(void)
{
    bool right = true;

    for (double exponent = 0.2; exponent < 2.1; exponent += 0.2)
        right = right && check_zipf_exponent(exponent);
    return expect(right && check_zipf_exponent(0.99) && check_zipf_exponent(1),
                  "zipf: ranks come as often as the formula says");
}

static bool check_scramble(void)
{
    bool right = true;

    for (uint64_t n = 1; n <= 300 && right; n++) {
        struct distribution distribution;
        bool seen[300] = {false};

        distribution_init(&distribution, DISTRIBUTION_ZIPF, n, 1);
        for (uint64_t rank = 1; rank <= n; rank++) {
            uint64_t key = distribution_scramble(&distribution, rank);

            right = right && key < n && !seen[key];
            seen[key] = true;
        }
    }
    return expect(right, "zipf: every rank has a key of its own");
}

static bool check_keys(struct workload *workload)
{
    bool right = true;

    for (uint64_t key = 0; key < workload->key_count; key += 1 + key / 7) {
        char text[WORKLOAD_KEY_MAX + 1];
        size_t len = workload_key(workload, key, text);

        text[len] = '\0';
        right = right && len >= workload->key_size.min && len <= workload->key_size.max &&
                memcmp(text, workload->prefix, workload->prefix_len) == 0 &&
                strtoull(text + workload->prefix_len, NULL, 10) == key;
    }
    return expect(right, "keys: prefix, number and size");
}

/* A value made in pieces of any size is the value made at once, and no other key's. */
static bool check_values(struct workload *workload)
{
    static char whole[200000];
    static char pieces[200000];
    bool right = true;

    for (uint64_t key = 0; key < 20; key++) {
        size_t size = workload_value_size(workload, key);

        workload_value(workload, key, 0, whole, size);
        for (size_t at = 0, len = 1 + key; at < size; at += len, len = len * 2 % 70001) {
            if (len > size - at)
                len = size - at;
            workload_value(workload, key, at, pieces + at, len);
            right = right && workload_value_matches(workload, key, at, whole + at, len);
        }
        right = right && memcmp(whole, pieces, size) == 0 &&
                !workload_value_matches(workload, key + 1, 0, whole, size);
        whole[size - 1] ^= 1;
        right = right && !workload_value_matches(workload, key, 0, whole, size);
    }
    return expect(right, "values: the same in pieces, and each key its own");
}

static bool check_decoder(void)
{
    static const struct {
        enum request_kind request;
        enum reply_kind reply;
        const char *bytes;
    } cases[] = {
        {REQUEST_GET, REPLY_VALUE, "VALUE key:7 0 100\r\n"},
        {REQUEST_GET, REPLY_VALUE, "VALUE key:7 4294967295 100 18446744073709551615\r\n"},
        {REQUEST_GET, REPLY_DONE, "END\r\n"},
        {REQUEST_SET, REPLY_DONE, "STORED\r\n"},
        {REQUEST_SET, REPLY_NOT_STORED, "NOT_STORED\r\n"},
        {REQUEST_SET, REPLY_ERROR, "SERVER_ERROR out of memory storing object\r\n"},
        {REQUEST_INCR, REPLY_DONE, "17\r\n"},
        {REQUEST_INCR, REPLY_ERROR, "CLIENT_ERROR cannot increment\r\n"},
        {REQUEST_TOUCH, REPLY_DONE, "TOUCHED\r\n"},
        {REQUEST_DELETE, REPLY_MISSING, "NOT_FOUND\r\n"},
        {REQUEST_GET, REPLY_ERROR, "ERROR\r\n"},
        {REQUEST_GET, REPLY_BAD, "STORED\r\n"},
        {REQUEST_GET, REPLY_BAD, "VALUE key:7 0 \r\n"},
        {REQUEST_GET, REPLY_BAD, "VALUE key:7 0 4294967296\r\n"},
        {REQUEST_SET, REPLY_BAD, "STOREDX\r\n"},
    };
    bool right = true;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len = strlen(cases[i].bytes);
        struct reply reply;

        for (size_t prefix = 0; prefix < len; prefix++)
            right = right &&
                    codec_text.decode(cases[i].request, cases[i].bytes, prefix, &reply) == 0 &&
                    reply.kind == REPLY_PARTIAL;
        right = right &&
                codec_text.decode(cases[i].request, cases[i].bytes, len, &reply) ==
                    (cases[i].reply == REPLY_BAD ? 0 : len) &&
                reply.kind == cases[i].reply;
    }
    return expect(right, "decoder: every reply, and every prefix of it");
}

bool selftest_run(void)
{
    static struct workload workload = {.key_count = 4000000000u,
                                       .value_seed = 3,
                                       .key_size = {14, 40},
                                       .value_size = {2, 200000},
                                       .prefix = "key:"};
    bool right = true;

    workload_prepare(&workload);
    right = check_histogram() && right;
    right = check_zipf() && right;
    right = check_scramble() && right;
    right = check_keys(&workload) && right;
    right = check_values(&workload) && right;
    right = check_decoder() && right;
    return right;
}
