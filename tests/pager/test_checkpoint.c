/* SPDX-License-Identifier: MIT */
/* What becomes of the log's files: used again by the next session, kept for a backup, removed. */
#include "helpers.h"

#define SEGMENT_BYTES (64u << 10) /* as options_of has it */
#define PAGES         50u         /* written whole: three segments of log, and a bit */
#define SESSIONS      12u

static struct cp_pager *open_with(enum cp_background background, bool create)
{
    struct cp_pager_options options = options_of(4096, 0);
    struct cp_pager *pager = NULL;
    options.background = background;
    options.create = create;
    options.log_limit_bytes = 8 * SEGMENT_BYTES;
    options.checkpoint_ms = 3600000; /* only those that are asked for */
    assert_ok(cp_pager_open(create ? new_store() : store_path(), &options, &pager));
    return pager;
}

static uint64_t create_page(enum cp_background background)
{
    struct cp_pager *pager = open_with(background, true);
    const uint64_t page = allocate_filled(pager, 0);
    assert_ok(cp_pager_close(pager));
    return page;
}

static void write_log(struct cp_pager *pager, uint64_t page, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        commit_page(pager, page, i);
}

static unsigned log_files(void)
{
    char path[400];
    snprintf(path, sizeof path, "%s/wal", store_path());
    return count_entries(path);
}

/* None of them writes a checkpoint but the last one, when it closes. */
static void sessions_use_the_log_files_of_those_before(void **state)
{
    const uint64_t page = create_page(CP_BACKGROUND_NONE);
    unsigned files = 0;
    (void)state;
    for (unsigned session = 0; session < SESSIONS; session++) {
        struct cp_pager *pager = open_with(CP_BACKGROUND_NONE, false);
        write_log(pager, page, PAGES);
        assert_ok(cp_pager_close(pager));
        if (session == 1)
            files = log_files();
    }
    print_message("%u files of the log, %u after the first sessions\n", log_files(), files);
    assert_true(log_files() <= files + 1); /* where a session begins in its segment differs */
}

static int hold_backup_lock(void)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    char path[400];
    snprintf(path, sizeof path, "%s/backup", store_path());
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    return fd;
}

/* Who copies may have read the superblock of an earlier session. */
static void session_begun_beside_a_backup_keeps_the_log(void **state)
{
    const uint64_t page = create_page(CP_BACKGROUND_NONE);
    struct cp_pager_stats stats;
    (void)state;
    struct cp_pager *pager = open_with(CP_BACKGROUND_NONE, false);
    write_log(pager, page, PAGES);
    assert_ok(cp_pager_close(pager));
    for (unsigned held = 2; held-- > 0;) {
        int fd = held ? hold_backup_lock() : -1;
        pager = open_with(CP_BACKGROUND_NONE, false);
        write_log(pager, page, 1);
        cp_pager_stats(pager, &stats);
        assert_int_equal(stats.wal.first < SEGMENT_BYTES / 2, held);
        cp_pager_abandon(pager); /* no checkpoint of its own */
        if (held)
            close(fd);
        pager = open_with(CP_BACKGROUND_NONE, false);
        assert_true(check_page(pager, page, 0));
        assert_ok(cp_pager_close(pager));
    }
}

/* A backup has had the log grow. Without a thread the checkpoints of the log's limit see to it. */
static void surplus_files_are_removed_without_a_thread(void **state)
{
    const uint64_t page = create_page(CP_BACKGROUND_NONE);
    (void)state;
    struct cp_pager *pager = open_with(CP_BACKGROUND_NONE, false);
    int fd = hold_backup_lock();
    write_log(pager, page, 10 * PAGES);
    assert_true(log_files() > 20);
    close(fd);
    write_log(pager, page, 4 * PAGES);
    assert_true(log_files() <= 9); /* the limit, and one that may be the next */
    assert_ok(cp_pager_close(pager));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_use_the_log_files_of_those_before),
        cmocka_unit_test(session_begun_beside_a_backup_keeps_the_log),
        cmocka_unit_test(surplus_files_are_removed_without_a_thread),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
