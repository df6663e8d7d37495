/* SPDX-License-Identifier: MIT */
/* `clockpool wal`: a store's log in readable form. */
#include "commands.h"
#include "report.h"

#include "common/units.h"

#include <clockpool/inspect.h>
#include <clockpool/wal.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "usage: clockpool wal DIR [--from LSN] [--limit N] [--page P] [--summary] [--json]\n"
    "\n"
    "Print the log of the store in DIR from its checkpoint on: groups (what one mini-transaction\n"
    "changed, all of it or nothing survives) with their records, where the log ends, and why "
    "there.\n"
    "Reads only and takes no lock: it works while another process has the store open.\n"
    "\n"
    "  --from LSN   begin at this position, a group's start or end (default: the checkpoint)\n"
    "  --limit N    print the first N groups only; all are read and counted\n"
    "  --page P     only records of page P, and groups that have one\n"
    "  --summary    no groups, only the counts\n"
    "  --json       the same as JSON\n"
    "  --help       this text\n"
    "\n"
    "A record's type: range (bytes of a page), init (the page becomes zeros), image (the whole\n"
    "page), trim (the file ends before this page).\n"
    "\n"
    "exit status: 0 the log is good to its end; 1 it is damaged, and the place is named; 2 wrong\n"
    "usage; 3 DIR is no store, or not accessible; 4 I/O error\n"
    "\n"
    "example: clockpool wal orders --page 1234\n";

#define TYPES_MAX     256u
#define SCAN_ATTEMPTS 20u /* a writer would have to write a checkpoint each time */

struct listing {
    bool json, summary;
    uint64_t from, limit, page; /* page CP_NO_PAGE: all */
    uint64_t printed;
    json_t *groups; /* owned */
    struct tool_progress progress;
    cp_lsn start; /* of the scan */
    /* counted, printed or not */
    uint64_t group_count, record_count, data_bytes;
    uint64_t type_counts[TYPES_MAX];
    uint32_t epoch_first, epoch_last, epoch_count;
};

static bool take(void *ctx, int option, const char *text)
{
    struct listing *listing = ctx;
    switch (option) {
    case 'j':
        listing->json = true;
        return true;
    case 's':
        listing->summary = true;
        return true;
    case 'f':
        return units_parse_number(text, 1, INT64_MAX, &listing->from) ||
               tool_wrong_argument("wal", "--from \"%s\": a position, a number from 1 on", text);
    case 'n':
        return units_parse_number(text, 0, INT64_MAX, &listing->limit) ||
               tool_wrong_argument("wal", "--limit \"%s\": a number from 0 on", text);
    default:
        return units_parse_number(text, 0, INT64_MAX, &listing->page) ||
               tool_wrong_argument("wal", "--page \"%s\": a page number", text);
    }
}

static void count_group(struct listing *listing, const struct cp_wal_group *group)
{
    listing->group_count++;
    listing->record_count += group->record_count;
    for (uint32_t i = 0; i < group->record_count; i++) {
        listing->type_counts[group->records[i].type]++;
        listing->data_bytes += group->records[i].size_bytes;
    }
    if (listing->epoch_count == 0)
        listing->epoch_first = group->epoch;
    if (listing->epoch_count == 0 || group->epoch != listing->epoch_last)
        listing->epoch_count++;
    listing->epoch_last = group->epoch;
}

static bool wanted(const struct listing *listing, const struct cp_wal_record *record)
{
    return listing->page == CP_NO_PAGE || record->page == listing->page;
}

static bool any_wanted(const struct listing *listing, const struct cp_wal_group *group)
{
    bool any = listing->page == CP_NO_PAGE;
    for (uint32_t i = 0; i < group->record_count && !any; i++)
        any = wanted(listing, &group->records[i]);
    return any;
}

static void print_group(const struct listing *listing, const struct cp_wal_group *group)
{
    printf("group %" PRIu64 " to %" PRIu64 ", epoch %u, %u record%s\n", group->start, group->end,
           group->epoch, group->record_count, group->record_count == 1 ? "" : "s");
    for (uint32_t i = 0; i < group->record_count; i++) {
        const struct cp_wal_record *record = &group->records[i];
        if (wanted(listing, record))
            printf("  %-7s page %" PRIu64 ", offset %u, %u bytes\n",
                   cp_pager_log_type_name(record->type), record->page, record->offset,
                   record->size_bytes);
    }
}

static void keep_group(struct listing *listing, const struct cp_wal_group *group)
{
    json_t *records = json_array();
    for (uint32_t i = 0; i < group->record_count; i++) {
        const struct cp_wal_record *record = &group->records[i];
        if (wanted(listing, record))
            json_array_append_new(
                records,
                json_pack("{s:s,s:i,s:I,s:i,s:I}", "type", cp_pager_log_type_name(record->type),
                          "type_number", (int)record->type, "page", (json_int_t)record->page,
                          "offset", (int)record->offset, "size", (json_int_t)record->size_bytes));
    }
    json_array_append_new(listing->groups,
                          json_pack("{s:I,s:I,s:I,s:I,s:o}", "start", (json_int_t)group->start,
                                    "end", (json_int_t)group->end, "epoch",
                                    (json_int_t)group->epoch, "record_count",
                                    (json_int_t)group->record_count, "records", records));
}

static int visit(void *ctx, const struct cp_wal_group *group)
{
    struct listing *listing = ctx;
    count_group(listing, group);
    tool_progress_update(&listing->progress, group->end - listing->start, 0, true);
    if (listing->summary || listing->printed >= listing->limit || !any_wanted(listing, group))
        return 0;
    listing->printed++;
    tool_progress_clear(&listing->progress);
    if (listing->json)
        keep_group(listing, group);
    else
        print_group(listing, group);
    return 0;
}

static void print_summary(const struct listing *listing, cp_lsn end, const struct cp_error *damage)
{
    char groups[40], records[40], data[40], line[600];
    printf("%s groups, %s records, %s of data, from LSN %" PRIu64 " to %" PRIu64,
           units_format_thousands(groups, sizeof groups, (double)listing->group_count),
           units_format_thousands(records, sizeof records, (double)listing->record_count),
           units_format_size(data, sizeof data, listing->data_bytes), listing->start, end);
    if (listing->epoch_count > 0)
        printf(", epochs %u to %u (%u)", listing->epoch_first, listing->epoch_last,
               listing->epoch_count);
    printf("\n");
    for (unsigned type = 0; type < TYPES_MAX; type++) {
        if (listing->type_counts[type] > 0)
            printf("  %-7s %s\n", cp_pager_log_type_name((uint8_t)type),
                   units_format_thousands(records, sizeof records,
                                          (double)listing->type_counts[type]));
    }
    if (damage == NULL)
        printf("the log ends there: nothing complete was written behind it\n");
    else
        printf("DAMAGED there: %s\n", tool_error_line(line, sizeof line, damage));
}

static json_t *summary_json(const struct listing *listing, cp_lsn end,
                            const struct cp_error *damage)
{
    json_t *types = json_object();
    for (unsigned type = 0; type < TYPES_MAX; type++) {
        if (listing->type_counts[type] > 0)
            json_object_set_new(types, cp_pager_log_type_name((uint8_t)type),
                                json_integer((json_int_t)listing->type_counts[type]));
    }
    json_t *root = json_pack(
        "{s:I,s:I,s:s,s:I,s:I,s:I,s:I,s:o,s:O}", "from", (json_int_t)listing->start, "end",
        (json_int_t)end, "ends_by", damage == NULL ? "end" : "damage", "group_count",
        (json_int_t)listing->group_count, "record_count", (json_int_t)listing->record_count,
        "data_bytes", (json_int_t)listing->data_bytes, "epochs", (json_int_t)listing->epoch_count,
        "types", types, "groups", listing->groups);
    if (damage != NULL)
        json_object_set_new(root, "error", tool_error_json(damage));
    return root;
}

/* Forget what was counted and kept, to begin anew. */
static void reset(struct listing *listing)
{
    listing->group_count = listing->record_count = listing->data_bytes = listing->printed = 0;
    listing->epoch_count = 0;
    memset(listing->type_counts, 0, sizeof listing->type_counts);
    json_array_clear(listing->groups);
}

/*
 * A store in use may trim its log while it is read. As long as nothing has been printed the reading
 * begins anew, at the new checkpoint.
 */
static int scan(struct listing *listing, const char *directory, cp_lsn *out_end)
{
    int code = -EAGAIN;
    for (unsigned attempt = 0; code == -EAGAIN && attempt < SCAN_ATTEMPTS; attempt++) {
        struct cp_store_info info;
        reset(listing);
        code = cp_pager_inspect(directory, NULL, &info);
        if (code != 0)
            break;
        listing->start = listing->from != 0 ? listing->from : info.checkpoint_lsn;
        code = cp_pager_scan_log(directory, NULL, listing->start, visit, listing, out_end);
        if (listing->from != 0 || (listing->printed > 0 && !listing->json))
            break;
    }
    return code;
}

/* Looks for a position among the groups' starts and ends. */
static int find_position(void *ctx, const struct cp_wal_group *group)
{
    cp_lsn *position = ctx;
    if (*position == group->start || *position == group->end)
        *position = 0;
    return 0;
}

/* Nothing could be read at the position that was asked for. If that is because no group begins
 * there, the position is wrong, and not the log. Returns the code of what it is. */
static int explain_from(const struct listing *listing, const char *directory, int code)
{
    const struct cp_error saved = *cp_error_info();
    struct cp_store_info info;
    cp_lsn position = listing->from, end = 0;
    if (code != -EINVAL && tool_exit_of(code) != TOOL_FINDINGS)
        return code;
    if (cp_pager_inspect(directory, NULL, &info) != 0 || info.log_code != 0)
        return cp_error_restore(&saved);
    (void)!cp_pager_scan_log(directory, NULL, 0, find_position, &position, &end);
    if (position == 0 || (listing->from % 8 == 0 && listing->from >= info.log_first &&
                          listing->from < info.checkpoint_lsn))
        return cp_error_restore(&saved);
    return cp_error_set(-EINVAL, directory, CP_NO_PAGE, listing->from,
                        "name a group's start or end, as this command prints them without --from",
                        "--from %" PRIu64 ": no group begins there; the log has LSN %" PRIu64
                        " to %" PRIu64,
                        listing->from, info.log_first, end);
}

static int run(struct listing *listing, const char *directory)
{
    cp_lsn end = 0;
    tool_progress_begin(&listing->progress, "read");
    int code = scan(listing, directory, &end);
    if (code != 0 && listing->from != 0 && listing->group_count == 0)
        code = explain_from(listing, directory, code);
    tool_progress_clear(&listing->progress);
    const struct cp_error damage = *cp_error_info();
    const int status = tool_exit_in(directory, code);
    if (code != 0 && status != TOOL_FINDINGS)
        return tool_fail("wal", code, listing->json);
    int printed;
    if (listing->json) {
        printed = tool_print_json("wal", summary_json(listing, end, code != 0 ? &damage : NULL));
    } else {
        print_summary(listing, end, code != 0 ? &damage : NULL);
        printed = tool_finish("wal", TOOL_FINE);
    }
    return printed != TOOL_FINE ? printed : status;
}

int tool_wal_main(int argc, char **argv)
{
    static const struct option options[] = {{"from", required_argument, NULL, 'f'},
                                            {"limit", required_argument, NULL, 'n'},
                                            {"page", required_argument, NULL, 'p'},
                                            {"summary", no_argument, NULL, 's'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    static const struct tool_command command = {
        "wal",   help_text, "--from, --limit, --page, --summary, --json, --help",
        options, 1,         "a directory"};
    static struct listing listing; /* static: large for a small stack */
    const char *operands[TOOL_OPERANDS_MAX];
    listing.limit = UINT64_MAX;
    listing.page = CP_NO_PAGE;
    int status = tool_parse(&command, argc, argv, take, &listing, operands);
    if (status >= 0)
        return status;
    listing.groups = json_array();
    status = run(&listing, operands[0]);
    json_decref(listing.groups);
    return status;
}
