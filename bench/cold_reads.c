/* cold_reads.c: what a cold read costs, by threads that read and by io_uring.
 *
 * One thread plays a worker of the server: it keeps so many reads of a file under way and takes
 * those that are finished. They are served as storage/read/reader.c does it, by a queue and a few
 * threads, or by an io_uring of the same depth. The file's pages are dropped before each
 * measurement, so nearly all reads go to the disk. docs/performance.md has the results.
 *
 * usage: bench-reads FILE MEBIBYTES SECONDS     (the file is made, and removed again)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/hdr_histogram.h"
#include "bench/random.h"
#include "storage/base/monotonic.h"

#define DEPTH_MAX   64
#define READERS_MAX 8 /* as many as the server has */

struct pending_read {
    char *data;
    uint64_t started_ns;
    off_t offset;
    struct pending_read *next;
};

struct bench {
    int fd;
    uint64_t file_bytes;
    size_t size;
    uint32_t depth;
    double seconds;
    struct random random;
    struct pending_read pending[DEPTH_MAX];
    struct hdr_histogram latency_ns;
    uint64_t reads;

    pthread_mutex_t lock;
    pthread_cond_t work, came_back;
    struct pending_read *queued, *done;
    bool stopping;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void begin(struct bench *bench, struct pending_read *pending)
{
    uint64_t blocks = bench->file_bytes / bench->size;
    pending->offset = (off_t)(scale64(random_next(&bench->random), blocks) * bench->size);
    pending->started_ns = monotonic_ns();
}

static void end(struct bench *bench, const struct pending_read *pending)
{
    hdr_histogram_record(&bench->latency_ns, monotonic_ns() - pending->started_ns, 1);
    bench->reads++;
}

/* By threads. */

static void *run_reader(void *context)
{
    struct bench *bench = context;
    pthread_mutex_lock(&bench->lock);
    while (!bench->stopping) {
        struct pending_read *pending = bench->queued;
        if (!pending) {
            pthread_cond_wait(&bench->work, &bench->lock);
            continue;
        }
        bench->queued = pending->next;
        pthread_mutex_unlock(&bench->lock);
        if (pread(bench->fd, pending->data, bench->size, pending->offset) != (ssize_t)bench->size)
            die("pread");
        pthread_mutex_lock(&bench->lock);
        pending->next = bench->done;
        bench->done = pending;
        pthread_cond_signal(&bench->came_back);
    }
    pthread_mutex_unlock(&bench->lock);
    return NULL;
}

static void push(struct bench *bench, struct pending_read *pending)
{
    begin(bench, pending);
    pending->next = bench->queued;
    bench->queued = pending;
    pthread_cond_signal(&bench->work);
}

static void read_by_threads(struct bench *bench)
{
    pthread_t threads[READERS_MAX];
    uint32_t count = bench->depth < READERS_MAX ? bench->depth : READERS_MAX;
    uint64_t until = monotonic_ns() + (uint64_t)(bench->seconds * 1e9);

    for (uint32_t i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, run_reader, bench) != 0)
            die("pthread_create");

    pthread_mutex_lock(&bench->lock);
    for (uint32_t i = 0; i < bench->depth; i++)
        push(bench, &bench->pending[i]);
    while (monotonic_ns() < until) {
        while (!bench->done)
            pthread_cond_wait(&bench->came_back, &bench->lock);
        struct pending_read *pending = bench->done;
        bench->done = pending->next;
        end(bench, pending);
        push(bench, pending);
    }
    bench->stopping = true;
    pthread_cond_broadcast(&bench->work);
    pthread_mutex_unlock(&bench->lock);

    for (uint32_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    bench->queued = bench->done = NULL;
    bench->stopping = false;
}

/* By io_uring. */

static void submit(struct bench *bench, struct io_uring *ring, struct pending_read *pending)
{
    begin(bench, pending);
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    io_uring_prep_read(sqe, bench->fd, pending->data, (unsigned)bench->size,
                       (uint64_t)pending->offset);
    io_uring_sqe_set_data(sqe, pending);
}

static bool read_by_uring(struct bench *bench)
{
    struct io_uring ring;
    struct io_uring_cqe *cqe;
    uint64_t until = monotonic_ns() + (uint64_t)(bench->seconds * 1e9);
    uint32_t under_way = bench->depth;
    if (io_uring_queue_init(DEPTH_MAX, &ring, 0) < 0)
        return false;

    for (uint32_t i = 0; i < bench->depth; i++)
        submit(bench, &ring, &bench->pending[i]);
    while (under_way) {
        io_uring_submit_and_wait(&ring, 1);
        while (io_uring_peek_cqe(&ring, &cqe) == 0) {
            struct pending_read *pending = io_uring_cqe_get_data(cqe);
            if (cqe->res != (int)bench->size) {
                errno = -cqe->res;
                die("io_uring read");
            }
            end(bench, pending);
            io_uring_cqe_seen(&ring, cqe);
            if (monotonic_ns() < until)
                submit(bench, &ring, pending);
            else
                under_way--;
        }
    }
    io_uring_queue_exit(&ring);
    return true;
}

/* Measuring. */

static void measure(struct bench *bench, bool uring)
{
    bench->reads = 0;
    hdr_histogram_init(&bench->latency_ns);
    posix_fadvise(bench->fd, 0, 0, POSIX_FADV_DONTNEED);
    uint64_t before_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t started_ns = monotonic_ns();

    if (!uring)
        read_by_threads(bench);
    else if (!read_by_uring(bench)) {
        printf("| io_uring | the kernel refuses it | | | | | |\n");
        return;
    }

    double seconds = (double)(monotonic_ns() - started_ns) / 1e9;
    printf("| %s | %zu | %u | %.0f | %.2f | %.0f | %.0f |\n", uring ? "io_uring" : "threads",
           bench->size, bench->depth, (double)bench->reads / seconds,
           (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before_ns) / 1e3 / (double)bench->reads,
           (double)hdr_histogram_quantile(&bench->latency_ns, 0.5) / 1e3,
           (double)hdr_histogram_quantile(&bench->latency_ns, 0.99) / 1e3);
    fflush(stdout);
}

static void make_file(struct bench *bench, const char *name)
{
    static char data[1 << 20];
    bench->fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (bench->fd < 0)
        die(name);

    unlink(name);
    for (uint64_t at = 0; at < bench->file_bytes; at += sizeof data) {
        for (size_t i = 0; i < sizeof data; i += 8) {
            uint64_t word = random_next(&bench->random);
            memcpy(data + i, &word, 8);
        }
        if (write(bench->fd, data, sizeof data) != sizeof data)
            die(name);
    }
    if (fsync(bench->fd) < 0)
        die(name);
    posix_fadvise(bench->fd, 0, 0, POSIX_FADV_RANDOM);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {4 << 10, 64 << 10};
    static const uint32_t depths[] = {1, 4, 16, 64};
    static struct bench bench = {.random = {1},
                                 .lock = PTHREAD_MUTEX_INITIALIZER,
                                 .work = PTHREAD_COND_INITIALIZER,
                                 .came_back = PTHREAD_COND_INITIALIZER};
    if (argc != 4 || strtoull(argv[2], NULL, 10) == 0 || strtod(argv[3], NULL) <= 0) {
        fprintf(stderr, "usage: bench-reads FILE MEBIBYTES SECONDS\n");
        return 2;
    }

    bench.file_bytes = strtoull(argv[2], NULL, 10) << 20;
    bench.seconds = strtod(argv[3], NULL);
    make_file(&bench, argv[1]);
    for (uint32_t i = 0; i < DEPTH_MAX; i++)
        if (!(bench.pending[i].data = malloc(sizes[1])))
            die("malloc");

    printf("| by | bytes | depth | reads/s | CPU µs a read | p50, µs | p99, µs |\n"
           "|---|---:|---:|---:|---:|---:|---:|\n");
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (size_t d = 0; d < sizeof depths / sizeof depths[0]; d++)
            for (int uring = 0; uring < 2; uring++) {
                bench.size = sizes[s];
                bench.depth = depths[d];
                measure(&bench, uring);
            }

    for (uint32_t i = 0; i < DEPTH_MAX; i++)
        free(bench.pending[i].data);
    return 0;
}
