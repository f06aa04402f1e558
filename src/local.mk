# src/: the server.
bin_PROGRAMS += cachecask
cachecask_SOURCES = \
    src/clock.c src/clock.h \
    src/command.c src/command.h \
    src/conn.c src/conn.h \
    src/main.c \
    src/server.c src/server.h \
    src/settings.c src/settings.h \
    src/stats.c src/stats.h \
    src/worker.c src/worker.h
cachecask_LDADD = libprotocol.a libcachecask.a $(LIBEVENT_LIBS) $(XXHASH_LIBS)
