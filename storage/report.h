/* report.h: how storage/ speaks to the operator: through a function of the embedding program. */
#ifndef CACHECASK_STORAGE_REPORT_H
#define CACHECASK_STORAGE_REPORT_H

#include <stdbool.h>
#include <stdint.h>

enum report_level {
    REPORT_ERROR,   /* something must be done */
    REPORT_WARNING, /* something was lost or is not as it should be */
    REPORT_INFO,
};

struct reporter {
    void (*write)(void *context, enum report_level level, const char *message); /* NULL: silence */
    void *context;
};

/* Something that may happen often: it is reported when it begins, and with its count when it has
 * not happened for a minute. For one thread. */
struct report_episode {
    uint64_t times; /* 0: there is none */
    uint64_t last_us;
};

/* It happens now. True: an episode begins with it. */
bool report_episode_begins(struct report_episode *episode, uint64_t now_us);

/* How often it has happened, if the episode is over by now; else 0. */
#define REPORT_EPISODE_LAST UINT64_MAX /* as now: there will be no more of it */
uint64_t report_episode_ends(struct report_episode *episode, uint64_t now_us);

/* Formats one line (no line end) and hands it over. */
__attribute__((format(printf, 3, 4))) void report(const struct reporter *reporter,
                                                  enum report_level level, const char *format, ...);

#endif
