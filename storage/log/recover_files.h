/* recover_files.h: the first part of the start: which files are the log. See recover.c. */
#ifndef CACHECASK_STORAGE_LOG_RECOVER_FILES_H
#define CACHECASK_STORAGE_LOG_RECOVER_FILES_H

#include "storage/log/load.h"
#include "storage/log/recover.h"

/* Opens the segments in the order of the log, finds its end, and gives them to recovery->log.
 * Removes what a crash left half made. Sets next_segment_id, next_lsn, loads, dropped, and next_cas
 * to the highest CAS unique in a header; adds to damage. STORE_OK; STORE_BAD_VERSION, STORE_FULL
 * (too many segments), STORE_NO_MEMORY, STORE_IO. */
enum store_status recover_files(struct recovery *recovery);

#endif
