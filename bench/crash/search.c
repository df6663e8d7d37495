/* SPDX-License-Identifier: MIT */
/*
 * The search's parent: starts workers, looks after them, replaces those that die or hang and notes
 * what killed them, and collects. It never opens a store itself.
 */
#include "search.h"

#include "worker.h"

#include <clockpool/base/thread.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_S          30u
#define PERIOD_MS          50
#define DEATHS_MAX         100u /* after so many the store is known to be broken */
#define HANGS_MAX          8u   /* each costs a timeout */
#define SEEDS_PER_WORKLOAD 3u
#define PER_SEED_MIN       UINT64_C(200)
#define PER_SEED_MAX       UINT64_C(20000) /* more of one trace teach less than another trace */

struct search {
    const struct crash_search_options *options;
    struct crash_shared *shared;
    size_t shared_bytes;
    char directory[PATH_MAX - 96];
    uint64_t wanted, states_per_seed;
    unsigned jobs, timeout_s, deaths, hangs;
};

static uint64_t number_of_workloads(const struct crash_search_options *options)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < crash_workload_count() && options->workload == NULL; i++)
        count +=
            options->subject->supports == NULL || options->subject->supports(crash_workload_at(i));
    return count > 0 ? count : 1;
}

static int map_shared(struct search *search)
{
    uint64_t entries = 1024;
    while (entries < search->wanted * 2)
        entries *= 2;
    search->shared_bytes = sizeof *search->shared + entries * sizeof(uint64_t);
    void *memory =
        mmap(NULL, search->shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    search->shared = memory;
    search->shared->table_mask = entries - 1;
    return 0;
}

/* Standard output and error of a worker would mix with ours; an assertion's text is kept. */
static void redirect(const char *directory)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/output", directory);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
}

static int start_worker(struct search *search, unsigned number)
{
    struct crash_worker worker = {.options = search->options,
                                  .shared = search->shared,
                                  .slot = &search->shared->slots[number],
                                  .wanted = search->wanted,
                                  .states_per_seed = search->states_per_seed};
    char path[PATH_MAX];
    snprintf(worker.directory, sizeof worker.directory, "%s/%u", search->directory, number);
    const char *const made[] = {"", "/image", "/record"};
    for (unsigned i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s%s", worker.directory, made[i]);
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return -errno;
    }
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid > 0) {
        worker.slot->pid = pid;
        return 0;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    signal(SIGINT, SIG_IGN); /* the parent stops us */
    redirect(worker.directory);
    crash_worker_run(&worker);
    _exit(0);
}

/* The last line that a dead worker has written: an assertion, a sanitizer's summary. */
static void last_words(const struct search *search, unsigned number, char *text, size_t capacity)
{
    char path[PATH_MAX], line[256], best[256] = "";
    snprintf(path, sizeof path, "%s/%u/output", search->directory, number);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '\0' &&
            (best[0] == '\0' || strstr(line, "SUMMARY") != NULL || strstr(line, "ssert") != NULL))
            snprintf(best, sizeof best, "%s", line);
    }
    if (file != NULL)
        fclose(file);
    snprintf(text, capacity, "%s%s", best[0] != '\0' ? ": " : "", best);
}

static void report_death(struct search *search, unsigned number, int status, bool hung)
{
    struct crash_slot *slot = &search->shared->slots[number];
    static const char *const doing[] = {"while the workload ran", "while the image was checked",
                                        "while it recovered and went on"};
    char words[300], text[384], kept[PATH_MAX];
    struct crash_trace *trace = NULL;
    last_words(search, number, words, sizeof words);
    if (hung)
        snprintf(text, sizeof text, "no end after %u s, %s", search->timeout_s,
                 doing[atomic_load_explicit(&slot->phase, memory_order_relaxed)]);
    else if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "signal %d (%s) %s%.256s", WTERMSIG(status),
                 strsignal(WTERMSIG(status)),
                 doing[atomic_load_explicit(&slot->phase, memory_order_relaxed)], words);
    else
        snprintf(text, sizeof text, "the process ended with status %d%.256s", WEXITSTATUS(status),
                 words);
    snprintf(kept, sizeof kept, "%s/%u/trace", search->directory, number);
    if (slot->resume && crash_trace_load(kept, &trace) != 0)
        trace = NULL;
    crash_worker_report(search->shared, search->options, CRASH_SIGNAL, slot->triple, slot->workload,
                        text, trace);
    crash_trace_destroy(trace);
    search->deaths++;
    search->hangs += hung;
    if (search->deaths >= DEATHS_MAX || search->hangs >= HANGS_MAX)
        atomic_store_explicit(&search->shared->stop, true, memory_order_relaxed);
}

/* Look after one worker. False: it has ended, and need not be replaced. */
static bool look_after(struct search *search, unsigned number)
{
    struct crash_slot *slot = &search->shared->slots[number];
    int status;
    bool hung = false;
    if (slot->pid == 0)
        return false;
    /* acquire: pairs with the release in begin_step, so that the triple is that of the step */
    uint64_t started = atomic_load_explicit(&slot->started_ns, memory_order_acquire);
    pid_t ended = waitpid(slot->pid, &status, WNOHANG);
    if (ended == 0 && started != 0 &&
        cp_now_ns() - started > search->timeout_s * UINT64_C(1000000000)) {
        hung = true;
        kill(slot->pid, SIGKILL);
        ended = waitpid(slot->pid, &status, 0);
    }
    if (ended == 0)
        return true;
    slot->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return false;
    /* A page of a mapped file for which there is no room, as a store may have made one itself. */
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS &&
        crash_workplace_full(search->directory)) {
        crash_worker_stop_full(search->shared);
        return false;
    }
    report_death(search, number, status, hung);
    atomic_store_explicit(&slot->started_ns, 0, memory_order_relaxed);
    if (atomic_load_explicit(&search->shared->stop, memory_order_relaxed))
        return false;
    return start_worker(search, number) == 0;
}

static void copy_report(const struct search *search, struct crash_report *report)
{
    const struct crash_shared *shared = search->shared;
    report->states = atomic_load(&shared->states);
    report->checks = atomic_load(&shared->checks);
    report->points = atomic_load(&shared->points);
    report->legal = atomic_load(&shared->legal);
    report->traces = atomic_load(&shared->traces);
    report->recovery_traces = atomic_load(&shared->recovery_traces);
    report->creation_failed = atomic_load(&shared->creation_failed);
    report->failed_runs = atomic_load(&shared->failed_runs);
    memcpy(report->failed_text, shared->failed_text, sizeof report->failed_text);
    for (unsigned i = 0; i < CRASH_CLASSES; i++)
        report->by_class[i] = atomic_load(&shared->by_class[i]);
    uint32_t count = atomic_load(&shared->finding_count);
    report->finding_count = 0;
    for (uint32_t i = 0; i < count && i < CRASH_FINDINGS_MAX; i++) {
        if (shared->findings[i].class != CRASH_FINE)
            report->findings[report->finding_count++] = shared->findings[i];
    }
}

static void watch(struct search *search)
{
    const struct crash_search_options *options = search->options;
    uint64_t classes[CRASH_CLASSES];
    bool running = true;
    while (running) { /* ends: workers end when enough is checked, and hung ones are killed */
        struct timespec period = {0, PERIOD_MS * 1000000L};
        nanosleep(&period, NULL);
        running = false;
        for (unsigned i = 0; i < search->jobs; i++)
            running |= look_after(search, i);
        for (unsigned i = 0; i < CRASH_CLASSES; i++)
            classes[i] = atomic_load(&search->shared->by_class[i]);
        if (options->progress != NULL &&
            options->progress(options->progress_ctx, atomic_load(&search->shared->states),
                              search->wanted, classes))
            atomic_store(&search->shared->stop, true);
    }
}

int crash_search(const struct crash_search_options *options, struct crash_report *out_report,
                 char *out_text, size_t capacity)
{
    struct search search = {.options = options};
    uint64_t begin = cp_now_ns();
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    memset(out_report, 0, sizeof *out_report);
    search.wanted = options->states != 0 ? options->states : CRASH_STATES_DEFAULT;
    search.jobs = options->jobs != 0 ? options->jobs : processors > 0 ? (unsigned)processors : 1;
    if (search.jobs > CRASH_JOBS_MAX)
        search.jobs = CRASH_JOBS_MAX;
    search.timeout_s = options->timeout_s != 0 ? options->timeout_s : TIMEOUT_S;
    search.states_per_seed = options->states_per_seed;
    if (search.states_per_seed == 0) {
        search.states_per_seed =
            search.wanted / (number_of_workloads(options) * SEEDS_PER_WORKLOAD) + 1;
        if (search.states_per_seed < PER_SEED_MIN)
            search.states_per_seed = PER_SEED_MIN;
        if (search.states_per_seed > PER_SEED_MAX)
            search.states_per_seed = PER_SEED_MAX;
    }
    int code = crash_workplace_create(options->dir, search.directory, sizeof search.directory);
    if (code != 0) {
        crash_workplace_error(options->dir, code, out_text, capacity);
        return code;
    }
    code = map_shared(&search);
    for (unsigned i = 0; i < search.jobs && code == 0; i++)
        code = start_worker(&search, i);
    if (code == 0) {
        watch(&search);
        copy_report(&search, out_report);
        if (atomic_load(&search.shared->no_space)) {
            crash_no_space_text(search.directory, out_text, capacity);
            code = out_report->finding_count > 0 ? 0 : -ENOSPC;
        }
    } else {
        snprintf(out_text, capacity, "starting the workers: %s", strerror(-code));
        for (unsigned i = 0; search.shared != NULL && i < search.jobs; i++) {
            pid_t pid = search.shared->slots[i].pid;
            if (pid > 0) {
                kill(pid, SIGKILL);
                waitpid(pid, NULL, 0);
            }
        }
    }
    if (search.shared != NULL)
        munmap(search.shared, search.shared_bytes);
    crash_empty_directory(search.directory);
    (void)rmdir(search.directory);
    out_report->seconds = (double)(cp_now_ns() - begin) * 1e-9;
    return code;
}
