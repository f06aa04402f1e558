# bench/: the load generator. It speaks to any memcached server, and to Redis, and shares no code with ours.
bin_PROGRAMS += cachecask-bench
cachecask_bench_SOURCES = \
    bench/bench.c \
    bench/clock.h \
    bench/codec.c bench/codec.h \
    bench/codec_binary.c \
    bench/codec_meta.c \
    bench/codec_put.h \
    bench/codec_redis.c \
    bench/codec_text.c \
    bench/connection.c bench/connection.h \
    bench/distribution.c bench/distribution.h \
    bench/endpoint.c bench/endpoint.h \
    bench/histogram.c bench/histogram.h \
    bench/load.c bench/load.h \
    bench/options.c bench/options.h \
    bench/report.c bench/report.h \
    bench/selftest.c bench/selftest.h \
    bench/sender.h \
    bench/tally.c bench/tally.h \
    bench/trace.c bench/trace.h \
    bench/worker.c bench/worker.h \
    bench/workload.c bench/workload.h
cachecask_bench_LDADD = $(URING_LIBS) -lm
cachecask_bench_CPPFLAGS = $(AM_CPPFLAGS) $(URING_CFLAGS)
if HAVE_URING
cachecask_bench_SOURCES += bench/sender.c
else
cachecask_bench_SOURCES += bench/sender_none.c
endif

# What script/bench measures the servers against; of no use to anyone else.
noinst_PROGRAMS = bench-echo
bench_echo_SOURCES = bench/echo.c
bench_echo_LDADD =

# The store alone, by several threads: what docs/performance.md says of scaling.
noinst_PROGRAMS += bench-store
bench_store_SOURCES = bench/store.c bench/clock.h
bench_store_LDADD = libcachecask.a $(XXHASH_LIBS) $(URING_LIBS)

# Threads against io_uring: what docs/performance.md says of cold reads.
if HAVE_URING
noinst_PROGRAMS += bench-reads
bench_reads_SOURCES = bench/reads.c bench/clock.h bench/histogram.c bench/histogram.h
bench_reads_CPPFLAGS = $(AM_CPPFLAGS) $(URING_CFLAGS)
bench_reads_LDADD = $(URING_LIBS) -lm
endif
EXTRA_DIST += bench/compare.py bench/groups.py bench/hitratio.py bench/host.py bench/items.py bench/latency.py \
    bench/perf.py bench/restart.py bench/servers.py bench/tables.py
