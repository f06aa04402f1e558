/* fixture.c: see fixture.h. */
#define _GNU_SOURCE
#include "tests/unit/storage/support/fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "storage/log/segment.h"
#include "storage/store_internal.h"

static void wake(void *context)
{
    struct fixture *fixture = context;
    sem_post(&fixture->woken);
}

void fixture_init(struct fixture *fixture)
{
    memset(fixture, 0, sizeof *fixture);
    temp_dir_make(&fixture->dir);
    faulty_init(&fixture->faulty);
    messages_init(&fixture->messages);
    sem_init(&fixture->woken, 0, 0);
    fixture->now_s = FIXTURE_NOW;
    fixture->options = (struct store_options){
        .files = &fixture->faulty.files,
        .memory_limit = UINT64_C(1) << 20,
        .segment_size = STORE_SEGMENT_SIZE_MIN,
        .no_evictions = true,
        .sync_interval_ms = 1000,
        .shard_count = 16,
        .open_files = 1, /* as few as it can do with */
        .reader_threads = 2,
        .load_threads = 2,
        .boot_id = 1,
        .reporter = fixture->messages.reporter,
        .random = random_bytes,
    };
}

/* What a start says of a file must be true when it is over. */
static void look_for_left_files(struct fixture *fixture, size_t len_before)
{
    char lines[sizeof fixture->messages.text], name[NAME_LEN];
    pthread_mutex_lock(&fixture->messages.lock);
    snprintf(lines, sizeof lines, "%s", fixture->messages.text + len_before);
    pthread_mutex_unlock(&fixture->messages.lock);
    for (char *rest = lines, *line; (line = strsep(&rest, "\n"));) {
        if (!strstr(line, "left alone"))
            continue;
        if (sscanf(line, "%63s", name) != 1 || !file_exists(&fixture->dir, name))
            give_up("it is not there: %s", line);
    }
}

enum store_status fixture_try_open(struct fixture *fixture)
{
    size_t len_before = strlen(fixture->messages.text);
    fixture->options.dir_fd = fixture->dir.fd;
    fixture->options.dir_name = fixture->dir.path;
    fixture->options.now_s = fixture->now_s;
    enum store_status status = fixture->manual_cleaner
                                   ? store_open_manual(&fixture->store, &fixture->options)
                                   : store_open(&fixture->store, &fixture->options);
    if (status != STORE_OK)
        return status;
    fixture->session = store_session_new(fixture->store, wake, fixture, -1);
    if (!fixture->session)
        give_up("no session");
    store_enter(fixture->session, fixture->now_s);
    look_for_left_files(fixture, len_before);
    return STORE_OK;
}

void fixture_open(struct fixture *fixture)
{
    enum store_status status = fixture_try_open(fixture);
    if (status != STORE_OK)
        give_up("store_open: status %d\n%s", status, fixture->messages.text);
    store_check(fixture->store);
}

static bool is_blank_file(const struct temp_dir *dir, const char *name)
{
    size_t len;
    char *data = file_load(dir, name, &len);
    bool blank = true;
    for (size_t i = 0; i < len && blank; i++)
        blank = data[i] == 0;
    free(data);
    return blank;
}

/* The next start would remove them; tests look at files before that. */
static void remove_ready_segments(const struct temp_dir *dir)
{
    DIR *files = opendir(dir->path);
    struct dirent *file;
    while (files && (file = readdir(files)))
        if (segment_id_of(file->d_name, "seg") && is_blank_file(dir, file->d_name))
            unlinkat(dir->fd, file->d_name, 0);
    if (files)
        closedir(files);
}

void fixture_close(struct fixture *fixture)
{
    if (!fixture->store)
        return;
    store_leave(fixture->session);
    store_session_free(fixture->session);
    store_close(fixture->store);
    fixture->store = NULL;
    if (!fixture->keep_ready)
        remove_ready_segments(&fixture->dir);
}

void fixture_reopen(struct fixture *fixture)
{
    fixture_close(fixture);
    fixture_open(fixture);
}

void fixture_go_on_in(struct fixture *fixture, const struct temp_dir *picture)
{
    fixture_close(fixture);
    temp_dir_remove(&fixture->dir);
    fixture->dir = *picture;
}

void fixture_take_picture(struct fixture *fixture, struct temp_dir *picture)
{
    pthread_rwlock_wrlock(&fixture->faulty.frozen);
    temp_dir_copy(&fixture->dir, picture);
    pthread_rwlock_unlock(&fixture->faulty.frozen);
}

void fixture_crash(struct fixture *fixture)
{
    struct temp_dir left;
    fixture_take_picture(fixture, &left);
    fixture_go_on_in(fixture, &left);
}

void fixture_release(struct fixture *fixture)
{
    if (fixture->store)
        store_check(fixture->store);
    fixture_close(fixture);
    temp_dir_remove(&fixture->dir);
    sem_destroy(&fixture->woken);
}

enum store_status fixture_try_commit(struct fixture *fixture)
{
    store_leave(fixture->session);
    enum store_status status = store_commit(fixture->session);
    store_enter(fixture->session, fixture->now_s);
    return status;
}

void fixture_commit(struct fixture *fixture)
{
    assert_int_equal(fixture_try_commit(fixture), STORE_OK);
}

struct store_session *at(struct store_session *session, uint32_t now_s)
{
    session->now_s = now_s;
    return session;
}

/* As the server does: what the batch has written so far is committed, then it waits. */
static void wait_a_little(struct store_session *session)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    store_commit(session);
    nanosleep(&pause, NULL);
}

enum store_status wait_put(struct store_session *session, const struct store_key *key,
                           uint32_t now_s, struct store_put *put)
{
    enum store_status status;
    struct store_put wanted = *put;
    while ((status = store_put(at(session, now_s), key, put)) == STORE_WAIT_SPACE) {
        *put = wanted;
        wait_a_little(session);
    }
    return status;
}

enum store_status wait_delete(struct store_session *session, const struct store_key *key,
                              uint32_t now_s, enum store_condition condition, uint64_t location)
{
    enum store_status status;
    while ((status = store_delete(at(session, now_s), key, condition, location)) ==
           STORE_WAIT_SPACE)
        wait_a_little(session);
    return status;
}

enum store_status wait_touch(struct store_session *session, const struct store_key *key,
                             uint32_t now_s, uint32_t expire_s, enum store_condition condition,
                             uint64_t location)
{
    enum store_status status;
    while ((status = store_touch(at(session, now_s), key, expire_s, condition, location)) ==
           STORE_WAIT_SPACE)
        wait_a_little(session);
    return status;
}

enum store_status wait_flush(struct store_session *session, uint32_t when_s, uint32_t now_s)
{
    enum store_status status;
    while ((status = store_flush(at(session, now_s), when_s)) == STORE_WAIT_SPACE)
        wait_a_little(session);
    return status;
}

struct store_key fixture_key(const struct fixture *fixture, const char *key)
{
    struct store_key made;
    store_key_init(fixture->store, &made, key, strlen(key));
    store_prefetch(fixture->store, &made, STORE_READS);
    return made;
}

static void fetch(struct fixture *fixture, struct store_fetch *wanted)
{
    fixture->cold++;
    if (!fixture->use_readers && store_fetch_now(fixture->session, wanted) == STORE_OK)
        return;
    store_fetch_start(fixture->session, wanted);
    struct store_fetch *done;
    while (!(done = store_fetch_next(fixture->session)))
        sem_wait(&fixture->woken);
    assert_ptr_equal(done, wanted);
}

enum store_status fixture_get(struct fixture *fixture, const struct store_key *key,
                              struct store_fetch *wanted, struct store_item *item)
{
    enum store_status status;
    while ((status = store_get(at(fixture->session, fixture->now_s), key, wanted, item)) ==
           STORE_WAIT_READ)
        fetch(fixture, wanted);
    return status;
}

enum store_status fixture_try_put(struct fixture *fixture, const char *key, const char *value,
                                  uint32_t expire_s)
{
    struct store_key made = fixture_key(fixture, key);
    struct store_put put = {.value = {{value, (uint32_t)strlen(value)}}, .expire_s = expire_s};
    return wait_put(fixture->session, &made, fixture->now_s, &put);
}

void fixture_put(struct fixture *fixture, const char *key, const char *value)
{
    assert_int_equal(fixture_try_put(fixture, key, value, 0), STORE_OK);
}

void fixture_put_until(struct fixture *fixture, const char *key, const char *value,
                       uint32_t expire_s)
{
    assert_int_equal(fixture_try_put(fixture, key, value, expire_s), STORE_OK);
}

void fixture_put_bytes(struct fixture *fixture, const char *key, const char *value, uint32_t len)
{
    struct store_key made = fixture_key(fixture, key);
    struct store_put put = {.value = {{value, len}}};
    assert_int_equal(wait_put(fixture->session, &made, fixture->now_s, &put), STORE_OK);
}

void fixture_delete(struct fixture *fixture, const char *key)
{
    struct store_key made = fixture_key(fixture, key);
    assert_int_equal(wait_delete(fixture->session, &made, fixture->now_s, STORE_IF_PRESENT, 0),
                     STORE_OK);
}

void fixture_touch(struct fixture *fixture, const char *key, uint32_t expire_s)
{
    struct store_key made = fixture_key(fixture, key);
    assert_int_equal(
        wait_touch(fixture->session, &made, fixture->now_s, expire_s, STORE_IF_PRESENT, 0),
        STORE_OK);
}

void fixture_flush(struct fixture *fixture, uint32_t when_s)
{
    assert_int_equal(wait_flush(fixture->session, when_s, fixture->now_s), STORE_OK);
}

void fixture_expect_bytes(struct fixture *fixture, const char *key, const char *value, uint32_t len)
{
    struct store_key made = fixture_key(fixture, key);
    struct store_fetch fetched = {0};
    struct store_item item;
    assert_int_equal(fixture_get(fixture, &made, &fetched, &item), STORE_OK);
    assert_int_equal(item.value_len, len);
    assert_memory_equal(item.value, value, len);
    store_fetch_release(&fetched);
}

void fixture_expect(struct fixture *fixture, const char *key, const char *value)
{
    struct store_key made = fixture_key(fixture, key);
    struct store_fetch fetched = {0};
    struct store_item item;
    if (value) {
        fixture_expect_bytes(fixture, key, value, (uint32_t)strlen(value));
        return;
    }
    enum store_status status = fixture_get(fixture, &made, &fetched, &item);
    if (status != STORE_NOT_FOUND)
        print_error("%s is there (status %d)\n", key, status);
    assert_int_equal(status, STORE_NOT_FOUND);
    store_fetch_release(&fetched);
}

uint64_t fixture_cas(struct fixture *fixture, const char *key)
{
    struct store_key made = fixture_key(fixture, key);
    struct store_fetch fetched = {0};
    struct store_item item = {0};
    fixture_get(fixture, &made, &fetched, &item);
    store_fetch_release(&fetched);
    return item.cas;
}

uint32_t fixture_expiry(struct fixture *fixture, const char *key)
{
    struct store_key made = fixture_key(fixture, key);
    struct store_fetch fetched = {0};
    struct store_item item = {0};
    assert_int_equal(fixture_get(fixture, &made, &fetched, &item), STORE_OK);
    store_fetch_release(&fetched);
    return item.expire_s;
}

struct store_stats fixture_stats(struct fixture *fixture)
{
    struct store_stats stats;
    store_stats(fixture->store, &stats);
    return stats;
}
