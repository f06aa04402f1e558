/* observed.h: a request that was run, for the logs. */
#ifndef CACHECASK_SRC_OBSERVE_OBSERVED_H
#define CACHECASK_SRC_OBSERVE_OBSERVED_H

#include "protocol/request.h"

struct observed_request {
    int fd; /* names its client */
    const struct request *request;

    struct bytes received; /* from its first byte on; empty: a further key of a line shown before */
};

#endif
