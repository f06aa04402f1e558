/* stats.c: the answers of `stats`. Plain `stats` stays below 4096 bytes: a monitor has no larger buffer. */
#define _GNU_SOURCE
#include "src/observe/stats.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "src/base/encode.h"
#include "src/observe/prefix.h"
#include "src/server.h"
#include "src/observe/watch.h"
#include "src/net/worker.h"

/* A growing text. */
struct text {
    char *data;
    size_t len, room;
    bool failed;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
    va_list arguments;
    for (;;) {
        va_start(arguments, format);
        int len = vsnprintf(text->data ? text->data + text->len : NULL, text->room - text->len,
                            format, arguments);
        va_end(arguments);
        if (text->data && text->len + (size_t)len < text->room) {
            text->len += (size_t)len;
            return;
        }
        size_t room = (text->len + (size_t)len + 1) * 2;
        char *data = realloc(text->data, room);
        if (!data) {
            text->failed = true;
            return;
        }
        text->data = data;
        text->room = room;
    }
}

static void number(struct text *text, const char *name, uint64_t value)
{
    add(text, "STAT %s %" PRIu64 "\r\n", name, value);
}

static void sum_counters(struct server *server, struct counters *sum)
{
    memset(sum, 0, sizeof *sum);
    for (int i = 0; i < server->settings.threads; i++) {
        const struct counters *counters = &server->workers[i]->counters;
#define COUNTER(name) sum->name += atomic_load_explicit(&counters->name, memory_order_relaxed);
#include "src/observe/counters.def"
#undef COUNTER
    }
#define COUNTER(name)                                                                              \
    sum->name -= atomic_load_explicit(&server->reset_counters.name, memory_order_relaxed);
#include "src/observe/counters.def"
#undef COUNTER
}

static void reset(struct server *server)
{
    struct counters sum;
    sum_counters(server, &sum);
#define COUNTER(name) atomic_fetch_add(&server->reset_counters.name, sum.name);
#include "src/observe/counters.def"
#undef COUNTER
    atomic_store(&server->total_connections, 0);
    atomic_store(&server->rejected_connections, 0);
    prefixes_clear(server->prefixes);
}

static void process(struct server *server, struct text *text)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    number(text, "pid", (uint64_t)getpid());
    number(text, "uptime", clock_uptime_s(&server->clock));
    number(text, "time", clock_now_s(&server->clock));
    add(text, "STAT version %s\r\n", SETTINGS_MEMCACHED_VERSION);
    add(text, "STAT libevent %s\r\n", event_get_version());
    number(text, "pointer_size", 8 * sizeof(void *));
    add(text, "STAT rusage_user %ld.%06ld\r\n", (long)usage.ru_utime.tv_sec,
        (long)usage.ru_utime.tv_usec);
    add(text, "STAT rusage_system %ld.%06ld\r\n", (long)usage.ru_stime.tv_sec,
        (long)usage.ru_stime.tv_usec);
}

static void zeros(struct text *text, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        number(text, names[i], 0);
}

static void connections(struct server *server, const struct counters *sum, struct text *text)
{
    /* There are no pools: a worker has one buffer for what it reads and one for its replies. And -c is for clients alone. */
    static const char *const pools[] = {"response_obj_count", "response_obj_bytes",
                                        "read_buf_count", "read_buf_bytes", "read_buf_bytes_free"};
    uint64_t open = (uint64_t)atomic_load(&server->connections);
    number(text, "max_connections", (uint64_t)server->settings.max_connections);
    number(text, "curr_connections", open);
    number(text, "total_connections", atomic_load(&server->total_connections));
    number(text, "rejected_connections", atomic_load(&server->rejected_connections));
    number(text, "connection_structures", open);
    number(text, "response_obj_oom", sum->response_obj_oom);
    zeros(text, pools, sizeof pools / sizeof *pools);
    number(text, "read_buf_oom", sum->read_buf_oom);
    number(text, "reserved_fds", 0);
}

static void commands(const struct counters *sum, const struct store_stats *store,
                     bool has_idle_timeout, struct text *text)
{
    number(text, "cmd_get", sum->cmd_get);
    number(text, "cmd_set", sum->cmd_set);
    number(text, "cmd_flush", sum->cmd_flush);
    number(text, "cmd_touch", sum->cmd_touch);
    number(text, "cmd_meta", sum->cmd_meta);
    number(text, "get_hits", sum->get_hits);
    number(text, "get_misses", sum->get_misses);
    number(text, "get_expired", store->expired_items - store->crawler_reclaimed);
    number(text, "get_flushed", store->flushed_items);
    number(text, "delete_misses", sum->delete_misses);
    number(text, "delete_hits", sum->delete_hits);
    number(text, "incr_misses", sum->incr_misses);
    number(text, "incr_hits", sum->incr_hits);
    number(text, "decr_misses", sum->decr_misses);
    number(text, "decr_hits", sum->decr_hits);
    number(text, "cas_misses", sum->cas_misses);
    number(text, "cas_hits", sum->cas_hits);
    number(text, "cas_badval", sum->cas_badval);
    number(text, "touch_hits", sum->touch_hits);
    number(text, "touch_misses", sum->touch_misses);
    number(text, "store_too_large", sum->store_too_large);
    number(text, "store_no_memory", sum->store_no_memory);
    number(text, "auth_cmds", sum->auth_cmds);
    number(text, "auth_errors", sum->auth_errors);
    if (has_idle_timeout)
        number(text, "idle_kicks", sum->idle_kicks);
    number(text, "bytes_read", sum->bytes_read);
    number(text, "bytes_written", sum->bytes_written);
}

static void tls(const struct server *server, const struct counters *sum, struct text *text)
{
    if (!server->tls)
        return;
    if (server->settings.ssl_session_cache)
        number(text, "ssl_new_sessions", tls_new_sessions(server->tls));
    number(text, "ssl_handshake_errors", sum->ssl_handshake_errors);
    number(text, "ssl_proto_errors", sum->ssl_proto_errors);
    number(text, "time_since_server_cert_refresh", tls_age_s(server->tls));
}

static void watchers(struct server *server, struct text *text)
{
    struct watch_stats watch;
    watch_get_stats(server->watch, &watch);
    number(text, "log_worker_dropped", watch.worker_dropped);
    number(text, "log_worker_written", watch.worker_written);
    number(text, "log_watcher_skipped", watch.watcher_skipped);
    number(text, "log_watcher_sent", watch.watcher_sent);
    number(text, "log_watchers", watch.watchers);
}

static void items(struct server *server, const struct counters *sum,
                  const struct store_stats *store, struct text *text)
{
    /* The rows about slabs and LRU queues stand there for the tools that look for them. */
    static const char *const none[] = {"slab_reassign_rescues",
                                       "slab_reassign_chunk_rescues",
                                       "slab_reassign_evictions_nomem",
                                       "slab_reassign_inline_reclaim",
                                       "slab_reassign_busy_items",
                                       "slab_reassign_busy_deletes",
                                       "slab_reassign_busy_nomem",
                                       "slab_reassign_last_busy_status",
                                       "slab_reassign_running",
                                       "slabs_moved",
                                       "lru_crawler_running"};
    static const char *const some[] = {"lru_maintainer_juggles", "malloc_fails"};
    static const char *const napi[] = {"unexpected_napi_ids", "round_robin_fallback"};
    static const char *const last[] = {"lrutail_reflocked", "moves_to_cold",   "moves_to_warm",
                                       "moves_within_lru",  "direct_reclaims", "lru_bumps_dropped"};
    uint64_t power = 0;
    while ((UINT64_C(64) << (power + 1)) <= store->keydir_bytes)
        power++;
    number(text, "hash_power_level", power);
    number(text, "hash_bytes", store->keydir_bytes);
    number(text, "hash_is_expanding", 0);
    zeros(text, none, sizeof none / sizeof *none);
    number(text, "lru_crawler_starts", store->crawler_passes);
    zeros(text, some, sizeof some / sizeof *some);
    watchers(server, text);
    tls(server, sum, text);
    zeros(text, napi, sizeof napi / sizeof *napi);
    number(text, "bytes", store->live_bytes);
    number(text, "curr_items", store->keydir_entries);
    number(text, "total_items", sum->total_items);
    number(text, "slab_global_page_pool", 0);
    number(text, "expired_unfetched", store->expired_unfetched);
    number(text, "evicted_unfetched", store->evicted_unfetched);
    number(text, "evicted_active", store->evicted_items - store->evicted_unfetched);
    number(text, "evictions", store->evicted_items);
    number(text, "reclaimed", store->expired_items);
    number(text, "crawler_reclaimed", store->crawler_reclaimed);
    number(text, "crawler_items_checked", store->crawler_checked);
    zeros(text, last, sizeof last / sizeof *last);
    number(text, "total_malloced", store->cache_bytes + store->keydir_bytes);
}

static void general(struct server *server, struct text *text)
{
    struct counters sum;
    struct store_stats store;
    sum_counters(server, &sum);
    store_stats(server->store, &store);
    process(server, text);
    connections(server, &sum, text);
    commands(&sum, &store, server->settings.idle_timeout_s, text);
    number(text, "limit_maxbytes", store.memory_limit);
    number(text, "accepting_conns", atomic_load(&server->accepting));
    number(text, "listen_disabled_num", atomic_load(&server->listen_disabled_num));
    number(text, "time_in_listen_disabled_us", atomic_load(&server->listen_disabled_us));
    number(text, "threads", (uint64_t)server->settings.threads);
    number(text, "conn_yields", sum.conn_yields);
    items(server, &sum, &store, text);
}

static void store_group(struct server *server, struct text *text)
{
    struct counters sum;
    struct store_stats store;
    sum_counters(server, &sum);
    store_stats(server->store, &store);
    add(text, "STAT cachecask_version %s\r\n", PACKAGE_VERSION);
    add(text, "STAT store_uuid ");
    for (size_t i = 0; i < sizeof store.uuid; i++)
        add(text, "%02x", store.uuid[i]);
    add(text, "\r\n");
    number(text, "epoch", store.epoch);
    number(text, "lsn", store.lsn);
    number(text, "lsn_synced", store.lsn_synced);
    number(text, "segments", store.segments);
    number(text, "segment_size", store.segment_size);
    number(text, "disk_bytes", store.disk_bytes);
    number(text, "disk_limit", store.disk_limit == UINT64_MAX ? 0 : store.disk_limit);
    number(text, "disk_limit_effective",
           store.disk_limit_effective == UINT64_MAX ? 0 : store.disk_limit_effective);
    number(text, "live_bytes", store.live_bytes);
    number(text, "dead_bytes", store.dead_bytes);
    number(text, "keydir_entries", store.keydir_entries);
    number(text, "keydir_bytes", store.keydir_bytes);
    number(text, "cache_bytes", store.cache_bytes);
    number(text, "cache_pages", store.cache_pages);
    number(text, "cache_items_evicted", store.cache_items_evicted);
    number(text, "ram_hits", store.ram_hits);
    number(text, "disk_hits", store.disk_hits);
    number(text, "disk_reads", store.disk_reads);
    number(text, "uring_reads", store.uring_reads);
    number(text, "disk_read_us_p50", store.disk_read_us_p50);
    number(text, "disk_read_us_p99", store.disk_read_us_p99);
    number(text, "commits", store.commits);
    number(text, "commit_records", store.commit_records);
    number(text, "syncs", store.syncs);
    number(text, "sync_us_p99", store.sync_us_p99);
    number(text, "sync_held_us", store.sync_held_us);
    add(text, "STAT write_amplification %.2f\r\n",
        store.user_bytes ? (double)store.bytes_written / (double)store.user_bytes : 0.0);
    number(text, "cleaner_segments", store.cleaner_segments);
    number(text, "cleaner_moved_bytes", store.cleaner_moved_bytes);
    number(text, "cleaner_backlog_bytes", store.cleaner_backlog_bytes);
    add(text, "STAT cleaner_action %s\r\nSTAT cleaner_reason %s\r\n", store.cleaner_action,
        store.cleaner_reason);
    number(text, "evicted_items", store.evicted_items);
    number(text, "evicted_disk_limit", store.evicted_disk_limit);
    number(text, "evicted_disk_full", store.evicted_disk_full);
    number(text, "evicted_index", store.evicted_index);
    number(text, "expired_items", store.expired_items);
    number(text, "corrupt_records", store.corrupt_records);
    number(text, "read_errors", store.read_errors);
    number(text, "recovery_us", store.recovery_us);
    number(text, "recovered_items", store.recovered_items);
    number(text, "read_only", store.read_only);
    number(text, "udp_dropped", sum.udp_dropped);
}

static void add_setting(void *context, const char *name, const char *value)
{
    add(context, "STAT %s %s\r\n", name, value);
}

static void settings_group(struct server *server, struct text *text)
{
    struct settings now = server->settings; /* with what was changed since the start */
    struct store_stats store;
    store_stats(server->store, &store);
    now.memory_mib = store.memory_limit >> 20;
    now.verbosity = atomic_load(&server->verbosity);
    now.stats_detail = atomic_load(&server->observed) & WATCH_DETAIL;
    now.track_sizes = atomic_load(&server->sizes_enabled);
    settings_each(&now, add_setting, text);
}

/* One class, one queue: what memcached says of its queues is all of the cold one here. */
static void items_group(struct server *server, struct text *text)
{
    struct store_stats store;
    store_stats(server->store, &store);
    if (store.keydir_entries == 0)
        return;
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"number", store.keydir_entries},
        {"number_hot", 0},
        {"number_warm", 0},
        {"number_cold", store.keydir_entries},
        {"age_hot", 0},
        {"age_warm", 0},
        {"age", 0},
        {"mem_requested", store.live_bytes},
        {"evicted", store.evicted_items},
        {"evicted_nonzero", 0},
        {"evicted_time", 0},
        {"outofmemory", 0},
        {"tailrepairs", 0},
        {"reclaimed", store.expired_items},
        {"expired_unfetched", store.expired_unfetched},
        {"evicted_unfetched", store.evicted_unfetched},
        {"evicted_active", store.evicted_items - store.evicted_unfetched},
        {"crawler_reclaimed", store.crawler_reclaimed},
        {"crawler_items_checked", store.crawler_checked},
        {"lrutail_reflocked", 0},
        {"moves_to_cold", 0},
        {"moves_to_warm", 0},
        {"moves_within_lru", 0},
        {"direct_reclaims", 0},
        {"hits_to_hot", 0},
        {"hits_to_warm", 0},
        {"hits_to_cold", store.ram_hits + store.disk_hits},
        {"hits_to_temp", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        add(text, "STAT items:1:%s %" PRIu64 "\r\n", rows[i].name, rows[i].value);
}

static void slabs_group(struct server *server, struct text *text)
{
    struct counters sum;
    struct store_stats store;
    sum_counters(server, &sum);
    store_stats(server->store, &store);
    if (store.keydir_entries) {
        number(text, "1:chunk_size", store.live_bytes / store.keydir_entries);
        number(text, "1:chunks_per_page", 1);
        number(text, "1:total_pages", store.cache_pages ? store.cache_pages : 1);
        number(text, "1:total_chunks", store.keydir_entries);
        number(text, "1:used_chunks", store.keydir_entries);
        number(text, "1:free_chunks", 0);
        number(text, "1:free_chunks_end", 0);
        number(text, "1:get_hits", sum.get_hits);
        number(text, "1:cmd_set", sum.cmd_set);
        number(text, "1:delete_hits", sum.delete_hits);
        number(text, "1:incr_hits", sum.incr_hits);
        number(text, "1:decr_hits", sum.decr_hits);
        number(text, "1:cas_hits", sum.cas_hits);
        number(text, "1:cas_badval", sum.cas_badval);
        number(text, "1:touch_hits", sum.touch_hits);
    }
    number(text, "active_slabs", store.keydir_entries > 0);
    number(text, "total_malloced", store.cache_bytes + store.keydir_bytes);
}

static void add_prefix(void *context, const char *prefix, size_t len,
                       const uint64_t counts[PREFIX_COUNTERS])
{
    char name[3 * STORE_KEY_MAX];
    bool plain = true;
    for (size_t i = 0; i < len; i++)
        plain = plain && (unsigned char)prefix[i] > ' ' && prefix[i] != 127;
    size_t name_len = plain ? len : encode_url(name, prefix, len);
    add(context, "PREFIX %.*s get %" PRIu64 " hit %" PRIu64 " set %" PRIu64 " del %" PRIu64 "\r\n",
        (int)name_len, plain ? prefix : name, counts[PREFIX_GET], counts[PREFIX_HIT],
        counts[PREFIX_SET], counts[PREFIX_DELETE]);
}

/* `stats detail dump`: the other words of detail are no questions (command_admin.c). */
static void detail_group(struct server *server, struct text *text)
{
    prefixes_each(server->prefixes, add_prefix, text);
}

static void one_conn(struct text *text, const struct conn *conn, uint32_t now_s)
{
    uint32_t last = atomic_load_explicit(&conn->last_command_s, memory_order_relaxed);
    bool udp = conn->transport == TRANSPORT_UDP;
    if (udp)
        add(text, "STAT %d:UDP UDP\r\n", conn->fd);
    add(text, "STAT %d:addr %s\r\n", conn->fd, conn->address);
    if (!udp)
        add(text, "STAT %d:listen_addr %s\r\n", conn->fd, conn->listener->address);
    add(text, "STAT %d:state %s\r\n", conn->fd, conn_state_name(conn));
    add(text, "STAT %d:secs_since_last_cmd %u\r\n", conn->fd, now_s > last ? now_s - last : 0);
}

static void conns_group(struct server *server, struct text *text)
{
    uint32_t now_s = clock_now_s(&server->clock);
    for (int i = 0; i < server->listener_count; i++) {
        const struct listener *listener = &server->listeners[i];
        if (listener->transport == TRANSPORT_UDP)
            continue; /* shown with the workers' ends of it */
        add(text, "STAT %d:addr %s\r\n", listener->fd, listener->address);
        add(text, "STAT %d:state conn_listening\r\n", listener->fd);
        add(text, "STAT %d:secs_since_last_cmd 0\r\n", listener->fd);
    }
    for (int i = 0; i < server->settings.threads; i++) {
        struct worker *worker = server->workers[i];
        pthread_mutex_lock(&worker->lock);
        for (const struct conn *conn = worker->conns; conn; conn = conn->next)
            one_conn(text, conn, now_s);
        pthread_mutex_unlock(&worker->lock);
    }
}

static const struct {
    const char *name;
    void (*write)(struct server *server, struct text *text);
} groups[] = {
    {"", general},          {"settings", settings_group}, {"items", items_group},
    {"slabs", slabs_group}, {"detail", detail_group},     {"conns", conns_group},
    {"store", store_group},
};

bool stats_answer(struct server *server, const char *args, size_t args_len, char **out,
                  size_t *out_len)
{
    struct text text = {0};
    const char *blank = args_len ? memchr(args, ' ', args_len) : NULL;
    size_t len = blank ? (size_t)(blank - args) : args_len;
    if (len == 5 && memcmp(args, "reset", 5) == 0) {
        reset(server);
        add(&text, "RESET\r\n");
    }
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (strlen(groups[i].name) == len && (len == 0 || memcmp(groups[i].name, args, len) == 0)) {
            groups[i].write(server, &text);
            add(&text, "END\r\n");
        }
    if (text.len == 0 || text.failed) {
        free(text.data);
        return false;
    }
    *out = text.data;
    *out_len = text.len;
    return true;
}
