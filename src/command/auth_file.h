/* auth_file.h: the password file of -Y: lines of `user:password`. See auth_file.c. */
#ifndef CACHECASK_SRC_COMMAND_AUTH_FILE_H
#define CACHECASK_SRC_COMMAND_AUTH_FILE_H

#include <stdbool.h>
#include <stddef.h>

#define AUTH_FILE_LINE_MAX 255 /* bytes of user, colon and password */
#define AUTH_FILE_LINES    1024
#define AUTH_FILE_WHY_MAX  256 /* room for why a file cannot be used */

struct auth_file;

/* Reads the file at `path`, which must stay valid. NULL: it cannot be used, and `why` says why. */
struct auth_file *auth_file_open(const char *path, char why[AUTH_FILE_WHY_MAX]);
void auth_file_close(struct auth_file *file);

/* Reads it again. False: it cannot be used; what was read before stays in force. */
bool auth_file_reload(struct auth_file *file, char why[AUTH_FILE_WHY_MAX]);

enum auth_result {
    AUTH_GRANTED,
    AUTH_REFUSED,
    AUTH_MALFORMED, /* not `user password` */
};

/* Checks `user password`. Any thread. It takes the same time whichever line fits, or none. */
enum auth_result auth_file_check(struct auth_file *file, const char *shown, size_t len);

#endif
