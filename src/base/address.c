#include "src/base/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

void address_format(const struct sockaddr *address, socklen_t len, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "";
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
    switch (address->sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(out, size, "tcp:%s:%u", host, ntohs(v4->sin_port));
        break;
    case AF_INET6:
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(out, size, "tcp6:[%s]:%u", host, ntohs(v6->sin6_port));
        break;
    default: /* a client's end of a Unix socket has no name */
        snprintf(out, size, "unix:%s",
                 len > sizeof(sa_family_t) ? ((const struct sockaddr_un *)address)->sun_path : "");
        break;
    }
}
