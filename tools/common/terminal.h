/* SPDX-License-Identifier: MIT */
/*
 * The line of progress on a terminal, rewritten again and again. Shared by clockpool and
 * clockpool-bench. No state; any thread.
 */
#ifndef TOOLS_COMMON_TERMINAL_H
#define TOOLS_COMMON_TERMINAL_H

/*
 * Show text on standard error, a terminal, in place of the line that is there. It is cut to the
 * window, 80 columns where nobody knows: a line that wraps cannot be rewritten. UTF-8, of
 * characters one column wide.
 */
void terminal_rewrite(const char *text);
/* Leave an empty line there. */
void terminal_clear(void);

#endif
