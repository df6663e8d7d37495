/* SPDX-License-Identifier: MIT */
/* The subcommands. Each takes its own argc and argv (argv[0] is its name), returns the exit status.
 */
#ifndef TOOLS_COMMANDS_H
#define TOOLS_COMMANDS_H

int tool_create_main(int argc, char **argv);
int tool_stat_main(int argc, char **argv);
int tool_check_main(int argc, char **argv);
int tool_wal_main(int argc, char **argv);
int tool_recover_main(int argc, char **argv);
int tool_backup_main(int argc, char **argv);
int tool_restore_main(int argc, char **argv);

#endif
