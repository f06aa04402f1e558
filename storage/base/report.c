#include "storage/report.h"

#include <stdarg.h>
#include <stdio.h>

#define EPISODE_END_US UINT64_C(60000000)

bool report_episode_begins(struct report_episode *episode, uint64_t now_us)
{
    episode->last_us = now_us;
    return episode->times++ == 0;
}

uint64_t report_episode_ends(struct report_episode *episode, uint64_t now_us)
{
    uint64_t times = episode->times;
    if (now_us - episode->last_us < EPISODE_END_US)
        return 0;
    episode->times = 0;
    return times;
}

void report(const struct reporter *reporter, enum report_level level, const char *format, ...)
{
    char message[512];
    va_list arguments;
    if (!reporter->write)
        return;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    reporter->write(reporter->context, level, message);
}
