/* SPDX-License-Identifier: MIT */
/*
 * Status codes and the description of the last error.
 *
 * Every fallible function of the library returns an int: 0 for success or a negative code, which
 * is either -errno as the operating system gave it or one of the CP_E codes below. Details (which
 * file, which page, what to do) are kept per thread and read with cp_error_info().
 */
#ifndef CLOCKPOOL_STATUS_H
#define CLOCKPOOL_STATUS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CP_API        __attribute__((visibility("default")))
#define CP_MUST_CHECK __attribute__((warn_unused_result))

/* "No page" and "no LSN" in an error description. */
#define CP_NO_PAGE UINT64_MAX
#define CP_NO_LSN  UINT64_MAX

/* Codes of our own. They start well below the smallest -errno, so the two never meet. */
enum cp_status {
    CP_OK = 0,
    CP_ECHECKSUM = -10001,  /* a page's checksum does not match its bytes: torn or damaged */
    CP_EMISPLACED = -10002, /* a page carries the number of another page: misdirected write */
    CP_EFOREIGN = -10003,   /* a page or file belongs to another store */
    CP_EFORMAT = -10004,    /* a file is not what its name says, or its fields contradict */
    CP_EVERSION = -10005,   /* a file of a format version this library does not know */
    CP_ENOFRAMES = -10006,  /* every frame that could be used is pinned */
    CP_EBUDGET = -10007,    /* the memory budget is too small for what is asked */
    CP_ELOCKED = -10008,    /* another process has the store open */
    CP_ENOPAGE = -10009,    /* the page is not allocated, or lies outside the file */
    CP_EGATE = -10010,      /* the log refused to become durable: dirty pages stay in memory */
    CP_EFAILED = -10011,    /* the store failed earlier and refuses further writes; reopen it */
    CP_EFORKED = -10012,    /* the handle was inherited through fork; open the store again */
    CP_EREADONLY = -10013,  /* a write was asked of a store opened read-only */
    CP_ETIMEDOUT = -10014,  /* a latch, or memory, could not be had in the time allowed */
    CP_EPINNED = -10015,    /* the operation needs a page that somebody has pinned */
    CP_EDEADLOCK = -10016,  /* waiting would never end: abort the mini-transaction, try again */
    CP_ETOOLARGE = -10017,  /* a mini-transaction is larger than the pool or the log buffer holds */
    CP_ELOG = -10018,       /* the log, or a part of it that recovery needs, is missing */
    CP_EDAMAGED = -10019,   /* the log is damaged before its end */
    CP_EUNWRITTEN = -10020, /* a page has nothing but zeros: never written, or its write was lost */
};

/*
 * What is known about an error. Valid until the same thread next calls a fallible function of the
 * library that fails. Strings are never NULL; they may be empty.
 */
struct cp_error {
    int code;       /* as returned */
    uint64_t page;  /* page number, or CP_NO_PAGE */
    uint64_t lsn;   /* log position in bytes, or CP_NO_LSN */
    char path[256]; /* file or directory concerned (shortened at its start when longer) */
    char what[192]; /* what was being done and what was found */
    char hint[192]; /* what to do about it */
};

/* The calling thread's last error. Never NULL. Borrowed until this thread's next failing call. */
CP_API const struct cp_error *cp_error_info(void);

/* A code's name ("CP_ECHECKSUM", "ENOSPC"). Static storage; any thread; never NULL. */
CP_API const char *cp_status_name(int code);

/* A code in words ("No space left on device"). Static storage; any thread; never NULL. */
CP_API const char *cp_status_text(int code);

/*
 * Write the last error as one line, "path: page 7: what: text (NAME); hint", into text.
 * text: caller's buffer of size_bytes (at least 1), always terminated. Returns text.
 */
CP_API char *cp_error_format(char *text, uint64_t size_bytes);

#ifdef __cplusplus
}
#endif
#endif
