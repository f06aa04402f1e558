/* tally.c: counting, and adding up what the threads counted. */
#include "bench/tally.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void tally_init(struct tally *tally)
{
    memset(tally, 0, sizeof *tally);
    tally->first_missing = TALLY_NO_KEY;
    for (int kind = 0; kind < REQUEST_KINDS; kind++)
        hdr_histogram_init(&tally->latency[kind]);
}

void tally_restart(struct tally *tally)
{
    tally->requests = tally->operations = 0;
    tally->hits = tally->misses = tally->stored = tally->filled = tally->unsent = 0;
    tally->bytes_in = tally->bytes_out = 0;
    for (int kind = 0; kind < REQUEST_KINDS; kind++)
        hdr_histogram_init(&tally->latency[kind]);
}

void tally_merge(struct tally *into, const struct tally *from)
{
    into->requests += from->requests;
    into->operations += from->operations;
    into->hits += from->hits;
    into->misses += from->misses;
    into->stored += from->stored;
    into->filled += from->filled;
    into->errors += from->errors;
    into->wrong += from->wrong;
    into->unsent += from->unsent;
    into->bytes_in += from->bytes_in;
    into->bytes_out += from->bytes_out;
    if (from->first_missing < into->first_missing)
        into->first_missing = from->first_missing;
    if (into->first_error[0] == '\0')
        memcpy(into->first_error, from->first_error, sizeof into->first_error);
    for (int kind = 0; kind < REQUEST_KINDS; kind++)
        hdr_histogram_merge(&into->latency[kind], &from->latency[kind]);
}

static __attribute__((format(printf, 2, 0))) void keep_first(struct tally *tally,
                                                             const char *format, va_list arguments)
{
    if (tally->first_error[0] == '\0')
        vsnprintf(tally->first_error, sizeof tally->first_error, format, arguments);
}

void tally_error(struct tally *tally, const char *format, ...)
{
    va_list arguments;

    tally->errors++;
    va_start(arguments, format);
    keep_first(tally, format, arguments);
    va_end(arguments);
}

void tally_wrong(struct tally *tally, const char *format, ...)
{
    va_list arguments;

    tally->wrong++;
    va_start(arguments, format);
    keep_first(tally, format, arguments);
    va_end(arguments);
}
