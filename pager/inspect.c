/* SPDX-License-Identifier: MIT */
/*
 * Looking into a store from outside, without a lock. What is read may be changing: a superblock is
 * written into the slot that does not count, so one of the two is whole at any moment; reading both
 * takes two moments, and is repeated when neither was good.
 */
#include "inspect.h"
#include "internal.h"

#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SUPERBLOCK_ATTEMPTS 16 /* a writer would have to write between the reads each time */
#define SUPERBLOCK_PAUSE_NS 1000000
#define CUT_ATTEMPTS        10u /* a writer would have to cut the file between two reads each time */
#define LOG_ATTEMPTS        8   /* without progress: then it is damage */
#define LOG_PAUSE_NS        5000000
#define GONE_ATTEMPTS       100u /* a writer would have to remove a file each time */
#define TRIM_ATTEMPTS       20   /* a writer would have to write a checkpoint each time */

char *cp_pager__path(const char *directory, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", directory, name) >= 0)
        return path;
    cp_error_set(-ENOMEM, directory, CP_NO_PAGE, CP_NO_LSN, NULL, "name a file of the store");
    return NULL;
}

/* ---- superblocks ------------------------------------------------------------------------------
 */

int cp_pager__look_superblock(struct cp_io_file *file, struct cp_superblock *out_block,
                              bool out_valid[2])
{
    struct cp_io_file_info info;
    cp_io_file_info(file, &info);
    struct cp_superblock *slots = aligned_alloc(CP_FORMAT_BLOCK_BYTES, 2 * sizeof *slots);
    if (slots == NULL)
        return cp_error_set(-ENOMEM, info.path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "read the superblocks");
    int code = CP_ECHECKSUM;
    for (unsigned attempt = 0; attempt < SUPERBLOCK_ATTEMPTS && code == CP_ECHECKSUM; attempt++) {
        if (attempt > 0) {
            const struct timespec pause = {.tv_nsec = SUPERBLOCK_PAUSE_NS};
            nanosleep(&pause, NULL);
        }
        cp_pager__superblocks_read(file, slots);
        for (unsigned slot = 0; slot < 2; slot++) {
            struct cp_superblock only;
            unsigned ignored;
            out_valid[slot] = cp_pager__superblock_choose(&slots[slot], &slots[slot], info.path,
                                                          &only, &ignored) == 0;
        }
        unsigned slot;
        code = cp_pager__superblock_choose(&slots[0], &slots[1], info.path, out_block, &slot);
    }
    free(slots);
    return code;
}

static int inspect_data(struct cp_io *io, const char *directory, struct cp_store_info *info)
{
    const struct cp_io_file_options options = {
        .read_only = true, .regular = true, .block_bytes = CP_FORMAT_BLOCK_BYTES};
    struct cp_superblock block;
    struct cp_io_file *file;
    struct stat status;
    char *path = cp_pager__path(directory, "data");
    if (path == NULL)
        return -ENOMEM;
    int code = stat(path, &status) != 0 ? -errno : 0;
    if (code == -ENOENT || code == -ENOTDIR)
        code = cp_error_set(code, directory, CP_NO_PAGE, CP_NO_LSN,
                            "check the path; `data` in a directory makes it a store",
                            "there is no store");
    else if (code != 0)
        code = cp_error_set(code, path, CP_NO_PAGE, CP_NO_LSN, NULL, "look for the store");
    else if (!S_ISREG(status.st_mode))
        code = cp_error_set(CP_EFORMAT, path, CP_NO_PAGE, CP_NO_LSN,
                            "check the path: this is not a store",
                            "the data file is not a regular file");
    if (code == 0)
        code = cp_io_file_open(io, path, &options, &file);
    if (code != 0)
        goto out;
    /* Size after superblock: a file grows before a superblock says so. It is cut after one says so,
     * which may be between the two; so what looks cut is looked at once more. */
    for (unsigned attempt = 0; attempt < CUT_ATTEMPTS; attempt++) {
        code = cp_pager__look_superblock(file, &block, info->slot_valid);
        if (code == 0)
            code = cp_io_file_size(file, &info->data_bytes);
        info->cut = code == 0 && info->data_bytes < block.page_count * block.page_size;
        if (!info->cut)
            break;
    }
    (void)cp_io_file_close(file);
    if (code != 0)
        goto out;
    info->format_version = block.version;
    info->page_size = block.page_size;
    info->store_id = block.store_id;
    info->generation = block.generation;
    info->page_count = block.page_count;
    info->first_page = cp_format_first_map_page(block.page_size) + 1;
    info->created_ns = block.created_ns;
    info->checkpoint_lsn = block.checkpoint_lsn;
    info->unclean = (block.flags & CP_FORMAT_FLAG_UNCLEAN) != 0;
out:
    free(path);
    return code;
}

/* ---- locks ------------------------------------------------------------------------------------
 */

int cp_pager__look_lock(const char *directory, const char *name, short *out_type, int *out_fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
    char *path = cp_pager__path(directory, name);
    *out_type = F_UNLCK;
    *out_fd = -1;
    if (path == NULL)
        return -ENOMEM;
    *out_fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int code = *out_fd < 0 ? -errno : 0;
    free(path);
    if (code == 0 && fcntl(*out_fd, F_OFD_GETLK, &lock) != 0)
        code = -errno;
    if (code == 0)
        *out_type = lock.l_type;
    return code;
}

int cp_pager__missing_log(const char *directory, int code)
{
    if (code != -ENOENT && code != -ENOTDIR)
        return code;
    return cp_error_set(CP_ELOG, directory, CP_NO_PAGE, CP_NO_LSN,
                        "restore the log's files, or restore from a backup",
                        "files of the log are missing");
}

static void inspect_log(struct cp_io *io, const char *directory, struct cp_store_info *info)
{
    struct cp_wal_stats stats;
    struct cp_wal *wal;
    info->log_code = -ENOENT;
    for (unsigned gone = 0; gone < GONE_ATTEMPTS && info->log_code == -ENOENT; gone++)
        info->log_code = cp_pager__log_open(directory, io, info->store_id, &wal);
    info->log_code = cp_pager__missing_log(directory, info->log_code);
    if (info->log_code != 0)
        return;
    cp_wal_stats(wal, &stats);
    info->log_first = stats.first;
    info->log_segments = stats.segment_count;
    info->log_disk_bytes = stats.disk_bytes;
    info->log_segment_bytes = stats.segment_bytes;
    cp_wal_close(wal);
}

static void inspect_locks(const char *directory, struct cp_store_info *info)
{
    short type;
    int fd;
    /* A file that cannot be looked at is held by nobody we could name. */
    (void)!cp_pager__look_lock(directory, "lock", &type, &fd);
    info->use = type == F_WRLCK   ? CP_STORE_WRITTEN
                : type == F_RDLCK ? CP_STORE_READ
                                  : CP_STORE_FREE;
    if (info->use != CP_STORE_FREE)
        info->holder_pid =
            cp_pager__lock_holder(fd, info->holder_command, sizeof info->holder_command);
    if (fd >= 0)
        close(fd);
    (void)!cp_pager__look_lock(directory, CP_PAGER_BACKUP_LOCK, &type, &fd);
    info->copied = type != F_UNLCK;
    if (fd >= 0)
        close(fd);
}

/* ---- the whole --------------------------------------------------------------------------------
 */

int cp_pager__borrow_io(struct cp_io *given, struct cp_io **out_io)
{
    const struct cp_io_options options = {.kind = CP_IO_SYNC};
    if (given == NULL)
        return cp_io_create(&options, out_io);
    *out_io = given;
    return 0;
}

void cp_pager__return_io(struct cp_io *given, struct cp_io *io)
{
    struct cp_error saved = *cp_error_info();
    if (given == NULL)
        cp_io_destroy(io);
    cp_error_restore(&saved);
}

int cp_pager_inspect(const char *directory, struct cp_io *given, struct cp_store_info *out_info)
{
    struct cp_store_info info = {0};
    struct cp_io *io;
    if (directory == NULL || directory[0] == '\0')
        return cp_error_set(-EINVAL, directory, CP_NO_PAGE, CP_NO_LSN, "name a directory",
                            "look into a store");
    int code = cp_pager__borrow_io(given, &io);
    if (code != 0)
        return code;
    inspect_locks(directory, &info); /* before the superblock: a store just closed is then clean */
    code = inspect_data(io, directory, &info);
    if (code == 0)
        inspect_log(io, directory, &info);
    cp_pager__return_io(given, io);
    if (code == 0)
        *out_info = info;
    return code;
}

/* ---- the log ----------------------------------------------------------------------------------
 */

/* Counts what a scan has passed, for the next attempt and for the caller. */
struct log_reader {
    int (*visit)(void *ctx, const struct cp_wal_group *group);
    void *ctx;
    cp_lsn end;
    int visit_code;
};

static int pass_group(void *ctx, const struct cp_wal_group *group)
{
    struct log_reader *reader = ctx;
    if (reader->visit != NULL)
        reader->visit_code = reader->visit(reader->ctx, group);
    if (reader->visit_code == 0)
        reader->end = group->end;
    return reader->visit_code;
}

int cp_pager__log_open(const char *directory, struct cp_io *io, uint64_t store_id,
                       struct cp_wal **out_wal)
{
    const struct cp_wal_options options = {.store_id = store_id, .read_only = true};
    char *path = cp_pager__path(directory, "wal");
    if (path == NULL)
        return -ENOMEM;
    int code = cp_wal_open(io, path, &options, out_wal);
    free(path);
    return code;
}

/*
 * The log may grow while it is read. Then a scan can take the blocks that were not there yet for
 * its end, meet later ones, and call that damage. It is none when the next attempt gets further;
 * and where the first attempt stopped, nothing had been durable when it began. So once there is
 * progress, what was passed is an end as good as any. A file that is gone between listing and
 * opening was a spare one that the writer gave up; that says nothing, so the attempt is repeated.
 */
int cp_pager__log_scan(const char *directory, struct cp_io *io, uint64_t store_id, cp_lsn from,
                       int (*visit)(void *ctx, const struct cp_wal_group *group), void *ctx,
                       cp_lsn *out_end, struct cp_wal **out_wal)
{
    struct log_reader reader = {.visit = visit, .ctx = ctx, .end = from};
    struct cp_wal *wal = NULL;
    cp_lsn stop = UINT64_MAX; /* where the first attempt stopped */
    unsigned attempt = 0, gone = 0;
    int code = 0;
    while (attempt < LOG_ATTEMPTS && gone < GONE_ATTEMPTS) {
        const struct timespec pause = {.tv_nsec = LOG_PAUSE_NS};
        cp_lsn ignored;
        if (attempt > 0)
            nanosleep(&pause, NULL);
        cp_wal_close(wal);
        wal = NULL;
        code = cp_pager__log_open(directory, io, store_id, &wal);
        if (code == 0)
            code = cp_wal_scan(wal, reader.end, pass_group, &reader, &ignored);
        if (reader.visit_code == 0 && code == -ENOENT) {
            gone++;
            continue;
        }
        attempt++;
        if (reader.visit_code != 0 || (code != CP_EDAMAGED && code != CP_ELOG))
            break;
        if (reader.end > stop) {
            code = 0;
            break;
        }
        stop = reader.end;
    }
    *out_end = reader.end;
    if (reader.visit_code == 0)
        code = cp_pager__missing_log(directory, code);
    if (code == 0 && out_wal != NULL) {
        *out_wal = wal;
    } else {
        struct cp_error saved = *cp_error_info();
        cp_wal_close(wal);
        cp_error_restore(&saved);
    }
    return code;
}

int cp_pager__bad_checkpoint(const char *directory, int code, cp_lsn checkpoint_lsn)
{
    if (code != -EINVAL)
        return code;
    return cp_error_set(CP_EFORMAT, directory, CP_NO_PAGE, checkpoint_lsn,
                        "the file was made by something else, or on purpose; use a backup",
                        "superblock: no log can begin at checkpoint_lsn");
}

/*
 * Without the backup lock the writer may trim what is being read, up to a new checkpoint. Returns
 * the code of the scan, or -EAGAIN when that is what happened.
 */
static int scan_trimmed(const char *directory, struct cp_io *io, int code, cp_lsn reached)
{
    struct cp_store_info now;
    struct cp_error saved = *cp_error_info();
    if (code != CP_EDAMAGED && code != CP_ELOG)
        return code;
    if (cp_pager_inspect(directory, io, &now) == 0 && now.checkpoint_lsn > reached)
        return cp_error_set(-EAGAIN, directory, CP_NO_PAGE, reached, "run it again",
                            "the log was trimmed while it was read");
    return cp_error_restore(&saved);
}

int cp_pager_scan_log(const char *directory, struct cp_io *given, cp_lsn from,
                      int (*visit)(void *ctx, const struct cp_wal_group *group), void *ctx,
                      cp_lsn *out_end)
{
    struct cp_store_info info;
    struct cp_io *io;
    int code = cp_pager__borrow_io(given, &io);
    if (code != 0)
        return code;
    code = -EAGAIN;
    for (unsigned attempt = 0; attempt < TRIM_ATTEMPTS && code == -EAGAIN; attempt++) {
        code = cp_pager_inspect(directory, io, &info);
        if (code != 0)
            break;
        const cp_lsn begin = from != 0 ? from : info.checkpoint_lsn;
        code = cp_pager__log_scan(directory, io, info.store_id, begin, visit, ctx, out_end, NULL);
        if (begin == info.checkpoint_lsn)
            code = cp_pager__bad_checkpoint(directory, code, begin);
        code = scan_trimmed(directory, io, code, *out_end);
        if (from != 0 ||
            *out_end != begin) /* groups were given: beginning anew would repeat them */
            break;
    }
    cp_pager__return_io(given, io);
    return code;
}

const char *cp_pager_log_type_name(uint8_t type)
{
    static const char *const names[] = {"unknown", "range", "init", "image", "trim"};
    return names[type < sizeof names / sizeof names[0] ? type : 0];
}
