/* SPDX-License-Identifier: MIT */
/*
 * The front end: choice of a backend, counters, and operations on paths.
 *
 * Counters are per thread slot, so counting shares no cache line between threads; cp_io_stats adds
 * them up and may be a few requests behind.
 */
#include "internal.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Set backend, ctx and reason of a new io. */
static int choose_backend(struct cp_io *io, const struct cp_io_options *options)
{
    if (options->backend != NULL) {
        io->backend = options->backend;
        io->ctx = options->backend_ctx;
        io->reason = "given by the caller";
        return 0;
    }
    if (options->kind == CP_IO_SYNC) {
        io->backend = cp_io_backend_sync();
        io->reason = "asked for";
        return 0;
    }
    if (options->kind != CP_IO_AUTO && options->kind != CP_IO_URING)
        return cp_error_set(-EINVAL, NULL, CP_NO_PAGE, CP_NO_LSN, "use one of enum cp_io_kind",
                            "choosing an I/O backend: unknown kind %d", (int)options->kind);
    io->backend = cp_io_backend_uring();
    if (io->backend != NULL) {
        io->reason = options->kind == CP_IO_URING ? "asked for" : cp_io__uring_reason();
        return 0;
    }
    if (options->kind == CP_IO_URING)
        return cp_error_set(-ENOSYS, NULL, CP_NO_PAGE, CP_NO_LSN,
                            "allow io_uring, or choose automatically or synchronous I/O",
                            "choosing the io_uring backend: %s", cp_io__uring_reason());
    io->backend = cp_io_backend_sync();
    io->reason = cp_io__uring_reason();
    return 0;
}

int cp_io_create(const struct cp_io_options *options, struct cp_io **out_io)
{
    static const struct cp_io_options defaults;
    struct cp_io *io = aligned_alloc(alignof(struct cp_io), sizeof *io);
    if (io == NULL)
        return cp_error_set(-ENOMEM, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "creating an I/O context");
    memset(io, 0, sizeof *io);

    int code = choose_backend(io, options != NULL ? options : &defaults);
    if (code != 0)
        goto free_io;
    code = cp_fork_guard_init(&io->guard);
    if (code != 0) {
        cp_error_set(code, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "creating a fork guard");
        goto free_io;
    }
    *out_io = io;
    return 0;

free_io:
    free(io);
    return code;
}

void cp_io_destroy(struct cp_io *io)
{
    if (io == NULL)
        return;
    cp_fork_guard_fini(&io->guard);
    free(io);
}

void cp_io__add(struct cp_io *io, const struct cp_io__tally *tally)
{
    unsigned slot = cp_thread_slot();
    _Atomic uint64_t *count = io->slots[slot].count;

    for (unsigned i = 0; i < CP_IO__COUNTERS; i++) {
        uint64_t more = tally->count[i];
        if (more == 0)
            continue;
        /* relaxed: read by statistics only */
        if (slot == CP_THREAD_SLOT_SHARED)
            atomic_fetch_add_explicit(&count[i], more, memory_order_relaxed);
        else
            atomic_store_explicit(&count[i],
                                  atomic_load_explicit(&count[i], memory_order_relaxed) + more,
                                  memory_order_relaxed);
    }
}

void cp_io_stats(const struct cp_io *io, struct cp_io_stats *out_stats)
{
    uint64_t sum[CP_IO__COUNTERS] = {0};

    for (unsigned slot = 0; slot <= CP_THREAD_SLOT_SHARED; slot++) {
        for (unsigned i = 0; i < CP_IO__COUNTERS; i++)
            sum[i] += atomic_load_explicit(&io->slots[slot].count[i], memory_order_relaxed);
    }
    *out_stats = (struct cp_io_stats){
        .backend_name = io->backend->name,
        .reason = io->reason,
        .reads = sum[CP_IO__READS],
        .writes = sum[CP_IO__WRITES],
        .syncs = sum[CP_IO__SYNCS],
        .read_bytes = sum[CP_IO__READ_BYTES],
        .written_bytes = sum[CP_IO__WRITTEN_BYTES],
        .submit_calls = sum[CP_IO__SUBMIT_CALLS],
        .submitted = sum[CP_IO__SUBMITTED],
        .short_transfers = sum[CP_IO__SHORT_TRANSFERS],
        .retries = sum[CP_IO__RETRIES],
        .errors = sum[CP_IO__ERRORS],
    };
}

int cp_io_directory_sync(struct cp_io *io, const char *path)
{
    int code = io->backend->directory_sync(io->ctx, path);
    struct cp_io__tally tally = {{[CP_IO__SYNCS] = 1, [CP_IO__ERRORS] = code != 0}};
    cp_io__add(io, &tally);
    if (code != 0)
        return cp_error_set(code, path, CP_NO_PAGE, CP_NO_LSN, NULL, "syncing a directory");
    return 0;
}

int cp_io_rename(struct cp_io *io, const char *from, const char *to)
{
    int code = io->backend->rename(io->ctx, from, to);
    if (code != 0)
        return cp_error_set(code, from, CP_NO_PAGE, CP_NO_LSN, NULL, "renaming to %s", to);
    return 0;
}

int cp_io_unlink(struct cp_io *io, const char *path)
{
    int code = io->backend->unlink(io->ctx, path);
    if (code != 0)
        return cp_error_set(code, path, CP_NO_PAGE, CP_NO_LSN, NULL, "removing a file");
    return 0;
}

int cp_io_list(struct cp_io *io, const char *path, int (*visit)(void *visit_ctx, const char *name),
               void *visit_ctx)
{
    if (io->backend->list == NULL)
        return cp_error_set(-EOPNOTSUPP, path, CP_NO_PAGE, CP_NO_LSN,
                            "give the backend a list function", "listing a directory");
    int code = io->backend->list(io->ctx, path, visit, visit_ctx);
    if (code != 0)
        return cp_error_set(code, path, CP_NO_PAGE, CP_NO_LSN, NULL, "listing a directory");
    return 0;
}

int cp_io_mkdir(struct cp_io *io, const char *path, uint32_t mode)
{
    int code = io->backend->mkdir(io->ctx, path, mode);
    if (code != 0)
        return cp_error_set(code, path, CP_NO_PAGE, CP_NO_LSN, NULL, "making a directory");
    return 0;
}
