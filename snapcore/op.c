/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an op may touch: images taken for itself alone, held against writers, machines that are off. */
#include "op.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "mark.h"
#include "remote.h"

gboolean op_reserve_image(Op *op, const char *path, GError **error)
{
    FileLook look;
    g_autofree char *name =
        remote_is_uri(path) ? g_strconcat("/", path, NULL)
        : file_look(path, &look, NULL)
            ? g_strdup_printf("/%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, look.id.dev, look.id.ino)
            : g_strdup(path);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&op->core->lock);
    const Job *job = g_hash_table_lookup(op->core->busy, name);
    if (job && job != op->job) {
        snap_set_error(error, EBUSY, "job %u of domain '%s' is at work on '%s'", job->number, job->domain,
                       path);
        return FALSE;
    }
    if (!job) {
        g_hash_table_insert(op->core->busy, g_strdup(name), op->job);
        g_ptr_array_add(op->names, g_steal_pointer(&name));
    }
    return TRUE;
}

gboolean op_take_image(Op *op, const char *path, GError **error)
{
    return op_reserve_image(op, path, error) && mark_check(op->core->store, path, error);
}

/*
 * A qemu-img that has outlived its daemon (it dies with it, but not in the middle of a write to a disk that hangs)
 * writes into what lies below the active layer whatever that gets until it has ended: data that no other state than
 * the active one may be made to stand on.
 */
static gboolean check_still(const Op *op, GError **error)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, op->domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Layer *layer = value;
        ImageUse use;
        if (!layer->mixed || !layer_is_local(layer) ||
            !op->core->backend->ops->in_use(op->core->backend, layer->path, &use, NULL) || use != USE_WRITER)
            continue;
        snap_set_error(error, EBUSY, "layers are still being joined into '%s'", layer->path);
        return FALSE;
    }
    return TRUE;
}

gboolean op_require_unwritten(Op *op, GError **error)
{
    const GPtrArray *disks = op->domain->def->disks;
    for (guint i = 0; i < disks->len; i++) {
        const DiskDef *disk = disks->pdata[i];
        const Layer *layer = domain_active_layer(op->domain, disk);
        ImageUse use;
        g_autoptr(GError) why = NULL;
        if (!layer || !layer_is_local(layer) || disk->readonly)
            continue; /* NBD has no locks */
        if (!op->core->backend->ops->in_use(op->core->backend, layer->path, &use, &why)) {
            if (snap_errno(why) == ENOENT)
                continue; /* only what needs the image fails, and says so itself */
            g_propagate_prefixed_error(error, g_steal_pointer(&why), "disk '%s': ", disk->target);
            return FALSE;
        }
        if (use == USE_WRITER) {
            snap_set_error(error, EBUSY, "domain is running: disk '%s': another process writes '%s'",
                           disk->target, layer->path);
            return FALSE;
        }
    }
    return check_still(op, error);
}

const char *op_other_disk(const Op *op, const Layer *layer, const char *target)
{
    const GPtrArray *disks = op->domain->def->disks;
    for (guint i = 0; i < disks->len; i++) {
        const DiskDef *disk = disks->pdata[i];
        const Layer *other = domain_active_layer(op->domain, disk);
        if (strcmp(disk->target, target) != 0 && other &&
            layer_is_same_file(other, layer->path, &layer->file))
            return disk->target;
    }
    return NULL;
}

gboolean op_require_sole(Op *op, const char *target, const Layer *layer, GError **error)
{
    g_autofree char *other = NULL;
    const char *twin = op_other_disk(op, layer, target);
    if (twin)
        snap_set_error(error, EBUSY, "'%s' is also disk '%s'", layer->path, twin);
    else if (core_used_elsewhere(op->core, op->domain->object.id, layer->path, &layer->file, TRUE, &other))
        snap_set_error(error, EBUSY, "'%s' is also a disk of domain '%s'", layer->path, other);
    else
        return TRUE;
    return FALSE;
}

gboolean op_hold(Op *op, const Layer *layer, GError **error)
{
    int fd = op->core->backend->ops->hold(op->core->backend, layer->path, error);
    if (fd < 0)
        return FALSE;
    g_array_append_val(op->holds, fd);
    return TRUE;
}

gboolean op_take(Op *op, const Layer *layer, int *ret_fd, GError **error)
{
    int fd = op->core->backend->ops->take(op->core->backend, layer->path, error);
    if (fd < 0)
        return FALSE;
    g_array_append_val(op->holds, fd);
    *ret_fd = fd;
    return TRUE;
}
