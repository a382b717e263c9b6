/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "admit.h"

#include <errno.h>
#include <string.h>

#include "chain.h"
#include "error.h"

gboolean admit_path(Core *core, DomainDef *def, DiskDef *disk, GError **error)
{
    g_autofree char *real = chain_real_path(core, disk->source, error);
    if (!real)
        return FALSE;
    if (strcmp(real, disk->source) != 0)
        domain_def_set_path(disk, real);
    return TRUE;
}

/* Which layer the guest of @domain writes above @below; NULL: none does. */
static const char *active_above(const Domain *domain, const Layer *below)
{
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const Layer *top = domain_active_layer(domain, domain->def->disks->pdata[i]);
        const Layer *layer = top;
        for (guint n = 0; layer && n < g_hash_table_size(domain->layers); n++) {
            if (layer == below)
                return top->path;
            layer = domain_find_layer(domain, layer->backing);
        }
    }
    return NULL;
}

/* Under the lock. */
static gboolean check_against(const Domain *domain, gboolean own, const char *path, const FileLook *look,
                              GError **error)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Layer *layer = value;
        if (!layer_is_same_file(layer, path, look ? &look->id : NULL))
            continue;
        if (!layer->frozen &&
            !(own ? domain_layer_is_needed(domain, layer) : domain_layer_is_stood_on(domain, layer)))
            continue;
        const char *active = active_above(domain, layer);
        snap_set_error(
            error, EBUSY,
            "'%s' is a frozen layer: states of '%s' stand on it, and writing it would destroy them%s%s%s",
            path, domain->name, active ? "; the active layer is '" : "", active ? active : "",
            active ? "'" : "");
        return FALSE;
    }
    return TRUE;
}

gboolean admit_writing(Core *core, EngineId own, gboolean judge_own, const char *path, GError **error)
{
    FileLook look;
    gboolean there = file_look(path, &look, NULL);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, core->domains);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Domain *domain = value;
        gboolean is_own = domain->object.id == own;
        if ((!is_own || judge_own) && !check_against(domain, is_own, path, there ? &look : NULL, error))
            return FALSE;
    }
    return TRUE;
}

/* Is @layer the image of one of the domain's disks that the guest may write, by this or another name? */
static gboolean is_written(const Domain *domain, const Layer *layer)
{
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        const Layer *active = disk->readonly ? NULL : domain_active_layer(domain, disk);
        if (active &&
            (active == layer || (file_id_known(&layer->file) && file_id_equal(&active->file, &layer->file))))
            return TRUE;
    }
    return FALSE;
}

gboolean admit_content(const Layer *layer, GError **error)
{
    if (layer->mixed)
        snap_set_error(
            error, EIO,
            "'%s' does not hold that state any more: its snapshot was deleted, and a merge has begun to "
            "write into it",
            layer->path);
    return !layer->mixed;
}

gboolean admit_state(const Domain *domain, const Layer *layer, gboolean own, GError **error)
{
    const Layer *each = own ? layer : domain_find_layer(domain, layer->backing);
    if (own && !admit_content(layer, error))
        return FALSE;
    for (guint i = 0; each && i < g_hash_table_size(domain->layers); i++) {
        if (is_written(domain, each)) {
            snap_set_error(
                error, EINVAL,
                "'%s'%s is what the domain writes now, it cannot be the state of a snapshot: first point "
                "the domain at the overlay",
                each->path, each == layer ? "" : ", which it stands on,");
            return FALSE;
        }
        each = domain_find_layer(domain, each->backing);
    }
    return TRUE;
}
