/* SPDX-License-Identifier: MIT */
/* The cleaner: when it begins and ends, what it writes first, who calls it, and what fails. */
#include "helpers.h"

#define PAGES 4096u

struct setting {
    struct world w;
    struct fake_log log;
    uint32_t asked;
};

static void count_call(void *ctx)
{
    struct setting *s = ctx;
    s->asked++;
}

static void open_setting_of(struct setting *s, bool with_cleaner, uint64_t max_budget_bytes)
{
    memset(s, 0, sizeof *s);
    const struct cp_lsn_gate gate = {&s->log, fake_durable, fake_make_durable};
    struct cp_bufpool_options options = {.budget_bytes = 4 * MIB,
                                         .max_budget_bytes = max_budget_bytes};
    if (with_cleaner) {
        options.short_of_clean = count_call;
        options.short_of_clean_ctx = s;
    }
    world_open_with(&s->w, &options, RINGS_DEFERRED);
    world_create_file(&s->w, 0, 4096, PAGES);
    world_attach_with(&s->w, 0, &(struct cp_bufpool_file_options){.gate = &gate});
    struct cp_io_file_info info;
    cp_io_file_info(s->w.io_file[0], &info);
    s->log.fd = info.fd;
    fault_io_on_write(s->w.faults, fake_log_see_write, &s->log);
}

static void open_setting(struct setting *s, bool with_cleaner)
{
    open_setting_of(s, with_cleaner, 0);
}

static void close_setting(struct setting *s)
{
    fault_io_reset(s->w.faults);
    world_close(&s->w);
    assert_int_equal(atomic_load(&s->log.violations), 0);
}

/* Change pages until every frame holds a dirty one, all marked as used. Returns how many. */
static uint64_t fill_with_dirty(struct setting *s)
{
    uint64_t page = 0;
    while (atomic_load(&s->w.pool->free_units) > 0 ||
           stats_of(&s->w).used_bytes + s->w.pool->extent_cost_bytes <=
               stats_of(&s->w).budget_bytes) {
        change_page(&s->w, 0, page, 1, page + 1);
        change_page(&s->w, 0, page, 1, page + 1); /* the first fix is no use */
        page++;
    }
    assert_int_equal(stats_of(&s->w).pages_dirty, page);
    return page;
}

static void clear_mark(struct setting *s, uint64_t page)
{
    uint64_t *word = &s->w.file[0]->map.words[page];
    uint64_t seen = cp_word_load(word);
    assert_true(cp_word_cas(word, &seen, seen & ~CP_WORD_REF));
}

/* A cleaner's step; the log is made durable when that is what it lacks. */
static int clean_step(struct setting *s)
{
    int count = cp_bufpool_clean(s->w.pool);
    if (count != -EAGAIN)
        return count;
    atomic_store(&s->log.durable, UINT64_C(1) << 40);
    count = cp_bufpool_clean(s->w.pool);
    atomic_store(&s->log.durable, 0);
    return count;
}

static void clean_with_enough_clean_pages_writes_nothing(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, true);
    for (uint64_t page = 0; page < 100; page++)
        change_page(&s.w, 0, page, 1, page);
    assert_int_equal(clean_step(&s), 0);
    assert_int_equal(stats_of(&s.w).pages_written, 0);
    assert_int_equal(s.asked, 0);
    close_setting(&s);
}

static void clean_writes_from_the_low_watermark_up_to_the_high_one(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, true);
    uint64_t pages = fill_with_dirty(&s), written = 0;
    int count;
    while ((count = clean_step(&s)) > 0)
        written += (uint64_t)count;
    assert_int_equal(count, 0);
    struct cp_bufpool_stats stats = stats_of(&s.w);
    uint64_t clean = pages - stats.pages_dirty;
    assert_true(clean >= pages / 4 && clean < pages / 4 + 64);
    assert_int_equal(stats.pages_cleaned, written);
    assert_int_equal(stats.pages_written, written);
    assert_int_equal(stats.pages_resident, pages);          /* clean, not gone */
    assert_true(stats.writes <= written / 4);               /* neighbours in one request */
    for (uint64_t page = 0; page < 5 * pages / 100; page++) /* a little dirt does not start it */
        change_page(&s.w, 0, page, 2, 5000 + page);
    assert_int_equal(clean_step(&s), 0);
    close_setting(&s);
}

static void clean_takes_what_is_not_in_use_first(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, true);
    uint64_t pages = fill_with_dirty(&s);
    for (uint64_t page = 1; page < pages; page += 10)
        clear_mark(&s, page);
    assert_true(clean_step(&s) > 0);
    assert_true(stats_of(&s.w).pages_written < pages / 10 + 2);
    for (uint64_t page = 0; page < pages; page++) {
        uint64_t word = cp_word_load(&s.w.file[0]->map.words[page]);
        if ((word & CP_WORD_DIRTY) == 0)
            assert_int_equal(page % 10, 1);
    }
    close_setting(&s);
}

/* Whoever offered to clean is asked once, and again after he has said that all is well. */
static void clean_is_asked_for_once_until_it_is_done(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, true);
    uint64_t pages = fill_with_dirty(&s);
    for (uint64_t i = 0; i < 20; i++)
        check_version(&s.w, 0, pages + i, 0);
    assert_int_equal(s.asked, 1);
    while (clean_step(&s) > 0) {
    }
    for (uint64_t i = 0; i < 20; i++)
        check_version(&s.w, 0, pages + 100 + i, 0);
    assert_int_equal(s.asked, 1);
    for (uint64_t i = 0; i < pages; i++) /* dirty again, and through */
        change_page(&s.w, 0, pages + 200 + i, 1, 9000 + i);
    assert_int_equal(s.asked, 2);
    close_setting(&s);
}

/* With a cleaner that comes when called, no miss waits for a write or for the log. */
static void clean_in_time_spares_misses_the_waiting(void **state)
{
    (void)state;
    for (uint32_t served = 0; served < 2; served++) {
        struct setting s;
        uint64_t random = test_seed();
        open_setting(&s, true);
        cp_lsn lsn = 1;
        for (uint32_t i = 0; i < 20000; i++) {
            change_page(&s.w, 0, next_random(&random) % PAGES, 1, lsn++);
            for (; s.asked > 0 && served; s.asked--)
                while (clean_step(&s) > 0) {
                }
        }
        struct cp_bufpool_stats stats = stats_of(&s.w);
        if (served)
            assert_int_equal(stats.write_waits, 0);
        else /* that is what it is good for */
            assert_true(stats.write_waits > 0);
        close_setting(&s);
    }
}

/* ---- a pool that may grow far beyond what it is -------------------------------------------------
 */

#define MAX_BUDGET_BYTES (512 * MIB)

static struct {
    const char *point;
    uint64_t count;
} looks;

static void count_looks(const char *point, struct cp_bufpool_file *file, uint64_t page)
{
    (void)file;
    (void)page;
    looks.count += strcmp(point, looks.point) == 0;
}

static uint64_t committed_units(const struct setting *s)
{
    return s->w.pool->extent_count * (s->w.pool->extent_bytes / 4096);
}

static void clean_looks_at_what_is_there_and_not_at_what_may_come(void **state)
{
    (void)state;
    struct setting s;
    int count;
    open_setting_of(&s, true, MAX_BUDGET_BYTES);
    (void)fill_with_dirty(&s);
    s.w.pool->clean_hand = s.w.pool->unit_limit - 1; /* there was more once */
    looks.point = "clean_look";
    cp_bufpool__hook = count_looks;
    do {
        looks.count = 0;
        count = clean_step(&s); /* two rounds, and again when the log was asked for */
        assert_true(looks.count <= 4 * committed_units(&s));
    } while (count > 0);
    assert_int_equal(count, 0);
    cp_bufpool__hook = NULL;
    assert_true(s.w.pool->clean_hand <= committed_units(&s));
    close_setting(&s);
}

static void reclaim_looks_at_what_is_there_and_not_at_what_may_come(void **state)
{
    (void)state;
    struct setting s;
    open_setting_of(&s, true, MAX_BUDGET_BYTES);
    (void)fill_with_dirty(&s);
    const uint64_t extents = s.w.pool->extent_count;
    looks.point = "reclaim_look";
    looks.count = 0;
    cp_bufpool__hook = count_looks;
    assert_int_equal(cp_bufpool_resize(s.w.pool, 3 * MIB), 0);
    cp_bufpool__hook = NULL;
    assert_true(s.w.pool->extent_count < extents);
    /* the highest there is can be had: one look for each that goes */
    assert_int_equal(looks.count, extents - s.w.pool->extent_count);
    close_setting(&s);
}

/* Nobody offered: misses start writes, of what the log is durable for, and wait for none. */
static void clean_without_a_cleaner_is_begun_by_misses(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, false);
    atomic_store(&s.log.durable, UINT64_C(1) << 40);
    uint64_t random = test_seed();
    for (uint32_t i = 0; i < 20000; i++)
        change_page(&s.w, 0, next_random(&random) % PAGES, 1, i);
    struct cp_bufpool_stats stats = stats_of(&s.w);
    assert_true(stats.pages_written > 5000);
    assert_true(stats.write_waits < 20);
    assert_int_equal(atomic_load(&s.log.calls), 0);
    close_setting(&s);
}

static void clean_that_cannot_write_says_so_and_loses_nothing(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, true);
    uint64_t pages = fill_with_dirty(&s);
    check_version(&s.w, 0, pages + 1, 0); /* evicts, asks; */
    atomic_store(&s.log.durable, 0);      /* and waits for the log of those it writes */
    uint64_t dirty = stats_of(&s.w).pages_dirty, calls = atomic_load(&s.log.calls);
    fault_io_reset(s.w.faults);
    fault_io_rule(
        s.w.faults,
        &(struct fault_rule){.on = FAULT_WRITE, .nth = 1, .times = UINT64_MAX, .code = -ENOSPC});
    assert_int_equal(clean_step(&s), -ENOSPC);
    assert_int_equal(stats_of(&s.w).pages_dirty, dirty);
    assert_int_equal(cp_bufpool_clean(s.w.pool), -EAGAIN); /* and does not wait for the log */
    assert_int_equal(atomic_load(&s.log.calls), calls);
    assert_int_equal(stats_of(&s.w).pages_dirty, dirty);
    fault_io_reset(s.w.faults);
    while (clean_step(&s) > 0) {
    }
    for (uint64_t page = 0; page < pages; page++)
        check_version(&s.w, 0, page, 1);
    close_setting(&s);
}

/* ---- a flush that takes its time ----------------------------------------------------------------
 */

struct pace {
    struct setting *s;
    uint32_t calls;
    uint64_t last_done, total;
};

/* Nothing is held: any page can be had, one just written as well as one still to come. */
static void pause_here(void *ctx, uint64_t done, uint64_t total)
{
    struct pace *pace = ctx;
    assert_true(done > pace->last_done && done <= total + 2 * pace->calls);
    assert_true(stats_of(&pace->s->w).writes_in_flight <= 5 * 32);
    pace->last_done = done;
    pace->total = total;
    if (++pace->calls % 8 != 0) /* let writes pile up, if they may */
        return;
    change_page(&pace->s->w, 0, 1000 + pace->calls, 7, 90000 + pace->calls);
    change_page(&pace->s->w, 0, done - 1, 7, 90000 + done);
}

static void flush_paced_rests_between_batches_and_holds_nothing(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, true);
    struct pace pace = {.s = &s};
    for (uint64_t page = 0; page < 500; page++)
        change_page(&s.w, 0, page, 1, page + 1);
    assert_int_equal(cp_bufpool_flush_paced(s.w.file[0], pause_here, &pace), 0);
    assert_int_equal(pace.total, 500);
    assert_true(pace.calls >= 500 / 32);
    assert_true(pace.last_done >= 500);
    for (uint64_t page = 0; page < 500; page++)
        assert_true(version_on_disk(&s.w, 0, page) >= 1);
    close_setting(&s);
}

struct progress {
    uint64_t done[64], total;
    unsigned calls;
};

static void note_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct progress *progress = ctx;
    assert_true(progress->calls < 64 && done <= total);
    assert_true(progress->calls == 0 || done >= progress->done[progress->calls - 1]);
    progress->done[progress->calls++] = done;
    progress->total = total;
}

static void dirty_new_pages(struct setting *s, uint64_t first, uint64_t count)
{
    for (uint64_t page = first; page < first + count; page++) {
        struct cp_fix fix;
        assert_int_equal(cp_bufpool_fix_new(s->w.file[0], page, &fix), 0);
        cp_bufpool_mark_dirty(&fix, 1);
        cp_bufpool_unfix(&fix);
    }
}

/* What was dirty lies in three places: what is between them takes no share of the progress. */
static void flush_paced_tells_how_far_it_is(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, true);
    struct progress progress = {.calls = 0};
    for (uint64_t page = 0; page < 300; page++)
        change_page(&s.w, 0, page, 1, page + 1);
    dirty_new_pages(&s, 20000, 100);
    dirty_new_pages(&s, 40860, 100); /* beyond the parts of the file that it begins with */
    assert_int_equal(cp_bufpool_dirty_pages(s.w.file[0]), 500);
    assert_int_equal(cp_bufpool_flush_paced(s.w.file[0], note_progress, &progress), 0);
    assert_int_equal(progress.total, 500);
    assert_int_equal(progress.calls, 16); /* batches of 32 */
    assert_in_range(progress.done[0], 1, 64);
    assert_in_range(progress.done[9], 310, 400); /* at the second place */
    assert_in_range(progress.done[15], 480, 500);
    assert_int_equal(cp_bufpool_dirty_pages(s.w.file[0]), 0);
    close_setting(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean_with_enough_clean_pages_writes_nothing),
        cmocka_unit_test(clean_writes_from_the_low_watermark_up_to_the_high_one),
        cmocka_unit_test(clean_takes_what_is_not_in_use_first),
        cmocka_unit_test(clean_is_asked_for_once_until_it_is_done),
        cmocka_unit_test(clean_in_time_spares_misses_the_waiting),
        cmocka_unit_test(clean_looks_at_what_is_there_and_not_at_what_may_come),
        cmocka_unit_test(reclaim_looks_at_what_is_there_and_not_at_what_may_come),
        cmocka_unit_test(clean_without_a_cleaner_is_begun_by_misses),
        cmocka_unit_test(clean_that_cannot_write_says_so_and_loses_nothing),
        cmocka_unit_test(flush_paced_rests_between_batches_and_holds_nothing),
        cmocka_unit_test(flush_paced_tells_how_far_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
