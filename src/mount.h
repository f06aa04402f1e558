/* mount.h: whether the disk that the data should lie on is there. */
#ifndef CACHECASK_SRC_MOUNT_H
#define CACHECASK_SRC_MOUNT_H

#include <stdbool.h>

/* Whether a file system is mounted at `path` itself. False: said why not. */
bool mount_is_there(const char *path);

/* Whether the directory lies on the file system that is mounted at `path`. False: said why not. `name` is for the message. */
bool mount_has(const char *path, int dir_fd, const char *name);

#endif
