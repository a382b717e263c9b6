/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RunEar: a connection to a monitor that listens for how its machine is. It never waits: whoever has it polls run_ear_fd(),
 * for any number of them in one thread. (A Qmp, which waits, has a thread of its own for each.)
 *
 * It also does what a machine of ours was started with, when its guest powers off or crashes: <on_poweroff> and <on_crash>
 * "restart" are a reset, then `cont`, of somebody who listens.
 */
#pragma once

#include <sys/types.h>

#include "machine.h"

typedef struct RunEar RunEar;

/*
 * Connect to the socket @path of the machine with @uuid. Errors as qmp_socket_connect(): ENOENT and ECONNREFUSED: nobody
 * listens there.
 */
RunEar *run_ear_open(const char *path, const char *uuid, GError **error);
void run_ear_close(RunEar *ear);

int run_ear_fd(const RunEar *ear);
pid_t run_ear_pid(const RunEar *ear); /* who listens; 0: not known */

/* Take what has come. FALSE: the connection has ended, or is of no use. */
gboolean run_ear_hear(RunEar *ear);

/* QEMU talks to us. Else it has not begun to, or talks to another client (run_ear_is_taken()). */
gboolean run_ear_is_greeted(const RunEar *ear);
gboolean run_ear_is_taken(const RunEar *ear);

/* What is known: FALSE: nothing yet. Another machine than ours is RUN_UNKNOWN. */
gboolean run_ear_state(const RunEar *ear, RunState *ret_state);
