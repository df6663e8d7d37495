/* SPDX-License-Identifier: MIT */
/*
 * bench_alloc: buddy and slab beside malloc, jemalloc and mimalloc, on the pool's own patterns.
 *
 * Each run is a process of its own (this program again), so that resident memory is that of one
 * allocator, and runs of all allocators alternate over the repeats. An operation frees one object
 * of the working set, chosen at random, allocates another in its place and writes one word into
 * each 4 KiB of it (as a page read would). "none" does the same without an allocator: the floor of
 * the figures. Frames are aligned to 4096 bytes as O_DIRECT wants them, descriptors to 64.
 *
 * jemalloc and mimalloc take malloc's place by LD_PRELOAD, where their libraries are installed, as
 * they do in practice; jemalloc cannot be loaded later (its thread-local storage does not fit).
 */
#include <clockpool/arena.h>
#include <clockpool/base/thread.h>
#include <clockpool/buddy.h>
#include <clockpool/slab.h>

#include <dlfcn.h>
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKING_SET_BYTES (UINT64_C(64) << 20)
#define POOL_BYTES        (UINT64_C(128) << 20) /* room for the fragmentation of mixed sizes */
#define DESCRIPTORS       65536u
#define REPEATS_MAX       99u
#define THREADS_MAX       2u
#define CACHE_BLOCKS      64u

/* The allocators. Sizes are given as orders: 4096 << order bytes; ORDER_DESCRIPTOR: 64 bytes. */
#define ORDER_DESCRIPTOR UINT32_MAX

struct allocator {
    const char *name;
    const char *preload; /* library that replaces malloc in the run's process, or NULL */
    const char *symbol;  /* by which one sees that it did */
    bool (*open)(void);  /* before the run, or NULL */
    void *(*alloc)(uint32_t order);
    void (*release)(void *object, uint32_t order);
};

static struct cp_buddy *buddy;
static struct cp_slab *slab;

static bool open_clockpool(uint32_t cache_blocks)
{
    struct cp_arena *arena;
    struct cp_arena_options arena_options = {.reserve_bytes = POOL_BYTES};
    struct cp_slab_options slab_options = {.object_bytes = 64, .max_objects = 2 * DESCRIPTORS};

    if (cp_arena_create(&arena_options, &arena) != 0 ||
        cp_arena_commit(arena, 0, POOL_BYTES / CP_ARENA_HUGE_BYTES) != 0)
        return false;
    struct cp_buddy_options options = {
        .base = cp_arena_base(arena), .size_bytes = POOL_BYTES, .cache_blocks = cache_blocks};
    return cp_buddy_create(&options, &buddy) == 0 && cp_buddy_add(buddy, 0, POOL_BYTES) == 0 &&
           cp_slab_create(&slab_options, &slab) == 0;
}

static bool open_cached(void)
{
    return open_clockpool(CACHE_BLOCKS);
}

static bool open_uncached(void)
{
    return open_clockpool(0);
}

static void *clockpool_alloc(uint32_t order)
{
    return order == ORDER_DESCRIPTOR ? cp_slab_alloc(slab) : cp_buddy_alloc(buddy, order);
}

static void clockpool_release(void *object, uint32_t order)
{
    if (order == ORDER_DESCRIPTOR)
        cp_slab_free(slab, object);
    else
        cp_buddy_free(buddy, object, order);
}

static void *malloc_alloc(uint32_t order)
{
    if (order == ORDER_DESCRIPTOR)
        return aligned_alloc(64, 64);
    return aligned_alloc(CP_BUDDY_UNIT_BYTES, CP_BUDDY_UNIT_BYTES << order);
}

static void malloc_release(void *object, uint32_t order)
{
    (void)order;
    free(object);
}

static const struct allocator allocators[] = {
    {"none (floor)", NULL, NULL, NULL, NULL, NULL},
    {"clockpool", NULL, NULL, open_cached, clockpool_alloc, clockpool_release},
    {"clockpool, no cache", NULL, NULL, open_uncached, clockpool_alloc, clockpool_release},
    {"glibc malloc", NULL, NULL, NULL, malloc_alloc, malloc_release},
    {"jemalloc", "libjemalloc.so.2", "mallctl", NULL, malloc_alloc, malloc_release},
    {"mimalloc", "libmimalloc.so.2", "mi_malloc", NULL, malloc_alloc, malloc_release},
};
#define ALLOCATORS (sizeof allocators / sizeof allocators[0])

static const struct pattern {
    const char *name;
    uint32_t slots;  /* of the whole working set, shared out to the threads */
    uint32_t orders; /* orders 0 .. orders-1 with equal probability; 0: descriptors */
} patterns[] = {
    {"(a) 4 KiB frames, 64 MiB in use", (uint32_t)(WORKING_SET_BYTES / 4096), 1},
    {"(b) 4-64 KiB frames, about 64 MiB in use", (uint32_t)(WORKING_SET_BYTES / 25395), 5},
    {"(c) 64-byte descriptors, 65,536 in use", DESCRIPTORS, 0},
};
#define PATTERNS (sizeof patterns / sizeof patterns[0])

/* One run. */

struct slot {
    char *object;
    uint32_t order;
};

struct worker {
    const struct allocator *allocator;
    const struct pattern *pattern;
    struct slot *slots;
    uint32_t slot_count;
    uint64_t random;
    uint64_t run_ns;
    uint64_t operations, elapsed_ns; /* results */
    pthread_barrier_t *barrier;
};

static uint64_t next_random(uint64_t *state) /* xorshift64* (Vigna 2016) */
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static void fill_slot(struct worker *worker, struct slot *slot)
{
    uint32_t orders = worker->pattern->orders;
    uint64_t random = next_random(&worker->random);

    slot->order = orders == 0 ? ORDER_DESCRIPTOR : (uint32_t)((random >> 32) * orders >> 32);
    slot->object = worker->allocator->alloc != NULL ? worker->allocator->alloc(slot->order)
                                                    : malloc_alloc(slot->order);
    if (slot->object == NULL) {
        fprintf(stderr, "bench_alloc: %s: out of memory\n", worker->allocator->name);
        _exit(1);
    }
}

static void touch_slot(const struct slot *slot)
{
    uint32_t units = slot->order == ORDER_DESCRIPTOR ? 1 : 1u << slot->order;
    for (uint32_t i = 0; i < units; i++)
        *(volatile uint64_t *)(slot->object + i * CP_BUDDY_UNIT_BYTES) = i;
}

static void *run_worker(void *context)
{
    struct worker *worker = context;
    const struct allocator *allocator = worker->allocator;

    for (uint32_t i = 0; i < worker->slot_count; i++) {
        fill_slot(worker, &worker->slots[i]);
        touch_slot(&worker->slots[i]);
    }
    /* Once through the whole set before the clock starts, so that lifetimes are mixed. */
    uint64_t warm_up = 2 * (uint64_t)worker->slot_count;
    uint64_t start = 0, done = 0, now = 0;
    for (;;) {
        if (done == warm_up) {
            pthread_barrier_wait(worker->barrier);
            start = cp_now_ns();
        }
        uint64_t random = next_random(&worker->random) >> 32;
        struct slot *slot = &worker->slots[random * worker->slot_count >> 32];
        if (allocator->alloc != NULL) {
            allocator->release(slot->object, slot->order);
            fill_slot(worker, slot);
        } else {
            (void)next_random(&worker->random); /* the floor draws as many numbers */
        }
        touch_slot(slot);
        done++;
        if (done % 1024 == 0 && done > warm_up) {
            now = cp_now_ns();
            if (now - start >= worker->run_ns)
                break;
        }
    }
    worker->operations = done - warm_up;
    worker->elapsed_ns = now - start;
    return NULL;
}

static uint64_t resident_bytes(void)
{
    unsigned long size = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm == NULL || fscanf(statm, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    if (statm != NULL)
        (void)fclose(statm);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

struct result {
    uint32_t available;
    double ns_per_operation; /* of one thread */
    uint64_t resident_bytes; /* added by the run */
};

static struct result run_here(const struct allocator *allocator, const struct pattern *pattern,
                              uint32_t thread_count, double seconds)
{
    static struct slot slots[DESCRIPTORS];
    struct result result = {0};
    struct worker workers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    pthread_barrier_t barrier;

    memset(slots, 0xff, sizeof slots); /* resident before, so that it is not counted */
    uint64_t before = resident_bytes();
    if (allocator->symbol != NULL && dlsym(RTLD_DEFAULT, allocator->symbol) == NULL)
        return result; /* not installed: the loader has warned and gone on */
    if (allocator->open != NULL && !allocator->open())
        return result;
    pthread_barrier_init(&barrier, NULL, thread_count);
    uint32_t share = pattern->slots / thread_count;
    for (uint32_t i = 0; i < thread_count; i++) {
        workers[i] = (struct worker){.allocator = allocator,
                                     .pattern = pattern,
                                     .slots = slots + i * share,
                                     .slot_count = share,
                                     .random = 88172645463325252u + i,
                                     .run_ns = (uint64_t)(seconds * 1e9),
                                     .barrier = &barrier};
        if (pthread_create(&threads[i], NULL, run_worker, &workers[i]) != 0)
            _exit(1);
    }
    for (uint32_t i = 0; i < thread_count; i++) {
        pthread_join(threads[i], NULL);
        result.ns_per_operation +=
            (double)workers[i].elapsed_ns / (double)workers[i].operations / thread_count;
    }
    result.resident_bytes = resident_bytes() - before;
    result.available = 1;
    return result;
}

/* Run this program again as "bench_alloc --child allocator pattern threads seconds". */
static struct result run_in_child(size_t allocator, size_t pattern, uint32_t thread_count,
                                  double seconds)
{
    struct result result = {0};
    char numbers[4][32];
    int ends[2];

    (void)snprintf(numbers[0], sizeof numbers[0], "%zu", allocator);
    (void)snprintf(numbers[1], sizeof numbers[1], "%zu", pattern);
    (void)snprintf(numbers[2], sizeof numbers[2], "%u", thread_count);
    (void)snprintf(numbers[3], sizeof numbers[3], "%f", seconds);
    char program[] = "bench_alloc", child_option[] = "--child";
    char *arguments[] = {program,    child_option, numbers[0], numbers[1],
                         numbers[2], numbers[3],   NULL};
    if (pipe(ends) != 0)
        return result;
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (allocators[allocator].preload != NULL)
            (void)setenv("LD_PRELOAD", allocators[allocator].preload, 1);
        dup2(ends[1], STDOUT_FILENO);
        execv("/proc/self/exe", arguments);
        _exit(1);
    }
    close(ends[1]);
    if (read(ends[0], &result, sizeof result) != (ssize_t)sizeof result)
        result.available = 0;
    close(ends[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
    return result;
}

static int child_main(char **numbers)
{
    size_t allocator = strtoul(numbers[0], NULL, 10), pattern = strtoul(numbers[1], NULL, 10);
    uint32_t thread_count = (uint32_t)strtoul(numbers[2], NULL, 10);
    if (allocator >= ALLOCATORS || pattern >= PATTERNS || thread_count - 1 >= THREADS_MAX)
        return 2;
    struct result result = run_here(&allocators[allocator], &patterns[pattern], thread_count,
                                    strtod(numbers[3], NULL));
    return write(STDOUT_FILENO, &result, sizeof result) == (ssize_t)sizeof result ? 0 : 1;
}

/* The table. */

static int compare_results(const void *a, const void *b)
{
    double x = ((const struct result *)a)->ns_per_operation;
    double y = ((const struct result *)b)->ns_per_operation;
    return (x > y) - (x < y);
}

static void bench_pattern(size_t pattern, uint32_t thread_count, uint32_t repeats, double seconds)
{
    static struct result results[ALLOCATORS][REPEATS_MAX];

    for (uint32_t repeat = 0; repeat < repeats; repeat++) {
        for (size_t i = 0; i < ALLOCATORS; i++)
            results[i][repeat] = run_in_child(i, pattern, thread_count, seconds);
    }
    printf("\n%s, %u thread%s\n%-22s %10s %10s %10s %10s\n", patterns[pattern].name, thread_count,
           thread_count > 1 ? "s" : "", "allocator", "median ns", "min ns", "max ns", "RSS MiB");
    for (size_t i = 0; i < ALLOCATORS; i++) {
        if (results[i][0].available == 0) {
            printf("%-22s %10s\n", allocators[i].name, "absent");
            continue;
        }
        qsort(results[i], repeats, sizeof results[i][0], compare_results);
        const struct result *median = &results[i][repeats / 2];
        printf("%-22s %10.1f %10.1f %10.1f %10.1f\n", allocators[i].name, median->ns_per_operation,
               results[i][0].ns_per_operation, results[i][repeats - 1].ns_per_operation,
               (double)median->resident_bytes / (1 << 20));
    }
}

static const char usage[] =
    "Usage: bench_alloc [--seconds S] [--repeat N]\n"
    "Compare buddy and slab with malloc, jemalloc and mimalloc (where installed).\n"
    "  -s, --seconds S  length of one run (default 0.2)\n"
    "  -r, --repeat N   runs of each, interleaved; the median is shown (default 5, at most 99)\n"
    "  -h, --help       this text\n";

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seconds", required_argument, NULL, 's'},
                                            {"repeat", required_argument, NULL, 'r'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    double seconds = 0.2;
    uint32_t repeats = 5;

    if (argc == 6 && strcmp(argv[1], "--child") == 0)
        return child_main(argv + 2);

    for (int option; (option = getopt_long(argc, argv, "s:r:h", options, NULL)) != -1;) {
        if (option == 's') {
            seconds = strtod(optarg, NULL);
        } else if (option == 'r') {
            repeats = (uint32_t)strtoul(optarg, NULL, 10);
        } else {
            (void)fputs(usage, option == 'h' ? stdout : stderr);
            return option == 'h' ? 0 : 2;
        }
    }
    if (!(seconds > 0.0 && seconds < 3600.0) || repeats == 0 || repeats > REPEATS_MAX) {
        (void)fputs(usage, stderr);
        return 2;
    }
    printf(
        "One operation: free + allocate + write a word per 4 KiB. %u interleaved runs of %.2f s, "
        "each in its own process; ns per operation and thread.\n",
        repeats, seconds);
    for (size_t i = 0; i < PATTERNS; i++) {
        for (uint32_t threads = 1; threads <= THREADS_MAX; threads++)
            bench_pattern(i, threads, repeats, seconds);
    }
    return 0;
}
