/* settings.c: applies the options of the command line and of the configuration file, in order. */
#include "src/config/settings.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/refuse.h"
#include "src/config/options.h"
#include "src/config/settings_check.h"
#include "src/config/settings_file.h"

static const struct settings defaults = {
    .tcp_port = SETTINGS_NOT_GIVEN,
    .unix_mask = 0700,
    .memory_mib = 64,
    .threads = 4,
    .backlog = 1024,
    .protocol = "auto",
    .item_size_max = 1 << 20,
    .ssl_keyformat = SSL_KEYFORMAT_PEM,
    .ssl_min_version = 2,
    .ssl_wbuf_size = 16,
    .maxconns_fast = true,
    .uring = true,
    .sync_interval_ms = 1000,
    .prefix_delimiter = ':',
    .watcher_logbuf_kib = 256,
    .worker_logbuf_kib = 64,
};

/* A program that looks for memcached reads the first line, and expects nothing else in it. */
static void print_version(const struct settings *settings, const char *rest)
{
    if (settings->is_memcached)
        printf("memcached %s\n", SETTINGS_MEMCACHED_VERSION);
    printf("cachecask %s%s\n", PACKAGE_VERSION, rest);
}

static void print_help(const struct settings *settings)
{
    const struct features *built_in = &settings->built_in;
    print_version(settings, ": memcached that remembers");
    options_print();
    printf("\nBuilt in: unix-socket%s%s%s\n", built_in->tls ? ", enable-ssl" : "",
           built_in->sasl ? ", sasl" : "", built_in->seccomp ? ", seccomp" : "");
}

/* A copy of a text, for strings of the settings to point into. */
struct kept_text {
    struct kept_text *next;
    char text[];
};

static char *keep(struct settings *settings, const char *text)
{
    size_t size = strlen(text) + 1;
    struct kept_text *kept = malloc(sizeof *kept + size);
    if (!kept) {
        refuse("not enough memory to keep the options: free some and start again");
        return NULL;
    }
    memcpy(kept->text, text, size);
    kept->next = settings->kept;
    settings->kept = kept;
    return kept->text;
}

void settings_release(struct settings *settings)
{
    struct kept_text *next;
    for (struct kept_text *kept = settings->kept; kept; kept = next) {
        next = kept->next;
        free(kept);
    }
    settings->kept = NULL;
}

static bool parse_extended(struct settings *settings, const char *list);
static bool parse_config(struct settings *settings, const char *path);

/* False: it has said what is wrong, or printed what was asked for (settings->exits). */
static bool apply(struct settings *settings, const struct option *option, const char *value)
{
    while (value && isspace((unsigned char)*value))
        value++; /* "-m 6000" as one argument */

    switch (option->kind) {
    case EXTENDED: return parse_extended(settings, value);
    case CONFIG: return parse_config(settings, value);
    case SHOW_HELP: print_help(settings); break;
    case SHOW_LICENSE:
        puts("cachecask is free software under the MIT license: see the file LICENSE.");
        break;
    case SHOW_VERSION: print_version(settings, ""); break;
    default: return option_set(option, value, settings);
    }
    settings->exits = true;
    return false;
}

/* NULL: there is no such option, or it is ambiguous; standard error says so. */
static const struct option *find(const char *word, const char *name, size_t len, bool may_be_short)
{
    const struct option *other = NULL;
    const struct option *option = may_be_short ? option_by_short_name(name, len, &other) : NULL;
    if (other) {
        refuse("option %s is ambiguous: --%s or --%s; see --help", word, other->name, option->name);
        return NULL;
    }
    if (!option)
        option = option_by_name(name, len);
    if (!option)
        refuse("unknown option %s; see --help", word);
    return option;
}

/* `word` is the option as given. *next is the word after it, and is set to NULL when it was needed
 * as a value; next is NULL for a word of -o. */
static bool apply_named(struct settings *settings, const char *word, const char *name,
                        const char **next)
{
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    const struct option *option = find(word, name, len, next != NULL);
    if (!option)
        return false;

    if (option->argument && !value && next) {
        value = *next;
        *next = NULL;
    }
    if (option->argument && !value && option->kind != IGNORED_VALUE)
        return refuse("option %s needs a value; see --help", word);
    if (!option->argument && value && next && option->kind != IGNORED_ANY)
        return refuse("option %s takes no value; see --help", word);
    return apply(settings, option, value);
}

/* -o: commas separate; a list of flags and name=value. */
static bool parse_extended(struct settings *settings, const char *list)
{
    char *copy = keep(settings, list);
    char *rest = copy, *word;
    bool ok = copy != NULL;
    while (ok && (word = strsep(&rest, ",")))
        ok = !*word || apply_named(settings, word, word, NULL);
    return ok;
}

/* Letters may stand together (-dv), and a value directly after its letter (-m64). */
static bool apply_letters(struct settings *settings, const char *word, const char **next)
{
    bool ok = true;
    for (const char *letter = word + 1; *letter && ok; letter++) {
        const struct option *option = option_by_letter(*letter);
        if (!option)
            return refuse("unknown option -%c; see --help", *letter);
        if (!option->argument) {
            ok = apply(settings, option, NULL);
            continue;
        }
        if (letter[1])
            return apply(settings, option, letter + 1);
        const char *value = *next;
        *next = NULL;
        if (!value)
            return refuse("option -%c needs a value; see --help", *letter);
        return apply(settings, option, value);
    }
    return ok;
}

static bool apply_word(struct settings *settings, const char *word, const char **next)
{
    if (word[0] == '-' && word[1] == '-' && word[2])
        return apply_named(settings, word, word + 2, next);
    if (word[0] == '-' && word[1] && word[1] != '-')
        return apply_letters(settings, word, next);
    return refuse("\"%s\" is no option; see --help", word);
}

/* A line of the configuration file: the value comes after a blank or =. */
static bool apply_line(struct settings *settings, const char *line)
{
    char *kept = keep(settings, line);
    if (!kept)
        return false;

    size_t word = strcspn(kept, " \t");
    const char *value = NULL;
    if (kept[word]) {
        value = kept + word + 1 + strspn(kept + word + 1, " \t");
        kept[word] = '\0';
    }
    if (!apply_word(settings, kept, &value))
        return false;
    return !value || refuse("option %s takes no value; see --help", kept);
}

static bool parse_config(struct settings *settings, const char *path)
{
    if (settings->in_config)
        return refuse("a configuration file cannot name another one: %s", path);
    settings->in_config = true;
    bool ok = settings_file_read(path, settings, apply_line);
    settings->in_config = false;
    return ok;
}

/* Under memcached's name the server listens where memcached's users expect it. */
static bool is_named_memcached(const char *program)
{
    const char *slash = program ? strrchr(program, '/') : NULL;
    const char *name = slash ? slash + 1 : program;
    return name && strcmp(name, "memcached") == 0;
}

enum settings_result settings_parse(struct settings *settings, const struct features *built_in,
                                    int argc, char **argv)
{
    *settings = defaults;
    settings->built_in = *built_in;
    settings->is_memcached = is_named_memcached(argv[0]);

    bool ok = true;
    for (int i = 1; ok && i < argc; i++) {
        const char *offered = i + 1 < argc ? argv[i + 1] : NULL, *next = offered;
        ok = apply_word(settings, argv[i], &next);
        if (offered && !next)
            i++; /* it was taken as a value */
    }
    if (ok && settings_check(settings))
        return SETTINGS_RUN;
    return settings->exits ? SETTINGS_EXIT : SETTINGS_BAD;
}
