/* SPDX-License-Identifier: MIT */
/*
 * Mini-transactions: fixing, allocating, freeing, savepoints. mtr_commit.c ends them, mtr_wait.c
 * keeps them from waiting for each other for ever.
 *
 * Pages are changed in place, under exclusive latches that are kept to the end; a copy taken at the
 * fix tells what was changed, and takes it back. So nobody sees a change before its commit, no
 * undo is ever logged, and recovery only repeats.
 *
 * Space. An allocated page is reserved in memory, a freed one doomed (spacemap.c); the map's pages
 * change inside the commit. A page is let go, and dropped from the cache, before its number can be
 * given to anybody else: dropping it later could drop what the next owner wrote.
 */
#include "mtr.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IDLE_MAX 64u /* ended mini-transactions kept for the next */
/* ... with arrays of no more than this: a large one's would be cleared at the end of each small one
 * that comes after it. */
#define IDLE_PAGES_MAX    256u
#define FIRST_CAPACITY    16u
#define CHUNK_BYTES       (UINT64_C(128) << 10)
#define BUDGET_PAGES_PART 4u /* a mini-transaction may fix all but one part in so many */

/* ---- memory -----------------------------------------------------------------------------------
 */

static int no_memory(const struct cp_mtr *mtr)
{
    return cp_error_set(-ENOMEM, mtr->pager->data_path, CP_NO_PAGE, CP_NO_LSN, NULL,
                        "run a mini-transaction");
}

/* Room that lasts until the mini-transaction ends; NULL without memory. */
static void *scratch_alloc(struct cp_mtr *mtr, uint64_t size_bytes)
{
    struct cp_mtr_chunk *chunk = mtr->chunks;
    size_bytes = cp_align_up(size_bytes, 16);
    if (chunk == NULL || chunk->size_bytes - chunk->used_bytes < size_bytes) {
        uint64_t chunk_bytes = cp_max_u64(CHUNK_BYTES, size_bytes);
        chunk = malloc(sizeof *chunk + chunk_bytes);
        if (chunk == NULL)
            return NULL;
        chunk->size_bytes = chunk_bytes;
        chunk->used_bytes = 0;
        chunk->next = mtr->chunks;
        mtr->chunks = chunk;
    }
    void *memory = chunk->bytes + chunk->used_bytes;
    chunk->used_bytes += size_bytes;
    return memory;
}

static void free_chunk(struct cp_mtr *mtr)
{
    struct cp_mtr_chunk *next = mtr->chunks->next;
    free(mtr->chunks);
    mtr->chunks = next;
}

/* Keep one chunk for the next mini-transaction. */
static void scratch_reset(struct cp_mtr *mtr)
{
    while (mtr->chunks != NULL &&
           (mtr->chunks->next != NULL || mtr->chunks->size_bytes > CHUNK_BYTES))
        free_chunk(mtr);
    if (mtr->chunks != NULL)
        mtr->chunks->used_bytes = 0;
}

static void free_mtr(struct cp_mtr *mtr)
{
    while (mtr->chunks != NULL)
        free_chunk(mtr);
    free(mtr->pages);
    free(mtr->index);
    free(mtr->ops);
    free(mtr->savepoints);
    free(mtr->records);
    free(mtr->map_ops);
    free(mtr->map_fixes);
    free(mtr);
}

void cp_pager__mtr_init(struct cp_pager *pager)
{
    pthread_mutex_init(&pager->table.mutex, NULL);
}

void cp_pager__mtr_fini(struct cp_pager *pager)
{
    struct cp_mtr_table *table = &pager->table;
    while (table->idle != NULL) {
        struct cp_mtr *next = table->idle->next;
        free_mtr(table->idle);
        table->idle = next;
    }
    pthread_mutex_destroy(&table->mutex);
}

/* ---- the pages it has -------------------------------------------------------------------------
 */

static void index_page(struct cp_mtr *mtr, uint32_t entry)
{
    uint32_t at = cp_hash_slot(mtr->pages[entry].fix.page, (uint64_t)mtr->index_mask + 1);
    while (mtr->index[at] != 0) /* ends: the index has twice as many places as there are pages */
        at = (at + 1) & mtr->index_mask;
    mtr->index[at] = entry + 1;
}

static struct cp_mtr_page *find_page(const struct cp_mtr *mtr, uint64_t page)
{
    if (mtr->index == NULL)
        return NULL;
    for (uint32_t at = cp_hash_slot(page, (uint64_t)mtr->index_mask + 1); mtr->index[at] != 0;
         at = (at + 1) & mtr->index_mask) { /* ends: as above */
        struct cp_mtr_page *entry = &mtr->pages[mtr->index[at] - 1];
        if (atomic_load_explicit(&entry->page, memory_order_relaxed) == page)
            return entry;
    }
    return NULL;
}

/* Room for one more page. */
static int reserve_page(struct cp_mtr *mtr)
{
    uint32_t count = atomic_load_explicit(&mtr->page_count, memory_order_relaxed);
    if (count < mtr->page_capacity)
        return 0;
    uint32_t capacity = count == 0 ? FIRST_CAPACITY : count * 2;
    struct cp_mtr_page *pages = malloc(capacity * sizeof *pages);
    uint32_t *index = calloc((size_t)capacity * 2, sizeof *index);
    if (pages == NULL || index == NULL) {
        free(pages);
        free(index);
        return no_memory(mtr);
    }
    if (count > 0)
        memcpy(pages, mtr->pages, count * sizeof *pages);
    struct cp_mtr_page *old = mtr->pages;
    pthread_mutex_lock(&mtr->pager->table.mutex);
    mtr->pages = pages;
    pthread_mutex_unlock(&mtr->pager->table.mutex);
    free(old);
    free(mtr->index);
    mtr->page_capacity = capacity;
    mtr->index = index;
    mtr->index_mask = capacity * 2 - 1;
    for (uint32_t i = 0; i < count; i++)
        index_page(mtr, i);
    return 0;
}

/* Add a fixed page; there is room. */
static struct cp_mtr_page *add_page(struct cp_mtr *mtr, const struct cp_fix *fix, void *before,
                                    bool exclusive, bool fresh)
{
    uint32_t count = atomic_load_explicit(&mtr->page_count, memory_order_relaxed);
    struct cp_mtr_page *entry = &mtr->pages[count];
    *entry =
        (struct cp_mtr_page){.fix = *fix, .before = before, .exclusive = exclusive, .fresh = fresh};
    atomic_store_explicit(&entry->page, fix->page, memory_order_relaxed);
    index_page(mtr, count);
    /* release: pairs with the acquire in mtr_wait.c, holds */
    atomic_store_explicit(&mtr->page_count, count + 1, memory_order_release);
    return entry;
}

/* Let go of a page; its entry stays, empty. drop: forget its bytes too. */
static void unfix_entry(struct cp_mtr *mtr, struct cp_mtr_page *entry, bool drop)
{
    struct cp_pager *pager = mtr->pager;
    const uint64_t page = entry->fix.page;
    if (entry->fix.data == NULL)
        return;
    pager->engine->ops->unfix(pager->engine, &entry->fix);
    entry->fix.data = NULL;
    atomic_store_explicit(&entry->page, CP_NO_PAGE, memory_order_relaxed);
    if (drop)
        (void)pager->engine->ops->discard(pager->engine, page, 1);
}

/* Close the gaps that empty entries leave behind the first `from`, which savepoints may know. */
static void remove_empty(struct cp_mtr *mtr, uint32_t from)
{
    const uint32_t count = atomic_load_explicit(&mtr->page_count, memory_order_relaxed);
    uint32_t kept = from;
    pthread_mutex_lock(&mtr->pager->table.mutex);
    for (uint32_t i = from; i < count; i++) {
        if (mtr->pages[i].fix.data != NULL)
            mtr->pages[kept++] = mtr->pages[i];
    }
    atomic_store_explicit(&mtr->page_count, kept, memory_order_relaxed);
    pthread_mutex_unlock(&mtr->pager->table.mutex);
    if (kept == count)
        return;
    memset(mtr->index, 0, ((size_t)mtr->index_mask + 1) * sizeof *mtr->index);
    for (uint32_t i = 0; i < kept; i++)
        index_page(mtr, i);
}

static int check_size(const struct cp_mtr *mtr)
{
    const struct cp_pager *pager = mtr->pager;
    const uint64_t budget_bytes = atomic_load_explicit(&pager->budget_bytes, memory_order_relaxed);
    const uint64_t pages = budget_bytes / pager->page_size;
    const uint64_t limit = pages - pages / BUDGET_PAGES_PART;
    if (atomic_load_explicit(&mtr->page_count, memory_order_relaxed) < limit)
        return 0;
    return cp_error_set(CP_ETOOLARGE, pager->data_path, CP_NO_PAGE, CP_NO_LSN,
                        "commit in smaller parts, or raise budget_bytes",
                        "a mini-transaction has %llu pages fixed, a budget of %llu bytes allows "
                        "no more",
                        (unsigned long long)limit, (unsigned long long)budget_bytes);
}

/* ---- life -------------------------------------------------------------------------------------
 */

static struct cp_mtr *take_idle(struct cp_pager *pager)
{
    pthread_mutex_lock(&pager->table.mutex);
    struct cp_mtr *mtr = pager->table.idle;
    if (mtr != NULL) {
        pager->table.idle = mtr->next;
        pager->table.idle_count--;
    }
    pthread_mutex_unlock(&pager->table.mutex);
    return mtr;
}

static void put_idle(struct cp_mtr *mtr)
{
    struct cp_mtr_table *table = &mtr->pager->table;
    pthread_mutex_lock(&table->mutex);
    bool kept = table->idle_count < IDLE_MAX && mtr->page_capacity <= IDLE_PAGES_MAX &&
                mtr->op_capacity <= IDLE_PAGES_MAX;
    if (kept) {
        mtr->next = table->idle;
        table->idle = mtr;
        table->idle_count++;
    }
    pthread_mutex_unlock(&table->mutex);
    if (!kept)
        free_mtr(mtr);
}

int cp_mtr_begin(struct cp_pager *pager, struct cp_mtr **out_mtr)
{
    bool others;
    int code = cp_pager__begin_write(pager);
    if (code != 0)
        return code;
    struct cp_mtr *mtr = take_idle(pager);
    if (mtr == NULL) {
        mtr = calloc(1, sizeof *mtr);
        if (mtr == NULL)
            return cp_error_set(-ENOMEM, pager->data_path, CP_NO_PAGE, CP_NO_LSN, NULL,
                                "begin a mini-transaction");
        mtr->pager = pager;
    }
    mtr->owner_tid = (int32_t)gettid();
    cp_mtr__enter(mtr, &others);
    cp_pager__background_throttle(pager, others);
    *out_mtr = mtr;
    return 0;
}

/* Empty it for its next use. */
static void reset(struct cp_mtr *mtr)
{
    uint32_t count = atomic_load_explicit(&mtr->page_count, memory_order_relaxed);
    if (count > 0)
        memset(mtr->index, 0, ((size_t)mtr->index_mask + 1) * sizeof *mtr->index);
    atomic_store_explicit(&mtr->page_count, 0, memory_order_relaxed);
    mtr->op_count = mtr->unfixed_frees = mtr->savepoint_count = mtr->record_count = 0;
    scratch_reset(mtr);
}

static void restore_page(const struct cp_mtr *mtr, struct cp_mtr_page *entry, const void *image)
{
    const uint32_t size_bytes = mtr->pager->payload_size;
    if (image == NULL)
        memset(entry->fix.data, 0, size_bytes);
    else
        memcpy(entry->fix.data, image, size_bytes);
}

void cp_mtr__release(struct cp_mtr *mtr, bool restore)
{
    struct cp_pager *pager = mtr->pager;
    uint32_t count = atomic_load_explicit(&mtr->page_count, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++) {
        struct cp_mtr_page *entry = &mtr->pages[i];
        if (entry->fix.data == NULL)
            continue;
        if (restore && entry->exclusive && !entry->fresh)
            restore_page(mtr, entry, entry->before);
        unfix_entry(mtr, entry, restore && entry->fresh);
    }
    if (restore && mtr->op_count > 0) {
        pthread_mutex_lock(&pager->alloc_mutex);
        for (uint32_t i = mtr->op_count; i-- > 0;) {
            if (mtr->ops[i].kind == CP_MTR_ALLOCATE)
                cp_pager__map_unreserve(pager, mtr->ops[i].page, 1);
            else if (mtr->ops[i].kind == CP_MTR_FREE)
                cp_pager__map_spare(pager, mtr->ops[i].page, 1);
        }
        pthread_mutex_unlock(&pager->alloc_mutex);
    }
    cp_mtr__leave(mtr);
    reset(mtr);
    put_idle(mtr);
}

void cp_mtr_abort(struct cp_mtr *mtr)
{
    if (mtr == NULL || !cp_fork_guard_same(&mtr->pager->fork_guard))
        return;
    struct cp_error saved = *cp_error_info();
    atomic_fetch_add_explicit(&mtr->pager->mtr_aborts, 1, memory_order_relaxed);
    cp_mtr__release(mtr, true);
    cp_error_restore(&saved);
}

/* ---- fixing -----------------------------------------------------------------------------------
 */

static int freed_page(const struct cp_mtr *mtr, uint64_t page)
{
    return cp_error_set(CP_ENOPAGE, mtr->pager->data_path, page, CP_NO_LSN,
                        "do not use a page after freeing it",
                        "this mini-transaction has freed the page");
}

/* Freed without having been fixed: it has no entry. Nobody, so neither we, can be given its number
 * again before the end. */
static bool freed_unfixed(const struct cp_mtr *mtr, uint64_t page)
{
    if (mtr->unfixed_frees == 0)
        return false;
    for (uint32_t i = 0; i < mtr->op_count; i++) {
        if (mtr->ops[i].kind == CP_MTR_FREE && mtr->ops[i].page == page)
            return true;
    }
    return false;
}

static int found_page(const struct cp_mtr *mtr, const struct cp_mtr_page *entry,
                      enum cp_latch_mode mode, void **out_data)
{
    if (entry->freed)
        return freed_page(mtr, entry->fix.page);
    if (mode == CP_EXCLUSIVE && !entry->exclusive)
        return cp_error_set(-EINVAL, mtr->pager->data_path, entry->fix.page, CP_NO_LSN,
                            "fix it exclusively the first time: a latch cannot be upgraded without "
                            "letting go of it",
                            "this mini-transaction has the page fixed shared");
    *out_data = entry->fix.data;
    return 0;
}

int cp_mtr_fix(struct cp_mtr *mtr, uint64_t page, enum cp_latch_mode mode, void **out_data)
{
    struct cp_pager *pager = mtr->pager;
    struct cp_fix fix;
    void *before = NULL;
    int code = cp_pager__check_process(pager);
    if (code != 0)
        return code;
    if (!cp_pager__page_valid(pager, page))
        return cp_pager__no_page(pager, page);
    if (!cp_latch_mode_valid(mode))
        return cp_latch_mode_refuse(mode, pager->data_path, page);
    const struct cp_mtr_page *entry = find_page(mtr, page);
    if (entry != NULL)
        return found_page(mtr, entry, mode, out_data);
    if (freed_unfixed(mtr, page))
        return freed_page(mtr, page);
    code = check_size(mtr);
    if (code == 0)
        code = reserve_page(mtr);
    if (code == 0 && mode == CP_EXCLUSIVE) {
        before = scratch_alloc(mtr, pager->payload_size);
        if (before == NULL)
            code = no_memory(mtr);
    }
    if (code == 0)
        code = cp_mtr__fix_page(mtr, page, mode, &fix);
    if (code != 0)
        return code; /* the scratch is given back at the end */
    if (before != NULL)
        memcpy(before, fix.data, pager->payload_size);
    *out_data = add_page(mtr, &fix, before, mode == CP_EXCLUSIVE, false)->fix.data;
    return 0;
}

/* ---- allocating and freeing -------------------------------------------------------------------
 */

static int reserve_op(struct cp_mtr *mtr)
{
    if (mtr->op_count < mtr->op_capacity)
        return 0;
    uint32_t capacity = mtr->op_capacity == 0 ? FIRST_CAPACITY : mtr->op_capacity * 2;
    struct cp_mtr_op *ops = realloc(mtr->ops, capacity * sizeof *ops);
    if (ops != NULL)
        mtr->ops = ops;
    struct cp_map_op *map_ops = realloc(mtr->map_ops, capacity * sizeof *map_ops);
    if (map_ops != NULL)
        mtr->map_ops = map_ops;
    struct cp_map_fix *fixes = realloc(mtr->map_fixes, capacity * sizeof *fixes);
    if (fixes != NULL)
        mtr->map_fixes = fixes;
    if (ops == NULL || map_ops == NULL || fixes == NULL)
        return no_memory(mtr);
    mtr->op_capacity = capacity;
    return 0;
}

int cp_mtr_allocate(struct cp_mtr *mtr, uint64_t *out_page, void **out_data)
{
    struct cp_pager *pager = mtr->pager;
    struct cp_fix fix;
    uint64_t page = 0;
    int code = cp_pager__begin_write(pager);
    if (code == 0)
        code = check_size(mtr);
    if (code == 0)
        code = reserve_page(mtr);
    if (code == 0)
        code = reserve_op(mtr);
    if (code != 0)
        return code;
    code = cp_pager__reserve_page(pager, &page);
    if (code != 0)
        return code;
    code = cp_mtr__fix_new_page(mtr, page, &fix);
    if (code != 0) {
        cp_pager__unreserve_page(pager, page);
        return code;
    }
    mtr->ops[mtr->op_count++] = (struct cp_mtr_op){page, CP_MTR_ALLOCATE};
    *out_data = add_page(mtr, &fix, NULL, true, true)->fix.data;
    *out_page = page;
    return 0;
}

/*
 * A page that somebody else may hold, or nobody. own: it is fixed here, shared maybe. Whether it
 * has other readers then cannot be told: those of a biased page do not stand in its word.
 */
static int doom(struct cp_mtr *mtr, uint64_t page, bool own)
{
    struct cp_pager *pager = mtr->pager;
    pthread_mutex_lock(&pager->alloc_mutex);
    int code = cp_pager__map_doom(pager, page, 1);
    if (code == 0 && !own && pager->engine->ops->page_pinned(pager->engine, page)) {
        cp_pager__map_spare(pager, page, 1);
        code = cp_error_set(CP_EPINNED, pager->data_path, page, CP_NO_LSN,
                            "fix it in this mini-transaction before freeing it, which waits for "
                            "its holder; or let its holder go first",
                            "free a page");
    }
    pthread_mutex_unlock(&pager->alloc_mutex);
    return code;
}

int cp_mtr_free(struct cp_mtr *mtr, uint64_t page)
{
    struct cp_pager *pager = mtr->pager;
    int code = cp_pager__begin_write(pager);
    if (code != 0)
        return code;
    if (!cp_pager__page_valid(pager, page))
        return cp_pager__no_page(pager, page);
    struct cp_mtr_page *entry = find_page(mtr, page);
    if (entry != NULL && entry->freed)
        return freed_page(mtr, page);
    code = reserve_op(mtr);
    if (code != 0)
        return code;
    bool own = entry != NULL && entry->fresh;
    if (!own)
        code = doom(mtr, page, entry != NULL);
    if (code != 0)
        return code;
    mtr->ops[mtr->op_count++] = (struct cp_mtr_op){page, own ? CP_MTR_FREE_OWN : CP_MTR_FREE};
    if (entry != NULL)
        entry->freed = true;
    else
        mtr->unfixed_frees++;
    return 0;
}

/* ---- savepoints -------------------------------------------------------------------------------
 */

int cp_mtr_savepoint(struct cp_mtr *mtr, uint32_t *out_savepoint)
{
    const uint32_t count = atomic_load_explicit(&mtr->page_count, memory_order_relaxed);
    const uint32_t size_bytes = mtr->pager->payload_size;
    int code = cp_pager__check_process(mtr->pager);
    if (code != 0)
        return code; /* the pages are not in a forked child's memory */
    if (mtr->savepoint_count == mtr->savepoint_capacity) {
        uint32_t capacity = mtr->savepoint_capacity == 0 ? 4 : mtr->savepoint_capacity * 2;
        struct cp_mtr_savepoint *grown =
            realloc(mtr->savepoints, capacity * sizeof *mtr->savepoints);
        if (grown == NULL)
            return no_memory(mtr);
        mtr->savepoints = grown;
        mtr->savepoint_capacity = capacity;
    }
    struct cp_mtr_savepoint savepoint = {.page_count = count, .op_count = mtr->op_count};
    savepoint.images = scratch_alloc(mtr, (count + 1) * sizeof *savepoint.images);
    if (savepoint.images == NULL)
        return no_memory(mtr);
    for (uint32_t i = 0; i < count; i++) {
        const struct cp_mtr_page *entry = &mtr->pages[i];
        savepoint.images[i] = NULL;
        if (!entry->exclusive || entry->fix.data == NULL)
            continue;
        savepoint.images[i] = scratch_alloc(mtr, size_bytes);
        if (savepoint.images[i] == NULL)
            return no_memory(mtr);
        memcpy(savepoint.images[i], entry->fix.data, size_bytes);
    }
    mtr->savepoints[mtr->savepoint_count] = savepoint;
    *out_savepoint = ++mtr->savepoint_count;
    return 0;
}

static void undo_op(struct cp_mtr *mtr, const struct cp_mtr_op *op)
{
    struct cp_pager *pager = mtr->pager;
    struct cp_mtr_page *entry = find_page(mtr, op->page);
    if (op->kind == CP_MTR_ALLOCATE) {
        if (entry != NULL)
            unfix_entry(mtr, entry, true);
        cp_pager__unreserve_page(pager, op->page);
        return;
    }
    if (entry != NULL)
        entry->freed = false;
    else if (op->kind == CP_MTR_FREE)
        mtr->unfixed_frees--;
    if (op->kind == CP_MTR_FREE) {
        pthread_mutex_lock(&pager->alloc_mutex);
        cp_pager__map_spare(pager, op->page, 1);
        pthread_mutex_unlock(&pager->alloc_mutex);
    }
}

int cp_mtr_rollback(struct cp_mtr *mtr, uint32_t savepoint)
{
    int code = cp_pager__check_process(mtr->pager);
    if (code != 0)
        return code;
    if (savepoint == 0 || savepoint > mtr->savepoint_count)
        return cp_error_set(-EINVAL, mtr->pager->data_path, CP_NO_PAGE, CP_NO_LSN,
                            "a rollback forgets the savepoints after its own",
                            "roll back to savepoint %u of %u", savepoint, mtr->savepoint_count);
    const struct cp_mtr_savepoint *to = &mtr->savepoints[savepoint - 1];
    const uint32_t count = atomic_load_explicit(&mtr->page_count, memory_order_relaxed);
    while (mtr->op_count > to->op_count)
        undo_op(mtr, &mtr->ops[--mtr->op_count]);
    for (uint32_t i = 0; i < count; i++) {
        struct cp_mtr_page *entry = &mtr->pages[i];
        if (!entry->exclusive || entry->fix.data == NULL)
            continue;
        restore_page(mtr, entry, i < to->page_count ? to->images[i] : entry->before);
    }
    remove_empty(mtr, to->page_count);
    mtr->savepoint_count = savepoint;
    return 0;
}
