/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QemuNbd: one qemu-nbd and the connections to it. Only for nbdkeeper.c, which has the lock and does the waiting. */
#pragma once

#include "nbdkeeper.h"
#include "process_spawn.h"

#define QEMUNBD_LINKS 4

typedef enum {
    SERVER_STARTING, /* being connected to */
    SERVER_SERVING,
    SERVER_ENDING, /* not to be used any more */
    SERVER_GONE,   /* the process has ended */
} QemuNbdPhase;

struct QemuNbd {
    gint references;
    QemuNbdPhase phase;
    gboolean failed; /* it is not worth waiting for its end */
    gboolean left;   /* the connections are closed */
    ProcessChild child;
    GString *errors; /* what it said last */
    char *name;
    NbdLink links[QEMUNBD_LINKS];
    NbdLink *free[QEMUNBD_LINKS];
    guint n_free;
    guint n_used;
    gint64 last_use;            /* monotonic, microseconds */
    gint64 deadline;            /* of one that is ending: then it is killed */
    int sockets[QEMUNBD_LINKS]; /* our ends, until a link has them */
    int listener;               /* the server's, until it is started */
};

/* With sockets: our ends are connected already, and the listener has no name any more. EIO. */
QemuNbd *qemunbd_new(const char *name, gint64 patience, GError **error);
void qemunbd_unref(QemuNbd *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuNbd, qemunbd_unref)

/* In the thread with which it is to die. */
gboolean qemunbd_spawn(QemuNbd *server, const char *program, const NbdServing *serving, GError **error);

/* Make the links ready for use. */
gboolean qemunbd_connect(QemuNbd *server, GError **error);

/* Read what it says. */
void qemunbd_listen(QemuNbd *server);

/* Close all links. A server that is well ends by itself then. */
void qemunbd_leave(QemuNbd *server);
