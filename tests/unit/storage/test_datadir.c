/* test_datadir.c: whose directory is this? A refusal comes with advice, and leaves the directory as
 * it was (D1, D2). */
#define XXH_INLINE_ALL
#include "tests/unit/storage/support/basics.h"
#include "tests/unit/storage/support/random.h"
#include "tests/unit/storage/support/temp_dir.h"
#include "tests/unit/storage/support/messages.h"
#include "tests/unit/storage/support/faulty.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xxhash.h>

#include "storage/datadir.h"

static struct temp_dir dir;
static struct messages messages;
static struct datadir datadir;
static bool any_owner;

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(&dir);
    messages_init(&messages);
    any_owner = false;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_remove(&dir);
    return 0;
}

static enum store_status open_with(const struct file_system *files, struct datadir *out)
{
    const struct datadir_place place = {.files = files,
                                        .dir_fd = dir.fd,
                                        .name = "/the/data",
                                        .any_owner = any_owner,
                                        .reporter = &messages.reporter};
    return datadir_open(out, &place, 1000, random_bytes);
}

static enum store_status try_open(struct datadir *out)
{
    return open_with(&file_system_os, out);
}

/* Opens a second time and wants a refusal that says so, gives advice, and touches nothing. */
static void expect_refused(enum store_status status, const char *words)
{
    struct datadir untouched = {.lock_fd = -77}, out = untouched;
    uint64_t before = temp_dir_digest(&dir);
    messages_clear(&messages);
    assert_int_equal(try_open(&out), status);
    assert_memory_equal(&out, &untouched, sizeof out);
    assert_true(temp_dir_digest(&dir) == before);
    assert_int_equal(messages.errors, 1);
    assert_true(messages_have(&messages, "/the/data"));
    assert_true(messages_have(&messages, words));
    assert_true(messages_have(&messages, "--data-dir"));
}

static void make_store(void)
{
    assert_int_equal(try_open(&datadir), STORE_OK);
    datadir_close(&datadir, &file_system_os);
}

static void test_an_empty_directory_becomes_a_store(void **state)
{
    (void)state;
    struct datadir again;
    size_t len;
    char text[32];
    assert_int_equal(try_open(&datadir), STORE_OK);
    snprintf(text, sizeof text, "%ld\n", (long)getpid());
    char *lock = file_load(&dir, "lock", &len);
    assert_int_equal(len, strlen(text));
    assert_memory_equal(lock, text, len);
    free(lock);
    free(file_load(&dir, "store", &len));
    assert_int_equal(len, 64);
    assert_false(file_exists(&dir, "store.tmp"));
    datadir_close(&datadir, &file_system_os);
    assert_int_equal(try_open(&again), STORE_OK);
    assert_memory_equal(again.uuid, datadir.uuid, 16);
    assert_true(again.hash_seed == datadir.hash_seed);
    datadir_close(&again, &file_system_os);
    assert_int_equal(messages.errors + messages.warnings, 0);
}

static void test_its_files_are_private(void **state)
{
    (void)state;
    struct stat status;
    make_store();
    assert_int_equal(fstatat(dir.fd, "store", &status, 0), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(fstatat(dir.fd, "lock", &status, 0), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void test_two_stores_are_never_the_same(void **state)
{
    (void)state;
    make_store();
    struct datadir first = datadir;
    assert_int_equal(unlinkat(dir.fd, "store", 0), 0);
    make_store();
    assert_memory_not_equal(first.uuid, datadir.uuid, 16);
    assert_true(first.hash_seed != datadir.hash_seed);
}

static void test_a_store_half_made_is_made_again(void **state)
{
    (void)state;
    file_save(&dir, "store.tmp", "half", 4);
    file_save(&dir, "lock", "12345\n", 6);
    make_store();
    assert_false(file_exists(&dir, "store.tmp"));
    assert_int_equal(mkdirat(dir.fd, "lost+found", 0700), 0);
    assert_int_equal(unlinkat(dir.fd, "store", 0), 0);
    make_store(); /* a file system of its own */
    assert_int_equal(unlinkat(dir.fd, "lost+found", AT_REMOVEDIR), 0);
}

static void test_a_directory_in_use_by_this_process_is_refused(void **state)
{
    (void)state;
    char words[64];
    assert_int_equal(try_open(&datadir), STORE_OK);
    snprintf(words, sizeof words, "in use by process %ld:", (long)getpid());
    expect_refused(STORE_IN_USE, words);
    datadir_close(&datadir, &file_system_os);
    make_store();
}

static void hold_and_wait(int pipe_fd)
{
    char ok = try_open(&datadir) == STORE_OK;
    if (write(pipe_fd, &ok, 1) != 1)
        _exit(1);
    for (;;)
        pause();
}

static void test_a_directory_in_use_by_another_process_is_refused_until_it_dies(void **state)
{
    (void)state;
    int ends[2];
    char ok = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        hold_and_wait(ends[1]);
    assert_int_equal(read(ends[0], &ok, 1), 1);
    if (ok) {
        char words[64];
        snprintf(words, sizeof words, "in use by process %ld:", (long)child);
        expect_refused(STORE_IN_USE, words);
    }
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(ok, 1);
    make_store(); /* a dead process holds nothing */
}

static void test_a_foreign_directory_is_refused(void **state)
{
    (void)state;
    const char *names[] = {"letter.txt", ".hidden", "0000000000000001.seg", "storE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        file_save(&dir, names[i], "precious", 8);
        expect_refused(STORE_NOT_OURS, "is not empty and no data directory");
        assert_false(file_exists(&dir, "lock"));
        assert_int_equal(unlinkat(dir.fd, names[i], 0), 0);
    }
}

static void test_the_directory_of_another_user_is_refused(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(fchown(dir.fd, 12345, (gid_t)-1), 0);
    expect_refused(STORE_NOT_OURS, "belongs to user id 12345");
    assert_false(file_exists(&dir, "lock"));
    assert_int_equal(fchown(dir.fd, 0, (gid_t)-1), 0);
    make_store();
    assert_int_equal(fchown(dir.fd, 12345, (gid_t)-1), 0);
    expect_refused(STORE_NOT_OURS, "chown");
    assert_int_equal(fchown(dir.fd, 0, (gid_t)-1), 0);
}

static void test_the_directory_of_another_user_is_taken_if_that_is_wanted(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(fchown(dir.fd, 12345, (gid_t)-1), 0);
    expect_refused(STORE_NOT_OURS, "--any-owner");
    any_owner = true;
    make_store();
}

static void test_what_file_systems_show_at_their_roots_is_nobodys(void **state)
{
    (void)state;
    const char *names[] = {"lost+found", ".snapshot", ".snapshots", ".zfs"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(mkdirat(dir.fd, names[i], 0700), 0);
    make_store();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(unlinkat(dir.fd, names[i], AT_REMOVEDIR), 0);
}

static void test_another_version_is_refused(void **state)
{
    (void)state;
    size_t len;
    make_store();
    char *data = file_load(&dir, "store", &len);
    data[8] = 9;
    file_save(&dir, "store", data, len); /* also where its checksum stands elsewhere */
    expect_refused(STORE_BAD_VERSION, "format version 9");
    file_save(&dir, "store", data, 12);
    expect_refused(STORE_BAD_VERSION, "format version 9");
    uint64_t check = XXH3_64bits(data, 56);
    memcpy(data + 56, &check, sizeof check);
    file_save(&dir, "store", data, len);
    expect_refused(STORE_BAD_VERSION, "this release reads version 1");
    free(data);
}

static void test_a_damaged_store_file_is_refused(void **state)
{
    (void)state;
    size_t len;
    make_store();
    char *data = file_load(&dir, "store", &len);
    for (size_t bit = 0; bit < len * 8; bit++) {
        if (bit / 32 == 2)
            continue; /* the version: see above */
        data[bit / 8] ^= (char)(1 << bit % 8);
        file_save(&dir, "store", data, len);
        expect_refused(STORE_CORRUPT, "the file `store` in data directory /the/data is damaged");
        data[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++) {
        file_save(&dir, "store", data, cut);
        expect_refused(STORE_CORRUPT, "restore it from a backup");
    }
    file_save(&dir, "store", data, len);
    free(data);
    make_store();
}

static void test_a_start_that_fails_anywhere_can_be_repeated(void **state)
{
    (void)state;
    static struct faulty faulty;
    static const char *names[] = {"store", "lock", "store.tmp"};
    for (enum file_call call = 0; call < CALL_KINDS; call++)
        for (uint64_t nth = 1;; nth++) {
            for (int i = 0; i < 3; i++)
                unlinkat(dir.fd, names[i], 0);
            messages_clear(&messages);
            faulty_init(&faulty);
            faulty_fail(&faulty, call, nth, 1, EIO);
            enum store_status status = open_with(&faulty.files, &datadir);
            bool reached = faulty_calls(&faulty, call) >= nth;
            if (status == STORE_OK) {
                datadir_close(&datadir, &file_system_os);
            } else {
                assert_int_equal(status, STORE_IO);
                assert_true(messages_have(&messages, "--data-dir"));
            }
            faulty_heal(&faulty);
            make_store();
            if (!reached)
                break;
        }
}

static void test_a_failed_start_says_why(void **state)
{
    (void)state;
    static struct faulty faulty;
    faulty_init(&faulty);
    faulty_fail(&faulty, CALL_PWRITE, 2, 1, ENOSPC); /* the first writes our process id */
    assert_int_equal(open_with(&faulty.files, &datadir), STORE_IO);
    assert_true(messages_have(&messages, "No space left on device"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_directory_becomes_a_store),
        TEST(its_files_are_private),
        TEST(two_stores_are_never_the_same),
        TEST(a_store_half_made_is_made_again),
        TEST(a_directory_in_use_by_this_process_is_refused),
        TEST(a_directory_in_use_by_another_process_is_refused_until_it_dies),
        TEST(a_foreign_directory_is_refused),
        TEST(the_directory_of_another_user_is_refused),
        TEST(the_directory_of_another_user_is_taken_if_that_is_wanted),
        TEST(what_file_systems_show_at_their_roots_is_nobodys),
        TEST(another_version_is_refused),
        TEST(a_damaged_store_file_is_refused),
        TEST(a_start_that_fails_anywhere_can_be_repeated),
        TEST(a_failed_start_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
