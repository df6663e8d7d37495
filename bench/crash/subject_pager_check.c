/* SPDX-License-Identifier: MIT */
/* The check of the library's own store: what is in it, and does all of it agree? */
#include "subject_pager_internal.h"

#include "image.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_RECOVERY_ONE_IN 12u /* of the checks: the log is read several times */
#define SMALL_RECOVERY_BYTES  4096u
#define PAGES_MAX             1024u /* of a store here; all workloads stay far below */

struct checker {
    struct cp_io *io;
    uint8_t page[CP_PAGE_SIZE_MAX];
    uint8_t reachable[PAGES_MAX];
};

struct look {
    struct checker *checker;
    const struct crash_image *image;
    struct crash_verdict *verdict;
    struct cp_pager *pager;
    uint64_t page_count;
    uint32_t payload_bytes, cell_bytes;
};

void *crash_pager_check_begin(void)
{
    struct checker *checker = calloc(1, sizeof *checker);
    struct cp_io_options options = {.kind = CP_IO_SYNC};
    if (checker == NULL || cp_io_create(&options, &checker->io) != 0)
        abort();
    return checker;
}

void crash_pager_check_end(void *argument)
{
    struct checker *checker = argument;
    cp_io_destroy(checker->io);
    free(checker);
}

/* Read a page that something points to. */
static bool visit_page(struct look *look, uint64_t page, const char *what, unsigned number)
{
    if (page < cp_pager_first_page(look->pager) || page >= look->page_count) {
        crash_find(look->verdict, CRASH_CORRUPT, "%s %u is said to be page %" PRIu64 " of %" PRIu64,
                   what, number, page, look->page_count);
        return false;
    }
    if (look->checker->reachable[page]++ != 0) {
        crash_find(look->verdict, CRASH_CORRUPT, "page %" PRIu64 " has two owners, one %s %u", page,
                   what, number);
        return false;
    }
    int code = cp_pager_read(look->pager, page, 0, look->checker->page, look->payload_bytes);
    if (code != 0) {
        char text[300];
        crash_find(look->verdict, CRASH_CORRUPT, "reading %s %u: %s", what, number,
                   cp_error_format(text, sizeof text));
        return false;
    }
    return true;
}

static void check_slot(struct look *look, const struct crash_model *model, unsigned lane,
                       unsigned slot, uint64_t page)
{
    crash_version found = 0;
    if ((page != 0) != model->live[slot]) {
        crash_find(look->verdict, CRASH_TORN, "lane %u slot %u: %s page at version %x", lane, slot,
                   page != 0 ? "has a" : "has no", model->version);
        return;
    }
    if (page == 0 || !visit_page(look, page, "slot", slot))
        return;
    int cell =
        crash_model_compare(model, lane, slot, look->checker->page, look->cell_bytes, &found);
    if (cell < 0)
        return;
    bool other = found == CRASH_NO_VERSION || crash_plan_model(look->image->plan, lane, found);
    crash_find(look->verdict, other ? CRASH_TORN : CRASH_CORRUPT,
               "lane %u slot %u page %" PRIu64 " cell %d has version %x instead of %x; its lane is "
               "at %x",
               lane, slot, page, cell, found, model->cells[slot][cell], model->version);
}

static void check_lane(struct look *look, unsigned lane, uint64_t root_page)
{
    struct lane_root root;
    if (!visit_page(look, root_page, "root of lane", lane))
        return;
    memcpy(&root, look->checker->page, sizeof root);
    if (root.magic != CRASH_ROOT_MAGIC || root.lane != lane) {
        crash_find(look->verdict, CRASH_CORRUPT, "the root of lane %u is none", lane);
        return;
    }
    look->verdict->versions[lane] = root.version;
    const struct crash_model *model = crash_plan_model(look->image->plan, lane, root.version);
    if (model == NULL) {
        crash_find(look->verdict, CRASH_CORRUPT, "lane %u has version %x, which is never committed",
                   lane, root.version);
        return;
    }
    for (unsigned slot = 0; slot < look->image->plan->slots; slot++)
        check_slot(look, model, lane, slot, root.pages[slot]);
}

static bool is_loose_and_torn(const void *data, uint32_t bytes, uint64_t page)
{
    const uint64_t *words = data;
    if (words[0] != CRASH_LOOSE_MAGIC)
        return false;
    for (uint32_t i = 2; i < bytes / 8; i++) {
        if (words[i] != crash_pager__loose_word(page, words[1], i))
            return true;
    }
    return false;
}

/* An allocated page to which nothing leads: what can it be? */
static void check_loose(struct look *look, uint64_t page)
{
    char text[300];
    int code = cp_pager_read(look->pager, page, 0, look->checker->page, look->payload_bytes);
    if (code == CP_EUNWRITTEN)
        return;
    if (code != 0)
        crash_find(look->verdict, CRASH_CORRUPT, "reading a page outside transactions: %s",
                   cp_error_format(text, sizeof text));
    else if (is_loose_and_torn(look->checker->page, look->payload_bytes, page))
        crash_find(look->verdict, CRASH_TORN, "page %" PRIu64 ", outside transactions, is torn",
                   page);
}

static void check_space(struct look *look)
{
    const bool loose = look->image->plan->workload->loose;
    for (uint64_t page = cp_pager_first_page(look->pager); page < look->page_count; page++) {
        int allocated = cp_pager_is_allocated(look->pager, page);
        if (allocated == look->checker->reachable[page])
            continue;
        if (allocated == 1 && loose)
            check_loose(look, page);
        else if (allocated < 0)
            crash_find(look->verdict, CRASH_CORRUPT, "the space map cannot be read: %s",
                       cp_status_name(allocated));
        else
            crash_find(look->verdict, CRASH_CORRUPT, "page %" PRIu64 " is %s", page,
                       allocated != 0 ? "allocated, and nothing leads to it"
                                      : "in use, and free in the space map");
    }
}

static void check_contents(struct look *look)
{
    struct super_page super;
    uint64_t first = cp_pager_first_page(look->pager);
    look->page_count = cp_pager_page_count(look->pager);
    look->payload_bytes = cp_pager_payload_size(look->pager);
    look->cell_bytes = crash_cell_bytes(look->payload_bytes);
    if (look->page_count > PAGES_MAX) {
        crash_find(look->verdict, CRASH_CORRUPT, "the store has %" PRIu64 " pages",
                   look->page_count);
        return;
    }
    memset(look->checker->reachable, 0, sizeof look->checker->reachable);
    look->verdict->no_root =
        look->page_count <= first || cp_pager_is_allocated(look->pager, first) == 0;
    if (!look->verdict->no_root) {
        if (!visit_page(look, first, "super page", 0))
            return;
        memcpy(&super, look->checker->page, sizeof super);
        if (super.magic != CRASH_SUPER_MAGIC || super.lanes != look->image->plan->lanes) {
            crash_find(look->verdict, CRASH_CORRUPT, "the super page is none");
            return;
        }
        for (unsigned lane = 0; lane < look->image->plan->lanes; lane++)
            check_lane(look, lane, super.roots[lane]);
    }
    if (look->verdict->class == CRASH_FINE)
        check_space(look);
}

static bool look_open(struct look *look, const struct crash_pager_kind *kind, bool create)
{
    struct cp_pager_options options;
    char path[PATH_MAX], text[360];
    crash_pager__options(kind, look->image->plan->workload, look->checker->io, &options);
    options.create = create;
    if (look->image->number % SMALL_RECOVERY_ONE_IN == 0)
        options.recovery_bytes = SMALL_RECOVERY_BYTES;
    snprintf(path, sizeof path, "%s/store", look->image->root);
    int code = cp_pager_open(path, &options, &look->pager);
    if (code == 0)
        return true;
    look->verdict->no_space = crash_is_no_space(code);
    crash_find(look->verdict, CRASH_OPEN_FAILED, "%s", cp_error_format(text, sizeof text));
    return false;
}

static void count_damaged(void *ctx, uint64_t page, const struct cp_error *error)
{
    int64_t *damaged = ctx;
    (void)page;
    *damaged += error->code != CP_EUNWRITTEN;
}

/* Every page verified, closed properly, opened once more: the same again? */
static void look_deeper(struct look *look, const struct crash_pager_kind *kind)
{
    struct crash_verdict before = *look->verdict;
    int64_t damaged = 0;
    int64_t bad = cp_pager_check(look->pager, count_damaged, NULL, &damaged);
    if (bad < 0 || damaged > 0 || (bad > 0 && !look->image->plan->workload->loose))
        crash_find(look->verdict, CRASH_CORRUPT, "the store's own check finds %" PRId64, bad);
    int code = cp_pager_close(look->pager);
    look->pager = NULL;
    look->verdict->no_space = crash_is_no_space((int)bad) || crash_is_no_space(code);
    if (code != 0)
        crash_find(look->verdict, CRASH_OPEN_FAILED, "closing after recovery: %s",
                   cp_status_name(code));
    if (look->verdict->class != CRASH_FINE || !look_open(look, kind, false))
        return;
    check_contents(look);
    if (look->verdict->class == CRASH_FINE &&
        (before.no_root != look->verdict->no_root ||
         memcmp(before.versions, look->verdict->versions, sizeof before.versions) != 0))
        crash_find(look->verdict, CRASH_CORRUPT,
                   "closed after recovery and opened again, it is at other versions");
}

void crash_pager_check(const struct crash_pager_kind *kind, void *checker,
                       const struct crash_image *image, struct crash_verdict *verdict)
{
    struct look look = {.checker = checker, .image = image, .verdict = verdict};
    if (!look_open(&look, kind, !image->created))
        return;
    check_contents(&look);
    if (image->deep && verdict->class == CRASH_FINE)
        look_deeper(&look, kind);
    if (look.pager != NULL)
        cp_pager_abandon(look.pager);
}
