# src/: the server.
bin_PROGRAMS += cachecask
cachecask_SOURCES = src/main.c $(server_sources)
server_sources = \
    src/address.c src/address.h \
    src/auth_file.c src/auth_file.h \
    src/clock.c src/clock.h \
    src/command.c src/command.h \
    src/command_admin.c \
    src/command_binary.c \
    src/command_internal.h \
    src/command_meta.c \
    src/conn.c src/conn.h src/conn_state.c \
    src/counters.def \
    src/dump.c src/dump.h \
    src/encode.h \
    src/fetched.c src/fetched.h \
    src/journal.c src/journal.h \
    src/listen.c \
    src/mount.c src/mount.h \
    src/number.h \
    src/output.c src/output.h \
    src/privileges.h \
    src/prefix.c src/prefix.h \
    src/process.c src/process.h \
    src/progress.c src/progress.h \
    src/replace_file.c src/replace_file.h \
    src/rights.c src/rights.h \
    src/sasl.h \
    src/server.c src/server.h \
    src/socket_ring.h \
    src/round.c \
    src/settings.c src/settings.h src/settings_check.c src/settings_check.h src/settings_stats.c \
    src/signals.c src/signals.h \
    src/spare.c src/spare.h \
    src/stats.c src/stats.h \
    src/tls.h \
    src/trace.c src/trace.h \
    src/udp.c src/udp.h \
    src/watch.c src/watch.h \
    src/watch_lines.c \
    src/watch_log.c src/watch_log.h \
    src/worker.c src/worker.h
cachecask_LDADD = libprotocol.a libcachecask.a $(LIBEVENT_LIBS) $(XXHASH_LIBS) $(URING_LIBS) $(OPENSSL_LIBS) \
    $(SASL_LIBS) $(SECCOMP_LIBS)

if HAVE_SASL
server_sources += src/sasl.c
else
server_sources += src/sasl_absent.c
endif

if HAVE_TLS
server_sources += src/tls.c
else
server_sources += src/tls_none.c
endif

if HAVE_URING
server_sources += src/socket_ring.c
else
server_sources += src/socket_ring_none.c
endif

if HAVE_SECCOMP
server_sources += src/privileges.c src/landlock.c src/landlock.h
else
server_sources += src/privileges_absent.c
endif
