/* clean_remove.c: a segment's file is removed, and the keys that only it still had. */
#include <errno.h>

#include "storage/clean/clean_job.h"

static bool sync_names(const struct job *job)
{
    const struct store_options *options = &job->store->options;
    int result = options->files->sync_dir(options->files->context, options->dir_fd);
    job->store->cleaner.dir_unsynced = result < 0;
    return result == 0;
}

/* Durably: of two removed segments the older must not come back alone (G5), so an earlier sync of
 * the directory that failed is repeated first. A file that is gone counts as removed. */
static bool unlink_files(const struct job *job)
{
    const struct store_options *options = &job->store->options;
    const struct file_system *files = options->files;
    char name[SEGMENT_NAME_SIZE];
    if (job->store->cleaner.dir_unsynced && !sync_names(job))
        return false;
    segment_name(name, job->segment->header.id, "hint");
    files->unlink(files->context, options->dir_fd, name);
    segment_name(name, job->segment->header.id, "seg");
    if (files->unlink(files->context, options->dir_fd, name) < 0 && errno != ENOENT)
        return false;
    return sync_names(job);
}

/* The observer is told of a value that its key still names; with its shard locked. */
static void report_evicted(const struct job *job, const struct keydir_entry *entry,
                           const struct record *record)
{
    const struct store_observer *observer = &job->store->options.observer;
    struct store_evicted evicted = {.key = record->key,
                                    .key_len = (uint16_t)record->key_len,
                                    .fetched = store_was_visited(entry->location),
                                    .expire_s = entry->expire_s,
                                    .value_len = record->value_len};
    if (location_in_ram(entry->location)) {
        const struct cache_item *item = location_item(entry->location);
        evicted.accessed_s = cache_item_accessed_s(item);
    }
    observer->evicted(observer->context, &evicted);
}

/* Whether somebody wants to know about the value of a hint entry, and its key can be read. */
static bool read_for_observer(struct job *job, const struct hint_entry *hinted,
                              struct record *record)
{
    const struct store_observer *observer = &job->store->options.observer;
    return observer->evicted && hinted->type == RECORD_PUT &&
           observer->wants_evicted(observer->context) &&
           clean_read(job, hinted, record) == STORE_OK;
}

/* Takes the keys of the values that were not moved out of the keydir. */
static void evict_entry(struct job *job, const struct hint_entry *hinted)
{
    struct keydir_shard *shard = store_shard_of(job->store, hinted->shard_bits);
    struct cleaner *cleaner = &job->store->cleaner;
    struct keydir_entry entry;
    struct keydir_ref ref;
    struct record record;
    bool observed = read_for_observer(job, hinted, &record);
    keydir_lock(shard);
    if (hinted->type == RECORD_PUT && keydir_find(shard, hinted->tag, &ref, &entry) &&
        clean_names(job, hinted, entry.location)) {
        bool dead = clean_has_expired(job->store, entry.expire_s) ||
                    lsn_at(job, hinted) < atomic_load(&job->store->log.flush_lsn);
        if (!dead) {
            atomic_fetch_add_explicit(&cleaner->evicted_items, 1, memory_order_relaxed);
            atomic_fetch_add_explicit(job->order.evicted, 1, memory_order_relaxed);
            if (!store_was_visited(entry.location))
                atomic_fetch_add_explicit(&cleaner->evicted_unfetched, 1, memory_order_relaxed);
            if (observed)
                report_evicted(job, &entry, &record);
        }
        clean_drop_dead(job->store, shard, ref, &entry);
    }
    keydir_unlock(shard);
}

static bool drop_lost(void *context, struct keydir_entry *entry)
{
    struct job *job = context;
    uint64_t location = store_disk_location(entry->location);
    if (location_segment_index(location) != job->segment->segment_index)
        return true;
    store_mark_dead(job->store, entry->location);
    job->unreadable++;
    return false;
}

/* What is still named lies in damaged places, or the hint file did not know of it. */
static void drop_all_lost(struct job *job)
{
    struct store *store = job->store;
    uint64_t cursor = 0;
    job->unreadable = 0;
    while (keydir_scan_all(&store->keydir, &cursor, NULL, drop_lost, job))
        ;
    report(&store->options.reporter, REPORT_WARNING,
           "segment %016llx is removed with %llu keys whose records could not be read: they are "
           "lost",
           (unsigned long long)job->segment->header.id, (unsigned long long)job->unreadable);
}

static void evict_entries(struct job *job)
{
    for (uint64_t i = 0; i < job->hint.count; i++) {
        if (i % CLEAN_GROUP == 0)
            clean_prefetch(job, i);
        evict_entry(job, &job->entries[i]);
    }
}

static void remove_segment(struct job *job)
{
    struct store *store = job->store;
    clean_forget_moves(store, job->segment);
    log_doom(&store->log, job->segment);
    atomic_fetch_add_explicit(&store->cleaner.segments, 1, memory_order_relaxed);
}

/* A segment with something that cannot be read stays: older versions must not come back. */
static enum clean_result keep_damaged(const struct job *job)
{
    if (!job->segment->damaged)
        report(&job->store->options.reporter, REPORT_WARNING,
               "segment %016llx has damaged records: it is kept until it is the oldest",
               (unsigned long long)job->segment->header.id);
    job->segment->damaged = true;
    return CLEAN_DONE;
}

enum clean_result clean_finish(struct job *job)
{
    if (!job->order.oldest && (job->unreadable || segment_live_bytes(job->segment) > 0))
        return keep_damaged(job);
    if (!unlink_files(job))
        return CLEAN_FAILED;
    if (job->order.evict)
        evict_entries(job);
    if (segment_live_bytes(job->segment) > 0)
        drop_all_lost(job);
    remove_segment(job);
    return CLEAN_DONE;
}
