/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay_target.h"

#include <errno.h>
#include <string.h>

#include "chain.h"
#include "error.h"
#include "remote.h"

/* What is known of one target while it is looked at. */
typedef struct {
    Op *op;
    const AlignedDisk *disk;
    Layer *on;
    const ImageInfo *info; /* of on */
    DiskType type;
    char *path;
    char *stem; /* NULL: the path was given */
} Target;

static void target_clear(Target *target)
{
    g_free(target->path);
    g_free(target->stem);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Target, target_clear)

/* Does some domain of the store know the image at the path, or (may be NULL) the file @file? */
static gboolean check_unknown(const Target *target, const FileId *file, GError **error)
{
    Op *op = target->op;
    g_autofree char *other = NULL;
    if (domain_names_image(op->domain, target->path, file, FALSE))
        other = g_strdup(op->domain->name);
    else if (!core_used_elsewhere(op->core, op->domain->object.id, target->path, file, FALSE, &other))
        return TRUE;
    snap_set_error(error, EEXIST, "'%s' is an image of domain '%s' already", target->path, other);
    return FALSE;
}

/* What is there is a file where a file is asked for, a device where a device is. */
static gboolean check_kind(const Target *target, const FileLook *look, GError **error)
{
    const char *other = look->block ? "block" : "file";
    if (look->block == (target->type == DISK_BLOCK))
        return TRUE;
    snap_set_error(error, EINVAL, "'%s' is a %s, not of type '%s': say type='%s' (stype=%s)", target->path,
                   look->block ? "block device" : "file", disk_type_to_string(target->type), other, other);
    return FALSE;
}

/* --- a new file --- */

static gboolean plan_file(const Target *target, Layer **ret_layer, GError **error)
{
    FileLook look;
    if (file_look(target->path, &look, NULL) && !check_kind(target, &look, error))
        return FALSE;
    if (file_exists(target->path)) {
        snap_set_error(error, EEXIST,
                       "'%s' exists already, and nothing is ever overwritten (an overlay that is there to be "
                       "used wants --reuse-external)",
                       target->path);
        return FALSE;
    }
    return check_unknown(target, NULL, error) && op_take_image(target->op, target->path, error) &&
           overlay_plan(target->op, target->disk->disk->target, target->on, target->path, target->stem,
                        target->disk->format, target->info->virtual_size, ret_layer, error);
}

/* --- a block device --- */

static gboolean plan_device(const Target *target, Layer **ret_layer, GError **error)
{
    FileLook look;
    return file_look(target->path, &look, error) && check_kind(target, &look, error) &&
           check_unknown(target, &look.id, error) && op_take_image(target->op, target->path, error) &&
           overlay_plan_place(target->op, target->disk->disk->target, target->on, target->path, DISK_BLOCK,
                              target->disk->format, target->info->virtual_size, ret_layer, error);
}

/* --- an NBD export --- */

static gboolean plan_export(const Target *target, Layer **ret_layer, GError **error)
{
    return check_unknown(target, NULL, error) && op_take_image(target->op, target->path, error) &&
           overlay_plan_place(target->op, target->disk->disk->target, target->on, target->path, DISK_NETWORK,
                              target->disk->format, target->info->virtual_size, ret_layer, error);
}

/* --- an image that is there --- */

static gboolean check_unused(const Target *target, GError **error)
{
    Backend *backend = target->op->core->backend;
    ImageUse use;
    if (!backend->ops->in_use(backend, target->path, &use, error))
        return FALSE;
    if (use == USE_NONE)
        return TRUE;
    snap_set_error(error, EBUSY, "another process has '%s' open", target->path);
    return FALSE;
}

/* Does the header of the overlay @above name the disk's layer, and its format? */
static gboolean check_above(const Target *target, const ImageInfo *above, GError **error)
{
    const Layer *on = target->on;
    FileLook is, should;
    g_autofree char *backing =
        above->backing_name ? chain_backing_path(target->op->core, target->path, above->backing_name, error)
                            : g_strdup("none");
    if (!backing)
        return FALSE;
    const char *format = image_format_to_string(above->backing_format);
    /* A qed header says no more than "raw" or "not raw". */
    gboolean fits = above->format == FORMAT_QED
                        ? (above->backing_format == FORMAT_RAW) == (on->format == FORMAT_RAW)
                        : above->backing_format == on->format;
    if (!above->backing_name || !file_look(backing, &is, NULL) || !file_look(on->path, &should, NULL) ||
        !file_id_equal(&is.id, &should.id))
        snap_set_error(error, EINVAL,
                       "'%s' has the backing file '%s', an overlay of this disk must have '%s' (qemu-img "
                       "rebase -u -b FILE -F %s)",
                       target->path, backing, on->path, image_format_to_string(on->format));
    else if (!fits)
        snap_set_error(error, EINVAL,
                       "'%s' says that its backing file is of type %s, but it is %s (qemu-img rebase -u -b "
                       "FILE -F %s)",
                       target->path, format, image_format_to_string(on->format),
                       image_format_to_string(on->format));
    else if (above->virtual_size != target->info->virtual_size)
        snap_set_error(error, EINVAL,
                       "'%s' has a virtual size of %" G_GUINT64_FORMAT
                       " bytes, the disk has %" G_GUINT64_FORMAT,
                       target->path, above->virtual_size, target->info->virtual_size);
    else
        return chain_check_info(target->path, above, error);
    return FALSE;
}

/* Nobody else's, and meant to be written. */
static gboolean check_free(const Target *target, const FileLook *look, GError **error)
{
    const Layer seen = {.path = target->path, .file = look->id};
    if (!check_unknown(target, &look->id, error) || !op_take_image(target->op, target->path, error) ||
        !check_unused(target, error))
        return FALSE;
    if (!look->block && (look->mode & 0222) == 0)
        snap_set_error(error, EACCES,
                       "'%s' has no write bits: something stands on it, or nobody may write it",
                       target->path);
    else if (chain_has_clone(target->op->core, target->op->domain, &seen))
        snap_set_error(error, EBUSY, "another image beside it has '%s' as its backing file", target->path);
    else
        return TRUE;
    return FALSE;
}

static gboolean check_local(const Target *target, GError **error)
{
    FileLook look;
    g_autoptr(GError) why = NULL;
    if (file_look(target->path, &look, &why))
        return check_kind(target, &look, error) && check_free(target, &look, error);
    snap_set_error(
        error, snap_errno(why),
        "%s: with --reuse-external the overlay must be there already (qemu-img create -f %s -b '%s' "
        "-F %s)",
        why->message, image_format_to_string(target->disk->format), target->on->path,
        image_format_to_string(target->on->format));
    return FALSE;
}

/* libvirt takes what it finds when the domain is off; a wrong backing file is then found by the guest. */
static gboolean plan_reuse(const Target *target, Layer **ret_layer, GError **error)
{
    Backend *backend = target->op->core->backend;
    gboolean local = target->type != DISK_NETWORK;
    g_autoptr(ImageInfo) above = NULL;
    if (!(local ? check_local(target, error)
                : check_unknown(target, NULL, error) && op_take_image(target->op, target->path, error)) ||
        !backend->ops->inspect(backend, target->path, target->disk->format, &above, error) ||
        !check_above(target, above, error))
        return FALSE;
    *ret_layer =
        overlay_adopt(target->op, target->on, target->path, target->stem, target->type, target->disk->format);
    /* Whoever made it may not have waited for the disk. */
    return !local || (op_hold(target->op, *ret_layer, error) && file_sync(target->path, error) &&
                      file_sync_parent(target->path, error));
}

/* --- choosing --- */

static gboolean choose_path(Target *target, const char *name, GError **error)
{
    const SnapshotDisk *request = target->disk->request;
    target->type = request ? request->type : DISK_FILE;
    if (target->type == DISK_NETWORK)
        target->path = remote_uri(request->source_node, error);
    else if (request && request->source)
        target->path = chain_real_path(target->op->core, request->source, error);
    else if (target->disk->reuse)
        target->path = overlay_exact_name(target->on, name, &target->stem, error);
    else
        target->path = overlay_name(target->op, target->on, name, &target->stem, error);
    return target->path != NULL;
}

gboolean overlay_target_plan(Op *op, const AlignedDisk *disk, Layer *on, const ImageInfo *info,
                             const char *name, Layer **ret_layer, GError **error)
{
    g_auto(Target) target = {.op = op, .disk = disk, .on = on, .info = info};
    if (!choose_path(&target, name, error))
        return FALSE;
    if (disk->reuse)
        return plan_reuse(&target, ret_layer, error);
    switch (target.type) {
    case DISK_BLOCK:
        return plan_device(&target, ret_layer, error);
    case DISK_NETWORK:
        return plan_export(&target, ret_layer, error);
    default:
        return plan_file(&target, ret_layer, error);
    }
}

static void point(const Op *op, DomainDef *def, const AlignedDisk *disk, const Layer *overlay)
{
    DiskDef *now = domain_def_find_disk(def, disk->disk->target);
    const SnapshotDisk *request = disk->request;
    g_autoptr(GPtrArray) backing =
        domain_backing_list(op->domain, domain_find_layer(op->domain, overlay->backing));
    if (!now)
        return; /* attached while it runs */
    if (overlay->type == DISK_NETWORK)
        domain_def_set_network_source(def, now, request->source_node, overlay->format, backing);
    else
        domain_def_set_source(def, now, overlay->type, overlay->path, overlay->format, backing);
    if (request)
        domain_def_describe_image(now, request->cache_size, request->source_node);
}

void overlay_target_point(Op *op, const AlignedDisk *disk, const Layer *overlay)
{
    point(op, op->domain->def, disk, overlay);
    if (op->domain->live)
        point(op, op->domain->live, disk, overlay);
}
