/* SPDX-License-Identifier: MIT */
/*
 * Memory cgroups, versions 1 and 2: a group with a limit for each engine's process.
 *
 * The group is made below the caller's own group, or beside it or above where version 2's rule (no
 * processes in a group that has children with controllers) or permissions ask for that.
 */
#ifndef BENCH_CGROUP_H
#define BENCH_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/limits.h>
#include "engine.h"

struct bench_cgroup {
    int version;              /* 1, 2, or 0: none */
    char directory[PATH_MAX]; /* of the group */
};

/*
 * Make a group. tag tells the groups of one process apart. Returns 0, or -1 with the reason (no
 * memory controller, not permitted): then the comparison is not equal.
 */
int bench_cgroup_create(struct bench_cgroup *out_group, const char *tag, uint64_t limit_bytes,
                        struct bench_error *error);

/* Remove the group. Its processes must have ended. Does nothing when there is none. */
void bench_cgroup_remove(struct bench_cgroup *group);

/* Path of the file a process writes "0" to in order to join. Returns path. */
char *bench_cgroup_join_file(const struct bench_cgroup *group, char *path, size_t capacity);
/* Path of the file with the present use. Returns path. */
char *bench_cgroup_usage_file(const struct bench_cgroup *group, char *path, size_t capacity);

/* The largest use so far, or 0 when the kernel does not say. */
uint64_t bench_cgroup_peak(const struct bench_cgroup *group);
/* Has the kernel killed a process of this group for lack of memory? */
bool bench_cgroup_oom_killed(const struct bench_cgroup *group);

/* Make a small group, have a process join it, remove it. 0, or -1 with the reason. */
int bench_cgroup_probe(int *out_version, char *parent, size_t capacity, struct bench_error *error);

/* What limits leave for groups that are made here. */
struct bench_cgroup_room {
    uint64_t left_bytes, limit_bytes; /* UINT64_MAX: there is no limit */
    char directory[PATH_MAX];         /* of the group with that limit */
};

/*
 * The tightest of the group where bench_cgroup_create makes its groups (the caller's own, if it can
 * make none) and those above it: what lies below them cannot have more, whatever its own limit is.
 * Page cache counts as left: it gives way.
 */
void bench_cgroup_room(struct bench_cgroup_room *out_room);

#endif
