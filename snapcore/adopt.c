/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "adopt.h"

#include <errno.h>

#include "chain.h"
#include "error.h"
#include "libvirt_dirs.h"
#include "machines.h"
#include "overlay.h"

/* Images that are frozen at the same time: each takes a thread. */
#define PARALLEL 8

gboolean adopt_check_released(const Domain *domain, GError **error)
{
    g_autofree char *by = NULL;
    if (!libvirt_defines(domain->libvirt, domain->libvirt_snapshots, domain->def->uuid, &by, error))
        return FALSE;
    if (!by)
        return TRUE;
    if (domain->libvirt_snapshots && g_str_has_prefix(by, domain->libvirt_snapshots))
        snap_set_error(error, EROFS,
                       "libvirt keeps snapshots of it ('%s'): remove them if it is not defined any more", by);
    else
        snap_set_error(error, EROFS,
                       "libvirt defines it ('%s'): first, there, virsh undefine --snapshots-metadata '%s'",
                       by, domain->def->name);
    return FALSE;
}

/* --- are the images what was imported --- */

static gboolean check_file(const Domain *domain, const Layer *layer, GError **error)
{
    FileLook look;
    gboolean there = file_look(layer->path, &look, NULL);
    g_autofree char *how = store_changed_since_import(domain, layer, there ? &look : NULL);
    if (how)
        snap_set_error(error, EROFS, "%s", how);
    return !how;
}

static gboolean check_files(const Domain *domain, GError **error)
{
    GHashTableIter iter;
    gpointer layer;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &layer))
        if (!check_file(domain, layer, error))
            return FALSE;
    return TRUE;
}

/* libvirt may have taken a snapshot after the import: then what we think the guest writes is somebody's base by now. */
static gboolean check_clones(Op *op, const Layer *layer, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *clone = NULL;
    if (!chain_find_clone(op->core, op->domain, layer, TRUE, &clone, &why)) {
        snap_set_error(error, EROFS, "who stands on '%s' cannot be known: %s", layer->path, why->message);
        return FALSE;
    }
    if (!clone)
        return TRUE;
    snap_set_error(
        error, EROFS,
        "'%s', which was not imported, stands on '%s', which the domain writes: import it again, or "
        "move that file away if nobody needs it",
        clone, layer->path);
    return FALSE;
}

/* Not even to read: a machine that libvirt still runs may stand on it. */
static gboolean check_unused(Op *op, const Layer *layer, GError **error)
{
    ImageUse use;
    if (!op->core->backend->ops->in_use(op->core->backend, layer->path, &use, error))
        return FALSE;
    if (use != USE_NONE)
        snap_set_error(error, EBUSY, "another process has '%s' open", layer->path);
    return use == USE_NONE;
}

static gboolean check_disk(Op *op, const DiskDef *disk, GHashTable *needed, GError **error)
{
    const Layer *layer = domain_active_layer(op->domain, disk);
    if (!layer || disk->readonly || !file_id_known(&layer->file))
        return TRUE;
    if (g_hash_table_contains(needed, layer))
        snap_set_error(error, EROFS, "states of snapshots stand on '%s', which the domain writes",
                       layer->path);
    else if (op_take_image(op, layer->path, error) && check_unused(op, layer, error) &&
             check_clones(op, layer, error))
        return TRUE;
    g_prefix_error(error, "disk '%s': ", disk->target);
    return FALSE;
}

static gboolean check_disks(Op *op, GHashTable *needed, GError **error)
{
    const GPtrArray *disks = op->domain->def->disks;
    for (guint i = 0; i < disks->len; i++)
        if (!check_disk(op, disks->pdata[i], needed, error))
            return FALSE;
    return TRUE;
}

/* --- freezing --- */

static gboolean check_unwritten(Op *op, const Layer *layer, GError **error)
{
    ImageUse use;
    if (!op->core->backend->ops->in_use(op->core->backend, layer->path, &use, error))
        return FALSE;
    if (use == USE_WRITER)
        snap_set_error(error, EBUSY, "another process writes '%s'", layer->path);
    return use != USE_WRITER;
}

/* Recorded as frozen it is since the import (STORE.md); now its write bits go. @homes: whose sidecars have to change. */
static gboolean plan_freeze(Op *op, Layer *layer, guint n, GHashTable *homes, GError **error)
{
    FileLook look;
    if (!op_take_image(op, layer->path, error) || !op_require_sole(op, "", layer, error) ||
        !check_unwritten(op, layer, error) || !file_look(layer->path, &look, error))
        return FALSE;
    plan_step(op->plan, STEP_FREEZE, n / PARALLEL, layer->path, layer->path)->mode = look.mode;
    if (layer->mode != overlay_active_mode(look.mode)) {
        layer->mode = overlay_active_mode(look.mode);
        g_hash_table_replace(homes, layer->home, layer);
    }
    return TRUE;
}

static gboolean plan_freezing(Op *op, GHashTable *needed, GHashTable *homes, GError **error)
{
    GHashTableIter iter;
    gpointer layer;
    guint n = 0;
    g_hash_table_iter_init(&iter, needed);
    while (g_hash_table_iter_next(&iter, &layer, NULL))
        if (((Layer *)layer)->frozen && !plan_freeze(op, layer, n++, homes, error))
            return FALSE;
    return TRUE;
}

/* Nobody came in between: what is frozen is what was looked at. */
static gboolean check_frozen(Op *op, GHashTable *needed, GError **error)
{
    GHashTableIter iter;
    gpointer layer;
    g_hash_table_iter_init(&iter, needed);
    while (g_hash_table_iter_next(&iter, &layer, NULL))
        if (((Layer *)layer)->frozen &&
            (!check_unwritten(op, layer, error) || !check_file(op->domain, layer, error)))
            return FALSE;
    return TRUE;
}

gboolean adopt_domain(Op *op, GError **error)
{
    Domain *domain = op->domain;
    g_autoptr(GHashTable) needed = domain_needed_layers(domain);
    g_autoptr(GHashTable) homes = g_hash_table_new(NULL, NULL);
    if (!adopt_check_released(domain, error) || !check_files(domain, error) || !op_require_off(op, error) ||
        !check_disks(op, needed, error) || !plan_freezing(op, needed, homes, error) ||
        !plan_prepare(op->plan, op->cancel, error) || !check_frozen(op, needed, error))
        return FALSE;
    g_clear_pointer(&domain->libvirt, g_free);
    g_clear_pointer(&domain->libvirt_snapshots, g_free);
    g_clear_pointer(&domain->held, g_free);
    op_write_sidecar(op);
    GHashTableIter iter;
    gpointer home, layer;
    g_hash_table_iter_init(&iter, homes);
    while (g_hash_table_iter_next(&iter, &home, &layer))
        if (home)
            op_write_home(op, layer);
    return op_commit(op, error, "adopted: libvirt does not define it any more");
}
