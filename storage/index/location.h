/* location.h: the eight bytes that say where a record is.
 *
 *     bit     0…47  address on disk: segment index (20 bits) and offset in units of 8 bytes
 *                   (28 bits), or, when LOCATION_IN_RAM, the address of a struct cache_item
 *          48…61  size code: the bytes of the record in the log, rounded up (14 bits)
 *             62  visited: in RAM, since it came to its page; on disk, since it was stored or
 *                   moved (the second chance of both evictions)
 *             63  in RAM
 *
 * 0 is no location: offset 0 of a segment is its header. A size code of 0 is no record's. Indexes
 * are reused, so addresses do not compare by age.
 */
#ifndef CACHECASK_STORAGE_INDEX_LOCATION_H
#define CACHECASK_STORAGE_INDEX_LOCATION_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#define LOCATION_ADDRESS_MASK ((UINT64_C(1) << 48) - 1)
#define LOCATION_SIZE_MASK    (UINT64_C(0x3fff) << 48)
#define LOCATION_VISITED      (UINT64_C(1) << 62)
#define LOCATION_IN_RAM       (UINT64_C(1) << 63)

/* Size codes count units of 8 bytes: exactly up to 2^9 units, then as a float with 9 bits of
 * mantissa and 5 of exponent, rounded up by less than 0.4 %. Codes grow with sizes. */
static inline uint32_t size_code(uint64_t size)
{
    uint64_t units = (size + 7) / 8;
    if (units < 512)
        return (uint32_t)units;
    uint32_t shift = 63 - (uint32_t)__builtin_clzll(units) - 9;
    uint64_t mantissa = (units + (UINT64_C(1) << shift) - 1) >> shift; /* 512 to 1024 */
    return (uint32_t)(((uint64_t)shift << 9) + mantissa);
}

static inline uint64_t size_of_code(uint32_t code)
{
    if (code < 1024)
        return (uint64_t)code * 8;
    uint32_t shift = (code >> 9) - 1;
    return ((uint64_t)(512 + (code & 511)) << shift) * 8;
}

static inline uint64_t location_of(uint32_t segment_index, uint32_t offset, uint64_t size)
{
    return (uint64_t)size_code(size) << 48 | (uint64_t)segment_index << 28 | offset / 8;
}

static inline uint32_t location_segment_index(uint64_t location)
{
    return (uint32_t)((location & LOCATION_ADDRESS_MASK) >> 28);
}

static inline uint32_t location_offset(uint64_t location)
{
    return (uint32_t)(location & ((UINT64_C(1) << 28) - 1)) * 8;
}

static inline uint64_t location_size(uint64_t location)
{
    return size_of_code((uint32_t)((location & LOCATION_SIZE_MASK) >> 48));
}

static inline bool location_in_ram(uint64_t location)
{
    return location & LOCATION_IN_RAM;
}

static inline void *location_item(uint64_t location)
{
    return (void *)(uintptr_t)(location & LOCATION_ADDRESS_MASK);
}

/* The location of a record whose item lies in RAM; `disk` is where it lies in the log. */
static inline uint64_t location_of_item(const void *item, uint64_t disk)
{
    assert(((uint64_t)(uintptr_t)item & ~LOCATION_ADDRESS_MASK) == 0);
    return LOCATION_IN_RAM | (disk & LOCATION_SIZE_MASK) | (uint64_t)(uintptr_t)item;
}

/* Whether two locations on disk name the same address. */
static inline bool location_same_address(uint64_t a, uint64_t b)
{
    return ((a ^ b) & LOCATION_ADDRESS_MASK) == 0;
}

#endif
