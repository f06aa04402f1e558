/* address.h: socket addresses as memcached writes them. */
#ifndef CACHECASK_SRC_BASE_ADDRESS_H
#define CACHECASK_SRC_BASE_ADDRESS_H

#include <stddef.h>
#include <sys/socket.h>

/* "tcp:127.0.0.1:11211", "tcp6:[::1]:11211", "unix:/path" */
void address_format(const struct sockaddr *address, socklen_t len, char *out, size_t size);

#endif
