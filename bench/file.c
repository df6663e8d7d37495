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

/* Beside path, which then names it. */
static bool replace(const char *path, const void *bytes, size_t size_bytes)
{
    char temporary[PATH_MAX];

    if (snprintf(temporary, sizeof temporary, "%s.%d.tmp", path, (int)getpid()) >=
        (int)sizeof temporary) {
        errno = ENAMETOOLONG;
        return false;
    }
    FILE *file = fopen(temporary, "we");
    if (file == NULL)
        return false;
    if (write_and_close(file, bytes, size_bytes) && rename(temporary, path) == 0)
        return true;
    const int code = errno;
    unlink(temporary);
    errno = code;
    return false;
}

int bench_file_write(const char *path, const void *bytes, size_t size_bytes, const char *what,
                     struct bench_error *error)
{
    char target[PATH_MAX];
    struct stat is;

    if (strcmp(path, "-") == 0)
        return fwrite(bytes, 1, size_bytes, stdout) == size_bytes && fflush(stdout) == 0
                   ? 0
                   : bench_fail(error, "cannot write %s to standard output", what);
    /* A device or a pipe takes the bytes; it must not be replaced. A link stays, too. */
    const bool there = stat(path, &is) == 0 && realpath(path, target) != NULL;
    const bool written = there && !S_ISREG(is.st_mode)
                             ? write_and_close(fopen(path, "we"), bytes, size_bytes)
                             : replace(there ? target : path, bytes, size_bytes);
    return written ? 0 : bench_fail_errno(error, errno, "cannot write %s", path);
}
