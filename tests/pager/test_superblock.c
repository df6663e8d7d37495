/* SPDX-License-Identifier: MIT */
/* Superblocks of a store that is opened again: what may be written over when, and what then counts.
 */
#include "helpers.h"

#include "internal.h"
#include "support/fault_io.h"

#define EVENTS_MAX 6u

struct event {
    bool sync;
    uint64_t offset_bytes, size_bytes;
    struct cp_superblock block; /* of a write: its first bytes */
};

/* The first writes and syncs of the data file. */
struct trace {
    struct fault_io *faults;
    struct cp_io *io;
    struct stat data;
    unsigned count;
    struct event events[EVENTS_MAX];
};

/* The next event, or NULL when the file is another one, or there are enough. */
static struct event *next_event(struct trace *trace, int fd)
{
    struct stat status;
    assert_int_equal(fstat(fd, &status), 0);
    if (status.st_ino != trace->data.st_ino || status.st_dev != trace->data.st_dev ||
        trace->count == EVENTS_MAX)
        return NULL;
    return &trace->events[trace->count++];
}

static void note_write(void *ctx, int fd, uint64_t offset_bytes, const struct iovec *iov,
                       int iov_count)
{
    struct event *event = next_event(ctx, fd);
    if (event == NULL)
        return;
    *event = (struct event){.offset_bytes = offset_bytes};
    for (int i = 0; i < iov_count; i++)
        event->size_bytes += iov[i].iov_len;
    memcpy(&event->block, iov[0].iov_base,
           iov[0].iov_len < sizeof event->block ? iov[0].iov_len : sizeof event->block);
}

static void note_sync(void *ctx, int fd)
{
    struct event *event = next_event(ctx, fd);
    if (event != NULL)
        *event = (struct event){.sync = true};
}

static void start_trace(struct trace *trace)
{
    memset(trace, 0, sizeof *trace);
    trace->faults = fault_io_create(cp_io_backend_sync(), FAULT_RING_DEFERRED);
    const struct cp_io_options options = {.backend = fault_io_backend(trace->faults),
                                          .backend_ctx = trace->faults};
    assert_ok(cp_io_create(&options, &trace->io));
}

static void begin_tracing(struct trace *trace)
{
    assert_int_equal(stat(data_path(), &trace->data), 0);
    fault_io_on_write(trace->faults, note_write, trace);
    fault_io_on_sync(trace->faults, note_sync, trace);
}

static void stop_trace(struct trace *trace)
{
    cp_io_destroy(trace->io);
    fault_io_destroy(trace->faults);
}

static struct cp_pager *open_buffered(struct cp_io *io, bool create, bool read_only)
{
    struct cp_pager *pager = NULL;
    struct cp_pager_options options = options_of(0, 0);
    options.io = io;
    options.caching = CP_IO_BUFFERED;
    options.background = CP_BACKGROUND_NONE; /* nobody else writes */
    options.create = create;
    options.read_only = read_only;
    assert_ok(cp_pager_open(store_path(), &options, &pager));
    return pager;
}

static void read_slots(struct cp_superblock slots[2])
{
    for (unsigned i = 0; i < 2; i++)
        read_file(data_path(), cp_format_slot_offset(i), &slots[i], sizeof slots[i]);
}

/* The slot that counts: here both are valid. */
static unsigned newest_slot(const struct cp_superblock slots[2])
{
    return slots[1].generation > slots[0].generation ? 1 : 0;
}

enum ending { CLOSED, CRASHED, SYNC_FAILED, ENDINGS };

/* A store whose last superblock may be in the kernel's cache only: of all three, the file's bytes
 * do not tell. */
static void end_session(enum ending ending)
{
    struct trace trace;
    start_trace(&trace);
    new_store();
    struct cp_pager *pager = open_buffered(trace.io, true, false);
    allocate_filled(pager, 1);
    assert_ok(cp_pager_sync(pager));
    if (ending == SYNC_FAILED) {
        struct cp_superblock before[2], after[2];
        read_slots(before);
        fault_io_reset(trace.faults);
        fault_io_rule(trace.faults, &(struct fault_rule){.on = FAULT_SYNC, .nth = 2, .code = -EIO});
        assert_code(cp_pager_sync(pager), -EIO);
        read_slots(after); /* the sync that failed was the superblock's */
        assert_int_equal(after[newest_slot(after)].generation,
                         before[newest_slot(before)].generation + 1);
    }
    if (ending == CLOSED)
        assert_ok(cp_pager_close(pager));
    else
        cp_pager_abandon(pager);
    stop_trace(&trace);
}

/* The superblock that was read is on the device before the other one is written over. */
static void reopened_store_first_makes_its_superblock_durable(void **state)
{
    (void)state;
    for (enum ending ending = CLOSED; ending < ENDINGS; ending++) {
        struct cp_superblock slots[2];
        struct trace trace;
        end_session(ending);
        read_slots(slots);
        const unsigned chosen = newest_slot(slots);
        start_trace(&trace);
        begin_tracing(&trace);
        struct cp_pager *pager = open_buffered(trace.io, false, false);
        if (ending == CLOSED)
            assert_int_equal(trace.count, 0); /* opened and not changed: nothing to protect yet */
        allocate_filled(pager, 2);
        const struct event *events = trace.events;
        assert_false(events[0].sync);
        assert_int_equal(events[0].offset_bytes, cp_format_slot_offset(chosen));
        assert_int_equal(events[0].size_bytes, sizeof slots[chosen]);
        assert_memory_equal(&events[0].block, &slots[chosen], sizeof slots[chosen]);
        assert_true(events[1].sync);
        assert_false(events[2].sync);
        assert_int_equal(events[2].offset_bytes, cp_format_slot_offset(1 - chosen));
        assert_int_equal(events[2].block.generation, slots[chosen].generation + 1);
        assert_true(events[3].sync);
        assert_true(trace.count >= 4);
        assert_ok(cp_pager_close(pager));
        stop_trace(&trace);
    }
}

/* Read past the kernel's cache: it may still be in the device's. */
static void direct_store_first_syncs_its_superblock(void **state)
{
    (void)state;
    struct cp_superblock slots[2];
    struct trace trace;
    struct cp_pager *pager = NULL;
    struct cp_pager_options options = options_of(0, 0);
    end_session(CRASHED);
    read_slots(slots);
    start_trace(&trace);
    begin_tracing(&trace);
    options.io = trace.io;
    options.background = CP_BACKGROUND_NONE;
    assert_ok(cp_pager_open(store_path(), &options, &pager));
    const bool direct = pager->direct;
    if (direct) {
        assert_true(trace.events[0].sync);
        assert_false(trace.events[1].sync);
        assert_int_equal(trace.events[1].offset_bytes,
                         cp_format_slot_offset(1 - newest_slot(slots)));
        assert_true(trace.events[2].sync);
    }
    assert_ok(cp_pager_close(pager));
    stop_trace(&trace);
    if (!direct) {
        print_message("skipped: the data file is read through the kernel's cache here\n");
        skip();
    }
}

static void store_opened_read_only_writes_no_superblock(void **state)
{
    (void)state;
    struct trace trace;
    end_session(CLOSED);
    start_trace(&trace);
    begin_tracing(&trace);
    struct cp_pager *pager = open_buffered(trace.io, false, true);
    assert_true(check_page(pager, cp_pager_first_page(pager), 1));
    assert_ok(cp_pager_close(pager));
    assert_int_equal(trace.count, 0);
    stop_trace(&trace);
}

/* What could not be made durable is tried again, from the bytes that were read. */
static void failed_rewrite_of_the_superblock_is_repeated(void **state)
{
    (void)state;
    struct cp_superblock slots[2];
    struct trace trace;
    struct cp_fix fix;
    end_session(CLOSED);
    read_slots(slots);
    const unsigned chosen = newest_slot(slots);
    start_trace(&trace);
    struct cp_pager *pager = open_buffered(trace.io, false, false);
    fault_io_reset(trace.faults);
    fault_io_rule(trace.faults, &(struct fault_rule){.on = FAULT_WRITE, .nth = 1, .code = -EIO});
    assert_code(cp_pager_allocate(pager, &fix), -EIO);
    begin_tracing(&trace);
    allocate_filled(pager, 2);
    assert_true(trace.count >= 2);
    assert_int_equal(trace.events[0].offset_bytes, cp_format_slot_offset(chosen));
    assert_memory_equal(&trace.events[0].block, &slots[chosen], sizeof slots[chosen]);
    assert_true(trace.events[1].sync);
    assert_ok(cp_pager_close(pager));
    stop_trace(&trace);
}

static void commit_version(struct cp_pager *pager, uint64_t version)
{
    commit_page(pager, cp_pager_first_page(pager), version);
}

/* Enough commits to go through several segments of the log. */
static void fill_log(struct cp_pager *pager)
{
    for (uint64_t version = 0; version < 80; version++)
        commit_version(pager, version);
}

/* The newest superblock is damaged, and the log behind the older one's redo point has been used
 * again. */
static unsigned damage_newest_slot(void)
{
    struct cp_superblock slots[2];
    struct cp_pager *pager = NULL;
    struct cp_pager_options options = options_of(0, 0);
    options.create = true;
    options.background = CP_BACKGROUND_NONE;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    allocate_filled(pager, 1);
    for (unsigned i = 0; i < 3; i++) {
        assert_ok(cp_pager_sync(pager));
        fill_log(pager);
    }
    cp_pager_abandon(pager);
    read_slots(slots);
    const unsigned newest = newest_slot(slots);
    flip_bit(data_path(), cp_format_slot_offset(newest) + 100, 3);
    return newest;
}

static int open_code(void)
{
    struct cp_pager *pager = NULL;
    struct cp_pager_options options = options_of(0, 0);
    int code = cp_pager_open(store_path(), &options, &pager);
    if (code == 0)
        assert_ok(cp_pager_close(pager));
    return code;
}

static void log_that_cannot_be_read_leaves_the_superblocks(void **state)
{
    (void)state;
    struct cp_superblock before[2], after[2];
    (void)damage_newest_slot();
    read_slots(before);
    assert_code(open_code(), CP_ELOG);
    read_slots(after);
    assert_memory_equal(before, after, sizeof before);
}

static void damaged_newest_slot_is_blamed_where_its_log_is_gone(void **state)
{
    (void)state;
    const char *said =
        damage_newest_slot() == 0 ? "superblock slot A is damaged" : "superblock slot B is damaged";
    for (unsigned i = 0; i < 2; i++) { /* a failed attempt leaves the cause as it is */
        assert_code(open_code(), CP_ELOG);
        assert_non_null(strstr(cp_error_info()->what, said));
        assert_non_null(strstr(cp_error_info()->hint, "restore from a backup"));
    }
}

/* ---- names ------------------------------------------------------------------------------------
 */

static struct {
    struct cp_io_backend backend;
    unsigned store, parent; /* syncs of the store's directory, and of the one that has its name */
    int store_code, parent_code;
} names;

static int count_directory_sync(void *ctx, const char *path)
{
    struct stat synced, store, parent;
    struct cp_superblock slots[2];
    (void)ctx;
    assert_int_equal(stat(path, &synced), 0);
    assert_int_equal(stat(store_path(), &store), 0);
    assert_int_equal(stat(in_directory("."), &parent), 0);
    read_slots(slots);
    names.store += synced.st_ino == store.st_ino;
    names.parent += synced.st_ino == parent.st_ino;
    if (synced.st_ino == store.st_ino || synced.st_ino == parent.st_ino)
        assert_int_equal(slots[newest_slot(slots)].epoch, 0); /* before the session writes */
    return synced.st_ino == store.st_ino    ? names.store_code
           : synced.st_ino == parent.st_ino ? names.parent_code
                                            : 0;
}

/* Open a new store, as another process would find it. */
static struct cp_pager *open_with_names(struct cp_io **out_io)
{
    names.backend = *cp_io_backend_sync();
    names.backend.directory_sync = count_directory_sync;
    const struct cp_io_options options = {.backend = &names.backend};
    assert_ok(cp_io_create(&options, out_io));
    names.store = names.parent = 0;
    names.store_code = names.parent_code = 0;
    return open_buffered(*out_io, false, false);
}

/* Who created the store may have been killed before it synced the name. */
static void first_session_makes_the_names_durable(void **state)
{
    (void)state;
    for (int parent_code = -EACCES; parent_code <= 0; parent_code += EACCES) {
        struct cp_io *io;
        assert_ok(cp_pager_close(create_store(new_store(), 0, 0)));
        struct cp_pager *pager = open_with_names(&io);
        assert_int_equal(names.store + names.parent, 0); /* nothing depends on them yet */
        names.parent_code = parent_code;
        const uint64_t page = allocate_filled(pager, 1);
        assert_int_equal(names.store, 1);
        assert_int_equal(names.parent, 1);
        commit_page(pager, page, 2);
        assert_ok(cp_pager_close(pager));
        pager = open_buffered(io, false, false);
        commit_page(pager, page, 3);
        assert_ok(cp_pager_close(pager));
        assert_int_equal(names.store + names.parent, 2); /* once is enough */
        cp_io_destroy(io);
    }
}

static void names_that_cannot_be_made_durable_fail_the_first_change(void **state)
{
    int *const codes[] = {&names.store_code, &names.parent_code};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct cp_io *io;
        struct cp_fix fix;
        assert_ok(cp_pager_close(create_store(new_store(), 0, 0)));
        struct cp_pager *pager = open_with_names(&io);
        *codes[i] = -EIO;
        assert_code(cp_pager_allocate(pager, &fix), -EIO);
        assert_code(cp_pager_allocate(pager, &fix), -EIO);
        assert_int_equal(cp_error_info()->code, -EIO);
        *codes[i] = 0;
        const uint64_t page = allocate_filled(pager, 1); /* nothing was written */
        assert_ok(cp_pager_close(pager));
        pager = open_buffered(io, false, false);
        assert_true(check_page(pager, page, 1));
        assert_ok(cp_pager_close(pager));
        cp_io_destroy(io);
    }
}

/* ---- epochs -----------------------------------------------------------------------------------
 */

/* A store with one page of version 1, closed. */
static void make_closed(void)
{
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    allocate_filled(pager, 1);
    assert_ok(cp_pager_close(pager));
}

static uint32_t epoch_of(struct cp_pager *pager)
{
    struct cp_pager_stats stats;
    cp_pager_stats(pager, &stats);
    return stats.wal.epoch;
}

/* Both slots get other numbers; the newest stays the newest. */
static void patch_slots(uint32_t version, uint64_t generation, uint64_t epoch)
{
    struct cp_superblock slots[2];
    read_slots(slots);
    const unsigned newest = newest_slot(slots);
    for (unsigned i = 0; i < 2; i++) {
        slots[i].version = version;
        slots[i].generation = i == newest ? generation : generation - 1;
        slots[i].epoch = epoch;
        cp_pager__superblock_seal(&slots[i]);
        write_file(data_path(), cp_format_slot_offset(i), &slots[i], sizeof slots[i]);
    }
}

/* Commit, crash, and look; twice, so that the log of a recovered store is read as well. */
static void expect_commits_kept(void)
{
    struct cp_pager *pager = open_store(store_path());
    for (uint64_t version = 2; version < 4; version++) {
        commit_version(pager, version);
        cp_pager_abandon(pager);
        pager = open_store(store_path());
        assert_true(check_page(pager, cp_pager_first_page(pager), version));
    }
    assert_ok(cp_pager_close(pager));
}

/* Their low halves are small again then, below the epochs that the log has. */
static void commits_are_kept_when_generations_pass_32_bits(void **state)
{
    (void)state;
    for (uint64_t low = 0; low < 4; low++) {
        make_closed();
        struct cp_superblock slots[2];
        read_slots(slots);
        patch_slots(CP_FORMAT_VERSION, (UINT64_C(1) << 32) + low, slots[newest_slot(slots)].epoch);
        expect_commits_kept();
    }
}

static void epochs_count_sessions_that_write(void **state)
{
    (void)state;
    make_closed();
    struct cp_pager *pager = open_store(store_path());
    commit_version(pager, 2);
    const uint32_t first = epoch_of(pager);
    for (unsigned i = 0; i < 5; i++) /* superblocks */
        assert_ok(cp_pager_sync(pager));
    assert_ok(cp_pager_close(pager));
    assert_ok(cp_pager_close(open_store(store_path()))); /* writes nothing */
    pager = open_store(store_path());
    commit_version(pager, 3);
    assert_int_equal(epoch_of(pager), first + 1);
    cp_pager_abandon(pager);
    pager = open_store(store_path()); /* recovers */
    assert_int_equal(epoch_of(pager), first + 2);
    assert_ok(cp_pager_close(pager));
}

/* Its epochs were the generations, so they go on above the last one. */
static void store_of_the_old_version_goes_on_above_its_epochs(void **state)
{
    (void)state;
    struct cp_superblock slots[2];
    make_closed();
    patch_slots(CP_FORMAT_VERSION_OLD, 1000, 0);
    struct cp_pager *pager = open_store(store_path());
    commit_version(pager, 2);
    assert_int_equal(epoch_of(pager), 1001);
    cp_pager_abandon(pager);
    read_slots(slots);
    assert_int_equal(slots[newest_slot(slots)].version, CP_FORMAT_VERSION);
    expect_commits_kept();
    patch_slots(CP_FORMAT_VERSION_OLD, UINT64_C(1) << 32, 0);
    pager = open_store(store_path());
    struct cp_fix fix;
    assert_code(cp_pager_allocate(pager, &fix), -EOVERFLOW);
    assert_non_null(strstr(cp_error_info()->what, "generation is 4294967296"));
    assert_ok(cp_pager_close(pager));
}

/* What was lost may have begun a session. */
static void epoch_of_a_damaged_superblock_is_not_used_again(void **state)
{
    (void)state;
    struct cp_superblock slots[2];
    make_closed();
    struct cp_pager *pager = open_store(store_path());
    commit_version(pager, 2);
    const uint32_t lost = epoch_of(pager);
    cp_pager_abandon(pager);
    read_slots(slots);
    flip_bit(data_path(), cp_format_slot_offset(newest_slot(slots)) + 100, 3);
    pager = open_store(store_path());
    assert_true(check_page(pager, cp_pager_first_page(pager), 2));
    assert_int_equal(epoch_of(pager), lost + 1);
    cp_pager_abandon(pager);
    expect_commits_kept();
}

/* No session is left that could write; a recovery is, so that the store can be closed and read. */
static void store_without_epochs_refuses_changes_and_can_be_read(void **state)
{
    (void)state;
    const uint64_t last = CP_FORMAT_MAX_EPOCH - CP_FORMAT_EPOCHS_SPARED;
    struct cp_fix fix;
    make_closed();
    patch_slots(CP_FORMAT_VERSION, 1000, last - 1);
    struct cp_pager *pager = open_store(store_path());
    commit_version(pager, 2);
    assert_int_equal(epoch_of(pager), last);
    cp_pager_abandon(pager);
    pager = open_store(store_path());
    assert_int_equal(epoch_of(pager), last + 1);
    assert_true(check_page(pager, cp_pager_first_page(pager), 2));
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    for (unsigned i = 0; i < 2; i++) {
        assert_code(cp_pager_allocate(pager, &fix), -EOVERFLOW);
        assert_string_equal(cp_error_info()->path, data_path());
        assert_non_null(strstr(cp_error_info()->hint, "into a new store"));
    }
    assert_true(check_page(pager, cp_pager_first_page(pager), 2));
    assert_ok(cp_pager_close(pager));
    struct cp_pager_options options = options_of(0, 0);
    options.read_only = true;
    assert_ok(cp_pager_open(store_path(), &options, &pager));
    assert_true(check_page(pager, cp_pager_first_page(pager), 2));
    assert_ok(cp_pager_close(pager));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reopened_store_first_makes_its_superblock_durable),
        cmocka_unit_test(direct_store_first_syncs_its_superblock),
        cmocka_unit_test(store_opened_read_only_writes_no_superblock),
        cmocka_unit_test(failed_rewrite_of_the_superblock_is_repeated),
        cmocka_unit_test(log_that_cannot_be_read_leaves_the_superblocks),
        cmocka_unit_test(damaged_newest_slot_is_blamed_where_its_log_is_gone),
        cmocka_unit_test(first_session_makes_the_names_durable),
        cmocka_unit_test(names_that_cannot_be_made_durable_fail_the_first_change),
        cmocka_unit_test(commits_are_kept_when_generations_pass_32_bits),
        cmocka_unit_test(epochs_count_sessions_that_write),
        cmocka_unit_test(store_of_the_old_version_goes_on_above_its_epochs),
        cmocka_unit_test(epoch_of_a_damaged_superblock_is_not_used_again),
        cmocka_unit_test(store_without_epochs_refuses_changes_and_can_be_read),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
