/* SPDX-License-Identifier: MIT */
/* From measurements to figures, and from figures to verdicts. */
#include "claims.h"

#include "openloop.h"
#include "summary.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define INTERVALS_MIN 3u /* to speak of variation */
#define MIB           1048576.0

static void add_figure(struct claims_claim *claim, const char *name, const char *engine,
                       const char *unit, const struct claims_values *values)
{
    if (values->count == 0 || claim->figure_count == CLAIMS_FIGURES_MAX)
        return;
    const struct bench_summary summary = bench_summarize(values->of, values->count);
    claim->figures[claim->figure_count++] =
        (struct claims_figure){name, engine, unit, summary.median, summary.spread};
}

static void add_number(struct claims_claim *claim, const char *name, const char *engine,
                       const char *unit, double value)
{
    struct claims_values values = {{value}, 1};
    add_figure(claim, name, engine, unit, &values);
}

/* A figure of every repetition: a double at an offset of struct bench_cell_result, times scale.
 * None at all when the kernel did not say (-1). */
static struct claims_values pick(const struct claims_turns *turns, size_t offset, double scale)
{
    struct claims_values values = {{0}, 0};
    for (unsigned i = 0; i < turns->count; i++) {
        double value;
        memcpy(&value, (const char *)&turns->results[i] + offset, sizeof value);
        if (value < 0)
            return (struct claims_values){{0}, 0};
        values.of[values.count++] = value * scale;
    }
    return values;
}

#define PICK(turns, field, scale) pick((turns), offsetof(struct bench_cell_result, field), (scale))

/* value[i] / by[i]; a figure without a divisor is left out. */
static struct claims_values divide(const struct claims_values *values,
                                   const struct claims_values *by)
{
    struct claims_values result = {{0}, 0};
    for (unsigned i = 0; i < values->count && i < by->count; i++)
        if (by->of[i] > 0)
            result.of[result.count++] = values->of[i] / by->of[i];
    return result;
}

/* ---- 1: over time
 * ----------------------------------------------------------------------------------------- */

double claims_full_s(const struct bench_series *series, double mem_bytes)
{
    for (unsigned i = 0; i + INTERVALS_MIN <= series->count; i++)
        if (series->points[i].read_bytes >= mem_bytes)
            return i > 0 ? series->points[i - 1].t_s : 0;
    return -1;
}

/* The slowest interval from from_s on, as a part of the mean. */
static double slowest(const struct bench_series *series, double from_s)
{
    double sum = 0, least = -1;
    unsigned count = 0;
    for (unsigned i = 0; i < series->count; i++) {
        const double rate = series->points[i].ops_per_s;
        if (series->points[i].t_s <= from_s)
            continue;
        sum += rate;
        count++;
        if (least < 0 || rate < least)
            least = rate;
    }
    return sum > 0 ? least * count / sum : 0;
}

bool claims_find_once_full(const struct bench_cell_result *result, double mem_bytes,
                           struct claims_once_full *out_figures)
{
    const struct bench_series *series = &result->series;
    const double full_s = claims_full_s(series, mem_bytes);
    if (full_s < 0)
        return false;
    *out_figures = (struct claims_once_full){full_s, bench_series_variation(series, full_s),
                                             slowest(series, full_s), result->p999_full_us};
    return true;
}

void claims_conclude_predictability(struct claims_claim *claim, const struct claims_turns *turns,
                                    uint64_t mem_bytes)
{
    struct claims_values cv[2] = {0}, full[2] = {0}, least[2] = {0}, p999[2] = {0};
    struct claims_predictability figures = {.filled = true};
    for (unsigned e = 0; e < 2; e++) {
        for (unsigned i = 0; i < turns[e].count; i++) {
            struct claims_once_full once_full;
            if (!claims_find_once_full(&turns[e].results[i], (double)mem_bytes, &once_full)) {
                figures.filled = false;
                continue;
            }
            full[e].of[full[e].count++] = once_full.full_s;
            cv[e].of[cv[e].count++] = once_full.cv;
            least[e].of[least[e].count++] = once_full.slowest;
            p999[e].of[p999[e].count++] = once_full.p999_us;
        }
        const struct claims_values rate = PICK(&turns[e], ops_per_s, 1);
        const struct claims_values max = PICK(&turns[e], max_us, 1);
        const char *name = claims_engine_names[e];
        add_figure(claim, "ops/s", name, "1/s", &rate);
        add_figure(claim, "memory full after", name, "s", &full[e]);
        add_figure(claim, "variation of ops/s once full", name, "", &cv[e]);
        add_figure(claim, "slowest interval over mean, once full", name, "", &least[e]);
        add_figure(claim, "p99.9 once full", name, "us", &p999[e]);
        add_figure(claim, "max", name, "us", &max);
    }
    figures.cv = (struct claims_pair){cv[0], cv[1]};
    figures.p999_us = (struct claims_pair){p999[0], p999[1]};
    claim->verdict = claims_judge_predictability(&figures, claim->reason, sizeof claim->reason);
}

/* ---- 2: the order of writes
 * ------------------------------------------------------------------------------- */

void claims_conclude_log_order(struct claims_claim *claim, const struct order_result *results,
                               const char *no_fuse)
{
    struct claims_writes writes[ORDER_ENGINES] = {0};
    for (unsigned i = 0; i < ORDER_ENGINES; i++) {
        const struct order_counts *counts = &results[i].counts;
        if (!results[i].measured)
            continue;
        const char *name = order_engines[i].name;
        writes[i] = (struct claims_writes){counts->page_writes, counts->ahead_of_log};
        add_number(claim, "page writes", name, "", (double)counts->page_writes);
        add_number(claim, "of these ahead of the log", name, "", (double)counts->ahead_of_log);
        add_number(claim, "largest lag of the log", name, "bytes", (double)counts->max_lag_bytes);
    }
    const struct claims_log_order figures = {writes[0], writes[1], writes[2]};
    if (no_fuse != NULL) {
        claim->verdict = CLAIMS_NOT_MEASURED;
        snprintf(claim->reason, sizeof claim->reason,
                 "what the kernel writes from a mapping is seen by a FUSE file system only, which "
                 "is not possible here: %s",
                 no_fuse);
        return;
    }
    claim->verdict = claims_judge_log_order(&figures, claim->reason, sizeof claim->reason);
}

/* ---- 3: latency
 * ------------------------------------------------------------------------------------------- */

static void add_latency(struct claims_claim *claim, const struct claims_turns *turns,
                        const char *name, struct claims_values *out_faults)
{
    static const struct {
        const char *name;
        size_t offset;
    } times[] = {{"p50", offsetof(struct bench_cell_result, p50_us)},
                 {"p99", offsetof(struct bench_cell_result, p99_us)},
                 {"p99.9", offsetof(struct bench_cell_result, p999_us)},
                 {"max", offsetof(struct bench_cell_result, max_us)}};
    for (unsigned i = 0; i < sizeof times / sizeof *times; i++) {
        const struct claims_values values = pick(turns, times[i].offset, 1);
        add_figure(claim, times[i].name, name, "us", &values);
    }
    const struct claims_values faults = PICK(turns, major_faults_per_op, 1);
    const struct claims_values bytes = PICK(turns, read_bytes_per_op, 1);
    const struct claims_values pages = PICK(turns, read_bytes_per_op, 1.0 / CLAIMS_PAGE_SIZE);
    struct claims_values requests = pages;
    for (unsigned i = 0; i < requests.count; i++)
        requests.of[i] -= requests.of[i] > faults.of[i] ? faults.of[i] : requests.of[i];
    const struct claims_values ops = PICK(turns, ops_per_s, 1), seconds = PICK(turns, seconds, 1);
    struct claims_values shootdowns = PICK(turns, footprint.tlb_shootdowns, 1000);
    shootdowns = divide(&shootdowns, &ops);
    shootdowns = divide(&shootdowns, &seconds);
    *out_faults = divide(&faults, &pages);
    add_figure(claim, "bytes read per page used", name, "bytes", &bytes);
    add_figure(claim, "pages read by page faults, per page used", name, "", &faults);
    add_figure(claim, "pages read by requests, per page used", name, "", &requests);
    add_figure(claim, "TLB shootdowns of the machine, per 1000 pages used", name, "", &shootdowns);
}

void claims_conclude_latency(struct claims_claim *claim, const struct claims_turns *turns,
                             const double *capacity, uint64_t rate, unsigned threads)
{
    struct claims_latency figures = {.reached = true};
    struct claims_values faults[2], p999[2];
    for (unsigned e = 0; e < 2; e++) {
        add_number(claim, "closed loop, for choosing the rate", claims_engine_names[e], "1/s",
                   capacity[e]);
        add_number(claim, "rate of arrivals", claims_engine_names[e], "1/s", (double)rate);
        add_latency(claim, &turns[e], claims_engine_names[e], &faults[e]);
        for (unsigned i = 0; i < turns[e].count; i++)
            if (!bench_rate_reached((uint64_t)turns[e].results[i].due_count,
                                    turns[e].results[i].op_count, threads))
                figures.reached = false;
        p999[e] = PICK(&turns[e], p999_us, 1);
    }
    figures.p999_us = (struct claims_pair){p999[0], p999[1]};
    figures.faults = (struct claims_pair){faults[0], faults[1]};
    claim->verdict = claims_judge_latency(&figures, claim->reason, sizeof claim->reason);
}

/* ---- 4: memory
 * -------------------------------------------------------------------------------------------- */

void claims_conclude_memory(struct claims_claim *claim, const struct claims_turns *turns,
                            const struct claims_plan *plan)
{
    struct claims_memory figures = {.mem_bytes = (double)plan->mem_bytes,
                                    .slack_bytes = (double)plan->slack_bytes};
    struct claims_values per_hit[CLAIMS_ENGINES];
    for (unsigned e = 0; e < CLAIMS_ENGINES; e++) {
        const char *name = claims_engine_names[e];
        const struct claims_values hits = PICK(&turns[e], hit_ratio, 1);
        const struct claims_values charged = PICK(&turns[e], footprint.charged_bytes, 1);
        const struct claims_values charged_mib = PICK(&turns[e], footprint.charged_bytes, 1 / MIB);
        const struct claims_values anon = PICK(&turns[e], footprint.anon_bytes, 1 / MIB);
        const struct claims_values cache = PICK(&turns[e], footprint.cache_bytes, 1 / MIB);
        const struct claims_values file = PICK(&turns[e], footprint.file_cached_bytes, 1 / MIB);
        const struct claims_values ratio = divide(&charged_mib, &hits);
        per_hit[e] = divide(&charged, &hits);
        add_figure(claim, "charged", name, "MiB", &charged_mib);
        add_figure(claim, "of it anonymous memory", name, "MiB", &anon);
        add_figure(claim, "of it page cache", name, "MiB", &cache);
        add_figure(claim, "of the file in the page cache", name, "MiB", &file);
        add_figure(claim, "hit ratio", name, "", &hits);
        add_figure(claim, "charged over hit ratio", name, "MiB", &ratio);
    }
    figures.copy = PICK(&turns[CLAIMS_POOL], footprint.file_cached_bytes, 1);
    figures.buffered_copy = PICK(&turns[CLAIMS_BUFFERED], footprint.file_cached_bytes, 1);
    figures.charge = PICK(&turns[CLAIMS_POOL], footprint.charged_bytes, 1);
    figures.per_hit = (struct claims_pair){per_hit[CLAIMS_POOL], per_hit[CLAIMS_MMAP]};
    claim->verdict = claims_judge_memory(&figures, claim->reason, sizeof claim->reason);
}
