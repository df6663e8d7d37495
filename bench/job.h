/* SPDX-License-Identifier: MIT */
/*
 * A job: what one process of an engine is to do. The parent writes the struct into a pipe, the
 * child (the same program, started with the internal subcommand BENCH_CHILD_COMMAND) answers with
 * lines of JSON:
 *
 *     {"progress": 0.4, "phase": "warm-up", "ops_per_s": 61000.0}
 *     {"cell": 2, "result": {...}}        or {"cell": 2, "error": "..."}
 *     {"done": true, "details": "...", "ballast_bytes": 0}
 *     {"error": "..."}                    the whole job failed
 */
#ifndef BENCH_JOB_H
#define BENCH_JOB_H

#include "workload.h"

/* Built with a sanitizer, whose shadow memory counts too: memory cannot be made equal. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BENCH_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BENCH_SANITIZED 1
#endif
#endif
#ifndef BENCH_SANITIZED
#define BENCH_SANITIZED 0
#endif

#define BENCH_CHILD_COMMAND "internal-child"
#define BENCH_CELLS_MAX     256u
#define BENCH_JOB_MAGIC     UINT32_C(0x626a6f62)

/* The processes of the workload recover: one works until it kills itself, the next one opens. */
enum bench_recover_step { BENCH_RECOVER_NONE = 0, BENCH_RECOVER_FILL, BENCH_RECOVER_OPEN };

struct bench_job {
    uint32_t magic, size_bytes; /* of this struct: parent and child must be the same program */
    char engine[32];
    bool create;    /* write the data set and nothing else */
    bool cold;      /* begin with nothing in memory: no warm-up */
    bool footprint; /* say where the memory went, in each cell's result */
    enum bench_recover_step recover;
    bool zipf;
    double theta;
    struct bench_setup setup;
    struct bench_cell cells[BENCH_CELLS_MAX];
    uint64_t streams[BENCH_CELLS_MAX];
    unsigned cell_count;
    double seconds, warmup_seconds;
    double write_share;        /* mixed */
    uint64_t slack_bytes;      /* what the limit allows beyond mem_bytes; 0: no limit in force */
    char usage_file[PATH_MAX]; /* the cgroup's present use; empty: no limit in force */
};

/* Do the job that is read from in_fd, answer to out_fd. The process's exit code. */
int bench_child_main(int in_fd, int out_fd);

#endif
