/* messages.c: see messages.h. */
#define _GNU_SOURCE
#include "tests/unit/storage/support/messages.h"

#include <stdio.h>

static void note_message(void *context, enum report_level level, const char *message)
{
    struct messages *messages = context;
    pthread_mutex_lock(&messages->lock);
    messages->errors += level == REPORT_ERROR;
    messages->warnings += level == REPORT_WARNING;
    size_t used = strlen(messages->text);
    snprintf(messages->text + used, sizeof messages->text - used, "%s\n", message);
    pthread_mutex_unlock(&messages->lock);
}

void messages_init(struct messages *messages)
{
    memset(messages, 0, sizeof *messages);
    pthread_mutex_init(&messages->lock, NULL);
    messages->reporter = (struct reporter){.write = note_message, .context = messages};
}

void messages_clear(struct messages *messages)
{
    pthread_mutex_lock(&messages->lock);
    messages->errors = messages->warnings = 0;
    messages->text[0] = '\0';
    pthread_mutex_unlock(&messages->lock);
}

bool messages_have(struct messages *messages, const char *words)
{
    pthread_mutex_lock(&messages->lock);
    bool has = strstr(messages->text, words) != NULL;
    pthread_mutex_unlock(&messages->lock);
    return has;
}
