/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Detach: a process that lives on without us. What process.h does for qemu-img is here turned round: it does not end with
 * the daemon, nothing waits for it, and it is nobody's zombie: its parent is the system's first process.
 *
 * It gets a session of its own, "/" as its directory, /dev/null as standard input, @log as standard output and error, no
 * other descriptor, PATH and LC_ALL=C and what is asked for as its environment, default signal handling, umask 077.
 */
#pragma once

#include <glib.h>
#include <sched.h>
#include <sys/types.h>

typedef struct {
    const char *const *argv;        /* NULL-terminated; argv[0] is a path */
    const char *const *environment; /* further "NAME=VALUE", NULL-terminated, or NULL */
    int log;                        /* open for writing; stays the caller's */
    const cpu_set_t *cpus;          /* it may only run on these; NULL: on those that we may */
} DetachSpec;

typedef struct {
    pid_t pid;
    int pidfd; /* readable once it has ended */
    int go;    /* of ours */
} Detached;

/*
 * Two steps, so that the process can be put elsewhere (scope.h) before it is what it will be: it waits, and ends if we
 * end. EAGAIN, ENOMEM and the like. @ret: to be given to detach_run() or detach_clear().
 */
gboolean detach_prepare(const DetachSpec *spec, Detached *ret, GError **error);
/* Go: TRUE: the program runs. ENOENT, EACCES...: it cannot be run, and the process has ended. */
gboolean detach_run(Detached *process, GError **error);

/* Has it ended, @ms from now at the latest? */
gboolean detach_has_ended(const Detached *process, int ms);
/* SIGKILL, and wait until it has ended. */
void detach_kill(const Detached *process);
/* Know nothing of it any more; one that waits for its go ends. */
void detach_clear(Detached *process);
#define DETACHED_NONE                                                                                        \
    {                                                                                                        \
        .pid = 0, .pidfd = -1, .go = -1                                                                      \
    }
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Detached, detach_clear)
