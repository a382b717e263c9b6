/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Being a daemon: into the background, telling systemd, ending without leaving anybody waiting. */
#pragma once

#include "fs.h"

/*
 * Fork; the parent waits for what the child reports and exits with it, the child returns the descriptor to
 * report to. -1: it could not. Before any thread is made: threads do not survive a fork.
 */
int daemon_fork(void);

/* The child is mounted: leave the terminal and let the parent exit with 0. */
void daemon_release(int report);

/* systemd's READY=1 (sd_notify(3)), when systemd wants it. */
void daemon_notify_ready(void);

/*
 * The session's loop has ended: finish the jobs that run. Requests are still read meanwhile (what changes
 * anything is EBUSY then): a job may wait for a lock that the kernel holds for one of them.
 */
void daemon_drain(Fs *fs);
