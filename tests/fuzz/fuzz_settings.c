/* fuzz_settings.c: any words as a command line, or any bytes as a configuration file (src/config).
 *
 * - They run a server, or say what is wrong; and the same again when they are asked again.
 * - What runs a server keeps the limits that the help names, and contradicts itself in nothing (-S,
 *   -Y, -B, -U).
 * - All strings can be read for as long as they are promised to be.
 */
#define _GNU_SOURCE
#include "tests/fuzz/fuzz.h"

#include <limits.h>
#include <sys/mman.h>
#include <unistd.h>

#include "src/config/settings.h"
#include "storage/store.h"

/* Of the last byte. */
#define AS_FILE   1
#define MEMCACHED 2 /* the program's name */

#define WORDS_MAX 64

/* Whatever is sent to them is seen by who runs this; no file of the machine is to be read. */
static void defuse(char *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] == '/')
            data[i] = '_';
}

static void read_string(const char *string)
{
    FUZZ_CHECK(string == NULL || strlen(string) < SIZE_MAX / 2);
}

static void check_strings(const struct settings *settings)
{
    read_string(settings->unix_path);
    read_string(settings->ssl_chain_cert);
    read_string(settings->ssl_key);
    read_string(settings->ssl_ca_cert);
    read_string(settings->ssl_ciphers);
    read_string(settings->user);
    read_string(settings->pid_file);
    read_string(settings->data_dir);
    read_string(settings->auth_file);
    FUZZ_CHECK(settings->listen_count >= 0 && settings->listen_count <= SETTINGS_LISTEN_MAX);
    for (int i = 0; i < settings->listen_count; i++) {
        FUZZ_CHECK(settings->listen[i] != NULL);
        read_string(settings->listen[i]);
    }
}

static bool within(long long number, long long min, long long max)
{
    return number >= min && number <= max;
}

static void check_numbers(const struct settings *settings)
{
    FUZZ_CHECK(within(settings->tcp_port, -1, 65535) && within(settings->udp_port, -1, 65535));
    FUZZ_CHECK(within(settings->unix_mask, 0, 0777));
    FUZZ_CHECK(within((long long)settings->memory_mib, 1, 1 << 30));
    FUZZ_CHECK(within(settings->max_connections, 0, 1 << 20)); /* 0: as many as there is room for */
    FUZZ_CHECK(within(settings->threads, 1, 1024));
    FUZZ_CHECK(settings->requests_per_event >= 0 && settings->backlog >= 1);
    FUZZ_CHECK(within((long long)settings->item_size_max, 1 << 10, 1 << 30));
    FUZZ_CHECK(
        settings->segment_size == 0 ||
        within((long long)settings->segment_size, STORE_SEGMENT_SIZE_MIN, STORE_SEGMENT_SIZE_MAX));
    FUZZ_CHECK(settings->disk_limit == 0 || settings->disk_limit >= 4 << 20);
    FUZZ_CHECK(settings->disk_limit <= LLONG_MAX && settings->clean_rate <= LLONG_MAX);
    FUZZ_CHECK(settings->sync_interval_ms == STORE_SYNC_NEVER ||
               within(settings->sync_interval_ms, STORE_SYNC_ALWAYS, 3600000));
    FUZZ_CHECK(within(settings->ssl_verify_mode, 0, 3) && within(settings->ssl_min_version, 0, 3));
    FUZZ_CHECK(within(settings->ssl_keyformat, SSL_KEYFORMAT_PEM, SSL_KEYFORMAT_DER));
    FUZZ_CHECK(within(settings->watcher_logbuf_kib, 1, 1 << 20));
    FUZZ_CHECK(within(settings->worker_logbuf_kib, 1, 1 << 20) && settings->idle_timeout_s >= 0);
}

static void check_choices(const struct settings *settings)
{
    bool ascii = strcmp(settings->protocol, "ascii") == 0;
    bool binary = strcmp(settings->protocol, "binary") == 0;
    FUZZ_CHECK(ascii || binary || strcmp(settings->protocol, "auto") == 0);
    if (settings->auth_file) /* nobody comes in by another door */
        FUZZ_CHECK(ascii && !settings->enable_sasl && settings->udp_port == 0);
    if (settings->enable_sasl)
        FUZZ_CHECK(binary && settings->udp_port == 0);
    FUZZ_CHECK(settings->prefix_delimiter != '\0' && !settings->in_config);
    read_string(settings_tls_version(settings));
}

static void take_row(void *context, const struct stats_row *row)
{
    summary_add(context, row->name, strlen(row->name) + 1);
    summary_add(context, row->value, strlen(row->value) + 1);
}

static enum settings_result parse(int argc, char **argv, struct summary *summary)
{
    const struct features all = {true, true, true};
    const struct stats_receiver to = {take_row, summary};
    struct settings settings;
    enum settings_result result = settings_parse(&settings, &all, argc, argv);
    if (result == SETTINGS_RUN) {
        check_strings(&settings);
        check_numbers(&settings);
        check_choices(&settings);
        settings_each(&settings, &to);
        FUZZ_CHECK(summary->len > 0);
    }
    settings_release(&settings);
    return result;
}

static void parse_twice(int argc, char **argv)
{
    struct summary once = {0}, twice = {0};
    enum settings_result result = parse(argc, argv, &once);
    FUZZ_CHECK(parse(argc, argv, &twice) == result);
    FUZZ_CHECK(summary_equals(&once, &twice));
    summary_release(&once);
    summary_release(&twice);
}

/* Each word in a block of its own. */
static void run_words(char *program, const char *data, size_t len)
{
    char *argv[WORDS_MAX + 2] = {program};
    struct block blocks[WORDS_MAX];
    int argc = 1;
    for (size_t at = 0; at < len && argc <= WORDS_MAX; argc++) {
        const char *end = memchr(data + at, '\n', len - at);
        size_t word_len = strnlen(data + at, end ? (size_t)(end - data) - at : len - at);
        blocks[argc - 1] = block_of(data + at, word_len + 1);
        argv[argc] = blocks[argc - 1].data;
        argv[argc][word_len] = '\0';
        at = end ? (size_t)(end - data) + 1 : len;
    }
    parse_twice(argc, argv);
    for (int i = 1; i < argc; i++)
        block_free(blocks[i - 1]);
}

static void run_file(char *program, const char *data, size_t len)
{
    static int fd = -1;
    static char option[64];
    char *argv[] = {program, option, NULL};
    if (fd < 0) {
        fd = memfd_create("settings", MFD_CLOEXEC);
        snprintf(option, sizeof option, "--config=/proc/self/fd/%d", fd);
    }
    FUZZ_CHECK(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, len, 0) == (ssize_t)len);
    parse_twice(2, argv);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static char ours[] = "./cachecask", theirs[] = "/usr/bin/memcached";
    uint8_t choice = fuzz_take_choice(bytes, &len);
    char *program = choice & MEMCACHED ? theirs : ours;
    struct block block =
        block_of(bytes, len + 1); /* with the last byte: words may be ended there */
    defuse(block.data, len);
    block.data[len] = '\n';
    if (choice & AS_FILE)
        run_file(program, block.data, len);
    else
        run_words(program, block.data, len);
    block_free(block);
    return 0;
}
