/* tls.h: TLS for connections, by OpenSSL. See tls.c; tls_absent.c takes its place in builds without
 * it. */
#ifndef CACHECASK_SRC_NET_TLS_H
#define CACHECASK_SRC_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct settings;
struct ssl_st;
struct tls; /* of the server: certificates, key, what is accepted */

#define TLS_ERROR_MAX 512

/* Whether a client must show a certificate. */
enum tls_clients {
    TLS_CLIENTS_AS_SET, /* what ssl_verify_mode says */
    TLS_CLIENTS_ANY,
    TLS_CLIENTS_CERTIFIED,
};

bool tls_is_built_in(void);

/* Loads what the settings name; they must outlive it. NULL: *error says why. */
struct tls *tls_new(const struct settings *settings, char error[TLS_ERROR_MAX]);
void tls_free(struct tls *tls);

/* Reads the files again, for new connections. False: nothing has changed, and *error says why. Any
 * thread. */
bool tls_reload(struct tls *tls, char error[TLS_ERROR_MAX]);

/* Resumable sessions begun so far, and the age of what was loaded last. Any thread. */
uint64_t tls_new_sessions(const struct tls *tls);
uint64_t tls_age_s(const struct tls *tls);

/* The server's side of a connection. */
struct tls_stream {
    /* What the last receive has found. */
    bool is_ready;    /* the handshake is done */
    bool holds_input; /* bytes have left the socket and were not received: no event tells of them */
    bool receive_wants_write; /* its EAGAIN waits for the other direction */
    bool send_wants_read;     /* likewise that of the last send */
    char reason[120];         /* of the last EPROTO */

    /* For tls.c. */
    struct ssl_st *ssl;
    size_t gather_max;
    size_t room; /* bytes that this receive may still take from the socket */
    bool broken; /* not even a good-bye can be said */
};

/* On a socket that does not block. The handshake is done by the first receives. NULL: no memory. */
struct tls_stream *tls_stream_new(struct tls *tls, int fd, enum tls_clients clients);

/* Says good-bye to the client if it can be said at once. The socket stays open. */
void tls_stream_free(struct tls_stream *stream);

/* Like recv and sendmsg: bytes, 0 at the end, or -1 with errno: EAGAIN, or EPROTO when the stream
 * is broken. After an EAGAIN of tls_send the same bytes must be sent again. */
ssize_t tls_receive(struct tls_stream *stream, char *to, size_t room);
ssize_t tls_send(struct tls_stream *stream, const struct iovec *parts, size_t count);

#endif
