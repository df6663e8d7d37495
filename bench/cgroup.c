/* SPDX-License-Identifier: MIT */
/* Memory cgroups. Which files exist: Documentation/admin-guide/cgroup-v1/memory.rst, cgroup-v2.rst.
 */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REMOVE_TRIES 100u /* a group is busy for some milliseconds after its last process */
#define LIMIT_MAX    (UINT64_C(1) << 62) /* above: version 1 has no "max", but nearly 2^63 */

struct mount {
    int version;
    char point[PATH_MAX]; /* where it is mounted */
    char root[PATH_MAX];  /* which part of the hierarchy is mounted there */
};

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int code = write(fd, text, strlen(text)) < 0 ? errno : 0;
    close(fd);
    return code;
}

static char *join(char *path, size_t capacity, const char *directory, const char *name)
{
    if (snprintf(path, capacity, "%s/%s", directory, name) >= (int)capacity)
        path[0] = '\0';
    return path;
}

/* Is word one of the comma- or blank-separated words of list? */
static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = strstr(list, word); at != NULL; at = strstr(at + 1, word)) {
        bool begins = at == list || strchr(", ", at[-1]) != NULL;
        if (begins && strchr(", \n", at[length]) != NULL)
            return true;
    }
    return false;
}

/* Find the hierarchy with the memory controller: version 1 if mounted so, else version 2. */
static bool find_mount(struct mount *out_mount)
{
    char line[3 * PATH_MAX];
    FILE *file = fopen("/proc/self/mountinfo", "re");
    out_mount->version = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        struct mount mount;
        char type[64], options[1024], controllers[PATH_MAX + 32], text[512] = "";
        const char *tail = strstr(line, " - ");
        if (tail == NULL ||
            sscanf(line, "%*s %*s %*s %4095s %4095s", mount.root, mount.point) != 2 ||
            sscanf(tail, " - %63s %*s %1023s", type, options) != 2)
            continue;
        if (strcmp(type, "cgroup") == 0 && has_word(options, "memory")) {
            mount.version = 1;
            *out_mount = mount;
            break;
        }
        if (strcmp(type, "cgroup2") != 0)
            continue;
        FILE *list =
            fopen(join(controllers, sizeof controllers, mount.point, "cgroup.controllers"), "re");
        if (list != NULL) {
            if (fgets(text, sizeof text, list) != NULL && has_word(text, "memory")) {
                mount.version = 2;
                *out_mount = mount;
            }
            fclose(list);
        }
    }
    if (file != NULL)
        fclose(file);
    return out_mount->version != 0;
}

/* The directory of this process's own group within the mount. */
static bool find_own(const struct mount *mount, char *directory, size_t capacity)
{
    char line[PATH_MAX + 256];
    bool found = false;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        char *controllers = strchr(line, ':'), *path;
        if (controllers == NULL || (path = strchr(controllers + 1, ':')) == NULL)
            continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        found = mount->version == 1 ? has_word(controllers + 1, "memory")
                                    : strcmp(line, "0:") == 0 || strcmp(line, "0") == 0;
        /* In a container the mount may show only a part of the hierarchy. */
        size_t root = strlen(mount->root);
        if (found && strcmp(mount->root, "/") != 0 && strncmp(path, mount->root, root) == 0)
            path += root;
        if (found && snprintf(directory, capacity, "%s%s", mount->point,
                              strcmp(path, "/") == 0 ? "" : path) >= (int)capacity)
            found = false;
    }
    if (file != NULL)
        fclose(file);
    return found && access(directory, F_OK) == 0;
}

static int set_limit(const struct bench_cgroup *group, uint64_t limit_bytes)
{
    char path[PATH_MAX + 64], text[32];
    snprintf(text, sizeof text, "%" PRIu64, limit_bytes);
    bool v1 = group->version == 1;
    int code = write_text(
        join(path, sizeof path, group->directory, v1 ? "memory.limit_in_bytes" : "memory.max"),
        text);
    if (code != 0)
        return code;
    /* No swap: an engine that is swapped out measures the swap. Absent where there is none. */
    if (v1)
        write_text(join(path, sizeof path, group->directory, "memory.swappiness"), "0");
    else
        write_text(join(path, sizeof path, group->directory, "memory.swap.max"), "0");
    return 0;
}

/* Can a process join? Asked by having one do it. 0 or an errno. */
static int try_join(const struct bench_cgroup *group)
{
    char path[PATH_MAX + 64];
    bench_cgroup_join_file(group, path, sizeof path);
    pid_t pid = fork();
    if (pid < 0)
        return errno;
    if (pid == 0)
        _exit(write_text(path, "0"));
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        /* ends with the child, which does one write */
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

/* Make the group below parent. 0 or an errno; nothing is left behind. */
static int create_below(const char *parent, int version, const char *name, uint64_t limit_bytes,
                        struct bench_cgroup *out_group)
{
    struct bench_cgroup group = {.version = version};
    char path[PATH_MAX + 64];
    if (snprintf(group.directory, sizeof group.directory, "%s/%s", parent, name) >=
        (int)sizeof group.directory)
        return ENAMETOOLONG;
    if (mkdir(group.directory, 0755) != 0)
        return errno;
    if (version == 2 && access(join(path, sizeof path, group.directory, "memory.max"), F_OK) != 0) {
        /* The parent does not hand the controller down yet. Refused while processes are in it. */
        write_text(join(path, sizeof path, parent, "cgroup.subtree_control"), "+memory");
    }
    int code = set_limit(&group, limit_bytes);
    if (code == 0)
        code = try_join(&group);
    if (code != 0) {
        bench_cgroup_remove(&group);
        return code;
    }
    *out_group = group;
    return 0;
}

int bench_cgroup_create(struct bench_cgroup *out_group, const char *tag, uint64_t limit_bytes,
                        struct bench_error *error)
{
    struct mount mount;
    char parent[PATH_MAX], name[96];
    if (!find_mount(&mount))
        return bench_fail(error, "no memory cgroup controller is mounted");
    if (!find_own(&mount, parent, sizeof parent))
        return bench_fail(error, "this process's memory cgroup is not visible below %s",
                          mount.point);
    snprintf(name, sizeof name, "clockpool-bench-%d-%s", (int)getpid(), tag);
    int first_code = 0;
    for (;;) { /* ends: parent gets shorter each time */
        int code = create_below(parent, mount.version, name, limit_bytes, out_group);
        if (code == 0)
            return 0;
        if (first_code == 0)
            first_code = code;
        char *slash = strrchr(parent, '/');
        if (strlen(parent) <= strlen(mount.point) || slash == NULL)
            break;
        *slash = '\0';
    }
    return bench_fail_errno(error, first_code,
                            "may not make a memory cgroup below %s (run as root?)", mount.point);
}

void bench_cgroup_remove(struct bench_cgroup *group)
{
    struct timespec pause = {.tv_nsec = 10000000};
    if (group->version == 0)
        return;
    for (unsigned i = 0; i < REMOVE_TRIES && rmdir(group->directory) != 0 && errno == EBUSY; i++)
        nanosleep(&pause, NULL);
    group->version = 0;
}

char *bench_cgroup_join_file(const struct bench_cgroup *group, char *path, size_t capacity)
{
    return join(path, capacity, group->directory, "cgroup.procs");
}

char *bench_cgroup_usage_file(const struct bench_cgroup *group, char *path, size_t capacity)
{
    return join(path, capacity, group->directory,
                group->version == 1 ? "memory.usage_in_bytes" : "memory.current");
}

/* The number in a file of a group, or otherwise: there is no such file, or "max" stands in it. */
static uint64_t read_bytes(const char *directory, const char *name, uint64_t otherwise)
{
    char path[PATH_MAX + 64];
    uint64_t value;
    FILE *file = fopen(join(path, sizeof path, directory, name), "re");
    if (file == NULL)
        return otherwise;
    if (fscanf(file, "%" SCNu64, &value) != 1)
        value = otherwise;
    fclose(file);
    return value;
}

uint64_t bench_cgroup_peak(const struct bench_cgroup *group)
{
    if (group->version == 0)
        return 0;
    return read_bytes(group->directory,
                      group->version == 1 ? "memory.max_usage_in_bytes" : "memory.peak", 0);
}

bool bench_cgroup_oom_killed(const struct bench_cgroup *group)
{
    char path[PATH_MAX + 64], line[128];
    uint64_t kills = 0;
    if (group->version == 0)
        return false;
    FILE *file = fopen(join(path, sizeof path, group->directory,
                            group->version == 1 ? "memory.oom_control" : "memory.events"),
                       "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        sscanf(line, "oom_kill %" SCNu64, &kills);
    if (file != NULL)
        fclose(file);
    return kills > 0;
}

int bench_cgroup_probe(int *out_version, char *parent, size_t capacity, struct bench_error *error)
{
    struct bench_cgroup group = {0};
    struct mount mount;
    *out_version = find_mount(&mount) ? mount.version : 0;
    if (bench_cgroup_create(&group, "probe", UINT64_C(64) << 20, error) != 0)
        return -1;
    snprintf(parent, capacity, "%s", group.directory);
    char *slash = strrchr(parent, '/');
    if (slash != NULL)
        *slash = '\0';
    bench_cgroup_remove(&group);
    return 0;
}

/* Page cache of files, of a group and all below it. */
static uint64_t cache_bytes(const char *directory, int version)
{
    char path[PATH_MAX + 64], line[128];
    uint64_t sum = 0, value;
    FILE *file = fopen(join(path, sizeof path, directory, "memory.stat"), "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        /* In version 1 the names alone are of the group without those below. */
        const char *name = version == 1 ? strstr(line, "total_") : line;
        if (name == NULL)
            continue;
        name += version == 1 ? strlen("total_") : 0;
        if (sscanf(name, "active_file %" SCNu64, &value) == 1 ||
            sscanf(name, "inactive_file %" SCNu64, &value) == 1)
            sum += value;
    }
    if (file != NULL)
        fclose(file);
    return sum;
}

/* Is what one group leaves less than what was found so far? */
static void take_room(const char *directory, int version, struct bench_cgroup_room *room)
{
    bool v1 = version == 1;
    uint64_t limit = read_bytes(directory, v1 ? "memory.limit_in_bytes" : "memory.max", UINT64_MAX);
    uint64_t used = read_bytes(directory, v1 ? "memory.usage_in_bytes" : "memory.current", 0);
    uint64_t cache = cache_bytes(directory, version);
    if (limit > LIMIT_MAX)
        return;
    used = used > cache ? used - cache : 0;
    uint64_t left = limit > used ? limit - used : 0;
    if (left >= room->left_bytes)
        return;
    room->left_bytes = left;
    room->limit_bytes = limit;
    snprintf(room->directory, sizeof room->directory, "%s", directory);
}

void bench_cgroup_room(struct bench_cgroup_room *out_room)
{
    struct bench_cgroup_room room = {.left_bytes = UINT64_MAX, .limit_bytes = UINT64_MAX};
    struct bench_error ignored;
    struct mount mount;
    char directory[PATH_MAX];
    int version;
    bool found = find_mount(&mount) &&
                 (bench_cgroup_probe(&version, directory, sizeof directory, &ignored) == 0 ||
                  find_own(&mount, directory, sizeof directory));
    while (found) { /* ends: directory gets shorter each time */
        take_room(directory, mount.version, &room);
        char *slash = strrchr(directory, '/');
        found = strlen(directory) > strlen(mount.point) && slash != NULL;
        if (found)
            *slash = '\0';
    }
    *out_room = room;
}
