"""Where cachecask answers differently from Debian's memcached 1.6.18, and why: the one table of
differential.py."""
import re

BAD_FORMAT = rb"CLIENT_ERROR bad command line format\r\n"

TOO_FEW = (rb"gets?|gats?( +\S+)?|(set|add|replace|append|prepend)( +\S+){0,3}|cas( +\S+){0,4}"
           rb"|(incr|decr|touch)( +[^ \r\n]+)?|delete|verbosity|mg|ms|md|ma")

# protocols, sent, answer of 1.6.18, ours (regular expressions of the whole), reason
KNOWN = [
    ("text meta", rb"(set|add|replace|append|prepend|cas) .*\.\.\.\.\.\r\n",
     rb"(" + BAD_FORMAT + rb"|ERROR\r\n)?ERROR\r\n", rb"(" + BAD_FORMAT + rb")?",
     "the block behind a line with a bad key, flags or expiry, or without its CAS unique, is data "
     "and no commands"),
    ("text meta", rb" *(\S?|(%s)) *\r?\n" % TOO_FEW, rb"ERROR\r\n|END\r\n", BAD_FORMAT,
     "newer releases tell a line with too few words from an unknown command, and from a get that "
     "finds nothing"),
    ("text meta", rb" *(delete( +\S+){4,}|flush_all( +\S+){3,}) *\r?\n", rb"ERROR\r\n",
     rb"(CLIENT_ERROR .*)?", "the words themselves are looked at, not how many they are"),
    ("text meta", rb"shutdown\s+", rb"ERROR: shutdown not enabled\r\n",
     rb"SERVER_ERROR: shutdown not enabled\r\n", "newer releases say whose fault it is"),
    ("meta", rb"ms .*\.\.\.\.\.\r\n", rb"CLIENT_ERROR [^\r]*\r\n(ERROR\r\n)?",
     rb"CLIENT_ERROR [^\r]*\r\n",
     "newer releases have other words for it, and here the block behind a line with a good length "
     "is data, whatever its flags look like"),
    ("meta", rb"m[gda] .*", rb"CLIENT_ERROR [^\r]*\r\n", rb"CLIENT_ERROR [^\r]*\r\n",
     "newer releases have other words for it, and of two errors in a line tell the other one"),
    ("meta", rb"me .*", rb"ME .* exp=-\d+ .*", rb"ME .* exp=\d+ .*",
     "1.6.18 shows the seconds that are left as a negative number"),
    ("meta", rb"m[ga] (?=.* N\d).* t\s.*", rb"(HD|VA) .*t-1.*", rb"(HD|VA) .*t\d+.*",
     "1.6.18 does not know yet how long an item lives that N has just made"),
    ("meta", rb"mg (?=.* T-1\s).* t\s.*", rb"(HD|VA) .*t42949\d{5}.*", rb"(HD|VA) .*t0.*",
     "1.6.18 shows the seconds since the expiry without their sign"),
    ("meta", rb"m[gsda] (?=.* b\s).* k\s.*", rb"\w\w .*k.*",
     rb"\w\w .*k[A-Za-z0-9+/]+=*( .*)?\r\n.*",
     "1.6.18 forgets that the key of an item that N has made was written in base64"),
    ("meta", rb"ma .* C\S+.*", rb"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
     rb"EX.*",
     "1.6.18 refuses to count in a value of over half a megabyte before it looks at the "
     "CAS unique"),
    ("binary", rb"\x80[\x05\x06\x15\x16].*", rb".. (05|06|15|16) status=06 .*",
     rb".. .. status=02 .*",
     "1.6.18 refuses to count in a value of over half a megabyte before it looks at the CAS "
     "unique, in others behind that"),
]

KNOWN = [(protocols.split(), *(re.compile(pattern, re.S) for pattern in patterns))
         for protocols, *patterns, _ in KNOWN]


def is_known(protocol, sent, theirs, ours):
    return any(protocol in protocols and sent_like.fullmatch(sent) and
               theirs_like.fullmatch(theirs) and ours_like.fullmatch(ours)
               for protocols, sent_like, theirs_like, ours_like in KNOWN)
