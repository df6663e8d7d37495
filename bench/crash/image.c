/* SPDX-License-Identifier: MIT */
/*
 * The files of a state. Each known file keeps a descriptor and a mapping larger than it will get;
 * only bytes below its size are touched, which this process alone changes between two checks.
 */
#include "image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BLOCK_BYTES      4096u
#define STAT_BLOCK_BYTES 512u /* of st_blocks, whatever the file system */
#define MAP_MIN_BYTES    (UINT64_C(16) << 20)
#define FULL_BYTES       (UINT64_C(1) << 20) /* what a store here may ask for at once: its log */

struct slot {
    char *path; /* owned */
    int fd;
    ino_t inode;
    ino_t listed; /* of what has this name now, as the last look at the directory said; 0: none */
    uint8_t *map;
    uint64_t map_bytes;
};

struct crash_image_files {
    char *root; /* owned */
    struct slot *slots;
    uint32_t count;
};

struct crash_image_files *crash_image_create(const char *root)
{
    struct crash_image_files *image = calloc(1, sizeof *image);
    if (image == NULL || (image->root = strdup(root)) == NULL)
        abort();
    return image;
}

static void close_slot(struct slot *slot)
{
    if (slot->map != NULL)
        munmap(slot->map, slot->map_bytes);
    if (slot->fd >= 0)
        close(slot->fd);
    slot->map = NULL;
    slot->fd = -1;
}

void crash_image_destroy(struct crash_image_files *image)
{
    if (image == NULL)
        return;
    for (uint32_t i = 0; i < image->count; i++) {
        close_slot(&image->slots[i]);
        free(image->slots[i].path);
    }
    free(image->slots);
    free(image->root);
    free(image);
}

static const struct crash_file_view *find_view(const struct crash_file_view *views, uint32_t count,
                                               const char *path)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(views[i].path, path) == 0)
            return &views[i];
    }
    return NULL;
}

static struct slot *find_slot(struct crash_image_files *image, const char *path);

/* Remove what the state does not name, and what has the wrong kind. remove_all: everything. */
static int prune(struct crash_image_files *image, const char *below,
                 const struct crash_file_view *views, uint32_t count, bool remove_all)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", image->root, below);
    DIR *directory = opendir(path);
    if (directory == NULL)
        return -errno;
    int code = 0;
    const struct dirent *entry;
    while (code == 0 && (entry = readdir(directory)) != NULL) {
        char name[PATH_MAX];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof name, "%s%s%s", below, below[0] != '\0' ? "/" : "", entry->d_name);
        bool is_directory = entry->d_type == DT_DIR;
        const struct crash_file_view *view = find_view(views, count, name);
        bool keep = !remove_all && view != NULL && view->directory == is_directory;
        if (keep && !is_directory)
            find_slot(image, name)->listed = entry->d_ino;
        if (is_directory)
            code = prune(image, name, views, count, !keep);
        if (!keep && code == 0 &&
            (snprintf(path, sizeof path, "%s/%s", image->root, name) >= (int)sizeof path ||
             (is_directory ? rmdir(path) : unlink(path)) != 0))
            code = -errno;
    }
    closedir(directory);
    return code;
}

static struct slot *find_slot(struct crash_image_files *image, const char *path)
{
    for (uint32_t i = 0; i < image->count; i++) {
        if (strcmp(image->slots[i].path, path) == 0)
            return &image->slots[i];
    }
    image->slots = realloc(image->slots, (image->count + 1) * sizeof *image->slots);
    char *copy = strdup(path);
    if (image->slots == NULL || copy == NULL)
        abort();
    image->slots[image->count] = (struct slot){.path = copy, .fd = -1};
    return &image->slots[image->count++];
}

/* Room for all of a file. A hole that finds none when it is touched is a bus error: to us, and to a
 * store that maps the file. Where this cannot be asked for, it stays so. */
static int reserve(int fd, uint64_t size)
{
    int code;
    do
        code = size > 0 ? posix_fallocate(fd, 0, (off_t)size) : 0;
    while (code == EINTR);
    return code == EOPNOTSUPP || code == EINVAL ? 0 : -code;
}

/* Open the slot's file, which may be another one than last time, with a mapping of size bytes. */
static int open_slot(struct slot *slot, const char *path, uint64_t size)
{
    struct stat facts;
    if (slot->fd >= 0 && (slot->listed != slot->inode || size > slot->map_bytes))
        close_slot(slot);
    if (slot->fd >= 0 && fstat(slot->fd, &facts) != 0)
        return -errno;
    if (slot->fd < 0) {
        slot->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (slot->fd < 0 || fstat(slot->fd, &facts) != 0)
            return -errno;
        slot->inode = facts.st_ino;
        slot->map_bytes = size > MAP_MIN_BYTES ? 2 * size : MAP_MIN_BYTES;
        void *map = mmap(NULL, slot->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, slot->fd, 0);
        if (map == MAP_FAILED)
            return -errno;
        slot->map = map;
    }
    if ((uint64_t)facts.st_size != size && ftruncate(slot->fd, (off_t)size) != 0)
        return -errno;
    if ((uint64_t)facts.st_size == size && (uint64_t)facts.st_blocks * STAT_BLOCK_BYTES >= size)
        return 0;
    return reserve(slot->fd, size);
}

static void fill_slot(const struct slot *slot, const struct crash_states *states,
                      const struct crash_file_view *view)
{
    uint8_t buffer[BLOCK_BYTES];
    for (uint64_t at = 0; at < view->size; at += BLOCK_BYTES) {
        uint64_t left = view->size - at;
        uint32_t size = left < BLOCK_BYTES ? (uint32_t)left : BLOCK_BYTES;
        const uint8_t *wanted = crash_states_bytes(states, view->file, at, size, buffer);
        if (wanted == NULL)
            wanted = buffer;
        if (memcmp(slot->map + at, wanted, size) != 0)
            memcpy(slot->map + at, wanted, size);
    }
}

int crash_image_apply(struct crash_image_files *image, struct crash_states *states)
{
    const struct crash_file_view *views;
    uint32_t count = crash_states_files(states, &views);
    char path[PATH_MAX];
    for (uint32_t i = 0; i < image->count; i++)
        image->slots[i].listed = 0;
    int code = prune(image, "", views, count, false);
    for (uint32_t i = 0; i < count && code == 0; i++) {
        snprintf(path, sizeof path, "%s/%s", image->root, views[i].path);
        if (views[i].directory) {
            if (mkdir(path, 0700) != 0 && errno != EEXIST)
                code = -errno;
            continue;
        }
        struct slot *slot = find_slot(image, views[i].path);
        code = open_slot(slot, path, views[i].size);
        if (code == 0)
            fill_slot(slot, states, &views[i]);
    }
    return code;
}

int crash_workplace_create(const char *dir, char *out_path, size_t capacity)
{
    const char *base = dir;
    if (base == NULL && access("/dev/shm", W_OK | X_OK) == 0)
        base = "/dev/shm";
    if (base == NULL)
        base = getenv("TMPDIR");
    if (base == NULL || base[0] == '\0')
        base = "/tmp";
    if (snprintf(out_path, capacity, "%s/clockpool-crash-XXXXXX", base) >= (int)capacity)
        return -ENAMETOOLONG;
    return mkdtemp(out_path) != NULL ? 0 : -errno;
}

const char *crash_workplace_error(const char *dir, int code, char *text, size_t capacity)
{
    snprintf(text, capacity, "cannot make a directory in %s: %s",
             dir != NULL ? dir : "/dev/shm, $TMPDIR or /tmp", strerror(-code));
    return text;
}

bool crash_is_no_space(int code)
{
    return code == -ENOSPC || code == -EDQUOT;
}

bool crash_workplace_full(const char *path)
{
    struct statvfs space;
    return statvfs(path, &space) == 0 && (uint64_t)space.f_bavail * space.f_frsize < FULL_BYTES;
}

const char *crash_no_space_text(const char *workplace, char *text, size_t capacity)
{
    const char *end = strrchr(workplace, '/');
    snprintf(text, capacity, "cannot run here: no space in %.*s",
             end != NULL ? (int)(end - workplace) : 1, end != NULL ? workplace : ".");
    return text;
}
