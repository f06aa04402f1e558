/* file.h: the file layer, all that storage/ asks of the operating system about files.
 *
 * A table of functions because two implementations exist: the operating system (file_system_os) and
 * the tests' own, which fails, tears and forgets on purpose. Every function works like the system
 * call of its name: the result or -1 and errno. All names are relative to the data directory, open
 * as `dir_fd`: having dropped its privileges, the server may no longer walk the path to it.
 */
#ifndef CACHECASK_STORAGE_FILE_H
#define CACHECASK_STORAGE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct file_system {
    void *context; /* handed to every function */
    int (*open)(void *context, int dir_fd, const char *name, int flags); /* creates as 0600 */
    int (*close)(void *context, int fd);
    ssize_t (*pread)(void *context, int fd, void *data, size_t len, off_t offset);
    /* Only what is in the page cache: EAGAIN when a disk read would be needed. */
    ssize_t (*pread_nowait)(void *context, int fd, void *data, size_t len, off_t offset);
    ssize_t (*pwrite)(void *context, int fd, const void *data, size_t len, off_t offset);
    int (*sync)(void *context, int fd);     /* fdatasync */
    int (*sync_dir)(void *context, int fd); /* fsync: names made, changed or removed */
    int (*allocate)(void *context, int fd, off_t size);
    int (*truncate)(void *context, int fd, off_t size);
    int (*size)(void *context, int fd, uint64_t *size);
    /* Where the zeros begin with which the file ends, as far as the file system knows of them
     * without reading (SEEK_HOLE); UINT64_MAX, or NULL: nobody knows. */
    uint64_t (*data_end)(void *context, int fd);
    int (*rename)(void *context, int dir_fd, const char *from, const char *to);
    /* Calls found with every name in the directory but . and .. */
    int (*list)(void *context, int dir_fd, void (*found)(void *argument, const char *name),
                void *argument);
    int (*unlink)(void *context, int dir_fd, const char *name);
    /* Bytes that may still be allocated on the directory's disk. NULL: nobody knows. */
    int (*space)(void *context, int dir_fd, uint64_t *bytes);
    /* Makes `fd` mean the file of `from`, which is closed (dup3): readers never see a gap. */
    int (*replace)(void *context, int from, int fd);
};

/* The operating system. */
extern const struct file_system file_system_os;

/* What an operator can do when a file cannot be made, opened or written: a sentence. */
const char *file_remedy(int error);

/* Whether a read that failed has met a bad block of the disk: other places may be readable. */
bool file_is_bad_block(int error);

/* Reads or writes all of `len` bytes at `offset`, through short counts and EINTR. False with errno
 * on failure; a read that meets the end of the file fails with ENODATA. */
bool file_read_all(const struct file_system *files, int fd, void *data, size_t len,
                   uint64_t offset);
bool file_write_all(const struct file_system *files, int fd, const void *data, size_t len,
                    uint64_t offset);

/* Reads up to `len` bytes; *got: how many, fewer only at the end of the file. False with errno. */
bool file_read_upto(const struct file_system *files, int fd, void *data, size_t len,
                    uint64_t offset, size_t *got);

#endif
