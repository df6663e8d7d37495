/* SPDX-License-Identifier: MIT */
/*
 * The store's files: creation, opening, superblocks.
 *
 * Creation is all or nothing. A new directory is built under a temporary name beside its final one
 * and renamed; in an existing empty directory the data file is built under a temporary name and
 * renamed last. `data` present means that the store exists; everything in it was synced before it
 * got that name. The name itself is synced by the first session that writes, too.
 *
 * Superblocks are written alternately, so that the one that is valid now is never the one that is
 * being overwritten. The one found at opening counts only once it is known to be on the device:
 * before the first write to the other slot it is written again, the same bytes, and synced.
 */
#include "inspect.h"
#include "internal.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TEMPORARY_ATTEMPTS 16 /* random names; each is taken with a chance of one in 2^64 */
#define DATA_TEMPORARY     "data.tmp-"

/* ---- paths ------------------------------------------------------------------------------------
 */

static int random_u64(uint64_t *out_value)
{
    uint64_t value = 0;
    do {
        ssize_t got = getrandom(&value, sizeof value, 0);
        if (got < 0 && errno != EINTR)
            return cp_error_set(-errno, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "getrandom");
    } while (value == 0); /* ends: nearly always at once */
    *out_value = value;
    return 0;
}

int cp_pager__temporary_beside(const char *directory, char **out_temporary, char **out_parent)
{
    uint64_t number = 0; /* for gcc, which at -O3 does not see that failure returns */
    int code = random_u64(&number);
    if (code != 0)
        return code;
    const char *slash = strrchr(directory, '/');
    const char *name = slash != NULL ? slash + 1 : directory;
    char *parent = slash == NULL        ? strdup(".")
                   : slash == directory ? strdup("/")
                                        : strndup(directory, (size_t)(slash - directory));
    char *temporary = NULL;
    if (parent == NULL ||
        asprintf(&temporary, "%s/.%s.tmp-%016llx", parent, name, (unsigned long long)number) < 0) {
        free(parent);
        return cp_error_set(-ENOMEM, directory, CP_NO_PAGE, CP_NO_LSN, NULL, "name the store");
    }
    *out_temporary = temporary;
    *out_parent = parent;
    return 0;
}

int cp_pager__explain_parent(const char *parent, int code)
{
    if (code != -ENOENT || access(parent, F_OK) == 0)
        return code;
    return cp_error_set(code, parent, CP_NO_PAGE, CP_NO_LSN,
                        "make this directory first, or check the path",
                        "the directory in which to make another does not exist");
}

/* ---- superblocks ------------------------------------------------------------------------------
 */

int cp_pager__file_sync(struct cp_pager *pager)
{
    int code = cp_io_file_sync(pager->file);
    if (code == 0)
        return 0;
    /* The kernel may have dropped what it could not write and call it clean: trust nothing. */
    atomic_store_explicit(&pager->failed, true, memory_order_relaxed);
    return cp_error_set(code, pager->data_path, CP_NO_PAGE, CP_NO_LSN,
                        "changes since the last sync may be lost: close the store, check the "
                        "device, open it again",
                        "sync the data file");
}

/*
 * The superblock that was read may be in the kernel's cache only: its sync never came, the process
 * having ended before, or it failed, which the kernel tells once and then calls the page clean, so
 * that another sync does not write it. That it says closed proves nothing: the closing's sync is
 * the one that may have failed. pager->block still has its bytes; reading them again might give the
 * device's. After a crash in the middle of this each sector has the bytes that it had before, or is
 * older, and then the other slot is good. With O_DIRECT what was read has at least left the kernel.
 */
static int make_slot_durable(struct cp_pager *pager)
{
    int code = 0;
    if (!pager->direct)
        code = cp_io_write(pager->file, pager->block, sizeof pager->superblock,
                           cp_format_slot_offset(pager->slot));
    if (code == 0)
        code = cp_pager__file_sync(pager);
    pager->slot_durable = code == 0;
    return code;
}

/*
 * The names of the data file and of the store: who created it may have ended between giving them
 * and syncing them. A parent that may not be opened, or that cannot be synced, keeps nobody from
 * writing: the store may have been given to somebody else, or be mounted there.
 */
static int make_names_durable(const struct cp_pager *pager)
{
    int code = cp_io_directory_sync(pager->io, pager->directory);
    if (code != 0)
        return code;
    char *parent = realpath(pager->directory, NULL);
    if (parent == NULL)
        return cp_error_set(-errno, pager->directory, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "find the directory that holds the store");
    char *slash = strrchr(parent, '/');
    slash[slash == parent ? 1 : 0] = '\0';
    code = cp_io_directory_sync(pager->io, parent);
    free(parent);
    return code == -EACCES || code == -EINVAL ? 0 : code;
}

/* Give a superblock its generation, write it into the other slot, and sync. */
static int write_next(struct cp_pager *pager, struct cp_superblock *next)
{
    const unsigned slot = 1 - pager->slot;
    int code = pager->slot_durable ? 0 : make_slot_durable(pager);
    if (code != 0)
        return code;
    if ((next->flags & CP_FORMAT_FLAG_UNCLEAN) != 0 && pager->untorn_writes)
        next->flags |= CP_FORMAT_FLAG_UNBASED;
    next->version = CP_FORMAT_VERSION;
    next->generation++;
    cp_pager__superblock_seal(next);
    memcpy(pager->block, next, sizeof *next);
    code = cp_io_write(pager->file, pager->block, sizeof *next, cp_format_slot_offset(slot));
    if (code == 0)
        code = cp_pager__file_sync(pager);
    if (code != 0)
        return code;
    pager->superblock = *next;
    pager->slot = slot;
    return 0;
}

int cp_pager__superblock_write(struct cp_pager *pager, uint32_t flags, uint64_t page_count,
                               cp_lsn checkpoint_lsn)
{
    struct cp_superblock next = pager->superblock;
    next.flags = flags;
    next.page_count = page_count;
    next.checkpoint_lsn = checkpoint_lsn;
    return write_next(pager, &next);
}

int cp_pager__superblock_begin(struct cp_pager *pager)
{
    struct cp_superblock next = pager->superblock;
    int code =
        cp_pager__next_epoch(&pager->superblock, pager->was_unclean, pager->data_path, &next.epoch);
    if (code == 0 && pager->superblock.epoch == 0) /* no session has written yet */
        code = make_names_durable(pager);
    /* How pages were written since the redo point holds until there is another. */
    next.flags |= CP_FORMAT_FLAG_UNCLEAN;
    return code != 0 ? code : write_next(pager, &next);
}

/* ---- creation ---------------------------------------------------------------------------------
 */

/* What a new store is made of. */
struct new_store {
    struct cp_io *io;
    uint64_t store_id;
    uint32_t page_size;
    uint32_t log_segment_bytes;
    enum cp_io_caching caching;
    cp_lsn first_lsn; /* where its log begins; known once that is made */
};

static void fill_new_superblock(struct cp_superblock *block, const struct new_store *store)
{
    const uint64_t store_id = store->store_id;
    const uint32_t page_size = store->page_size;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    memset(block, 0, sizeof *block);
    block->magic = CP_FORMAT_MAGIC;
    block->version = CP_FORMAT_VERSION;
    block->page_size = page_size;
    block->header_bytes = CP_FORMAT_HEADER_BYTES;
    block->store_id = store_id;
    block->page_count = cp_format_first_map_page(page_size) + 1;
    block->checkpoint_lsn = store->first_lsn;
    block->created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Both slots and the first page of the space map, in which only its own bit is set. */
static int write_new_data(struct cp_io_file *file, const char *path, const struct new_store *store)
{
    const uint32_t page_size = store->page_size;
    const uint64_t first = cp_format_first_map_page(page_size);
    unsigned char *page = aligned_alloc(CP_PAGE_SIZE_MAX, CP_PAGE_SIZE_MAX);
    if (page == NULL)
        return cp_error_set(-ENOMEM, path, CP_NO_PAGE, CP_NO_LSN, NULL, "create the data file");
    int code = cp_io_file_allocate(file, 0, (first + 1) * page_size);
    for (unsigned slot = 0; code == 0 && slot < 2; slot++) {
        struct cp_superblock *block = (struct cp_superblock *)(void *)page;
        if (slot == 0)
            fill_new_superblock(block, store);
        block->generation = slot + 1;
        cp_pager__superblock_seal(block);
        code = cp_io_write(file, block, sizeof *block, cp_format_slot_offset(slot));
    }
    if (code == 0) {
        struct cp_page_format format = {page_size, store->store_id, path, NULL};
        memset(page, 0, page_size);
        page[0] = 1;
        cp_pager__page_seal(&format, page, first, 0);
        code = cp_io_write(file, page, page_size, first * page_size);
    }
    if (code == 0)
        code = cp_io_file_sync(file);
    free(page);
    return code;
}

static int create_data(const char *path, const struct new_store *store)
{
    const struct cp_io_file_options options = {.create = true,
                                               .exclusive = true,
                                               .mode = 0600,
                                               .caching = CP_IO_BUFFERED,
                                               .block_bytes = CP_FORMAT_BLOCK_BYTES};
    struct cp_io_file *file;
    int code = cp_io_file_open(store->io, path, &options, &file);
    if (code != 0)
        return code;
    code = write_new_data(file, path, store);
    int closed = cp_io_file_close(file);
    return code != 0 ? code : closed;
}

/* Remove a file by the backend, and by the system should the backend refuse. Nothing to report. */
static void remove_file(struct cp_io *io, const char *path)
{
    if (cp_io_unlink(io, path) != 0)
        (void)unlink(path);
}

static int create_empty_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return cp_error_set(-errno, path, CP_NO_PAGE, CP_NO_LSN, NULL, "create the lock file");
    close(fd);
    return 0;
}

/* Remove the files of a directory and then itself. Nothing to report. */
static void remove_log(struct cp_io *io, const char *wal)
{
    DIR *stream = opendir(wal);
    const struct dirent *entry;
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        char *path = cp_pager__path(wal, entry->d_name);
        if (path != NULL)
            remove_file(io, path);
        free(path);
    }
    if (stream != NULL)
        closedir(stream);
    (void)rmdir(wal);
}

/* The log's directory, afresh, with its first segment. */
static int create_log(const char *wal, struct new_store *store)
{
    int code = cp_io_mkdir(store->io, wal, 0700);
    if (code == -EEXIST) {
        remove_log(store->io, wal); /* of a creation that did not come to its end */
        code = cp_io_mkdir(store->io, wal, 0700);
    }
    if (code == 0)
        code = cp_wal_create(store->io, wal, store->store_id, store->log_segment_bytes,
                             store->caching, &store->first_lsn);
    return code;
}

/* Everything into a new directory named temporary; on an error it is gone again. */
static int build_directory(const char *temporary, struct new_store *store)
{
    struct cp_io *io = store->io;
    char *data = cp_pager__path(temporary, "data"), *wal = cp_pager__path(temporary, "wal");
    char *lock = cp_pager__path(temporary, "lock");
    int code = -ENOMEM;
    if (data == NULL || wal == NULL || lock == NULL) {
        cp_error_set(code, temporary, CP_NO_PAGE, CP_NO_LSN, NULL, "create the store");
        goto out;
    }
    code = cp_io_mkdir(io, temporary, 0700);
    if (code != 0)
        goto out;
    code = create_log(wal, store);
    if (code == 0)
        code = create_empty_file(lock);
    if (code == 0)
        code = create_data(data, store);
    if (code == 0)
        code = cp_io_directory_sync(io, temporary);
    if (code != 0) {
        struct cp_error saved = *cp_error_info();
        remove_file(io, data);
        (void)unlink(lock);
        remove_log(io, wal);
        (void)rmdir(temporary);
        cp_error_restore(&saved);
    }
out:
    free(data);
    free(wal);
    free(lock);
    return code;
}

void cp_pager__store_remove(struct cp_io *io, const char *directory)
{
    char *data = cp_pager__path(directory, "data"), *wal = cp_pager__path(directory, "wal");
    char *lock = cp_pager__path(directory, "lock");
    if (data != NULL)
        remove_file(io, data);
    if (lock != NULL)
        (void)unlink(lock);
    if (wal != NULL)
        remove_log(io, wal);
    (void)rmdir(directory);
    free(data);
    free(wal);
    free(lock);
}

/* The directory does not exist. -EEXIST when another process was faster. */
static int create_beside(const char *directory, struct new_store *store)
{
    struct cp_io *io = store->io;
    char *temporary = NULL, *parent = NULL;
    int code = -EEXIST;
    for (unsigned attempt = 0; code == -EEXIST && attempt < TEMPORARY_ATTEMPTS; attempt++) {
        free(temporary);
        free(parent);
        temporary = parent = NULL;
        code = cp_pager__temporary_beside(directory, &temporary, &parent);
        if (code == 0)
            code = build_directory(temporary, store);
    }
    if (code == 0) {
        code = cp_io_rename(io, temporary, directory);
        if (code != 0) {
            struct cp_error saved = *cp_error_info();
            cp_pager__store_remove(io, temporary);
            cp_error_restore(&saved);
            if (code == -ENOTEMPTY)
                code = -EEXIST;
        } else {
            code = cp_io_directory_sync(io, parent);
        }
    }
    code = cp_pager__explain_parent(parent, code);
    free(temporary);
    free(parent);
    return code;
}

/* The log of a creation that did not come to its end, which may be removed? Any other may be that
 * of a store whose data file was moved away, or not ours at all: -ENOTEMPTY. */
static int check_log(struct cp_io *io, const char *directory)
{
    struct stat status;
    char *wal = cp_pager__path(directory, "wal");
    int code = wal != NULL ? 0 : -ENOMEM;
    if (code == 0 && (lstat(wal, &status) != 0 || !S_ISDIR(status.st_mode)))
        code = cp_error_set(-ENOTEMPTY, wal, CP_NO_PAGE, CP_NO_LSN,
                            "name a new directory, or an empty one",
                            "create a store: something else is in the place of its log");
    if (code == 0)
        code = cp_wal_check_unused(io, wal);
    free(wal);
    return code;
}

/* An existing directory may become a store when it holds nothing but a failed creation's remains.
 * These are removed; the caller holds the lock. */
static int check_empty(struct cp_io *io, const char *directory)
{
    DIR *stream = opendir(directory);
    if (stream == NULL)
        return cp_error_set(-errno, directory, CP_NO_PAGE, CP_NO_LSN, NULL, "read the directory");
    int code = 0;
    const struct dirent *entry;
    while (code == 0 && (entry = readdir(stream)) != NULL) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lock") == 0 ||
            strcmp(name, "lost+found") == 0)
            continue;
        if (strcmp(name, "wal") == 0) {
            code = check_log(io, directory);
        } else if (strncmp(name, DATA_TEMPORARY, strlen(DATA_TEMPORARY)) == 0) {
            char *path = cp_pager__path(directory, name);
            if (path != NULL)
                remove_file(io, path);
            free(path);
        } else {
            code = cp_error_set(-ENOTEMPTY, directory, CP_NO_PAGE, CP_NO_LSN,
                                "name a new directory, or an empty one",
                                "create a store: the directory holds other files (%.64s)", name);
        }
    }
    closedir(stream);
    return code;
}

/* The directory exists, without `data`, and is locked by us. */
static int create_inside(const char *directory, const char *data, struct new_store *store)
{
    struct cp_io *io = store->io;
    uint64_t number = 0;
    char *temporary = NULL, *wal = cp_pager__path(directory, "wal");
    int code = check_empty(io, directory);
    if (code == 0)
        code = random_u64(&number);
    if (code == 0 && (wal == NULL || asprintf(&temporary, "%s/" DATA_TEMPORARY "%016llx", directory,
                                              (unsigned long long)number) < 0)) {
        temporary = NULL;
        code = cp_error_set(-ENOMEM, directory, CP_NO_PAGE, CP_NO_LSN, NULL, "create the store");
    }
    if (code != 0)
        goto out;
    code = create_log(wal, store);
    if (code == 0)
        code = create_data(temporary, store);
    if (code == 0)
        code = cp_io_directory_sync(io, directory);
    if (code == 0)
        code = cp_io_rename(io, temporary, data);
    if (code != 0) {
        struct cp_error saved = *cp_error_info();
        remove_file(io, temporary);
        remove_log(io, wal);
        cp_error_restore(&saved);
    } else {
        code = cp_io_directory_sync(io, directory);
    }
out:
    free(temporary);
    free(wal);
    return code;
}

/* ---- opening ----------------------------------------------------------------------------------
 */

/* 1 when `data` is there as a regular file, 0 when it is not, or a code. */
static int data_exists(const char *data)
{
    struct stat status;
    if (stat(data, &status) != 0) {
        if (errno == ENOENT)
            return 0;
        return cp_error_set(-errno, data, CP_NO_PAGE, CP_NO_LSN, NULL, "look for the store");
    }
    if (!S_ISREG(status.st_mode))
        return cp_error_set(CP_EFORMAT, data, CP_NO_PAGE, CP_NO_LSN,
                            "check the path: this is not a store",
                            "the data file is not a regular file");
    return 1;
}

/* Lock the store; when it does not exist and should, create it. */
static int create_and_lock(struct cp_pager *pager, const struct cp_pager_options *options,
                           const char *lock_path)
{
    const char *directory = pager->directory;
    struct new_store store = {
        .io = pager->io,
        .page_size = options->page_size != 0 ? options->page_size : CP_PAGER_PAGE_SIZE_DEFAULT,
        .log_segment_bytes = options->log_segment_bytes,
        .caching = options->caching,
    };
    struct stat status;
    int exists = data_exists(pager->data_path);
    if (exists < 0)
        return exists;
    if (exists == 0 && !options->create)
        return cp_error_set(-ENOENT, directory, CP_NO_PAGE, CP_NO_LSN,
                            "check the path, or create the store first", "there is no store");
    if (exists == 0) {
        int code = random_u64(&store.store_id);
        if (code != 0)
            return code;
    }
    if (exists == 0 && stat(directory, &status) != 0 && errno == ENOENT) {
        int code = create_beside(directory, &store);
        if (code == 0)
            return cp_pager__lock_acquire(lock_path, options->read_only, &pager->lock);
        if (code != -EEXIST)
            return code;
        exists = data_exists(pager->data_path);
        if (exists < 0)
            return exists;
    }
    int code = 0;
    if (exists == 0) {
        bool had_lock = access(lock_path, F_OK) == 0;
        code = cp_pager__lock_acquire(lock_path, false, &pager->lock);
        if (code != 0)
            return code;
        exists = data_exists(pager->data_path); /* another process may have been faster */
        if (exists == 0) {
            code = create_inside(directory, pager->data_path, &store);
            if (code != 0 && !had_lock)
                (void)unlink(lock_path);
            return code;
        }
        cp_pager__lock_release(&pager->lock);
        if (exists < 0)
            return exists;
    }
    if (options->create && options->exclusive)
        return cp_error_set(-EEXIST, directory, CP_NO_PAGE, CP_NO_LSN,
                            "use the store that is there, or name another directory",
                            "the store exists already");
    return cp_pager__lock_acquire(lock_path, options->read_only, &pager->lock);
}

void cp_pager__superblocks_read(struct cp_io_file *file, struct cp_superblock slots[2])
{
    for (unsigned slot = 0; slot < 2; slot++) {
        /* A slot that cannot be read is a damaged one; the other may do. */
        if (cp_io_read(file, &slots[slot], sizeof *slots, cp_format_slot_offset(slot)) != 0)
            memset(&slots[slot], 0, sizeof *slots);
    }
}

int cp_pager__blame_slot(const struct cp_pager *pager, int code)
{
    const struct cp_error found = *cp_error_info();
    const char good = pager->slot == 0 ? 'A' : 'B', bad = pager->slot == 0 ? 'B' : 'A';
    if (!pager->slot_lost || (code != CP_ELOG && code != CP_EDAMAGED && code != CP_EFORMAT))
        return code;
    return cp_error_set(code, pager->data_path, CP_NO_PAGE, found.lsn,
                        "if the damaged one was the newer, what the other needs is gone: restore "
                        "from a backup",
                        "superblock slot %c is damaged, and with slot %c: %s", bad, good,
                        found.what);
}

static int read_superblocks(struct cp_pager *pager)
{
    uint64_t size_bytes;
    int code = cp_io_file_size(pager->file, &size_bytes);
    if (code != 0)
        return code;
    if (size_bytes < CP_FORMAT_HEADER_BYTES)
        return cp_error_set(CP_EFORMAT, pager->data_path, CP_NO_PAGE, CP_NO_LSN,
                            "the file was cut, or is no data file; restore from a backup",
                            "the file has %llu bytes, a data file has at least %u",
                            (unsigned long long)size_bytes, CP_FORMAT_HEADER_BYTES);
    struct cp_superblock *slots = aligned_alloc(CP_FORMAT_BLOCK_BYTES, 2 * sizeof *slots);
    if (slots == NULL)
        return cp_error_set(-ENOMEM, pager->data_path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "read the superblocks");
    cp_pager__superblocks_read(pager->file, slots);
    code = cp_pager__superblock_choose(&slots[0], &slots[1], pager->data_path, &pager->superblock,
                                       &pager->slot);
    if (code == 0) { /* as it was read: see make_slot_durable */
        memcpy(pager->block, &slots[pager->slot], sizeof *slots);
        pager->slot_lost = pager->superblock.generation != slots[pager->slot].generation;
    }
    free(slots);
    if (code != 0)
        return code;
    const struct cp_superblock *block = &pager->superblock;
    uint64_t needed = block->page_count * block->page_size; /* both in range: no overflow */
    if (size_bytes < needed) {
        code = cp_error_set(CP_EFORMAT, pager->data_path, CP_NO_PAGE, CP_NO_LSN,
                            "the file was cut: restore from a backup",
                            "the file has %llu bytes, its superblock says %llu",
                            (unsigned long long)size_bytes, (unsigned long long)needed);
        return cp_pager__blame_slot(pager, code);
    }
    pager->file_bytes = cp_align_down(size_bytes, block->page_size);
    return 0;
}

/* What follows from the page size; constant while the store is open. */
static void derive_constants(struct cp_pager *pager)
{
    const uint32_t page_size = pager->superblock.page_size;
    pager->page_size = page_size;
    pager->payload_size = page_size - CP_PAGER_TRAILER_BYTES;
    pager->first_map_page = cp_format_first_map_page(page_size);
    pager->span = cp_format_span(page_size);
    pager->span_shift = (uint32_t)__builtin_ctzll(pager->span);
    uint64_t odd = pager->span >> pager->span_shift;
    uint64_t inverse = odd; /* Newton: each step doubles the number of right bits, from 3 */
    for (unsigned step = 0; step < 5; step++)
        inverse *= 2 - odd * inverse;
    pager->span_inverse = inverse;
    pager->span_limit = UINT64_MAX / pager->span;
    pager->was_unclean = (pager->superblock.flags & CP_FORMAT_FLAG_UNCLEAN) != 0;
    pager->format.page_size = page_size;
    pager->format.store_id = pager->superblock.store_id;
    pager->format.path = pager->data_path;
}

int cp_pager__store_open(struct cp_pager *pager, const struct cp_pager_options *options)
{
    const struct cp_io_file_options file_options = {
        .read_only = options->read_only,
        .regular = true,
        .caching = options->engine == CP_ENGINE_MMAP ? CP_IO_BUFFERED : options->caching,
        .block_bytes = CP_FORMAT_BLOCK_BYTES,
    };
    char *lock_path = cp_pager__path(pager->directory, "lock");
    pager->data_path = cp_pager__path(pager->directory, "data");
    pager->wal_path = cp_pager__path(pager->directory, "wal");
    pager->block = aligned_alloc(CP_FORMAT_BLOCK_BYTES, CP_FORMAT_BLOCK_BYTES);
    int code = 0;
    if (lock_path == NULL || pager->data_path == NULL || pager->wal_path == NULL ||
        pager->block == NULL)
        code =
            cp_error_set(-ENOMEM, pager->directory, CP_NO_PAGE, CP_NO_LSN, NULL, "open the store");
    if (code == 0)
        code = create_and_lock(pager, options, lock_path);
    if (code == 0)
        code = cp_io_file_open(pager->io, pager->data_path, &file_options, &pager->file);
    if (code == 0)
        code = read_superblocks(pager);
    if (code == 0 && options->page_size != 0 && options->page_size != pager->superblock.page_size)
        code = cp_error_set(-EINVAL, pager->data_path, CP_NO_PAGE, CP_NO_LSN,
                            "open the store with options.page_size 0, which takes what it has",
                            "the store has pages of %u bytes, not %u", pager->superblock.page_size,
                            options->page_size);
    if (code == 0)
        derive_constants(pager);
    else
        cp_pager__store_close(pager);
    free(lock_path);
    return code;
}

void cp_pager__store_close(struct cp_pager *pager)
{
    struct cp_error saved = *cp_error_info();
    (void)cp_io_file_close(pager->file);
    pager->file = NULL;
    cp_pager__lock_release(&pager->lock);
    free(pager->block);
    free(pager->data_path);
    free(pager->wal_path);
    pager->block = NULL;
    pager->data_path = NULL;
    pager->wal_path = NULL;
    cp_error_restore(&saved);
}
