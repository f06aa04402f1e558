/* refuse.h: why the server does not start. */
#ifndef CACHECASK_SRC_BASE_REFUSE_H
#define CACHECASK_SRC_BASE_REFUSE_H

#include <stdbool.h>

/* Writes a line to standard error, and adds its end. Returns false. */
__attribute__((format(printf, 1, 2))) bool refuse(const char *format, ...);

#endif
