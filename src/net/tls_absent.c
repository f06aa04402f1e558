/* tls_absent.c: a server without TLS: tls_new refuses, so nothing else is ever called. */
#define _GNU_SOURCE
#include <stdio.h>

#include "src/net/tls.h"

bool tls_is_built_in(void)
{
    return false;
}

struct tls *tls_new(const struct settings *settings, char error[TLS_ERROR_MAX])
{
    (void)settings;
    snprintf(error, TLS_ERROR_MAX,
             "-Z: this server was built without TLS: configure it with --enable-tls");
    return NULL;
}

void tls_free(struct tls *tls)
{
    (void)tls;
}

bool tls_reload(struct tls *tls, char error[TLS_ERROR_MAX])
{
    (void)tls, (void)error;
    return false;
}

uint64_t tls_new_sessions(const struct tls *tls)
{
    (void)tls;
    return 0;
}

uint64_t tls_age_s(const struct tls *tls)
{
    (void)tls;
    return 0;
}

struct tls_stream *tls_stream_new(struct tls *tls, int fd, enum tls_clients clients)
{
    (void)tls, (void)fd, (void)clients;
    return NULL;
}

void tls_stream_free(struct tls_stream *stream)
{
    (void)stream;
}

ssize_t tls_receive(struct tls_stream *stream, char *to, size_t room)
{
    (void)stream, (void)to, (void)room;
    return -1;
}

ssize_t tls_send(struct tls_stream *stream, const struct iovec *parts, size_t count)
{
    (void)stream, (void)parts, (void)count;
    return -1;
}
