/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer: what a store goes through. The input is a script: mini-transactions, allocation, freeing,
 * checkpoints, crashes, clean closes, and damage to the files between two sessions. After each
 * opening the store must be the state after some transaction, none that was acknowledged missing;
 * after damage a code is right too. After forged damage (checksums made right) nothing is promised
 * but a code instead of a signal.
 *
 *     u8   bit 0 engine
 *     ...  steps, of a byte each with operands behind it, see step()
 */
#include "image.h"
#include "use.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES     24u
#define ROWS      120u
#define STEPS_MAX 160u
#define UNKNOWN   UINT32_MAX /* reading gave a code */

/* What the damage done so far allows. */
enum promise {
    PROMISE_ALL,    /* undamaged: no errors, nothing lost */
    PROMISE_ERRORS, /* damaged: errors, or all that was acknowledged */
    PROMISE_PREFIX, /* the log's end may have vanished without a trace: some earlier state */
    PROMISE_NOTHING,
};

struct script {
    struct fuzz_input input;
    struct cp_pager *pager;
    enum cp_engine engine;
    enum promise promise;
    uint64_t first;
    uint32_t count, acked;
    uint32_t version[ROWS][PAGES]; /* row k: after transaction k; 0: not allocated */
};

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fuzz_image base;
static uint64_t base_first;

static void die(const struct script *script, const char *what)
{
    char text[800];
    fprintf(stderr, "fuzz_script: %s; %u transactions, %u acknowledged, promise %d\n%s\n", what,
            script->count, script->acked, (int)script->promise, cp_error_format(text, sizeof text));
    abort();
}

/* ---- contents -----------------------------------------------------------------------------------
 */

static void fill(void *data, uint32_t payload, uint64_t page, uint32_t version)
{
    uint64_t *words = data;
    for (uint32_t i = 0; i < payload / 8; i++)
        words[i] = i % 32 == 0 ? (uint64_t)version << 32 | page : page * 31 + i;
}

/* The version, or 0 when this is no page of ours. */
static uint32_t version_of(const void *data, uint32_t payload, uint64_t page)
{
    const uint64_t *words = data;
    uint32_t version = (uint32_t)(words[0] >> 32);
    for (uint32_t i = 0; i < payload / 8; i++) {
        if (words[i] != (i % 32 == 0 ? (uint64_t)version << 32 | page : page * 31 + i))
            return 0;
    }
    return version;
}

/* ---- the oracle ---------------------------------------------------------------------------------
 */

static uint32_t look_at(struct script *script, uint64_t page)
{
    struct cp_fix fix;
    int code = cp_pager_is_allocated(script->pager, page);
    if (code == 0)
        return 0;
    if (code > 0)
        code = cp_pager_fix(script->pager, page, CP_SHARED, &fix);
    if (code < 0)
        return UNKNOWN;
    uint32_t version = version_of(fix.data, cp_pager_payload_size(script->pager), page);
    cp_pager_unfix(script->pager, &fix);
    if (version == 0 && script->promise != PROMISE_NOTHING)
        die(script, "a page holds what nobody wrote");
    return version;
}

/* The store must be some row; after an opening it becomes the last one. */
static void compare(struct script *script, bool opened)
{
    uint32_t seen[PAGES];
    for (uint32_t i = 0; i < PAGES; i++)
        seen[i] = look_at(script, script->first + i);
    if (script->promise == PROMISE_NOTHING)
        return;
    uint32_t low = !opened ? script->count : script->promise == PROMISE_PREFIX ? 0 : script->acked;
    for (int64_t k = script->count; k >= (int64_t)low; k--) {
        uint32_t i = 0;
        while (i < PAGES && (seen[i] == script->version[k][i] ||
                             (seen[i] == UNKNOWN && script->promise >= PROMISE_ERRORS)))
            i++;
        if (i == PAGES) {
            if (opened)
                script->count = script->acked = (uint32_t)k;
            return;
        }
    }
    for (uint32_t i = 0; i < PAGES; i++)
        fprintf(stderr, "  page %u: %d, after the acknowledged %u, after all %u\n", i, (int)seen[i],
                script->version[script->acked][i], script->version[script->count][i]);
    die(script, "the store is in no state that it may be in");
}

/* ---- sessions -----------------------------------------------------------------------------------
 */

static bool open_store(struct script *script)
{
    struct cp_pager_options options = fuzz_options(script->engine);
    int code = cp_pager_open(fuzz_path("store"), &options, &script->pager);
    if (code != 0) {
        script->pager = NULL;
        if (script->promise == PROMISE_ALL)
            die(script, "an undamaged store does not open");
        return false;
    }
    compare(script, true);
    return true;
}

static void end_session(struct script *script, bool crash)
{
    if (crash) {
        cp_pager_abandon(script->pager);
    } else {
        int code = cp_pager_close(script->pager);
        if (code == 0)
            script->acked = script->count;
        else if (script->promise == PROMISE_ALL)
            die(script, "closing fails");
    }
    script->pager = NULL;
}

/* Did a sector of the log turn to zeros, as if it had never been written? */
static bool sector_vanished(const struct fuzz_image *before, const struct fuzz_image *after)
{
    static const uint8_t zeros[512];
    for (unsigned i = 1; i < before->count; i++) {
        const struct fuzz_file *old = &before->files[i], *new = &after->files[i];
        if (new->size < old->size &&new->size < 4096 + 512)
            return true;
        for (size_t at = 0; at + 512 <= old->size && at + 512 <= new->size; at += 512) {
            if (memcmp(new->bytes + at, zeros, 512) == 0 &&
                memcmp(old->bytes + at, zeros, 512) != 0)
                return true;
        }
    }
    return false;
}

static void damage(struct script *script, unsigned fix)
{
    struct fuzz_image before, after;
    fuzz_image_load(&before, fuzz_path("store"));
    fuzz_image_copy(&after, &before);
    bool copies = fuzz_image_edit(&after, &script->input);
    fuzz_image_fix(&after, fix);
    fuzz_image_write(&after, fuzz_path("store"));
    enum promise promise = PROMISE_ERRORS;
    if (sector_vanished(&before, &after))
        promise = PROMISE_PREFIX;
    if (fix != 0 || copies)
        promise = PROMISE_NOTHING;
    if (promise > script->promise)
        script->promise = promise;
    fuzz_image_free(&before);
    fuzz_image_free(&after);
}

/* ---- steps --------------------------------------------------------------------------------------
 */

static uint32_t *next_row(struct script *script)
{
    uint32_t *row = script->version[script->count + 1];
    memcpy(row, script->version[script->count], sizeof script->version[0]);
    return row;
}

static bool change(struct script *script, struct cp_mtr *mtr, uint32_t *row, uint64_t index)
{
    uint64_t page = script->first + index % PAGES;
    void *data;
    if (row[index % PAGES] == 0 || cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data) != 0)
        return false;
    fill(data, cp_pager_payload_size(script->pager), page, script->count + 2);
    row[index % PAGES] = script->count + 2;
    return true;
}

static bool allocate(struct script *script, struct cp_mtr *mtr, uint32_t *row)
{
    uint64_t page;
    void *data;
    if (cp_mtr_allocate(mtr, &page, &data) != 0)
        return false;
    if (page - script->first >= PAGES)
        return false; /* enough: give it back */
    if (row[page - script->first] != 0 && script->promise == PROMISE_ALL)
        die(script, "an allocated page is given out again");
    fill(data, cp_pager_payload_size(script->pager), page, script->count + 2);
    row[page - script->first] = script->count + 2;
    return true;
}

/* Up to four changes, then an end. */
static void transaction(struct script *script, unsigned operand)
{
    struct cp_mtr *mtr;
    if (cp_mtr_begin(script->pager, &mtr) != 0)
        return;
    uint32_t *row = next_row(script);
    bool good = true;
    for (unsigned i = 0; i <= (operand & 3) && good; i++) {
        unsigned what = (unsigned)fuzz_take(&script->input, 1);
        uint64_t index = what >> 3;
        switch (what & 7) {
        case 0:
            good = allocate(script, mtr, row);
            break;
        case 1:
            good = row[index % PAGES] != 0 && cp_mtr_free(mtr, script->first + index % PAGES) == 0;
            if (good)
                row[index % PAGES] = 0;
            break;
        default:
            (void)change(script, mtr, row, index);
        }
    }
    if (!good || (operand & 12) == 12) {
        cp_mtr_abort(mtr);
        return;
    }
    bool durable = (operand & 4) != 0;
    cp_lsn lsn = 0;
    int code = cp_mtr_commit(mtr, durable ? CP_COMMIT_DURABLE : CP_COMMIT_RELAXED, &lsn);
    if (code == 0 || script->promise != PROMISE_ALL)
        script->count++;
    else
        die(script, "a commit fails");
    if (code == 0 && durable && lsn != 0) /* one that changed nothing waits for nothing */
        script->acked = script->count;
}

/* One step; false: the script is over. */
static bool step(struct script *script)
{
    unsigned what = (unsigned)fuzz_take(&script->input, 1), operand = what >> 4;
    int code = 0;
    switch (what & 15) {
    default:
        transaction(script, operand);
        return true;
    case 9:
        code = cp_pager_checkpoint(script->pager);
        break;
    case 10:
        code = cp_pager_sync(script->pager);
        break;
    case 11:
        compare(script, false);
        return true;
    case 12:
    case 13:
        end_session(script, (what & 1) == 0);
        return open_store(script);
    case 14:
    case 15:
        end_session(script, (what & 1) == 0);
        damage(script, operand < 8 ? 0 : operand << 1 & 30);
        return open_store(script);
    }
    if (code == 0)
        script->acked = script->count;
    else if (script->promise == PROMISE_ALL)
        die(script, "a checkpoint or sync fails");
    return true;
}

/* ---- the fuzzer ---------------------------------------------------------------------------------
 */

static void init(struct script *script)
{
    memset(script->version[0], 0, sizeof script->version[0]);
    for (uint32_t i = 0; i < PAGES / 2; i++)
        script->version[0][i] = 1;
    script->first = base_first;
    script->promise = PROMISE_ALL;
    script->count = script->acked = 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct cp_pager_options options = fuzz_options(CP_ENGINE_POOL);
    struct cp_pager *pager;
    (void)argc;
    (void)argv;
    fuzz_limit_files();
    options.create = true;
    if (cp_pager_open(fuzz_path("base"), &options, &pager) != 0)
        abort();
    base_first = cp_pager_first_page(pager);
    for (uint32_t i = 0; i < PAGES / 2; i++) {
        struct cp_fix fix;
        if (cp_pager_allocate(pager, &fix) != 0)
            abort();
        fill(fix.data, cp_pager_payload_size(pager), fix.page, 1);
        cp_pager_unfix(pager, &fix);
    }
    if (cp_pager_close(pager) != 0)
        abort();
    fuzz_image_load(&base, fuzz_path("base"));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct script script;
    script.input = (struct fuzz_input){data, size};
    init(&script);
    script.engine = (fuzz_take(&script.input, 1) & 1) != 0 ? CP_ENGINE_MMAP : CP_ENGINE_POOL;
    fuzz_image_write(&base, fuzz_path("store"));
    if (!open_store(&script))
        return 0;
    unsigned steps = 0;
    while (script.input.size > 0 && steps++ < STEPS_MAX && script.count + 2 < ROWS && step(&script))
        ;
    if (script.pager == NULL)
        return 0;
    end_session(&script, steps % 2 == 0);
    if (open_store(&script))
        end_session(&script, false);
    return 0;
}
