/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The thread that reads: answers to those who wait for them, events to the listener, and the end to all. */
#include "qmp_state.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "error.h"
#include "qmp_error.h"

static guint version_of(const json_t *version)
{
    int major = 0, minor = 0, micro = 0;
    if (json_unpack((json_t *)version, "{s:{s:i, s:i, s:i}}", "qemu", "major", &major, "minor", &minor,
                    "micro", &micro) < 0)
        return 0;
    return (guint)(CLAMP(major, 0, 9999) * 10000 + CLAMP(minor, 0, 99) * 100 + CLAMP(micro, 0, 99));
}

static gboolean take_greeting(Qmp *qmp, const QmpMessage *message, GError **error)
{
    if (qmp->greeted) {
        snap_set_error(error, EPROTO, "QEMU greets a second time");
        return FALSE;
    }
    qmp->greeted = TRUE;
    qmp->version = version_of(message->data);
    return TRUE;
}

/* To the call that waits for it; to nobody when that has given up. */
static gboolean take_answer(Qmp *qmp, QmpMessage *message, GError **error)
{
    gpointer found = NULL;
    if (message->id == 0 && message->kind == QMP_FAILURE) {
        snap_set_error(error, EPROTO, "QEMU did not understand us: %s", message->text);
        return FALSE;
    }
    if (!g_hash_table_lookup_extended(qmp->calls, &message->id, NULL, &found)) {
        snap_set_error(error, EPROTO, "QEMU answers a command that was not sent");
        return FALSE;
    }
    QmpCall *call = found;
    if (call && message->kind == QMP_FAILURE)
        qmp_set_error(&call->error, call->what, message->name, message->text);
    else if (call)
        call->answer = g_steal_pointer(&message->data);
    if (call)
        call->done = TRUE;
    g_hash_table_remove(qmp->calls, &message->id);
    return TRUE;
}

/* SHUTDOWN says why QEMU will end, unless the machine goes on all the same (-no-shutdown). */
static gboolean take_event(Qmp *qmp, const QmpMessage *message)
{
    gboolean shutdown = strcmp(message->name, "SHUTDOWN") == 0;
    qmp->n_events++;
    if (shutdown || strcmp(message->name, "RESUME") == 0)
        g_clear_pointer(&qmp->shutdown, g_free);
    if (shutdown)
        qmp->shutdown = g_strdup(json_string_value(json_object_get(message->data, "reason")));
    return TRUE;
}

static gboolean take_locked(Qmp *qmp, QmpMessage *message, GError **error)
{
    if (message->kind == QMP_GREETING)
        return take_greeting(qmp, message, error);
    if (!qmp->greeted) {
        snap_set_error(error, EPROTO, "it does not begin with QMP's greeting");
        return FALSE;
    }
    return message->kind == QMP_EVENT ? take_event(qmp, message) : take_answer(qmp, message, error);
}

static gboolean take_message(Qmp *qmp, QmpMessage *message, GError **error)
{
    g_mutex_lock(&qmp->lock);
    gboolean good = take_locked(qmp, message, error);
    g_cond_broadcast(&qmp->change);
    g_mutex_unlock(&qmp->lock);
    if (good && message->kind == QMP_EVENT && qmp->listener.event)
        qmp->listener.event(qmp->listener.user, message->name, message->data, message->usec);
    return good;
}

/* Some bytes, and the messages that they complete. FALSE without an error: QEMU has closed the connection. */
static gboolean read_some(Qmp *qmp, GError **error)
{
    char buffer[16384];
    struct pollfd fds = {.fd = qmp->fd, .events = POLLIN};
    (void)poll(&fds, 1, -1);
    ssize_t n = recv(qmp->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return TRUE;
    if (n <= 0)
        return FALSE;
    qmp_feed_add(qmp->feed, buffer, (gsize)n);
    for (;;) {
        g_autoptr(QmpMessage) message = NULL;
        if (!qmp_feed_next(qmp->feed, &message, error))
            return FALSE;
        if (!message)
            return TRUE;
        if (!take_message(qmp, message, error))
            return FALSE;
    }
}

gpointer qmp_read_all(gpointer data)
{
    Qmp *qmp = data;
    GError *why = NULL;
    g_mutex_lock(&qmp->lock);
    qmp->reading = g_thread_self();
    g_mutex_unlock(&qmp->lock);
    while (read_some(qmp, &why))
        ;
    g_mutex_lock(&qmp->lock);
    if (why) {
        g_prefix_error(&why, "the monitor '%s': ", qmp->path);
        qmp_end_locked(qmp, why);
    } else {
        qmp_end_by_qemu(qmp);
    }
    gboolean told = qmp->open;
    g_mutex_unlock(&qmp->lock);
    if (told && qmp->listener.ended)
        qmp->listener.ended(qmp->listener.user, qmp->end);
    return NULL;
}
