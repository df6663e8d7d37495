/* SPDX-License-Identifier: MIT */
/* Shared by the log's tests: a log in a directory of its own, groups that tell who they are. */
#ifndef CLOCKPOOL_TESTS_WAL_HELPERS_H
#define CLOCKPOOL_TESTS_WAL_HELPERS_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <clockpool/io.h>
#include <clockpool/wal.h>
#include <clockpool/base/error.h>
#include <clockpool/base/thread.h>
#include "format.h"
#include "support/fault_io.h"

#define STORE_ID  UINT64_C(0x1122334455667788)
#define SEGMENT   CP_WAL_SEGMENT_BYTES_MIN
#define BUFFER    CP_WAL_BUFFER_BYTES_MIN
#define DATA_MAX  65536u
#define FILES_MAX 64u

struct subject {
    struct fault_io *faults;
    struct cp_io *io;
    struct cp_wal *wal;
    struct cp_wal_options options;
    char directory[64];
    cp_lsn first, end;
    uint32_t epoch;
};

static inline uint64_t test_seed(void)
{
    const char *given = getenv("CP_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : cp_now_ns();
    print_message("CP_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed | 1;
}

static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline void remove_files(const char *directory)
{
    char path[400];
    DIR *dir = opendir(directory);
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        (void)!unlink(path);
    }
    closedir(dir);
}

/* A directory with a new log in it, over a backend, not opened. */
static inline void create_log_on(struct subject *s, const struct cp_io_backend *backend,
                                 uint32_t segment_bytes)
{
    memset(s, 0, sizeof *s);
    s->faults = fault_io_create(backend, FAULT_RING_DEFERRED);
    struct cp_io_options options = {.backend = fault_io_backend(s->faults),
                                    .backend_ctx = s->faults};
    assert_int_equal(cp_io_create(&options, &s->io), 0);
    snprintf(s->directory, sizeof s->directory, "wal-test-%d", (int)getpid());
    remove_files(s->directory);
    (void)!mkdir(s->directory, 0700);
    s->options = (struct cp_wal_options){
        .store_id = STORE_ID, .buffer_bytes = BUFFER, .sync = CP_WAL_SYNC_FDATASYNC};
    assert_int_equal(cp_wal_create(s->io, s->directory, STORE_ID, segment_bytes,
                                   CP_IO_DIRECT_IF_POSSIBLE, &s->first),
                     0);
    s->end = s->first;
}

static inline void create_log(struct subject *s, uint32_t segment_bytes)
{
    create_log_on(s, cp_io_backend_sync(), segment_bytes);
}

static inline void open_log(struct subject *s)
{
    assert_null(s->wal);
    assert_int_equal(cp_wal_open(s->io, s->directory, &s->options, &s->wal), 0);
}

static inline void close_log(struct subject *s)
{
    cp_wal_close(s->wal);
    s->wal = NULL;
}

/* Begin a session at the end. */
static inline void start_log(struct subject *s)
{
    assert_int_equal(cp_wal_start(s->wal, s->end, ++s->epoch), 0);
}

static inline void create_started(struct subject *s, uint32_t segment_bytes)
{
    create_log(s, segment_bytes);
    open_log(s);
    start_log(s);
}

static inline void destroy_log(struct subject *s)
{
    close_log(s);
    remove_files(s->directory);
    (void)!rmdir(s->directory);
    cp_io_destroy(s->io);
    fault_io_destroy(s->faults);
}

/* ---- groups: page = writer, content from (writer, number) -------------------------------------
 */

static inline void fill_data(uint8_t *data, uint32_t size_bytes, uint64_t writer, uint64_t number)
{
    uint64_t state = (writer + 1) * UINT64_C(0x9e3779b97f4a7c15) + number * 2 + 1;
    for (uint32_t i = 0; i < size_bytes; i++)
        data[i] = (uint8_t)next_random(&state);
}

/* Append group `number` of `writer`: one record that names it and one of size_bytes. */
static inline int append_group(struct cp_wal *wal, uint64_t writer, uint64_t number,
                               uint32_t size_bytes, cp_lsn *out_end)
{
    uint8_t *data = malloc(size_bytes + 1);
    fill_data(data, size_bytes, writer, number);
    struct cp_wal_record records[2] = {
        {.data = &number, .page = writer, .size_bytes = sizeof number, .offset = 3, .type = 1},
        {.data = data, .page = number, .size_bytes = size_bytes, .type = 2},
    };
    int code = cp_wal_append(wal, records, 2, out_end);
    free(data);
    return code;
}

static inline uint32_t group_size(uint32_t size_bytes)
{
    return 16 + 24 + 16 + (size_bytes + 7) / 8 * 8;
}

/* Append group `number` so that it fills the rest of the current block. */
static inline void fill_block(struct subject *s, uint64_t writer, uint64_t number)
{
    cp_lsn end;
    uint32_t rest = 488 - (uint32_t)(cp_wal_end(s->wal) % 488);
    assert_int_equal(append_group(s->wal, writer, number, rest - group_size(0), &end), 0);
    assert_int_equal(end % 488, 0);
}

/* What a scan found: each writer's groups must come in order, without a gap, unchanged. */
#define WRITERS_MAX 40u
struct found {
    uint64_t next[WRITERS_MAX]; /* the number expected next */
    uint64_t groups;
    cp_lsn end;
    bool wrong; /* a group out of order, or with other content */
};

static inline int visit_group(void *ctx, const struct cp_wal_group *group)
{
    struct found *found = ctx;
    uint64_t number;
    const struct cp_wal_record *r = group->records;
    bool right = group->record_count == 2 && r[0].size_bytes == 8 && r[0].offset == 3 &&
                 r[0].type == 1 && r[1].type == 2 && r[0].page < WRITERS_MAX &&
                 group->start >= found->end;
    if (right) {
        memcpy(&number, r[0].data, 8);
        uint8_t *data = malloc(r[1].size_bytes + 1);
        fill_data(data, r[1].size_bytes, r[0].page, number);
        right = number == found->next[r[0].page] && r[1].page == number &&
                (r[1].size_bytes == 0 || memcmp(data, r[1].data, r[1].size_bytes) == 0);
        free(data);
        found->next[r[0].page]++;
    }
    found->wrong |= !right;
    found->groups++;
    found->end = group->end;
    return 0;
}

static inline int scan_log(struct subject *s, cp_lsn from, struct found *found)
{
    memset(found, 0, sizeof *found);
    int code = cp_wal_scan(s->wal, from, visit_group, found, &s->end);
    if (code == 0 && found->groups != 0)
        assert_true(found->end <= s->end);
    return code;
}

/* Close, open and scan from the beginning. */
static inline void reopen(struct subject *s, struct found *found)
{
    close_log(s);
    open_log(s);
    assert_int_equal(scan_log(s, s->first, found), 0);
    assert_false(found->wrong);
}

#endif
