/* tls.h: TLS for connections, by OpenSSL. See tls.c; where it is not built in, tls_absent.c stands
 * in its place. */
#ifndef CACHECASK_SRC_NET_TLS_H
#define CACHECASK_SRC_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct settings;
struct tls;        /* of the server: certificates, key, what is accepted */
struct tls_stream; /* of one connection */

#define TLS_ERROR_MAX 512

/* Whether a client must show a certificate. */
enum tls_clients {
    TLS_CLIENTS_AS_SET, /* what ssl_verify_mode says */
    TLS_CLIENTS_ANY,
    TLS_CLIENTS_CERTIFIED,
};

bool tls_is_built_in(void);

/* Loads what the settings name; they stay the caller's, and must stay. NULL: *error tells why. */
struct tls *tls_new(const struct settings *settings, char error[TLS_ERROR_MAX]);
void tls_free(struct tls *tls);

/* Reads the files again, for connections that come from now on. False: nothing has changed, and
 * *error tells why. Any thread. */
bool tls_reload(struct tls *tls, char error[TLS_ERROR_MAX]);

/* Whether clients can be asked for certificates: there is something to check them against. */
bool tls_knows_clients(const struct tls *tls);

/* Sessions that a client may resume, begun so far; and the age of what was loaded last. Any
 * thread. */
uint64_t tls_new_sessions(const struct tls *tls);
uint64_t tls_age_s(const struct tls *tls);

/* The server's side of a connection on a socket that does not block. The handshake is done by the
 * first receives. NULL: no memory. */
struct tls_stream *tls_stream_new(struct tls *tls, int fd, enum tls_clients clients);

/* Says good-bye to the client if it can be said at once. The socket stays open. */
void tls_stream_free(struct tls_stream *stream);

/* Like recv and sendmsg: bytes, 0 at the end, or -1 with errno: EAGAIN, or EPROTO when the stream
 * is broken. After an EAGAIN of tls_send the same bytes must be sent again. */
ssize_t tls_receive(struct tls_stream *stream, char *to, size_t room);
ssize_t tls_send(struct tls_stream *stream, const struct iovec *parts, size_t count);

/* The handshake is done. */
bool tls_is_ready(const struct tls_stream *stream);

/* There are bytes that have left the socket and were not received: no event will tell of them. */
bool tls_holds_input(const struct tls_stream *stream);

/* What the last EAGAIN waits for, when it is not what one would think. */
bool tls_receive_wants_write(const struct tls_stream *stream);
bool tls_send_wants_read(const struct tls_stream *stream);

/* Why the last EPROTO. */
const char *tls_reason(const struct tls_stream *stream);

#endif
