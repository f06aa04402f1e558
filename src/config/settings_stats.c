/* settings_stats.c: what `stats settings` shows: memcached's names, which tools look for, and then our own. */
#include <stdio.h>
#include <string.h>

#include "src/config/settings.h"

static const char *yes_no(bool value)
{
    return value ? "yes" : "no";
}

struct emitter {
    void (*emit)(void *context, const char *name, const char *value);
    void *context;
};

static void emit_number(const struct emitter *to, const char *name, long long number)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", number);
    to->emit(to->context, name, text);
}

static void emit_text(const struct emitter *to, const char *name, const char *text)
{
    to->emit(to->context, name, text ? text : "NULL");
}

static void emit_ssl(const struct emitter *to, const struct settings *settings)
{
    emit_text(to, "ssl_enabled", yes_no(settings->enable_ssl));
    emit_text(to, "ssl_chain_cert", settings->ssl_chain_cert);
    emit_text(to, "ssl_key", settings->ssl_key);
    emit_number(to, "ssl_verify_mode", settings->ssl_verify_mode);
    emit_number(to, "ssl_keyformat", settings->ssl_keyformat);
    emit_text(to, "ssl_ciphers", settings->ssl_ciphers);
    emit_text(to, "ssl_ca_cert", settings->ssl_ca_cert);
    emit_number(to, "ssl_wbuf_size", (long long)settings->ssl_wbuf_size << 10);
    emit_text(to, "ssl_session_cache", yes_no(settings->ssl_session_cache));
    emit_text(to, "ssl_kernel_tls", yes_no(settings->ssl_kernel_tls));
    emit_text(to, "ssl_min_version", settings_tls_version(settings));
}

void settings_each(const struct settings *settings,
                   void (*emit)(void *context, const char *name, const char *value), void *context)
{
    const struct emitter to = {.emit = emit, .context = context};
    char mask[8];
    snprintf(mask, sizeof mask, "%o", (unsigned)settings->unix_mask);
    emit_number(&to, "maxbytes", (long long)settings->memory_mib << 20);
    emit_number(&to, "maxconns", settings->max_connections);
    emit_number(&to, "tcpport", settings->tcp_port);
    emit_number(&to, "udpport", settings->udp_port);
    emit_text(&to, "inter",
              settings->listen_count   ? settings->listen[0]
              : settings->is_memcached ? NULL
                                       : "127.0.0.1");
    emit_number(&to, "verbosity", settings->verbosity);
    emit_number(&to, "oldest", 0);
    emit_text(&to, "evictions", settings->no_evictions ? "off" : "on");
    emit_text(&to, "domain_socket", settings->unix_path);
    emit_text(&to, "umask", mask);
    emit_text(&to, "shutdown_command", yes_no(settings->enable_shutdown));
    emit_text(&to, "growth_factor", "1.25");
    emit_number(&to, "chunk_size", 48);
    emit_number(&to, "num_threads", settings->threads);
    emit_number(&to, "num_threads_per_udp", settings->threads);
    emit_text(&to, "stat_key_prefix", (char[]){settings->prefix_delimiter, 0});
    emit_text(&to, "detail_enabled", yes_no(settings->stats_detail));
    emit_number(&to, "reqs_per_event", settings->requests_per_event);
    emit_text(&to, "cas_enabled", yes_no(!settings->disable_cas));
    emit_number(&to, "tcp_backlog", settings->backlog);
    emit_text(&to, "binding_protocol",
              strcmp(settings->protocol, "auto") == 0 ? "auto-negotiate" : settings->protocol);
    emit_text(&to, "auth_enabled_sasl", yes_no(settings->enable_sasl));
    emit_text(&to, "auth_enabled_ascii", settings->auth_file ? settings->auth_file : "no");
    emit_number(&to, "item_size_max", (long long)settings->item_size_max);
    emit_text(&to, "maxconns_fast", yes_no(settings->maxconns_fast));
    emit_number(&to, "hashpower_init", 0);
    emit_text(&to, "slab_reassign", "no");
    emit_number(&to, "slab_automove", 0);
    emit_text(&to, "slab_automove_ratio", "0.80");
    emit_number(&to, "slab_automove_window", 30);
    emit_number(&to, "slab_chunk_max", 524288);
    emit_text(&to, "lru_crawler", "yes");
    emit_number(&to, "lru_crawler_sleep", 0);
    emit_number(&to, "lru_crawler_tocrawl", 0);
    emit_number(&to, "tail_repair_time", 0);
    emit_text(&to, "flush_enabled", yes_no(!settings->disable_flush));
    emit_text(&to, "dump_enabled", yes_no(!settings->disable_dump));
    emit_text(&to, "hash_algorithm", "xxh3");
    emit_text(&to, "lru_maintainer_thread", "no");
    emit_text(&to, "lru_segmented", "no");
    emit_number(&to, "hot_lru_pct", 0);
    emit_number(&to, "warm_lru_pct", 0);
    emit_text(&to, "hot_max_factor", "0.00");
    emit_text(&to, "warm_max_factor", "0.00");
    emit_text(&to, "temp_lru", "no");
    emit_number(&to, "temporary_ttl", 0);
    emit_number(&to, "idle_timeout", settings->idle_timeout_s);
    emit_number(&to, "watcher_logbuf_size", (long long)settings->watcher_logbuf_kib << 10);
    emit_number(&to, "worker_logbuf_size", (long long)settings->worker_logbuf_kib << 10);
    emit_number(&to, "read_buf_mem_limit", (long long)settings->read_buf_mem_limit << 20);
    emit_text(&to, "track_sizes", yes_no(settings->track_sizes));
    emit_text(&to, "inline_ascii_response", "no");
    emit_ssl(&to, settings);
    emit_text(&to, "num_napi_ids", NULL);
    emit_text(&to, "memory_file", NULL);
    emit_text(&to, "data_dir", settings->data_dir);
    emit_number(&to, "sync_interval_ms", settings->sync_interval_ms);
    emit_text(&to, "uring", yes_no(settings->uring));
    emit_text(&to, "drop_privileges", yes_no(settings->drop_privileges));
    emit_number(&to, "segment_size", (long long)settings->segment_size);
    emit_number(&to, "disk_limit", (long long)settings->disk_limit);
    emit_number(&to, "clean_rate", (long long)settings->clean_rate);
}
