/* stats.h: what `stats` answers: memcached's names, order and meaning, and ours in `stats store`.
 *
 * stats_each() emits rows, which stats_text() writes as text, and src/command/binary.c as packets.
 * The numbers come from a source, so nothing here knows workers, connections or sockets.
 */
#ifndef CACHECASK_SRC_OBSERVE_STATS_H
#define CACHECASK_SRC_OBSERVE_STATS_H

#include "src/config/settings.h"
#include "src/observe/counters.h"
#include "storage/store.h"

struct prefixes;
struct watch;

/* The server as it is now. */
struct stats_now {
    const struct stats_source *source;
    struct settings settings; /* with changes since the start */
    struct counters counters; /* of all workers, since a reset */
    struct store_stats store;

    uint32_t now_s, uptime_s;
    const char *event_version; /* of libevent */
    uint64_t connections, total_connections, rejected_connections;
    uint64_t listen_disabled_num, listen_disabled_us;
    bool accepting, sizes_enabled, has_tls;
    uint64_t tls_new_sessions;
    uint64_t tls_age_s; /* since the certificates were read */
};

/* A client, or a socket that clients connect to. */
struct stats_connection {
    int fd;
    bool is_udp;
    const char *address;
    const char *listen_address; /* where it has connected; NULL: nowhere */
    const char *state;
    uint32_t idle_s; /* since its last command */
};

/* Receives connections, one at a time. */
struct stats_connections {
    void (*take)(void *context, const struct stats_connection *connection);
    void *context;
};

/* Where the numbers come from. Any thread may call these functions. */
struct stats_source {
    void *context; /* their first argument */
    void (*get)(void *context, struct stats_now *now);
    void (*each_connection)(void *context, const struct stats_connections *to);
    void (*reset)(void *context);
    struct watch *watch;
    struct prefixes *prefixes;
};

/* How an answer ends depends on what it is. */
enum stats_answer {
    STATS_UNKNOWN,  /* there is no such group, or it is not answered here */
    STATS_LIST,     /* rows; in text END comes after them */
    STATS_PREFIXES, /* likewise, rows of STATS_PREFIX */
    STATS_SWITCHED, /* one row, the new state of something */
    STATS_RESET,    /* no rows: the counters have been reset */
};

/* Emits the rows of `stats ARGS`. */
enum stats_answer stats_each(const struct stats_source *source, const char *args, size_t args_len,
                             const struct stats_receiver *to);

/* The answer as text, in *text, which the caller frees. False: no such group, or no memory. */
bool stats_text(const struct stats_source *source, const char *args, size_t args_len, char **text,
                size_t *len);

#endif
