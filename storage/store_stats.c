/* store_stats.c: the figures of `stats store`. */
#include <string.h>

#include "storage/clean/clean_plan.h"
#include "storage/store_internal.h"

void store_sum_counters(struct session_counters *sum, const struct session_counters *counters)
{
    count_up(&sum->ram_hits, atomic_load(&counters->ram_hits));
    count_up(&sum->disk_hits, atomic_load(&counters->disk_hits));
    count_up(&sum->user_bytes, atomic_load(&counters->user_bytes));
    count_up(&sum->corrupt_records, atomic_load(&counters->corrupt_records));
    count_up(&sum->read_errors, atomic_load(&counters->read_errors));
    count_up(&sum->expired_items, atomic_load(&counters->expired_items));
    count_up(&sum->expired_unfetched, atomic_load(&counters->expired_unfetched));
    count_up(&sum->flushed_items, atomic_load(&counters->flushed_items));
}

static void sum_segments(struct store *store, struct store_stats *stats)
{
    struct log *log = &store->log;
    uint64_t used = 0;
    pthread_mutex_lock(&log->lock);
    for (struct segment *segment = log->first; segment; segment = segment->next) {
        stats->segments++;
        used += atomic_load_explicit(&segment->end, memory_order_relaxed);
        stats->live_bytes += segment_live_bytes(segment);
    }
    stats->lsn = log->next_lsn;
    pthread_mutex_unlock(&log->lock);
    stats->dead_bytes = used > stats->live_bytes ? used - stats->live_bytes : 0;
}

static void sum_sessions(struct store *store, struct store_stats *stats)
{
    const struct cleaner *cleaner = &store->cleaner;
    struct session_counters sum = {0};
    pthread_mutex_lock(&store->sessions.lock);
    store_sum_counters(&sum, &store->past);
    for (struct session_link *link = store->sessions.first; link; link = link->next)
        store_sum_counters(&sum, &session_of(link)->counters);
    pthread_mutex_unlock(&store->sessions.lock);

    stats->ram_hits = sum.ram_hits;
    stats->disk_hits = sum.disk_hits;
    stats->user_bytes = sum.user_bytes;
    stats->corrupt_records =
        sum.corrupt_records + store->recovery_damage + atomic_load(&store->log.lost_values);
    stats->read_errors = sum.read_errors + atomic_load(&cleaner->read_errors);
    stats->expired_items = sum.expired_items + atomic_load(&cleaner->expired_items);
    stats->expired_unfetched = sum.expired_unfetched + atomic_load(&cleaner->expired_unfetched);
    stats->flushed_items = sum.flushed_items;
}

void store_stats(struct store *store, struct store_stats *stats)
{
    const struct cleaner *cleaner = &store->cleaner;
    struct log *log = &store->log;
    *stats = (struct store_stats){
        .lsn_synced = log_synced_lsn(log),
        .segment_size = log->options.segment_size,
        .disk_bytes = log_disk_bytes(log),
        .disk_limit = atomic_load(&log->disk_limit),
        .cleaner_segments = atomic_load(&cleaner->segments),
        .cleaner_moved_bytes = atomic_load(&cleaner->moved_bytes),
        .cleaner_backlog_bytes = atomic_load(&cleaner->backlog_bytes),
        .evicted_items = atomic_load(&cleaner->evicted_items),
        .evicted_unfetched = atomic_load(&cleaner->evicted_unfetched),
        .evicted_disk_limit = atomic_load(&cleaner->evicted_disk_limit),
        .evicted_disk_full = atomic_load(&cleaner->evicted_disk_full),
        .evicted_index = atomic_load(&cleaner->evicted_index),
        .disk_limit_effective = atomic_load(&log->effective_limit),
        .cleaner_action = clean_action_name((enum clean_action)atomic_load(&cleaner->last_action)),
        .cleaner_reason = clean_reason_name((enum clean_reason)atomic_load(&cleaner->last_reason)),
        .crawler_checked = atomic_load(&store->crawler.checked),
        .crawler_reclaimed = atomic_load(&cleaner->expired_items),
        .crawler_passes = atomic_load(&store->crawler.passes),
        .keydir_entries = keydir_count(&store->keydir),
        .keydir_bytes = atomic_load(&store->keydir.bytes),
        .cache_items_evicted = atomic_load(&store->cache.evicted_items),
        .memory_limit = atomic_load(&store->memory_limit),
        .disk_reads = atomic_load(&store->disk_reads),
        .uring_reads = atomic_load(&store->uring_reads),
        .disk_read_us_p50 = histogram_percentile(&store->read_us, 50),
        .disk_read_us_p99 = histogram_percentile(&store->read_us, 99),
        .commits = atomic_load(&log->commits),
        .commit_records = atomic_load(&log->commit_records),
        .bytes_written = atomic_load(&log->bytes_written),
        .syncs = atomic_load(&log->syncs),
        .sync_us_p99 = histogram_percentile(&log->sync_us, 99),
        .sync_held_us = atomic_load(&log->waited_us),
        .recovery_us = store->recovery_us,
        .recovered_items = store->recovered_items,
        .read_only = atomic_load(&log->failed),
    };
    memcpy(stats->uuid, store->datadir.uuid, sizeof stats->uuid);
    stats->cache_bytes = cache_bytes(&store->cache, &stats->cache_pages);
    sum_segments(store, stats);
    sum_sessions(store, stats);
}
