/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mount point: where it really is, what is left there of a daemon that died, and what the kernel calls the mount. */
#pragma once

#include <glib.h>

/*
 * The absolute, real path of the directory @path. A dead mount of ours that stands there (its daemon was
 * killed) is unmounted, *ret_freed then says so; one of another file system is ENOTCONN, with how to free it.
 * Caller frees.
 */
char *mountpoint_resolve(const char *path, gboolean *ret_freed, GError **error);

/* EINVAL when one of the two directories lies inside the other. @store need not exist yet. */
gboolean mountpoint_check_store(const char *mountpoint, const char *store, GError **error);

/*
 * Does @path, absolute and without "..", lie in the mount at @mountpoint, by its name or by where symlinks lead? It need not
 * exist. May look up names in the mount: call it in a job.
 */
gboolean mountpoint_holds(const char *mountpoint, const char *path);

/*
 * The device ("0:45") of the domsnapfs that is mounted on @mountpoint, by the kernel's list: nothing in it is touched. NULL:
 * there is none. Caller frees.
 */
char *mountpoint_device(const char *mountpoint);
