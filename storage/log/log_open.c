/* log_open.c: the start and the end of a log. */
#include <string.h>

#include "storage/base/thread.h"
#include "storage/log/log_internal.h"

bool log_init(struct log *log, const struct log_options *options)
{
    memset(log, 0, sizeof *log);
    log->options = *options;
    log->index_count = 1; /* index 0 stays unused: location 0 is no location */
    log->usual_size = log->attempt_size = options->segment_size;
    log->current = &log->buffers[0];
    log->dropped.first_lsn = UINT64_MAX;
    atomic_store(&log->effective_limit, UINT64_MAX);
    atomic_store(&log->flush_deadline_s, UINT32_MAX);
    pthread_mutex_init(&log->lock, NULL);
    pthread_mutex_init(&log->write_lock, NULL);
    pthread_mutex_init(&log->sync_lock, NULL);
    thread_cond_init(&log->segment_wanted);
    thread_cond_init(&log->sync_cond);
    segment_files_init(&log->segment_files, options->files, options->dir_fd, options->open_files,
                       &options->reporter);
    log_set_disk_limit(log, options->disk_limit);
    return log_init_buffer(&log->buffers[0]) && log_init_buffer(&log->buffers[1]) &&
           log_new_segment_table(log);
}

bool log_adopt(struct log *log, struct segment *segment)
{
    if (!log_give_index(log, segment))
        return false;
    log_link_segment(log, segment);
    return true;
}

/* Makes the first segment the active one; without a file if the disk has no room for it: the log is
 * failed then, and the syncer's repair makes the file as soon as there is room. */
static enum store_status begin_log(struct log *log)
{
    struct segment *segment;
    uint64_t id = log->next_segment_id++;
    enum store_status status = log_create_segment(log, id, &segment);
    if (status == STORE_FULL) {
        segment = segment_new();
        if (!segment)
            return STORE_NO_MEMORY;
        segment->header.id = id;
        segment->capacity = SEGMENT_SIZE_MIN;
        segment_files_hold(&log->segment_files);
        atomic_store(&log->failed, true);
    } else if (status != STORE_OK) {
        return status;
    }
    if (!log_give_index(log, segment)) {
        segment_files_free(&log->segment_files, segment);
        return STORE_FULL;
    }
    log_activate(log, segment);
    return STORE_OK;
}

/* Writes the first segment's header: LSNs and CAS uniques after it are not given again. */
static enum store_status write_first_header(struct log *log)
{
    const struct file_system *files = log->options.files;
    enum store_status status = log_commit(log, atomic_load(&log->next_lsn));
    bool sync = status == STORE_OK && log->options.sync_interval_ms >= 0;
    return sync && files->sync(files->context, log->active->fd) < 0 ? STORE_IO : status;
}

static bool start_threads(struct log *log)
{
    if (pthread_create(&log->syncer, NULL, log_run_syncer, log) != 0)
        return false;
    if (pthread_create(&log->allocator, NULL, log_run_allocator, log) == 0) {
        log->threads = true;
        return true;
    }
    pthread_mutex_lock(&log->sync_lock);
    log->stopping = true;
    pthread_cond_signal(&log->sync_cond);
    pthread_mutex_unlock(&log->sync_lock);
    pthread_join(log->syncer, NULL);
    return false;
}

enum store_status log_start(struct log *log, uint64_t next_segment_id, uint64_t first_lsn,
                            uint64_t next_cas, uint32_t now_s)
{
    log->next_segment_id = next_segment_id;
    atomic_store(&log->next_lsn, first_lsn);
    log->next_cas = next_cas;
    log->now_s = now_s;
    atomic_store(&log->flush_record_lsn, atomic_load(&log->flush_lsn));
    atomic_store(&log->written_lsn, first_lsn);
    log->start_lsn = first_lsn;
    backpressure_init(&log->backpressure, log->options.sync_interval_ms);
    enum store_status status = begin_log(log);
    if (status != STORE_OK)
        return status;
    log_count_sizes(log);
    log->held_from = log->active;
    /* What has no hint file yet may not be on disk yet either: hints are written after the sync. */
    log->sync_from = log->first;
    while (log->sync_from->hinted)
        log->sync_from = log->sync_from->next;
    log->hint_from = log->sync_from;
    atomic_store(&log->synced_lsn, log->sync_from->header.base_lsn);
    if (!atomic_load(&log->failed))
        status = write_first_header(log);
    if (status != STORE_OK)
        return status;
    if (log->options.sync_interval_ms >= 0 && log->sync_from != log->active)
        log_request_sync(log, first_lsn); /* at once: even a short life should leave hint files */
    return start_threads(log) ? STORE_OK : STORE_NO_MEMORY;
}

/* Their files stay for the next start, which needs the room: others may fill the disk. */
static void leave_ready(struct log *log)
{
    while (log->ready_count) {
        struct segment *segment = log->ready[--log->ready_count];
        log->file_bytes -= log_on_disk(segment->capacity);
        segment_files_free(&log->segment_files, segment);
    }
}

bool log_stop(struct log *log)
{
    if (!log->active || !log->threads)
        return true;
    log_commit(log, atomic_load(&log->next_lsn));
    log_report_last_sync(log);
    pthread_mutex_lock(&log->sync_lock);
    pthread_mutex_lock(&log->lock);
    log->stopping = true;
    pthread_cond_broadcast(&log->segment_wanted);
    pthread_mutex_unlock(&log->lock);
    pthread_cond_signal(&log->sync_cond);
    pthread_mutex_unlock(&log->sync_lock);
    pthread_join(log->allocator, NULL);
    pthread_join(log->syncer, NULL);
    bool synced = log_sync_last(log);
    leave_ready(log);
    return synced;
}

void log_release(struct log *log)
{
    struct segment *next;
    for (struct segment *segment = log->first; segment; segment = next) {
        next = segment->next;
        if (segment->hint_writer)
            hint_abandon(segment->hint_writer);
        segment_files_free(&log->segment_files, segment);
    }
    for (struct segment *segment = log->doomed; segment; segment = next) {
        next = segment->next_doomed;
        segment_files_free(&log->segment_files, segment);
    }
    segment_files_release(&log->segment_files);
    for (int i = 0; i < 2; i++)
        log_free_buffer(&log->buffers[i]);
    log_free_segment_table(log);
    pthread_mutex_destroy(&log->lock);
    pthread_mutex_destroy(&log->write_lock);
    pthread_mutex_destroy(&log->sync_lock);
    pthread_cond_destroy(&log->segment_wanted);
    pthread_cond_destroy(&log->sync_cond);
}
