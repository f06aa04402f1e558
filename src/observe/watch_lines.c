/* watch_lines.c: what the lines of `watch` say, in memcached's words.
 *
 * Only what a client reads is a fetch: set, incr or delete, which look for their key on the way,
 * have no item_get line. All items are of class 1, as in `stats items`.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "protocol/binary.h"
#include "protocol/token.h"
#include "src/base/clock.h"
#include "src/base/encode.h"
#include "src/observe/prefix.h"
#include "src/observe/watch.h"
#include "src/observe/watch_log.h"
#include "storage/store.h"

#define COMMAND_MAX 250 /* bytes of a raw command that are shown */

/* Room for a key or a raw command in which each byte is %XX. */
#define ENCODED_MAX (3 * STORE_KEY_MAX + 1)

_Static_assert(COMMAND_MAX <= STORE_KEY_MAX, "encode has room for a raw command");
_Static_assert(WATCH_LINE_MAX >= ENCODED_MAX + 255, "a line has room for any key");

static const char *encode(char out[ENCODED_MAX], struct bytes bytes)
{
    out[encode_url(out, bytes.data, bytes.len)] = '\0';
    return out;
}

static bool wants(const struct watch_writer *writer, uint32_t events)
{
    return atomic_load_explicit(writer->observed, memory_order_relaxed) & events;
}

__attribute__((format(printf, 3, 4))) static void
write_line(const struct watch_writer *writer, enum watch_event event, const char *format, ...)
{
    char line[WATCH_LINE_MAX];
    va_list arguments;
    va_start(arguments, format);
    size_t len = (size_t)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    watch_write(writer->watch, writer->log, event, line, len < sizeof line ? len : sizeof line - 1);
}

static void count_prefix(const struct watch_writer *writer, const struct observed_request *observed,
                         enum prefix_counter counter)
{
    const struct bytes key = observed->request->key;
    if (wants(writer, WATCH_DETAIL))
        prefixes_count(writer->prefixes, key.data, key.len, counter);
}

/* Shows the line of a request, as the client wrote it, or its binary header: what follows may be a
 * password. A get line with many keys is shown once. */
void watch_ran(const struct watch_writer *writer, const struct observed_request *observed)
{
    struct bytes shown = observed->received;
    char encoded[ENCODED_MAX];
    if (shown.len == 0 || !wants(writer, WATCH_RAWCMDS))
        return;

    bool is_text = (unsigned char)*shown.data != BINARY_MAGIC;
    size_t most = is_text ? COMMAND_MAX : BINARY_HEADER_LEN;
    shown.len = shown.len < most ? shown.len : most;
    const char *end = is_text ? memchr(shown.data, '\n', shown.len) : NULL;
    if (end)
        shown.len = (size_t)(end - shown.data) - (end > shown.data && end[-1] == '\r');
    write_line(writer, WATCH_RAWCMDS, "type=raw_cmd cfd=%d cmd=%s", observed->fd,
               encode(encoded, shown));
}

void watch_got(const struct watch_writer *writer, const struct observed_request *observed,
               bool found, size_t value_len)
{
    watch_ran(writer, observed);
    count_prefix(writer, observed, PREFIX_GET);
    if (found)
        count_prefix(writer, observed, PREFIX_HIT);
    if (!wants(writer, WATCH_FETCHERS))
        return;

    char key[ENCODED_MAX];
    write_line(writer, WATCH_FETCHERS, "type=item_get key=%s status=%s clsid=%d cfd=%d size=%zu",
               encode(key, observed->request->key), found ? "found" : "not_found", found,
               observed->fd, found ? value_len : 0);
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
    count_prefix(writer, observed, PREFIX_SET);
    if (!wants(writer, WATCH_MUTATIONS))
        return;

    char key[ENCODED_MAX];
    write_line(writer, WATCH_MUTATIONS,
               "type=item_store key=%s status=%s cmd=%s ttl=%" PRId64 " clsid=1 cfd=%d size=%zu",
               encode(key, request->key), store_status_name(status), store_name(request),
               ttl_of(request->exptime, now_s), observed->fd, request->value.len);
}

void watch_deleted(const struct watch_writer *writer, const struct observed_request *observed,
                   bool found)
{
    const struct request *request = observed->request;
    watch_ran(writer, observed);
    count_prefix(writer, observed, PREFIX_DELETE);
    if (!found || !wants(writer, WATCH_DELETIONS))
        return;

    char key[ENCODED_MAX];
    write_line(writer, WATCH_DELETIONS, "type=deleted key=%s cmd=%s clsid=1 cfd=%d",
               encode(key, request->key), request->op == OP_META_DELETE ? "md" : "delete",
               observed->fd);
}

#define PEER_MAX 100

/* "tcp:127.0.0.1:50100", "tcp6:[::1]:50100", "unix:/path" as memcached's three words. */
static const char *write_peer(char out[PEER_MAX], const char *name)
{
    const char *address = strchr(name, ':');
    const char *port = strrchr(name, ':');
    if (strncmp(name, "unix", 4) == 0 || !address || port == address)
        return "rip=unix rport=0 transport=local";

    bool brackets = address[1] == '[';
    address += 1 + brackets;
    snprintf(out, PEER_MAX, "rip=%.*s rport=%s transport=%s", (int)(port - address - brackets),
             address, port + 1, strncmp(name, "udp", 3) == 0 ? "udp" : "tcp");
    return out;
}

void watch_opened(const struct watch_writer *writer, int fd, const char *address)
{
    if (!wants(writer, WATCH_CONNEVENTS))
        return;

    char peer[PEER_MAX];
    write_line(writer, WATCH_CONNEVENTS, "type=conn_new %s cfd=%d", write_peer(peer, address), fd);
}

void watch_closed(const struct watch_writer *writer, int fd, const char *address,
                  const char *reason)
{
    if (!wants(writer, WATCH_CONNEVENTS))
        return;

    char peer[PEER_MAX];
    write_line(writer, WATCH_CONNEVENTS, "type=conn_close %s reason=%s cfd=%d",
               write_peer(peer, address), reason, fd);
}

void watch_system(const struct watch_writer *writer, const char *type, const char *name,
                  uint64_t number)
{
    if (wants(writer, WATCH_SYSEVENTS))
        write_line(writer, WATCH_SYSEVENTS, "type=%s %s=%" PRIu64, type, name, number);
}

bool watch_wants_evicted(void *context)
{
    const struct watch_evictions *evictions = context;
    return wants(&evictions->writer, WATCH_EVICTIONS);
}

void watch_evicted(void *context, const struct store_evicted *evicted)
{
    const struct watch_evictions *evictions = context;
    const struct bytes bytes = {evicted->key, evicted->key_len};
    uint32_t now_s = clock_now_s(evictions->clock), seen_s = evicted->accessed_s;
    int64_t ttl_s = evicted->expire_s ? (int64_t)evicted->expire_s - now_s : -1;
    char key[ENCODED_MAX];
    write_line(&evictions->writer, WATCH_EVICTIONS,
               "type=eviction key=%s fetch=%s ttl=%" PRId64 " la=%" PRIu32 " clsid=1 size=%" PRIu32,
               encode(key, bytes), evicted->fetched ? "yes" : "no", ttl_s,
               seen_s && seen_s < now_s ? now_s - seen_s : 0, evicted->value_len);
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

static uint32_t parse_event(struct bytes word)
{
    for (size_t i = 0; i < sizeof event_names / sizeof *event_names; i++)
        if (token_is(word, event_names[i].name, strlen(event_names[i].name)))
            return event_names[i].event;
    return 0;
}

uint32_t watch_parse(struct bytes words)
{
    const char *at = words.data, *end = at + words.len;
    uint32_t events = 0;
    for (struct bytes word; (word = token_next(&at, end)).len > 0;) {
        uint32_t event = parse_event(word);
        if (!event)
            return 0;
        events |= event;
    }
    return events ? events : WATCH_FETCHERS;
}
