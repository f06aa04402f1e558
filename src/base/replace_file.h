/* replace_file.h: small files that others wait for: pid, ports. */
#ifndef CACHECASK_SRC_BASE_REPLACE_FILE_H
#define CACHECASK_SRC_BASE_REPLACE_FILE_H

#include <stdbool.h>

/* Puts a file of this text in the place of whatever is at `path`: made beside it and renamed, so it is whole when it is there.
 * A link at either name is replaced and not followed. False with errno: `path` is as it was. */
bool replace_file(const char *path, const char *text);

#endif
