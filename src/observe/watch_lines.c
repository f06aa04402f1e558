/* watch_lines.c: what the lines of `watch` say: memcached's words, but where there is nothing here
 * that they would name.
 *
 * A fetch is what a client gets to see: a command that looks for its key on its way (set, incr,
 * delete) has no item_get line. All items are of class 1, as in `stats items`.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/encode.h"
#include "src/observe/prefix.h"
#include "src/observe/watch.h"
#include "src/observe/watch_log.h"
#include "storage/store.h"

#define COMMAND_MAX  250  /* bytes of a raw command that are shown */
#define BINARY_MAGIC 0x80 /* begins a request of the binary protocol */
#define BINARY_MAX   24   /* its header: what is behind that may be a password */

struct line {
    char text[WATCH_LINE_MAX];
    size_t len;
};

_Static_assert(WATCH_LINE_MAX >= 3 * STORE_KEY_MAX + 256, "a line has room for any key");

__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(line->text + line->len, sizeof line->text - line->len, format, arguments);
    va_end(arguments);
    line->len += (size_t)len;
    if (line->len >= sizeof line->text)
        line->len = sizeof line->text - 1;
}

static void add_key(struct line *line, const char *key, size_t len)
{
    add(line, " key=");
    line->len += encode_url(line->text + line->len, key, len);
}

static bool wants(const struct watch_writer *writer, uint32_t events)
{
    return atomic_load_explicit(writer->observed, memory_order_relaxed) & events;
}

static void write_line(const struct watch_writer *writer, uint32_t events, const struct line *line)
{
    watch_write(writer->watch, writer->log, events, line->text, line->len);
}

static void count_prefix(const struct watch_writer *writer, const struct observed_request *observed,
                         enum prefix_counter counter)
{
    prefixes_count(writer->prefixes, observed->request->key.data, observed->request->key.len,
                   counter);
}

/* The line of a request as the client wrote it, if it is text, or its first bytes. Of a get line
 * with many keys, once. */
static void write_raw(const struct watch_writer *writer, const struct observed_request *observed)
{
    struct line line = {.len = 0};
    const char *start = observed->received.data;
    size_t len = observed->received.len;
    if (len == 0)
        return;
    size_t most = (unsigned char)*start == BINARY_MAGIC ? BINARY_MAX : COMMAND_MAX;
    len = len < most ? len : most;
    const char *end = most == COMMAND_MAX ? memchr(start, '\n', len) : NULL;
    if (end)
        len = (size_t)(end - start) - (end > start && end[-1] == '\r');
    add(&line, "type=raw_cmd cfd=%d cmd=", observed->fd);
    line.len += encode_url(line.text + line.len, start, len);
    write_line(writer, WATCH_RAWCMDS, &line);
}

void watch_ran(const struct watch_writer *writer, const struct observed_request *observed)
{
    if (wants(writer, WATCH_RAWCMDS))
        write_raw(writer, observed);
}

void watch_got(const struct watch_writer *writer, const struct observed_request *observed,
               bool found, size_t value_len)
{
    watch_ran(writer, observed);
    if (wants(writer, WATCH_DETAIL)) {
        count_prefix(writer, observed, PREFIX_GET);
        if (found)
            count_prefix(writer, observed, PREFIX_HIT);
    }
    if (!wants(writer, WATCH_FETCHERS))
        return;
    struct line line = {.len = 0};
    add(&line, "type=item_get");
    add_key(&line, observed->request->key.data, observed->request->key.len);
    add(&line, " status=%s clsid=%d cfd=%d size=%zu", found ? "found" : "not_found", found,
        observed->fd, found ? value_len : 0);
    write_line(writer, WATCH_FETCHERS, &line);
}

static const char *meta_store_name(const struct request *request)
{
    switch (request->mode) {
    case 'E': return "add";
    case 'R': return "replace";
    case 'A': return "append";
    case 'P': return "prepend";
    default: return request->cas ? "cas" : "set";
    }
}

static const char *store_name(const struct request *request)
{
    switch (request->op) {
    case OP_META_SET: return meta_store_name(request);
    case OP_ADD: return "add";
    case OP_REPLACE: return "replace";
    case OP_APPEND: return "append";
    case OP_PREPEND: return "prepend";
    case OP_CAS: return "cas";
    default: return "set";
    }
}

static const char *store_status_name(enum reply_status status)
{
    switch (status) {
    case REPLY_STORED: return "stored";
    case REPLY_EXISTS: return "exists";
    case REPLY_NOT_FOUND: return "not_found";
    case REPLY_NOT_STORED: return "not_stored";
    case REPLY_TOO_LARGE: return "too_large";
    case REPLY_NO_MEMORY: return "no_memory";
    case REPLY_READ_ONLY: return "read_only";
    default: return "unknown";
    }
}

/* Seconds that are left; 0: it never expires; -1: it is over already. */
static int64_t ttl_of(int64_t exptime, uint32_t now_s)
{
    uint32_t expire_s = clock_expiry(exptime, now_s);
    if (expire_s == 0)
        return 0;
    return expire_s > now_s ? (int64_t)expire_s - now_s : -1;
}

void watch_stored(const struct watch_writer *writer, const struct observed_request *observed,
                  enum reply_status status, uint32_t now_s)
{
    const struct request *request = observed->request;
    watch_ran(writer, observed);
    if (wants(writer, WATCH_DETAIL))
        count_prefix(writer, observed, PREFIX_SET);
    if (!wants(writer, WATCH_MUTATIONS))
        return;
    struct line line = {.len = 0};
    add(&line, "type=item_store");
    add_key(&line, request->key.data, request->key.len);
    add(&line, " status=%s cmd=%s ttl=%" PRId64 " clsid=1 cfd=%d size=%zu",
        store_status_name(status), store_name(request), ttl_of(request->exptime, now_s),
        observed->fd, request->value.len);
    write_line(writer, WATCH_MUTATIONS, &line);
}

void watch_deleted(const struct watch_writer *writer, const struct observed_request *observed,
                   bool found)
{
    watch_ran(writer, observed);
    if (wants(writer, WATCH_DETAIL))
        count_prefix(writer, observed, PREFIX_DELETE);
    if (!found || !wants(writer, WATCH_DELETIONS))
        return;
    struct line line = {.len = 0};
    add(&line, "type=deleted");
    add_key(&line, observed->request->key.data, observed->request->key.len);
    add(&line, " cmd=%s clsid=1 cfd=%d", observed->request->op == OP_META_DELETE ? "md" : "delete",
        observed->fd);
    write_line(writer, WATCH_DELETIONS, &line);
}

/* "tcp:127.0.0.1:50100", "tcp6:[::1]:50100", "unix:/path" as memcached's three words. */
static void add_peer(struct line *line, const char *name)
{
    const char *address = strchr(name, ':');
    const char *port = strrchr(name, ':');
    if (strncmp(name, "unix", 4) == 0 || !address || port == address) {
        add(line, " rip=unix rport=0 transport=local");
        return;
    }
    bool brackets = address[1] == '[';
    address += 1 + brackets;
    add(line, " rip=%.*s rport=%s transport=%s", (int)(port - address - brackets), address,
        port + 1, strncmp(name, "udp", 3) == 0 ? "udp" : "tcp");
}

void watch_opened(const struct watch_writer *writer, int fd, const char *address)
{
    struct line line = {.len = 0};
    if (!wants(writer, WATCH_CONNEVENTS))
        return;
    add(&line, "type=conn_new");
    add_peer(&line, address);
    add(&line, " cfd=%d", fd);
    write_line(writer, WATCH_CONNEVENTS, &line);
}

void watch_closed(const struct watch_writer *writer, int fd, const char *address,
                  const char *reason)
{
    struct line line = {.len = 0};
    if (!wants(writer, WATCH_CONNEVENTS))
        return;
    add(&line, "type=conn_close");
    add_peer(&line, address);
    add(&line, " reason=%s cfd=%d", reason, fd);
    write_line(writer, WATCH_CONNEVENTS, &line);
}

void watch_system(const struct watch_writer *writer, const char *type, const char *name,
                  uint64_t number)
{
    struct line line = {.len = 0};
    if (!wants(writer, WATCH_SYSEVENTS))
        return;
    add(&line, "type=%s %s=%" PRIu64, type, name, number);
    write_line(writer, WATCH_SYSEVENTS, &line);
}

bool watch_wants_evicted(void *context)
{
    const struct watch_evictions *evictions = context;
    return wants(&evictions->writer, WATCH_EVICTIONS);
}

void watch_evicted(void *context, const struct store_evicted *evicted)
{
    const struct watch_evictions *evictions = context;
    struct line line = {.len = 0};
    uint32_t now_s = clock_now_s(evictions->clock);
    uint32_t seen_s = evicted->accessed_s;
    add(&line, "type=eviction");
    add_key(&line, evicted->key, evicted->key_len);
    add(&line, " fetch=%s ttl=%" PRId64 " la=%" PRIu32 " clsid=1 size=%" PRIu32,
        evicted->fetched ? "yes" : "no",
        evicted->expire_s ? (int64_t)evicted->expire_s - now_s : INT64_C(-1),
        seen_s && seen_s < now_s ? now_s - seen_s : 0, evicted->value_len);
    write_line(&evictions->writer, WATCH_EVICTIONS, &line);
}

static const struct {
    const char *name;
    uint32_t event;
} event_names[] = {
    {"fetchers", WATCH_FETCHERS},   {"mutations", WATCH_MUTATIONS},
    {"evictions", WATCH_EVICTIONS}, {"connevents", WATCH_CONNEVENTS},
    {"deletions", WATCH_DELETIONS}, {"sysevents", WATCH_SYSEVENTS},
    {"rawcmds", WATCH_RAWCMDS},
};

static uint32_t parse_event(const char *word, size_t len)
{
    for (size_t i = 0; i < sizeof event_names / sizeof *event_names; i++)
        if (strlen(event_names[i].name) == len && memcmp(event_names[i].name, word, len) == 0)
            return event_names[i].event;
    return 0;
}

uint32_t watch_parse(struct bytes words)
{
    uint32_t events = 0;
    for (size_t at = 0; at < words.len;) {
        size_t start = at;
        while (at < words.len && words.data[at] != ' ')
            at++;
        uint32_t event = at > start ? parse_event(words.data + start, at - start) : 0;
        if (at > start && !event)
            return 0;
        events |= event;
        at++;
    }
    return events ? events : WATCH_FETCHERS;
}
