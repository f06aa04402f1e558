/* settings.h: what the operator asked for, on the command line and in the configuration file. */
#ifndef CACHECASK_SRC_CONFIG_SETTINGS_H
#define CACHECASK_SRC_CONFIG_SETTINGS_H

#include <stdbool.h>

#include "src/base/stats_row.h"

#define EXIT_USAGE                 64 /* as sysexits.h has it */

/* The memcached whose behaviour this is, for `version` and `stats`. Nothing follows its numbers:
 * some clients take the last three that they find. Ours is in `stats store` and --version. */
#define SETTINGS_MEMCACHED_VERSION "1.6.45"

#define SETTINGS_PORT_DEFAULT      11211
#define SETTINGS_NOT_GIVEN         (-2)
#define SETTINGS_LISTEN_MAX        64

enum ssl_keyformat { SSL_KEYFORMAT_PEM = 1, SSL_KEYFORMAT_DER = 2 };
#define SSL_VERIFY_REQUIRED 2

/* Not every build has these. */
struct features {
    bool tls, sasl, seccomp;
};

struct settings {
    struct features built_in;
    bool is_memcached; /* started under its name: all addresses if none is given, and its version */

    /* Sockets and their clients. */
    int tcp_port, udp_port;                  /* 0: off, -1: any free one */
    const char *listen[SETTINGS_LISTEN_MAX]; /* as given, not split; none: loopback */
    int listen_count;
    const char *unix_path; /* NULL: no Unix socket */
    int unix_mask;         /* mode of its file */
    int backlog;
    int max_connections; /* 0: not given; process_share_files chooses */
    bool maxconns_fast;
    int idle_timeout_s;    /* 0: none */
    const char *protocol;  /* -B: auto, ascii or binary */
    bool enable_sasl;      /* -S: clients must authenticate; binary only */
    const char *auth_file; /* -Y; NULL: no password is asked for */

    bool enable_ssl, ssl_session_cache, ssl_kernel_tls;
    const char *ssl_chain_cert, *ssl_key, *ssl_ca_cert, *ssl_ciphers; /* NULL: not given */
    int ssl_keyformat;                                                /* of enum ssl_keyformat */
    int ssl_verify_mode; /* SSL_VERIFY_REQUIRED and above: clients must show a certificate */
    int ssl_min_version; /* 0 to 3: TLS 1.0 to 1.3 */
    int ssl_wbuf_size;   /* KiB */

    /* The process. */
    bool daemonize, core_dumps, lock_memory;
    bool drop_privileges; /* filter system calls */
    const char *user;     /* NULL: no change */
    const char *pid_file;
    int threads;
    int verbosity;

    /* Commands. */
    uint64_t item_size_max; /* bytes */
    int requests_per_event; /* 0: no limit by their number */
    int read_buf_mem_limit; /* MiB of incomplete requests; 0: see worker.c */
    bool disable_cas, disable_flush, disable_dump, disable_watch, enable_shutdown;
    bool stats_detail;      /* -D: `stats detail` is on from the start */
    char prefix_delimiter;  /* of -D */
    bool track_sizes;       /* `stats sizes` is on */
    int watcher_logbuf_kib; /* of each `watch` */
    int worker_logbuf_kib;  /* of each worker, for all of them */

    /* The store. */
    uint64_t memory_mib;
    bool no_evictions;         /* -M: a store, not a cache */
    bool uring;                /* may read values from disk, receive and send */
    const char *data_dir;      /* NULL: the default for the port */
    const char *require_mount; /* where a file system must be mounted; NULL: anywhere */
    bool any_owner;            /* accept a data directory that another user owns */
    int sync_interval_ms;      /* as storage/store.h has it */
    uint64_t segment_size;     /* bytes; 0: chosen by the disk's size */
    uint64_t disk_limit;       /* bytes; 0: 16 times the memory, at least 1 GiB */
    uint64_t clean_rate;       /* bytes a second; 0: as many as are needed */

    /* While options are read. */
    struct kept_text *kept; /* what strings of -o and --config point into */
    bool in_config;         /* in a configuration file */
    bool exits;             /* -h, -V: what was asked for has been printed */
};

enum settings_result {
    SETTINGS_RUN,
    SETTINGS_EXIT, /* -h, -V: printed what was asked for */
    SETTINGS_BAD,  /* printed what is wrong: exit with EXIT_USAGE */
};

/* Fills *settings from the command line. Strings point into argv, or are kept until
 * settings_release(), which must be called whatever the result. */
enum settings_result settings_parse(struct settings *settings, const struct features *built_in,
                                    int argc, char **argv);
void settings_release(struct settings *settings);

/* The lowest version of TLS, in the words of ssl_min_version. */
const char *settings_tls_version(const struct settings *settings);

/* Emits the rows of `stats settings`, by memcached's names and in its order. */
void settings_each(const struct settings *settings, const struct stats_receiver *to);

#endif
