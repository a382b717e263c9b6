/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "error.h"
#include "fault.h"

#define LISTEN_PID "LISTEN_PID="
#define PID_DIGITS 10

/* What the child uses between fork and exec. */
typedef struct {
    const ProcessBirth *birth;
    pid_t parent;
    char *pid_digits; /* in its environment: its own number is to be written there; NULL: nobody asks */
} Cradle;

static gboolean limit(int resource, rlim_t value)
{
    struct rlimit rlimit = {.rlim_cur = value, .rlim_max = value};
    return setrlimit(resource, &rlimit) == 0;
}

/* Raw system calls: glibc's wrappers tell all threads, of which a forked child has none. */
static gboolean become(const ProcessIdentity *identity)
{
    return syscall(SYS_setgroups, 0, NULL) == 0 &&
           syscall(SYS_setresgid, identity->gid, identity->gid, identity->gid) == 0 &&
           syscall(SYS_setresuid, identity->uid, identity->uid, identity->uid) == 0;
}

/*
 * The child dies with the thread that waits for it: one that a dead daemon left, before it so much as opened its image,
 * would otherwise do its work when the next daemon has recovered, behind its back. After become(), which clears it.
 */
static gboolean die_with(pid_t parent)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
}

/* Runs in the child between fork and exec: only async-signal-safe calls, and no way back but to exit. */
static void prepare_child(gpointer data)
{
    static const char failed[] = "cannot set up limits or identity\n";
    const Cradle *cradle = data;
    const ProcessBirth *birth = cradle->birth;
    gboolean ok = setpgid(0, 0) == 0 && limit(RLIMIT_CORE, 0);
    if (birth->memory_bytes)
        ok = ok && limit(RLIMIT_AS, birth->memory_bytes);
    if (birth->identity.set)
        ok = ok && become(&birth->identity);
    ok = ok && die_with(cradle->parent);
    if (!ok) {
        ssize_t ignored = write(STDERR_FILENO, failed, sizeof failed - 1);
        (void)ignored;
        _exit(126);
    }
    pid_t pid = getpid();
    for (int i = PID_DIGITS - 1; cradle->pid_digits && i >= 0; i--, pid /= 10)
        cradle->pid_digits[i] = (char)('0' + pid % 10);
    /* the daemon's threads block signals and ignore SIGPIPE; neither must reach the child */
    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP)
            (void)signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static gboolean fork_and_exec(const ProcessBirth *birth, ProcessChild *child, int *ret_output, GError **error)
{
    static const char *const fallback_path = "/usr/local/bin:/usr/bin:/bin";
    const char *path = g_getenv("PATH");
    g_autofree char *path_entry = g_strconcat("PATH=", path ? path : fallback_path, NULL);
    g_autofree char *listen_pid = g_strdup_printf(LISTEN_PID "%0*d", PID_DIGITS, 0);
    const char *environment[] = {path_entry, "LC_ALL=C", birth->listens ? listen_pid : NULL, "LISTEN_FDS=1",
                                 NULL};
    g_autofree int *targets = g_new(int, birth->n_fds + 1);
    Cradle cradle = {birth, getpid(), birth->listens ? listen_pid + strlen(LISTEN_PID) : NULL};
    GSpawnFlags flags = G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH;
    for (guint i = 0; i < birth->n_fds; i++)
        targets[i] = PROCESS_PASSED_FD + (int)i;
    if (!ret_output)
        flags |= G_SPAWN_STDOUT_TO_DEV_NULL;
    return g_spawn_async_with_pipes_and_fds(
        birth->directory ? birth->directory : "/", birth->argv, environment, flags, prepare_child, &cradle,
        -1, -1, -1, birth->fds, targets, birth->n_fds, &child->pid, NULL, ret_output, &child->errors, error);
}

gboolean process_spawn(const ProcessBirth *birth, ProcessChild *ret_child, int *ret_output, GError **error)
{
    ProcessChild child;
    g_autoptr(GError) why = NULL;
    if (!FAULT_POINT("process.spawn", error))
        return FALSE;
    if (!fork_and_exec(birth, &child, ret_output, &why)) {
        snap_set_error(error, EIO, "%s: %s", birth->what, why->message);
        return FALSE;
    }
    child.pidfd = FAULT("process.spawned") ? -1 : (int)syscall(SYS_pidfd_open, child.pid, 0);
    if (child.pidfd < 0) {
        snap_set_errno(error, errno, "%s: cannot watch the process", birth->what);
        kill(-child.pid, SIGKILL);
        waitpid(child.pid, NULL, 0);
        close(child.errors);
        if (ret_output)
            close(*ret_output);
        return FALSE;
    }
    fcntl(child.errors, F_SETFL, O_NONBLOCK);
    *ret_child = child;
    return TRUE;
}
