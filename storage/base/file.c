/* file.c: the operating system behind file.h. */
#define _GNU_SOURCE
#include "storage/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

static int os_open(void *context, int dir_fd, const char *name, int flags)
{
    (void)context;
    return openat(dir_fd, name, flags | O_CLOEXEC, 0600);
}

static int os_close(void *context, int fd)
{
    (void)context;
    return close(fd);
}

static ssize_t os_pread(void *context, int fd, void *data, size_t len, off_t offset)
{
    (void)context;
    return pread(fd, data, len, offset);
}

static ssize_t os_pread_nowait(void *context, int fd, void *data, size_t len, off_t offset)
{
    (void)context;
    struct iovec piece = {.iov_base = data, .iov_len = len};
    return preadv2(fd, &piece, 1, offset, RWF_NOWAIT);
}

static ssize_t os_pwrite(void *context, int fd, const void *data, size_t len, off_t offset)
{
    (void)context;
    return pwrite(fd, data, len, offset);
}

static int os_sync(void *context, int fd)
{
    (void)context;
    return fdatasync(fd);
}

static int os_sync_dir(void *context, int fd)
{
    (void)context;
    return fsync(fd);
}

/* Without preallocation a full disk shows at the write instead, which the log survives too. */
static int os_allocate(void *context, int fd, off_t size)
{
    (void)context;
    int result;
    do
        result = fallocate(fd, 0, 0, size);
    while (result < 0 && errno == EINTR);
    if (result < 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
        return 0;
    return result;
}

static int os_truncate(void *context, int fd, off_t size)
{
    (void)context;
    return ftruncate(fd, size);
}

static int os_size(void *context, int fd, uint64_t *size)
{
    (void)context;
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -1;
    *size = (uint64_t)status.st_size;
    return 0;
}

static uint64_t os_data_end(void *context, int fd)
{
    (void)context;
    off_t hole, data = 0;
    do {
        hole = lseek(fd, data, SEEK_HOLE);
        data = hole < 0 ? -1 : lseek(fd, hole, SEEK_DATA);
    } while (data >= 0);
    return hole >= 0 && errno == ENXIO ? (uint64_t)hole : UINT64_MAX;
}

static int os_rename(void *context, int dir_fd, const char *from, const char *to)
{
    (void)context;
    return renameat(dir_fd, from, dir_fd, to);
}

/* Half a list is none: the segments that it does not name would be taken for cleaned ones. */
static bool list_names(DIR *dir, void (*found)(void *argument, const char *name), void *argument)
{
    struct dirent *entry;
    while (errno = 0, entry = readdir(dir))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            found(argument, entry->d_name);
    return errno == 0;
}

static int os_list(void *context, int dir_fd, void (*found)(void *argument, const char *name),
                   void *argument)
{
    (void)context;
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        errno = error;
        return -1;
    }
    bool all = list_names(dir, found, argument);
    int error = errno;
    closedir(dir);
    errno = error;
    return all ? 0 : -1;
}

static int os_unlink(void *context, int dir_fd, const char *name)
{
    (void)context;
    return unlinkat(dir_fd, name, 0);
}

static int os_space(void *context, int dir_fd, uint64_t *bytes)
{
    struct statvfs disk;
    (void)context;
    if (fstatvfs(dir_fd, &disk) < 0)
        return -1;
    if (disk.f_blocks == 0) { /* some file systems count nothing */
        errno = ENOTSUP;
        return -1;
    }
    *bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    return 0;
}

static int os_replace(void *context, int from, int fd)
{
    (void)context;
    if (dup3(from, fd, O_CLOEXEC) < 0)
        return -1;
    close(from); /* the file lives on as fd: there is nothing left to fail */
    return 0;
}

const struct file_system file_system_os = {
    .open = os_open,
    .close = os_close,
    .pread = os_pread,
    .pread_nowait = os_pread_nowait,
    .pwrite = os_pwrite,
    .sync = os_sync,
    .sync_dir = os_sync_dir,
    .allocate = os_allocate,
    .truncate = os_truncate,
    .size = os_size,
    .data_end = os_data_end,
    .rename = os_rename,
    .list = os_list,
    .unlink = os_unlink,
    .space = os_space,
    .replace = os_replace,
};

const char *file_remedy(int error)
{
    switch (error) {
    case EMFILE: return "Raise the limit of open files (ulimit -n)";
    case ENFILE: return "Raise the system's limit of open files (fs.file-max)";
    case ENOSPC:
    case EDQUOT: return "Free disk space";
    case EFBIG: return "Raise the limit of the size of files (ulimit -f)";
    case ENOENT: return "Has somebody removed it? Put it back";
    default: return "Check the disk and its mount";
    }
}

bool file_is_bad_block(int error)
{
    /* The last two are what file systems say of blocks that do not match their checksums. */
    return error == EIO || error == EUCLEAN || error == EBADMSG;
}

bool file_read_upto(const struct file_system *files, int fd, void *data, size_t len,
                    uint64_t offset, size_t *got)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = files->pread(files->context, fd, (char *)data + done, len - done,
                                 (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    *got = done;
    return true;
}

bool file_read_all(const struct file_system *files, int fd, void *data, size_t len, uint64_t offset)
{
    size_t got;
    if (!file_read_upto(files, fd, data, len, offset, &got))
        return false;
    if (got < len)
        errno = ENODATA;
    return got == len;
}

bool file_write_all(const struct file_system *files, int fd, const void *data, size_t len,
                    uint64_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = files->pwrite(files->context, fd, (const char *)data + done, len - done,
                                  (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = EIO;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}
