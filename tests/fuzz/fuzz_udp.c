/* fuzz_udp.c: any bytes as datagrams to the UDP port, each with two bytes of length before it
 * (src/net/udp.c).
 *
 * - Only a whole request frame is answered, and never what begins like an answer: two servers must
 *   not talk to each other.
 * - An answer is addressed by the request's id, its datagrams are numbered from 0 to what they
 *   announce, each but the last is full, and none is longer than it may be.
 * - The next client is served.
 */
#include "tests/fuzz/served.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

#define HEADER        8
#define DATAGRAM_MAX  1400
#define COMPLETE_MAX  50 /* datagrams that surely fit into our socket's buffer */
#define DATAGRAMS_MAX 64 /* of an input */
#define LENGTH_LEN    2
#define PATIENCE_MS   60000

static struct served served;
static int client;
static int nobody; /* a connection without a word: what served_settle waits for */

static void drain(void)
{
    struct summary silence = {0};
    FUZZ_CHECK(!served_settle(&served, nobody, &silence) && silence.len == 0);
    summary_release(&silence);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const options[] = {
        "-t1", "-m8", "-I8k", "--disk-limit=8m", "--sync=none", "--segment-size=128k", NULL};
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    (void)argc;
    (void)argv;
    served_start(&served, options, true);
    nobody = served_connect(&served);
    int fd = served.main_thread.server.listeners[1].fd;
    FUZZ_CHECK(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    client = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    FUZZ_CHECK(client >= 0 && connect(client, (struct sockaddr *)&address, len) == 0);
    return 0;
}

static uint16_t number_at(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static bool may_be_answered(const uint8_t *datagram, size_t len)
{
    if (len <= HEADER || number_at(datagram + 2) != 0 || number_at(datagram + 4) != 1)
        return false;
    uint8_t first = datagram[HEADER];
    return !(first >= 'A' && first <= 'Z') && !(first >= '0' && first <= '9') && first != 0x81;
}

/* An answer as it comes in. */
struct message {
    uint32_t next, total; /* 0: the next datagram begins a message */
    uint32_t count;       /* datagrams, of all messages */
};

static void check_datagram(struct message *message, const uint8_t *datagram, size_t len,
                           const uint8_t *request)
{
    FUZZ_CHECK(len > HEADER && len <= DATAGRAM_MAX);
    FUZZ_CHECK(memcmp(datagram, request, 2) == 0 && number_at(datagram + 6) == 0);
    uint32_t sequence = number_at(datagram + 2), total = number_at(datagram + 4);
    FUZZ_CHECK(sequence < total);
    FUZZ_CHECK(sequence == total - 1 || len == DATAGRAM_MAX);
    if (message->count++ > COMPLETE_MAX)
        return; /* what follows may have been lost */
    FUZZ_CHECK(sequence == message->next);
    FUZZ_CHECK(message->next == 0 || total == message->total);
    message->total = total;
    message->next = sequence + 1 == total ? 0 : sequence + 1;
}

/* Reads all that has come; `request` is what it must be an answer to. */
static void receive(struct message *message, const uint8_t *request, size_t request_len)
{
    uint8_t datagram[64 << 10];
    for (ssize_t got; (got = recv(client, datagram, sizeof datagram, 0)) >= 0;) {
        FUZZ_CHECK(may_be_answered(request, request_len));
        check_datagram(message, datagram, (size_t)got, request);
    }
}

static void exchange(const uint8_t *datagram, size_t len)
{
    struct message message = {0};
    ssize_t sent = send(client, datagram, len, 0);
    FUZZ_CHECK(sent == (ssize_t)len || (sent < 0 && errno == EMSGSIZE));
    drain();
    receive(&message, datagram, len);
    FUZZ_CHECK(message.next == 0 || message.count > COMPLETE_MAX);
}

/* Checks that it still serves, and that nothing is left of earlier requests. */
static void check_served(void)
{
    static const uint8_t request[] = "\x12\x34\0\0\0\1\0\0flush_all\r\nget k\r\n";
    static const char wanted[] = "OK\r\nEND\r\n";
    char answer[64];
    uint8_t datagram[DATAGRAM_MAX];
    size_t len = 0;
    struct message message = {0};
    served_tick(&served);
    FUZZ_CHECK(send(client, request, sizeof request - 1, 0) == sizeof request - 1);
    while (len < sizeof wanted - 1) {
        struct pollfd readable = {.fd = client, .events = POLLIN};
        drain();
        FUZZ_CHECK(poll(&readable, 1, PATIENCE_MS) == 1);
        ssize_t got = recv(client, datagram, sizeof datagram, 0);
        FUZZ_CHECK(got > HEADER && len + (size_t)got <= sizeof answer);
        check_datagram(&message, datagram, (size_t)got, request);
        memcpy(answer + len, datagram + HEADER, (size_t)got - HEADER);
        len += (size_t)got - HEADER;
    }
    FUZZ_CHECK(len == sizeof wanted - 1 && memcmp(answer, wanted, len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_take_choice(bytes, &len); /* there is nothing to choose; but all inputs have it */
    for (int i = 0; len >= LENGTH_LEN && i < DATAGRAMS_MAX; i++) {
        size_t wanted = number_at(bytes), left = len - LENGTH_LEN;
        size_t datagram_len = wanted < left ? wanted : left;
        exchange(bytes + LENGTH_LEN, datagram_len);
        bytes += LENGTH_LEN + datagram_len;
        len = left - datagram_len;
    }
    check_served();
    return 0;
}
