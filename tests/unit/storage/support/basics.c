/* basics.c: see basics.h. */
#define _GNU_SOURCE
#include "tests/unit/storage/support/basics.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void give_up(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

uint64_t number_from_env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

bool wait_until(bool (*done)(void *context), void *context)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    for (int ms = 0; ms < SOON_MS; ms++) {
        if (done(context))
            return true;
        nanosleep(&pause, NULL);
    }
    return done(context);
}
