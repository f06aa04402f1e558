/* memory.h: memory that core dumps leave out: what clients have stored or sent, their passwords,
 * and address space that is only reserved, which would make a dump as large as all of it. */
#ifndef CACHECASK_STORAGE_BASE_MEMORY_H
#define CACHECASK_STORAGE_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define MEMORY_PAGE ((size_t)4096) /* or a part of one, on systems with larger ones */

/* Of a mapping, or of whole pages. A refusal costs only the size of a dump. */
static inline void memory_leave_out(void *address, size_t size)
{
    madvise(address, size, MADV_DONTDUMP);
}

/* Of the pages that lie wholly inside: leaves them out, or takes them in again. What is left out in
 * part realloc cannot move in the address space, but copies it; so before that it is taken in. */
static inline void memory_advise_inside(void *address, size_t size, int advice)
{
    uintptr_t start = ((uintptr_t)address + MEMORY_PAGE - 1) & ~(MEMORY_PAGE - 1);
    uintptr_t end = ((uintptr_t)address + size) & ~(MEMORY_PAGE - 1);
    if (start < end)
        madvise((void *)start, end - start, advice);
}

static inline void memory_leave_out_inside(void *address, size_t size)
{
    memory_advise_inside(address, size, MADV_DONTDUMP);
}

static inline void memory_take_in_inside(void *address, size_t size)
{
    memory_advise_inside(address, size, MADV_DODUMP);
}

/* As malloc, in pages of its own; free() takes it. */
static inline void *memory_new_private(size_t size)
{
    size_t whole = (size + MEMORY_PAGE - 1) & ~(MEMORY_PAGE - 1);
    void *memory = aligned_alloc(MEMORY_PAGE, whole);
    if (memory)
        memory_leave_out(memory, whole);
    return memory;
}

#endif
