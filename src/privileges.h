/* privileges.h: -o drop_privileges: the calls of the system that a running server does without (seccomp(2)). */
#ifndef CACHECASK_SRC_PRIVILEGES_H
#define CACHECASK_SRC_PRIVILEGES_H

#include <stdbool.h>

#include "src/settings.h"

bool privileges_can_be_dropped(void);

/* Takes from all threads, those to come as well, what serving does not need: for good, and whoever tries it ends the process.
 * To be called when all is open that will be. False: said why. */
bool privileges_drop(const struct settings *settings);

#endif
