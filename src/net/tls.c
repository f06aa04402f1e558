/* tls.c: TLS for connections: all that knows OpenSSL.
 *
 * What is loaded (certificates, key, who is trusted) is an SSL_CTX that never changes. A reload
 * makes a new one from the files and puts it in the old one's place if all of it is good;
 * connections under way keep the old one until they end. So sessions begun before a reload are not
 * resumed after it, and what a new file forbids is forbidden at once.
 *
 * The workers drive the streams: sockets never block, a handshake goes on with each receive, and an
 * operation that must wait says for what. Records are filled as far as possible: short pieces of an
 * answer are gathered into one, long ones are taken from where they lie. OpenSSL may keep bytes of
 * a record that the socket did not take, and wants to be offered the same bytes again: what is
 * gathered depends only on what is still to be sent, so they are the same.
 */
#define _GNU_SOURCE
#include "src/net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "src/config/settings.h"

#define RECORD_MAX   (16 << 10) /* bytes in one record */
#define INPUT_MAX    (32 << 10) /* bytes that a receive takes from the socket, about */
#define SESSIONS_MAX 2048       /* remembered for clients that cannot keep a ticket */

struct tls {
    const struct settings *settings;
    size_t gather_max;
    pthread_mutex_t lock;
    SSL_CTX *context;          /* under the lock: of new connections */
    _Atomic uint64_t loaded_s; /* monotonic */
    _Atomic uint64_t new_sessions;
};

bool tls_is_built_in(void)
{
    return true;
}

static uint64_t now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

/* OpenSSL's complaint, in memcached's form. */
static bool failed(char error[TLS_ERROR_MAX], const char *what, const char *which)
{
    char reason[256];
    ERR_error_string_n(ERR_peek_last_error(), reason, sizeof reason);
    snprintf(error, TLS_ERROR_MAX, "%s: %.200s : %s", what, which ? which : "(none)", reason);
    ERR_clear_error();
    return false;
}

/* A key with a password is refused: nobody is there to type it. */
static int no_password(char *to, int room, int writing, void *context)
{
    (void)to, (void)room, (void)writing, (void)context;
    return -1;
}

static bool load_certificate(SSL_CTX *context, const struct settings *settings,
                             char error[TLS_ERROR_MAX])
{
    const char *chain = settings->ssl_chain_cert;
    const char *key = settings->ssl_key ? settings->ssl_key : chain;
    int form = settings->ssl_keyformat == SSL_KEYFORMAT_DER ? SSL_FILETYPE_ASN1 : SSL_FILETYPE_PEM;
    if (!chain) {
        snprintf(error, TLS_ERROR_MAX,
                 "-Z: no certificate is named: -o ssl_chain_cert=FILE,ssl_key=FILE");
        return false;
    }
    if (SSL_CTX_use_certificate_chain_file(context, chain) != 1)
        return failed(error, "Error loading the certificate chain", chain);
    if (SSL_CTX_use_PrivateKey_file(context, key, form) != 1)
        return failed(error, "Error loading the key", key);
    if (SSL_CTX_check_private_key(context) != 1)
        return failed(error, "Error validating the certificate", chain);
    return true;
}

static bool load_clients(SSL_CTX *context, const struct settings *settings,
                         char error[TLS_ERROR_MAX])
{
    static const int modes[] = {
        [0] = SSL_VERIFY_NONE,
        [1] = SSL_VERIFY_PEER,
        [2] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
        [3] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT | SSL_VERIFY_CLIENT_ONCE,
    };
    const char *path = settings->ssl_ca_cert;
    SSL_CTX_set_verify(context, modes[settings->ssl_verify_mode], NULL);
    if (!path) {
        if (settings->ssl_verify_mode < SSL_VERIFY_REQUIRED)
            return true;
        snprintf(error, TLS_ERROR_MAX,
                 "-o ssl_verify_mode=%d: nobody's certificate is accepted without ssl_ca_cert=FILE",
                 settings->ssl_verify_mode);
        return false;
    }
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(path);
    if (!names || SSL_CTX_load_verify_locations(context, path, NULL) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return failed(error, "Error loading the client CA cert", path);
    }
    SSL_CTX_set_client_CA_list(context, names);
    return true;
}

/* Called for each session that a client may resume. */
static int count_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    (void)session;
    atomic_fetch_add(&tls->new_sessions, 1);
    return 0; /* the session is not kept here */
}

static void choose_sessions(struct tls *tls, SSL_CTX *context)
{
    static const unsigned char id[] = "cachecask";
    if (tls->settings->ssl_session_cache) {
        SSL_CTX_set_session_id_context(context, id, sizeof id - 1);
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_SERVER);
        SSL_CTX_sess_set_cache_size(context, SESSIONS_MAX);
        SSL_CTX_sess_set_new_cb(context, count_session);
        return;
    }
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(context, 0);
}

static bool set_up(struct tls *tls, SSL_CTX *context, char error[TLS_ERROR_MAX])
{
    static const int versions[] = {TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION};
    const struct settings *settings = tls->settings;
    SSL_CTX_set_app_data(context, tls);
    SSL_CTX_set_min_proto_version(context, versions[settings->ssl_min_version]);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_IGNORE_UNEXPECTED_EOF |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE);
    if (settings->ssl_kernel_tls)
        SSL_CTX_set_options(context, SSL_OP_ENABLE_KTLS);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_passwd_cb(context, no_password);
    choose_sessions(tls, context);
    if (settings->ssl_ciphers && SSL_CTX_set_cipher_list(context, settings->ssl_ciphers) != 1)
        return failed(error, "Error setting the provided cipher(s)", settings->ssl_ciphers);
    return load_certificate(context, settings, error) && load_clients(context, settings, error);
}

bool tls_reload(struct tls *tls, char error[TLS_ERROR_MAX])
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context)
        return failed(error, "Error creating the TLS context", NULL);
    if (!set_up(tls, context, error)) {
        SSL_CTX_free(context);
        return false;
    }
    pthread_mutex_lock(&tls->lock);
    SSL_CTX *old = tls->context;
    tls->context = context;
    pthread_mutex_unlock(&tls->lock);
    SSL_CTX_free(old);
    atomic_store(&tls->loaded_s, now_s());
    return true;
}

struct tls *tls_new(const struct settings *settings, char error[TLS_ERROR_MAX])
{
    struct tls *tls = calloc(1, sizeof *tls);
    if (!tls) {
        snprintf(error, TLS_ERROR_MAX, "no memory for TLS");
        return NULL;
    }
    tls->settings = settings;
    tls->gather_max = (size_t)settings->ssl_wbuf_size << 10;
    if (tls->gather_max > RECORD_MAX)
        tls->gather_max = RECORD_MAX;
    pthread_mutex_init(&tls->lock, NULL);
    if (tls_reload(tls, error))
        return tls;
    tls_free(tls);
    return NULL;
}

void tls_free(struct tls *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->context);
    pthread_mutex_destroy(&tls->lock);
    free(tls);
}

uint64_t tls_new_sessions(const struct tls *tls)
{
    return atomic_load(&tls->new_sessions);
}

uint64_t tls_age_s(const struct tls *tls)
{
    return now_s() - atomic_load(&tls->loaded_s);
}

/* Streams. */

static SSL *new_ssl(struct tls *tls)
{
    pthread_mutex_lock(&tls->lock);
    SSL *ssl = SSL_new(tls->context); /* holds the context */
    pthread_mutex_unlock(&tls->lock);
    return ssl;
}

/* Around each read of the socket. Records that carry nothing, like requests for a new key, OpenSSL
 * takes for as long as there are some: when it has had INPUT_MAX bytes, it is told that the socket
 * is empty, and others have their turn. What it holds then is no whole record, so the socket's next
 * event is all that is to be waited for. */
static long on_socket(BIO *socket, int operation, const char *data, size_t len, int argi, long argl,
                      int result, size_t *moved)
{
    struct tls_stream *stream = (struct tls_stream *)BIO_get_callback_arg(socket);
    (void)data, (void)len, (void)argi, (void)argl;
    if (operation == (BIO_CB_READ | BIO_CB_RETURN) && result > 0)
        stream->room -= *moved < stream->room ? *moved : stream->room;
    if (operation != BIO_CB_READ || stream->room > 0)
        return result;
    BIO_set_retry_read(socket);
    return -1;
}

struct tls_stream *tls_stream_new(struct tls *tls, int fd, enum tls_clients clients)
{
    struct tls_stream *stream = calloc(1, sizeof *stream);
    SSL *ssl = stream ? new_ssl(tls) : NULL;
    if (!ssl || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        free(stream);
        return NULL;
    }
    if (clients == TLS_CLIENTS_ANY)
        SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    else if (clients == TLS_CLIENTS_CERTIFIED)
        SSL_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_set_accept_state(ssl);
    BIO_set_callback_ex(SSL_get_rbio(ssl), on_socket);
    BIO_set_callback_arg(SSL_get_rbio(ssl), (char *)stream);
    stream->room = INPUT_MAX;
    stream->ssl = ssl;
    stream->gather_max = tls->gather_max;
    return stream;
}

void tls_stream_free(struct tls_stream *stream)
{
    if (!stream)
        return;
    ERR_clear_error();
    if (!stream->broken && SSL_is_init_finished(stream->ssl))
        SSL_shutdown(stream->ssl);
    ERR_clear_error();
    SSL_free(stream->ssl);
    free(stream);
}

/* The result of an operation that moved nothing. Sets *wants_other when it waits for the other
 * direction. */
static ssize_t nothing(struct tls_stream *stream, int result, int usual, bool *wants_other)
{
    int why = SSL_get_error(stream->ssl, result);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        *wants_other = why != usual;
        errno = EAGAIN;
        return -1;
    }
    if (why == SSL_ERROR_ZERO_RETURN)
        return 0;
    stream->broken = true;
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    snprintf(stream->reason, sizeof stream->reason, "%s", reason ? reason : "connection lost");
    ERR_clear_error();
    errno = EPROTO;
    return -1;
}

ssize_t tls_receive(struct tls_stream *stream, char *to, size_t room)
{
    size_t got = 0, part = 0;
    int result = 1;
    stream->holds_input = stream->receive_wants_write = false;
    stream->room = INPUT_MAX;
    ERR_clear_error();
    while (got < room && (result = SSL_read_ex(stream->ssl, to + got, room - got, &part)) == 1)
        got += part;
    stream->is_ready = SSL_is_init_finished(stream->ssl);
    if (got == 0)
        return nothing(stream, result, SSL_ERROR_WANT_READ, &stream->receive_wants_write);
    /* What ended it, if it was not the socket, is told by the next receive. */
    stream->holds_input = result == 1 ? SSL_has_pending(stream->ssl)
                                      : SSL_get_error(stream->ssl, result) != SSL_ERROR_WANT_READ;
    return (ssize_t)got;
}

static size_t gather(char *to, size_t room, const struct iovec *parts, size_t count)
{
    size_t len = 0;
    for (size_t i = 0; i < count && len < room; i++) {
        size_t part = parts[i].iov_len < room - len ? parts[i].iov_len : room - len;
        memcpy(to + len, parts[i].iov_base, part);
        len += part;
    }
    return len;
}

ssize_t tls_send(struct tls_stream *stream, const struct iovec *parts, size_t count)
{
    char record[RECORD_MAX];
    const char *data = parts[0].iov_base;
    size_t len = parts[0].iov_len, sent = 0;
    if (count > 1 && len < stream->gather_max) {
        len = gather(record, stream->gather_max, parts, count);
        data = record;
    }
    /* A send waits for input only in a handshake. The first one is over before there is something
     * to send, TLS 1.3 has no other, and SSL_OP_NO_RENEGOTIATION leaves TLS 1.2 none: so no test
     * gets there, and this stands for what OpenSSL may come to want. The other way round is usual:
     * the answer to a client's KeyUpdate is sent by a receive. */
    stream->send_wants_read = false;
    ERR_clear_error();
    int result = SSL_write_ex(stream->ssl, data, len, &sent);
    if (result == 1)
        return (ssize_t)sent;
    return nothing(stream, result, SSL_ERROR_WANT_WRITE, &stream->send_wants_read);
}
