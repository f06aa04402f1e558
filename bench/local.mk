# bench/: the load generator. It speaks to any memcached server, and to Redis, and shares no code
# with ours but the clock, so that a mistake in one cannot hide in the other.
bin_PROGRAMS += cachecask-bench
cachecask_bench_SOURCES = \
    bench/access_trace.c bench/access_trace.h \
    bench/bench.c \
    bench/client_thread.c bench/client_thread.h \
    bench/codec.c bench/codec.h \
    bench/codec_binary.c \
    bench/codec_line.h \
    bench/codec_meta.c \
    bench/codec_put.h \
    bench/codec_redis.c \
    bench/codec_text.c \
    bench/connection.c bench/connection.h \
    bench/distribution.c bench/distribution.h \
    bench/endpoint.c bench/endpoint.h \
    bench/hdr_histogram.c bench/hdr_histogram.h \
    bench/command_line.c bench/command_line.h \
    bench/phase.c bench/phase.h \
    bench/random.h \
    bench/phase_report.c bench/phase_report.h \
    bench/selftest.c bench/selftest.h \
    bench/sender.h \
    bench/tally.c bench/tally.h \
    bench/workload.c bench/workload.h
cachecask_bench_LDADD = $(URING_LIBS) -lm
cachecask_bench_CPPFLAGS = $(AM_CPPFLAGS) $(URING_CFLAGS)
if HAVE_URING
cachecask_bench_SOURCES += bench/sender.c
else
cachecask_bench_SOURCES += bench/sender_absent.c
endif

# What script/bench measures the servers against; of no use to anyone else.
noinst_PROGRAMS = bench-echo
bench_echo_SOURCES = bench/echo.c
bench_echo_LDADD =

# The store alone, by several threads: what docs/performance.md says of scaling.
noinst_PROGRAMS += bench-store
bench_store_SOURCES = bench/store_scaling.c bench/random.h
bench_store_LDADD = libcachecask.a $(XXHASH_LIBS) $(URING_LIBS)

# Threads against io_uring: what docs/performance.md says of cold reads.
if HAVE_URING
noinst_PROGRAMS += bench-reads
bench_reads_SOURCES = bench/cold_reads.c bench/hdr_histogram.c bench/hdr_histogram.h bench/random.h
bench_reads_CPPFLAGS = $(AM_CPPFLAGS) $(URING_CFLAGS)
bench_reads_LDADD = $(URING_LIBS) -lm
endif
EXTRA_DIST += bench/compare.py bench/groups.py bench/hitratio.py bench/host.py bench/items.py \
    bench/latency.py bench/perf.py bench/restart.py bench/servers.py bench/tables.py
