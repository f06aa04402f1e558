/* memory_files.h: a file layer in memory (storage/file.h), as much of it as segments and hint
 * files need to be read and hint files to be written. Reads bring no more than a few bytes at a
 * time, as a system may. */
#ifndef CACHECASK_TESTS_FUZZ_MEMORY_FILES_H
#define CACHECASK_TESTS_FUZZ_MEMORY_FILES_H

#include <errno.h>
#include <fcntl.h>

#include "storage/file.h"
#include "storage/log/segment.h"
#include "tests/fuzz/fuzz.h"

#define MEMORY_FILES_MAX 4

struct memory_file {
    char name[SEGMENT_NAME_SIZE]; /* "": none */
    char *data;
    size_t len;
    int opened; /* by so many descriptors */
};

struct memory_files {
    struct file_system files;
    struct memory_file file[MEMORY_FILES_MAX]; /* a descriptor is an index */
};

static inline struct memory_file *memory_find(struct memory_files *memory, const char *name)
{
    for (int i = 0; i < MEMORY_FILES_MAX; i++)
        if (memory->file[i].name[0] && strcmp(memory->file[i].name, name) == 0)
            return &memory->file[i];
    return NULL;
}

static inline void memory_drop(struct memory_file *file)
{
    free(file->data);
    *file = (struct memory_file){0};
}

/* A file of these bytes. */
static inline struct memory_file *memory_save(struct memory_files *memory, const char *name,
                                              const void *data, size_t len)
{
    struct memory_file *file = memory_find(memory, name);
    for (int i = 0; !file && i < MEMORY_FILES_MAX; i++)
        if (!memory->file[i].name[0])
            file = &memory->file[i];
    FUZZ_CHECK(file && strlen(name) < sizeof file->name);
    free(file->data);
    strcpy(file->name, name);
    file->data = malloc(len ? len : 1);
    FUZZ_CHECK(file->data != NULL);
    if (len)
        memcpy(file->data, data, len);
    file->len = len;
    return file;
}

static inline int memory_open(void *context, int dir_fd, const char *name, int flags)
{
    struct memory_files *memory = context;
    struct memory_file *file = memory_find(memory, name);
    (void)dir_fd;
    if (flags & O_CREAT)
        file = memory_save(memory, name, "", 0);
    if (!file) {
        errno = ENOENT;
        return -1;
    }
    file->opened++;
    return (int)(file - memory->file);
}

static inline int memory_close(void *context, int fd)
{
    struct memory_files *memory = context;
    FUZZ_CHECK(memory->file[fd].opened-- > 0);
    return 0;
}

static inline ssize_t memory_pread(void *context, int fd, void *data, size_t len, off_t offset)
{
    const struct memory_files *memory = context;
    const struct memory_file *file = &memory->file[fd];
    FUZZ_CHECK(file->opened > 0 && offset >= 0);
    size_t left = (size_t)offset < file->len ? file->len - (size_t)offset : 0;
    size_t got = len < left ? len : left;
    if (got > 1000 && offset % 3 == 0)
        got = 1000; /* a short read */
    memcpy(data, file->data + (got ? offset : 0), got);
    return (ssize_t)got;
}

static inline ssize_t memory_pwrite(void *context, int fd, const void *data, size_t len,
                                    off_t offset)
{
    struct memory_files *memory = context;
    struct memory_file *file = &memory->file[fd];
    FUZZ_CHECK(file->opened > 0 && offset >= 0);
    size_t end = (size_t)offset + len;
    if (end > file->len) {
        file->data = realloc(file->data, end);
        FUZZ_CHECK(file->data != NULL);
        memset(file->data + file->len, 0, end - file->len);
        file->len = end;
    }
    memcpy(file->data + offset, data, len);
    return (ssize_t)len;
}

static inline int memory_size(void *context, int fd, uint64_t *size)
{
    const struct memory_files *memory = context;
    *size = memory->file[fd].len;
    return 0;
}

static inline int memory_rename(void *context, int dir_fd, const char *from, const char *to)
{
    struct memory_files *memory = context;
    struct memory_file *old = memory_find(memory, to);
    struct memory_file *file = memory_find(memory, from);
    (void)dir_fd;
    FUZZ_CHECK(file && strlen(to) < sizeof file->name);
    if (old)
        memory_drop(old);
    strcpy(file->name, to);
    return 0;
}

static inline int memory_unlink(void *context, int dir_fd, const char *name)
{
    struct memory_file *file = memory_find(context, name);
    (void)dir_fd;
    if (file)
        memory_drop(file);
    return 0;
}

static inline void memory_init(struct memory_files *memory)
{
    *memory = (struct memory_files){.files = {
                                        .context = memory,
                                        .open = memory_open,
                                        .close = memory_close,
                                        .pread = memory_pread,
                                        .pwrite = memory_pwrite,
                                        .size = memory_size,
                                        .rename = memory_rename,
                                        .unlink = memory_unlink,
                                    }};
}

static inline void memory_release(struct memory_files *memory)
{
    for (int i = 0; i < MEMORY_FILES_MAX; i++) {
        FUZZ_CHECK(memory->file[i].opened == 0); /* a descriptor that was forgotten */
        memory_drop(&memory->file[i]);
    }
}

#endif
