/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One machine that is followed. All of it belongs to the watcher's thread (run_watch.c). */
#pragma once

#include "run_ear.h"

typedef struct {
    char *uuid;
    char *name;
    char *qmp, *monitor, *log; /* paths */
    GPtrArray *images;         /* of char *: all that it writes */

    RunEar *ear;     /* who listens, or asks; NULL: nobody now */
    gboolean brief;  /* it asks, and then lets go */
    int pidfd;       /* of the process that answers; -1: none is known */
    gint64 next;     /* look again then (monotonic); G_MAXINT64: only when something happens */
    gint64 deadline; /* of the ear's first answer */
    guint refused;   /* looks in a row that found a socket, and nobody who listens */
    gboolean taken;  /* somebody else listens at the second monitor */

    gboolean known;
    RunState state; /* the last one found */
} RunWatched;

RunWatched *run_watched_new(const char *directory, const MachineSpec *spec);
void run_watched_free(RunWatched *machine);

/* Begin to find out: connects, or looks at the images. */
void run_watched_look(RunWatched *machine);
/* Its ear has something to read, or its time is over. */
void run_watched_hear(RunWatched *machine);
/* Its process has ended. */
void run_watched_ended(RunWatched *machine);
/* @next has come. */
void run_watched_due(RunWatched *machine);
