/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"

/* Symlinks, and dead mounts on top of each other, that are followed before we give up. */
#define MAX_STEPS 16

/* While a killed daemon is being taken down, its mount answers EIO for a moment, and only then that it is dead. */
#define DYING_TRIES 40
#define DYING_PAUSE (G_USEC_PER_SEC / 20)

#define OUR_TYPE "fuse.domsnapfs"

/* Words of a line of /proc/self/mountinfo. */
enum { MOUNT_DEVICE = 2, MOUNT_POINT = 4 };

/* stat() as the file system says it now: the kernel keeps attributes of a dead mount for a second. */
static int stat_now(const char *path, mode_t *ret_mode)
{
    struct statx st;
    for (int try = 1;; try++) {
        if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC | AT_SYMLINK_NOFOLLOW, STATX_TYPE, &st) == 0) {
            *ret_mode = st.stx_mode;
            return 0;
        }
        if (errno != EIO || try >= DYING_TRIES)
            return errno;
        g_usleep(DYING_PAUSE);
    }
}

/* What the kernel's list says of the topmost mount on @path, word by word, or NULL. Caller frees. */
static GStrv mount_line(const char *path)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) found = NULL;
    if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
        return NULL;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        g_auto(GStrv) fields = g_strsplit(*line, " ", -1);
        if (g_strv_length(fields) <= MOUNT_POINT)
            continue;
        g_autofree char *where = g_strcompress(fields[MOUNT_POINT]); /* \040 stands for a blank */
        if (strcmp(where, path) == 0) {
            g_strfreev(found);
            found = g_steal_pointer(&fields);
        }
    }
    return g_steal_pointer(&found);
}

/* The type of the file system in what mount_line found, or NULL. */
static const char *mount_type(const GStrv fields)
{
    for (guint i = MOUNT_POINT; fields != NULL && fields[i] != NULL;
         i++) /* before the "-" there may be more */
        if (strcmp(fields[i], "-") == 0)
            return fields[i + 1];
    return NULL;
}

char *mountpoint_device(const char *mountpoint)
{
    g_auto(GStrv) fields = mount_line(mountpoint);
    return g_strcmp0(mount_type(fields), OUR_TYPE) == 0 ? g_strdup(fields[MOUNT_DEVICE]) : NULL;
}

static gboolean unmount_lazily(const char *path, GError **error)
{
    if (geteuid() == 0) {
        if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
            return TRUE;
        snap_set_errno(error, errno, "unmount '%s'", path);
        return FALSE;
    }
    const char *argv[] = {"fusermount3", "-uz", "--", path, NULL};
    int status;
    return g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, &status,
                        error) &&
           g_spawn_check_wait_status(status, error);
}

static gboolean free_dead(const char *path, GError **error)
{
    g_auto(GStrv) fields = mount_line(path);
    const char *type = mount_type(fields);
    if (g_strcmp0(type, OUR_TYPE) == 0 && unmount_lazily(path, error)) {
        return TRUE;
    }
    g_clear_error(error);
    snap_set_error(error, ENOTCONN, "a dead mount (%s) stands on '%s': fusermount3 -u '%s' frees it",
                   type == NULL ? "unknown" : type, path, path);
    return FALSE;
}

/* @path with its directory made real, but not its last component: that cannot be looked at on a dead mount.
 */
static char *real_directory(const char *path, GError **error)
{
    g_autofree char *absolute = g_canonicalize_filename(path, NULL);
    g_autofree char *directory = g_path_get_dirname(absolute);
    g_autofree char *base = g_path_get_basename(absolute);
    char *real = realpath(directory, NULL);
    if (real == NULL) {
        snap_set_errno(error, errno, "'%s'", directory);
        return NULL;
    }
    char *result = strcmp(absolute, "/") == 0 ? g_strdup("/") : g_build_filename(real, base, NULL);
    free(real);
    return result;
}

/* One symlink on: what @path (in a real directory) points to. */
static char *follow(const char *path, GError **error)
{
    g_autofree char *target = g_file_read_link(path, error);
    if (target == NULL)
        return NULL;
    g_autofree char *directory = g_path_get_dirname(path);
    g_autofree char *joined = g_canonicalize_filename(target, directory);
    return real_directory(joined, error);
}

char *mountpoint_resolve(const char *path, gboolean *ret_freed, GError **error)
{
    gboolean freed = FALSE;
    g_autofree char *at = real_directory(path, error);
    for (int step = 0; at != NULL && step < MAX_STEPS; step++) {
        mode_t mode = 0;
        int err = stat_now(at, &mode);
        if (err == ENOTCONN || err == ECONNABORTED) {
            if (!free_dead(at, error))
                return NULL;
            freed = TRUE;
        } else if (err != 0) {
            snap_set_errno(error, err, "mount point '%s'", at);
            return NULL;
        } else if (S_ISDIR(mode)) {
            *ret_freed = freed;
            return g_steal_pointer(&at);
        } else if (S_ISLNK(mode)) {
            char *next = follow(at, error);
            g_free(at);
            at = next;
        } else {
            snap_set_error(error, ENOTDIR, "mount point '%s' is not a directory", at);
            return NULL;
        }
    }
    if (at != NULL)
        snap_set_error(error, ELOOP, "mount point '%s': too many levels", path);
    return NULL;
}

/* The real path of @path; of one that does not exist yet, that of what exists of it and the rest. */
static char *real_prefix(const char *path)
{
    char *real = realpath(path, NULL);
    if (real != NULL) {
        char *copy = g_strdup(real);
        free(real);
        return copy;
    }
    g_autofree char *directory = g_path_get_dirname(path);
    if (strcmp(directory, path) == 0)
        return g_strdup(path);
    g_autofree char *base = g_path_get_basename(path);
    g_autofree char *above = real_prefix(directory);
    return g_build_filename(above, base, NULL);
}

static gboolean is_inside(const char *path, const char *directory)
{
    gsize len = strlen(directory);
    if (len == 1) /* "/" holds everything */
        return TRUE;
    return strncmp(path, directory, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

gboolean mountpoint_check_store(const char *mountpoint, const char *store, GError **error)
{
    g_autofree char *real = real_prefix(store);
    if (is_inside(mountpoint, real)) {
        snap_set_error(error, EINVAL, "the mount point '%s' lies inside the store '%s'", mountpoint, real);
        return FALSE;
    }
    if (is_inside(real, mountpoint)) {
        snap_set_error(error, EINVAL, "the store '%s' lies inside the mount point '%s'", real, mountpoint);
        return FALSE;
    }
    return TRUE;
}

gboolean mountpoint_holds(const char *mountpoint, const char *path)
{
    if (is_inside(path, mountpoint))
        return TRUE;
    g_autofree char *real = real_prefix(path);
    return is_inside(real, mountpoint);
}
