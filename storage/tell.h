/* tell.h: how storage/ speaks to the operator: through a function of the embedding program. */
#ifndef CACHECASK_STORAGE_TELL_H
#define CACHECASK_STORAGE_TELL_H

enum tell_level {
    TELL_ERROR,   /* something must be done */
    TELL_WARNING, /* something was lost or is not as it should be */
    TELL_INFO,
};

struct tell {
    void (*write)(void *context, enum tell_level level, const char *message); /* NULL: silence */
    void *context;
};

/* Formats one line (no line end) and hands it over. */
__attribute__((format(printf, 3, 4))) void tell(const struct tell *tell, enum tell_level level,
                                                const char *format, ...);

#endif
