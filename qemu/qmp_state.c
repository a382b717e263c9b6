/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp_state.h"

#include <errno.h>
#include <sys/socket.h>

#include "error.h"

static void wake(GCancellable *cancel, gpointer data)
{
    Qmp *qmp = data;
    g_mutex_lock(&qmp->lock);
    g_cond_broadcast(&qmp->change);
    g_mutex_unlock(&qmp->lock);
}

gulong qmp_wait_begin(Qmp *qmp, const QmpWait *wait)
{
    return wait->cancel ? g_cancellable_connect(wait->cancel, G_CALLBACK(wake), qmp, NULL) : 0;
}

void qmp_wait_end(const QmpWait *wait, gulong handler)
{
    if (wait->cancel)
        g_cancellable_disconnect(wait->cancel, handler);
}

gboolean qmp_wait_more(Qmp *qmp, const QmpWait *wait, const char *what, GError **error)
{
    if (!qmp_wait_check(wait, what, error))
        return FALSE;
    if (wait->until == G_MAXINT64)
        g_cond_wait(&qmp->change, &qmp->lock);
    else
        g_cond_wait_until(&qmp->change, &qmp->lock, wait->until);
    return TRUE;
}

void qmp_end_locked(Qmp *qmp, GError *why)
{
    if (qmp->end)
        g_error_free(why);
    else
        qmp->end = why;
    shutdown(qmp->fd, SHUT_RDWR); /* the reader wakes up */
    g_cond_broadcast(&qmp->change);
}

void qmp_end_by_qemu(Qmp *qmp)
{
    GError *why = NULL;
    snap_set_error(&why, ECONNRESET, "QEMU has ended, or closed its monitor '%s'%s%s", qmp->path,
                   qmp->shutdown ? ": " : "", qmp->shutdown ? qmp->shutdown : "");
    qmp_end_locked(qmp, why);
}

gboolean qmp_still_there(Qmp *qmp, const char *what, GError **error)
{
    if (qmp->end)
        snap_set_error(error, qmp->end->code, "%s: %s", what, qmp->end->message);
    else if (qmp->reading == g_thread_self())
        snap_set_error(error, EDEADLK, "%s: a listener cannot wait", what);
    else
        return TRUE;
    return FALSE;
}
