/* settings_stats.c: `stats settings`: memcached's names, which tools look for, and then our own. */
#include <stdio.h>
#include <string.h>

#include "src/config/settings.h"

static const char *yes_no(bool value)
{
    return value ? "yes" : "no";
}

static void emit_text(const struct stats_receiver *to, const char *name, const char *text)
{
    stats_string(to, name, text ? text : "NULL");
}

/* NULL: all of them. */
static const char *first_address(const struct settings *settings)
{
    if (settings->listen_count)
        return settings->listen[0];
    return settings->is_memcached ? NULL : "127.0.0.1";
}

static const char *protocol_name(const struct settings *settings)
{
    bool any = strcmp(settings->protocol, "auto") == 0;
    return any ? "auto-negotiate" : settings->protocol;
}

static void emit_ssl(const struct stats_receiver *to, const struct settings *settings)
{
    emit_text(to, "ssl_enabled", yes_no(settings->enable_ssl));
    emit_text(to, "ssl_chain_cert", settings->ssl_chain_cert);
    emit_text(to, "ssl_key", settings->ssl_key);
    stats_signed(to, "ssl_verify_mode", settings->ssl_verify_mode);
    stats_signed(to, "ssl_keyformat", settings->ssl_keyformat);
    emit_text(to, "ssl_ciphers", settings->ssl_ciphers);
    emit_text(to, "ssl_ca_cert", settings->ssl_ca_cert);
    stats_signed(to, "ssl_wbuf_size", (long long)settings->ssl_wbuf_size << 10);
    emit_text(to, "ssl_session_cache", yes_no(settings->ssl_session_cache));
    emit_text(to, "ssl_kernel_tls", yes_no(settings->ssl_kernel_tls));
    emit_text(to, "ssl_min_version", settings_tls_version(settings));
}

void settings_each(const struct settings *settings, const struct stats_receiver *to)
{
    char mask[8];
    snprintf(mask, sizeof mask, "%o", (unsigned)settings->unix_mask);
    stats_signed(to, "maxbytes", (long long)settings->memory_mib << 20);
    stats_signed(to, "maxconns", settings->max_connections);
    stats_signed(to, "tcpport", settings->tcp_port);
    stats_signed(to, "udpport", settings->udp_port);
    emit_text(to, "inter", first_address(settings));
    stats_signed(to, "verbosity", settings->verbosity);
    stats_signed(to, "oldest", 0);
    emit_text(to, "evictions", settings->no_evictions ? "off" : "on");
    emit_text(to, "domain_socket", settings->unix_path);
    emit_text(to, "umask", mask);
    emit_text(to, "shutdown_command", yes_no(settings->enable_shutdown));
    stats_string(to, "growth_factor", "1.25");
    stats_signed(to, "chunk_size", 48);
    stats_signed(to, "num_threads", settings->threads);
    stats_signed(to, "num_threads_per_udp", settings->threads);
    emit_text(to, "stat_key_prefix", (char[]){settings->prefix_delimiter, 0});
    emit_text(to, "detail_enabled", yes_no(settings->stats_detail));
    stats_signed(to, "reqs_per_event", settings->requests_per_event);
    emit_text(to, "cas_enabled", yes_no(!settings->disable_cas));
    stats_signed(to, "tcp_backlog", settings->backlog);
    emit_text(to, "binding_protocol", protocol_name(settings));
    emit_text(to, "auth_enabled_sasl", yes_no(settings->enable_sasl));
    emit_text(to, "auth_enabled_ascii", settings->auth_file ? settings->auth_file : "no");
    stats_signed(to, "item_size_max", (long long)settings->item_size_max);
    emit_text(to, "maxconns_fast", yes_no(settings->maxconns_fast));
    stats_signed(to, "hashpower_init", 0);
    emit_text(to, "slab_reassign", "no");
    stats_signed(to, "slab_automove", 0);
    stats_string(to, "slab_automove_ratio", "0.80");
    stats_signed(to, "slab_automove_window", 30);
    stats_signed(to, "slab_chunk_max", 524288);
    emit_text(to, "lru_crawler", "yes");
    stats_signed(to, "lru_crawler_sleep", 0);
    stats_signed(to, "lru_crawler_tocrawl", 0);
    stats_signed(to, "tail_repair_time", 0);
    emit_text(to, "flush_enabled", yes_no(!settings->disable_flush));
    emit_text(to, "dump_enabled", yes_no(!settings->disable_dump));
    emit_text(to, "hash_algorithm", "xxh3");
    emit_text(to, "lru_maintainer_thread", "no");
    emit_text(to, "lru_segmented", "no");
    stats_signed(to, "hot_lru_pct", 0);
    stats_signed(to, "warm_lru_pct", 0);
    stats_string(to, "hot_max_factor", "0.00");
    stats_string(to, "warm_max_factor", "0.00");
    emit_text(to, "temp_lru", "no");
    stats_signed(to, "temporary_ttl", 0);
    stats_signed(to, "idle_timeout", settings->idle_timeout_s);
    stats_signed(to, "watcher_logbuf_size", (long long)settings->watcher_logbuf_kib << 10);
    stats_signed(to, "worker_logbuf_size", (long long)settings->worker_logbuf_kib << 10);
    stats_signed(to, "read_buf_mem_limit", (long long)settings->read_buf_mem_limit << 20);
    emit_text(to, "track_sizes", yes_no(settings->track_sizes));
    emit_text(to, "inline_ascii_response", "no");
    emit_ssl(to, settings);
    emit_text(to, "num_napi_ids", NULL);
    emit_text(to, "memory_file", NULL);
    emit_text(to, "data_dir", settings->data_dir);
    stats_signed(to, "sync_interval_ms", settings->sync_interval_ms);
    emit_text(to, "uring", yes_no(settings->uring));
    emit_text(to, "drop_privileges", yes_no(settings->drop_privileges));
    stats_signed(to, "segment_size", (long long)settings->segment_size);
    stats_signed(to, "disk_limit", (long long)settings->disk_limit);
    stats_signed(to, "clean_rate", (long long)settings->clean_rate);
}
