/* admin.c: the commands about the server.
 *
 * There are no slabs and no LRU queues here, so those commands change nothing; they check their
 * arguments and answer as memcached does, so that tools do not stumble. rights.c says who may ask.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/token.h"
#include "src/base/number.h"
#include "src/command/internal.h"
#include "src/observe/dump.h"
#include "src/observe/watch.h"

#define WORDS_MAX     8
#define CLASSES       64 /* their numbers are below this; all but class 1 are empty here */
#define CLASS_LARGEST 39 /* memcached has pages to move among so many */

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

static void start_dump(const struct command *command, enum dump_form form, uint64_t limit,
                       struct reply *reply)
{
    struct command_context *context = command->client->context;
    switch (dump_start(context->dump, form, limit, context->waker)) {
    case DUMP_STARTED:
        command_wait(command->client, WAIT_DUMP);
        reply->status = REPLY_NONE;
        break;
    case DUMP_BUSY: say(reply, "BUSY currently processing crawler request\r\n"); break;
    case DUMP_FAILED: say(reply, "ERROR an unknown error happened\r\n"); break;
    }
}

/* stats cachedump CLASS LIMIT: of the one class there is, and no more than LIMIT; 0 for all. */
static void run_cachedump(const struct command *command, const struct words *args,
                          struct reply *reply)
{
    uint64_t class, limit;
    if (args->count < 3)
        say(reply, "CLIENT_ERROR bad command line\r\n");
    else if (!number_parse(args->word[1].data, args->word[1].len, &class) ||
             !number_parse(args->word[2].data, args->word[2].len, &limit))
        reply->status = REPLY_BAD_FORMAT;
    else if (class >= CLASSES)
        say(reply, "CLIENT_ERROR Illegal slab id\r\n");
    else if (class != 1)
        say(reply, "END\r\n");
    else
        start_dump(command, DUMP_CACHE, limit, reply);
}

bool admin_switch_stats(struct command_context *context, struct bytes args, struct reply *reply)
{
    struct words words = split(args);
    if (words.count == 0)
        return false;
    struct bytes group = words.word[0];
    reply->status = REPLY_OK;

    /* The answer to these two is a row of stats, the new state. */
    if (is(group, "sizes_enable") || is(group, "sizes_disable")) {
        atomic_store(context->sizes_enabled, is(group, "sizes_enable"));
        return false;
    }
    if (is(group, "detail") && is(words.word[1], "on"))
        watch_set_detail(context->watch.watch, true);
    else if (is(group, "detail") && is(words.word[1], "off"))
        watch_set_detail(context->watch.watch, false);
    else if (is(group, "detail") && !is(words.word[1], "dump"))
        say(reply, "CLIENT_ERROR usage: stats detail on|off|dump\r\n");
    else
        return false;
    return true;
}

static void run_stats(const struct command *command, struct reply *reply)
{
    struct command_context *context = command->client->context;
    struct bytes words = command->request.args;
    const struct words args = split(words);
    char *text;
    size_t len;
    if (admin_switch_stats(context, words, reply))
        return;
    if (is(args.word[0], "cachedump")) {
        run_cachedump(command, &args, reply);
    } else if (is(args.word[0], "sizes") && atomic_load(context->sizes_enabled)) {
        start_dump(command, DUMP_SIZES, 0, reply);
    } else {
        context->host->running(command->client);
        if (stats_text(context->stats, words.data, words.len, &text, &len)) {
            output_add_heap(&context->output, text, len);
            command->client->out_bytes += len;
            reply->status = REPLY_NONE;
        } else {
            reply->status = REPLY_ERROR;
        }
    }
}

/* A number as lru tune and others take it; a sign or a point is fine. False: it is none. */
static bool read_decimal(struct bytes word, double *out)
{
    char text[32];
    if (!is_number(word) || word.len >= sizeof text)
        return false;
    memcpy(text, word.data, word.len);
    text[word.len] = '\0';
    *out = strtod(text, NULL);
    return true;
}

/* lru tune HOT_PERCENT WARM_PERCENT HOT_FACTOR WARM_FACTOR */
static void run_tune(const struct words *args, struct reply *reply)
{
    double hot, warm, hot_factor, warm_factor;
    if (args->count < 5 || !read_decimal(args->word[1], &hot) ||
        !read_decimal(args->word[2], &warm) || !read_decimal(args->word[3], &hot_factor) ||
        !read_decimal(args->word[4], &warm_factor))
        return;
    if (hot + warm > 80)
        say(reply, "ERROR hot and warm pcts must not exceed 80\r\n");
    else if (hot_factor <= 0 || warm_factor <= 0)
        say(reply, "ERROR hot/warm age factors must be greater than 0\r\n");
    else
        reply->status = REPLY_OK;
}

static void run_lru(const struct request *request, struct reply *reply)
{
    struct words args = split(request->args);
    reply->status = REPLY_ERROR;
    if (is(args.word[0], "tune"))
        run_tune(&args, reply);
    bool mode =
        is(args.word[0], "mode") && (is(args.word[1], "flat") || is(args.word[1], "segmented"));
    bool ttl = is(args.word[0], "temp_ttl") && is_number(args.word[1]);
    if (mode || ttl)
        reply->status = REPLY_OK;
}

static void run_reassign(const struct words *args, struct reply *reply)
{
    int64_t from, to;
    if (args->count != 3)
        reply->status = REPLY_ERROR;
    else if (!token_int64(token_without_plus(args->word[1]), &from) ||
             !token_int64(token_without_plus(args->word[2]), &to))
        reply->status = REPLY_BAD_FORMAT;
    else if (from == to)
        say(reply, "SAME src and dst class are identical\r\n");
    else if (from < 0 || to < 0 || from > CLASS_LARGEST || to > CLASS_LARGEST)
        say(reply, "BADCLASS invalid src or dst class id\r\n");
    else
        say(reply, "NOSPARE source class has no spare pages\r\n");
}

/* slabs automove 0|1|2, or ratio with a number */
static void run_automove(const struct words *args, struct reply *reply)
{
    struct bytes level = args->word[1];
    double ratio;
    uint64_t number;
    reply->status = REPLY_ERROR;
    if (is(level, "ratio")) {
        if (read_decimal(args->word[2], &ratio))
            reply->status = REPLY_OK;
    } else if (!token_uint64(token_without_plus(level), &number)) {
        reply->status = REPLY_BAD_FORMAT;
    } else if (number <= 2) {
        reply->status = REPLY_OK;
    }
}

static void run_slabs(const struct request *request, struct reply *reply)
{
    struct words args = split(request->args);
    reply->status = REPLY_ERROR;
    if (args.count >= 2 && is(args.word[0], "reassign"))
        run_reassign(&args, reply);
    else if (args.count >= 2 && is(args.word[0], "automove"))
        run_automove(&args, reply);
}

/* "all", or a list of classes with commas: the one class there is, or others, which are empty.
 * False: it is neither. */
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
        for (; at < list.len && list.data[at] >= '0' && list.data[at] <= '9' && class < CLASSES;
             at++)
            class = class * 10 + (uint32_t)(list.data[at] - '0');
        bool number = at > start && class > 0 && class < CLASSES;
        if ((at > start && !number) || (at < list.len && list.data[at] != ','))
            return false;
        *one = *one || class == 1;
        *others = *others || number;
        at++;
    }
    return true;
}

/* crawl, and the dumps; of these the argument may be "hash": all, which are in the one class that
 * there is. */
static void run_crawl(const struct command *command, bool dumps, enum dump_form form,
                      struct bytes list, struct reply *reply)
{
    bool one = dumps && is(list, "hash"), others = false;
    if (!one && !read_classes(list, &one, &others)) {
        say(reply, "BADCLASS invalid class id\r\n");
    } else if (!one && !others) {
        say(reply, "NOTSTARTED no items to crawl\r\n");
    } else if (!dumps) {
        reply->status = REPLY_OK;
    } else if (!one) {
        say(reply, form == DUMP_MG ? "OK\r\nEN\r\n" : "OK\r\nEND\r\n");
    } else {
        start_dump(command, form, 0, reply);
        if (client_waits_for(command->client, WAIT_DUMP))
            reply->status = REPLY_OK; /* which says, before the first key, that it is no error */
    }
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

static void run_crawler(const struct command *command, struct reply *reply)
{
    struct words args = split(command->request.args);
    struct bytes name = args.word[0];
    reply->status = REPLY_ERROR;
    if (args.count == 1 && (is(name, "enable") || is(name, "disable")))
        reply->status = REPLY_OK;
    if (args.count != 2)
        return;
    if (is(name, "metadump"))
        run_crawl(command, true, DUMP_META, args.word[1], reply);
    else if (is(name, "mgdump"))
        run_crawl(command, true, DUMP_MG, args.word[1], reply);
    else if (is(name, "crawl"))
        run_crawl(command, false, DUMP_META, args.word[1], reply);
    else if (is(name, "sleep") || is(name, "tocrawl"))
        run_crawler_setting(name, args.word[1], reply);
}

static void run_verbosity(const struct command *command, struct reply *reply)
{
    struct command_context *context = command->client->context;
    uint64_t level = command->request.delta;
    atomic_store(context->server_verbosity, level < 10 ? (int)level : 10);
    watch_system(&context->watch, "verbosity", "level", level);
    reply->status = REPLY_OK;
}

static void run_memlimit(const struct command *command, struct reply *reply)
{
    struct command_context *context = command->client->context;
    uint64_t mib = command->request.delta;
    if (mib < 8) {
        reply->status = REPLY_MEMLIMIT_TOO_SMALL;
    } else if (mib < 1 << 30 && store_set_memory_limit(context->store, mib << 20)) {
        watch_system(&context->watch, "memory_limit", "megabytes", mib);
        reply->status = REPLY_OK;
    } else {
        say(reply, "SERVER_ERROR the limit is beyond what this server can grow to: restart it with "
                   "-m\r\n");
    }
}

/* As cache_memlimit does with -m; 0 lifts the limit. */
static void run_disklimit(const struct command *command, struct reply *reply)
{
    struct command_context *context = command->client->context;
    uint64_t mib = command->request.delta;
    if (mib && (mib < 4 || mib >= UINT64_C(1) << 40)) {
        say(reply, "CLIENT_ERROR the disk limit is at least 4 (megabytes), or 0 for none\r\n");
        return;
    }
    store_set_disk_limit(context->store, mib << 20);
    watch_system(&context->watch, "disk_limit", "megabytes", mib);
    reply->status = REPLY_OK;
}

static void run_shutdown(const struct command *command, struct reply *reply)
{
    struct command_context *context = command->client->context;
    struct bytes mode = command->request.args;
    if (mode.len && !is(mode, "graceful")) {
        say(reply, "CLIENT_ERROR invalid shutdown mode\r\n");
        return;
    }
    reply->status = REPLY_NONE;
    context->host->stop(context);
}

static enum run_result run_watch(const struct command *command, struct reply *reply)
{
    struct client *client = command->client;
    struct command_context *context = client->context;
    uint32_t events = watch_parse(command->request.args);
    if (!events) {
        reply->status = REPLY_ERROR;
        return RUN_DONE;
    }
    switch (watch_add(context->watch.watch, events, context->waker, &client->watcher)) {
    case WATCH_ADDED: break;
    case WATCH_TOO_MANY:
        say(reply, "WATCHER_TOO_MANY log watcher limit reached\r\n");
        return RUN_DONE;
    case WATCH_FAILED: say(reply, "WATCHER_FAILED failed to add log watcher\r\n"); return RUN_DONE;
    }
    command_wait(client, WAIT_WATCH);
    reply->status = REPLY_OK;
    return RUN_WATCH;
}

static void run_refresh_certs(struct command_context *context, struct reply *reply)
{
    char why[COMMAND_WHY_MAX];
    reply->status = REPLY_OK;
    if (context->host->reload_certificates(context, why))
        return;
    int len = snprintf(output_at(&context->output), OUTPUT_ROOM, "%s\r\n", why);
    output_wrote(&context->output, (size_t)len);
    reply->status = REPLY_NONE;
}

enum run_result admin_run(const struct command *command)
{
    const struct request *request = &command->request;
    struct reply answer = {0}, *reply = &answer;
    enum run_result result = RUN_DONE;
    switch (request->op) {
    case OP_VERSION:
        say(reply, SETTINGS_MEMCACHED_VERSION);
        reply->status = REPLY_VERSION;
        break;
    case OP_VERBOSITY: run_verbosity(command, reply); break;
    case OP_STATS: run_stats(command, reply); break;
    case OP_CACHE_MEMLIMIT: run_memlimit(command, reply); break;
    case OP_CACHE_DISKLIMIT: run_disklimit(command, reply); break;
    case OP_SHUTDOWN: run_shutdown(command, reply); break;
    case OP_LRU: run_lru(request, reply); break;
    case OP_LRU_CRAWLER: run_crawler(command, reply); break;
    case OP_WATCH: result = run_watch(command, reply); break;
    case OP_SLABS: run_slabs(request, reply); break;
    case OP_REFRESH_CERTS: run_refresh_certs(command->client->context, reply); break;
    default: reply->status = REPLY_ERROR; break;
    }
    command_say(command, reply);
    return result;
}
