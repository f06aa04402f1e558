/* signals.h: signals before the event loop hears them, and after it. See signals.c. */
#ifndef CACHECASK_SRC_SIGNALS_H
#define CACHECASK_SRC_SIGNALS_H

#include <stdbool.h>

/* The signals that end the server. */
#define SIGNALS_STOPS_COUNT 3
extern const int signals_stops[SIGNALS_STOPS_COUNT];

/* To be called first in the process. From here on a signal that ends the server ends the start,
 * SIGHUP is remembered, and failed writes are errors and not signals. */
void signals_open(void);

/* True if SIGHUP has come since the process began, or since the last call. */
bool signals_take_hangup(void);

/* The server is stopping. From now on another stop signal ends it at once, and SIGHUP does nothing.
 * To be called before the event loop gives the signals back. */
void signals_stopping(void);

#endif
