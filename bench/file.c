/* SPDX-License-Identifier: MIT */
/* A result in a file, whole or not at all. */
#include "file.h"

#include <errno.h>
#include <linux/limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* All of it, to a stream that is closed. False: errno says why. */
static bool write_and_close(FILE *file, const void *bytes, size_t size_bytes)
{
    if (file == NULL)
        return false;
    const bool written = fwrite(bytes, 1, size_bytes, file) == size_bytes && fflush(file) == 0;
    const int code = errno;
    if (fclose(file) == 0 && written)
        return true;
    errno = written ? errno : code;
    return false;
}

/* A new file beside path; its name goes to temporary. NULL: errno says why. */
static FILE *open_beside(const char *path, char temporary[PATH_MAX])
{
    if (snprintf(temporary, PATH_MAX, "%s.%d.tmp", path, (int)getpid()) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    return fopen(temporary, "we");
}

/* Beside path, which then names it. */
static bool replace(const char *path, const void *bytes, size_t size_bytes)
{
    char temporary[PATH_MAX];
    FILE *file = open_beside(path, temporary);

    if (file == NULL)
        return false;
    if (write_and_close(file, bytes, size_bytes) && rename(temporary, path) == 0)
        return true;
    const int code = errno;
    unlink(temporary);
    errno = code;
    return false;
}

/* Where the bytes for path go. *out_replaced: into a file beside it. A device or a pipe takes them;
 * it must not be replaced. A link stays, too. */
static const char *find_target(const char *path, char target[PATH_MAX], bool *out_replaced)
{
    struct stat is;
    const bool there = stat(path, &is) == 0 && realpath(path, target) != NULL;
    *out_replaced = !there || S_ISREG(is.st_mode);
    return there ? target : path;
}

int bench_file_check(const char *path, struct bench_error *error)
{
    char found[PATH_MAX], temporary[PATH_MAX];
    struct stat is;
    bool replaced;
    if (strcmp(path, "-") == 0)
        return 0;
    const char *target = find_target(path, found, &replaced);
    if (!replaced) {
        if (stat(target, &is) == 0 && S_ISDIR(is.st_mode))
            errno = EISDIR;
        else if (access(target, W_OK) == 0)
            return 0;
        return bench_fail_errno(error, errno, "cannot write %s", path);
    }
    const char *name = strrchr(target, '/');
    errno = ENOENT; /* of a path without a name */
    FILE *file =
        (name != NULL ? name[1] : target[0]) != '\0' ? open_beside(target, temporary) : NULL;
    if (file == NULL)
        return bench_fail_errno(error, errno, "cannot write %s", path);
    fclose(file);
    unlink(temporary);
    return 0;
}

int bench_file_check_option(const char *command, const char *option, const char *path)
{
    struct bench_error error;
    if (path == NULL || bench_file_check(path, &error) == 0)
        return 0;
    fprintf(stderr, "clockpool-bench %s: option %s: %s\n", command, option, error.text);
    return 2;
}

/* The folder of a file that is not there yet, and its name in it. False: there is no such folder.
 */
static bool find_folder(const char *path, struct stat *out_folder, const char **out_name)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    *out_name = slash != NULL ? slash + 1 : path;
    const int length = slash != NULL ? (int)(slash + 1 - path) : 0;
    if (snprintf(folder, sizeof folder, "%.*s", length, path) >= PATH_MAX)
        return false;
    return stat(length > 0 ? folder : ".", out_folder) == 0;
}

/* Would both be one file, whatever they are called? */
static bool is_same_file(const char *a, const char *b)
{
    struct stat left, right;
    const char *left_name, *right_name;
    const bool left_there = stat(a, &left) == 0, right_there = stat(b, &right) == 0;
    if (left_there != right_there)
        return false;
    if (left_there)
        return S_ISREG(left.st_mode) && left.st_dev == right.st_dev && left.st_ino == right.st_ino;
    return find_folder(a, &left, &left_name) && find_folder(b, &right, &right_name) &&
           left.st_dev == right.st_dev && left.st_ino == right.st_ino &&
           strcmp(left_name, right_name) == 0;
}

int bench_file_check_other(const char *command, const char *option, const char *path,
                           const char *other, const char *other_is)
{
    if (path == NULL || other == NULL || strcmp(path, "-") == 0 || !is_same_file(path, other))
        return 0;
    fprintf(stderr, "clockpool-bench %s: option %s: %s is %s, too, and would be overwritten\n",
            command, option, path, other_is);
    return 2;
}

int bench_file_write(const char *path, const void *bytes, size_t size_bytes, const char *what,
                     struct bench_error *error)
{
    char found[PATH_MAX];
    bool replaced;

    if (strcmp(path, "-") == 0)
        return fwrite(bytes, 1, size_bytes, stdout) == size_bytes && fflush(stdout) == 0
                   ? 0
                   : bench_fail(error, "cannot write %s to standard output", what);
    const char *target = find_target(path, found, &replaced);
    const bool written = replaced ? replace(target, bytes, size_bytes)
                                  : write_and_close(fopen(path, "we"), bytes, size_bytes);
    return written ? 0 : bench_fail_errno(error, errno, "cannot write %s", path);
}
