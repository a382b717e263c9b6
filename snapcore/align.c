/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "align.h"

#include <errno.h>
#include <string.h>

#include "error.h"

/* The requests by disk: request[i] is about def->disks[i], or NULL. */
static const SnapshotDisk **sort_requests(const DomainDef *def, const CreateRequest *request, GError **error)
{
    g_autofree const SnapshotDisk **sorted = g_new0(const SnapshotDisk *, def->disks->len + 1);
    for (guint i = 0; i < request->disks->len; i++) {
        const SnapshotDisk *asked = request->disks->pdata[i];
        guint at;
        DiskDef *disk = domain_def_find_disk(def, asked->name);
        if (!disk || !g_ptr_array_find(def->disks, disk, &at)) {
            snap_set_error(error, EINVAL, "domain '%s' has no disk '%s'", def->name, asked->name);
            return NULL;
        }
        if (sorted[at]) {
            snap_set_error(error, EINVAL, "disk '%s' is named twice", disk->target);
            return NULL;
        }
        sorted[at] = asked;
    }
    return g_steal_pointer(&sorted);
}

/* What request and definition say; MODE_DEFAULT when both are silent. */
static SnapMode said_mode(const DiskDef *disk, const SnapshotDisk *asked)
{
    if (asked && asked->mode != MODE_DEFAULT)
        return asked->mode;
    if (asked && (snapshot_disk_names_image(asked) || asked->format != FORMAT_NONE))
        return MODE_EXTERNAL;
    if (!disk_def_has_media(disk))
        return MODE_NO;
    if (disk->snapshot != MODE_DEFAULT)
        return disk->snapshot;
    /* Media that the guest cannot write need no snapshot, unless the request says how, not just which disk. */
    return disk->readonly ? MODE_NO : MODE_DEFAULT;
}

static gboolean check_external(const AlignedDisk *aligned, const SnapshotDisk *asked, GError **error)
{
    const DiskDef *disk = aligned->disk;
    gboolean named = asked && snapshot_disk_names_image(asked);
    if (asked && asked->type != DISK_FILE && !named)
        snap_set_error(error, EINVAL,
                       "disk '%s': an overlay of type '%s' needs a <source> (--diskspec %s,file=PATH)",
                       disk->target, disk_type_to_string(asked->type), disk->target);
    else if (disk->device == DEVICE_LUN || (disk->shareable && !disk->readonly))
        snap_set_error(
            error, EOPNOTSUPP,
            "disk '%s': no external snapshot of a %s disk: leave it out (--diskspec %s,snapshot=no)",
            disk->target, disk->device == DEVICE_LUN ? "lun" : "shareable", disk->target);
    else if (disk->type == DISK_BLOCK && !named)
        snap_set_error(error, EOPNOTSUPP,
                       "disk '%s' is a block device: say where its overlay goes (--diskspec %s,file=PATH)",
                       disk->target, disk->target);
    else if (aligned->format != FORMAT_QCOW2 && aligned->format != FORMAT_QED)
        snap_set_error(error, EOPNOTSUPP, "disk '%s': an overlay cannot be of type '%s'", disk->target,
                       image_format_to_string(aligned->format));
    else
        return TRUE;
    return FALSE;
}

static gboolean check_disk(const AlignedDisk *aligned, const SnapshotDisk *asked, const DiskAbility *ability,
                           GError **error)
{
    const DiskDef *disk = aligned->disk;
    if (asked && snapshot_disk_names_image(asked) && aligned->mode != MODE_EXTERNAL) {
        snap_set_error(error, EINVAL, "disk '%s': a file is named, but its snapshot is '%s'", disk->target,
                       snap_mode_to_string(aligned->mode));
        return FALSE;
    }
    if (aligned->mode == MODE_NO || aligned->mode == MODE_MANUAL)
        return TRUE;
    if (!disk_def_has_media(disk)) {
        snap_set_error(error, EOPNOTSUPP, "disk '%s': the drive is empty", disk->target);
        return FALSE;
    }
    if (disk->type != DISK_FILE && disk->type != DISK_BLOCK) {
        g_autofree char *word = xml_attr(disk->node, "type"); /* the document's own: DISK_OTHER has several */
        snap_set_error(
            error, EOPNOTSUPP,
            "disk '%s' is of type '%s', of which no snapshot can be taken: leave it out (--diskspec "
            "%s,snapshot=no, or snapshot='no' in the domain's <disk>)",
            disk->target, word, disk->target);
        return FALSE;
    }
    if (aligned->mode == MODE_INTERNAL && !ability->can_internal) {
        snap_set_error(error, ability->code, "disk '%s': no internal snapshot is possible: %s", disk->target,
                       ability->why_not);
        return FALSE;
    }
    return aligned->mode != MODE_EXTERNAL || check_external(aligned, asked, error);
}

/*
 * As libvirt's --disk-only: a request for files besides the disks, so that those it does not speak of are external too.
 * Where it names no disk at all, or asks for an internal one, the combination table says otherwise.
 */
static gboolean wants_files(const CreateRequest *request)
{
    if (!request->disk_only || !request->disks || request->disks->len == 0)
        return FALSE;
    for (guint i = 0; i < request->disks->len; i++)
        if (((SnapshotDisk *)request->disks->pdata[i])->mode == MODE_INTERNAL)
            return FALSE;
    return TRUE;
}

/* DESIGN 3: internal where every participating silent disk can, external otherwise. */
static SnapMode silent_mode(const CreateRequest *request, const GArray *disks, const DiskAbility *abilities)
{
    if (wants_files(request))
        return MODE_EXTERNAL;
    for (guint i = 0; i < disks->len; i++)
        if (g_array_index(disks, AlignedDisk, i).mode == MODE_DEFAULT &&
            (!abilities[i].can_internal || abilities[i].crowded))
            return MODE_EXTERNAL;
    return MODE_INTERNAL;
}

GArray *align_disks(const DomainDef *def, const CreateRequest *request, const DiskAbility *abilities,
                    SnapMode silent, GError **error)
{
    g_autofree const SnapshotDisk **asked = sort_requests(def, request, error);
    if (!asked)
        return NULL;
    g_autoptr(GArray) disks = g_array_new(FALSE, TRUE, sizeof(AlignedDisk));
    for (guint i = 0; i < def->disks->len; i++) {
        const DiskDef *disk = def->disks->pdata[i];
        AlignedDisk aligned = {.disk = disk,
                               .mode = said_mode(disk, asked[i]),
                               .format = FORMAT_QCOW2,
                               .reuse = request->reuse_external};
        if (asked[i]) {
            aligned.request = asked[i];
            aligned.format = asked[i]->format == FORMAT_NONE ? FORMAT_QCOW2 : asked[i]->format;
            aligned.asked = asked[i]->mode != MODE_DEFAULT || snapshot_disk_names_image(asked[i]) ||
                            asked[i]->format != FORMAT_NONE;
        }
        g_array_append_val(disks, aligned);
    }
    SnapMode rest = silent == MODE_DEFAULT ? silent_mode(request, disks, abilities) : silent;
    for (guint i = 0; i < disks->len; i++) {
        AlignedDisk *aligned = &g_array_index(disks, AlignedDisk, i);
        if (aligned->mode == MODE_DEFAULT)
            aligned->mode = rest;
        if (!check_disk(aligned, asked[i], &abilities[i], error))
            return NULL;
    }
    return g_steal_pointer(&disks);
}

guint align_asks(const GArray *disks)
{
    guint asks = 0;
    gboolean asked = FALSE;
    for (guint i = 0; i < disks->len; i++) {
        const AlignedDisk *disk = &g_array_index(disks, AlignedDisk, i);
        asked |= disk->asked;
        if (disk->mode == MODE_INTERNAL)
            asks |= 1u << ASK_INTERNAL;
        else if (disk->mode == MODE_EXTERNAL)
            asks |= 1u << ASK_EXTERNAL;
    }
    if (!asks)
        return 1u << ASK_NO;
    return asked ? asks : 1u << ASK_OMIT;
}
