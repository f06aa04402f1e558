/* privileges_absent.c: a build without libseccomp, which refuses -o drop_privileges: these are
 * never called.
 */
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
