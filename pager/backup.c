/* SPDX-License-Identifier: MIT */
/*
 * Copying a store while somebody writes to it.
 *
 * The copy is fuzzy, and made whole by the log:
 *
 *     1. take the backup lock: from now on the writer does not trim
 *     2. read the superblock; its redo point R is where the copy's recovery begins
 *     3. copy the data file, each page whole: one that is being written is read again
 *     4. read the log from R to its end E, which is behind all that the pages of step 3 contain,
 *        since a page is written only after its log; copy it up to E. Of a page that is not whole
 *        recovery may have the whole in memory: then the log has its base
 *     5. write the superblock of step 2, unclean, under a generation and an epoch at least as high
 *        as any that somebody used meanwhile
 *     6. sync everything, give it its name, sync the directory
 *
 * Changes before R are in the pages (R was published after they had been synced), those from R to E
 * in the log, which passes over what a page has already: just as after a crash.
 *
 * The lock: a file `backup` in the store's directory, an open-file-description lock as in lock.c.
 * Who copies holds it shared, so several may copy at once. The order that closes the gap between
 * looking and trimming: a writer makes the superblock with its new redo point durable, then looks
 * at the lock, then trims up to that redo point. So either it sees the lock, or the copy starts
 * from a redo point that its trimming does not reach beyond.
 */
#include "inspect.h"
#include "internal.h"
#include "records.h"
#include "rules.h"

#include <clockpool/backup.h>
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

#define CHUNK_BYTES     CP_IO_MAX_TRANSFER_BYTES
#define REREAD_ATTEMPTS 20u /* of a page that is being written: one write takes a millisecond */
#define REREAD_PAUSE_NS 1000000
#define GROWTH_ROUNDS   16u /* of a file that grows while it is copied; see copy_data */
#define NAME_ATTEMPTS   16u
#define TORN_PAGES      16384u /* 64 MiB at least: more are not a crash's doing */

struct backup {
    const char *source;
    const struct cp_backup_options *options;
    struct cp_io *io;                       /* borrowed, or ours: see cp_pager__borrow_io */
    char *destination, *parent, *temporary; /* owned */
    char *source_data, *data, *wal, *lock;  /* owned; the latter three below temporary */
    struct cp_store_lock held;              /* the backup lock; none on a read-only file system */
    struct cp_io_file *from, *to;           /* the two data files */
    unsigned char *chunk;                   /* owned; CHUNK_BYTES */
    struct cp_superblock superblock;        /* of step 2 */
    uint64_t generation;                    /* of the superblock that was seen last */
    struct cp_page_format format;
    cp_lsn page_lsn;    /* the highest in a page that was copied */
    uint64_t *bad;      /* owned; up to TORN_PAGES that are not whole, ascending */
    uint32_t bad_count; /* without those that the log makes whole; 0 when there are too many */
    struct cp_backup_progress progress;
    struct cp_backup_stats stats;
};

/* ---- the lock ---------------------------------------------------------------------------------
 */

bool cp_pager__backup_held(const struct cp_pager *pager)
{
    short type;
    int fd;
    int code = cp_pager__look_lock(pager->directory, CP_PAGER_BACKUP_LOCK, &type, &fd);
    if (fd >= 0)
        close(fd);
    /* Cannot tell: a log that is kept too long does no harm. */
    return code == -ENOENT ? false : code != 0 || type != F_UNLCK;
}

/* The file stays: removing it would race with another who copies. */
static int take_lock(struct backup *backup)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
    struct stat status;
    int code = 0;
    char *path = cp_pager__path(backup->source, CP_PAGER_BACKUP_LOCK);
    if (path == NULL)
        return -ENOMEM;
    int fd = cp_pager__lock_open(path, O_RDONLY | O_CREAT);
    if (fd == -EROFS) { /* then nobody writes there, so nobody trims */
        free(path);
        return 0;
    }
    if (fd < 0)
        code = fd;
    else if (fcntl(fd, F_OFD_SETLK, &lock) != 0)
        code = cp_error_set(-errno, path, CP_NO_PAGE, CP_NO_LSN,
                            "the file system must support locks (fcntl)", "lock the log's end");
    /* Made by root, it must be readable for the store's owner, whose writer looks at it. */
    else if (stat(backup->source, &status) == 0 && fchown(fd, status.st_uid, status.st_gid) != 0)
        code = 0; /* not ours to give: it exists already, or it is the owner's anyway */
    free(path);
    if (code != 0 && fd >= 0)
        close(fd);
    else
        backup->held.fd = fd;
    return code;
}

/* ---- names ------------------------------------------------------------------------------------
 */

static int check_free(const struct backup *backup)
{
    struct stat status;
    if (lstat(backup->destination, &status) == 0)
        return cp_error_set(-EEXIST, backup->destination, CP_NO_PAGE, CP_NO_LSN,
                            "name a directory that does not exist yet", "copy a store");
    if (errno == ENOENT)
        return 0;
    return cp_error_set(-errno, backup->destination, CP_NO_PAGE, CP_NO_LSN, NULL, "copy a store");
}

/* The new directory with an empty lock file and an empty directory for the log. */
static int make_directory(struct backup *backup)
{
    int code = -EEXIST;
    for (unsigned attempt = 0; code == -EEXIST && attempt < NAME_ATTEMPTS; attempt++) {
        free(backup->temporary);
        free(backup->parent);
        backup->temporary = backup->parent = NULL;
        code = cp_pager__temporary_beside(backup->destination, &backup->temporary, &backup->parent);
        if (code == 0)
            code = cp_io_mkdir(backup->io, backup->temporary, 0700);
        if (code != 0 && code != -EEXIST) { /* not made: nothing to remove */
            free(backup->temporary);
            backup->temporary = NULL;
        }
    }
    if (code != 0)
        return cp_pager__explain_parent(backup->parent, code);
    backup->data = cp_pager__path(backup->temporary, "data");
    backup->wal = cp_pager__path(backup->temporary, "wal");
    backup->lock = cp_pager__path(backup->temporary, "lock");
    if (backup->data == NULL || backup->wal == NULL || backup->lock == NULL)
        return -ENOMEM;
    code = cp_io_mkdir(backup->io, backup->wal, 0700);
    if (code != 0)
        return code;
    int fd = open(backup->lock, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return cp_error_set(-errno, backup->lock, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "create the lock file");
    close(fd);
    return 0;
}

/* ---- the data file ----------------------------------------------------------------------------
 */

static int tell_progress(struct backup *backup)
{
    if (backup->options->progress == NULL)
        return 0;
    int code = backup->options->progress(backup->options->ctx, &backup->progress);
    return code == 0 ? 0
                     : cp_error_set(code, backup->destination, CP_NO_PAGE, CP_NO_LSN,
                                    "nothing of it was left: begin it again to have one",
                                    "the copy was stopped");
}

/* Has somebody the store open for writing, as far as can be told? */
static bool being_written(const struct backup *backup)
{
    short type;
    int fd;
    int code = cp_pager__look_lock(backup->source, "lock", &type, &fd);
    if (fd >= 0)
        close(fd);
    return code == -ENOENT ? false : code != 0 || type == F_WRLCK;
}

/* Is the superblock the one that was seen last? Who begins to write makes a new one durable first.
 */
static bool same_generation(struct backup *backup)
{
    struct cp_superblock now;
    bool valid[2];
    if (cp_pager__look_superblock(backup->from, &now, valid) != 0)
        return false;
    const bool same = now.generation == backup->generation;
    backup->generation = now.generation;
    return same;
}

/*
 * A page that is not whole is either being written, and soon done, or it stays as it is. It stays
 * when nobody had the lock before it was read again, and nobody has begun to write since. Only
 * where somebody writes is there anything to wait for. *verified: 0 once it is whole.
 */
static int reread_page(struct backup *backup, unsigned char *data, uint64_t page, int *verified)
{
    const uint32_t page_size = backup->format.page_size;
    bool waited = false;
    for (unsigned attempt = 0; *verified != 0 && attempt < REREAD_ATTEMPTS; attempt++) {
        const struct timespec pause = {.tv_nsec = REREAD_PAUSE_NS};
        const bool written = being_written(backup);
        if (written)
            nanosleep(&pause, NULL);
        waited |= written;
        int code = cp_io_read(backup->from, data, page_size, page * page_size);
        if (code == -ENODATA) { /* cut off meanwhile: it is free */
            memset(data, 0, page_size);
            return 0;
        }
        if (code != 0)
            return code;
        *verified = cp_pager__page_verify(&backup->format, data, page);
        if (*verified != 0 && !written && same_generation(backup))
            break;
    }
    return waited ? tell_progress(backup) : 0; /* many of them take long: who called may stop it */
}

/* A page as it was read: have it whole, or count it as bad. */
static int settle_page(struct backup *backup, unsigned char *data, uint64_t page)
{
    const uint32_t page_size = backup->format.page_size;
    int verified = cp_pager__page_verify(&backup->format, data, page);
    const bool reread = verified != 0;
    backup->stats.pages++;
    if (reread && !cp_is_zero(data, page_size)) {
        int code = reread_page(backup, data, page, &verified);
        if (code != 0)
            return code;
    }
    if (verified != 0 && cp_is_zero(data, page_size))
        return 0;
    if (verified != 0) {
        if (backup->bad_count < TORN_PAGES)
            backup->bad[backup->bad_count++] = page;
        if (backup->stats.unverified_pages++ == 0)
            backup->stats.first_unverified = page;
        return 0;
    }
    backup->stats.reread_pages += reread;
    struct cp_page_trailer trailer;
    memcpy(&trailer, data + page_size - sizeof trailer, sizeof trailer);
    backup->page_lsn = cp_max_u64(backup->page_lsn, trailer.lsn);
    return 0;
}

/*
 * Read up to size_bytes at offset. A file that is being cut ends earlier: *out_bytes says where,
 * and is 0 behind its end.
 */
static int read_chunk(struct backup *backup, uint64_t offset, uint64_t size_bytes,
                      uint64_t *out_bytes)
{
    const uint32_t page_size = backup->format.page_size;
    int code = cp_io_read(backup->from, backup->chunk, size_bytes, offset);
    *out_bytes = size_bytes;
    while (code == -ENODATA) { /* ends: the size falls each time, or the read succeeds */
        uint64_t file_bytes;
        code = cp_io_file_size(backup->from, &file_bytes);
        if (code != 0)
            return code;
        file_bytes = cp_align_down(file_bytes, page_size);
        *out_bytes =
            file_bytes <= offset ? 0 : cp_min_u64(file_bytes - offset, *out_bytes - page_size);
        if (*out_bytes == 0)
            return 0;
        code = cp_io_read(backup->from, backup->chunk, *out_bytes, offset);
    }
    return code;
}

/* From offset to end, both multiples of the page size. *out_end: where the file really ended. */
static int copy_range(struct backup *backup, uint64_t offset, uint64_t end, uint64_t *out_end)
{
    const uint32_t page_size = backup->format.page_size;
    int code = 0;
    while (code == 0 && offset < end) {
        uint64_t wanted = cp_min_u64(CHUNK_BYTES, end - offset), got;
        code = read_chunk(backup, offset, wanted, &got);
        for (uint64_t at = 0; code == 0 && at < got; at += page_size)
            code = settle_page(backup, backup->chunk + at, (offset + at) / page_size);
        if (code == 0 && got > 0 && !cp_is_zero(backup->chunk, got))
            code = cp_io_write(backup->to, backup->chunk, got, offset);
        offset += got;
        backup->progress.data_bytes_done = offset;
        if (code == 0)
            code = tell_progress(backup);
        if (got < wanted)
            break;
    }
    *out_end = offset;
    return code;
}

/*
 * The file may grow meanwhile, and a writer may be as fast as we are: after some rounds what is new
 * is left out. It was not there when the backup began, and what commits put there is in the log.
 */
static int copy_data(struct backup *backup)
{
    const uint32_t page_size = backup->format.page_size;
    const uint64_t claimed = backup->superblock.page_count * page_size;
    uint64_t done = CP_FORMAT_HEADER_BYTES, size_bytes;
    int code = 0;
    for (unsigned round = 0; code == 0 && round < GROWTH_ROUNDS; round++) {
        code = cp_io_file_size(backup->from, &size_bytes);
        if (code != 0)
            return code;
        size_bytes = cp_align_down(size_bytes, page_size);
        if (size_bytes <= done)
            break;
        backup->progress.data_bytes = size_bytes;
        /* Room first: a disk that is too small is noticed at once. */
        code = cp_io_file_allocate(backup->to, 0, cp_max_u64(size_bytes, claimed));
        if (code == 0)
            code = copy_range(backup, done, size_bytes, &done);
    }
    if (code != 0)
        return code;
    backup->stats.data_bytes = cp_max_u64(done, claimed);
    return cp_io_file_resize(backup->to, backup->stats.data_bytes);
}

static int open_files(struct backup *backup)
{
    const struct cp_io_file_options from = {
        .read_only = true, .regular = true, .block_bytes = CP_FORMAT_BLOCK_BYTES};
    const struct cp_io_file_options to = {
        .create = true, .exclusive = true, .mode = 0600, .block_bytes = CP_FORMAT_BLOCK_BYTES};
    int code = cp_io_file_open(backup->io, backup->source_data, &from, &backup->from);
    return code != 0 ? code : cp_io_file_open(backup->io, backup->data, &to, &backup->to);
}

/* ---- log and superblock -----------------------------------------------------------------------
 */

/* The log has the whole page, or that it is all zeros: recovery does not read it. */
static void drop_mended(struct backup *backup, uint64_t page)
{
    uint32_t low = 0, high = backup->bad_count;
    while (low < high) { /* ends: the interval shrinks */
        const uint32_t middle = low + (high - low) / 2;
        if (backup->bad[middle] < page)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == backup->bad_count || backup->bad[low] != page)
        return;
    backup->bad_count--;
    backup->stats.unverified_pages--;
    memmove(&backup->bad[low], &backup->bad[low + 1],
            (backup->bad_count - low) * sizeof backup->bad[0]);
}

static int visit_group(void *ctx, const struct cp_wal_group *group)
{
    struct backup *backup = ctx;
    for (uint32_t i = 0; i < group->record_count; i++) {
        if (cp_pager__is_base(group->records[i].type))
            drop_mended(backup, group->records[i].page);
    }
    uint64_t done = group->end - backup->superblock.checkpoint_lsn;
    if (done - backup->progress.log_bytes_done < CHUNK_BYTES)
        return 0;
    backup->progress.log_bytes_done = done;
    return tell_progress(backup);
}

static int copy_log(struct backup *backup)
{
    struct cp_wal *wal;
    const cp_lsn redo = backup->superblock.checkpoint_lsn;
    cp_lsn end;
    if (backup->stats.unverified_pages > TORN_PAGES)
        backup->bad_count = 0;
    int code = cp_pager__log_scan(backup->source, backup->io, backup->superblock.store_id, redo,
                                  visit_group, backup, &end, &wal);
    if (code != 0)
        return cp_pager__bad_checkpoint(backup->source, code, redo);
    if (end < backup->page_lsn)
        code = cp_error_set(CP_EDAMAGED, backup->source, CP_NO_PAGE, end,
                            "part of the log is lost; restore from an earlier backup",
                            "the log ends before what a page contains (LSN %llu)",
                            (unsigned long long)backup->page_lsn);
    else
        code = cp_wal_copy(wal, redo, end, backup->wal, &backup->stats.log_bytes);
    struct cp_error saved = *cp_error_info();
    cp_wal_close(wal);
    cp_error_restore(&saved);
    backup->stats.end_lsn = end;
    if (backup->bad_count > 0)
        backup->stats.first_unverified = backup->bad[0];
    else if (backup->stats.unverified_pages == 0)
        backup->stats.first_unverified = CP_NO_PAGE;
    return code;
}

/* Both slots, with the store's present generation and the next. */
static int write_superblocks(struct backup *backup)
{
    struct cp_superblock now;
    bool valid[2];
    int code = cp_pager__look_superblock(backup->from, &now, valid);
    if (code != 0)
        return code;
    struct cp_superblock *block = (struct cp_superblock *)(void *)backup->chunk;
    *block = backup->superblock;
    backup->stats.exact = now.generation == backup->superblock.generation &&
                          (now.flags & CP_FORMAT_FLAG_UNCLEAN) == 0;
    if (!backup->stats.exact)
        block->flags |= CP_FORMAT_FLAG_UNCLEAN | (now.flags & CP_FORMAT_FLAG_UNBASED);
    /* How sessions that began meanwhile wrote pages is forgotten once they have closed. */
    if (now.epoch != block->epoch)
        block->flags |= CP_FORMAT_FLAG_UNBASED;
    block->version = now.version; /* it says what the last epoch was */
    block->epoch = now.epoch;
    block->generation = now.generation;
    for (unsigned slot = 0; code == 0 && slot < 2; slot++) {
        cp_pager__superblock_seal(block);
        code = cp_io_write(backup->to, block, sizeof *block, cp_format_slot_offset(slot));
        block->generation++;
    }
    return code;
}

/* ---- the whole --------------------------------------------------------------------------------
 */

static int read_store(struct backup *backup)
{
    struct cp_store_info info;
    bool valid[2];
    int code = cp_pager_inspect(backup->source, backup->io, &info);
    if (code != 0)
        return code;
    if (info.cut)
        return cp_error_set(CP_EFORMAT, backup->source_data, CP_NO_PAGE, CP_NO_LSN,
                            "the file was cut: restore from a backup",
                            "the file has %llu bytes, its superblock says more",
                            (unsigned long long)info.data_bytes);
    code = take_lock(backup);
    if (code == 0)
        code = make_directory(backup);
    if (code == 0)
        code = open_files(backup);
    if (code == 0) /* after the lock: its redo point is the one that stays */
        code = cp_pager__look_superblock(backup->from, &backup->superblock, valid);
    if (code != 0)
        return code;
    backup->format = (struct cp_page_format){.page_size = backup->superblock.page_size,
                                             .store_id = backup->superblock.store_id,
                                             .path = backup->source_data};
    backup->generation = backup->superblock.generation;
    backup->stats.checkpoint_lsn = backup->superblock.checkpoint_lsn;
    backup->stats.needed_recovery = info.unclean && info.use != CP_STORE_WRITTEN;
    return 0;
}

static int publish(struct backup *backup)
{
    int code = CP_BREAK_BACKUP_SYNC ? 0 : cp_io_file_sync(backup->to);
    if (code == 0)
        code = cp_io_directory_sync(backup->io, backup->wal);
    if (code == 0)
        code = cp_io_directory_sync(backup->io, backup->temporary);
    if (code == 0)
        code = check_free(backup);
    if (code == 0)
        code = cp_io_rename(backup->io, backup->temporary, backup->destination);
    if (code != 0)
        return code;
    char *name = backup->temporary; /* a name that may not stay is removed like a temporary one */
    backup->temporary = backup->destination;
    backup->destination = name;
    code = cp_io_directory_sync(backup->io, backup->parent);
    if (code == 0) {
        free(backup->temporary);
        backup->temporary = NULL;
    }
    return code;
}

static int run(struct backup *backup)
{
    int code = check_free(backup);
    if (code == 0)
        code = read_store(backup);
    if (code == 0 && CP_BREAK_BACKUP_ORDER)
        code = copy_log(backup);
    if (code == 0)
        code = copy_data(backup);
    if (code == 0 && !CP_BREAK_BACKUP_ORDER)
        code = copy_log(backup);
    if (code == 0)
        code = write_superblocks(backup);
    return code != 0 ? code : publish(backup);
}

static void release(struct backup *backup, struct cp_io *given)
{
    struct cp_error saved = *cp_error_info();
    (void)cp_io_file_close(backup->from);
    (void)cp_io_file_close(backup->to); /* synced, or of no use */
    if (backup->temporary != NULL)
        cp_pager__store_remove(backup->io, backup->temporary);
    cp_pager__lock_release(&backup->held);
    cp_pager__return_io(given, backup->io);
    free(backup->destination);
    free(backup->parent);
    free(backup->temporary);
    free(backup->source_data);
    free(backup->data);
    free(backup->wal);
    free(backup->lock);
    free(backup->chunk);
    free(backup->bad);
    cp_error_restore(&saved);
}

int cp_backup(const char *directory, const char *destination,
              const struct cp_backup_options *options, struct cp_backup_stats *out_stats)
{
    static const struct cp_backup_options defaults;
    if (directory == NULL || directory[0] == '\0' || destination == NULL || destination[0] == '\0')
        return cp_error_set(-EINVAL, directory, CP_NO_PAGE, CP_NO_LSN, "name two directories",
                            "copy a store");
    struct backup backup = {.source = directory,
                            .options = options != NULL ? options : &defaults,
                            .held.fd = -1,
                            .stats.first_unverified = CP_NO_PAGE};
    int code = cp_pager__borrow_io(backup.options->io, &backup.io);
    if (code != 0)
        return code;
    size_t length = strlen(destination);
    while (length > 1 && destination[length - 1] == '/')
        length--;
    backup.destination = strndup(destination, length);
    backup.source_data = cp_pager__path(directory, "data");
    backup.chunk = aligned_alloc(CP_FORMAT_BLOCK_BYTES, CHUNK_BYTES);
    backup.bad = malloc(TORN_PAGES * sizeof backup.bad[0]);
    if (backup.destination == NULL || backup.source_data == NULL || backup.chunk == NULL ||
        backup.bad == NULL)
        code = cp_error_set(-ENOMEM, directory, CP_NO_PAGE, CP_NO_LSN, NULL, "copy a store");
    else
        code = run(&backup);
    release(&backup, backup.options->io);
    if (code == 0 && out_stats != NULL)
        *out_stats = backup.stats;
    return code;
}
