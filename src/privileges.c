/* privileges.c: an attacker who has taken over the server can do no more than the server does.
 *
 * The filter lists what is allowed, and any other call ends the process, as in memcached: a call
 * that we never make is a sign of an attack, and what was acknowledged is in the log. It is
 * installed when sockets listen, rings and event bases exist, and all options are read. So there is
 * no new socket, no other program, no other user and no new executable memory. The rings, whose
 * operations the filter does not see, can only read files, receive and send (storage/base/uring.h).
 *
 * Before that, while there is one thread, files that are not the server's become read-only. One of
 * them is /proc/self/mem, which would be a way around the rule about executable memory.
 *
 * The C library, OpenSSL and SASL make calls in our name, and newer versions make others. The list
 * has what they may need for our purposes, not only what a trace of one version shows.
 */
#include "src/privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/base/refuse.h"
#include "src/landlock.h"

static const int allowed[] = {
    /* files: the log, and those that a reload reads */
    SCMP_SYS(openat), SCMP_SYS(open), SCMP_SYS(close), SCMP_SYS(read), SCMP_SYS(readv),
    SCMP_SYS(pread64), SCMP_SYS(preadv), SCMP_SYS(preadv2), SCMP_SYS(write), SCMP_SYS(writev),
    SCMP_SYS(pwrite64), SCMP_SYS(pwritev), SCMP_SYS(pwritev2), SCMP_SYS(lseek), SCMP_SYS(fsync),
    SCMP_SYS(fdatasync), SCMP_SYS(fallocate), SCMP_SYS(ftruncate), SCMP_SYS(fadvise64),
    SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(unlink), SCMP_SYS(unlinkat),
    SCMP_SYS(getdents64), SCMP_SYS(stat), SCMP_SYS(fstat), SCMP_SYS(lstat), SCMP_SYS(newfstatat),
    SCMP_SYS(statx), SCMP_SYS(statfs), SCMP_SYS(fstatfs), SCMP_SYS(access), SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getcwd),
    SCMP_SYS(flock), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(io_uring_enter),
    /* clients */
    SCMP_SYS(accept4), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(sendto), SCMP_SYS(sendmsg),
    SCMP_SYS(shutdown), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    /* events */
    SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2),
    SCMP_SYS(eventfd2), SCMP_SYS(poll), SCMP_SYS(ppoll),
    /* memory */
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
    /* threads and signals */
    SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity), SCMP_SYS(sigaltstack), SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall), SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    /* time, identity, resources */
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(getrandom), SCMP_SYS(getpid), SCMP_SYS(gettid),
    SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(getrusage),
    SCMP_SYS(getrlimit), SCMP_SYS(sysinfo), SCMP_SYS(uname)};

/* False with errno. */
static bool is_ok(int result)
{
    errno = result < 0 ? -result : errno;
    return result >= 0;
}

static bool allow_listed(scmp_filter_ctx filter)
{
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (!is_ok(seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0)))
            return false;
    return true;
}

/* Allows a call if the bits of `mask` in one argument are those of `value`. */
static bool allow_if(scmp_filter_ctx filter, int call, unsigned argument, uint64_t mask,
                     uint64_t value)
{
    return is_ok(seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1,
                                  SCMP_CMP(argument, SCMP_CMP_MASKED_EQ, mask, value)));
}

static bool allow_some(scmp_filter_ctx filter)
{
    const uint64_t all = UINT64_MAX, low = UINT32_MAX, self = (uint64_t)getpid();
    return allow_if(filter, SCMP_SYS(mmap), 2, PROT_EXEC, 0) &&
           allow_if(filter, SCMP_SYS(mprotect), 2, PROT_EXEC, 0) &&
           allow_if(filter, SCMP_SYS(clone), 0, CLONE_THREAD, CLONE_THREAD) &&
           /* its flags cannot be seen; when it is missing the C library uses clone */
           is_ok(seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0)) &&
           allow_if(filter, SCMP_SYS(kill), 0, low, self) &&   /* the command shutdown */
           allow_if(filter, SCMP_SYS(tgkill), 0, low, self) && /* abort */
           allow_if(filter, SCMP_SYS(setpriority), 0, low, PRIO_PROCESS) &&
           allow_if(filter, SCMP_SYS(prctl), 0, low, PR_SET_NAME) && /* of a thread */
           allow_if(filter, SCMP_SYS(prlimit64), 2, all, 0);         /* to ask */
}

/* Without those that make the kernel send signals (F_SETOWN, F_SETSIG, F_NOTIFY, F_SETLEASE). */
static bool allow_fcntl(scmp_filter_ctx filter)
{
    static const int commands[] = {F_DUPFD,  F_DUPFD_CLOEXEC, F_GETFD,     F_SETFD,
                                   F_GETFL,  F_SETFL,         F_GETLK,     F_SETLK,
                                   F_SETLKW, F_OFD_GETLK,     F_OFD_SETLK, F_OFD_SETLKW};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!allow_if(filter, SCMP_SYS(fcntl), 1, UINT32_MAX, (uint64_t)commands[i]))
            return false;
    return true;
}

/* libsasl2 may ask saslauthd, or write to the system log. */
static bool allow_sasl(scmp_filter_ctx filter)
{
    return allow_if(filter, SCMP_SYS(socket), 0, UINT32_MAX, AF_UNIX) &&
           is_ok(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(connect), 0));
}

static bool install(scmp_filter_ctx filter, const struct settings *settings)
{
    return is_ok(seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS)) &&
           is_ok(seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1)) && /* all threads */
           allow_listed(filter) && allow_some(filter) && allow_fcntl(filter) &&
           (!settings->enable_sasl || allow_sasl(filter)) && is_ok(seccomp_load(filter));
}

bool privileges_can_be_dropped(void)
{
    return true;
}

/* With -r the process must stay open to inspection: one that is not writes no core file. */
bool privileges_confine(const struct settings *settings, int dir_fd)
{
    const struct landlock_places places = {dir_fd, settings->pid_file, settings->unix_path};
    return ((settings->core_dumps || prctl(PR_SET_DUMPABLE, 0) == 0) &&
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && landlock_confine(&places)) ||
           refuse("-o drop_privileges: cannot give up access to other files: %s", strerror(errno));
}

bool privileges_drop(const struct settings *settings)
{
    errno = ENOMEM;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    bool ok = (filter && install(filter, settings)) ||
              refuse("-o drop_privileges: cannot filter system calls: %s", strerror(errno));
    if (filter)
        seccomp_release(filter);
    return ok;
}
