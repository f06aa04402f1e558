/* tell.h: how storage/ speaks to the operator: through a function of the embedding program. */
#ifndef CACHECASK_STORAGE_TELL_H
#define CACHECASK_STORAGE_TELL_H

#include <stdbool.h>
#include <stdint.h>

enum tell_level {
    TELL_ERROR,   /* something must be done */
    TELL_WARNING, /* something was lost or is not as it should be */
    TELL_INFO,
};

struct tell {
    void (*write)(void *context, enum tell_level level, const char *message); /* NULL: silence */
    void *context;
};

/* What may happen many times is told when it begins, and with its count when it has not happened for a minute. For one thread. */
struct tell_episode {
    uint64_t times; /* 0: there is none */
    uint64_t last_us;
};

/* It happens now. True: an episode begins with it. */
bool tell_episode_begins(struct tell_episode *episode, uint64_t now_us);

/* How often it has happened, if the episode is over by now; else 0. */
#define TELL_EPISODE_LAST UINT64_MAX /* as now: there will be no more of it */
uint64_t tell_episode_ends(struct tell_episode *episode, uint64_t now_us);

/* Formats one line (no line end) and hands it over. */
__attribute__((format(printf, 3, 4))) void tell(const struct tell *tell, enum tell_level level,
                                                const char *format, ...);

#endif
