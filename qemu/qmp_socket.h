/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP's socket: connect to it, write to it with a descriptor in the hand, learn why it does not answer. All blocking, each
 * bounded by a QmpWait.
 */
#pragma once

#include <gio/gio.h>

/*
 * How long a caller is prepared to wait: to one point in time, so that one QmpWait serves a whole sequence of calls.
 * Make it with qmp_wait(). A call that takes one always needs one.
 */
typedef struct {
    gint64 until; /* g_get_monotonic_time(); G_MAXINT64: for ever */
    GCancellable *cancel;
} QmpWait;

/* From now on for @ms milliseconds (0: for ever), or until @cancel (may be NULL; not referenced) fires. */
QmpWait qmp_wait(guint ms, GCancellable *cancel);
/* At most @ms of @wait, from now. */
QmpWait qmp_wait_part(const QmpWait *wait, guint ms);

/* EINTR: cancelled; ETIMEDOUT. Neither: TRUE. "@what: cancelled". */
gboolean qmp_wait_check(const QmpWait *wait, const char *what, GError **error);

/*
 * Connect to the unix socket @path, of any length: a descriptor, close-on-exec. -1: ENOENT: nothing there; ECONNREFUSED:
 * nobody listens (QEMU died); EBUSY: others wait in front of us to be served; EINVAL: no socket; EACCES; EINTR.
 */
int qmp_socket_connect(const char *path, const QmpWait *wait, GError **error);

/*
 * Write all of @data, and with its first byte the descriptor @pass (-1: none), which stays the caller's. When it fails,
 * *ret_sent says how much has gone out already: 0, or the stream is of no more use. ECONNRESET: nobody reads any more;
 * EINTR, ETIMEDOUT. "@what: why".
 */
gboolean qmp_socket_send(int fd, const char *what, const char *data, gsize len, int pass, const QmpWait *wait,
                         gsize *ret_sent, GError **error);

/*
 * Has the server of @fd, a connection to @path that gets no answer, taken another client instead? QEMU serves one at a
 * time, and leaves the others in its queue without a word. FALSE also when it cannot be seen: the other client lives in
 * another network namespace.
 */
gboolean qmp_socket_is_taken(int fd, const char *path);
