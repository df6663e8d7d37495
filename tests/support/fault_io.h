/* SPDX-License-Identifier: MIT */
/*
 * A backend for tests that wraps another one and makes things go wrong by schedule, counts calls,
 * shows every write before it goes out, and can hold completions back.
 *
 *     struct fault_io *faults = fault_io_create(cp_io_backend_sync(), FAULT_RING_DEFERRED);
 *     struct cp_io_options options = {.backend = fault_io_backend(faults), .backend_ctx = faults};
 *     cp_io_create(&options, &io);
 *     fault_io_rule(faults, &(struct fault_rule){.on = FAULT_WRITE, .nth = n, .code = -EIO});
 *     ... workload ...
 *     if (!fault_io_fired(faults)) break;      // a sweep over n has come to its end
 *
 * Calls are counted from the last fault_io_reset. A request of a ring counts as one call each time
 * it is queued, so a resumed rest counts again. A faulty ring request is carried out on the spot by
 * the wrapper; the others take the wrapped backend's way. Any thread may call anything here; hooks
 * run with no lock held, on the thread that does the I/O.
 */
#ifndef CLOCKPOOL_TESTS_FAULT_IO_H
#define CLOCKPOOL_TESTS_FAULT_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <clockpool/io.h>

enum fault_class {
    FAULT_READ,
    FAULT_WRITE,
    FAULT_SYNC,
    FAULT_RESIZE,
    FAULT_ALLOCATE,
    FAULT_OPEN,
    FAULT_CLOSE,
    FAULT_SIZE,
    FAULT_DIRECTORY_SYNC,
    FAULT_RENAME,
    FAULT_UNLINK,
    FAULT_MKDIR,
    FAULT_LIST,
    FAULT_COMPLETION, /* a ring's raw result, counted when it is reaped */
    FAULT_RING_CREATE,
    FAULT_RING_SUBMIT, /* the submitting call itself: what was queued ends with the code */
    FAULT_CLASSES,
    FAULT_ANY = FAULT_CLASSES, /* in a rule: any of the above but FAULT_COMPLETION */
};

enum fault_effect {
    FAULT_CODE,  /* fail with `code`, without doing anything */
    FAULT_SHORT, /* READ, WRITE: move at most `bytes` (0: half, in 512s when that is possible) */
    FAULT_FLIP,  /* READ: flip bit `bit` of what was read (modulo its size) */
    FAULT_LOSE,  /* WRITE, SYNC: do nothing and report success */
    FAULT_MISDIRECT, /* WRITE: write `bytes` further on than asked, and report success */
    FAULT_AFTER,     /* do it, then report `code` all the same */
};

struct fault_rule {
    enum fault_class on;
    uint64_t nth;   /* 1: the next call */
    uint64_t times; /* consecutive calls hit; 0 means 1, UINT64_MAX for ever */
    enum fault_effect effect;
    int code;
    uint64_t bytes;
    uint64_t bit;
};

/* How rings behave. */
enum fault_ring {
    FAULT_RING_AS_WRAPPED, /* the wrapped backend's ring, or none where it has none */
    FAULT_RING_DEFERRED,   /* an asynchronous ring over readv and writev: done at submit, reaped
                              later; no kernel support needed, and deterministic */
};

/* One write as it went by. */
struct fault_write {
    int fd;
    uint64_t offset_bytes;
    uint64_t size_bytes;
    uint8_t first[16]; /* its first bytes, zero-filled */
};

struct fault_io;

/* wrapped: borrowed; its ctx is NULL. Never returns NULL (aborts without memory). */
struct fault_io *fault_io_create(const struct cp_io_backend *wrapped, enum fault_ring ring);
void fault_io_destroy(struct fault_io *faults);
/* The backend; the struct fault_io is its ctx. */
const struct cp_io_backend *fault_io_backend(const struct fault_io *faults);

/* Add a rule (at most 16 at a time). nth counts from the last reset. The first that fits acts. */
void fault_io_rule(struct fault_io *faults, const struct fault_rule *rule);
/* Remove all rules and set all counts to zero; hooks, records and holding stay. */
void fault_io_reset(struct fault_io *faults);
/* Calls since the last reset. FAULT_ANY: all together. */
uint64_t fault_io_count(struct fault_io *faults, enum fault_class on);
/* Calls hit by a rule since the last reset. */
uint64_t fault_io_fired(struct fault_io *faults);

/* Called before each write goes out, whether or not a fault follows. iov must not be changed. */
void fault_io_on_write(struct fault_io *faults,
                       void (*on_write)(void *ctx, int fd, uint64_t offset_bytes,
                                        const struct iovec *iov, int iov_count),
                       void *ctx);
/* Called before each sync of a file. */
void fault_io_on_sync(struct fault_io *faults, void (*on_sync)(void *ctx, int fd), void *ctx);

/* Keep a list of writes from now on. */
void fault_io_record(struct fault_io *faults);
/* Copy write number index (from 0) into out_write; false when there are fewer. */
bool fault_io_recorded(struct fault_io *faults, uint64_t index, struct fault_write *out_write);

/*
 * Hold completions of rings back: their raw results stay here until released. fault_io_release lets
 * count of them pass, those held first and then later ones; fault_io_let_go ends holding.
 */
void fault_io_hold(struct fault_io *faults);
void fault_io_release(struct fault_io *faults, uint64_t count);
void fault_io_let_go(struct fault_io *faults);
/* Wait until at least count completions are held; false after timeout_ms. */
bool fault_io_await_held(struct fault_io *faults, uint64_t count, uint64_t timeout_ms);
/* Wait until a thread sleeps inside ring_reap for something to be released or to arrive; false
 * after timeout_ms. FAULT_RING_DEFERRED only. */
bool fault_io_await_reaper(struct fault_io *faults, uint64_t timeout_ms);

#endif
