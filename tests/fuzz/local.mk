# tests/fuzz/: fuzzers, each around libFuzzer. They need a build of their own (configure --enable-fuzzing, with clang), so nothing
# but `make fuzzers` makes them. script/fuzz does that, and runs them.
fuzzers = \
    tests/fuzz/fuzz_binary \
    tests/fuzz/fuzz_hint \
    tests/fuzz/fuzz_record \
    tests/fuzz/fuzz_server \
    tests/fuzz/fuzz_settings \
    tests/fuzz/fuzz_text \
    tests/fuzz/fuzz_udp
EXTRA_PROGRAMS += $(fuzzers)

fuzz_engine = -fsanitize=fuzzer
fuzz_stream = tests/fuzz/fuzz.h tests/fuzz/stream.h
fuzz_served = tests/fuzz/fuzz.h tests/fuzz/served.c tests/fuzz/served.h $(server_sources)

tests_fuzz_fuzz_binary_SOURCES = tests/fuzz/fuzz_binary.c $(fuzz_stream)
tests_fuzz_fuzz_binary_LDFLAGS = $(AM_LDFLAGS) $(fuzz_engine)
tests_fuzz_fuzz_binary_LDADD = libprotocol.a

tests_fuzz_fuzz_hint_SOURCES = tests/fuzz/fuzz_hint.c tests/fuzz/fuzz.h tests/fuzz/memory_files.h \
    tests/fuzz/sealed.h
tests_fuzz_fuzz_hint_LDFLAGS = $(AM_LDFLAGS) $(fuzz_engine)
tests_fuzz_fuzz_hint_LDADD = libcachecask.a $(XXHASH_LIBS) $(URING_LIBS)

tests_fuzz_fuzz_record_SOURCES = tests/fuzz/fuzz_record.c tests/fuzz/fuzz.h tests/fuzz/sealed.h
tests_fuzz_fuzz_record_LDFLAGS = $(AM_LDFLAGS) $(fuzz_engine)
tests_fuzz_fuzz_record_LDADD = libcachecask.a $(XXHASH_LIBS) $(URING_LIBS)

tests_fuzz_fuzz_server_SOURCES = tests/fuzz/fuzz_server.c tests/fuzz/stream.h $(fuzz_served)
tests_fuzz_fuzz_server_LDFLAGS = $(AM_LDFLAGS) $(fuzz_engine)
tests_fuzz_fuzz_server_LDADD = $(cachecask_LDADD)

tests_fuzz_fuzz_settings_SOURCES = tests/fuzz/fuzz_settings.c tests/fuzz/fuzz.h $(server_sources)
tests_fuzz_fuzz_settings_LDFLAGS = $(AM_LDFLAGS) $(fuzz_engine)
tests_fuzz_fuzz_settings_LDADD = $(cachecask_LDADD)

tests_fuzz_fuzz_text_SOURCES = tests/fuzz/fuzz_text.c $(fuzz_stream)
tests_fuzz_fuzz_text_LDFLAGS = $(AM_LDFLAGS) $(fuzz_engine)
tests_fuzz_fuzz_text_LDADD = libprotocol.a

tests_fuzz_fuzz_udp_SOURCES = tests/fuzz/fuzz_udp.c $(fuzz_served)
tests_fuzz_fuzz_udp_LDFLAGS = $(AM_LDFLAGS) $(fuzz_engine)
tests_fuzz_fuzz_udp_LDADD = $(cachecask_LDADD)

fuzzers: $(fuzzers)
.PHONY: fuzzers
