/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of a Qmp, for its own three files: qmp.c (those who send and wait), qmp_reader.c (the thread that reads) and
 * qmp_state.c (what both need). Others have no business here.
 */
#pragma once

#include "qmp.h"

/* A command that somebody waits for. On its thread's stack; filled in by the reader under the lock. */
typedef struct {
    const char *what;
    gboolean done;
    json_t *answer;
    GError *error;
} QmpCall;

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
    GHashTable *calls; /* guint64 * (its own) to QmpCall *, NULL: nobody waits for the answer any more */
    guint64 n_events;  /* seen */
    char *shutdown;    /* what the SHUTDOWN event gave as the reason */
    GError *end;       /* why it has ended; never changes then */
    guint version;
};

/* Around all waiting, without the lock: a cancellation wakes us. */
gulong qmp_wait_begin(Qmp *qmp, const QmpWait *wait);
void qmp_wait_end(const QmpWait *wait, gulong handler);

/* With the lock: until something has changed. FALSE: time is over, or it is cancelled. */
gboolean qmp_wait_more(Qmp *qmp, const QmpWait *wait, const char *what, GError **error);

/* With the lock: the connection has ended, because of @why (taken over). The first reason stays. */
void qmp_end_locked(Qmp *qmp, GError *why);

/* With the lock: the same, because QEMU has closed it. */
void qmp_end_by_qemu(Qmp *qmp);

/* With the lock, before each wait: FALSE when it has ended, with the reason; EDEADLK: when this is the reader's thread. */
gboolean qmp_still_there(Qmp *qmp, const char *what, GError **error);

/* The reader's thread, until the connection ends. */
gpointer qmp_read_all(gpointer qmp);
