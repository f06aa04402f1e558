/* command_admin.c: the commands about the server.
 *
 * There are no slabs and no LRU queues here, so those commands change nothing; they check their arguments and answer as
 * memcached does, so that tools do not stumble.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "src/auth_file.h"
#include "src/command.h"
#include "src/dump.h"
#include "src/journal.h"
#include "src/number.h"

#define WORDS_MAX 8

struct words {
    struct bytes word[WORDS_MAX];
    int count;
};

static struct words split(struct bytes line)
{
    struct words words = {0};
    size_t at = 0;
    while (words.count < WORDS_MAX) {
        while (at < line.len && line.data[at] == ' ')
            at++;
        size_t start = at;
        while (at < line.len && line.data[at] != ' ')
            at++;
        if (at == start)
            break;
        words.word[words.count++] = (struct bytes){line.data + start, at - start};
    }
    return words;
}

static bool is(struct bytes word, const char *text)
{
    return word.len == strlen(text) && memcmp(word.data, text, word.len) == 0;
}

static bool is_number(struct bytes word)
{
    size_t at = word.len > 1 && word.data[0] == '-';
    if (word.len == 0)
        return false;
    for (; at < word.len; at++)
        if ((word.data[at] < '0' || word.data[at] > '9') && word.data[at] != '.')
            return false;
    return true;
}

static void say(struct reply *reply, const char *text)
{
    reply->status = REPLY_TEXT;
    reply->text = text;
    reply->text_len = strlen(text);
}

static void run_stats(struct worker *worker, struct conn *conn, const struct request *request,
                      struct reply *reply)
{
    char *text;
    size_t len;
    if (!stats_answer(worker->server, request->args.data, request->args.len, &text, &len)) {
        reply->status = REPLY_ERROR;
        return;
    }
    output_add(&worker->output, text, len, PIECE_HEAP, text);
    conn->out_bytes += len;
    reply->status = REPLY_NONE;
}

static void run_lru(const struct request *request, struct reply *reply)
{
    struct words args = split(request->args);
    reply->status = REPLY_ERROR;
    if (args.count == 0)
        return;
    bool tune = is(args.word[0], "tune") && args.count >= 5 && is_number(args.word[1]) &&
                is_number(args.word[2]) && is_number(args.word[3]) && is_number(args.word[4]);
    bool mode = is(args.word[0], "mode") && args.count >= 2 &&
                (is(args.word[1], "flat") || is(args.word[1], "segmented"));
    bool ttl = is(args.word[0], "temp_ttl") && args.count >= 2 && is_number(args.word[1]);
    if (tune || mode || ttl)
        reply->status = REPLY_OK;
}

static void run_slabs(const struct request *request, struct reply *reply)
{
    struct words args = split(request->args);
    reply->status = REPLY_ERROR;
    if (args.count >= 3 && is(args.word[0], "reassign")) {
        if (is_number(args.word[1]) && is_number(args.word[2]))
            say(reply, "NOSPARE source class has no spare pages\r\n");
        else
            reply->status = REPLY_BAD_FORMAT;
    } else if (args.count >= 2 && is(args.word[0], "automove")) {
        bool level =
            args.word[1].len == 1 && args.word[1].data[0] >= '0' && args.word[1].data[0] <= '2';
        bool ratio = args.count >= 3 && is(args.word[1], "ratio") && is_number(args.word[2]);
        if (level || ratio)
            reply->status = REPLY_OK;
        else
            reply->status = is_number(args.word[1]) ? REPLY_ERROR : REPLY_BAD_FORMAT;
    }
}

/* "all", or a list of classes with commas: the one class there is, or others, which are empty. False: it is neither. */
static bool read_classes(struct bytes list, bool *one, bool *others)
{
    size_t at = 0;
    *one = is(list, "all");
    *others = false;
    if (*one)
        return true;
    while (at < list.len) {
        uint32_t class = 0;
        size_t start = at;
        for (; at < list.len && list.data[at] >= '0' && list.data[at] <= '9' && class < 64; at++)
            class = class * 10 + (uint32_t)(list.data[at] - '0');
        bool number = at > start && class > 0 && class < 64;
        if ((at > start && !number) || (at < list.len && list.data[at] != ','))
            return false;
        *one = *one || class == 1;
        *others = *others || number;
        at++;
    }
    return true;
}

static void start_dump(struct worker *worker, struct conn *conn, enum dump_form form,
                       struct reply *reply)
{
    switch (dump_start(worker->server->dump, form, worker)) {
    case DUMP_STARTED:
        worker->dumping = conn;
        reply->status = REPLY_NONE;
        break;
    case DUMP_BUSY: say(reply, "BUSY currently processing crawler request\r\n"); break;
    case DUMP_FAILED: say(reply, "ERROR an unknown error happened\r\n"); break;
    }
}

static void run_dump(struct worker *worker, struct conn *conn, enum dump_form form,
                     struct bytes list, struct reply *reply)
{
    bool one, others;
    if (worker->server->settings.disable_dump)
        say(reply,
            form == DUMP_META ? "ERROR metadump not allowed\r\n" : "ERROR mgdump not allowed\r\n");
    else if (is(list, "hash"))
        start_dump(worker, conn, form, reply);
    else if (!read_classes(list, &one, &others))
        say(reply, "BADCLASS invalid class id\r\n");
    else if (one)
        start_dump(worker, conn, form, reply);
    else if (others)
        say(reply, dump_end_line(form));
    else
        say(reply, "NOTSTARTED no items to crawl\r\n");
}

static void run_crawl(struct bytes list, struct reply *reply)
{
    bool one, others;
    if (!read_classes(list, &one, &others))
        say(reply, "BADCLASS invalid class id\r\n");
    else if (one || others)
        reply->status = REPLY_OK;
    else
        say(reply, "NOTSTARTED no items to crawl\r\n");
}

/* What has expired is taken back without being asked: there is nothing to be set. */
static void run_crawler_setting(struct bytes name, struct bytes value, struct reply *reply)
{
    uint64_t number;
    if (value.data[0] < '0' || value.data[0] > '9' || !number_parse(value.data, value.len, &number))
        reply->status = REPLY_BAD_FORMAT;
    else if (is(name, "sleep") && number > 1000000)
        say(reply, "CLIENT_ERROR sleep must be one second or less\r\n");
    else
        reply->status = REPLY_OK;
}

static void run_crawler(struct worker *worker, struct conn *conn, const struct request *request,
                        struct reply *reply)
{
    struct words args = split(request->args);
    struct bytes name = args.word[0];
    reply->status = REPLY_ERROR;
    if (args.count == 1 && (is(name, "enable") || is(name, "disable")))
        reply->status = REPLY_OK;
    if (args.count != 2)
        return;
    if (is(name, "metadump"))
        run_dump(worker, conn, DUMP_META, args.word[1], reply);
    else if (is(name, "mgdump"))
        run_dump(worker, conn, DUMP_MG, args.word[1], reply);
    else if (is(name, "crawl"))
        run_crawl(args.word[1], reply);
    else if (is(name, "sleep") || is(name, "tocrawl"))
        run_crawler_setting(name, args.word[1], reply);
}

static void run_verbosity(struct worker *worker, const struct request *request, struct reply *reply)
{
    atomic_store(&worker->server->verbosity, request->delta < 10 ? (int)request->delta : 10);
    reply->status = REPLY_OK;
}

static void run_memlimit(struct worker *worker, const struct request *request, struct reply *reply)
{
    if (request->delta < 8)
        reply->status = REPLY_MEMLIMIT_TOO_SMALL;
    else if (request->delta < 1 << 30 &&
             store_set_memory_limit(worker->server->store, request->delta << 20))
        reply->status = REPLY_OK;
    else
        say(reply, "SERVER_ERROR the limit is beyond what this server can grow to: restart it with "
                   "-m\r\n");
}

/* As cache_memlimit does with -m; 0 lifts the limit. */
static void run_disklimit(struct worker *worker, const struct request *request, struct reply *reply)
{
    if (request->delta && (request->delta < 4 || request->delta >= UINT64_C(1) << 40)) {
        say(reply, "CLIENT_ERROR the disk limit is at least 4 (megabytes), or 0 for none\r\n");
        return;
    }
    store_set_disk_limit(worker->server->store, request->delta << 20);
    reply->status = REPLY_OK;
}

static void run_shutdown(struct worker *worker, const struct request *request, struct reply *reply)
{
    if (!worker->server->settings.enable_shutdown) {
        reply->status = REPLY_SHUTDOWN_DISABLED;
        return;
    }
    if (request->args.len && !is(request->args, "graceful")) {
        say(reply, "CLIENT_ERROR invalid shutdown mode\r\n");
        return;
    }
    reply->status = REPLY_NONE;
    server_stop();
}

/* A client shows its password. What it has sent behind that is parsed in the next round, by the rule that holds then. */
static void run_authenticate(struct worker *worker, struct conn *conn,
                             const struct request *request, struct reply *reply)
{
    static const enum reply_status answers[] = {
        [AUTH_GRANTED] = REPLY_STORED,
        [AUTH_REFUSED] = REPLY_WRONG_PASSWORD,
        [AUTH_MALFORMED] = REPLY_BAD_PASSWORD_FORM,
    };
    enum auth_result result =
        auth_file_check(worker->server->auth_file, request->value.data, request->value.len);
    conn->parser.guard = result == AUTH_GRANTED ? TEXT_GUARD_NONE : TEXT_GUARD_CLOSED;
    conn->stopped = true;
    reply->status = answers[result];
    counter_add(&worker->counters.auth_cmds, 1);
    if (result == AUTH_GRANTED)
        return;
    counter_add(&worker->counters.auth_errors, 1);
    if (worker->verbosity >= JOURNAL_EVENTS)
        journal("<%d authentication failure: %s", conn->fd, conn->address);
}

enum run_result command_run_admin(struct worker *worker, struct conn *conn,
                                  const struct request *request, struct reply *reply)
{
    switch (request->op) {
    case OP_VERSION:
        reply->status = REPLY_VERSION;
        reply->text = SERVER_VERSION;
        reply->text_len = strlen(SERVER_VERSION);
        break;
    case OP_VERBOSITY: run_verbosity(worker, request, reply); break;
    case OP_STATS: run_stats(worker, conn, request, reply); break;
    case OP_CACHE_MEMLIMIT: run_memlimit(worker, request, reply); break;
    case OP_CACHE_DISKLIMIT: run_disklimit(worker, request, reply); break;
    case OP_SHUTDOWN: run_shutdown(worker, request, reply); break;
    case OP_AUTHENTICATE: run_authenticate(worker, conn, request, reply); break;
    case OP_LRU: run_lru(request, reply); break;
    case OP_LRU_CRAWLER: run_crawler(worker, conn, request, reply); break;
    case OP_SLABS: run_slabs(request, reply); break;
    case OP_REFRESH_CERTS: say(reply, "Error TLS not enabled\r\n"); break;
    default: reply->status = REPLY_ERROR; break;
    }
    if (reply->status == REPLY_TEXT && !(request->flags & REQUEST_NOREPLY)) {
        memcpy(output_at(&worker->output), reply->text, reply->text_len);
        output_wrote(&worker->output, reply->text_len);
    } else if (reply->status != REPLY_NONE) {
        command_reply(worker, conn, request, reply);
    }
    return RUN_DONE;
}
