/* failing_calls.c: system calls and library functions that fail on purpose (LD_PRELOAD), for
 * test_failing_calls.py.
 *
 * The test and the server share a page, the file that FAILING_CALLS_PAGE names: the test says which
 * kind of call fails, from which one on, how many times and why; the server counts. So a fault
 * begins and ends at any moment, without a restart. What lies behind the page's name must exist
 * before the server starts, for the server gives up the rights to make it.
 *
 * FAILING_CALLS_JOURNAL names a file that gets a line for each change of a file and each sync, from
 * which the test knows what a loss of power would leave:
 *
 *     N inode                  made or emptied
 *     W inode offset length    written
 *     B inode number           a sync begins: what stands above this line is to be synced
 *     S number, F number       it has ended well, or failed, and then the kernel may have
 *                              forgotten what was to be written
 *
 * Where malloc belongs to a sanitizer it is left alone (NO_MEMORY_CALLS).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* The order is that of KINDS in the test. */
enum kind {
    KIND_NONE,
    KIND_OPEN,
    KIND_READ,
    KIND_WRITE,
    KIND_SYNC,
    KIND_RENAME,
    KIND_ALLOCATE,
    KIND_TRUNCATE,
    KIND_UNLINK,
    KIND_REPLACE,
    KIND_LIST,
    KIND_MMAP,
    KIND_MEMORY,
    KIND_THREAD,
    KIND_EVENTFD,
    KIND_EPOLL_CREATE,
    KIND_EPOLL_CTL,
    KIND_EPOLL_WAIT,
    KIND_ACCEPT,
    KIND_RECEIVE,
    KIND_SEND,
    KIND_USER,
    KIND_RING,        /* what begins reads */
    KIND_SOCKET_RING, /* what receives and sends */
    KIND_CHANGE,      /* whatever a file system that is mounted read-only refuses */
    KIND_HINT,        /* a rename that ends a hint file */
};

struct page {
    _Atomic int64_t kind;
    _Atomic int64_t error;
    _Atomic int64_t first; /* number of the first call that fails, from 1 */
    _Atomic int64_t times; /* so many fail */
    _Atomic int64_t calls;
    _Atomic int64_t failed;
    /* Of so many calls one is interrupted, or does less than it was asked; 0: none */
    _Atomic int64_t odds;
    _Atomic uint64_t seed;
    _Atomic int64_t disturbed;
    _Atomic int64_t standing;     /* while it is not 0 no sync ends */
    _Atomic int64_t sync_us;      /* each sync takes so much longer */
    _Atomic int64_t cold;         /* while it is not 0 the page cache has nothing */
    _Atomic int64_t write_stands; /* while it is not 0 no write to a file ends, nor begins */
    _Atomic int64_t write_us;     /* each takes so much longer */
    /* Of a file that cannot be read in bytes bad_from to bad_to; 0: none */
    _Atomic int64_t bad_inode;
    _Atomic int64_t bad_from;
    _Atomic int64_t bad_to;
};

static struct page *page;
static int journal_fd = -1;
static _Thread_local bool is_spared; /* the C library runs, which may not know how to go on */

#define NEXT(name)                                                                                 \
    static __typeof__(name) *next;                                                                 \
    if (!next)                                                                                     \
    next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* Before anything else runs: what is counted begins with the program, not with the loader. */
__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAILING_CALLS_PAGE"), *journal = getenv("FAILING_CALLS_JOURNAL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *shared =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (journal)
        journal_fd = open(journal, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (shared != MAP_FAILED)
        page = shared;
}

static bool is_of_kind(enum kind kind)
{
    int64_t wanted = atomic_load(&page->kind);
    bool changes = kind == KIND_WRITE || kind == KIND_SYNC || kind == KIND_RENAME ||
                   kind == KIND_ALLOCATE || kind == KIND_TRUNCATE || kind == KIND_UNLINK ||
                   kind == KIND_CHANGE;
    return wanted == kind || (wanted == KIND_CHANGE && changes);
}

/* True if this call fails; then errno says why. */
static bool must_fail(enum kind kind)
{
    if (!page || is_spared || !is_of_kind(kind))
        return false;
    int64_t number = atomic_fetch_add(&page->calls, 1) + 1;
    int64_t first = atomic_load(&page->first);
    if (number < first || number - first >= atomic_load(&page->times))
        return false;
    atomic_fetch_add(&page->failed, 1);
    errno = (int)atomic_load(&page->error);
    return true;
}

/* Random numbers (splitmix64), one row for all threads. */
static uint64_t draw(void)
{
    uint64_t x = atomic_fetch_add(&page->seed, UINT64_C(0x9e3779b97f4a7c15));
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* True if this call is disturbed. */
static bool is_disturbed(void)
{
    int64_t odds = page ? atomic_load(&page->odds) : 0;
    if (odds == 0 || draw() % (uint64_t)odds != 0)
        return false;
    atomic_fetch_add(&page->disturbed, 1);
    return true;
}

/* Half of the disturbed calls are interrupted, the others get a shorter length. */
static bool is_interrupted(size_t *len)
{
    if (!is_disturbed())
        return false;
    if (*len > 1 && draw() % 2) {
        *len = 1 + draw() % (*len - 1);
        return false;
    }
    errno = EINTR;
    return true;
}

/* The journal. */

static unsigned long long inode_of(int fd)
{
    struct stat status;
    return fstat(fd, &status) < 0 ? 0 : (unsigned long long)status.st_ino;
}

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
    char line[96];
    va_list arguments;
    int error = errno;
    va_start(arguments, format);
    int len = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    ssize_t ignored = write(journal_fd, line, (size_t)len);
    (void)ignored;
    errno = error;
}

static int note_opened(int fd, int flags)
{
    if (journal_fd >= 0 && fd >= 0 && (flags & (O_EXCL | O_TRUNC)))
        note("N %llu\n", inode_of(fd));
    return fd;
}

static int sync_noted(int fd, int (*next)(int fd), bool fails)
{
    static _Atomic unsigned numbers;
    unsigned number = atomic_fetch_add(&numbers, 1);
    int error = errno;
    if (journal_fd >= 0)
        note("B %llu %u\n", inode_of(fd), number);
    errno = error;
    int result = fails ? -1 : next(fd);
    if (journal_fd >= 0)
        note("%c %u\n", result == 0 ? 'S' : 'F', number);
    return result;
}

/* Files. */

static bool may_open(int flags)
{
    return !must_fail(KIND_OPEN) &&
           !((flags & (O_CREAT | O_WRONLY | O_RDWR)) && must_fail(KIND_CHANGE));
}

#define MODE_OF(flags)                                                                             \
    mode_t mode = 0;                                                                               \
    if ((flags)&O_CREAT) {                                                                         \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode = va_arg(arguments, mode_t);                                                          \
        va_end(arguments);                                                                         \
    }

int open(const char *path, int flags, ...)
{
    NEXT(open);
    MODE_OF(flags)
    return may_open(flags) ? note_opened(next(path, flags, mode), flags) : -1;
}

int openat(int dir_fd, const char *path, int flags, ...)
{
    NEXT(openat);
    MODE_OF(flags)
    return may_open(flags) ? note_opened(next(dir_fd, path, flags, mode), flags) : -1;
}

/* True if a read meets the bad place; the bytes before it are read. */
static bool is_bad_place(int fd, size_t *len, off_t offset)
{
    int64_t inode = page ? atomic_load(&page->bad_inode) : 0;
    int64_t from = inode ? atomic_load(&page->bad_from) : 0;
    if (!inode || (int64_t)inode_of(fd) != inode || offset >= atomic_load(&page->bad_to) ||
        offset + (off_t)*len <= from)
        return false;
    if (offset < from) {
        *len = (size_t)(from - offset);
        return false;
    }
    atomic_fetch_add(&page->failed, 1);
    errno = EIO;
    return true;
}

ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
    NEXT(pread);
    if (is_bad_place(fd, &len, offset))
        return -1;
    return must_fail(KIND_READ) || is_interrupted(&len) ? -1 : next(fd, data, len, offset);
}

ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    NEXT(preadv2);
    struct iovec part = parts[0];
    if (must_fail(KIND_READ))
        return -1;
    if (page && atomic_load(&page->cold)) {
        errno = EAGAIN;
        return -1;
    }
    if (count != 1)
        return next(fd, parts, count, offset, flags);
    if (is_bad_place(fd, &part.iov_len, offset))
        return -1;
    return is_interrupted(&part.iov_len) ? -1 : next(fd, &part, 1, offset, flags);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    NEXT(pwrite);
    if (must_fail(KIND_WRITE) || is_interrupted(&len))
        return -1;
    while (page && atomic_load(&page->write_stands))
        usleep(1000);
    if (page && atomic_load(&page->write_us))
        usleep((useconds_t)atomic_load(&page->write_us));
    ssize_t done = next(fd, data, len, offset);
    if (journal_fd >= 0 && done > 0)
        note("W %llu %lld %lld\n", inode_of(fd), (long long)offset, (long long)done);
    return done;
}

static void stand_still(void)
{
    while (page && atomic_load(&page->standing))
        usleep(1000);
    if (page && atomic_load(&page->sync_us))
        usleep((useconds_t)atomic_load(&page->sync_us));
}

int fdatasync(int fd)
{
    NEXT(fdatasync);
    stand_still();
    return sync_noted(fd, next, must_fail(KIND_SYNC));
}

int fsync(int fd)
{
    NEXT(fsync);
    stand_still();
    return sync_noted(fd, next, must_fail(KIND_SYNC));
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    NEXT(renameat);
    bool hint = strstr(to, ".hint") && must_fail(KIND_HINT);
    return hint || must_fail(KIND_RENAME) ? -1 : next(from_fd, from, to_fd, to);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    NEXT(fallocate);
    return must_fail(KIND_ALLOCATE) ? -1 : next(fd, mode, offset, size);
}

int ftruncate(int fd, off_t size)
{
    NEXT(ftruncate);
    return must_fail(KIND_TRUNCATE) ? -1 : next(fd, size);
}

int unlinkat(int dir_fd, const char *name, int flags)
{
    NEXT(unlinkat);
    return must_fail(KIND_UNLINK) ? -1 : next(dir_fd, name, flags);
}

int dup3(int from, int to, int flags)
{
    NEXT(dup3);
    return must_fail(KIND_REPLACE) ? -1 : next(from, to, flags);
}

struct dirent *readdir(DIR *dir)
{
    NEXT(readdir);
    return must_fail(KIND_LIST) ? NULL : next(dir);
}

/* Memory. */

void *mmap(void *address, size_t len, int protection, int flags, int fd, off_t offset)
{
    NEXT(mmap);
    return must_fail(KIND_MMAP) ? MAP_FAILED : next(address, len, protection, flags, fd, offset);
}

#ifndef NO_MEMORY_CALLS

/* dlsym itself needs memory. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *data, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size)
{
    return must_fail(KIND_MEMORY) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return must_fail(KIND_MEMORY) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *data, size_t size)
{
    return must_fail(KIND_MEMORY) ? NULL : __libc_realloc(data, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return must_fail(KIND_MEMORY) ? NULL : __libc_memalign(alignment, size);
}

#endif

/* Threads and events. */

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument)
{
    NEXT(pthread_create);
    return must_fail(KIND_THREAD) ? errno : next(thread, attributes, run, argument);
}

int eventfd(unsigned count, int flags)
{
    NEXT(eventfd);
    return must_fail(KIND_EVENTFD) ? -1 : next(count, flags);
}

int epoll_create1(int flags)
{
    NEXT(epoll_create1);
    return must_fail(KIND_EPOLL_CREATE) ? -1 : next(flags);
}

/* To take something out needs nothing that the kernel might not have. */
int epoll_ctl(int epoll_fd, int what, int fd, struct epoll_event *event)
{
    NEXT(epoll_ctl);
    bool needs = what != EPOLL_CTL_DEL;
    return needs && must_fail(KIND_EPOLL_CTL) ? -1 : next(epoll_fd, what, fd, event);
}

int epoll_wait(int epoll_fd, struct epoll_event *events, int room, int timeout_ms)
{
    NEXT(epoll_wait);
    size_t count = (size_t)room;
    return must_fail(KIND_EPOLL_WAIT) || is_interrupted(&count)
               ? -1
               : next(epoll_fd, events, (int)count, timeout_ms);
}

/* Sockets. */

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    NEXT(accept4);
    return must_fail(KIND_ACCEPT) ? -1 : next(fd, address, len, flags);
}

ssize_t recv(int fd, void *data, size_t len, int flags)
{
    NEXT(recv);
    return must_fail(KIND_RECEIVE) || is_interrupted(&len) ? -1 : next(fd, data, len, flags);
}

/* A short one ends in the middle of a part, or after it. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    NEXT(sendmsg);
    struct iovec part = message->msg_iov[0];
    struct msghdr begin = *message;
    size_t len = part.iov_len;
    if (must_fail(KIND_SEND) || is_interrupted(&len))
        return -1;
    if (len == part.iov_len)
        return next(fd, message, flags);
    part.iov_len = len;
    begin.msg_iov = &part;
    begin.msg_iovlen = 1;
    return next(fd, &begin, flags);
}

/* Rings: liburing's functions, behind which stands io_uring_enter. */

struct io_uring;
int io_uring_submit(struct io_uring *ring);
int io_uring_submit_and_wait(struct io_uring *ring, unsigned count);

int io_uring_submit(struct io_uring *ring)
{
    NEXT(io_uring_submit);
    return must_fail(KIND_RING) ? -errno : next(ring);
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned count)
{
    NEXT(io_uring_submit_and_wait);
    return must_fail(KIND_SOCKET_RING) ? -errno : next(ring, count);
}

/* Users: with nothing in errno it is that nobody has this name. That of glibc 2.36 crashes where it
 * finds no memory. */
struct passwd *getpwnam(const char *name)
{
    NEXT(getpwnam);
    if (must_fail(KIND_USER))
        return NULL;
    is_spared = true;
    struct passwd *user = next(name);
    is_spared = false;
    return user;
}
