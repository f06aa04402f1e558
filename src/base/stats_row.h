/* stats_row.h: one row of `stats`, in no particular protocol. */
#ifndef CACHECASK_SRC_BASE_STATS_ROW_H
#define CACHECASK_SRC_BASE_STATS_ROW_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

enum stats_kind {
    STATS_NUMBER, /* the value is a decimal number, perhaps with a sign or a fraction */
    STATS_STRING,
    STATS_PREFIX, /* the name is a prefix of keys, the value "get N hit N set N del N" */
};

/* Both strings live until the receiver returns. */
struct stats_row {
    enum stats_kind kind;
    const char *name;
    const char *value;
};

struct stats_receiver {
    void (*take)(void *context, const struct stats_row *row);
    void *context;
};

static inline void stats_string(const struct stats_receiver *to, const char *name,
                                const char *value)
{
    const struct stats_row row = {STATS_STRING, name, value};
    to->take(to->context, &row);
}

/* A number that is written already, such as one with a fraction. */
static inline void stats_decimal(const struct stats_receiver *to, const char *name,
                                 const char *value)
{
    const struct stats_row row = {STATS_NUMBER, name, value};
    to->take(to->context, &row);
}

static inline void stats_signed(const struct stats_receiver *to, const char *name, int64_t value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRId64, value);
    stats_decimal(to, name, digits);
}

static inline void stats_number(const struct stats_receiver *to, const char *name, uint64_t value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, value);
    stats_decimal(to, name, digits);
}

#endif
