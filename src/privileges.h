/* privileges.h: -o drop_privileges: a running server gives up system calls that it does not need
 * (seccomp(2)), access to other files (landlock(7)), and being inspected.
 */
#ifndef CACHECASK_SRC_PRIVILEGES_H
#define CACHECASK_SRC_PRIVILEGES_H

#include "src/config/settings.h"

bool privileges_can_be_dropped(void);

/* Takes from this thread, and those that it will start, the right to change files, except those of
 * the data directory, the pid file and the Unix socket (Landlock, if the kernel has it), and from
 * all processes of this user the right to read or change its memory by way of /proc. To be called
 * by the user that serves, before there is another thread. False: it has said why. */
bool privileges_confine(const struct settings *settings, int dir_fd);

/* Takes from all threads, future ones as well, the system calls that serving does not need: to try
 * one ends the process. To be called when everything is open. False: it has said why. */
bool privileges_drop(const struct settings *settings);

#endif
