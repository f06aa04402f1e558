/* segment_files.c: which segments have their files open, within a bound.
 *
 * A log may have a hundred thousand segments, and a process only so many descriptors. So segments
 * are opened on demand, and those that have not been used for a while are closed: a clock, whose
 * hand passes over what was used since it last came by.
 *
 *     held ──segment_files_let_go──▶ may be closed: open ⇄ closed      ready, ACTIVE, unsynced
 *                                               │                      SEALED, synced, has its hint
 *                                      segment_files_keep
 *                                               ▼
 *                                             kept ──segment_files_free──▶ gone           DOOMED
 *
 * Held and kept segments stay open. A ready segment and the active one are about to be written.
 * What this process has written must be synced through the descriptor that was open at the time:
 * otherwise an error of the kernel's writeback may go unnoticed. The file of a DOOMED segment has
 * no name any more and could not be opened again, but whoever has pinned it may still read. Writers
 * wait while too many segments are held (segment_files_over_share), but never for kept ones: a pin
 * lasts as long as a client takes to receive a value.
 *
 * Use without a lock
 *   A segment's `users` counts the current users of its descriptor, and has a bit, SEGMENT_CLOSED,
 *   that is set while there is none. All three transitions are one atomic operation on that word:
 *
 *     use     users + 1; if the bit was set there is no descriptor yet: open it, or take
 *             the count back
 *     close   from exactly 0 to SEGMENT_CLOSED, under the lock: with a user, or the bit, it fails
 *     open    clears the bit, after `fd` is set, under the lock
 *
 *   A user that is counted while the bit is clear has the descriptor until it is no longer counted
 *   (S8). A thread that opens is counted first, so nothing is closed before its opener has used it.
 *   Memory order: `open` releases what `use` acquires, and the end of a use releases what `close`
 *   acquires.
 *
 * A use is short: it is the read, without the time that a fetch waits in a queue or a client takes
 * to receive its answer. So the bound is exceeded only by threads that open while all others are in
 * use, and the budget has room for those (SPARE_DESCRIPTORS).
 *
 * No event thread opens a file, which may read from the disk: it uses what is open
 * (segment_files_try_use), and leaves the rest to the readers.
 */
#include "storage/log/segment_files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "storage/base/monotonic.h"

/* For hint files being read, a repair's copy, and readers that open at the same time. */
#define SPARE_DESCRIPTORS 16
#define OPEN_MIN          4
#define EPISODE_US        UINT64_C(60000000)
#define LOOKS_MAX         256 /* for one to close; recent use is a second chance in half of them */
#define TRIES_MAX         3   /* another thread may take the descriptor that was given back */

void segment_files_init(struct segment_files *table, const struct file_system *files, int dir_fd,
                        uint32_t budget, const struct reporter *reporter)
{
    *table = (struct segment_files){
        .files = files, .dir_fd = dir_fd, .budget = budget, .reporter = *reporter};
    pthread_mutex_init(&table->lock, NULL);
}

void segment_files_release(struct segment_files *table)
{
    assert(!table->hand);
    pthread_mutex_destroy(&table->lock);
}

/* How many of those that may be closed may be open. */
static uint32_t open_max(const struct segment_files *table)
{
    uint64_t others =
        SPARE_DESCRIPTORS + UINT64_C(2) * atomic_load(&table->held) + atomic_load(&table->kept);
    return table->budget > others + OPEN_MIN ? (uint32_t)(table->budget - others) : OPEN_MIN;
}

bool segment_files_over_share(const struct segment_files *table)
{
    uint32_t share = table->budget / 4; /* half of the budget, with hint files */
    return atomic_load(&table->held) >=
           (share > SEGMENT_FILES_HELD_MIN ? share : SEGMENT_FILES_HELD_MIN);
}

/* The clock. All with the lock held. */

static void link_to_clock(struct segment_files *table, struct segment *segment)
{
    struct segment *hand = table->hand;
    if (!hand) {
        table->hand = segment->clock_next = segment->clock_previous = segment;
        return;
    }
    segment->clock_next = hand; /* the hand comes to it last */
    segment->clock_previous = hand->clock_previous;
    hand->clock_previous->clock_next = segment;
    hand->clock_previous = segment;
}

static void unlink_from_clock(struct segment_files *table, struct segment *segment)
{
    segment->clock_previous->clock_next = segment->clock_next;
    segment->clock_next->clock_previous = segment->clock_previous;
    if (table->hand == segment)
        table->hand = segment->clock_next == segment ? NULL : segment->clock_next;
    segment->clock_next = segment->clock_previous = NULL;
}

/* Closes the next one that nobody uses, all but the system call: answers its descriptor, or -1. */
static int take_idle(struct segment_files *table)
{
    for (int looks = 0; table->hand && looks < LOOKS_MAX; looks++) {
        struct segment *segment = table->hand;
        uint32_t nobody = 0;
        table->hand = segment->clock_next;
        if (looks < LOOKS_MAX / 2 &&
            atomic_exchange_explicit(&segment->recently_used, false, memory_order_relaxed))
            continue;
        if (!atomic_compare_exchange_strong_explicit(&segment->users, &nobody, SEGMENT_CLOSED,
                                                     memory_order_acquire, memory_order_relaxed))
            continue;
        int fd = segment->fd;
        segment->fd = -1;
        unlink_from_clock(table, segment);
        table->open--;
        return fd;
    }
    return -1;
}

/* Closes one if more than `most` are open. False: there is none to close. */
static bool close_idle(struct segment_files *table, uint32_t most)
{
    pthread_mutex_lock(&table->lock);
    int fd = table->open > most ? take_idle(table) : -1;
    pthread_mutex_unlock(&table->lock);
    if (fd >= 0)
        table->files->close(table->files->context, fd);
    return fd >= 0;
}

static void shrink(struct segment_files *table)
{
    while (close_idle(table, open_max(table)))
        ;
}

static bool is_want_of_descriptors(int error)
{
    return error == EMFILE || error == ENFILE;
}

bool segment_files_make_way(struct segment_files *table, int error, int tries)
{
    bool closed = is_want_of_descriptors(error) && tries < TRIES_MAX && close_idle(table, 0);
    errno = error;
    return closed;
}

int segment_files_open(struct segment_files *table, uint64_t id, const char *suffix, int flags)
{
    int fd, tries = 0;
    do
        fd = segment_open_file(table->files, table->dir_fd, id, suffix, flags);
    while (fd < 0 && segment_files_make_way(table, errno, ++tries));
    return fd;
}

/* Opening. */

/* Want of descriptors is one episode until a minute without it; else each segment has its own. */
static bool is_new(struct segment_files *table, struct segment *segment, int error)
{
    if (!is_want_of_descriptors(error)) {
        bool was_missing = segment->missing;
        segment->missing = true;
        return !was_missing;
    }
    uint64_t before_us = table->starved_us;
    table->starved_us = monotonic_us();
    return !before_us || table->starved_us - before_us > EPISODE_US;
}

/* Leaves errno as it was. */
static void report_once(struct segment_files *table, struct segment *segment, int error)
{
    pthread_mutex_lock(&table->lock);
    bool first = is_new(table, segment, error);
    pthread_mutex_unlock(&table->lock);
    if (first)
        report(&table->reporter, REPORT_ERROR,
               "cannot open %016llx.seg: %s. Reads of it fail until it can. %s",
               (unsigned long long)segment->header.id, strerror(error), file_remedy(error));
    errno = error;
}

/* `fd` becomes the segment's, unless another thread was faster: then it is closed. */
static void install(struct segment_files *table, struct segment *segment, int fd)
{
    pthread_mutex_lock(&table->lock);
    segment->missing = false;
    if (segment_is_closed(segment)) {
        segment->fd = fd;
        if (segment->closable) {
            link_to_clock(table, segment);
            table->open++;
        }
        atomic_fetch_and_explicit(&segment->users, ~SEGMENT_CLOSED, memory_order_release);
        fd = -1;
    }
    table->open--; /* as one that is being opened */
    pthread_mutex_unlock(&table->lock);
    if (fd >= 0)
        table->files->close(table->files->context, fd);
}

static void count_opening(struct segment_files *table, int by)
{
    pthread_mutex_lock(&table->lock);
    table->open += (uint32_t)by;
    pthread_mutex_unlock(&table->lock);
}

/* False with errno. */
static bool open_segment(struct segment_files *table, struct segment *segment)
{
    count_opening(table, 1);
    shrink(table);
    int fd = segment_files_open(table, segment->header.id, "seg", O_RDWR);
    int error = errno;
    if (fd >= 0)
        install(table, segment, fd);
    else
        count_opening(table, -1);
    errno = error;
    return fd >= 0;
}

/* Counts a user. False: there is no descriptor yet. */
static bool count_user(struct segment *segment)
{
    uint32_t before = atomic_fetch_add_explicit(&segment->users, 1, memory_order_acquire);
    if (!atomic_load_explicit(&segment->recently_used, memory_order_relaxed))
        atomic_store_explicit(&segment->recently_used, true, memory_order_relaxed);
    return !(before & SEGMENT_CLOSED);
}

void segment_files_done(struct segment *segment)
{
    atomic_fetch_sub_explicit(&segment->users, 1, memory_order_release);
}

bool segment_files_try_use(struct segment *segment)
{
    if (count_user(segment))
        return true;
    segment_files_done(segment);
    return false;
}

enum store_status segment_files_use(struct segment_files *table, struct segment *segment)
{
    if (count_user(segment) || open_segment(table, segment) ||
        !segment_is_closed(segment)) /* another thread had more luck */
        return STORE_OK;
    segment_files_done(segment);
    report_once(table, segment, errno);
    return STORE_IO;
}

/* The life of a segment. */

void segment_files_hold(struct segment_files *table)
{
    atomic_fetch_add(&table->held, 1);
    shrink(table);
}

void segment_files_unhold(struct segment_files *table)
{
    atomic_fetch_sub(&table->held, 1);
}

static void make_closable(struct segment_files *table, struct segment *segment)
{
    pthread_mutex_lock(&table->lock);
    assert(!segment->closable && segment->fd >= 0);
    segment->closable = true;
    link_to_clock(table, segment);
    table->open++;
    pthread_mutex_unlock(&table->lock);
}

void segment_files_add(struct segment_files *table, struct segment *segment)
{
    make_closable(table, segment);
    shrink(table);
}

void segment_files_let_go(struct segment_files *table, struct segment *segment)
{
    make_closable(table, segment);
    segment_files_unhold(table); /* it counts for less now: nothing need be closed */
}

/* Whatever it was counted as. With the lock held. */
static void uncount(struct segment_files *table, struct segment *segment)
{
    if (segment->kept)
        atomic_fetch_sub(&table->kept, 1);
    else if (!segment->closable)
        atomic_fetch_sub(&table->held, 1);
    else if (segment->clock_next) {
        unlink_from_clock(table, segment);
        table->open--;
    }
    segment->kept = segment->closable = false;
}

void segment_files_keep(struct segment_files *table, struct segment *segment)
{
    pthread_mutex_lock(&table->lock);
    uncount(table, segment);
    segment->kept = true;
    atomic_fetch_add(&table->kept, 1);
    pthread_mutex_unlock(&table->lock);
}

void segment_files_free(struct segment_files *table, struct segment *segment)
{
    pthread_mutex_lock(&table->lock);
    uncount(table, segment);
    pthread_mutex_unlock(&table->lock);
    segment_free(table->files, segment);
}
