/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "detach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "error.h"

enum { FIRST_FD = 3, END_MS = 30000 };

/* What the child says through its socket: its number, then, when the program cannot be run, why. */
typedef struct {
    int pid;
    int code;
} Report;

/* All that the child needs, made before the fork: after it, with threads about, nothing may be allocated. */
typedef struct {
    const DetachSpec *spec;
    char **environment;
    int line; /* socket to the parent */
} Birth;

/* --- the child: only what may be called between fork and exec --- */

static void say(int fd, int pid, int code)
{
    Report report = {pid, code};
    ssize_t ignored = write(fd, &report, sizeof report);
    (void)ignored;
}

static void reset_signals(void)
{
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP)
            (void)signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Every descriptor but the standard ones is closed at the exec. */
static void close_others_at_exec(void)
{
    enum { CLOEXEC_FLAG = 1 << 2 }; /* CLOSE_RANGE_CLOEXEC, Linux 5.11 */
    if (syscall(SYS_close_range, FIRST_FD, ~0U, CLOEXEC_FLAG) == 0)
        return;
    long n = sysconf(_SC_OPEN_MAX);
    for (int fd = FIRST_FD; fd < n; fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static void close_from_to(int first, int last)
{
    if (first <= last)
        (void)syscall(SYS_close_range, first, last, 0); /* where there is none, the exec does it */
}

/* While it waits it must not hold what is its parent's, should that die: the store's lock, the mount. */
static void close_what_is_not_ours(const Birth *birth)
{
    int a = MIN(birth->line, birth->spec->log), b = MAX(birth->line, birth->spec->log);
    close_from_to(FIRST_FD, a - 1);
    close_from_to(MAX(a + 1, FIRST_FD), b - 1);
    close_from_to(MAX(b + 1, FIRST_FD), G_MAXINT);
}

static gboolean prepare(const Birth *birth)
{
    int null = open("/dev/null", O_RDONLY);
    umask(077);
    reset_signals();
    gboolean ok = null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(birth->spec->log, STDOUT_FILENO) >= 0 &&
                  dup2(birth->spec->log, STDERR_FILENO) >= 0 && chdir("/") == 0;
    close_others_at_exec();
    return ok && (!birth->spec->cpus || sched_setaffinity(0, sizeof(cpu_set_t), birth->spec->cpus) == 0);
}

static G_NORETURN void be_child(const Birth *birth)
{
    char go = 0;
    setsid();
    pid_t child = fork();
    if (child != 0) {
        if (child < 0)
            say(birth->line, 0, errno);
        _exit(0);
    }
    close_what_is_not_ours(birth);
    say(birth->line, getpid(), 0);
    if (read(birth->line, &go, 1) != 1)
        _exit(126);
    if (prepare(birth))
        execve(birth->spec->argv[0], (char **)birth->spec->argv, birth->environment);
    say(birth->line, getpid(), errno);
    _exit(127);
}

/* --- the parent --- */

static char **make_environment(const DetachSpec *spec)
{
    g_autoptr(GStrvBuilder) all = g_strv_builder_new();
    const char *path = g_getenv("PATH");
    g_autofree char *entry = g_strconcat("PATH=", path ? path : "/usr/local/bin:/usr/bin:/bin", NULL);
    g_strv_builder_add(all, entry);
    g_strv_builder_add(all, "LC_ALL=C");
    for (guint i = 0; spec->environment && spec->environment[i]; i++)
        g_strv_builder_add(all, spec->environment[i]);
    return g_strv_builder_end(all);
}

/* With all signals blocked: no handler of ours may run in the child. */
static pid_t fork_quietly(const Birth *birth, int other)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        close(other);
        be_child(birth);
    }
    int code = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = code;
    return pid;
}

/* FALSE: the other end has closed. */
static gboolean hear(int fd, Report *report)
{
    for (;;) {
        ssize_t n = read(fd, report, sizeof *report); /* a message is one or none */
        if (n < 0 && errno == EINTR)
            continue;
        return n == sizeof *report;
    }
}

gboolean detach_prepare(const DetachSpec *spec, Detached *ret, GError **error)
{
    int line[2];
    Report report = {0, EIO};
    g_auto(GStrv) environment = make_environment(spec);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, line) < 0) {
        snap_set_errno(error, errno, "cannot start '%s'", spec->argv[0]);
        return FALSE;
    }
    Birth birth = {.spec = spec, .environment = environment, .line = line[1]};
    Detached process = {.pid = 0, .pidfd = -1, .go = line[0]};
    pid_t between = fork_quietly(&birth, line[0]);
    int code = errno;
    close(line[1]);
    if (between > 0) {
        while (waitpid(between, NULL, 0) < 0 && errno == EINTR)
            continue;
        code = hear(line[0], &report) ? report.code : EIO;
    }
    if (between > 0 && code == 0) {
        process.pid = report.pid; /* it waits for us: the number is its own */
        process.pidfd = (int)syscall(SYS_pidfd_open, process.pid, 0);
        code = process.pidfd < 0 ? errno : 0;
    }
    if (code != 0) {
        snap_set_errno(error, code, "cannot start '%s'", spec->argv[0]);
        detach_clear(&process);
        return FALSE;
    }
    *ret = process;
    return TRUE;
}

gboolean detach_run(Detached *process, GError **error)
{
    Report report = {0, 0};
    gboolean failed = send(process->go, "g", 1, MSG_NOSIGNAL) != 1 || hear(process->go, &report);
    close(process->go);
    process->go = -1;
    if (!failed)
        return TRUE;
    snap_set_errno(error, report.code ? report.code : EIO, "the program cannot be run");
    return FALSE;
}

gboolean detach_has_ended(const Detached *process, int ms)
{
    gint64 end = g_get_monotonic_time() + (gint64)ms * 1000;
    struct pollfd fd = {.fd = process->pidfd, .events = POLLIN};
    int n;
    while ((n = poll(&fd, 1, (int)MAX((end - g_get_monotonic_time() + 999) / 1000, 0))) < 0 && errno == EINTR)
        continue;
    return n > 0;
}

void detach_kill(const Detached *process)
{
    if (process->pidfd < 0)
        return;
    (void)syscall(SYS_pidfd_send_signal, process->pidfd, SIGKILL, NULL, 0);
    (void)detach_has_ended(process, END_MS);
}

void detach_clear(Detached *process)
{
    if (process->go >= 0)
        close(process->go);
    if (process->pidfd >= 0)
        close(process->pidfd);
    *process = (Detached)DETACHED_NONE;
}
