/* phase_report.c: numbers for people and for programs. */
#include "bench/phase_report.h"

#include <inttypes.h>
#include <stdio.h>

#define NS_PER_US 1000.0

static double per_second(uint64_t count, double elapsed_s)
{
    return elapsed_s > 0 ? (double)count / elapsed_s : 0;
}

static double cpu_us(const struct phase_result *result)
{
    uint64_t operations = result->tally.operations;

    return operations > 0 ? result->cpu_s * 1e6 / (double)operations : 0;
}

static double quantile_us(const struct hdr_histogram *histogram, double quantile)
{
    return (double)hdr_histogram_quantile(histogram, quantile) / NS_PER_US;
}

static double hit_ratio(const struct tally *tally)
{
    uint64_t asked = tally->hits + tally->misses;

    return asked > 0 ? (double)tally->hits / (double)asked : 0;
}

/* Latencies of all kinds of request together; large, hence static. */
static const struct hdr_histogram *all_latencies(const struct tally *tally)
{
    static struct hdr_histogram all;

    hdr_histogram_init(&all);
    for (int kind = 0; kind < REQUEST_KINDS; kind++)
        hdr_histogram_merge(&all, &tally->latency[kind]);
    return &all;
}

static unsigned kinds_seen(const struct tally *tally)
{
    unsigned seen = 0;

    for (int kind = 0; kind < REQUEST_KINDS; kind++)
        seen += tally->latency[kind].count > 0;
    return seen;
}

/* ---- for people ---- */

static void print_latency(const char *name, const struct hdr_histogram *histogram)
{
    printf("  %-8s latency  p50 %.1f  p99 %.1f  p99.9 %.1f  max %.1f µs\n", name,
           quantile_us(histogram, 0.5), quantile_us(histogram, 0.99), quantile_us(histogram, 0.999),
           (double)histogram->max_ns / NS_PER_US);
}

void report_text(const struct options *options, const struct phase *phase,
                 const struct phase_result *result)
{
    const struct tally *tally = &result->tally;

    printf("%s (%s): %" PRIu64 " operations in %.2f s, %.0f a second%s\n", phase->name,
           operation_name(phase->operation), tally->operations, result->elapsed_s,
           per_second(tally->operations, result->elapsed_s),
           result->complete ? "" : " (NOT COMPLETE)");
    if (tally->operations != tally->requests)
        printf("  %" PRIu64 " requests, %.0f a second\n", tally->requests,
               per_second(tally->requests, result->elapsed_s));
    print_latency("request", all_latencies(tally));
    if (kinds_seen(tally) > 1)
        for (int kind = 0; kind < REQUEST_KINDS; kind++)
            if (tally->latency[kind].count > 0)
                print_latency(request_kind_name((enum request_kind)kind), &tally->latency[kind]);
    printf("  hits %" PRIu64 "  misses %" PRIu64 "  stored %" PRIu64 "  errors %" PRIu64,
           tally->hits, tally->misses, tally->stored, tally->errors);
    if (phase->verify)
        printf("  wrong values %" PRIu64, tally->wrong);
    printf("\n");
    if (phase->fill)
        printf("  hit ratio %.4f, %" PRIu64 " misses filled\n", hit_ratio(tally), tally->filled);
    if (phase->verify && tally->first_missing != TALLY_NO_KEY)
        printf("  one that is missing: key number %" PRIu64 "\n", tally->first_missing);
    if (options->rate > 0 && !phase->once && tally->unsent > 0)
        printf("  behind the rate asked for: %" PRIu64 " requests were due and never sent\n",
               tally->unsent);
    if (tally->first_error[0] != '\0')
        printf("  first error: %s\n", tally->first_error);
    printf("  this tool spent %.2f µs of CPU an operation\n", cpu_us(result));
    fflush(stdout);
}

/* ---- for programs ---- */

static void json_string(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte == '"' || byte == '\\')
            printf("\\%c", byte);
        else if (byte < ' ' || byte >= 0x7f) /* a server may say anything, and not in UTF-8 */
            printf("\\u%04x", byte);
        else
            putchar(byte);
    }
    putchar('"');
}

static void json_latency(const char *name, const struct hdr_histogram *histogram)
{
    printf("\"%s\": {\"count\": %" PRIu64 ", \"min\": %.3f, \"mean\": %.3f, \"p50\": %.3f, "
           "\"p90\": %.3f, \"p99\": %.3f, \"p99.9\": %.3f, \"p99.99\": %.3f, \"max\": %.3f}",
           name, histogram->count, histogram->count > 0 ? (double)histogram->min_ns / NS_PER_US : 0,
           hdr_histogram_mean(histogram) / NS_PER_US, quantile_us(histogram, 0.5),
           quantile_us(histogram, 0.9), quantile_us(histogram, 0.99), quantile_us(histogram, 0.999),
           quantile_us(histogram, 0.9999), (double)histogram->max_ns / NS_PER_US);
}

void report_json_begin(const struct endpoint *endpoint, const struct options *options,
                       const struct workload *workload)
{
    printf("{\"server\": ");
    json_string(endpoint->name);
    printf(", \"protocol\": \"%s\", \"threads\": %u, \"connections\": %u, \"pipeline\": %u, "
           "\"multiget\": %u, \"keys\": %" PRIu64 ", \"rate\": %" PRIu64 ",\n \"phases\": [",
           options->codec->name, options->threads, options->connections, options->pipeline,
           options->multiget, workload->key_count, options->rate);
}

void report_json_phase(const struct phase *phase, const struct phase_result *result, bool first)
{
    const struct tally *tally = &result->tally;

    printf("%s\n  {\"phase\": \"%s\", \"op\": \"%s\", \"complete\": %s, \"seconds\": %.6f,\n",
           first ? "" : ",", phase->name, operation_name(phase->operation),
           result->complete ? "true" : "false", result->elapsed_s);
    printf("   \"operations\": %" PRIu64 ", \"operations_per_second\": %.1f, "
           "\"requests\": %" PRIu64 ", \"requests_per_second\": %.1f,\n",
           tally->operations, per_second(tally->operations, result->elapsed_s), tally->requests,
           per_second(tally->requests, result->elapsed_s));
    printf("   \"hits\": %" PRIu64 ", \"misses\": %" PRIu64 ", \"stored\": %" PRIu64
           ", \"filled\": %" PRIu64 ", \"errors\": %" PRIu64 ", \"wrong\": %" PRIu64
           ", \"unsent\": %" PRIu64 ",\n",
           tally->hits, tally->misses, tally->stored, tally->filled, tally->errors, tally->wrong,
           tally->unsent);
    printf("   \"bytes_in\": %" PRIu64 ", \"bytes_out\": %" PRIu64
           ", \"client_cpu_us_per_operation\": %.4f,\n   \"first_error\": ",
           tally->bytes_in, tally->bytes_out, cpu_us(result));
    if (tally->first_error[0] != '\0')
        json_string(tally->first_error);
    else
        printf("null");
    printf(",\n   \"latency_us\": {");
    json_latency("all", all_latencies(tally));
    for (int kind = 0; kind < REQUEST_KINDS; kind++) {
        if (tally->latency[kind].count == 0)
            continue;
        printf(",\n     ");
        json_latency(request_kind_name((enum request_kind)kind), &tally->latency[kind]);
    }
    printf("}}");
}

void report_json_end(bool success)
{
    printf("],\n \"success\": %s}\n", success ? "true" : "false");
}
