/* privileges.h: -o drop_privileges: what a running server does without: calls of the system (seccomp(2)), files of others
 * (landlock(7)), and being looked into. */
#ifndef CACHECASK_SRC_PRIVILEGES_H
#define CACHECASK_SRC_PRIVILEGES_H

#include <stdbool.h>

#include "src/config/settings.h"

bool privileges_can_be_dropped(void);

/* Takes from this thread, and those that it will start, the right to change or make files anywhere but in the data directory and
 * where the pid file and the Unix socket are removed (Landlock, where the kernel has it); and from other processes of the same
 * user, and from this one by way of /proc, the right to look into it or to change its memory. To be called when those who serve
 * are who they will be, before any other thread is there. False: said why. */
bool privileges_confine(const struct settings *settings, int dir_fd);

/* Takes from all threads, those to come as well, what serving does not need: for good, and whoever tries it ends the process.
 * To be called when all is open that will be. False: said why. */
bool privileges_drop(const struct settings *settings);

#endif
