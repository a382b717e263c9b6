/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "error.h"
#include "fault.h"
#include "process_spawn.h"

#define GRACE_US (3 * G_USEC_PER_SEC) /* between SIGTERM and SIGKILL */
#define ERRORS_HEAD 16384             /* of standard error: the first bytes are kept, */
#define ERRORS_TAIL 16384             /* and the last ones */

/* A running child. Owned by one call of process_run; everything is used in its thread only. */
typedef struct {
    GPid pid;
    int pidfd;
    int out; /* -1: at its end */
    int err;
    gint64 deadline; /* monotonic; G_MAXINT64: none */
    int reason;      /* 0, or the errno for which it was told to stop */
    const ProcessSpec *spec;
    ProcessResult *result;
} Child;

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static gboolean spawn(const ProcessSpec *spec, Child *child, GError **error)
{
    ProcessChild born;
    int out;
    const ProcessBirth birth = {
        .argv = spec->argv,
        .what = spec->what,
        .directory = spec->directory,
        .fds = &spec->pass_fd,
        .n_fds = spec->pass_fd == PROCESS_NO_FD ? 0 : 1,
        .memory_bytes = spec->memory_bytes,
        .identity = spec->identity,
    };
    if (!process_spawn(&birth, &born, &out, error))
        return FALSE;
    child->pid = born.pid;
    child->pidfd = born.pidfd;
    child->err = born.errors;
    child->out = out;
    fcntl(out, F_SETFL, O_NONBLOCK);
    return TRUE;
}

/* Tell the whole group to stop. The child is our unreaped child, so its number cannot have been given away.
 */
static void stop(Child *child, int reason)
{
    if (child->reason)
        return;
    child->reason = reason;
    child->deadline = g_get_monotonic_time() + GRACE_US;
    kill(-child->pid, SIGTERM);
}

/* The deadline has come: of the whole run at first, then of the grace time. */
static void expire(Child *child)
{
    if (!child->reason) {
        stop(child, ETIMEDOUT);
        return;
    }
    child->deadline = G_MAXINT64;
    kill(-child->pid, SIGKILL);
}

static void keep_head_and_tail(GString *errors)
{
    if (errors->len > ERRORS_HEAD + 2 * ERRORS_TAIL)
        g_string_erase(errors, ERRORS_HEAD, (gssize)(errors->len - ERRORS_HEAD - ERRORS_TAIL));
}

/* Read what is there; at the end, close it. */
static void drain(Child *child, int *fd)
{
    char buffer[16384];
    while (*fd >= 0) {
        ssize_t n = read(*fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            close_fd(fd);
            return;
        }
        if (fd == &child->err) {
            g_string_append_len(child->result->errors, buffer, n);
            keep_head_and_tail(child->result->errors);
        } else if (child->spec->on_output) {
            child->spec->on_output(child->spec->on_output_user, buffer, (gsize)n);
        } else if (child->result->output->len + (gsize)n <= child->spec->output_bytes) {
            g_string_append_len(child->result->output, buffer, n);
        } else {
            stop(child, EOVERFLOW);
            return;
        }
    }
}

static int poll_timeout(const Child *child)
{
    if (child->deadline == G_MAXINT64)
        return -1;
    gint64 left = child->deadline - g_get_monotonic_time();
    return left <= 0 ? 0 : (int)MIN((left + 999) / 1000, G_MAXINT);
}

/* Feed and watch the child until it has ended (it is not reaped yet). */
static void watch(Child *child, int cancel_fd)
{
    for (;;) {
        struct pollfd fds[] = {
            {.fd = child->pidfd, .events = POLLIN},
            {.fd = child->reason == EOVERFLOW ? -1 : child->out, .events = POLLIN},
            {.fd = child->err, .events = POLLIN},
            {.fd = child->reason ? -1 : cancel_fd, .events = POLLIN},
        };
        int n = poll(fds, G_N_ELEMENTS(fds), poll_timeout(child));
        if (n < 0)
            continue; /* EINTR: a signal for another thread's matter */
        if (fds[1].revents)
            drain(child, &child->out);
        if (fds[2].revents)
            drain(child, &child->err);
        if (fds[0].revents)
            break;
        if (fds[3].revents)
            stop(child, EINTR);
        if (child->deadline <= g_get_monotonic_time())
            expire(child);
    }
    /* a grandchild may hold the pipes open for ever: take what is there, and end what is left of the group */
    if (!child->reason) {
        drain(child, &child->out);
        drain(child, &child->err);
    }
    kill(-child->pid, SIGKILL);
}

/* What became of it: *ret_status is its exit code. */
static gboolean reap(Child *child, const ProcessSpec *spec, int *ret_status, GError **error)
{
    int status = 0;
    while (waitpid(child->pid, &status, 0) < 0) {
        if (errno != EINTR) {
            snap_set_errno(error, errno, "%s: cannot learn how it ended", spec->what);
            return FALSE;
        }
    }
    if (child->reason == EOVERFLOW) {
        snap_set_error(error, EOVERFLOW, "%s: it printed more than %" G_GSIZE_FORMAT " bytes", spec->what,
                       spec->output_bytes);
    } else if (WIFEXITED(status) && (!child->reason || WEXITSTATUS(status) == 0)) {
        *ret_status = WEXITSTATUS(status);
        return TRUE;
    } else if (child->reason == ETIMEDOUT) {
        snap_set_error(error, ETIMEDOUT, "%s: not done after %u seconds", spec->what, spec->timeout_s);
    } else if (child->reason) {
        snap_set_error(error, child->reason, "%s: cancelled", spec->what);
    } else {
        snap_set_error(error, EIO, "%s: killed by signal %d", spec->what, WTERMSIG(status));
    }
    return FALSE;
}

gboolean process_run(const ProcessSpec *spec, GCancellable *cancel, ProcessResult **ret_result,
                     GError **error)
{
    if (g_cancellable_is_cancelled(cancel)) {
        snap_set_error(error, EINTR, "%s: cancelled", spec->what);
        return FALSE;
    }
    g_autoptr(ProcessResult) result = g_new0(ProcessResult, 1);
    result->output = g_string_new(NULL);
    result->errors = g_string_new(NULL);
    Child child = {.pidfd = -1, .out = -1, .err = -1, .spec = spec, .result = result};
    child.deadline = g_get_monotonic_time() + (gint64)spec->timeout_s * G_USEC_PER_SEC;
    gboolean ok = spawn(spec, &child, error);
    if (ok) {
        int cancel_fd = g_cancellable_get_fd(cancel); /* -1 without a cancellable */
        watch(&child, cancel_fd);
        if (cancel_fd >= 0)
            g_cancellable_release_fd(cancel);
        ok = reap(&child, spec, &result->status, error) && FAULT_POINT("process.ended", error);
    }
    close_fd(&child.pidfd);
    close_fd(&child.out);
    close_fd(&child.err);
    if (ok)
        *ret_result = g_steal_pointer(&result);
    return ok;
}

void process_result_free(ProcessResult *result)
{
    if (!result)
        return;
    g_string_free(result->output, TRUE);
    g_string_free(result->errors, TRUE);
    g_free(result);
}

gboolean process_identity_for(const char *path, ProcessIdentity *ret_identity, GError **error)
{
    g_autofree char *directory = g_path_get_dirname(path);
    struct stat st;
    if (stat(directory, &st) < 0) {
        snap_set_errno(error, errno, "cannot look at '%s'", directory);
        return FALSE;
    }
    *ret_identity =
        (ProcessIdentity){.set = geteuid() == 0 && st.st_uid != 0, .uid = st.st_uid, .gid = st.st_gid};
    return TRUE;
}

int process_errno_of(const char *message)
{
    static const struct {
        const char *words;
        int code;
    } table[] = {
        {" lock", EBUSY}, /* Failed to get shared "write" lock */
        {"No space left on device", ENOSPC},
        {"No space left in the file header", ENOSPC}, /* rebase: for that reason, or for the disk's room */
        {"Disk quota exceeded", EDQUOT},
        {"Permission denied", EACCES},
        {"Operation not permitted", EACCES},
        {"No such file or directory", ENOENT},
        {"Read-only file system", EROFS},
        {"Device or resource busy", EBUSY},
        {"Cannot allocate memory", ENOMEM},
        {"File too large", EFBIG},
        {"File name too long", ENAMETOOLONG},
        {"Operation not supported", EOPNOTSUPP},
        {"Not supported", EOPNOTSUPP},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
        g_autofree char *in_parentheses = g_strconcat(table[i].words, ")", NULL);
        if (g_str_has_suffix(message, table[i].words) || g_str_has_suffix(message, in_parentheses))
            return table[i].code;
    }
    return EIO;
}

gboolean process_complained(const char *program, const char *errors)
{
    g_auto(GStrv) lines = g_strsplit(errors, "\n", -1);
    g_autofree char *prefix = g_strconcat(program, ": ", NULL);
    g_autofree char *warning = g_strconcat(prefix, "warning: ", NULL);
    for (guint i = 0; lines[i]; i++)
        if (g_str_has_prefix(lines[i], prefix) && !g_str_has_prefix(lines[i], warning))
            return TRUE;
    return FALSE;
}

/* The last line that is a message of @program itself, else the last line with anything on it. */
static const char *last_message(char **lines, const char *program)
{
    g_autofree char *prefix = g_strconcat(program, ": ", NULL);
    g_autofree char *warning = g_strconcat(prefix, "warning: ", NULL);
    const char *any = NULL, *message = NULL;
    for (guint i = 0; lines[i]; i++) {
        if (lines[i][0] == '\0' || g_str_has_prefix(lines[i], warning))
            continue;
        any = lines[i];
        if (g_str_has_prefix(lines[i], prefix))
            message = lines[i] + strlen(prefix);
    }
    return message ? message : any;
}

void process_set_error(const char *what, const char *program, const char *errors, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(errors, "\n", -1);
    const char *message = last_message(lines, program);
    if (!message) {
        snap_set_error(error, EIO, "%s: failed without a word", what);
        return;
    }
    g_autofree char *readable = g_utf8_make_valid(message, -1);
    snap_set_error(error, process_errno_of(message), "%s: %s", what, readable);
}
