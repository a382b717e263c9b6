/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The birth of a child process as process.h has them. process_run() is for children whose end is waited for; whoever keeps
 * one beside itself starts it here, watches and reaps it.
 */
#pragma once

#include "process.h"

typedef struct {
    const char *const *argv; /* NULL-terminated; argv[0] without '/' is looked up in PATH */
    const char *what;        /* for messages */
    const char *directory;   /* working directory; NULL: "/" */
    const int *fds;          /* descriptors that the child gets, as PROCESS_PASSED_FD and following */
    guint n_fds;
    gboolean
        listens; /* the first of these is a socket that it is to accept connections at: told as systemd tells it */
    guint64 memory_bytes; /* limit of its address space; 0: none */
    ProcessIdentity identity;
} ProcessBirth;

typedef struct {
    GPid pid;
    int pidfd;  /* readable when it has ended; it is to be reaped then */
    int errors; /* what it writes to standard error; does not block, and is to be emptied */
} ProcessChild;

/*
 * Start a child. It dies with the calling thread, and leads a process group of its own. @ret_output: where its standard
 * output can be read; NULL: it has none. EIO.
 */
gboolean process_spawn(const ProcessBirth *birth, ProcessChild *ret_child, int *ret_output, GError **error);
