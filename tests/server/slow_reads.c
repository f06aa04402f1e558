/* slow_reads.c: a slow disk (LD_PRELOAD). Each large read takes longer by as many milliseconds as stand in the file that
 * SLOW_READS names, at that moment. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LARGE 4096

static long pause_ms(void)
{
    char text[16] = "";
    int fd = open(getenv("SLOW_READS"), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
        text[0] = '\0';
    close(fd);
    return atol(text);
}

ssize_t pread64(int fd, void *data, size_t len, off64_t offset)
{
    long ms = len > LARGE ? pause_ms() : 0;
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
    return syscall(SYS_pread64, fd, data, len, offset);
}

ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
    return pread64(fd, data, len, offset);
}
