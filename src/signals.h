/* signals.h: what a signal does before the server's event loop hears it, and after. See signals.c. */
#ifndef CACHECASK_SRC_SIGNALS_H
#define CACHECASK_SRC_SIGNALS_H

#include <stdbool.h>

/* The signals that end the server. */
#define SIGNALS_STOPS_COUNT 3
extern const int signals_stops[SIGNALS_STOPS_COUNT];

/* First thing in the process: from here on a signal that ends the server ends the start, SIGHUP is remembered, and failed
 * writes are reported as errors instead of signals. */
void signals_open(void);

/* Whether SIGHUP has come since the process began or this was asked last. */
bool signals_take_hangup(void);

/* The server is stopping: from now on a stop signal that is sent again ends it at once, and SIGHUP does nothing. To be called
 * before the event loop gives the signals back. */
void signals_stopping(void);

#endif
