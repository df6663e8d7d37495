/* SPDX-License-Identifier: MIT */
/* `clockpool check`: is every byte of a store as it should be? */
#include "commands.h"
#include "report.h"
#include "unwritten.h"

#include "common/units.h"

#include <clockpool/inspect.h>
#include <clockpool/pager.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static const char help_text[] =
    "usage: clockpool check DIR [--quick] [--allow-unwritten] [--json]\n"
    "\n"
    "Verify the store in DIR: both superblocks, the log, the space map, and checksum, number and\n"
    "store id of every allocated page. Each bad page is named with what is wrong with it. The "
    "store\n"
    "is opened for writing, so nobody else may have it open, and one that was not closed is\n"
    "recovered first; apart from that nothing is changed.\n"
    "\n"
    "  --quick            superblocks, log and space map only\n"
    "  --allow-unwritten  allocated pages that are all zeros are no damage, as after a bulk\n"
    "                     load that was not finished (a page whose first write was lost looks\n"
    "                     the same)\n"
    "  --json             the findings as JSON\n"
    "  --help             this text\n"
    "\n"
    "exit status: 0 no damage; 1 damage was found, or pages never written; 2 wrong usage; 3 the\n"
    "store is missing, locked, not a store or not accessible; 4 I/O error or full disk\n"
    "\n"
    "example: clockpool check orders\n";

#define FINDINGS_KEPT 10000u /* in JSON, which is built in memory */

struct check {
    bool json, quick, allow_unwritten;
    struct tool_progress progress;
    uint64_t findings;
    json_t *list; /* owned; of the first FINDINGS_KEPT */
    int log_code; /* 0, or what was found of the log from outside */
    bool cut;     /* so was the data file */
    struct unwritten unwritten;
};

static bool take(void *ctx, int option, const char *text)
{
    struct check *check = ctx;
    (void)text;
    if (option == 'j')
        check->json = true;
    else if (option == 'u')
        check->allow_unwritten = true;
    else
        check->quick = true;
    return true;
}

static void add_finding(struct check *check, const struct cp_error *error)
{
    char line[600];
    check->findings++;
    tool_progress_clear(&check->progress);
    if (!check->json)
        printf("%s\n", tool_error_line(line, sizeof line, error));
    else if (check->findings <= FINDINGS_KEPT)
        json_array_append_new(check->list, tool_error_json(error));
}

static void report_page(void *ctx, uint64_t page, const struct cp_error *error)
{
    struct check *check = ctx;
    struct cp_error named = *error;
    named.page = page;
    if (error->code == CP_EUNWRITTEN)
        unwritten_add(&check->unwritten, page);
    else
        add_finding(check, &named);
}

static void show_pages(void *ctx, uint64_t done, uint64_t total)
{
    struct check *check = ctx;
    tool_progress_update(&check->progress, done, total, false);
}

static void show_recovery(void *ctx, const struct cp_recovery_progress *progress)
{
    struct check *check = ctx;
    tool_progress_update(&check->progress, progress->log_bytes_read, progress->log_bytes, true);
}

/* What opening would pass over in silence, since one good superblock is enough for it. */
static void check_superblocks(struct check *check, const struct cp_store_info *info)
{
    for (unsigned slot = 0; slot < 2; slot++) {
        struct cp_error error = {.code = CP_ECHECKSUM, .page = CP_NO_PAGE, .lsn = CP_NO_LSN};
        if (info->slot_valid[slot])
            continue;
        snprintf(error.what, sizeof error.what, "superblock in slot %c", slot == 0 ? 'A' : 'B');
        snprintf(error.hint, sizeof error.hint,
                 "the other one counts; the store's next changes write this one anew");
        add_finding(check, &error);
    }
}

/* Can the store be opened at all? Fills in what only a look from outside shows. */
static int check_outside(struct check *check, const char *directory)
{
    struct cp_store_info info;
    cp_lsn end = 0;
    int code = cp_pager_inspect(directory, NULL, &info);
    if (code != 0 || info.use != CP_STORE_FREE) /* in use: opening says by whom */
        return code;
    check_superblocks(check, &info);
    code = cp_pager_scan_log(directory, NULL, 0, NULL, NULL, &end);
    if (tool_exit_in(directory, code) == TOOL_FINDINGS) {
        add_finding(check, cp_error_info());
        check->log_code = code;
        code = 0;
    }
    check->cut = info.cut;
    if (code == 0 && info.cut) { /* the store cannot be opened then: that is all there is to say */
        struct cp_error error = {.code = CP_EFORMAT, .page = CP_NO_PAGE, .lsn = CP_NO_LSN};
        snprintf(error.what, sizeof error.what,
                 "the data file has %" PRIu64 " bytes, its superblock says %" PRIu64,
                 info.data_bytes, info.page_count * info.page_size);
        snprintf(error.hint, sizeof error.hint, "the file was cut: restore from a backup");
        add_finding(check, &error);
    }
    return code;
}

/* Is anything as it should not be? */
static bool is_fine(const struct check *check)
{
    return check->findings == 0 && (check->unwritten.pages == 0 || check->allow_unwritten);
}

static void print_unwritten(const struct check *check)
{
    char line[400];
    if (check->unwritten.pages == 0)
        return;
    printf("%s; write them or free them\n", unwritten_line(line, sizeof line, &check->unwritten));
    if (!check->allow_unwritten)
        printf("a page whose first write was lost looks the same; after a bulk load that was not "
               "finished: --allow-unwritten\n");
}

static void print_summary(const struct check *check, const char *directory,
                          const struct cp_pager_stats *stats)
{
    char pages[40], seconds[40], groups[40];
    if (stats->recovered_groups > 0)
        printf("recovered first: %s groups of the log replayed\n",
               units_format_thousands(groups, sizeof groups, (double)stats->recovered_groups));
    units_format_thousands(pages, sizeof pages, (double)stats->allocated_pages);
    units_format_seconds(seconds, sizeof seconds, tool_progress_seconds(&check->progress));
    printf("%s: %s allocated pages%s, %s: ", directory, pages,
           check->quick ? " (not read: --quick)" : "", seconds);
    if (check->findings > 0)
        printf("%" PRIu64 " finding%s\n", check->findings, check->findings == 1 ? "" : "s");
    else
        printf(check->unwritten.pages == 0 ? "no damage\n" : "no other damage\n");
}

static json_t *summary_json(const struct check *check, const char *directory,
                            const struct cp_pager_stats *stats)
{
    json_t *root = json_pack(
        "{s:o,s:b,s:b,s:I,s:O,s:I,s:I,s:I,s:I,s:f}", "store", tool_text_json(directory), "ok",
        is_fine(check), "quick", check->quick, "finding_count", (json_int_t)check->findings,
        "findings", check->list, "page_size", (json_int_t)stats->page_size, "allocated_pages",
        (json_int_t)stats->allocated_pages, "free_pages", (json_int_t)stats->free_pages,
        "recovered_groups", (json_int_t)stats->recovered_groups, "seconds",
        tool_progress_seconds(&check->progress));
    unwritten_to_json(&check->unwritten, root);
    return root;
}

/* The store is open: read it. */
static int check_inside(struct check *check, struct cp_pager *pager)
{
    if (check->quick)
        return 0;
    tool_progress_phase(&check->progress, "checked");
    int64_t bad = cp_pager_check(pager, report_page, show_pages, check);
    tool_progress_clear(&check->progress);
    return bad < 0 ? (int)bad : 0;
}

static int open_store(struct check *check, const char *directory, struct cp_pager **out_pager)
{
    struct cp_pager_options options = {.recovery_progress = show_recovery, .recovery_ctx = check};
    int code = cp_pager_open(directory, &options, out_pager);
    if (code != -EROFS)
        return code;
    options.read_only = true; /* a snapshot that is mounted to be looked at, say */
    return cp_pager_open(directory, &options, out_pager);
}

static int run(struct check *check, const char *directory)
{
    struct cp_pager_stats stats = {0};
    struct cp_pager *pager;
    tool_progress_begin(&check->progress, "replayed log,");
    int code = check_outside(check, directory);
    if (code != 0)
        return tool_fail_in("check", directory, code, check->json);
    code = open_store(check, directory, &pager);
    tool_progress_clear(&check->progress);
    /* Damage found from outside already explains why it cannot be opened. */
    if (code != 0 && check->findings == 0)
        return tool_fail_in("check", directory, code, check->json);
    if (code != 0) {
        if (code != check->log_code && !(check->cut && code == CP_EFORMAT))
            add_finding(check, cp_error_info());
    } else {
        code = check_inside(check, pager);
        cp_pager_stats(pager, &stats);
        if (code != 0)
            cp_pager_abandon(pager); /* which leaves the error as it is */
        else
            code = cp_pager_close(pager);
        if (code != 0)
            return tool_fail_in("check", directory, code, check->json);
    }
    int printed = TOOL_FINE;
    if (check->json)
        printed = tool_print_json("check", summary_json(check, directory, &stats));
    else {
        print_unwritten(check);
        print_summary(check, directory, &stats);
    }
    if (printed == TOOL_FINE)
        printed = tool_finish("check", TOOL_FINE);
    return printed != TOOL_FINE ? printed : is_fine(check) ? TOOL_FINE : TOOL_FINDINGS;
}

int tool_check_main(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"quick", no_argument, NULL, 'q'},
                                            {"allow-unwritten", no_argument, NULL, 'u'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    static const struct tool_command command = {
        "check", help_text, "--quick, --allow-unwritten, --json, --help",
        options, 1,         "a directory"};
    struct check check = {.json = false};
    const char *operands[TOOL_OPERANDS_MAX];
    int status = tool_parse(&command, argc, argv, take, &check, operands);
    if (status >= 0)
        return status;
    check.list = json_array();
    status = run(&check, operands[0]);
    json_decref(check.list);
    unwritten_free(&check.unwritten);
    return status;
}
