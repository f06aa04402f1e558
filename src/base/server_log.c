/* server_log.c: one line, one write, and nobody waits for it.
 *
 * A line goes to standard error in a single system call, so lines of several threads do not mix.
 * Bytes of clients are always escaped first: a key with a line end in it must not forge a line.
 *
 * Perhaps nobody reads the lines: a pipe fills up, a terminal is stopped, journald hangs. The
 * service must not hang as well. So a line that finds no room is dropped, and when there is room
 * again a message counts what was dropped. How to write without waiting depends on standard error:
 *
 * - A pipe or a terminal is opened a second time, with O_NONBLOCK. Setting it on standard error
 *   itself would change it for the processes that we share it with.
 * - A socket is sent to with MSG_DONTWAIT.
 * - If a pipe cannot be opened again (no /proc, or a pipe of another user), poll() is asked first:
 *   any room is enough for a line. We wait only if another process takes it before us.
 * - A file accepts what is written, or fails.
 */
#define _GNU_SOURCE
#include "src/base/server_log.h"

#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPEAT_S 60

enum way { WAY_ASK, WAY_WRITE, WAY_SEND };

static _Atomic int server_log_fd = STDERR_FILENO;
static _Atomic int way = WAY_ASK;
static _Atomic uint64_t dropped; /* lines that have not been reported yet */
static atomic_bool torn;         /* only the beginning of the last line has found room */

/* A thread that writes meanwhile writes to the old one or to the new one. */
static void write_to(int fd, enum way how)
{
    int own_fd = atomic_load(&server_log_fd);
    if (own_fd == STDERR_FILENO)
        atomic_store(&server_log_fd, fd);
    else
        dup3(fd, own_fd, O_CLOEXEC);
    if (own_fd != STDERR_FILENO && fd != STDERR_FILENO)
        close(fd);
    atomic_store(&way, how);
}

void server_log_open(void)
{
    struct stat status;
    if (fstat(STDERR_FILENO, &status) < 0)
        return;
    if (S_ISREG(status.st_mode) || S_ISSOCK(status.st_mode)) {
        write_to(STDERR_FILENO, S_ISSOCK(status.st_mode) ? WAY_SEND : WAY_WRITE);
        return;
    }
    int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    write_to(fd < 0 ? STDERR_FILENO : fd, fd < 0 ? WAY_ASK : WAY_WRITE);
}

static bool has_room(int fd)
{
    struct pollfd wanted = {.fd = fd, .events = POLLOUT};
    return poll(&wanted, 1, 0) == 1;
}

/* False: it found no room, or not for all of it. */
static bool put(const char *bytes, size_t len)
{
    int fd = atomic_load(&server_log_fd), how = atomic_load(&way);
    ssize_t done = -1;
    if (how == WAY_SEND)
        done = send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    else if (how == WAY_WRITE || has_room(fd))
        done = write(fd, bytes, len);
    if (done > 0 && (size_t)done < len)
        atomic_store(&torn, true);
    return done == (ssize_t)len;
}

/* False: there is still no room. */
static bool end_torn_line(void)
{
    if (!atomic_exchange(&torn, false) || put("\n", 1))
        return true;
    atomic_store(&torn, true);
    return false;
}

static bool report_dropped(void)
{
    char line[100];
    uint64_t count = atomic_load(&dropped) ? atomic_exchange(&dropped, 0) : 0;
    if (count == 0)
        return true;
    int len = snprintf(line, sizeof line,
                       "warning: %llu lines were dropped here: standard error took no more\n",
                       (unsigned long long)count);
    if (end_torn_line() && put(line, (size_t)len))
        return true;
    atomic_fetch_add(&dropped, count);
    return false;
}

void server_log_catch_up(void)
{
    report_dropped();
}

void server_log_write(const char *line)
{
    put(line, strlen(line));
}

void server_log(const char *format, ...)
{
    char line[SERVER_LOG_LINE_MAX];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (len < 0)
        return;
    size_t size = (size_t)len < sizeof line - 1 ? (size_t)len : sizeof line - 2;
    line[size] = '\n';
    if (!report_dropped() || !put(line, size + 1))
        atomic_fetch_add(&dropped, 1);
}

const char *server_log_escape(char out[SERVER_LOG_ESCAPED_MAX], const char *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const size_t longest = 4, end = SERVER_LOG_ESCAPED_MAX - sizeof "...";
    size_t at = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        if (at + longest > end) {
            strcpy(out + at, "...");
            return out;
        }
        if (byte >= ' ' && byte < 0x7f && byte != '\\') {
            out[at++] = (char)byte;
            continue;
        }
        out[at++] = '\\';
        out[at++] = 'x';
        out[at++] = digits[byte >> 4];
        out[at++] = digits[byte & 15];
    }
    out[at] = '\0';
    return out;
}

bool server_log_may_repeat(_Atomic uint32_t *last_s, uint32_t now_s)
{
    uint32_t said_s = atomic_load(last_s);
    return (!said_s || now_s >= said_s + REPEAT_S) &&
           atomic_compare_exchange_strong(last_s, &said_s, now_s);
}
