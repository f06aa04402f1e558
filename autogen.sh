#!/bin/sh
# autogen.sh: makes ./configure and its helpers out of configure.ac and Makefile.am.
#
# usage: ./autogen.sh && ./configure && make
set -eu
cd "$(dirname "$0")"

for tool in autoreconf automake pkg-config; do
    command -v "$tool" >/dev/null && continue
    echo "autogen.sh: $tool is missing; on Debian: apt-get install autoconf automake pkg-config" >&2
    exit 1
done
exec autoreconf --install
