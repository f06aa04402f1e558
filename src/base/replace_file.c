#define _GNU_SOURCE
#include "src/base/replace_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool write_new(const char *path, const char *text)
{
    unlink(path); /* left by a process that died, or put there by somebody */
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return false;

    size_t len = strlen(text);
    bool ok = write(fd, text, len) == (ssize_t)len;
    return close(fd) == 0 && ok;
}

bool replace_file(const char *path, const char *text)
{
    char *part;
    if (asprintf(&part, "%s.tmp", path) < 0) {
        errno = ENOMEM;
        return false;
    }

    bool ok = write_new(part, text) && rename(part, path) == 0;
    int error = errno;
    if (!ok)
        unlink(part);
    free(part);
    errno = error;
    return ok;
}
