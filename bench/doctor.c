/* SPDX-License-Identifier: MIT */
/*
 * `clockpool-bench doctor`: prints and checks what decides whether a comparison is fair.
 *
 * Each finding is ok, warn or fail, with what it means and what to do. Nothing is changed on the
 * machine; a file of PROBE_BYTES is written to the directory and removed.
 */
#include "commands.h"

#include "cgroup.h"
#include "common/signals.h"
#include "doctor_probe.h"
#include "engine.h"
#include "environment.h"
#include "units.h"

#include <clockpool/clockpool.h>

#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help_text[] =
    "usage: clockpool-bench doctor [--dir DIR] [--json]\n"
    "\n"
    "Print and check what decides whether a comparison is fair: kernel, processor, memory,\n"
    "whether the host takes free memory back, file system, device, scheduler, read-ahead, huge\n"
    "pages, memory cgroup, io_uring, whether O_DIRECT really bypasses the page cache, a cache on\n"
    "the host's side, library versions.\n"
    "\n"
    "  --dir DIR   where the data would lie ($TMPDIR, /var/tmp or .); a file of 64 MiB is written\n"
    "              there and removed\n"
    "  --json      findings as JSON (default: text)\n"
    "  --help      this text\n"
    "\n"
    "exit status: 0 nothing failed (warnings are allowed); 1 a check failed; 2 wrong usage\n"
    "\n"
    "example: clockpool-bench doctor --dir /srv/data\n";

#define READ_AHEAD_LIMIT_KB 128 /* the kernel's own default */
#define MEMLOCK_WANTED      (UINT64_C(64) << 20)
#define HOST_CACHE_FACTOR   1.5 /* a second reading so much faster hints at a cache behind us */
#define DEFAULT_MEMORY      (UINT64_C(2) << 30) /* less is little beside a default run */

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL };

static const char *const verdict_names[] = {"ok", "warn", "fail"};

struct doctor {
    bool json;
    json_t *findings;
    unsigned counts[3];
};

/* One finding. meaning and remedy may be empty. */
static void find(struct doctor *doctor, enum verdict verdict, const char *name, const char *meaning,
                 const char *remedy, const char *value, ...) __attribute__((format(printf, 6, 7)));

static void find(struct doctor *doctor, enum verdict verdict, const char *name, const char *meaning,
                 const char *remedy, const char *value, ...)
{
    char text[1024];
    va_list args;
    va_start(args, value);
    vsnprintf(text, sizeof text, value, args);
    va_end(args);
    doctor->counts[verdict]++;
    if (doctor->json) {
        json_array_append_new(doctor->findings,
                              json_pack("{s:s,s:s,s:s,s:s,s:s}", "name", name, "verdict",
                                        verdict_names[verdict], "value", text, "meaning", meaning,
                                        "remedy", remedy));
        return;
    }
    printf("%-4s  %-16s %s\n", verdict_names[verdict], name, text);
    if (meaning[0] != '\0')
        printf("%24s%s\n", "", meaning);
    if (remedy[0] != '\0')
        printf("%22s→ %s\n", "", remedy);
}

/* ---- the machine
 * ------------------------------------------------------------------------------------- */

static void check_cpu(struct doctor *doctor, const struct bench_machine *machine)
{
    find(doctor, VERDICT_OK, "kernel", "", "", "%s", machine->kernel);
    if (machine->cpu_count < 2)
        find(doctor, VERDICT_WARN, "cpu",
             "threads share one processor: figures for several threads show switching, not scaling",
             "", "%u x %s", machine->cpu_count, machine->cpu);
    else
        find(doctor, VERDICT_OK, "cpu", "", "", "%u x %s%s", machine->cpu_count, machine->cpu,
             machine->hypervisor[0] != '\0' ? " (virtual)" : "");
    if (machine->governor[0] == '\0')
        find(doctor, VERDICT_OK, "governor", "", "", "none visible: frequencies are not set here");
    else if (strcmp(machine->governor, "performance") == 0)
        find(doctor, VERDICT_OK, "governor", "", "", "performance");
    else
        find(doctor, VERDICT_WARN, "governor",
             "the processor may be slow at the start of a measurement, and between reads",
             "cpupower frequency-set -g performance", "%s", machine->governor);
}

static void check_memory(struct doctor *doctor, const struct bench_machine *machine)
{
    char total[32], available[32], limit[32];
    find(doctor, machine->available_bytes < DEFAULT_MEMORY ? VERDICT_WARN : VERDICT_OK, "memory",
         machine->available_bytes < DEFAULT_MEMORY
             ? "the default run needs about 1.1 GiB; little is left for anything else"
             : "",
         "", "%s, %s available, swap %" PRIu64 " MiB",
         bench_format_size(total, sizeof total, machine->memory_bytes),
         bench_format_size(available, sizeof available, machine->available_bytes),
         machine->swap_bytes >> 20);
    if (machine->reports_free_pages)
        find(doctor, VERDICT_WARN, "free memory",
             "a process that starts gets its memory from the host, page by page, while it runs: "
             "figures of resident data spread",
             "measure often and compare medians (--repeat)",
             "the host takes it back (virtio balloon, free page reporting)");
    if (machine->thp[0] == '\0' || strcmp(machine->thp, "never") == 0)
        find(doctor, VERDICT_WARN, "huge pages",
             "pool and raw run on 4 KiB pages: random access costs more, scans are slower",
             "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
             "transparent: %s; hugetlb: %" PRIu64 " of %" PRIu64 " free",
             machine->thp[0] == '\0' ? "not available" : machine->thp, machine->hugetlb_free,
             machine->hugetlb_pages);
    else
        find(doctor, VERDICT_OK, "huge pages", "", "",
             "transparent: %s; hugetlb: %" PRIu64 " of %" PRIu64 " free", machine->thp,
             machine->hugetlb_free, machine->hugetlb_pages);
    if (machine->memlock_bytes == UINT64_MAX)
        find(doctor, VERDICT_OK, "memlock", "", "", "no limit");
    else
        find(doctor, machine->memlock_bytes < MEMLOCK_WANTED ? VERDICT_WARN : VERDICT_OK, "memlock",
             machine->memlock_bytes < MEMLOCK_WANTED
                 ? "without privilege, buffers larger than this cannot be registered with io_uring"
                 : "",
             machine->memlock_bytes < MEMLOCK_WANTED
                 ? "ulimit -l unlimited, or a memlock line in /etc/security/limits.conf"
                 : "",
             "%s", bench_format_size(limit, sizeof limit, machine->memlock_bytes));
}

/* The limit of a group around: nothing in it can have more, whatever limit is its own. */
static void check_room(struct doctor *doctor)
{
    struct bench_cgroup_room room;
    char left[32], limit[32];
    bench_cgroup_room(&room);
    if (room.limit_bytes == UINT64_MAX)
        return;
    const bool little = room.left_bytes < DEFAULT_MEMORY;
    find(doctor, little ? VERDICT_WARN : VERDICT_OK, "memory limit",
         little ? "--mem and 48 MiB must fit in it, or run refuses; the default run needs about "
                  "1.1 GiB"
                : "",
         little ? "use a smaller --mem, or raise the limit" : "", "%s left of %s of %s",
         bench_format_size(left, sizeof left, room.left_bytes),
         bench_format_size(limit, sizeof limit, room.limit_bytes), room.directory);
}

static void check_cgroup(struct doctor *doctor)
{
    struct bench_error error = {""};
    char parent[PATH_MAX];
    int version;
    if (bench_cgroup_probe(&version, parent, sizeof parent, &error) == 0)
        find(doctor, VERDICT_OK, "memory cgroup", "", "", "version %d, groups can be made in %s",
             version, parent);
    else
        find(doctor, VERDICT_WARN, "memory cgroup",
             "mmap and lmdb could use all memory while the pool keeps to its budget: not equal",
             "run as root, or in a delegated group: systemd-run --user --scope -p Delegate=yes ...",
             "%s%s",
             version == 0   ? ""
             : version == 1 ? "version 1: "
                            : "version 2: ",
             error.text);
}

static void check_uring(struct doctor *doctor)
{
    int code = bench_uring_probe();
    if (code == 0)
        find(doctor, VERDICT_OK, "io_uring", "", "", "permitted");
    else
        find(doctor, VERDICT_FAIL, "io_uring",
             "raw cannot keep several reads in flight, and the pool reads one page at a time",
             "sysctl kernel.io_uring_disabled=0; in a container, allow the io_uring calls in its "
             "seccomp profile",
             "not permitted: %s", strerror(code));
}

/* ---- the disk
 * ------------------------------------------------------------------------------------------ */

static void check_place(struct doctor *doctor, const struct bench_place *place)
{
    char space[32];
    if (place->in_memory)
        find(doctor, VERDICT_FAIL, "file system",
             "there is no device behind it: reading costs nothing, and no figure means anything",
             "name a directory on a disk with --dir", "%s at %s", place->type, place->path);
    else
        find(doctor, VERDICT_OK, "file system", "", "", "%s at %s (%s)", place->type, place->path,
             place->options);
    find(doctor, place->free_bytes < UINT64_C(7) << 30 ? VERDICT_WARN : VERDICT_OK, "free space",
         place->free_bytes < UINT64_C(7) << 30 ? "the default run needs about 7 GiB" : "",
         place->free_bytes < UINT64_C(7) << 30 ? "use a smaller --size, or another --dir" : "",
         "%s", bench_format_size(space, sizeof space, place->free_bytes));
    if (place->device[0] == '\0') {
        find(doctor, VERDICT_WARN, "device",
             "a network, overlay or stacked file system: scheduler and read-ahead are not known",
             "", "no single disk behind %s", place->source);
        return;
    }
    find(doctor,
         place->rotational == 1 && strncmp(place->device, "vd", 2) != 0 ? VERDICT_WARN : VERDICT_OK,
         "device",
         place->rotational == 1
             ? "it calls itself rotational; virtual disks often do so wrongly, real ones seek"
             : "",
         "", "%s%s%s, scheduler %s", place->device, place->model[0] != '\0' ? " " : "",
         place->model, place->scheduler[0] != '\0' ? place->scheduler : "unknown");
    if (place->read_ahead_kb > READ_AHEAD_LIMIT_KB)
        find(doctor, VERDICT_WARN, "read-ahead",
             "a fault or read with default advice fetches up to that much: mmap and LMDB at random "
             "are crippled (125 pages/s at 8192)",
             "compare with --advice random (the default), which is the fair baseline; or lower "
             "queue/read_ahead_kb in /sys/block",
             "%" PRId64 " KiB", place->read_ahead_kb);
    else
        find(doctor, VERDICT_OK, "read-ahead", "", "", "%" PRId64 " KiB", place->read_ahead_kb);
}

static void check_direct(struct doctor *doctor, const struct bench_probe *probe)
{
    if (!probe->direct)
        find(doctor, VERDICT_FAIL, "O_DIRECT",
             "the pool would be cached twice, in its frames and in the page cache",
             "name a directory on ext4, xfs or btrfs with --dir", "refused: %s",
             probe->direct_reason);
    else if (probe->cached_pages > 0)
        find(doctor, VERDICT_FAIL, "O_DIRECT",
             "it is accepted but the page cache is used all the same: raw and pool figures are "
             "false",
             "name a directory on ext4 or xfs with --dir",
             "%" PRIu64 " of %" PRIu64 " pages in the page cache after reading with O_DIRECT",
             probe->cached_pages, probe->page_count);
    else
        find(doctor, VERDICT_OK, "O_DIRECT", "", "",
             "supported, and really bypasses the page cache (0 of %" PRIu64 " pages cached)",
             probe->page_count);
}

static void check_host_cache(struct doctor *doctor, const struct bench_probe *probe, bool virtual)
{
    char first[32], second[32];
    if (!probe->direct || probe->first_reads_per_s <= 0)
        return;
    bench_format_thousands(first, sizeof first, probe->first_reads_per_s);
    bench_format_thousands(second, sizeof second, probe->second_reads_per_s);
    bool faster = probe->second_reads_per_s > HOST_CACHE_FACTOR * probe->first_reads_per_s;
    if (faster || virtual)
        find(doctor, VERDICT_WARN, "host cache",
             faster ? "the same reads are faster the second time: something behind this disk caches"
                    : "a virtual disk: the host may cache what was read or written before "
                      "(seen: 19,000 reads/s cold, 65,000 warm)",
             "compare engines within one run only: every data set is read through once before it "
             "is measured",
             "random 4 KiB O_DIRECT reads, one at a time: %s/s, again %s/s", first, second);
    else
        find(doctor, VERDICT_OK, "host cache", "", "",
             "none seen: random 4 KiB O_DIRECT reads, one at a time: %s/s, again %s/s", first,
             second);
}

static void check_versions(struct doctor *doctor)
{
    json_t *versions = bench_versions_json();
    const char *name;
    json_t *value;
    json_object_foreach(versions, name, value)
    {
        const struct bench_engine *engine = bench_engine_find(name);
        bool missing = engine != NULL && engine->not_built != NULL;
        bool baseline = engine == &bench_engine_lmdb;
        find(doctor, missing && baseline ? VERDICT_WARN : VERDICT_OK, name,
             missing && baseline ? "the comparison lacks its best-known baseline" : "", "", "%s",
             missing ? engine->not_built : json_string_value(value));
    }
    json_decref(versions);
}

/* ---- all of it
 * --------------------------------------------------------------------------------------------- */

static int examine(struct doctor *doctor, const struct bench_place *place)
{
    struct bench_machine machine;
    struct bench_probe probe;
    struct bench_error error = {""};
    bench_machine_find(&machine);
    check_cpu(doctor, &machine);
    check_memory(doctor, &machine);
    check_cgroup(doctor);
    check_room(doctor);
    check_uring(doctor);
    check_place(doctor, place);
    if (bench_probe_run(place, &probe, &error) != 0) {
        find(doctor, VERDICT_FAIL, "probe file", "reading and writing could not be tried",
             "make room, or name another directory with --dir", "%s", error.text);
    } else {
        check_direct(doctor, &probe);
        check_host_cache(doctor, &probe, machine.hypervisor[0] != '\0');
    }
    check_versions(doctor);
    if (doctor->json) {
        json_t *root =
            json_pack("{s:o,s:o,s:i,s:i}", "findings", doctor->findings, "environment",
                      bench_environment_json(place), "warnings", (int)doctor->counts[VERDICT_WARN],
                      "failures", (int)doctor->counts[VERDICT_FAIL]);
        json_dumpf(root, stdout, JSON_INDENT(2));
        printf("\n");
        json_decref(root);
    } else {
        printf("\n%u ok, %u warnings, %u failed\n", doctor->counts[VERDICT_OK],
               doctor->counts[VERDICT_WARN], doctor->counts[VERDICT_FAIL]);
    }
    return doctor->counts[VERDICT_FAIL] > 0 ? 1 : 0;
}

int bench_doctor_main(int argc, char **argv)
{
    static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct doctor doctor = {0};
    struct bench_place place;
    struct bench_error error = {""};
    const char *dir = NULL;
    int id;
    optind = 1;
    opterr = 0;
    while ((id = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        switch (id) {
        case 'd':
            dir = optarg;
            break;
        case 'j':
            doctor.json = true;
            break;
        case 'h':
            fputs(help_text, stdout);
            return 0;
        case ':':
            fprintf(stderr, "clockpool-bench doctor: option %s needs a value\n", argv[optind - 1]);
            return 2;
        default:
            fprintf(stderr,
                    "clockpool-bench doctor: unknown option %s; accepted: --dir, --json, --help\n",
                    argv[optind - 1]);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr,
                "clockpool-bench doctor: \"%s\" is not an option; accepted: --dir, --json, "
                "--help\n",
                argv[optind]);
        return 2;
    }
    if (bench_place_choose(dir, &place, &error) != 0) {
        fprintf(stderr, "clockpool-bench doctor: option --dir: %s\n", error.text);
        return 2;
    }
    signals_catch();
    doctor.findings = json_array();
    int status = examine(&doctor, &place);
    if (!doctor.json)
        json_decref(doctor.findings);
    signals_raise_again();
    return status;
}
