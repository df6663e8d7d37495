/* SPDX-License-Identifier: MIT */
/*
 * The lock file. An open-file-description lock (F_OFD_SETLK) belongs to the open file: unlike a
 * process-wide lock it also conflicts within one process, and closing some other descriptor of the
 * same file does not drop it. The file's text, "pid command", is for the hint only.
 *
 * Straight to the system: a lock is about this machine's processes, not about stored bytes, so the
 * I/O backends have nothing to record or to break here.
 */
#include "internal.h"

#include <clockpool/base/error.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOLDER_TEXT_BYTES 64
#define LOCK_ATTEMPTS     16 /* each lost one means that a creation failed meanwhile */

/* This process's command name, as ps shows it. */
static void read_command(char *text, size_t size)
{
    ssize_t length = -1;
    int fd = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        length = read(fd, text, size - 1);
        close(fd);
    }
    text[length > 0 ? length : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
}

/* Best effort: the lock is held without it too. */
static void write_holder(int fd)
{
    char command[32], text[HOLDER_TEXT_BYTES];
    read_command(command, sizeof command);
    int length = snprintf(text, sizeof text, "%ld %s\n", (long)getpid(), command);
    if (length > 0 && pwrite(fd, text, (size_t)length, 0) == length && ftruncate(fd, length) != 0)
        return;
}

static int set_lock(int fd, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
    return fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : -errno;
}

int64_t cp_pager__lock_holder(int fd, char *out_command, size_t capacity)
{
    char text[HOLDER_TEXT_BYTES] = "", *command = NULL;
    ssize_t length = pread(fd, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    long pid = strtol(text, &command, 10);
    out_command[0] = '\0';
    if (pid <= 0 || (kill((pid_t)pid, 0) != 0 && errno == ESRCH))
        return 0;
    command += *command == ' ';
    for (char *c = command; *c != '\0'; c++) /* text from a file: keep it printable */
        *c = *c >= ' ' && *c <= '~' ? *c : '?';
    snprintf(out_command, capacity, "%s", command);
    return pid;
}

/* Who holds it, as far as the file's text can be believed. */
static int report_holder(int fd, const char *path)
{
    char command[HOLDER_TEXT_BYTES], hint[192];
    const int64_t pid = cp_pager__lock_holder(fd, command, sizeof command);
    if (pid == 0)
        snprintf(hint, sizeof hint,
                 "held by another process, perhaps a forked child of one that has ended; close it "
                 "there or wait");
    else if (pid == (int64_t)getpid())
        snprintf(hint, sizeof hint,
                 "held by this process (%" PRId64 "): it has the store open already", pid);
    else
        snprintf(hint, sizeof hint, "held by process %" PRId64 " (%s); close it there or wait", pid,
                 command);
    return cp_error_set(CP_ELOCKED, path, CP_NO_PAGE, CP_NO_LSN, hint, "lock the store");
}

/* A failed creation removes its lock file: then what we hold is a file that nobody else will find.
 */
static bool still_there(int fd, const char *path)
{
    struct stat held, named;
    return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino &&
           held.st_dev == named.st_dev;
}

/*
 * Open a lock file. Without waiting: what stands in its place may be a FIFO, which would otherwise
 * wait until somebody opens its other end. Returns the descriptor or a code.
 */
int cp_pager__lock_open(const char *path, int flags)
{
    struct stat status;
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    int code = fd < 0 ? -errno : 0;
    if (code == 0 && fstat(fd, &status) != 0)
        code = -errno;
    if (code == 0 && !S_ISREG(status.st_mode))
        code = -EISDIR;
    if (code == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    if (code == -EISDIR || code == -ENXIO) /* ENXIO: a socket, or a FIFO that is to be written */
        return cp_error_set(-EEXIST, path, CP_NO_PAGE, CP_NO_LSN,
                            "remove what is there: a lock file is made when it is missing",
                            "open a lock file: this is not a regular file");
    return cp_error_set(code, path, CP_NO_PAGE, CP_NO_LSN, NULL, "open a lock file");
}

static int acquire_once(const char *path, bool read_only, struct cp_store_lock *out_lock)
{
    /* A reader too says who it is, where it may write. */
    int fd = cp_pager__lock_open(path, O_RDWR | O_CREAT);
    bool writable = fd >= 0;
    if (read_only && (fd == -EACCES || fd == -EROFS || fd == -EPERM))
        fd = cp_pager__lock_open(path, O_RDONLY);
    if (fd < 0)
        return fd;
    int code = set_lock(fd, read_only ? F_RDLCK : F_WRLCK);
    if (code == -EAGAIN || code == -EACCES)
        code = report_holder(fd, path);
    else if (code != 0)
        code = cp_error_set(code, path, CP_NO_PAGE, CP_NO_LSN,
                            "the file system must support locks (fcntl)", "lock the store");
    if (code != 0) {
        close(fd);
        return code;
    }
    if (!still_there(fd, path)) {
        close(fd);
        return -EAGAIN;
    }
    if (writable)
        write_holder(fd);
    out_lock->fd = fd;
    return 0;
}

int cp_pager__lock_acquire(const char *path, bool read_only, struct cp_store_lock *out_lock)
{
    int code = -EAGAIN;
    for (unsigned attempt = 0; code == -EAGAIN && attempt < LOCK_ATTEMPTS; attempt++)
        code = acquire_once(path, read_only, out_lock);
    if (code == -EAGAIN)
        return cp_error_set(CP_ELOCKED, path, CP_NO_PAGE, CP_NO_LSN, "try again",
                            "lock the store: its lock file keeps being replaced");
    return code;
}

void cp_pager__lock_release(struct cp_store_lock *lock)
{
    if (lock->fd < 0)
        return;
    /* Unlock, not only close: a forked child may still have the descriptor. */
    (void)set_lock(lock->fd, F_UNLCK);
    close(lock->fd);
    lock->fd = -1;
}
