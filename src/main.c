/* main.c: cachecask from its start to its end, in order. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "src/base/refuse.h"
#include "src/base/server_log.h"
#include "src/command/auth_file.h"
#include "src/command/sasl.h"
#include "src/observe/prefix.h"
#include "src/observe/watch.h"
#include "src/privileges.h"
#include "src/process.h"
#include "src/progress.h"
#include "src/server.h"
#include "src/signals.h"
#include "storage/store.h"

#define SEGMENTS_PER_DISK 64 /* a small store has about this many files */

/* What the start has opened or set aside for the store. */
struct resources {
    int dir_fd;             /* of the data */
    uint32_t segment_files; /* descriptors for the files of the log */
};

static void log_report(void *context, enum report_level level, const char *message)
{
    static const char *const prefix[] = {"error: ", "warning: ", ""};
    (void)context;
    server_log("%s%s", prefix[level], message);
}

static void show_progress(void *context, uint64_t done_bytes, uint64_t all_bytes)
{
    char line[PROGRESS_LINE_MAX];
    if (progress_line(context, clock_monotonic_us(), done_bytes, all_bytes, line))
        server_log("%s", line);
}

/* The limit that holds if none is given. The disk itself may be smaller. */
static uint64_t default_disk_limit(const struct settings *settings)
{
    uint64_t limit = settings->memory_mib << 24; /* 16 times the memory */
    return limit < UINT64_C(1) << 30 ? UINT64_C(1) << 30 : limit;
}

/* Few enough files for the largest store, and in the smallest still so many that space on disk and
 * in the index becomes free in small pieces. */
static uint64_t choose_segment_size(const struct settings *settings, int dir_fd)
{
    struct statvfs disk;
    uint64_t size = settings->disk_limit;
    if (fstatvfs(dir_fd, &disk) == 0 && disk.f_blocks && disk.f_blocks * disk.f_frsize < size)
        size = disk.f_blocks * disk.f_frsize;
    size /= SEGMENTS_PER_DISK;
    if (size > settings->memory_mib << 18)
        size = settings->memory_mib << 18; /* or the keys of one segment could fill the index */
    if (size < STORE_SEGMENT_SIZE_MIN)
        return STORE_SEGMENT_SIZE_MIN;
    return size > UINT64_C(64) << 20 ? UINT64_C(64) << 20 : size;
}

static bool open_store(struct server *server, const struct resources *resources)
{
    struct settings *settings = &server->settings;
    struct progress progress;

    if (!settings->disk_limit)
        settings->disk_limit = default_disk_limit(settings);
    if (!settings->segment_size)
        settings->segment_size = choose_segment_size(settings, resources->dir_fd);

    const struct store_options options = {
        .dir_fd = resources->dir_fd,
        .dir_name = settings->data_dir,
        .any_owner = settings->any_owner,
        .memory_limit = settings->memory_mib << 20,
        .no_uring = !settings->uring,
        .segment_size = (uint32_t)settings->segment_size & ~UINT32_C(4095),
        .disk_limit = settings->disk_limit,
        .open_files = resources->segment_files,
        .clean_rate = settings->clean_rate,
        .no_evictions = settings->no_evictions,
        .sync_interval_ms = settings->sync_interval_ms,
        .now_s = clock_now_s(&server->clock),
        .boot_id = process_boot_id(),
        .observer = {&server->evictions, watch_wants_evicted, watch_evicted},
        .reporter = {.write = log_report},
        .progress = show_progress,
        .progress_context = &progress,
    };

    progress_init(&progress, clock_monotonic_us());
    bool ok = store_open(&server->store, &options) == STORE_OK;
    progress_release(&progress);
    return ok;
}

/* As many of them as fit. */
static void list_addresses(const struct server *server, char *out, size_t room)
{
    size_t len = 0;
    *out = '\0';
    for (int i = 0; i < server->listener_count && len < room; i++)
        len += (size_t)snprintf(out + len, room - len, "%s%s", i ? ", " : "",
                                server->listeners[i].address);
}

static void ready(struct server *server)
{
    struct store_stats stats;
    char addresses[SERVER_LOG_LINE_MAX / 2];
    store_stats(server->store, &stats);
    list_addresses(server, addresses, sizeof addresses);

    server_log("cachecask %s ready on %s, data in %s: %llu keys recovered in %.3f s",
               PACKAGE_VERSION, addresses, server->settings.data_dir,
               (unsigned long long)stats.recovered_items, (double)stats.recovery_us / 1e6);
    process_write_pid(&server->settings);
    process_daemon_ready();
}

/* Locks all memory, now and in future. A mapping shows that what is still to be allocated fits into
 * the limit: otherwise the allocation would fail later. */
static bool try_to_lock(size_t still_to_come)
{
    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
        return false;

    void *probe = mmap(NULL, still_to_come, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (probe != MAP_FAILED)
        return munmap(probe, still_to_come) == 0;
    int error = errno;
    munlockall();
    errno = error;
    return false;
}

/* Where it is not allowed the server runs all the same, as memcached does. */
static void lock_memory(const struct settings *settings)
{
    if (settings->lock_memory && !try_to_lock((size_t)settings->memory_mib << 20))
        server_log("warning: -k: cannot lock the memory: %s (see ulimit -l)", strerror(errno));
}

/* Opened before the store, whose threads write there. */
static bool open_watch(struct server *server)
{
    const struct settings *settings = &server->settings;
    atomic_store(&server->sizes_enabled, settings->track_sizes);
    server->prefixes = prefixes_new(settings->prefix_delimiter);
    server->watch = watch_new((uint32_t)settings->threads, (uint32_t)settings->worker_logbuf_kib,
                              (uint32_t)settings->watcher_logbuf_kib, &server->observed,
                              settings->stats_detail);
    server->evictions = (struct watch_evictions){
        .writer = {.watch = server->watch,
                   .prefixes = server->prefixes,
                   .observed = &server->observed,
                   .log = (uint32_t)settings->threads}, /* that after the workers' own */
        .clock = &server->clock};
    return (server->prefixes && server->watch) ||
           refuse("not enough memory for the logs of \"watch\": free some and start again");
}

/* From here on we are the user that serves. */
static bool open_all(struct main_thread *self, const struct resources *resources)
{
    struct server *server = &self->server;
    const struct settings *settings = &server->settings;

    return process_become_user(settings) &&
           (!settings->drop_privileges || privileges_confine(settings, resources->dir_fd)) &&
           open_watch(server) && (!settings->enable_sasl || sasl_setup(&server->verbosity)) &&
           open_store(server, resources);
}

/* A sync of files without a name succeeds, and keeps nothing. */
static bool has_no_name(int dir_fd)
{
    struct stat status;
    return fstat(dir_fd, &status) == 0 && status.st_nlink == 0;
}

/* True: everything that was answered is on disk. */
static bool close_all(struct main_thread *self, const struct resources *resources)
{
    struct server *server = &self->server;
    bool synced = store_close(server->store);

    if (has_no_name(resources->dir_fd)) {
        server_log("error: data directory %s has been removed, and all data with it",
                   server->settings.data_dir);
        synced = false;
    }

    watch_free(server->watch);
    prefixes_free(server->prefixes);
    if (server->settings.enable_sasl)
        sasl_teardown();
    if (synced)
        server_log("stopped cleanly, all synced");
    return synced;
}

/* True: the server has served, and stopped cleanly. */
static bool serve(struct main_thread *self, const struct resources *resources)
{
    if (!open_all(self, resources))
        return false;
    lock_memory(&self->server.settings);
    return server_run(self, ready) && close_all(self, resources);
}

/* Only root may be able to read the file. Then SIGHUP finds it closed, and says so. */
static bool open_auth_file(struct server *server)
{
    char why[AUTH_FILE_WHY_MAX];
    const char *path = server->settings.auth_file;
    if (!path)
        return true;
    server->auth_file = auth_file_open(path, why);
    return server->auth_file || refuse("password file %s: %s", path, why);
}

static bool load_tls(struct server *server)
{
    char error[TLS_ERROR_MAX];
    if (!server->settings.enable_ssl)
        return true;
    server->tls = tls_new(&server->settings, error);
    return server->tls || refuse("%s", error);
}

/* What may need root, if that is who we are. */
static bool prepare(struct server *server, struct resources *resources)
{
    struct settings *settings = &server->settings;
    if (!process_check_user(settings) || !process_set_limits(settings) || !open_auth_file(server) ||
        !load_tls(server) || !server_listen(server))
        return false;

    resources->dir_fd = process_open_data_dir(settings);
    if (resources->dir_fd < 0 || !process_share_files(settings, &resources->segment_files))
        return false;
    return !settings->daemonize || process_daemonize();
}

static int run(struct main_thread *self)
{
    struct server *server = &self->server;
    struct resources resources = {.dir_fd = -1};
    server->listeners = self->listeners;
    atomic_store(&server->verbosity, server->settings.verbosity);
    clock_init(&server->clock);

    bool ok = prepare(server, &resources) && serve(self, &resources);

    process_remove_pid(&server->settings);
    server_release(server);
    tls_free(server->tls);
    if (resources.dir_fd >= 0)
        close(resources.dir_fd);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static struct main_thread self;
    struct settings *settings = &self.server.settings;
    const struct features features = {
        .tls = tls_is_built_in(),
        .sasl = sasl_built_in(),
        .seccomp = privileges_can_be_dropped(),
    };

    process_open_descriptors();
    signals_open();
    server_log_open();
    /* What -m does not count must stay small: large blocks go back to the system when freed. */
    mallopt(M_MMAP_THRESHOLD, 256 << 10);

    enum settings_result result = settings_parse(settings, &features, argc, argv);
    int status = result == SETTINGS_BAD ? EXIT_USAGE : EXIT_SUCCESS;
    if (result == SETTINGS_RUN)
        status = run(&self);
    settings_release(settings);
    return status;
}
