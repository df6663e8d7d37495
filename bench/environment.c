/* SPDX-License-Identifier: MIT */
/* Reading /proc and /sys. What cannot be read is left empty, never guessed. */
#include "environment.h"

#include "cgroup.h"
#include "engine.h"
#include "units.h"

#include <clockpool/clockpool.h>

#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <liburing.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#ifndef BENCH_LIBURING_VERSION
#define BENCH_LIBURING_VERSION "unknown"
#endif
#ifndef BENCH_XXHASH_VERSION
#define BENCH_XXHASH_VERSION "unknown"
#endif

/* Only liburing 2.4 and later can say which it is; older ones leave these NULL. */
extern int io_uring_major_version(void) __attribute__((weak));
extern int io_uring_minor_version(void) __attribute__((weak));

static void read_first_line(const char *path, char *text, size_t capacity)
{
    text[0] = '\0';
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    if (fgets(text, (int)capacity, file) == NULL)
        text[0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    fclose(file);
}

/* The value of a line "name ... : value" of a file, or "". */
static void read_field(const char *path, const char *name, char *text, size_t capacity)
{
    char line[1024];
    size_t length = strlen(name);
    text[0] = '\0';
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, name, length) != 0 || colon == NULL)
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        snprintf(text, capacity, "%s", colon);
        text[strcspn(text, "\n")] = '\0';
        break;
    }
    if (file != NULL)
        fclose(file);
}

static uint64_t read_memory(const char *name)
{
    char text[64];
    read_field("/proc/meminfo", name, text, sizeof text);
    return strtoull(text, NULL, 10) * (strstr(text, "kB") != NULL ? 1024 : 1);
}

int bench_memory_check(uint64_t need_bytes, struct bench_error *error)
{
    struct bench_cgroup_room room;
    char need[32], left[32], limit[32];
    uint64_t available = read_memory("MemAvailable"); /* 0: unknown */
    bench_format_size(need, sizeof need, need_bytes);
    if (available != 0 && need_bytes > available)
        return bench_fail(error,
                          "not enough memory: --mem and slack make %s, %s are available; use a "
                          "smaller --mem",
                          need, bench_format_size(left, sizeof left, available));
    bench_cgroup_room(&room);
    if (need_bytes > room.left_bytes)
        return bench_fail(error,
                          "not enough memory: --mem and slack make %s, %s are left of the limit of "
                          "%s of the memory cgroup %.500s; use a smaller --mem, or raise the limit",
                          need, bench_format_size(left, sizeof left, room.left_bytes),
                          bench_format_size(limit, sizeof limit, room.limit_bytes), room.directory);
    return 0;
}

static void find_cpu(struct bench_machine *machine)
{
    cpu_set_t set;
    read_field("/proc/cpuinfo", "model name", machine->cpu, sizeof machine->cpu);
    if (machine->cpu[0] == '\0') /* ARM says it elsewhere, if at all */
        read_field("/proc/cpuinfo", "CPU part", machine->cpu, sizeof machine->cpu);
    machine->cpu_count = sched_getaffinity(0, sizeof set, &set) == 0
                             ? (unsigned)CPU_COUNT(&set)
                             : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    read_first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", machine->governor,
                    sizeof machine->governor);
    read_first_line("/sys/class/dmi/id/sys_vendor", machine->hypervisor,
                    sizeof machine->hypervisor);
    char flags[4096];
    read_field("/proc/cpuinfo", "flags", flags, sizeof flags);
    if (strstr(flags, " hypervisor") == NULL)
        machine->hypervisor[0] = '\0';
    else if (machine->hypervisor[0] == '\0')
        snprintf(machine->hypervisor, sizeof machine->hypervisor, "yes");
}

/* Virtio 1.2, 5.5: a memory balloon is device 5, and its feature 5 the reporting of free pages. */
static bool reports_free_pages(void)
{
    glob_t found;
    bool reports = false;
    if (glob("/sys/bus/virtio/devices/*", 0, NULL, &found) != 0)
        return false;
    for (size_t i = 0; i < found.gl_pathc && !reports; i++) {
        char path[512], device[32], features[128];
        snprintf(path, sizeof path, "%s/device", found.gl_pathv[i]);
        read_first_line(path, device, sizeof device);
        snprintf(path, sizeof path, "%s/features", found.gl_pathv[i]);
        read_first_line(path, features, sizeof features);
        reports = strcmp(device, "0x0005") == 0 && strlen(features) > 5 && features[5] == '1';
    }
    globfree(&found);
    return reports;
}

void bench_machine_find(struct bench_machine *out_machine)
{
    struct bench_machine machine = {0};
    struct utsname name;
    struct rlimit limit;
    char text[256];
    if (uname(&name) == 0)
        snprintf(machine.kernel, sizeof machine.kernel, "%.60s %.100s %.60s", name.sysname,
                 name.release, name.machine);
    find_cpu(&machine);
    read_first_line("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text);
    char *open = strchr(text, '['), *close = strchr(text, ']');
    if (open != NULL && close != NULL) {
        *close = '\0';
        snprintf(machine.thp, sizeof machine.thp, "%.31s", open + 1);
    }
    machine.memory_bytes = read_memory("MemTotal");
    machine.available_bytes = read_memory("MemAvailable");
    machine.swap_bytes = read_memory("SwapTotal");
    machine.hugetlb_pages = read_memory("HugePages_Total");
    machine.hugetlb_free = read_memory("HugePages_Free");
    machine.memlock_bytes = UINT64_MAX;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        machine.memlock_bytes = limit.rlim_cur;
    machine.reports_free_pages = reports_free_pages();
    *out_machine = machine;
}

const char *bench_liburing_version(char *text, size_t capacity)
{
    if (io_uring_major_version != NULL && io_uring_minor_version != NULL)
        snprintf(text, capacity, "%d.%d", io_uring_major_version(), io_uring_minor_version());
    else
        snprintf(text, capacity, "%s", BENCH_LIBURING_VERSION);
    return text;
}

int bench_uring_probe(void)
{
    struct io_uring ring;
    int code = io_uring_queue_init(4, &ring, 0);
    if (code != 0)
        return -code;
    io_uring_queue_exit(&ring);
    return 0;
}

json_t *bench_versions_json(void)
{
    static const char *const stores[] = {"lmdb", "sqlite", "wiredtiger", "rocksdb", "berkeleydb"};
    char text[32];
    json_t *versions =
        json_pack("{s:s,s:s,s:s}", "clockpool", cp_version(), "liburing",
                  bench_liburing_version(text, sizeof text), "xxhash", BENCH_XXHASH_VERSION);
    for (unsigned i = 0; i < sizeof stores / sizeof *stores; i++) {
        const struct bench_engine *engine = bench_engine_find(stores[i]);
        json_object_set_new(
            versions, stores[i],
            json_string(engine->not_built == NULL ? engine->version() : "not built"));
    }
    json_object_set_new(versions, "jansson", json_string(JANSSON_VERSION));
    json_object_set_new(versions, "compiler", json_string(__VERSION__));
    return versions;
}

static json_t *machine_json(const struct bench_machine *machine)
{
    return json_pack(
        "{s:s,s:s,s:i,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:b}", "kernel", machine->kernel, "cpu",
        machine->cpu, "cpu_count", (int)machine->cpu_count, "governor", machine->governor,
        "hypervisor", machine->hypervisor, "transparent_huge_pages", machine->thp, "memory_bytes",
        (json_int_t)machine->memory_bytes, "available_bytes", (json_int_t)machine->available_bytes,
        "swap_bytes", (json_int_t)machine->swap_bytes, "hugetlb_pages",
        (json_int_t)machine->hugetlb_pages, "memlock_bytes",
        machine->memlock_bytes == UINT64_MAX ? (json_int_t)-1 : (json_int_t)machine->memlock_bytes,
        "reports_free_pages", machine->reports_free_pages);
}

static json_t *place_json(const struct bench_place *place)
{
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:i,s:I}", "directory", place->path,
                     "file_system", place->type, "mount_options", place->options, "source",
                     place->source, "device", place->device, "device_model", place->model,
                     "scheduler", place->scheduler, "read_ahead_kb",
                     (json_int_t)place->read_ahead_kb, "rotational", place->rotational,
                     "free_bytes", (json_int_t)place->free_bytes);
}

json_t *bench_environment_json(const struct bench_place *place)
{
    struct bench_machine machine;
    char now[32] = "";
    time_t seconds = time(NULL);
    struct tm utc;
    bench_machine_find(&machine);
    if (gmtime_r(&seconds, &utc) != NULL)
        strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &utc);
    int code = bench_uring_probe();
    return json_pack("{s:s,s:o,s:o,s:o,s:b}", "time", now, "machine", machine_json(&machine),
                     "place", place_json(place), "versions", bench_versions_json(), "io_uring",
                     code == 0);
}
