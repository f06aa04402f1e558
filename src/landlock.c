/* landlock.c: Landlock's system calls, by number, and rights that old headers do not have. */
#include "src/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ACCESS_REFER    (UINT64_C(1) << 13) /* version 2: to rename to another directory */
#define ACCESS_TRUNCATE (UINT64_C(1) << 14) /* version 3 */

/* Everything that changes something. */
#define ACCESS_CHANGE                                                                              \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                               \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |   \
     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define ACCESS_FILES                                                                               \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE |                              \
     LANDLOCK_ACCESS_FS_MAKE_REG | ACCESS_TRUNCATE)

/* What this kernel can forbid. 0: it has no Landlock, or it is disabled. */
static uint64_t can_forbid(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    uint64_t access = version < 1 ? 0 : ACCESS_CHANGE | LANDLOCK_ACCESS_FS_EXECUTE;
    return access | (version >= 2 ? ACCESS_REFER : 0) | (version >= 3 ? ACCESS_TRUNCATE : 0);
}

static bool allow(int rules, uint64_t access, int fd)
{
    const struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
    return syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

/* What is not there needs no right. */
static bool allow_at(int rules, uint64_t access, const char *path, int flags)
{
    int fd = open(path, O_PATH | O_CLOEXEC | flags);
    bool ok = fd < 0 || allow(rules, access, fd);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Allows it in the directory of a file. */
static bool allow_beside(int rules, uint64_t access, const char *path)
{
    char *copy = path ? strdup(path) : NULL;
    bool ok = !copy || allow_at(rules, access, dirname(copy), O_DIRECTORY);
    free(copy);
    return ok;
}

bool landlock_confine(const struct landlock_places *places)
{
    const struct landlock_ruleset_attr all = {.handled_access_fs = can_forbid()};
    const uint64_t known = all.handled_access_fs;
    if (!known)
        return true;
    int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all.handled_access_fs, 0);
    if (rules < 0)
        return false;
    bool ok =
        allow(rules, ACCESS_FILES & known, places->dir_fd) &&
        allow_beside(rules, ACCESS_FILES & known, places->pid_file) &&
        allow_beside(rules, LANDLOCK_ACCESS_FS_REMOVE_FILE, places->unix_path) &&
        allow_at(rules, LANDLOCK_ACCESS_FS_WRITE_FILE, "/dev/null", 0) && /* daemon's stderr */
        syscall(SYS_landlock_restrict_self, rules, 0) == 0;
    int error = errno;
    close(rules);
    errno = error;
    return ok;
}
