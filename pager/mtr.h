/* SPDX-License-Identifier: MIT */
/* A mini-transaction's own state, shared by mtr.c, mtr_commit.c and mtr_wait.c. */
#ifndef CP_PAGER_MTR_H
#define CP_PAGER_MTR_H

#include "internal.h"

struct cp_mtr_page {
    struct cp_fix fix;
    /* As fix.page, CP_NO_PAGE when it was let go early. Read by others under table.mutex. */
    _Atomic uint64_t page;
    void *before; /* payload when it was fixed; NULL: zeros (fresh), or fixed shared */
    bool exclusive;
    bool fresh;   /* allocated here */
    bool freed;   /* by an op of this mini-transaction */
    bool changed; /* commit: to be marked dirty */
};

enum cp_mtr_op_kind { CP_MTR_ALLOCATE, CP_MTR_FREE, CP_MTR_FREE_OWN };

struct cp_mtr_op {
    uint64_t page;
    enum cp_mtr_op_kind kind;
};

/* Images of the pages fixed exclusively when it was made, in the order of pages[]; NULL for the
 * others. */
struct cp_mtr_savepoint {
    uint32_t page_count, op_count;
    void **images;
};

struct cp_mtr_chunk {
    struct cp_mtr_chunk *next;
    uint64_t size_bytes, used_bytes;
    _Alignas(16) unsigned char bytes[];
};

struct cp_mtr {
    struct cp_pager *pager;

    /* Guarded by table.mutex. */
    struct cp_mtr *next, *previous; /* in active; next also in idle */
    uint64_t waiting_for;           /* page number plus 1; 0: for nothing */
    bool visited;                   /* by the search under way */
    int32_t owner_tid;

    /* Appended to by the owner; others read under table.mutex, so entries move under it only.
     * page_count is stored with release after its entry. */
    struct cp_mtr_page *pages;
    _Atomic uint32_t page_count;
    uint32_t page_capacity;

    /* The owner's alone. */
    uint32_t *index; /* hash of page number -> entry plus 1; index_mask + 1 elements */
    uint32_t index_mask;
    struct cp_mtr_op *ops;
    uint32_t op_count, op_capacity;
    uint32_t unfixed_frees; /* ops that free a page without an entry */
    struct cp_mtr_savepoint *savepoints;
    uint32_t savepoint_count, savepoint_capacity;
    struct cp_mtr_chunk *chunks; /* before-images and savepoints; freed at the end but for one */
    struct cp_wal_record *records;
    uint32_t record_count, record_capacity;
    struct cp_map_op *map_ops; /* op_capacity elements, as are the next */
    struct cp_map_fix *map_fixes;
};

/* ---- mtr.c ---- */

/* Let go of all pages and end it. restore: put their before-images back first. */
void cp_mtr__release(struct cp_mtr *mtr, bool restore);

/* ---- mtr_wait.c: deadlocks. No lock held. ---- */

void cp_mtr__enter(struct cp_mtr *mtr, bool *out_others);
void cp_mtr__leave(struct cp_mtr *mtr);
/* Fix a page, waiting if need be: as the engine's fix, or CP_EDEADLOCK. */
int cp_mtr__fix_page(struct cp_mtr *mtr, uint64_t page, enum cp_latch_mode mode,
                     struct cp_fix *out_fix) CP_MUST_CHECK;
/* The same of cp_pager__fix_new, for a page that is reserved for the mini-transaction. */
int cp_mtr__fix_new_page(struct cp_mtr *mtr, uint64_t page, struct cp_fix *out_fix) CP_MUST_CHECK;

#endif
