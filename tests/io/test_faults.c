/* SPDX-License-Identifier: MIT */
/*
 * What goes wrong below, and what the module makes of it: short transfers, interruptions, storms,
 * errors once and for ever, and the fault backend's own effects, on which other tests rely.
 */
#include "helpers.h"

#include <errno.h>

#define PAGES 8u

/* Put one request over all pages and wait for it. */
static int transfer(struct subject *s, struct cp_io_ring *ring, enum cp_io_op op, char *memory)
{
    struct iovec iov[PAGES];
    struct job job;
    uint32_t left = 1;
    job_init(&job, s->file, op, memory, 0, &left);
    for (unsigned i = 0; i < PAGES; i++)
        iov[i] = (struct iovec){memory + (size_t)i * PAGE, PAGE};
    job.request.iov = iov;
    job.request.iov_count = PAGES;
    cp_io_ring_put(ring, &job.request);
    cp_io_ring_wait(ring, none_left, &left);
    return job.request.result;
}

/* A subject over the fault backend, its rings over io_uring, deferred, or carried out at submit. */
static bool open_faulty(struct subject *s, enum variant variant, struct cp_io_ring **out_ring)
{
    const struct cp_io_backend *wrapped =
        variant == URING ? cp_io_backend_uring() : cp_io_backend_sync();
    if (wrapped == NULL || !open_subject(s, SYNC, PAGES))
        return false;
    assert_int_equal(cp_io_file_close(s->file), 0);
    cp_io_destroy(s->io);
    s->faults =
        fault_io_create(wrapped, variant == DEFERRED ? FAULT_RING_DEFERRED : FAULT_RING_AS_WRAPPED);
    struct cp_io_options options = {.backend = fault_io_backend(s->faults),
                                    .backend_ctx = s->faults};
    assert_int_equal(cp_io_create(&options, &s->io), 0);
    assert_int_equal(cp_io_file_open(s->io, s->path, NULL, &s->file), 0);
    assert_int_equal(cp_io_ring_create(s->io, NULL, out_ring), 0);
    fault_io_reset(s->faults);
    return true;
}

static void fill(char *memory, uint32_t first)
{
    for (uint32_t i = 0; i < PAGES; i++) {
        for (unsigned k = 0; k < PAGE; k += 4)
            *(uint32_t *)(void *)(memory + i * PAGE + k) = first + i;
    }
}

static void assert_pages(const char *memory, uint32_t first)
{
    for (uint32_t i = 0; i < PAGES; i++)
        assert_true(page_holds(memory + i * PAGE, first + i));
}

/* Every short length from one sector to one short of all, read and written, on each backend. */
static void faults_short_transfers_are_resumed(void **state)
{
    struct subject s;
    struct cp_io_ring *ring;
    struct cp_io_stats stats;
    char *memory = aligned_alloc(PAGE, PAGES * PAGE);
    (void)state;
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_faulty(&s, v, &ring))
            continue;
        for (uint64_t bytes = 512; bytes < PAGES * PAGE; bytes += 1536) {
            struct fault_rule rule = {
                .on = FAULT_READ, .nth = 1, .times = 3, .effect = FAULT_SHORT, .bytes = bytes};
            fault_io_reset(s.faults);
            fault_io_rule(s.faults, &rule);
            memset(memory, 0xee, PAGES * PAGE);
            assert_int_equal(transfer(&s, ring, CP_IO_OP_READ, memory), 0);
            assert_pages(memory, 0);
            assert_true(fault_io_fired(s.faults) > 0);
            memset(memory, 0xee, PAGES * PAGE);
            assert_int_equal(cp_io_read(s.file, memory, PAGES * PAGE, 0), 0);
            assert_pages(memory, 0);

            rule.on = FAULT_WRITE;
            fault_io_reset(s.faults);
            fault_io_rule(s.faults, &rule);
            fill(memory, 0);
            assert_int_equal(transfer(&s, ring, CP_IO_OP_WRITE, memory), 0);
            assert_true(fault_io_fired(s.faults) > 0);
        }
        cp_io_stats(s.io, &stats);
        assert_true(stats.short_transfers > 0);
        assert_int_equal(stats.errors, 0);
        fault_io_reset(s.faults);
        assert_int_equal(cp_io_read(s.file, memory, PAGES * PAGE, 0), 0);
        assert_pages(memory, 0);
        cp_io_ring_destroy(ring);
        close_subject(&s);
    }
    free(memory);
}

/* A transfer that stops inside a sector is resumed at the sector's start under O_DIRECT. */
static void faults_unaligned_short_read_is_resumed(void **state)
{
    struct subject s;
    struct cp_io_ring *ring;
    char *memory = aligned_alloc(PAGE, PAGES * PAGE);
    (void)state;
    assert_true(open_faulty(&s, DEFERRED, &ring));
    for (uint64_t bytes = 1; bytes < PAGES * PAGE; bytes = bytes * 3 + 1) {
        fault_io_reset(s.faults);
        /* The wrapped file would refuse an odd length, so claim the number instead. */
        fault_io_rule(s.faults,
                      &(struct fault_rule){
                          .on = FAULT_READ, .nth = 1, .effect = FAULT_AFTER, .code = (int)bytes});
        memset(memory, 0xee, PAGES * PAGE);
        assert_int_equal(transfer(&s, ring, CP_IO_OP_READ, memory), 0);
        assert_pages(memory, 0);
        assert_int_equal(fault_io_count(s.faults, FAULT_READ), 2);
    }
    cp_io_ring_destroy(ring);
    close_subject(&s);
    free(memory);
}

static void faults_interruptions_are_retried_within_a_bound(void **state)
{
    static const int codes[] = {-EINTR, -EAGAIN};
    struct subject s;
    struct cp_io_ring *ring;
    struct cp_io_stats stats;
    char *memory = aligned_alloc(PAGE, PAGES * PAGE);
    (void)state;
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_faulty(&s, v, &ring))
            continue;
        for (unsigned c = 0; c < 2; c++) {
            struct fault_rule rule = {
                .on = FAULT_READ, .nth = 1, .times = CP_IO_RETRY_LIMIT - 1, .code = codes[c]};
            fault_io_reset(s.faults);
            fault_io_rule(s.faults, &rule);
            assert_int_equal(transfer(&s, ring, CP_IO_OP_READ, memory), 0);
            assert_int_equal(fault_io_count(s.faults, FAULT_READ), CP_IO_RETRY_LIMIT);
            rule.times = UINT64_MAX;
            fault_io_reset(s.faults);
            fault_io_rule(s.faults, &rule);
            assert_int_equal(transfer(&s, ring, CP_IO_OP_READ, memory), codes[c]);
            assert_int_equal(fault_io_count(s.faults, FAULT_READ), CP_IO_RETRY_LIMIT);
            assert_int_equal(cp_io_read(s.file, memory, PAGE, 0), codes[c]);
            assert_int_equal(fault_io_count(s.faults, FAULT_READ), 2 * CP_IO_RETRY_LIMIT);
        }
        cp_io_stats(s.io, &stats);
        assert_int_equal(stats.errors, 4);
        assert_true(stats.retries > 0);
        cp_io_ring_destroy(ring);
        close_subject(&s);
    }
    free(memory);
}

/* Errors are reported as they are, once; a failed sync is never repeated. */
static void faults_errors_are_reported(void **state)
{
    struct subject s;
    struct cp_io_ring *ring;
    char *memory = aligned_alloc(PAGE, PAGES * PAGE);
    (void)state;
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_faulty(&s, v, &ring))
            continue;
        for (uint64_t times = 1; times != 0; times = times == 1 ? UINT64_MAX : 0) {
            fault_io_reset(s.faults);
            fault_io_rule(s.faults, &(struct fault_rule){
                                        .on = FAULT_READ, .nth = 1, .times = times, .code = -EIO});
            fault_io_rule(
                s.faults,
                &(struct fault_rule){.on = FAULT_WRITE, .nth = 1, .times = times, .code = -ENOSPC});
            fault_io_rule(
                s.faults,
                &(struct fault_rule){.on = FAULT_SYNC, .nth = 1, .times = times, .code = -EINTR});
            fill(memory, 0);
            assert_int_equal(transfer(&s, ring, CP_IO_OP_READ, memory), -EIO);
            fill(memory, 0);
            assert_int_equal(transfer(&s, ring, CP_IO_OP_WRITE, memory), -ENOSPC);
            assert_int_equal(fault_io_count(s.faults, FAULT_READ), 1);
            assert_int_equal(fault_io_count(s.faults, FAULT_WRITE), 1);
            uint32_t left = 1;
            struct job job;
            job_init(&job, s.file, CP_IO_OP_SYNC, NULL, 0, &left);
            cp_io_ring_put(ring, &job.request);
            cp_io_ring_wait(ring, none_left, &left);
            assert_int_equal(job.request.result, -EINTR);
            assert_int_equal(fault_io_count(s.faults, FAULT_SYNC), 1);
            assert_int_equal(transfer(&s, ring, CP_IO_OP_READ, memory), times == 1 ? 0 : -EIO);
        }
        /* Nothing moved, without a code. */
        fault_io_reset(s.faults);
        fault_io_rule(s.faults, &(struct fault_rule){.on = FAULT_WRITE, .nth = 1, .code = 0});
        assert_int_equal(transfer(&s, ring, CP_IO_OP_WRITE, memory), -EIO);
        /* A backend that claims more than it was asked for. */
        fault_io_rule(s.faults, &(struct fault_rule){.on = FAULT_READ, .nth = 2, .code = 1 << 20});
        assert_int_equal(cp_io_read(s.file, memory, PAGE, 0), 0);
        assert_int_equal(transfer(&s, ring, CP_IO_OP_READ, memory), -EIO);
        cp_io_ring_destroy(ring);
        close_subject(&s);
    }
    free(memory);
}

static void faults_refused_submission_ends_requests(void **state)
{
    struct subject s;
    struct cp_io_ring *ring;
    struct cp_io_ring_stats stats;
    char *memory = aligned_alloc(PAGE, PAGES * PAGE);
    (void)state;
    assert_true(open_faulty(&s, DEFERRED, &ring));
    fault_io_rule(s.faults,
                  &(struct fault_rule){.on = FAULT_RING_SUBMIT, .nth = 1, .code = -ENOMEM});
    assert_int_equal(transfer(&s, ring, CP_IO_OP_READ, memory), -ENOMEM);
    assert_int_equal(transfer(&s, ring, CP_IO_OP_READ, memory), 0);
    /* A completion whose request the kernel cancelled, because its thread ended, is put again. */
    fault_io_rule(s.faults,
                  &(struct fault_rule){.on = FAULT_COMPLETION, .nth = 2, .code = -ECANCELED});
    assert_int_equal(transfer(&s, ring, CP_IO_OP_READ, memory), 0);
    cp_io_ring_stats(ring, &stats);
    assert_int_equal(stats.in_flight, 0);
    assert_int_equal(stats.backlog, 0);
    cp_io_ring_destroy(ring);
    close_subject(&s);
    free(memory);
}

struct seen {
    uint64_t writes, syncs, bytes;
};

static void see_write(void *ctx, int fd, uint64_t offset, const struct iovec *iov, int iov_count)
{
    struct seen *seen = ctx;
    (void)fd;
    (void)offset;
    seen->writes++;
    for (int i = 0; i < iov_count; i++)
        seen->bytes += iov[i].iov_len;
}

static void see_sync(void *ctx, int fd)
{
    (void)fd;
    ((struct seen *)ctx)->syncs++;
}

/* The backend's own effects and hooks, on every kind of ring. */
static void faults_backend_does_what_it_says(void **state)
{
    struct subject s;
    struct cp_io_ring *ring;
    struct fault_write write;
    char *memory = aligned_alloc(PAGE, PAGES * PAGE);
    (void)state;
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_faulty(&s, v, &ring))
            continue;
        struct seen seen = {0};
        fault_io_on_write(s.faults, see_write, &seen);
        fault_io_on_sync(s.faults, see_sync, &seen);
        fault_io_record(s.faults);
        fault_io_rule(s.faults,
                      &(struct fault_rule){.on = FAULT_WRITE, .nth = 1, .effect = FAULT_LOSE});
        fault_io_rule(s.faults,
                      &(struct fault_rule){
                          .on = FAULT_WRITE, .nth = 2, .effect = FAULT_MISDIRECT, .bytes = PAGE});
        fault_io_rule(s.faults,
                      &(struct fault_rule){
                          .on = FAULT_READ, .nth = 2, .effect = FAULT_FLIP, .bit = 8 * 5000 + 1});
        fill(memory, 100);
        assert_int_equal(transfer(&s, ring, CP_IO_OP_WRITE, memory), 0);
        assert_int_equal(transfer(&s, ring, CP_IO_OP_READ, memory), 0);
        assert_pages(memory, 0); /* lost */
        assert_int_equal(transfer(&s, ring, CP_IO_OP_READ, memory), 0);
        assert_int_equal((uint8_t)memory[5000], 1 ^ 2); /* flipped: byte 5000 lies in page 1 */
        fill(memory, 0);
        assert_int_equal(cp_io_write(s.file, memory, PAGE, 3 * PAGE), 0);
        assert_int_equal(cp_io_read(s.file, memory, PAGE, 3 * PAGE), 0);
        assert_true(page_holds(memory, 3)); /* untouched: */
        assert_int_equal(cp_io_read(s.file, memory, PAGE, 4 * PAGE), 0);
        assert_true(page_holds(memory, 0)); /* it went here */
        assert_int_equal(cp_io_file_sync(s.file), 0);
        assert_int_equal(seen.writes, 2);
        assert_int_equal(seen.bytes, (PAGES + 1) * PAGE);
        assert_int_equal(seen.syncs, 1);
        assert_int_equal(fault_io_fired(s.faults), 3);
        assert_true(fault_io_recorded(s.faults, 0, &write));
        assert_int_equal(write.size_bytes, PAGES * PAGE);
        assert_int_equal(write.first[0], 100);
        assert_true(fault_io_recorded(s.faults, 1, &write));
        assert_int_equal(write.offset_bytes, 3 * PAGE);
        assert_false(fault_io_recorded(s.faults, 2, &write));
        cp_io_ring_destroy(ring);
        close_subject(&s);
    }
    free(memory);
}

/* The n-th call of any kind fails, for every n: no leak, no hang, and the error arrives. */
static void faults_sweep_reaches_every_call(void **state)
{
    uint64_t n = 1;
    (void)state;
    for (;; n++) {
        struct fault_io *faults = fault_io_create(cp_io_backend_sync(), FAULT_RING_DEFERRED);
        struct cp_io_options options = {.backend = fault_io_backend(faults), .backend_ctx = faults};
        struct cp_io_file_options file_options = {.create = true};
        struct subject s = {0};
        struct cp_io_ring *ring = NULL;
        char *memory = aligned_alloc(PAGE, PAGES * PAGE);
        memset(memory, 0, PAGES * PAGE);
        assert_int_equal(cp_io_create(&options, &s.io), 0);
        fault_io_rule(faults, &(struct fault_rule){.on = FAULT_ANY, .nth = n, .code = -EIO});
        int code = cp_io_file_open(s.io, "io-test-sweep.dat", &file_options, &s.file);
        if (code == 0)
            code = cp_io_ring_create(s.io, NULL, &ring);
        if (code == 0)
            code = cp_io_file_allocate(s.file, 0, PAGES * PAGE);
        if (code == 0)
            code = transfer(&s, ring, CP_IO_OP_WRITE, memory);
        if (code == 0)
            code = cp_io_file_sync(s.file);
        if (code == 0)
            code = transfer(&s, ring, CP_IO_OP_READ, memory);
        if (code == 0)
            code = cp_io_file_resize(s.file, PAGE);
        if (code == 0)
            code = cp_io_directory_sync(s.io, ".");
        cp_io_ring_destroy(ring);
        int close_code = cp_io_file_close(s.file);
        if (code == 0)
            code = close_code;
        if (code == 0)
            code = cp_io_unlink(s.io, "io-test-sweep.dat");
        uint64_t fired = fault_io_fired(faults);
        /* The only call whose failure changes nothing: the close of the first of two opens. */
        if (fired > 0 && code == 0)
            print_message("call %llu failed unnoticed\n", (unsigned long long)n);
        cp_io_destroy(s.io);
        fault_io_destroy(faults);
        free(memory);
        if (fired == 0) {
            assert_int_equal(code, 0);
            break;
        }
        assert_true(code == -EIO || n == 3);
    }
    unlink("io-test-sweep.dat");
    print_message("%llu calls\n", (unsigned long long)n - 1);
    assert_true(n > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_short_transfers_are_resumed),
        cmocka_unit_test(faults_unaligned_short_read_is_resumed),
        cmocka_unit_test(faults_interruptions_are_retried_within_a_bound),
        cmocka_unit_test(faults_errors_are_reported),
        cmocka_unit_test(faults_refused_submission_ends_requests),
        cmocka_unit_test(faults_backend_does_what_it_says),
        cmocka_unit_test(faults_sweep_reaches_every_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
