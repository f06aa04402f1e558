/* forbidden_calls.c: loaded before the C library, it is the intruder: it makes calls of the system
 * that a server never makes.
 *
 * getrusage, which `stats` asks for, first does what FORBIDDEN_CALL names. The first read that is
 * given to a ring becomes another operation if FORBIDDEN_CALL is "ring". What was not prevented is
 * said on standard error.
 *
 * If it is "ring enter", it is the other way round: rings may be made, and a filter refuses their
 * use. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static bool is_wanted(const char *name)
{
    const char *wanted = getenv("FORBIDDEN_CALL");
    return wanted && strcmp(wanted, name) == 0;
}

__attribute__((constructor)) static void refuse_rings(void)
{
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof steps / sizeof *steps, .filter = steps};
    if (is_wanted("ring enter") && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
                                    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0))
        perror("no filter");
}

static void *page(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* By way of a file, for which the pages need not be writable. */
static bool write_own_memory(void)
{
    static const char text[] = "read only";
    int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    bool done = fd >= 0 && pwrite(fd, "R", 1, (off_t)(uintptr_t)text) == 1;
    if (fd >= 0)
        close(fd);
    return done;
}

static bool make_file(void)
{
    int fd = open(getenv("FORBIDDEN_PATH"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* Those that fail, where others end the process. */
static bool make_refused_call(void)
{
    return (is_wanted("own memory") && write_own_memory()) ||
           (is_wanted("file elsewhere") && make_file());
}

static void make_call(void)
{
    char *const arguments[] = {"true", NULL};
    char parameters[256] = {0};
    if (is_wanted("execve"))
        syscall(SYS_execve, "/nonexistent", arguments, arguments);
    else if (is_wanted("fork"))
        syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) == 0 ? _exit(0) : (void)0;
    else if (is_wanted("socket"))
        syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    else if (is_wanted("unix socket"))
        syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
    else if (is_wanted("connect"))
        syscall(SYS_connect, -1, NULL, 0);
    else if (is_wanted("bind"))
        syscall(SYS_bind, -1, NULL, 0);
    else if (is_wanted("ptrace"))
        syscall(SYS_ptrace, -1, 0, NULL, NULL);
    else if (is_wanted("setuid"))
        syscall(SYS_setuid, getuid());
    else if (is_wanted("mmap"))
        syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    else if (is_wanted("mprotect"))
        syscall(SYS_mprotect, page(), 4096, PROT_READ | PROT_EXEC);
    else if (is_wanted("kill"))
        syscall(SYS_kill, 1, 0);
    else if (is_wanted("prlimit"))
        syscall(SYS_prlimit64, 0, RLIMIT_CORE, parameters, NULL);
    else if (is_wanted("chmod"))
        syscall(SYS_fchmod, -1, 0777);
    else if (is_wanted("mount"))
        syscall(SYS_mount, "", "", "", 0, NULL);
    else if (is_wanted("ring setup"))
        syscall(SYS_io_uring_setup, 1, parameters);
    else if (is_wanted("signal by fcntl"))
        syscall(SYS_fcntl, STDERR_FILENO, F_SETOWN, 1);
    else if (is_wanted("lease"))
        syscall(SYS_fcntl, STDERR_FILENO, F_SETLEASE, F_UNLCK);
    else if (!make_refused_call())
        return;
    fprintf(stderr, "the call went through\n");
}

int getrusage(__rusage_who_t who, struct rusage *usage)
{
    make_call();
    return (int)syscall(SYS_getrusage, who, usage);
}

/* The page cache never has anything, so all reads go to the ring. */
ssize_t preadv2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
    (void)fd, (void)pieces, (void)count, (void)offset, (void)flags;
    errno = EAGAIN;
    return -1;
}

int io_uring_submit(struct io_uring *ring)
{
    static bool done;
    int (*submit)(struct io_uring *) =
        (int (*)(struct io_uring *))dlsym(RTLD_NEXT, "io_uring_submit");
    if (!is_wanted("ring") || done)
        return submit(ring);
    done = true;
    struct io_uring_sqe *sqe = &ring->sq.sqes[(ring->sq.sqe_tail - 1) & *ring->sq.kring_mask];
    struct io_uring_cqe *cqe;
    sqe->opcode = IORING_OP_OPENAT;
    sqe->fd = AT_FDCWD;
    sqe->addr = (unsigned long)"/dev/null";
    sqe->off = sqe->len = 0;
    int result = submit(ring);
    while (io_uring_peek_cqe(ring, &cqe) != 0)
        usleep(1000);
    fprintf(stderr, cqe->res >= 0 ? "the ring has opened a file\n" : "the ring refuses: %s\n",
            strerror(-cqe->res));
    return result;
}
