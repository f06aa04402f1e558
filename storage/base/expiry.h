/* expiry.h: when a value has expired. */
#ifndef CACHECASK_STORAGE_BASE_EXPIRY_H
#define CACHECASK_STORAGE_BASE_EXPIRY_H

#include <stdbool.h>
#include <stdint.h>

/* `expire_s` 0: never. */
static inline bool is_expired(uint32_t expire_s, uint32_t now_s)
{
    return expire_s && expire_s <= now_s;
}

#endif
