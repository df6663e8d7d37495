/* SPDX-License-Identifier: MIT */
/* `clockpool stat`: what a store is, without opening it. */
#include "commands.h"
#include "report.h"

#include "common/units.h"

#include <clockpool/inspect.h>

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

static const char help_text[] =
    "usage: clockpool stat DIR [--json]\n"
    "\n"
    "Say what the store in DIR is: its state and who has it open, sizes, the log's extent. Reads "
    "the\n"
    "superblocks and the headers of the log only, takes no lock and writes nothing: it works "
    "while\n"
    "another process has the store open, and when the store needs recovery.\n"
    "\n"
    "  --json   the same as JSON\n"
    "  --help   this text\n"
    "\n"
    "exit status: 0 printed; 1 a superblock or the log is damaged, or the data file is cut; 2 "
    "wrong\n"
    "usage; 3 DIR is no store, or not accessible; 4 I/O error\n"
    "\n"
    "example: clockpool stat orders\n";

static bool take(void *ctx, int option, const char *text)
{
    (void)option;
    (void)text;
    *(bool *)ctx = true;
    return true;
}

static const char *state_name(const struct cp_store_info *info)
{
    if (info->use == CP_STORE_WRITTEN)
        return "open";
    if (info->unclean)
        return "needs recovery";
    return info->use == CP_STORE_READ ? "being read" : "clean";
}

/* One good superblock is enough, and while the store is written to the other is in the making. */
static bool slots_damaged(const struct cp_store_info *info)
{
    return !(info->slot_valid[0] && info->slot_valid[1]) && info->use != CP_STORE_WRITTEN;
}

static void format_created(char *text, size_t capacity, uint64_t created_ns)
{
    time_t seconds = (time_t)(created_ns / 1000000000u);
    struct tm when;
    if (gmtime_r(&seconds, &when) == NULL ||
        strftime(text, capacity, "%Y-%m-%dT%H:%M:%SZ", &when) == 0)
        snprintf(text, capacity, "unknown");
}

static void print_log_text(const struct cp_store_info *info, const struct cp_error *log_error)
{
    char total[40], segment[40], line[600];
    if (info->log_code != 0) {
        printf("log         DAMAGED: %s\n", tool_error_line(line, sizeof line, log_error));
        return;
    }
    printf("log         %" PRIu64 " segment%s of %s, %s; begins at LSN %" PRIu64 "\n",
           info->log_segments, info->log_segments == 1 ? "" : "s",
           units_format_size(segment, sizeof segment, info->log_segment_bytes),
           units_format_size(total, sizeof total, info->log_disk_bytes), info->log_first);
}

static void print_text(const char *directory, const struct cp_store_info *info,
                       const struct cp_error *log_error)
{
    char created[40], size[40], pages[40], page_size[40];
    format_created(created, sizeof created, info->created_ns);
    printf("store       %s\n", directory);
    printf("state       %s", state_name(info));
    if (info->holder_pid > 0)
        printf(", held by process %" PRId64 " (%s)", info->holder_pid, info->holder_command);
    else if (info->use != CP_STORE_FREE)
        printf(", held by another process");
    printf("%s\n", info->copied ? "; a backup is being taken" : "");
    printf("page size   %s\n", units_format_size(page_size, sizeof page_size, info->page_size));
    printf("pages       %s, the pager's own included; the first to use is %" PRIu64 "\n",
           units_format_thousands(pages, sizeof pages, (double)info->page_count), info->first_page);
    printf("data file   %s%s\n", units_format_size(size, sizeof size, info->data_bytes),
           info->cut ? " - CUT: the superblock says more" : "");
    print_log_text(info, log_error);
    printf("checkpoint  LSN %" PRIu64 "\n", info->checkpoint_lsn);
    printf("generation  %" PRIu64 "\n", info->generation);
    printf("created     %s\n", created);
    printf("store id    %016" PRIx64 "\n", info->store_id);
    printf("format      %u\n", info->format_version);
    if (slots_damaged(info))
        printf("superblock  slot %c is DAMAGED; the other one counts\n",
               info->slot_valid[0] ? 'B' : 'A');
}

static json_t *info_json(const char *directory, const struct cp_store_info *info,
                         const struct cp_error *log_error)
{
    static const char *const uses[] = {"none", "read", "write"};
    char created[40], id[20];
    format_created(created, sizeof created, info->created_ns);
    snprintf(id, sizeof id, "%016" PRIx64, info->store_id);
    json_t *log = info->log_code != 0
                      ? json_pack("{s:o}", "error", tool_error_json(log_error))
                      : json_pack("{s:I,s:I,s:I,s:I}", "first_lsn", (json_int_t)info->log_first,
                                  "segments", (json_int_t)info->log_segments, "segment_bytes",
                                  (json_int_t)info->log_segment_bytes, "disk_bytes",
                                  (json_int_t)info->log_disk_bytes);
    json_t *root = json_pack(
        "{s:o,s:s,s:b,s:s,s:b,s:I,s:I,s:I,s:I,s:b,s:I,s:I,s:s,s:s,s:I,s:[b,b],s:o}", "store",
        tool_text_json(directory), "state", state_name(info), "clean", !info->unclean, "held_for",
        uses[info->use], "backup", info->copied, "page_size", (json_int_t)info->page_size,
        "page_count", (json_int_t)info->page_count, "first_page", (json_int_t)info->first_page,
        "data_bytes", (json_int_t)info->data_bytes, "cut", info->cut, "checkpoint_lsn",
        (json_int_t)info->checkpoint_lsn, "generation", (json_int_t)info->generation, "created",
        created, "store_id", id, "format_version", (json_int_t)info->format_version,
        "superblocks_valid", info->slot_valid[0], info->slot_valid[1], "log", log);
    if (info->holder_pid > 0)
        json_object_set_new(root, "holder",
                            json_pack("{s:I,s:o}", "pid", (json_int_t)info->holder_pid, "command",
                                      tool_text_json(info->holder_command)));
    return root;
}

int tool_stat_main(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    static const struct tool_command command = {"stat",  help_text, "--json, --help",
                                                options, 1,         "a directory"};
    const char *operands[TOOL_OPERANDS_MAX];
    struct cp_store_info info;
    bool json = false;
    int status = tool_parse(&command, argc, argv, take, &json, operands);
    if (status >= 0)
        return status;
    int code = cp_pager_inspect(operands[0], NULL, &info);
    if (code != 0)
        return tool_fail("stat", code, json);
    struct cp_error log_error = *cp_error_info(); /* of log_code, where that is not 0 */
    status = info.cut || slots_damaged(&info) || info.log_code != 0 ? TOOL_FINDINGS : TOOL_FINE;
    if (json) {
        int printed = tool_print_json("stat", info_json(operands[0], &info, &log_error));
        return printed != TOOL_FINE ? printed : status;
    }
    print_text(operands[0], &info, &log_error);
    return tool_finish("stat", status);
}
