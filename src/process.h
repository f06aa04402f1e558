/* process.h: the process and its surroundings: user, data directory, limits, background, pid file.
 *
 * A function that returns false has said why on standard error.
 */
#ifndef CACHECASK_SRC_PROCESS_H
#define CACHECASK_SRC_PROCESS_H

#include "src/config/settings.h"

/* Makes sure that descriptors 0 to 2 are open. To be called before anything else is opened. */
void process_open_descriptors(void);

/* Refuses to serve as root. */
bool process_check_user(const struct settings *settings);

/* Raises the limits of open files, locked memory and core dumps as far as the settings need. */
bool process_set_limits(const struct settings *settings);

/* Divides the descriptors that the process may have among connections (settings->max_connections is
 * set if it was not given), the needs of the server, and the segments of the log (*segment_files).
 * To be called when everything that stays open has been opened, except by the workers. */
bool process_share_files(struct settings *settings, uint32_t *segment_files);

/* Opens the data directory, which is made for the user that will serve if it is missing. Sets
 * settings->data_dir if it was not given. Returns its descriptor, or -1. */
int process_open_data_dir(struct settings *settings);

/* Between these two, files are looked up and made with the rights of the user that will serve,
 * although we are still root: so nothing in that user's directories can abuse root's rights. */
bool process_begin_as_user(const struct settings *settings);
void process_end_as_user(void);

/* Gives up root for good, if that is who we are. */
bool process_become_user(const struct settings *settings);

/* A number for this boot of the machine. 0: unknown. */
uint64_t process_boot_id(void);

/* Forks. The parent waits until the child is ready or has failed, and exits. */
bool process_daemonize(void);

/* Lets the waiting parent exit, and releases the terminal. */
void process_daemon_ready(void);

/* The pid file. It is written by the user that serves, when the server does serve, so that a second
 * server, whose start is refused, does not touch it. See replace_file. If it cannot be written the
 * server warns, and runs without. */
void process_write_pid(const struct settings *settings);
void process_remove_pid(const struct settings *settings);

#endif
