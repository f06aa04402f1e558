/* stats_row.h: one row of `stats`, in no particular protocol. */
#ifndef CACHECASK_SRC_BASE_STATS_ROW_H
#define CACHECASK_SRC_BASE_STATS_ROW_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* The strings are valid until the receiver returns. */
struct stats_row {
    const char *name, *value;
    bool is_prefix; /* the name is a prefix of keys, the value "get N hit N set N del N" */
};

struct stats_receiver {
    void (*take)(void *context, const struct stats_row *row);
    void *context;
};

static inline void stats_string(const struct stats_receiver *to, const char *name,
                                const char *value)
{
    const struct stats_row row = {.name = name, .value = value};
    to->take(to->context, &row);
}

static inline void stats_signed(const struct stats_receiver *to, const char *name, int64_t value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRId64, value);
    stats_string(to, name, digits);
}

static inline void stats_number(const struct stats_receiver *to, const char *name, uint64_t value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, value);
    stats_string(to, name, digits);
}

#endif
