/* status.h: what the functions of storage/ answer. */
#ifndef CACHECASK_STORAGE_STATUS_H
#define CACHECASK_STORAGE_STATUS_H

enum store_status {
    STORE_OK = 0,
    STORE_NOT_FOUND,  /* no such key, or expired, or flushed */
    STORE_EXISTS,     /* the condition of a write does not hold: the key is there, or has changed */
    STORE_WAIT_READ,  /* the value is on disk, or on its way: come again when it is fetched */
    STORE_WAIT_SPACE, /* room is being made: come again after a wake */
    STORE_WAIT_SYNC,  /* the log is not synced so far: come again after a wake */
    STORE_MORE,       /* a scan has found nothing in this step, and goes on */
    STORE_FULL,       /* no room in memory (keydir) or on disk */
    STORE_READ_ONLY,  /* the disk failed a write: nothing is written until it works again */
    STORE_CORRUPT,    /* bytes that do not match their checksum */
    STORE_IO,         /* a system call failed: errno */
    STORE_NO_MEMORY,  /* malloc failed */
    STORE_IN_USE,     /* another process (or store) holds the data directory */
    STORE_BAD_VERSION, /* a format that this release does not read */
    STORE_NOT_OURS,    /* the directory belongs to another user, or holds something else */
};

#endif
