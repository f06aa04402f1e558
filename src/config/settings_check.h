/* settings_check.h: which settings go together. */
#ifndef CACHECASK_SRC_CONFIG_SETTINGS_CHECK_H
#define CACHECASK_SRC_CONFIG_SETTINGS_CHECK_H

#include "src/config/settings.h"

/* Once all are read: some choose the protocol, others exclude each other or want what this build lacks. SETTINGS_BAD: standard
 * error says what does not go. */
enum settings_result settings_check(struct settings *settings);

#endif
