/* SPDX-License-Identifier: MIT */
/* The check of the library's own store: what is in it, and does all of it agree? */
#include "subject_pager_internal.h"

#include "image.h"

#include <clockpool/backup.h>

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SMALL_RECOVERY_ONE_IN 12u /* of the checks: the log is read several times */
#define SMALL_RECOVERY_BYTES  4096u
#define RESTORE_ONE_IN        8u /* of the checks of a copy: copied once more before it is opened */
#define EARLIER_ONE_IN        4u /* of the checks: into the copies before the last one, too */
#define PAGES_MAX             1024u /* of a store here; all workloads stay far below */

struct checker {
    struct cp_io *io;
    uint8_t page[CP_PAGE_SIZE_MAX];
    uint8_t reachable[PAGES_MAX];
};

struct look {
    struct checker *checker;
    const struct crash_pager_kind *kind;
    const struct crash_image *image;
    char path[PATH_MAX]; /* of the store, or a copy of it */
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

static bool look_open(struct look *look, bool create)
{
    struct cp_pager_options options;
    char text[360];
    crash_pager__options(look->kind, look->image->plan->workload, look->checker->io, &options);
    options.create = create;
    if (look->image->number % SMALL_RECOVERY_ONE_IN == 0)
        options.recovery_bytes = SMALL_RECOVERY_BYTES;
    int code = cp_pager_open(look->path, &options, &look->pager);
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
static void look_deeper(struct look *look)
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
    if (look->verdict->class != CRASH_FINE || !look_open(look, false))
        return;
    check_contents(look);
    if (look->verdict->class == CRASH_FINE &&
        (before.no_root != look->verdict->no_root ||
         memcmp(before.versions, look->verdict->versions, sizeof before.versions) != 0))
        crash_find(look->verdict, CRASH_CORRUPT,
                   "closed after recovery and opened again, it is at other versions");
}

/* look->path says where: open it, compare all of it, and leave it as after a crash. */
static void look_at(struct look *look, bool create)
{
    if (!look_open(look, create))
        return;
    check_contents(look);
    if (look->image->deep && look->verdict->class == CRASH_FINE)
        look_deeper(look);
    if (look->pager != NULL)
        cp_pager_abandon(look->pager);
    look->pager = NULL;
}

/* ---- copies -----------------------------------------------------------------------------------
 */

/* What `clockpool restore` does: copy the copy, which stays as it is, and open that. */
static bool restore(struct look *look, unsigned number)
{
    char restored[PATH_MAX], text[300];
    const struct cp_backup_options options = {.io = look->checker->io};
    snprintf(restored, sizeof restored, "%s/restored-%u", look->image->root, number);
    int code = cp_backup(look->path, restored, &options, NULL);
    if (code != 0) {
        look->verdict->no_space = crash_is_no_space(code);
        crash_find(look->verdict, CRASH_OPEN_FAILED, "restoring it: %s",
                   cp_error_format(text, sizeof text));
        return false;
    }
    memcpy(look->path, restored, sizeof look->path);
    return true;
}

/* A copy that has its name is a store: the same is asked of it, with bounds of its own. */
static void check_copy(struct look *look, unsigned number)
{
    struct crash_verdict *whole = look->verdict, verdict = {.class = CRASH_FINE};
    look->verdict = &verdict;
    if (look->image->number % RESTORE_ONE_IN != 0 || restore(look, number))
        look_at(look, false);
    look->verdict = whole;
    if (verdict.class == CRASH_FINE && verdict.no_root)
        crash_find(whole, CRASH_LOST, "copy %u is empty", number);
    else if (verdict.class != CRASH_FINE)
        crash_find(whole, verdict.class, "copy %u: %.300s", number, verdict.text);
    whole->no_space |= verdict.no_space;
    whole->copies[number].looked = verdict.class == CRASH_FINE && !verdict.no_root;
    memcpy(whole->copies[number].versions, verdict.versions, sizeof verdict.versions);
}

static void check_copies(struct look *look)
{
    struct stat status;
    bool last = true;
    for (unsigned number = CRASH_COPIES_MAX; number-- > 0;) {
        crash_pager__copy_path(look->image->root, look->image->plan, number, look->path,
                               sizeof look->path);
        if (stat(look->path, &status) != 0)
            continue;
        look->verdict->copies[number].there = true;
        if (last || look->image->number % EARLIER_ONE_IN == 0)
            check_copy(look, number);
        last = false;
    }
}

void crash_pager_check(const struct crash_pager_kind *kind, void *checker,
                       const struct crash_image *image, struct crash_verdict *verdict)
{
    struct look look = {.checker = checker, .kind = kind, .image = image, .verdict = verdict};
    snprintf(look.path, sizeof look.path, "%s/store", image->root);
    look_at(&look, !image->created);
    if (image->plan->workload->backup_percent > 0)
        check_copies(&look);
}
