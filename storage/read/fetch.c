/* fetch.c: a cold value's way from disk.
 *
 * The session's thread asks the page cache first. What is not there is read in the background: by
 * the session's ring, or by a reader thread where there is no ring or the segment's file is closed:
 * to open it may wait for the disk (segment_files.c). What the ring does not read whole goes to the
 * readers, which try again and report a failing disk; so does all that a broken ring is asked.
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

void store_fetch_submit(struct store_session *session)
{
    if (!session->ring)
        return;
    struct store *store = session->store;
    struct store_fetch *fetch;
    int error = ring_submit(session->ring);
    if (error == 0)
        return;
    /* Once, however many sessions have a ring. */
    if (!atomic_exchange(&store->uring_reported, true))
        report(&store->options.reporter, REPORT_WARNING,
               "io_uring refuses reads (%s): values are read by threads, as with --no-uring",
               strerror(error));
    while ((fetch = ring_take_back(session->ring))) {
        segment_files_done(fetch->segment);
        reader_pool_add(&store->readers, fetch);
    }
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
    pthread_mutex_lock(&session->done_lock);
    fetch_push(&session->done, fetch);
    if (session->link.wake)
        session->link.wake(session->link.context);
    pthread_mutex_unlock(&session->done_lock);
}

static struct store_fetch *next_of_readers(struct store_session *session)
{
    pthread_mutex_lock(&session->done_lock);
    struct store_fetch *fetch = fetch_pop(&session->done);
    pthread_mutex_unlock(&session->done_lock);
    return fetch;
}

static struct store_fetch *next_of_ring(struct store_session *session)
{
    struct store_fetch *fetch;
    ssize_t got;
    store_fetch_submit(session); /* what could not begin before */
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
