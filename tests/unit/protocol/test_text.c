/* test_text.c: what the text parser makes of a stream.
 *
 * A row is a stream and the requests it holds, in words (stream.h). Every row is parsed whole, cut
 * at every byte, and as each of its prefixes.
 */
#include <inttypes.h>
#include <time.h>

#include "tests/unit/protocol/stream.h"
#include "tests/unit/storage/support/basics.h"
#include "tests/unit/storage/support/random.h"

#define ITEM_SIZE_MAX 4096
#define BAD_FORMAT    "CLIENT_ERROR bad command line format"
#define BAD_EXPTIME   "CLIENT_ERROR invalid exptime argument"
#define BAD_DELTA     "CLIENT_ERROR invalid numeric delta argument"
#define BAD_DELETE    "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"
#define BAD_CHUNK     "CLIENT_ERROR bad data chunk"

#define K50           "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
#define K250          K50 K50 K50 K50 K50

struct row {
    const char *says;
    const char *stream;
    const char *requests;
};

static const struct row retrieval[] = {
    {"get asks for one key", "get a\r\n", "get key=a"},
    {"a newline alone ends a line", "get a\n", "get key=a"},
    {"a multiget is one request a key, and only the last says so", "get a b c\r\n",
     "get key=a more | get key=b more | get key=c"},
    {"gets shows the cas", "gets a b\r\n", "get key=a show-cas more | get key=b show-cas"},
    {"gat sets the expiry of each key", "gat 10 a b\r\n",
     "get key=a exptime=10 touch more | get key=b exptime=10 touch"},
    {"gats does both", "gats -1 a\r\n", "get key=a exptime=-1 show-cas touch"},
    {"a get after a gat does not touch", "gat 10 a\r\nget b\r\n",
     "get key=a exptime=10 touch | get key=b"},
    {"blanks may be many", "  get   a   b  \r\n", "get key=a more | get key=b"},
    {"tabs and control bytes are part of a key", "get a\tb\x01\r\n", "get key=a\tb\x01"},
    {"a carriage return inside the line is part of a key", "get a\rb \rc\r\n",
     "get key=a\rb more | get key=\rc"},
    {"only one carriage return belongs to the line end", "get a\r\r\n", "get key=a\r"},
    {"get has no noreply", "get a noreply\r\n", "get key=a more | get key=noreply"},
    {"a key may have 250 bytes", "get " K250 "\r\n", "get key=" K250},
    {"a key may not have 251 bytes", "get " K250 "k\r\n", BAD_FORMAT},
    {"one bad key of a multiget is the only answer", "get a b " K250 "k c\r\nget d\r\n",
     BAD_FORMAT " | get key=d"},
    {"get needs a key", "get\r\nget \r\ngets\r\n", BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT},
    {"gat needs an expiry and a key", "gat\r\ngat 0\r\ngat x\r\n",
     BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT},
    {"gat takes a number of 32 bits", "gat x a\r\ngat 0x10 a\r\ngat +5 a\r\ngat 4294967295 a\r\n",
     BAD_EXPTIME " | " BAD_EXPTIME " | " BAD_EXPTIME " | " BAD_EXPTIME},
    {"gat checks its keys", "gats 0 a " K250 "k\r\n", BAD_FORMAT},
};

static const struct row storage[] = {
    {"set is a line and a block", "set a 1 2 3\r\nabc\r\n",
     "set key=a flags=1 exptime=2 value=abc"},
    {"the line may end in a newline alone", "set a 0 0 1\nx\r\n", "set key=a value=x"},
    {"all storage commands have one form",
     "add a 0 0 1\r\n1\r\nreplace a 0 0 1\r\n2\r\nappend a 0 0 1\r\n3\r\nprepend a 0 0 1\r\n4\r\n",
     "add key=a value=1 | replace key=a value=2 | append key=a value=3 | prepend key=a value=4"},
    {"cas has a unique", "cas a 0 0 1 18446744073709551615\r\nx\r\n",
     "cas key=a cas=18446744073709551615 value=x"},
    {"a value may be empty", "set a 0 0 0\r\n\r\n", "set key=a value="},
    {"a value may hold line ends", "set a 0 0 4\r\n\r\n\r\n\r\n", "set key=a value=\r\n\r\n"},
    {"noreply is the last word", "set a 0 0 1 noreply\r\nx\r\nset a 0 0 1 x noreply\r\nx\r\n",
     "set key=a value=x noreply | set key=a value=x noreply"},
    {"another word behind the line is ignored", "set a 0 0 1 x\r\nx\r\n", "set key=a value=x"},
    {"a key may be called noreply", "set noreply 0 0 1\r\nx\r\n", "set key=noreply value=x"},
    {"numbers may have zeros, flags and expiry a plus",
     "set a +5 007 01\r\nx\r\nset a 0 +7 1\r\nx\r\n",
     "set key=a flags=5 exptime=7 value=x | set key=a exptime=7 value=x"},
    {"a length has no plus, and one that has announces nothing",
     "set a 0 0 +1\r\nget b\r\ncas a 0 0 +1 5\r\nget c\r\nset a ++5 0 1\r\nx\r\n",
     BAD_FORMAT " | get key=b | " BAD_FORMAT " | get key=c | " BAD_FORMAT},
    {"nor has a cas unique, and its block is swallowed", "cas a 0 0 7 +5\r\nget b\r\n\r\nget c\r\n",
     BAD_FORMAT " | get key=c"},
    {"an expiry may be negative", "set a 0 -1 1\r\nx\r\n", "set key=a exptime=-1 value=x"},
    {"an expiry is the lower 32 bits of 64, with their sign",
     "set a 0 4294967295 1\r\nx\r\nset a 0 4294967296 1\r\nx\r\n",
     "set key=a exptime=-1 value=x | set key=a value=x"},
    {"flags are the lower 32 bits of 64",
     "set a 4294967295 0 1\r\nx\r\nset a 4294967297 0 1\r\nx\r\n",
     "set key=a flags=4294967295 value=x | set key=a flags=1 value=x"},
};

static const struct row refused_storage[] = {
    {"too few words announce no block", "set\r\nset a\r\nset a 0 0\r\nget b\r\n",
     BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT " | get key=b"},
    {"an unreadable length announces no block", "set a 0 0 x\r\nget b\r\nset a 0 0 -1\r\nget b\r\n",
     BAD_FORMAT " | get key=b | " BAD_FORMAT " | get key=b"},
    {"a length over 31 bits is unreadable",
     "set a 0 0 2147483646\r\nset a 0 0 99999999999\r\nget b\r\n",
     BAD_FORMAT " | " BAD_FORMAT " | get key=b"},
    {"an unreadable length is told to a client that wants no reply", "set a 0 0 x noreply\r\n",
     BAD_FORMAT},
    {"bad flags: the block is swallowed", "set a x 0 7\r\nget b\r\n\r\nget c\r\n",
     BAD_FORMAT " | get key=c"},
    {"flags over 64 bits or negative are bad",
     "set a 18446744073709551616 0 1\r\nx\r\nset a -1 0 1\r\nx\r\nget c\r\n",
     BAD_FORMAT " | " BAD_FORMAT " | get key=c"},
    {"a bad expiry: the block is swallowed", "set a 0 1x 7\r\nget b\r\n\r\nget c\r\n",
     BAD_FORMAT " | get key=c"},
    {"an expiry over 64 bits is bad", "set a 0 9223372036854775808 1\r\nx\r\nget c\r\n",
     BAD_FORMAT " | get key=c"},
    {"a long key: the block is swallowed", "set " K250 "k 0 0 7\r\nget b\r\n\r\nget c\r\n",
     BAD_FORMAT " | get key=c"},
    {"a bad unique: the block is swallowed",
     "cas a 0 0 1 0x10\r\nx\r\ncas a 0 0 1 -1\r\nx\r\nget c\r\n",
     BAD_FORMAT " | " BAD_FORMAT " | get key=c"},
    {"a missing unique: the block is swallowed", "cas a 0 0 1\r\nx\r\nget c\r\n",
     BAD_FORMAT " | get key=c"},
    {"noreply hides what is wrong when the length is right",
     "set a x 0 1 noreply\r\nx\r\ncas a 0 0 1 noreply\r\nx\r\nget c\r\n",
     BAD_FORMAT " noreply | " BAD_FORMAT " noreply | get key=c"},
    {"two words of a key shift the numbers", "set two words 5 0 1\r\n1\r\nget c\r\n",
     BAD_FORMAT " | " BAD_FORMAT " | get key=c"},
    {"a block that is too long costs length + 2 bytes", "set a 0 0 2\r\nabc\r\nget c\r\n",
     BAD_CHUNK " | " BAD_FORMAT " | get key=c"},
    {"a block that is too short takes what follows", "set a 0 0 4\r\na\r\nget cd\r\n",
     BAD_CHUNK " | ERROR"},
    {"a block must end in both bytes", "set a 0 0 1\r\nx\n\nget c\r\n", BAD_CHUNK " | get key=c"},
    {"noreply hides a bad chunk", "set a 0 0 1 noreply\r\nxyz", BAD_CHUNK " noreply"},
};

static const struct row one_line[] = {
    {"delete", "delete a\r\ndelete a noreply\r\n", "delete key=a | delete key=a noreply"},
    {"delete takes a zero", "delete a 0\r\ndelete a 0 noreply\r\n",
     "delete key=a | delete key=a noreply"},
    {"delete takes nothing else",
     "delete a 5\r\ndelete a 00\r\ndelete a 0 x\r\ndelete a noreply 0\r\n",
     BAD_DELETE " | " BAD_DELETE " | " BAD_DELETE " | " BAD_DELETE},
    {"delete noreply deletes a key of that name", "delete noreply\r\n", "delete key=noreply"},
    {"delete needs a key", "delete\r\ndelete " K250 "k\r\n", BAD_FORMAT " | " BAD_FORMAT},
    {"incr and decr", "incr a 1\r\ndecr a 18446744073709551615 noreply\r\n",
     "incr key=a delta=1 | decr key=a delta=18446744073709551615 noreply"},
    {"a delta is a number of 64 bits without a sign",
     "incr a x\r\nincr a -1\r\nincr a +5\r\nincr a 1x\r\nincr a 18446744073709551616\r\n",
     BAD_DELTA " | " BAD_DELTA " | " BAD_DELTA " | " BAD_DELTA " | " BAD_DELTA},
    {"a second word of the key is the delta", "incr two words 1\r\n", BAD_DELTA},
    {"incr needs a key and a delta", "incr\r\nincr a\r\nincr a  \r\nincr " K250 "k 1\r\n",
     BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT},
    {"noreply hides a bad delta", "incr a x noreply\r\n", BAD_DELTA " noreply"},
    {"touch", "touch a 100\r\ntouch a -1 noreply\r\n",
     "touch key=a exptime=100 | touch key=a exptime=-1 noreply"},
    {"touch takes a number of 32 bits", "touch a x\r\ntouch a 4294967295\r\ntouch two words 0\r\n",
     BAD_EXPTIME " | " BAD_EXPTIME " | " BAD_EXPTIME},
    {"touch needs a key and an expiry", "touch\r\ntouch a\r\ntouch a \r\ntouch  0\r\n",
     BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT},
    {"flush_all", "flush_all\r\nflush_all 10\r\nflush_all -1\r\n",
     "flush_all | flush_all exptime=10 | flush_all exptime=-1"},
    {"flush_all noreply, with or without a delay", "flush_all noreply\r\nflush_all 10 noreply\r\n",
     "flush_all noreply | flush_all exptime=10 noreply"},
    {"flush_all takes a number", "flush_all abc\r\nflush_all abc noreply\r\n",
     BAD_EXPTIME " | " BAD_EXPTIME " noreply"},
    {"and noreply is its last word",
     "flush_all noreply x\r\nflush_all noreply 0\r\nflush_all noreply noreply\r\n",
     BAD_EXPTIME " | " BAD_EXPTIME " | " BAD_EXPTIME " noreply"},
    {"of 32 bits",
     "flush_all 2147483647\r\nflush_all 2147483648\r\nflush_all 99999999999999\r\nflush_all +5\r\n",
     "flush_all exptime=2147483647 | " BAD_EXPTIME " | " BAD_EXPTIME " | " BAD_EXPTIME},
};

static const struct row administration[] = {
    {"version and quit ignore what follows", "version\r\nversion x\r\nquit\r\n",
     "version | version args=x | quit"},
    {"stats has arguments", "stats\r\nstats  detail   dump \r\n",
     "stats | stats args=detail   dump"},
    {"verbosity takes a number", "verbosity 1\r\nverbosity 1 noreply\r\n",
     "verbosity delta=1 | verbosity delta=1 noreply"},
    {"verbosity needs a number", "verbosity\r\nverbosity x\r\nverbosity noreply\r\n",
     BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT " noreply"},
    {"cache_disklimit takes a number", "cache_disklimit 64\r\n", "cache_disklimit delta=64"},
    {"cache_memlimit takes a number", "cache_memlimit 64\r\n", "cache_memlimit delta=64"},
    {"cache_memlimit without one is an error", "cache_memlimit\r\ncache_memlimit x\r\n",
     "ERROR | ERROR"},
    {"shutdown, watch, lru_crawler hand on their words",
     "shutdown graceful\r\nwatch fetchers\r\nlru_crawler metadump all\r\n",
     "shutdown args=graceful | watch args=fetchers | lru_crawler args=metadump all"},
    {"lru and slabs know noreply", "lru mode flat noreply\r\nslabs automove 1\r\nslabs noreply\r\n",
     "lru args=mode flat noreply | slabs args=automove 1 | slabs noreply"},
    {"refresh_certs", "refresh_certs\r\n", "refresh_certs"},
    {"commands are lower case", "GET a\r\n", "ERROR"},
    {"an unknown command", "bogus\r\nbogus x y\r\ngetx a\r\n", "ERROR | ERROR | ERROR"},
    {"a line of one letter is not even a command", "a\r\n0\r\na b\r\n",
     BAD_FORMAT " | " BAD_FORMAT " | ERROR"},
    {"a blank line", "\r\n\n  \r\n", BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT},
    {"HTTP is left in silence", "GET / HTTP/1.1\r\nHost: x\r\n", " close"},
    {"HTTP may be asked for as a key", "get HTTP/1.1\r\n", "get key=HTTP/1.1"},
    {"HTTP must be the last word", "POST HTTP/1.1 x\r\n", "ERROR"},
};

#define BAD_TOKEN   "CLIENT_ERROR bad token in command line format"
#define BAD_KEY     "CLIENT_ERROR error decoding key"
#define BAD_FLAG    "CLIENT_ERROR invalid flag"
#define DUPLICATE   "CLIENT_ERROR duplicate flag"
#define BAD_MA_FLAG "CLIENT_ERROR invalid or duplicate flag"
#define BAD_MS_MODE "CLIENT_ERROR invalid mode for ms M token"
#define BAD_MA_MODE "CLIENT_ERROR invalid mode for ma M token"
#define BAD_OPAQUE  "CLIENT_ERROR opaque token too long"
#define TOO_MANY    "CLIENT_ERROR options flags are too long"
#define O31         "ooooooooooooooooooooooooooooooo"

static const struct row meta[] = {
    {"mg has a key and flags", "mg a\r\nmg a v\nmg a s v  q \r\n",
     "mg key=a | mg key=a args= v | mg key=a args= s v  q"},
    {"flags have arguments", "mg a E1 N-1 R30 T100 Oabc\r\nmg a C5\r\n",
     "mg key=a exptime=100 args= E1 N-1 R30 T100 Oabc new-cas=1 vivify=100 recache=30 | "
     "mg key=a cas=5 args= C5"},
    {"of N and T the last is the expiry of a new item", "mg a T5 N7\r\n",
     "mg key=a exptime=5 args= T5 N7 vivify=7"},
    {"ms is a line and a block", "ms a 3\r\nabc\r\nms a 2 T9 F7 MA I\r\n\r\n\r\n",
     "ms key=a value=abc mode=S | "
     "ms key=a flags=7 exptime=9 value=\r\n args= T9 F7 MA I mode=A vivify=9"},
    {"md, ma, me, mn", "md a I x\r\nma a\r\nma a D5 J6 MD\r\nme a\r\nmn\r\nmn x\r\n",
     "md key=a args= I x | ma key=a delta=1 mode=I | "
     "ma key=a delta=5 initial=6 args= D5 J6 MD mode=D | me key=a | mn | mn"},
    {"a key may come in base64", "mg Zm9v b\r\nms Zm9vYg== 1 b\r\nx\r\nme Zm9vYmE= b\r\n",
     "mg key=foo args= b | ms key=foob value=x args= b mode=S | me key=fooba args=b"},
    {"what is no digit of base64 is skipped", "mg key:3 b\r\nmg Zm\t9v b k\r\n",
     "mg key=\x91\xec\xb7 args= b | mg key=foo args= b k"},
    {"a key that cannot be decoded",
     "mg a b\r\nmd Zm9 b\r\nma = b\r\nms Z=== 7 b\r\nget b\r\n\r\nme a b\r\nget c\r\n",
     BAD_KEY " | " BAD_KEY " | " BAD_MA_FLAG " | " BAD_KEY " | " BAD_FORMAT " | get key=c"},
    {"a key has 250 bytes",
     "mg " K250 "\r\nmg " K250 "k\r\nms " K250 "k 7\r\nget b\r\n\r\nget c\r\n",
     "mg key=" K250 " | " BAD_FORMAT " | " BAD_FORMAT " | get key=c"},
    {"a flag twice", "mg a v v\r\nms a 7 v v\r\nget b\r\n\r\nma a v v\r\n",
     DUPLICATE " | " DUPLICATE " | " BAD_MA_FLAG},
    {"twice comes before a bad argument", "mg a Tx v v\r\n", DUPLICATE},
    {"a letter that is no flag", "mg a z\r\nmd a Sx\r\nma a Z\r\nms a 7 X\r\nget b\r\n\r\n",
     BAD_FLAG " | " BAD_FLAG " | " BAD_MA_FLAG " | " BAD_FLAG},
    {"flags of other commands, and of proxies, are ignored", "mg a I x D5 MX P Lpath\r\n",
     "mg key=a delta=5 args= I x D5 MX P Lpath mode=X"},
    {"what cannot be a flag", "mg a ?\r\nmd a 0\r\nma a +\r\n",
     BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT},
    {"the block of an ms is dropped, whatever its flags look like",
     "ms a 9 0 0\r\nflush_all\r\nms a 7 !!\r\nget b\r\n\r\nms a 7 v \x01 I\r\nget b\r\n\r\nms a 7 "
     "q 7 "
     "k\nget b\r\n\r\nms a 0 \"\r\n\r\nget c\r\n",
     BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT " | get key=c"},
    {"bad arguments",
     "mg a T\r\nmg a T+5\r\nmg a N4294967295\r\nmg a E0x10\r\nmg a C-1\r\nma a D+5\r\nma a J\r\nmg "
     "a F\r\n",
     BAD_TOKEN " | " BAD_TOKEN " | " BAD_TOKEN " | " BAD_TOKEN " | " BAD_TOKEN " | " BAD_MA_FLAG
               " | " BAD_MA_FLAG " | " BAD_FORMAT},
    {"a bad argument of an ms: the block is swallowed",
     "ms a 7 T\r\nget b\r\n\r\nms a 7 Fx\r\nget b\r\n\r\nms a 7 F+5\r\nget b\r\n\r\nms a 7 "
     "Mx\r\nget b\r\n\r\nget c\r\n",
     BAD_TOKEN " | " BAD_FORMAT " | " BAD_FORMAT " | " BAD_MS_MODE " | get key=c"},
    {"a length that cannot be read announces nothing",
     "ms a\r\nms a x\r\nms a -1\r\nms a +1\r\nms a 2147483646\r\nget c\r\n",
     BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT " | get key=c"},
    {"a bad chunk", "ms a 1\r\nxyzget c\r\n", "CLIENT_ERROR bad data chunk | get key=c"},
    {"modes are upper case, and one letter decides", "ms a 1 Ms\r\nx\r\nma a M\r\nma a MDECR\r\n",
     BAD_MS_MODE " | " BAD_MA_MODE " | ma key=a delta=1 args= MDECR mode=D"},
    {"an opaque has 31 bytes", "mg a O" O31 "\r\nmg a O" O31 "o\r\nmg a O\r\n",
     "mg key=a args= O" O31 " | " BAD_OPAQUE " | mg key=a args= O"},
    {"a line has 20 words",
     "mg a b c f h k l q s t u v x I P L O M F1\r\nmg a c f h k l q s t u v x I P L O M E1 F1 "
     "J1\r\n",
     BAD_KEY " | " TOO_MANY},
    {"a key is needed", "mg\r\nms\r\nmd\r\nma\r\nme\r\n",
     BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT " | " BAD_FORMAT},
    {"other words of two letters are no commands", "mx a\r\nxg a\r\nm\r\n",
     "ERROR | ERROR | " BAD_FORMAT},
};

struct table {
    const struct row *rows;
    size_t len;
};

#define TABLE(rows)                                                                                \
    {                                                                                              \
        rows, sizeof(rows) / sizeof((rows)[0])                                                     \
    }

static const struct table tables[] = {
    TABLE(retrieval), TABLE(storage),        TABLE(refused_storage),
    TABLE(one_line),  TABLE(administration), TABLE(meta),
};

static struct transcript whole;
static struct transcript cut;

/* Calls check for every row of every table; true if all are right. */
static bool every_row(bool (*check)(const struct row *row))
{
    bool right = true;
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (size_t i = 0; i < tables[t].len; i++)
            right &= check(&tables[t].rows[i]);
    }
    return right;
}

static bool matches(const struct row *row, const char *how, size_t where, const char *got)
{
    if (strcmp(row->requests, got) == 0)
        return true;
    print_error("%s (%s %zu)\n  want: %s\n  got:  %s\n", row->says, how, where, row->requests, got);
    return false;
}

static bool row_holds(const struct row *row)
{
    size_t len = strlen(row->stream);
    feed(row->stream, len, len, ITEM_SIZE_MAX, &whole);
    return matches(row, "whole", len, whole.text);
}

static void test_each_stream_gives_its_requests(void **state)
{
    (void)state;
    assert_true(every_row(row_holds));
}

static bool row_holds_in_steps(const struct row *row)
{
    size_t len = strlen(row->stream);
    for (size_t step = 1; step < len; step++) {
        feed(row->stream, len, step, ITEM_SIZE_MAX, &cut);
        if (!matches(row, "in steps of", step, cut.text))
            return false;
    }
    return true;
}

static void test_it_does_not_matter_how_the_bytes_arrive(void **state)
{
    (void)state;
    assert_true(every_row(row_holds_in_steps));
}

static bool row_holds_for_prefixes(const struct row *row)
{
    size_t len = strlen(row->stream);
    for (size_t prefix = 0; prefix < len; prefix++) {
        feed(row->stream, prefix, prefix + 1, ITEM_SIZE_MAX, &cut);
        if (strncmp(row->requests, cut.text, cut.len) != 0)
            return matches(row, "prefix of", prefix, cut.text);
    }
    return true;
}

static void test_a_prefix_gives_the_first_of_the_requests(void **state)
{
    (void)state;
    assert_true(every_row(row_holds_for_prefixes));
}

static void test_a_partial_block_tells_how_much_it_needs(void **state)
{
    (void)state;
    static const char stream[] = "set a 0 0 10\r\n0123456789\r\n";
    const size_t len = sizeof(stream) - 1;
    for (size_t have = 0; have < len; have++) {
        struct text_parser parser = {.item_size_max = ITEM_SIZE_MAX};
        struct request request;
        size_t consumed;
        size_t need;
        assert_int_equal(
            text_parse(&parser, at_the_edge(stream, have), have, &request, &consumed, &need),
            PARSE_PARTIAL);
        assert_int_equal(consumed, 0);
        assert_int_equal(need, have < 14 ? 0 : len);
    }
}

/* The largest value of key `a` is `max`. Its line is written to out; returns the line's length. */
static size_t store_line(char *out, size_t len)
{
    return (size_t)sprintf(out, "set a 0 0 %zu\r\n", len);
}

static void test_a_value_of_exactly_the_item_limit_is_stored(void **state)
{
    (void)state;
    static char stream[2 * ITEM_SIZE_MAX];
    size_t value_len = ITEM_SIZE_MAX - ITEM_OVERHEAD - 1;
    size_t len = store_line(stream, value_len);
    memset(stream + len, 'x', value_len);
    memcpy(stream + len + value_len, "\r\n", 3);
    feed(stream, strlen(stream), 1000, ITEM_SIZE_MAX, &whole);
    assert_int_equal(whole.requests, 1);
    assert_null(strstr(whole.text, "too-large"));
}

static void test_a_larger_value_is_refused_at_once_and_swallowed(void **state)
{
    (void)state;
    static char stream[2 * ITEM_SIZE_MAX];
    size_t value_len = ITEM_SIZE_MAX - ITEM_OVERHEAD;
    size_t len = store_line(stream, value_len);
    feed(stream, len, len, ITEM_SIZE_MAX, &whole);
    assert_string_equal(whole.text, "set key=a too-large");
    memset(stream + len, 'x', value_len);
    memcpy(stream + len + value_len, "\r\nget b\r\n", 10);
    feed(stream, strlen(stream), 1000, ITEM_SIZE_MAX, &whole);
    assert_string_equal(whole.text, "set key=a too-large | get key=b");
}

static void test_the_limit_of_1m_is_memcacheds(void **state)
{
    (void)state;
    char line[64];
    feed(line, store_line(line, 1047552), 64, 1 << 20, &whole);
    assert_string_equal(whole.text, "");
    feed(line, store_line(line, 1049600), 64, 1 << 20, &whole);
    assert_string_equal(whole.text, "set key=a too-large");
}

static void test_a_swallowed_value_may_be_of_any_length(void **state)
{
    (void)state;
    struct text_parser parser = {.item_size_max = ITEM_SIZE_MAX};
    parser.swallow = UINT64_C(1) << 33;
    static char block[STREAM_MAX];
    for (uint64_t dropped = 0; dropped < UINT64_C(1) << 33; dropped += sizeof(block)) {
        struct request request;
        size_t consumed;
        size_t need;
        assert_int_equal(text_parse(&parser, block, sizeof(block), &request, &consumed, &need),
                         PARSE_PARTIAL);
        assert_int_equal(consumed, sizeof(block));
    }
    assert_int_equal(parser.swallow, 0);
}

static char long_stream[STREAM_MAX];

/* head, then `count` times `word`, then tail. */
static void feed_long(const char *head, const char *word, size_t count, const char *tail,
                      size_t step)
{
    char *at = long_stream + sprintf(long_stream, "%s", head);
    for (size_t i = 0; i < count; i++)
        at += sprintf(at, "%s", word);
    at += sprintf(at, "%s", tail);
    feed(long_stream, (size_t)(at - long_stream), step, ITEM_SIZE_MAX, &whole);
}

static void test_a_line_of_2048_bytes_is_waited_for(void **state)
{
    (void)state;
    feed_long("", "x", 2048, "", 1);
    assert_string_equal(whole.text, "");
    feed_long("", "x", 2047, "\r\n", 1);
    assert_string_equal(whole.text, "ERROR");
}

static void test_a_longer_line_that_is_at_hand_is_a_line(void **state)
{
    (void)state;
    feed_long("", "x", 5000, "\r\nget a\r\n", STREAM_MAX);
    assert_string_equal(whole.text, "ERROR | get key=a");
}

static void test_an_endless_line_closes_in_silence(void **state)
{
    (void)state;
    static const char *const heads[] = {"", "set ", "gat 0 ", "GET ", "get\t", "delete "};
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        feed_long(heads[i], "a ", 2000, "", 1);
        assert_string_equal(whole.text, " close");
    }
    feed_long("", " ", 2049, "", 1);
    assert_string_equal(whole.text, " close");
}

static void test_a_long_get_is_taken_when_its_end_is_there(void **state)
{
    (void)state;
    feed_long("get ", "a ", 5000, "\r\nget b\r\n", 700);
    assert_int_equal(whole.requests, 5001);
    static const char last[] = "get key=a more | get key=a | get key=b";
    assert_string_equal(whole.text + whole.len - strlen(last), last);
    feed_long("gets ", "a ", 5000, "", 700);
    assert_string_equal(whole.text, "");
    feed_long("get a", " ", 10000, "\r\n", 1);
    assert_string_equal(whole.text, "get key=a");
}

static void test_a_long_get_is_searched_once_and_ends_at_16_mib(void **state)
{
    (void)state;
    const size_t most = TEXT_GET_LINE_MAX;
    char *line = test_malloc(most + 1);
    struct text_parser parser = {.item_size_max = ITEM_SIZE_MAX};
    struct request request;
    size_t consumed, need;
    for (size_t i = 0; i <= most; i++)
        line[i] = "key "[i % 4];
    memcpy(line, "get ", 4);
    for (size_t len = 5000; len <= most; len += len < most - 5000 ? most - 5000 - len : 1000) {
        assert_int_equal(text_parse(&parser, line, len, &request, &consumed, &need), PARSE_PARTIAL);
        assert_int_equal(consumed, 0);
        assert_int_equal(parser.line_seen, len);
    }
    assert_int_equal(text_parse(&parser, line, most, &request, &consumed, &need), PARSE_PARTIAL);
    assert_int_equal(text_parse(&parser, line, most + 1, &request, &consumed, &need), PARSE_CLOSE);
    assert_int_equal(request.error, REPLY_LINE_TOO_LONG);
    parser = (struct text_parser){.item_size_max = ITEM_SIZE_MAX};
    text_parse(&parser, line, most - 1, &request, &consumed, &need);
    line[most - 1] = '\n';
    assert_int_equal(text_parse(&parser, line, most, &request, &consumed, &need), PARSE_REQUEST);
    assert_int_equal(parser.line_seen, 0);
    test_free(line);
}

static void test_a_long_get_may_have_100_blanks_before_it(void **state)
{
    (void)state;
    char head[128];
    sprintf(head, "%100sget ", "");
    feed_long(head, "a ", 1500, "\n", 1);
    assert_int_equal(whole.requests, 1500);
    sprintf(head, "%101sget ", "");
    feed_long(head, "a ", 1500, "\n", 1);
    assert_string_equal(whole.text, " close");
}

static void test_a_bad_key_of_a_long_get_is_all_that_is_answered(void **state)
{
    (void)state;
    feed_long("get ", "k", 2500, "\r\nget b\r\n", 100);
    assert_string_equal(whole.text, BAD_FORMAT " | get key=b");
    feed_long("get ", K250 " ", 20, K250 "\r\n", 100);
    assert_int_equal(whole.requests, 21);
    feed_long("get ", K250 " ", 20, K250 "k\r\nget b\r\n", 100);
    assert_string_equal(whole.text, BAD_FORMAT " | get key=b");
    feed_long("get ", " ", 10000, "\r\n", 100);
    assert_string_equal(whole.text, BAD_FORMAT);
}

static struct rng rng;

/* Pieces of the language, so that random streams come past the first word. */
static size_t random_stream(char *out, size_t len_max)
{
    static const char *const words[] = {
        "get ",
        "gets ",
        "gat ",
        "gats ",
        "set ",
        "add ",
        "cas ",
        "append ",
        "incr ",
        "decr ",
        "touch ",
        "delete ",
        "flush_all",
        "stats ",
        "verbosity ",
        "lru ",
        "HTTP/",
        "mg ",
        "ms ",
        "md ",
        "ma ",
        "me ",
        "mn",
        " b",
        " v",
        " T30",
        " Oabc",
        " MA",
        "Zm9v",
        "noreply",
        "a",
        "key",
        K50,
        K250,
        "0",
        "1",
        "2",
        "10",
        "-1",
        "300",
        "5000",
        "4294967296",
        "18446744073709551615",
        " ",
        " ",
        " ",
        "  ",
        "\r",
        "\n",
        "\r\n",
        "\r\n",
        "\r\n",
        "\r\n",
        " 0 0 1\r\nx\r\n",
        " 0 0 0\r\n\r\n",
        " 1 2 3 ",
    };
    size_t len = 0;
    size_t want = rng_below(&rng, (uint32_t)len_max);
    while (len < want) {
        const char *word = words[rng_below(&rng, sizeof(words) / sizeof(words[0]))];
        size_t word_len = strlen(word);
        if (rng_below(&rng, 16) == 0)
            out[len++] = (char)(1 + rng_below(&rng, 255));
        else if (len + word_len <= len_max)
            len += (size_t)sprintf(out + len, "%s", word);
    }
    return len;
}

static void test_random_streams_break_nothing_however_they_are_cut(void **state)
{
    (void)state;
    rng.state = number_from_env("SEED", (uint64_t)time(NULL));
    print_message("SEED=%" PRIu64 "\n", rng.state);
    static char stream[2048];
    for (int round = 0; round < 20000; round++) {
        size_t len = random_stream(stream, 1500);
        feed(stream, len, len + 1, 400, &whole);
        feed(stream, len, 1 + rng_below(&rng, 64), 400, &cut);
        assert_string_equal(whole.text, cut.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_stream_gives_its_requests),
        cmocka_unit_test(test_it_does_not_matter_how_the_bytes_arrive),
        cmocka_unit_test(test_a_prefix_gives_the_first_of_the_requests),
        cmocka_unit_test(test_a_partial_block_tells_how_much_it_needs),
        cmocka_unit_test(test_a_value_of_exactly_the_item_limit_is_stored),
        cmocka_unit_test(test_a_larger_value_is_refused_at_once_and_swallowed),
        cmocka_unit_test(test_the_limit_of_1m_is_memcacheds),
        cmocka_unit_test(test_a_swallowed_value_may_be_of_any_length),
        cmocka_unit_test(test_a_line_of_2048_bytes_is_waited_for),
        cmocka_unit_test(test_a_longer_line_that_is_at_hand_is_a_line),
        cmocka_unit_test(test_an_endless_line_closes_in_silence),
        cmocka_unit_test(test_a_long_get_is_taken_when_its_end_is_there),
        cmocka_unit_test(test_a_long_get_may_have_100_blanks_before_it),
        cmocka_unit_test(test_a_bad_key_of_a_long_get_is_all_that_is_answered),
        cmocka_unit_test(test_a_long_get_is_searched_once_and_ends_at_16_mib),
        cmocka_unit_test(test_random_streams_break_nothing_however_they_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
