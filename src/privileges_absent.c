/* privileges_absent.c: without libseccomp, -o drop_privileges is refused; no other is called. */
#include "src/privileges.h"

bool privileges_can_be_dropped(void)
{
    return false;
}

bool privileges_confine(const struct settings *settings, int dir_fd)
{
    (void)settings;
    (void)dir_fd;
    return false;
}

bool privileges_drop(const struct settings *settings)
{
    (void)settings;
    return false;
}
