/* sasl_absent.c: a build without libsasl2: the settings refuse -S, so the rest is never called. */
#include "src/command/sasl.h"

bool sasl_built_in(void)
{
    return false;
}

bool sasl_setup(const _Atomic int *verbosity)
{
    (void)verbosity;
    return false;
}

void sasl_teardown(void)
{
}

void sasl_run(const struct command *command)
{
    (void)command;
}

void sasl_end(struct client *client)
{
    (void)client; /* every client ends with this: it has no session */
}
