/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nbdkeeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "error.h"
#include "qemuimg_run.h"
#include "qemunbd.h"

#define GRACE (3 * G_USEC_PER_SEC)      /* for one that should end by itself; then it is killed */
#define LAST_WORDS (5 * G_USEC_PER_SEC) /* for one that was killed to be gone */

/* Somebody waits for a process to be started: in the keeper's thread, since it dies with the one that starts it. */
typedef struct {
    QemuNbd *server;
    const NbdServing *serving;
    gboolean done;
    GError *error;
} Start;

struct NbdKeeper {
    gint references;
    char *program;
    gint64 idle, patience; /* microseconds */
    int wake;              /* eventfd: there is something new */
    GMutex lock;
    GCond changed;
    GThread *thread;  /* NULL: none was needed yet */
    gboolean at_work; /* the thread has not ended */
    gboolean stopping;
    GQueue starts;      /* of Start */
    GPtrArray *servers; /* of QemuNbd, until their processes are gone */
};

NbdKeeper *nbdkeeper_new(const char *qemu_nbd, guint idle_ms, guint patience_ms)
{
    NbdKeeper *keeper = g_new0(NbdKeeper, 1);
    keeper->references = 1;
    keeper->program = g_strdup(qemu_nbd ? qemu_nbd : "qemu-nbd");
    keeper->idle = (gint64)idle_ms * 1000;
    keeper->patience = (gint64)patience_ms * 1000;
    keeper->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    keeper->servers = g_ptr_array_new_with_free_func((GDestroyNotify)qemunbd_unref);
    g_mutex_init(&keeper->lock);
    g_cond_init(&keeper->changed);
    return keeper;
}

NbdKeeper *nbdkeeper_ref(NbdKeeper *keeper)
{
    g_atomic_int_inc(&keeper->references);
    return keeper;
}

/* Tell the thread that something changed. */
static void wake(NbdKeeper *keeper)
{
    const guint64 one = 1;
    ssize_t ignored = write(keeper->wake, &one, sizeof one);
    (void)ignored; /* it can only be full: then the thread is woken anyway */
}

/* --- the thread; all of it under the lock, but for the waiting --- */

static void end_server(QemuNbd *server, gboolean failed)
{
    if (server->phase < SERVER_ENDING) {
        server->phase = SERVER_ENDING;
        server->deadline = g_get_monotonic_time() + GRACE;
    }
    server->failed |= failed;
}

static void start_waiting(NbdKeeper *keeper)
{
    for (Start *start = g_queue_pop_head(&keeper->starts); start; start = g_queue_pop_head(&keeper->starts)) {
        if (keeper->stopping)
            snap_set_error(&start->error, EIO, "qemu-nbd: not started, since all are being ended");
        else if (qemunbd_spawn(start->server, keeper->program, start->serving, &start->error))
            g_ptr_array_add(keeper->servers, start->server);
        start->done = TRUE;
        g_cond_broadcast(&keeper->changed);
    }
}

/* Is its process gone? */
static gboolean reap(QemuNbd *server)
{
    struct pollfd ended = {.fd = server->child.pidfd, .events = POLLIN};
    qemunbd_listen(server);
    if (poll(&ended, 1, 0) <= 0 || waitpid(server->child.pid, NULL, WNOHANG) == 0)
        return FALSE;
    qemunbd_listen(server);
    server->phase = SERVER_GONE;
    return TRUE;
}

/* See to one server. When it has to be seen to again. */
static gint64 tend(NbdKeeper *keeper, QemuNbd *server, gint64 now)
{
    gboolean idle =
        server->phase == SERVER_SERVING && server->n_used == 0 && now - server->last_use >= keeper->idle;
    if (idle || keeper->stopping)
        end_server(server, FALSE);
    if (server->phase == SERVER_STARTING)
        return G_MAXINT64; /* who connects to it will say so */
    if (server->phase == SERVER_SERVING)
        return (server->n_used ? now : server->last_use) + keeper->idle;
    if (server->failed || now >= server->deadline) {
        kill(-server->child.pid, SIGKILL); /* not reaped yet: the number is still its own */
        return G_MAXINT64;
    }
    if (server->n_used == 0 && !server->left)
        qemunbd_leave(server);
    return server->deadline;
}

static gint64 tend_all(NbdKeeper *keeper)
{
    gint64 now = g_get_monotonic_time(), next = G_MAXINT64;
    for (guint i = keeper->servers->len; i > 0; i--) {
        QemuNbd *server = keeper->servers->pdata[i - 1];
        if (reap(server)) {
            g_ptr_array_remove_index(keeper->servers, i - 1);
            g_cond_broadcast(&keeper->changed);
        } else {
            next = MIN(next, tend(keeper, server, now));
        }
    }
    return next;
}

/* Until something happens, or @next. */
static void wait_for_news(NbdKeeper *keeper, gint64 next)
{
    guint64 ignored;
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(struct pollfd));
    struct pollfd fd = {.fd = keeper->wake, .events = POLLIN};
    g_array_append_val(fds, fd);
    for (guint i = 0; i < keeper->servers->len; i++) {
        const QemuNbd *server = keeper->servers->pdata[i];
        fd.fd = server->child.pidfd;
        g_array_append_val(fds, fd);
        fd.fd = server->child.errors;
        g_array_append_val(fds, fd);
    }
    gint64 left = next == G_MAXINT64 ? -1000 : MAX(0, next - g_get_monotonic_time());
    g_mutex_unlock(&keeper->lock);
    (void)poll((struct pollfd *)fds->data, fds->len, (int)MIN((left + 999) / 1000, G_MAXINT));
    while (read(keeper->wake, &ignored, sizeof ignored) > 0)
        ;
    g_mutex_lock(&keeper->lock);
}

static gpointer keep(gpointer data)
{
    NbdKeeper *keeper = data;
    g_mutex_lock(&keeper->lock);
    for (;;) {
        start_waiting(keeper);
        gint64 next = tend_all(keeper);
        if (keeper->servers->len == 0 && g_queue_is_empty(&keeper->starts))
            break;
        wait_for_news(keeper, next);
    }
    keeper->at_work = FALSE;
    g_mutex_unlock(&keeper->lock);
    return NULL;
}

/* Under the lock. */
static void need_thread(NbdKeeper *keeper)
{
    wake(keeper);
    if (keeper->at_work)
        return;
    if (keeper->thread)
        g_thread_join(keeper->thread); /* it has nothing more to do */
    keeper->at_work = TRUE;
    keeper->thread = g_thread_new("qemu-nbd", keep, keeper);
}

/* --- what others call --- */

void nbdkeeper_unref(NbdKeeper *keeper)
{
    if (!keeper || !g_atomic_int_dec_and_test(&keeper->references))
        return;
    g_mutex_lock(&keeper->lock);
    keeper->stopping = TRUE;
    wake(keeper);
    g_mutex_unlock(&keeper->lock);
    if (keeper->thread)
        g_thread_join(keeper->thread);
    g_ptr_array_unref(keeper->servers);
    close(keeper->wake);
    g_cond_clear(&keeper->changed);
    g_mutex_clear(&keeper->lock);
    g_free(keeper->program);
    g_free(keeper);
}

static gboolean spawn(NbdKeeper *keeper, QemuNbd *server, const NbdServing *serving, GError **error)
{
    Start start = {.server = server, .serving = serving};
    g_atomic_int_inc(&server->references); /* the keeper's, for its list */
    g_mutex_lock(&keeper->lock);
    g_queue_push_tail(&keeper->starts, &start);
    need_thread(keeper);
    while (!start.done)
        g_cond_wait(&keeper->changed, &keeper->lock);
    g_mutex_unlock(&keeper->lock);
    if (!start.error)
        return TRUE;
    qemunbd_unref(server);
    g_propagate_error(error, start.error);
    return FALSE;
}

/* What @server said, with the images called as a person calls them. */
static char *readable(const QemuNbd *server, const NbdServing *serving)
{
    char *text = qemuimg_replace(server->errors->str, serving->image, serving->name);
    for (guint i = 0; i < serving->n_fds; i++) {
        g_autofree char *name = g_strdup_printf("/proc/self/fd/%u'", NBDKEEPER_FIRST_FD + i);
        g_autofree char *path = g_strconcat(serving->paths[i], "'", NULL);
        g_autofree char *before = text;
        text = qemuimg_replace(before, name, path);
    }
    return text;
}

/* It could not be connected to: end it. If it said something before it ended, that is why, and not @why. */
static void give_up(NbdKeeper *keeper, QemuNbd *server, const NbdServing *serving, GError *why,
                    GError **error)
{
    gint64 deadline = g_get_monotonic_time() + LAST_WORDS;
    g_mutex_lock(&keeper->lock);
    end_server(server, TRUE);
    wake(keeper);
    while (server->phase != SERVER_GONE && g_cond_wait_until(&keeper->changed, &keeper->lock, deadline))
        ;
    if (process_complained("qemu-nbd", server->errors->str)) {
        g_autofree char *said = readable(server, serving);
        process_set_error("qemu-nbd", "qemu-nbd", said, error);
        g_clear_error(&why);
    } else {
        g_propagate_prefixed_error(error, why, "qemu-nbd: ");
    }
    g_mutex_unlock(&keeper->lock);
}

QemuNbd *nbdkeeper_start(NbdKeeper *keeper, const NbdServing *serving, GError **error)
{
    GError *why = NULL;
    g_autoptr(QemuNbd) server = qemunbd_new(serving->name, keeper->patience, error);
    if (!server || !spawn(keeper, server, serving, error))
        return NULL;
    if (!qemunbd_connect(server, &why)) {
        give_up(keeper, server, serving, why, error);
        return NULL;
    }
    g_mutex_lock(&keeper->lock);
    if (server->phase == SERVER_STARTING)
        server->phase = SERVER_SERVING;
    server->last_use = g_get_monotonic_time();
    wake(keeper);
    g_mutex_unlock(&keeper->lock);
    return g_steal_pointer(&server);
}

void nbdkeeper_end(NbdKeeper *keeper, QemuNbd *server)
{
    g_mutex_lock(&keeper->lock);
    end_server(server, FALSE);
    wake(keeper);
    g_mutex_unlock(&keeper->lock);
    qemunbd_unref(server);
}

NbdLink *nbdkeeper_take(NbdKeeper *keeper, QemuNbd *server)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&keeper->lock);
    gint64 deadline = g_get_monotonic_time() + keeper->patience;
    while (server->phase == SERVER_SERVING && server->n_free == 0)
        if (!g_cond_wait_until(&keeper->changed, &keeper->lock, deadline))
            return NULL;
    if (server->phase != SERVER_SERVING)
        return NULL;
    server->n_used++;
    g_atomic_int_inc(&server->references);
    return server->free[--server->n_free];
}

void nbdkeeper_give(NbdKeeper *keeper, QemuNbd *server, NbdLink *link)
{
    g_mutex_lock(&keeper->lock);
    server->free[server->n_free++] = link;
    server->n_used--;
    server->last_use = g_get_monotonic_time();
    if (link->lost)
        end_server(server, TRUE);
    if (server->phase != SERVER_SERVING)
        wake(keeper);
    g_cond_broadcast(&keeper->changed);
    g_mutex_unlock(&keeper->lock);
    qemunbd_unref(server);
}
