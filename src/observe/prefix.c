/* prefix.c: a table under one lock: it is used only while an operator wants details. */
#include "src/observe/prefix.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 1024

struct prefix {
    struct prefix *next; /* in the bucket */
    uint64_t counts[PREFIX_COUNTERS];
    uint32_t len;
    char text[];
};

struct prefixes {
    char delimiter;
    pthread_mutex_t lock;
    uint32_t count;
    struct prefix *buckets[BUCKETS];
};

struct prefixes *prefixes_new(char delimiter)
{
    struct prefixes *prefixes = calloc(1, sizeof *prefixes);
    if (!prefixes)
        return NULL;
    prefixes->delimiter = delimiter;
    pthread_mutex_init(&prefixes->lock, NULL);
    return prefixes;
}

void prefixes_free(struct prefixes *prefixes)
{
    if (!prefixes)
        return;
    prefixes_clear(prefixes);
    pthread_mutex_destroy(&prefixes->lock);
    free(prefixes);
}

/* FNV-1a. A client that tries to fill one bucket has only 10,000 prefixes to do it with. */
static uint32_t bucket_of(const char *text, size_t len)
{
    uint32_t hash = 2166136261;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619;
    return hash % BUCKETS;
}

/* Finds or adds a prefix. NULL: no more are counted. With the lock held. */
static struct prefix *get_prefix(struct prefixes *prefixes, const char *text, size_t len)
{
    struct prefix **bucket = &prefixes->buckets[bucket_of(text, len)];
    for (struct prefix *prefix = *bucket; prefix; prefix = prefix->next)
        if (prefix->len == len && memcmp(prefix->text, text, len) == 0)
            return prefix;

    bool full = prefixes->count == PREFIX_COUNT_MAX;
    struct prefix *fresh = full ? NULL : calloc(1, sizeof *fresh + len);
    if (!fresh)
        return NULL;

    memcpy(fresh->text, text, len);
    fresh->len = (uint32_t)len;
    fresh->next = *bucket;
    *bucket = fresh;
    prefixes->count++;
    return fresh;
}

void prefixes_count(struct prefixes *prefixes, const char *key, size_t len,
                    enum prefix_counter counter)
{
    const char *end = memchr(key, prefixes->delimiter, len);
    if (!end)
        return;
    pthread_mutex_lock(&prefixes->lock);
    struct prefix *prefix = get_prefix(prefixes, key, (size_t)(end - key));
    if (prefix)
        prefix->counts[counter]++;
    pthread_mutex_unlock(&prefixes->lock);
}

void prefixes_clear(struct prefixes *prefixes)
{
    pthread_mutex_lock(&prefixes->lock);
    for (uint32_t i = 0; i < BUCKETS; i++) {
        struct prefix *prefix;
        while ((prefix = prefixes->buckets[i])) {
            prefixes->buckets[i] = prefix->next;
            free(prefix);
        }
    }
    prefixes->count = 0;
    pthread_mutex_unlock(&prefixes->lock);
}

void prefixes_each(struct prefixes *prefixes,
                   void (*emit)(void *context, const char *prefix, size_t len,
                                const uint64_t counts[PREFIX_COUNTERS]),
                   void *context)
{
    pthread_mutex_lock(&prefixes->lock);
    for (uint32_t i = 0; i < BUCKETS; i++)
        for (const struct prefix *prefix = prefixes->buckets[i]; prefix; prefix = prefix->next)
            emit(context, prefix->text, prefix->len, prefix->counts);
    pthread_mutex_unlock(&prefixes->lock);
}
