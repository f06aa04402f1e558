/* sender_absent.c: in place of sender.c where there is no liburing. */
#include "bench/sender.h"

struct sender *sender_new(void)
{
    return NULL;
}

void sender_free(struct sender *sender)
{
    (void)sender;
}

void sender_add(struct sender *sender, int fd, const char *bytes, size_t len, ssize_t *sent)
{
    (void)sender, (void)fd, (void)bytes, (void)len, (void)sent;
}

void sender_run(struct sender *sender)
{
    (void)sender;
}
