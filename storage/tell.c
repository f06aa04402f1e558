#include "storage/tell.h"

#include <stdarg.h>
#include <stdio.h>

#define EPISODE_END_US UINT64_C(60000000)

bool tell_episode_begins(struct tell_episode *episode, uint64_t now_us)
{
    episode->last_us = now_us;
    return episode->times++ == 0;
}

uint64_t tell_episode_ends(struct tell_episode *episode, uint64_t now_us)
{
    uint64_t times = episode->times;
    if (now_us - episode->last_us < EPISODE_END_US)
        return 0;
    episode->times = 0;
    return times;
}

void tell(const struct tell *tell, enum tell_level level, const char *format, ...)
{
    char message[512];
    va_list arguments;
    if (!tell->write)
        return;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    tell->write(tell->context, level, message);
}
