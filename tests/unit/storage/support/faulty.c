/* faulty.c: see faulty.h. */
#define _GNU_SOURCE
#include "tests/unit/storage/support/faulty.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/storage/support/basics.h"

/* Counts a call and tells whether it must fail. */
static bool must_fail(struct faulty *faulty, enum file_call call)
{
    pthread_mutex_lock(&faulty->lock);
    uint64_t number = ++faulty->calls[call];
    uint64_t first = faulty->fail_at[call];
    bool chosen = first && number >= first && number - first < faulty->fail_count[call];
    bool fails = chosen || faulty->off;
    int error = faulty->off ? EIO : faulty->error[call];
    pthread_mutex_unlock(&faulty->lock);
    if (fails)
        errno = error;
    return fails;
}

static void note_event(struct faulty *faulty, struct file_event event)
{
    pthread_mutex_lock(&faulty->lock);
    if (faulty->event_count < CALLS_REMEMBERED)
        faulty->events[faulty->event_count++] = event;
    pthread_mutex_unlock(&faulty->lock);
}

/* Around each call that changes a file: a picture (fixture_crash) is taken between two of them. */
static void begin_change(struct faulty *faulty)
{
    pthread_rwlock_rdlock(&faulty->frozen);
}

static void end_change(struct faulty *faulty)
{
    int error = errno;
    pthread_rwlock_unlock(&faulty->frozen);
    errno = error;
}

static void report_before(struct faulty *faulty, enum file_call call, const char *name)
{
    pthread_rwlock_rdlock(&faulty->watched);
    if (faulty->before)
        faulty->before(call, name);
    pthread_rwlock_unlock(&faulty->watched);
}

#define CHANGE(context, call)                                                                      \
    ({                                                                                             \
        begin_change(context);                                                                     \
        __auto_type result_ = (call);                                                              \
        end_change(context);                                                                       \
        result_;                                                                                   \
    })

static int faulty_open(void *context, int dir_fd, const char *name, int flags)
{
    return must_fail(context, CALL_OPEN)
               ? -1
               : CHANGE(context, file_system_os.open(NULL, dir_fd, name, flags));
}

static int faulty_close(void *context, int fd)
{
    bool fails = must_fail(context, CALL_CLOSE);
    int error = errno;
    int result = file_system_os.close(NULL, fd); /* close gives the number back even if it fails */
    errno = fails ? error : errno;
    return fails ? -1 : result;
}

static size_t shorten(struct faulty *faulty, size_t len)
{
    return faulty->short_io && len > 1 ? len / 2 : len;
}

static bool file_name_ends_with(int fd, const char *suffix)
{
    char link[32], path[512] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0)
        give_up("cannot read %s: %s", link, strerror(errno));
    return ends_with(path, suffix);
}

/* How much of a read lies before a bad block; -1: it begins there. */
static ssize_t before_bad_place(struct faulty *faulty, int fd, size_t len, off_t offset)
{
    ssize_t good = (ssize_t)len;
    pthread_mutex_lock(&faulty->lock);
    if (faulty->bad_name[0] && offset < faulty->bad_to && offset + (off_t)len > faulty->bad_from &&
        file_name_ends_with(fd, faulty->bad_name))
        good = offset < faulty->bad_from ? faulty->bad_from - offset : -1;
    pthread_mutex_unlock(&faulty->lock);
    if (good < 0)
        errno = EIO;
    return good;
}

void faulty_bad_place(struct faulty *faulty, const char *name, off_t from, off_t to)
{
    pthread_mutex_lock(&faulty->lock);
    snprintf(faulty->bad_name, sizeof faulty->bad_name, "%s", name ? name : "");
    faulty->bad_from = from;
    faulty->bad_to = to;
    pthread_mutex_unlock(&faulty->lock);
}

static ssize_t faulty_pread(void *context, int fd, void *data, size_t len, off_t offset)
{
    if (must_fail(context, CALL_PREAD))
        return -1;
    ssize_t good = before_bad_place(context, fd, len, offset);
    if (good < 0)
        return -1;
    len = (size_t)good;
    return file_system_os.pread(NULL, fd, data, shorten(context, len), offset);
}

static ssize_t faulty_pread_nowait(void *context, int fd, void *data, size_t len, off_t offset)
{
    struct faulty *faulty = context;
    ssize_t good = before_bad_place(faulty, fd, len, offset);
    if (must_fail(faulty, CALL_PREAD_NOWAIT) || good < 0)
        return -1;
    len = (size_t)good;
    if (faulty->never_cached) {
        errno = EAGAIN;
        return -1;
    }
    /* What is cached is the test's to say: some file systems, such as tmpfs, know of no such
     * reads. */
    return file_system_os.pread(NULL, fd, data, shorten(faulty, len), offset);
}

static ssize_t faulty_pwrite(void *context, int fd, const void *data, size_t len, off_t offset)
{
    struct faulty *faulty = context;
    report_before(faulty, CALL_PWRITE, NULL);
    if (must_fail(faulty, CALL_PWRITE))
        return -1;
    len = shorten(faulty, len);
    if (faulty->write_limit && len > faulty->write_limit)
        len = faulty->write_limit;
    note_event(faulty,
               (struct file_event){.call = CALL_PWRITE, .fd = fd, .offset = offset, .len = len});
    return CHANGE(faulty, file_system_os.pwrite(NULL, fd, data, len, offset));
}

static int faulty_sync(void *context, int fd)
{
    struct faulty *faulty = context;
    report_before(faulty, CALL_SYNC, NULL);
    if (must_fail(faulty, CALL_SYNC))
        return -1;
    int result = faulty->really_sync ? file_system_os.sync(NULL, fd) : 0;
    note_event(faulty, (struct file_event){.call = CALL_SYNC, .fd = fd});
    return result;
}

static int faulty_sync_dir(void *context, int fd)
{
    struct faulty *faulty = context;
    report_before(faulty, CALL_SYNC_DIR, NULL);
    if (must_fail(faulty, CALL_SYNC_DIR))
        return -1;
    return faulty->really_sync ? file_system_os.sync_dir(NULL, fd) : 0;
}

static int faulty_allocate(void *context, int fd, off_t size)
{
    struct faulty *faulty = context;
    if (must_fail(faulty, CALL_ALLOCATE))
        return -1;
    pthread_mutex_lock(&faulty->lock);
    bool room = faulty->space < 0 || faulty->space >= size;
    if (room && faulty->space >= 0)
        faulty->space -= size;
    pthread_mutex_unlock(&faulty->lock);
    errno = ENOSPC;
    return room ? CHANGE(faulty, file_system_os.allocate(NULL, fd, size)) : -1;
}

static void give_space(struct faulty *faulty, off_t bytes)
{
    pthread_mutex_lock(&faulty->lock);
    if (faulty->space >= 0)
        faulty->space += bytes;
    pthread_mutex_unlock(&faulty->lock);
}

static int faulty_truncate(void *context, int fd, off_t size)
{
    uint64_t before;
    if (must_fail(context, CALL_TRUNCATE))
        return -1;
    bool known = file_system_os.size(NULL, fd, &before) == 0;
    int result = CHANGE(context, file_system_os.truncate(NULL, fd, size));
    int error = errno;
    if (known && result == 0)
        give_space(context, (off_t)before - size);
    errno = error;
    return result;
}

static int faulty_size(void *context, int fd, uint64_t *size)
{
    return must_fail(context, CALL_SIZE) ? -1 : file_system_os.size(NULL, fd, size);
}

static uint64_t faulty_data_end(void *context, int fd)
{
    return must_fail(context, CALL_DATA_END) ? UINT64_MAX : file_system_os.data_end(NULL, fd);
}

static int faulty_rename(void *context, int dir_fd, const char *from, const char *to)
{
    report_before(context, CALL_RENAME, to);
    if (must_fail(context, CALL_RENAME))
        return -1;
    note_event(context, (struct file_event){.call = CALL_RENAME, .fd = -1});
    return CHANGE(context, file_system_os.rename(NULL, dir_fd, from, to));
}

static int faulty_list(void *context, int dir_fd, void (*found)(void *argument, const char *name),
                       void *argument)
{
    return must_fail(context, CALL_LIST) ? -1 : file_system_os.list(NULL, dir_fd, found, argument);
}

static int faulty_unlink(void *context, int dir_fd, const char *name)
{
    struct file_event event = {.call = CALL_UNLINK, .fd = -1};
    struct stat status;
    report_before(context, CALL_UNLINK, name);
    if (must_fail(context, CALL_UNLINK))
        return -1;
    snprintf(event.name, sizeof event.name, "%s", name);
    note_event(context, event);
    bool known = fstatat(dir_fd, name, &status, 0) == 0;
    int result = CHANGE(context, file_system_os.unlink(NULL, dir_fd, name));
    int error = errno;
    if (known && result == 0)
        give_space(context, status.st_size);
    errno = error;
    return result;
}

/* What statvfs would say of a disk that faulty_set_space has made small. */
static int faulty_space(void *context, int dir_fd, uint64_t *bytes)
{
    struct faulty *faulty = context;
    (void)dir_fd;
    pthread_mutex_lock(&faulty->lock);
    int64_t space = faulty->space;
    pthread_mutex_unlock(&faulty->lock);
    *bytes = space < 0 ? UINT64_MAX / 2 : (uint64_t)space;
    return 0;
}

static int faulty_replace(void *context, int from, int fd)
{
    return must_fail(context, CALL_REPLACE)
               ? -1
               : CHANGE(context, file_system_os.replace(NULL, from, fd));
}

void faulty_init(struct faulty *faulty)
{
    memset(faulty, 0, sizeof *faulty);
    pthread_mutex_init(&faulty->lock, NULL);
    pthread_rwlockattr_t fair; /* else a picture might never be taken */
    pthread_rwlockattr_init(&fair);
    pthread_rwlockattr_setkind_np(&fair, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&faulty->frozen, &fair);
    pthread_rwlockattr_destroy(&fair);
    pthread_rwlock_init(&faulty->watched, NULL); /* who is called may come by again */
    faulty->space = -1;
    faulty->files = (struct file_system){
        .context = faulty,
        .open = faulty_open,
        .close = faulty_close,
        .pread = faulty_pread,
        .pread_nowait = faulty_pread_nowait,
        .pwrite = faulty_pwrite,
        .sync = faulty_sync,
        .sync_dir = faulty_sync_dir,
        .allocate = faulty_allocate,
        .truncate = faulty_truncate,
        .size = faulty_size,
        .data_end = faulty_data_end,
        .rename = faulty_rename,
        .list = faulty_list,
        .unlink = faulty_unlink,
        .space = faulty_space,
        .replace = faulty_replace,
    };
}

void faulty_fail(struct faulty *faulty, enum file_call call, uint64_t nth, uint64_t times,
                 int error)
{
    pthread_mutex_lock(&faulty->lock);
    faulty->fail_at[call] = faulty->calls[call] + nth;
    faulty->fail_count[call] = times;
    faulty->error[call] = error;
    pthread_mutex_unlock(&faulty->lock);
}

void faulty_heal(struct faulty *faulty)
{
    pthread_mutex_lock(&faulty->lock);
    memset(faulty->fail_at, 0, sizeof faulty->fail_at);
    faulty->space = -1;
    pthread_mutex_unlock(&faulty->lock);
}

void faulty_set_space(struct faulty *faulty, int64_t bytes)
{
    pthread_mutex_lock(&faulty->lock);
    faulty->space = bytes;
    pthread_mutex_unlock(&faulty->lock);
}

uint64_t faulty_calls(struct faulty *faulty, enum file_call call)
{
    pthread_mutex_lock(&faulty->lock);
    uint64_t calls = faulty->calls[call];
    pthread_mutex_unlock(&faulty->lock);
    return calls;
}

void faulty_forget_events(struct faulty *faulty)
{
    pthread_mutex_lock(&faulty->lock);
    faulty->event_count = 0;
    pthread_mutex_unlock(&faulty->lock);
}

void faulty_watch(struct faulty *faulty, file_watcher *before)
{
    pthread_rwlock_wrlock(&faulty->watched);
    faulty->before = before;
    pthread_rwlock_unlock(&faulty->watched);
}
