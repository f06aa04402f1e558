/* messages.h: captures what the store reports. */
#ifndef CACHECASK_TESTS_UNIT_STORAGE_SUPPORT_MESSAGES_H
#define CACHECASK_TESTS_UNIT_STORAGE_SUPPORT_MESSAGES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "storage/report.h"

/* The messages to the operator. Any thread. */
struct messages {
    struct reporter reporter;
    pthread_mutex_t lock;
    uint32_t errors, warnings;
    char text[16384]; /* all lines */
};

void messages_init(struct messages *messages);
void messages_clear(struct messages *messages);
bool messages_have(struct messages *messages, const char *words);

#endif
