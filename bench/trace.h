/* trace.h: a file of requests, to be replayed.
 *
 * A line is a key, or a key and the size of its value with a space or tab between. Keys are
 * numbered in the order in which they first come. A key has one size, that of the first line which
 * gives one: its value must follow from its number, or nobody could tell whether it is right. */
#ifndef BENCH_TRACE_H
#define BENCH_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_NO_SIZE UINT32_MAX

struct trace_key {
    size_t offset; /* in trace->text */
    uint32_t size; /* of its value, or TRACE_NO_SIZE */
    uint32_t len;
};

struct trace {
    char *text;
    struct trace_key *keys;
    uint32_t key_count;
    uint32_t *requests; /* numbers of keys, one for each line */
    uint64_t request_count;
};

/* Reads a file that has at least one request. False, having said why on standard error and with
 * nothing to release, when it cannot or some line is no request. */
bool trace_load(struct trace *trace, const char *path);
void trace_release(struct trace *trace);

/* Makes *trace of `len` bytes that malloc has given, and which are the trace's from then on. Sets
 * *line to the line that is no request, or to 0 when there is no memory. */
bool trace_parse(struct trace *trace, char *text, size_t len, uint64_t *line);

#endif
