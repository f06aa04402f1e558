/* listen.c: from -p, -l and -s to listening sockets. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "src/address.h"
#include "src/server.h"

static bool add_listener(struct server *server, int fd, bool is_unix)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    if (server->listener_count == SERVER_LISTENERS_MAX) {
        fprintf(stderr, "more than %d addresses to listen on\n", SERVER_LISTENERS_MAX);
        close(fd);
        return false;
    }
    struct listener *listener = &server->listeners[server->listener_count++];
    *listener = (struct listener){.fd = fd, .is_unix = is_unix, .server = server};
    getsockname(fd, (struct sockaddr *)&address, &len);
    address_format((struct sockaddr *)&address, len, listener->address, sizeof listener->address);
    return true;
}

static bool bind_one(struct server *server, const struct addrinfo *info, bool optional)
{
    int one = 1;
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                    info->ai_protocol);
    if (fd < 0)
        return optional;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    if (info->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, server->settings.backlog) == 0)
        return add_listener(server, fd, false);
    int error = errno;
    close(fd);
    errno = error;
    return optional && errno != EADDRINUSE;
}

/* Listens on all addresses that a name stands for. `optional`: it is no error if the machine has no such address. */
static bool listen_on(struct server *server, const char *host, const char *port, bool optional)
{
    struct addrinfo hints = {
        .ai_flags = AI_PASSIVE, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *all, *info;
    int error = getaddrinfo(host, port, &hints, &all);
    if (error) {
        if (!optional)
            fprintf(stderr, "cannot listen on %s:%s: %s\n", host ? host : "*", port,
                    gai_strerror(error));
        return optional;
    }
    bool ok = true;
    for (info = all; info && ok; info = info->ai_next)
        ok = bind_one(server, info, optional);
    if (!ok)
        fprintf(
            stderr,
            "cannot listen on %s:%s: %s. Is another server running there? -p names another port\n",
            host ? host : "*", port, strerror(errno));
    freeaddrinfo(all);
    return ok;
}

/* One address of -l: host, host:port, [v6], [v6]:port; "notls:" in front says what is so anyway. */
static bool listen_word(struct server *server, char *word, const char *port)
{
    if (strncmp(word, "notls:", 6) == 0)
        word += 6;
    char *colon = strrchr(word, ':');
    char *close = strrchr(word, ']');
    if (word[0] == '[' && close) {
        *close = '\0';
        if (close[1] == ':')
            port = close + 2;
        return listen_on(server, word + 1, port, false);
    }
    if (colon && strchr(word, ':') == colon) {
        *colon = '\0';
        port = colon + 1;
    }
    return listen_on(server, strcmp(word, "*") == 0 ? NULL : word, port, false);
}

static bool listen_list(struct server *server, const char *list, const char *port)
{
    char *copy = strdup(list), *rest = copy, *word;
    bool ok = copy != NULL;
    while (ok && (word = strsep(&rest, ",; ")))
        if (*word)
            ok = listen_word(server, word, port);
    free(copy);
    return ok;
}

static bool listen_tcp(struct server *server)
{
    const struct settings *settings = &server->settings;
    char port[16];
    snprintf(port, sizeof port, "%d", settings->tcp_port < 0 ? 0 : settings->tcp_port);
    for (int i = 0; i < settings->listen_count; i++)
        if (!listen_list(server, settings->listen[i], port))
            return false;
    if (settings->listen_count)
        return true;
    if (!listen_on(server, "127.0.0.1", port, false))
        return false;
    return settings->tcp_port < 0 || listen_on(server, "::1", port, true);
}

static bool somebody_listens(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool yes = fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ||
                           errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    return yes;
}

static bool listen_unix(struct server *server)
{
    const char *path = server->settings.unix_path;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status;
    if (strlen(path) >= sizeof address.sun_path) {
        fprintf(stderr, "-s: the path %s is too long for a Unix socket\n", path);
        return false;
    }
    strcpy(address.sun_path, path);
    if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode)) {
        if (somebody_listens(&address)) {
            fprintf(stderr, "another server listens on the Unix socket %s: -s names another\n",
                    path);
            return false;
        }
        unlink(path); /* what a killed server left behind */
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    mode_t mask = umask((mode_t)(0777 & ~server->settings.unix_mask));
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
              listen(fd, server->settings.backlog) == 0;
    umask(mask);
    if (!ok) {
        fprintf(stderr, "cannot listen on the Unix socket %s: %s\n", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    return add_listener(server, fd, true);
}

/* Names the ports for who started us with -p -1: one line an address, in the file of this variable. */
static bool write_port_file(const struct server *server)
{
    const char *path = getenv("MEMCACHED_PORT_FILENAME");
    if (!path)
        return true;
    FILE *file = fopen(path, "we");
    for (int i = 0; file && i < server->listener_count; i++) {
        struct sockaddr_storage address = {0};
        socklen_t len = sizeof address;
        getsockname(server->listeners[i].fd, (struct sockaddr *)&address, &len);
        if (address.ss_family == AF_INET)
            fprintf(file, "TCP INET: %u\n", ntohs(((struct sockaddr_in *)&address)->sin_port));
        if (address.ss_family == AF_INET6)
            fprintf(file, "TCP INET6: %u\n", ntohs(((struct sockaddr_in6 *)&address)->sin6_port));
    }
    if (file && fclose(file) == 0)
        return true;
    fprintf(stderr, "cannot write the ports to %s: %s\n", path, strerror(errno));
    return false;
}

bool server_listen(struct server *server)
{
    bool ok = server->settings.unix_path ? listen_unix(server)
                                         : server->settings.tcp_port == 0 || listen_tcp(server);
    if (ok && server->listener_count == 0) {
        fprintf(stderr, "nothing to listen on: give a port with -p or a Unix socket with -s\n");
        return false;
    }
    return ok && write_port_file(server);
}
