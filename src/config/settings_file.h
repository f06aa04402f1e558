/* settings_file.h: the configuration file: a line is an option, and # begins a comment. */
#ifndef CACHECASK_SRC_CONFIG_SETTINGS_FILE_H
#define CACHECASK_SRC_CONFIG_SETTINGS_FILE_H

#include "src/config/settings.h"

typedef bool settings_apply(struct settings *settings, const char *line);

/* Calls apply with each line that has an option, without blanks around it, until it returns false.
 * False: standard error has the file's name, and the line or the reason, unless the option was one
 * that ends the program (settings->exits). */
bool settings_file_read(const char *path, struct settings *settings, settings_apply *apply);

#endif
