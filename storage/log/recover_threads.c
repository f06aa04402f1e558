/* recover_threads.c: the threads of a recovery. */
#include <errno.h>

#include "storage/log/recover_internal.h"

void recover_fail(struct recovery_run *run, enum store_status status)
{
    int none = STORE_OK, error = errno;
    if (atomic_compare_exchange_strong(&run->status, &none, status))
        run->error = error;
}

enum store_status recover_run_all(struct recovery_run *run, void *(*work)(void *context))
{
    pthread_t threads[64];
    uint32_t count = 0;
    uint32_t wanted = run->recovery->threads < 64 ? run->recovery->threads : 64;
    while (count + 1 < wanted && pthread_create(&threads[count], NULL, work, run) == 0)
        count++;
    work(run);
    for (uint32_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    errno = run->error;
    return (enum store_status)atomic_load(&run->status);
}

void recover_note_read(struct recovery_run *run, const struct load *load)
{
    const struct recovery *recovery = run->recovery;
    uint64_t bytes = load->segment->capacity;
    uint64_t done = atomic_fetch_add(&run->done_bytes, bytes) + bytes;
    if (recovery->progress)
        recovery->progress(recovery->progress_context, done, run->all_bytes);
}
