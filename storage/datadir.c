/* datadir.c: the files of a data directory that are not the log.
 *
 *     store   magic "CCASKSTO" 8, format version 4, zero 4, UUID 16, hash seed 8, creation time 8,
 *             zeros 8, XXH3-64 of these 56 bytes 8; little-endian. Written once.
 *     lock    held (flock) by the process that has the store open; its text is that process's id.
 *
 * A directory is ours as D1 says; everything is looked at before anything is changed (D2).
 */
#define XXH_INLINE_ALL
#include "storage/datadir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define MAGIC          "CCASKSTO"
#define FORMAT_VERSION 1

struct disk_store {
    char magic[8];
    uint32_t version, zero;
    uint8_t uuid[16];
    uint64_t hash_seed, created_s, zeros, check;
};

_Static_assert(sizeof(struct disk_store) == 64, "the store file is 64 bytes");

static enum store_status fail(const struct datadir_place *place)
{
    report(place->reporter, REPORT_ERROR,
           "data directory %s: %s. It must be readable and writable by this user, on a disk with "
           "free space; another can be named with --data-dir",
           place->name, strerror(errno));
    return STORE_IO;
}

static enum store_status check_owner(const struct datadir_place *place)
{
    struct stat status;
    if (fstat(place->dir_fd, &status) < 0)
        return fail(place);
    if (status.st_uid == geteuid() || place->any_owner)
        return STORE_OK;
    report(place->reporter, REPORT_ERROR,
           "data directory %s belongs to user id %u, and this runs as user id %u: run as its "
           "owner, give it to this user with chown -R, or name another with --data-dir. If it can "
           "be read and written all the same (a volume shared by its group, or one that shows an "
           "owner of its own), --any-owner takes it",
           place->name, (unsigned)status.st_uid, (unsigned)geteuid());
    return STORE_NOT_OURS;
}

/* What a start that failed has left behind, and what file systems show at their roots. */
static void note_foreign(void *argument, const char *name)
{
    static const char *const known[] = {"lock",      "store.tmp",  "lost+found",
                                        ".snapshot", ".snapshots", ".zfs"};
    bool *foreign = argument;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i]) == 0)
            return;
    *foreign = true;
}

static enum store_status check_empty(const struct datadir_place *place)
{
    bool foreign = false;
    if (place->files->list(place->files->context, place->dir_fd, note_foreign, &foreign) < 0)
        return fail(place);
    if (!foreign)
        return STORE_NOT_FOUND;
    report(place->reporter, REPORT_ERROR,
           "directory %s is not empty and no data directory (it has no file `store`): name an "
           "empty or new one with --data-dir, such as %s/cachecask",
           place->name, place->name);
    return STORE_NOT_OURS;
}

/* It cannot be done without: the hash seed in it is known nowhere else. */
static enum store_status refuse_unreadable(const struct datadir_place *place)
{
    report(place->reporter, REPORT_ERROR,
           "the file `store` in data directory %s cannot be read (%s): check the disk, and restore "
           "the file from a backup if it is lost (the data is not readable without it), or name "
           "another directory with --data-dir",
           place->name, strerror(errno));
    return STORE_IO;
}

static enum store_status read_store(const struct datadir_place *place, int fd,
                                    struct disk_store *disk)
{
    size_t got;
    if (!file_read_upto(place->files, fd, disk, sizeof *disk, 0, &got))
        return refuse_unreadable(place);
    bool ours = got >= 12 && memcmp(disk->magic, MAGIC, sizeof disk->magic) == 0;
    if (ours && disk->version != FORMAT_VERSION) {
        report(place->reporter, REPORT_ERROR,
               "data directory %s has format version %u, and this release reads version %u: start "
               "the release that wrote it, or name another directory with --data-dir",
               place->name, disk->version, FORMAT_VERSION);
        return STORE_BAD_VERSION;
    }
    if (ours && got == sizeof *disk &&
        disk->check == XXH3_64bits(disk, offsetof(struct disk_store, check)))
        return STORE_OK;
    report(place->reporter, REPORT_ERROR,
           "the file `store` in data directory %s is damaged: restore it from a backup (the data "
           "is not readable without it), or name another directory with --data-dir",
           place->name);
    return STORE_CORRUPT;
}

/* STORE_NOT_FOUND: there is no store yet, and may be made. */
static enum store_status find_store(const struct datadir_place *place, struct disk_store *disk)
{
    int fd = place->files->open(place->files->context, place->dir_fd, "store", O_RDONLY);
    if (fd < 0 && file_is_bad_block(errno))
        return refuse_unreadable(place);
    if (fd < 0)
        return errno == ENOENT ? check_empty(place) : fail(place);
    enum store_status status = read_store(place, fd, disk);
    place->files->close(place->files->context, fd);
    return status;
}

static enum store_status make_store(const struct datadir_place *place, uint32_t now_s,
                                    void (*random)(void *bytes, size_t len),
                                    struct disk_store *disk)
{
    const struct file_system *files = place->files;
    *disk = (struct disk_store){.magic = MAGIC, .version = FORMAT_VERSION, .created_s = now_s};
    random(disk->uuid, sizeof disk->uuid);
    random(&disk->hash_seed, sizeof disk->hash_seed);
    disk->check = XXH3_64bits(disk, offsetof(struct disk_store, check));
    int fd = files->open(files->context, place->dir_fd, "store.tmp", O_WRONLY | O_CREAT | O_TRUNC);
    if (fd < 0)
        return fail(place);
    bool ok =
        file_write_all(files, fd, disk, sizeof *disk, 0) && files->sync(files->context, fd) == 0;
    ok = files->close(files->context, fd) == 0 && ok;
    ok = ok && files->rename(files->context, place->dir_fd, "store.tmp", "store") == 0 &&
         files->sync_dir(files->context, place->dir_fd) == 0;
    return ok ? STORE_OK : fail(place);
}

static enum store_status refuse_in_use(const struct datadir_place *place, int fd)
{
    char pid[32] = "";
    size_t got = 0;
    file_read_upto(place->files, fd, pid, sizeof pid - 1, 0, &got);
    pid[got] = '\0';
    pid[strcspn(pid, "\n")] = '\0';
    report(place->reporter, REPORT_ERROR,
           "data directory %s is in use by process %s: stop that one, or name another directory "
           "with --data-dir",
           place->name, pid[0] ? pid : "(unknown)");
    return STORE_IN_USE;
}

static enum store_status take_lock(const struct datadir_place *place, int *out)
{
    char pid[32];
    int fd = place->files->open(place->files->context, place->dir_fd, "lock", O_RDWR | O_CREAT);
    if (fd < 0)
        return fail(place);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        enum store_status status = errno == EWOULDBLOCK ? refuse_in_use(place, fd) : fail(place);
        place->files->close(place->files->context, fd);
        return status;
    }
    int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (place->files->truncate(place->files->context, fd, 0) < 0 ||
        !file_write_all(place->files, fd, pid, (size_t)len, 0)) {
        enum store_status status = fail(place);
        place->files->close(place->files->context, fd);
        return status;
    }
    *out = fd;
    return STORE_OK;
}

static enum store_status open_or_make(const struct datadir_place *place, uint32_t now_s,
                                      void (*random)(void *bytes, size_t len), int *lock_fd,
                                      struct disk_store *disk)
{
    enum store_status status = check_owner(place);
    if (status == STORE_OK)
        status = find_store(place, disk);
    if (status != STORE_OK && status != STORE_NOT_FOUND)
        return status;
    status = take_lock(place, lock_fd);
    if (status != STORE_OK)
        return status;
    status = find_store(place, disk); /* another process may have made it before we had the lock */
    if (status == STORE_NOT_FOUND)
        status = make_store(place, now_s, random, disk);
    if (status != STORE_OK)
        place->files->close(place->files->context, *lock_fd);
    return status;
}

enum store_status datadir_open(struct datadir *datadir, const struct datadir_place *place,
                               uint32_t now_s, void (*random)(void *bytes, size_t len))
{
    struct disk_store disk;
    int lock_fd;
    enum store_status status = open_or_make(place, now_s, random, &lock_fd, &disk);
    if (status != STORE_OK)
        return status;
    memcpy(datadir->uuid, disk.uuid, sizeof datadir->uuid);
    datadir->hash_seed = disk.hash_seed;
    datadir->lock_fd = lock_fd;
    return STORE_OK;
}

void datadir_close(struct datadir *datadir, const struct file_system *files)
{
    files->close(files->context, datadir->lock_fd);
}
