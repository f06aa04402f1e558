/* temp_dir.h: directories for one test, and the files in them. */
#ifndef CACHECASK_TESTS_UNIT_STORAGE_SUPPORT_TEMP_DIR_H
#define CACHECASK_TESTS_UNIT_STORAGE_SUPPORT_TEMP_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All are in $TMPDIR or /var/tmp, whose file system is a real one. */
struct temp_dir {
    char path[256];
    int fd;
};

void temp_dir_make(struct temp_dir *dir);
void temp_dir_remove(struct temp_dir *dir);

/* A new directory with the files of another as they are now, as a kill -9 would leave them. */
void temp_dir_copy(const struct temp_dir *from, struct temp_dir *to);

/* Whole files. The caller frees what file_load returns. */
char *file_load(const struct temp_dir *dir, const char *name, size_t *len);
void file_save(const struct temp_dir *dir, const char *name, const void *data, size_t len);
bool file_exists(const struct temp_dir *dir, const char *name);
void file_flip_bit(const struct temp_dir *dir, const char *name, size_t byte, int bit);

/* The names with this suffix, sorted; names[] has room for `max`. */
#define NAME_LEN 64
size_t files_with_suffix(const struct temp_dir *dir, const char *suffix, char (*names)[NAME_LEN],
                         size_t max);

/* The total size of all files. */
uint64_t temp_dir_bytes(const struct temp_dir *dir);

/* A digest of all names, owners, modes and bytes: it is unchanged if nothing was touched. */
uint64_t temp_dir_digest(const struct temp_dir *dir);

/* True when a name ends like this. */
bool ends_with(const char *name, const char *suffix);

#endif
