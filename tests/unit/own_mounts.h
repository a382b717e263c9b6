/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mounts that nobody but this process and its children see. */
#pragma once

#include <glib.h>
#include <mntent.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>

/* The mount points of FUSE file systems, of char *; caller unrefs. */
static inline GPtrArray *fuse_mounts(void)
{
    GPtrArray *dirs = g_ptr_array_new_with_free_func(g_free);
    FILE *mounts = setmntent("/proc/self/mounts", "r");
    for (const struct mntent *one = mounts ? getmntent(mounts) : NULL; one; one = getmntent(mounts))
        if (g_str_has_prefix(one->mnt_type, "fuse."))
            g_ptr_array_add(dirs, g_strdup(one->mnt_dir));
    if (mounts)
        endmntent(mounts);
    return dirs;
}

/*
 * Have a mount namespace, which is gone with this process, however that ends. What other tests have mounted is taken out of
 * it: the copy of a FUSE mount would keep that daemon alive as long as we live. FALSE, with errno: it is not permitted.
 */
static inline gboolean own_mounts(void)
{
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return FALSE;
    g_autoptr(GPtrArray) others = fuse_mounts();
    for (guint i = 0; i < others->len; i++)
        (void)umount2(others->pdata[i], MNT_DETACH);
    return TRUE;
}

/* And a tmpfs with @options on @dir in it. */
static inline gboolean own_tmpfs(const char *dir, const char *options)
{
    return own_mounts() && mount("tmpfs", dir, "tmpfs", 0, options) == 0;
}
