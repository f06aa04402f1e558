#include "src/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/base/refuse.h"
#include "src/base/replace_file.h"
#include "src/base/server_log.h"
#include "storage/store.h"

#define CONNECTIONS_DEFAULT 1024
#define CONNECTIONS_MIN     16        /* if -c is not given */
#define FILES_MAX           (1 << 20) /* the kernel's usual bound (fs.nr_open) */
#define FILES_BESIDES       4096      /* where we may raise the hard limit; most are for segments */
#define FILES_A_WORKER      8         /* event base, eventfd, rings */
#define FILES_RESERVE       32        /* lock, main thread, reloads, a connection to be refused */
#define FILES_UNKNOWN       64        /* open already, if there is no /proc */
#define SEGMENTS_MAX        16384     /* open: each costs the kernel a kilobyte or two */
#define SEGMENTS_SHARE      8         /* the log gets this part of the rest, if -c is not given */

static bool pid_written;
static int daemon_pipe = -1; /* the parent waits at its other end */

/* Otherwise a file or socket of ours could get one of these numbers: messages would be written to
 * it, and a daemon would close it. Without /dev, "/" can still be opened as a path. */
void process_open_descriptors(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY) < 0)
            open("/", O_PATH);
}

static const struct passwd *target_user(const struct settings *settings)
{
    return geteuid() == 0 && settings->user ? getpwnam(settings->user) : NULL;
}

/* *user is NULL if we do not change. process_check_user() has found the user before, so when it
 * fails now the system is at fault, and to go on would mean to stay root. */
static bool find_user(const struct settings *settings, const struct passwd **user)
{
    *user = target_user(settings);
    return *user || geteuid() != 0 ||
           refuse("cannot look up the user %s a second time (%s): start again", settings->user,
                  strerror(errno));
}

bool process_check_user(const struct settings *settings)
{
    if (geteuid() != 0 || target_user(settings))
        return true;
    if (!settings->user)
        return refuse("can't run as root without the -u switch");
    return refuse("can't find the user %s to switch to", settings->user);
}

/* Raises a limit to what is wanted, or as near to it as we may. Returns the new limit. */
static rlim_t raise_limit(int resource, rlim_t wanted)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) < 0)
        return 0;
    if (limit.rlim_cur >= wanted)
        return limit.rlim_cur;

    struct rlimit higher = {wanted, limit.rlim_max < wanted ? wanted : limit.rlim_max};
    if (setrlimit(resource, &higher) == 0)
        return wanted;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    return setrlimit(resource, &limit) == 0 ? limit.rlim_cur : 0;
}

static int wanted_connections(const struct settings *settings)
{
    return settings->max_connections ? settings->max_connections : CONNECTIONS_DEFAULT;
}

/* As many as we may have, within reason: more descriptors let more segments stay open. */
static void raise_open_files(const struct settings *settings)
{
    rlim_t wanted = (rlim_t)wanted_connections(settings) + FILES_BESIDES;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max > wanted)
        wanted = limit.rlim_max < FILES_MAX || wanted > FILES_MAX ? limit.rlim_max : FILES_MAX;
    raise_limit(RLIMIT_NOFILE, wanted);
}

/* Inherited ones count as well. */
static long count_open_files(void)
{
    long count = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        return FILES_UNKNOWN;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static bool refuse_files(const struct settings *settings, long files, long besides)
{
    long connections = wanted_connections(settings), log = STORE_OPEN_FILES_MIN;
    char lower[32] = "";
    if (files > besides + log)
        snprintf(lower, sizeof lower, " to %ld", files - besides - log);
    return refuse(
        "the limit of open files (ulimit -n) is %ld: too low for %ld connections, %ld files of "
        "the server and %ld of the log. Raise it to %ld, start as root, or lower -c%s",
        files, connections, besides, log, connections + besides + log, lower);
}

bool process_share_files(struct settings *settings, uint32_t *segment_files)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT_MAX)
        limit.rlim_cur = INT_MAX;
    long files = (long)limit.rlim_cur;
    long besides = count_open_files() + (long)settings->threads * FILES_A_WORKER + FILES_RESERVE;
    long connections = wanted_connections(settings);

    long shared = files - besides, most = shared - STORE_OPEN_FILES_MIN;
    if (!settings->max_connections && shared / SEGMENTS_SHARE > STORE_OPEN_FILES_MIN)
        most = shared - shared / SEGMENTS_SHARE;

    if (connections > most && (settings->max_connections || most < CONNECTIONS_MIN))
        return refuse_files(settings, files, besides);
    if (connections > most) {
        connections = most;
        server_log("warning: the limit of open files (ulimit -n) is %ld: room for %ld connections. "
                   "Raise it for more, or say -c %ld",
                   files, connections, connections);
    }

    settings->max_connections = (int)connections;
    long rest = shared - connections;
    *segment_files = rest < SEGMENTS_MAX ? (uint32_t)rest : SEGMENTS_MAX;
    return true;
}

bool process_set_limits(const struct settings *settings)
{
    if (settings->lock_memory)
        raise_limit(RLIMIT_MEMLOCK, RLIM_INFINITY); /* lock_memory() warns if it is not enough */
    if (settings->core_dumps && raise_limit(RLIMIT_CORE, RLIM_INFINITY) == 0)
        return refuse("-r: cannot raise the limit of core files: %s", strerror(errno));
    raise_open_files(settings);
    return true;
}

/* The first directory that systemd names; colons separate them. NULL: it names none. */
static char *first_state_dir(void)
{
    const char *list = getenv("STATE_DIRECTORY");
    list = list ? list + strspn(list, ":") : "";
    size_t len = strcspn(list, ":");
    return len ? strndup(list, len) : NULL;
}

/* NULL: neither the environment nor the list of users has it. */
static const char *home_dir(void)
{
    const char *home = getenv("HOME");
    if (home && *home)
        return home;
    const struct passwd *user = getpwuid(geteuid());
    return user && *user->pw_dir ? user->pw_dir : NULL;
}

static char *dir_of_port(const char *home, const char *state, int port)
{
    char *path;
    return asprintf(&path, "%s%s/cachecask/%d", home, state, port) < 0 ? NULL : path;
}

static char *users_dir(int port)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = home_dir();
    if (xdg && *xdg)
        return dir_of_port(xdg, "", port);
    return home ? dir_of_port(home, "/.local/state", port) : NULL;
}

/* The directory of the data if none is given: that of the systemd unit, or in /var/lib for root, or
 * the user's own. NULL: there is none, and it has said so. */
static char *default_dir(const struct settings *settings)
{
    char *path = first_state_dir();
    if (!path)
        path = geteuid() == 0 ? dir_of_port("/var", "/lib", settings->tcp_port)
                              : users_dir(settings->tcp_port);
    if (!path)
        refuse("no data directory: STATE_DIRECTORY, XDG_STATE_HOME and HOME are not set, and the "
               "list of users has no home for user id %ld. Set one of them, or name a directory "
               "with --data-dir",
               (long)geteuid());
    return path;
}

/* False with errno: it is missing and cannot be made. */
static bool is_there_or_made(const char *path)
{
    if (mkdir(path, 0755) == 0 || errno == EEXIST)
        return true;
    int error = errno;
    bool is_there = access(path, F_OK) == 0;
    errno = error;
    return is_there;
}

/* NULL: all directories above the path are there. Else the first that is missing and cannot be
 * made, with errno; the caller frees it. */
static char *make_parents(const char *path)
{
    char *copy = strdup(path);
    for (char *slash = copy ? strchr(copy + 1, '/') : NULL; slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (!is_there_or_made(copy))
            return copy;
        *slash = '/';
    }
    free(copy);
    return NULL;
}

static void report_unusable(const char *data_dir, const char *missing, int error, bool is_default)
{
    refuse("data directory %s: %s%s%s%s. Name another with --data-dir%s", data_dir,
           missing ? "cannot make " : "", missing ? missing : "", missing ? ": " : "",
           strerror(error), is_default ? ", or by STATE_DIRECTORY, XDG_STATE_HOME or HOME" : "");
}

/* Returns a descriptor, or -1 with errno; *missing is the parent that cannot be made, or NULL. */
static int make_data_dir(const char *path, const struct passwd *user, char **missing)
{
    *missing = make_parents(path);
    if (*missing)
        return -1;

    bool made = mkdir(path, 0700) == 0;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && (!made || !user || fchown(fd, user->pw_uid, user->pw_gid) == 0))
        return fd;

    int error = errno;
    if (fd >= 0)
        close(fd);
    if (made) /* or the next start would find that it belongs to root */
        rmdir(path);
    errno = error;
    return -1;
}

/* False with errno: ENOSYS if the kernel does not number its mounts. */
static bool get_mount(int dir_fd, const char *path, struct statx *found)
{
    if (statx(dir_fd, path, AT_EMPTY_PATH, STATX_MNT_ID, found) < 0)
        return false;
    errno = ENOSYS;
    return found->stx_mask & STATX_MNT_ID && found->stx_attributes_mask & STATX_ATTR_MOUNT_ROOT;
}

/* True if a file system is mounted at `path` itself. False: it has said why not. */
static bool is_mounted(const char *path)
{
    struct statx found;
    if (!get_mount(AT_FDCWD, path, &found))
        return refuse("--require-mount=%s: %s", path, strerror(errno));
    return found.stx_attributes & STATX_ATTR_MOUNT_ROOT ||
           refuse("--require-mount=%s: nothing is mounted there. Mount the disk of the data and "
                  "start again",
                  path);
}

/* True if the directory of this name is on the file system that is mounted at `path`. */
static bool mount_has(const char *path, int dir_fd, const char *name)
{
    struct statx mounted, dir;
    if (!get_mount(AT_FDCWD, path, &mounted) || !get_mount(dir_fd, "", &dir))
        return refuse("--require-mount=%s: %s", path, strerror(errno));
    return mounted.stx_mnt_id == dir.stx_mnt_id ||
           refuse("--require-mount=%s: the data directory %s lies on another file system. Name one "
                  "on this with --data-dir",
                  path, name);
}

int process_open_data_dir(struct settings *settings)
{
    const struct passwd *user;
    char *missing;
    if (!find_user(settings, &user))
        return -1;

    bool is_default = !settings->data_dir && geteuid() != 0;
    if (!settings->data_dir)
        settings->data_dir = default_dir(settings);
    if (!settings->data_dir)
        return -1;
    if (settings->require_mount && !is_mounted(settings->require_mount))
        return -1; /* nothing has been made yet that the mount would hide later */

    int fd = make_data_dir(settings->data_dir, user, &missing);
    if (fd < 0)
        report_unusable(settings->data_dir, missing, errno, is_default);
    free(missing);
    if (fd < 0 || !settings->require_mount ||
        mount_has(settings->require_mount, fd, settings->data_dir))
        return fd;
    close(fd);
    return -1;
}

/* setfsuid() and setfsgid() do not fail: for an id that nobody has they return the present one. */
static bool set_file_ids(uid_t uid, gid_t gid)
{
    setfsgid(gid);
    setfsuid(uid);
    return (gid_t)setfsgid((gid_t)-1) == gid && (uid_t)setfsuid((uid_t)-1) == uid;
}

bool process_begin_as_user(const struct settings *settings)
{
    const struct passwd *user;
    if (!find_user(settings, &user))
        return false;
    return !user || set_file_ids(user->pw_uid, user->pw_gid) ||
           refuse("cannot use files as the user %s: the system refuses", settings->user);
}

void process_end_as_user(void)
{
    set_file_ids(geteuid(), getegid());
}

bool process_become_user(const struct settings *settings)
{
    const struct passwd *user;
    if (!find_user(settings, &user))
        return false;
    if (!user || user->pw_uid == 0)
        return true;

    if (setgroups(0, NULL) < 0 || setresgid(user->pw_gid, user->pw_gid, user->pw_gid) < 0 ||
        setresuid(user->pw_uid, user->pw_uid, user->pw_uid) < 0 || setuid(0) == 0)
        return refuse("cannot become the user %s: %s", settings->user, strerror(errno));
    if (settings->core_dumps)
        prctl(PR_SET_DUMPABLE, 1); /* a change of user has cleared it */
    return true;
}

/* The first half of the random UUID that Linux draws at each boot. */
uint64_t process_boot_id(void)
{
    unsigned first = 0, second = 0, third = 0;
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!file)
        return 0;
    bool known = fscanf(file, "%8x-%4x-%4x-", &first, &second, &third) == 3;
    fclose(file);
    return known ? (uint64_t)first << 32 | second << 16 | third : 0;
}

bool process_daemonize(void)
{
    int ends[2];
    pid_t child = pipe2(ends, O_CLOEXEC) < 0 ? -1 : fork();
    if (child < 0)
        return refuse("-d: cannot run in the background: %s", strerror(errno));

    if (child > 0) { /* if it fails the child says why; our status says that it has */
        char done;
        int status = 0;
        close(ends[1]);
        if (read(ends[0], &done, 1) == 1)
            _exit(0);
        waitpid(child, &status, 0);
        _exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1);
    }

    close(ends[0]);
    daemon_pipe = ends[1];
    setsid();
    return true;
}

void process_daemon_ready(void)
{
    if (daemon_pipe < 0)
        return;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= STDERR_FILENO && null >= 0; fd++)
        dup2(null, fd);
    if (null >= 0)
        close(null);
    server_log_open();

    ssize_t ignored = write(daemon_pipe, "", 1);
    (void)ignored;
    close(daemon_pipe);
    daemon_pipe = -1;
}

void process_write_pid(const struct settings *settings)
{
    char text[32];
    const char *path = settings->pid_file;
    if (!path)
        return;
    snprintf(text, sizeof text, "%ld\n", (long)getpid());
    pid_written = replace_file(path, text);
    if (!pid_written)
        server_log("warning: -P: cannot write %s: %s. Its directory must be writable for the user "
                   "that serves",
                   path, strerror(errno));
}

void process_remove_pid(const struct settings *settings)
{
    if (pid_written)
        unlink(settings->pid_file);
}
