/* option_value.c: from the value of an option, as it is written, to a field of the settings. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/refuse.h"
#include "src/config/options.h"
#include "storage/store.h"

/* Names of memcached's numbers. */
static const char *const key_formats[] = {"", "pem", "der"};
static const char *const tls_versions[] = {"tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3"};

static bool bad(const struct option *option, const char *value, const char *wanted)
{
    if (option->letter)
        fprintf(stderr, "-%c, ", option->letter);
    return refuse("--%s: \"%s\" is no %s; see --help", option->name, value, wanted);
}

/* A number of bytes in the largest unit that fits. */
static void format_size(char out[24], unsigned long long size)
{
    static const char units[] = "\0kmgt";
    int unit = 0;
    for (; size && size % 1024 == 0 && units[unit + 1]; unit++)
        size /= 1024;
    snprintf(out, 24, "%llu%.1s", size, &units[unit]);
}

static bool out_of_range(const struct option *option, const char *value)
{
    char wanted[80], min[24], max[24];
    bool sized = option->kind == MIB || option->kind == BYTES;
    unsigned shift = option->kind == MIB ? 20 : 0;
    if (sized) {
        format_size(min, (unsigned long long)option->min << shift);
        format_size(max, (unsigned long long)option->max << shift);
    } else {
        snprintf(min, sizeof min, option->kind == OCTAL ? "%llo" : "%lld", option->min);
        snprintf(max, sizeof max, option->kind == OCTAL ? "%llo" : "%lld", option->max);
    }
    if (option->max == INT_MAX || option->max == LLONG_MAX / 2)
        snprintf(wanted, sizeof wanted, "%s, %s or more", sized ? "size" : "number", min);
    else
        snprintf(wanted, sizeof wanted, "%s from %s to %s", sized ? "size" : "number", min, max);
    return bad(option, value, wanted);
}

/* A number with an optional k, m, g or t, worth `unit` without one. False: it is none. */
static bool parse_size(const char *text, uint64_t unit, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (end == text || errno || strchr(text, '-'))
        return false;
    uint64_t factor = unit;
    switch (tolower((unsigned char)*end)) {
    case 'k': factor = UINT64_C(1) << 10; break;
    case 'm': factor = UINT64_C(1) << 20; break;
    case 'g': factor = UINT64_C(1) << 30; break;
    case 't': factor = UINT64_C(1) << 40; break;
    case '\0': end--; break;
    default: return false;
    }
    if (end[1] || (number && factor > UINT64_MAX / number))
        return false;
    *out = number * factor;
    return true;
}

static bool parse_number(const char *text, int base, long long *out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, base);
    return end != text && *end == '\0' && errno == 0;
}

static bool parse_sync(const char *text, int *out)
{
    char *end;
    assert(text); /* no option of this kind goes without an argument */
    if (strcmp(text, "always") == 0) {
        *out = STORE_SYNC_ALWAYS;
        return true;
    }
    if (strcmp(text, "none") == 0) {
        *out = STORE_SYNC_NEVER;
        return true;
    }
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds >= 0.001 && seconds <= 3600))
        return false;
    *out = (int)(seconds * 1000);
    return true;
}

static bool set_sized(const struct option *option, const char *value, uint64_t *field)
{
    uint64_t unit = option->kind == MIB ? UINT64_C(1) << 20 : 1;
    uint64_t size;
    if (!parse_size(value, unit, &size) || size / unit < (uint64_t)option->min ||
        size / unit > (uint64_t)option->max)
        return out_of_range(option, value);
    *field = size / unit;
    return true;
}

static bool set_number(const struct option *option, const char *value, int *field)
{
    long long number;
    if (!parse_number(value, option->kind == OCTAL ? 8 : 10, &number) || number < option->min ||
        number > option->max)
        return out_of_range(option, value);
    *field = (int)number;
    return true;
}

static bool set_named(const struct option *option, const char *value, const char *const *names,
                      int *field)
{
    assert(value);
    for (long long i = option->min; i <= option->max; i++)
        if (strcasecmp(value, names[i]) == 0) {
            *field = (int)i;
            return true;
        }
    return set_number(option, value, field);
}

static bool add_listen(struct settings *settings, const char *value)
{
    if (settings->listen_count == SETTINGS_LISTEN_MAX)
        return refuse(
            "more than %d times -l: give several addresses to one -l, separated by commas",
            SETTINGS_LISTEN_MAX);
    settings->listen[settings->listen_count++] = value;
    return true;
}

static bool set_delimiter(struct settings *settings, const struct option *option, const char *value)
{
    assert(value);
    if (strlen(value) != 1)
        return bad(option, value, "single character");
    settings->prefix_delimiter = *value;
    settings->stats_detail = true;
    return true;
}

bool option_set(const struct option *option, const char *value, struct settings *settings)
{
    void *field = (char *)settings + option->offset;
    switch (option->kind) {
    case FLAG: *(bool *)field = true; return true;
    case NO_FLAG: *(bool *)field = false; return true;
    case COUNT: ++*(int *)field; return true;
    case NUMBER:
    case OCTAL: return set_number(option, value, field);
    case KEY_FORMAT: return set_named(option, value, key_formats, field);
    case TLS_VERSION: return set_named(option, value, tls_versions, field);
    case MIB:
    case BYTES: return set_sized(option, value, field);
    case STRING: *(const char **)field = value; return true;
    case LISTEN: return add_listen(settings, value);
    case SYNC:
        return parse_sync(value, field) ||
               bad(option, value, "\"always\", \"none\" or number of seconds");
    case DELIMITER: return set_delimiter(settings, option, value);
    default: return true; /* ignored */
    }
}

const char *settings_tls_version(const struct settings *settings)
{
    return tls_versions[settings->ssl_min_version];
}
