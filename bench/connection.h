/* connection.h: one connection and the batch that it has under way.
 *
 *        connection_start            all replies read
 *     IDLE ───────────▶ BATCH UNDER WAY ───────────▶ IDLE
 *                         │    │                      ▲
 *                         │    │ all read, keys missed, --fill
 *                         │    └──▶ FILLS UNDER WAY ──┘
 *                         │ connection_flush, while the socket is full
 *                         │ connection_receive, whenever it is readable
 *
 * A batch is as many requests as the pipeline is deep, written with one system call where they fit
 * the socket. The latency of each is the time from the batch's start to the read that brought the
 * end of its reply. Neither requests nor replies need to fit a buffer: values are made and checked
 * in pieces. */
#ifndef CACHECASK_BENCH_CONNECTION_H
#define CACHECASK_BENCH_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/codec.h"
#include "bench/sender.h"
#include "bench/tally.h"

/* The longest line of a reply that may be split over two reads. */
#define CONNECTION_CARRY_MAX 2048
#define CONNECTION_READ_SIZE (256 * 1024)

/* What a connection reads into; one for all connections of a thread, so that it stays in cache.
 * Its first CONNECTION_CARRY_MAX bytes are room for what the read before left. */
struct receive_buffer {
    char bytes[CONNECTION_CARRY_MAX + CONNECTION_READ_SIZE];
};

struct connection_options {
    bool verify;       /* compare what gets return */
    bool fill;         /* set what they miss */
    uint32_t pipeline; /* requests of a batch at most, */
    uint32_t multiget; /* and keys of a get */
};

struct connection {
    int fd;       /* -1 once lost */
    bool blocked; /* the socket took no more: call connection_flush when it is writable */
    struct connection_options options;
    const struct codec *codec;
    const struct workload *workload;
    struct tally *tally; /* the thread's */

    /* The batch. The caller fills requests and keys while the connection is idle. */
    struct request *requests;
    uint64_t *keys;
    uint32_t request_count;
    uint32_t encoded;
    uint32_t answered;
    uint64_t start_ns;

    /* What the batch's gets have missed, when that is to be filled. */
    uint64_t *missed;
    uint32_t missed_count;
    bool filling; /* the batch under way is made of sets of them */

    /* Going out: bytes made and not yet sent, then the rest of the value of a set. */
    char *out;
    size_t out_cap;
    size_t out_len;
    size_t out_sent;
    ssize_t sent_ahead; /* what a sender has sent of them, or SENDER_NOT_TRIED */
    uint64_t out_key;
    size_t out_value_at;
    size_t out_value_len;
    bool out_value_open;

    /* Coming in: what is left of a value, whose it is, and the part of a line. */
    size_t in_value_at;
    size_t in_value_len;
    size_t in_value_end; /* bytes still to come of what ends a value */
    uint64_t in_key;
    bool in_check;     /* this value is to be compared */
    bool in_last;      /* its end is the end of the reply */
    uint32_t values;   /* of the request that is being answered */
    uint32_t turns;    /* of its keys, those answered without being named */
    uint32_t next_key; /* of its keys, the first that may still come */
    size_t carry_len;
    char carry[CONNECTION_CARRY_MAX];
};

enum connection_status {
    CONNECTION_OK,
    CONNECTION_LOST /* closed, and counted as an error */
};

/* Takes over fd. Returns false when there is no memory. */
bool connection_init(struct connection *connection, int fd, const struct codec *codec,
                     const struct workload *workload, struct tally *tally,
                     const struct connection_options *options);
void connection_release(struct connection *connection);

/* Makes the bytes of the first `request_count` of connection->requests: before the clock is read,
 * for that is not the server's time. */
void connection_prepare(struct connection *connection, uint32_t request_count);

/* Has them sent together with those of others; connection_begin goes on from there. */
void connection_send_with(struct connection *connection, struct sender *sender);

/* Sends them. Latencies count from `start_ns`. */
enum connection_status connection_begin(struct connection *connection, uint64_t start_ns);

/* Goes on sending; sets connection->blocked. */
enum connection_status connection_flush(struct connection *connection);

/* Reads once and counts what came; begins to send the fills when they are due. Sets *now_ns to the
 * time of the read. */
enum connection_status connection_receive(struct connection *connection,
                                          struct receive_buffer *buffer, uint64_t *now_ns);

static inline bool connection_idle(const struct connection *connection)
{
    return connection->answered == connection->request_count;
}

#endif
