/* SPDX-License-Identifier: MIT */
/* clockpool: make, look into, check, copy and recover stores. */
#include "commands.h"
#include "report.h"

#include <clockpool/version.h>

#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "usage: clockpool COMMAND [arguments]\n"
    "\n"
    "  create DIR              a new store\n"
    "  stat DIR                what a store is; works while it is open elsewhere\n"
    "  check DIR               verify every page and the space map\n"
    "  wal DIR                 the log in readable form\n"
    "  recover DIR             replay the log of a store that was not closed\n"
    "  backup DIR DEST         copy a store, also while it is written to\n"
    "  restore BACKUP DEST     copy back, recover and check\n"
    "  help [COMMAND]          this text, or that of a command\n"
    "  --version\n"
    "\n"
    "Each command has --help, and all but create have --json.\n"
    "\n"
    "exit status: 0 fine; 1 damage was found; 2 wrong usage; 3 the store cannot be opened "
    "(missing,\n"
    "locked, not a store) or the destination exists; 4 I/O error or full disk\n";

static const struct {
    const char *name;
    int (*main)(int argc, char **argv);
} commands[] = {
    {"create", tool_create_main},   {"stat", tool_stat_main},       {"check", tool_check_main},
    {"wal", tool_wal_main},         {"recover", tool_recover_main}, {"backup", tool_backup_main},
    {"restore", tool_restore_main},
};

static int command_main(const char *name, int argc, char **argv)
{
    for (unsigned i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].main(argc, argv);
    }
    fprintf(stderr, "clockpool: unknown command \"%s\"; commands are", name);
    for (unsigned i = 0; i < sizeof commands / sizeof commands[0]; i++)
        fprintf(stderr, " %s,", commands[i].name);
    fprintf(stderr, " help\n");
    return TOOL_USAGE;
}

static int print_help(void)
{
    fputs(help_text, stdout);
    return tool_finish("help", TOOL_FINE);
}

static int help_main(int argc, char **argv)
{
    char option[] = "--help";
    if (argc < 3)
        return print_help();
    char *arguments[] = {argv[2], option, NULL};
    return command_main(argv[2], 2, arguments);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs(help_text, stderr);
        return TOOL_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("clockpool %s\n", cp_version());
        return tool_finish("--version", TOOL_FINE);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return print_help();
    if (strcmp(argv[1], "help") == 0)
        return help_main(argc, argv);
    return command_main(argv[1], argc - 1, argv + 1);
}
