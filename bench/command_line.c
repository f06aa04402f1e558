/* command_line.c: one table gives the parser, the checks and the help. */
#include "bench/command_line.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIPELINE_MAX    100000
#define MULTIGET_MAX    10000
#define CONNECTIONS_MAX 100000
#define INTERVAL_MAX    UINT64_C(1000000000000)
#define DEFAULT_WIDTH   50 /* of --op multiget */

/* All that one command line fills. */
struct parsed {
    struct options options;
    struct workload workload;
    bool operation_given;
    bool duration_given;
    bool multiget_asked; /* --op multiget */
    bool distribution_given;
};

enum type { TYPE_TEXT, TYPE_FLAG, TYPE_U32, TYPE_U64, TYPE_SECONDS, TYPE_SIZES, TYPE_OTHER };

struct option_row {
    char letter; /* 0: none */
    const char *name;
    const char *argument; /* NULL: a flag */
    enum type type;
    size_t offset; /* in struct parsed */
    uint64_t min;
    uint64_t max;
    const char *help;
};

#define AT(field) offsetof(struct parsed, field)

static const struct option_row rows[] = {
    {'H', "host", "HOST", TYPE_TEXT, AT(options.host), 0, 0,
     "server's name or address [127.0.0.1]"},
    {'p', "port", "PORT", TYPE_TEXT, AT(options.port), 0, 0, "server's TCP port [11211]"},
    {'s', "socket", "PATH", TYPE_TEXT, AT(options.socket_path), 0, 0, "use a Unix socket instead"},
    {0, "protocol", "NAME", TYPE_OTHER, 0, 0, 0, "text, meta, binary, redis [text]"},
    {'t', "threads", "N", TYPE_U32, AT(options.threads), 1, 1024, "threads [1]"},
    {'c', "connections", "N", TYPE_U32, AT(options.connections), 1, CONNECTIONS_MAX,
     "connections, over all threads [50]"},
    {'P', "pipeline", "N", TYPE_U32, AT(options.pipeline), 1, PIPELINE_MAX,
     "requests sent before their replies are awaited [1]"},
    {'m', "multiget", "N", TYPE_U32, AT(options.multiget), 1, MULTIGET_MAX, "keys in one get [1]"},
    {'o', "op", "NAME", TYPE_OTHER, 0, 0, 0,
     "get, set, mix, multiget (get of 50 keys), incr, touch, delete [get; none with --load or "
     "--verify-all]"},
    {'r', "ratio", "GETS:SETS", TYPE_OTHER, 0, 0, 0, "the requests of mix [90:10]"},
    {'k', "keys", "N", TYPE_U64, AT(workload.key_count), 1, DISTRIBUTION_MAX,
     "number of keys [1000000]"},
    {0, "prefix", "TEXT", TYPE_OTHER, 0, 0, 0, "the beginning of each key [key:]"},
    {0, "key-size", "N[-M]", TYPE_SIZES, AT(workload.key_size), 1, WORKLOAD_KEY_MAX,
     "bytes of a key [16]"},
    {'S', "value-size", "N[-M]", TYPE_SIZES, AT(workload.value_size), 0, WORKLOAD_VALUE_MAX,
     "bytes of a value; of a range, each key has its own size [100]"},
    {0, "value-seed", "N", TYPE_U64, AT(workload.value_seed), 0, UINT64_MAX,
     "other sizes and values for the same keys [1]"},
    {'e', "expire", "SECONDS", TYPE_U32, AT(workload.expire_s), 0, UINT32_MAX,
     "expiry of what set and touch write [0, never]"},
    {'D', "distribution", "NAME", TYPE_OTHER, 0, 0, 0,
     "which keys: uniform, sequential, zipf (few are popular), scan (zipf, and now and then a run "
     "of keys beyond --keys that come only once), shift (zipf, and now and then other keys become "
     "the popular ones); the last three may end in :EXPONENT [uniform; zipf:1.0]"},
    {0, "scan-every", "N", TYPE_U64, AT(options.distribution.scan_every), 0, INTERVAL_MAX,
     "-D scan: keys that a thread chooses between two scans [100k]"},
    {0, "scan-length", "N", TYPE_U64, AT(options.distribution.scan_length), 1, INTERVAL_MAX,
     "-D scan: keys of a scan [50k]"},
    {0, "shift-every", "N", TYPE_U64, AT(options.distribution.shift_every), 1, INTERVAL_MAX,
     "-D shift: keys that are chosen between two shifts [500k]"},
    {0, "trace", "FILE", TYPE_TEXT, AT(options.trace_path), 0, 0,
     "take the keys from FILE, a request a line: a key, or a key and the size of its value; once, "
     "unless --duration or --requests says otherwise"},
    {0, "seed", "N", TYPE_U64, AT(options.choice_seed), 0, UINT64_MAX,
     "another choice of the same keys [1]"},
    {'d', "duration", "SECONDS", TYPE_SECONDS, AT(options.duration_s), 0, 0,
     "how long to run [10; no limit when --requests is given]"},
    {'n', "requests", "N", TYPE_U64, AT(options.requests), 1, UINT64_MAX,
     "how many requests to run"},
    {0, "skip", "N", TYPE_U64, AT(options.skip), 0, INTERVAL_MAX,
     "begin with request N of the sequence, where a run with the same options and --requests N "
     "ended [0]"},
    {'w', "warmup", "SECONDS", TYPE_SECONDS, AT(options.warmup_s), 0, 0,
     "time before the run that is not counted [0]"},
    {'R', "rate", "N", TYPE_U64, AT(options.rate), 1, UINT64_C(1000000000),
     "requests a second, due at fixed times whether the server keeps up or not; latencies count "
     "from when a request was due"},
    {0, "timeout", "SECONDS", TYPE_SECONDS, AT(options.timeout_s), 0, 0,
     "give up after so long without any reply [10]"},
    {'l', "load", NULL, TYPE_FLAG, AT(options.load), 0, 0,
     "first set each key once; stop at the first that is not stored"},
    {0, "fill", NULL, TYPE_FLAG, AT(options.fill), 0, 0,
     "set the keys that get does not find, as users of caches do: when a pipeline is answered, on "
     "the same connection"},
    {0, "verify", NULL, TYPE_FLAG, AT(options.verify), 0, 0,
     "compare each value that a get returns with the one that its key must have"},
    {0, "verify-all", NULL, TYPE_FLAG, AT(options.verify_all), 0, 0,
     "at the end get each key once, and compare"},
    {0, "allow-missing", NULL, TYPE_FLAG, AT(options.allow_missing), 0, 0,
     "--verify-all: a missing key is no failure"},
    {0, "tolerate-errors", NULL, TYPE_FLAG, AT(options.tolerate_errors), 0, 0,
     "count error replies, go on, and do not fail because of them"},
    {0, "json", NULL, TYPE_FLAG, AT(options.json), 0, 0, "print one JSON object"},
    {'q', "quiet", NULL, TYPE_FLAG, AT(options.quiet), 0, 0, "show no progress"},
    {0, "self-test", NULL, TYPE_OTHER, 0, 0, 0, "check the tool's own arithmetic and exit"},
    {'h', "help", NULL, TYPE_OTHER, 0, 0, 0, "print this and exit"},
};

#define ROW_COUNT (sizeof rows / sizeof rows[0])

static const char *const operation_names[] = {
    [OPERATION_NONE] = "none",     [OPERATION_GET] = "get",   [OPERATION_SET] = "set",
    [OPERATION_MIX] = "mix",       [OPERATION_INCR] = "incr", [OPERATION_TOUCH] = "touch",
    [OPERATION_DELETE] = "delete",
};

const char *operation_name(enum operation operation)
{
    return operation_names[operation];
}

static void print_help(void)
{
    puts("Usage: cachecask-bench [OPTION]…\n"
         "Loads a memcached or Redis server, and prints how fast it answers.\n\n"
         "Phases, in this order: --load, the run of --op, --verify-all.\n"
         "N may end in k or m (thousands, millions). [Brackets] hold the defaults.\n");
    for (size_t i = 0; i < ROW_COUNT; i++) {
        char left[64];

        snprintf(left, sizeof left, "--%s%s%s", rows[i].name, rows[i].argument ? " " : "",
                 rows[i].argument ? rows[i].argument : "");
        printf("  %c%c%c %-26s %s\n", rows[i].letter ? '-' : ' ',
               rows[i].letter ? rows[i].letter : ' ', rows[i].letter ? ',' : ' ', left,
               rows[i].help);
    }
    puts("\nExit status: 0: all went well; 1: errors, wrong or missing values, or no connection;\n"
         "2: the command line is wrong.");
}

static enum options_status refuse(const struct option_row *row, const char *text, const char *why)
{
    fprintf(stderr, "cachecask-bench: --%s %s: %s (--help lists the options)\n", row->name, text,
            why);
    return OPTIONS_BAD;
}

/* A whole number, perhaps followed by k or m; `*end` is what comes after it. */
static bool read_number(const char *text, const char **end, uint64_t *number)
{
    char *stop;
    uint64_t scale = 1;
    unsigned long long read;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    read = strtoull(text, &stop, 10);
    if (*stop == 'k' || *stop == 'm')
        scale = *stop++ == 'k' ? 1000 : 1000000;
    if (errno != 0 || read > UINT64_MAX / scale)
        return false;
    *number = read * scale;
    *end = stop;
    return true;
}

static bool in_range(const struct option_row *row, uint64_t number)
{
    return number >= row->min && number <= row->max;
}

static enum options_status parse_number(const struct option_row *row, const char *text, void *field)
{
    uint64_t number;
    const char *end;

    if (!read_number(text, &end, &number) || *end != '\0')
        return refuse(row, text, "not a whole number");
    if (!in_range(row, number))
        return refuse(row, text, "out of range");
    if (row->type == TYPE_U32)
        *(uint32_t *)field = (uint32_t)number;
    else
        *(uint64_t *)field = number;
    return OPTIONS_OK;
}

static enum options_status parse_seconds(const struct option_row *row, const char *text,
                                         double *field)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end != '\0' || !(seconds >= 0 && seconds <= 1e7))
        return refuse(row, text, "not a number of seconds");
    *field = seconds;
    return OPTIONS_OK;
}

static enum options_status parse_sizes(const struct option_row *row, const char *text,
                                       struct size_range *field)
{
    uint64_t min;
    uint64_t max;
    const char *end;

    if (!read_number(text, &end, &min))
        return refuse(row, text, "not a size");
    max = min;
    if (*end == '-' && !read_number(end + 1, &end, &max))
        return refuse(row, text, "not a range of sizes");
    if (*end != '\0')
        return refuse(row, text, "not a size or range of sizes");
    if (min > max || !in_range(row, min) || !in_range(row, max))
        return refuse(row, text, "out of range");
    *field = (struct size_range){(uint32_t)min, (uint32_t)max};
    return OPTIONS_OK;
}

static enum options_status parse_operation(const struct option_row *row, const char *text,
                                           struct parsed *parsed)
{
    parsed->operation_given = true;
    parsed->multiget_asked = strcmp(text, "multiget") == 0;
    if (parsed->multiget_asked)
        text = "get";
    for (int i = 0; i <= OPERATION_DELETE; i++) {
        if (strcmp(text, operation_names[i]) == 0) {
            parsed->options.operation = (enum operation)i;
            return OPTIONS_OK;
        }
    }
    return refuse(row, text, "no such operation");
}

static enum options_status parse_ratio(const struct option_row *row, const char *text,
                                       struct options *options)
{
    uint64_t gets;
    uint64_t sets;
    const char *end;

    if (!read_number(text, &end, &gets) || *end != ':' || !read_number(end + 1, &end, &sets) ||
        *end != '\0' || (gets == 0 && sets == 0))
        return refuse(row, text, "not a ratio such as 90:10");
    options->get_share = (double)gets / ((double)gets + (double)sets);
    return OPTIONS_OK;
}

static const struct {
    const char *name;
    enum distribution_kind kind;
    bool has_exponent;
} distributions[] = {
    {"uniform", DISTRIBUTION_UNIFORM, false}, {"sequential", DISTRIBUTION_SEQUENTIAL, false},
    {"zipf", DISTRIBUTION_ZIPF, true},        {"scan", DISTRIBUTION_SCAN, true},
    {"shift", DISTRIBUTION_SHIFT, true},
};

static bool parse_exponent(const char *text, double *exponent)
{
    char *end;

    *exponent = strtod(text, &end);
    return end != text && *end == '\0' && *exponent >= 0.01 && *exponent <= 10;
}

/* "name" or "name:exponent" */
static enum options_status parse_distribution(const struct option_row *row, const char *text,
                                              struct parsed *parsed)
{
    struct distribution_options *field = &parsed->options.distribution;
    size_t len = strcspn(text, ":");
    size_t i = 0;

    parsed->distribution_given = true;
    while (strlen(distributions[i].name) != len || memcmp(distributions[i].name, text, len) != 0)
        if (++i == sizeof distributions / sizeof distributions[0])
            return refuse(row, text, "no such distribution");
    field->kind = distributions[i].kind;
    field->exponent = 1;
    if (text[len] == '\0')
        return OPTIONS_OK;
    if (!distributions[i].has_exponent)
        return refuse(row, text, "it has no exponent");
    if (!parse_exponent(text + len + 1, &field->exponent))
        return refuse(row, text, "the exponent is a number from 0.01 to 10");
    return OPTIONS_OK;
}

/* Options that are not just a value of some type. */
static enum options_status parse_other(const struct option_row *row, const char *text,
                                       struct parsed *parsed)
{
    if (strcmp(row->name, "help") == 0) {
        print_help();
        return OPTIONS_DONE;
    }
    if (strcmp(row->name, "self-test") == 0)
        return OPTIONS_SELF_TEST;
    if (strcmp(row->name, "op") == 0)
        return parse_operation(row, text, parsed);
    if (strcmp(row->name, "ratio") == 0)
        return parse_ratio(row, text, &parsed->options);
    if (strcmp(row->name, "distribution") == 0)
        return parse_distribution(row, text, parsed);
    if (strcmp(row->name, "protocol") == 0) {
        parsed->options.codec = codec_named(text);
        return parsed->options.codec ? OPTIONS_OK : refuse(row, text, "no such protocol");
    }
    /* --prefix */
    for (const char *at = text; *at != '\0'; at++)
        if ((unsigned char)*at <= ' ' || *at == 0x7f)
            return refuse(row, text, "keys have no spaces or control characters");
    if (strlen(text) >= WORKLOAD_KEY_MAX)
        return refuse(row, text, "too long");
    strcpy(parsed->workload.prefix, text);
    return OPTIONS_OK;
}

static enum options_status parse_row(const struct option_row *row, const char *text,
                                     struct parsed *parsed)
{
    void *field = (char *)parsed + row->offset;

    if (strcmp(row->name, "duration") == 0)
        parsed->duration_given = true;
    switch (row->type) {
    case TYPE_TEXT: *(const char **)field = text; return OPTIONS_OK;
    case TYPE_FLAG: *(bool *)field = true; return OPTIONS_OK;
    case TYPE_U32:
    case TYPE_U64: return parse_number(row, text, field);
    case TYPE_SECONDS: return parse_seconds(row, text, field);
    case TYPE_SIZES: return parse_sizes(row, text, field);
    case TYPE_OTHER: break;
    }
    return parse_other(row, text, parsed);
}

static enum options_status complain(const char *message)
{
    fprintf(stderr, "cachecask-bench: %s\n", message);
    return OPTIONS_BAD;
}

static bool key_size_suffices(const struct parsed *parsed)
{
    const struct workload *workload = &parsed->workload;
    uint64_t highest = workload->key_count - 1;

    if (parsed->options.trace_path)
        return true;
    if (parsed->options.distribution.kind == DISTRIBUTION_SCAN)
        highest = DISTRIBUTION_SCAN_END - 1;
    return strlen(workload->prefix) + workload_digits(highest) <= workload->key_size.min;
}

/* What follows from the options together, and what does not go together. */
static enum options_status settle(struct parsed *parsed)
{
    struct options *options = &parsed->options;
    struct workload *workload = &parsed->workload;
    bool changing = options->operation == OPERATION_INCR;

    if (!parsed->operation_given && (options->load || options->verify_all))
        options->operation = OPERATION_NONE;
    if (parsed->multiget_asked && options->multiget == 1)
        options->multiget = DEFAULT_WIDTH;
    if ((options->requests > 0 || options->trace_path) && !parsed->duration_given)
        options->duration_s = 0;
    workload->numeric = changing;
    if (options->connections < options->threads)
        return complain("there must be at least as many connections as threads");
    if (options->requests == 0 && options->duration_s <= 0 && !options->trace_path)
        return complain("--duration must be more than 0 unless --requests is given");
    if (changing && (options->verify || options->verify_all))
        return complain("incr changes values: they cannot be verified");
    if (options->fill && options->operation != OPERATION_GET && options->operation != OPERATION_MIX)
        return complain("--fill needs --op get or mix");
    if (options->trace_path && parsed->distribution_given)
        return complain("keys come from --trace or from --distribution");
    if (!key_size_suffices(parsed))
        return complain("--key-size is too small for the prefix and the number of a key");
    if (options->timeout_s < 0.1)
        return complain("--timeout must be at least 0.1");
    return OPTIONS_OK;
}

static enum options_status parse_all(int argc, char **argv, struct parsed *parsed)
{
    struct option longs[ROW_COUNT + 1];
    char shorts[2 * ROW_COUNT + 1];
    size_t len = 0;
    int found;

    memset(longs, 0, sizeof longs);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        longs[i].name = rows[i].name;
        longs[i].has_arg = rows[i].argument ? required_argument : no_argument;
        longs[i].val = UCHAR_MAX + 1 + (int)i;
        if (rows[i].letter == 0)
            continue;
        shorts[len++] = rows[i].letter;
        if (rows[i].argument)
            shorts[len++] = ':';
    }
    shorts[len] = '\0';
    while ((found = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        size_t i = found > UCHAR_MAX ? (size_t)(found - UCHAR_MAX - 1) : 0;
        enum options_status status;

        if (found == '?')
            return OPTIONS_BAD;
        while (found <= UCHAR_MAX && rows[i].letter != found)
            i++;
        status = parse_row(&rows[i], optarg, parsed);
        if (status != OPTIONS_OK)
            return status;
    }
    if (optind < argc) {
        fprintf(stderr, "cachecask-bench: %s: not an option (--help lists them)\n", argv[optind]);
        return OPTIONS_BAD;
    }
    return settle(parsed);
}

enum options_status options_parse(int argc, char **argv, struct options *options,
                                  struct workload *workload)
{
    static struct parsed parsed; /* too large for comfort on the stack */
    enum options_status status;

    parsed = (struct parsed){
        .options = {.host = "127.0.0.1",
                    .port = "11211",
                    .codec = &codec_text,
                    .threads = 1,
                    .connections = 50,
                    .pipeline = 1,
                    .multiget = 1,
                    .operation = OPERATION_GET,
                    .get_share = 0.9,
                    .distribution = {.kind = DISTRIBUTION_UNIFORM,
                                     .exponent = 1,
                                     .scan_every = 100000,
                                     .scan_length = 50000,
                                     .shift_every = 500000},
                    .choice_seed = 1,
                    .duration_s = 10,
                    .timeout_s = 10},
        .workload = {.key_count = 1000000,
                     .value_seed = 1,
                     .key_size = {16, 16},
                     .value_size = {100, 100},
                     .prefix = "key:"},
    };
    status = parse_all(argc, argv, &parsed);
    *options = parsed.options;
    *workload = parsed.workload;
    return status;
}
