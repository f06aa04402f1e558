/* main.c: cachecask from its start to its end, in order. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "src/command/auth_file.h"
#include "src/base/server_log.h"
#include "src/observe/prefix.h"
#include "src/privileges.h"
#include "src/process.h"
#include "src/progress.h"
#include "src/command/sasl.h"
#include "src/server.h"
#include "src/signals.h"
#include "src/observe/watch.h"

#define SEGMENTS_PER_DISK 64 /* a small store has about this many files */

static void say(void *context, enum report_level level, const char *message)
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

/* The limit that holds if none is given; the disk itself may be smaller still. */
static uint64_t default_disk_limit(const struct settings *settings)
{
    uint64_t limit = settings->memory_mib << 24; /* 16 times the memory */
    return limit < UINT64_C(1) << 30 ? UINT64_C(1) << 30 : limit;
}

/* Few enough files for the largest store, many enough for the smallest that disk and index can be taken back piece by piece. */
static uint64_t choose_segment_size(const struct settings *settings, int dir_fd)
{
    struct statvfs disk;
    uint64_t size = settings->disk_limit;
    if (fstatvfs(dir_fd, &disk) == 0 && disk.f_blocks && disk.f_blocks * disk.f_frsize < size)
        size = disk.f_blocks * disk.f_frsize;
    size /= SEGMENTS_PER_DISK;
    if (size > settings->memory_mib << 18)
        size = settings->memory_mib << 18; /* its tiniest keys are not a large part of the index */
    if (size < STORE_SEGMENT_SIZE_MIN)
        return STORE_SEGMENT_SIZE_MIN;
    return size > UINT64_C(64) << 20 ? UINT64_C(64) << 20 : size;
}

static bool open_store(struct server *server, int dir_fd)
{
    struct settings *settings = &server->settings;
    struct progress progress;
    if (!settings->disk_limit)
        settings->disk_limit = default_disk_limit(settings);
    if (!settings->segment_size)
        settings->segment_size = choose_segment_size(settings, dir_fd);
    struct store_options options = {
        .dir_fd = dir_fd,
        .dir_name = settings->data_dir,
        .any_owner = settings->any_owner,
        .memory_limit = settings->memory_mib << 20,
        .no_uring = !settings->uring,
        .segment_size = (uint32_t)settings->segment_size & ~UINT32_C(4095),
        .disk_limit = settings->disk_limit,
        .open_files = server->segment_files,
        .clean_rate = settings->clean_rate,
        .no_evictions = settings->no_evictions,
        .sync_interval_ms = settings->sync_interval_ms,
        .now_s = clock_now_s(&server->clock),
        .boot_id = process_boot_id(),
        .observer = {server, watch_wants_evicted, watch_evicted},
        .reporter = {.write = say},
        .progress = show_progress,
        .progress_context = &progress,
    };
    progress_init(&progress, clock_monotonic_us());
    bool ok = store_open(&server->store, &options) == STORE_OK;
    progress_release(&progress);
    return ok;
}

/* As many as there is room for. */
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
    store_stats(server->store, &stats);
    char addresses[SERVER_LOG_LINE_MAX / 2];
    list_addresses(server, addresses, sizeof addresses);
    server_log("cachecask %s ready on %s, data in %s: %llu keys recovered in %.3f s",
               PACKAGE_VERSION, addresses, server->settings.data_dir,
               (unsigned long long)stats.recovered_items, (double)stats.recovery_us / 1e6);
    process_write_pid(&server->settings);
    process_daemon_ready();
}

/* Locks what there is, and what will come: what is still to come must fit into the limit too, or it could not be had. */
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

/* Without the right to it the server runs all the same, as memcached does. */
static void lock_memory(const struct settings *settings)
{
    if (settings->lock_memory && !try_to_lock((size_t)settings->memory_mib << 20))
        server_log("warning: -k: cannot lock the memory: %s (see ulimit -l)", strerror(errno));
}

/* What the threads of the store may already tell things to. */
static bool open_watch(struct server *server)
{
    const struct settings *settings = &server->settings;
    server->prefixes = prefixes_new(settings->prefix_delimiter);
    server->watch = watch_new((uint32_t)settings->threads, (uint32_t)settings->worker_logbuf_kib,
                              (uint32_t)settings->watcher_logbuf_kib, &server->observed,
                              settings->stats_detail);
    atomic_store(&server->sizes_enabled, settings->track_sizes);
    if (server->prefixes && server->watch)
        return true;
    server_log("not enough memory for the logs of \"watch\"");
    return false;
}

/* From here on we are who we will be: opens the store and serves. */
static bool serve(struct server *server, int dir_fd)
{
    const struct settings *settings = &server->settings;
    if (!process_become_user(settings) ||
        (settings->drop_privileges && !privileges_confine(settings, dir_fd)) ||
        !open_watch(server) || (settings->enable_sasl && !sasl_setup(&server->verbosity)))
        return false;
    if (!open_store(server, dir_fd))
        return false;
    lock_memory(&server->settings);
    bool ok = server_run(server, ready);
    if (!ok)
        return false;
    bool synced = store_close(server->store);
    watch_free(server->watch);
    prefixes_free(server->prefixes);
    if (server->settings.enable_sasl)
        sasl_teardown();
    if (synced)
        server_log("stopped cleanly, all synced");
    return synced;
}

/* The file may be one that only root can read; SIGHUP then finds it closed, and says so. */
static bool open_auth_file(struct server *server)
{
    char why[AUTH_FILE_WHY_MAX];
    const char *path = server->settings.auth_file;
    if (!path)
        return true;
    server->auth_file = auth_file_open(path, why);
    if (!server->auth_file)
        fprintf(stderr, "password file %s: %s\n", path, why);
    return server->auth_file != NULL;
}

static bool load_tls(struct server *server)
{
    char error[TLS_ERROR_MAX];
    if (!server->settings.enable_ssl)
        return true;
    server->tls = tls_new(&server->settings, error);
    if (!server->tls)
        fprintf(stderr, "%s\n", error);
    return server->tls != NULL;
}

/* What must be done while we may still be root. */
static bool prepare(struct server *server, int *dir_fd)
{
    struct settings *settings = &server->settings;
    if (!process_check_user(settings) || !process_set_limits(settings) || !open_auth_file(server) ||
        !load_tls(server) || !server_listen(server))
        return false;
    *dir_fd = process_open_data_dir(settings);
    return *dir_fd >= 0 && process_share_files(settings, &server->segment_files) &&
           (!settings->daemonize || process_daemonize());
}

static int run(struct server *server)
{
    int dir_fd = -1;
    atomic_store(&server->verbosity, server->settings.verbosity);
    clock_init(&server->clock);
    bool ok = prepare(server, &dir_fd) && serve(server, dir_fd);
    process_remove_pid(&server->settings);
    server_release(server);
    tls_free(server->tls);
    if (dir_fd >= 0)
        close(dir_fd);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static struct server server;
    int status = EXIT_SUCCESS;
    process_open_descriptors();
    signals_open();
    server_log_open();
    /* Large pieces of memory go back to the system at once: what is not counted by -m must stay small. */
    mallopt(M_MMAP_THRESHOLD, 256 << 10);
    switch (settings_parse(&server.settings, argc, argv)) {
    case SETTINGS_RUN: status = run(&server); break;
    case SETTINGS_EXIT: break;
    case SETTINGS_BAD: status = EXIT_USAGE; break;
    }
    settings_release(&server.settings);
    return status;
}
