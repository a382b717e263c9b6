/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp_state.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "error.h"

#define BUSY_MS 1000 /* without a greeting: is another client there? */

/* The line for command number @id. Caller frees; NULL: it cannot be written. Takes @arguments over. */
static char *format_command(const char *command, json_t *arguments, guint64 id)
{
    g_autoptr(json_t) json =
        json_pack("{s:s, s:o, s:o}", "execute", command, "arguments", arguments, "id", qmp_message_id(id));
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    char *line = text ? g_strconcat(text, "\n", NULL) : NULL;
    free(text);
    return line;
}

/* With the lock: may this thread send @call now? One at a time. */
static gboolean take_turn(Qmp *qmp, const QmpCall *call, const QmpWait *wait, GError **error)
{
    while (qmp_still_there(qmp, call->what, error)) {
        if (!qmp->in_turn) {
            qmp->in_turn = TRUE;
            return TRUE;
        }
        if (!qmp_wait_more(qmp, wait, call->what, error))
            return FALSE;
    }
    return FALSE;
}

static void end_turn(Qmp *qmp)
{
    qmp->in_turn = FALSE;
    g_cond_broadcast(&qmp->change);
}

/* In turn and with the lock, which is let go while it is sent; the answer may come before this returns. */
static gboolean send_locked(Qmp *qmp, const QmpCall *call, const char *line, int pass, const QmpWait *wait,
                            GError **error)
{
    g_autoptr(GError) why = NULL;
    gsize sent = 0;
    g_mutex_unlock(&qmp->lock);
    gboolean ok = qmp_socket_send(qmp->fd, call->what, line, strlen(line), pass, wait, &sent, &why);
    g_mutex_lock(&qmp->lock);
    if (ok)
        return TRUE;
    if (why->code == ECONNRESET) { /* the reader, who may not have come to it yet, knows best */
        qmp_end_by_qemu(qmp);
        return qmp_still_there(qmp, call->what, error);
    }
    if (sent > 0) /* half a line: what follows would be taken for its end */
        qmp_end_locked(qmp, g_error_new(SNAP_ERROR, ECONNRESET, "a command was sent in part"));
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* With the lock. An answer that came before the end counts. */
static gboolean await_answer(Qmp *qmp, const QmpCall *call, const QmpWait *wait, GError **error)
{
    while (!call->done)
        if (!qmp_still_there(qmp, call->what, error) || !qmp_wait_more(qmp, wait, call->what, error))
            return FALSE;
    return TRUE;
}

/* With the lock. A descriptor has the connection to itself until it is answered for. */
static gboolean exchange(Qmp *qmp, QmpCall *call, guint64 id, const char *line, int pass, const QmpWait *wait,
                         GError **error)
{
    if (!take_turn(qmp, call, wait, error))
        return FALSE;
    g_hash_table_insert(qmp->calls, g_memdup2(&id, sizeof id), call);
    gboolean sent = send_locked(qmp, call, line, pass, wait, error);
    if (pass < 0)
        end_turn(qmp);
    gboolean ok = sent && await_answer(qmp, call, wait, error);
    if (sent && !ok) /* the answer may still come */
        g_hash_table_insert(qmp->calls, g_memdup2(&id, sizeof id), NULL);
    else if (!sent)
        g_hash_table_remove(qmp->calls, &id);
    if (pass >= 0 && sent && !ok)
        qmp_end_locked(qmp,
                       g_error_new(SNAP_ERROR, ECONNRESET, "it is not known whether QEMU has a descriptor"));
    if (pass >= 0)
        end_turn(qmp);
    return ok;
}

static json_t *run(Qmp *qmp, const char *command, json_t *arguments, int pass, const QmpWait *wait,
                   GError **error)
{
    g_autofree char *what = g_strconcat("QEMU ", command, NULL);
    QmpCall call = {.what = what};
    g_mutex_lock(&qmp->lock);
    guint64 id = ++qmp->last_id;
    g_mutex_unlock(&qmp->lock);
    g_autofree char *line = format_command(command, arguments, id);
    if (!line) {
        snap_set_error(error, EINVAL, "%s: its arguments are not UTF-8", what);
        return NULL;
    }
    gulong handler = qmp_wait_begin(qmp, wait);
    g_mutex_lock(&qmp->lock);
    gboolean ok = exchange(qmp, &call, id, line, pass, wait, error);
    g_mutex_unlock(&qmp->lock);
    qmp_wait_end(wait, handler);
    if (ok && call.error)
        g_propagate_error(error, g_steal_pointer(&call.error));
    if (ok)
        return call.answer;
    json_decref(call.answer); /* of somebody who answers before he has read to the end */
    g_clear_error(&call.error);
    return NULL;
}

json_t *qmp_run(Qmp *qmp, const char *command, json_t *arguments, const QmpWait *wait, GError **error)
{
    return run(qmp, command, arguments, -1, wait, error);
}

gboolean qmp_do(Qmp *qmp, const char *command, json_t *arguments, const QmpWait *wait, GError **error)
{
    g_autoptr(json_t) answer = run(qmp, command, arguments, -1, wait, error);
    return answer != NULL;
}

gboolean qmp_getfd(Qmp *qmp, const char *name, int fd, const QmpWait *wait, GError **error)
{
    g_autoptr(json_t) answer = run(qmp, "getfd", json_pack("{s:s}", "fdname", name), fd, wait, error);
    return answer != NULL;
}

gboolean qmp_add_fd(Qmp *qmp, int fd, gint64 *ret_set, const QmpWait *wait, GError **error)
{
    g_autoptr(json_t) answer = run(qmp, "add-fd", json_object(), fd, wait, error);
    const json_t *set = json_object_get(answer, "fdset-id");
    if (answer && !json_is_integer(set))
        snap_set_error(error, EPROTO, "QEMU add-fd: its answer has no number");
    if (!json_is_integer(set))
        return FALSE;
    *ret_set = json_integer_value(set);
    return TRUE;
}

static gboolean wait_event_locked(Qmp *qmp, guint64 *seen, guint ms, const QmpWait *wait, GError **error)
{
    static const char *const what = "waiting for QEMU";
    QmpWait part = {g_get_monotonic_time() + (gint64)ms * 1000, wait->cancel};
    while (qmp_still_there(qmp, what, error)) {
        if (*seen != qmp->n_events || part.until <= g_get_monotonic_time()) {
            *seen = qmp->n_events;
            return qmp_wait_check(wait, what, error);
        }
        if (!qmp_wait_more(qmp, part.until < wait->until ? &part : wait, what, error))
            return FALSE;
    }
    return FALSE;
}

gboolean qmp_wait_event(Qmp *qmp, guint64 *seen, guint ms, const QmpWait *wait, GError **error)
{
    gulong handler = qmp_wait_begin(qmp, wait);
    g_mutex_lock(&qmp->lock);
    gboolean ok = wait_event_locked(qmp, seen, ms, wait, error);
    g_mutex_unlock(&qmp->lock);
    qmp_wait_end(wait, handler);
    return ok;
}

static Qmp *qmp_new(int fd, const char *path, const QmpListener *listener)
{
    Qmp *qmp = g_new0(Qmp, 1);
    qmp->fd = fd;
    qmp->path = g_strdup(path);
    qmp->feed = qmp_feed_new(QMP_LINE_BYTES);
    qmp->calls = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    if (listener)
        qmp->listener = *listener;
    g_mutex_init(&qmp->lock);
    g_cond_init(&qmp->change);
    qmp->reader = g_thread_new("qmp", qmp_read_all, qmp);
    return qmp;
}

/* With the lock, until @wait has run out. */
static gboolean await_greeting_locked(Qmp *qmp, const char *what, const QmpWait *wait, GError **error)
{
    while (!qmp->greeted)
        if (!qmp_still_there(qmp, what, error) || !qmp_wait_more(qmp, wait, what, error))
            return FALSE;
    return TRUE;
}

/* Who has another client in front of him is told so soon; a QEMU that is only slow has all the time. */
static gboolean await_greeting(Qmp *qmp, const char *what, const QmpWait *wait, GError **error)
{
    for (;;) {
        QmpWait part = qmp_wait_part(wait, BUSY_MS);
        g_autoptr(GError) why = NULL;
        gulong handler = qmp_wait_begin(qmp, wait);
        g_mutex_lock(&qmp->lock);
        gboolean greeted = await_greeting_locked(qmp, what, &part, &why);
        g_mutex_unlock(&qmp->lock);
        qmp_wait_end(wait, handler);
        if (greeted)
            return TRUE;
        gboolean late = why->code == ETIMEDOUT;
        if (late && qmp_socket_is_taken(qmp->fd, qmp->path))
            snap_set_error(error, EBUSY, "%s: another monitor client is connected", what);
        else if (late && part.until < wait->until)
            continue;
        else
            g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
}

/* From now on the listener is told of the end. */
static gboolean declare_open(Qmp *qmp, const char *what, GError **error)
{
    g_mutex_lock(&qmp->lock);
    qmp->open = qmp_still_there(qmp, what, error);
    gboolean open = qmp->open;
    g_mutex_unlock(&qmp->lock);
    return open;
}

Qmp *qmp_connect(const char *path, const QmpListener *listener, const QmpWait *wait, GError **error)
{
    int fd = qmp_socket_connect(path, wait, error);
    if (fd < 0)
        return NULL;
    g_autoptr(Qmp) qmp = qmp_new(fd, path, listener);
    g_autofree char *what = g_strdup_printf("QMP socket '%s'", path);
    if (!await_greeting(qmp, what, wait, error) ||
        !qmp_do(qmp, "qmp_capabilities", json_object(), wait, error) || !declare_open(qmp, what, error))
        return NULL;
    return g_steal_pointer(&qmp);
}

void qmp_close(Qmp *qmp)
{
    if (!qmp)
        return;
    g_mutex_lock(&qmp->lock);
    qmp->open = FALSE;
    qmp_end_locked(qmp, g_error_new(SNAP_ERROR, ECONNRESET, "closed by us"));
    g_mutex_unlock(&qmp->lock);
    g_thread_join(qmp->reader);
    close(qmp->fd);
    g_mutex_clear(&qmp->lock);
    g_cond_clear(&qmp->change);
    g_hash_table_unref(qmp->calls);
    qmp_feed_free(qmp->feed);
    g_clear_error(&qmp->end);
    g_free(qmp->shutdown);
    g_free(qmp->path);
    g_free(qmp);
}

guint qmp_version(const Qmp *qmp)
{
    return qmp->version;
}

pid_t qmp_pid(const Qmp *qmp)
{
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    return getsockopt(qmp->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 ? peer.pid : 0;
}
