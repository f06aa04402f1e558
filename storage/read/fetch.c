/* fetch.c: a cold value's way from disk.
 *
 * The session's thread asks the page cache first. What is not there is read in the background: by
 * the session's ring where it has one, else by a reader thread; and always by a reader where the
 * segment's file is closed, for to open it may mean to wait for the disk (segment_files.c). What
 * the ring could not read whole goes to the readers too: they know how to try again, and what to
 * say when the disk fails. So does what a broken ring has not begun, and all that comes after it.
 */
#include "storage/store.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/monotonic.h"
#include "storage/store_internal.h"

#define FETCH_NOW_MAX (UINT32_C(1) << 20)

size_t store_fetch_size(const struct store_fetch *fetch)
{
    return (size_t)location_size(fetch->location);
}

enum store_status store_fetch_now(struct store_session *session, struct store_fetch *fetch)
{
    if (location_size(fetch->location) > FETCH_NOW_MAX)
        return fetch->status = STORE_WAIT_READ; /* to copy it would take a while */
    return reader_read_nowait(session->store->options.files, fetch);
}

/* The segment is in use until the read has come back. */
static bool read_by_ring(struct store_session *session, struct store_fetch *fetch)
{
    if (!session->ring || !reader_prepare(fetch) || !segment_files_try_use(fetch->segment))
        return false;
    if (ring_add(session->ring, fetch->segment->fd, fetch->data, fetch->len,
                 location_offset(fetch->location), fetch))
        return true;
    segment_files_done(fetch->segment);
    return false;
}

void store_fetch_start(struct store_session *session, struct store_fetch *fetch)
{
    fetch->status = STORE_WAIT_READ;
    fetch->started_us = monotonic_us();
    if (!read_by_ring(session, fetch))
        reader_pool_add(&session->store->readers, fetch);
}

/* Once, however many sessions have a ring. */
static void report_broken(struct store *store, int error)
{
    if (!atomic_exchange(&store->uring_reported, true))
        report(&store->options.reporter, REPORT_WARNING,
               "io_uring refuses reads (%s): values are read by threads, as with --no-uring",
               strerror(error));
}

static void submit(struct store_session *session)
{
    struct store_fetch *fetch;
    int error = ring_submit(session->ring);
    if (error == 0)
        return;
    report_broken(session->store, error);
    while ((fetch = ring_take_back(session->ring))) {
        segment_files_done(fetch->segment);
        reader_pool_add(&session->store->readers, fetch);
    }
}

void store_fetch_submit(struct store_session *session)
{
    if (session->ring)
        submit(session);
}

static void count_read(struct store *store, const struct store_fetch *fetch)
{
    histogram_add(&store->read_us, monotonic_us() - fetch->started_us);
    atomic_fetch_add_explicit(&store->disk_reads, 1, memory_order_relaxed);
}

void store_fetch_done(struct store_fetch *fetch)
{
    struct store_session *session = fetch->session;
    count_read(session->store, fetch);
    fetch->next = NULL;
    pthread_mutex_lock(&session->done_lock);
    if (session->done_tail)
        session->done_tail->next = fetch;
    else
        session->done = fetch;
    session->done_tail = fetch;
    if (session->link.wake)
        session->link.wake(session->link.context);
    pthread_mutex_unlock(&session->done_lock);
}

static struct store_fetch *next_of_readers(struct store_session *session)
{
    pthread_mutex_lock(&session->done_lock);
    struct store_fetch *fetch = session->done;
    if (fetch)
        session->done = fetch->next;
    if (!session->done)
        session->done_tail = NULL;
    pthread_mutex_unlock(&session->done_lock);
    return fetch;
}

static struct store_fetch *next_of_ring(struct store_session *session)
{
    struct store_fetch *fetch;
    ssize_t got;
    submit(session); /* what could not begin before */
    while ((fetch = ring_next(session->ring, &got))) {
        segment_files_done(fetch->segment);
        if (got == (ssize_t)fetch->len) {
            fetch->status = STORE_OK;
            count_read(session->store, fetch);
            atomic_fetch_add_explicit(&session->store->uring_reads, 1, memory_order_relaxed);
            return fetch;
        }
        reader_pool_add(&session->store->readers, fetch);
    }
    return NULL;
}

struct store_fetch *store_fetch_next(struct store_session *session)
{
    struct store_fetch *fetch = session->ring ? next_of_ring(session) : NULL;
    return fetch ? fetch : next_of_readers(session);
}

void store_fetch_release(struct store_fetch *fetch)
{
    free(fetch->data);
    if (fetch->segment)
        segment_unpin(fetch->segment);
    memset(fetch, 0, sizeof *fetch);
}
