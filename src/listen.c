/* listen.c: from -p, -U, -l and -s to listening sockets. */
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

#include "src/base/address.h"
#include "src/base/refuse.h"
#include "src/base/replace_file.h"
#include "src/base/text.h"
#include "src/process.h"
#include "src/server.h"

#define UDP_ROOM (1 << 20) /* bytes of datagrams that may wait in a socket */

/* One word of -l, or what -p and -U say without it. */
struct endpoint {
    const char *host; /* NULL: all addresses */
    const char *port;
    enum transport transport;
    enum tls_clients clients;
    bool optional; /* the machine need not have this address */
};

static bool add_listener(struct server *server, int fd, const struct listener *kind)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    if (server->listener_count == SERVER_LISTENERS_MAX) {
        refuse("more than %d addresses to listen on: name fewer with -l", SERVER_LISTENERS_MAX);
        close(fd);
        errno = E2BIG;
        return false;
    }

    struct listener *listener = &server->listeners[server->listener_count++];
    *listener = *kind;
    listener->fd = fd;
    getsockname(fd, (struct sockaddr *)&address, &len);
    address_format((struct sockaddr *)&address, len, listener->address, sizeof listener->address);
    if (listener->transport == TRANSPORT_UDP)
        memcpy(listener->address, "udp", 3); /* instead of tcp */
    return true;
}

static bool open_port(const struct server *server, int fd, const struct addrinfo *info)
{
    int one = 1, room = UDP_ROOM;
    if (info->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (info->ai_socktype == SOCK_DGRAM) {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
        return bind(fd, info->ai_addr, info->ai_addrlen) == 0;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    return bind(fd, info->ai_addr, info->ai_addrlen) == 0 &&
           listen(fd, server->settings.backlog) == 0;
}

/* False with errno. */
static bool bind_one(struct server *server, const struct endpoint *endpoint,
                     const struct addrinfo *info)
{
    const struct listener kind = {.transport = endpoint->transport, .clients = endpoint->clients};
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                    info->ai_protocol);
    if (fd < 0)
        return false;
    if (open_port(server, fd, info))
        return add_listener(server, fd, &kind);
    int error = errno;
    close(fd);
    errno = error;
    return false;
}

static bool is_missing(int error)
{
    return error == EAFNOSUPPORT || error == EADDRNOTAVAIL;
}

/* Listens on those addresses of a name that this machine has. False with errno. */
static bool bind_all(struct server *server, const struct endpoint *endpoint,
                     const struct addrinfo *all)
{
    bool any = endpoint->optional;
    for (const struct addrinfo *info = all; info; info = info->ai_next) {
        bool ok = bind_one(server, endpoint, info);
        if (!ok && !is_missing(errno))
            return false;
        any = any || ok;
    }
    return any;
}

static void report_error(const struct endpoint *endpoint, int error)
{
    const char *hint = "", *option = "";
    if (is_missing(error))
        hint = ". This machine has no such address: name another with -l";
    if (error == EADDRINUSE)
        hint = ". Is another server running there? Name another port with ";
    if (error == EACCES)
        hint = ". Ports below 1024 are root's. Name another port with ";
    if (error == EADDRINUSE || error == EACCES)
        option = endpoint->transport == TRANSPORT_UDP ? "-U" : "-p";

    refuse("cannot listen on %s:%s: %s%s%s", endpoint->host ? endpoint->host : "*", endpoint->port,
           strerror(error), hint, option);
}

static bool listen_on(struct server *server, const struct endpoint *endpoint)
{
    const char *host = endpoint->host, *port = endpoint->port;
    struct addrinfo hints = {
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
        .ai_family = AF_UNSPEC,
        .ai_socktype = endpoint->transport == TRANSPORT_UDP ? SOCK_DGRAM : SOCK_STREAM,
    };
    struct addrinfo *all;
    int error = getaddrinfo(host, port, &hints, &all);
    if (error)
        return endpoint->optional ||
               refuse("cannot listen on %s:%s: %s", host ? host : "*", port, gai_strerror(error));

    bool ok = bind_all(server, endpoint, all);
    if (!ok)
        report_error(endpoint, errno);
    freeaddrinfo(all);
    return ok;
}

/* Reads the prefix of an address, which says whether TLS is spoken there. Returns the address. */
static char *read_prefix(char *word, struct endpoint *endpoint)
{
    static const struct {
        const char *prefix;
        enum transport transport;
        enum tls_clients clients;
    } prefixes[] = {
        {"notls:", TRANSPORT_PLAIN, TLS_CLIENTS_AS_SET},
        {"btls:", TRANSPORT_TLS, TLS_CLIENTS_ANY},
        {"mtls:", TRANSPORT_TLS, TLS_CLIENTS_CERTIFIED},
    };

    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t len = strlen(prefixes[i].prefix);
        if (strncmp(word, prefixes[i].prefix, len) != 0)
            continue;

        if (endpoint->transport != TRANSPORT_UDP) {
            endpoint->transport = prefixes[i].transport;
            endpoint->clients = prefixes[i].clients;
        }
        return word + len;
    }
    return word;
}

static bool is_port(const char *text)
{
    size_t len = strspn(text, "0123456789");
    return len > 0 && len <= 5 && text[len] == '\0' && atoi(text) <= 65535;
}

/* Reads host, host:port, [v6], [v6]:port or a bare v6 address. Cuts `word` where the host ends. */
static bool read_address(char *word, struct endpoint *endpoint)
{
    char *colon = strrchr(word, ':');
    char *close = strrchr(word, ']');
    if (word[0] == '[' && close) {
        *close = '\0';
        word++;
        colon = close[1] ? close + 1 : NULL;
        if (colon && *colon != ':')
            return false;
    } else if (colon && strchr(word, ':') != colon) {
        colon = NULL; /* there are several, and they belong to the address */
    }

    if (colon) {
        *colon = '\0';
        endpoint->port = colon + 1;
    }
    endpoint->host = strcmp(word, "*") == 0 ? NULL : word;
    return *word && is_port(endpoint->port);
}

static bool can_speak(const struct server *server, const struct endpoint *endpoint,
                      const char *word)
{
    if (endpoint->transport != TRANSPORT_TLS)
        return true;
    if (!server->tls)
        return refuse("-l %s: TLS needs -Z", word);
    return endpoint->clients != TLS_CLIENTS_CERTIFIED || server->settings.ssl_ca_cert ||
           refuse("-l %s: no client's certificate is accepted without -o ssl_ca_cert=FILE", word);
}

static char *copy_list(const char *list)
{
    char *copy = strdup(list);
    if (!copy)
        refuse("not enough memory to listen on %s: free some and start again", list);
    return copy;
}

static bool listen_word(struct server *server, char *word, struct endpoint endpoint)
{
    char *given = copy_list(word);
    if (!given)
        return false;
    bool ok = (read_address(read_prefix(word, &endpoint), &endpoint) ||
               refuse("-l: \"%s\" is no address to listen on; see --help", given)) &&
              can_speak(server, &endpoint, given) && listen_on(server, &endpoint);
    free(given);
    return ok;
}

static bool listen_list(struct server *server, const char *list, const struct endpoint *endpoint)
{
    char *copy = copy_list(list), *rest = copy, *word;
    bool ok = copy != NULL;
    while (ok && (word = strsep(&rest, ",; ")))
        if (*word)
            ok = listen_word(server, word, *endpoint);
    free(copy);
    return ok;
}

/* On loopback, IPv4 and IPv6 as far as the machine has them. */
static bool listen_default(struct server *server, const struct endpoint *endpoint, bool any_port)
{
    struct endpoint v4 = *endpoint, v6 = *endpoint;
    int before = server->listener_count;
    if (server->settings.is_memcached)
        return listen_on(server, endpoint);

    v4.host = "127.0.0.1";
    v6.host = "::1";
    v4.optional = v6.optional = true;
    if (!listen_on(server, &v4))
        return false;
    bool enough = any_port && server->listener_count > before;
    if (!enough && !listen_on(server, &v6))
        return false;
    return server->listener_count > before ||
           refuse("cannot listen on loopback: this machine has neither 127.0.0.1 nor ::1. Bring it "
                  "up (ip link set lo up), or name an address with -l");
}

/* Listens on a port of each address. `number` is that of -p or -U: 0 is none, -1 any free one. */
static bool listen_ports(struct server *server, int number, enum transport transport)
{
    const struct settings *settings = &server->settings;
    char port[16];
    struct endpoint endpoint = {.port = port, .transport = transport};
    if (number == 0)
        return true;

    snprintf(port, sizeof port, "%d", number < 0 ? 0 : number);
    for (int i = 0; i < settings->listen_count; i++)
        if (!listen_list(server, settings->listen[i], &endpoint))
            return false;
    return settings->listen_count || listen_default(server, &endpoint, number < 0);
}

static bool listen_network(struct server *server)
{
    enum transport tcp = server->tls ? TRANSPORT_TLS : TRANSPORT_PLAIN;
    return listen_ports(server, server->settings.tcp_port, tcp) &&
           listen_ports(server, server->settings.udp_port, TRANSPORT_UDP);
}

/* The socket of a dead server refuses connections. One that we may not connect to is in use. */
static bool is_left_behind(const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(address->sun_path, &status) < 0 || !S_ISSOCK(status.st_mode))
        return false;

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool yes = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 &&
               errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return yes;
}

/* With the rights of the user that serves: the socket belongs to that user, and must be where that
 * user may make it. False with errno. */
static bool bind_unix(const struct server *server, int fd, const struct sockaddr_un *address)
{
    if (is_left_behind(address))
        unlink(address->sun_path);

    mode_t mask = umask((mode_t)(0777 & ~server->settings.unix_mask));
    bool ok = bind(fd, (const struct sockaddr *)address, sizeof *address) == 0 &&
              listen(fd, server->settings.backlog) == 0;
    umask(mask);
    return ok;
}

static void report_unix_error(const char *path)
{
    const char *hint = "";
    if (errno == EADDRINUSE)
        hint = ": another server listens there, or it is no socket. Name another path with -s";
    if (errno == EACCES || errno == EPERM)
        hint = ". Its directory must be writable for the user that serves";
    refuse("cannot listen on the Unix socket %s: %s%s", path, strerror(errno), hint);
}

static bool listen_unix(struct server *server)
{
    const char *path = server->settings.unix_path;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return refuse("-s: the path %s is too long for a Unix socket: choose one of less than %zu "
                      "bytes",
                      path, sizeof address.sun_path);

    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind_unix(server, fd, &address)) {
        const struct listener kind = {.is_unix = true, .transport = TRANSPORT_PLAIN};
        return add_listener(server, fd, &kind);
    }

    report_unix_error(path);
    if (fd >= 0)
        close(fd);
    return false;
}

static void add_port(struct text *text, const struct listener *listener)
{
    const char *protocol = listener->transport == TRANSPORT_UDP ? "UDP" : "TCP";
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    getsockname(listener->fd, (struct sockaddr *)&address, &len);
    if (address.ss_family == AF_INET)
        text_add(text, "%s INET: %u\n", protocol,
                 ntohs(((struct sockaddr_in *)&address)->sin_port));
    if (address.ss_family == AF_INET6)
        text_add(text, "%s INET6: %u\n", protocol,
                 ntohs(((struct sockaddr_in6 *)&address)->sin6_port));
}

/* For a program that has started us with -p -1: a line for each address. */
static bool write_port_file(const struct server *server)
{
    const char *path = getenv("MEMCACHED_PORT_FILENAME");
    struct text ports = {0};
    if (!path)
        return true;

    for (int i = 0; i < server->listener_count; i++)
        add_port(&ports, &server->listeners[i]);
    bool ok = (!ports.failed && replace_file(path, ports.data ? ports.data : "")) ||
              refuse("cannot write the ports to %s: %s. Its directory must be writable for the "
                     "user that serves",
                     path, strerror(errno));
    free(ports.data);
    return ok;
}

/* Makes two files: the Unix socket and the list of ports. */
static bool listen_and_tell(struct server *server)
{
    if (!(server->settings.unix_path ? listen_unix(server) : listen_network(server)))
        return false;
    if (server->listener_count == 0)
        return refuse("nothing to listen on: give a port with -p or a Unix socket with -s");
    return write_port_file(server);
}

/* Ports below 1024 need root's rights, if we have them; files are made with the user's. */
bool server_listen(struct server *server)
{
    if (!process_begin_as_user(&server->settings))
        return false;
    bool ok = listen_and_tell(server);
    process_end_as_user();
    return ok;
}
