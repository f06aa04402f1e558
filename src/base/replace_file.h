/* replace_file.h: small files that others wait for: pid, ports. */
#ifndef CACHECASK_SRC_BASE_REPLACE_FILE_H
#define CACHECASK_SRC_BASE_REPLACE_FILE_H

#include <stdbool.h>

/* Replaces whatever is at `path` by a file with this text. The file is made next to it and renamed,
 * so it appears complete. A link at either name is replaced, not followed. False with errno: `path`
 * is as it was. */
bool replace_file(const char *path, const char *text);

#endif
