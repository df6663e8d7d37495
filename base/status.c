/* SPDX-License-Identifier: MIT */
/*
 * Status codes in words, and each thread's last error.
 *
 * The last error lives in thread-local storage of fixed size: recording one never allocates, so it
 * works when memory is what ran out.
 */
#include <clockpool/status.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Codes of the operating system are -1 .. -4095. */
#define OS_CODE_MIN (-4095)

static _Thread_local struct cp_error last_error = {.page = CP_NO_PAGE, .lsn = CP_NO_LSN};

static const struct {
    int code;
    const char *name;
    const char *text;
} own_codes[] = {
    {CP_OK, "CP_OK", "Success"},
    {CP_ECHECKSUM, "CP_ECHECKSUM", "Checksum does not match: torn or damaged"},
    {CP_EMISPLACED, "CP_EMISPLACED", "Page carries the number of another page"},
    {CP_EFOREIGN, "CP_EFOREIGN", "Belongs to another store"},
    {CP_EFORMAT, "CP_EFORMAT", "Not a valid Clockpool file"},
    {CP_EVERSION, "CP_EVERSION", "Unknown format version"},
    {CP_ENOFRAMES, "CP_ENOFRAMES", "Every usable frame is pinned"},
    {CP_EBUDGET, "CP_EBUDGET", "Memory budget too small"},
    {CP_ELOCKED, "CP_ELOCKED", "Store is open in another process"},
    {CP_ENOPAGE, "CP_ENOPAGE", "Page is not allocated or outside the file"},
    {CP_EGATE, "CP_EGATE", "The log could not be made durable"},
    {CP_EFAILED, "CP_EFAILED", "The store failed earlier and refuses further writes"},
    {CP_EFORKED, "CP_EFORKED", "Handle inherited through fork"},
    {CP_EREADONLY, "CP_EREADONLY", "Store is open read-only"},
    {CP_ETIMEDOUT, "CP_ETIMEDOUT", "Latch not available in time"},
    {CP_EPINNED, "CP_EPINNED", "A page concerned is pinned"},
    {CP_EDEADLOCK, "CP_EDEADLOCK", "Waiting would be a deadlock"},
    {CP_ETOOLARGE, "CP_ETOOLARGE", "Mini-transaction too large"},
    {CP_ELOG, "CP_ELOG", "Log missing or incomplete"},
    {CP_EDAMAGED, "CP_EDAMAGED", "Log damaged before its end"},
    {CP_EUNWRITTEN, "CP_EUNWRITTEN", "Page was never written"},
};

const struct cp_error *cp_error_info(void)
{
    return &last_error;
}

const char *cp_status_name(int code)
{
    for (size_t i = 0; i < sizeof own_codes / sizeof own_codes[0]; i++) {
        if (own_codes[i].code == code)
            return own_codes[i].name;
    }
    const char *name = code < 0 && code >= OS_CODE_MIN ? strerrorname_np(-code) : NULL;
    return name != NULL ? name : "CP_EUNKNOWN";
}

const char *cp_status_text(int code)
{
    for (size_t i = 0; i < sizeof own_codes / sizeof own_codes[0]; i++) {
        if (own_codes[i].code == code)
            return own_codes[i].text;
    }
    const char *text = code < 0 && code >= OS_CODE_MIN ? strerrordesc_np(-code) : NULL;
    return text != NULL ? text : "Unknown status code";
}

const char *cp_error_os_hint(int code)
{
    switch (code) {
    case -ENOSPC:
    case -EDQUOT:
        return "free space on the file system, or raise the quota, and try again";
    case -EFBIG:
        return "raise the limit on the size of files (ulimit -f), or use another file system";
    case -EACCES:
    case -EPERM:
        return "check the owner and mode of the path and of its directories";
    case -EROFS:
        return "the file system is mounted read-only";
    case -EIO:
        return "the device failed: check the kernel log, then restore from a backup";
    case -ENOMEM:
        return "raise the memory limit of the process, or lower the budget";
    case -EMFILE:
    case -ENFILE:
        return "raise the limit on open files (ulimit -n)";
    case -ENOENT:
        return "check the path";
    default:
        return "";
    }
}

/* Copy text into target; a text that is too long loses its start, since a path's end tells more. */
static void copy_tail(char *target, size_t size, const char *text)
{
    size_t length = strlen(text);
    if (length >= size) {
        text += length - (size - 1);
        length = size - 1;
    }
    memcpy(target, text, length);
    target[length] = '\0';
}

int cp_error_set(int code, const char *path, uint64_t page, uint64_t lsn, const char *hint,
                 const char *fmt, ...)
{
    int saved_errno = errno;
    va_list arguments;
    /* Built aside: path, hint and the arguments may point into the last error itself. */
    struct cp_error fresh;

    fresh.code = code;
    fresh.page = page;
    fresh.lsn = lsn;
    copy_tail(fresh.path, sizeof fresh.path, path != NULL ? path : "");
    snprintf(fresh.hint, sizeof fresh.hint, "%s", hint != NULL ? hint : cp_error_os_hint(code));
    va_start(arguments, fmt);
    vsnprintf(fresh.what, sizeof fresh.what, fmt, arguments);
    va_end(arguments);
    last_error = fresh;
    errno = saved_errno;
    return code;
}

int cp_error_restore(const struct cp_error *saved)
{
    last_error = *saved;
    return saved->code;
}

char *cp_error_format(char *text, uint64_t size_bytes)
{
    char page[32] = "";
    const struct cp_error *e = &last_error;

    if (e->page != CP_NO_PAGE)
        snprintf(page, sizeof page, "page %llu: ", (unsigned long long)e->page);
    snprintf(text, size_bytes, "%s%s%s%s%s%s (%s)%s%s", e->path, e->path[0] ? ": " : "", page,
             e->what, e->what[0] ? ": " : "", cp_status_text(e->code), cp_status_name(e->code),
             e->hint[0] ? "; " : "", e->hint);
    return text;
}
