/* process.h: who and where the process is: its user, its data directory, background, limits. */
#ifndef CACHECASK_SRC_PROCESS_H
#define CACHECASK_SRC_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "src/config/settings.h"

/* Makes sure that descriptors 0 to 2 are open, before anything else is opened. */
void process_open_descriptors(void);

/* Refuses to serve as root. False: said why. */
bool process_check_user(const struct settings *settings);

/* Raises the limits of open files, locked memory and core dumps as far as the settings need. False: said why. */
bool process_set_limits(const struct settings *settings);

/* Shares the descriptors that the process may have: for connections (settings->max_connections is set where it was left open),
 * what the server needs besides, and *segment_files for the segments of the log. Called when all that stays open has been
 * opened, but for what workers take. False: there are too few, said why. */
bool process_share_files(struct settings *settings, uint32_t *segment_files);

/* Opens the data directory, making it if need be, for the user that will serve. Sets settings->data_dir where it was left
 * open. Returns its descriptor, or -1: said why. */
int process_open_data_dir(struct settings *settings);

/* Between these two, files are looked up and made as the user that will serve, though we are still root: what lies in that
 * user's directories gains nothing by it. False: said why. */
bool process_begin_as_user(const struct settings *settings);
void process_end_as_user(void);

/* Gives up root, if it is ours, for good. False: said why. */
bool process_become_user(const struct settings *settings);

/* Which start of the machine this is; 0: the system does not say. */
uint64_t process_boot_id(void);

/* Forks; the parent waits until the child is ready or has failed, and exits. False: said why. */
bool process_daemonize(void);

/* Tells the waiting parent, and lets go of the terminal. */
void process_daemon_ready(void);

/* Writes our id to the pid file, as the user that serves and when we serve, so that a server that is refused does not touch that
 * of another. The file is there when it is whole; a link in its place is replaced, not followed. If it cannot be written that is
 * said, and there is none. Removed at the end. */
void process_write_pid(const struct settings *settings);
void process_remove_pid(const struct settings *settings);

#endif
