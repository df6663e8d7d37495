/* SPDX-License-Identifier: MIT */
/*
 * Any bit of a store flipped, any of its files cut: closed cleanly and after a crash, both engines.
 * Reading gives what was written or a code; after a crash nothing that was acknowledged is missing
 * without a code; and no bytes kill the process. Cases run in a child, so a signal is a result.
 *
 * Besides, what the fuzzers (tests/fuzz) once found, each as a test of its own.
 */
#include "snapshot.h"
#include "workload.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <clockpool/base/poison.h>

enum damage {
    FLIP, /* a bit */
    CUT,  /* the file ends here */
    ZERO, /* a sector of zeros: what a device gives that has lost one */
};

struct damaged {
    enum damage damage;
    const struct snapshot_file *file;
    uint64_t offset;
    unsigned bit;
    bool read_only;
};

/* What the child found out; shared memory. */
struct outcome {
    unsigned done, refused, unreadable, unnoticed;
    unsigned silent;     /* wrong bytes or missing transactions, and no code */
    unsigned excused;    /* silent, and nobody could know */
    struct damaged last; /* under way, or the first silent one */
};

static struct snapshot base;
static struct history history;
static struct outcome *outcome;
static unsigned divisor = 1; /* of the number of cases */

/* ---- the stores ---------------------------------------------------------------------------------
 */

/* A store with history, ended in one way or the other. */
static void make_store(bool crashed)
{
    struct workload work = {.history = &history, .random = 99};
    struct cp_pager_options options = workload_options(NULL);
    new_store();
    workload_create(store_path(), &history);
    assert_ok(cp_pager_open(store_path(), &options, &work.pager));
    workload_first(&work);
    if (crashed) {
        cp_pager_abandon(work.pager);
    } else {
        assert_ok(cp_pager_close(work.pager));
        history.acked = history.count;
    }
    assert_int_equal(work.errors, 0);
    assert_false(work.wrong);
    snapshot_free(&base);
    snapshot_load(&base, store_path());
}

static void apply(const struct damaged *damaged)
{
    static const uint8_t zeros[512];
    char path[900];
    snapshot_restore(&base, store_path());
    snprintf(path, sizeof path, "%s/%s", store_path(), damaged->file->name);
    switch (damaged->damage) {
    case FLIP:
        flip_bit(path, damaged->offset, damaged->bit);
        break;
    case CUT:
        assert_int_equal(truncate(path, (off_t)damaged->offset), 0);
        break;
    case ZERO:
        write_file(path, damaged->offset & ~UINT64_C(511), zeros, sizeof zeros);
        break;
    }
}

/* ---- one case -----------------------------------------------------------------------------------
 */

static void silent(const struct damaged *damaged, const struct seen *seen)
{
    /* An emptied segment looks like one whose making was interrupted, and nothing tells that it was
     * the newest: the one thing that cannot be noticed. */
    if (damaged->damage == CUT && damaged->offset == 0 &&
        strncmp(damaged->file->name, "wal/", 4) == 0) {
        outcome->excused++;
        return;
    }
    if (outcome->silent++ == 0) {
        static const char *const names[] = {"bit flipped in", "cut:", "zeroed sector in"};
        print_error("silent: %s %s at %llu (bit %u)\n", names[damaged->damage], damaged->file->name,
                    (unsigned long long)damaged->offset, damaged->bit);
        history_explain(&history, seen);
    }
}

static void run_case(const struct damaged *damaged)
{
    static struct seen seen;
    struct cp_pager_options options = workload_options(NULL);
    struct cp_pager *pager;

    outcome->last = *damaged;
    options.read_only = damaged->read_only;
    apply(damaged);
    int code = cp_pager_open(store_path(), &options, &pager);
    outcome->refused += code != 0;
    if (code == 0) {
        history_look(&history, pager, &seen);
        outcome->unreadable += seen.errors != 0;
        outcome->unnoticed += seen.errors == 0;
        if (history_match(&history, &seen, true) < 0)
            silent(damaged, &seen);
        history_look(&history, pager, &seen); /* and again: the error must not go away */
        if (history_match(&history, &seen, true) < 0)
            silent(damaged, &seen);
        if (!damaged->read_only && outcome->done % 4 == 0) {
            struct workload work = {
                .history = &history, .pager = pager, .random = 7, .stale_allowed = true};
            const struct history before = history;
            if (workload_settle(&work))
                workload_second(&work); /* it may fail; it may not kill */
            history = before;
        }
        (void)cp_pager_check(pager, NULL, NULL, NULL);
        (void)!cp_pager_close(pager);
    }
    outcome->done++;
}

/* Run cases in children until all are done; a signal is reported with its case. */
static void run_cases(const char *name, const struct damaged *cases, unsigned count)
{
    unsigned signals = 0;
    memset(outcome, 0, sizeof *outcome);
    while (outcome->done < count) {
        fflush(NULL);
        pid_t child = fork();
        int status;
        assert_true(child >= 0);
        if (child == 0) {
            for (unsigned i = outcome->done; i < count; i++)
                run_case(&cases[i]);
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            break;
        const struct damaged *last = &outcome->last;
        print_error("%s: child ended with status 0x%x at %s, offset %llu, damage %d, bit %u\n",
                    name, (unsigned)status, last->file->name, (unsigned long long)last->offset,
                    (int)last->damage, last->bit);
        outcome->done++; /* go on with the next one */
        if (++signals == 5)
            break;
    }
    print_message("%-28s %5u cases: %4u not opened, %4u with unreadable pages, %4u unnoticed "
                  "(unused bytes), %u silent, %u excused, %u signals\n",
                  name, outcome->done, outcome->refused, outcome->unreadable, outcome->unnoticed,
                  outcome->silent, outcome->excused, signals);
    assert_int_equal(signals, 0);
    assert_int_equal(outcome->silent, 0);
}

/* ---- the cases ----------------------------------------------------------------------------------
 */

/* Half of the samples anywhere, half where the structures are: the beginnings of files and blocks.
 */
static struct damaged sample(uint64_t *random, enum damage damage)
{
    struct damaged damaged = {.damage = damage};
    do
        damaged.file = snapshot_find(&base, below(random, base.total_bytes), &damaged.offset);
    while (damaged.file->size == 0);
    switch (below(random, 4)) {
    case 0:
        damaged.offset = below(random, damaged.file->size < 4096 ? damaged.file->size : 4096) / 8;
        break;
    case 1:
        damaged.offset = damaged.offset / 512 * 512 + below(random, 48);
        break;
    default:
        break;
    }
    if (damaged.offset >= damaged.file->size)
        damaged.offset = damaged.file->size - 1;
    damaged.bit = (unsigned)below(random, 8);
    damaged.read_only = below(random, 4) == 0;
    return damaged;
}

static void run_samples(const char *name, bool crashed, enum damage damage, unsigned count)
{
    static struct damaged cases[4000];
    uint64_t random = test_seed();
    make_store(crashed);
    count /= divisor;
    for (unsigned i = 0; i < count; i++)
        cases[i] = sample(&random, damage);
    run_cases(name, cases, count);
}

static void flipped_bits_of_a_closed_store_are_never_silent(void **state)
{
    (void)state;
    run_samples("closed, a bit flipped", false, FLIP, 600);
}

static void flipped_bits_after_a_crash_are_never_silent(void **state)
{
    (void)state;
    run_samples("crashed, a bit flipped", true, FLIP, 1000);
}

/* Some bits of each log segment's header, and one in the header of every fifth block. */
static void flipped_bits_of_the_log_headers_are_never_silent(void **state)
{
    (void)state;
    static struct damaged cases[4000];
    unsigned count = 0;
    uint64_t random = test_seed();
    make_store(true);
    for (unsigned i = 0; i < base.count; i++) {
        const struct snapshot_file *file = &base.files[i];
        if (strncmp(file->name, "wal/", 4) != 0)
            continue;
        for (uint64_t byte = 0; byte < 40 && count < 4000; byte += 4 * divisor)
            cases[count++] =
                (struct damaged){.file = file, .offset = byte, .bit = (unsigned)below(&random, 8)};
        for (uint64_t at = 4096; at < file->size && count < 4000; at += 512 * 5 * divisor)
            cases[count++] = (struct damaged){.file = file,
                                              .offset = at + below(&random, 40),
                                              .bit = (unsigned)below(&random, 8)};
    }
    run_cases("crashed, log headers", cases, count);
}

static void cut_files_are_never_silent(void **state)
{
    (void)state;
    run_samples("closed, a file cut", false, CUT, 200);
    run_samples("crashed, a file cut", true, CUT, 250);
}

static void zeroed_sectors_never_kill(void **state)
{
    (void)state;
    run_samples("closed, a sector zeroed", false, ZERO, 200);
}

/* ---- found
 * ---------------------------------------------------------------------------------------
 */

/*
 * Closing logs images of the pages that it writes over. The next session's log must begin behind
 * them: with an LSN below that of the pages, recovery took its changes for old ones.
 */
static void commit_after_a_clean_close_survives_a_crash(void **state)
{
    (void)state;
    struct cp_pager_options options = workload_options(NULL);
    struct cp_pager *pager;
    struct cp_mtr *mtr;
    void *data;
    new_store();
    workload_create(store_path(), &history);
    const uint64_t page = history.first + WORKLOAD_PAGES - 1; /* written by the close */
    assert_ok(cp_pager_open(store_path(), &options, &pager));
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
    history_fill(data, cp_pager_payload_size(pager), page, 77);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
    cp_pager_abandon(pager);
    assert_ok(cp_pager_open(store_path(), &options, &pager));
    struct cp_fix fix;
    assert_ok(cp_pager_fix(pager, page, CP_SHARED, &fix));
    assert_int_equal(history_version(fix.data, cp_pager_payload_size(pager), page), 77);
    cp_pager_unfix(pager, &fix);
    assert_ok(cp_pager_close(pager));
}

/*
 * A crash before the first checkpoint of a session: one superblock says that the store is in use,
 * the other, older one that it was closed. With the first one damaged the second must not be
 * believed.
 */
static void damaged_superblock_of_a_session_hides_no_commit(void **state)
{
    (void)state;
    struct workload work = {.history = &history, .random = 5};
    struct cp_pager_options options = workload_options(NULL);
    static struct damaged cases[2];
    static struct seen seen;
    new_store();
    workload_create(store_path(), &history);
    assert_ok(cp_pager_open(store_path(), &options, &work.pager));
    workload_commit(&work);
    cp_pager_abandon(work.pager);
    assert_int_equal(history.acked, 1);
    snapshot_free(&base);
    snapshot_load(&base, store_path());
    for (unsigned slot = 0; slot < 2; slot++) {
        uint64_t offset;
        cases[slot].file = snapshot_find(&base, slot * UINT64_C(65536) + 576, &offset);
        cases[slot].offset = offset;
    }
    assert_string_equal(cases[0].file->name, "data");
    run_cases("a superblock", cases, 2);
    assert_int_equal(outcome->refused, 0);
    for (unsigned slot = 0; slot < 2; slot++) { /* and the store is as good as any afterwards */
        apply(&cases[slot]);
        assert_ok(cp_pager_open(store_path(), &options, &work.pager));
        assert_ok(cp_pager_close(work.pager));
        assert_ok(cp_pager_open(store_path(), &options, &work.pager));
        history_look(&history, work.pager, &seen);
        assert_int_equal(history_match(&history, &seen, false), 1);
        assert_ok(cp_pager_close(work.pager));
    }
}

/* The segment with the highest number: its file, from the snapshot. */
static const struct snapshot_file *newest_segment(void)
{
    const struct snapshot_file *newest = NULL;
    uint64_t highest = 0;
    for (unsigned i = 0; i < base.count; i++) {
        const struct snapshot_file *file = &base.files[i];
        uint64_t magic, number;
        if (strncmp(file->name, "wal/", 4) != 0)
            continue;
        memcpy(&magic, file->bytes, 8);
        memcpy(&number, file->bytes + 24, 8);
        if (magic != 0 && (newest == NULL || number > highest)) {
            highest = number;
            newest = file;
        }
    }
    assert_non_null(newest);
    return newest;
}

static uint64_t segment_of(const struct cp_pager_stats *stats)
{
    return stats->wal.end / (CP_WAL_BLOCK_BYTES - 24) / ((stats->wal.segment_bytes - 4096) / 512);
}

/*
 * A crash right after the first commit that reached into a new segment. Nothing in the log then
 * says that there must be more than its other segments hold; so a damaged header must not pass for
 * that of a file that was never used.
 */
static void damaged_header_of_the_newest_segment_is_noticed(void **state)
{
    (void)state;
    struct workload work = {.history = &history, .random = 5};
    struct cp_pager_options options = workload_options(NULL);
    struct cp_pager_stats stats;
    static struct damaged cases[64];
    uint64_t before, after;
    new_store();
    workload_create(store_path(), &history);
    assert_ok(cp_pager_open(store_path(), &options, &work.pager));
    workload_commit(&work);
    do { /* ends: each commit takes a part of a segment */
        cp_pager_stats(work.pager, &stats);
        before = segment_of(&stats);
        workload_commit(&work);
        cp_pager_stats(work.pager, &stats);
        after = segment_of(&stats);
    } while (before == after);
    cp_pager_abandon(work.pager);
    assert_int_equal(history.acked, history.count);
    snapshot_free(&base);
    snapshot_load(&base, store_path());
    const struct snapshot_file *file = newest_segment();
    for (unsigned i = 0; i < 40; i++)
        cases[i] = (struct damaged){.file = file, .offset = i, .bit = i % 8};
    cases[40] = (struct damaged){.damage = CUT, .file = file, .offset = 1000};
    cases[41] = (struct damaged){.damage = CUT, .file = file, .offset = 20};
    cases[42] = (struct damaged){.damage = CUT, .file = file, .offset = 4096};
    run_cases("newest segment's header", cases, 43);
    assert_int_equal(outcome->refused, 43);
}

static int make_all(void **state)
{
    outcome =
        mmap(NULL, sizeof *outcome, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return outcome == MAP_FAILED ? -1 : make_directory(state);
}

static int remove_all(void **state)
{
    munmap(outcome, sizeof *outcome);
    snapshot_free(&base);
    return remove_directory(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flipped_bits_of_a_closed_store_are_never_silent),
        cmocka_unit_test(flipped_bits_after_a_crash_are_never_silent),
        cmocka_unit_test(flipped_bits_of_the_log_headers_are_never_silent),
        cmocka_unit_test(cut_files_are_never_silent),
        cmocka_unit_test(zeroed_sectors_never_kill),
        cmocka_unit_test(commit_after_a_clean_close_survives_a_crash),
        cmocka_unit_test(damaged_superblock_of_a_session_hides_no_commit),
        cmocka_unit_test(damaged_header_of_the_newest_segment_is_noticed),
    };
    int failed = 0;
#if CP_POISONS
    divisor = 10;
    print_message("sampled: a tenth of the cases in this build\n");
#endif
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    for (unsigned engine = 0; engine < 2; engine++) {
        test_engine = engine == 0 ? CP_ENGINE_POOL : CP_ENGINE_MMAP;
        failed +=
            cmocka_run_group_tests_name(engine == 0 ? "pool" : "mmap", tests, make_all, remove_all);
    }
    return failed;
}
