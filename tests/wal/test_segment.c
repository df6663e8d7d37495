/* SPDX-License-Identifier: MIT */
/*
 * What an earlier session left in the kernel's cache: a segment's header can be read, and is gone
 * after a power failure, unless this session has it written.
 */
#include "helpers.h"
#include "internal.h"

#include <limits.h>

#define SECTOR  CP_WAL_BLOCK_BYTES
#define SECTORS (SEGMENT / SECTOR)

/* ---- a device behind the cache, for buffered files --------------------------------------------
 */

struct device_file {
    char name[CP_WAL__NAME_BYTES];
    uint8_t bytes[SEGMENT];
    bool dirty[SECTORS]; /* what a sync would write: the file has it, the device not yet */
};

static struct device {
    struct device_file files[FILES_MAX];
    unsigned count;
    unsigned good_syncs;  /* that many more; what comes then ... */
    bool failed_is_clean; /* ... writes nothing, and the kernel may call clean what is lost */
} device;

static struct device_file *device_find(int fd)
{
    char link[40], path[400];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    assert_true(length > 0);
    path[length] = '\0';
    const char *name = strrchr(path, '/') + 1;
    for (unsigned i = 0; i < device.count; i++) {
        if (strcmp(device.files[i].name, name) == 0)
            return &device.files[i];
    }
    assert_true(device.count < FILES_MAX && strlen(name) < CP_WAL__NAME_BYTES);
    struct device_file *file = &device.files[device.count++];
    snprintf(file->name, sizeof file->name, "%.*s", (int)sizeof file->name - 1, name);
    int other = open(path, O_RDONLY | O_CLOEXEC); /* fd may be for writing only */
    assert_true(other >= 0 && read(other, file->bytes, SEGMENT) >= 0);
    close(other);
    return file;
}

/* O_DSYNC brings to the device what the call itself writes, and nothing else. */
static void device_write(void *ctx, int fd, uint64_t offset, const struct iovec *iov, int count)
{
    const bool dsync = (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
    struct device_file *file = device_find(fd);
    (void)ctx;
    for (int i = 0; i < count; i++) {
        assert_true(offset + iov[i].iov_len <= SEGMENT && iov[i].iov_len % SECTOR == 0);
        if (dsync)
            memcpy(file->bytes + offset, iov[i].iov_base, iov[i].iov_len);
        for (uint64_t end = offset + iov[i].iov_len; offset < end; offset += SECTOR)
            file->dirty[offset / SECTOR] = !dsync;
    }
}

static void device_sync(void *ctx, int fd)
{
    struct device_file *file = device_find(fd);
    const bool good = device.good_syncs != 0;
    (void)ctx;
    device.good_syncs -= good;
    for (unsigned i = 0; i < SECTORS; i++) {
        if (file->dirty[i] && good)
            assert_int_equal(
                pread(fd, file->bytes + (uint64_t)i * SECTOR, SECTOR, (off_t)i * SECTOR), SECTOR);
        file->dirty[i] &= !good && !device.failed_is_clean;
    }
}

/* Power fails: the files are what the device has. */
static void device_restart(const struct subject *s)
{
    char path[200];
    for (unsigned i = 0; i < device.count; i++) {
        snprintf(path, sizeof path, "%s/%s", s->directory, device.files[i].name);
        int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, device.files[i].bytes, SEGMENT), SEGMENT);
        close(fd);
    }
}

/* ---- the tests --------------------------------------------------------------------------------
 */

static int flush_group(struct subject *s, uint64_t number, uint32_t size_bytes)
{
    cp_lsn end;
    int code = append_group(s->wal, 0, number, size_bytes, &end);
    return code != 0 ? code : cp_wal_flush(s->wal, end);
}

/* How a session ends that has just written the header of its second segment. */
enum end { KILLED_BEFORE_THE_BLOCK, KILLED_BEFORE_THE_SYNC, SYNC_FAILED };

/* A log whose session ended so; *out_number: groups that are durable. */
static void end_in_second_segment(struct subject *s, enum end end, uint64_t *out_number)
{
    uint64_t number = 0;
    device = (struct device){.good_syncs = UINT_MAX};
    create_log(s, SEGMENT);
    s->options.caching = CP_IO_BUFFERED;
    fault_io_on_write(s->faults, device_write, NULL);
    fault_io_on_sync(s->faults, device_sync, NULL);
    open_log(s);
    start_log(s);
    cp_lsn room = atomic_load(&s->wal->prepared);
    while (cp_wal_end(s->wal) + group_size(1000) <= room)
        assert_int_equal(flush_group(s, number++, 1000), 0);
    assert_int_equal(cp_wal_prepare(s->wal, SEGMENT), 0);
    /* Of the next flush: the first segment's blocks, its sync, the header, a block, a sync. */
    fault_io_reset(s->faults);
    if (end == KILLED_BEFORE_THE_BLOCK)
        fault_io_rule(s->faults, &(struct fault_rule){.on = FAULT_WRITE, .nth = 3, .code = -EIO});
    else
        fault_io_rule(s->faults, &(struct fault_rule){.on = FAULT_SYNC, .nth = 2, .code = -EIO});
    device.good_syncs = 1;
    device.failed_is_clean = end == SYNC_FAILED;
    assert_int_equal(flush_group(s, number, 1000), -EIO);
    assert_int_equal(fault_io_fired(s->faults), 1);
    fault_io_reset(s->faults);
    device.good_syncs = UINT_MAX;
    *out_number = number;
}

/* Did the power failure lose something, or has it the log damaged? */
static bool loses_after(enum end end, enum cp_wal_sync sync, unsigned group_count)
{
    struct subject s;
    struct found found;
    uint64_t number;
    end_in_second_segment(&s, end, &number);
    s.options.sync = sync;
    reopen(&s, &found);
    assert_true(found.next[0] >= number);
    number = found.next[0];
    start_log(&s);
    for (unsigned i = 0; i < group_count; i++)
        assert_int_equal(flush_group(&s, number++, 1000), 0);
    close_log(&s);
    device_restart(&s);
    open_log(&s);
    int code = scan_log(&s, s.first, &found);
    const bool loses = code != 0 || found.wrong || found.next[0] != number;
    if (loses)
        print_message("end %d, sync %d, %u groups: code %d, %llu of %llu groups\n", (int)end,
                      (int)sync, group_count, code, (unsigned long long)found.next[0],
                      (unsigned long long)number);
    destroy_log(&s);
    return loses;
}

static void segment_header_of_an_earlier_session_is_made_durable(void **state)
{
    unsigned losses = 0;
    (void)state;
    for (unsigned end = KILLED_BEFORE_THE_BLOCK; end <= SYNC_FAILED; end++) {
        for (unsigned group_count = 1; group_count <= 31; group_count += 30) { /* 31: 3 segments */
            losses += loses_after((enum end)end, CP_WAL_SYNC_FDATASYNC, group_count);
            losses += loses_after((enum end)end, CP_WAL_SYNC_DSYNC, group_count);
        }
    }
    assert_int_equal(losses, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segment_header_of_an_earlier_session_is_made_durable),
    };
    return cmocka_run_group_tests_name("wal segment", tests, NULL, NULL);
}
