/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Qmp: one connection to a running QEMU's monitor.
 *
 *   QmpWait wait = qmp_wait(10000, cancel);
 *   g_autoptr(Qmp) qmp = qmp_connect(path, NULL, &wait, error);
 *   g_autoptr(json_t) status = qmp ? qmp_run(qmp, "query-status", json_object(), &wait, error) : NULL;
 *
 * QEMU serves one client a socket, and lets the others wait: connect, do the work, close. It costs a millisecond. Only a connection of its own (a second socket) may be kept open, to listen.
 *
 * Threads: any number may use one connection at the same time; commands go out whole, answers find their command by its id.
 * A thread of the connection reads. Nobody but the caller of qmp_close() may be inside a call then. No lock is held while
 * something is sent, or while a listener is called.
 *
 * The end of the connection (QEMU died, was killed, was told to quit, or sent what is no QMP) is an ordinary error of every
 * call that waits and of all that come: ECONNRESET, or EPROTO. With these, and with EINTR and ETIMEDOUT, it is *not known*
 * whether the command was done, except that QEMU does commands in the order in which they were sent: what a later command
 * on the same connection tells is the state after them. After EINTR and ETIMEDOUT the connection can be used as before; a
 * late answer is dropped.
 *
 * QEMU answers nothing, on no socket, while it saves or loads an internal snapshot's memory, opens images or drains I/O:
 * a time limit is for a QEMU that hangs, not for a slow one.
 */
#pragma once

#include "qmp_message.h"
#include "qmp_socket.h"

#include <sys/types.h>

typedef struct Qmp Qmp;

/*
 * What a listener hears, in the reader's thread: it must not wait. qmp_run() and the like answer EDEADLK there, qmp_close()
 * would never return.
 */
typedef struct {
    /* Each event. @data: an object, borrowed. @usec: QEMU's wall clock, -1 when it does not know. May be NULL. */
    void (*event)(gpointer user, const char *name, json_t *data, gint64 usec);
    /*
     * Once, and the last thing heard: the connection has ended, and not by qmp_close(). @why is the error that calls get
     * from now on. May be NULL.
     */
    void (*ended)(gpointer user, const GError *why);
    gpointer user;
} QmpListener;

/*
 * Connect to the monitor's socket @path (of any length), wait for its greeting and agree on capabilities. @listener (NULL:
 * none; copied) may hear events before the call has returned, and hears nothing after qmp_close() has; when the call
 * fails, `ended` was not called. Errors, which the callers of DESIGN 6 tell apart:
 *   ENOENT, ECONNREFUSED  there is no such socket, nobody listens: QEMU does not run, or not with this socket
 *   EBUSY                 somebody listens, but another monitor client is connected (known after a second)
 *   ETIMEDOUT             somebody listens and is silent: QEMU is stopped, or works on something long
 *   EPROTO                what listens is no QMP
 *   ECONNRESET            it ended in the middle
 *   EINTR, EACCES, EINVAL (no socket)
 */
Qmp *qmp_connect(const char *path, const QmpListener *listener, const QmpWait *wait, GError **error);

/* End the connection. Descriptors that qmp_getfd() gave to QEMU stay there. Not from a listener. */
void qmp_close(Qmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qmp, qmp_close)

/*
 * Run @command and return what it returned, to be freed with json_decref(). @arguments: an object, taken over also on
 * failure; json_object() for none; NULL is an error (EINVAL), because json_pack() gives it for text that is no UTF-8. NULL:
 * QEMU's own error as qmp_error.h says, "QEMU COMMAND: its words (its class)"; ECONNRESET, EPROTO, EINTR, ETIMEDOUT as said
 * above.
 */
json_t *qmp_run(Qmp *qmp, const char *command, json_t *arguments, const QmpWait *wait, GError **error);

/* The same for a command that returns nothing worth knowing. */
gboolean qmp_do(Qmp *qmp, const char *command, json_t *arguments, const QmpWait *wait, GError **error);

/*
 * Give QEMU the descriptor @fd (which stays the caller's) under the name @name, for `migrate` to "fd:NAME" and the like. A
 * name that is there already is replaced. QEMU closes it after use, or at `closefd`. If the outcome is not known (EINTR,
 * ETIMEDOUT, once it was sent), the connection ends: the next descriptor could be taken for this one.
 */
gboolean qmp_getfd(Qmp *qmp, const char *name, int fd, const QmpWait *wait, GError **error);

/*
 * The same as a set of its own, *ret_set, for commands that open "/dev/fdset/SET": until `remove-fd`. It must be open in the
 * mode in which the command opens it.
 */
gboolean qmp_add_fd(Qmp *qmp, int fd, gint64 *ret_set, const QmpWait *wait, GError **error);

/* QEMU's version, major * 10000 + minor * 100 + micro. */
guint qmp_version(const Qmp *qmp);

/*
 * The process that listens: QEMU itself, unless somebody else has made the socket for it (libvirt does). 0: it is not known
 * here. Good for as long as the connection is.
 */
pid_t qmp_pid(const Qmp *qmp);

/*
 * Wait until an event has come since *seen, a number that is 0 at first and is brought up to date, or until @ms have gone.
 * To look, and to look again when something happened, without a listener:
 *
 *   do { look } while (not what we want && qmp_wait_event(qmp, &seen, 100, &wait, error));
 *
 * An event that comes while one looks is not missed. Errors: ECONNRESET, EPROTO, EINTR, ETIMEDOUT (@wait has run out).
 */
gboolean qmp_wait_event(Qmp *qmp, guint64 *seen, guint ms, const QmpWait *wait, GError **error);
