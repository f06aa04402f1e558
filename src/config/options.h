/* options.h: the table of options, and how to find one in it. */
#ifndef CACHECASK_SRC_CONFIG_OPTIONS_H
#define CACHECASK_SRC_CONFIG_OPTIONS_H

#include <stddef.h>

#include "src/config/settings.h"

enum option_kind {
    FLAG,     /* bool: set */
    NO_FLAG,  /* bool: cleared */
    COUNT,    /* int: one more each time (-v) */
    NUMBER,   /* int, min to max */
    OCTAL,    /* int */
    MIB,      /* uint64_t: a plain number of MiB, or with g or t */
    BYTES,    /* uint64_t: a number with k, m or g, min to max */
    STRING,   /* const char * */
    LISTEN,   /* one more address */
    SYNC,     /* always, none, or seconds */
    EXTENDED, /* -o: a list of name or name=value */
    CONFIG,   /* --config */
    SHOW_HELP,
    SHOW_LICENSE,
    SHOW_VERSION,
    DELIMITER,     /* -D: one character */
    KEY_FORMAT,    /* int: a number, or its name */
    TLS_VERSION,   /* likewise */
    IGNORED,       /* no argument */
    IGNORED_VALUE, /* with one */
    IGNORED_ANY,   /* with or without =value */
    NOTE,          /* a line of the help, no option */
};

struct option {
    char letter; /* 0: none */
    const char *name;
    const char *argument; /* in the help; NULL: takes none */
    enum option_kind kind;
    size_t offset; /* in struct settings */
    long long min, max;
    const char *help;
};

/* The rows after that of -o are names for its list, and of these only whole ones are accepted. */
extern const struct option options[];
extern const size_t options_count;

/* NULL: there is none. */
const struct option *option_by_letter(char letter);

/* By the first `len` bytes of `name`; - and _ are the same. NULL: there is none. */
const struct option *option_by_name(const char *name, size_t len);

/* The same for a name that may be abbreviated, as with getopt_long. *other is a second option that
 * it may stand for just as well, or NULL. */
const struct option *option_by_short_name(const char *name, size_t len,
                                          const struct option **other);

/* Prints a line or more for each option. */
void options_print(void);

/* Sets the option's field in *settings. False: the value is not what the option wants, which it has
 * said on standard error. For the kinds that a value is enough for; see settings.c for the others.
 */
bool option_set(const struct option *option, const char *value, struct settings *settings);

#endif
