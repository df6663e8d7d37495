/* SPDX-License-Identifier: MIT */
/*
 * Processes, namespaces and clean-up of the FUSE recorder; what is recorded is fuse_fs.c's.
 *
 * The recorder process waits for requests, for the workload's end (a pidfd) and for signals, of
 * which the death of its parent is one. Its own end takes the workload along. It never waits for a
 * process that may be waiting for it: a process that ends closes its files, and has to be served.
 * The file descriptor of /dev/fuse is the recorder's alone: when it is closed, by whatever, the
 * kernel ends the connection, so no request can hang.
 */
#include "fuse_recorder.h"

#include "fuse_fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT_BYTES      512u
#define LAST_REQUEST_MS 10000 /* the kernel has this long to write back while unmounting */

/* Shared by the three processes. */
struct shared {
    int result; /* of the workload, or -1 of the recorder */
    char text[TEXT_BYTES];
};

struct recording {
    const struct crash_fuse_options *options;
    struct shared *shared;
    char scratch[PATH_MAX]; /* holds the two below */
    char mount[PATH_MAX + 8];
    char saved[PATH_MAX + 8]; /* the trace on its way back */
    pid_t workload;
    int fuse_fd; /* the recorder's */
};

__attribute__((format(printf, 2, 3))) static int fail(struct recording *recording,
                                                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(recording->shared->text, TEXT_BYTES, format, arguments);
    va_end(arguments);
    recording->shared->result = -1;
    return -1;
}

/* ---- the mount --------------------------------------------------------------------------------
 */

static int write_text_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t written = write(fd, text, strlen(text));
    int code = written == (ssize_t)strlen(text) ? 0 : -errno;
    close(fd);
    return code;
}

/* A mount namespace of our own; without the right to it, in a user namespace of our own. */
static int enter_namespace(struct recording *recording)
{
    const unsigned uid = getuid(), gid = getgid();
    char map[64];
    if (unshare(CLONE_NEWNS) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
            return fail(recording, "not root, and user namespaces are forbidden here (unshare: %s)",
                        strerror(errno));
        (void)!write_text_file("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "%u %u 1", gid, gid);
        int code = write_text_file("/proc/self/gid_map", map);
        snprintf(map, sizeof map, "%u %u 1", uid, uid);
        if (code == 0)
            code = write_text_file("/proc/self/uid_map", map);
        if (code != 0)
            return fail(recording, "cannot map the user in a user namespace: %s", strerror(-code));
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return fail(recording, "cannot make mounts private: %s", strerror(errno));
    return 0;
}

/* Returns the descriptor of the mounted file system, or -1. */
static int make_mount(struct recording *recording)
{
    char data[128];
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return fail(recording, "cannot open /dev/fuse: %s", strerror(errno));
    snprintf(data, sizeof data, "fd=%d,rootmode=40000,user_id=%u,group_id=%u", fd, getuid(),
             getgid());
    if (mount("clockpool-record", recording->mount, "fuse.clockpool-record", MS_NODEV | MS_NOSUID,
              data) != 0) {
        fail(recording, "cannot mount a FUSE file system: %s", strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

/* ---- the workload's process -------------------------------------------------------------------
 */

static void default_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL); /* fails for two of them, as it should */
    sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn static void run_workload(struct recording *recording, pid_t recorder)
{
    const struct crash_fuse_options *options = recording->options;
    char marks[PATH_MAX + 64];
    default_signals();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != recorder)
        _exit(1);
    if (options->prepare != NULL)
        options->prepare(options->ctx);
    snprintf(marks, sizeof marks, "%s/%s", recording->mount, CRASH_FUSE_MARKS_NAME);
    const struct crash_fuse_place place = {
        .path = recording->mount,
        .marks_fd = open(marks, O_WRONLY | O_CLOEXEC),
        .text = recording->shared->text,
        .text_capacity = TEXT_BYTES,
    };
    if (place.marks_fd < 0) {
        fail(recording, "the mount does not answer: %s", strerror(errno));
        _exit(0);
    }
    recording->shared->result = options->workload(options->ctx, &place);
    _exit(0);
}

void crash_fuse_mark(const struct crash_fuse_place *place, enum crash_mark mark, unsigned lane,
                     uint32_t transaction, uint64_t lsn)
{
    const struct crash_fuse_mark record = {(uint32_t)mark, lane, transaction, 0, lsn};
    if (pwrite(place->marks_fd, &record, sizeof record, 0) != (ssize_t)sizeof record)
        _exit(3); /* the recorder is gone: what follows would be recorded by nobody */
}

/* ---- the recorder's process -------------------------------------------------------------------
 */

enum woken { WOKEN_REQUEST, WOKEN_WORKLOAD_ENDED, WOKEN_SIGNAL, WOKEN_TIMEOUT };

static enum woken wait_for_work(int fuse_fd, int workload_fd, int signal_fd, int timeout_ms)
{
    struct pollfd polled[] = {
        {.fd = signal_fd, .events = POLLIN},
        {.fd = fuse_fd, .events = POLLIN},
        {.fd = workload_fd, .events = POLLIN},
    };
    for (;;) { /* ends: one of them, or the timeout */
        int ready = poll(polled, 3, timeout_ms);
        if (ready == 0)
            return WOKEN_TIMEOUT;
        if (ready < 0 && errno == EINTR)
            continue;
        if (polled[0].revents != 0)
            return WOKEN_SIGNAL;
        return polled[1].revents != 0 ? WOKEN_REQUEST : WOKEN_WORKLOAD_ENDED;
    }
}

/* Unmounting writes back what mappings left, through us: so another process has to ask for it. */
static pid_t start_unmount(const struct recording *recording)
{
    pid_t child = fork();
    if (child == 0) {
        if (umount2(recording->mount, 0) != 0)
            umount2(recording->mount, MNT_DETACH);
        _exit(0);
    }
    return child;
}

/* The workload has ended: how? */
static int judge_workload(struct recording *recording)
{
    int status = 0;
    waitpid(recording->workload, &status, 0);
    recording->workload = -1;
    if (WIFSIGNALED(status))
        return fail(recording, "the workload was killed by signal %d", WTERMSIG(status));
    return recording->shared->result; /* and it has said why */
}

/* Serve until the workload has ended and the mount is gone. */
static int serve(struct recording *recording, struct crash_fuse_fs *fs, int workload_fd,
                 int signal_fd)
{
    int timeout_ms = -1;
    pid_t unmounter = -1;
    for (;;) { /* ends: unmounted, a signal, or too long after the workload's end */
        switch (wait_for_work(recording->fuse_fd, workload_fd, signal_fd, timeout_ms)) {
        case WOKEN_SIGNAL:
            return fail(recording, "interrupted");
        case WOKEN_TIMEOUT:
            return fail(recording, "the mount was not given up by the workload's processes");
        case WOKEN_REQUEST:
            if (crash_fuse_fs_serve(fs))
                continue;
            if (unmounter < 0)
                return fail(recording, "the mount went away");
            waitpid(unmounter, NULL, 0); /* nothing is left that it could wait for */
            return 0;
        case WOKEN_WORKLOAD_ENDED:
            workload_fd = -1;
            if (judge_workload(recording) != 0)
                return -1;
            unmounter = start_unmount(recording);
            timeout_ms = LAST_REQUEST_MS;
            break;
        }
    }
}

/* Returns a pidfd of the workload's process, or -1. */
static int start_workload(struct recording *recording, int signal_fd, int root_fd)
{
    const pid_t self = getpid();
    recording->shared->result = -1;
    recording->workload = fork();
    if (recording->workload == 0) {
        close(recording->fuse_fd);
        close(signal_fd);
        close(root_fd);
        run_workload(recording, self);
    }
    if (recording->workload < 0)
        return fail(recording, "fork: %s", strerror(errno));
    int fd = (int)syscall(SYS_pidfd_open, recording->workload, 0); /* Linux 5.3 */
    return fd >= 0 ? fd : fail(recording, "pidfd_open: %s", strerror(errno));
}

/* Mount, start the workload and serve it. */
static int record_here(struct recording *recording, int signal_fd)
{
    int root_fd = open(recording->options->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0)
        return fail(recording, "%s: %s", recording->options->root, strerror(errno));
    recording->fuse_fd = make_mount(recording);
    if (recording->fuse_fd < 0)
        return -1;
    struct crash_fuse_fs *fs =
        crash_fuse_fs_create(recording->fuse_fd, root_fd, recording->options->trace);
    if (fs == NULL)
        return fail(recording, "libfuse does not take the mount");
    int workload_fd = start_workload(recording, signal_fd, root_fd);
    if (workload_fd < 0)
        return -1;
    int result = serve(recording, fs, workload_fd, signal_fd);
    if (result == 0) {
        int code = crash_trace_save(recording->options->trace, recording->saved);
        if (code != 0)
            result = fail(recording, "cannot save the trace: code %d", code);
    }
    return result;
}

static void remove_scratch(const struct recording *recording)
{
    unlink(recording->saved);
    rmdir(recording->mount);
    rmdir(recording->scratch);
}

_Noreturn static void run_recorder(struct recording *recording, pid_t caller)
{
    sigset_t watched;
    default_signals();
    sigemptyset(&watched);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGHUP);
    sigprocmask(SIG_BLOCK, &watched, NULL);
    int signal_fd = signalfd(-1, &watched, SFD_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    int result = -1;
    if (getppid() == caller && enter_namespace(recording) == 0)
        result = record_here(recording, signal_fd);
    if (recording->workload > 0)
        kill(recording->workload, SIGKILL);
    if (recording->fuse_fd >= 0)
        close(recording->fuse_fd); /* ends the connection, so that the workload can end */
    if (recording->workload > 0)
        waitpid(recording->workload, NULL, 0);
    if (getppid() != caller) { /* nobody else will do it */
        umount2(recording->mount, MNT_DETACH);
        remove_scratch(recording);
    }
    _exit(result == 0 ? 0 : 1); /* the namespace ends here, and the mount with it */
}

/* ---- the caller's process ---------------------------------------------------------------------
 */

/* What the recorder appended to its copy, appended to ours. The beginnings are the same. */
static void append_events(struct crash_trace *to, const struct crash_trace *from)
{
    for (uint64_t i = crash_trace_length(to); i < crash_trace_length(from); i++) {
        const struct crash_event *event = crash_trace_event(from, i);
        const char *path = crash_trace_text(from, event->path);
        switch ((enum crash_event_kind)event->kind) {
        case CRASH_CREATE:
            crash_trace_create_file(to, path);
            break;
        case CRASH_MKDIR:
            crash_trace_mkdir(to, path);
            break;
        case CRASH_WRITE_BEGIN:
            crash_trace_write_begin(to, event->file, event->offset, crash_trace_data(from, event),
                                    event->size, event->flags);
            break;
        case CRASH_WRITE_END:
            crash_trace_write_end(to, event->begin);
            break;
        case CRASH_RESIZE:
            crash_trace_resize(to, event->file, event->size);
            break;
        case CRASH_ALLOCATE:
            crash_trace_allocate(to, event->file, event->size);
            break;
        case CRASH_FLUSH_BEGIN:
            crash_trace_flush_begin(to, event->file);
            break;
        case CRASH_FLUSH_END:
            crash_trace_flush_end(to, event->begin, event->code);
            break;
        case CRASH_RENAME:
            crash_trace_rename(to, path, crash_trace_text(from, event->to));
            break;
        case CRASH_UNLINK:
            crash_trace_unlink(to, path);
            break;
        case CRASH_DIRECTORY_SYNC:
            crash_trace_directory_sync(to, path);
            break;
        case CRASH_MARK:
            crash_trace_mark(to, (enum crash_mark)event->mark, event->lane, event->transaction,
                             event->lsn);
            break;
        }
    }
}

/* A directory of our own beside root, so that it lies on the same file system. */
static int make_scratch(struct recording *recording)
{
    const char *root = recording->options->root;
    if (snprintf(recording->scratch, sizeof recording->scratch, "%s.fuse-XXXXXX", root) >=
        (int)sizeof recording->scratch - 8)
        return fail(recording, "the path %s is too long", root);
    if (mkdtemp(recording->scratch) == NULL)
        return fail(recording, "cannot make a directory beside %s: %s", root, strerror(errno));
    snprintf(recording->mount, sizeof recording->mount, "%s/mount", recording->scratch);
    snprintf(recording->saved, sizeof recording->saved, "%s/trace", recording->scratch);
    if (mkdir(recording->mount, 0700) != 0) {
        fail(recording, "cannot make %s: %s", recording->mount, strerror(errno));
        remove_scratch(recording);
        return -1;
    }
    return 0;
}

static int run_and_collect(struct recording *recording)
{
    struct crash_trace *recorded;
    const pid_t self = getpid();
    int status = 0;
    fflush(NULL); /* else the children's copies of the buffers might be written again */
    pid_t child = fork();
    if (child == 0)
        run_recorder(recording, self);
    if (child < 0)
        return fail(recording, "fork: %s", strerror(errno));
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) { /* ends: the child does */
        if (recording->options->interrupted != NULL && recording->options->interrupted() != 0)
            kill(child, SIGTERM);
    }
    if (WIFSIGNALED(status))
        return fail(recording, "the recorder was killed by signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        return -1;
    int code = crash_trace_load(recording->saved, &recorded);
    if (code != 0)
        return fail(recording, "cannot read the recorded trace: code %d", code);
    append_events(recording->options->trace, recorded);
    crash_trace_destroy(recorded);
    return 0;
}

int crash_fuse_record(const struct crash_fuse_options *options, char *text, size_t capacity)
{
    struct recording recording = {.options = options, .workload = -1, .fuse_fd = -1};
    recording.shared = mmap(NULL, sizeof *recording.shared, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (recording.shared == MAP_FAILED) {
        snprintf(text, capacity, "out of memory");
        return -1;
    }
    snprintf(recording.shared->text, TEXT_BYTES, "ended without a reason");
    int result = make_scratch(&recording);
    if (result == 0) {
        result = run_and_collect(&recording);
        remove_scratch(&recording);
    }
    if (result != 0)
        snprintf(text, capacity, "%s", recording.shared->text);
    munmap(recording.shared, sizeof *recording.shared);
    return result;
}

static int do_nothing(void *ctx, const struct crash_fuse_place *place)
{
    (void)ctx;
    crash_fuse_mark(place, CRASH_MARK_CREATED, 0, 0, 0);
    return 0;
}

const char *crash_fuse_unavailable(void)
{
    static char reason[TEXT_BYTES];
    static bool tried;
    if (tried)
        return reason[0] != '\0' ? reason : NULL;
    tried = true;
    const char *parent = getenv("TMPDIR");
    char root[PATH_MAX];
    snprintf(root, sizeof root, "%s/clockpool-fuse-XXXXXX", parent != NULL ? parent : "/tmp");
    if (mkdtemp(root) == NULL) {
        snprintf(reason, sizeof reason, "cannot make %.200s: %s", root, strerror(errno));
        return reason;
    }
    struct crash_trace *trace = crash_trace_create();
    crash_trace_baseline(trace);
    const struct crash_fuse_options options = {
        .root = root, .trace = trace, .workload = do_nothing};
    (void)crash_fuse_record(&options, reason, sizeof reason);
    crash_trace_destroy(trace);
    rmdir(root);
    return reason[0] != '\0' ? reason : NULL;
}
