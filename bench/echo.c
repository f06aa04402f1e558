/* echo.c: bench-echo, the floor under all servers.
 *
 * It answers in memcached's text protocol with the right number of bytes, and stores nothing: one
 * thread, one epoll, one read and one write a wake-up and connection. What a real server costs
 * above it is what the server itself costs; the rest is the kernel's.
 *
 *     get KEY…                 VALUE k… 0 N, N bytes and END; as many values as keys
 *     set KEY 0 EXPTIME LENGTH STORED, once the value has come
 *     incr, touch, delete      1, TOUCHED, DELETED
 *     anything else            ERROR
 *
 * usage: bench-echo [-l HOST] [-p PORT] [-s VALUE_SIZE] [-k KEY_SIZE]
 */
#define _GNU_SOURCE /* accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE  (256 * 1024)
#define LINE_ROOM  (64 * 1024) /* of a request, such as a get of many keys */
#define EVENTS_MAX 1024
#define KEY_MAX    250

struct client {
    int fd;
    size_t skip; /* what is still to come of the value of a set */
    char *rest;  /* the part of a line that has come; NULL: none */
    size_t rest_len;
    char *unsent; /* replies that the socket did not take; NULL: none */
    size_t unsent_len;
    size_t unsent_at;
};

struct echo {
    int epoll_fd;
    char *value_reply; /* one value with its head */
    size_t value_reply_len;
    char *in; /* LINE_ROOM bytes of room before what is read */
    char *out;
    size_t out_len;
    size_t out_cap;
};

static void die(const char *what)
{
    fprintf(stderr, "bench-echo: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *need(void *memory)
{
    if (!memory)
        die("memory");
    return memory;
}

static void put(struct echo *echo, const char *bytes, size_t len)
{
    if (echo->out_cap - echo->out_len < len) {
        echo->out_cap = 2 * (echo->out_cap + len);
        echo->out = need(realloc(echo->out, echo->out_cap));
    }
    memcpy(echo->out + echo->out_len, bytes, len);
    echo->out_len += len;
}

/* ---- requests ---- */

static void answer_get(struct echo *echo, const char *at, const char *end)
{
    while ((at = memchr(at, ' ', (size_t)(end - at)))) {
        at++;
        put(echo, echo->value_reply, echo->value_reply_len);
    }
    put(echo, "END\r\n", 5);
}

/* The last number of the line: the length of the value that follows. */
static size_t value_length(const char *at, const char *end)
{
    size_t len = 0;

    while (end > at && (end[-1] == '\r' || end[-1] == '\n'))
        end--;
    for (size_t scale = 1; end > at && end[-1] >= '0' && end[-1] <= '9'; scale *= 10)
        len += scale * (size_t)(*--end - '0');
    return len;
}

static void answer(struct echo *echo, struct client *client, const char *at, const char *end)
{
    switch (*at) {
    case 'g': answer_get(echo, at, end); break;
    case 's':
        client->skip = value_length(at, end) + 2;
        put(echo, "STORED\r\n", 8);
        break;
    case 'i': put(echo, "1\r\n", 3); break;
    case 't': put(echo, "TOUCHED\r\n", 9); break;
    case 'd': put(echo, "DELETED\r\n", 9); break;
    default: put(echo, "ERROR\r\n", 7); break;
    }
}

/* Answers all lines; returns where one begins that is not whole. */
static const char *answer_all(struct echo *echo, struct client *client, const char *at,
                              const char *end)
{
    while (at < end) {
        const char *newline;

        if (client->skip > 0) {
            size_t len = client->skip < (size_t)(end - at) ? client->skip : (size_t)(end - at);

            client->skip -= len;
            at += len;
            continue;
        }
        newline = memchr(at, '\n', (size_t)(end - at));
        if (!newline)
            return at;
        answer(echo, client, at, newline + 1);
        at = newline + 1;
    }
    return at;
}

/* ---- connections ---- */

static void watch(struct echo *echo, int operation, struct client *client, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = client};

    if (epoll_ctl(echo->epoll_fd, operation, client->fd, &event) != 0)
        die("epoll_ctl");
}

static void client_free(struct client *client)
{
    close(client->fd);
    free(client->rest);
    free(client->unsent);
    free(client);
}

static void accept_all(struct echo *echo, int listener)
{
    int fd;

    /* A client hangs on its descriptor's event. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *client = need(calloc(1, sizeof *client));
        int on = 1;

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        client->fd = fd;
        watch(echo, EPOLL_CTL_ADD, client, EPOLLIN);
    }
}

/* Sends what there is to send, and reads no more from a client that does not take its replies. */
static bool flush(struct echo *echo, struct client *client, const char *bytes, size_t len)
{
    ssize_t sent = send(client->fd, bytes, len, MSG_NOSIGNAL);

    if (sent < 0 && errno != EAGAIN)
        return false;
    if (sent < 0)
        sent = 0;
    if (bytes == echo->out) {
        if ((size_t)sent == len)
            return true;
        client->unsent_len = len - (size_t)sent;
        client->unsent_at = 0;
        client->unsent = need(malloc(client->unsent_len));
        memcpy(client->unsent, bytes + sent, client->unsent_len);
        watch(echo, EPOLL_CTL_MOD, client, EPOLLOUT);
        return true;
    }
    client->unsent_at += (size_t)sent;
    if (client->unsent_at == client->unsent_len) {
        free(client->unsent);
        client->unsent = NULL;
        watch(echo, EPOLL_CTL_MOD, client, EPOLLIN);
    }
    return true;
}

static bool serve(struct echo *echo, struct client *client)
{
    char *data = echo->in + LINE_ROOM;
    ssize_t got = recv(client->fd, data, READ_SIZE, 0);
    const char *end = data + got;
    const char *at = data - client->rest_len;

    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    if (client->rest_len > 0)
        memcpy(data - client->rest_len, client->rest, client->rest_len);
    echo->out_len = 0;
    at = answer_all(echo, client, at, end);
    client->rest_len = (size_t)(end - at);
    if (client->rest_len > LINE_ROOM)
        return false;
    if (client->rest_len > 0) {
        if (!client->rest)
            client->rest = need(malloc(LINE_ROOM));
        memcpy(client->rest, at, client->rest_len);
    }
    return echo->out_len == 0 || flush(echo, client, echo->out, echo->out_len);
}

static void run(struct echo *echo, int listener)
{
    struct epoll_event events[EVENTS_MAX];

    for (;;) {
        int count = epoll_wait(echo->epoll_fd, events, EVENTS_MAX, -1);

        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            bool alive;

            if (!client) {
                accept_all(echo, listener);
                continue;
            }
            alive = client->unsent ? flush(echo, client, client->unsent + client->unsent_at,
                                           client->unsent_len - client->unsent_at)
                                   : serve(echo, client);
            if (!alive)
                client_free(client);
        }
    }
}

/* ---- start ---- */

static int listen_on(struct echo *echo, const char *host, unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1)
        die(host);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1024) != 0)
        die("listen");
    if (epoll_ctl(echo->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl");
    return fd;
}

static void make_value_reply(struct echo *echo, size_t key_size, size_t value_size)
{
    char key[KEY_MAX + 1] = "";
    int head_len;

    memset(key, 'k', key_size);
    echo->value_reply = need(malloc(value_size + key_size + 64));
    head_len = sprintf(echo->value_reply, "VALUE %s 0 %zu\r\n", key, value_size);
    memset(echo->value_reply + head_len, 'v', value_size);
    memcpy(echo->value_reply + head_len + value_size, "\r\n", 2);
    echo->value_reply_len = (size_t)head_len + value_size + 2;
}

int main(int argc, char **argv)
{
    struct echo echo = {0};
    const char *host = "127.0.0.1";
    size_t value_size = 100;
    size_t key_size = 16;
    unsigned port = 11213;
    int option;

    while ((option = getopt(argc, argv, "l:p:s:k:")) != -1) {
        switch (option) {
        case 'l': host = optarg; break;
        case 'p': port = (unsigned)strtoul(optarg, NULL, 10); break;
        case 's': value_size = strtoul(optarg, NULL, 10); break;
        case 'k': key_size = strtoul(optarg, NULL, 10); break;
        default: return 2;
        }
    }
    if (key_size < 1 || key_size > KEY_MAX || value_size > (1u << 30) || port > 65535) {
        fprintf(stderr, "usage: bench-echo [-l HOST] [-p PORT] [-s VALUE_SIZE] [-k KEY_SIZE]\n");
        return 2;
    }
    make_value_reply(&echo, key_size, value_size);
    echo.in = need(malloc(LINE_ROOM + READ_SIZE));
    echo.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (echo.epoll_fd < 0)
        die("epoll_create1");
    run(&echo, listen_on(&echo, host, port));
    return 0;
}
