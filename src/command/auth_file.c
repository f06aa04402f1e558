/* auth_file.c: users and passwords from a file.
 *
 * A line is `user:password`: the first colon ends the user, and the rest of the line is the
 * password. Lines are kept in slots of one size, padded with zeros, and what a client shows is
 * brought into the same form. A check compares every byte of every slot with it, so its time tells
 * nobody how much of a guess was right.
 *
 * A file with one bad line is refused as a whole: a half-written one must lock nobody out.
 */
#define _GNU_SOURCE
#include "src/command/auth_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/base/memory.h"

#define FILE_SIZE_MAX ((AUTH_FILE_LINE_MAX + 1) * AUTH_FILE_LINES)

struct line {
    uint32_t len;
    char text[AUTH_FILE_LINE_MAX + 1];
};

struct table {
    uint32_t count;
    struct line lines[AUTH_FILE_LINES];
};

struct auth_file {
    const char *path;
    pthread_mutex_t lock; /* the table is exchanged while workers look */
    struct table *table;
};

static void free_table(struct table *table)
{
    if (table)
        explicit_bzero(table, sizeof *table);
    free(table);
}

/* A line of a file, without its newline. As in memcached a carriage return before that is no part
 * of the password: the file may have been written on Windows. */
static const char *add_line(struct table *table, const char *text, size_t len)
{
    if (len && text[len - 1] == '\r')
        len--;
    if (table->count == AUTH_FILE_LINES)
        return "too many lines";
    if (len > AUTH_FILE_LINE_MAX)
        return "too long";
    if (!memchr(text, ':', len))
        return "not of the form user:password";
    if (memchr(text, '\r', len) || memchr(text, '\0', len))
        return "a carriage return or a NUL in it";
    struct line *line = &table->lines[table->count++];
    line->len = (uint32_t)len;
    memcpy(line->text, text, len);
    return NULL;
}

static bool parse(struct table *table, const char *text, size_t len, char *why)
{
    const char *end = text + len;
    for (int number = 1; text < end; number++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *wrong = add_line(table, text, (size_t)((newline ? newline : end) - text));
        if (wrong) {
            snprintf(why, AUTH_FILE_WHY_MAX, "line %d: %s", number, wrong);
            return false;
        }
        text = newline ? newline + 1 : end;
    }
    if (table->count == 0)
        snprintf(why, AUTH_FILE_WHY_MAX, "no line of the form user:password");
    return table->count > 0;
}

/* Returns the bytes read, or -1 with errno. */
static ssize_t read_whole(const char *path, char *text, size_t room)
{
    size_t len = 0;
    ssize_t got = 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe holds up nobody */
    if (fd < 0)
        return -1;
    while (got > 0 && len < room) {
        got = read(fd, text + len, room - len);
        len += got > 0 ? (size_t)got : 0;
    }
    int error = errno;
    close(fd);
    errno = error;
    return got < 0 ? -1 : (ssize_t)len;
}

static struct table *load(const char *path, char *why)
{
    const size_t room = FILE_SIZE_MAX + 1;
    struct table *table = memory_new_private(sizeof *table);
    char *text = memory_new_private(room);
    bool ok = false;
    if (table)
        memset(table, 0, sizeof *table);
    ssize_t len = table && text ? read_whole(path, text, room) : -1;
    if (len < 0)
        snprintf(why, AUTH_FILE_WHY_MAX, "%s", strerror(errno));
    else if ((size_t)len == room)
        snprintf(why, AUTH_FILE_WHY_MAX, "larger than %d bytes", FILE_SIZE_MAX);
    else
        ok = parse(table, text, (size_t)len, why);
    if (text)
        explicit_bzero(text, room);
    free(text);
    if (ok)
        return table;
    free_table(table);
    return NULL;
}

struct auth_file *auth_file_open(const char *path, char why[AUTH_FILE_WHY_MAX])
{
    struct auth_file *file = calloc(1, sizeof *file);
    if (!file) {
        snprintf(why, AUTH_FILE_WHY_MAX, "%s", strerror(errno));
        return NULL;
    }
    file->path = path;
    file->table = load(path, why);
    if (!file->table) {
        free(file);
        return NULL;
    }
    pthread_mutex_init(&file->lock, NULL);
    return file;
}

void auth_file_close(struct auth_file *file)
{
    if (!file)
        return;
    free_table(file->table);
    pthread_mutex_destroy(&file->lock);
    free(file);
}

bool auth_file_reload(struct auth_file *file, char why[AUTH_FILE_WHY_MAX])
{
    struct table *fresh = load(file->path, why);
    if (!fresh)
        return false;
    pthread_mutex_lock(&file->lock);
    struct table *old = file->table;
    file->table = fresh;
    pthread_mutex_unlock(&file->lock);
    free_table(old);
    return true;
}

/* `user password` as the line `user:password`. */
static bool read_shown(struct line *line, const char *shown, size_t len)
{
    const char *blank = len ? memchr(shown, ' ', len) : NULL;
    if (!blank || blank == shown)
        return false;
    size_t user_len = (size_t)(blank - shown);
    *line = (struct line){.len = (uint32_t)len};
    memcpy(line->text, shown, len < AUTH_FILE_LINE_MAX ? len : AUTH_FILE_LINE_MAX);
    /* No user of the file has a colon: it must not look as if the password began there. */
    if (memchr(shown, ':', user_len))
        line->len = 0;
    if (user_len < AUTH_FILE_LINE_MAX)
        line->text[user_len] = ':';
    return true;
}

static uint32_t difference(const struct line *a, const struct line *b)
{
    uint32_t difference = a->len ^ b->len;
    for (size_t i = 0; i < sizeof a->text; i++)
        difference |= (uint32_t)(unsigned char)(a->text[i] ^ b->text[i]);
    return difference;
}

/* A user, a blank and nothing else: that is a password only for a user whose password is empty. */
static bool has_no_password(const char *shown, size_t len)
{
    return memchr(shown, ' ', len) == shown + len - 1;
}

enum auth_result auth_file_check(struct auth_file *file, const char *shown, size_t len)
{
    struct line line;
    uint32_t found = 0;
    if (!read_shown(&line, shown, len))
        return AUTH_MALFORMED;
    pthread_mutex_lock(&file->lock);
    for (uint32_t i = 0; i < file->table->count; i++)
        found |= difference(&file->table->lines[i], &line) == 0;
    pthread_mutex_unlock(&file->lock);
    explicit_bzero(&line, sizeof line);
    if (found)
        return AUTH_GRANTED;
    return has_no_password(shown, len) ? AUTH_MALFORMED : AUTH_REFUSED;
}
