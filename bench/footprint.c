/* SPDX-License-Identifier: MIT */
/* Reading memory.stat and /proc/interrupts, and asking mincore. */
#include "footprint.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ASK_PAGES 16384u /* at a time: what mincore answers with is charged to the group too */

static double read_value(const char *path)
{
    double value = -1;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    if (fscanf(file, "%lf", &value) != 1)
        value = -1;
    fclose(file);
    return value;
}

/* The groups' statistics lie beside their use. Version 1 says rss and cache, 2 anon and file. */
static void read_stat(const char *usage_file, struct bench_footprint *out)
{
    char path[PATH_MAX + 16], name[64];
    double value;
    const char *slash = strrchr(usage_file, '/');
    if (slash == NULL)
        return;
    snprintf(path, sizeof path, "%.*s/memory.stat", (int)(slash - usage_file), usage_file);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    while (fscanf(file, "%63s %lf", name, &value) == 2) {
        if (strcmp(name, "rss") == 0 || strcmp(name, "anon") == 0)
            out->anon_bytes = value;
        if (strcmp(name, "cache") == 0 || strcmp(name, "file") == 0)
            out->cache_bytes = value;
    }
    fclose(file);
}

/* Bytes of a file that are in the page cache, or -1. */
static double cached_of_file(const char *path)
{
    static unsigned char present[ASK_PAGES];
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct stat info;
    double cached = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (fstat(fd, &info) != 0 || info.st_size == 0) {
        close(fd);
        return info.st_size == 0 ? 0 : -1;
    }
    const size_t size = (size_t)info.st_size;
    char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0); /* touches nothing */
    close(fd);
    if (map == MAP_FAILED)
        return -1;
    for (size_t at = 0; at < size; at += ASK_PAGES * page) {
        const size_t part = size - at < ASK_PAGES * page ? size - at : ASK_PAGES * page;
        if (mincore(map + at, part, present) != 0)
            break;
        cached = cached < 0 ? 0 : cached;
        for (size_t i = 0; i < (part + page - 1) / page; i++)
            cached += (present[i] & 1) != 0 ? (double)page : 0;
    }
    munmap(map, size);
    return cached;
}

static double cached_below(const char *directory)
{
    double sum = 0;
    DIR *dir = opendir(directory);
    struct dirent *entry;
    if (dir == NULL)
        return -1;
    while (sum >= 0 && (entry = readdir(dir)) != NULL) {
        char path[PATH_MAX];
        struct stat info;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            snprintf(path, sizeof path, "%s/%s", directory, entry->d_name) >= (int)sizeof path ||
            lstat(path, &info) != 0)
            continue;
        double cached = S_ISDIR(info.st_mode)   ? cached_below(path)
                        : S_ISREG(info.st_mode) ? cached_of_file(path)
                                                : 0;
        sum = cached < 0 ? -1 : sum + cached;
    }
    closedir(dir);
    return sum;
}

/* The line of /proc/interrupts has a number for each processor. */
double bench_tlb_shootdowns(void)
{
    char *line = NULL;
    size_t capacity = 0;
    double sum = -1;
    FILE *file = fopen("/proc/interrupts", "re");
    while (file != NULL && getline(&line, &capacity, file) > 0) {
        char *at = line + strspn(line, " "), *end;
        if (strncmp(at, "TLB:", 4) != 0)
            continue;
        sum = 0;
        for (at += 4;; at = end) { /* ends: at the words that follow the numbers */
            double value = strtod(at, &end);
            if (end == at)
                break;
            sum += value;
        }
    }
    free(line);
    if (file != NULL)
        fclose(file);
    return sum;
}

void bench_footprint_take(const char *usage_file, const char *directory,
                          struct bench_footprint *out_footprint)
{
    struct bench_footprint footprint = {-1, -1, -1, -1, -1};
    if (usage_file[0] != '\0') {
        footprint.charged_bytes = read_value(usage_file);
        read_stat(usage_file, &footprint);
    }
    footprint.file_cached_bytes = cached_below(directory);
    footprint.tlb_shootdowns = bench_tlb_shootdowns();
    *out_footprint = footprint;
}
