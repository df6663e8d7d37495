/* SPDX-License-Identifier: MIT */
/* Recording of errors, for the library's own modules. Hosts read them through status.h. */
#ifndef CLOCKPOOL_BASE_ERROR_H
#define CLOCKPOOL_BASE_ERROR_H

#include <stdint.h>
#include <clockpool/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Record the calling thread's last error and return its code, so that a caller can write
 * `return cp_error_set(...)`. path and hint may be NULL; page may be CP_NO_PAGE, lsn CP_NO_LSN.
 * fmt describes what was being done; it is cut where it does not fit. Never blocks, never
 * allocates, leaves errno alone.
 */
CP_API int cp_error_set(int code, const char *path, uint64_t page, uint64_t lsn, const char *hint,
                        const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* Replace the thread's last error by a saved copy (an error found by another thread). */
CP_API int cp_error_restore(const struct cp_error *saved);

/* A sensible hint for an operating-system code, or "" where there is none. Static storage. */
CP_API const char *cp_error_os_hint(int code);

#ifdef __cplusplus
}
#endif
#endif
