/* SPDX-License-Identifier: MIT */
/*
 * Copying a store while somebody writes to it.
 *
 * The lock file `backup` in the store's directory, an open-file-description lock as in lock.c: who
 * copies holds it shared, so several may copy at once. A writer that finds it held leaves the log
 * as it is, since the copy of the data file is fuzzy and is made whole by the log behind it.
 *
 * The order that closes the gap between looking and trimming: a writer makes the superblock with
 * its new redo point durable, then looks at the lock, then trims up to that redo point. Who copies
 * takes the lock, then reads the superblock. So either the writer sees the lock, or the copy starts
 * from a redo point that the writer's trimming does not reach beyond.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BACKUP_LOCK_NAME "backup"

bool cp_pager__backup_held(const struct cp_pager *pager)
{
    char *path = NULL;
    if (asprintf(&path, "%s/" BACKUP_LOCK_NAME, pager->directory) < 0)
        return true; /* cannot tell: a log that is kept too long does no harm */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int error = errno;
    free(path);
    if (fd < 0)
        return error != ENOENT;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
    bool held = fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
    close(fd);
    return held;
}
