/* served.c: see served.h. */
#define _GNU_SOURCE
#include "tests/fuzz/served.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "src/observe/dump.h"
#include "src/observe/prefix.h"
#include "src/observe/watch.h"

#define OPTIONS_MAX 32
#define PATIENCE_S  30 /* a slow machine is no finding */

static char directory[4096];

/* At the exit; what a crash leaves lies in $TMPDIR, which is the caller's to empty. */
static void remove_directory(void)
{
    char path[sizeof directory + 300];
    DIR *dir = opendir(directory);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        unlink(path);
    }
    if (dir)
        closedir(dir);
    rmdir(directory);
}

static int make_directory(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/cachecask-fuzz-XXXXXX",
             parent && *parent ? parent : "/var/tmp");
    FUZZ_CHECK(mkdtemp(directory) != NULL);
    atexit(remove_directory);
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    FUZZ_CHECK(fd >= 0);
    return fd;
}

static void say(void *context, enum report_level level, const char *message)
{
    (void)context;
    (void)level;
    fprintf(stderr, "%s\n", message);
}

static void open_store(struct server *server)
{
    const struct settings *settings = &server->settings;
    const struct store_options options = {
        .dir_fd = make_directory(),
        .dir_name = directory,
        .memory_limit = settings->memory_mib << 20,
        .segment_size = (uint32_t)settings->segment_size,
        .disk_limit = settings->disk_limit,
        .no_evictions = settings->no_evictions,
        .sync_interval_ms = settings->sync_interval_ms,
        .shard_count = 16, /* they are swept after each flush */
        .reader_threads = 1,
        .now_s = clock_now_s(&server->clock),
        .observer = {&server->evictions, watch_wants_evicted, watch_evicted},
        .reporter = {.write = say},
    };
    FUZZ_CHECK(store_open(&server->store, &options) == STORE_OK);
}

static struct listener *add_listener(struct server *server, int fd, enum transport transport)
{
    struct listener *listener = &server->listeners[server->listener_count++];
    listener->fd = fd;
    listener->transport = transport;
    listener->is_unix = transport == TRANSPORT_PLAIN;
    strcpy(listener->address, "fuzz");
    return listener;
}

static void add_udp(struct server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    FUZZ_CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    add_listener(server, fd, TRANSPORT_UDP);
}

static void parse_options(struct settings *settings, const char *const options[])
{
    static char program[] = "cachecask";
    static char *argv[OPTIONS_MAX] = {program};
    const struct features features = {0};
    int argc = 1;
    for (; options[argc - 1] && argc < OPTIONS_MAX; argc++)
        argv[argc] = strdup(options[argc - 1]);
    FUZZ_CHECK(settings_parse(settings, &features, argc, argv) == SETTINGS_RUN);
}

void served_start(struct served *served, const char *const options[], bool udp)
{
    struct main_thread *main_thread = &served->main_thread;
    struct server *server = &main_thread->server;
    signal(SIGPIPE, SIG_IGN);
    parse_options(&server->settings, options);
    server->listeners = main_thread->listeners;
    clock_init(&server->clock);
    server->prefixes = prefixes_new(server->settings.prefix_delimiter);
    server->watch = watch_new(1, 64, 64, &server->observed, false);
    server->evictions = (struct watch_evictions){.writer = {.watch = server->watch,
                                                            .prefixes = server->prefixes,
                                                            .observed = &server->observed,
                                                            .log = 1},
                                                 .clock = &server->clock};
    FUZZ_CHECK(server->prefixes && server->watch);
    open_store(server);
    server->dump = dump_new(server->store, &server->clock);
    FUZZ_CHECK(server->dump);
    server_stats_init(main_thread);
    served->unix_listener = add_listener(server, -1, TRANSPORT_PLAIN);
    if (udp)
        add_udp(server);
    served->worker = worker_new(server, 0);
    main_thread->workers = &served->worker;
    FUZZ_CHECK(served->worker != NULL);
}

int served_connect(struct served *served)
{
    int ends[2];
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    atomic_fetch_add(&served->main_thread.server.connections, 1);
    FUZZ_CHECK(worker_add(served->worker, ends[1], served->unix_listener, "fuzz"));
    return ends[0];
}

void served_tick(struct served *served)
{
    store_tick(served->main_thread.server.store, clock_now_s(&served->main_thread.server.clock));
}

/* *closed: the server has nothing more to say. Returns the bytes that came. */
static size_t drain(int fd, struct summary *answer, bool *closed)
{
    char bytes[16 << 10];
    size_t all = 0;
    for (;;) {
        ssize_t got = recv(fd, bytes, sizeof bytes, 0);
        *closed = got == 0 || (got < 0 && errno == ECONNRESET);
        if (got <= 0)
            return all;
        all += (size_t)got;
        summary_add(answer, bytes, (size_t)got);
    }
}

/* True if bytes that were sent wait in the socket for the server. */
static bool is_unread(int fd)
{
    int unread = 0;
    FUZZ_CHECK(ioctl(fd, SIOCOUTQ, &unread) == 0);
    return unread > 0;
}

/* True if it waits for a thread of the store. */
static bool is_held(const struct worker *worker)
{
    return worker->ready || worker->context.fetches.under_way || worker->parked ||
           worker->syncing || worker->dumping;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool served_settle(struct served *served, int fd, struct summary *answer)
{
    struct worker *worker = served->worker;
    uint64_t deadline_ms = now_ms() + PATIENCE_S * 1000;
    bool closed = false, quiet = false;
    while (!closed && !quiet) {
        FUZZ_CHECK(now_ms() < deadline_ms);
        event_base_loop(worker->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        while (worker->ready)
            worker_run_round(worker);
        bool came = drain(fd, answer, &closed) > 0;
        if (is_held(worker)) {
            struct pollfd wake = {.fd = worker->wake_fd, .events = POLLIN};
            poll(&wake, 1, 1);
        }
        quiet = !came && !is_held(worker) && !is_unread(fd);
    }
    return closed;
}

void served_end(struct served *served, int fd, struct summary *answer)
{
    uint64_t deadline_ms = now_ms() + PATIENCE_S * 1000;
    shutdown(fd, SHUT_WR);
    while (!served_settle(served, fd, answer)) {
        FUZZ_CHECK(now_ms() < deadline_ms);
        poll(NULL, 0, 1);
    }
    close(fd);
}
