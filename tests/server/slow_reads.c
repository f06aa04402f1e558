/* slow_reads.c: a slow disk (LD_PRELOAD). Each large read takes longer by as many milliseconds as
 * stand in the file that SLOW_READS names; one that has begun ends when the file says so. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LARGE   4096
#define STEP_MS 10

static long pause_ms(void)
{
    char text[16] = "";
    int fd = open(getenv("SLOW_READS"), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
        text[0] = '\0';
    close(fd);
    return atol(text);
}

static void wait_a_while(void)
{
    const struct timespec step = {.tv_nsec = STEP_MS * 1000000};
    for (long waited_ms = 0; waited_ms < pause_ms(); waited_ms += STEP_MS)
        nanosleep(&step, NULL);
}

ssize_t pread64(int fd, void *data, size_t len, off64_t offset)
{
    if (len > LARGE)
        wait_a_while();
    return syscall(SYS_pread64, fd, data, len, offset);
}

ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
    return pread64(fd, data, len, offset);
}
