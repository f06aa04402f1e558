/* trace.c: reads a file of requests.
 *
 * The file stays in memory, as that is where the keys are; each request costs four bytes more. A
 * hash table with open addressing finds the number of a key while the file is read.
 */
#include "bench/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/distribution.h"
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
static uint32_t *find_slot(const struct trace *trace, const struct table *table, const char *key,
                           size_t len)
{
    uint64_t at = hash_text(key, len);

    for (;; at++) {
        uint32_t *slot = &table->slots[at & (table->cap - 1)];
        const struct trace_key *found;

        if (*slot == 0)
            return slot;
        found = &trace->keys[*slot - 1];
        if (found->len == len && memcmp(trace->text + found->offset, key, len) == 0)
            return slot;
    }
}

/* Room for twice as many keys. */
static bool grow(struct trace *trace, struct table *table)
{
    uint64_t cap = table->cap > 0 ? table->cap * 2 : FIRST_CAP;
    uint32_t *slots = calloc(cap, sizeof(*slots));
    struct trace_key *keys = realloc(trace->keys, cap / 2 * sizeof(*keys));

    if (keys != NULL)
        trace->keys = keys;
    if (slots == NULL || keys == NULL) {
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
static bool parse_line(const char *at, const char *end, struct trace_key *key)
{
    const char *start = at;
    uint64_t size = 0;

    while (at < end && (unsigned char)*at > ' ' && *at != 0x7f)
        at++;
    *key = (struct trace_key){.len = (uint32_t)(at - start), .size = TRACE_NO_SIZE};
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
static bool add_request(struct trace *trace, struct table *table, const char *text,
                        const struct trace_key *key)
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
    if (trace->keys[*slot - 1].size == TRACE_NO_SIZE)
        trace->keys[*slot - 1].size = key->size;
    trace->requests[trace->request_count++] = *slot - 1;
    return true;
}

static const char *line_end(const char *at, const char *end)
{
    const char *newline = memchr(at, '\n', (size_t)(end - at));

    return newline != NULL ? newline : end;
}

static bool parse_all(struct trace *trace, size_t len, uint64_t *line)
{
    const char *end = trace->text + len;
    struct table table = {0};
    bool right = true;

    *line = 0;
    for (const char *at = trace->text; at < end && right; at++) {
        const char *start = at;
        struct trace_key key;

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

bool trace_parse(struct trace *trace, char *text, size_t len, uint64_t *line)
{
    uint64_t lines = 1;

    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    *trace = (struct trace){.text = text, .requests = calloc(lines, sizeof(*trace->requests))};
    *line = 0;
    if (trace->requests != NULL && parse_all(trace, len, line))
        return true;
    trace_release(trace);
    return false;
}

/* ---- the file ---- */

/* All of a stream, which may be a pipe; NULL with errno when that fails. */
static char *read_all(FILE *file, size_t *len)
{
    size_t cap = 1 << 16;
    char *text = malloc(cap);

    *len = 0;
    while (text != NULL) {
        size_t got = fread(text + *len, 1, cap - *len, file);
        char *larger;

        *len += got;
        if (got == 0)
            break;
        if (*len < cap)
            continue;
        larger = realloc(text, cap *= 2);
        if (larger == NULL)
            free(text);
        text = larger;
    }
    if (text == NULL || !ferror(file))
        return text;
    free(text);
    return NULL;
}

static bool refuse(const char *path, const char *why)
{
    fprintf(stderr, "cachecask-bench: %s: %s\n", path, why);
    return false;
}

bool trace_load(struct trace *trace, const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    char why[64] = "no memory";
    uint64_t line;
    size_t len;

    if (file != NULL)
        text = read_all(file, &len);
    if (text == NULL)
        snprintf(why, sizeof(why), "%s", strerror(errno));
    if (file != NULL)
        fclose(file);
    if (text == NULL)
        return refuse(path, why);
    if (!trace_parse(trace, text, len, &line)) {
        if (line > 0)
            snprintf(why, sizeof(why), "line %llu is not 'key' or 'key size'",
                     (unsigned long long)line);
        return refuse(path, why);
    }
    if (trace->request_count > 0)
        return true;
    trace_release(trace);
    return refuse(path, "there is no request in it");
}

void trace_release(struct trace *trace)
{
    free(trace->text);
    free(trace->keys);
    free(trace->requests);
    *trace = (struct trace){0};
}
