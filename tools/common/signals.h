/* SPDX-License-Identifier: MIT */
/*
 * Ending by a signal, with what was made removed first. Shared by clockpool and clockpool-bench.
 * State of the process; catch once, from the main thread, then any thread may ask.
 */
#ifndef TOOLS_COMMON_SIGNALS_H
#define TOOLS_COMMON_SIGNALS_H

/*
 * From here on SIGINT, SIGTERM and SIGHUP are noted instead of ending the process. What the caller
 * has it ignore (nohup, a shell's background job) stays ignored. SIGPIPE is ignored: who reads our
 * messages may be gone first, and a child that died is seen by its exit status.
 */
void signals_catch(void);
/* The number of the last signal noted, or 0. */
int signals_caught(void);
/* End the process by the signal that was noted, as the shell expects it; nothing without one. */
void signals_raise_again(void);

#endif
