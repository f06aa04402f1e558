/* settings.c: one table of options. It parses the command line, -o and the configuration file, and prints the help.
 *
 * A row that memcached has and that means nothing here (slabs, LRU queues) is of kind IGNORED: a site's arguments start us
 * unchanged. A row that would promise what is not there is not in the table.
 */
#define _GNU_SOURCE
#include "src/config/settings.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "src/privileges.h"
#include "src/command/sasl.h"
#include "src/config/settings_check.h"
#include "src/net/tls.h"
#include "storage/store.h"

enum kind {
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
    SHOW_VERSION,
    DELIMITER,     /* -D: one character */
    KEY_FORMAT,    /* int: a number, or its name */
    TLS_VERSION,   /* likewise */
    IGNORED,       /* no argument */
    IGNORED_VALUE, /* with one */
    IGNORED_ANY,   /* with or without =value; a name that ends in * stands for all that begin so */
    NOTE,          /* a line of the help, no option */
};

struct option {
    char letter;          /* 0: none */
    const char *name;     /* NULL: none */
    const char *argument; /* in the help; NULL: takes none */
    enum kind kind;
    size_t offset; /* in struct settings */
    long long min, max;
    const char *help; /* NULL: not shown */
};

#define AT(field) offsetof(struct settings, field)

/* What memcached's numbers stand for. */
static const char *const key_formats[] = {"", "pem", "der"};
static const char *const tls_versions[] = {"tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3"};

static const struct option options[] = {
    {'p', "port", "<num>", NUMBER, AT(tcp_port), -1, 65535,
     "TCP port to listen on (default: that of -U, else 11211; 0: off, -1: any free port)"},
    {'U', "udp-port", "<num>", NUMBER, AT(udp_port), -1, 65535,
     "UDP port to listen on (default: 0, off; -1: any free port)"},
    {'s', "unix-socket", "<file>", STRING, AT(unix_path), 0, 0,
     "Unix socket to listen on (then no TCP); made by the user that serves"},
    {'a', "unix-mask", "<mask>", OCTAL, AT(unix_mask), 0, 0777,
     "mode of the Unix socket, in octal (default: 700)"},
    {'A', "enable-shutdown", NULL, FLAG, AT(enable_shutdown), 0, 0,
     "obey the command \"shutdown\""},
    {'l', "listen", "<addr>", LISTEN, 0, 0, 0,
     "address to listen on, may be repeated (default: loopback only; 0.0.0.0: all); with -Z,\n"
     "in front of it: notls: plain, btls: no client certificate, mtls: client certificate"},
    {'d', "daemon", NULL, FLAG, AT(daemonize), 0, 0, "run in the background, once ready"},
    {'r', "enable-coredumps", NULL, FLAG, AT(core_dumps), 0, 0,
     "allow core dumps of any size; values and passwords are left out"},
    {'u', "user", "<user>", STRING, AT(user), 0, 0, "serve as this user (when started by root)"},
    {'m', "memory-limit", "<num>", MIB, AT(memory_mib), 1, 1 << 30,
     "memory for index and hot values together, in megabytes (default: 64)"},
    {'M', "disable-evictions", NULL, FLAG, AT(no_evictions), 0, 0,
     "a store: answer writes with an error when memory or disk is full, evict nothing"},
    {'c', "conn-limit", "<num>", NUMBER, AT(max_connections), 1, 1 << 20,
     "connections at the same time (default: 1024, or as many as the limit of open files allows)"},
    {'k', "lock-memory", NULL, FLAG, AT(lock_memory), 0, 0, "keep all memory from being swapped"},
    {'v', "verbose", NULL, COUNT, AT(verbosity), 0, 0,
     "say what is unusual: clients refused, wrong passwords, idle ones closed"},
    {0, "-vv", NULL, NOTE, 0, 0, 0, "also connections that come and go, commands and replies"},
    {0, "-vvv", NULL, NOTE, 0, 0, 0, "also what each connection waits for"},
    {'h', "help", NULL, SHOW_HELP, 0, 0, 0, "print this and exit"},
    {'i', "license", NULL, SHOW_HELP, 0, 0, 0, "print the license and exit"},
    {'V', "version", NULL, SHOW_VERSION, 0, 0, 0, "print the version and exit"},
    {'P', "pidfile", "<file>", STRING, AT(pid_file), 0, 0,
     "write the process id to this file, in a directory where the user that serves may write"},
    {'t', "threads", "<num>", NUMBER, AT(threads), 1, 1024, "worker threads (default: 4)"},
    {'R', "max-reqs-per-event", "<num>", NUMBER, AT(requests_per_event), 1, INT_MAX,
     "requests of one connection before others get their turn (default: what\n"
     "fits into 16 kB read and 64 kB of replies)"},
    {'C', "disable-cas", NULL, FLAG, AT(disable_cas), 0, 0, "accepted for memcached's sake"},
    {'b', "listen-backlog", "<num>", NUMBER, AT(backlog), 1, INT_MAX,
     "connections that may wait to be accepted (default: 1024)"},
    {'B', "protocol", "<name>", STRING, AT(protocol), 0, 0,
     "auto, ascii or binary (default: auto, by the first byte of each client)"},
    {'I', "max-item-size", "<num>", BYTES, AT(item_size_max), 1 << 10, 1 << 30,
     "largest item: value, key and a little more (default: 1m, 1k to 1g)"},
    {'F', "disable-flush-all", NULL, FLAG, AT(disable_flush), 0, 0,
     "refuse the command \"flush_all\""},
    {'S', "enable-sasl", NULL, FLAG, AT(enable_sasl), 0, 0,
     "clients must authenticate themselves by SASL; binary protocol only"},
    {'X', "disable-dumping", NULL, FLAG, AT(disable_dump), 0, 0,
     "refuse \"stats cachedump\" and \"lru_crawler metadump\""},
    {'W', "disable-watch", NULL, FLAG, AT(disable_watch), 0, 0, "refuse the command \"watch\""},
    {'D', "prefix-delimiter", "<char>", DELIMITER, 0, 0, 0,
     "character that ends the prefix of a key in \"stats detail\" (default: \":\");\n"
     "given, they are counted from the start"},
    {'Y', "auth-file", "<file>", STRING, AT(auth_file), 0, 0,
     "clients must show a password of this file, whose lines are user:password\n"
     "(text protocol only; SIGHUP reads it again)"},
    {'Z', "enable-ssl", NULL, FLAG, AT(enable_ssl), 0, 0,
     "speak TLS on TCP; -o names the certificate"},
    {'f', "slab-growth-factor", "<num>", IGNORED_VALUE, 0, 0, 0,
     "accepted, means nothing here: no slabs"},
    {'n', "slab-min-size", "<bytes>", IGNORED_VALUE, 0, 0, 0,
     "accepted, means nothing here: no slabs"},
    {'L', "enable-largepages", NULL, IGNORED, 0, 0, 0, "accepted: large pages are used anyway"},
    {'N', "napi-ids", "<num>", IGNORED_VALUE, 0, 0, 0, "accepted, means nothing here"},
    {'e', "memory-file", "<file>", IGNORED_VALUE, 0, 0, 0,
     "accepted, means nothing here: all data survives a restart"},
    {0, "data-dir", "<path>", STRING, AT(data_dir), 0, 0,
     "directory of the data (default: $STATE_DIRECTORY, /var/lib/cachecask/PORT for root,\n"
     "else cachecask/PORT in $XDG_STATE_HOME or ~/.local/state)"},
    {0, "require-mount", "<path>", STRING, AT(require_mount), 0, 0,
     "start only if a file system is mounted at this path, and the data lies on it: else\n"
     "an empty store would be made on the disk below"},
    {0, "any-owner", NULL, FLAG, AT(any_owner), 0, 0,
     "take a data directory of another owner, if it can be read and written: a volume\n"
     "that is shared by its group, or that shows an owner of its own"},
    {0, "sync", "<when>", SYNC, AT(sync_interval_ms), 0, 0,
     "always: answer writes when they are on disk; none: leave it to the system;\n"
     "else seconds, at most lost when the power fails (default: 1)"},
    {0, "disk-limit", "<size>", BYTES, AT(disk_limit), 4 << 20, LLONG_MAX / 2,
     "disk for all files, 4m and more (default: 16 times -m, at least 1g); full: the oldest\n"
     "data goes first, or with -M writes are refused"},
    {0, "clean-rate", "<size>", BYTES, AT(clean_rate), 1 << 10, LLONG_MAX / 2,
     "bytes a second that cleaning may read (default: as many as the writes make needed)"},
    {0, "segment-size", "<size>", BYTES, AT(segment_size), STORE_SEGMENT_SIZE_MIN,
     STORE_SEGMENT_SIZE_MAX,
     "size of a file of the log, 64k to 1g (default: a 64th of the disk limit, at most a\n"
     "quarter of -m and 64m)"},
    {0, "no-uring", NULL, NO_FLAG, AT(uring), 0, 0,
     "do without io_uring, also where the kernel has it: threads read what is on\n"
     "disk, and each connection has calls of its own"},
    {0, "config", "<file>", CONFIG, 0, 0, 0, "read options from this file, one a line"},
    {'o', "extended", "<list>", EXTENDED, 0, 0, 0,
     "options by name, separated by commas: those above without their dashes, and:"},
    {0, "maxconns_fast", NULL, FLAG, AT(maxconns_fast), 0, 0,
     "refuse connections over the limit at once (default)"},
    {0, "no_maxconns_fast", NULL, NO_FLAG, AT(maxconns_fast), 0, 0,
     "let them wait until others have closed"},
    {0, "ssl_chain_cert", "<file>", STRING, AT(ssl_chain_cert), 0, 0, "certificate chain, PEM"},
    {0, "ssl_key", "<file>", STRING, AT(ssl_key), 0, 0,
     "private key, if it is not in the certificate's file"},
    {0, "ssl_keyformat", "<num>", KEY_FORMAT, AT(ssl_keyformat), SSL_KEYFORMAT_PEM,
     SSL_KEYFORMAT_DER, "of the private key: 1 is PEM (default), 2 is DER"},
    {0, "ssl_verify_mode", "<num>", NUMBER, AT(ssl_verify_mode), 0, 3,
     "client certificates: 0 not asked for (default), 1 checked if there is one, 2 or 3 required"},
    {0, "ssl_ca_cert", "<file>", STRING, AT(ssl_ca_cert), 0, 0,
     "who signs client certificates, PEM"},
    {0, "ssl_ciphers", "<list>", STRING, AT(ssl_ciphers), 0, 0,
     "ciphers for TLS 1.2 and before, as OpenSSL writes them"},
    {0, "ssl_min_version", "<num>", TLS_VERSION, AT(ssl_min_version), 0, 3,
     "least version: 0 is TLS 1.0, 1 is 1.1, 2 is 1.2 (default), 3 is 1.3"},
    {0, "ssl_session_cache", NULL, FLAG, AT(ssl_session_cache), 0, 0,
     "let clients resume their sessions"},
    {0, "ssl_wbuf_size", "<num>", NUMBER, AT(ssl_wbuf_size), 1, 1 << 20,
     "kilobytes of an answer to send in one record, at most 16 (default: 16)"},
    {0, "ssl_kernel_tls", NULL, FLAG, AT(ssl_kernel_tls), 0, 0,
     "leave encryption to the kernel where it can"},
    {0, "idle_timeout", "<num>", NUMBER, AT(idle_timeout_s), 0, INT_MAX,
     "seconds after which an idle TCP connection is closed (default: 0, never)"},
    {0, "track_sizes", NULL, FLAG, AT(track_sizes), 0, 0, "let \"stats sizes\" answer"},
    {0, "no_track_sizes", NULL, NO_FLAG, AT(track_sizes), 0, 0, "do not (default)"},
    {0, "watcher_logbuf_size", "<num>", NUMBER, AT(watcher_logbuf_kib), 1, 1 << 20,
     "kilobytes that may wait for one \"watch\" (default: 256)"},
    {0, "worker_logbuf_size", "<num>", NUMBER, AT(worker_logbuf_kib), 1, 1 << 20,
     "kilobytes that may wait in one worker for all of them (default: 64)"},
    {0, "read_buf_mem_limit", "<num>", NUMBER, AT(read_buf_mem_limit), 0, INT_MAX,
     "megabytes that requests may take which have not arrived whole (default: an eighth of -m,\n"
     "at least 64)"},
    {0, "drop_privileges", NULL, FLAG, AT(drop_privileges), 0, 0,
     "once ready, give up all calls of the system that serving does not need (seccomp), and\n"
     "before that, to change files but its own (Landlock), and to be looked into, but with -r"},
    {0, "no_drop_privileges", NULL, NO_FLAG, AT(drop_privileges), 0, 0, "keep them (default)"},
    {0, "modern", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "no_modern", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "hashpower", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "no_hashexpand", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "hash_algorithm", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "tail_repair_time", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "slab_*", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "no_slab_*", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "lru_*", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "no_lru_*", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "hot_*", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "warm_*", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "temporary_ttl", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "no_temporary_ttl", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "no_chunked_items", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "inline_ascii_resp", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "no_inline_ascii_resp", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "resp_obj_mem_limit", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "sock_cookie_id", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "relaxed_privileges", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "no_relaxed_privileges", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "ext_*", NULL, IGNORED_ANY, 0, 0, 0, NULL},
    {0, "no_ext_*", NULL, IGNORED_ANY, 0, 0, 0, NULL},
};

#define OPTION_COUNT (sizeof options / sizeof *options)

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

static enum settings_result bad(const struct option *option, const char *value, const char *wanted)
{
    if (option->letter)
        fprintf(stderr, "-%c, ", option->letter);
    fprintf(stderr, "--%s: \"%s\" is no %s; see --help\n", option->name, value, wanted);
    return SETTINGS_BAD;
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

static enum settings_result out_of_range(const struct option *option, const char *value)
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

static enum settings_result set_sized(const struct option *option, const char *value,
                                      uint64_t *field)
{
    uint64_t unit = option->kind == MIB ? UINT64_C(1) << 20 : 1;
    uint64_t size;
    if (!parse_size(value, unit, &size) || size / unit < (uint64_t)option->min ||
        size / unit > (uint64_t)option->max)
        return out_of_range(option, value);
    *field = size / unit;
    return SETTINGS_RUN;
}

static enum settings_result set_number(const struct option *option, const char *value, int *field)
{
    long long number;
    if (!parse_number(value, option->kind == OCTAL ? 8 : 10, &number) || number < option->min ||
        number > option->max)
        return out_of_range(option, value);
    *field = (int)number;
    return SETTINGS_RUN;
}

/* The names that -o takes for memcached's sake, in lines of a bearable length. */
static void print_ignored(void)
{
    size_t column = (size_t)printf("   - accepted without effect:");
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *option = &options[i];
        if (option->kind != IGNORED_ANY)
            continue;
        if (column + strlen(option->name) > 95)
            column = (size_t)printf("\n%29s", "") - 1;
        column += (size_t)printf(" %s", option->name);
    }
    putchar('\n');
}

static enum settings_result set_named(const struct option *option, const char *value,
                                      const char *const *names, int *field)
{
    assert(value);
    for (long long i = option->min; i <= option->max; i++)
        if (strcasecmp(value, names[i]) == 0) {
            *field = (int)i;
            return SETTINGS_RUN;
        }
    return set_number(option, value, field);
}

/* What looks for a memcached reads the first line, and wants nothing else in it. */
static void print_version(const struct settings *settings, const char *rest)
{
    if (settings->is_memcached)
        printf("memcached %s\n", SETTINGS_MEMCACHED_VERSION);
    printf("cachecask %s%s\n", PACKAGE_VERSION, rest);
}

static void print_options(void)
{
    const char *dashes = "--";
    bool in_list = false;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *option = &options[i];
        char left[64];
        int at = 0;
        if (!option->help)
            continue;
        if (option->kind == NOTE)
            dashes = "";
        else if (!in_list)
            dashes = "--";
        if (option->letter)
            at += snprintf(left, sizeof left, "-%c, ", option->letter);
        snprintf(left + at, sizeof left - (size_t)at, "%s%s%s%s", dashes, option->name,
                 option->argument ? "=" : "", option->argument ? option->argument : "");
        if (option->kind == EXTENDED) { /* the rows behind it are its names */
            in_list = true;
            dashes = "   - ";
        }
        printf("%-29s ", left);
        for (const char *c = option->help; *c; c++) {
            putchar(*c);
            if (*c == '\n')
                printf("%-30s", "");
        }
        putchar('\n');
    }
}

static void print_help(const struct settings *settings)
{
    print_version(settings, ": memcached that remembers");
    print_options();
    print_ignored();
    printf("\nBuilt in: unix-socket%s%s%s\n", tls_is_built_in() ? ", enable-ssl" : "",
           sasl_built_in() ? ", sasl" : "", privileges_can_be_dropped() ? ", seccomp" : "");
}

static enum settings_result parse_extended(struct settings *settings, const char *list);
static enum settings_result parse_config(struct settings *settings, const char *path);

static enum settings_result add_listen(struct settings *settings, const char *value)
{
    if (settings->listen_count == SETTINGS_LISTEN_MAX) {
        fprintf(stderr,
                "more than %d times -l: give several addresses to one, separated by commas\n",
                SETTINGS_LISTEN_MAX);
        return SETTINGS_BAD;
    }
    settings->listen[settings->listen_count++] = value;
    return SETTINGS_RUN;
}

static enum settings_result set_delimiter(struct settings *settings, const struct option *option,
                                          const char *value)
{
    assert(value);
    if (strlen(value) != 1)
        return bad(option, value, "single character");
    settings->prefix_delimiter = *value;
    settings->stats_detail = true;
    return SETTINGS_RUN;
}

static enum settings_result apply(struct settings *settings, const struct option *option,
                                  const char *value)
{
    void *field = (char *)settings + option->offset;
    while (value && isspace((unsigned char)*value))
        value++; /* "-m 6000" as one argument */
    switch (option->kind) {
    case FLAG: *(bool *)field = true; return SETTINGS_RUN;
    case NO_FLAG: *(bool *)field = false; return SETTINGS_RUN;
    case COUNT: ++*(int *)field; return SETTINGS_RUN;
    case NUMBER:
    case OCTAL: return set_number(option, value, field);
    case KEY_FORMAT: return set_named(option, value, key_formats, field);
    case TLS_VERSION: return set_named(option, value, tls_versions, field);
    case MIB:
    case BYTES: return set_sized(option, value, field);
    case STRING: *(const char **)field = value; return SETTINGS_RUN;
    case LISTEN: return add_listen(settings, value);
    case SYNC:
        return parse_sync(value, field)
                   ? SETTINGS_RUN
                   : bad(option, value, "\"always\", \"none\" or number of seconds");
    case EXTENDED: return parse_extended(settings, value);
    case CONFIG: return parse_config(settings, value);
    case SHOW_HELP:
        if (option->letter == 'h')
            print_help(settings);
        else
            puts("cachecask is free software under the MIT license: see the file LICENSE.");
        return SETTINGS_EXIT;
    case SHOW_VERSION: print_version(settings, ""); return SETTINGS_EXIT;
    case DELIMITER: return set_delimiter(settings, option, value);
    case IGNORED:
    case IGNORED_VALUE:
    case IGNORED_ANY: return SETTINGS_RUN;
    case NOTE: break;
    }
    return SETTINGS_BAD;
}

static const struct option *find_letter(char letter)
{
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (options[i].letter == letter)
            return &options[i];
    return NULL;
}

static char dash(char c)
{
    return c == '_' ? '-' : c;
}

/* How many of the `len` bytes of `name` a known name begins with; - and _ are the same. */
static size_t common(const char *known, const char *name, size_t len)
{
    size_t k = 0;
    while (k < len && known[k] && dash(known[k]) == dash(name[k]))
        k++;
    return k;
}

/* By long name, of which `len` bytes are given. */
static const struct option *find_name(const char *name, size_t len)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const char *known = options[i].name;
        size_t k = common(known, name, len);
        bool found = known[k] == '*' || (k == len && known[k] == '\0');
        if (found && options[i].kind != NOTE)
            return &options[i];
    }
    return NULL;
}

/* Whether memcached has this name too; of -D it has only the letter. */
static bool is_memcacheds(const struct option *option)
{
    return option->letter && option->kind != DELIMITER;
}

/* As find_name, of a name that may be cut short, as getopt_long has it. *other: it may as well be that one, else NULL.
 *
 * memcached's names go before ours, so what is one option's alone there is so here. The names of -o stand behind the last
 * row that is looked at: getsubopt, which reads them in memcached, wants them whole. */
static const struct option *find_short_name(const char *name, size_t len,
                                            const struct option **other)
{
    const struct option *found = NULL;
    bool last = false;
    *other = NULL;
    for (size_t i = 0; !last; i++) {
        const struct option *option = &options[i];
        last = option->kind == EXTENDED;
        if (option->kind == NOTE || common(option->name, name, len) < len)
            continue;
        if (option->name[len] == '\0') {
            *other = NULL;
            return option;
        }
        if (found && is_memcacheds(found) && !is_memcacheds(option))
            continue;
        *other = found && is_memcacheds(found) == is_memcacheds(option) ? found : NULL;
        found = option;
    }
    return found;
}

/* `word` is the option as given; *next the argument behind it, taken (set to NULL) when it is needed. next is NULL for a
 * word of -o. */
static enum settings_result apply_named(struct settings *settings, const char *word,
                                        const char *name, const char **next)
{
    size_t len = strcspn(name, "=");
    const struct option *other = NULL;
    const struct option *option = next ? find_short_name(name, len, &other) : NULL;
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    if (other) {
        fprintf(stderr, "option %s is ambiguous: --%s or --%s; see --help\n", word, other->name,
                option->name);
        return SETTINGS_BAD;
    }
    if (!option)
        option = find_name(name, len);
    if (!option) {
        fprintf(stderr, "unknown option %s; see --help\n", word);
        return SETTINGS_BAD;
    }
    if (option->argument && !value && next) {
        value = *next;
        *next = NULL;
    }
    if (option->argument && !value && option->kind != IGNORED_VALUE) {
        fprintf(stderr, "option %s needs a value; see --help\n", word);
        return SETTINGS_BAD;
    }
    if (!option->argument && value && next && option->kind != IGNORED_ANY) {
        fprintf(stderr, "option %s takes no value; see --help\n", word);
        return SETTINGS_BAD;
    }
    return apply(settings, option, value);
}

/* A copy that may be written to and that settings may point into. */
struct kept_text {
    struct kept_text *next;
    char text[];
};

static char *keep(struct settings *settings, const char *text)
{
    size_t size = strlen(text) + 1;
    struct kept_text *kept = malloc(sizeof *kept + size);
    if (!kept) {
        fprintf(stderr, "not enough memory to keep the options: free some and start again\n");
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

/* -o: commas separate; a list of flags and name=value. */
static enum settings_result parse_extended(struct settings *settings, const char *list)
{
    char *copy = keep(settings, list);
    char *rest = copy, *word;
    enum settings_result result = copy ? SETTINGS_RUN : SETTINGS_BAD;
    while (result == SETTINGS_RUN && (word = strsep(&rest, ",")))
        if (*word)
            result = apply_named(settings, word, word, NULL);
    return result;
}

/* Letters may stand together (-dv), and a value right behind its letter (-m64). */
static enum settings_result apply_letters(struct settings *settings, const char *word,
                                          const char **next)
{
    enum settings_result result = SETTINGS_RUN;
    for (const char *letter = word + 1; *letter && result == SETTINGS_RUN; letter++) {
        const struct option *option = find_letter(*letter);
        if (!option) {
            fprintf(stderr, "unknown option -%c; see --help\n", *letter);
            return SETTINGS_BAD;
        }
        if (!option->argument) {
            result = apply(settings, option, NULL);
            continue;
        }
        if (letter[1])
            return apply(settings, option, letter + 1);
        const char *value = *next;
        *next = NULL;
        if (!value) {
            fprintf(stderr, "option -%c needs a value; see --help\n", *letter);
            return SETTINGS_BAD;
        }
        return apply(settings, option, value);
    }
    return result;
}

static enum settings_result apply_word(struct settings *settings, const char *word,
                                       const char **next)
{
    if (word[0] == '-' && word[1] == '-' && word[2])
        return apply_named(settings, word, word + 2, next);
    if (word[0] == '-' && word[1] && word[1] != '-')
        return apply_letters(settings, word, next);
    fprintf(stderr, "\"%s\" is no option; see --help\n", word);
    return SETTINGS_BAD;
}

/* A comment begins with a # at the start or behind a blank. */
static void cut_comment(char *line)
{
    for (char *at = line; (at = strchr(at, '#')); at++)
        if (at == line || isspace((unsigned char)at[-1])) {
            *at = '\0';
            return;
        }
}

/* A line is one option, with its value behind a blank or =. */
static enum settings_result apply_line(struct settings *settings, char *line)
{
    line += strspn(line, " \t");
    line[strcspn(line, "\r\n")] = '\0';
    cut_comment(line);
    for (size_t len = strlen(line); len && isspace((unsigned char)line[len - 1]); len--)
        line[len - 1] = '\0';
    if (*line == '\0' || strncmp(line, "logfile", strlen("logfile")) == 0)
        return SETTINGS_RUN; /* Debian's memcached.conf has such a line, for its start script */
    char *kept = keep(settings, line);
    if (!kept)
        return SETTINGS_BAD;
    size_t word = strcspn(kept, " \t");
    const char *value = NULL;
    if (kept[word]) {
        value = kept + word + 1 + strspn(kept + word + 1, " \t");
        kept[word] = '\0';
    }
    enum settings_result result = apply_word(settings, kept, &value);
    if (result == SETTINGS_RUN && value) {
        fprintf(stderr, "option %s takes no value; see --help\n", kept);
        return SETTINGS_BAD;
    }
    return result;
}

/* Applies line after line; says where it has stopped, and why if that is not a line's fault. */
static enum settings_result apply_lines(struct settings *settings, FILE *file, const char *path)
{
    char *line = NULL;
    size_t room = 0;
    int number = 0;
    enum settings_result result = SETTINGS_RUN;
    while (result == SETTINGS_RUN && getline(&line, &room, file) >= 0) {
        number++;
        result = apply_line(settings, line);
    }
    if (result == SETTINGS_BAD)
        fprintf(stderr, "configuration file %s: stopped at line %d\n", path, number);
    if (result == SETTINGS_RUN && !feof(file)) { /* a directory is opened, and not read */
        fprintf(stderr, "configuration file %s: %s\n", path, strerror(errno));
        result = SETTINGS_BAD;
    }
    free(line);
    return result;
}

static enum settings_result parse_config(struct settings *settings, const char *path)
{
    if (settings->in_config) {
        fprintf(stderr, "a configuration file cannot name another one: %s\n", path);
        return SETTINGS_BAD;
    }
    FILE *file = fopen(path, "re");
    if (!file) {
        fprintf(stderr, "configuration file %s: %s\n", path, strerror(errno));
        return SETTINGS_BAD;
    }
    settings->in_config = true;
    enum settings_result result = apply_lines(settings, file, path);
    settings->in_config = false;
    fclose(file);
    return result;
}

/* Under memcached's name we are where its users expect it. */
static bool is_named_memcached(const char *program)
{
    const char *slash = program ? strrchr(program, '/') : NULL;
    const char *name = slash ? slash + 1 : program;
    return name && strcmp(name, "memcached") == 0;
}

enum settings_result settings_parse(struct settings *settings, int argc, char **argv)
{
    *settings = defaults;
    settings->is_memcached = is_named_memcached(argv[0]);
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        const char *offered = next;
        enum settings_result result = apply_word(settings, argv[i], &next);
        if (result != SETTINGS_RUN)
            return result;
        if (offered && !next)
            i++; /* it was taken */
    }
    return settings_check(settings);
}

const char *settings_tls_version(const struct settings *settings)
{
    return tls_versions[settings->ssl_min_version];
}
