/* SPDX-License-Identifier: MIT */
/* Exit statuses, errors in words and as JSON, progress lines. */
#include "report.h"

#include "common/terminal.h"
#include "common/units.h"

#include <clockpool/inspect.h>
#include <clockpool/base/error.h>
#include <clockpool/base/thread.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TERMINAL_PERIOD_NS UINT64_C(200000000)
#define PLAIN_PERIOD_NS    UINT64_C(5000000000)

int tool_exit_of(int code)
{
    switch (code) {
    case 0:
        return TOOL_FINE;
    case CP_ECHECKSUM:
    case CP_EUNWRITTEN:
    case CP_EMISPLACED:
    case CP_EFOREIGN:
    case CP_ELOG:
    case CP_EDAMAGED:
        return TOOL_FINDINGS;
    case -EINVAL:
        return TOOL_USAGE;
    case CP_EFORMAT:
    case CP_EVERSION:
    case CP_ELOCKED:
    case -ENOENT:
    case -ENOTDIR:
    case -EISDIR:
    case -ELOOP:
    case -ENAMETOOLONG:
    case -EACCES:
    case -EPERM:
    case -EEXIST:
    case -ENOTEMPTY:
        return TOOL_CANNOT_OPEN;
    default:
        return TOOL_IO;
    }
}

int tool_exit_in(const char *directory, int code)
{
    struct cp_store_info info;
    int status = tool_exit_of(code);
    if (code != CP_EFORMAT)
        return status;
    const struct cp_error saved = *cp_error_info();
    if (cp_pager_inspect(directory, NULL, &info) == 0)
        status = TOOL_FINDINGS;
    cp_error_restore(&saved);
    return status;
}

/* ---- the command line -------------------------------------------------------------------------
 */

bool tool_wrong_argument(const char *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "clockpool %s: ", command);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return false;
}

int tool_parse(const struct tool_command *command, int argc, char **argv,
               bool (*take)(void *ctx, int option, const char *argument), void *ctx,
               const char *operands[TOOL_OPERANDS_MAX])
{
    int id;
    optind = 1;
    opterr = 0;
    while ((id = getopt_long(argc, argv, ":", command->options, NULL)) != -1) {
        if (id == 'h') {
            fputs(command->help, stdout);
            return tool_finish(command->name, TOOL_FINE);
        }
        if (id == ':') {
            tool_wrong_argument(command->name, "option %s needs a value", argv[optind - 1]);
            return TOOL_USAGE;
        }
        if (id == '?') {
            tool_wrong_argument(command->name, "unknown option %s; accepted: %s", argv[optind - 1],
                                command->accepts);
            return TOOL_USAGE;
        }
        if (!take(ctx, id, optarg))
            return TOOL_USAGE;
    }
    if ((unsigned)(argc - optind) != command->operands) {
        tool_wrong_argument(
            command->name, "expected %s, found %d argument%s; see clockpool help %s",
            command->operand_names, argc - optind, argc - optind == 1 ? "" : "s", command->name);
        return TOOL_USAGE;
    }
    for (unsigned i = 0; i < command->operands; i++)
        operands[i] = argv[optind + (int)i];
    return -1;
}

/* ---- results ----------------------------------------------------------------------------------
 */

json_t *tool_text_json(const char *text)
{
    char clean[512];
    size_t i = 0;
    json_t *value = json_string(text);
    if (value != NULL)
        return value;
    for (; text[i] != '\0' && i + 1 < sizeof clean; i++) /* not UTF-8: keep what is ASCII */
        clean[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    clean[i] = '\0';
    return json_string(clean);
}

json_t *tool_error_json(const struct cp_error *error)
{
    json_t *object = json_pack("{s:i,s:s,s:s,s:o,s:o,s:o}", "code", error->code, "name",
                               cp_status_name(error->code), "text", cp_status_text(error->code),
                               "path", tool_text_json(error->path), "what",
                               tool_text_json(error->what), "hint", tool_text_json(error->hint));
    if (error->page != CP_NO_PAGE)
        json_object_set_new(object, "page", json_integer((json_int_t)error->page));
    if (error->lsn != CP_NO_LSN)
        json_object_set_new(object, "lsn", json_integer((json_int_t)error->lsn));
    return object;
}

char *tool_error_line(char *text, size_t capacity, const struct cp_error *error)
{
    char page[32] = "", lsn[32] = "";
    if (error->page != CP_NO_PAGE)
        snprintf(page, sizeof page, "page %llu: ", (unsigned long long)error->page);
    if (error->lsn != CP_NO_LSN && error->page == CP_NO_PAGE)
        snprintf(lsn, sizeof lsn, "LSN %llu: ", (unsigned long long)error->lsn);
    snprintf(text, capacity, "%s%s%s%s%s (%s)%s%s", page, lsn, error->what,
             error->what[0] != '\0' ? ": " : "", cp_status_text(error->code),
             cp_status_name(error->code), error->hint[0] != '\0' ? "; " : "", error->hint);
    return text;
}

/* What to do where the library has no advice of its own. */
static const char *general_advice(int status)
{
    switch (status) {
    case TOOL_FINDINGS:
        return "restore from a backup: clockpool restore BACKUP NEW-DIRECTORY";
    case TOOL_CANNOT_OPEN:
        return "check the path";
    case TOOL_IO:
        return "check the device and the free space, then try again";
    default:
        return "see clockpool help";
    }
}

/* As tool_fail, with the exit status known. */
static int fail_as(int status, const char *command, bool json)
{
    char line[800];
    struct cp_error error = *cp_error_info();
    cp_error_format(line, sizeof line);
    fprintf(stderr, "clockpool %s: %s%s%s\n", command, line, error.hint[0] != '\0' ? "" : "; ",
            error.hint[0] != '\0' ? "" : general_advice(status));
    if (json)
        (void)tool_print_json(command, json_pack("{s:o}", "error", tool_error_json(&error)));
    return status;
}

int tool_fail(const char *command, int code, bool json)
{
    return fail_as(tool_exit_of(code), command, json);
}

int tool_fail_in(const char *command, const char *directory, int code, bool json)
{
    return fail_as(tool_exit_in(directory, code), command, json);
}

int tool_print_json(const char *command, json_t *object)
{
    int printed = object != NULL ? json_dumpf(object, stdout, JSON_INDENT(2)) : -1;
    putchar('\n');
    json_decref(object);
    return tool_finish(command, printed == 0 ? TOOL_FINE : TOOL_IO);
}

int tool_finish(const char *command, int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fprintf(stderr, "clockpool %s: standard output: %s\n", command, strerror(errno));
    return TOOL_IO;
}

/* ---- progress ---------------------------------------------------------------------------------
 */

void tool_progress_begin(struct tool_progress *progress, const char *verb)
{
    memset(progress, 0, sizeof *progress);
    progress->verb = verb;
    progress->terminal = isatty(STDERR_FILENO) == 1;
    progress->begin_ns = progress->phase_ns = progress->shown_ns = cp_now_ns();
}

static void amount(char *text, size_t capacity, uint64_t value, bool bytes)
{
    if (bytes)
        units_format_size(text, capacity, value);
    else
        units_format_thousands(text, capacity, (double)value);
}

void tool_progress_phase(struct tool_progress *progress, const char *verb)
{
    if (progress->verb != NULL && strcmp(progress->verb, verb) == 0)
        return;
    progress->verb = verb;
    progress->phase_ns = cp_now_ns();
}

void tool_progress_update(struct tool_progress *progress, uint64_t done, uint64_t total, bool bytes)
{
    const uint64_t now = cp_now_ns();
    char done_text[40], total_text[40], left[32], line[200];
    if (now - progress->shown_ns < (progress->terminal ? TERMINAL_PERIOD_NS : PLAIN_PERIOD_NS))
        return;
    progress->shown_ns = now;
    progress->shown = true;
    amount(done_text, sizeof done_text, done, bytes);
    amount(total_text, sizeof total_text, total, bytes);
    if (total == 0 || done == 0) {
        snprintf(line, sizeof line, "%s %s%s", progress->verb, done_text, bytes ? "" : " pages");
    } else {
        double part = done < total ? (double)done / (double)total : 1;
        double elapsed = (double)(now - progress->phase_ns) * 1e-9;
        units_format_seconds(left, sizeof left, elapsed / part - elapsed);
        snprintf(line, sizeof line, "%3.0f %% · %s left · %s %s of %s%s", part * 100, left,
                 progress->verb, done_text, total_text, bytes ? "" : " pages");
    }
    if (progress->terminal)
        terminal_rewrite(line);
    else
        fprintf(stderr, "%s\n", line);
}

void tool_progress_clear(struct tool_progress *progress)
{
    if (progress->terminal && progress->shown)
        terminal_clear();
    progress->shown = false;
}

double tool_progress_seconds(const struct tool_progress *progress)
{
    return (double)(cp_now_ns() - progress->begin_ns) * 1e-9;
}
