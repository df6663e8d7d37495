/* SPDX-License-Identifier: MIT */
/* A result in a file, whole or not at all. */
#include "file.h"

#include <errno.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int bench_file_write(const char *path, const void *bytes, size_t size_bytes, const char *what,
                     struct bench_error *error)
{
    char temporary[PATH_MAX];

    if (strcmp(path, "-") == 0)
        return fwrite(bytes, 1, size_bytes, stdout) == size_bytes && fflush(stdout) == 0
                   ? 0
                   : bench_fail(error, "cannot write %s to standard output", what);
    if (snprintf(temporary, sizeof temporary, "%s.%d.tmp", path, (int)getpid()) >=
        (int)sizeof temporary)
        return bench_fail(error, "the path %s is too long", path);
    FILE *file = fopen(temporary, "we");
    if (file == NULL)
        return bench_fail_errno(error, errno, "cannot write %s", path);
    bool written = fwrite(bytes, 1, size_bytes, file) == size_bytes;
    written = fclose(file) == 0 && written;
    if (!written || rename(temporary, path) != 0) {
        int code = errno;
        unlink(temporary);
        return bench_fail_errno(error, code, "cannot write %s", path);
    }
    return 0;
}
