/* SPDX-License-Identifier: MIT */
#include "snapshot.h"

static void load_file(struct snapshot *snapshot, const char *path, const char *name)
{
    struct stat status;
    assert_true(snapshot->count < SNAPSHOT_FILES);
    struct snapshot_file *file = &snapshot->files[snapshot->count++];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    snprintf(file->name, sizeof file->name, "%s", name);
    file->size = (size_t)status.st_size;
    file->bytes = malloc(file->size + 1);
    assert_non_null(file->bytes);
    assert_int_equal(read(fd, file->bytes, file->size), file->size);
    close(fd);
    snapshot->total_bytes += file->size;
}

static void load_directory(struct snapshot *snapshot, const char *path, const char *prefix)
{
    DIR *stream = opendir(path);
    const struct dirent *entry;
    assert_non_null(stream);
    while ((entry = readdir(stream)) != NULL) {
        char inner[900], name[300];
        struct stat status;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        snprintf(name, sizeof name, "%s%s", prefix, entry->d_name);
        assert_int_equal(stat(inner, &status), 0);
        if (S_ISDIR(status.st_mode)) {
            strcat(name, "/");
            load_directory(snapshot, inner, name);
        } else {
            load_file(snapshot, inner, name);
        }
    }
    closedir(stream);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct snapshot_file *)a)->name, ((const struct snapshot_file *)b)->name);
}

void snapshot_load(struct snapshot *snapshot, const char *store)
{
    memset(snapshot, 0, sizeof *snapshot);
    load_directory(snapshot, store, "");
    qsort(snapshot->files, snapshot->count, sizeof snapshot->files[0], by_name);
}

void snapshot_free(struct snapshot *snapshot)
{
    for (unsigned i = 0; i < snapshot->count; i++)
        free(snapshot->files[i].bytes);
    snapshot->count = 0;
}

static bool has(const struct snapshot *snapshot, const char *prefix, const char *name)
{
    for (unsigned i = 0; i < snapshot->count; i++) {
        const char *own = snapshot->files[i].name;
        if (strncmp(own, prefix, strlen(prefix)) == 0 && strcmp(own + strlen(prefix), name) == 0)
            return true;
    }
    return false;
}

/* Remove files of path that are not in the snapshot; its directories are "" and "wal/". */
static void remove_others(const struct snapshot *snapshot, const char *path, const char *prefix)
{
    DIR *stream = opendir(path);
    const struct dirent *entry;
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        char inner[900];
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.' && !has(snapshot, prefix, entry->d_name))
            (void)unlink(inner); /* fails for a directory, which is meant to stay */
    }
    if (stream != NULL)
        closedir(stream);
}

void snapshot_restore(const struct snapshot *snapshot, const char *store)
{
    char path[900];
    snprintf(path, sizeof path, "%s/wal", store);
    (void)mkdir(store, 0700);
    (void)mkdir(path, 0700);
    remove_others(snapshot, store, "");
    remove_others(snapshot, path, "wal/");
    for (unsigned i = 0; i < snapshot->count; i++) {
        const struct snapshot_file *file = &snapshot->files[i];
        snprintf(path, sizeof path, "%s/%s", store, file->name);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, file->bytes, file->size), file->size);
        assert_int_equal(ftruncate(fd, (off_t)file->size), 0);
        close(fd);
    }
}

const struct snapshot_file *snapshot_find(const struct snapshot *snapshot, uint64_t at,
                                          uint64_t *out_offset)
{
    unsigned i = 0;
    while (at >= snapshot->files[i].size)
        at -= snapshot->files[i++].size;
    *out_offset = at;
    return &snapshot->files[i];
}
