/* temp_dir.c: see temp_dir.h. */
#define _GNU_SOURCE
#include "tests/unit/storage/support/temp_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/file.h"
#include "tests/unit/storage/support/basics.h"

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

bool ends_with(const char *name, const char *suffix)
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

/* Sealed segments with a hint file never change, nor do hint files: a link does for a copy.
 * (ext4 takes its time to give out the numbers of files that were just deleted: the fewer the
 * better.) */
static bool link_file(const struct temp_dir *from, const struct temp_dir *to, const char *name)
{
    char hint[NAME_LEN];
    snprintf(hint, sizeof hint, "%.16s.hint", name);
    bool frozen = ends_with(name, ".hint") || (ends_with(name, ".seg") && file_exists(from, hint));
    return frozen && linkat(from->fd, name, to->fd, name, 0) == 0;
}

/* A file that vanishes meanwhile (a background thread renames it) is one that a crash would not
 * have left either. */
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
