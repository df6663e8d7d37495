/* SPDX-License-Identifier: MIT */
/* Working directory, file systems. */
#include "scratch.h"

#include "transfer.h"

#include <clockpool/base/bits.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* ---- places -------------------------------------------------------------------------------------
 */

static void read_line(const char *path, char *text, size_t capacity)
{
    text[0] = '\0';
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    if (fgets(text, (int)capacity, file) == NULL)
        text[0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    fclose(file);
}

/* The mount that holds path: the longest mount point that begins it; later mounts lie on top. */
static void find_mount(struct bench_place *place)
{
    char line[2 * PATH_MAX];
    size_t best = 0;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char point[PATH_MAX], options[256], type[64], source[256], more[250] = "";
        const char *tail = strstr(line, " - ");
        if (tail == NULL || sscanf(line, "%*s %*s %*s %*s %4095s %255s", point, options) != 2 ||
            sscanf(tail, " - %63s %255s %249s", type, source, more) < 2)
            continue;
        size_t length = strcmp(point, "/") == 0 ? 0 : strlen(point);
        if (strncmp(place->path, point, length) != 0 ||
            (place->path[length] != '/' && place->path[length] != '\0') || length < best)
            continue;
        best = length;
        snprintf(place->type, sizeof place->type, "%s", type);
        /* of the mount; of the file system */
        snprintf(place->options, sizeof place->options, "%s;%s", options, more);
        snprintf(place->source, sizeof place->source, "%s", source);
    }
    if (file != NULL)
        fclose(file);
}

/* Where the mount is not to be seen (in a chroot, say), the kernel still tells the kind. */
static void find_type(struct bench_place *place)
{
    static const struct {
        uint32_t magic; /* linux/magic.h; XFS has its own */
        const char *name;
    } kinds[] = {{0xef53, "ext4"},      {0x58465342, "xfs"},   {0x9123683e, "btrfs"},
                 {0x01021994, "tmpfs"}, {0x858458f6, "ramfs"}, {0x794c7630, "overlay"}};
    struct statfs info;
    const char *name = "unknown";
    if (place->type[0] != '\0')
        return;
    for (unsigned i = 0; statfs(place->path, &info) == 0 && i < sizeof kinds / sizeof *kinds; i++)
        if ((uint32_t)info.f_type == kinds[i].magic)
            name = kinds[i].name;
    snprintf(place->type, sizeof place->type, "%s", name);
}

/* The disk behind a device number, through /sys/dev/block; a partition leads to its disk. */
static void find_device(struct bench_place *place, dev_t device)
{
    char link[128], path[PATH_MAX], queue[PATH_MAX + 64], text[256];
    snprintf(link, sizeof link, "/sys/dev/block/%u:%u", major(device), minor(device));
    if (realpath(link, path) == NULL)
        return;
    snprintf(queue, sizeof queue, "%s/partition", path);
    if (access(queue, F_OK) == 0)
        *strrchr(path, '/') = '\0';
    snprintf(place->device, sizeof place->device, "%.63s", strrchr(path, '/') + 1);
    snprintf(queue, sizeof queue, "%s/queue/read_ahead_kb", path);
    read_line(queue, text, sizeof text);
    place->read_ahead_kb = text[0] != '\0' ? atoll(text) : -1;
    snprintf(queue, sizeof queue, "%s/queue/rotational", path);
    read_line(queue, text, sizeof text);
    place->rotational = text[0] != '\0' ? atoi(text) : -1;
    snprintf(queue, sizeof queue, "%s/device/model", path);
    read_line(queue, place->model, sizeof place->model);
    snprintf(queue, sizeof queue, "%s/queue/scheduler", path);
    read_line(queue, text, sizeof text);
    char *open = strchr(text, '['), *close = strchr(text, ']');
    if (open != NULL && close != NULL) {
        *close = '\0';
        snprintf(place->scheduler, sizeof place->scheduler, "%.63s", open + 1);
    } else {
        snprintf(place->scheduler, sizeof place->scheduler, "%.63s", text);
    }
}

int bench_place_find(const char *directory, struct bench_place *out_place,
                     struct bench_error *error)
{
    struct bench_place place = {.read_ahead_kb = -1, .rotational = -1};
    struct stat info;
    struct statvfs space;
    if (realpath(directory, place.path) == NULL)
        return bench_fail_errno(error, errno, "directory %s", directory);
    if (stat(place.path, &info) != 0 || statvfs(place.path, &space) != 0)
        return bench_fail_errno(error, errno, "directory %s", directory);
    if (!S_ISDIR(info.st_mode))
        return bench_fail(error, "%s is not a directory", directory);
    place.free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
    find_mount(&place);
    find_type(&place);
    find_device(&place, info.st_dev);
    place.in_memory = strcmp(place.type, "tmpfs") == 0 || strcmp(place.type, "ramfs") == 0;
    *out_place = place;
    return 0;
}

int bench_place_choose(const char *dir, struct bench_place *out_place, struct bench_error *error)
{
    const char *candidates[] = {getenv("TMPDIR"), "/var/tmp", "."};
    if (dir != NULL) {
        if (bench_place_find(dir, out_place, error) != 0)
            return -1;
        if (access(dir, W_OK | X_OK) != 0)
            return bench_fail_errno(error, errno, "cannot write to directory %s", dir);
        return 0;
    }
    for (unsigned i = 0; i < 3; i++)
        if (candidates[i] != NULL && candidates[i][0] != '\0' &&
            bench_place_find(candidates[i], out_place, error) == 0 && !out_place->in_memory &&
            access(candidates[i], W_OK | X_OK) == 0)
            return 0;
    return bench_fail(error, "none of $TMPDIR, /var/tmp and the current directory is writable and "
                             "on a real file system; name one with --dir");
}

/* ---- the scratch directory
 * ----------------------------------------------------------------------- */

int bench_scratch_create(const struct bench_place *place, char *out_path, size_t capacity,
                         struct bench_error *error)
{
    if (snprintf(out_path, capacity, "%s/clockpool-bench-XXXXXX", place->path) >= (int)capacity)
        return bench_fail(error, "the path %s is too long", place->path);
    if (mkdtemp(out_path) == NULL)
        return bench_fail_errno(error, errno, "cannot make a directory in %s", place->path);
    return 0;
}

/* Call visit for every file below a directory; directories come after what is in them. */
static int walk(const char *directory, int (*visit)(void *ctx, const char *path, bool is_directory),
                void *ctx)
{
    DIR *dir = opendir(directory);
    struct dirent *entry;
    int result = 0;
    if (dir == NULL)
        return 0;
    while (result == 0 && (entry = readdir(dir)) != NULL) {
        char path[PATH_MAX];
        struct stat info;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            snprintf(path, sizeof path, "%s/%s", directory, entry->d_name) >= (int)sizeof path ||
            lstat(path, &info) != 0)
            continue;
        result = S_ISDIR(info.st_mode) ? walk(path, visit, ctx) : visit(ctx, path, false);
    }
    closedir(dir);
    return result != 0 ? result : visit(ctx, directory, true);
}

static int remove_one(void *ctx, const char *path, bool is_directory)
{
    (void)ctx;
    if (is_directory)
        rmdir(path);
    else
        unlink(path);
    return 0;
}

void bench_remove_tree(const char *path)
{
    walk(path, remove_one, NULL);
}

static int drop_one(void *ctx, const char *path, bool is_directory)
{
    (void)ctx;
    int fd = is_directory ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    fdatasync(fd); /* dirty pages cannot be dropped */
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    return 0;
}

void bench_drop_cache(const char *directory)
{
    walk(directory, drop_one, NULL);
}

struct read_through {
    int (*report)(void *ctx, uint64_t bytes);
    void *ctx;
    char *buffer;
    struct bench_error *error;
};

static int read_one_through(void *ctx, const char *path, bool is_directory)
{
    struct read_through *all = ctx;
    struct stat info;
    if (is_directory)
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (fd < 0)
        fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        bench_fail_errno(all->error, errno, "cannot open %s", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    int result = 0;
    for (off_t at = 0; result == 0 && at < info.st_size;) {
        ssize_t n = pread(fd, all->buffer, BENCH_TRANSFER_BYTES, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            result = bench_fail_errno(all->error, errno, "cannot read %s", path);
        if (n <= 0)
            break;
        at += n;
        if (all->report(all->ctx, (uint64_t)n) != 0)
            result = bench_fail(all->error, "interrupted");
        if (n % 4096 != 0) /* the end of a file whose size is not a multiple of a block */
            break;
    }
    close(fd);
    return result;
}

int bench_read_through(const char *directory, int (*report)(void *ctx, uint64_t bytes), void *ctx,
                       struct bench_error *error)
{
    struct read_through all = {report, ctx, bench_huge_alloc(BENCH_TRANSFER_BYTES, error), error};
    if (all.buffer == NULL)
        return -1;
    int result = walk(directory, read_one_through, &all);
    bench_huge_free(all.buffer, BENCH_TRANSFER_BYTES);
    return result;
}
