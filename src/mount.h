/* mount.h: whether the disk that should hold the data is there. */
#ifndef CACHECASK_SRC_MOUNT_H
#define CACHECASK_SRC_MOUNT_H

#include <stdbool.h>

/* True if a file system is mounted at `path` itself. False: it has said why not. */
bool mount_is_there(const char *path);

/* True if the directory of this name is on the file system that is mounted at `path`. Otherwise as
 * above. */
bool mount_has(const char *path, int dir_fd, const char *name);

#endif
