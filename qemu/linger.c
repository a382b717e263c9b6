/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "linger.h"

#include <unistd.h>

typedef struct {
    int fd;
    gint64 until; /* monotonic, microseconds */
} Closing;

struct Linger {
    GMutex lock;
    GCond changed;
    gint64 time;      /* microseconds */
    GArray *closings; /* of Closing, the next first */
    GThread *thread;  /* NULL: none was needed yet */
    gboolean at_work; /* the thread has not ended */
    gboolean stopping;
};

Linger *linger_new(guint seconds)
{
    Linger *linger = g_new0(Linger, 1);
    g_mutex_init(&linger->lock);
    g_cond_init(&linger->changed);
    linger->time = seconds * G_USEC_PER_SEC;
    linger->closings = g_array_new(FALSE, FALSE, sizeof(Closing));
    return linger;
}

static gpointer close_when_due(gpointer data)
{
    Linger *linger = data;
    g_mutex_lock(&linger->lock);
    while (linger->closings->len > 0) {
        Closing next = g_array_index(linger->closings, Closing, 0);
        if (linger->stopping || next.until <= g_get_monotonic_time()) {
            close(next.fd);
            g_array_remove_index(linger->closings, 0);
        } else {
            g_cond_wait_until(&linger->changed, &linger->lock, next.until);
        }
    }
    linger->at_work = FALSE;
    g_mutex_unlock(&linger->lock);
    return NULL;
}

void linger_add(Linger *linger, int fd)
{
    Closing closing = {fd, g_get_monotonic_time() + linger->time};
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&linger->lock);
    g_array_append_val(linger->closings, closing);
    if (linger->at_work)
        return;
    if (linger->thread)
        g_thread_join(linger->thread); /* it has nothing more to do */
    linger->at_work = TRUE;
    linger->thread = g_thread_new("linger", close_when_due, linger);
}

void linger_free(Linger *linger)
{
    g_mutex_lock(&linger->lock);
    linger->stopping = TRUE;
    g_cond_broadcast(&linger->changed);
    g_mutex_unlock(&linger->lock);
    if (linger->thread)
        g_thread_join(linger->thread);
    g_array_unref(linger->closings);
    g_cond_clear(&linger->changed);
    g_mutex_clear(&linger->lock);
    g_free(linger);
}
