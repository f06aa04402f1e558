/* access_trace.c: reads a file of requests.
 *
 * The file stays in memory, as that is where the keys are; each request costs four bytes more. A
 * hash table with open addressing finds the number of a key while the file is read.
 */
#include "bench/access_trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/random.h"
#include "bench/workload.h"

#define FIRST_CAP 1024

/* ---- which number has a key? ---- */

struct table {
    uint32_t *slots; /* number of the key + 1; 0: free */
    uint64_t cap;    /* a power of two, always more than half of it free */
};

static uint64_t hash_text(const char *text, size_t len)
{
    uint64_t hash = len;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return mix64(hash);
}

/* The slot of the key, or the one where it belongs. */
static uint32_t *find_slot(const struct access_trace *trace, const struct table *table,
                           const char *key, size_t len)
{
    uint64_t at = hash_text(key, len);

    for (;; at++) {
        uint32_t *slot = &table->slots[at & (table->cap - 1)];
        const struct access_trace_key *found;

        if (*slot == 0)
            return slot;
        found = &trace->keys[*slot - 1];
        if (found->len == len && memcmp(trace->text + found->offset, key, len) == 0)
            return slot;
    }
}

/* Room for twice as many keys. */
static bool grow(struct access_trace *trace, struct table *table)
{
    uint64_t cap = table->cap > 0 ? table->cap * 2 : FIRST_CAP;
    uint32_t *slots = calloc(cap, sizeof *slots);
    struct access_trace_key *keys = realloc(trace->keys, cap / 2 * sizeof *keys);

    if (keys)
        trace->keys = keys;
    if (!slots || !keys) {
        free(slots);
        return false;
    }
    free(table->slots);
    *table = (struct table){slots, cap};
    for (uint32_t i = 0; i < trace->key_count; i++)
        *find_slot(trace, table, trace->text + keys[i].offset, keys[i].len) = i + 1;
    return true;
}

/* ---- lines ---- */

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* Reads "key" or "key size" from a line without its end. */
static bool parse_line(const char *at, const char *end, struct access_trace_key *key)
{
    const char *start = at;
    uint64_t size = 0;

    while (at < end && (unsigned char)*at > ' ' && *at != 0x7f)
        at++;
    *key = (struct access_trace_key){.len = (uint32_t)(at - start), .size = ACCESS_TRACE_NO_SIZE};
    if (at == start || at - start > WORKLOAD_KEY_MAX)
        return false;
    while (at < end && is_blank(*at))
        at++;
    if (at == end)
        return true;
    for (; at < end && *at >= '0' && *at <= '9' && size <= WORKLOAD_VALUE_MAX; at++)
        size = size * 10 + (uint64_t)(*at - '0');
    while (at < end && is_blank(*at))
        at++;
    key->size = (uint32_t)size;
    return at == end && size <= WORKLOAD_VALUE_MAX;
}

/* False: no memory. */
static bool add_request(struct access_trace *trace, struct table *table, const char *text,
                        const struct access_trace_key *key)
{
    uint32_t *slot;

    if (trace->key_count * UINT64_C(2) >= table->cap && !grow(trace, table))
        return false;
    slot = find_slot(trace, table, text, key->len);
    if (*slot == 0) {
        trace->keys[trace->key_count] = *key;
        trace->keys[trace->key_count].offset = (size_t)(text - trace->text);
        *slot = ++trace->key_count;
    }
    if (trace->keys[*slot - 1].size == ACCESS_TRACE_NO_SIZE)
        trace->keys[*slot - 1].size = key->size;
    trace->requests[trace->request_count++] = *slot - 1;
    return true;
}

static const char *line_end(const char *at, const char *end)
{
    const char *newline = memchr(at, '\n', (size_t)(end - at));

    return newline ? newline : end;
}

static bool parse_all(struct access_trace *trace, size_t len, uint64_t *line)
{
    const char *end = trace->text + len;
    struct table table = {0};
    bool right = true;

    *line = 0;
    for (const char *at = trace->text; at < end && right; at++) {
        const char *start = at;
        struct access_trace_key key;

        at = line_end(at, end);
        if (!parse_line(start, at > start && at[-1] == '\r' ? at - 1 : at, &key)) {
            *line = trace->request_count + 1;
            right = false;
        } else {
            right = add_request(trace, &table, start, &key);
        }
    }
    free(table.slots);
    return right;
}

bool access_trace_parse(struct access_trace *trace, char *text, size_t len, uint64_t *line)
{
    uint64_t lines = 1;

    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    *trace = (struct access_trace){.text = text};
    trace->requests = calloc(lines, sizeof *trace->requests);
    *line = 0;
    if (trace->requests && parse_all(trace, len, line))
        return true;
    access_trace_release(trace);
    return false;
}

/* ---- the file ---- */

/* All of a stream, which may be a pipe; NULL with errno when that fails. */
static char *read_all(FILE *file, size_t *len)
{
    size_t cap = 1 << 16;
    char *text = malloc(cap);

    *len = 0;
    while (text) {
        size_t got = fread(text + *len, 1, cap - *len, file);
        char *larger;

        *len += got;
        if (got == 0)
            break;
        if (*len < cap)
            continue;
        larger = realloc(text, cap *= 2);
        if (!larger)
            free(text);
        text = larger;
    }
    if (!text || !ferror(file))
        return text;
    free(text);
    return NULL;
}

static bool refuse(const char *path, const char *why)
{
    fprintf(stderr, "cachecask-bench: %s: %s\n", path, why);
    return false;
}

bool access_trace_load(struct access_trace *trace, const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    char why[64] = "no memory";
    uint64_t line;
    size_t len;

    if (file)
        text = read_all(file, &len);
    if (!text)
        snprintf(why, sizeof why, "%s", strerror(errno));
    if (file)
        fclose(file);
    if (!text)
        return refuse(path, why);
    if (!access_trace_parse(trace, text, len, &line)) {
        if (line > 0)
            snprintf(why, sizeof why, "line %llu is not 'key' or 'key size'",
                     (unsigned long long)line);
        return refuse(path, why);
    }
    if (trace->request_count > 0)
        return true;
    access_trace_release(trace);
    return refuse(path, "there is no request in it");
}

void access_trace_release(struct access_trace *trace)
{
    free(trace->text);
    free(trace->keys);
    free(trace->requests);
    *trace = (struct access_trace){0};
}
