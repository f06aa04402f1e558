/* options.c: the table of options.
 *
 * An option of memcached that means nothing here (slabs, LRU queues) is accepted, so that a site's
 * arguments start this server unchanged. One that would promise what is not there has no row.
 */
#include "src/config/options.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "storage/store.h"

#define HELP_COLUMN 30 /* where the text begins */
#define HELP_WIDTH  95

#define AT(field)   offsetof(struct settings, field)

const struct option options[] = {
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
    {'d', "daemon", NULL, FLAG, AT(daemonize), 0, 0, "run in the background once ready"},
    {'r', "enable-coredumps", NULL, FLAG, AT(core_dumps), 0, 0,
     "allow core dumps of any size; values and passwords are left out"},
    {'u', "user", "<user>", STRING, AT(user), 0, 0, "serve as this user (when started by root)"},
    {'m', "memory-limit", "<num>", MIB, AT(memory_mib), 1, 1 << 30,
     "memory for index and hot values together, in megabytes (default: 64)"},
    {'M', "disable-evictions", NULL, FLAG, AT(no_evictions), 0, 0,
     "a store: answer writes with an error when memory or disk is full, evict nothing"},
    {'c', "conn-limit", "<num>", NUMBER, AT(max_connections), 1, 1 << 20,
     "connections at the same time (default: 1024, or as many as the limit of open files allows)"},
    {'k', "lock-memory", NULL, FLAG, AT(lock_memory), 0, 0,
     "keep all memory from being swapped out"},
    {'v', "verbose", NULL, COUNT, AT(verbosity), 0, 0,
     "report what is unusual: clients refused, wrong passwords, idle clients closed"},
    {0, "-vv", NULL, NOTE, 0, 0, 0, "also connections that come and go, commands and replies"},
    {0, "-vvv", NULL, NOTE, 0, 0, 0, "also what each connection waits for"},
    {'h', "help", NULL, SHOW_HELP, 0, 0, 0, "print this and exit"},
    {'i', "license", NULL, SHOW_LICENSE, 0, 0, 0, "print the license and exit"},
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
     "if it is given, prefixes are counted from the start"},
    {'Y', "auth-file", "<file>", STRING, AT(auth_file), 0, 0,
     "clients must send a user and password of this file, whose lines are user:password\n"
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
     "start only if a file system is mounted at this path and holds the data; otherwise an\n"
     "empty store would be made on the disk below"},
    {0, "any-owner", NULL, FLAG, AT(any_owner), 0, 0,
     "accept a data directory of another owner if it can be read and written: a volume that\n"
     "its group shares, or one that shows an owner of its own"},
    {0, "sync", "<when>", SYNC, AT(sync_interval_ms), 0, 0,
     "always: answer writes when they are on disk; none: leave it to the system;\n"
     "else seconds, at most lost when the power fails (default: 1)"},
    {0, "disk-limit", "<size>", BYTES, AT(disk_limit), 4 << 20, LLONG_MAX / 2,
     "disk for all files, 4m and more (default: 16 times -m, at least 1g); when it is full the\n"
     "oldest data is evicted, or with -M writes are refused"},
    {0, "clean-rate", "<size>", BYTES, AT(clean_rate), 1 << 10, LLONG_MAX / 2,
     "bytes a second that cleaning may read (default: as many as writes require)"},
    {0, "segment-size", "<size>", BYTES, AT(segment_size), STORE_SEGMENT_SIZE_MIN,
     STORE_SEGMENT_SIZE_MAX,
     "size of a file of the log, 64k to 1g (default: a 64th of the disk limit, at most a\n"
     "quarter of -m and 64m)"},
    {0, "no-uring", NULL, NO_FLAG, AT(uring), 0, 0,
     "do not use io_uring even if the kernel has it: threads read from disk, and each\n"
     "connection makes its own calls"},
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
     "authorities that sign client certificates, PEM"},
    {0, "ssl_ciphers", "<list>", STRING, AT(ssl_ciphers), 0, 0,
     "ciphers for TLS 1.2 and before, as OpenSSL writes them"},
    {0, "ssl_min_version", "<num>", TLS_VERSION, AT(ssl_min_version), 0, 3,
     "lowest version: 0 is TLS 1.0, 1 is 1.1, 2 is 1.2 (default), 3 is 1.3"},
    {0, "ssl_session_cache", NULL, FLAG, AT(ssl_session_cache), 0, 0,
     "let clients resume their sessions"},
    {0, "ssl_wbuf_size", "<num>", NUMBER, AT(ssl_wbuf_size), 1, 1 << 20,
     "kilobytes of an answer to send in one record, at most 16 (default: 16)"},
    {0, "ssl_kernel_tls", NULL, FLAG, AT(ssl_kernel_tls), 0, 0,
     "let the kernel encrypt where it can"},
    {0, "idle_timeout", "<num>", NUMBER, AT(idle_timeout_s), 0, INT_MAX,
     "seconds after which an idle TCP connection is closed (default: 0, never)"},
    {0, "track_sizes", NULL, FLAG, AT(track_sizes), 0, 0, "let \"stats sizes\" answer"},
    {0, "no_track_sizes", NULL, NO_FLAG, AT(track_sizes), 0, 0, "do not (default)"},
    {0, "watcher_logbuf_size", "<num>", NUMBER, AT(watcher_logbuf_kib), 1, 1 << 20,
     "kilobytes that may wait for one \"watch\" (default: 256)"},
    {0, "worker_logbuf_size", "<num>", NUMBER, AT(worker_logbuf_kib), 1, 1 << 20,
     "kilobytes that may wait in one worker for all of them (default: 64)"},
    {0, "read_buf_mem_limit", "<num>", NUMBER, AT(read_buf_mem_limit), 0, INT_MAX,
     "megabytes for requests that have arrived in part (default: an eighth of -m, at least 64)"},
    {0, "drop_privileges", NULL, FLAG, AT(drop_privileges), 0, 0,
     "once ready, give up all system calls that serving does not need (seccomp); before that,\n"
     "give up changing other files (Landlock) and, without -r, being inspected"},
    {0, "no_drop_privileges", NULL, NO_FLAG, AT(drop_privileges), 0, 0, "keep them (default)"},
};

const size_t options_count = sizeof options / sizeof *options;

/* Names that -o accepts for memcached's sake, with or without a value; * stands for any ending. */
static const char *const ignored[] = {
    /* defaults, and the hash table */
    "modern", "no_modern", "hashpower", "no_hashexpand", "hash_algorithm", "tail_repair_time",
    /* slabs and queues */
    "slab_*", "no_slab_*", "lru_*", "no_lru_*", "hot_*", "warm_*", "temporary_ttl",
    "no_temporary_ttl", "no_chunked_items",
    /* the rest */
    "inline_ascii_resp", "no_inline_ascii_resp", "resp_obj_mem_limit", "sock_cookie_id",
    "relaxed_privileges", "no_relaxed_privileges", "ext_*", "no_ext_*"};

static const struct option ignored_option = {.kind = IGNORED_ANY};

const struct option *option_by_letter(char letter)
{
    for (size_t i = 0; i < options_count; i++)
        if (options[i].letter == letter)
            return &options[i];
    return NULL;
}

static char dash(char c)
{
    return c == '_' ? '-' : c;
}

/* How many of the `len` bytes of `name` a known name begins with. */
static size_t common(const char *known, const char *name, size_t len)
{
    size_t k = 0;
    while (k < len && known[k] && dash(known[k]) == dash(name[k]))
        k++;
    return k;
}

static bool is_named(const char *known, const char *name, size_t len)
{
    size_t k = common(known, name, len);
    return known[k] == '*' || (k == len && known[k] == '\0');
}

const struct option *option_by_name(const char *name, size_t len)
{
    for (size_t i = 0; i < options_count; i++)
        if (options[i].kind != NOTE && is_named(options[i].name, name, len))
            return &options[i];
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        if (is_named(ignored[i], name, len))
            return &ignored_option;
    return NULL;
}

/* True if memcached has this name too; of -D it has only the letter. */
static bool is_memcacheds(const struct option *option)
{
    return option->letter && option->kind != DELIMITER;
}

/* memcached's names come before ours: an abbreviation that is unambiguous there is so here. The
 * names of -o, after the last row that is looked at, must be whole, as for getsubopt. */
const struct option *option_by_short_name(const char *name, size_t len, const struct option **other)
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

static void print_text(const char *text)
{
    for (const char *c = text; *c; c++) {
        putchar(*c);
        if (*c == '\n')
            printf("%*s", HELP_COLUMN, "");
    }
    putchar('\n');
}

static void print_option(const struct option *option, const char *dashes)
{
    char left[64], letter[8] = "";
    if (option->letter)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    snprintf(left, sizeof left, "%s%s%s%s%s", letter, dashes, option->name,
             option->argument ? "=" : "", option->argument ? option->argument : "");

    printf("%-*s ", HELP_COLUMN - 1, left);
    print_text(option->help);
}

static void print_ignored(void)
{
    size_t column = (size_t)printf("   - accepted without effect:");
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) {
        if (column + strlen(ignored[i]) > HELP_WIDTH)
            column = (size_t)printf("\n%*s", HELP_COLUMN - 1, "") - 1;
        column += (size_t)printf(" %s", ignored[i]);
    }
    putchar('\n');
}

void options_print(void)
{
    const char *dashes = "--";
    for (size_t i = 0; i < options_count; i++) {
        const struct option *option = &options[i];
        print_option(option, option->kind == NOTE ? "" : dashes);
        if (option->kind == EXTENDED)
            dashes = "   - "; /* the rows that follow are its names */
    }
    print_ignored();
}
