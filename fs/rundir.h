/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rundir: the directory for what lives no longer than the host's run: sockets, views. */
#pragma once

#include <glib.h>

/*
 * /run/domsnapfs, for a user $XDG_RUNTIME_DIR/domsnapfs; NULL: he has no such directory, and where to go instead depends
 * on what it is for. It may not exist yet. Caller frees.
 */
char *rundir_path(void);
