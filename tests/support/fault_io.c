/* SPDX-License-Identifier: MIT */
/*
 * The fault backend. One mutex guards all its state; it is never held over the wrapped backend's
 * calls or over hooks.
 */
#include "support/fault_io.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RULE_LIMIT 16u

struct rule_state {
    struct fault_rule rule;
    uint64_t seen; /* calls of its class since the reset */
};

struct completion {
    struct cp_io_request *request;
    int result;
};

struct fault_io {
    const struct cp_io_backend *wrapped;
    enum fault_ring ring_kind;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct rule_state rules[RULE_LIMIT];
    unsigned rule_count;
    uint64_t counts[FAULT_CLASSES + 1];
    uint64_t fired;
    void (*on_write)(void *, int, uint64_t, const struct iovec *, int);
    void *on_write_ctx;
    void (*on_sync)(void *, int);
    void *on_sync_ctx;
    bool recording;
    struct fault_write *writes;
    uint64_t write_count, write_capacity;
    bool holding;
    uint64_t allowed, held, sleeping_reapers;
};

struct fault_ring_state {
    struct fault_io *faults;
    void *inner; /* NULL: deferred */
    bool woken;
    struct cp_io_request **queued; /* deferred: until submit */
    struct completion *ready;      /* to be reaped, oldest first */
    uint32_t queued_count, queued_capacity, ready_count, ready_capacity;
};

static void *grow(void *array, uint64_t capacity, uint64_t item_bytes)
{
    void *larger = realloc(array, capacity * item_bytes);
    if (larger == NULL)
        abort();
    return larger;
}

struct fault_io *fault_io_create(const struct cp_io_backend *wrapped, enum fault_ring ring)
{
    struct fault_io *faults = calloc(1, sizeof *faults);
    pthread_condattr_t attributes;
    if (faults == NULL)
        abort();
    faults->wrapped = wrapped;
    faults->ring_kind = ring;
    pthread_mutex_init(&faults->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&faults->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return faults;
}

void fault_io_destroy(struct fault_io *faults)
{
    pthread_cond_destroy(&faults->changed);
    pthread_mutex_destroy(&faults->lock);
    free(faults->writes);
    free(faults);
}

/* ---- schedule ---------------------------------------------------------------------------------
 */

void fault_io_rule(struct fault_io *faults, const struct fault_rule *rule)
{
    pthread_mutex_lock(&faults->lock);
    if (faults->rule_count == RULE_LIMIT)
        abort();
    struct rule_state *state = &faults->rules[faults->rule_count++];
    state->rule = *rule;
    state->seen = faults->counts[rule->on];
    if (state->rule.times == 0)
        state->rule.times = 1;
    pthread_mutex_unlock(&faults->lock);
}

void fault_io_reset(struct fault_io *faults)
{
    pthread_mutex_lock(&faults->lock);
    faults->rule_count = 0;
    faults->fired = 0;
    memset(faults->counts, 0, sizeof faults->counts);
    pthread_mutex_unlock(&faults->lock);
}

uint64_t fault_io_count(struct fault_io *faults, enum fault_class on)
{
    pthread_mutex_lock(&faults->lock);
    uint64_t count = faults->counts[on];
    pthread_mutex_unlock(&faults->lock);
    return count;
}

uint64_t fault_io_fired(struct fault_io *faults)
{
    pthread_mutex_lock(&faults->lock);
    uint64_t fired = faults->fired;
    pthread_mutex_unlock(&faults->lock);
    return fired;
}

/* Count a call; true with the rule that hits it. */
static bool hit(struct fault_io *faults, enum fault_class on, struct fault_rule *out_rule)
{
    bool found = false;

    pthread_mutex_lock(&faults->lock);
    faults->counts[on]++;
    if (on != FAULT_COMPLETION)
        faults->counts[FAULT_ANY]++;
    for (unsigned i = 0; i < faults->rule_count; i++) {
        struct rule_state *state = &faults->rules[i];
        const struct fault_rule *rule = &state->rule;
        if (rule->on != on && !(rule->on == FAULT_ANY && on != FAULT_COMPLETION))
            continue;
        uint64_t number = ++state->seen;
        if (!found && number >= rule->nth && number - rule->nth < rule->times) {
            *out_rule = *rule;
            faults->fired++;
            found = true;
        }
    }
    pthread_mutex_unlock(&faults->lock);
    return found;
}

/* ---- hooks and records ------------------------------------------------------------------------
 */

void fault_io_on_write(struct fault_io *faults,
                       void (*on_write)(void *ctx, int fd, uint64_t offset_bytes,
                                        const struct iovec *iov, int iov_count),
                       void *ctx)
{
    pthread_mutex_lock(&faults->lock);
    faults->on_write = on_write;
    faults->on_write_ctx = ctx;
    pthread_mutex_unlock(&faults->lock);
}

void fault_io_on_sync(struct fault_io *faults, void (*on_sync)(void *ctx, int fd), void *ctx)
{
    pthread_mutex_lock(&faults->lock);
    faults->on_sync = on_sync;
    faults->on_sync_ctx = ctx;
    pthread_mutex_unlock(&faults->lock);
}

void fault_io_record(struct fault_io *faults)
{
    pthread_mutex_lock(&faults->lock);
    faults->recording = true;
    pthread_mutex_unlock(&faults->lock);
}

bool fault_io_recorded(struct fault_io *faults, uint64_t index, struct fault_write *out_write)
{
    pthread_mutex_lock(&faults->lock);
    bool found = index < faults->write_count;
    if (found)
        *out_write = faults->writes[index];
    pthread_mutex_unlock(&faults->lock);
    return found;
}

static uint64_t total(const struct iovec *iov, int iov_count)
{
    uint64_t size_bytes = 0;
    for (int i = 0; i < iov_count; i++)
        size_bytes += iov[i].iov_len;
    return size_bytes;
}

static void announce_write(struct fault_io *faults, int fd, uint64_t offset,
                           const struct iovec *iov, int iov_count)
{
    struct fault_write write = {fd, offset, total(iov, iov_count), {0}};
    uint64_t copied = 0;
    for (int i = 0; i < iov_count && copied < sizeof write.first; i++) {
        uint64_t part = sizeof write.first - copied;
        if (part > iov[i].iov_len)
            part = iov[i].iov_len;
        memcpy(write.first + copied, iov[i].iov_base, part);
        copied += part;
    }
    pthread_mutex_lock(&faults->lock);
    if (faults->recording) {
        if (faults->write_count == faults->write_capacity) {
            faults->write_capacity = faults->write_capacity * 2 + 64;
            faults->writes = grow(faults->writes, faults->write_capacity, sizeof write);
        }
        faults->writes[faults->write_count++] = write;
    }
    void (*hook)(void *, int, uint64_t, const struct iovec *, int) = faults->on_write;
    void *ctx = faults->on_write_ctx;
    pthread_mutex_unlock(&faults->lock);
    if (hook != NULL)
        hook(ctx, fd, offset, iov, iov_count);
}

static void announce_sync(struct fault_io *faults, int fd)
{
    pthread_mutex_lock(&faults->lock);
    void (*hook)(void *, int) = faults->on_sync;
    void *ctx = faults->on_sync_ctx;
    pthread_mutex_unlock(&faults->lock);
    if (hook != NULL)
        hook(ctx, fd);
}

/* ---- transfers --------------------------------------------------------------------------------
 */

/* How much of size_bytes a shortened transfer moves. */
static uint64_t shortened(const struct fault_rule *rule, uint64_t size_bytes)
{
    uint64_t bytes = rule->bytes;
    if (bytes == 0)
        bytes = size_bytes >= 1024 ? size_bytes / 2 / 512 * 512 : size_bytes / 2;
    return bytes < size_bytes ? bytes : size_bytes;
}

static ssize_t move(struct fault_io *faults, bool write, int fd, const struct iovec *iov,
                    int iov_count, uint64_t offset)
{
    return write ? faults->wrapped->writev(NULL, fd, iov, iov_count, offset)
                 : faults->wrapped->readv(NULL, fd, iov, iov_count, offset);
}

static ssize_t move_short(struct fault_io *faults, const struct fault_rule *rule, bool write,
                          int fd, const struct iovec *iov, int iov_count, uint64_t offset)
{
    struct iovec part[CP_IO_MAX_IOVECS];
    uint64_t left = shortened(rule, total(iov, iov_count));
    int count = 0;
    for (; count < iov_count && left > 0; count++) {
        part[count] = iov[count];
        if (part[count].iov_len > left)
            part[count].iov_len = left;
        left -= part[count].iov_len;
    }
    return count == 0 ? 0 : move(faults, write, fd, part, count, offset);
}

static void flip(const struct iovec *iov, int iov_count, uint64_t bit, ssize_t bytes)
{
    if (bytes <= 0)
        return;
    uint64_t at = bit / 8 % (uint64_t)bytes;
    for (int i = 0; i < iov_count; i++) {
        if (at < iov[i].iov_len) {
            ((uint8_t *)iov[i].iov_base)[at] ^= (uint8_t)(1u << (bit % 8));
            return;
        }
        at -= iov[i].iov_len;
    }
}

static ssize_t move_faulty(struct fault_io *faults, const struct fault_rule *rule, bool write,
                           int fd, const struct iovec *iov, int iov_count, uint64_t offset)
{
    ssize_t result;
    switch (rule->effect) {
    case FAULT_CODE:
        return rule->code;
    case FAULT_SHORT:
        return move_short(faults, rule, write, fd, iov, iov_count, offset);
    case FAULT_LOSE:
        return (ssize_t)total(iov, iov_count);
    case FAULT_MISDIRECT:
        return move(faults, write, fd, iov, iov_count, offset + rule->bytes);
    case FAULT_FLIP:
        result = move(faults, write, fd, iov, iov_count, offset);
        if (!write)
            flip(iov, iov_count, rule->bit, result);
        return result;
    case FAULT_AFTER:
        result = move(faults, write, fd, iov, iov_count, offset);
        return result < 0 ? result : rule->code;
    }
    abort();
}

static ssize_t fault_readv(void *ctx, int fd, const struct iovec *iov, int iov_count,
                           uint64_t offset)
{
    struct fault_rule rule;
    if (hit(ctx, FAULT_READ, &rule))
        return move_faulty(ctx, &rule, false, fd, iov, iov_count, offset);
    return move(ctx, false, fd, iov, iov_count, offset);
}

static ssize_t fault_writev(void *ctx, int fd, const struct iovec *iov, int iov_count,
                            uint64_t offset)
{
    struct fault_rule rule;
    announce_write(ctx, fd, offset, iov, iov_count);
    if (hit(ctx, FAULT_WRITE, &rule))
        return move_faulty(ctx, &rule, true, fd, iov, iov_count, offset);
    return move(ctx, true, fd, iov, iov_count, offset);
}

/* The effect of a rule on a call that returns 0 or a code; true: do the call. */
static bool plain_call(const struct fault_rule *rule, int *out_code)
{
    *out_code = rule->effect == FAULT_LOSE ? 0 : rule->code;
    return rule->effect == FAULT_AFTER;
}

static int fault_sync(void *ctx, int fd)
{
    struct fault_io *faults = ctx;
    struct fault_rule rule;
    int code = 0;
    announce_sync(faults, fd);
    if (hit(faults, FAULT_SYNC, &rule) && !plain_call(&rule, &code))
        return code;
    int result = faults->wrapped->sync(NULL, fd);
    return code != 0 ? code : result;
}

#define FAULT_PLAIN(name, class, parameters, arguments)                                            \
    static int fault_##name parameters                                                             \
    {                                                                                              \
        struct fault_io *faults = ctx;                                                             \
        struct fault_rule rule;                                                                    \
        int code = 0;                                                                              \
        if (hit(faults, class, &rule) && !plain_call(&rule, &code))                                \
            return code;                                                                           \
        int result = faults->wrapped->name arguments;                                              \
        return code != 0 ? code : result;                                                          \
    }

FAULT_PLAIN(resize, FAULT_RESIZE, (void *ctx, int fd, uint64_t size_bytes), (NULL, fd, size_bytes))
FAULT_PLAIN(allocate, FAULT_ALLOCATE,
            (void *ctx, int fd, uint64_t offset_bytes, uint64_t size_bytes),
            (NULL, fd, offset_bytes, size_bytes))
FAULT_PLAIN(size, FAULT_SIZE, (void *ctx, int fd, uint64_t *out_size_bytes),
            (NULL, fd, out_size_bytes))
FAULT_PLAIN(directory_sync, FAULT_DIRECTORY_SYNC, (void *ctx, const char *path), (NULL, path))
FAULT_PLAIN(rename, FAULT_RENAME, (void *ctx, const char *from, const char *to), (NULL, from, to))
FAULT_PLAIN(unlink, FAULT_UNLINK, (void *ctx, const char *path), (NULL, path))
FAULT_PLAIN(mkdir, FAULT_MKDIR, (void *ctx, const char *path, uint32_t mode), (NULL, path, mode))

static int fault_list(void *ctx, const char *path, int (*visit)(void *visit_ctx, const char *name),
                      void *visit_ctx)
{
    struct fault_io *faults = ctx;
    struct fault_rule rule;
    if (hit(faults, FAULT_LIST, &rule))
        return rule.code;
    return faults->wrapped->list(NULL, path, visit, visit_ctx);
}

static int fault_open(void *ctx, const char *path, int flags, uint32_t mode)
{
    struct fault_io *faults = ctx;
    struct fault_rule rule;
    if (hit(faults, FAULT_OPEN, &rule))
        return rule.code;
    return faults->wrapped->open(NULL, path, flags, mode);
}

/* A failing close closes, as close(2) does. */
static int fault_close(void *ctx, int fd)
{
    struct fault_io *faults = ctx;
    struct fault_rule rule;
    bool faulty = hit(faults, FAULT_CLOSE, &rule);
    int result = faults->wrapped->close(NULL, fd);
    return faulty ? rule.code : result;
}

/* ---- rings ------------------------------------------------------------------------------------
 */

static int fault_ring_create(void *ctx, const struct cp_io_ring_options *options, void **out_ring,
                             struct cp_io_ring_stats *out_facts)
{
    struct fault_io *faults = ctx;
    struct fault_rule rule;
    if (hit(faults, FAULT_RING_CREATE, &rule))
        return rule.code;
    struct fault_ring_state *ring = calloc(1, sizeof *ring);
    if (ring == NULL)
        abort();
    ring->faults = faults;
    if (faults->ring_kind == FAULT_RING_AS_WRAPPED) {
        int code = faults->wrapped->ring_create(NULL, options, &ring->inner, out_facts);
        if (code != 0) {
            free(ring);
            return code;
        }
    }
    *out_ring = ring;
    return 0;
}

static void fault_ring_destroy(void *ctx, void *raw)
{
    struct fault_io *faults = ctx;
    struct fault_ring_state *ring = raw;
    if (ring->inner != NULL)
        faults->wrapped->ring_destroy(NULL, ring->inner);
    free(ring->queued);
    free(ring->ready);
    free(ring);
}

static void add_ready(struct fault_ring_state *ring, struct cp_io_request *request, int result)
{
    struct fault_io *faults = ring->faults;
    pthread_mutex_lock(&faults->lock);
    if (ring->ready_count == ring->ready_capacity) {
        ring->ready_capacity = ring->ready_capacity * 2 + 64;
        ring->ready = grow(ring->ready, ring->ready_capacity, sizeof *ring->ready);
    }
    ring->ready[ring->ready_count++] = (struct completion){request, result};
    faults->held += faults->holding;
    pthread_cond_broadcast(&faults->changed);
    pthread_mutex_unlock(&faults->lock);
}

/* Carry a request out on the spot, with the rule when there is one. */
static int run_request(struct fault_io *faults, const struct fault_rule *rule,
                       struct cp_io_request *request, int fd)
{
    uint64_t offset_bytes = request->offset_bytes + request->done_bytes;
    bool write = request->op == CP_IO_OP_WRITE;
    int code = 0;

    if (request->op == CP_IO_OP_SYNC) {
        if (rule != NULL && !plain_call(rule, &code))
            return code;
        int result = faults->wrapped->sync(NULL, fd);
        return code != 0 ? code : result;
    }
    if (rule == NULL)
        return (int)move(faults, write, fd, request->iov, (int)request->iov_count, offset_bytes);
    return (int)move_faulty(faults, rule, write, fd, request->iov, (int)request->iov_count,
                            offset_bytes);
}

static int fault_ring_queue(void *ctx, void *raw, int fd, struct cp_io_request *request)
{
    static const enum fault_class classes[] = {
        [CP_IO_OP_READ] = FAULT_READ, [CP_IO_OP_WRITE] = FAULT_WRITE, [CP_IO_OP_SYNC] = FAULT_SYNC};
    struct fault_io *faults = ctx;
    struct fault_ring_state *ring = raw;
    struct fault_rule rule;

    if (request->op == CP_IO_OP_WRITE)
        announce_write(faults, fd, request->offset_bytes + request->done_bytes, request->iov,
                       (int)request->iov_count);
    if (request->op == CP_IO_OP_SYNC)
        announce_sync(faults, fd);
    if (hit(faults, classes[request->op], &rule)) {
        request->result = run_request(faults, &rule, request, fd);
    } else if (ring->inner == NULL) {
        request->result = run_request(faults, NULL, request, fd);
    } else {
        return faults->wrapped->ring_queue(NULL, ring->inner, fd, request);
    }
    if (ring->queued_count == ring->queued_capacity) {
        ring->queued_capacity = ring->queued_capacity * 2 + 64;
        ring->queued = grow(ring->queued, ring->queued_capacity, sizeof(void *));
    }
    ring->queued[ring->queued_count++] = request;
    return 0;
}

static int fault_ring_submit(void *ctx, void *raw)
{
    struct fault_io *faults = ctx;
    struct fault_ring_state *ring = raw;
    struct fault_rule rule;
    int count = (int)ring->queued_count;
    int inner_count = 0;

    /* Only where nothing lies in the wrapped ring could a refusal forget all that was queued. */
    if (ring->inner == NULL && hit(faults, FAULT_RING_SUBMIT, &rule)) {
        ring->queued_count = 0;
        return rule.code;
    }
    if (ring->inner != NULL)
        inner_count = faults->wrapped->ring_submit(NULL, ring->inner);
    if (inner_count < 0)
        abort(); /* no way to tell the two kinds apart; no kernel does it in a test */
    for (int i = 0; i < count; i++)
        add_ready(ring, ring->queued[i], ring->queued[i]->result);
    ring->queued_count = 0;
    if (count > 0 && ring->inner != NULL && faults->wrapped->ring_wake != NULL)
        faults->wrapped->ring_wake(NULL, ring->inner);
    return count + inner_count;
}

/* Move what may pass from ready to the caller. Under lock. */
static int deliver(struct fault_ring_state *ring, struct cp_io_request **out_requests,
                   int *out_results, uint32_t capacity)
{
    struct fault_io *faults = ring->faults;
    uint64_t count = ring->ready_count;
    if (faults->holding && count > faults->allowed)
        count = faults->allowed;
    if (count > capacity)
        count = capacity;
    for (uint64_t i = 0; i < count; i++) {
        out_requests[i] = ring->ready[i].request;
        out_results[i] = ring->ready[i].result;
    }
    ring->ready_count -= (uint32_t)count;
    if (count > 0)
        memmove(ring->ready, ring->ready + count, ring->ready_count * sizeof *ring->ready);
    if (faults->holding) {
        faults->allowed -= count;
        faults->held -= count;
    }
    return (int)count;
}

static void deadline_in(struct timespec *out_deadline, uint64_t ms)
{
    clock_gettime(CLOCK_MONOTONIC, out_deadline);
    out_deadline->tv_sec += (time_t)(ms / 1000);
    out_deadline->tv_nsec += (long)(ms % 1000) * 1000000;
    if (out_deadline->tv_nsec >= 1000000000) {
        out_deadline->tv_sec++;
        out_deadline->tv_nsec -= 1000000000;
    }
}

/* Fetch from the wrapped ring into ready. */
static void fetch_inner(struct fault_ring_state *ring, bool wait, uint32_t capacity)
{
    struct cp_io_request *requests[64];
    int results[64];
    int count = ring->faults->wrapped->ring_reap(NULL, ring->inner, wait, requests, results,
                                                 capacity < 64 ? capacity : 64);
    for (int i = 0; i < count; i++)
        add_ready(ring, requests[i], results[i]);
}

static int fault_ring_reap(void *ctx, void *raw, bool wait, struct cp_io_request **out_requests,
                           int *out_results, uint32_t capacity)
{
    struct fault_io *faults = ctx;
    struct fault_ring_state *ring = raw;
    struct fault_rule rule;
    int count;

    if (ring->inner != NULL)
        fetch_inner(ring, false, capacity);
    pthread_mutex_lock(&faults->lock);
    while ((count = deliver(ring, out_requests, out_results, capacity)) == 0 && wait &&
           !ring->woken) {
        if (ring->inner != NULL && (!faults->holding || faults->allowed > 0)) {
            pthread_mutex_unlock(&faults->lock);
            fetch_inner(ring, true, capacity);
            pthread_mutex_lock(&faults->lock);
            count = deliver(ring, out_requests, out_results, capacity);
            break; /* with nothing: a wake from the wrapped ring, which the caller may want */
        }
        struct timespec soon;
        deadline_in(&soon, 1); /* a wrapped ring's completions do not signal `changed` */
        faults->sleeping_reapers++;
        pthread_cond_broadcast(&faults->changed);
        if (ring->inner != NULL)
            pthread_cond_timedwait(&faults->changed, &faults->lock, &soon);
        else
            pthread_cond_wait(&faults->changed, &faults->lock);
        faults->sleeping_reapers--;
        if (ring->inner != NULL) {
            pthread_mutex_unlock(&faults->lock);
            fetch_inner(ring, false, capacity);
            pthread_mutex_lock(&faults->lock);
        }
    }
    if (wait)
        ring->woken = false;
    pthread_mutex_unlock(&faults->lock);
    for (int i = 0; i < count; i++) {
        if (hit(faults, FAULT_COMPLETION, &rule))
            out_results[i] = rule.code;
    }
    return count;
}

static void fault_ring_wake(void *ctx, void *raw)
{
    struct fault_io *faults = ctx;
    struct fault_ring_state *ring = raw;
    pthread_mutex_lock(&faults->lock);
    ring->woken = true;
    pthread_cond_broadcast(&faults->changed);
    pthread_mutex_unlock(&faults->lock);
    if (ring->inner != NULL && faults->wrapped->ring_wake != NULL)
        faults->wrapped->ring_wake(NULL, ring->inner);
}

static int fault_ring_register(void *ctx, void *raw, uint32_t piece, bool on)
{
    struct fault_io *faults = ctx;
    struct fault_ring_state *ring = raw;
    if (ring->inner == NULL)
        return -EOPNOTSUPP;
    return faults->wrapped->ring_register(NULL, ring->inner, piece, on);
}

void fault_io_hold(struct fault_io *faults)
{
    pthread_mutex_lock(&faults->lock);
    faults->holding = true;
    faults->allowed = 0;
    faults->held = 0;
    pthread_mutex_unlock(&faults->lock);
}

void fault_io_release(struct fault_io *faults, uint64_t count)
{
    pthread_mutex_lock(&faults->lock);
    faults->allowed += count;
    pthread_cond_broadcast(&faults->changed);
    pthread_mutex_unlock(&faults->lock);
}

void fault_io_let_go(struct fault_io *faults)
{
    pthread_mutex_lock(&faults->lock);
    faults->holding = false;
    pthread_cond_broadcast(&faults->changed);
    pthread_mutex_unlock(&faults->lock);
}

static bool await(struct fault_io *faults, const uint64_t *value, uint64_t least, uint64_t ms)
{
    struct timespec deadline;
    int code = 0;
    deadline_in(&deadline, ms);
    pthread_mutex_lock(&faults->lock);
    while (*value < least && code == 0)
        code = pthread_cond_timedwait(&faults->changed, &faults->lock, &deadline);
    bool reached = *value >= least;
    pthread_mutex_unlock(&faults->lock);
    return reached;
}

bool fault_io_await_held(struct fault_io *faults, uint64_t count, uint64_t timeout_ms)
{
    return await(faults, &faults->held, count, timeout_ms);
}

bool fault_io_await_reaper(struct fault_io *faults, uint64_t timeout_ms)
{
    return await(faults, &faults->sleeping_reapers, 1, timeout_ms);
}

/* Two tables: the front end tells by ring_create whether there are asynchronous rings. */
#define FAULT_FILES                                                                                \
    .name = "faults", .open = fault_open, .close = fault_close, .readv = fault_readv,              \
    .writev = fault_writev, .sync = fault_sync, .resize = fault_resize,                            \
    .allocate = fault_allocate, .size = fault_size, .directory_sync = fault_directory_sync,        \
    .rename = fault_rename, .unlink = fault_unlink, .mkdir = fault_mkdir, .list = fault_list

static const struct cp_io_backend without_rings = {FAULT_FILES};
static const struct cp_io_backend with_rings = {
    FAULT_FILES,
    .ring_create = fault_ring_create,
    .ring_destroy = fault_ring_destroy,
    .ring_queue = fault_ring_queue,
    .ring_submit = fault_ring_submit,
    .ring_reap = fault_ring_reap,
    .ring_register = fault_ring_register,
    .ring_wake = fault_ring_wake,
};

const struct cp_io_backend *fault_io_backend(const struct fault_io *faults)
{
    bool rings = faults->ring_kind == FAULT_RING_DEFERRED || faults->wrapped->ring_create != NULL;
    return rings ? &with_rings : &without_rings;
}
