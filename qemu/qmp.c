/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "error.h"
#include "qmp_error.h"

/* A command that somebody waits for. On its thread's stack; filled in by the reader under the lock. */
typedef struct {
    const char *what;
    gboolean done;
    json_t *answer;
    GError *error;
} Call;

struct Qmp {
    int fd;
    char *path;
    GThread *reader;
    QmpListener listener; /* of the reader's thread */
    QmpFeed *feed;        /* of the reader's thread */

    GMutex lock;      /* all below */
    GThread *reading; /* the reader's own word on who it is */
    GCond change;     /* of anything below, and somebody's cancellation */
    gboolean greeted;
    gboolean open;    /* qmp_connect() has succeeded, qmp_close() has not begun */
    gboolean in_turn; /* somebody is sending: lines are not to be mixed */
    guint64 last_id;
    GHashTable *calls; /* guint64 * (its own) to Call *, NULL: nobody waits for the answer any more */
    guint64 n_events;  /* seen */
    char *shutdown;    /* what the SHUTDOWN event gave as the reason */
    GError *end;       /* why it has ended; never changes then */
    guint version;
};

/* --- waiting ----------------------------------------------------------------------------------------------------- */

static void wake(GCancellable *cancel, gpointer data)
{
    Qmp *qmp = data;
    g_mutex_lock(&qmp->lock);
    g_cond_broadcast(&qmp->change);
    g_mutex_unlock(&qmp->lock);
}

/* Around all waiting, without the lock: a cancellation wakes us. */
static gulong wait_begin(Qmp *qmp, const QmpWait *wait)
{
    return wait->cancel ? g_cancellable_connect(wait->cancel, G_CALLBACK(wake), qmp, NULL) : 0;
}

static void wait_end(const QmpWait *wait, gulong handler)
{
    if (wait->cancel)
        g_cancellable_disconnect(wait->cancel, handler);
}

/* With the lock: until something has changed. FALSE: time is over, or it is cancelled. */
static gboolean wait_more(Qmp *qmp, const QmpWait *wait, const char *what, GError **error)
{
    if (!qmp_wait_check(wait, what, error))
        return FALSE;
    if (wait->until == G_MAXINT64)
        g_cond_wait(&qmp->change, &qmp->lock);
    else
        g_cond_wait_until(&qmp->change, &qmp->lock, wait->until);
    return TRUE;
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

/* With the lock. The first reason stays. */
static void end_locked(Qmp *qmp, GError *why)
{
    if (qmp->end)
        g_error_free(why);
    else
        qmp->end = why;
    shutdown(qmp->fd, SHUT_RDWR); /* the reader wakes up */
    g_cond_broadcast(&qmp->change);
}

/* With the lock: FALSE with the reason when it has ended. */
static gboolean still_there(Qmp *qmp, const char *what, GError **error)
{
    if (!qmp->end)
        return TRUE;
    snap_set_error(error, qmp->end->code, "%s: %s", what, qmp->end->message);
    return FALSE;
}

/* --- the reader -------------------------------------------------------------------------------------------------- */

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
    Call *call = found;
    if (call && message->kind == QMP_FAILURE)
        qmp_set_error(&call->error, call->what, message->name, message->text);
    else if (call)
        call->answer = g_steal_pointer(&message->data);
    if (call)
        call->done = TRUE;
    g_hash_table_remove(qmp->calls, &message->id);
    return TRUE;
}

static gboolean take_event(Qmp *qmp, const QmpMessage *message)
{
    const char *reason = json_string_value(json_object_get(message->data, "reason"));
    qmp->n_events++;
    if (strcmp(message->name, "SHUTDOWN") == 0 && reason) {
        g_free(qmp->shutdown);
        qmp->shutdown = g_strdup(reason);
    }
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

static gpointer read_all(gpointer data)
{
    Qmp *qmp = data;
    GError *why = NULL;
    g_mutex_lock(&qmp->lock);
    qmp->reading = g_thread_self();
    g_mutex_unlock(&qmp->lock);
    while (read_some(qmp, &why))
        ;
    g_mutex_lock(&qmp->lock);
    if (why)
        g_prefix_error(&why, "the monitor '%s': ", qmp->path);
    else
        snap_set_error(&why, ECONNRESET, "QEMU has ended, or closed its monitor '%s'%s%s", qmp->path,
                       qmp->shutdown ? ": " : "", qmp->shutdown ? qmp->shutdown : "");
    end_locked(qmp, why);
    gboolean told = qmp->open;
    g_mutex_unlock(&qmp->lock);
    if (told && qmp->listener.ended)
        qmp->listener.ended(qmp->listener.user, qmp->end);
    return NULL;
}

/* --- commands ---------------------------------------------------------------------------------------------------- */

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
static gboolean take_turn(Qmp *qmp, const Call *call, const QmpWait *wait, GError **error)
{
    if (qmp->reading == g_thread_self()) {
        snap_set_error(error, EDEADLK, "%s: a listener cannot wait", call->what);
        return FALSE;
    }
    while (still_there(qmp, call->what, error)) {
        if (!qmp->in_turn) {
            qmp->in_turn = TRUE;
            return TRUE;
        }
        if (!wait_more(qmp, wait, call->what, error))
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
static gboolean send_locked(Qmp *qmp, const char *line, gsize len, int pass, const QmpWait *wait,
                            GError **error)
{
    gsize sent = 0;
    g_mutex_unlock(&qmp->lock);
    gboolean ok = qmp_socket_send(qmp->fd, line, len, pass, wait, &sent, error);
    g_mutex_lock(&qmp->lock);
    if (!ok && sent > 0) /* half a line: what follows would be taken for its end */
        end_locked(qmp, g_error_new(SNAP_ERROR, ECONNRESET, "a command was sent in part"));
    return ok;
}

/* With the lock. An answer that came before the end counts. */
static gboolean await_answer(Qmp *qmp, const Call *call, const QmpWait *wait, GError **error)
{
    while (!call->done)
        if (!still_there(qmp, call->what, error) || !wait_more(qmp, wait, call->what, error))
            return FALSE;
    return TRUE;
}

/* With the lock. A descriptor has the connection to itself until it is answered for. */
static gboolean exchange(Qmp *qmp, Call *call, guint64 id, const char *line, int pass, const QmpWait *wait,
                         GError **error)
{
    if (!take_turn(qmp, call, wait, error))
        return FALSE;
    g_hash_table_insert(qmp->calls, g_memdup2(&id, sizeof id), call);
    gboolean sent = send_locked(qmp, line, strlen(line), pass, wait, error);
    if (pass < 0)
        end_turn(qmp);
    gboolean ok = sent && await_answer(qmp, call, wait, error);
    if (sent && !ok) /* the answer may still come */
        g_hash_table_insert(qmp->calls, g_memdup2(&id, sizeof id), NULL);
    else if (!sent)
        g_hash_table_remove(qmp->calls, &id);
    if (pass >= 0 && sent && !ok)
        end_locked(qmp, g_error_new(SNAP_ERROR, ECONNRESET, "it is not known whether QEMU has a descriptor"));
    if (pass >= 0)
        end_turn(qmp);
    return ok;
}

static json_t *run(Qmp *qmp, const char *command, json_t *arguments, int pass, const QmpWait *wait,
                   GError **error)
{
    g_autofree char *what = g_strconcat("QEMU ", command, NULL);
    Call call = {.what = what};
    g_mutex_lock(&qmp->lock);
    guint64 id = ++qmp->last_id;
    g_mutex_unlock(&qmp->lock);
    g_autofree char *line = format_command(command, arguments, id);
    if (!line) {
        snap_set_error(error, EINVAL, "%s: its arguments are not UTF-8", what);
        return NULL;
    }
    gulong handler = wait_begin(qmp, wait);
    g_mutex_lock(&qmp->lock);
    gboolean ok = exchange(qmp, &call, id, line, pass, wait, error);
    g_mutex_unlock(&qmp->lock);
    wait_end(wait, handler);
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

static gboolean wait_event_locked(Qmp *qmp, guint64 *seen, guint ms, const QmpWait *wait, GError **error)
{
    static const char *const what = "waiting for QEMU";
    QmpWait part = {g_get_monotonic_time() + (gint64)ms * 1000, wait->cancel};
    while (still_there(qmp, what, error)) {
        if (*seen != qmp->n_events || part.until <= g_get_monotonic_time()) {
            *seen = qmp->n_events;
            return qmp_wait_check(wait, what, error);
        }
        if (!wait_more(qmp, part.until < wait->until ? &part : wait, what, error))
            return FALSE;
    }
    return FALSE;
}

gboolean qmp_wait_event(Qmp *qmp, guint64 *seen, guint ms, const QmpWait *wait, GError **error)
{
    gulong handler = wait_begin(qmp, wait);
    g_mutex_lock(&qmp->lock);
    gboolean ok = wait_event_locked(qmp, seen, ms, wait, error);
    g_mutex_unlock(&qmp->lock);
    wait_end(wait, handler);
    return ok;
}

/* --- the beginning and our end ----------------------------------------------------------------------------------- */

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
    qmp->reader = g_thread_new("qmp", read_all, qmp);
    return qmp;
}

static gboolean await_greeting(Qmp *qmp, const char *what, const QmpWait *wait, GError **error)
{
    g_autoptr(GError) why = NULL;
    gulong handler = wait_begin(qmp, wait);
    g_mutex_lock(&qmp->lock);
    while (!qmp->greeted && still_there(qmp, what, &why) && wait_more(qmp, wait, what, &why))
        ;
    g_mutex_unlock(&qmp->lock);
    wait_end(wait, handler);
    if (!why)
        return TRUE;
    if (why->code == ETIMEDOUT && qmp_socket_is_taken(qmp->fd, qmp->path))
        snap_set_error(error, EBUSY, "%s: another monitor client is connected", what);
    else
        g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* From now on the listener is told of the end. */
static gboolean declare_open(Qmp *qmp, const char *what, GError **error)
{
    g_mutex_lock(&qmp->lock);
    qmp->open = still_there(qmp, what, error);
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
    end_locked(qmp, g_error_new(SNAP_ERROR, ECONNRESET, "closed by us"));
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
