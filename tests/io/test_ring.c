/* SPDX-License-Identifier: MIT */
/* Rings from one thread: order, depth, callbacks, limits, registration and its refusals, fork. */
#include "helpers.h"
#include "support/without_uring.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define JOBS 200u

static const char *self_path;

static struct cp_io_ring *make_ring(struct subject *s, uint32_t depth)
{
    struct cp_io_ring *ring;
    struct cp_io_ring_options options = {.depth = depth};
    assert_int_equal(cp_io_ring_create(s->io, &options, &ring), 0);
    return ring;
}

/* No device here promises anything, so an untorn write is refused and not made torn in silence. */
static void ring_untorn_write_is_refused_where_it_cannot_be(void **state)
{
    struct subject s;
    struct cp_io_file_info info;
    (void)state;
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_subject(&s, v, 4))
            continue;
        struct cp_io_ring *ring = make_ring(&s, 4);
        struct job job;
        uint32_t left = 1;
        char *memory = aligned_alloc(PAGE, PAGE);
        memset(memory, 0x11, PAGE);
        cp_io_file_info(s.file, &info);
        job_init(&job, s.file, CP_IO_OP_WRITE, memory, 1, &left);
        job.request.untorn = true;
        cp_io_ring_put(ring, &job.request);
        cp_io_ring_wait(ring, none_left, &left);
        assert_int_equal(job.request.result, info.atomic_write_max_bytes >= PAGE ? 0 : -EOPNOTSUPP);
        cp_io_ring_destroy(ring);
        free(memory);
        close_subject(&s);
    }
}

static void ring_shallow_depth_carries_many(void **state)
{
    struct subject s;
    struct cp_io_ring_stats stats;
    struct job *jobs = calloc(JOBS, sizeof *jobs);
    char *memory = aligned_alloc(PAGE, JOBS * PAGE);
    (void)state;
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_subject(&s, v, JOBS))
            continue;
        struct cp_io_ring *ring = make_ring(&s, 4);
        uint32_t left = JOBS;
        memset(memory, 0xee, JOBS * PAGE);
        for (uint32_t i = 0; i < JOBS; i++) {
            job_init(&jobs[i], s.file, CP_IO_OP_READ, memory + i * PAGE, JOBS - 1 - i, &left);
            cp_io_ring_put(ring, &jobs[i].request);
        }
        cp_io_ring_submit(ring);
        cp_io_ring_stats(ring, &stats);
        assert_int_equal(stats.depth, 4);
        if (v != SYNC)
            assert_true(stats.in_flight <= 4);
        assert_int_equal(left, JOBS); /* no callback before somebody reaps */
        cp_io_ring_wait(ring, none_left, &left);
        for (uint32_t i = 0; i < JOBS; i++) {
            assert_int_equal(jobs[i].request.result, 0);
            assert_true(page_holds(memory + i * PAGE, JOBS - 1 - i));
        }
        cp_io_ring_stats(ring, &stats);
        assert_int_equal(stats.in_flight + stats.backlog, 0);
        cp_io_ring_destroy(ring);
        close_subject(&s);
    }
    free(memory);
    free(jobs);
}

/* Put jobs[from, to), asking for a batch after each; the number still in line. */
static uint64_t put_in_batches(struct cp_io_ring *ring, struct job *jobs, uint32_t from,
                               uint32_t to)
{
    struct cp_io_ring_stats stats;
    for (uint32_t i = from; i < to; i++) {
        cp_io_ring_put(ring, &jobs[i].request);
        cp_io_ring_submit_batch(ring);
    }
    cp_io_ring_stats(ring, &stats);
    return stats.backlog;
}

/* As tests/io/test_file.c says of synchronous writes. */
static void ring_write_beyond_the_limit_of_sizes_is_refused(void **state)
{
    struct subject s;
    struct job jobs[2];
    struct rlimit before, limit;
    char *memory = aligned_alloc(PAGE, PAGE);
    (void)state;
    memset(memory, 0xee, PAGE);
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_subject(&s, v, 3))
            continue;
        struct cp_io_ring *ring = make_ring(&s, 0);
        uint32_t left = 2;
        for (uint32_t i = 0; i < 2; i++)
            job_init(&jobs[i], s.file, CP_IO_OP_WRITE, memory, i, &left);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        limit = before;
        limit.rlim_cur = PAGE + PAGE / 2;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        for (uint32_t i = 0; i < 2; i++)
            cp_io_ring_put(ring, &jobs[i].request);
        cp_io_ring_wait(ring, none_left, &left);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(jobs[0].request.result, 0);
        assert_int_equal(jobs[1].request.result, -EFBIG);
        memset(memory, 0, PAGE);
        assert_int_equal(cp_io_read(s.file, memory, PAGE, PAGE), 0);
        assert_true(page_holds(memory, 1)); /* nothing of it was written */
        memset(memory, 0xee, PAGE);
        cp_io_ring_destroy(ring);
        close_subject(&s);
    }
    free(memory);
}

static void ring_batch_is_submitted_when_worth_it(void **state)
{
    struct subject s;
    struct job jobs[72];
    char *memory = aligned_alloc(PAGE, sizeof jobs / sizeof jobs[0] * PAGE);
    (void)state;
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_subject(&s, v, 72))
            continue;
        struct cp_io_ring *ring = make_ring(&s, 0);
        uint32_t left = 72;
        memset(memory, 0xee, 72 * PAGE);
        for (uint32_t i = 0; i < 72; i++)
            job_init(&jobs[i], s.file, CP_IO_OP_READ, memory + i * PAGE, i, &left);
        assert_int_equal(put_in_batches(ring, jobs, 0, 3), 3); /* too few */
        assert_int_equal(put_in_batches(ring, jobs, 3, 4), v == SYNC ? 4 : 0);
        for (uint32_t i = 4; i < 64; i++)
            cp_io_ring_put(ring, &jobs[i].request);
        if (v == SYNC) {
            put_in_batches(ring, jobs, 64, 72);
            assert_true(memory[0] == (char)0xee); /* nobody has waited for a device */
        } else {
            cp_io_ring_submit(ring); /* nothing is reaped: 64 are in flight */
            assert_int_equal(put_in_batches(ring, jobs, 64, 71), 7);
            assert_int_equal(put_in_batches(ring, jobs, 71, 72), 0);
        }
        cp_io_ring_wait(ring, none_left, &left);
        for (uint32_t i = 0; i < 72; i++)
            assert_true(jobs[i].request.result == 0 && page_holds(memory + i * PAGE, i));
        cp_io_ring_destroy(ring);
        close_subject(&s);
    }
    free(memory);
}

static void ring_poll_finishes_without_waiting(void **state)
{
    struct subject s;
    struct job jobs[8];
    char *memory = aligned_alloc(PAGE, 8 * PAGE);
    (void)state;
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_subject(&s, v, 8))
            continue;
        struct cp_io_ring *ring = make_ring(&s, 0);
        uint32_t left = 8;
        uint32_t finished = 0;
        assert_int_equal(cp_io_ring_poll(ring), 0);
        for (uint32_t i = 0; i < 8; i++) {
            job_init(&jobs[i], s.file, CP_IO_OP_READ, memory + i * PAGE, i, &left);
            cp_io_ring_put(ring, &jobs[i].request);
        }
        while (left > 0) /* ends: the device answers */
            finished += cp_io_ring_poll(ring);
        assert_int_equal(finished, 8);
        assert_int_equal(cp_io_ring_poll(ring), 0);
        cp_io_ring_destroy(ring);
        close_subject(&s);
    }
    free(memory);
}

static void *write_a_page_later(void *path)
{
    char page[PAGE];
    const struct timespec pause = {.tv_nsec = 50000000};
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    memset(page, 0x5a, sizeof page);
    nanosleep(&pause, NULL);
    ssize_t written = write(fd, page, sizeof page);
    close(fd);
    return written == PAGE ? path : NULL;
}

/* valgrind runs one thread at a time, and a wait that it does not know for one stops all others. */
static void ring_waits_while_another_thread_runs(void **state)
{
    struct subject s;
    struct job job;
    struct cp_io_file_options options = {.caching = CP_IO_BUFFERED};
    struct cp_io_file *fifo;
    pthread_t writer;
    char path[64];
    void *written;
    char *memory = aligned_alloc(PAGE, PAGE);
    uint32_t left = 1;
    (void)state;
    snprintf(path, sizeof path, "io-test-%d.fifo", (int)getpid());
    if (!open_subject(&s, URING, 0))
        skip();
    struct cp_io_ring *ring = make_ring(&s, 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(cp_io_file_open(s.io, path, &options, &fifo), 0);
    assert_int_equal(pthread_create(&writer, NULL, write_a_page_later, path), 0);
    job_init(&job, fifo, CP_IO_OP_READ, memory, 0, &left);
    cp_io_ring_put(ring, &job.request);
    cp_io_ring_wait(ring, none_left, &left);
    assert_int_equal(job.request.result, 0);
    assert_true(memory[0] == 0x5a && memory[PAGE - 1] == 0x5a);
    assert_int_equal(pthread_join(writer, &written), 0);
    assert_non_null(written);
    assert_int_equal(cp_io_file_close(fifo), 0);
    assert_int_equal(unlink(path), 0);
    cp_io_ring_destroy(ring);
    close_subject(&s);
    free(memory);
}

static void ring_many_iovecs_and_sync_work(void **state)
{
    struct subject s;
    struct job job, sync;
    struct iovec iov[CP_IO_MAX_IOVECS + 1];
    char *memory = aligned_alloc(PAGE, JOBS * PAGE);
    (void)state;
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_subject(&s, v, JOBS))
            continue;
        struct cp_io_ring *ring = make_ring(&s, 8);
        for (unsigned i = 0; i < JOBS; i++) /* pages from the last to the first */
            iov[i] = (struct iovec){memory + (JOBS - 1 - i) * PAGE, PAGE};
        uint32_t left = 2;
        job_init(&job, s.file, CP_IO_OP_READ, memory, 0, &left);
        job_init(&sync, s.file, CP_IO_OP_SYNC, NULL, 0, &left);
        job.request.iov = iov;
        job.request.iov_count = JOBS;
        cp_io_ring_put(ring, &job.request);
        cp_io_ring_put(ring, &sync.request);
        cp_io_ring_wait(ring, none_left, &left);
        assert_int_equal(job.request.result, 0);
        assert_int_equal(sync.request.result, 0);
        for (uint32_t i = 0; i < JOBS; i++)
            assert_true(page_holds(memory + i * PAGE, JOBS - 1 - i));
        cp_io_ring_destroy(ring);
        close_subject(&s);
    }
    free(memory);
}

static void ring_impossible_requests_complete_with_code(void **state)
{
    struct subject s;
    struct job jobs[4];
    struct iovec iov[CP_IO_MAX_IOVECS + 1];
    char *memory = aligned_alloc(PAGE, PAGE);
    (void)state;
    memset(iov, 0, sizeof iov);
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_subject(&s, v, 2))
            continue;
        struct cp_io_ring *ring = make_ring(&s, 0);
        uint32_t left = 4;
        for (unsigned i = 0; i < 4; i++)
            job_init(&jobs[i], s.file, CP_IO_OP_READ, memory, 0, &left);
        jobs[0].request.iov_count = 0;
        jobs[1].request.iov = iov;
        jobs[1].request.iov_count = CP_IO_MAX_IOVECS + 1;
        jobs[2].iov.iov_len = CP_IO_MAX_TRANSFER_BYTES + PAGE;
        jobs[3].request.offset_bytes = 7 * PAGE;
        for (unsigned i = 0; i < 4; i++)
            cp_io_ring_put(ring, &jobs[i].request);
        cp_io_ring_wait(ring, none_left, &left);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(jobs[i].request.result, -EINVAL);
        assert_int_equal(jobs[3].request.result, -ENODATA);
        cp_io_ring_destroy(ring);
        close_subject(&s);
    }
    free(memory);
}

struct chain {
    struct cp_io_ring *ring;
    struct job job;
    uint32_t rounds_left;
};

static void put_next(struct cp_io_request *request)
{
    struct chain *chain = request->user;
    assert_int_equal(request->result, 0);
    if (--chain->rounds_left == 0)
        return;
    chain->job.iov.iov_len = PAGE;
    cp_io_ring_put(chain->ring, request); /* not submitted: the waiter sees to that */
}

static void ring_callback_puts_are_submitted(void **state)
{
    struct subject s;
    struct chain chain;
    char *memory = aligned_alloc(PAGE, PAGE);
    (void)state;
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_subject(&s, v, 2))
            continue;
        uint32_t unused = 0;
        chain.ring = make_ring(&s, 1);
        chain.rounds_left = 50;
        job_init(&chain.job, s.file, CP_IO_OP_READ, memory, 1, &unused);
        chain.job.request.complete = put_next;
        chain.job.request.user = &chain;
        cp_io_ring_put(chain.ring, &chain.job.request);
        cp_io_ring_wait(chain.ring, none_left, &chain.rounds_left);
        cp_io_ring_destroy(chain.ring);
        close_subject(&s);
    }
    free(memory);
}

struct late {
    struct cp_io_ring *ring;
    struct job *job; /* NULL once put */
};

static void put_late(void *ctx, int fd, uint64_t offset, const struct iovec *iov, int iov_count)
{
    struct late *late = ctx;
    struct job *job = late->job;
    (void)fd;
    (void)offset;
    (void)iov;
    (void)iov_count;
    late->job = NULL;
    if (job == NULL)
        return;
    cp_io_ring_put(late->ring, &job->request);
    cp_io_ring_submit(late->ring); /* finds the submitter's role taken, and leaves it to that */
}

/* What is put while somebody submits must not be left behind by both. */
static void ring_put_during_submit_is_submitted(void **state)
{
    struct subject s;
    struct job jobs[2];
    uint32_t left = 2;
    char *memory = aligned_alloc(PAGE, PAGE);
    (void)state;
    memset(memory, 0, PAGE);
    assert_true(open_subject(&s, DEFERRED, 0));
    struct late late = {make_ring(&s, 0), &jobs[1]};
    for (unsigned i = 0; i < 2; i++)
        job_init(&jobs[i], s.file, CP_IO_OP_WRITE, memory, i, &left);
    fault_io_on_write(s.faults, put_late, &late);
    cp_io_ring_put(late.ring, &jobs[0].request);
    cp_io_ring_submit(late.ring);
    assert_int_equal(fault_io_count(s.faults, FAULT_WRITE), 2);
    cp_io_ring_wait(late.ring, none_left, &left);
    cp_io_ring_destroy(late.ring);
    close_subject(&s);
    free(memory);
}

static void ring_destroy_runs_callbacks(void **state)
{
    struct subject s;
    struct job jobs[16];
    char *memory = aligned_alloc(PAGE, 16 * PAGE);
    (void)state;
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_subject(&s, v, 16))
            continue;
        struct cp_io_ring *ring = make_ring(&s, 4);
        uint32_t left = 16;
        for (uint32_t i = 0; i < 16; i++) {
            job_init(&jobs[i], s.file, CP_IO_OP_READ, memory + i * PAGE, i, &left);
            cp_io_ring_put(ring, &jobs[i].request);
        }
        cp_io_ring_destroy(ring);
        assert_int_equal(left, 0);
        close_subject(&s);
    }
    free(memory);
}

static void ring_registered_memory_is_used_and_dropped(void **state)
{
    struct subject s;
    struct cp_io_ring *ring;
    struct cp_io_ring_stats stats;
    struct job jobs[4];
    char *memory = aligned_alloc(PAGE, 4 * PAGE);
    /* Three pieces of a page, of which the first two are registered. */
    struct cp_io_ring_options options = {
        .buffer_base = memory, .buffer_bytes = 3 * PAGE, .buffer_piece_bytes = PAGE};
    (void)state;
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_subject(&s, v, 4))
            continue;
        options.buffer_piece_bytes = 0;
        assert_int_equal(cp_io_ring_create(s.io, &options, &ring), -EINVAL);
        options.buffer_piece_bytes = PAGE;
        assert_int_equal(cp_io_ring_create(s.io, &options, &ring), 0);
        for (unsigned round = 0; round < 3; round++) {
            bool on = cp_io_ring_register(ring, 0) == 0 && cp_io_ring_register(ring, 1) == 0;
            assert_int_not_equal(cp_io_ring_register(ring, 3), 0); /* there is none */
            cp_io_ring_stats(ring, &stats);
            assert_true(!on || strcmp(stats.buffers_reason, "registered") == 0);
            print_message("%s: %u bytes (%s), files %d\n", variant_name(v),
                          (unsigned)stats.registered_bytes, stats.buffers_reason,
                          stats.files_registered);
            assert_true(stats.buffers_reason[0] != '\0');
            assert_true(!on || v == URING);
            assert_int_equal(stats.registered_bytes, on ? 2 * PAGE : 0);
            if (round == 1) /* one of two: what lies across them goes unregistered */
                cp_io_ring_unregister(ring, 1);
            uint32_t left = 4;
            memset(memory, 0xee, 4 * PAGE);
            /* Inside and outside of the registered part, and across its end. */
            for (uint32_t i = 0; i < 4; i++) {
                job_init(&jobs[i], s.file, CP_IO_OP_READ, memory + i * PAGE, i, &left);
                cp_io_ring_put(ring, &jobs[i].request);
            }
            cp_io_ring_wait(ring, none_left, &left);
            for (uint32_t i = 0; i < 4; i++)
                assert_true(page_holds(memory + i * PAGE, i));
            left = 1;
            job_init(&jobs[0], s.file, CP_IO_OP_READ, memory + PAGE, 0, &left);
            jobs[0].iov.iov_len = 2 * PAGE;
            cp_io_ring_put(ring, &jobs[0].request);
            cp_io_ring_wait(ring, none_left, &left);
            assert_int_equal(jobs[0].request.result, 0);
            assert_true(page_holds(memory + 2 * PAGE, 1));
            cp_io_ring_unregister(ring, 0);
            if (round != 1)
                cp_io_ring_unregister(ring, 1);
            cp_io_ring_stats(ring, &stats);
            assert_int_equal(stats.registered_bytes, 0);
        }
        cp_io_ring_destroy(ring);
        close_subject(&s);
    }
    free(memory);
}

/* The ring's file table must not keep a closed file open: its lock would stay. */
static void ring_closed_file_is_released(void **state)
{
    struct subject s;
    struct job job;
    struct cp_io_file_info info;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char *memory = aligned_alloc(PAGE, PAGE);
    (void)state;
    if (!open_subject(&s, URING, 1)) {
        free(memory);
        skip();
    }
    struct cp_io_ring *ring = make_ring(&s, 4);
    for (int round = 0; round < 3; round++) {
        uint32_t left = 1;
        cp_io_file_info(s.file, &info);
        assert_int_equal(fcntl(info.fd, F_OFD_SETLK, &lock), 0);
        job_init(&job, s.file, CP_IO_OP_READ, memory, 0, &left);
        cp_io_ring_put(ring, &job.request);
        cp_io_ring_wait(ring, none_left, &left);
        assert_int_equal(job.request.result, 0);
        assert_int_equal(cp_io_file_close(s.file), 0);
        assert_int_equal(cp_io_file_open(s.io, s.path, NULL, &s.file), 0);
    }
    cp_io_ring_destroy(ring);
    close_subject(&s);
    free(memory);
}

/* Run body in a child and return its exit status. */
static int in_child(int (*body)(struct subject *s, struct cp_io_ring *ring), struct subject *s,
                    struct cp_io_ring *ring)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(body(s, ring));
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int use_inherited_ring(struct subject *s, struct cp_io_ring *ring)
{
    static uint32_t left = 1;
    struct job job;
    char *memory = aligned_alloc(PAGE, PAGE);
    job_init(&job, s->file, CP_IO_OP_READ, memory, 1, &left);
    cp_io_ring_put(ring, &job.request);
    cp_io_ring_submit(ring);
    cp_io_ring_notify(ring);
    cp_io_ring_wait(ring, none_left, &left);
    if (left != 0 || job.request.result != CP_EFORKED)
        return 1;
    if (cp_io_read(s->file, memory, PAGE, PAGE) != 0 || !page_holds(memory, 1))
        return 2; /* synchronous transfers are harmless */
    cp_io_ring_destroy(ring);
    free(memory);
    return cp_io_file_close(s->file) == 0 ? 0 : 3;
}

static void ring_in_forked_child_refuses(void **state)
{
    struct subject s;
    struct job job;
    char *memory = aligned_alloc(PAGE, PAGE);
    (void)state;
    for (enum variant v = 0; v < VARIANTS; v++) {
        if (!open_subject(&s, v, 2))
            continue;
        struct cp_io_ring *ring = make_ring(&s, 0);
        assert_int_equal(in_child(use_inherited_ring, &s, ring), 0);
        uint32_t left = 1; /* and the parent's ring is unharmed */
        job_init(&job, s.file, CP_IO_OP_READ, memory, 1, &left);
        cp_io_ring_put(ring, &job.request);
        cp_io_ring_wait(ring, none_left, &left);
        assert_int_equal(job.request.result, 0);
        cp_io_ring_destroy(ring);
        close_subject(&s);
    }
    free(memory);
}

static int register_beyond_limit(struct subject *s, struct cp_io_ring *ring)
{
    struct rlimit limit = {65536, 65536};
    struct cp_io_ring_stats stats;
    uint64_t size_bytes = UINT64_C(4) << 20;
    char *memory = aligned_alloc(PAGE, size_bytes);
    struct cp_io_ring_options options = {
        .buffer_base = memory, .buffer_bytes = size_bytes, .buffer_piece_bytes = size_bytes};
    (void)ring;
    memset(memory, 0, size_bytes);
    if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0))
        return 77; /* root has no limit */
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return 77;
    /* Kernels before 5.12 charge the ring itself as well and may refuse it altogether. */
    if (cp_io_ring_create(s->io, &options, &ring) != 0)
        return 77;
    bool on = cp_io_ring_register(ring, 0) == 0;
    cp_io_ring_stats(ring, &stats);
    if (on || stats.registered_bytes != 0 || strstr(stats.buffers_reason, "RLIMIT_MEMLOCK") == NULL)
        return 1;
    uint32_t left = 1;
    struct job job;
    job_init(&job, s->file, CP_IO_OP_READ, memory, 1, &left);
    cp_io_ring_put(ring, &job.request);
    cp_io_ring_wait(ring, none_left, &left);
    int code = job.request.result == 0 && page_holds(memory, 1) ? 0 : 2;
    cp_io_ring_destroy(ring);
    free(memory);
    return code;
}

/* The child makes its own io, so that it is not a forked user. */
static int register_in_own_io(struct subject *s, struct cp_io_ring *ring)
{
    struct cp_io_options options = {.kind = CP_IO_URING};
    struct subject own = {0};
    if (cp_io_create(&options, &own.io) != 0)
        return 77;
    if (cp_io_file_open(own.io, s->path, NULL, &own.file) != 0)
        return 3;
    int code = register_beyond_limit(&own, ring);
    cp_io_file_close(own.file);
    cp_io_destroy(own.io);
    return code;
}

static void ring_memlock_limit_falls_back_and_says_so(void **state)
{
    struct subject s;
    (void)state;
    if (!open_subject(&s, URING, 2))
        skip();
    int status = in_child(register_in_own_io, &s, NULL);
    close_subject(&s);
    if (status == 77) {
        print_message("cannot lower RLIMIT_MEMLOCK as an ordinary user here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* Runs in a fresh process in which io_uring_setup returns EPERM. */
static int report_forbidden(void)
{
    struct cp_io *io;
    struct cp_io_stats stats;
    struct cp_io_options forced = {.kind = CP_IO_URING};
    struct subject s;
    struct job job;
    if (cp_io_backend_uring() != NULL || cp_io_create(&forced, &io) != -ENOSYS)
        return 1;
    if (cp_io_create(NULL, &io) != 0)
        return 2;
    cp_io_stats(io, &stats);
    if (strcmp(stats.backend_name, "sync") != 0 || strstr(stats.reason, "EPERM") == NULL)
        return 3;
    cp_io_destroy(io);
    if (!open_subject(&s, SYNC, 2))
        return 4;
    uint32_t left = 1;
    char *memory = aligned_alloc(PAGE, PAGE);
    struct cp_io_ring *ring = make_ring(&s, 0);
    job_init(&job, s.file, CP_IO_OP_READ, memory, 1, &left);
    cp_io_ring_put(ring, &job.request);
    cp_io_ring_wait(ring, none_left, &left);
    cp_io_ring_destroy(ring);
    close_subject(&s);
    bool good = job.request.result == 0 && page_holds(memory, 1);
    free(memory);
    return good ? 0 : 5;
}

static int forbid_and_start_again(struct subject *s, struct cp_io_ring *ring)
{
    (void)s;
    (void)ring;
    if (!forbid_uring())
        return 77;
    execl(self_path, self_path, "--forbidden", (char *)NULL);
    return 77;
}

static void ring_forbidden_io_uring_falls_back(void **state)
{
    (void)state;
    int status = in_child(forbid_and_start_again, NULL, NULL);
    if (status == 77) {
        print_message("no seccomp filter can be installed here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* Runs in a fresh process: no descriptor is left when io_uring is first asked for. 77: it has none.
 */
static int report_shortage(void)
{
    struct cp_io_options forced = {.kind = CP_IO_URING};
    struct rlimit limit;
    struct cp_io *io;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1;
    const struct rlimit none = {3, limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &none) != 0 || cp_io_create(&forced, &io) == 0)
        return 2;
    if (strstr(cp_error_info()->what, "too many open files") == NULL)
        return 77;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || cp_io_create(&forced, &io) != 0)
        return 3;
    cp_io_destroy(io);
    return 0;
}

static int start_again_short(struct subject *s, struct cp_io_ring *ring)
{
    (void)s;
    (void)ring;
    execl(self_path, self_path, "--short", (char *)NULL);
    return 77;
}

static void ring_passing_shortage_is_no_final_word(void **state)
{
    (void)state;
    int status = in_child(start_again_short, NULL, NULL);
    if (status == 77) {
        print_message("io_uring is not available here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_untorn_write_is_refused_where_it_cannot_be),
        cmocka_unit_test(ring_shallow_depth_carries_many),
        cmocka_unit_test(ring_write_beyond_the_limit_of_sizes_is_refused),
        cmocka_unit_test(ring_batch_is_submitted_when_worth_it),
        cmocka_unit_test(ring_poll_finishes_without_waiting),
        cmocka_unit_test(ring_waits_while_another_thread_runs),
        cmocka_unit_test(ring_many_iovecs_and_sync_work),
        cmocka_unit_test(ring_impossible_requests_complete_with_code),
        cmocka_unit_test(ring_callback_puts_are_submitted),
        cmocka_unit_test(ring_put_during_submit_is_submitted),
        cmocka_unit_test(ring_destroy_runs_callbacks),
        cmocka_unit_test(ring_registered_memory_is_used_and_dropped),
        cmocka_unit_test(ring_closed_file_is_released),
        cmocka_unit_test(ring_in_forked_child_refuses),
        cmocka_unit_test(ring_memlock_limit_falls_back_and_says_so),
        cmocka_unit_test(ring_forbidden_io_uring_falls_back),
        cmocka_unit_test(ring_passing_shortage_is_no_final_word),
    };
    self_path = argv[0];
    if (argc == 2 && strcmp(argv[1], "--forbidden") == 0)
        return report_forbidden();
    if (argc == 2 && strcmp(argv[1], "--short") == 0)
        return report_shortage();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
