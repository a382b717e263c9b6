/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RunDir: the directory of the machines that run: their sockets, and for each NAME.pid and NAME.log. QEMU removes what it
 * finds where it makes a socket, and overwrites its pid file: so nothing but what was made by QEMU or by us may be there.
 *
 * NAME.log has QEMU's messages, for people and for the error when it does not start. It is ours if it begins with our
 * first line; it begins anew with each start, and never becomes much longer than RUN_LOG_BYTES (run_log_trim()). QEMU has
 * it locked (flock) as long as it lives, so that a name is used once.
 */
#pragma once

#include <glib.h>

#define RUN_LOG_BYTES (256 * 1024)

/*
 * Make the directory, mode 0700, when there is none. EACCES: others than we and root may write there, who could put a
 * socket of their own into the place of a machine's.
 */
gboolean run_dir_make(const char *directory, GError **error);

/* Nothing is at @path, or a socket at which nobody listens. EEXIST: something else; EBUSY: somebody listens. */
gboolean run_socket_is_free(const char *path, GError **error);
/* Remove the socket @path if nobody listens there; anything else stays. */
void run_socket_remove(const char *path);

/* There is no pid file, or one that was written by QEMU. EEXIST. */
gboolean run_pid_file_is_free(const char *path, GError **error);

/*
 * Open the log, locked and new, for a QEMU to be started: a descriptor to append to. -1: EBUSY: a QEMU has it; EEXIST: what is
 * there is not ours.
 */
int run_log_open(const char *path, GError **error);

/* A QEMU has it: one that is just being started by somebody who has died since may be silent still. Waits a moment for an end. */
gboolean run_log_is_held(const char *path);

/* QEMU's messages there, joined to one line without its name in front of each; NULL: none. Caller frees. */
char *run_log_words(const char *path, const char *program);

/* Throw away what the log has, if it has become too long. QEMU appends: it goes on at the beginning. */
void run_log_trim(const char *path);
