/* SPDX-License-Identifier: MIT */
/* A pool's life: creation and destruction, attaching and detaching files, changing the budget. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RING_DEPTH_DEFAULT   256u
#define RING_DEPTH_MIN       4u
#define RING_BYTES_PER_ENTRY (64u + 2 * 16u) /* one submission and two completion entries */
#define CPUS_PER_RING        4u
#define WRITE_BATCH_DEFAULT  64u
#define MAX_BUDGET_FACTOR    4u
/* valgrind walks all address space that is writable at each exit, a forked child's too. */
#ifdef CP_VALGRIND
#define PAGES_MAX_DEFAULT (UINT64_C(1) << 22)
#else
#define PAGES_MAX_DEFAULT (UINT64_C(1) << 32)
#endif
#define PAGES_MAX_LIMIT        (UINT64_C(1) << 40)
#define TRANSFERS_MIN          16u
#define TRANSFERS_MAX          1024u
#define TRANSFER_SLAB_METADATA 4096u /* of the slab itself: bits for at most TRANSFERS_MAX */
#define BUDGET_PER_TRANSFER    (UINT64_C(128) << 10)
#define DROP_RUN_PAGES         64u /* taken at a time for dropping, see cp_bias__settle */
/* A pool small enough that its I/O memory matters gets rings in proportion. */
#define BUDGET_PER_RING_ENTRY (UINT64_C(32) << 10)

#ifdef CP_TEST_HOOKS
void (*cp_bufpool__hook)(const char *point, struct cp_bufpool_file *file, uint64_t page);
#endif

int cp_bufpool__check_process(const struct cp_bufpool *pool)
{
    if (__builtin_expect(cp_fork_guard_same(&pool->fork_guard), 1))
        return 0;
    return cp_error_set(CP_EFORKED, NULL, CP_NO_PAGE, CP_NO_LSN,
                        "open the store again in the child process",
                        "using a pool that was created before fork");
}

static int check_options(const struct cp_bufpool_options *options)
{
    if (options->io == NULL)
        return cp_error_set(-EINVAL, NULL, CP_NO_PAGE, CP_NO_LSN, "set options.io",
                            "creating a pool without an io");
    if (options->budget_bytes < CP_BUFPOOL_BUDGET_MIN)
        return cp_error_set(CP_EBUDGET, NULL, CP_NO_PAGE, CP_NO_LSN,
                            "the smallest budget is 524288 bytes (512 KiB)",
                            "creating a pool of %llu bytes",
                            (unsigned long long)options->budget_bytes);
    if (options->budget_bytes > CP_BUFPOOL_BUDGET_MAX ||
        options->max_budget_bytes > CP_BUFPOOL_BUDGET_MAX ||
        (options->max_budget_bytes != 0 && options->max_budget_bytes < options->budget_bytes))
        return cp_error_set(CP_EBUDGET, NULL, CP_NO_PAGE, CP_NO_LSN,
                            "budget_bytes <= max_budget_bytes <= 1 TiB",
                            "creating a pool of %llu bytes, at most %llu",
                            (unsigned long long)options->budget_bytes,
                            (unsigned long long)options->max_budget_bytes);
    if (options->write_batch_pages > CP_WRITE_BATCH_MAX || options->ring_count > CP_RINGS_MAX)
        return cp_error_set(-EINVAL, NULL, CP_NO_PAGE, CP_NO_LSN,
                            "write_batch_pages is at most 128, ring_count at most 16",
                            "creating a pool");
    return 0;
}

/* Fill in what the caller left to us. */
static void set_defaults(struct cp_bufpool *pool)
{
    struct cp_bufpool_options *options = &pool->options;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (options->max_budget_bytes == 0)
        options->max_budget_bytes =
            cp_min_u64(options->budget_bytes * MAX_BUDGET_FACTOR, CP_BUFPOOL_BUDGET_MAX);
    if (options->ring_count == 0)
        options->ring_count = (uint32_t)cp_min_u64(
            CP_RINGS_MAX, 1 + (uint64_t)(cpus > 0 ? cpus - 1 : 0) / CPUS_PER_RING);
    uint64_t affordable = cp_max_u64(RING_DEPTH_MIN, options->budget_bytes / BUDGET_PER_RING_ENTRY);
    if (options->ring_depth == 0)
        options->ring_depth = RING_DEPTH_DEFAULT;
    options->ring_depth = (uint32_t)cp_min_u64(options->ring_depth, affordable);
    if (options->write_batch_pages == 0)
        options->write_batch_pages = WRITE_BATCH_DEFAULT;
    /* A batch must not claim most of a small pool. */
    options->write_batch_pages = (uint32_t)cp_min_u64(
        options->write_batch_pages, cp_max_u64(4, options->budget_bytes / (UINT64_C(128) << 10)));
    pool->ring_count = options->ring_count;
    pool->write_batch_pages = options->write_batch_pages;
    pool->transfer_limit = (uint32_t)cp_min_u64(
        TRANSFERS_MAX, cp_max_u64(TRANSFERS_MIN, options->budget_bytes / BUDGET_PER_TRANSFER));
}

static int create_io(struct cp_bufpool *pool)
{
    const struct cp_slab_options slab = {
        .object_bytes = sizeof(struct cp_transfer),
        .max_objects = pool->transfer_limit,
    };
    struct cp_io_ring_options ring = {.depth = pool->options.ring_depth};

    int status = cp_register__create(pool, &ring);
    if (status == 0)
        status = cp_slab_create(&slab, &pool->transfer_slab);
    for (uint32_t i = 0; i < pool->ring_count && status == 0; i++)
        status = cp_io_ring_create(pool->io, &ring, &pool->rings[i]);
    if (status == 0)
        status = cp_io_ring_create(pool->io, &ring, &pool->write_ring);
    if (status != 0)
        return status;
    return 0;
}

/* Rings, transfers and the pool's own memory, before any extent is paid for. */
static int pay_for_io(struct cp_bufpool *pool)
{
    uint64_t ring_bytes = (uint64_t)pool->options.ring_depth * RING_BYTES_PER_ENTRY;
    uint64_t bytes = (pool->ring_count + 1) * ring_bytes +
                     pool->transfer_limit * sizeof(struct cp_transfer) + TRANSFER_SLAB_METADATA;
    uint64_t fixed =
        sizeof *pool + pool->extent_limit + (uint64_t)pool->pin_limit * sizeof(struct cp_pin_entry);
    if (!cp_budget__take(&pool->budget, CP_FOR_IO, bytes) ||
        !cp_budget__take(&pool->budget, CP_FOR_FIXED, fixed))
        return cp_error_set(CP_EBUDGET, NULL, CP_NO_PAGE, CP_NO_LSN,
                            "raise the budget, or lower ring_depth",
                            "paying for the pool's own memory");
    return 0;
}

int cp_bufpool_create(const struct cp_bufpool_options *options, struct cp_bufpool **out_pool)
{
    int status = check_options(options);
    if (status != 0)
        return status;
    struct cp_bufpool *pool =
        aligned_alloc(CP_PIN_BLOCK_BYTES, cp_align_up(sizeof *pool, CP_PIN_BLOCK_BYTES));
    if (pool == NULL)
        return cp_error_set(-ENOMEM, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "allocating a pool");
    memset(pool, 0, sizeof *pool); /* in place: a compound literal may pass over the stack */
    pool->options = *options;
    pool->io = options->io;
    set_defaults(pool);
    /* Tracking needs a lock for each fix anyway, and entries that say who holds what. */
    pool->biased = !options->counted_pins && !options->track_pins && cp_pin_available();
    atomic_store_explicit(&pool->budget.limit_bytes, options->budget_bytes, memory_order_relaxed);
    pthread_mutex_init(&pool->memory_lock, NULL);
    pthread_mutex_init(&pool->budget_lock, NULL);
    pthread_mutex_init(&pool->resize_lock, NULL);
    pthread_mutex_init(&pool->clock_lock, NULL);
    pthread_mutex_init(&pool->files_lock, NULL);
    pthread_mutex_init(&pool->pins_lock, NULL);
    pthread_mutex_init(&pool->transfers_lock, NULL);

    status = cp_fork_guard_init(&pool->fork_guard);
    if (status == 0)
        status = cp_memory__create(pool);
    if (status == 0)
        status = cp_pins__create(pool);
    if (status == 0)
        status = pay_for_io(pool);
    if (status == 0)
        status = create_io(pool);
    if (status != 0) {
        cp_bufpool_destroy(pool);
        return status;
    }
    *out_pool = pool;
    return 0;
}

void cp_bufpool_destroy(struct cp_bufpool *pool)
{
    if (pool == NULL)
        return;
    for (uint32_t i = 0; i < CP_BUFPOOL_FILES_MAX; i++)
        cp_assert(pool->files[i] == NULL); /* detach them first */
    for (uint32_t i = 0; i < pool->ring_count; i++)
        cp_io_ring_destroy(pool->rings[i]);
    cp_io_ring_destroy(pool->write_ring);
    cp_slab_destroy(pool->transfer_slab);
    cp_register__destroy(pool);
    cp_pins__destroy(pool);
    cp_memory__destroy(pool);
    if (pool->fork_guard.word != NULL)
        cp_fork_guard_fini(&pool->fork_guard);
    pthread_mutex_destroy(&pool->memory_lock);
    pthread_mutex_destroy(&pool->budget_lock);
    pthread_mutex_destroy(&pool->resize_lock);
    pthread_mutex_destroy(&pool->clock_lock);
    pthread_mutex_destroy(&pool->files_lock);
    pthread_mutex_destroy(&pool->pins_lock);
    pthread_mutex_destroy(&pool->transfers_lock);
    free(pool);
}

/* The least that the pool's own memory and one extent for pages take. */
static uint64_t least_budget(const struct cp_bufpool *pool)
{
    uint64_t own =
        atomic_load_explicit(&pool->budget.by_purpose[CP_FOR_IO], memory_order_relaxed) +
        atomic_load_explicit(&pool->budget.by_purpose[CP_FOR_FIXED], memory_order_relaxed);
    return cp_max_u64(CP_BUFPOOL_BUDGET_MIN, own + pool->extent_cost_bytes);
}

int cp_bufpool_resize(struct cp_bufpool *pool, uint64_t budget_bytes)
{
    int status = cp_bufpool__check_process(pool);
    if (status != 0)
        return status;
    if (budget_bytes < least_budget(pool) || budget_bytes > pool->options.max_budget_bytes)
        return cp_error_set(CP_EBUDGET, NULL, CP_NO_PAGE, CP_NO_LSN,
                            "set max_budget_bytes when the pool is created; a pool created small "
                            "needs less for itself",
                            "resizing to %llu bytes; %llu to %llu are possible",
                            (unsigned long long)budget_bytes,
                            (unsigned long long)least_budget(pool),
                            (unsigned long long)pool->options.max_budget_bytes);
    pthread_mutex_lock(&pool->budget_lock);
    /* New limit first: from here on nobody takes what the shrink is about to free. seq_cst: pairs
     * with that in cp_budget__take. */
    uint64_t old =
        atomic_exchange_explicit(&pool->budget.limit_bytes, budget_bytes, memory_order_seq_cst);
    status = cp_memory__shrink(pool, budget_bytes);
    if (status != 0)
        atomic_store_explicit(&pool->budget.limit_bytes, old, memory_order_relaxed);
    pthread_mutex_unlock(&pool->budget_lock);
    if (status != CP_EPINNED && status != CP_ETIMEDOUT)
        return status;
    const bool pinned = status == CP_EPINNED;
    return cp_error_set(status, NULL, CP_NO_PAGE, CP_NO_LSN,
                        pinned ? "unfix pages and try again; the old budget stands"
                               : "try again when less is written; the old budget stands",
                        "shrinking to %llu bytes: in every piece of memory left %s",
                        (unsigned long long)budget_bytes,
                        pinned ? "a page is pinned"
                               : "pages were used again as fast as they were written");
}

/* ---- files --------------------------------------------------------------------------------------
 */

static int check_file_options(const struct cp_bufpool_file_options *options)
{
    if (options->file == NULL || !cp_is_power_of_two(options->page_size) ||
        options->page_size < CP_PAGE_SIZE_MIN || options->page_size > CP_PAGE_SIZE_MAX ||
        options->max_pages > PAGES_MAX_LIMIT)
        return cp_error_set(-EINVAL, NULL, CP_NO_PAGE, CP_NO_LSN,
                            "page_size is a power of two from 4096 to 65536",
                            "attaching a file with pages of %u bytes", options->page_size);
    return 0;
}

static int enter_file(struct cp_bufpool *pool, struct cp_bufpool_file *file)
{
    int status = -EMFILE;

    pthread_mutex_lock(&pool->files_lock);
    for (uint32_t i = 0; i < CP_BUFPOOL_FILES_MAX && status != 0; i++) {
        if (pool->files[i] == NULL) {
            pool->files[i] = file;
            file->index = i;
            /* Page numbers are below 2^40, so the names of two files' pages differ. */
            file->first_key = ++pool->attach_count << 40;
            status = 0;
        }
    }
    pthread_mutex_unlock(&pool->files_lock);
    if (status != 0)
        return cp_error_set(status, file->path, CP_NO_PAGE, CP_NO_LSN, "detach other files first",
                            "attaching more than %u files", CP_BUFPOOL_FILES_MAX);
    return 0;
}

int cp_bufpool_attach(struct cp_bufpool *pool, const struct cp_bufpool_file_options *options,
                      struct cp_bufpool_file **out_file)
{
    int status = cp_bufpool__check_process(pool);
    if (status == 0)
        status = check_file_options(options);
    if (status != 0)
        return status;
    struct cp_bufpool_file *file = aligned_alloc(64, cp_align_up(sizeof *file, 64));
    if (file == NULL)
        return cp_error_set(-ENOMEM, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "attaching a file");
    *file = (struct cp_bufpool_file){.pool = pool, .version_one = pool->version_one};
    struct cp_io_file_info info;
    cp_io_file_info(options->file, &info);
    file->track_pins = pool->pins != NULL;
    file->biased = pool->biased;
    file->io_file = options->file;
    file->path = info.path;
    file->page_size = options->page_size;
    file->order = cp_log2_floor(options->page_size >> CP_UNIT_SHIFT);
    file->has_gate = options->gate != NULL;
    if (file->has_gate)
        file->gate = *options->gate;
    file->verify = options->verify;
    file->untorn_writes = options->untorn_writes;
    file->before_write = options->before_write;
    file->seal = options->seal;
    file->ctx = options->ctx;
    /* Frame numbers start at 1, so that a word with a frame is never zero. */
    file->map.frames = pool->base - CP_UNIT_BYTES;
    file->map.frame_mask = pool->frame_mask;
    file->map.page_size = options->page_size;
    file->map.hits =
        (uintptr_t)&pool->counters[0].value[CP_COUNT_HITS] - (uintptr_t)cp_pin_block(0);
    file->map.file = file;

    uint64_t max_pages = options->max_pages != 0 ? options->max_pages : PAGES_MAX_DEFAULT;
    status = cp_table__create(file, max_pages);
    if (status == 0)
        status = enter_file(pool, file);
    if (status != 0) {
        cp_table__destroy(file);
        free(file);
        return status;
    }
    file->shared_map = file->map;
    /* Readers without a latch may look at a frame that has just been given back. Where that memory
     * is guarded or poisoned, they have to take the latch. */
    struct cp_arena_stats arena;
    cp_arena_stats(pool->arena, &arena);
    if (CP_POISONS || arena.guarded)
        file->shared_map.page_limit = 0;
    *out_file = file;
    return 0;
}

const struct cp_page_map *cp_bufpool_page_map(const struct cp_bufpool_file *file)
{
    return &file->shared_map;
}

/* Words of neighbouring pages, taken together for one search of the pin slots. */
struct drop_run {
    uint64_t *words[DROP_RUN_PAGES];
    uint32_t count;
};

/* Take the words of the next pages, as far as they are free and stand side by side. */
static void take_run(struct cp_bufpool_file *file, uint64_t page, uint64_t end,
                     struct drop_run *run)
{
    run->count = 0;
    while (run->count < DROP_RUN_PAGES && page < end && page < file->map.page_limit) {
        uint64_t *word = &file->map.words[page++];
        uint64_t seen = cp_word_load(word);
        if (seen == 0 || cp_word_latch(seen) != CP_LATCH_FREE ||
            !cp_state__cas(word, &seen, cp_word_with_latch(seen, CP_LATCH_EXCLUSIVE)))
            return;
        run->words[run->count++] = word;
        if (page % CP_GROUP_WORDS == 0)
            return;
    }
}

/*
 * Drop the pages of a run in order, up to the first that may not be: its index, or count. *status
 * is -EBUSY for a dirty page, else 0 (a reader holds the page). The rest of the run is let go.
 */
static uint32_t drop_run(struct cp_bufpool_file *file, struct drop_run *run, bool dirty_too,
                         int *status)
{
    struct cp_bufpool *pool = file->pool;
    uint64_t pinned = cp_bias__settle(run->words, run->count, 0);
    uint32_t dropped = 0;

    *status = 0;
    for (uint32_t i = 0; i < run->count; i++) {
        if ((pinned >> i & 1) != 0)
            continue;
        uint64_t held = cp_word_load(run->words[i]);
        bool may_drop = dirty_too || (held & CP_WORD_DIRTY) == 0;
        if (dropped == i && may_drop) {
            struct cp_frame *frame = cp_bufpool__frame_of(pool, held);
            cp_evict__drop_page(pool, frame);
            cp_memory__frame_free(pool, frame);
            dropped++;
            continue;
        }
        if (dropped == i)
            *status = -EBUSY;
        cp_latch_release_exclusive(run->words[i], pool->version_one);
    }
    return dropped;
}

static int dirty_page(const struct cp_bufpool_file *file, uint64_t page)
{
    return cp_error_set(-EBUSY, file->path, page, CP_NO_LSN, "flush or discard the file first",
                        "detaching a file with dirty pages");
}

/* Drop one page, if it is there, waiting for I/O on it. */
static int drop_one(struct cp_bufpool_file *file, uint64_t page, bool dirty_too)
{
    struct cp_frame *frame = NULL;
    int status = cp_evict__claim(file, page, &frame);

    if (status != 0 || frame == NULL)
        return status;
    uint64_t *word = &file->map.words[page];
    if (!dirty_too && (cp_word_load(word) & CP_WORD_DIRTY) != 0) {
        cp_latch_release_exclusive(word, file->version_one);
        return dirty_page(file, page);
    }
    cp_evict__drop_page(file->pool, frame);
    cp_memory__frame_free(file->pool, frame);
    return 0;
}

/* Drop the pages from first up to end (not included); dirty ones only when asked. */
static int drop_range(struct cp_bufpool_file *file, uint64_t first, uint64_t end, bool dirty_too)
{
    uint64_t page = cp_table__next(file, first);

    while (page < end && page < file->map.page_limit) {
        struct drop_run run;
        take_run(file, page, end, &run);
        int status = 0;
        uint32_t dropped = drop_run(file, &run, dirty_too, &status);
        page += dropped;
        if (status != 0)
            return dirty_page(file, page);
        if (dropped == 0 || dropped < run.count) { /* absent, or to be waited for */
            status = drop_one(file, page, dirty_too);
            if (status != 0)
                return status;
            page++;
        }
        if (page % CP_GROUP_WORDS == 0)
            page = cp_table__next(file, page);
    }
    return 0;
}

int cp_bufpool_discard(struct cp_bufpool_file *file, uint64_t first, uint64_t count)
{
    int status = cp_bufpool__check_process(file->pool);
    if (status != 0)
        return status;
    uint64_t end = count > UINT64_MAX - first ? UINT64_MAX : first + count;
    return drop_range(file, first, end, true);
}

bool cp_bufpool_is_fixed(struct cp_bufpool_file *file, uint64_t page)
{
    struct cp_frame *frame = NULL;

    if (page >= file->map.page_limit)
        return false;
    if (cp_evict__claim(file, page, &frame) != 0)
        return true;
    if (frame != NULL)
        cp_latch_release_exclusive(&file->map.words[page], file->version_one);
    return false;
}

int cp_bufpool_detach(struct cp_bufpool_file *file)
{
    struct cp_bufpool *pool = file->pool;
    bool same_process = cp_fork_guard_same(&pool->fork_guard);

    int status = same_process ? drop_range(file, 0, UINT64_MAX, false) : CP_EFORKED;
    if (status != 0)
        return status;
    /* acquire: pairs with the release at the end of cp_evict__drop_page */
    while (atomic_load_explicit(&file->drops, memory_order_acquire) != 0)
        cp_cpu_relax(); /* ends: each is a few instructions of an evictor that began before us */

    pthread_mutex_lock(&pool->files_lock);
    pool->files[file->index] = NULL;
    pthread_mutex_unlock(&pool->files_lock);
    /* A sweep that read one of the file's words' addresses before has left when we get the lock. */
    pthread_mutex_lock(&pool->clock_lock);
    pthread_mutex_unlock(&pool->clock_lock);
    cp_table__destroy(file);
    free(file);
    return 0;
}
