/* fixture.h: a store with everything around it. Includes all that its tests use. */
#ifndef CACHECASK_TESTS_UNIT_STORAGE_SUPPORT_FIXTURE_H
#define CACHECASK_TESTS_UNIT_STORAGE_SUPPORT_FIXTURE_H

#include <semaphore.h>
#include <stdatomic.h>

#include "storage/store.h"
#include "tests/unit/storage/support/basics.h"
#include "tests/unit/storage/support/faulty.h"
#include "tests/unit/storage/support/messages.h"
#include "tests/unit/storage/support/random.h"
#include "tests/unit/storage/support/temp_dir.h"

/* A store, its directory, its file layer, its messages, and one session of it. */
struct fixture {
    struct temp_dir dir;
    struct faulty faulty;
    struct messages messages;
    struct store_options options;
    struct store *store;
    struct store_session *session;
    sem_t woken;
    uint32_t now_s;
    bool manual_cleaner; /* the store is opened with store_open_manual */
    bool keep_ready;     /* fixture_close keeps the ready segments that a clean stop leaves */
    bool use_readers;    /* cold values come from the reader threads, and never from fetch_now */
    uint64_t cold;       /* gets of cold values */
};

#define FIXTURE_NOW UINT32_C(1000000)

/* A small store (1 MiB, segments of 64 KiB, 16 shards, no syncs). It is not open yet, so that
 * options can be changed. */
void fixture_init(struct fixture *fixture);
enum store_status fixture_try_open(struct fixture *fixture);
void fixture_open(struct fixture *fixture);
void fixture_close(struct fixture *fixture);   /* the store */
void fixture_reopen(struct fixture *fixture);  /* cleanly */
void fixture_release(struct fixture *fixture); /* after a store_check */

/* Copies the files as a kill -9 would leave them. */
void fixture_take_picture(struct fixture *fixture, struct temp_dir *picture);

/* Closes the store, but goes on with the files that a kill -9 would have left. */
void fixture_crash(struct fixture *fixture);

/* Closes the store and goes on in a copy of its directory (temp_dir_copy). */
void fixture_go_on_in(struct fixture *fixture, const struct temp_dir *picture);

/* Ends the batch that the fixture's session is always in, commits it, and begins the next. */
enum store_status fixture_try_commit(struct fixture *fixture);
void fixture_commit(struct fixture *fixture);

/* The session, after its batch's time has been set to that second. */
struct store_session *at(struct store_session *session, uint32_t now_s);

/* Like the store_ functions of these names, but they wait instead of returning STORE_WAIT_SPACE. */
enum store_status wait_put(struct store_session *session, const struct store_key *key,
                           uint32_t now_s, struct store_put *put);
enum store_status wait_delete(struct store_session *session, const struct store_key *key,
                              uint32_t now_s, enum store_condition condition, uint64_t location);
enum store_status wait_touch(struct store_session *session, const struct store_key *key,
                             uint32_t now_s, uint32_t expire_s, enum store_condition condition,
                             uint64_t location);
enum store_status wait_flush(struct store_session *session, uint32_t when_s, uint32_t now_s);

struct store_key fixture_key(const struct fixture *fixture, const char *key);

/* Gets a value, cold or hot. The caller sets *fetch to zeros, and releases it. */
enum store_status fixture_get(struct fixture *fixture, const struct store_key *key,
                              struct store_fetch *fetch, struct store_item *item);

/* Values that are strings. Those that return nothing expect STORE_OK. */
enum store_status fixture_try_put(struct fixture *fixture, const char *key, const char *value,
                                  uint32_t expire_s);
void fixture_put(struct fixture *fixture, const char *key, const char *value);
void fixture_put_until(struct fixture *fixture, const char *key, const char *value,
                       uint32_t expire_s);
void fixture_put_bytes(struct fixture *fixture, const char *key, const char *value, uint32_t len);
void fixture_delete(struct fixture *fixture, const char *key);
void fixture_touch(struct fixture *fixture, const char *key, uint32_t expire_s);
void fixture_flush(struct fixture *fixture, uint32_t when_s);
void fixture_expect(struct fixture *fixture, const char *key, const char *value); /* NULL: absent */
void fixture_expect_bytes(struct fixture *fixture, const char *key, const char *value,
                          uint32_t len);
uint64_t fixture_cas(struct fixture *fixture, const char *key);    /* 0: absent */
uint32_t fixture_expiry(struct fixture *fixture, const char *key); /* of a key that is there */
struct store_stats fixture_stats(struct fixture *fixture);

#endif
