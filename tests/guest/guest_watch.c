/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "guest_look.h"
#include "guest_watch.h"

#define PAUSE_US 100

struct GuestWatch {
    Guest *guest;
    pid_t pid;
    guint64 address; /* of the counter, in that process */
    gsize seen;      /* events that had come before */
    GThread *thread;
    int enough;  /* atomic */
    int failure; /* the errno of a look that failed; of the thread until it has ended, as all that follows */
    guint32 begin, now;
    gint64 begun, longest;
};

static gboolean look(const GuestWatch *watch, guint32 *ret_counter)
{
    guint32 word = 0;
    struct iovec here = {.iov_base = &word, .iov_len = sizeof word};
    struct iovec there = {.iov_base = (void *)(guintptr)watch->address, .iov_len = sizeof word}; /* NOLINT */
    if (process_vm_readv(watch->pid, &here, 1, &there, 1, 0) != (ssize_t)sizeof word)
        return FALSE;
    *ret_counter = GUINT32_FROM_LE(word);
    return TRUE;
}

static gpointer watch_thread(gpointer user_data)
{
    GuestWatch *watch = user_data;
    gint64 changed = watch->begun;
    gboolean last = FALSE;
    do {
        guint32 counter;
        last = g_atomic_int_get(&watch->enough) != 0; /* one look more: what rests until the end counts */
        if (!look(watch, &counter)) {
            watch->failure = errno;
            break;
        }
        gint64 now = g_get_monotonic_time();
        watch->longest = MAX(watch->longest, now - changed);
        if (counter != watch->now)
            changed = now;
        watch->now = counter;
        g_usleep(PAUSE_US);
    } while (!last);
    return NULL;
}

/* Where QEMU's process has the guest's counter; that it can be read there is tried. */
static gboolean find_counter(GuestWatch *watch, GError **error)
{
    if (!guest_look_address(watch->guest, GUEST_RAM + GUEST_WORD * GUEST_RAM_COUNTER, &watch->address, error))
        return FALSE;
    if (look(watch, &watch->begin))
        return TRUE;
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), "cannot read the memory of QEMU: %s",
                g_strerror(errno));
    return FALSE;
}

GuestWatch *guest_watch_begin(Guest *guest, GError **error)
{
    GuestWatch *watch = g_new0(GuestWatch, 1);
    watch->guest = guest;
    watch->pid = guest->pid;
    if (!find_counter(watch, error)) {
        g_free(watch);
        return NULL;
    }
    watch->seen = json_array_size(guest->monitor->events);
    watch->now = watch->begin;
    watch->begun = g_get_monotonic_time();
    watch->thread = g_thread_new("watch", watch_thread, watch);
    return watch;
}

static void add_events(const GuestWatch *watch, GuestStill *still)
{
    gsize i;
    gint64 since = 0;
    json_t *event;
    json_array_foreach (watch->guest->monitor->events, i, event) {
        const char *name = json_string_value(json_object_get(event, "event"));
        if (i >= watch->seen && g_strcmp0(name, "STOP") == 0) {
            since = guest_monitor_time(event);
            still->stops++;
        } else if (since && g_strcmp0(name, "RESUME") == 0) {
            still->stopped_us += guest_monitor_time(event) - since;
            since = 0;
        }
    }
}

gboolean guest_watch_end(GuestWatch *watch, GuestStill *ret_still, GError **error)
{
    g_atomic_int_set(&watch->enough, 1);
    g_thread_join(watch->thread);
    GuestStill still = {.longest_us = watch->longest,
                        .steps = watch->now - watch->begin,
                        .watched_us = g_get_monotonic_time() - watch->begun};
    gboolean ok = watch->failure == 0;
    if (!ok)
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(watch->failure), "the memory of QEMU: %s",
                    g_strerror(watch->failure));
    g_autofree char *status =
        ok ? guest_monitor_status(watch->guest->monitor, error) : NULL; /* brings the events */
    ok = ok && status;
    if (ok) {
        add_events(watch, &still);
        *ret_still = still;
    }
    g_free(watch);
    return ok;
}
