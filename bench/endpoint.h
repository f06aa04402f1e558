/* endpoint.h: where the server listens. */
#ifndef CACHECASK_BENCH_ENDPOINT_H
#define CACHECASK_BENCH_ENDPOINT_H

#include <stdbool.h>
#include <sys/socket.h>

struct endpoint {
    struct sockaddr_storage address;
    socklen_t address_len;
    char name[256]; /* for messages: "HOST:PORT" or the path of the socket */
};

/* Finds the address of a TCP server, or of a Unix socket when `path` is not NULL, and proves that
 * a server answers there by connecting once. Sets *endpoint and returns true; otherwise says on
 * standard error what went wrong. */
bool endpoint_find(struct endpoint *endpoint, const char *host, const char *port, const char *path);

/* A new connection, which does not block, or -1 with errno. Gives up after five seconds. */
int endpoint_connect(const struct endpoint *endpoint);

#endif
