/* stats.c: the rows of `stats`. Those without an argument fit into the 4096 bytes of a monitor. */
#include "src/observe/stats.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "protocol/token.h"
#include "src/base/encode.h"
#include "src/observe/prefix.h"
#include "src/observe/watch.h"

static void seconds(const struct stats_receiver *to, const char *name, struct timeval time)
{
    char text[40];
    snprintf(text, sizeof text, "%ld.%06ld", (long)time.tv_sec, (long)time.tv_usec);
    stats_string(to, name, text);
}

static void process(const struct stats_now *now, const struct stats_receiver *to)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);

    stats_number(to, "pid", (uint64_t)getpid());
    stats_number(to, "uptime", now->uptime_s);
    stats_number(to, "time", now->now_s);
    stats_string(to, "version", SETTINGS_MEMCACHED_VERSION);
    stats_string(to, "libevent", now->event_version);
    stats_number(to, "pointer_size", 8 * sizeof(void *));
    seconds(to, "rusage_user", usage.ru_utime);
    seconds(to, "rusage_system", usage.ru_stime);
}

static void zeros(const struct stats_receiver *to, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        stats_number(to, names[i], 0);
}

static void connections(const struct stats_now *now, const struct stats_receiver *to)
{
    /* There are no pools: a worker has one buffer for what it reads and one for its replies. No
     * descriptors are reserved either: -c counts clients alone. */
    static const char *const pools[] = {"response_obj_count", "response_obj_bytes",
                                        "read_buf_count", "read_buf_bytes", "read_buf_bytes_free"};

    stats_number(to, "max_connections", (uint64_t)now->settings.max_connections);
    stats_number(to, "curr_connections", now->connections);
    stats_number(to, "total_connections", now->total_connections);
    stats_number(to, "rejected_connections", now->rejected_connections);
    stats_number(to, "connection_structures", now->connections);
    stats_number(to, "response_obj_oom", now->counters.response_obj_oom);
    zeros(to, pools, sizeof pools / sizeof *pools);
    stats_number(to, "read_buf_oom", now->counters.read_buf_oom);
    stats_number(to, "reserved_fds", 0);
}

static void commands(const struct stats_now *now, const struct stats_receiver *to)
{
    stats_number(to, "cmd_get", now->counters.cmd_get);
    stats_number(to, "cmd_set", now->counters.cmd_set);
    stats_number(to, "cmd_flush", now->counters.cmd_flush);
    stats_number(to, "cmd_touch", now->counters.cmd_touch);
    stats_number(to, "cmd_meta", now->counters.cmd_meta);
    stats_number(to, "get_hits", now->counters.get_hits);
    stats_number(to, "get_misses", now->counters.get_misses);
    stats_number(to, "get_expired", now->store.expired_items - now->store.crawler_reclaimed);
    stats_number(to, "get_flushed", now->store.flushed_items);
    stats_number(to, "delete_misses", now->counters.delete_misses);
    stats_number(to, "delete_hits", now->counters.delete_hits);
    stats_number(to, "incr_misses", now->counters.incr_misses);
    stats_number(to, "incr_hits", now->counters.incr_hits);
    stats_number(to, "decr_misses", now->counters.decr_misses);
    stats_number(to, "decr_hits", now->counters.decr_hits);
    stats_number(to, "cas_misses", now->counters.cas_misses);
    stats_number(to, "cas_hits", now->counters.cas_hits);
    stats_number(to, "cas_badval", now->counters.cas_badval);
    stats_number(to, "touch_hits", now->counters.touch_hits);
    stats_number(to, "touch_misses", now->counters.touch_misses);
    stats_number(to, "store_too_large", now->counters.store_too_large);
    stats_number(to, "store_no_memory", now->counters.store_no_memory);
    stats_number(to, "auth_cmds", now->counters.auth_cmds);
    stats_number(to, "auth_errors", now->counters.auth_errors);
    if (now->settings.idle_timeout_s)
        stats_number(to, "idle_kicks", now->counters.idle_kicks);
    stats_number(to, "bytes_read", now->counters.bytes_read);
    stats_number(to, "bytes_written", now->counters.bytes_written);
}

static void tls(const struct stats_now *now, const struct stats_receiver *to)
{
    if (!now->has_tls)
        return;
    if (now->settings.ssl_session_cache)
        stats_number(to, "ssl_new_sessions", now->tls_new_sessions);
    stats_number(to, "ssl_handshake_errors", now->counters.ssl_handshake_errors);
    stats_number(to, "ssl_proto_errors", now->counters.ssl_proto_errors);
    stats_number(to, "time_since_server_cert_refresh", now->tls_age_s);
}

static void watchers(struct watch *watch, const struct stats_receiver *to)
{
    struct watch_stats stats;
    watch_get_stats(watch, &stats);

    stats_number(to, "log_worker_dropped", stats.worker_dropped);
    stats_number(to, "log_worker_written", stats.worker_written);
    stats_number(to, "log_watcher_skipped", stats.watcher_skipped);
    stats_number(to, "log_watcher_sent", stats.watcher_sent);
    stats_number(to, "log_watchers", stats.watchers);
}

/* memcached's table has a power of two of buckets; those of the index have 64 bytes. */
static void index_size(const struct stats_now *now, const struct stats_receiver *to)
{
    uint64_t power = 0;
    while ((UINT64_C(64) << (power + 1)) <= now->store.keydir_bytes)
        power++;

    stats_number(to, "hash_power_level", power);
    stats_number(to, "hash_bytes", now->store.keydir_bytes);
    stats_number(to, "hash_is_expanding", 0);
}

/* Rows about slabs that some tools look for. */
static void slab_moves(const struct stats_receiver *to)
{
    static const char *const names[] = {
        "slab_reassign_rescues",         "slab_reassign_chunk_rescues",
        "slab_reassign_evictions_nomem", "slab_reassign_inline_reclaim",
        "slab_reassign_busy_items",      "slab_reassign_busy_deletes",
        "slab_reassign_busy_nomem",      "slab_reassign_last_busy_status",
        "slab_reassign_running",         "slabs_moved"};
    zeros(to, names, sizeof names / sizeof *names);
}

static void crawler(const struct stats_now *now, const struct stats_receiver *to)
{
    stats_number(to, "lru_crawler_running", 0);
    stats_number(to, "lru_crawler_starts", now->store.crawler_passes);
    stats_number(to, "lru_maintainer_juggles", 0);
    stats_number(to, "malloc_fails", 0);
}

static void items(const struct stats_now *now, const struct stats_receiver *to)
{
    static const char *const queues[] = {"lrutail_reflocked", "moves_to_cold",
                                         "moves_to_warm",     "moves_within_lru",
                                         "direct_reclaims",   "lru_bumps_dropped"};

    stats_number(to, "bytes", now->store.live_bytes);
    stats_number(to, "curr_items", now->store.keydir_entries);
    stats_number(to, "total_items", now->counters.total_items);
    stats_number(to, "slab_global_page_pool", 0);
    stats_number(to, "expired_unfetched", now->store.expired_unfetched);
    stats_number(to, "evicted_unfetched", now->store.evicted_unfetched);
    stats_number(to, "evicted_active", now->store.evicted_items - now->store.evicted_unfetched);
    stats_number(to, "evictions", now->store.evicted_items);
    stats_number(to, "reclaimed", now->store.expired_items);
    stats_number(to, "crawler_reclaimed", now->store.crawler_reclaimed);
    stats_number(to, "crawler_items_checked", now->store.crawler_checked);
    zeros(to, queues, sizeof queues / sizeof *queues);
    stats_number(to, "total_malloced", now->store.cache_bytes + now->store.keydir_bytes);
}

static void general(const struct stats_now *now, const struct stats_receiver *to)
{
    process(now, to);
    connections(now, to);
    commands(now, to);
    stats_number(to, "limit_maxbytes", now->store.memory_limit);
    stats_number(to, "accepting_conns", now->accepting);
    stats_number(to, "listen_disabled_num", now->listen_disabled_num);
    stats_number(to, "time_in_listen_disabled_us", now->listen_disabled_us);
    stats_number(to, "threads", (uint64_t)now->settings.threads);
    stats_number(to, "conn_yields", now->counters.conn_yields);
    index_size(now, to);
    slab_moves(to);
    crawler(now, to);
    watchers(now->source->watch, to);
    tls(now, to);
    stats_number(to, "unexpected_napi_ids", 0);
    stats_number(to, "round_robin_fallback", 0);
    items(now, to);
}

static void uuid(const uint8_t bytes[16], const struct stats_receiver *to)
{
    char hex[33];
    for (size_t i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    stats_string(to, "store_uuid", hex);
}

static void write_amplification(const struct store_stats *store, const struct stats_receiver *to)
{
    double written = (double)store->bytes_written, wanted = (double)store->user_bytes;
    char text[340]; /* %.2f of any double */
    snprintf(text, sizeof text, "%.2f", store->user_bytes ? written / wanted : 0.0);
    stats_string(to, "write_amplification", text);
}

static uint64_t limit_or_none(uint64_t limit)
{
    return limit == UINT64_MAX ? 0 : limit;
}

static void store_group(const struct stats_now *now, const struct stats_receiver *to)
{
    const struct store_stats *store = &now->store;

    stats_string(to, "cachecask_version", PACKAGE_VERSION);
    uuid(store->uuid, to);
    stats_number(to, "epoch", store->epoch);
    stats_number(to, "lsn", store->lsn);
    stats_number(to, "lsn_synced", store->lsn_synced);
    stats_number(to, "segments", store->segments);
    stats_number(to, "segment_size", store->segment_size);
    stats_number(to, "disk_bytes", store->disk_bytes);
    stats_number(to, "disk_limit", limit_or_none(store->disk_limit));
    stats_number(to, "disk_limit_effective", limit_or_none(store->disk_limit_effective));
    stats_number(to, "live_bytes", store->live_bytes);
    stats_number(to, "dead_bytes", store->dead_bytes);
    stats_number(to, "keydir_entries", store->keydir_entries);
    stats_number(to, "keydir_bytes", store->keydir_bytes);
    stats_number(to, "cache_bytes", store->cache_bytes);
    stats_number(to, "cache_pages", store->cache_pages);
    stats_number(to, "cache_items_evicted", store->cache_items_evicted);
    stats_number(to, "ram_hits", store->ram_hits);
    stats_number(to, "disk_hits", store->disk_hits);
    stats_number(to, "disk_reads", store->disk_reads);
    stats_number(to, "uring_reads", store->uring_reads);
    stats_number(to, "disk_read_us_p50", store->disk_read_us_p50);
    stats_number(to, "disk_read_us_p99", store->disk_read_us_p99);
    stats_number(to, "commits", store->commits);
    stats_number(to, "commit_records", store->commit_records);
    stats_number(to, "syncs", store->syncs);
    stats_number(to, "sync_us_p99", store->sync_us_p99);
    stats_number(to, "sync_held_us", store->sync_held_us);
    write_amplification(store, to);
    stats_number(to, "cleaner_segments", store->cleaner_segments);
    stats_number(to, "cleaner_moved_bytes", store->cleaner_moved_bytes);
    stats_number(to, "cleaner_backlog_bytes", store->cleaner_backlog_bytes);
    stats_string(to, "cleaner_action", store->cleaner_action);
    stats_string(to, "cleaner_reason", store->cleaner_reason);
    stats_number(to, "evicted_items", store->evicted_items);
    stats_number(to, "evicted_disk_limit", store->evicted_disk_limit);
    stats_number(to, "evicted_disk_full", store->evicted_disk_full);
    stats_number(to, "evicted_index", store->evicted_index);
    stats_number(to, "expired_items", store->expired_items);
    stats_number(to, "corrupt_records", store->corrupt_records);
    stats_number(to, "read_errors", store->read_errors);
    stats_number(to, "recovery_us", store->recovery_us);
    stats_number(to, "recovered_items", store->recovered_items);
    stats_number(to, "read_only", store->read_only);
    stats_number(to, "udp_dropped", now->counters.udp_dropped);
}

static void settings_group(const struct stats_now *now, const struct stats_receiver *to)
{
    settings_each(&now->settings, to);
}

/* There is one class with one queue, which memcached would call the cold one. */
static void items_group(const struct stats_now *now, const struct stats_receiver *to)
{
    const struct store_stats *store = &now->store;
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"number", store->keydir_entries},
        {"number_hot", 0},
        {"number_warm", 0},
        {"number_cold", store->keydir_entries},
        {"age_hot", 0},
        {"age_warm", 0},
        {"age", 0},
        {"mem_requested", store->live_bytes},
        {"evicted", store->evicted_items},
        {"evicted_nonzero", 0},
        {"evicted_time", 0},
        {"outofmemory", 0},
        {"tailrepairs", 0},
        {"reclaimed", store->expired_items},
        {"expired_unfetched", store->expired_unfetched},
        {"evicted_unfetched", store->evicted_unfetched},
        {"evicted_active", store->evicted_items - store->evicted_unfetched},
        {"crawler_reclaimed", store->crawler_reclaimed},
        {"crawler_items_checked", store->crawler_checked},
        {"lrutail_reflocked", 0},
        {"moves_to_cold", 0},
        {"moves_to_warm", 0},
        {"moves_within_lru", 0},
        {"direct_reclaims", 0},
        {"hits_to_hot", 0},
        {"hits_to_warm", 0},
        {"hits_to_cold", store->ram_hits + store->disk_hits},
        {"hits_to_temp", 0},
    };

    for (size_t i = 0; store->keydir_entries && i < sizeof rows / sizeof *rows; i++) {
        char name[64];
        snprintf(name, sizeof name, "items:1:%s", rows[i].name);
        stats_number(to, name, rows[i].value);
    }
}

static void slabs_group(const struct stats_now *now, const struct stats_receiver *to)
{
    const struct counters *sum = &now->counters;
    const struct store_stats *store = &now->store;

    if (store->keydir_entries) {
        stats_number(to, "1:chunk_size", store->live_bytes / store->keydir_entries);
        stats_number(to, "1:chunks_per_page", 1);
        stats_number(to, "1:total_pages", store->cache_pages ? store->cache_pages : 1);
        stats_number(to, "1:total_chunks", store->keydir_entries);
        stats_number(to, "1:used_chunks", store->keydir_entries);
        stats_number(to, "1:free_chunks", 0);
        stats_number(to, "1:free_chunks_end", 0);
        stats_number(to, "1:get_hits", sum->get_hits);
        stats_number(to, "1:cmd_set", sum->cmd_set);
        stats_number(to, "1:delete_hits", sum->delete_hits);
        stats_number(to, "1:incr_hits", sum->incr_hits);
        stats_number(to, "1:decr_hits", sum->decr_hits);
        stats_number(to, "1:cas_hits", sum->cas_hits);
        stats_number(to, "1:cas_badval", sum->cas_badval);
        stats_number(to, "1:touch_hits", sum->touch_hits);
    }
    stats_number(to, "active_slabs", store->keydir_entries > 0);
    stats_number(to, "total_malloced", store->cache_bytes + store->keydir_bytes);
}

static void take_prefix(void *context, const char *prefix, size_t len,
                        const uint64_t counts[PREFIX_COUNTERS])
{
    const struct stats_receiver *to = context;
    char name[3 * STORE_KEY_MAX + 1], value[128];
    struct stats_row row = {name, value, .is_prefix = true};

    if (token_is_plain((struct bytes){prefix, len}))
        memcpy(name, prefix, len);
    else
        len = encode_url(name, prefix, len);
    name[len] = '\0';

    snprintf(value, sizeof value, "get %" PRIu64 " hit %" PRIu64 " set %" PRIu64 " del %" PRIu64,
             counts[PREFIX_GET], counts[PREFIX_HIT], counts[PREFIX_SET], counts[PREFIX_DELETE]);
    to->take(to->context, &row);
}

/* `stats detail dump`. The other words after detail ask for nothing: they switch something. */
static void detail_group(const struct stats_now *now, const struct stats_receiver *to)
{
    struct stats_receiver receiver = *to;
    prefixes_each(now->source->prefixes, take_prefix, &receiver);
}

static void connection_row(const struct stats_receiver *to, int fd, const char *name,
                           const char *value)
{
    char full_name[40];
    snprintf(full_name, sizeof full_name, "%d:%s", fd, name);
    stats_string(to, full_name, value);
}

static void take_connection(void *context, const struct stats_connection *conn)
{
    const struct stats_receiver *to = context;
    char idle[40];
    snprintf(idle, sizeof idle, "%d:secs_since_last_cmd", conn->fd);

    if (conn->is_udp)
        connection_row(to, conn->fd, "UDP", "UDP");
    connection_row(to, conn->fd, "addr", conn->address);
    if (conn->listen_address)
        connection_row(to, conn->fd, "listen_addr", conn->listen_address);
    connection_row(to, conn->fd, "state", conn->state);
    stats_number(to, idle, conn->idle_s);
}

static void conns_group(const struct stats_now *now, const struct stats_receiver *to)
{
    struct stats_receiver receiver = *to;
    const struct stats_connections connections = {take_connection, &receiver};
    now->source->each_connection(now->source->context, &connections);
}

static void reset_group(const struct stats_now *now, const struct stats_receiver *to)
{
    (void)to;
    now->source->reset(now->source->context);
    prefixes_clear(now->source->prefixes);
}

/* After sizes_enable and sizes_disable, which the command has obeyed, this is the new state. */
static void sizes_group(const struct stats_now *now, const struct stats_receiver *to)
{
    stats_string(to, "sizes_status", now->sizes_enabled ? "enabled" : "disabled");
}

static const struct {
    const char *name;
    void (*emit)(const struct stats_now *now, const struct stats_receiver *to);
    enum stats_answer answer;
} groups[] = {
    {"", general, STATS_LIST},
    {"settings", settings_group, STATS_LIST},
    {"items", items_group, STATS_LIST},
    {"slabs", slabs_group, STATS_LIST},
    {"detail", detail_group, STATS_PREFIXES},
    {"conns", conns_group, STATS_LIST},
    {"store", store_group, STATS_LIST},
    {"reset", reset_group, STATS_RESET},
    {"sizes", sizes_group, STATS_LIST},
    {"sizes_enable", sizes_group, STATS_SWITCHED},
    {"sizes_disable", sizes_group, STATS_SWITCHED},
};

#define GROUPS (sizeof groups / sizeof *groups)

enum stats_answer stats_each(const struct stats_source *source, const char *args, size_t args_len,
                             const struct stats_receiver *to)
{
    struct stats_now now;
    struct bytes group = token_next(&args, args + args_len);
    size_t i = 0;
    while (i < GROUPS && !token_is(group, groups[i].name, strlen(groups[i].name)))
        i++;
    source->get(source->context, &now);
    if (i == GROUPS || (strcmp(groups[i].name, "sizes") == 0 && now.sizes_enabled))
        return STATS_UNKNOWN; /* while sizes are counted they are a listing (dump.h) */

    groups[i].emit(&now, to);
    return groups[i].answer;
}
