/* replace_file.h: small files that others wait for: pid, ports. */
#ifndef CACHECASK_SRC_BASE_REPLACE_FILE_H
#define CACHECASK_SRC_BASE_REPLACE_FILE_H

#include <stdbool.h>

/* Replaces what is at `path` by a file with this text, which is renamed: it appears complete. A
 * link there is replaced, not followed. False with errno: `path` is as it was. */
bool replace_file(const char *path, const char *text);

#endif
