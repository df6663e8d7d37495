/* SPDX-License-Identifier: MIT */
/*
 * The life of a log: create, open, start, close; what it says of itself; trimming and preparing.
 *
 * Lock order: make_lock, segments_lock; flush_lock, segments_lock. flush_lock and make_lock are
 * never held together.
 */
#include "internal.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RIDERS_PER_CPU                                                                             \
    4u                  /* of 2, 8 threads gain from flights beside each other, 32 do not: ADR 11 */
#define PROBE_ROUNDS 5u /* of each method; their median decides */

int cp_wal_create(struct cp_io *io, const char *directory, uint64_t store_id,
                  uint32_t segment_bytes, enum cp_io_caching caching, cp_lsn *out_first)
{
    if (segment_bytes == 0)
        segment_bytes = CP_WAL_SEGMENT_BYTES_DEFAULT;
    if (!cp_wal__segment_bytes_valid(segment_bytes))
        return cp_error_set(-EINVAL, directory, CP_NO_PAGE, CP_NO_LSN,
                            "choose a power of two from 16 KiB to 1 GiB",
                            "creating a log with segments of %u bytes", (unsigned)segment_bytes);
    char *path = cp_wal__path(directory, 1);
    if (path == NULL)
        return -ENOMEM;
    int code = cp_wal__fill(io, path, caching, segment_bytes, store_id, 0);
    free(path);
    if (code == 0)
        code = cp_io_directory_sync(io, directory);
    if (code != 0)
        return code;
    *out_first = cp_wal__block_start(CP_WAL__FIRST_BLOCK);
    return 0;
}

/* The header of a new log, or zeros in its place, and zeros: size_bytes from offset on. */
static bool part_is_unused(const uint8_t *data, uint64_t offset, uint64_t size_bytes)
{
    struct cp_wal__segment_header header = {.magic = 0};
    if (offset == 0) {
        const uint64_t head_bytes = cp_min_u64(size_bytes, sizeof header);
        memcpy(&header, data, head_bytes);
        data += head_bytes;
        size_bytes -= head_bytes;
    }
    return (cp_is_zero(&header, sizeof header) ||
            (cp_wal__check_segment(&header, header.store_id) == 0 && header.number == 0)) &&
           (size_bytes == 0 || cp_is_zero(data, size_bytes));
}

static int check_segment_unused(struct cp_io *io, const char *path, bool *out_unused)
{
    const struct cp_io_file_options options = {
        .read_only = true, .regular = true, .caching = CP_IO_BUFFERED};
    struct cp_io_file *file;
    uint64_t size_bytes = 0;
    uint8_t *data = malloc(CP_WAL__STAGE_BYTES);
    if (data == NULL)
        return cp_error_set(-ENOMEM, path, CP_NO_PAGE, CP_NO_LSN, NULL, "looking into a log");
    int code = cp_io_file_open(io, path, &options, &file);
    if (code == 0) {
        bool unused = true;
        code = cp_io_file_size(file, &size_bytes);
        for (uint64_t at = 0; code == 0 && unused && at < size_bytes; at += CP_WAL__STAGE_BYTES) {
            const uint64_t part = cp_min_u64(size_bytes - at, CP_WAL__STAGE_BYTES);
            code = cp_io_read(file, data, part, at);
            unused = code == 0 && part_is_unused(data, at, part);
        }
        (void)!cp_io_file_close(file);
        *out_unused = unused;
    }
    free(data);
    return code;
}

struct entries {
    const char *first; /* the name of the first segment */
    bool has_first, has_others;
};

static int note_entry(void *ctx, const char *name)
{
    struct entries *entries = ctx;
    if (strcmp(name, entries->first) == 0)
        entries->has_first = true;
    else
        entries->has_others = true;
    return 0;
}

int cp_wal_check_unused(struct cp_io *io, const char *directory)
{
    char *path = cp_wal__path(directory, 1);
    if (path == NULL)
        return -ENOMEM;
    struct entries entries = {.first = strrchr(path, '/') + 1};
    bool unused = true;
    int code = cp_io_list(io, directory, note_entry, &entries);
    if (code == 0 && entries.has_first && !entries.has_others)
        code = check_segment_unused(io, path, &unused);
    free(path);
    if (code != 0 || (unused && !entries.has_others))
        return code;
    return cp_error_set(-ENOTEMPTY, directory, CP_NO_PAGE, CP_NO_LSN,
                        "a log without its data file: put the data file back, or remove this "
                        "directory",
                        "this is not the directory of a new log");
}

static int check_options(const char *directory, const struct cp_wal_options *options)
{
    uint32_t buffer_bytes = options->buffer_bytes;
    if (options->store_id != 0 && (buffer_bytes == 0 || (cp_is_power_of_two(buffer_bytes) &&
                                                         buffer_bytes >= CP_WAL_BUFFER_BYTES_MIN)))
        return 0;
    return cp_error_set(-EINVAL, directory, CP_NO_PAGE, CP_NO_LSN,
                        "the buffer is a power of two from 256 KiB; the store has an id",
                        "opening a log");
}

int cp_wal_open(struct cp_io *io, const char *directory, const struct cp_wal_options *options,
                struct cp_wal **out_wal)
{
    int code = check_options(directory, options);
    if (code != 0)
        return code;
    struct cp_wal *wal = aligned_alloc(alignof(struct cp_wal), sizeof *wal);
    if (wal == NULL)
        return cp_error_set(-ENOMEM, directory, CP_NO_PAGE, CP_NO_LSN, NULL, "opening a log");
    memset(wal, 0, sizeof *wal);
    wal->io = io;
    wal->options = *options;
    wal->buffer_bytes =
        options->buffer_bytes != 0 ? options->buffer_bytes : CP_WAL_BUFFER_BYTES_DEFAULT;
    wal->next_index = 1;
    pthread_mutex_init(&wal->flush_lock, NULL);
    pthread_mutex_init(&wal->make_lock, NULL);
    pthread_mutex_init(&wal->segments_lock, NULL);
    wal->directory = strdup(directory);
    if (wal->directory == NULL) {
        code = cp_error_set(-ENOMEM, directory, CP_NO_PAGE, CP_NO_LSN, NULL, "opening a log");
        goto close_wal;
    }
    code = cp_fork_guard_init(&wal->guard);
    if (code != 0) {
        cp_error_set(code, directory, CP_NO_PAGE, CP_NO_LSN, NULL, "creating a fork guard");
        goto close_wal;
    }
    code = cp_wal__find_segments(wal);
    if (code != 0)
        goto close_wal;
    wal->segment_blocks = cp_wal__segment_blocks(wal->segment_bytes);
    *out_wal = wal;
    return 0;

close_wal:
    cp_wal_close(wal);
    return code;
}

void cp_wal_close(struct cp_wal *wal)
{
    if (wal == NULL)
        return;
    cp_wal__forget_segments(wal);
    if (wal->guard.word != NULL)
        cp_fork_guard_fini(&wal->guard);
    pthread_mutex_destroy(&wal->segments_lock);
    pthread_mutex_destroy(&wal->make_lock);
    pthread_mutex_destroy(&wal->flush_lock);
    free(wal->ring);
    for (unsigned i = 0; i < CP_WAL__FLIGHTS_MAX; i++)
        free(wal->flights[i].stage);
    free(wal->directory);
    free(wal);
}

int cp_wal__usable(const struct cp_wal *wal)
{
    if (__builtin_expect(!cp_fork_guard_same(&wal->guard), 0))
        return cp_error_set(CP_EFORKED, wal->directory, CP_NO_PAGE, CP_NO_LSN,
                            "open the store again in the child", "using a log");
    if (__builtin_expect(!wal->started, 0))
        return cp_error_set(wal->options.read_only ? CP_EREADONLY : -EINVAL, wal->directory,
                            CP_NO_PAGE, CP_NO_LSN, NULL, "using a log that has not been started");
    /* acquire: pairs with the release in land */
    int failed = atomic_load_explicit(&wal->failed, memory_order_acquire);
    if (__builtin_expect(failed != 0, 0))
        return cp_error_set(CP_EFAILED, wal->directory, CP_NO_PAGE,
                            atomic_load_explicit(&wal->durable, memory_order_relaxed),
                            "reopen the store: it recovers what was durable",
                            "using a log that failed earlier: %s", wal->failure.what);
    return 0;
}

/* ---- start ------------------------------------------------------------------------------------
 */

/* Write again what lies in [at, end) of a segment's file, and sync it. */
static int rewrite(struct cp_wal *wal, struct cp_io_file *file, uint64_t at, uint64_t end)
{
    int code = 0;
    while (code == 0 && at < end) {
        uint64_t part = cp_min_u64(end - at, CP_WAL__STAGE_BYTES);
        code = cp_io_read(file, wal->stage, part, at);
        if (code == 0)
            code = cp_io_write(file, wal->stage, part, at);
        at += part;
    }
    return code;
}

/*
 * What the scan read need not be durable: a killed process may have left it in a cache. It must be
 * before anything is appended behind it. After a failed sync the kernel's cache may hold what will
 * never be written unless it is changed again; so without O_DIRECT it is, headers included.
 */
static int sync_scanned(struct cp_wal *wal)
{
    uint64_t written = 0;
    int code = 0;
    cp_lsn at = wal->scan_claim;
    while (code == 0 && at < wal->scan_end) {
        uint64_t number = cp_wal__segment_of(wal, at);
        cp_lsn end = cp_min_u64(wal->scan_end, cp_wal__segment_start(wal, number + 1));
        struct cp_wal__segment *segment = cp_wal__segment_find(wal, number);
        struct cp_io_file_info info;
        struct cp_io_file *file;
        if (segment != NULL) {
            code = cp_wal__open_file(wal, segment, false, false, &file);
            if (code != 0)
                return code;
            cp_io_file_info(file, &info);
            uint64_t first = cp_wal__block_offset(cp_wal__block_of(at), wal->segment_blocks);
            uint64_t last = cp_wal__block_offset(cp_wal__block_of(end - 1), wal->segment_blocks);
            segment->file = file;
            if (!info.direct)
                code = cp_wal__write_header(wal, segment, &written);
            segment->file = NULL;
            if (code == 0 && !info.direct)
                code = rewrite(wal, file, first, last + CP_WAL_BLOCK_BYTES);
            if (code == 0)
                code = cp_io_file_sync(file);
            (void)!cp_io_file_close(file);
        }
        at = end;
    }
    return code;
}

static uint32_t median_us(uint64_t *ns)
{
    for (unsigned i = 1; i < PROBE_ROUNDS; i++) {
        for (unsigned k = i; k > 0 && ns[k] < ns[k - 1]; k--) {
            uint64_t swap = ns[k];
            ns[k] = ns[k - 1];
            ns[k - 1] = swap;
        }
    }
    return (uint32_t)(ns[PROBE_ROUNDS / 2] / 1000) + 1; /* 0 means "not probed" */
}

/* One commit's work: write a unit of zeros somewhere in the blocks, and sync unless O_DSYNC does.
 */
static int time_write(struct cp_wal *wal, struct cp_io_file *file, bool sync, unsigned round,
                      uint64_t *out_ns)
{
    uint64_t begin_ns = cp_now_ns();
    int code =
        cp_io_write(file, wal->stage, wal->unit_bytes,
                    CP_WAL__HEADER_BYTES + (uint64_t)round * wal->unit_bytes % CP_WAL__UNIT_MAX);
    if (code == 0 && sync)
        code = cp_io_file_sync(file);
    *out_ns = cp_now_ns() - begin_ns;
    return code;
}

/*
 * Try both methods on a spare, whose blocks nobody needs. Where that is not possible, fdatasync
 * stays: each file system has it.
 */
static void probe_methods(struct cp_wal *wal)
{
    uint64_t dsync_ns[PROBE_ROUNDS], fdatasync_ns[PROBE_ROUNDS];
    struct cp_wal__segment *spare;
    struct cp_io_file *plain, *dsync;

    if (cp_wal__spare(wal, CP_WAL__NO_NUMBER, &spare) != 0)
        return;
    if (cp_wal__open_file(wal, spare, false, false, &plain) != 0)
        return;
    if (cp_wal__open_file(wal, spare, false, true, &dsync) != 0)
        goto close_plain;
    memset(wal->stage, 0, wal->unit_bytes);
    int code = 0;
    for (unsigned i = 0; i < PROBE_ROUNDS && code == 0; i++) {
        code = time_write(wal, plain, true, i, &fdatasync_ns[i]);
        if (code == 0)
            code = time_write(wal, dsync, false, i, &dsync_ns[i]);
    }
    if (code == 0) {
        wal->probe_dsync_us = median_us(dsync_ns);
        wal->probe_fdatasync_us = median_us(fdatasync_ns);
        /* Of direct O_DSYNC writes several may be under way, see flush.c: worth a quarter. */
        uint32_t bonus_us = wal->direct ? wal->probe_fdatasync_us / 4 : 0;
        wal->dsync = wal->probe_dsync_us < wal->probe_fdatasync_us + bonus_us;
    }
    (void)!cp_io_file_close(dsync);
close_plain:
    (void)!cp_io_file_close(plain);
}

/* Ask the log's files for their alignment: any of them, they lie in one directory. */
static int find_unit(struct cp_wal *wal)
{
    struct cp_io_file_info info;
    struct cp_io_file *file;
    int code = cp_wal__open_file(wal, wal->segments, true, false, &file);
    if (code != 0)
        return code;
    cp_io_file_info(file, &info);
    wal->direct = info.direct;
    /* A unit set before is the least: tests ask for the one of disks with larger blocks. */
    wal->unit_bytes = (uint32_t)cp_max_u64(wal->unit_bytes, CP_WAL_BLOCK_BYTES);
    if (info.direct)
        wal->unit_bytes = (uint32_t)cp_max_u64(wal->unit_bytes, info.offset_align_bytes);
    return cp_io_file_close(file);
}

/* The unit that holds the session's first block may hold older blocks before it: keep those. */
static int load_unit(struct cp_wal *wal)
{
    uint64_t block = cp_wal__block_of(wal->session_start) % wal->segment_blocks;
    uint32_t keep = (uint32_t)(block * CP_WAL_BLOCK_BYTES % wal->unit_bytes);
    uint64_t offset = CP_WAL__HEADER_BYTES + block * CP_WAL_BLOCK_BYTES - keep;
    uint64_t number = cp_wal__segment_of(wal, wal->session_start);
    if (keep == 0)
        return 0;
    struct cp_wal__segment *segment = cp_wal__segment_find(wal, number);
    cp_assert(segment != NULL);
    int code = cp_io_read(segment->file, wal->stage, wal->unit_bytes, offset);
    if (code == 0)
        memcpy(wal->unit, wal->stage, keep);
    return code;
}

/* Sort the segments for a session that begins at session_start: before it, behind it, its own. */
static int sort_segments(struct cp_wal *wal)
{
    uint64_t number = cp_wal__segment_of(wal, wal->session_start);
    cp_lsn prepared = cp_wal__segment_start(wal, number);
    int code = 0;
    for (struct cp_wal__segment *s = wal->segments; s != NULL && code == 0; s = s->next) {
        if (s->number == CP_WAL__NO_NUMBER || s->number < number)
            continue;
        if (s->number > number) {
            s->number = CP_WAL__NO_NUMBER; /* its header_number stays, see choose_spare */
            continue;
        }
        code = cp_wal__check_whole(wal, s);
        if (code == 0)
            code = cp_wal__open_file(wal, s, false, wal->dsync, &s->file);
        prepared = cp_wal__segment_start(wal, number + 1);
    }
    atomic_store_explicit(&wal->prepared, prepared, memory_order_relaxed); /* nobody else yet */
    return code;
}

static int allocate_buffers(struct cp_wal *wal)
{
    bool complete = true;
    wal->ring = calloc(1, wal->buffer_bytes);
    for (unsigned i = 0; i < CP_WAL__FLIGHTS_MAX; i++) {
        wal->flights[i].stage = aligned_alloc(CP_WAL__UNIT_MAX, CP_WAL__STAGE_BYTES);
        complete &= wal->flights[i].stage != NULL;
    }
    wal->stage = wal->flights[0].stage;
    if (wal->ring == NULL || !complete)
        return cp_error_set(-ENOMEM, wal->directory, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "starting a log with a buffer of %u bytes",
                            (unsigned)wal->buffer_bytes);
    return 0;
}

int cp_wal_start(struct cp_wal *wal, cp_lsn end, uint32_t epoch)
{
    if (wal->options.read_only)
        return cp_error_set(CP_EREADONLY, wal->directory, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "starting a log");
    if (wal->ring != NULL || epoch <= wal->scan_epoch || epoch == 0 ||
        end >= CP_WAL__POSITION_MAX / 2)
        return cp_error_set(-EINVAL, wal->directory, CP_NO_PAGE, end, NULL,
                            "starting a log: it has been tried before, or end or epoch cannot be");
    int code = allocate_buffers(wal);
    if (code == 0)
        code = find_unit(wal);
    if (code == 0)
        code = sync_scanned(wal);
    if (code != 0)
        return code;
    wal->epoch = epoch;
    wal->session_start =
        cp_max_u64(cp_wal__round_up(end), cp_wal__block_start(CP_WAL__FIRST_BLOCK));
    wal->next_group = wal->session_start;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    wal->riders_max = RIDERS_PER_CPU * (uint32_t)(cpus > 0 ? cpus : 1);
    wal->dsync = wal->options.sync == CP_WAL_SYNC_DSYNC;
    if (wal->options.sync == CP_WAL_SYNC_PROBE)
        probe_methods(wal);

    cp_lsn first_end = wal->session_start + sizeof(struct cp_wal__group_header);
    code = sort_segments(wal);
    if (code == 0)
        code = cp_wal__extend(wal, first_end);
    if (code == 0)
        code = load_unit(wal);
    if (code != 0)
        return code;
    /* relaxed: no other thread may call before start has returned */
    atomic_store_explicit(&wal->reserved, first_end, memory_order_relaxed);
    atomic_store_explicit(&wal->taken, wal->session_start, memory_order_relaxed);
    atomic_store_explicit(&wal->durable, wal->session_start, memory_order_relaxed);
    code = cp_wal__begin_session(wal);
    if (code != 0)
        return code;
    atomic_store_explicit(&wal->durable, first_end, memory_order_relaxed);
    wal->started = true;
    return 0;
}

/* ---- what it says of itself -------------------------------------------------------------------
 */

cp_lsn cp_wal_end(const struct cp_wal *wal)
{
    /* acquire: pairs with the compare-and-swap in reserve */
    return atomic_load_explicit(&wal->reserved, memory_order_acquire);
}

cp_lsn cp_wal_durable(const struct cp_wal *wal)
{
    /* acquire: pairs with the release in land */
    return atomic_load_explicit(&wal->durable, memory_order_acquire);
}

static cp_lsn gate_durable(void *ctx)
{
    return cp_wal_durable(ctx);
}

static int gate_flush(void *ctx, cp_lsn upto)
{
    return cp_wal_flush(ctx, upto);
}

void cp_wal_gate(struct cp_wal *wal, struct cp_lsn_gate *out_gate)
{
    *out_gate = (struct cp_lsn_gate){
        .ctx = wal,
        .durable_lsn = gate_durable,
        .make_durable = gate_flush,
    };
}

void cp_wal_stats(const struct cp_wal *wal, struct cp_wal_stats *out_stats)
{
    struct cp_wal *shared = (struct cp_wal *)(uintptr_t)wal; /* its locks are not const */
    cp_lsn durable = cp_wal_durable(wal); /* before the end, so that it is not beyond it */
    struct cp_wal_stats stats = {
        .durable = durable,
        .end = cp_wal_end(wal),
        .groups = atomic_load_explicit(&wal->groups, memory_order_relaxed),
        .records = atomic_load_explicit(&wal->records, memory_order_relaxed),
        .flushes = atomic_load_explicit(&wal->flushes, memory_order_relaxed),
        .filler_bytes = atomic_load_explicit(&wal->filler_bytes, memory_order_relaxed),
        .flushed_bytes = atomic_load_explicit(&wal->flushed_bytes, memory_order_relaxed),
        .buffer_waits = atomic_load_explicit(&wal->buffer_waits, memory_order_relaxed),
        .segment_bytes = wal->segment_bytes,
        .buffer_bytes = wal->buffer_bytes,
        .epoch = wal->epoch,
        .sync_method = !wal->started ? ""
                       : wal->dsync  ? "O_DSYNC"
                                     : "fdatasync",
        .probe_dsync_us = wal->probe_dsync_us,
        .probe_fdatasync_us = wal->probe_fdatasync_us,
        .direct = wal->direct,
        .failed = atomic_load_explicit(&wal->failed, memory_order_relaxed) != 0,
    };
    stats.appended_bytes = stats.end - wal->session_start;
    if (!cp_fork_guard_same(&wal->guard)) { /* who holds the locks may not be in this process */
        *out_stats = stats;
        return;
    }
    pthread_mutex_lock(&shared->flush_lock);
    stats.flush_waits = wal->flush_waits;
    stats.flights_beside = wal->flights_beside;
    stats.flights_most = wal->flights_most;
    pthread_mutex_unlock(&shared->flush_lock);

    uint64_t lowest = CP_WAL__NO_NUMBER;
    pthread_mutex_lock(&shared->segments_lock);
    for (const struct cp_wal__segment *s = wal->segments; s != NULL; s = s->next)
        lowest = cp_min_u64(lowest, s->number);
    stats.segment_count = wal->segment_count;
    stats.segments_created = wal->segments_created;
    stats.segments_recycled = wal->segments_recycled;
    pthread_mutex_unlock(&shared->segments_lock);
    stats.disk_bytes = stats.segment_count * wal->segment_bytes;
    if (lowest != CP_WAL__NO_NUMBER)
        stats.first = cp_max_u64(cp_wal__segment_start(wal, lowest),
                                 cp_wal__block_start(CP_WAL__FIRST_BLOCK));
    *out_stats = stats;
}

/* ---- trimming and preparing -------------------------------------------------------------------
 */

void cp_wal_trim(struct cp_wal *wal, cp_lsn redo)
{
    redo = cp_min_u64(redo, cp_wal_durable(wal));
    if (!cp_fork_guard_same(&wal->guard) || !wal->started || redo == 0)
        return;
    /* The block before redo stays: a scan from a block's start asks it for the epoch. */
    uint64_t number = cp_wal__segment_of(wal, redo - 1);
    pthread_mutex_lock(&wal->segments_lock);
    for (struct cp_wal__segment *s = wal->segments; s != NULL; s = s->next) {
        if (s->number < number)
            s->number = CP_WAL__NO_NUMBER;
    }
    pthread_mutex_unlock(&wal->segments_lock);
}

/* Take the last spare out of the list while there are more files than keep. */
static struct cp_wal__segment *take_surplus(struct cp_wal *wal, uint64_t keep_bytes)
{
    struct cp_wal__segment **found = NULL;
    struct cp_wal__segment *surplus = NULL;

    pthread_mutex_lock(&wal->segments_lock);
    if ((uint64_t)wal->segment_count * wal->segment_bytes > keep_bytes) {
        for (struct cp_wal__segment **link = &wal->segments; *link != NULL; link = &(*link)->next) {
            if ((*link)->number == CP_WAL__NO_NUMBER)
                found = link;
        }
    }
    if (found != NULL) {
        surplus = *found;
        *found = surplus->next;
        wal->segment_count--;
    }
    pthread_mutex_unlock(&wal->segments_lock);
    return surplus;
}

/* Remove spares beyond keep_bytes. Under make_lock, so that none is assigned meanwhile. */
static int remove_surplus(struct cp_wal *wal, uint64_t keep_bytes)
{
    struct cp_wal__segment *segment;
    bool removed = false;
    int code = 0;

    while (code == 0 && (segment = take_surplus(wal, keep_bytes)) != NULL) {
        char *path = cp_wal__path(wal->directory, segment->index);
        code = path != NULL ? cp_io_unlink(wal->io, path) : -ENOMEM;
        removed = true;
        free(path);
        free(segment);
    }
    /* Before their numbers go to other files: none may come back with a crash. */
    return removed && code == 0 ? cp_io_directory_sync(wal->io, wal->directory) : code;
}

int cp_wal_reserve(struct cp_wal *wal, uint32_t size_bytes)
{
    cp_lsn wanted = cp_wal_end(wal) + size_bytes;
    int code = cp_wal__usable(wal);
    if (code == 0 && size_bytes > wal->buffer_bytes)
        code = cp_error_set(-EINVAL, wal->directory, CP_NO_PAGE, CP_NO_LSN,
                            "reserve no more than the log's buffer holds",
                            "reserving %u bytes of a log with a buffer of %u", (unsigned)size_bytes,
                            (unsigned)wal->buffer_bytes);
    /* acquire: as in append's reserve */
    if (code != 0 || atomic_load_explicit(&wal->prepared, memory_order_acquire) >= wanted)
        return code;
    return cp_wal__extend(wal, wanted);
}

int cp_wal_prepare(struct cp_wal *wal, uint64_t keep_bytes)
{
    int code = cp_wal__usable(wal);
    if (code != 0)
        return code;
    code = cp_wal__extend(wal, cp_wal_end(wal) + cp_wal__segment_start(wal, 1));
    if (code != 0)
        return code;
    pthread_mutex_lock(&wal->make_lock);
    code = remove_surplus(wal, keep_bytes);
    pthread_mutex_unlock(&wal->make_lock);
    return code;
}
