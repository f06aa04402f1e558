/* settings_check.h: which settings go together. */
#ifndef CACHECASK_SRC_CONFIG_SETTINGS_CHECK_H
#define CACHECASK_SRC_CONFIG_SETTINGS_CHECK_H

#include "src/config/settings.h"

/* To be called when all are read: some choose the protocol, others exclude each other, or need what
 * this build lacks. False: it has said on standard error what does not work. */
bool settings_check(struct settings *settings);

#endif
