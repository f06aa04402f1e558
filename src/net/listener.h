/* listener.h: a socket that clients connect to, or send datagrams to. */
#ifndef CACHECASK_SRC_NET_LISTENER_H
#define CACHECASK_SRC_NET_LISTENER_H

#include <stdbool.h>

#include "src/net/tls.h"

enum transport {
    TRANSPORT_PLAIN, /* TCP, or a Unix socket */
    TRANSPORT_TLS,
    TRANSPORT_UDP,
};

struct event;
struct main_thread;

struct listener {
    int fd;
    bool is_unix;
    enum transport transport;
    enum tls_clients clients; /* with TRANSPORT_TLS */
    char address[128]; /* "tcp:127.0.0.1:11211", "udp:…", "unix:/path": for logs and stats */

    /* Of the main thread, which accepts. */
    struct event *event;
    struct main_thread *main_thread;
};

#endif
