# tests/unit/: one program a file, named like it. A test without a list of sources is its own .c file.
storage_tests = \
    tests/unit/storage/test_backpressure \
    tests/unit/storage/test_damage \
    tests/unit/storage/test_datadir \
    tests/unit/storage/test_hint \
    tests/unit/storage/test_histogram \
    tests/unit/storage/test_keydir \
    tests/unit/storage/test_scan \
    tests/unit/storage/test_location \
    tests/unit/storage/test_record \
    tests/unit/storage/test_ring \
    tests/unit/storage/test_segment \
    tests/unit/storage/test_segment_files \
    tests/unit/storage/test_cache \
    tests/unit/storage/test_log \
    tests/unit/storage/test_background \
    tests/unit/storage/test_store \
    tests/unit/storage/test_clean_plan \
    tests/unit/storage/test_cleaner \
    tests/unit/storage/test_model \
    tests/unit/storage/test_power \
    tests/unit/storage/test_dropped \
    tests/unit/storage/test_fault_loop \
    tests/unit/storage/test_recover

# What they share.
storage_support = tests/unit/storage/support/libsupport.a
tests_unit_storage_support_libsupport_a_SOURCES = \
    tests/unit/storage/support/basics.c tests/unit/storage/support/basics.h \
    tests/unit/storage/support/faulty.c tests/unit/storage/support/faulty.h \
    tests/unit/storage/support/fixture.c tests/unit/storage/support/fixture.h \
    tests/unit/storage/support/messages.c tests/unit/storage/support/messages.h \
    tests/unit/storage/support/power.c tests/unit/storage/support/power.h \
    tests/unit/storage/support/random.c tests/unit/storage/support/random.h \
    tests/unit/storage/support/segment_file.h \
    tests/unit/storage/support/temp_dir.c tests/unit/storage/support/temp_dir.h

protocol_tests = \
    tests/unit/protocol/test_base64 \
    tests/unit/protocol/test_meta_reply \
    tests/unit/protocol/test_binary \
    tests/unit/protocol/test_binary_reply \
    tests/unit/protocol/test_text \
    tests/unit/protocol/test_text_guard \
    tests/unit/protocol/test_text_reply \
    tests/unit/protocol/test_token

server_tests = \
    tests/unit/src/test_auth_file \
    tests/unit/src/test_command \
    tests/unit/src/test_conn_state \
    tests/unit/src/test_fetches \
    tests/unit/src/test_overdue \
    tests/unit/src/test_semantics \
    tests/unit/src/test_server_log \
    tests/unit/src/test_prefix \
    tests/unit/src/test_progress \
    tests/unit/src/test_rights \
    tests/unit/src/test_socket_ring \
    tests/unit/src/test_buffer_pool \
    tests/unit/src/test_watch_log

tests_unit_src_test_auth_file_SOURCES = tests/unit/src/test_auth_file.c src/command/auth_file.c src/command/auth_file.h
src_commands = tests/unit/src/commands.c tests/unit/src/commands.h src/base/clock.c src/base/output.c \
    src/command/answer.c src/command/arithmetic.c src/command/client.h src/command/command.c src/command/command.h src/command/context.h \
    src/command/fetches.c src/command/fetches.h src/command/get.c src/command/internal.h src/command/meta.c \
    src/command/rights.c src/command/rights.h src/command/write.c
tests_unit_src_test_command_SOURCES = tests/unit/src/test_command.c $(src_commands)
tests_unit_src_test_semantics_SOURCES = tests/unit/src/test_semantics.c $(src_commands) src/base/server_log.c src/base/text.c \
    src/command/admin.c src/command/auth.c src/command/auth_file.c src/command/binary.c src/command/sasl_absent.c \
    src/observe/dump.c src/observe/prefix.c src/observe/watch.c src/observe/watch_lines.c src/observe/watch_log.c
tests_unit_src_test_fetches_SOURCES = tests/unit/src/test_fetches.c src/base/output.c src/command/fetches.c src/command/fetches.h
tests_unit_src_test_overdue_SOURCES = tests/unit/src/test_overdue.c src/net/overdue.c src/net/overdue.h
tests_unit_src_test_server_log_SOURCES = tests/unit/src/test_server_log.c src/base/server_log.c src/base/server_log.h
tests_unit_src_test_conn_state_SOURCES = tests/unit/src/test_conn_state.c src/net/conn_state.c src/net/conn.h
tests_unit_src_test_prefix_SOURCES = tests/unit/src/test_prefix.c src/observe/prefix.c src/observe/prefix.h
tests_unit_src_test_progress_SOURCES = tests/unit/src/test_progress.c src/progress.c src/progress.h
tests_unit_src_test_rights_SOURCES = tests/unit/src/test_rights.c src/command/rights.c src/command/rights.h
tests_unit_src_test_socket_ring_SOURCES = tests/unit/src/test_socket_ring.c src/net/socket_ring.h
if HAVE_URING
tests_unit_src_test_socket_ring_SOURCES += src/net/socket_ring.c
else
tests_unit_src_test_socket_ring_SOURCES += src/net/socket_ring_absent.c
endif
tests_unit_src_test_buffer_pool_SOURCES = tests/unit/src/test_buffer_pool.c src/net/buffer_pool.c src/net/buffer_pool.h
tests_unit_src_test_watch_log_SOURCES = tests/unit/src/test_watch_log.c src/observe/watch_log.c src/observe/watch_log.h

if HAVE_CMOCKA
check_LIBRARIES = $(storage_support)
check_PROGRAMS += $(storage_tests) $(protocol_tests) $(server_tests)
else
check-local:
	@echo "cmocka is missing; on Debian: apt-get install libcmocka-dev, then ./configure again" >&2
	@exit 1
endif

# What a program links when it names nothing itself.
LDADD = $(storage_support) libcachecask.a libprotocol.a $(CMOCKA_LIBS) $(XXHASH_LIBS) $(URING_LIBS)
