/* SPDX-License-Identifier: MIT */
/*
 * An engine's process: fork, join the cgroup, exec this program again, read lines of JSON.
 *
 * The child joins the group before exec, so that everything it ever uses is counted there.
 */
#include "process.h"

#include "common/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_MAX_BYTES 131072u /* a result with its series: 600 times 5 numbers of 20 digits */
#define POLL_MS        100     /* how soon a signal is noticed */

struct listener {
    const struct bench_process_events *events;
    struct bench_process_result *result;
    struct bench_error *error;
    bool done;
    uint64_t ballast_bytes;
    char line[LINE_MAX_BYTES];
    size_t length;
};

/* In the child, between fork and exec: async-signal-safe calls only. */
static void become_child(const char *join_file, int in_fd, int out_fd)
{
    if (join_file[0] != '\0') {
        int fd = open(join_file, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "0", 1) != 1)
            _exit(126);
    }
    if (dup2(in_fd, STDIN_FILENO) < 0 || fcntl(out_fd, F_SETFD, 0) < 0)
        _exit(126);
    char number[16] = {0};
    unsigned at = sizeof number - 1, value = (unsigned)out_fd;
    do {
        number[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    char program[] = "clockpool-bench", command[] = BENCH_CHILD_COMMAND;
    char *argv[] = {program, command, &number[at], NULL};
    signal(SIGINT, SIG_IGN); /* a terminal sends it to all; the parent ends the child */
    signal(SIGHUP, SIG_IGN);
    execv("/proc/self/exe", argv);
    _exit(127);
}

static double number_at(const json_t *array, size_t index)
{
    return json_number_value(json_array_get(array, index));
}

static void take_series(const json_t *figures, struct bench_series *series)
{
    const json_t *points = json_object_get(figures, "series"), *point;
    size_t i;
    series->count = 0;
    json_array_foreach(points, i, point)
    {
        if (i < BENCH_SERIES_MAX)
            series->points[series->count++] =
                (struct bench_point){number_at(point, 0), number_at(point, 1), number_at(point, 2),
                                     number_at(point, 3), number_at(point, 4)};
    }
}

static void take_footprint(const json_t *figures, struct bench_footprint *footprint)
{
    const json_t *array = json_object_get(figures, "footprint");
    *footprint =
        (struct bench_footprint){number_at(array, 0), number_at(array, 1), number_at(array, 2),
                                 number_at(array, 3), number_at(array, 4)};
}

static void take_cell(struct listener *listener, unsigned index, const json_t *object)
{
    struct bench_cell_result result = {0};
    const json_t *figures = json_object_get(object, "result");
    if (figures == NULL) {
        const char *text = json_string_value(json_object_get(object, "error"));
        listener->events->cell_failed(listener->events->ctx, index, text != NULL ? text : "?");
        return;
    }
    result.ops_per_s = json_number_value(json_object_get(figures, "ops_per_s"));
    result.p50_us = json_number_value(json_object_get(figures, "p50_us"));
    result.p99_us = json_number_value(json_object_get(figures, "p99_us"));
    result.p999_us = json_number_value(json_object_get(figures, "p999_us"));
    result.max_us = json_number_value(json_object_get(figures, "max_us"));
    result.cpu_us_per_op = json_number_value(json_object_get(figures, "cpu_us_per_op"));
    result.read_bytes_per_op = json_number_value(json_object_get(figures, "read_bytes_per_op"));
    result.written_bytes_per_op =
        json_number_value(json_object_get(figures, "written_bytes_per_op"));
    result.hit_ratio = json_number_value(json_object_get(figures, "hit_ratio"));
    result.op_count = (uint64_t)json_integer_value(json_object_get(figures, "ops"));
    result.timed_count = (uint64_t)json_integer_value(json_object_get(figures, "timed"));
    result.verified_count = (uint64_t)json_integer_value(json_object_get(figures, "verified"));
    result.seconds = json_number_value(json_object_get(figures, "seconds"));
    result.due_count = json_number_value(json_object_get(figures, "due"));
    result.major_faults_per_op = json_number_value(json_object_get(figures, "major_faults_per_op"));
    result.log_bytes = json_number_value(json_object_get(figures, "log_bytes"));
    result.recovered_pages = json_number_value(json_object_get(figures, "recovered_pages"));
    result.ops_per_s_cv = json_number_value(json_object_get(figures, "ops_per_s_cv"));
    result.p999_full_us = json_number_value(json_object_get(figures, "p999_full_us"));
    take_series(figures, &result.series);
    take_footprint(figures, &result.footprint);
    listener->events->cell(listener->events->ctx, index, &result);
}

static void take_line(struct listener *listener)
{
    json_error_t ignored;
    json_t *object = json_loads(listener->line, 0, &ignored);
    const json_t *cell = json_object_get(object, "cell");
    const json_t *progress = json_object_get(object, "progress");
    const json_t *error = json_object_get(object, "error");
    if (cell != NULL) {
        take_cell(listener, (unsigned)json_integer_value(cell), object);
    } else if (progress != NULL) {
        const char *phase = json_string_value(json_object_get(object, "phase"));
        listener->events->progress(listener->events->ctx, phase != NULL ? phase : "",
                                   json_number_value(progress),
                                   json_number_value(json_object_get(object, "ops_per_s")));
    } else if (error != NULL) {
        bench_fail(listener->error, "%s", json_string_value(error));
    } else if (json_object_get(object, "done") != NULL) {
        const char *details = json_string_value(json_object_get(object, "details"));
        listener->done = true;
        listener->ballast_bytes =
            (uint64_t)json_integer_value(json_object_get(object, "ballast_bytes"));
        listener->result->synchronous = json_is_true(json_object_get(object, "synchronous"));
        snprintf(listener->result->details, sizeof listener->result->details, "%s",
                 details != NULL ? details : "");
    }
    json_decref(object);
}

static void take_bytes(struct listener *listener, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] == '\n') {
            listener->line[listener->length] = '\0';
            take_line(listener);
            listener->length = 0;
        } else if (listener->length + 1 < sizeof listener->line) {
            listener->line[listener->length++] = bytes[i];
        }
    }
}

/* Read until the child closes its end. False: a signal asks us to stop. */
static bool listen_to_child(struct listener *listener, int fd)
{
    char bytes[4096];
    while (signals_caught() == 0) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int ready = poll(&wait, 1, POLL_MS);
        if (ready <= 0)
            continue;
        ssize_t n = read(fd, bytes, sizeof bytes);
        if (n == 0)
            return true;
        if (n < 0 && errno != EINTR)
            return true;
        if (n > 0)
            take_bytes(listener, bytes, (size_t)n);
    }
    return false;
}

static int send_job(const struct bench_job *job, int fd)
{
    const char *at = (const char *)job;
    size_t left = sizeof *job;
    while (left > 0) { /* a pipe: the child reads it all before anything else */
        ssize_t n = write(fd, at, left);
        if (n < 0 && errno == EINTR && signals_caught() == 0)
            continue;
        if (n <= 0)
            return -1;
        at += n;
        left -= (size_t)n;
    }
    return 0;
}

static int judge(const struct listener *listener, const struct bench_job *job, int status,
                 const struct bench_cgroup *group, struct bench_error *error)
{
    bool meant = job->recover == BENCH_RECOVER_FILL && listener->done;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && meant)
        return 0;
    if (WIFSIGNALED(status)) {
        if (group != NULL && bench_cgroup_oom_killed(group))
            return bench_fail(error, "the process was killed for using more memory than allowed");
        return bench_fail(error, "the process died from signal %d (%s)", WTERMSIG(status),
                          strsignal(WTERMSIG(status)));
    }
    if (listener->done && WEXITSTATUS(status) == 0)
        return 0;
    if (error->text[0] == '\0')
        bench_fail(error, "the process ended early with exit status %d", WEXITSTATUS(status));
    return -1;
}

/* Talk to the child that runs, and see it to its end. */
static int attend(pid_t pid, const struct bench_job *job, int to_child, int from_child,
                  const struct bench_cgroup *group, struct listener *listener)
{
    int status = 0;
    bool finished = send_job(job, to_child) == 0 && listen_to_child(listener, from_child);
    close(to_child);
    if (!finished)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        /* ends with the child: it was killed, or has closed its pipe on its way out */
        if (signals_caught() != 0)
            kill(pid, SIGKILL);
    }
    if (signals_caught() != 0)
        return bench_fail(listener->error, "interrupted");
    uint64_t peak = group != NULL ? bench_cgroup_peak(group) : 0;
    listener->result->peak_bytes =
        peak > listener->ballast_bytes ? peak - listener->ballast_bytes : peak;
    return judge(listener, job, status, group, listener->error);
}

int bench_process_run(const struct bench_job *job, const struct bench_cgroup *group,
                      const struct bench_process_events *events,
                      struct bench_process_result *out_result, struct bench_error *error)
{
    char join_file[PATH_MAX + 64] = "";
    int to_child[2], from_child[2];
    if (group != NULL)
        bench_cgroup_join_file(group, join_file, sizeof join_file);
    if (pipe2(to_child, O_CLOEXEC) != 0)
        return bench_fail_errno(error, errno, "cannot make a pipe");
    if (pipe2(from_child, O_CLOEXEC) != 0) {
        close(to_child[0]);
        close(to_child[1]);
        return bench_fail_errno(error, errno, "cannot make a pipe");
    }
    memset(out_result, 0, sizeof *out_result);
    error->text[0] = '\0';
    struct listener listener = {.events = events, .result = out_result, .error = error};
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        become_child(join_file, to_child[0], from_child[1]);
    close(to_child[0]);
    close(from_child[1]);
    int result;
    if (pid < 0) {
        result = bench_fail_errno(error, errno, "cannot start a process");
        close(to_child[1]);
    } else {
        result = attend(pid, job, to_child[1], from_child[0], group, &listener);
    }
    close(from_child[0]);
    return result;
}
