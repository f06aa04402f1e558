/* privileges.h: -o drop_privileges: a running server gives up system calls that it does not need
 * (seccomp(2)), access to other files (landlock(7)), and being inspected.
 */
#ifndef CACHECASK_SRC_PRIVILEGES_H
#define CACHECASK_SRC_PRIVILEGES_H

#include <stdbool.h>

#include "src/config/settings.h"

bool privileges_can_be_dropped(void);

/* Takes from this thread, and those that it will start, the right to make or change files, except
 * in the data directory, and to remove the pid file and the Unix socket (Landlock, if the kernel
 * has it). Takes from other processes of the same user, and from this one by way of /proc, the
 * right to read or change its memory. To be called when the user is the one that serves, and before
 * there is another thread. False: it has said why. */
bool privileges_confine(const struct settings *settings, int dir_fd);

/* Takes from all threads, future ones as well, the system calls that serving does not need, for
 * good: one that is tried all the same ends the process. To be called when everything is open.
 * False: it has said why. */
bool privileges_drop(const struct settings *settings);

#endif
