/* mount.h: whether the disk that should hold the data is there. */
#ifndef CACHECASK_SRC_MOUNT_H
#define CACHECASK_SRC_MOUNT_H

#include <stdbool.h>

/* Whether a file system is mounted at `path` itself. False: the operator has been told why not. */
bool mount_is_there(const char *path);

/* Whether the directory is on the file system that is mounted at `path`. False: the operator has
 * been told, with `name` as that of the directory. */
bool mount_has(const char *path, int dir_fd, const char *name);

#endif
