/* rights.c: which commands may be asked for, by whom, and how: the one table.
 *
 * - A client that has yet to authenticate itself (-S, -Y) may ask for what its row opens to
 *   strangers; the parser closes the connection, or refuses the line, at anything else, before it
 *   is kept (parser_lock).
 * - The sender of a datagram may be somebody else than it says. So over UDP only that is answered
 *   whose answer has a bound that does not depend on what is stored: ANSWER_SHORT, and
 *   ANSWER_VALUES, which udp.c bounds (UDP_ANSWER_MAX).
 * - What the operator has switched off, or not switched on, is refused to all.
 *
 * Of `stats` and `lru_crawler` the first word after the name decides. A word without a row is
 * refused over UDP: so is a new group of statistics, until somebody has thought about its length. A
 * new operation without a row fails tests/unit/src/test_rights.c.
 */
#include "src/command/rights.h"

#include <string.h>

const struct rights rights_of_ops[OP_COUNT] = {
    [OP_INVALID] = {.answer = ANSWER_SHORT},
    [OP_GET] = {.answer = ANSWER_VALUES},
    [OP_SET] = {.answer = ANSWER_SHORT},
    [OP_ADD] = {.answer = ANSWER_SHORT},
    [OP_REPLACE] = {.answer = ANSWER_SHORT},
    [OP_APPEND] = {.answer = ANSWER_SHORT},
    [OP_PREPEND] = {.answer = ANSWER_SHORT},
    [OP_CAS] = {.answer = ANSWER_SHORT},
    [OP_INCR] = {.answer = ANSWER_SHORT},
    [OP_DECR] = {.answer = ANSWER_SHORT},
    [OP_TOUCH] = {.answer = ANSWER_SHORT},
    [OP_DELETE] = {.answer = ANSWER_SHORT},
    [OP_FLUSH_ALL] = {ANSWER_SHORT, false, OPTION_FLUSH, REPLY_FLUSH_DISABLED, NULL},
    [OP_VERSION] = {.answer = ANSWER_SHORT, .stranger = true}, /* binary, as in memcached */
    [OP_VERBOSITY] = {.answer = ANSWER_SHORT},
    [OP_STATS] = {.answer = ANSWER_BY_WORD},
    [OP_QUIT] = {.answer = ANSWER_SHORT},
    [OP_SHUTDOWN] = {ANSWER_SHORT, false, OPTION_SHUTDOWN, REPLY_SHUTDOWN_DISABLED, NULL},
    [OP_CACHE_MEMLIMIT] = {.answer = ANSWER_SHORT},
    [OP_CACHE_DISKLIMIT] = {.answer = ANSWER_SHORT},
    [OP_WATCH] = {ANSWER_LISTING, false, OPTION_WATCH, REPLY_TEXT,
                  "CLIENT_ERROR watch commands not allowed\r\n"},
    [OP_LRU] = {.answer = ANSWER_SHORT},
    [OP_LRU_CRAWLER] = {.answer = ANSWER_BY_WORD},
    [OP_SLABS] = {.answer = ANSWER_SHORT},
    [OP_REFRESH_CERTS] = {.answer = ANSWER_SHORT},
    [OP_AUTHENTICATE] = {.answer = ANSWER_SHORT, .stranger = true},
    [OP_NOOP] = {.answer = ANSWER_SHORT},
    [OP_SASL_LIST] = {.answer = ANSWER_SHORT, .stranger = true},
    [OP_SASL_AUTH] = {.answer = ANSWER_SHORT, .stranger = true},
    [OP_SASL_STEP] = {.answer = ANSWER_SHORT, .stranger = true},
    [OP_META_GET] = {.answer = ANSWER_VALUES},
    [OP_META_SET] = {.answer = ANSWER_SHORT},
    [OP_META_DELETE] = {.answer = ANSWER_SHORT},
    [OP_META_ARITHMETIC] = {.answer = ANSWER_SHORT},
    [OP_META_DEBUG] = {.answer = ANSWER_SHORT},
    [OP_META_NOOP] = {.answer = ANSWER_SHORT},
};

_Static_assert(OP_COUNT <= 64, "rights_of_strangers has a bit for each");

/* The first words after the names of ANSWER_BY_WORD; "" is none at all. */
static const struct {
    uint8_t op;
    const char *word;
    struct rights rights;
} words[] = {
    {OP_STATS, "", {.answer = ANSWER_SHORT}},
    {OP_STATS, "settings", {.answer = ANSWER_SHORT}},
    {OP_STATS, "items", {.answer = ANSWER_SHORT}},
    {OP_STATS, "slabs", {.answer = ANSWER_SHORT}},
    {OP_STATS, "store", {.answer = ANSWER_SHORT}},
    {OP_STATS, "reset", {.answer = ANSWER_SHORT}},
    {OP_STATS, "sizes_enable", {.answer = ANSWER_SHORT}},
    {OP_STATS, "sizes_disable", {.answer = ANSWER_SHORT}},
    {OP_STATS, "sizes", {.answer = ANSWER_LISTING}},
    {OP_STATS, "conns", {.answer = ANSWER_LISTING}},
    {OP_STATS, "detail", {.answer = ANSWER_LISTING}},
    {OP_STATS,
     "cachedump",
     {ANSWER_LISTING, false, OPTION_DUMP, REPLY_TEXT,
      "CLIENT_ERROR stats cachedump not allowed\r\n"}},
    {OP_LRU_CRAWLER, "enable", {.answer = ANSWER_SHORT}},
    {OP_LRU_CRAWLER, "disable", {.answer = ANSWER_SHORT}},
    {OP_LRU_CRAWLER, "sleep", {.answer = ANSWER_SHORT}},
    {OP_LRU_CRAWLER, "tocrawl", {.answer = ANSWER_SHORT}},
    {OP_LRU_CRAWLER, "crawl", {.answer = ANSWER_SHORT}},
    {OP_LRU_CRAWLER,
     "metadump",
     {ANSWER_LISTING, false, OPTION_DUMP, REPLY_TEXT, "ERROR metadump not allowed\r\n"}},
    {OP_LRU_CRAWLER,
     "mgdump",
     {ANSWER_LISTING, false, OPTION_DUMP, REPLY_TEXT, "ERROR mgdump not allowed\r\n"}},
};

static bool first_word_is(struct bytes args, const char *word)
{
    const char *blank = args.len ? memchr(args.data, ' ', args.len) : NULL;
    size_t len = blank ? (size_t)(blank - args.data) : args.len;
    return len == strlen(word) && (len == 0 || memcmp(args.data, word, len) == 0);
}

static const struct rights *find(const struct request *request)
{
    static const struct rights other_word = {.answer = ANSWER_LISTING};
    const struct rights *rights = &rights_of_ops[request->op];
    if (rights->answer != ANSWER_BY_WORD)
        return rights;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (words[i].op == request->op && first_word_is(request->args, words[i].word))
            return &words[i].rights;
    return &other_word;
}

static bool is_off(const struct settings *settings, enum rights_option option)
{
    switch (option) {
    case OPTION_NONE: return false;
    case OPTION_FLUSH: return settings->disable_flush;
    case OPTION_SHUTDOWN: return !settings->enable_shutdown;
    case OPTION_DUMP: return settings->disable_dump;
    case OPTION_WATCH: return settings->disable_watch;
    }
    return true;
}

bool rights_allow(const struct settings *settings, bool udp, const struct request *request,
                  struct reply *refusal)
{
    const struct rights *rights = find(request);
    *refusal = (struct reply){.status = REPLY_ERROR};
    if (udp && rights->answer < ANSWER_SHORT)
        return false;
    if (!is_off(settings, rights->option))
        return true;
    refusal->status = rights->refusal;
    if (rights->text) {
        refusal->text = rights->text;
        refusal->text_len = strlen(rights->text);
    }
    if (request->protocol == PROTOCOL_BINARY && refusal->status == REPLY_TEXT)
        refusal->status = REPLY_NOT_FOUND; /* these are commands of text alone */
    return false;
}

uint64_t rights_of_strangers(void)
{
    uint64_t ops = 0;
    for (int op = 0; op < OP_COUNT; op++)
        if (rights_of_ops[op].stranger)
            ops |= OP_BIT(op);
    return ops;
}
