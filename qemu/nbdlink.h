/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NbdLink: a connection to an NBD server, by libnbd, that is never waited for without end. One thread at a time.
 */
#pragma once

#include <gio/gio.h>
#include <libnbd.h>

typedef struct {
    struct nbd_handle *nbd; /* NULL: closed, it cannot be used any more */
    const char *name;       /* of the server, for messages */
    gint64 patience;        /* microseconds, with a server that says nothing */
    GCancellable *cancel;   /* asked while waiting, or NULL */
    gboolean lost;          /* the connection cannot be used any more */
} NbdLink;

/* A link that is not connected yet. @name and @cancel stay the caller's. EIO. */
gboolean nbd_link_init(NbdLink *link, const char *name, gint64 patience, GCancellable *cancel,
                       GError **error);

/* Wait until the connection that has been begun on @link->nbd (@begun: what that returned) is there. */
gboolean nbd_link_connect(NbdLink *link, int begun, GError **error);

/*
 * Wait for the command @cookie (negative: it could not even be sent). FALSE: the server's errno; or the link is lost:
 * ETIMEDOUT, EINTR, EIO. Nothing uses the command's buffer any more.
 */
gboolean nbd_link_complete(NbdLink *link, int64_t cookie, GError **error);

/* Tell the server, wait a moment for it, and close. */
void nbd_link_close(NbdLink *link);

/* The same without waiting. */
void nbd_link_leave(NbdLink *link);

/* Let @error be what libnbd said last in this thread. */
void nbd_link_set_error(const NbdLink *link, GError **error);
