/* command_line.h: what the command line asks for. */
#ifndef CACHECASK_BENCH_COMMAND_LINE_H
#define CACHECASK_BENCH_COMMAND_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/codec.h"
#include "bench/distribution.h"
#include "bench/workload.h"

enum operation {
    OPERATION_NONE,
    OPERATION_GET,
    OPERATION_SET,
    OPERATION_MIX,
    OPERATION_INCR,
    OPERATION_TOUCH,
    OPERATION_DELETE
};

struct options {
    const char *host;
    const char *port;
    const char *socket_path; /* NULL: TCP */
    const struct codec *codec;

    uint32_t threads;
    uint32_t connections; /* of all threads together */
    uint32_t pipeline;
    uint32_t multiget;

    enum operation operation; /* NONE: only load or verify */
    double get_share;         /* of MIX, 0 to 1 */
    struct distribution_options distribution;
    const char *trace_path; /* NULL: keys are numbers */
    uint64_t choice_seed;

    double duration_s; /* 0: no limit */
    double warmup_s;
    uint64_t requests; /* 0: no limit */
    uint64_t skip;     /* requests of the sequence that are left out */
    uint64_t rate;     /* requests a second; 0: as fast as replies come */
    double timeout_s;

    bool load;
    bool fill; /* set what gets miss */
    bool verify;
    bool verify_all;
    bool tolerate_errors;
    bool allow_missing;
    bool json;
    bool quiet;
};

enum options_status {
    OPTIONS_OK,
    OPTIONS_SELF_TEST, /* --self-test was asked for */
    OPTIONS_DONE,      /* --help was answered */
    OPTIONS_BAD        /* said on standard error */
};

/* Reads the command line into *options and the parts of *workload that come from it. */
enum options_status options_parse(int argc, char **argv, struct options *options,
                                  struct workload *workload);

/* The name of an operation, as in --op. */
const char *operation_name(enum operation operation);

#endif
