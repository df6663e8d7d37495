/* SPDX-License-Identifier: MIT */
/*
 * The search sees what several writes of the log under way may leave: its traces have writes that
 * begin beside another, later ones that are durable before an earlier one, and crash points there
 * at which the earlier is among what may be missing.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "run.h"
#include "states.h"

#define SEEDS         96u
#define UNDER_WAY_MAX 64u

struct seen {
    uint64_t log_writes, beside; /* begun while another was under way */
    uint64_t overtakers;         /* durable while an earlier one was under way */
    uint64_t holes;              /* of these, where the earlier one may be missing */
};

/* Files of the log, by the names under which they were made. */
static bool *find_segments(const struct crash_trace *trace)
{
    bool *segments = calloc(crash_trace_file_count(trace) + 1, sizeof *segments);
    assert_non_null(segments);
    for (uint64_t i = 0; i < crash_trace_length(trace); i++) {
        const struct crash_event *event = crash_trace_event(trace, i);
        if (event->kind == CRASH_CREATE)
            segments[event->file] =
                strstr(crash_trace_text(trace, event->path), "segment-") != NULL;
    }
    return segments;
}

/* The writes of the log that are under way, oldest first. */
struct under_way {
    uint64_t begin[UNDER_WAY_MAX];
    unsigned count;
};

static void take_begin(struct seen *seen, struct under_way *writes, uint64_t index)
{
    seen->log_writes++;
    seen->beside += writes->count != 0;
    assert_true(writes->count < UNDER_WAY_MAX);
    writes->begin[writes->count++] = index;
}

static void take_end(struct seen *seen, struct under_way *writes, uint64_t begin,
                     struct crash_states *states, uint64_t point)
{
    unsigned at = 0;
    while (at < writes->count && writes->begin[at] != begin)
        at++;
    if (at == writes->count)
        return;
    writes->count--;
    memmove(&writes->begin[at], &writes->begin[at + 1],
            (writes->count - at) * sizeof *writes->begin);
    if (at == 0)
        return;
    seen->overtakers++;
    crash_states_seek(states, point + 1);
    seen->holes += crash_states_pending(states) > 0;
}

static void look(struct seen *seen, const struct crash_trace *trace)
{
    bool *segments = find_segments(trace);
    struct crash_states *states = crash_states_create(trace, 1);
    struct under_way writes = {.count = 0};
    for (uint64_t i = 0; i < crash_trace_length(trace); i++) {
        const struct crash_event *event = crash_trace_event(trace, i);
        bool of_log = event->kind == CRASH_WRITE_BEGIN && segments[event->file] &&
                      (event->flags & CRASH_DSYNC) != 0;
        if (of_log)
            take_begin(seen, &writes, i);
        else if (event->kind == CRASH_WRITE_END)
            take_end(seen, &writes, event->begin, states, i);
    }
    crash_states_destroy(states);
    free(segments);
}

static void flights_overtake_each_other_in_traces(void **state)
{
    char root[PATH_MAX - 64], text[384] = "";
    struct crash_search_options options = {.subject = crash_subject_find("pool")};
    struct seen seen = {0};
    (void)state;
    assert_int_equal(crash_workplace_create(NULL, root, sizeof root), 0);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct crash_run run;
        if (strcmp(crash_run_workload(&options, seed)->name, "commits") != 0)
            continue;
        assert_int_equal(crash_run_record(&run, &options, seed, root, text, sizeof text), 0);
        look(&seen, run.trace);
        crash_run_clear(&run);
    }
    crash_empty_directory(root);
    assert_int_equal(rmdir(root), 0);
    printf("%" PRIu64 " O_DSYNC writes of the log, %" PRIu64 " begun beside another, %" PRIu64
           " durable before an earlier one\n",
           seen.log_writes, seen.beside, seen.overtakers);
    assert_true(seen.beside > 0);
    assert_true(seen.overtakers > 0);
    assert_int_equal(seen.holes, seen.overtakers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flights_overtake_each_other_in_traces),
    };
    return cmocka_run_group_tests_name("crash flights", tests, NULL, NULL);
}
