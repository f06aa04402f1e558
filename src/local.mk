# src/: the server.
bin_PROGRAMS += cachecask
cachecask_SOURCES = src/main.c $(server_sources)
server_sources = \
    src/base/address.c src/base/address.h \
    src/command/auth_file.c src/command/auth_file.h \
    src/base/clock.c src/base/clock.h \
    src/command/command.c src/command/command.h \
    src/command/admin.c src/command/answer.c \
    src/command/arithmetic.c \
    src/command/auth.c \
    src/command/binary.c \
    src/command/client.h \
    src/command/context.h \
    src/command/get.c \
    src/command/internal.h \
    src/command/meta.c \
    src/command/write.c \
    src/net/conn.c src/net/conn.h src/net/conn_state.c \
    src/observe/counters.def src/observe/counters.h \
    src/observe/dump.c src/observe/dump.h \
    src/base/encode.h \
    src/base/stats_row.h \
    src/base/text.c src/base/text.h \
    src/command/fetches.c src/command/fetches.h \
    src/base/server_log.c src/base/server_log.h \
    src/listen.c \
    src/base/number.h \
    src/base/output.c src/base/output.h \
    src/privileges.h \
    src/observe/observed.h \
    src/observe/prefix.c src/observe/prefix.h \
    src/process.c src/process.h \
    src/progress.c src/progress.h \
    src/base/refuse.c src/base/refuse.h \
    src/base/replace_file.c src/base/replace_file.h \
    src/command/rights.c src/command/rights.h \
    src/command/sasl.h \
    src/net/listener.h \
    src/net/overdue.c src/net/overdue.h \
    src/net/server_state.h \
    src/server.c src/server.h src/server_stats.c \
    src/net/socket_ring.h \
    src/net/worker_round.c \
    src/config/option_value.c \
    src/config/options.c src/config/options.h \
    src/config/settings.c src/config/settings.h \
    src/config/settings_check.c src/config/settings_check.h \
    src/config/settings_file.c src/config/settings_file.h \
    src/config/settings_stats.c \
    src/signals.c src/signals.h \
    src/net/buffer_pool.c src/net/buffer_pool.h \
    src/observe/stats.c src/observe/stats.h src/observe/stats_text.c \
    src/net/tls.h \
    src/observe/request_log.c src/observe/request_log.h \
    src/net/udp.c src/net/udp.h \
    src/observe/watch.c src/observe/watch.h \
    src/observe/watch_lines.c \
    src/observe/watch_log.c src/observe/watch_log.h \
    src/net/waits.c src/net/waits.h \
    src/base/waker.h \
    src/net/worker.c src/net/worker.h src/net/worker_conns.c
cachecask_LDADD = libprotocol.a libcachecask.a $(LIBEVENT_LIBS) $(XXHASH_LIBS) $(URING_LIBS) $(OPENSSL_LIBS) \
    $(SASL_LIBS) $(SECCOMP_LIBS)

if HAVE_SASL
server_sources += src/command/sasl.c
else
server_sources += src/command/sasl_absent.c
endif

if HAVE_TLS
server_sources += src/net/tls.c
else
server_sources += src/net/tls_absent.c
endif

if HAVE_URING
server_sources += src/net/socket_ring.c
else
server_sources += src/net/socket_ring_absent.c
endif

if HAVE_SECCOMP
server_sources += src/privileges.c src/landlock.c src/landlock.h
else
server_sources += src/privileges_absent.c
endif
