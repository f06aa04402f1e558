/* power.c: see power.h. */
#define _GNU_SOURCE
#include "tests/unit/storage/support/power.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/storage/support/basics.h"

#define SECTOR      512
#define PAGE        4096
#define CHANGES_MAX 4096

struct bytes {
    char *data;
    size_t len, room;
};

struct power_image {
    struct bytes now, durable;
    struct bytes cached; /* a byte a page: 1: it counts as written, and is not */
    struct power_image *next;
};

struct power_change {
    char set[NAME_LEN], clear[NAME_LEN]; /* empty: none */
    struct power_image *image;           /* of the name that is set */
};

/* Bytes, zeros where nothing was written. */
static void resize(struct bytes *bytes, size_t len)
{
    if (len > bytes->room) {
        bytes->room = len + len / 4 + SECTOR;
        bytes->data = realloc(bytes->data, bytes->room);
        if (!bytes->data)
            give_up("no memory");
    }
    if (len > bytes->len)
        memset(bytes->data + bytes->len, 0, len - bytes->len);
    bytes->len = len;
}

static void copy(struct bytes *to, const struct bytes *from)
{
    resize(to, from->len);
    if (from->len)
        memcpy(to->data, from->data, from->len);
}

static struct power_image *new_image(struct power *power)
{
    struct power_image *image = calloc(1, sizeof *image);
    if (!image)
        give_up("no memory");
    /* cppcheck-suppress nullPointerRedundantCheck ; it does not see that give_up ends */
    image->next = power->images;
    power->images = image;
    return image;
}

static void free_image(struct power_image *image)
{
    free(image->now.data);
    free(image->durable.data);
    free(image->cached.data);
    free(image);
}

static struct power_name *find_name(struct power *power, const char *name)
{
    for (uint32_t i = 0; i < power->name_count; i++)
        if (strcmp(power->names[i].name, name) == 0)
            return &power->names[i];
    if (power->name_count == POWER_NAMES)
        give_up("more than %d names", POWER_NAMES);
    struct power_name *new = &power->names[power->name_count++];
    *new = (struct power_name){0};
    snprintf(new->name, NAME_LEN, "%s", name);
    return new;
}

/* A name is set, or cleared (NULL), or both, in one step. Durable after the next sync_dir. */
static void change_names(struct power *power, const char *set, const char *clear,
                         struct power_image *image)
{
    if (power->change_count == CHANGES_MAX)
        give_up("more than %d changes of names without a sync", CHANGES_MAX);
    struct power_change *change = &power->changes[power->change_count++];
    *change = (struct power_change){.image = image};
    if (set) {
        snprintf(change->set, NAME_LEN, "%s", set);
        find_name(power, set)->now = image;
    }
    if (clear) {
        snprintf(change->clear, NAME_LEN, "%s", clear);
        find_name(power, clear)->now = NULL;
    }
}

/* The layer. */

enum power_state { POWER_ON, POWER_FAILS, POWER_OFF };

/* Locks; counts a call that is a step. POWER_FAILS: it may still do what it does, and then
 * fails. */
static enum power_state begin(struct power *power, bool is_step, enum file_call call)
{
    pthread_mutex_lock(&power->faulty.lock);
    if (power->faulty.off)
        return POWER_OFF;
    power->steps += is_step;
    if (call == CALL_UNLINK && power->after_unlinks && --power->after_unlinks == 0)
        power->off_at = power->steps + 1 + rng_below(&power->rng, 12);
    if (!is_step || power->steps != power->off_at)
        return POWER_ON;
    power->faulty.off = true;
    power->off_in = call;
    return rng_one_in(&power->rng, 2) ? POWER_FAILS : POWER_OFF;
}

static int end(struct power *power, int result)
{
    int error = power->faulty.off ? EIO : errno;
    result = power->faulty.off ? -1 : result;
    pthread_mutex_unlock(&power->faulty.lock);
    errno = error;
    return result;
}

static int power_open(void *context, int dir_fd, const char *name, int flags)
{
    struct power *power = context;
    bool changes = flags & (O_CREAT | O_TRUNC);
    if (begin(power, changes, CALL_OPEN) != POWER_ON)
        return end(power, -1);
    int fd = file_system_os.open(NULL, dir_fd, name, flags);
    if (fd < 0)
        return end(power, fd);
    if (fd >= POWER_FDS)
        give_up("more than %d files are open", POWER_FDS);
    struct power_image *image = find_name(power, name)->now;
    if (!image) {
        image = new_image(power);
        change_names(power, name, NULL, image);
    }
    if (flags & O_TRUNC)
        resize(&image->now, 0);
    power->open[fd] = image;
    return end(power, fd);
}

static int power_close(void *context, int fd)
{
    struct power *power = context;
    begin(power, false, CALL_CLOSE);
    power->open[fd] = NULL;
    file_system_os.close(NULL, fd); /* a process that dies closes its files too */
    return end(power, 0);
}

static void note_dirty(struct power_image *image, size_t offset, size_t len)
{
    for (size_t page = offset / PAGE; page * PAGE < offset + len; page++)
        if (page < image->cached.len)
            image->cached.data[page] = 0;
}

static bool is_cached(const struct power_image *image, size_t page)
{
    return page < image->cached.len && image->cached.data[page];
}

/* The bytes of a page of `now`; those that are durable have zeros behind them up to there. */
static size_t page_len(struct power_image *image, size_t page)
{
    if (image->durable.len < image->now.len)
        resize(&image->durable, image->now.len);
    size_t left = image->now.len - page * PAGE;
    return left < PAGE ? left : PAGE;
}

static bool is_dirty(struct power_image *image, size_t page)
{
    size_t len = page_len(image, page), at = page * PAGE;
    return !is_cached(image, page) &&
           memcmp(image->now.data + at, image->durable.data + at, len) != 0;
}

static bool has_something_to_write(struct power_image *image)
{
    bool any = false;
    for (size_t page = 0; !any && page * PAGE < image->now.len; page++)
        any = is_dirty(image, page);
    return any;
}

static void write_back(struct power_image *image)
{
    for (size_t page = 0; page * PAGE < image->now.len; page++) {
        size_t len = page_len(image, page), at = page * PAGE;
        if (!is_cached(image, page))
            memcpy(image->durable.data + at, image->now.data + at, len);
    }
    resize(&image->durable, image->now.len);
}

static void drop_pages(struct power *power, int fd)
{
    struct power_image *image = power->open[fd];
    resize(&image->cached, (image->now.len + PAGE - 1) / PAGE);
    for (size_t page = 0; page * PAGE < image->now.len; page++) {
        size_t len = page_len(image, page), at = page * PAGE;
        if (!is_dirty(image, page))
            continue;
        if (rng_below(&power->rng, 8) >= power->drop_share) {
            image->cached.data[page] = 1;
            continue;
        }
        memcpy(image->now.data + at, image->durable.data + at, len);
        if (file_system_os.pwrite(NULL, fd, image->now.data + at, len, (off_t)at) != (ssize_t)len)
            give_up("pwrite: %s", strerror(errno));
    }
}

static ssize_t power_pwrite(void *context, int fd, const void *data, size_t len, off_t offset)
{
    struct power *power = context;
    if (begin(power, true, CALL_PWRITE) != POWER_OFF) {
        struct bytes *now = &power->open[fd]->now;
        if ((size_t)offset + len > now->len)
            resize(now, (size_t)offset + len);
        memcpy(now->data + offset, data, len);
        note_dirty(power->open[fd], (size_t)offset, len);
        if (file_system_os.pwrite(NULL, fd, data, len, offset) != (ssize_t)len)
            give_up("pwrite: %s", strerror(errno));
    }
    return end(power, (int)len);
}

static int power_sync(void *context, int fd)
{
    struct power *power = context;
    if (begin(power, true, CALL_SYNC) == POWER_OFF)
        return end(power, 0);
    if (power->drop_at && has_something_to_write(power->open[fd]) && --power->drop_at == 0) {
        for (int other = 0; other < POWER_FDS; other++)
            if (other == fd || (power->drop_of_all && power->open[other]))
                drop_pages(power, other);
        errno = EIO;
        return end(power, -1);
    }
    write_back(power->open[fd]);
    return end(power, 0);
}

static int power_sync_dir(void *context, int fd)
{
    struct power *power = context;
    (void)fd;
    if (begin(power, true, CALL_SYNC_DIR) != POWER_OFF) {
        for (uint32_t i = 0; i < power->name_count; i++)
            power->names[i].durable = power->names[i].now;
        power->change_count = 0;
    }
    return end(power, 0);
}

static int power_allocate(void *context, int fd, off_t size)
{
    struct power *power = context;
    int result = 0;
    if (begin(power, true, CALL_ALLOCATE) != POWER_OFF) {
        result = file_system_os.allocate(NULL, fd, size);
        if (result == 0 && (size_t)size > power->open[fd]->now.len)
            resize(&power->open[fd]->now, (size_t)size);
    }
    return end(power, result);
}

static int power_truncate(void *context, int fd, off_t size)
{
    struct power *power = context;
    int result = 0;
    if (begin(power, true, CALL_TRUNCATE) != POWER_OFF) {
        result = file_system_os.truncate(NULL, fd, size);
        resize(&power->open[fd]->now, (size_t)size);
    }
    return end(power, result);
}

static int power_rename(void *context, int dir_fd, const char *from, const char *to)
{
    struct power *power = context;
    int result = 0;
    if (begin(power, true, CALL_RENAME) != POWER_OFF) {
        result = file_system_os.rename(NULL, dir_fd, from, to);
        if (result == 0)
            change_names(power, to, from, find_name(power, from)->now);
    }
    return end(power, result);
}

static int power_unlink(void *context, int dir_fd, const char *name)
{
    struct power *power = context;
    int result = 0;
    if (begin(power, true, CALL_UNLINK) != POWER_OFF) {
        result = file_system_os.unlink(NULL, dir_fd, name);
        if (result == 0)
            change_names(power, NULL, name, NULL);
    }
    return end(power, result);
}

static int power_replace(void *context, int from, int fd)
{
    struct power *power = context;
    int result = -1;
    if (begin(power, false, CALL_REPLACE) == POWER_ON) {
        result = file_system_os.replace(NULL, from, fd);
        power->open[fd] = power->open[from];
        power->open[from] = NULL;
    }
    return end(power, result);
}

/* What a power loss leaves. */

/* One unit of a file: old, new, or torn, which is some of both. */
static void lose_unit(struct rng *rng, char *out, const char *old, const char *new, size_t len,
                      bool keep)
{
    const char *first = keep ? new : old, *rest = keep ? old : new;
    size_t border = rng_one_in(rng, 8) ? rng_below(rng, (uint32_t)len) : len;
    memcpy(out, first, border);
    memcpy(out + border, rest + border, len - border);
}

static size_t lose_length(struct rng *rng, size_t old, size_t new)
{
    if (rng_one_in(rng, 2))
        return new;
    if (new <= old || rng_one_in(rng, 2))
        return old;
    return old + rng_below(rng, (uint32_t)(new - old));
}

/* The disk has written of each file as much as it likes. */
static void lose_some(struct rng *rng, struct power_image *image)
{
    static const uint32_t lost_of_8[] = {0, 1, 4, 7, 8};
    struct bytes left = {0}, old = {0};
    size_t unit = rng_one_in(rng, 2) ? SECTOR : PAGE;
    uint32_t lost = lost_of_8[rng_below(rng, 5)];
    for (size_t page = 0; page * PAGE < image->now.len; page++)
        if (is_cached(image, page))
            memcpy(image->now.data + page * PAGE, image->durable.data + page * PAGE,
                   page_len(image, page));
    image->cached.len = 0;
    copy(&old, &image->durable);
    resize(&old, image->now.len > old.len ? image->now.len : old.len);
    copy(&left, &old);
    for (size_t i = 0; i < image->now.len; i += unit) {
        size_t len = image->now.len - i < unit ? image->now.len - i : unit;
        if (memcmp(old.data + i, image->now.data + i, len) != 0)
            lose_unit(rng, left.data + i, old.data + i, image->now.data + i, len,
                      rng_below(rng, 8) >= lost);
    }
    resize(&left, lose_length(rng, image->durable.len, image->now.len));
    copy(&image->now, &left);
    copy(&image->durable, &left);
    free(left.data);
    free(old.data);
}

static void lose_names(struct power *power)
{
    uint32_t lost = rng_below(&power->rng, 3); /* none, half of them, all */
    for (uint32_t i = 0; i < power->change_count; i++) {
        const struct power_change *change = &power->changes[i];
        if (rng_below(&power->rng, 2) < lost)
            continue;
        if (change->set[0])
            find_name(power, change->set)->durable = change->image;
        if (change->clear[0])
            find_name(power, change->clear)->durable = NULL;
    }
    power->change_count = 0;
}

/* The directory becomes what is durable. */
static void rewrite(struct power *power)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < power->name_count; i++) {
        struct power_name *name = &power->names[i];
        unlinkat(power->dir->fd, name->name, 0);
        if (name->durable)
            file_save(power->dir, name->name, name->durable->now.data, name->durable->now.len);
        name->now = name->durable;
        if (name->durable)
            power->names[count++] = *name;
    }
    power->name_count = count;
}

static bool has_name(const struct power *power, const struct power_image *image)
{
    for (uint32_t i = 0; i < power->name_count; i++)
        if (power->names[i].now == image)
            return true;
    return false;
}

static void free_nameless(struct power *power)
{
    struct power_image **link = &power->images;
    while (*link) {
        struct power_image *image = *link;
        if (has_name(power, image)) {
            link = &image->next;
            continue;
        }
        *link = image->next;
        free_image(image);
    }
}

void power_restore(struct power *power)
{
    lose_names(power);
    for (struct power_image *image = power->images; image; image = image->next)
        lose_some(&power->rng, image);
    rewrite(power);
    free_nameless(power);
    power_revive(power);
}

void power_revive(struct power *power)
{
    pthread_mutex_lock(&power->faulty.lock);
    power->faulty.off = false;
    power->off_at = power->after_unlinks = 0;
    pthread_mutex_unlock(&power->faulty.lock);
}

void power_fail_in(struct power *power, uint64_t steps)
{
    pthread_mutex_lock(&power->faulty.lock);
    power->off_at = steps ? power->steps + steps : 0;
    power->after_unlinks = 0;
    pthread_mutex_unlock(&power->faulty.lock);
}

void power_fail_after_unlinks(struct power *power, uint64_t unlinks)
{
    pthread_mutex_lock(&power->faulty.lock);
    power->after_unlinks = unlinks;
    pthread_mutex_unlock(&power->faulty.lock);
}

void power_drop_in(struct power *power, uint64_t syncs, uint32_t share, bool of_all)
{
    pthread_mutex_lock(&power->faulty.lock);
    power->drop_at = syncs;
    power->drop_share = share;
    power->drop_of_all = of_all;
    pthread_mutex_unlock(&power->faulty.lock);
}

bool power_has_dropped(struct power *power)
{
    pthread_mutex_lock(&power->faulty.lock);
    bool dropped = power->drop_at == 0;
    pthread_mutex_unlock(&power->faulty.lock);
    return dropped;
}

void power_cut(struct power *power)
{
    pthread_mutex_lock(&power->faulty.lock);
    power->faulty.off = true;
    power->off_in = CALL_KINDS;
    pthread_mutex_unlock(&power->faulty.lock);
}

bool power_is_off(struct power *power)
{
    pthread_mutex_lock(&power->faulty.lock);
    bool off = power->faulty.off;
    pthread_mutex_unlock(&power->faulty.lock);
    return off;
}

uint64_t power_steps(struct power *power)
{
    pthread_mutex_lock(&power->faulty.lock);
    uint64_t steps = power->steps;
    pthread_mutex_unlock(&power->faulty.lock);
    return steps;
}

void power_init(struct power *power, const struct temp_dir *dir, uint64_t seed)
{
    memset(power, 0, sizeof *power);
    faulty_init(&power->faulty);
    power->dir = dir;
    power->rng.state = seed;
    power->changes = calloc(CHANGES_MAX, sizeof *power->changes);
    if (!power->changes)
        give_up("no memory");
    struct file_system *files = &power->faulty.files;
    files->open = power_open;
    files->close = power_close;
    files->pwrite = power_pwrite;
    files->sync = power_sync;
    files->sync_dir = power_sync_dir;
    files->allocate = power_allocate;
    files->truncate = power_truncate;
    files->rename = power_rename;
    files->unlink = power_unlink;
    files->replace = power_replace;
}

void power_release(struct power *power)
{
    power->name_count = 0;
    free_nameless(power);
    free(power->changes);
    pthread_mutex_destroy(&power->faulty.lock);
}
