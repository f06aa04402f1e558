#include "src/config/settings_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/refuse.h"

/* A comment begins with a # at the start of the line or after a blank. */
static void cut_comment(char *line)
{
    for (char *at = line; (at = strchr(at, '#')); at++)
        if (at == line || isspace((unsigned char)at[-1])) {
            *at = '\0';
            return;
        }
}

/* Removes what is around the option; returns where it begins. */
static const char *strip(char *line)
{
    line += strspn(line, " \t");
    line[strcspn(line, "\r\n")] = '\0';
    cut_comment(line);
    for (size_t len = strlen(line); len && isspace((unsigned char)line[len - 1]); len--)
        line[len - 1] = '\0';
    return line;
}

/* Debian's memcached.conf has a line "logfile", which is for its start script. */
static bool is_option(const char *line)
{
    return *line && strncmp(line, "logfile", strlen("logfile")) != 0;
}

static bool apply_lines(struct settings *settings, FILE *file, const char *path,
                        settings_apply *apply)
{
    char *line = NULL;
    size_t capacity = 0;
    int number = 0;
    bool ok = true;

    while (ok && getline(&line, &capacity, file) >= 0) {
        const char *option = strip(line);
        number++;
        ok = !is_option(option) || apply(settings, option);
    }

    if (!ok && !settings->exits)
        refuse("configuration file %s: stopped at line %d", path, number);
    if (ok && !feof(file)) /* a directory can be opened, but not read */
        ok = refuse("configuration file %s: %s", path, strerror(errno));
    free(line);
    return ok;
}

bool settings_file_read(const char *path, struct settings *settings, settings_apply *apply)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return refuse("configuration file %s: %s", path, strerror(errno));
    bool ok = apply_lines(settings, file, path, apply);
    fclose(file);
    return ok;
}
