/* SPDX-License-Identifier: MIT */
/*
 * Printing results. Grouped by workload, distribution, size and class of durability, since engines
 * that promise different things are not to be compared; rows in the order of the engines.
 */
#include "table.h"

#include <stdio.h>
#include <string.h>

/* Footnotes, printed when a row carries the letter. */
enum note {
    NOTE_DEPTH = 0,
    NOTE_GET,
    NOTE_NOT_DURABLE,
    NOTE_NOT_EQUAL,
    NOTE_SAMPLED,
    NOTE_NO_CACHE,
    NOTE_BATCH,
    NOTE_SCAN,
    NOTE_RAW_LOG,
    NOTE_RAW_READ,
    NOTE_SLACK,
    NOTE_SYNCHRONOUS,
    NOTE_COUNT,
};

static const char *const note_texts[NOTE_COUNT] = {
    [NOTE_DEPTH] = "cannot keep several reads in flight from one thread: runs at depth 1 only",
    [NOTE_GET] = "the access is always its own way to get a value, whatever --access says",
    [NOTE_NOT_DURABLE] = "updates are not durable: nothing is synced",
    [NOTE_NOT_EQUAL] = "not under a memory limit: could use all the machine's memory as page cache",
    [NOTE_SAMPLED] = "data in memory: ops/s is the engine's own time; latency is of one op in 257",
    [NOTE_NO_CACHE] =
        "raw and floor keep no page in memory here: an engine with hits can be faster",
    [NOTE_BATCH] = "pages of a batch are fetched together: the latency is that of the whole batch",
    [NOTE_SCAN] = "an operation is a page; the latency is the time from page to page",
    [NOTE_RAW_LOG] = "raw appends a record to a bare log and does nothing else: no page is changed",
    [NOTE_RAW_READ] = "raw reads as many bytes of the data in order: what the device gives",
    [NOTE_SLACK] = NULL, /* says how much */
    [NOTE_SYNCHRONOUS] = BENCH_SYNCHRONOUS_NOTE,
};

static bool deep_asked(const struct bench_plan *plan)
{
    for (unsigned i = 0; i < plan->depth_count; i++)
        if (plan->depths[i] > 1)
            return true;
    return false;
}

/* The row's footnotes as letters, and which were used. */
static void row_notes(const struct bench_row *row, const struct bench_plan *plan,
                      const struct bench_table_facts *facts, char *letters, bool *used)
{
    bool random = row->workload == BENCH_READ_RANDOM;
    bool fetches = random || row->workload == BENCH_UPDATE_RANDOM;
    bool raw = row->engine == &bench_engine_raw, recover = row->workload == BENCH_RECOVER;
    bool has[NOTE_COUNT] = {
        [NOTE_DEPTH] = !row->engine->deep && deep_asked(plan) && fetches && row->cell.rate == 0,
        [NOTE_GET] =
            random && row->engine->access != NULL && strcmp(row->engine->access, "get") == 0,
        [NOTE_NOT_DURABLE] = row->workload == BENCH_UPDATE_RANDOM,
        [NOTE_NOT_EQUAL] = !facts->equal_memory && row->engine->uses_page_cache,
        [NOTE_SAMPLED] = row->fits && fetches && row->cell.depth == 1 && row->cell.rate == 0,
        [NOTE_NO_CACHE] = !row->fits && !row->engine->keeps_cache && !row->has_durability,
        [NOTE_BATCH] = random && row->engine->access == NULL && row->cell.access == BENCH_BATCH,
        [NOTE_SCAN] = row->workload == BENCH_READ_SCAN,
        [NOTE_RAW_LOG] = raw && !recover && bench_workload_commits(row->workload),
        [NOTE_RAW_READ] = raw && recover,
        [NOTE_SLACK] = facts->equal_memory && row->engine->needs_slack,
        [NOTE_SYNCHRONOUS] = row->synchronous,
    };
    size_t length = 0;
    for (unsigned i = 0; i < NOTE_COUNT; i++) {
        if (!has[i])
            continue;
        used[i] = true;
        letters[length++] = (char)('a' + i);
    }
    letters[length] = '\0';
}

static void print_heading(FILE *out, const struct bench_row *row, const struct bench_plan *plan)
{
    char size[32], mem[32], page[32];
    fprintf(out, "\n%s%s%s · %s · %s of data on %s of memory (%s) · pages of %s\n\n",
            bench_workload_names[row->workload], row->has_durability ? " · durability: " : "",
            row->has_durability ? bench_durability_names[row->durability] : "", row->dist,
            bench_format_size(size, sizeof size, row->size_bytes),
            bench_format_size(mem, sizeof mem, row->mem_bytes),
            row->fits                           ? "fits"
            : row->size_bytes <= row->mem_bytes ? "just does not fit with its metadata"
                                                : "does not fit",
            bench_format_size(page, sizeof page, plan->page_size));
    if (plan->rate_count > 0)
        fprintf(out, "open loop: operations arrive at a fixed rate; latency is counted from the "
                     "intended start of each\n\n");
    if (row->workload == BENCH_RECOVER)
        fprintf(out, "%-10s %10s %10s %4s %10s %10s %6s %10s %6s\n", "engine", "asked for",
                "log MiB", "±%", " open s", "log MB/s", "of raw", "pages", "peak M");
    else
        fprintf(out, "%-10s %-10s %3s %5s %11s %4s %6s %8s %8s %8s %8s %7s %6s %5s %6s\n", "engine",
                "access", "thr", bench_workload_commits(row->workload) ? "cv %" : "depth",
                row->workload == BENCH_READ_SCAN ? "pages/s" : "ops/s", "±%", "of raw", "p50 µs",
                " p99 µs", "p99.9 µs", " max µs", "CPU µs", "read B", "hit %", "peak M");
}

static void format_ratio(char *text, size_t capacity, double ratio)
{
    snprintf(text, capacity, ratio <= 0 ? "-" : ratio < 0.1 ? "%.3f" : "%.2f", ratio);
}

/* Of one repetition nobody knows by how much others would differ. */
static void format_spread(char *text, size_t capacity, const struct bench_row *row)
{
    if (row->run_count < 2)
        snprintf(text, capacity, "-");
    else
        snprintf(text, capacity, "%.0f", row->ops_per_s.spread * 100);
}

static char *format_peak(char *text, size_t capacity, const struct bench_row *row)
{
    if (row->peak_mem_bytes == 0)
        snprintf(text, capacity, "-");
    else
        snprintf(text, capacity, "%.0f", (double)row->peak_mem_bytes / 1048576.0);
    return text;
}

static void print_recovery(FILE *out, const struct bench_row *row, const char *letters)
{
    char asked[32], spread[32], seconds[32], rate[32] = "-", ratio[32], pages[32] = "-", peak[32];
    const struct bench_cell_result *m = &row->median;
    fprintf(out, "%-10s %10s ", row->engine->name,
            bench_format_size(asked, sizeof asked, row->cell.log_bytes));
    if (row->failed[0] != '\0') {
        fprintf(out, "FAILED: %s\n", row->failed);
        return;
    }
    format_ratio(ratio, sizeof ratio, row->ratio_to_raw);
    if (m->log_bytes > 0 && m->seconds > 0)
        bench_format_short(rate, sizeof rate, m->log_bytes / m->seconds / 1e6);
    if (m->recovered_pages >= 0)
        bench_format_thousands(pages, sizeof pages, m->recovered_pages);
    format_spread(spread, sizeof spread, row);
    fprintf(out, "%10.1f %4s %10s %10s %6s %10s %6s %s\n", m->log_bytes / 1048576.0, spread,
            bench_format_short(seconds, sizeof seconds, m->seconds), rate, ratio, pages,
            format_peak(peak, sizeof peak, row), letters);
}

static void print_row(FILE *out, const struct bench_row *row, bool know_hits, const char *letters)
{
    char rate[32], spread[32], ratio[32], p50[32], p99[32], p999[32], max[32], cpu[32], bytes[32],
        hits[32] = "-", peak[32];
    const struct bench_cell_result *m = &row->median;
    fprintf(out, "%-10s %-10s %3u ", row->engine->name, row->access, row->cell.threads);
    if (!bench_workload_commits(row->workload))
        fprintf(out, "%5u ", row->cell.depth);
    else /* one commit at a time: how even their rate is says more */
        fprintf(out, "%5.1f ", m->ops_per_s_cv * 100);
    if (row->failed[0] != '\0') {
        fprintf(out, "FAILED: %s\n", row->failed);
        return;
    }
    format_ratio(ratio, sizeof ratio, row->ratio_to_raw);
    format_spread(spread, sizeof spread, row);
    if (know_hits)
        snprintf(hits, sizeof hits, "%.1f", m->hit_ratio * 100);
    fprintf(out, "%11s %4s %6s %7s %7s %8s %7s %7s %6s %5s %6s %s\n",
            bench_format_thousands(rate, sizeof rate, row->ops_per_s.median), spread, ratio,
            bench_format_short(p50, sizeof p50, m->p50_us),
            bench_format_short(p99, sizeof p99, m->p99_us),
            bench_format_short(p999, sizeof p999, m->p999_us),
            bench_format_short(max, sizeof max, row->max_us),
            bench_format_short(cpu, sizeof cpu, m->cpu_us_per_op),
            bench_format_thousands(bytes, sizeof bytes, m->read_bytes_per_op), hits,
            format_peak(peak, sizeof peak, row), letters);
}

static void print_scan_rate(FILE *out, const struct bench_row *row, const struct bench_plan *plan)
{
    char rate[32];
    if (row->workload == BENCH_READ_SCAN && row->failed[0] == '\0')
        fprintf(out, "%-8s %-10s %4u       = %s MB/s\n", "", "", row->cell.threads,
                bench_format_thousands(rate, sizeof rate,
                                       row->ops_per_s.median * plan->page_size / 1e6));
}

/* Open loop: what was offered. */
static void print_rate(FILE *out, const struct bench_row *row)
{
    char offered[32], done[32];
    if (row->cell.rate == 0 || row->failed[0] != '\0')
        return;
    bench_format_thousands(offered, sizeof offered, (double)row->cell.rate);
    bench_format_thousands(done, sizeof done, row->ops_per_s.median);
    if (row->rate_missed)
        fprintf(out, "%-21s rate not reached: %s of %s; latency is that of a queue that grows\n",
                "", done, offered);
    else
        fprintf(out, "%-21s at a rate of %s\n", "", offered);
}

static bool same_group(const struct bench_row *a, const struct bench_row *b)
{
    return a->workload == b->workload && a->dist_index == b->dist_index &&
           a->size_index == b->size_index;
}

/* Rows first .. end-1 are one group: print those of a class of durability. */
static void print_class(FILE *out, const struct bench_results *results, unsigned first,
                        unsigned end, enum bench_durability durability,
                        const struct bench_plan *plan, const struct bench_table_facts *facts,
                        bool *used)
{
    bool headed = false;
    for (unsigned i = first; i < end; i++) {
        const struct bench_row *row = &results->rows[i];
        char letters[NOTE_COUNT + 1];
        if (row->durability != durability)
            continue;
        if (!headed)
            print_heading(out, row, plan);
        headed = true;
        row_notes(row, plan, facts, letters, used);
        if (row->workload == BENCH_RECOVER)
            print_recovery(out, row, letters);
        else
            print_row(out, row, bench_results_know_hits(results, row, plan), letters);
        print_scan_rate(out, row, plan);
        print_rate(out, row);
    }
}

static void print_groups(FILE *out, const struct bench_results *results,
                         const struct bench_plan *plan, const struct bench_table_facts *facts,
                         bool *used)
{
    for (unsigned first = 0, end; first < results->count; first = end) {
        for (end = first + 1; end < results->count; end++)
            if (!same_group(&results->rows[first], &results->rows[end]))
                break;
        for (int durability = BENCH_DURABILITY_FULL; durability >= 0; durability--)
            print_class(out, results, first, end, (enum bench_durability)durability, plan, facts,
                        used);
    }
}

void bench_table_print(FILE *out, const struct bench_results *results,
                       const struct bench_plan *plan, const struct bench_table_facts *facts)
{
    bool used[NOTE_COUNT] = {false}, written = false, committed = false;
    char slack_note[100];
    print_groups(out, results, plan, facts, used);
    for (unsigned i = 0; i < results->count; i++)
        written = written || results->rows[i].has_durability;
    for (unsigned i = 0; i < results->count; i++)
        committed = committed || (bench_workload_commits(results->rows[i].workload) &&
                                  results->rows[i].workload != BENCH_RECOVER);
    if (plan->repeat < 2)
        fprintf(out, "\nMeasured once: nothing tells how much another time would differ (±%%). ");
    else
        fprintf(out, "\nMedians of %u; ±%% is half the range over the median. ", plan->repeat);
    fprintf(out,
            "of raw: against raw at the "
            "same threads and depth.\nCPU, read: per operation. hit: pages found in memory; - "
            "where reads do not "
            "tell.\n"
            "peak: memory of the process with its page cache, MiB; - where no cgroup counts it.\n");
    if (committed)
        fprintf(out, "cv: standard deviation over mean of ops/s, interval by interval of a "
                     "measurement.\n");
    if (written)
        fprintf(out, "Engines of different durability are in tables of their own: compare within a "
                     "table only.\n");
    if (results->in_memory)
        fprintf(out, "NO DEVICE: the data lie on tmpfs or the like, and reads cost nothing.\n");
    if (facts->equal_memory) {
        char slack[32];
        fprintf(out,
                "Each engine ran in its own process under a memory limit of --mem plus %s for "
                "code and stacks.\n",
                bench_format_size(slack, sizeof slack, plan->slack_bytes));
    } else {
        fprintf(out, "NOT AN EQUAL COMPARISON: no memory limit could be set (%s).\n",
                facts->equal_reason);
    }
    for (unsigned i = 0; i < NOTE_COUNT; i++)
        if (used[i])
            fprintf(out, "  %c  %s\n", (char)('a' + i),
                    i == NOTE_SLACK ? bench_results_slack_note(slack_note, sizeof slack_note, plan)
                                    : note_texts[i]);
}
