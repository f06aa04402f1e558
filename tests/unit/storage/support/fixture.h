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
    bool
        keep_ready; /* fixture_close leaves the segments that a clean stop keeps for the next start */
    bool use_readers; /* cold values come from the reader threads, and never from fetch_now */
    uint64_t cold;    /* gets that were */
};

#define FIXTURE_NOW UINT32_C(1000000)

/* A small store (1 MiB, segments of 64 KiB, 16 shards, no syncs), not yet open: options may be changed. */
void fixture_init(struct fixture *fixture);
enum store_status fixture_try_open(struct fixture *fixture);
void fixture_open(struct fixture *fixture);
void fixture_close(struct fixture *fixture);  /* the store */
void fixture_reopen(struct fixture *fixture); /* cleanly */
void fixture_take_picture(struct fixture *fixture,
                          struct temp_dir *picture); /* what a kill -9 would leave */
void fixture_crash(
    struct fixture *fixture); /* closes the store, but goes on in what a kill -9 would have left */
void fixture_release(struct fixture *fixture); /* after a store_check */

/* Closes the store and goes on in a picture that temp_dir_copy has made of its directory. */
void fixture_go_on_in(struct fixture *fixture, const struct temp_dir *picture);

/* Ends the batch that the fixture's session is always in, commits it, and begins the next. */
enum store_status fixture_try_commit(struct fixture *fixture);
void fixture_commit(struct fixture *fixture);

/* The session, whose batch goes on at that second. */
struct store_session *at(struct store_session *session, uint32_t now_s);

/* As the store_ functions of these names, but they wait for room where those say STORE_WAIT_SPACE. */
enum store_status wait_put(struct store_session *session, const struct store_key *key,
                           uint32_t now_s, struct store_put *put);
enum store_status wait_delete(struct store_session *session, const struct store_key *key,
                              uint32_t now_s, enum store_condition condition, uint64_t location);
enum store_status wait_touch(struct store_session *session, const struct store_key *key,
                             uint32_t now_s, uint32_t expire_s, enum store_condition condition,
                             uint64_t location);
enum store_status wait_flush(struct store_session *session, uint32_t when_s, uint32_t now_s);

struct store_key fixture_key(const struct fixture *fixture, const char *key);

/* Gets a value, cold or hot. fetch begins with zeros and is released by the caller. */
enum store_status fixture_get(struct fixture *fixture, const struct store_key *key,
                              struct store_fetch *fetch, struct store_item *item);

/* One-liners for texts. Those that return nothing want STORE_OK. */
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
