/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "clones.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

gboolean clones_backing_name(Backend *backend, const char *path, char **ret_name, GError **error)
{
    static const ImageFormat formats[] = {FORMAT_QCOW2, FORMAT_QED};
    for (gsize i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autoptr(ImageInfo) info = NULL;
        g_autoptr(GError) why = NULL;
        if (backend->ops->inspect(backend, path, formats[i], &info, &why)) {
            *ret_name = g_steal_pointer(&info->backing_name);
            return TRUE;
        }
        if (snap_errno(why) == EINVAL || snap_errno(why) == ENOENT)
            continue; /* it is none of that format; it went just now */
        snap_set_error(error, EBUSY, "what '%s' stands on cannot be known: %s", path, why->message);
        return FALSE;
    }
    *ret_name = NULL;
    return TRUE;
}

gboolean clones_find(Backend *backend, const char *path, ClonesMatch match, gconstpointer user,
                     char **ret_clone, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GDir) dir = g_dir_open(path, 0, &why);
    const char *entry;
    if (!dir) {
        snap_set_error(error, snap_errno(why), "%s", why->message);
        return FALSE;
    }
    g_autofree char *clone = NULL;
    while (!clone && (entry = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, entry, NULL);
        g_autofree char *name = NULL;
        FileLook look;
        if (!file_look(file, &look, NULL) || look.block)
            continue; /* regular files only: opening anything else may block or act */
        if (!clones_backing_name(backend, file, &name, error))
            return FALSE;
        if (name && match(file, &look, name, user))
            clone = g_steal_pointer(&file);
    }
    *ret_clone = g_steal_pointer(&clone);
    return TRUE;
}

/* A name that is more than a path ("json:...") counts when it holds the file's name. */
static gboolean names(const char *file, const FileLook *look, const char *name, gconstpointer user)
{
    const char *path = user;
    if (name[strcspn(name, ":/")] == ':')
        return strstr(name, strrchr(path, '/') + 1) != NULL;
    g_autofree char *dir = g_path_get_dirname(file);
    g_autofree char *full = g_canonicalize_filename(name, dir);
    g_autofree char *parent = g_path_get_dirname(full);
    char *real = realpath(parent, NULL); /* of the directory: the file itself may not be there */
    g_autofree char *resolved = g_build_filename(real ? real : parent, strrchr(full, '/') + 1, NULL);
    free(real);
    return strcmp(resolved, path) == 0;
}

gboolean clones_find_named(Backend *backend, const char *path, char **ret_clone, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    return clones_find(backend, dir, names, path, ret_clone, error);
}

gboolean clones_remove_unnamed(Backend *backend, const char *path, const FileId *id, GError **error)
{
    g_autofree char *clone = NULL;
    FileLook look;
    if (!file_look(path, &look, NULL) || !file_id_same(&look.id, id))
        return TRUE;
    if (!clones_find_named(backend, path, &clone, error))
        return FALSE;
    if (!clone)
        return file_remove_if(path, id, error); /* looking took its time */
    snap_set_error(error, EBUSY, "'%s' stands on '%s'", clone, path);
    return FALSE;
}
