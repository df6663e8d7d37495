/* SPDX-License-Identifier: MIT */
/* `clockpool recover`: bring a store that was not closed back to its last commit, and close it. */
#include "commands.h"
#include "report.h"

#include "common/units.h"

#include <clockpool/pager.h>

#include <inttypes.h>
#include <stdio.h>

static const char help_text[] =
    "usage: clockpool recover DIR [--json]\n"
    "\n"
    "Open the store in DIR, replay its log where it was not closed, and close it cleanly. Opening "
    "it\n"
    "from a program does the same; this is for doing it ahead of time, and for seeing how long it\n"
    "takes. A store that is clean stays as it is.\n"
    "\n"
    "  --json   what was done, as JSON\n"
    "  --help   this text\n"
    "\n"
    "exit status: 0 the store is clean now; 1 the log or a page that it needs is damaged; 2 wrong\n"
    "usage; 3 the store is missing, locked, not a store or not accessible; 4 I/O error or full "
    "disk\n"
    "\n"
    "example: clockpool recover orders\n";

struct recovery {
    bool json;
    struct tool_progress progress;
};

static bool take(void *ctx, int option, const char *text)
{
    struct recovery *recovery = ctx;
    (void)option;
    (void)text;
    recovery->json = true;
    return true;
}

static void show(void *ctx, const struct cp_recovery_progress *progress)
{
    struct recovery *recovery = ctx;
    if (progress->pages_done < progress->pages) {
        tool_progress_phase(&recovery->progress, "replayed");
        tool_progress_update(&recovery->progress, progress->pages_done, progress->pages, false);
    } else {
        tool_progress_phase(&recovery->progress, "read log,");
        tool_progress_update(&recovery->progress, progress->log_bytes_read, progress->log_bytes,
                             true);
    }
}

static void print_text(const char *directory, const struct cp_pager_stats *stats, double seconds)
{
    char bytes[40], groups[40], pages[40];
    if (!stats->unclean) {
        printf("%s: was closed; nothing to recover\n", directory);
        return;
    }
    printf("%s: recovered: %s of log, %s groups, %s pages, %.3f s\n", directory,
           units_format_size(bytes, sizeof bytes, stats->recovered_bytes),
           units_format_thousands(groups, sizeof groups, (double)stats->recovered_groups),
           units_format_thousands(pages, sizeof pages, (double)stats->recovered_pages), seconds);
}

static int run(struct recovery *recovery, const char *directory)
{
    const struct cp_pager_options options = {.recovery_progress = show, .recovery_ctx = recovery};
    struct cp_pager_stats stats;
    struct cp_pager *pager;
    tool_progress_begin(&recovery->progress, "read log,");
    int code = cp_pager_open(directory, &options, &pager);
    tool_progress_clear(&recovery->progress);
    if (code != 0)
        return tool_fail_in("recover", directory, code, recovery->json);
    cp_pager_stats(pager, &stats);
    code = cp_pager_close(pager);
    if (code != 0)
        return tool_fail_in("recover", directory, code, recovery->json);
    const double seconds = tool_progress_seconds(&recovery->progress);
    if (recovery->json)
        return tool_print_json("recover",
                               json_pack("{s:o,s:b,s:I,s:I,s:I,s:f,s:f}", "store",
                                         tool_text_json(directory), "was_clean", !stats.unclean,
                                         "log_bytes", (json_int_t)stats.recovered_bytes, "groups",
                                         (json_int_t)stats.recovered_groups, "pages",
                                         (json_int_t)stats.recovered_pages, "recovery_seconds",
                                         (double)stats.recovery_us * 1e-6, "seconds", seconds));
    print_text(directory, &stats, seconds);
    return tool_finish("recover", TOOL_FINE);
}

int tool_recover_main(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    static const struct tool_command command = {"recover", help_text, "--json, --help",
                                                options,   1,         "a directory"};
    struct recovery recovery = {.json = false};
    const char *operands[TOOL_OPERANDS_MAX];
    int status = tool_parse(&command, argc, argv, take, &recovery, operands);
    return status >= 0 ? status : run(&recovery, operands[0]);
}
