/* observed.h: a request that was run, as those who observe the server are told of it. */
#ifndef CACHECASK_SRC_OBSERVE_OBSERVED_H
#define CACHECASK_SRC_OBSERVE_OBSERVED_H

#include "protocol/request.h"

struct observed_request {
    int fd; /* names its client */
    const struct request *request;

    /* Its first byte, and all that was received with it and after it. Empty: it is a further key of
     * a line that has been shown. */
    struct bytes received;
};

#endif
