/* fuzz_server.c: any bytes as what a client sends, through all of the server: connection, parser,
 * commands, store, log.
 *
 * - Everything that is sent is read, or the connection closed; and when the client has nothing more
 *   to say, it is closed.
 * - How the bytes are cut up on their way changes nothing in the answers.
 * - Another client is served at once, as if nothing had been.
 *
 * The disk is as small as it may be, so the cleaner is at work; an item is small, so many are too
 * large.
 */
#include "tests/fuzz/served.h"

#include <errno.h>

#include "protocol/binary.h"
#include "tests/fuzz/stream.h"

/* Of the last byte. */
#define TALKATIVE  1 /* as with -vvv */
#define CUTS_SHIFT 1

#define LONGEST    (64 << 10)
#define TRIES      3
#define STAT       0x10

static struct served served;
static int other; /* another client */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const options[] = {
        "-t1", "-m8", "-I4k", "--disk-limit=8m", "--segment-size=128k", "--sync=none", NULL};
    (void)argc;
    (void)argv;
    served_start(&served, options, false);
    other = served_connect(&served);
    return 0;
}

static void ask(const char *question, const char *wanted)
{
    struct summary answer = {0};
    size_t len = strlen(question);
    FUZZ_CHECK(send(other, question, len, 0) == (ssize_t)len);
    FUZZ_CHECK(!served_settle(&served, other, &answer));
    FUZZ_CHECK(answer.len == strlen(wanted) && memcmp(answer.data, wanted, answer.len) == 0);
    summary_release(&answer);
}

/* Nothing of the client before is left, neither keys nor what it has changed for all. */
static void clean_up(bool talkative)
{
    served_tick(&served);
    ask("flush_all\r\ncache_memlimit 8\r\ncache_disklimit 8\r\nstats detail off\r\nstats reset\r\n",
        "OK\r\nOK\r\nOK\r\nOK\r\nRESET\r\n");
    ask(talkative ? "verbosity 3\r\n" : "verbosity 0\r\n", "OK\r\n");
}

static void check_others(void)
{
    ask("verbosity 0\r\nset other 7 0 5\r\nvalue\r\nget other\r\nmn\r\ndelete other\r\n",
        "OK\r\nSTORED\r\nVALUE other 7 5\r\nvalue\r\nEND\r\nMN\r\nDELETED\r\n");
}

/* A client's life. */
static void talk(const char *data, size_t len, uint32_t cuts, struct summary *answer)
{
    int fd = served_connect(&served);
    uint32_t dice = cuts;
    bool closed = false;
    for (size_t at = 0; at < len && !closed;) {
        size_t piece = fuzz_piece(cuts, &dice, len - at);
        ssize_t sent = send(fd, data + at, piece, 0);
        if (sent > 0)
            at += (size_t)sent;
        else
            FUZZ_CHECK(errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
        closed = served_settle(&served, fd, answer);
    }
    served_end(&served, fd, answer);
    FUZZ_CHECK(served.worker->conn_count == 1 && served.worker->conns->next == NULL);
}

/* Differs from one run to the next: numbers, which may be times and CAS uniques. */
static void hide_numbers(struct summary *answer)
{
    size_t len = 0;
    for (size_t i = 0; i < answer->len; i++) {
        char c = answer->data[i];
        bool digit = c >= '0' && c <= '9';
        if (!digit)
            answer->data[len++] = c;
        else if (len == 0 || answer->data[len - 1] != '#')
            answer->data[len++] = '#';
    }
    answer->len = len;
}

/* The CAS uniques of packets. False: these are no whole packets, or statistics. */
static bool hide_uniques(struct summary *answer)
{
    size_t at = 0;
    while (answer->len - at >= BINARY_HEADER_LEN) {
        const unsigned char *head = (unsigned char *)answer->data + at;
        size_t body =
            (size_t)head[8] << 24 | (size_t)head[9] << 16 | (size_t)head[10] << 8 | head[11];
        if (head[0] != 0x81 || head[1] == STAT)
            return false;
        memset(answer->data + at + 16, 0, 8);
        at += BINARY_HEADER_LEN + body;
        if (at > answer->len)
            return false;
    }
    return at == answer->len;
}

static bool has_word(const char *data, size_t len, const char *word)
{
    return memmem(data, len, word, strlen(word)) != NULL;
}

/* True if two answers to the same bytes must be the same. */
static bool can_compare(const char *data, size_t len)
{
    return !has_word(data, len, "stats") && !has_word(data, len, "watch") &&
           !has_word(data, len, "lru_crawler") && !has_long_line(data, len);
}

static bool agree(const char *data, size_t len, uint32_t cuts, bool talkative)
{
    struct summary whole = {0}, cut = {0};
    clean_up(talkative);
    talk(data, len, 0, &whole);
    check_others();
    clean_up(false);
    talk(data, len, cuts, &cut);
    check_others();
    bool same = true;
    if (can_compare(data, len) && len > 0 && (unsigned char)data[0] == BINARY_MAGIC) {
        same = !hide_uniques(&whole) || !hide_uniques(&cut) || summary_equals(&whole, &cut);
    } else if (can_compare(data, len)) {
        hide_numbers(&whole);
        hide_numbers(&cut);
        same = summary_equals(&whole, &cut);
    }
    summary_release(&whole);
    summary_release(&cut);
    return same;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    uint8_t choice = fuzz_take_choice(bytes, &len);
    if (len > LONGEST)
        return 0;
    /* Seconds pass, and items expire; but not the same second three times. */
    bool same = false;
    for (int i = 0; i < TRIES && !same; i++)
        same = agree((const char *)bytes, len, 1 + (choice >> CUTS_SHIFT), choice & TALKATIVE);
    FUZZ_CHECK(same);
    return 0;
}
