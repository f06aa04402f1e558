# storage/: the embeddable library.
noinst_LIBRARIES += libcachecask.a
libcachecask_a_SOURCES = \
    storage/log/backpressure.c storage/log/backpressure.h \
    storage/cache/cache.c storage/cache/cache.h storage/cache/cache_internal.h \
    storage/cache/cache_evict.c storage/cache/cache_pages.c \
    storage/clean/clean_segment.c storage/clean/clean_segment.h storage/clean/clean_job.h \
    storage/clean/clean_copy.c storage/clean/clean_decide.c storage/clean/clean_moves.c \
    storage/clean/clean_remove.c \
    storage/clean/clean_plan.c storage/clean/clean_plan.h \
    storage/clean/cleaner.c storage/clean/cleaner.h \
    storage/datadir.c storage/datadir.h \
    storage/read/fetch.c \
    storage/base/counter.h storage/base/expiry.h \
    storage/base/file.c storage/file.h \
    storage/base/hash.c storage/base/hash.h \
    storage/log/hint.c storage/log/hint.h \
    storage/base/histogram.c storage/base/histogram.h \
    storage/index/keydir.c storage/index/keydir.h storage/index/keydir_internal.h \
    storage/index/keydir_memory.c storage/index/keydir_cuckoo.c storage/index/keydir_resize.c \
    storage/index/keydir_scan.c \
    storage/scan.c storage/scan.h \
    storage/clean/pace.c storage/clean/pace.h \
    storage/index/location.h \
    storage/log/log.c storage/log/log.h storage/log/log_internal.h \
    storage/log/log_backpressure.c storage/log/log_open.c storage/log/log_repair.c \
    storage/log/log_segments.c storage/log/log_space.c storage/log/log_sync.c \
    storage/log/log_write.c \
    storage/clean/background.c \
    storage/base/memory.h \
    storage/base/monotonic.h \
    storage/base/sessions.c storage/base/sessions.h \
    storage/base/thread.c storage/base/thread.h \
    storage/read/reader.c storage/read/reader.h \
    storage/clean/recall.c \
    storage/log/record.c storage/log/record.h \
    storage/log/recover.c storage/log/recover.h storage/log/recover_internal.h \
    storage/log/recover_read.c storage/log/recover_replay.c storage/log/recover_threads.c \
    storage/log/recover_files.c \
    storage/log/rescue.c \
    storage/read/ring.h \
    storage/log/segment.c storage/log/segment.h \
    storage/log/segment_files.c storage/log/segment_files.h \
    storage/status.h \
    storage/store.h storage/store_internal.h storage/store_find.h \
    storage/store_check.c storage/store_get.c storage/store_open.c storage/store_put.c \
    storage/store_session.c storage/store_stats.c \
    storage/log/tail.c \
    storage/base/report.c storage/report.h

if HAVE_URING
libcachecask_a_SOURCES += storage/read/ring.c storage/base/uring.c storage/base/uring.h
libcachecask_a_CFLAGS = $(AM_CFLAGS) $(URING_CFLAGS)
else
libcachecask_a_SOURCES += storage/read/ring_absent.c
endif
