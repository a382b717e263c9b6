/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "start_files.h"

#include <errno.h>
#include <unistd.h>

#include "copyfile.h"
#include "error.h"
#include "files.h"
#include "xml.h"

StartFiles *start_files_new(void)
{
    StartFiles *files = g_new0(StartFiles, 1);
    files->made = g_ptr_array_new_with_free_func(g_free);
    files->overlays = g_ptr_array_new_with_free_func(g_free);
    return files;
}

void start_files_free(StartFiles *files)
{
    if (!files)
        return;
    g_ptr_array_unref(files->made);
    g_ptr_array_unref(files->overlays);
    g_free(files);
}

void start_files_unlink_overlays(StartFiles *files)
{
    for (guint i = 0; i < files->overlays->len; i++)
        (void)unlink(files->overlays->pdata[i]);
    g_ptr_array_set_size(files->overlays, 0);
}

void start_files_remove(StartFiles *files)
{
    start_files_unlink_overlays(files);
    for (guint i = 0; i < files->made->len; i++)
        (void)file_remove(files->made->pdata[i], NULL);
    g_ptr_array_set_size(files->made, 0);
}

gboolean start_files_check(const DomainDef *def, GError **error)
{
    static const char *const elements[] = {"loader", "kernel", "initrd"};
    const xmlNode *os = xml_child(xmlDocGetRootElement(def->doc), "os");
    for (guint i = 0; os && i < G_N_ELEMENTS(elements); i++) {
        g_autofree char *path = xml_text(xml_child(os, elements[i]));
        if (!path || path[0] != '/' || access(path, R_OK) == 0)
            continue;
        int code = errno;
        snap_set_error(error, code, "<%s>: '%s': %s", elements[i], path, g_strerror(code));
        return FALSE;
    }
    return TRUE;
}

gboolean start_images_are_free(Backend *images, const DomainDef *def, GError **error)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const DiskDef *disk = def->disks->pdata[i];
        ImageUse use = USE_NONE;
        g_autoptr(GError) why = NULL;
        if (!disk->source || disk->shareable)
            continue;
        if (!images->ops->in_use(images, disk->source, &use, &why)) {
            g_propagate_prefixed_error(error, g_steal_pointer(&why), "disk '%s': ", disk->target);
            return FALSE;
        }
        if (use == USE_WRITER) {
            snap_set_error(error, EBUSY, "disk '%s': another program writes its image '%s'", disk->target,
                           disk->source);
            return FALSE;
        }
    }
    return TRUE;
}

/* As its template is, under a name of ours until it is whole. */
static gboolean copy_nvram(StartFiles *files, const Launch *launch, GCancellable *cancel, GError **error)
{
    if (!launch->nvram || file_exists(launch->nvram))
        return TRUE;
    g_autofree char *temp = g_strdup_printf("%s.%08x.new", launch->nvram, g_random_int());
    gboolean ok = file_make_like(temp, launch->nvram_template, 0600, error);
    if (!ok)
        return FALSE;
    ok = copyfile(launch->nvram_template, temp, cancel, error) && file_sync(temp, error) &&
         file_publish(temp, launch->nvram, error);
    if (ok)
        g_ptr_array_add(files->made, g_strdup(launch->nvram));
    (void)unlink(temp);
    return ok;
}

static gboolean make_overlay(StartFiles *files, Backend *images, const LaunchOverlay *overlay,
                             GCancellable *cancel, GError **error)
{
    const BackingDef *below = overlay->below;
    g_autoptr(ImageInfo) info = NULL;
    if (!images->ops->inspect(images, below->path, below->format, &info, error))
        return FALSE;
    if (file_exists(overlay->path)) {
        snap_set_error(error, EEXIST,
                       "'%s' is for what the machine writes to this <transient/> disk, and is there already: "
                       "remove it if no machine runs that uses it",
                       overlay->path);
        return FALSE;
    }
    if (!file_make_like(overlay->path, below->path, 0600, error))
        return FALSE;
    g_ptr_array_add(files->overlays, g_strdup(overlay->path));
    OverlaySpec spec = {.path = overlay->path,
                        .format = FORMAT_QCOW2,
                        .size = info->virtual_size,
                        .backing_name = below->path,
                        .backing_format = below->format};
    return images->ops->overlay_create(images, &spec, cancel, error);
}

gboolean start_files_make(StartFiles *files, Backend *images, const Launch *launch, GCancellable *cancel,
                          GError **error)
{
    gboolean ok = TRUE;
    for (guint i = 0; ok && i < launch->overlays->len; i++) {
        const LaunchOverlay *overlay = launch->overlays->pdata[i];
        ok = make_overlay(files, images, overlay, cancel, error);
        if (!ok)
            g_prefix_error(error, "disk '%s': ", overlay->target);
    }
    ok = ok && copy_nvram(files, launch, cancel, error);
    if (!ok)
        start_files_remove(files);
    return ok;
}
