/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running a child process, tightly: an argument vector and never a shell, a small environment of its own
 * (PATH and LC_ALL=C, so that its messages can be understood), /dev/null as standard input, every other
 * descriptor closed, its own process group, default signal handling, limits of time, memory and output, no
 * core dump.
 *
 * Needs neither a main loop nor SIGCHLD, and may be called from any thread. A child outlives a killed daemon
 * on purpose: a qemu-img that is not killed too leaves a whole image behind.
 */
#pragma once

#include <gio/gio.h>
#include <sys/types.h>

#define PROCESS_NO_FD (-1)
#define PROCESS_PASSED_FD 3 /* the descriptor that ProcessSpec.pass_fd becomes in the child */

/* Another identity for the child. Supplementary groups are dropped. */
typedef struct {
    gboolean set;
    uid_t uid;
    gid_t gid;
} ProcessIdentity;

typedef struct {
    const char *const *argv; /* NULL-terminated; argv[0] without '/' is looked up in PATH */
    const char *what;        /* for messages: "qemu-img create" */
    const char *directory;   /* working directory; NULL: "/" */
    int pass_fd;             /* one descriptor that the child gets, or PROCESS_NO_FD */
    guint timeout_s;
    guint64 memory_bytes; /* limit of its address space; 0: none */
    gsize output_bytes;   /* of standard output; a child that writes more is killed */
    /* Told of standard output as it comes, in the calling thread; then none is kept. NULL: kept. */
    void (*on_output)(gpointer user, const char *data, gsize len);
    gpointer on_output_user;
    ProcessIdentity identity;
} ProcessSpec;

typedef struct {
    int status;      /* exit code */
    GString *output; /* all of standard output */
    GString *errors; /* standard error; of a long one the beginning and the end */
} ProcessResult;

/*
 * Run the child to its end. TRUE: it ran and exited by itself, with whatever code. Errors: EIO: could not be
 * started, or died by a signal; ETIMEDOUT; EINTR: @cancel fired (SIGTERM to its group, SIGKILL after a grace
 * time); EOVERFLOW: too much output. A child that came to its end with code 0 although it was told to stop
 * has done its work: TRUE.
 */
gboolean process_run(const ProcessSpec *spec, GCancellable *cancel, ProcessResult **ret_result,
                     GError **error);
void process_result_free(ProcessResult *result);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ProcessResult, process_result_free)

/*
 * Who a child that works on @path must be: when we are root and the directory of @path belongs to somebody
 * else, that one, so that a symlink or a hard link put there reaches nothing that its owner could not reach
 * anyway (DESIGN 9).
 */
gboolean process_identity_for(const char *path, ProcessIdentity *ret_identity, GError **error);

/*
 * Is there a message of @program in @errors that is no warning? qemu-img writes the last of an image's metadata when it
 * closes it; if that fails it says so, and exits with 0 (tried: `convert` onto a full disk, and what was copied is gone).
 */
gboolean process_complained(const char *program, const char *errors);

/*
 * Turn what a failed child wrote to standard error into an error: "@what: " and its last message (lines that
 * begin with "@program: " are messages, "@program: warning: " are not), its code what the message says
 * (ENOSPC, EBUSY for image locks, EACCES, ENOENT and others by the system's words; EIO when it says nothing
 * of the kind).
 */
void process_set_error(const char *what, const char *program, const char *errors, GError **error);

/*
 * The errno that the last words of a message of QEMU's stand for ("...: No space left on device"; "... lock": EBUSY), EIO
 * when they are none that we know. Messages are in LC_ALL=C, which makes them the same everywhere.
 */
int process_errno_of(const char *message);
