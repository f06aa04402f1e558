# storage/: the embeddable library.
noinst_LIBRARIES += libcachecask.a
libcachecask_a_SOURCES = \
    storage/backpressure.c storage/backpressure.h \
    storage/cache.c storage/cache.h \
    storage/clean.c storage/clean.h \
    storage/clean_plan.c storage/clean_plan.h \
    storage/cleaner.c storage/cleaner.h \
    storage/datadir.c storage/datadir.h \
    storage/fetch.c \
    storage/file.c storage/file.h \
    storage/hash.c storage/hash.h \
    storage/hint.c storage/hint.h \
    storage/histogram.c storage/histogram.h \
    storage/keydir.c storage/keydir.h \
    storage/list.c storage/list.h \
    storage/pace.c storage/pace.h \
    storage/load.h storage/location.h \
    storage/log.c storage/log.h \
    storage/log_disk.c storage/log_disk.h storage/log_sync.c \
    storage/maintain.c \
    storage/memory.h \
    storage/monotonic.h \
    storage/reader.c storage/reader.h \
    storage/recall.c \
    storage/record.c storage/record.h \
    storage/recover.c storage/recover.h \
    storage/recover_files.c storage/recover_files.h \
    storage/rescue.c storage/rescue.h \
    storage/ring.h \
    storage/segment.c storage/segment.h \
    storage/segment_files.c storage/segment_files.h \
    storage/status.h \
    storage/store.c storage/store.h \
    storage/store_internal.h \
    storage/store_open.c \
    storage/tail.c storage/tail.h \
    storage/tell.c storage/tell.h

if HAVE_URING
libcachecask_a_SOURCES += storage/ring.c storage/uring.c storage/uring.h
libcachecask_a_CFLAGS = $(AM_CFLAGS) $(URING_CFLAGS)
else
libcachecask_a_SOURCES += storage/ring_none.c
endif
