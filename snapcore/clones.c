/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "clones.h"

#include <string.h>

#include "error.h"
#include "files.h"

char *clones_backing_name(Backend *backend, const char *path)
{
    static const ImageFormat formats[] = {FORMAT_QCOW2, FORMAT_QED};
    for (gsize i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autoptr(ImageInfo) info = NULL;
        if (backend->ops->inspect(backend, path, formats[i], &info, NULL))
            return g_steal_pointer(&info->backing_name);
    }
    return NULL;
}

/* A name that is more than a path ("json:...") counts when it holds the file's name. */
static gboolean names(const char *name, const char *dir, const char *path)
{
    if (name[strcspn(name, ":/")] == ':')
        return strstr(name, strrchr(path, '/') + 1) != NULL;
    g_autofree char *full = g_canonicalize_filename(name, dir);
    return strcmp(full, path) == 0;
}

gboolean clones_find_named(Backend *backend, const char *path, char **ret_clone, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *parent = g_path_get_dirname(path);
    g_autoptr(GDir) dir = g_dir_open(parent, 0, &why);
    const char *entry;
    if (!dir) {
        snap_set_error(error, snap_errno(why), "%s", why->message);
        return FALSE;
    }
    g_autofree char *clone = NULL;
    while (!clone && (entry = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(parent, entry, NULL);
        FileLook look; /* regular files only: opening anything else may block or act */
        g_autofree char *name =
            file_look(file, &look, NULL) && !look.block ? clones_backing_name(backend, file) : NULL;
        if (name && names(name, parent, path))
            clone = g_steal_pointer(&file);
    }
    *ret_clone = g_steal_pointer(&clone);
    return TRUE;
}
