#include "src/config/settings_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

static enum settings_result apply_lines(struct settings *settings, FILE *file, const char *path,
                                        settings_apply *apply)
{
    char *line = NULL;
    size_t capacity = 0;
    int number = 0;
    enum settings_result result = SETTINGS_RUN;

    while (result == SETTINGS_RUN && getline(&line, &capacity, file) >= 0) {
        const char *option = strip(line);
        number++;
        if (is_option(option))
            result = apply(settings, option);
    }

    if (result == SETTINGS_BAD)
        fprintf(stderr, "configuration file %s: stopped at line %d\n", path, number);
    if (result == SETTINGS_RUN && !feof(file)) { /* a directory can be opened, but not read */
        fprintf(stderr, "configuration file %s: %s\n", path, strerror(errno));
        result = SETTINGS_BAD;
    }
    free(line);
    return result;
}

enum settings_result settings_file_read(const char *path, struct settings *settings,
                                        settings_apply *apply)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        fprintf(stderr, "configuration file %s: %s\n", path, strerror(errno));
        return SETTINGS_BAD;
    }
    enum settings_result result = apply_lines(settings, file, path, apply);
    fclose(file);
    return result;
}
