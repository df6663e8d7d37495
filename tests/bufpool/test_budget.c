/* SPDX-License-Identifier: MIT */
/* The memory budget: hard, counting everything, changed while running. */
#include "helpers.h"

#include <sched.h>
#include <sys/mman.h>

#define PAGES 1200u

static void check_sum(struct world *w)
{
    struct cp_bufpool_stats stats = stats_of(w);
    assert_int_equal(stats.frame_bytes + stats.descriptor_bytes + stats.table_bytes +
                         stats.io_bytes + stats.fixed_bytes,
                     stats.used_bytes);
    assert_true(stats.used_bytes <= stats.budget_bytes);
    assert_true(stats.frame_used_bytes <= stats.frame_bytes);
}

static uint64_t resident_frame_bytes(struct world *w)
{
    uint64_t bytes = 0;
    for (uint64_t unit = 0; unit < w->pool->unit_limit; unit++) {
        unsigned char resident = 0;
        assert_int_equal(mincore(w->pool->base + unit * 4096, 4096, &resident), 0);
        bytes += (resident & 1) != 0 ? 4096 : 0;
    }
    return bytes;
}

static void budget_take_refuses_the_first_byte_too_many(void **state)
{
    (void)state;
    struct cp_budget budget = {.limit_bytes = 100};
    assert_true(cp_budget__take(&budget, CP_FOR_TABLE, 60));
    assert_false(cp_budget__take(&budget, CP_FOR_FRAMES, 41));
    assert_true(cp_budget__take(&budget, CP_FOR_FRAMES, 40));
    assert_int_equal(budget.used_bytes, 100);
    assert_int_equal(budget.by_purpose[CP_FOR_FRAMES], 40);
    cp_budget__give(&budget, CP_FOR_TABLE, 60);
    assert_int_equal(budget.used_bytes, 40);
    assert_int_equal(budget.peak_bytes, 100);
}

static void budget_outside_the_limits_refused_with_a_hint(void **state)
{
    (void)state;
    struct world w;
    struct cp_bufpool *pool = NULL;
    world_simple(&w, MIB, 4);
    struct cp_bufpool_options options = {.io = w.io, .budget_bytes = CP_BUFPOOL_BUDGET_MIN - 1};
    assert_int_equal(cp_bufpool_create(&options, &pool), CP_EBUDGET);
    assert_non_null(strstr(cp_error_info()->hint, "524288"));
    options = (struct cp_bufpool_options){.io = w.io, .budget_bytes = MIB, .max_budget_bytes = 1};
    assert_int_equal(cp_bufpool_create(&options, &pool), CP_EBUDGET);
    assert_null(pool);
    assert_int_equal(cp_bufpool_resize(w.pool, CP_BUFPOOL_BUDGET_MIN - 1), CP_EBUDGET);
    assert_int_equal(cp_bufpool_resize(w.pool, 4 * MIB + 1), CP_EBUDGET);
    assert_int_equal(stats_of(&w).budget_bytes, MIB);
    assert_int_equal(cp_bufpool_resize(w.pool, 4 * MIB), 0);
    world_close(&w);
}

static void budget_never_exceeded_in_any_step(void **state)
{
    (void)state;
    struct world w;
    uint64_t random = 7;
    world_open(&w, MIB);
    world_add_file(&w, 0, 4096, PAGES);
    world_add_file(&w, 1, 65536, 30);
    for (uint32_t i = 0; i < 4000; i++) {
        uint64_t r = next_random(&random);
        if (r % 5 == 0)
            check_version(&w, 1, (r >> 8) % 30, 0);
        else
            check_version(&w, 0, (r >> 8) % PAGES, 0);
        check_sum(&w);
    }
    assert_true(stats_of(&w).peak_bytes <= MIB);
    assert_true(resident_frame_bytes(&w) <= stats_of(&w).frame_bytes);
    assert_true(stats_of(&w).frame_bytes > MIB / 2); /* and most of it is used for pages */
    world_close(&w);
}

static void budget_growing_makes_room_at_once(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, MIB, PAGES);
    for (uint64_t page = 0; page < PAGES; page++)
        check_version(&w, 0, page, 0);
    uint64_t before = stats_of(&w).pages_resident;
    assert_int_equal(cp_bufpool_resize(w.pool, 3 * MIB), 0);
    for (uint64_t page = 0; page < PAGES; page++)
        check_version(&w, 0, page, 0);
    assert_true(stats_of(&w).pages_resident > 2 * before);
    check_sum(&w);
    world_close(&w);
}

static void budget_shrunk_memory_goes_back_to_the_kernel(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, 4 * MIB, PAGES);
    world_add_file(&w, 1, 65536, 20);
    for (uint64_t page = 0; page < 700; page++)
        change_page(&w, 0, page, 1, 0);
    uint64_t before = resident_frame_bytes(&w);
    assert_int_equal(cp_bufpool_resize(w.pool, MIB), 0);
    check_sum(&w);
    assert_int_equal(stats_of(&w).budget_bytes, MIB);
    assert_true(resident_frame_bytes(&w) <= MIB);
    assert_true(resident_frame_bytes(&w) < before);
    assert_true(stats_of(&w).extents_released > 0);
    for (uint64_t page = 0; page < 700; page++)
        check_version(&w, 0, page, 1);
    for (uint64_t page = 0; page < 20; page++) /* large frames can still be had */
        check_version(&w, 1, page, 0);
    check_sum(&w);
    world_close(&w);
}

static void budget_shrink_against_pins_refused_old_one_stands(void **state)
{
    (void)state;
    struct world w;
    static struct cp_fix fixes[700];
    world_simple(&w, 4 * MIB, PAGES);
    for (uint64_t page = 0; page < 700; page++)
        fixes[page] = must_fix(&w, 0, page, CP_SHARED);
    assert_int_equal(cp_bufpool_resize(w.pool, MIB), CP_EPINNED);
    assert_true(strlen(cp_error_info()->hint) > 0);
    assert_int_equal(stats_of(&w).budget_bytes, 4 * MIB);
    for (uint64_t page = 0; page < 700; page++)
        assert_int_equal(page_version(fixes[page].data, 4096, page), 0);
    cp_bufpool_unfix_many(fixes, 700);
    assert_int_equal(cp_bufpool_resize(w.pool, MIB), 0);
    check_sum(&w);
    world_close(&w);
}

/* What the pool itself needs is no pin: waiting would not help, so it is told. */
static void budget_below_the_pools_own_needs_refused_as_such(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, 64 * MIB, PAGES);
    for (uint64_t page = 0; page < 100; page++)
        check_version(&w, 0, page, 0);
    assert_int_equal(cp_bufpool_resize(w.pool, CP_BUFPOOL_BUDGET_MIN), CP_EBUDGET);
    assert_int_equal(stats_of(&w).budget_bytes, 64 * MIB);
    assert_int_equal(stats_of(&w).pages_resident, 100); /* nothing was thrown away for it */
    world_close(&w);
}

/* What empty parts of the table take goes before anything is called pinned. */
static void budget_shrink_gives_back_an_empty_table(void **state)
{
    (void)state;
    const uint64_t groups = 3800;
    struct world w;
    world_open_with(
        &w, &(struct cp_bufpool_options){.budget_bytes = MIB, .max_budget_bytes = 1024 * MIB},
        RINGS_DEFERRED);
    world_create_file(&w, 0, 4096, 0);
    world_attach_with(
        &w, 0, &(struct cp_bufpool_file_options){.max_pages = (groups + 1) * CP_GROUP_WORDS});
    assert_int_equal(cp_bufpool_resize(w.pool, 1024 * MIB), 0);
    for (uint64_t group = 0; group < groups; group++) {
        struct cp_fix fix;
        assert_int_equal(cp_bufpool_fix_new(w.file[0], group * CP_GROUP_WORDS, &fix), 0);
        cp_bufpool_unfix(&fix);
    }
    assert_int_equal(cp_bufpool_discard(w.file[0], 0, UINT64_MAX), 0);
    assert_true(stats_of(&w).table_bytes > 8 * MIB);
    assert_int_equal(cp_bufpool_resize(w.pool, 8 * MIB), 0);
    check_sum(&w);
    assert_true(stats_of(&w).table_bytes < MIB);
    world_close(&w);
}

static uint64_t resident_bytes(const void *memory, uint64_t bytes)
{
    uint64_t resident_bytes = 0;
    for (uint64_t at = 0; at < bytes; at += 4096) {
        unsigned char resident = 0;
        assert_int_equal(mincore((char *)(uintptr_t)memory + at, 1, &resident), 0);
        resident_bytes += (resident & 1) != 0 ? 4096 : 0;
    }
    return resident_bytes;
}

/* What the policy keeps of each unit is paid for with the extent, and so goes with it. */
static void budget_shrink_gives_back_what_the_policy_kept(void **state)
{
    (void)state;
    struct world w;
    world_open_with(
        &w, &(struct cp_bufpool_options){.budget_bytes = 4 * MIB, .max_budget_bytes = 128 * MIB},
        RINGS_DEFERRED);
    world_create_file(&w, 0, 4096, 0);
    world_attach_with(&w, 0, &(struct cp_bufpool_file_options){0});
    for (uint32_t round = 0; round < 2; round++) {
        assert_int_equal(cp_bufpool_resize(w.pool, 128 * MIB), 0);
        for (uint64_t page = 0; page < 60000; page++) { /* so that there are ghosts, too */
            struct cp_fix fix;
            assert_int_equal(cp_bufpool_fix_new(w.file[0], page, &fix), 0);
            cp_bufpool_unfix(&fix);
        }
        uint64_t grown = resident_bytes(w.pool->clock_memory, w.pool->clock_memory_bytes);
        assert_int_equal(cp_bufpool_resize(w.pool, 4 * MIB), 0);
        uint64_t shrunk = resident_bytes(w.pool->clock_memory, w.pool->clock_memory_bytes);
        assert_true(grown > 30 * 4096);
        assert_true(shrunk <= 10 * 4096);
        assert_int_equal(cp_bufpool__check(w.pool), 0);
    }
    world_close(&w);
}

/* ---- misses beside a shrink ---------------------------------------------------------------------
 */

static struct {
    struct world *w;
    uint64_t page;
    uint32_t passes;
} crowd;

/* As other threads would: between two looks at an extent, more pages are missed than it holds. */
static void miss_many(const char *point, struct cp_bufpool_file *file, uint64_t extent)
{
    (void)file;
    (void)extent;
    if (strcmp(point, "reclaim_pass") != 0)
        return;
    crowd.passes++;
    for (uint32_t i = 0; i < 64; i++, crowd.page = (crowd.page + 1) % PAGES)
        check_version(crowd.w, 0, crowd.page, 0);
}

/* What is emptied stays empty until it is given back, or a shrink might never end. */
static void budget_shrink_keeps_from_misses_what_it_empties(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, 4 * MIB, PAGES);
    for (uint64_t page = 0; page < PAGES; page++)
        check_version(&w, 0, page, 0);
    crowd.w = &w;
    crowd.page = crowd.passes = 0;
    const uint64_t before = stats_of(&w).extents_released;
    cp_bufpool__hook = miss_many;
    int status = cp_bufpool_resize(w.pool, 3 * MIB / 2);
    cp_bufpool__hook = NULL;
    const uint64_t released = stats_of(&w).extents_released - before;
    print_message("%u passes for %llu extents\n", crowd.passes, (unsigned long long)released);
    assert_int_equal(status, 0);
    assert_true(crowd.passes <= 2 * released);
    check_sum(&w);
    assert_int_equal(cp_bufpool__check(w.pool), 0);
    world_close(&w);
}

/* What a shrink that fails has emptied is there for misses again. */
static void budget_shrink_that_fails_gives_back_what_it_emptied(void **state)
{
    (void)state;
    struct world w;
    static struct cp_fix fixes[PAGES];
    uint32_t count = 0;
    world_simple(&w, 4 * MIB, PAGES);
    for (uint64_t page = 0; page < 800; page++) {
        if (page % 4 == 0)
            fixes[count++] = must_fix(&w, 0, page, CP_SHARED);
        else
            check_version(&w, 0, page, 0);
    }
    assert_int_equal(cp_bufpool_resize(w.pool, MIB), CP_EPINNED);
    for (uint64_t page = 0; page < 800; page++)
        check_version(&w, 0, page, 0);
    assert_true(stats_of(&w).pages_resident >= 800);
    cp_bufpool_unfix_many(fixes, count);
    assert_int_equal(cp_bufpool__check(w.pool), 0);
    world_close(&w);
}

/* ---- the kernel takes nothing back --------------------------------------------------------------
 */

int __real_cp_arena_decommit(struct cp_arena *arena, uint64_t first, uint64_t count);
int __wrap_cp_arena_decommit(struct cp_arena *arena, uint64_t first, uint64_t count);

static _Atomic int decommit_refused; /* a code, or 0 */

int __wrap_cp_arena_decommit(struct cp_arena *arena, uint64_t first, uint64_t count)
{
    int code = atomic_load(&decommit_refused);
    return code != 0 ? cp_error_set(code, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "refused by the test")
                     : __real_cp_arena_decommit(arena, first, count);
}

/* As where vm.max_map_count is reached: an error, the old budget stands, and nothing is lost. */
static void budget_shrink_that_the_kernel_refuses_is_an_error(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, 4 * MIB, PAGES);
    for (uint64_t page = 0; page < 700; page++)
        change_page(&w, 0, page, 1, 0);
    struct cp_bufpool_stats before = stats_of(&w);
    atomic_store(&decommit_refused, -ENOMEM);
    assert_int_equal(cp_bufpool_resize(w.pool, MIB), -ENOMEM);
    atomic_store(&decommit_refused, 0);
    assert_int_equal(stats_of(&w).budget_bytes, 4 * MIB);
    assert_int_equal(stats_of(&w).frame_bytes, before.frame_bytes);
    check_sum(&w);
    for (uint64_t page = 0; page < PAGES; page++)
        check_version(&w, 0, page, page < 700);
    assert_int_equal(cp_bufpool__check(w.pool), 0);
    assert_int_equal(cp_bufpool_resize(w.pool, MIB), 0);
    check_sum(&w);
    world_close(&w);
}

/* ---- the kernel gives nothing -------------------------------------------------------------------
 */

void *__real_cp_slab_alloc(struct cp_slab *slab);
void *__wrap_cp_slab_alloc(struct cp_slab *slab);

static struct cp_slab *short_slab; /* has memory for so many objects more; NULL: none is short */
static uint32_t objects_left;

void *__wrap_cp_slab_alloc(struct cp_slab *slab)
{
    if (slab == short_slab && objects_left-- == 0) {
        objects_left = 0;
        return NULL;
    }
    return __real_cp_slab_alloc(slab);
}

/* As with vm.overcommit_memory=2: misses do with the frames that have descriptors, and evict. */
static void budget_descriptors_that_the_kernel_refuses_are_done_without(void **state)
{
    (void)state;
    struct world w;
    struct cp_scan scan;
    struct cp_fix fix;
    world_simple(&w, 4 * MIB, PAGES);
    short_slab = w.pool->frame_slab;
    objects_left = 105;
    for (uint64_t page = 0; page < 100; page++)
        check_version(&w, 0, page, 0);
    assert_int_equal(cp_bufpool_scan_begin(w.file[0], 100, 200, &scan), 0);
    while (cp_bufpool_scan_next(&scan, &fix) == 1) {
        assert_int_equal(page_version(fix.data, 4096, fix.page), 0);
        cp_bufpool_unfix(&fix);
    }
    assert_int_equal(scan.next, 300);
    for (uint64_t page = 300; page < 400; page++)
        check_version(&w, 0, page, 0);
    assert_in_range(stats_of(&w).pages_resident, 1, 105);
    assert_int_equal(cp_bufpool__check(w.pool), 0);
    short_slab = NULL;
    for (uint64_t page = 0; page < 400; page++)
        check_version(&w, 0, page, 0);
    assert_in_range(stats_of(&w).pages_resident, 300, 400);
    check_sum(&w);
    world_close(&w);
}

/* ---- a host that locks its memory ---------------------------------------------------------------
 */

static uint64_t process_resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*u %llu", &pages), 1);
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* As a host would; false where the process may not lock as much as a pool reserves. */
static bool lock_memory(void)
{
    const size_t bytes = 8192 * MIB;
    if (mlockall(MCL_FUTURE) != 0)
        return false;
    void *part = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (part != MAP_FAILED)
        assert_int_equal(munmap(part, bytes), 0);
    else
        assert_int_equal(munlockall(), 0);
    return part != MAP_FAILED;
}

/* Address space that is only reserved gets no memory, or it would be outside every budget. */
static void budget_of_a_host_that_locks_its_memory_holds(void **state)
{
    (void)state;
    struct world w;
    if (!lock_memory()) {
        print_message("skipped: memory cannot be locked here\n");
        skip();
    }
    uint64_t before = process_resident_bytes();
    world_open_with(
        &w, &(struct cp_bufpool_options){.budget_bytes = MIB, .max_budget_bytes = 4096 * MIB},
        RINGS_DEFERRED);
    world_create_file(&w, 0, 4096, 4);
    world_attach_with(&w, 0, &(struct cp_bufpool_file_options){.max_pages = UINT64_C(1) << 24});
    check_version(&w, 0, 3, 0);
    uint64_t after = process_resident_bytes();
    assert_int_equal(munlockall(), 0);
    print_message("%llu KiB for a budget of 1024\n", (unsigned long long)(after - before) / 1024);
    assert_true(after - before < 8 * MIB);
    world_close(&w);
}

/* ---- at the same time ---------------------------------------------------------------------------
 */

struct resizing {
    struct world *w;
    uint64_t budget_bytes;
    _Atomic bool over;
    int status;
};

static void *resize_in_thread(void *argument)
{
    struct resizing *r = argument;
    r->status = cp_bufpool_resize(r->w->pool, r->budget_bytes);
    atomic_store(&r->over, true);
    return NULL;
}

/* A shrink that fails must not put its old budget back over the one another thread has set. */
static void budget_two_resizes_at_once_each_whole(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    pthread_t threads[2];
    static struct cp_fix fixes[700];
    struct resizing small = {.w = &w, .budget_bytes = MIB, .status = 1};
    struct resizing middle = {.w = &w, .budget_bytes = 15 * MIB / 4, .status = 1};
    world_simple(&w, 4 * MIB, PAGES);
    watchdog_start(&dog, &w, WATCHDOG_LIMIT);
    for (uint64_t page = 0; page < 700; page++) { /* every extent holds pins and dirty pages */
        if (page % 8 == 0)
            fixes[page / 8] = must_fix(&w, 0, page, CP_SHARED);
        else
            change_page(&w, 0, page, 1, 0);
    }
    fault_io_hold(w.faults);
    assert_int_equal(pthread_create(&threads[0], NULL, resize_in_thread, &small), 0);
    assert_true(fault_io_await_held(w.faults, 1, HOLD_TIMEOUT));
    assert_int_equal(pthread_create(&threads[1], NULL, resize_in_thread, &middle), 0);
    for (uint32_t i = 0; i < 20000 && stats_of(&w).budget_bytes != middle.budget_bytes; i++)
        sched_yield();
    fault_io_let_go(w.faults);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    cp_bufpool_unfix_many(fixes, 88);
    assert_int_equal(small.status, CP_EPINNED);
    assert_int_equal(middle.status, 0);
    assert_int_equal(stats_of(&w).budget_bytes, middle.budget_bytes);
    check_sum(&w);
    watchdog_stop(&dog);
    world_close(&w);
}

/* ---- growing while somebody empties extents -----------------------------------------------------
 */

#define RECLAIM_LIMIT 50u /* extents emptied for one group of the table: far too many */

static struct growth {
    struct world *w;
    struct resizing resize;
    pthread_t thread;
    uint32_t reclaims;
    bool in_hook;
} growth;

/* Leave of the budget less than a group of the page table needs. Returns what was taken. */
static uint64_t take_the_rest(struct world *w)
{
    struct cp_bufpool_stats stats = stats_of(w);
    uint64_t bytes = stats.budget_bytes - stats.used_bytes;
    assert_true(cp_budget__take(&w->pool->budget, CP_FOR_FIXED, bytes));
    return bytes;
}

static void touch_pages(struct world *w, uint64_t count)
{
    for (uint64_t page = 0; page < count; page++)
        check_version(w, 0, page, 0);
}

/* An extent is about to be emptied: the budget grows, and the pool with it, beyond the old limit.
 */
static void grow_meanwhile(const char *point, struct cp_bufpool_file *file, uint64_t page)
{
    (void)file;
    (void)page;
    if (strcmp(point, "reclaim") != 0 || growth.in_hook)
        return;
    growth.in_hook = true;
    if (growth.reclaims++ == 0) {
        growth.resize = (struct resizing){.w = growth.w, .budget_bytes = 3 * MIB, .status = 1};
        assert_int_equal(pthread_create(&growth.thread, NULL, resize_in_thread, &growth.resize), 0);
        while (stats_of(growth.w).budget_bytes != 3 * MIB) /* the watchdog bounds it */
            sched_yield();
    }
    if (growth.reclaims < RECLAIM_LIMIT)
        touch_pages(growth.w, 500);
    growth.in_hook = false;
}

/* Who empties extents to pay for the table goes by the budget of now, not that of its beginning. */
static void budget_grown_while_the_table_is_paid_for_is_used(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    struct cp_fix fix;
    world_simple(&w, MIB, PAGES);
    watchdog_start(&dog, &w, WATCHDOG_LIMIT);
    touch_pages(&w, 500);
    uint64_t taken = take_the_rest(&w);
    growth = (struct growth){.w = &w};
    cp_bufpool__hook = grow_meanwhile;
    assert_int_equal(cp_bufpool_fix_new(w.file[0], 10 * CP_GROUP_WORDS, &fix), 0);
    cp_bufpool__hook = NULL;
    cp_bufpool_unfix(&fix);
    pthread_join(growth.thread, NULL);
    assert_int_equal(growth.resize.status, 0);
    assert_in_range(growth.reclaims, 1, 2);
    cp_budget__give(&w.pool->budget, CP_FOR_FIXED, taken);
    check_sum(&w);
    watchdog_stop(&dog);
    world_close(&w);
}

static void resize_now(const char *point, struct cp_bufpool_file *file, uint64_t page)
{
    (void)file;
    (void)page;
    if (strcmp(point, "reclaim") != 0 || growth.reclaims++ > 0)
        return;
    growth.resize = (struct resizing){.w = growth.w, .budget_bytes = 3 * MIB, .status = 1};
    assert_int_equal(pthread_create(&growth.thread, NULL, resize_in_thread, &growth.resize), 0);
    pthread_join(growth.thread, NULL);
}

/* Growing waits for nobody who empties extents meanwhile. */
static void budget_grows_at_once_while_extents_are_emptied(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    struct cp_fix fix;
    world_simple(&w, MIB, PAGES);
    watchdog_start(&dog, &w, WATCHDOG_LIMIT / 4);
    touch_pages(&w, 500);
    uint64_t taken = take_the_rest(&w);
    growth = (struct growth){.w = &w};
    cp_bufpool__hook = resize_now;
    assert_int_equal(cp_bufpool_fix_new(w.file[0], 10 * CP_GROUP_WORDS, &fix), 0);
    cp_bufpool__hook = NULL;
    cp_bufpool_unfix(&fix);
    assert_int_equal(growth.reclaims, 1);
    assert_int_equal(growth.resize.status, 0);
    cp_budget__give(&w.pool->budget, CP_FOR_FIXED, taken);
    check_sum(&w);
    watchdog_stop(&dog);
    world_close(&w);
}

/* Bytes are about to be taken, by the limit of before: a resize to what is in use is over at once.
 */
static void shrink_now(const char *point, struct cp_bufpool_file *file, uint64_t page)
{
    (void)file;
    (void)page;
    if (strcmp(point, "take") != 0 || growth.reclaims++ > 0)
        return;
    assert_int_equal(cp_bufpool_resize(growth.w->pool, stats_of(growth.w).used_bytes), 0);
}

static void budget_lowered_while_bytes_are_taken_is_kept(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix fix;
    world_simple(&w, 4 * MIB, PAGES);
    touch_pages(&w, 300);
    growth = (struct growth){.w = &w};
    cp_bufpool__hook = shrink_now;
    assert_int_equal(cp_bufpool_fix_new(w.file[0], 10 * CP_GROUP_WORDS, &fix), 0);
    cp_bufpool__hook = NULL;
    cp_bufpool_unfix(&fix);
    assert_true(growth.reclaims > 0); /* the first time for a part of the table */
    assert_true(stats_of(&w).budget_bytes < 2 * MIB);
    check_sum(&w);
    world_close(&w);
}

/* ---- many misses at once ------------------------------------------------------------------------
 */

#define MISSES_MAX 32u

static struct misses {
    struct world *w;
    uint32_t count;
    _Atomic uint32_t arrived;
} misses;

/* Nobody goes on to look for memory before all are about to. */
static void meet(const char *point, struct cp_bufpool_file *file, uint64_t page)
{
    (void)file;
    (void)page;
    if (strcmp(point, "charge") != 0 || atomic_load(&misses.arrived) >= misses.count)
        return;
    atomic_fetch_add(&misses.arrived, 1);
    while (atomic_load(&misses.arrived) < misses.count) /* the watchdog bounds it */
        sched_yield();
}

struct miss_thread {
    pthread_t thread;
    uint64_t page;
    enum miss_way { BY_FIX, BY_FIX_MANY, BY_SCAN, MISS_WAYS } way;
    int status;
};

static void *miss_one(void *argument)
{
    struct miss_thread *self = argument;
    struct cp_bufpool_file *file = misses.w->file[0];
    struct cp_scan scan;
    struct cp_fix fix;
    if (self->way == BY_FIX)
        self->status = cp_bufpool_fix(file, self->page, CP_SHARED, &fix);
    if (self->way == BY_FIX_MANY)
        self->status = cp_bufpool_fix_many(file, &self->page, 1, CP_SHARED, &fix);
    if (self->way == BY_SCAN)
        self->status = cp_bufpool_scan_begin(file, self->page, 1, &scan);
    if (self->way == BY_SCAN && self->status == 0)
        self->status = cp_bufpool_scan_next(&scan, &fix) == 1 ? 0 : cp_error_info()->code;
    if (self->status == 0)
        cp_bufpool_unfix(&fix);
    return NULL;
}

/*
 * As many threads miss as there are frames, each in a part of the table that is not paid for:
 * nobody may sit on a frame while another one empties extents to pay.
 */
static void budget_misses_at_once_leave_room_for_the_table(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    struct miss_thread threads[MISSES_MAX];
    for (enum miss_way way = BY_FIX; way < MISS_WAYS; way++) {
        world_open(&w, MIB);
        world_add_file(&w, 0, 65536, 32);
        assert_int_equal(cp_io_file_resize(w.io_file[0], 65536 * CP_GROUP_WORDS * UINT64_C(64)), 0);
        watchdog_start(&dog, &w, WATCHDOG_LIMIT / 2);
        touch_pages(&w, 32);
        uint64_t taken = take_the_rest(&w);
        misses = (struct misses){.w = &w, .count = w.pool->extent_count};
        assert_in_range(misses.count, 2, MISSES_MAX);
        cp_bufpool__hook = meet;
        for (uint32_t i = 0; i < misses.count; i++) {
            threads[i] = (struct miss_thread){.page = (i + 1) * CP_GROUP_WORDS, .way = way};
            assert_int_equal(pthread_create(&threads[i].thread, NULL, miss_one, &threads[i]), 0);
        }
        for (uint32_t i = 0; i < misses.count; i++)
            pthread_join(threads[i].thread, NULL);
        cp_bufpool__hook = NULL;
        for (uint32_t i = 0; i < misses.count; i++)
            assert_int_equal(threads[i].status, 0);
        cp_budget__give(&w.pool->budget, CP_FOR_FIXED, taken);
        check_sum(&w);
        watchdog_stop(&dog);
        world_close(&w);
    }
}

static void *change_pages(void *argument)
{
    struct resizing *r = argument;
    for (uint32_t round = 1; round <= 4; round++) {
        for (uint64_t page = 0; page < 600; page++)
            change_page(r->w, 0, page, round, 0);
    }
    atomic_store(&r->over, true);
    return NULL;
}

static void budget_resized_while_pages_change_nothing_lost(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    pthread_t thread;
    struct resizing changes = {.w = &w};
    uint32_t resizes = 0;
    world_simple(&w, 2 * MIB, PAGES);
    watchdog_start(&dog, &w, WATCHDOG_LIMIT);
    assert_int_equal(pthread_create(&thread, NULL, change_pages, &changes), 0);
    while (!atomic_load(&changes.over) || resizes < 4) {
        uint64_t budget = resizes % 2 == 0 ? MIB : 3 * MIB;
        int status = cp_bufpool_resize(w.pool, budget);
        assert_true(status == 0 || status == CP_EPINNED || status == CP_ETIMEDOUT);
        assert_true(stats_of(&w).peak_bytes <= 3 * MIB);
        resizes++;
    }
    pthread_join(thread, NULL);
    for (uint64_t page = 0; page < 600; page++)
        check_version(&w, 0, page, 4);
    check_sum(&w);
    watchdog_stop(&dog);
    world_close(&w);
}

struct looking {
    struct world *w;
    _Atomic bool over;
};

static void *look_at_stats(void *arg)
{
    struct looking *looking = arg;
    while (!atomic_load(&looking->over)) {
        struct cp_bufpool_stats stats = stats_of(looking->w);
        if (stats.registered_bytes > 4 * MIB)
            return looking; /* more than there may be */
    }
    return NULL;
}

/* ThreadSanitizer sees what is read without a lock. */
static void budget_registered_frames_are_counted_beside_a_resize(void **state)
{
    (void)state;
    struct world w;
    struct looking looking = {.w = &w};
    pthread_t thread;
    void *wrong;
    world_open_with(&w,
                    &(struct cp_bufpool_options){.budget_bytes = 4 * MIB, .register_buffers = true},
                    RINGS_REAL);
    world_add_file(&w, 0, 4096, PAGES);
    assert_int_equal(pthread_create(&thread, NULL, look_at_stats, &looking), 0);
    for (uint32_t round = 0; round < 40; round++) {
        for (uint64_t page = 0; page < PAGES; page += 8)
            check_version(&w, 0, page, 0);
        assert_int_equal(cp_bufpool_resize(w.pool, round % 2 == 0 ? 2 * MIB : 4 * MIB), 0);
    }
    atomic_store(&looking.over, true);
    assert_int_equal(pthread_join(thread, &wrong), 0);
    assert_null(wrong);
    world_close(&w);
}

/* Registered memory is what is committed, and is let go of before it is given back. */
static void budget_registered_frames_follow_the_extents(void **state)
{
    (void)state;
    struct world w;
    world_open_with(&w,
                    &(struct cp_bufpool_options){.budget_bytes = 4 * MIB, .register_buffers = true},
                    RINGS_REAL);
    world_add_file(&w, 0, 4096, PAGES);
    for (uint64_t page = 0; page < PAGES; page++)
        check_version(&w, 0, page, 0);
    struct cp_bufpool_stats stats = stats_of(&w);
    if (stats.registered_bytes == 0) {
        /* Refused is one thing, not asked for another. */
        assert_string_not_equal(stats.buffers_reason, "no part of them is registered");
        print_message("nothing is registered here: %s\n", stats.buffers_reason);
        world_close(&w);
        skip();
    }
    assert_int_equal(stats.registered_bytes, stats.frame_bytes);
    for (uint32_t round = 0; round < 4; round++) {
        assert_int_equal(cp_bufpool_resize(w.pool, round % 2 == 0 ? 2 * MIB : 4 * MIB), 0);
        stats = stats_of(&w);
        assert_int_equal(stats.registered_bytes, stats.frame_bytes);
        assert_true(resident_frame_bytes(&w) <= stats.frame_bytes);
        for (uint64_t first = 0; first + 8 <= PAGES; first += 8) {
            const uint64_t pages[8] = {first,     first + 7, first + 1, first + 2,
                                       first + 3, first + 5, first + 4, first + 6};
            struct cp_fix fixes[8];
            assert_int_equal(cp_bufpool_fix_many(w.file[0], pages, 8, CP_SHARED, fixes), 0);
            for (uint32_t i = 0; i < 8; i++)
                assert_int_equal(page_version(fixes[i].data, 4096, pages[i]), 0);
            cp_bufpool_unfix_many(fixes, 8);
        }
    }
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budget_take_refuses_the_first_byte_too_many),
        cmocka_unit_test(budget_outside_the_limits_refused_with_a_hint),
        cmocka_unit_test(budget_never_exceeded_in_any_step),
        cmocka_unit_test(budget_growing_makes_room_at_once),
        cmocka_unit_test(budget_shrunk_memory_goes_back_to_the_kernel),
        cmocka_unit_test(budget_shrink_against_pins_refused_old_one_stands),
        cmocka_unit_test(budget_below_the_pools_own_needs_refused_as_such),
        cmocka_unit_test(budget_shrink_gives_back_an_empty_table),
        cmocka_unit_test(budget_shrink_gives_back_what_the_policy_kept),
        cmocka_unit_test(budget_shrink_keeps_from_misses_what_it_empties),
        cmocka_unit_test(budget_shrink_that_fails_gives_back_what_it_emptied),
        cmocka_unit_test(budget_shrink_that_the_kernel_refuses_is_an_error),
        cmocka_unit_test(budget_descriptors_that_the_kernel_refuses_are_done_without),
        cmocka_unit_test(budget_of_a_host_that_locks_its_memory_holds),
        cmocka_unit_test(budget_two_resizes_at_once_each_whole),
        cmocka_unit_test(budget_grown_while_the_table_is_paid_for_is_used),
        cmocka_unit_test(budget_grows_at_once_while_extents_are_emptied),
        cmocka_unit_test(budget_lowered_while_bytes_are_taken_is_kept),
        cmocka_unit_test(budget_misses_at_once_leave_room_for_the_table),
        cmocka_unit_test(budget_resized_while_pages_change_nothing_lost),
        cmocka_unit_test(budget_registered_frames_follow_the_extents),
        cmocka_unit_test(budget_registered_frames_are_counted_beside_a_resize),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
