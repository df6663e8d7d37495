/* SPDX-License-Identifier: MIT */
/* `clockpool backup` and `clockpool restore`. */
#include "commands.h"
#include "report.h"
#include "unwritten.h"

#include "common/signals.h"
#include "common/units.h"

#include <clockpool/backup.h>
#include <clockpool/pager.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char backup_help[] =
    "usage: clockpool backup DIR DEST [--json]\n"
    "\n"
    "Copy the store in DIR to DEST, a directory that must not exist yet, while other processes go "
    "on\n"
    "writing to it. DEST is a store: as DIR was at some moment during the copying, every commit in "
    "it\n"
    "that was durable at the start. It is there as a whole or not at all. The writer's log is not\n"
    "trimmed meanwhile, so it grows.\n"
    "\n"
    "  --json   what was copied, as JSON\n"
    "  --help   this text\n"
    "\n"
    "exit status: 0 copied; 1 copied, but some pages are damaged (see clockpool check), or not "
    "copied\n"
    "since superblocks or log are; 2 wrong usage; 3 DIR is no store or not accessible, or DEST "
    "exists;\n"
    "4 I/O error or full disk, and nothing was left; or standard output failed, and DEST is there\n"
    "\n"
    "example: clockpool backup orders /backup/orders-monday\n";

static const char restore_help[] =
    "usage: clockpool restore BACKUP DEST [--damaged] [--json]\n"
    "\n"
    "Copy the backup in BACKUP to DEST, a directory that must not exist yet, recover it, check "
    "every\n"
    "page, and only then give it its name. BACKUP stays as it is.\n"
    "\n"
    "  --damaged  restore although pages are damaged; they are named, and stay as they are\n"
    "  --json     what was done, as JSON\n"
    "  --help     this text\n"
    "\n"
    "exit status: 0 restored; 1 the backup is damaged, and nothing was left in DEST unless "
    "--damaged\n"
    "asked for it; 2 wrong usage;\n"
    "3 BACKUP is no store or not accessible, or DEST exists; 4 I/O error or full disk, and "
    "nothing\n"
    "was left; or standard output failed, and DEST is there\n"
    "\n"
    "example: clockpool restore /backup/orders-monday orders\n";

struct copy {
    bool json, damaged;    /* the options */
    const char *temporary; /* what restore has made so far, or NULL */
    struct tool_progress progress;
    struct cp_backup_stats stats;
    uint64_t bad_pages;
    struct unwritten unwritten;
    struct cp_pager_stats restored;
};

static bool take(void *ctx, int option, const char *text)
{
    struct copy *copy = ctx;
    (void)text;
    if (option == 'd')
        copy->damaged = true;
    else
        copy->json = true;
    return true;
}

static int show_copy(void *ctx, const struct cp_backup_progress *progress)
{
    struct copy *copy = ctx;
    copy->progress.verb = /* one phase: the total is that of both */
        progress->log_bytes_done > 0 ? "copied, and log" : "copied";
    tool_progress_update(&copy->progress, progress->data_bytes_done + progress->log_bytes_done,
                         progress->data_bytes + progress->log_bytes_done, true);
    return signals_caught() != 0 ? -ECANCELED : 0;
}

static int copy_store(struct copy *copy, const char *from, const char *to)
{
    const struct cp_backup_options options = {.progress = show_copy, .ctx = copy};
    tool_progress_begin(&copy->progress, "copied");
    int code = cp_backup(from, to, &options, &copy->stats);
    tool_progress_clear(&copy->progress);
    return code;
}

/* ---- backup -----------------------------------------------------------------------------------
 */

static json_t *copy_json(const struct copy *copy, const char *from, const char *to)
{
    const struct cp_backup_stats *stats = &copy->stats;
    json_t *root = json_pack(
        "{s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:b,s:f}", "from", tool_text_json(from), "to",
        tool_text_json(to), "pages", (json_int_t)stats->pages, "reread_pages",
        (json_int_t)stats->reread_pages, "unverified_pages", (json_int_t)stats->unverified_pages,
        "data_bytes", (json_int_t)stats->data_bytes, "log_bytes", (json_int_t)stats->log_bytes,
        "checkpoint_lsn", (json_int_t)stats->checkpoint_lsn, "end_lsn", (json_int_t)stats->end_lsn,
        "exact", stats->exact, "seconds", tool_progress_seconds(&copy->progress));
    if (stats->first_unverified != CP_NO_PAGE)
        json_object_set_new(root, "first_unverified",
                            json_integer((json_int_t)stats->first_unverified));
    return root;
}

static void print_copied(const struct copy *copy, const char *from, const char *to)
{
    char data[40], log[40], seconds[40];
    printf("%s: copied to %s: %s of data, %s of log, %s%s\n", from, to,
           units_format_size(data, sizeof data, copy->stats.data_bytes),
           units_format_size(log, sizeof log, copy->stats.log_bytes),
           units_format_seconds(seconds, sizeof seconds, tool_progress_seconds(&copy->progress)),
           copy->stats.exact ? "; nobody wrote meanwhile" : "");
}

static int backup_run(struct copy *copy, const char *from, const char *to)
{
    int code = copy_store(copy, from, to);
    if (code != 0)
        return tool_fail_in("backup", from, code, copy->json);
    const bool damaged = copy->stats.unverified_pages > 0;
    int printed = TOOL_FINE;
    if (copy->json)
        printed = tool_print_json("backup", copy_json(copy, from, to));
    else
        print_copied(copy, from, to);
    if (damaged)
        fprintf(stderr,
                "clockpool backup: %" PRIu64 " pages are damaged, the first is page %" PRIu64
                "; they were copied as they are: run clockpool check on the store\n",
                copy->stats.unverified_pages, copy->stats.first_unverified);
    if (printed == TOOL_FINE)
        printed = tool_finish("backup", TOOL_FINE);
    return printed != TOOL_FINE ? printed : damaged ? TOOL_FINDINGS : TOOL_FINE;
}

int tool_backup_main(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    static const struct tool_command command = {
        "backup", backup_help, "--json, --help", options, 2, "two directories, DIR and DEST"};
    struct copy copy = {.json = false};
    const char *operands[TOOL_OPERANDS_MAX];
    int status = tool_parse(&command, argc, argv, take, &copy, operands);
    if (status >= 0)
        return status;
    signals_catch();
    status = backup_run(&copy, operands[0], operands[1]);
    signals_raise_again();
    return status;
}

/* ---- restore ----------------------------------------------------------------------------------
 */

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    (void)remove(path);
    return 0;
}

static void remove_tree(const char *path)
{
    (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Recovery and check are not to be waited for: the store that they work on goes away. */
static void leave_if_stopped(const struct copy *copy)
{
    if (signals_caught() != 0)
        remove_tree(copy->temporary);
    signals_raise_again();
}

static void show_recovery(void *ctx, const struct cp_recovery_progress *progress)
{
    struct copy *copy = ctx;
    leave_if_stopped(copy);
    tool_progress_phase(&copy->progress, "recovered, log");
    tool_progress_update(&copy->progress, progress->log_bytes_read, progress->log_bytes, true);
}

static void show_check(void *ctx, uint64_t done, uint64_t total)
{
    struct copy *copy = ctx;
    leave_if_stopped(copy);
    tool_progress_phase(&copy->progress, "checked");
    tool_progress_update(&copy->progress, done, total, false);
}

static void report_page(void *ctx, uint64_t page, const struct cp_error *error)
{
    struct copy *copy = ctx;
    struct cp_error named = *error;
    char line[600];
    if (error->code == CP_EUNWRITTEN) { /* a write that was lost looks the same */
        unwritten_add(&copy->unwritten, page);
        return;
    }
    named.page = page;
    copy->bad_pages++;
    tool_progress_clear(&copy->progress);
    fprintf(stderr, "clockpool restore: %s\n", tool_error_line(line, sizeof line, &named));
}

/* Recover, read every page, close. Not 0: the copy must not get its name. */
static int verify(struct copy *copy, const char *directory)
{
    const struct cp_pager_options options = {.recovery_progress = show_recovery,
                                             .recovery_ctx = copy};
    struct cp_pager *pager;
    int code = cp_pager_open(directory, &options, &pager);
    if (code != 0)
        return code;
    cp_pager_stats(pager, &copy->restored);
    int64_t bad = cp_pager_check(pager, report_page, show_check, copy);
    if (bad < 0) {
        cp_pager_abandon(pager);
        return (int)bad;
    }
    return cp_pager_close(pager);
}

/* "parent/.name.restore-pid" beside to, which has no slash at its end. NULL: no memory. */
static char *name_beside(const char *to, char **out_parent)
{
    const char *slash = strrchr(to, '/');
    char *path = NULL;
    *out_parent = slash == NULL ? strdup(".")
                  : slash == to ? strdup("/")
                                : strndup(to, (size_t)(slash - to));
    if (*out_parent != NULL && asprintf(&path, "%s/.%s.restore-%ld", *out_parent,
                                        slash != NULL ? slash + 1 : to, (long)getpid()) < 0)
        path = NULL;
    return path;
}

/* The last step: its name, and the name durable. 0 or a code without a description. */
static int give_name(const char *from, const char *to, const char *parent)
{
    struct stat status;
    if (lstat(to, &status) == 0)
        return -EEXIST;
    if (rename(from, to) != 0)
        return -errno;
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int code = fd < 0 || fsync(fd) != 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    if (code != 0) /* a name that may not stay: it is removed under the one that it had */
        (void)rename(to, from);
    return code;
}

/* An error of this program's own, not of the library. */
static int fail_with(const struct copy *copy, int code, const char *path, const char *hint,
                     const char *what)
{
    (void)cp_error_set(code, path, CP_NO_PAGE, CP_NO_LSN, hint, "%s", what);
    return tool_fail("restore", code, copy->json);
}

/* Copying from, or what became of it in directory, failed. Of the backup itself it is no advice to
 * restore from a backup. */
static int restore_failed(const struct copy *copy, const char *directory, int code)
{
    struct cp_error error = *cp_error_info();
    if (tool_exit_in(directory, code) == TOOL_FINDINGS) {
        snprintf(error.hint, sizeof error.hint, "nothing was restored: use an earlier backup");
        cp_error_restore(&error);
    }
    return tool_fail_in("restore", directory, code, copy->json);
}

static int restored(const struct copy *copy, const char *from, const char *to)
{
    char groups[40], pages[40], seconds[40], line[400];
    const struct cp_pager_stats *stats = &copy->restored;
    const int status = copy->bad_pages > 0 ? TOOL_FINDINGS : TOOL_FINE;
    if (copy->bad_pages > 0)
        fprintf(stderr,
                "clockpool restore: %" PRIu64 " pages are damaged, and restored as they are\n",
                copy->bad_pages);
    if (copy->unwritten.pages > 0)
        fprintf(stderr,
                "clockpool restore: %s (a bulk load that was not finished?); write them or free "
                "them\n",
                unwritten_line(line, sizeof line, &copy->unwritten));
    if (copy->json) {
        json_t *root = copy_json(copy, from, to);
        json_object_set_new(root, "recovered_groups",
                            json_integer((json_int_t)stats->recovered_groups));
        json_object_set_new(root, "allocated_pages",
                            json_integer((json_int_t)stats->allocated_pages));
        json_object_set_new(root, "damaged_pages", json_integer((json_int_t)copy->bad_pages));
        unwritten_to_json(&copy->unwritten, root);
        int printed = tool_print_json("restore", root);
        return printed == TOOL_FINE ? status : printed;
    }
    printf("%s: restored to %s: %s pages checked, %s groups of the log replayed, %s\n", from, to,
           units_format_thousands(pages, sizeof pages, (double)stats->allocated_pages),
           units_format_thousands(groups, sizeof groups, (double)stats->recovered_groups),
           units_format_seconds(seconds, sizeof seconds, tool_progress_seconds(&copy->progress)));
    return tool_finish("restore", status);
}

static int restore_run(struct copy *copy, const char *from, const char *to, const char *temporary,
                       const char *parent)
{
    struct stat status;
    if (lstat(to, &status) == 0)
        return fail_with(copy, -EEXIST, to, "name a directory that does not exist yet",
                         "restore a store");
    int code = copy_store(copy, from, temporary);
    if (code != 0) /* which has left nothing behind */
        return restore_failed(copy, from, code);
    code = verify(copy, temporary);
    tool_progress_clear(&copy->progress);
    int result = TOOL_FINE;
    if (code != 0) {
        result = restore_failed(copy, temporary, code);
    } else if (copy->bad_pages > 0 && !copy->damaged) {
        char what[64];
        snprintf(what, sizeof what, "%" PRIu64 " pages are damaged", copy->bad_pages);
        result = fail_with(copy, CP_ECHECKSUM, from,
                           "nothing was restored: use an earlier backup, or have it as it is by "
                           "--damaged",
                           what);
    } else if (signals_caught() == 0) {
        code = give_name(temporary, to, parent);
        if (code == 0)
            return restored(copy, from, to);
        result = fail_with(copy, code, to, NULL, "give the copy its name");
    }
    remove_tree(temporary);
    return result;
}

int tool_restore_main(int argc, char **argv)
{
    static const struct option options[] = {{"damaged", no_argument, NULL, 'd'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    static const struct tool_command command = {"restore",
                                                restore_help,
                                                "--damaged, --json, --help",
                                                options,
                                                2,
                                                "two directories, BACKUP and DEST"};
    struct copy copy = {.json = false};
    const char *operands[TOOL_OPERANDS_MAX];
    char *parent = NULL;
    int status = tool_parse(&command, argc, argv, take, &copy, operands);
    if (status >= 0)
        return status;
    size_t length = strlen(operands[1]);
    while (length > 1 && operands[1][length - 1] == '/')
        length--;
    char *to = strndup(operands[1], length);
    char *temporary = to != NULL && length > 0 ? name_beside(to, &parent) : NULL;
    if (temporary == NULL) {
        status =
            fail_with(&copy, length == 0 ? -EINVAL : -ENOMEM, operands[1], NULL, "name the copy");
    } else {
        copy.temporary = temporary;
        signals_catch();
        status = restore_run(&copy, operands[0], to, temporary, parent);
    }
    unwritten_free(&copy.unwritten);
    free(temporary);
    free(parent);
    free(to);
    signals_raise_again();
    return status;
}
