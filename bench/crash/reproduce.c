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

/* Bring a run's state into a directory. *states is left standing there. */
static bool make_image(const struct crash_run *run, uint64_t point, struct crash_mask mask,
                       const char *root, struct crash_states **states, struct crash_bounds *bounds)
{
    *bounds = run->start;
    *states = crash_states_create(run->trace, run->seed);
    if (point > crash_trace_length(run->trace) || point < crash_states_point(*states))
        return false;
    crash_bounds_advance(bounds, run->trace, crash_states_point(*states), point);
    crash_states_seek(*states, point);
    if (!crash_states_choose(*states, mask))
        return false;
    struct crash_image_files *image = crash_image_create(root);
    bool made = crash_image_apply(image, *states) == 0;
    crash_image_destroy(image);
    return made;
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

static void describe(const struct crash_search_options *options, const struct crash_run *run,
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
}

static int keep_image(const char *keep, struct crash_states *states)
{
    if (mkdir(keep, 0700) != 0 && errno != EEXIST)
        return -errno;
    struct crash_image_files *image = crash_image_create(keep);
    int code = crash_image_apply(image, states);
    crash_image_destroy(image);
    return code;
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
    struct crash_image_files *image = crash_image_create(place->record);
    int code = crash_image_apply(image, states);
    crash_image_destroy(image);
    if (code != 0)
        return code;
    code = crash_run_continue(&next, options, first, &candidate, out->verdict.versions,
                              place->record, out_text, capacity);
    if (code == 0) {
        free(out->history);
        memset(out, 0, sizeof *out);
        if (make_image(&next, triple->points[1], triple->masks[1], place->image, &after,
                       &after_bounds)) {
            if (options->keep != NULL)
                code = keep_image(options->keep, after);
            describe(options, &next, after, triple->points[1], triple->masks[1], &after_bounds,
                     checker, place->image, out);
        }
        crash_states_destroy(after);
    }
    crash_run_clear(&next);
    return code;
}

int crash_reproduce(const struct crash_search_options *options, const char *text, const char *trace,
                    struct crash_reproduction *out, char *out_text, size_t capacity)
{
    struct triple triple;
    struct place place;
    struct crash_run run;
    struct crash_states *states = NULL;
    struct crash_bounds bounds;
    const struct crash_subject *subject = options->subject;
    memset(out, 0, sizeof *out);
    if (!parse_triple(text, &triple)) {
        snprintf(out_text, capacity, "\"%s\" is not SEED/POINT/MASK, as in 17/1033/s4", text);
        return -EINVAL;
    }
    int code = make_place(&place, options->dir);
    if (code != 0) {
        snprintf(out_text, capacity, "making a directory to work in: %s", strerror(-code));
        return code;
    }
    out_text[0] = '\0';
    code = crash_run_record(&run, options, triple.seed, trace != NULL ? NULL : place.record,
                            out_text, capacity);
    if (code == 0 && trace != NULL) {
        bool second;
        code = crash_run_load(&run, trace, &second);
        if (code != 0)
            snprintf(out_text, capacity, "reading %s: %s", trace, cp_status_text(code));
        if (code == 0 && second &&
            triple.crashes == 2) { /* the trace begins where the first ends */
            triple.crashes = 1;
            triple.points[0] = triple.points[1];
            triple.masks[0] = triple.masks[1];
        }
    } else if (code == 0 && !run.repeatable) {
        snprintf(out_text, capacity,
                 "the workload \"%s\" uses threads: its trace must be given (--trace)",
                 run.plan->workload->name);
        code = -EINVAL;
    }
    if (code == 0) {
        void *checker = subject->check_begin != NULL ? subject->check_begin() : NULL;
        if (make_image(&run, triple.points[0], triple.masks[0], place.image, &states, &bounds)) {
            if (options->keep != NULL && triple.crashes == 1)
                code = keep_image(options->keep, states);
            describe(options, &run, states, triple.points[0], triple.masks[0], &bounds, checker,
                     place.image, out);
            if (triple.crashes == 2)
                code = reproduce_second(options, &run, &triple, &bounds, states, &place, checker,
                                        out, out_text, capacity);
        }
        crash_states_destroy(states);
        if (subject->check_end != NULL)
            subject->check_end(checker);
    }
    crash_run_clear(&run);
    remove_place(&place);
    return code;
}
