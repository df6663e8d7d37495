/* SPDX-License-Identifier: MIT */
/*
 * The fault sweep's twin for memory: the n-th allocation of the library fails (malloc and its kin,
 * mmap), once, and from then on for ever, for n = 1 and on until the workload makes no n
 * allocations. Each call then ends in a code or succeeds, nothing that was acknowledged is lost,
 * nothing is left locked, and the next opening works. The linker's --wrap puts these functions
 * before the real ones.
 */
#include "snapshot.h"
#include "workload.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include <clockpool/base/poison.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t size);
void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);
int __wrap_asprintf(char **out_text, const char *format, ...);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);

static _Atomic uint64_t calls, fired;
static uint64_t fail_from, fail_to; /* [from, to) of the calls fail; 0: none */

static bool fails(void)
{
    if (fail_from == 0)
        return false;
    uint64_t call = atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) + 1;
    if (call < fail_from || call >= fail_to)
        return false;
    atomic_fetch_add_explicit(&fired, 1, memory_order_relaxed);
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t size)
{
    return fails() ? NULL : __real_strndup(text, size);
}

int __wrap_asprintf(char **out_text, const char *format, ...)
{
    va_list arguments;
    if (fails())
        return -1;
    va_start(arguments, format);
    int length = vasprintf(out_text, format, arguments);
    va_end(arguments);
    return length;
}

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    return fails() ? MAP_FAILED : __real_mmap(address, size, protection, flags, fd, offset);
}

/* ---- runs ---------------------------------------------------------------------------------------
 */

static struct snapshot base;
static struct history base_history, history;
static unsigned stride = 1;

static bool open_work(struct workload *work)
{
    struct cp_pager_options options = workload_options(NULL);
    return cp_pager_open(store_path(), &options, &work->pager) == 0;
}

static void run(struct workload *work)
{
    if (!open_work(work))
        return;
    workload_first(work);
    cp_pager_abandon(work->pager);
    if (!open_work(work))
        return;
    if (!workload_settle(work)) {
        cp_pager_abandon(work->pager);
        return;
    }
    workload_second(work);
    if (cp_pager_close(work->pager) == 0)
        work->history->acked = work->history->count;
}

static void judge(const struct workload *work, uint64_t nth)
{
    static struct seen seen;
    struct cp_pager_options options = workload_options(NULL);
    struct cp_pager *pager;

    if (work->wrong)
        fail_msg("allocation %llu: a page was read that is not what it should be",
                 (unsigned long long)nth);
    assert_ok(cp_pager_open(store_path(), &options, &pager));
    history_look(work->history, pager, &seen);
    if (history_match(work->history, &seen, false) < 0) {
        history_explain(work->history, &seen);
        fail_msg("allocation %llu, first error %s from %s", (unsigned long long)nth,
                 cp_status_name(work->first_error),
                 work->first_call != NULL ? work->first_call : "nothing");
    }
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

static bool run_fault(uint64_t nth, bool for_ever)
{
    struct workload work = {.history = &history, .random = 4321};
    snapshot_restore(&base, store_path());
    history = base_history;
    calls = fired = 0;
    fail_to = for_ever ? UINT64_MAX : nth + 1;
    fail_from = nth;
    run(&work);
    fail_from = 0;
    judge(&work, nth);
    return fired != 0;
}

static void sweep(bool for_ever, unsigned step)
{
    struct timespec begin, end;
    unsigned runs = 0;
    uint64_t nth = 1;
    new_store();
    workload_create(store_path(), &base_history);
    snapshot_free(&base);
    snapshot_load(&base, store_path());
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (; run_fault(nth, for_ever); nth += step)
        runs++;
    clock_gettime(CLOCK_MONOTONIC, &end);
    print_message("%u runs, %llu allocations, %.1f s\n", runs, (unsigned long long)nth,
                  (double)(end.tv_sec - begin.tv_sec) +
                      (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
    assert_true(runs > 20);
    snapshot_free(&base);
}

static void sweep_memory_each_allocation_fails_once(void **state)
{
    (void)state;
    sweep(false, stride);
}

static void sweep_memory_each_allocation_and_all_after_it_fail(void **state)
{
    (void)state;
    sweep(true, stride);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sweep_memory_each_allocation_fails_once),
        cmocka_unit_test(sweep_memory_each_allocation_and_all_after_it_fail),
    };
#if CP_POISONS
    stride = 3;
    print_message("sampled: every third allocation only, in this build\n");
#endif
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
