/* endpoint.c: addresses and connections. */
#include "bench/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_S 5

static int try_to_connect(const struct endpoint *endpoint)
{
    const struct timeval timeout = {.tv_sec = CONNECT_TIMEOUT_S};
    const int on = 1;
    int fd = socket(endpoint->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    /* A blocking connect keeps to the timeout of sends. */
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    if (endpoint->address.ss_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)&endpoint->address, endpoint->address_len) != 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        int error = errno == EINPROGRESS || errno == EAGAIN ? ETIMEDOUT : errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* The end of an earlier phase's ring (sender.h) interrupts whatever the process does then. */
int endpoint_connect(const struct endpoint *endpoint)
{
    int fd;

    do
        fd = try_to_connect(endpoint);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static bool answers(const struct endpoint *endpoint)
{
    int fd = endpoint_connect(endpoint);

    if (fd < 0)
        return false;
    close(fd);
    return true;
}

static bool cannot_connect(const struct endpoint *endpoint)
{
    fprintf(stderr, "cachecask-bench: cannot connect to %s: %s%s\n", endpoint->name,
            strerror(errno),
            errno == ECONNREFUSED || errno == ENOENT ? " (is the server running?)" : "");
    return false;
}

static bool find_unix(struct endpoint *endpoint, const char *path)
{
    struct sockaddr_un *address = (struct sockaddr_un *)&endpoint->address;

    snprintf(endpoint->name, sizeof endpoint->name, "%s", path);
    if (strlen(path) >= sizeof address->sun_path) {
        fprintf(stderr, "cachecask-bench: the path of a socket has less than %zu bytes: %s\n",
                sizeof address->sun_path, path);
        return false;
    }
    address->sun_family = AF_UNIX;
    strcpy(address->sun_path, path);
    endpoint->address_len = sizeof *address;
    return answers(endpoint) || cannot_connect(endpoint);
}

bool endpoint_find(struct endpoint *endpoint, const char *host, const char *port, const char *path)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    bool connected = false;
    int error;

    memset(endpoint, 0, sizeof *endpoint);
    if (path)
        return find_unix(endpoint, path);
    snprintf(endpoint->name, sizeof endpoint->name, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host,
             port);
    error = getaddrinfo(host, port, &hints, &found);
    if (error != 0) {
        fprintf(stderr, "cachecask-bench: %s: %s\n", endpoint->name, gai_strerror(error));
        return false;
    }
    for (const struct addrinfo *at = found; at && !connected; at = at->ai_next) {
        memcpy(&endpoint->address, at->ai_addr, at->ai_addrlen);
        endpoint->address_len = at->ai_addrlen;
        connected = answers(endpoint);
    }
    if (!connected)
        cannot_connect(endpoint); /* errno is that of the last address */
    freeaddrinfo(found);
    return connected;
}
