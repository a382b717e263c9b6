/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NbdKeeper: the qemu-nbd processes of all readers that need one (nbdreader.h). Each serves one disk, read-only, at a socket
 * that has no name: nobody else ever reaches it. One that is not used for a while is ended, and so is one whose connection
 * fails. One thread, which lives as long as there is such a process: they die with it. Has its own lock.
 */
#pragma once

#include "nbdlink.h"
#include "process.h"

typedef struct NbdKeeper NbdKeeper;
typedef struct QemuNbd QemuNbd; /* one of the processes */

/* What is served. */
typedef struct {
    char *image;        /* "json:...": see qemu-nbd(8) */
    char *name;         /* of the first image, for messages */
    int *fds;           /* descriptors that @image names, as /proc/self/fd/NBDKEEPER_FIRST_FD and following */
    const char **paths; /* of these, for messages */
    guint n_fds;
    ProcessIdentity identity;
} NbdServing;

#define NBDKEEPER_FIRST_FD (PROCESS_PASSED_FD + 1)

/*
 * @qemu_nbd: the program, NULL: "qemu-nbd" from PATH. @idle_ms: when one that nobody uses is ended. @patience_ms: with one
 * that does not answer.
 */
NbdKeeper *nbdkeeper_new(const char *qemu_nbd, guint idle_ms, guint patience_ms);
NbdKeeper *nbdkeeper_ref(NbdKeeper *keeper);
/* The last one returns when no process is left. */
void nbdkeeper_unref(NbdKeeper *keeper);

/* Start one that serves @serving. EIO, ETIMEDOUT, with qemu-nbd's own words where it said something. */
QemuNbd *nbdkeeper_start(NbdKeeper *keeper, const NbdServing *serving, GError **error);

/* It is not needed any more. */
void nbdkeeper_end(NbdKeeper *keeper, QemuNbd *server);

/*
 * A connection to @server for the calling thread, to be given back soon; waits for one that is free. NULL: @server does not
 * serve any more, or none becomes free. One that comes back lost ends the server. Meanwhile @server may be ended.
 */
NbdLink *nbdkeeper_take(NbdKeeper *keeper, QemuNbd *server);
void nbdkeeper_give(NbdKeeper *keeper, QemuNbd *server, NbdLink *link);
