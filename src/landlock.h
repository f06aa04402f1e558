/* landlock.h: gives up the right to change files, except where a server must. */
#ifndef CACHECASK_SRC_LANDLOCK_H
#define CACHECASK_SRC_LANDLOCK_H

#include <stdbool.h>

struct landlock_places {
    int dir_fd;            /* of the data, where everything is allowed */
    const char *pid_file;  /* may be made and removed; NULL: none */
    const char *unix_path; /* may be removed; NULL: none */
};

/* For this thread and those it starts. Reading stays allowed. Needs no_new_privs. True also if the
 * kernel has no Landlock; false with errno. */
bool landlock_confine(const struct landlock_places *places);

#endif
