/* udp.h: requests and answers in datagrams. See udp.c. */
#ifndef CACHECASK_SRC_NET_UDP_H
#define CACHECASK_SRC_NET_UDP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "src/net/conn.h"

/* What a connection of TRANSPORT_UDP remembers of the datagram that it answers. NULL: no memory. */
struct udp *udp_new(void);
void udp_free(struct udp *udp);

/* As conn_receive: the requests of one datagram are what there is to parse. */
enum conn_received udp_receive(struct conn *conn);

/* Bytes of all answers to one datagram, without headers: its alleged sender gets no more. Enough
 * for an item of 1 MiB (-I) and as much of others. */
#define UDP_ANSWER_MAX (2 << 20)

/* As conn_defer: the answers of this round become conn->pending, one piece for each datagram, sent
 * by udp_send. An answer that is not whole is held back until it is. */
bool udp_defer(struct conn *conn, struct piece *pieces, uint32_t count);
ssize_t udp_send(const struct conn *conn, const struct iovec *datagram);

/* Drops the rest of this datagram, where another connection would be closed. */
void udp_give_up(struct conn *conn);

#endif
