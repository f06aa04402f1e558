/* access_trace.h: a file of requests, to be replayed.
 *
 * A line is a key, or a key and the size of its value with a space or tab between. Keys are
 * numbered in the order in which they first come. A key has one size, that of the first line which
 * gives one: its value must follow from its number, or nobody could tell whether it is right. */
#ifndef CACHECASK_BENCH_ACCESS_TRACE_H
#define CACHECASK_BENCH_ACCESS_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ACCESS_TRACE_NO_SIZE UINT32_MAX

struct access_trace_key {
    size_t offset; /* in trace->text */
    uint32_t size; /* of its value, or ACCESS_TRACE_NO_SIZE */
    uint32_t len;
};

struct access_trace {
    char *text;
    struct access_trace_key *keys;
    uint32_t key_count;
    uint32_t *requests; /* numbers of keys, one for each line */
    uint64_t request_count;
};

/* Reads a file that has at least one request. False, having said why on standard error and with
 * nothing to release, when it cannot or some line is no request. */
bool access_trace_load(struct access_trace *trace, const char *path);
void access_trace_release(struct access_trace *trace);

/* Makes *trace of `len` bytes that malloc has given, and which are the trace's from then on. Sets
 * *line to the line that is no request, or to 0 when there is no memory. */
bool access_trace_parse(struct access_trace *trace, char *text, size_t len, uint64_t *line);

#endif
