/* landlock.h: from here on this thread and its children change and make files only where a server must. */
#ifndef CACHECASK_SRC_LANDLOCK_H
#define CACHECASK_SRC_LANDLOCK_H

#include <stdbool.h>

struct landlock_places {
    int dir_fd;            /* the data: everything is allowed */
    const char *pid_file;  /* to be made and removed; NULL: none */
    const char *unix_path; /* to be removed; NULL: none */
};

/* Reading stays as it is. Needs no_new_privs. True as well where the kernel has no Landlock. False with errno. */
bool landlock_confine(const struct landlock_places *places);

#endif
