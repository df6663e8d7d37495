/* SPDX-License-Identifier: MIT */
/* What all commands share: their options, exit statuses, errors and progress. */
#ifndef TOOLS_REPORT_H
#define TOOLS_REPORT_H

#include <clockpool/status.h>

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Documented in clockpool(1): scripts rely on them. */
enum tool_exit {
    TOOL_FINE = 0,
    TOOL_FINDINGS = 1, /* damage was found */
    TOOL_USAGE = 2,
    TOOL_CANNOT_OPEN = 3, /* missing, locked, not a store; or the destination exists */
    TOOL_IO = 4,          /* the system refused: I/O error, full disk, memory */
};

/* The exit status for a code of the library; 0 for 0. */
int tool_exit_of(int code);
/*
 * The same of a command about the store in directory. CP_EFORMAT is "not a store" unless its
 * superblock is good: then it is one, and what contradicts itself is damaged. The thread's last
 * error stays.
 */
int tool_exit_in(const char *directory, int code);

/* ---- the command line -------------------------------------------------------------------------
 */

struct tool_command {
    const char *name;
    const char *help;    /* its --help */
    const char *accepts; /* its options in words, for a wrong one */
    const struct option *options;
    unsigned operands; /* exactly this many */
    const char *operand_names;
};

#define TOOL_OPERANDS_MAX 2u

/*
 * Parse a command's arguments. take: called with each option's val and its argument (NULL when it
 * has none), false when the argument is wrong, having said so. --help is handled here. Returns -1
 * to go on with operands filled in, or the exit status to end with.
 */
int tool_parse(const struct tool_command *command, int argc, char **argv,
               bool (*take)(void *ctx, int option, const char *argument), void *ctx,
               const char *operands[TOOL_OPERANDS_MAX]);

/* "clockpool COMMAND: text" on standard error; returns false, for take. */
bool tool_wrong_argument(const char *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- results ----------------------------------------------------------------------------------
 */

/*
 * Say why the command ends, from the thread's last error: a line with what to do on standard error
 * and, with json, an object {"error": ...} on standard output. Returns the exit status.
 */
int tool_fail(const char *command, int code, bool json);
int tool_fail_in(const char *command, const char *directory, int code, bool json);
/* An error as an object: code, name, text, path, page, lsn, what, hint. */
json_t *tool_error_json(const struct cp_error *error);
/* One line, "page 7: what: text (NAME); hint", into text. */
char *tool_error_line(char *text, size_t capacity, const struct cp_error *error);
/* Print an object with a line break, and free it. Returns TOOL_FINE, or TOOL_IO with a message. */
int tool_print_json(const char *command, json_t *object);
/* At a command's end: has everything gone out? status, or TOOL_IO with a message. */
int tool_finish(const char *command, int status);
/* Text from a file or a path, as something that a terminal can show and JSON can hold. */
json_t *tool_text_json(const char *text);

/* ---- progress ---------------------------------------------------------------------------------
 */

/* On standard error: a line rewritten on a terminal, a line now and then elsewhere. */
struct tool_progress {
    const char *verb; /* "checked", "read" */
    uint64_t begin_ns, phase_ns, shown_ns;
    bool terminal, shown;
};

void tool_progress_begin(struct tool_progress *progress, const char *verb);
/* Another kind of work begins, unless verb is what goes on: the time left is counted anew. */
void tool_progress_phase(struct tool_progress *progress, const char *verb);
/* bytes: done and total are bytes. total 0: unknown. Cheap to call often. */
void tool_progress_update(struct tool_progress *progress, uint64_t done, uint64_t total,
                          bool bytes);
/* Clear the line: before anything else is printed, and at the end. */
void tool_progress_clear(struct tool_progress *progress);
double tool_progress_seconds(const struct tool_progress *progress);

#endif
