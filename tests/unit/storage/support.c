/* support.c: see support.h. */
#define _GNU_SOURCE
#include "tests/unit/storage/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "storage/log/segment.h"
#include "storage/store_internal.h"

void give_up(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

/* Random numbers. */

uint64_t rng_next(struct rng *rng)
{
    uint64_t z = rng->state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

uint32_t rng_below(struct rng *rng, uint32_t limit)
{
    return (uint32_t)((rng_next(rng) >> 32) * limit >> 32);
}

bool rng_one_in(struct rng *rng, uint32_t sides)
{
    return rng_below(rng, sides) == 0;
}

void random_bytes(void *bytes, size_t len)
{
    static _Atomic uint64_t calls;
    struct rng rng = {.state = atomic_fetch_add(&calls, 1) * 1000003};
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)rng_next(&rng);
}

uint64_t number_from_env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

void fill_pattern(char *data, size_t len, uint64_t seed)
{
    struct rng rng = {.state = seed};
    for (size_t i = 0; i < len; i += 8) {
        uint64_t word = rng_next(&rng);
        memcpy(data + i, &word, len - i < 8 ? len - i : 8);
    }
}

/* Directories. */

void temp_dir_make(struct temp_dir *dir)
{
    const char *parent = getenv("TMPDIR");
    snprintf(dir->path, sizeof dir->path, "%s/cachecask-test-XXXXXX",
             parent && *parent ? parent : "/var/tmp");
    if (!mkdtemp(dir->path))
        give_up("cannot make %s: %s", dir->path, strerror(errno));
    dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd < 0)
        give_up("cannot open %s: %s", dir->path, strerror(errno));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static bool ends_with(const char *name, const char *suffix)
{
    size_t len = strlen(name), tail = strlen(suffix);
    return len >= tail && strcmp(name + len - tail, suffix) == 0;
}

struct name_list {
    const char *suffix;
    char (*names)[NAME_LEN];
    size_t count, max;
};

static void add_name(void *argument, const char *name)
{
    struct name_list *list = argument;
    if (!ends_with(name, list->suffix))
        return;
    if (list->count == list->max)
        give_up("more than %zu files %s", list->max, list->suffix);
    snprintf(list->names[list->count++], NAME_LEN, "%s", name);
}

size_t files_with_suffix(const struct temp_dir *dir, const char *suffix, char (*names)[NAME_LEN],
                         size_t max)
{
    struct name_list list = {.suffix = suffix, .names = names, .max = max};
    if (file_system_os.list(NULL, dir->fd, add_name, &list) < 0)
        give_up("cannot list %s: %s", dir->path, strerror(errno));
    qsort(names, list.count, sizeof *names, by_name);
    return list.count;
}

#define MANY 20000

static char (*all_names(const struct temp_dir *dir, size_t *count))[NAME_LEN]
{
    char(*names)[NAME_LEN] = calloc(MANY, sizeof *names);
    if (!names)
        give_up("no memory");
    *count = files_with_suffix(dir, "", names, MANY);
    return names;
}

void temp_dir_remove(struct temp_dir *dir)
{
    size_t count;
    char(*names)[NAME_LEN] = all_names(dir, &count);
    for (size_t i = 0; i < count; i++)
        if (unlinkat(dir->fd, names[i], 0) < 0)
            unlinkat(dir->fd, names[i], AT_REMOVEDIR);
    free(names);
    close(dir->fd);
    if (rmdir(dir->path) < 0)
        give_up("cannot remove %s: %s", dir->path, strerror(errno));
}

char *file_load(const struct temp_dir *dir, const char *name, size_t *len)
{
    struct stat status;
    int fd = openat(dir->fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0)
        give_up("cannot read %s/%s: %s", dir->path, name, strerror(errno));
    char *data = malloc((size_t)status.st_size + 1);
    if (!data || !file_read_upto(&file_system_os, fd, data, (size_t)status.st_size, 0, len))
        give_up("cannot read %s/%s: %s", dir->path, name, strerror(errno));
    close(fd);
    return data;
}

void file_save(const struct temp_dir *dir, const char *name, const void *data, size_t len)
{
    int fd = openat(dir->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || !file_write_all(&file_system_os, fd, data, len, 0))
        give_up("cannot write %s/%s: %s", dir->path, name, strerror(errno));
    close(fd);
}

bool file_exists(const struct temp_dir *dir, const char *name)
{
    return faccessat(dir->fd, name, F_OK, 0) == 0;
}

void file_flip_bit(const struct temp_dir *dir, const char *name, size_t byte, int bit)
{
    char value;
    int fd = openat(dir->fd, name, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pread(fd, &value, 1, (off_t)byte) != 1)
        give_up("cannot read byte %zu of %s/%s", byte, dir->path, name);
    value = (char)(value ^ 1 << bit);
    if (pwrite(fd, &value, 1, (off_t)byte) != 1)
        give_up("cannot write byte %zu of %s/%s", byte, dir->path, name);
    close(fd);
}

/* Sealed segments with a hint file never change, nor do hint files: a link does for a copy. (ext4 takes its time to give
 * out the numbers of files that were just deleted: the fewer the better.) */
static bool link_file(const struct temp_dir *from, const struct temp_dir *to, const char *name)
{
    char hint[NAME_LEN];
    snprintf(hint, sizeof hint, "%.16s.hint", name);
    bool frozen = ends_with(name, ".hint") || (ends_with(name, ".seg") && file_exists(from, hint));
    return frozen && linkat(from->fd, name, to->fd, name, 0) == 0;
}

/* A file that vanishes meanwhile (a background thread renames it) is one that a crash would not have left either. */
static void copy_file(const struct temp_dir *from, const struct temp_dir *to, const char *name)
{
    struct stat status;
    int in = openat(from->fd, name, O_RDONLY | O_CLOEXEC);
    if (in < 0 && errno == ENOENT)
        return;
    int out = openat(to->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (in < 0 || out < 0 || fstat(in, &status) < 0)
        give_up("cannot copy %s/%s: %s", from->path, name, strerror(errno));
    char *data = malloc((size_t)status.st_size + 1);
    size_t len;
    if (!data || !file_read_upto(&file_system_os, in, data, (size_t)status.st_size, 0, &len) ||
        !file_write_all(&file_system_os, out, data, len, 0))
        give_up("cannot copy %s/%s: %s", from->path, name, strerror(errno));
    free(data);
    close(in);
    close(out);
}

void temp_dir_copy(const struct temp_dir *from, struct temp_dir *to)
{
    size_t count;
    char(*names)[NAME_LEN] = all_names(from, &count);
    temp_dir_make(to);
    for (size_t i = 0; i < count; i++)
        if (!link_file(from, to, names[i]))
            copy_file(from, to, names[i]);
    free(names);
}

uint64_t temp_dir_bytes(const struct temp_dir *dir)
{
    uint64_t bytes = 0;
    size_t count;
    char(*names)[NAME_LEN] = all_names(dir, &count);
    for (size_t i = 0; i < count; i++) {
        struct stat status;
        if (fstatat(dir->fd, names[i], &status, 0) == 0) /* else it is gone */
            bytes += (uint64_t)status.st_size;
    }
    free(names);
    return bytes;
}

static uint64_t digest_more(uint64_t digest, const void *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        digest = (digest ^ ((const uint8_t *)data)[i]) * UINT64_C(0x100000001b3);
    return digest;
}

uint64_t temp_dir_digest(const struct temp_dir *dir)
{
    uint64_t digest = UINT64_C(0xcbf29ce484222325);
    size_t count;
    char(*names)[NAME_LEN] = all_names(dir, &count);
    for (size_t i = 0; i < count; i++) {
        struct stat status;
        size_t len;
        if (fstatat(dir->fd, names[i], &status, 0) < 0)
            give_up("cannot stat %s/%s", dir->path, names[i]);
        digest = digest_more(digest, names[i], strlen(names[i]));
        digest = digest_more(digest, &status.st_mode, sizeof status.st_mode);
        digest = digest_more(digest, &status.st_uid, sizeof status.st_uid);
        digest = digest_more(digest, &status.st_mtim, sizeof status.st_mtim);
        if (!S_ISREG(status.st_mode))
            continue;
        char *data = file_load(dir, names[i], &len);
        digest = digest_more(digest, data, len);
        free(data);
    }
    free(names);
    return digest;
}

/* Messages. */

static void note_message(void *context, enum report_level level, const char *message)
{
    struct told *told = context;
    pthread_mutex_lock(&told->lock);
    told->errors += level == REPORT_ERROR;
    told->warnings += level == REPORT_WARNING;
    size_t used = strlen(told->text);
    snprintf(told->text + used, sizeof told->text - used, "%s\n", message);
    pthread_mutex_unlock(&told->lock);
}

void told_init(struct told *told)
{
    memset(told, 0, sizeof *told);
    pthread_mutex_init(&told->lock, NULL);
    told->reporter = (struct reporter){.write = note_message, .context = told};
}

void told_clear(struct told *told)
{
    pthread_mutex_lock(&told->lock);
    told->errors = told->warnings = 0;
    told->text[0] = '\0';
    pthread_mutex_unlock(&told->lock);
}

bool told_has(struct told *told, const char *words)
{
    pthread_mutex_lock(&told->lock);
    bool has = strstr(told->text, words) != NULL;
    pthread_mutex_unlock(&told->lock);
    return has;
}

/* The file layer that fails. */

/* Counts a call and tells whether it must fail. */
static bool must_fail(struct faulty *faulty, enum file_call call)
{
    pthread_mutex_lock(&faulty->lock);
    uint64_t number = ++faulty->calls[call];
    uint64_t first = faulty->fail_at[call];
    bool fails = first && number >= first && number - first < faulty->fail_count[call];
    int error = faulty->error[call];
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

static bool name_ends_with(int fd, const char *suffix)
{
    char link[32], path[512] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0)
        give_up("cannot read %s: %s", link, strerror(errno));
    return ends_with(path, suffix);
}

/* How much of a read lies before a bad place; -1: it begins there. */
static ssize_t before_bad_place(struct faulty *faulty, int fd, size_t len, off_t offset)
{
    ssize_t good = (ssize_t)len;
    pthread_mutex_lock(&faulty->lock);
    if (faulty->bad_name[0] && offset < faulty->bad_to && offset + (off_t)len > faulty->bad_from &&
        name_ends_with(fd, faulty->bad_name))
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
    /* What is cached is the test's to say: some file systems, such as tmpfs, know of no such reads. */
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

bool wait_until(bool (*done)(void *context), void *context)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    for (int ms = 0; ms < SOON_MS; ms++) {
        if (done(context))
            return true;
        nanosleep(&pause, NULL);
    }
    return done(context);
}

/* The fixture. */

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
    told_init(&fixture->told);
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
        .reporter = fixture->told.reporter,
        .random = random_bytes,
    };
}

/* What a start says of a file must be true when it is over. */
static void look_for_left_files(struct fixture *fixture, size_t told_before)
{
    char lines[sizeof fixture->told.text], name[NAME_LEN];
    pthread_mutex_lock(&fixture->told.lock);
    snprintf(lines, sizeof lines, "%s", fixture->told.text + told_before);
    pthread_mutex_unlock(&fixture->told.lock);
    for (char *rest = lines, *line; (line = strsep(&rest, "\n"));) {
        if (!strstr(line, "left alone"))
            continue;
        if (sscanf(line, "%63s", name) != 1 || !file_exists(&fixture->dir, name))
            give_up("it is not there: %s", line);
    }
}

enum store_status fixture_try_open(struct fixture *fixture)
{
    size_t told_before = strlen(fixture->told.text);
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
    look_for_left_files(fixture, told_before);
    return STORE_OK;
}

void fixture_open(struct fixture *fixture)
{
    enum store_status status = fixture_try_open(fixture);
    if (status != STORE_OK)
        give_up("store_open: status %d\n%s", status, fixture->told.text);
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
