/* test_log.c: appending, group commit, spares, and the log on a disk that fails (L1 to L3). */
#include "tests/unit/storage/support/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "storage/log/log.h"
#include "storage/base/monotonic.h"

static struct temp_dir dir;
static struct faulty faulty;
static struct messages messages;
static struct log lg;
static _Atomic uint32_t synced_calls, sealed_calls, room_calls;

static void on_synced(void *context)
{
    (void)context;
    atomic_fetch_add(&synced_calls, 1);
}

static void on_sealed(void *context)
{
    (void)context;
    atomic_fetch_add(&sealed_calls, 1);
}

static void on_room(void *context)
{
    (void)context;
    atomic_fetch_add(&room_calls, 1);
}

static int start(int sync_interval_ms, uint32_t segment_size)
{
    temp_dir_make(&dir);
    faulty_init(&faulty);
    messages_init(&messages);
    atomic_store(&synced_calls, 0);
    atomic_store(&sealed_calls, 0);
    atomic_store(&room_calls, 0);
    struct log_options options = {
        .files = &faulty.files,
        .dir_fd = dir.fd,
        .segment_size = segment_size,
        .open_files = 4096, /* nobody writes hint files here, so all stay open */
        .sync_interval_ms = sync_interval_ms,
        .reporter = messages.reporter,
        .random = random_bytes,
        .on_synced = on_synced,
        .on_sealed = on_sealed,
        .on_room = on_room,
    };
    assert_true(log_init(&lg, &options));
    assert_int_equal(log_start(&lg, 1, 1000, 1, FIXTURE_NOW), STORE_OK);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    return start(STORE_SYNC_NEVER, STORE_SEGMENT_SIZE_MIN);
}

static int set_up_synced(void **state)
{
    (void)state;
    return start(STORE_SYNC_ALWAYS, STORE_SEGMENT_SIZE_MIN);
}

static int set_up_window(void **state)
{
    (void)state;
    return start(100, STORE_SEGMENT_SIZE_MIN);
}

/* As many bytes as no disk minds do not fill a segment. */
static int set_up_large(void **state)
{
    (void)state;
    return start(3600 * 1000, 2 * BACKPRESSURE_LIMIT_MIN);
}

static int tear_down(void **state)
{
    (void)state;
    faulty_heal(&faulty);
    log_stop(&lg);
    log_release(&lg);
    temp_dir_remove(&dir);
    return 0;
}

/* A large value, half in one place and half in another; the caller frees both. */
static struct log_outside make_outside(uint32_t value_len)
{
    struct log_outside outside = {.head_len = RECORD_HEADER_SIZE + 8};
    for (int i = 0; i < RECORD_PARTS; i++) {
        size_t len = i ? value_len / 2 : value_len - value_len / 2;
        char *data = malloc(len);
        fill_pattern(data, len, value_len + (uint64_t)i);
        outside.value[i] = (struct record_part){data, len};
    }
    return outside;
}

/* Overwrites it first: nobody may look there any more. */
static void free_outside(struct log_outside *outside)
{
    for (int i = 0; i < RECORD_PARTS; i++) {
        memset((char *)outside->value[i].data, 0xee, outside->value[i].len);
        free((char *)outside->value[i].data);
    }
}

/* `meanwhile` is called between its publication and its commit, if it is not NULL. */
static enum store_status append_outside(uint32_t value_len, void (*meanwhile)(void))
{
    struct log_room room;
    struct log_outside outside = make_outside(value_len);
    uint32_t size = (uint32_t)record_size(8, value_len);
    const struct hint_entry entry = {.size = size / RECORD_ALIGN, .type = RECORD_PUT};
    enum store_status status;
    while ((status = log_reserve(&lg, &entry, &outside, LOG_NORMAL, LOG_RESTS_ON_NONE, FIXTURE_NOW,
                                 &room)) == STORE_WAIT_SPACE)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    if (status == STORE_OK) {
        struct record record = {
            .type = RECORD_PUT, .cas = room.cas, .key_len = 8, .value_len = value_len};
        memcpy(room.data + RECORD_HEADER_SIZE, &room.cas, 8);
        record_seal_parts(room.data, &record, room.segment->header.seed, room.offset,
                          outside.value);
        log_publish(&room);
        if (meanwhile)
            meanwhile();
        status = log_commit(&lg, room.lsn + size);
    }
    free_outside(&outside);
    return status;
}

/* Writes the record that `room` was reserved for; its CAS unique tells which one it is. */
static void fill_and_publish(struct log_room *room, uint32_t value_len)
{
    struct record record = {.type = RECORD_PUT, .cas = room->cas, .key_len = 8};
    record.value_len = value_len;
    memcpy(room->data + RECORD_HEADER_SIZE, &room->cas, 8);
    fill_pattern(room->data + RECORD_HEADER_SIZE + 8, value_len, room->cas);
    record_seal(room->data, &record, room->segment->header.seed, room->offset);
    log_publish(room);
}

static enum store_status append_now(uint32_t value_len, enum log_use use, uint64_t *end_lsn)
{
    struct log_room room;
    uint32_t size = (uint32_t)record_size(8, value_len);
    const struct hint_entry entry = {.size = size / RECORD_ALIGN, .type = RECORD_PUT};
    enum store_status status =
        log_reserve(&lg, &entry, NULL, use, LOG_RESTS_ON_NONE, FIXTURE_NOW, &room);
    if (status != STORE_OK)
        return status;
    fill_and_publish(&room, value_len);
    *end_lsn = room.lsn + size;
    return STORE_OK;
}

static void rest(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    nanosleep(&pause, NULL);
}

/* Waits until the allocator has made a segment. */
static enum store_status try_append(uint32_t value_len, enum log_use use, uint64_t *end_lsn)
{
    enum store_status status;
    while ((status = append_now(value_len, use, end_lsn)) == STORE_WAIT_SPACE)
        rest();
    return status;
}

static uint64_t append(uint32_t value_len)
{
    uint64_t end_lsn = 0;
    assert_int_equal(try_append(value_len, LOG_NORMAL, &end_lsn), STORE_OK);
    return end_lsn;
}

static void append_and_commit(uint32_t value_len)
{
    assert_int_equal(log_commit(&lg, append(value_len)), STORE_OK);
}

/* Reads the segment's file: every record is whole, and follows the one before it. */
static uint64_t scan_segment(const struct segment *segment, uint64_t cas)
{
    struct segment_cursor cursor;
    struct record record;
    uint32_t offset;
    uint64_t end = atomic_load(&segment->end);
    assert_true(segment_cursor_init(&cursor, &file_system_os, segment, end));
    while (segment_cursor_next(&cursor, &record, &offset) == CURSOR_RECORD)
        assert_int_equal(record.cas, ++cas);
    assert_int_equal(cursor.offset, end);
    segment_cursor_release(&cursor);
    return cas;
}

/* The number of records in the files of the log; all were committed. */
static uint64_t scan_log(void)
{
    uint64_t count = 0, lsn = lg.first->header.base_lsn;
    for (const struct segment *segment = lg.first; segment; segment = segment->next) {
        assert_int_equal(segment->header.base_lsn, lsn);
        count = scan_segment(segment, count);
        lsn += atomic_load(&segment->end);
    }
    assert_int_equal(log_written_lsn(&lg), lsn);
    return count;
}

/* Append and commit. */

static void test_records_lie_in_the_order_of_their_reservations(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 500; i++)
        append(i);
    append_and_commit(0);
    assert_int_equal(scan_log(), 501);
}

static void test_nothing_is_written_before_the_commit(void **state)
{
    (void)state;
    uint64_t writes = faulty_calls(&faulty, CALL_PWRITE), before = log_written_lsn(&lg);
    uint64_t end = append(100);
    assert_int_equal(faulty_calls(&faulty, CALL_PWRITE), writes);
    assert_int_equal(log_written_lsn(&lg), before);
    assert_int_equal(log_commit(&lg, end), STORE_OK);
    assert_int_equal(log_written_lsn(&lg), end);
}

static void test_one_write_commits_all_that_waits(void **state)
{
    (void)state;
    uint64_t writes = faulty_calls(&faulty, CALL_PWRITE), end = 0;
    for (int i = 0; i < 50; i++)
        end = append(100);
    assert_int_equal(log_commit(&lg, end), STORE_OK);
    assert_int_equal(log_commit(&lg, end), STORE_OK);
    assert_int_equal(faulty_calls(&faulty, CALL_PWRITE), writes + 1);
}

struct committer {
    pthread_t thread;
    uint64_t lsn;
    atomic_bool done;
};

static void *run_commit(void *context)
{
    struct committer *committer = context;
    enum store_status status = log_commit(&lg, committer->lsn);
    atomic_store(&committer->done, true);
    return status == STORE_OK ? committer : NULL;
}

static void test_a_commit_waits_for_copies_under_way(void **state)
{
    (void)state;
    struct committer committer = {0};
    struct log_room room;
    void *result;
    const struct hint_entry entry = {.size = 40 / RECORD_ALIGN, .type = RECORD_PUT};
    assert_int_equal(
        log_reserve(&lg, &entry, NULL, LOG_NORMAL, LOG_RESTS_ON_NONE, FIXTURE_NOW, &room),
        STORE_OK);
    committer.lsn = append(10);
    assert_int_equal(pthread_create(&committer.thread, NULL, run_commit, &committer), 0);
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    assert_false(atomic_load(&committer.done));
    fill_and_publish(&room, 0);
    assert_int_equal(pthread_join(committer.thread, &result), 0);
    assert_ptr_equal(result, &committer);
    assert_int_equal(scan_log(), 2);
}

#define APPENDERS 4
#define APPENDS   (SLOW_BUILD ? 500 : 3000)

static void *run_appends(void *context)
{
    bool *failed = context;
    struct rng rng = {.state = (uint64_t)(uintptr_t)context};
    uint64_t end;
    for (int i = 0; i < APPENDS; i++)
        if (try_append(rng_below(&rng, 500), LOG_NORMAL, &end) != STORE_OK ||
            log_commit(&lg, end) != STORE_OK || log_written_lsn(&lg) < end)
            *failed = true;
    return NULL;
}

static void test_threads_share_one_order_and_their_commits(void **state)
{
    (void)state;
    pthread_t threads[APPENDERS];
    bool failed[APPENDERS] = {false};
    for (int i = 0; i < APPENDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_appends, &failed[i]), 0);
    for (int i = 0; i < APPENDERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < APPENDERS; i++)
        assert_false(failed[i]);
    assert_int_equal(scan_log(), APPENDERS * APPENDS);
    assert_int_equal(atomic_load(&lg.commit_records), APPENDERS * APPENDS);
    assert_true(atomic_load(&lg.commits) <= APPENDERS * APPENDS + 1);
}

static void test_a_commit_writes_once_to_each_segment_it_touches(void **state)
{
    (void)state;
    uint64_t writes = faulty_calls(&faulty, CALL_PWRITE), end = 0;
    for (int i = 0; i < 6; i++)
        end = append(30000);
    assert_int_equal(log_commit(&lg, end), STORE_OK);
    assert_int_equal(faulty_calls(&faulty, CALL_PWRITE), writes + 3);
    assert_int_equal(atomic_load(&sealed_calls), 1);
    assert_int_equal(scan_log(), 6);
}

static void test_more_segments_than_a_buffer_knows_are_written_in_between(void **state)
{
    (void)state;
    uint64_t end = 0;
    for (int i = 0; i < 3 * LOG_EXTENTS; i++)
        end = append(60000);
    assert_true(log_written_lsn(&lg) > 1000 + SEGMENT_HEADER_SIZE);
    assert_int_equal(log_commit(&lg, end), STORE_OK);
    assert_int_equal(scan_log(), 3 * LOG_EXTENTS);
}

static void test_large_values_are_written_from_where_they_lie(void **state)
{
    (void)state;
    uint64_t records = 0;
    for (uint32_t i = 0; i < 20; i++) {
        append(i); /* waits in the buffer before it */
        assert_int_equal(append_outside(LOG_OUTSIDE_MIN + i, NULL), STORE_OK);
        records += 2;
    }
    append_and_commit(0);
    assert_int_equal(scan_log(), records + 1);
}

static void test_a_record_larger_than_a_segment_gets_a_larger_one(void **state)
{
    (void)state;
    append(10);
    append(300000);
    append(10);
    assert_int_equal(append_outside(3000000, NULL), STORE_OK); /* and larger than the buffer */
    append_and_commit(10);
    assert_int_equal(scan_log(), 5);
}

static void test_short_writes_are_completed(void **state)
{
    (void)state;
    faulty.short_io = true;
    for (int i = 0; i < 100; i++)
        append_and_commit(1000);
    faulty.short_io = false;
    assert_int_equal(scan_log(), 100);
}

/* Spares (L3). */

static bool segments_are_ready(void *context)
{
    (void)context;
    pthread_mutex_lock(&lg.lock);
    bool ready = lg.ready_count == LOG_READY;
    pthread_mutex_unlock(&lg.lock);
    return ready;
}

static void test_segments_are_made_before_they_are_needed(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_true(wait_until(segments_are_ready, NULL));
        append_and_commit(60000);
    }
}

/* Takes all room that the disk has for this use; the records that went in. */
static uint64_t append_until_full(enum log_use use)
{
    uint64_t end, count = 0;
    enum store_status status;
    while ((status = try_append(20000, use, &end)) == STORE_OK) {
        assert_int_equal(log_commit(&lg, end), STORE_OK);
        assert_true(++count < 100);
    }
    assert_int_equal(status, STORE_FULL);
    return count;
}

static bool takes_a_segment(void *context)
{
    uint64_t end;
    (void)context;
    return try_append(60000, LOG_NORMAL, &end) == STORE_OK;
}

static int set_up_mib(void **state)
{
    (void)state;
    return start(STORE_SYNC_NEVER, UINT32_C(1) << 20);
}

/* On a small disk, or under a lower limit, there is always something to take back. */
static void test_segments_are_so_small_that_many_fit_the_disk(void **state)
{
    (void)state;
    assert_true(wait_until(segments_are_ready, NULL));
    assert_true(lg.usual_size == UINT32_C(1) << 20);
    faulty_set_space(&faulty, 1 << 20);
    uint64_t limit = log_refresh_limit(&lg); /* four segments and a MiB */
    assert_true(limit < UINT64_C(5) << 20);
    assert_true(lg.usual_size <= limit / LOG_SEGMENTS_MIN && lg.usual_size >= SEGMENT_SIZE_MIN);
}

static bool ready_segments_are_small(void *context)
{
    bool small = true;
    (void)context;
    pthread_mutex_lock(&lg.lock);
    for (uint32_t i = 0; i < lg.ready_count; i++)
        small = small && lg.ready[i]->capacity <= 2 * lg.usual_size;
    pthread_mutex_unlock(&lg.lock);
    return small;
}

static void test_under_a_lower_limit_large_segments_end_early_and_ready_ones_go(void **state)
{
    (void)state;
    assert_true(wait_until(segments_are_ready, NULL));
    append_and_commit(60000);
    const struct segment *large = lg.active;
    assert_true(large->capacity == UINT32_C(1) << 20);
    log_set_disk_limit(&lg, UINT64_C(2) << 20);
    assert_true(wait_until(ready_segments_are_small, NULL));
    while (lg.active == large && large->end < 5 * SEGMENT_SIZE_MIN)
        append_and_commit(20000);
    assert_ptr_not_equal(lg.active, large);
}

static void test_a_full_disk_leaves_a_segment_for_what_is_essential(void **state)
{
    (void)state;
    assert_true(wait_until(segments_are_ready, NULL));
    faulty_set_space(&faulty, 0);
    assert_int_equal(append_until_full(LOG_NORMAL), 6); /* the active one and a spare */
    assert_int_equal(append_until_full(LOG_DELETION), 3);
    assert_int_equal(append_until_full(LOG_NORMAL), 0);
    assert_true(messages_have(&messages, "cannot make another segment"));
    assert_int_equal(messages.errors, 1);
    assert_int_equal(scan_log(), 9);
    faulty_heal(&faulty);
    assert_true(wait_until(takes_a_segment, NULL));
    assert_int_equal(log_commit(&lg, lg.next_lsn), STORE_OK);
    assert_int_equal(scan_log(), 10);
}

/* Failures. */

static void test_a_failed_write_is_repaired(void **state)
{
    (void)state;
    append_and_commit(60000);
    append_and_commit(10000);
    faulty_fail(&faulty, CALL_PWRITE, 1, 1, EIO);
    append_and_commit(100);
    assert_true(messages_have(&messages, "nothing acknowledged was lost"));
    append_and_commit(100);
    assert_int_equal(scan_log(), 4);
}

static bool works(void *context)
{
    (void)context;
    return !atomic_load(&lg.failed);
}

static void drop_first_page(void)
{
    static const char zeros[4096];
    int fd = openat(dir.fd, "0000000000000001.seg", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, 0), sizeof zeros);
    close(fd);
}

/* A writer holds a lock, and must not search for records that the disk has lost: the syncer does
 * that. */
static void test_a_writer_leaves_to_the_syncer_what_the_disk_has_dropped(void **state)
{
    (void)state;
    append_and_commit(5000);
    append_and_commit(100);
    drop_first_page();
    uint64_t end = append(100);
    faulty_fail(&faulty, CALL_PWRITE, 1, 1, EIO);
    assert_int_equal(log_commit(&lg, end), STORE_READ_ONLY);
    assert_true(wait_until(works, NULL));
    assert_int_equal(log_commit(&lg, end), STORE_OK);
    assert_true(messages_have(&messages, "their keys absent now: 1; "));
    assert_true(atomic_load(&lg.lost_values) == 1);
    struct segment_cursor cursor;
    struct record record;
    uint32_t offset;
    assert_true(segment_cursor_init(&cursor, &faulty.files, lg.first, lg.first->end));
    assert_int_equal(segment_cursor_next(&cursor, &record, &offset), CURSOR_RECORD);
    assert_int_equal(record.type, RECORD_DELETE);
    assert_true(record.state & RECORD_STATE_HASHED);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(segment_cursor_next(&cursor, &record, &offset), CURSOR_RECORD);
        assert_int_equal(record.type, RECORD_PUT);
    }
    assert_int_equal(segment_cursor_next(&cursor, &record, &offset), CURSOR_END);
    segment_cursor_release(&cursor);
}

static bool all_is_synced(void *context)
{
    (void)context;
    return log_synced_lsn(&lg) >= log_written_lsn(&lg);
}

static void test_a_sync_is_made_when_asked_for(void **state)
{
    (void)state;
    append_and_commit(100);
    assert_false(all_is_synced(NULL));
    log_request_sync(&lg, log_written_lsn(&lg));
    assert_true(wait_until(all_is_synced, NULL));
}

static void test_a_failed_sync_is_repaired_and_not_tried_again(void **state)
{
    (void)state;
    append_and_commit(60000);
    append_and_commit(10000);
    assert_true(wait_until(segments_are_ready, NULL)); /* their making syncs too */
    uint64_t renames = faulty_calls(&faulty, CALL_RENAME);
    faulty_fail(&faulty, CALL_SYNC, 1, 1, EIO);
    log_request_sync(&lg, log_written_lsn(&lg));
    assert_true(wait_until(all_is_synced, NULL));
    assert_true(messages_have(&messages, "nothing acknowledged was lost"));
    assert_true(faulty_calls(&faulty, CALL_RENAME) >= renames + 2);
    append_and_commit(100);
    assert_int_equal(scan_log(), 3);
}

/* Backpressure. */

static _Atomic bool disk_stands_still;

static void stand_still(enum file_call call, const char *name)
{
    (void)name;
    while (call == CALL_SYNC && atomic_load(&disk_stands_still))
        rest();
}

/* Small records, so that no new segment is needed. Answers how many until writers are held. */
static uint32_t write_until_held(void)
{
    uint64_t end = 0;
    uint32_t count = 0;
    while (append_now(8, LOG_NORMAL, &end) == STORE_OK && count++ < 1000) {
        assert_int_equal(log_commit(&lg, end), STORE_OK);
        rest();
    }
    return count;
}

static bool room_was_made(void *context)
{
    (void)context;
    return atomic_load(&room_calls) > 0;
}

static void test_writers_wait_for_a_disk_that_is_behind_its_window(void **state)
{
    (void)state;
    uint64_t end = 0;
    assert_true(wait_until(segments_are_ready, NULL)); /* their making syncs too */
    assert_true(wait_until(all_is_synced, NULL));
    atomic_store(&room_calls, 0);
    faulty_watch(&faulty, stand_still);
    atomic_store(&disk_stands_still, true);
    uint32_t count = write_until_held();
    assert_true(count > 0 && count < 1000);
    assert_true(log_has_backpressure(&lg));
    assert_int_equal(append_now(8, LOG_DELETION, &end), STORE_WAIT_SPACE);
    assert_int_equal(log_flush(&lg, 0, FIXTURE_NOW, &end), STORE_WAIT_SPACE);
    assert_int_equal(append_now(8, LOG_CLEANING, &end), STORE_OK);
    assert_int_equal(atomic_load(&room_calls), 0);
    atomic_store(&disk_stands_still, false);
    assert_true(wait_until(room_was_made, NULL));
    append_and_commit(8);
    assert_true(wait_until(all_is_synced, NULL));
    assert_int_equal(scan_log(), count + 2);
    assert_true(atomic_load(&lg.waited_us) > 0);
}

static bool held_for_long(void *context)
{
    (void)context;
    return monotonic_us() - atomic_load(&lg.backpressure_since_us) > 1100000;
}

static bool is_told(void *words)
{
    return messages_have(&messages, words);
}

/* Makes the log behave as if a minute had gone by. */
static void test_the_operator_hears_of_a_slow_disk_once_and_when_it_is_over(void **state)
{
    (void)state;
    assert_true(wait_until(segments_are_ready, NULL)); /* their making syncs too */
    for (int turn = 0; turn < 2; turn++) {
        messages_clear(&messages);
        faulty_watch(&faulty, stand_still);
        atomic_store(&disk_stands_still, true);
        write_until_held();
        assert_true(wait_until(held_for_long, NULL));
        assert_false(messages_have(&messages, "cannot keep"));
        atomic_store(&disk_stands_still, false);
        assert_true(
            wait_until(is_told, (char *)"s for a sync and cannot keep --sync=0.1: writes wait"));
        uint32_t warnings = messages.warnings;
        atomic_store(&disk_stands_still, true);
        write_until_held();
        atomic_store(&room_calls, 0);
        atomic_store(&disk_stands_still, false);
        assert_true(wait_until(room_was_made, NULL));
        assert_int_equal(messages.warnings, warnings);
        assert_false(messages_have(&messages, "keeps up again"));
        lg.episode.end_us -= 60000000;
        assert_true(
            wait_until(is_told, (char *)"keeps up again: writes have waited for it 2 times"));
    }
}

static void test_writers_wait_while_more_waits_for_the_disk_than_it_takes(void **state)
{
    (void)state;
    assert_true(wait_until(segments_are_ready, NULL));
    faulty_watch(&faulty, stand_still);
    atomic_store(&disk_stands_still, true);
    uint64_t end = 0, begin = log_written_lsn(&lg);
    while (append_now(50000, LOG_NORMAL, &end) == STORE_OK)
        assert_int_equal(log_commit(&lg, end), STORE_OK);
    assert_true(log_has_backpressure(&lg));
    assert_in_range(end - begin, BACKPRESSURE_LIMIT_MIN, BACKPRESSURE_LIMIT_MIN + 100000);
    atomic_store(&disk_stands_still, false);
    assert_true(wait_until(all_is_synced, NULL));
    append_and_commit(50000);
}

static bool is_synced_beyond(void *lsn)
{
    return log_synced_lsn(&lg) > *(uint64_t *)lsn;
}

static void test_a_sync_begins_before_its_time_when_much_waits(void **state)
{
    (void)state;
    uint64_t begin = log_written_lsn(&lg);
    while (log_written_lsn(&lg) <= begin + BACKPRESSURE_LIMIT_MIN / 2)
        append_and_commit(50000);
    assert_true(wait_until(is_synced_beyond, &begin));
    assert_false(log_has_backpressure(&lg));
}

static void test_those_who_wait_for_the_disk_learn_that_it_has_failed(void **state)
{
    (void)state;
    uint64_t end = 0;
    assert_true(wait_until(segments_are_ready, NULL));
    assert_true(wait_until(all_is_synced, NULL));
    faulty_watch(&faulty, stand_still);
    atomic_store(&disk_stands_still, true);
    write_until_held();
    atomic_store(&room_calls, 0);
    faulty_fail(&faulty, CALL_SYNC, 1, FOREVER, EIO);
    atomic_store(&disk_stands_still, false);
    assert_true(wait_until(room_was_made, NULL));
    assert_int_equal(append_now(8, LOG_NORMAL, &end), STORE_READ_ONLY);
    faulty_heal(&faulty);
    assert_true(wait_until(works, NULL));
    assert_int_equal(try_append(8, LOG_NORMAL, &end), STORE_OK);
}

static void test_a_disk_that_stays_broken_makes_the_log_read_only_until_it_works(void **state)
{
    uint64_t end;
    (void)state;
    append_and_commit(100);
    uint64_t lost = append(200);
    faulty_fail(&faulty, CALL_PWRITE, 1, FOREVER, EIO);
    assert_int_equal(log_commit(&lg, lost), STORE_READ_ONLY);
    assert_int_equal(try_append(100, LOG_DELETION, &end), STORE_READ_ONLY);
    assert_int_equal(log_commit(&lg, lost), STORE_READ_ONLY);
    assert_true(messages_have(&messages, "read-only"));
    faulty_heal(&faulty);
    assert_true(wait_until(works, NULL));
    assert_int_equal(log_commit(&lg, lost), STORE_OK);
    append_and_commit(100);
    assert_int_equal(scan_log(), 3);
}

static void somebody_finds_the_disk_broken(void)
{
    atomic_store(&lg.failed, true);
}

/* The disk fails when it is written, or has failed before: it is copied. */
static void test_large_values_outlive_their_owner_when_the_disk_fails(void **state)
{
    (void)state;
    append_and_commit(100);
    faulty_fail(&faulty, CALL_PWRITE, 1, FOREVER, EIO);
    assert_int_equal(append_outside(300000, NULL), STORE_READ_ONLY);
    faulty_heal(&faulty);
    assert_true(wait_until(works, NULL));
    assert_int_equal(append_outside(300000, somebody_finds_the_disk_broken), STORE_READ_ONLY);
    assert_true(wait_until(works, NULL));
    append_and_commit(100);
    assert_int_equal(scan_log(), 4);
}

#define TEST(name)        cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)
#define TEST_SYNCED(name) cmocka_unit_test_setup_teardown(test_##name, set_up_synced, tear_down)
#define TEST_MIB(name)    cmocka_unit_test_setup_teardown(test_##name, set_up_mib, tear_down)
#define TEST_LARGE(name)  cmocka_unit_test_setup_teardown(test_##name, set_up_large, tear_down)
#define TEST_WINDOW(name) cmocka_unit_test_setup_teardown(test_##name, set_up_window, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(records_lie_in_the_order_of_their_reservations),
        TEST(nothing_is_written_before_the_commit),
        TEST(one_write_commits_all_that_waits),
        TEST(a_commit_waits_for_copies_under_way),
        TEST(threads_share_one_order_and_their_commits),
        TEST(a_commit_writes_once_to_each_segment_it_touches),
        TEST(more_segments_than_a_buffer_knows_are_written_in_between),
        TEST(large_values_are_written_from_where_they_lie),
        TEST(large_values_outlive_their_owner_when_the_disk_fails),
        TEST(a_record_larger_than_a_segment_gets_a_larger_one),
        TEST(short_writes_are_completed),
        TEST(segments_are_made_before_they_are_needed),
        TEST(a_full_disk_leaves_a_segment_for_what_is_essential),
        TEST_MIB(segments_are_so_small_that_many_fit_the_disk),
        TEST_MIB(under_a_lower_limit_large_segments_end_early_and_ready_ones_go),
        TEST(a_failed_write_is_repaired),
        TEST(a_writer_leaves_to_the_syncer_what_the_disk_has_dropped),
        TEST_SYNCED(a_sync_is_made_when_asked_for),
        TEST_SYNCED(a_failed_sync_is_repaired_and_not_tried_again),
        TEST_WINDOW(writers_wait_for_a_disk_that_is_behind_its_window),
        TEST_LARGE(writers_wait_while_more_waits_for_the_disk_than_it_takes),
        TEST_WINDOW(the_operator_hears_of_a_slow_disk_once_and_when_it_is_over),
        TEST_LARGE(a_sync_begins_before_its_time_when_much_waits),
        TEST_WINDOW(those_who_wait_for_the_disk_learn_that_it_has_failed),
        TEST(a_disk_that_stays_broken_makes_the_log_read_only_until_it_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
