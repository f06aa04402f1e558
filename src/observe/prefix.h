/* prefix.h: what clients do, counted by the beginning of their keys: `stats detail`. */
#ifndef CACHECASK_SRC_OBSERVE_PREFIX_H
#define CACHECASK_SRC_OBSERVE_PREFIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PREFIX_COUNT_MAX 10000 /* more than these are not counted: clients choose their keys */

enum prefix_counter { PREFIX_GET, PREFIX_HIT, PREFIX_SET, PREFIX_DELETE, PREFIX_COUNTERS };

struct prefixes;

/* A prefix ends before the first `delimiter`; a key without one is not counted. NULL: no memory. */
struct prefixes *prefixes_new(char delimiter);
void prefixes_free(struct prefixes *prefixes);

/* Any thread. */
void prefixes_count(struct prefixes *prefixes, const char *key, size_t len,
                    enum prefix_counter counter);
void prefixes_clear(struct prefixes *prefixes);

/* Calls emit with the bytes of each prefix and its counts. */
void prefixes_each(struct prefixes *prefixes,
                   void (*emit)(void *context, const char *prefix, size_t len,
                                const uint64_t counts[PREFIX_COUNTERS]),
                   void *context);

#endif
