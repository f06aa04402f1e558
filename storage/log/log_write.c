/* log_write.c: the buffers that commits fill and write, and the hint files that grow with them. */
#include <stdlib.h>
#include <string.h>

#include "storage/base/memory.h"
#include "storage/log/log_internal.h"

bool log_init_buffer(struct log_buffer *buffer)
{
    buffer->entries = malloc(LOG_BUFFER_RECORDS * sizeof *buffer->entries);
    buffer->data = memory_new_private(LOG_BUFFER_SIZE);
    return buffer->entries && buffer->data;
}

static void free_kept(struct log_buffer *buffer)
{
    for (uint32_t i = 0; i < buffer->extent_count; i++)
        free(buffer->extents[i].kept);
    buffer->extent_count = 0;
}

void log_free_buffer(struct log_buffer *buffer)
{
    free_kept(buffer);
    free(buffer->data);
    free(buffer->entries);
}

void log_keep_outside(struct log_buffer *buffer)
{
    for (uint32_t i = 0; i < buffer->extent_count; i++) {
        struct log_extent *extent = &buffer->extents[i];
        struct record_part *value = extent->outside;
        size_t len = value[0].len + value[1].len;
        if (len == 0 || extent->kept)
            continue;
        extent->kept = malloc(len);
        if (extent->kept) {
            memcpy(extent->kept, value[0].data, value[0].len);
            memcpy(extent->kept + value[0].len, value[1].data, value[1].len);
            value[0].data = extent->kept;
            value[1].data = extent->kept + value[0].len;
        } else {
            memset(value, 0, RECORD_PARTS * sizeof *value);
        }
    }
}

bool log_write_buffer(struct log *log, struct log_buffer *buffer)
{
    for (uint32_t i = 0; i < buffer->extent_count; i++) {
        const struct log_extent *extent = &buffer->extents[i];
        size_t end = i + 1 < buffer->extent_count ? extent[1].start : buffer->used;
        uint64_t offset = extent->offset;
        const struct record_part parts[] = {{buffer->data + extent->start, end - extent->start},
                                            extent->outside[0],
                                            extent->outside[1]};
        for (size_t k = 0; k < sizeof parts / sizeof *parts; offset += parts[k++].len)
            if (parts[k].len && !file_write_all(log->options.files, extent->segment->fd,
                                                parts[k].data, parts[k].len, offset))
                return false;
    }
    return true;
}

/* The hint file of a segment grows with it. If that fails a scan makes it, as after a crash. */
static void add_hints(struct log *log, const struct log_buffer *buffer, uint32_t i)
{
    const struct log_extent *extent = &buffer->extents[i];
    struct segment *segment = extent->segment;
    uint32_t end = i + 1 < buffer->extent_count ? extent[1].record : buffer->records;
    if (extent->offset == 0)
        segment->hint_writer = hint_begin(log->options.files, log->options.dir_fd, segment);
    uint32_t count = end - extent->record;
    uint32_t bytes = count * (uint32_t)sizeof(struct hint_entry);
    if (segment->hint_writer &&
        !hint_add(segment->hint_writer, &buffer->entries[extent->record], count, buffer->cas_max)) {
        hint_abandon(segment->hint_writer);
        segment->hint_writer = NULL;
        log_set_hint_bytes(log, segment, 0);
    }
    if (segment->hint_writer)
        log_set_hint_bytes(log, segment, atomic_load(&segment->hint_bytes) + bytes);
}

void log_note_written(struct log *log, struct log_buffer *buffer)
{
    bool sealed = buffer->extent_count > 1;
    for (uint32_t i = 0; i < buffer->extent_count; i++)
        add_hints(log, buffer, i);
    atomic_fetch_add_explicit(&log->commits, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&log->commit_records, buffer->records, memory_order_relaxed);
    uint64_t bytes = buffer->used + buffer->outside;
    atomic_fetch_add_explicit(&log->bytes_written, bytes, memory_order_relaxed);
    atomic_store(&log->written_lsn, buffer->base_lsn + bytes); /* see backpressure_note_write */
    free_kept(buffer);
    buffer->used = buffer->outside = buffer->records = 0;
    atomic_store_explicit(&buffer->published, 0, memory_order_relaxed);
    log_apply_backpressure(log);
    if (sealed)
        log->options.on_sealed(log->options.context);
}
