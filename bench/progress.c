/* SPDX-License-Identifier: MIT */
/* Progress on standard error. The time left is planned time, corrected by how the plan held so far.
 */
#include "progress.h"

#include "common/terminal.h"
#include "units.h"

#include <clockpool/base/thread.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TERMINAL_PERIOD_NS UINT64_C(200000000)
#define PLAIN_PERIOD_NS    UINT64_C(15000000000)

void bench_progress_begin(struct bench_progress *progress, bool quiet, double planned_s)
{
    memset(progress, 0, sizeof *progress);
    progress->quiet = quiet;
    progress->terminal = isatty(STDERR_FILENO) == 1;
    progress->planned_s = planned_s > 0 ? planned_s : 1;
    progress->begin_ns = cp_now_ns();
}

static void show(struct bench_progress *progress, double fraction, double ops_per_s,
                 const char *detail)
{
    char left[32], rate[32], tail[64] = "", line[320];
    double done = progress->done_s + fraction * progress->step_s;
    double part = done / progress->planned_s;
    double elapsed = (double)(cp_now_ns() - progress->begin_ns) * 1e-9;
    if (part > 0.999)
        part = 0.999;
    /* The plan alone at first, what was seen of it later. */
    double speed = done > 3 ? elapsed / done : 1;
    double rest = (progress->planned_s - done) * speed;
    bench_format_seconds(left, sizeof left, rest);
    if (ops_per_s > 0)
        snprintf(tail, sizeof tail, " · %s ops/s",
                 bench_format_thousands(rate, sizeof rate, ops_per_s));
    snprintf(line, sizeof line, "%3.0f %% · %s left · %s%s%s%s", part * 100, left, progress->phase,
             detail[0] != '\0' ? ": " : "", detail, tail);
    if (progress->terminal)
        terminal_rewrite(line);
    else
        fprintf(stderr, "%s\n", line);
    progress->shown_ns = cp_now_ns();
}

void bench_progress_step(struct bench_progress *progress, double step_s, const char *phase, ...)
{
    va_list args;
    progress->done_s += progress->step_s;
    progress->step_s = step_s;
    va_start(args, phase);
    vsnprintf(progress->phase, sizeof progress->phase, phase, args);
    va_end(args);
    if (!progress->quiet)
        show(progress, 0, 0, "");
}

void bench_progress_update(struct bench_progress *progress, double fraction, double ops_per_s,
                           const char *detail)
{
    uint64_t period = progress->terminal ? TERMINAL_PERIOD_NS : PLAIN_PERIOD_NS;
    if (progress->quiet || cp_now_ns() - progress->shown_ns < period)
        return;
    show(progress, fraction < 1 ? fraction : 1, ops_per_s, detail);
}

void bench_progress_note(struct bench_progress *progress, const char *format, ...)
{
    va_list args;
    if (progress->quiet)
        return;
    if (progress->terminal)
        terminal_clear();
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void bench_progress_end(struct bench_progress *progress)
{
    if (!progress->quiet && progress->terminal)
        terminal_clear();
    progress->quiet = true;
}
