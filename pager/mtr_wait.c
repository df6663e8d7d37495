/* SPDX-License-Identifier: MIT */
/*
 * Who waits for whom. A mini-transaction that finds a page free or cached takes it without a look
 * at anybody. One that would have to wait says so first (waiting_for), under the table's mutex, and
 * follows the chain: who holds that page, what do they wait for, who holds that. When it meets
 * itself, waiting would never end, and it gets CP_EDEADLOCK instead.
 *
 * Why no cycle is missed: an edge appears when somebody begins to wait, or takes a page that
 * another waits for. Who takes a page is not waiting; should it wait later, it looks then. So the
 * last one to begin to wait sees the whole cycle.
 *
 * A page that was just reserved is free, but somebody with an old number may fix it at that moment:
 * waiting for it is announced as well.
 *
 * A search costs the pages of all mini-transactions under way, where somebody waits; it happens at
 * misses, conflicts and allocations only.
 */
#include "mtr.h"

#include <clockpool/base/error.h>
#include <errno.h>

void cp_mtr__enter(struct cp_mtr *mtr, bool *out_others)
{
    struct cp_mtr_table *table = &mtr->pager->table;
    bool others = false;
    pthread_mutex_lock(&table->mutex);
    for (const struct cp_mtr *other = table->active; other != NULL; other = other->next)
        others |= other->owner_tid == mtr->owner_tid;
    mtr->previous = NULL;
    mtr->next = table->active;
    if (table->active != NULL)
        table->active->previous = mtr;
    table->active = mtr;
    table->active_count++;
    pthread_mutex_unlock(&table->mutex);
    *out_others = others;
}

void cp_mtr__leave(struct cp_mtr *mtr)
{
    struct cp_mtr_table *table = &mtr->pager->table;
    pthread_mutex_lock(&table->mutex);
    if (mtr->next != NULL)
        mtr->next->previous = mtr->previous;
    if (mtr->previous != NULL)
        mtr->previous->next = mtr->next;
    else
        table->active = mtr->next;
    table->active_count--;
    pthread_mutex_unlock(&table->mutex);
}

bool cp_pager__mtr_any(struct cp_pager *pager)
{
    struct cp_mtr_table *table = &pager->table;
    pthread_mutex_lock(&table->mutex);
    bool any = table->active != NULL;
    pthread_mutex_unlock(&table->mutex);
    return any;
}

static bool holds(const struct cp_mtr *mtr, uint64_t page)
{
    /* acquire: pairs with the release in mtr.c, add_page */
    uint32_t count = atomic_load_explicit(&mtr->page_count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++) {
        if (atomic_load_explicit(&mtr->pages[i].page, memory_order_relaxed) == page)
            return true;
    }
    return false;
}

/*
 * Would mtr wait for itself? Marks whoever is reached from mtr until nobody new is. table.mutex
 * held.
 */
static bool reaches_itself(struct cp_mtr_table *table, struct cp_mtr *mtr)
{
    for (struct cp_mtr *other = table->active; other != NULL; other = other->next)
        other->visited = false;
    mtr->visited = true;
    for (bool grown = true; grown;) { /* ends: each round but the last marks one more */
        grown = false;
        for (struct cp_mtr *waiter = table->active; waiter != NULL; waiter = waiter->next) {
            if (!waiter->visited || waiter->waiting_for == 0)
                continue;
            if (waiter != mtr && holds(mtr, waiter->waiting_for - 1))
                return true;
            for (struct cp_mtr *other = table->active; other != NULL; other = other->next) {
                if (!other->visited && other->waiting_for != 0 &&
                    holds(other, waiter->waiting_for - 1))
                    grown = other->visited = true;
            }
        }
    }
    return false;
}

/* Announce a wait. CP_EDEADLOCK when it would never end; then nothing is announced. */
static int begin_wait(struct cp_mtr *mtr, uint64_t page)
{
    struct cp_pager *pager = mtr->pager;
    pthread_mutex_lock(&pager->table.mutex);
    mtr->waiting_for = page + 1;
    bool deadlock = reaches_itself(&pager->table, mtr);
    if (deadlock)
        mtr->waiting_for = 0;
    pthread_mutex_unlock(&pager->table.mutex);
    if (!deadlock)
        return 0;
    atomic_fetch_add_explicit(&pager->mtr_deadlocks, 1, memory_order_relaxed);
    return cp_error_set(CP_EDEADLOCK, pager->data_path, page, CP_NO_LSN,
                        "abort the mini-transaction and run it again",
                        "two mini-transactions want pages that the other has fixed");
}

static void end_wait(struct cp_mtr *mtr)
{
    struct cp_mtr_table *table = &mtr->pager->table;
    pthread_mutex_lock(&table->mutex);
    mtr->waiting_for = 0;
    pthread_mutex_unlock(&table->mutex);
}

int cp_mtr__fix_page(struct cp_mtr *mtr, uint64_t page, enum cp_latch_mode mode,
                     struct cp_fix *out_fix)
{
    struct cp_pager_engine *engine = mtr->pager->engine;
    int code = engine->ops->try_fix(engine, page, mode, out_fix);
    if (code != -EAGAIN)
        return code;
    code = begin_wait(mtr, page);
    if (code != 0)
        return code;
    code = engine->ops->fix(engine, page, mode, out_fix);
    end_wait(mtr);
    return code;
}

int cp_mtr__fix_new_page(struct cp_mtr *mtr, uint64_t page, struct cp_fix *out_fix)
{
    int code = begin_wait(mtr, page);
    if (code != 0)
        return code;
    code = cp_pager__fix_new(mtr->pager, page, out_fix);
    end_wait(mtr);
    return code;
}
