/* overdue.h: connections that have waited, or made others wait, for too long. See overdue.c. */
#ifndef CACHECASK_SRC_NET_OVERDUE_H
#define CACHECASK_SRC_NET_OVERDUE_H

#include "src/net/worker.h"

#define OVERDUE_DISK_S   60 /* a disk that has not answered by then is not waited for */
#define OVERDUE_READER_S 5  /* a client may hold memory and take nothing while others wait */

/* Both are called once a second. */

/* Closes connections that the disk lets wait. Returns whether any others wait for it. */
bool overdue_disk(struct worker *worker);

/* Others wait for memory: closes connections that hold some and whose clients take nothing. */
void overdue_readers(struct worker *worker);

#endif
