/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fs: what one mounted file system is made of. Made by main.c before the first request, unchanged after that;
 * its members lock for themselves.
 */
#pragma once

#include <fuse_lowlevel.h>

#include "engine.h"
#include "guard.h"
#include "handle.h"
#include "job.h"
#include "passthrough.h"
#include "scratch.h"
#include "turn.h"

typedef struct Fs {
    Engine *engine;               /* owned */
    struct fuse_session *session; /* for notifications; owned by main.c */
    char *store;                  /* directory, absolute: for statfs */
    char *mountpoint;             /* absolute and real: for link texts that are absolute */
    uid_t uid;                    /* who owns what the tree shows */
    gid_t gid;
    mode_t umask;
    gint64 started;  /* seconds since the epoch: times of what has no other */
    gboolean syslog; /* where the daemon's log is: syslog, or stderr */
    char *help[2];   /* text of the ctl files, by CtlScope */
    Scratch *scratch;
    Guard *guard;
    Handles *handles;
    Passthrough *passthrough;
    Jobs *jobs;
    Turns *turns;
    gsize read_ahead; /* a GOnce: see readahead.h */
} Fs;

/* Takes over @engine. @store and @mountpoint are copied. */
Fs *fs_new(Engine *engine, const char *store, const char *mountpoint);
/* Waits for jobs that run, then frees the engine too. */
void fs_free(Fs *fs);

/*
 * A gesture or a command failed: one line in the log of @domain (0: the mount's) and one in the daemon's.
 * @what: what was asked for. Returns the errno to answer. Writes files: call it in a job.
 */
int fs_report(Fs *fs, EngineId domain, const char *what, const GError *error);

/* One line in the daemon's log. */
void fs_log(const Fs *fs, const char *format, ...) G_GNUC_PRINTF(2, 3);
