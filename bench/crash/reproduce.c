/* SPDX-License-Identifier: MIT */
/* One state again, from its triple: in this process, with nothing in between. */
#include "search.h"

#include "run.h"

#include <clockpool/status.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct triple {
    uint64_t seed;
    unsigned crashes; /* 1, or 2: of the recovery too */
    uint64_t points[2];
    struct crash_mask masks[2];
};

static bool parse_number(const char *text, uint64_t *out_value)
{
    char *end;
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *out_value = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

static bool parse_triple(const char *text, struct triple *triple)
{
    char copy[CRASH_TRIPLE_BYTES], *rest = copy, *part;
    memset(triple, 0, sizeof *triple);
    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy)
        return false;
    if (!parse_number(strsep(&rest, "/"), &triple->seed))
        return false;
    while (rest != NULL) {
        if (triple->crashes == 2 ||
            !parse_number(strsep(&rest, "/"), &triple->points[triple->crashes]))
            return false;
        part = strsep(&rest, "/");
        if (part == NULL || !crash_mask_parse(part, &triple->masks[triple->crashes]))
            return false;
        triple->crashes++;
    }
    return triple->crashes > 0;
}

struct place {
    char directory[PATH_MAX - 16];
    char image[PATH_MAX], record[PATH_MAX];
};

static int make_place(struct place *place, const char *dir)
{
    int code = crash_workplace_create(dir, place->directory, sizeof place->directory);
    if (code != 0)
        return code;
    snprintf(place->image, sizeof place->image, "%s/image", place->directory);
    snprintf(place->record, sizeof place->record, "%s/record", place->directory);
    return mkdir(place->image, 0700) != 0 || mkdir(place->record, 0700) != 0 ? -errno : 0;
}

static void remove_place(const struct place *place)
{
    crash_empty_directory(place->directory);
    (void)rmdir(place->directory);
}

static int apply(const char *root, struct crash_states *states)
{
    struct crash_image_files *image = crash_image_create(root);
    int code = crash_image_apply(image, states);
    crash_image_destroy(image);
    return code;
}

/* Bring a run's state into a directory. *states is left standing there. 0 or -errno; *out_found:
 * there is such a state. */
static int make_image(const struct crash_run *run, uint64_t point, struct crash_mask mask,
                      const char *root, struct crash_states **states, struct crash_bounds *bounds,
                      bool *out_found)
{
    *out_found = false;
    *bounds = run->start;
    *states = crash_states_create(run->trace, run->seed);
    if (point > crash_trace_length(run->trace) || point < crash_states_point(*states))
        return 0;
    crash_bounds_advance(bounds, run->trace, crash_states_point(*states), point);
    crash_states_seek(*states, point);
    if (!crash_states_choose(*states, mask))
        return 0;
    *out_found = true;
    return apply(root, *states);
}

/* The events that led to a point, a line each. A new string; NULL when none are wanted. */
static char *tell_history(const struct crash_trace *trace, uint64_t point, unsigned events)
{
    char *text = NULL, line[320];
    size_t size;
    FILE *out = events > 0 ? open_memstream(&text, &size) : NULL;
    if (out == NULL)
        return NULL;
    for (uint64_t i = point > events ? point - events : 0; i < point; i++)
        fprintf(out, "%8" PRIu64 "  %s\n", i, crash_trace_describe(trace, i, line, sizeof line));
    fclose(out);
    return text;
}

/* 0, or -ENOSPC when the check had no room for its files. */
static int describe(const struct crash_search_options *options, const struct crash_run *run,
                    const struct crash_states *states, uint64_t point, struct crash_mask mask,
                    const struct crash_bounds *bounds, void *checker, const char *root,
                    struct crash_reproduction *out)
{
    out->found = true;
    out->image_hash = crash_states_hash(states);
    out->pending = crash_states_pending(states);
    snprintf(out->workload, sizeof out->workload, "%s", run->plan->workload->name);
    if (point > 0)
        crash_trace_describe(run->trace, point - 1, out->event, sizeof out->event);
    free(out->history);
    out->history = tell_history(run->trace, point, options->events);
    crash_run_check(run, checker, root, bounds, mask, 0, false, &out->verdict);
    out->fine = out->verdict.class == CRASH_FINE;
    return out->verdict.no_space ? -ENOSPC : 0;
}

static int keep_image(const char *keep, struct crash_states *states, char *text, size_t capacity)
{
    int code = mkdir(keep, 0700) != 0 && errno != EEXIST ? -errno : apply(keep, states);
    if (code == 0)
        return 0;
    snprintf(text, capacity, "leaving the image in %s: %s", keep, strerror(-code));
    return -EIO; /* whatever it was: -ENOSPC is for the directory that is worked in */
}

/* The second crash: what the first left is checked, recovers and goes on, recorded. */
static int reproduce_second(const struct crash_search_options *options, struct crash_run *first,
                            const struct triple *triple, const struct crash_bounds *bounds,
                            struct crash_states *states, const struct place *place, void *checker,
                            struct crash_reproduction *out, char *out_text, size_t capacity)
{
    struct crash_run next;
    struct crash_states *after = NULL;
    struct crash_bounds after_bounds;
    struct crash_candidate candidate = {.hash = crash_states_hash(states),
                                        .point = triple->points[0],
                                        .mask = triple->masks[0],
                                        .bounds = *bounds};
    bool found = false;
    int code = apply(place->record, states);
    if (code != 0)
        return code;
    code = crash_run_continue(&next, options, first, &candidate, out->verdict.versions,
                              place->record, out_text, capacity);
    if (code == 0) {
        free(out->history);
        memset(out, 0, sizeof *out);
        code = make_image(&next, triple->points[1], triple->masks[1], place->image, &after,
                          &after_bounds, &found);
        if (code == 0 && found && options->keep != NULL)
            code = keep_image(options->keep, after, out_text, capacity);
        if (code == 0 && found)
            code = describe(options, &next, after, triple->points[1], triple->masks[1],
                            &after_bounds, checker, place->image, out);
        crash_states_destroy(after);
    } else if (next.no_space) {
        code = -ENOSPC;
    }
    crash_run_clear(&next);
    return code;
}

/* The trace in which the triple names a state: recorded again, or read. 0, or a code with text. */
static int prepare(struct crash_run *run, const struct crash_search_options *options,
                   struct triple *triple, const char *trace, const struct place *place, char *text,
                   size_t capacity)
{
    bool second;
    int code = crash_run_record(run, options, triple->seed, trace != NULL ? NULL : place->record,
                                text, capacity);
    if (code != 0)
        return run->no_space ? -ENOSPC : code;
    if (trace == NULL && !run->repeatable) {
        snprintf(text, capacity,
                 "the workload \"%s\" uses threads: its trace must be given (--trace)",
                 run->plan->workload->name);
        return -EINVAL;
    }
    if (trace == NULL)
        return 0;
    code = crash_run_load(run, trace, &second);
    if (code != 0)
        snprintf(text, capacity, "reading %s: %s", trace, cp_status_text(code));
    if (code == 0 && second && triple->crashes == 2) { /* the trace begins where the first ends */
        triple->crashes = 1;
        triple->points[0] = triple->points[1];
        triple->masks[0] = triple->masks[1];
    }
    return code;
}

static int check_state(const struct crash_search_options *options, struct crash_run *run,
                       const struct triple *triple, const struct place *place,
                       struct crash_reproduction *out, char *text, size_t capacity)
{
    const struct crash_subject *subject = options->subject;
    void *checker = subject->check_begin != NULL ? subject->check_begin() : NULL;
    struct crash_states *states = NULL;
    struct crash_bounds bounds;
    bool found;
    int code = make_image(run, triple->points[0], triple->masks[0], place->image, &states, &bounds,
                          &found);
    if (code == 0 && found && options->keep != NULL && triple->crashes == 1)
        code = keep_image(options->keep, states, text, capacity);
    if (code == 0 && found)
        code = describe(options, run, states, triple->points[0], triple->masks[0], &bounds, checker,
                        place->image, out);
    if (code == 0 && found && triple->crashes == 2)
        code = reproduce_second(options, run, triple, &bounds, states, place, checker, out, text,
                                capacity);
    crash_states_destroy(states);
    if (subject->check_end != NULL)
        subject->check_end(checker);
    return code;
}

int crash_reproduce(const struct crash_search_options *options, const char *text, const char *trace,
                    struct crash_reproduction *out, char *out_text, size_t capacity)
{
    struct triple triple;
    struct place place;
    struct crash_run run;
    memset(out, 0, sizeof *out);
    if (!parse_triple(text, &triple)) {
        snprintf(out_text, capacity, "\"%s\" is not SEED/POINT/MASK, as in 17/1033/s4", text);
        return -EINVAL;
    }
    int code = make_place(&place, options->dir);
    if (code != 0) {
        crash_workplace_error(options->dir, code, out_text, capacity);
        return code;
    }
    out_text[0] = '\0';
    code = prepare(&run, options, &triple, trace, &place, out_text, capacity);
    if (code == 0)
        code = check_state(options, &run, &triple, &place, out, out_text, capacity);
    if (crash_is_no_space(code))
        crash_no_space_text(place.directory, out_text, capacity);
    crash_run_clear(&run);
    remove_place(&place);
    return code;
}
