/* settings.h: what the operator has asked for: on the command line, in -o, in the configuration
 * file. */
#ifndef CACHECASK_SRC_CONFIG_SETTINGS_H
#define CACHECASK_SRC_CONFIG_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "src/base/stats_row.h"

#define SETTINGS_LISTEN_MAX 64

#define EXIT_USAGE          64 /* as sysexits.h has it */

enum ssl_keyformat {
    SSL_KEYFORMAT_PEM = 1,
    SSL_KEYFORMAT_DER = 2,
};

/* What `version` and `stats` say: the memcached whose behaviour this is. Three numbers and nothing
 * after them, because some clients take the last three that they find. Our own version is in `stats
 * store`, in the first line of the log and in --version. */
#define SETTINGS_MEMCACHED_VERSION "1.6.45"

#define SETTINGS_PORT_DEFAULT      11211
#define SETTINGS_NOT_GIVEN         (-2)

#define SSL_VERIFY_REQUIRED        2

/* What this build can do, as not every build can. */
struct features {
    bool tls, sasl, seccomp;
};

struct settings {
    struct features built_in;
    int tcp_port;                            /* 0: off, -1: any free one */
    const char *unix_path;                   /* NULL: no Unix socket */
    int unix_mask;                           /* mode of its file */
    const char *listen[SETTINGS_LISTEN_MAX]; /* as given, not split; none: loopback */
    int listen_count;
    bool is_memcached; /* started under its name: all addresses if none is given, and its version */
    int udp_port;      /* 0: off, -1: any free one */
    bool enable_ssl;
    const char *ssl_chain_cert, *ssl_key, *ssl_ca_cert, *ssl_ciphers; /* NULL: not given */
    int ssl_keyformat;                                                /* of enum ssl_keyformat */
    int ssl_verify_mode; /* SSL_VERIFY_REQUIRED and above: clients must show a certificate */
    int ssl_min_version; /* 0 to 3: TLS 1.0 to 1.3 */
    int ssl_wbuf_size;   /* KiB */
    bool ssl_session_cache, ssl_kernel_tls;
    bool daemonize;
    bool core_dumps;
    const char *user; /* NULL: no change */
    uint64_t memory_mib;
    bool no_evictions;   /* -M: a store, not a cache */
    int max_connections; /* 0: not given; process_share_files chooses */
    bool lock_memory;
    int verbosity;
    const char *pid_file;
    int threads;
    int requests_per_event; /* 0: no limit by their number */
    bool disable_cas;
    int backlog;
    const char *protocol;   /* -B: auto, ascii or binary */
    bool enable_sasl;       /* -S: clients must authenticate; binary only */
    uint64_t item_size_max; /* bytes */
    bool disable_flush;
    bool disable_dump;
    bool disable_watch;
    bool enable_shutdown;
    bool maxconns_fast;
    bool drop_privileges;      /* filter system calls */
    bool uring;                /* may read values from disk, receive and send */
    const char *data_dir;      /* NULL: the default for the port */
    const char *require_mount; /* where a file system must be mounted; NULL: anywhere */
    bool any_owner;            /* accept a data directory that another user owns */
    int sync_interval_ms;      /* as storage/store.h has it */
    struct kept_text *kept;    /* what strings of -o and --config point into */
    uint64_t segment_size;     /* bytes; 0: chosen by the disk's size */
    uint64_t disk_limit;       /* bytes; 0: 16 times the memory, at least 1 GiB */
    uint64_t clean_rate;       /* bytes a second; 0: as many as are needed */

    const char *auth_file;  /* -Y; NULL: no password is asked for */
    int idle_timeout_s;     /* 0: none */
    bool stats_detail;      /* -D: `stats detail` is on from the start */
    char prefix_delimiter;  /* of -D */
    bool track_sizes;       /* `stats sizes` is on */
    int watcher_logbuf_kib; /* of each `watch` */
    int worker_logbuf_kib;  /* of each worker, for all of them */
    int read_buf_mem_limit; /* MiB of incomplete requests; 0: see worker.c */
    bool in_config;         /* while a configuration file is read */
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

/* Emits a row for each setting that `stats settings` shows, by memcached's names and in its
 * order. */
void settings_each(const struct settings *settings, const struct stats_receiver *to);

#endif
