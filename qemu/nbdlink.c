/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nbdlink.h"

#include <errno.h>

#include "error.h"

#define FAREWELL G_USEC_PER_SEC
#define POLL_MS 100

void nbd_link_set_error(const NbdLink *link, GError **error)
{
    const char *text = nbd_get_error();
    int code = nbd_get_errno();
    snap_set_error(error, code > 0 ? code : EIO, "'%s': %s", link->name, text ? text : "NBD failed");
}

gboolean nbd_link_init(NbdLink *link, const char *name, gint64 patience, GCancellable *cancel, GError **error)
{
    *link = (NbdLink){.nbd = nbd_create(), .name = name, .patience = patience, .cancel = cancel};
    if (!link->nbd)
        nbd_link_set_error(link, error);
    return link->nbd != NULL;
}

/* Let the connection go on a little. FALSE: it has failed, is cancelled, or nothing happens until @deadline. */
static gboolean go_on(NbdLink *link, gint64 deadline, GError **error)
{
    if (g_cancellable_is_cancelled(link->cancel))
        snap_set_error(error, EINTR, "'%s': cancelled", link->name);
    else if (g_get_monotonic_time() > deadline)
        snap_set_error(error, ETIMEDOUT, "'%s': the server does not answer", link->name);
    else if (nbd_poll(link->nbd, POLL_MS) < 0)
        nbd_link_set_error(link, error);
    else
        return TRUE;
    link->lost = TRUE;
    return FALSE;
}

gboolean nbd_link_connect(NbdLink *link, int begun, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + link->patience;
    if (begun < 0) {
        nbd_link_set_error(link, error);
        link->lost = TRUE;
        return FALSE;
    }
    while (nbd_aio_is_ready(link->nbd) == 0)
        if (!go_on(link, deadline, error))
            return FALSE;
    return TRUE;
}

/*
 * A command that is given up may still use its buffer as long as there is a connection: so there is none any more.
 */
gboolean nbd_link_complete(NbdLink *link, int64_t cookie, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + link->patience;
    int done = 0;
    while (cookie >= 0 && done == 0) {
        done = nbd_aio_command_completed(link->nbd, (uint64_t)cookie);
        if (done == 0 && !go_on(link, deadline, error)) {
            g_clear_pointer(&link->nbd, nbd_close);
            return FALSE;
        }
    }
    if (done > 0)
        return TRUE;
    nbd_link_set_error(link, error);
    link->lost = nbd_aio_is_dead(link->nbd) != 0 || nbd_aio_is_closed(link->nbd) != 0;
    return FALSE;
}

/* A server is told (facts/qemu.md C: qemu-nbd hangs when a client just vanishes). */
static gboolean say_goodbye(NbdLink *link)
{
    return link->nbd && !link->lost && nbd_aio_is_ready(link->nbd) > 0 &&
           nbd_aio_disconnect(link->nbd, 0) == 0;
}

void nbd_link_close(NbdLink *link)
{
    gint64 deadline = g_get_monotonic_time() + FAREWELL;
    gboolean told = say_goodbye(link);
    while (told && nbd_aio_is_closed(link->nbd) == 0 && nbd_aio_is_dead(link->nbd) == 0 &&
           go_on(link, deadline, NULL))
        ;
    g_clear_pointer(&link->nbd, nbd_close);
}

void nbd_link_leave(NbdLink *link)
{
    say_goodbye(link);
    g_clear_pointer(&link->nbd, nbd_close);
}
