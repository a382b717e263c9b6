/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The end of a QEMU: told to, waited for, at last by force. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "error.h"
#include "lockprobe.h"
#include "machine_parts.h"
#include "qmp_online.h"

#define QUIT_MS 10000
#define KILL_MS 10000
#define LOOK_MS 20

/*
 * A descriptor of the process that listens, if it is QEMU itself: then it writes the disks. (Not always the NVRAM: one that
 * has not run since its memory was saved has that open read-only.) Else (libvirt makes the socket for its QEMUs) it is no
 * business of ours: -1.
 */
static int open_process(const Running *running)
{
    g_autofree const char **disks = running_images(running);
    if (running->nvram)
        disks[g_strv_length((char **)disks) - 1] = NULL;
    pid_t pid = qmp_pid(running->qmp);
    int process = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (process >= 0 && !qmp_process_writes(pid, disks)) {
        close(process);
        return -1;
    }
    return process;
}

static gboolean await_process(int process, const QmpWait *wait, GError **error)
{
    struct pollfd end = {.fd = process, .events = POLLIN};
    while (poll(&end, 1, LOOK_MS) <= 0)
        if (!qmp_wait_check(wait, "waiting for its end", error))
            return FALSE;
    return TRUE;
}

static gboolean await_connection(Qmp *qmp, const QmpWait *wait, GError **error)
{
    g_autoptr(GError) why = NULL;
    guint64 seen = 0;
    while (qmp_wait_event(qmp, &seen, 1000, wait, &why))
        ;
    if (why->code != EINTR && why->code != ETIMEDOUT)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* Nobody writes them any more. One that was removed is nobody's. */
static gboolean await_images(const char *const *images, const QmpWait *wait, GError **error)
{
    for (guint i = 0; images[i]; i++) {
        ImageUse use = USE_NONE;
        while (lockprobe_in_use(images[i], &use, NULL) && use == USE_WRITER) {
            if (qmp_wait_check(wait, "waiting for its end", NULL)) {
                g_usleep(LOOK_MS * 1000);
                continue;
            }
            gboolean cancelled = g_cancellable_is_cancelled(wait->cancel);
            snap_set_error(error, cancelled ? EINTR : EBUSY, "QEMU has ended, but '%s' is still written",
                           images[i]);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean await_end(Qmp *qmp, int process, const QmpWait *wait, GError **error)
{
    return process >= 0 ? await_process(process, wait, error) : await_connection(qmp, wait, error);
}

static gboolean end_process(Running *running, int process, const QmpWait *wait, GError **error)
{
    g_autoptr(GError) why = NULL;
    /* Its answer may get lost with it; what counts is its end. */
    (void)qmp_do(running->qmp, "quit", json_object(), wait, NULL);
    if (await_end(running->qmp, process, wait, &why))
        return TRUE;
    if (why->code == ETIMEDOUT && process >= 0 &&
        syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0) == 0) {
        QmpWait more = qmp_wait(KILL_MS, wait->cancel);
        return await_process(process, &more, error);
    }
    g_propagate_prefixed_error(error, g_steal_pointer(&why), "QEMU was told to quit: ");
    return FALSE;
}

gboolean running_destroy(Machine *machine, GCancellable *cancel, GError **error)
{
    Running *running = (Running *)machine;
    QmpWait wait = qmp_wait(QUIT_MS, cancel);
    g_autofree const char **images = running_images(running);
    int process = open_process(running);
    gboolean ok = end_process(running, process, &wait, error);
    if (process >= 0)
        close(process);
    QmpWait release = qmp_wait(KILL_MS, cancel);
    return ok && await_images(images, &release, error);
}
