/* SPDX-License-Identifier: MIT */
/* Seeds, random numbers, children that must die, and looks into /proc, for the alloc tests. */
#ifndef CLOCKPOOL_TESTS_ALLOC_HELPERS_H
#define CLOCKPOOL_TESTS_ALLOC_HELPERS_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <clockpool/base/poison.h>

#if defined(__SANITIZE_THREAD__)
#define TEST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_TSAN 1
#endif
#endif
#ifndef TEST_TSAN
#define TEST_TSAN 0
#endif

/* Memory use and speed of a plain build can be told from outside; under a tool they cannot. */
#define TEST_PLAIN_BUILD (!CP_POISONS && !TEST_TSAN)

/* The seed of a randomised test: new each run, or CP_TEST_SEED. Printed, to be replayed. */
static inline uint64_t test_seed(const char *test)
{
    struct timespec now;
    const char *given = getenv("CP_TEST_SEED");

    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0)
                                  : (uint64_t)now.tv_sec * 1000003u + (uint64_t)now.tv_nsec;
    print_message("%s: CP_TEST_SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

/* splitmix64 (Steele, Lea, Flood, 2014). */
static inline uint64_t test_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Run body(context) in a child, with standard error closed, and return its wait status. */
static inline int test_in_child(void (*body)(void *), void *context)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        if (null >= 0)
            dup2(null, STDERR_FILENO);
        /* cmocka's handlers would jump back into the parent's test. */
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        body(context);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

/* The child must end in a failed assertion. */
static inline void test_expect_abort(void (*body)(void *), void *context)
{
    int status = test_in_child(body, context);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

/* The child must die of a memory access (a tool may turn the signal into an exit code). */
static inline void test_expect_fault(void (*body)(void *), void *context)
{
    int status = test_in_child(body, context);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/*
 * Zeroed memory at a multiple of alignment_bytes, for the whole process. Not a static array: not
 * every kernel loads an executable at a multiple of the alignment that its sections ask for.
 */
static inline char *test_map_aligned(uint64_t size_bytes, uint64_t alignment_bytes)
{
    char *memory = mmap(NULL, size_bytes + alignment_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    return memory + (alignment_bytes - (uint64_t)(uintptr_t)memory % alignment_bytes);
}

/* Resident memory of this process. */
static inline uint64_t test_resident_bytes(void)
{
    unsigned long size = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    assert_non_null(statm);
    assert_int_equal(fscanf(statm, "%lu %lu", &size, &resident), 2);
    fclose(statm);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Mappings of this process that overlap a range. */
static inline unsigned test_mappings_in(const void *start, uint64_t size_bytes)
{
    unsigned count = 0;
    unsigned long from, to;
    char line[512];
    uint64_t first = (uint64_t)(uintptr_t)start;
    FILE *maps = fopen("/proc/self/maps", "re");

    assert_non_null(maps);
    while (fgets(line, sizeof line, maps) != NULL) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && from < first + size_bytes && to > first)
            count++;
    }
    fclose(maps);
    return count;
}

/* Whether AddressSanitizer reports an access to this byte; only asked where CP_ASAN is set. */
static inline bool test_is_poisoned(const void *address)
{
#ifdef CP_ASAN
    return __asan_address_is_poisoned((void *)(uintptr_t)address) != 0;
#else
    (void)address;
    return false;
#endif
}

#ifdef CP_ASAN
#define TEST_HAS_ASAN 1
#else
#define TEST_HAS_ASAN 0
#endif

#endif
