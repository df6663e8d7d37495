/* SPDX-License-Identifier: MIT */
/* `clockpool create`: a new store. */
#include "commands.h"
#include "report.h"

#include "common/units.h"

#include <clockpool/pager.h>

#include <stdio.h>

static const char help_text[] =
    "usage: clockpool create DIR [--page-size SIZE] [--log-segment SIZE]\n"
    "\n"
    "Create an empty store in DIR, which must not exist or be empty. The store is there as a "
    "whole,\n"
    "or not at all.\n"
    "\n"
    "  --page-size SIZE     4K, 8K, 16K, 32K or 64K (default: 4K)\n"
    "  --log-segment SIZE   size of the log's files, a power of two from 16K to 1G (default: 4M)\n"
    "  --help               this text\n"
    "\n"
    "exit status: 0 created; 2 wrong usage; 3 DIR is not free or not accessible; 4 I/O error or\n"
    "full disk\n"
    "\n"
    "example: clockpool create orders --page-size 8K\n";

struct arguments {
    uint64_t page_size, log_segment;
};

static bool power_of_two_within(uint64_t value, uint64_t min, uint64_t max)
{
    return value >= min && value <= max && (value & (value - 1)) == 0;
}

static bool take(void *ctx, int option, const char *text)
{
    struct arguments *arguments = ctx;
    if (option == 'p')
        return (units_parse_size(text, &arguments->page_size) &&
                power_of_two_within(arguments->page_size, 4096, 65536)) ||
               tool_wrong_argument("create", "--page-size \"%s\": 4K, 8K, 16K, 32K or 64K", text);
    return (units_parse_size(text, &arguments->log_segment) &&
            power_of_two_within(arguments->log_segment, CP_WAL_SEGMENT_BYTES_MIN,
                                CP_WAL_SEGMENT_BYTES_MAX)) ||
           tool_wrong_argument("create", "--log-segment \"%s\": a power of two from 16K to 1G",
                               text);
}

int tool_create_main(int argc, char **argv)
{
    static const struct option options[] = {{"page-size", required_argument, NULL, 'p'},
                                            {"log-segment", required_argument, NULL, 'l'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    static const struct tool_command command = {
        "create", help_text, "--page-size, --log-segment, --help", options, 1, "a directory"};
    struct arguments arguments = {0};
    const char *operands[TOOL_OPERANDS_MAX];
    int status = tool_parse(&command, argc, argv, take, &arguments, operands);
    if (status >= 0)
        return status;
    const struct cp_pager_options pager_options = {
        .create = true,
        .exclusive = true,
        .page_size = (uint32_t)arguments.page_size,
        .log_segment_bytes = (uint32_t)arguments.log_segment,
    };
    struct cp_pager *pager;
    int code = cp_pager_open(operands[0], &pager_options, &pager);
    if (code == 0)
        code = cp_pager_close(pager);
    return code == 0 ? TOOL_FINE : tool_fail("create", code, false);
}
