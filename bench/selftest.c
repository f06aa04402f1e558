/* selftest.c: histogram against sorted numbers, distributions against what they promise, traces,
 * keys and values against themselves, the codecs: requests to the byte, replies on every prefix. */
#include "bench/selftest.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/access_trace.h"
#include "bench/codec.h"
#include "bench/distribution.h"
#include "bench/hdr_histogram.h"
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
    static struct hdr_histogram histogram;
    static uint64_t samples[SAMPLES];
    struct random random = {1};
    bool right = true;

    hdr_histogram_init(&histogram);
    for (size_t i = 0; i < SAMPLES; i++) {
        samples[i] = random_next(&random) >> (24 + scale64(random_next(&random), 40));
        hdr_histogram_record(&histogram, samples[i], 1);
    }
    qsort(samples, SAMPLES, sizeof samples[0], compare_u64);
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
        double rank = ceil(quantiles[i] * SAMPLES);
        double exact = (double)samples[rank < 1 ? 0 : (size_t)rank - 1];
        double shown = (double)hdr_histogram_quantile(&histogram, quantiles[i]);

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

    const struct distribution_options options = {DISTRIBUTION_ZIPF, .exponent = exponent};

    distribution_init(&distribution, &options, N);
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

    for (int tenths = 2; tenths <= 20; tenths += 2)
        right = right && check_zipf_exponent(tenths / 10.0);
    return expect(right && check_zipf_exponent(0.99) && check_zipf_exponent(1),
                  "zipf: ranks come as often as the formula says");
}

static bool check_scramble(void)
{
    const struct distribution_options zipf = {.kind = DISTRIBUTION_ZIPF, .exponent = 1};
    bool right = true;

    for (uint64_t n = 1; n <= 300 && right; n++) {
        struct distribution distribution;
        bool seen[300] = {false};

        distribution_init(&distribution, &zipf, n);
        for (uint64_t rank = 1; rank <= n; rank++) {
            uint64_t key = distribution_scramble(&distribution, rank);

            right = right && key < n && !seen[key];
            seen[key] = true;
        }
    }
    return expect(right, "zipf: every rank has a key of its own");
}

/* Runs of `scan_length` keys from n on that never come again, and zipf between them. */
static bool check_scan(void)
{
    enum { N = 1000, EVERY = 70, LENGTH = 30, THREADS = 3, DRAWS = 100000 };
    const struct distribution_options options = {
        .kind = DISTRIBUTION_SCAN, .exponent = 1, .scan_every = EVERY, .scan_length = LENGTH};
    static bool seen[N + THREADS * DRAWS];
    struct distribution distribution;
    bool right = true;

    memset(seen, 0, sizeof seen);
    distribution_init(&distribution, &options, N);
    for (uint32_t thread = 0; thread < THREADS; thread++) {
        struct chooser chooser;

        chooser_init(&chooser, &distribution, 5, thread, THREADS);
        for (uint64_t i = 0; i < DRAWS && right; i++) {
            uint64_t key = distribution_draw(&distribution, &chooser);
            bool scans = i % (EVERY + LENGTH) >= EVERY;

            right = scans == (key >= N) && key < sizeof seen && !(scans && seen[key]);
            seen[key] = true;
        }
    }
    return expect(right, "scan: as long and as often as asked for, and no key of it twice");
}

/* How often each key comes between two shifts. */
static void count_keys(const struct distribution *distribution, struct chooser *chooser,
                       uint64_t draws, uint32_t *counts)
{
    memset(counts, 0, distribution->n * sizeof *counts);
    for (; draws > 0; draws--)
        counts[distribution_draw(distribution, chooser)]++;
}

/* The keys that are popular between two shifts are not popular after the next one. */
static bool check_shift(void)
{
    enum { N = 10000, EVERY = 100000, SHIFTS = 10, POPULAR = EVERY / 1000 };
    const struct distribution_options options = {
        .kind = DISTRIBUTION_SHIFT, .exponent = 1, .shift_every = EVERY};
    static uint32_t counts[2][N];
    struct distribution distribution;
    struct chooser chooser;
    bool right = true;

    distribution_init(&distribution, &options, N);
    chooser_init(&chooser, &distribution, 6, 0, 1);
    count_keys(&distribution, &chooser, EVERY, counts[0]);
    for (int shift = 1; shift <= SHIFTS; shift++) {
        const uint32_t *before = counts[(shift - 1) % 2];
        uint32_t *now = counts[shift % 2];
        uint32_t popular = 0;

        count_keys(&distribution, &chooser, EVERY, now);
        for (int key = 0; key < N; key++) {
            popular += now[key] >= POPULAR;
            right = right && !(before[key] >= POPULAR && now[key] >= POPULAR);
        }
        right = right && popular > 50;
    }
    return expect(right, "shift: other keys become popular when they should");
}

/* The same seed chooses the same keys, and another one others. */
static bool check_seeds(void)
{
    struct distribution_options options = {
        .exponent = 1, .scan_every = 50, .scan_length = 5, .shift_every = 50};
    bool right = true;

    for (int kind = DISTRIBUTION_UNIFORM; kind < DISTRIBUTION_TRACE; kind++) {
        struct distribution distribution;
        struct chooser choosers[3];
        int other = 0;

        options.kind = (enum distribution_kind)kind;
        distribution_init(&distribution, &options, 1000000);
        for (int i = 0; i < 3; i++)
            chooser_init(&choosers[i], &distribution, i < 2 ? 7 : 8, 1, 2);
        for (int i = 0; i < 1000; i++) {
            uint64_t key = distribution_draw(&distribution, &choosers[0]);

            right = right && key == distribution_draw(&distribution, &choosers[1]);
            other += key != distribution_draw(&distribution, &choosers[2]);
        }
        right = right && (other > 500) == (kind != DISTRIBUTION_SEQUENTIAL);
    }
    return expect(right, "seeds: the same one chooses the same keys");
}

static bool parse(struct access_trace *trace, const char *text, uint64_t *line)
{
    size_t len = strlen(text);
    char *copy = malloc(len + 1);

    if (!copy)
        return false;
    memcpy(copy, text, len);
    return access_trace_parse(trace, copy, len, line);
}

static bool check_bad_traces(void)
{
    static const char *const bad[] = {
        "a\n\nb\n", "a\n b\n", "a\nb 5x\n", "a\nb 5 6\n", "a\nb 1073741825", "a\nb\001\n",
    };
    bool right = true;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct access_trace trace;
        uint64_t line = 0;

        right = right && !parse(&trace, bad[i], &line) && line == 2;
    }
    return right;
}

/* Keys are numbered as they come, and all threads together draw what the lines say. */
static bool check_trace(struct workload *workload)
{
    enum { LINES = 7, THREADS = 3 };
    static const uint32_t expected[LINES] = {0, 1, 0, 2, 1, 3, 0};
    struct distribution_options options = {.kind = DISTRIBUTION_TRACE};
    struct distribution distribution;
    struct access_trace trace;
    char key[WORKLOAD_KEY_MAX];
    uint64_t line;
    bool right = parse(&trace, "x\nyy 7\r\nx 5\n/a?b=c\t0 \nyy 9\nz\nx", &line) &&
                 trace.key_count == 4 && trace.request_count == LINES;

    if (!right)
        return expect(right, "trace: keys and their order");
    options.sequence = trace.requests;
    options.sequence_len = trace.request_count;
    distribution_init(&distribution, &options, trace.key_count);
    for (uint32_t thread = 0; thread < THREADS; thread++) {
        struct chooser chooser;

        chooser_init(&chooser, &distribution, 1, thread, THREADS);
        for (uint32_t i = thread; i < LINES; i += THREADS)
            right = right && distribution_draw(&distribution, &chooser) == expected[i];
    }
    workload->trace = &trace;
    right = right && workload_value_size(workload, 0) == 5 &&
            workload_value_size(workload, 1) == 7 && workload_value_size(workload, 2) == 0 &&
            workload_value_size(workload, 3) >= workload->value_size.min &&
            workload_key(workload, 2, key) == 6 && memcmp(key, "/a?b=c", 6) == 0;
    workload->trace = NULL;
    access_trace_release(&trace);
    return expect(right && check_bad_traces(), "trace: keys and their order");
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

/* Bytes that may contain zeros, and how many they are. */
#define BYTES(text) text, sizeof(text) - 1

struct reply_case {
    const struct codec *codec;
    enum request_kind request;
    enum reply_kind reply;
    const char *bytes;
    size_t len;
};

/* That something is no reply may show before it is whole. */
static bool decodes(const struct reply_case *expected)
{
    const struct codec *codec = expected->codec;
    struct reply reply;
    size_t taken;

    for (size_t prefix = 0; prefix < expected->len; prefix++) {
        taken = codec->decode(expected->request, expected->bytes, prefix, &reply);
        if (taken != 0 || (reply.kind != REPLY_PARTIAL && expected->reply != REPLY_BAD))
            return false;
    }
    taken = codec->decode(expected->request, expected->bytes, expected->len, &reply);
    return taken == (expected->reply == REPLY_BAD ? 0 : expected->len) &&
           reply.kind == expected->reply;
}

static bool all_decode(const struct reply_case *cases, size_t count)
{
    bool right = true;

    for (size_t i = 0; i < count; i++)
        right = right && decodes(&cases[i]);
    return right;
}

static bool check_text_decoder(void)
{
    static const struct reply_case cases[] = {
        {&codec_text, REQUEST_GET, REPLY_VALUE, BYTES("VALUE key:7 0 100\r\n")},
        {&codec_text, REQUEST_GET, REPLY_VALUE,
         BYTES("VALUE key:7 4294967295 100 18446744073709551615\r\n")},
        {&codec_text, REQUEST_GET, REPLY_DONE, BYTES("END\r\n")},
        {&codec_text, REQUEST_SET, REPLY_DONE, BYTES("STORED\r\n")},
        {&codec_text, REQUEST_SET, REPLY_NOT_STORED, BYTES("NOT_STORED\r\n")},
        {&codec_text, REQUEST_SET, REPLY_ERROR,
         BYTES("SERVER_ERROR out of memory storing object\r\n")},
        {&codec_text, REQUEST_INCR, REPLY_DONE, BYTES("17\r\n")},
        {&codec_text, REQUEST_INCR, REPLY_ERROR, BYTES("CLIENT_ERROR cannot increment\r\n")},
        {&codec_text, REQUEST_TOUCH, REPLY_DONE, BYTES("TOUCHED\r\n")},
        {&codec_text, REQUEST_DELETE, REPLY_MISSING, BYTES("NOT_FOUND\r\n")},
        {&codec_text, REQUEST_GET, REPLY_ERROR, BYTES("ERROR\r\n")},
        {&codec_text, REQUEST_GET, REPLY_BAD, BYTES("STORED\r\n")},
        {&codec_text, REQUEST_GET, REPLY_BAD, BYTES("VALUE key:7 0 \r\n")},
        {&codec_text, REQUEST_GET, REPLY_BAD, BYTES("VALUE key:7 0 4294967296\r\n")},
        {&codec_text, REQUEST_SET, REPLY_BAD, BYTES("STOREDX\r\n")},
    };

    return expect(all_decode(cases, sizeof cases / sizeof cases[0]),
                  "text decoder: every reply, and every prefix of it");
}

static bool check_meta_decoder(void)
{
    static const struct reply_case cases[] = {
        {&codec_meta, REQUEST_GET, REPLY_VALUE, BYTES("VA 100\r\n")},
        {&codec_meta, REQUEST_GET, REPLY_VALUE, BYTES("VA 0 kkey:7\r\n")},
        {&codec_meta, REQUEST_GET, REPLY_DONE, BYTES("EN\r\n")},
        {&codec_meta, REQUEST_GET, REPLY_DONE, BYTES("MN\r\n")},
        {&codec_meta, REQUEST_SET, REPLY_DONE, BYTES("HD\r\n")},
        {&codec_meta, REQUEST_SET, REPLY_NOT_STORED, BYTES("NS\r\n")},
        {&codec_meta, REQUEST_SET, REPLY_ERROR, BYTES("SERVER_ERROR out of memory\r\n")},
        {&codec_meta, REQUEST_INCR, REPLY_DONE, BYTES("VA 2\r\n17\r\n")},
        {&codec_meta, REQUEST_INCR, REPLY_MISSING, BYTES("NF\r\n")},
        {&codec_meta, REQUEST_TOUCH, REPLY_DONE, BYTES("HD\r\n")},
        {&codec_meta, REQUEST_TOUCH, REPLY_MISSING, BYTES("EN\r\n")},
        {&codec_meta, REQUEST_DELETE, REPLY_MISSING, BYTES("NF\r\n")},
        {&codec_meta, REQUEST_GET, REPLY_ERROR, BYTES("CLIENT_ERROR bad command line format\r\n")},
        {&codec_meta, REQUEST_GET, REPLY_BAD, BYTES("VA \r\n")},
        {&codec_meta, REQUEST_GET, REPLY_BAD, BYTES("VA 4294967296\r\n")},
        {&codec_meta, REQUEST_GET, REPLY_BAD, BYTES("VA 1 f0\r\n")},
        {&codec_meta, REQUEST_SET, REPLY_BAD, BYTES("HDX\r\n")},
        {&codec_meta, REQUEST_INCR, REPLY_BAD, BYTES("VA 2\r\n17xx")},
    };

    return expect(all_decode(cases, sizeof cases / sizeof cases[0]),
                  "meta decoder: every reply, and every prefix of it");
}

/* A header: opcode, length of the key, of the extras, status, length of the body. */
#define HEADER(opcode, key, extras, status, body)                                                  \
    "\x81" opcode "\0" key extras "\0\0" status "\0\0\0" body "opaqcas-case"

static bool check_binary_decoder(void)
{
    static const struct reply_case cases[] = {
        {&codec_binary, REQUEST_GET, REPLY_VALUE,
         BYTES(HEADER("\0", "\0", "\x04", "\0", "\x68") "flag")},
        {&codec_binary, REQUEST_GET, REPLY_VALUE,
         BYTES(HEADER("\x0d", "\x05", "\x04", "\0", "\x6d") "flagkey:7")},
        {&codec_binary, REQUEST_GET, REPLY_DONE, BYTES(HEADER("\x0a", "\0", "\0", "\0", "\0"))},
        {&codec_binary, REQUEST_GET, REPLY_DONE,
         BYTES(HEADER("\0", "\0", "\0", "\x01", "\x09") "Not found")},
        {&codec_binary, REQUEST_SET, REPLY_DONE, BYTES(HEADER("\x01", "\0", "\0", "\0", "\0"))},
        {&codec_binary, REQUEST_SET, REPLY_NOT_STORED,
         BYTES(HEADER("\x01", "\0", "\0", "\x05", "\x04") "text")},
        {&codec_binary, REQUEST_SET, REPLY_ERROR,
         BYTES(HEADER("\x01", "\0", "\0", "\x82", "\x04") "text")},
        {&codec_binary, REQUEST_INCR, REPLY_DONE,
         BYTES(HEADER("\x05", "\0", "\0", "\0", "\x08") "\0\0\0\0\0\0\0\x11")},
        {&codec_binary, REQUEST_INCR, REPLY_MISSING,
         BYTES(HEADER("\x05", "\0", "\0", "\x01", "\x09") "Not found")},
        {&codec_binary, REQUEST_TOUCH, REPLY_DONE,
         BYTES(HEADER("\x1c", "\0", "\x04", "\0", "\x04") "flag")},
        {&codec_binary, REQUEST_DELETE, REPLY_MISSING,
         BYTES(HEADER("\x04", "\0", "\0", "\x01", "\x09") "Not found")},
        {&codec_binary, REQUEST_GET, REPLY_BAD, BYTES(HEADER("\x01", "\0", "\0", "\0", "\0"))},
        {&codec_binary, REQUEST_GET, REPLY_BAD,
         BYTES(HEADER("\0", "\x05", "\x04", "\0", "\x08") "flagkey:7")},
        {&codec_binary, REQUEST_GET, REPLY_BAD, BYTES("VALUE key:7 0 100 that is text\r\n")},
    };

    return expect(all_decode(cases, sizeof cases / sizeof cases[0]),
                  "binary decoder: every reply, and every prefix of it");
}

static bool check_redis_decoder(void)
{
    static const struct reply_case cases[] = {
        {&codec_redis, REQUEST_GET, REPLY_VALUE, BYTES("$100\r\n")},
        {&codec_redis, REQUEST_GET, REPLY_VALUE, BYTES("$0\r\n")},
        {&codec_redis, REQUEST_GET, REPLY_VALUE, BYTES("*50\r\n$100\r\n")},
        {&codec_redis, REQUEST_GET, REPLY_ABSENT, BYTES("$-1\r\n")},
        {&codec_redis, REQUEST_GET, REPLY_ABSENT, BYTES("*50\r\n$-1\r\n")},
        {&codec_redis, REQUEST_SET, REPLY_DONE, BYTES("+OK\r\n")},
        {&codec_redis, REQUEST_SET, REPLY_ERROR, BYTES("-OOM command not allowed\r\n")},
        {&codec_redis, REQUEST_INCR, REPLY_DONE, BYTES(":1000000001\r\n")},
        {&codec_redis, REQUEST_INCR, REPLY_MISSING, BYTES(":1\r\n")},
        {&codec_redis, REQUEST_TOUCH, REPLY_DONE, BYTES(":1\r\n")},
        {&codec_redis, REQUEST_TOUCH, REPLY_MISSING, BYTES(":0\r\n")},
        {&codec_redis, REQUEST_DELETE, REPLY_DONE, BYTES(":1\r\n")},
        {&codec_redis, REQUEST_DELETE, REPLY_MISSING, BYTES(":0\r\n")},
        {&codec_redis, REQUEST_GET, REPLY_ERROR, BYTES("-ERR unknown command\r\n")},
        {&codec_redis, REQUEST_GET, REPLY_BAD, BYTES("$\r\n")},
        {&codec_redis, REQUEST_GET, REPLY_BAD, BYTES("$4294967296\r\n")},
        {&codec_redis, REQUEST_GET, REPLY_BAD, BYTES("+OK\r\n")},
        {&codec_redis, REQUEST_SET, REPLY_BAD, BYTES("$-1\r\n")},
        {&codec_redis, REQUEST_DELETE, REPLY_BAD, BYTES(":2\r\n")},
    };

    return expect(all_decode(cases, sizeof cases / sizeof cases[0]),
                  "redis decoder: every reply, and every prefix of it");
}

struct request_case {
    const struct codec *codec;
    enum request_kind kind;
    uint32_t key_count;
    const char *bytes;
    size_t len;
};

static bool encodes(const struct workload *workload, const struct request_case *expected)
{
    static const uint64_t keys[] = {7, 8};
    const struct request request = {expected->kind, expected->key_count, keys};
    char out[2048];
    size_t len;

    if (expected->codec->bound(expected->key_count) > sizeof out)
        return false;
    /* cppcheck-suppress comparePointers ; what encode returns points into out */
    len = (size_t)(expected->codec->encode(workload, &request, out) - out);
    return len == expected->len && memcmp(out, expected->bytes, len) == 0;
}

#define OPAQUE_AND_CAS "\0\0\0\0\0\0\0\0\0\0\0\0"

/* Keys of three bytes, values of five, that live for a minute. */
static bool check_encoders(void)
{
    static const struct request_case cases[] = {
        {&codec_text, REQUEST_GET, 1, BYTES("get k:7\r\n")},
        {&codec_text, REQUEST_GET, 2, BYTES("get k:7 k:8\r\n")},
        {&codec_text, REQUEST_SET, 1, BYTES("set k:7 0 60 5\r\n")},
        {&codec_text, REQUEST_INCR, 1, BYTES("incr k:7 1\r\n")},
        {&codec_text, REQUEST_TOUCH, 1, BYTES("touch k:7 60\r\n")},
        {&codec_text, REQUEST_DELETE, 1, BYTES("delete k:7\r\n")},
        {&codec_meta, REQUEST_GET, 1, BYTES("mg k:7 v\r\n")},
        {&codec_meta, REQUEST_GET, 2, BYTES("mg k:7 k v q\r\nmg k:8 k v q\r\nmn\r\n")},
        {&codec_meta, REQUEST_SET, 1, BYTES("ms k:7 5 T60\r\n")},
        {&codec_meta, REQUEST_INCR, 1, BYTES("ma k:7 v\r\n")},
        {&codec_meta, REQUEST_TOUCH, 1, BYTES("mg k:7 T60\r\n")},
        {&codec_meta, REQUEST_DELETE, 1, BYTES("md k:7\r\n")},
        {&codec_binary, REQUEST_GET, 1,
         BYTES("\x80\0\0\x03\0\0\0\0\0\0\0\x03" OPAQUE_AND_CAS "k:7")},
        {&codec_binary, REQUEST_GET, 2,
         BYTES("\x80\x0d\0\x03\0\0\0\0\0\0\0\x03" OPAQUE_AND_CAS "k:7"
               "\x80\x0d\0\x03\0\0\0\0\0\0\0\x03" OPAQUE_AND_CAS "k:8"
               "\x80\x0a\0\0\0\0\0\0\0\0\0\0" OPAQUE_AND_CAS)},
        {&codec_binary, REQUEST_SET, 1,
         BYTES("\x80\x01\0\x03\x08\0\0\0\0\0\0\x10" OPAQUE_AND_CAS "\0\0\0\0\0\0\0\x3ck:7")},
        {&codec_binary, REQUEST_INCR, 1,
         BYTES("\x80\x05\0\x03\x14\0\0\0\0\0\0\x17" OPAQUE_AND_CAS
               "\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\xff\xff\xff\xffk:7")},
        {&codec_binary, REQUEST_TOUCH, 1,
         BYTES("\x80\x1c\0\x03\x04\0\0\0\0\0\0\x07" OPAQUE_AND_CAS "\0\0\0\x3ck:7")},
        {&codec_binary, REQUEST_DELETE, 1,
         BYTES("\x80\x04\0\x03\0\0\0\0\0\0\0\x03" OPAQUE_AND_CAS "k:7")},
        {&codec_redis, REQUEST_GET, 1, BYTES("*2\r\n$3\r\nGET\r\n$3\r\nk:7\r\n")},
        {&codec_redis, REQUEST_GET, 2, BYTES("*3\r\n$4\r\nMGET\r\n$3\r\nk:7\r\n$3\r\nk:8\r\n")},
        {&codec_redis, REQUEST_SET, 1,
         BYTES("*4\r\n$5\r\nSETEX\r\n$3\r\nk:7\r\n$2\r\n60\r\n$5\r\n")},
        {&codec_redis, REQUEST_INCR, 1, BYTES("*2\r\n$4\r\nINCR\r\n$3\r\nk:7\r\n")},
        {&codec_redis, REQUEST_TOUCH, 1, BYTES("*3\r\n$6\r\nEXPIRE\r\n$3\r\nk:7\r\n$2\r\n60\r\n")},
        {&codec_redis, REQUEST_DELETE, 1, BYTES("*2\r\n$3\r\nDEL\r\n$3\r\nk:7\r\n")},
    };
    static struct workload workload = {
        .key_count = 10, .expire_s = 60, .key_size = {3, 3}, .value_size = {5, 5}, .prefix = "k:"};
    bool right = true;

    workload_prepare(&workload);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        right = right && encodes(&workload, &cases[i]);
    return expect(right, "encoders: every request of every protocol");
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
    right = check_scan() && right;
    right = check_shift() && right;
    right = check_seeds() && right;
    right = check_trace(&workload) && right;
    right = check_keys(&workload) && right;
    right = check_values(&workload) && right;
    right = check_text_decoder() && right;
    right = check_meta_decoder() && right;
    right = check_binary_decoder() && right;
    right = check_redis_decoder() && right;
    right = check_encoders() && right;
    return right;
}
