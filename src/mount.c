#include "src/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "src/base/refuse.h"

/* False with errno: ENOSYS if the system cannot tell one mount from another. */
static bool get_mount(int dir_fd, const char *path, struct statx *found)
{
    if (statx(dir_fd, path, AT_EMPTY_PATH, STATX_MNT_ID, found) < 0)
        return false;
    errno = ENOSYS;
    return found->stx_mask & STATX_MNT_ID && found->stx_attributes_mask & STATX_ATTR_MOUNT_ROOT;
}

bool mount_is_there(const char *path)
{
    struct statx found;
    if (!get_mount(AT_FDCWD, path, &found))
        return refuse("--require-mount=%s: %s", path, strerror(errno));
    return found.stx_attributes & STATX_ATTR_MOUNT_ROOT ||
           refuse("--require-mount=%s: nothing is mounted there. Mount the disk of the data and "
                  "start again",
                  path);
}

bool mount_has(const char *path, int dir_fd, const char *name)
{
    struct statx mounted, dir;
    if (!get_mount(AT_FDCWD, path, &mounted) || !get_mount(dir_fd, "", &dir))
        return refuse("--require-mount=%s: %s", path, strerror(errno));
    return mounted.stx_mnt_id == dir.stx_mnt_id ||
           refuse("--require-mount=%s: the data directory %s lies on another file system. Name one "
                  "on this with --data-dir",
                  path, name);
}
