/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A snapshot's document from outside: redefine (facts/libvirt-snapshots.md 1.3), and its description alone. */
#include <errno.h>
#include <string.h>

#include "admit.h"
#include "error.h"
#include "names.h"
#include "overlay.h"
#include "redefine_check.h"
#include "state.h"
#include "undo.h"

/* What the store knew of a disk's state before. */
typedef struct {
    char *target;
    Layer *layer;
    char *tag;
} Kept;

static void kept_clear(gpointer data)
{
    g_free(((Kept *)data)->target);
    g_free(((Kept *)data)->tag);
}

static GArray *keep_disks(const Snapshot *snapshot)
{
    GArray *kept = g_array_new(FALSE, TRUE, sizeof(Kept));
    g_array_set_clear_func(kept, kept_clear);
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const StateDisk *disk = snapshot->disks->pdata[i];
        Kept keep = {g_strdup(disk->target), disk->layer, g_strdup(disk->tag)};
        g_array_append_val(kept, keep);
    }
    return kept;
}

/* Does the document say the same of this disk as before? Then what the store knows of it stays. */
static gboolean same_disk(const SnapshotDef *old, const SnapshotDef *def, const SnapshotDisk *disk)
{
    const SnapshotDisk *was = old ? snapshot_def_find_disk(old, disk->name) : NULL;
    const DiskDef *was_def = old && old->domain ? domain_def_find_disk(old->domain, disk->name) : NULL;
    const DiskDef *is_def = domain_def_find_disk(def->domain, disk->name);
    return was && was->mode == disk->mode && g_strcmp0(was->source, disk->source) == 0 && was_def && is_def &&
           g_strcmp0(was_def->source, is_def->source) == 0;
}

static const Kept *find_kept(const GArray *kept, const SnapshotDef *old, const SnapshotDef *def,
                             const SnapshotDisk *disk)
{
    for (guint i = 0; i < kept->len; i++) {
        const Kept *keep = &g_array_index(kept, Kept, i);
        if (strcmp(keep->target, disk->name) == 0)
            return same_disk(old, def, disk) ? keep : NULL;
    }
    return NULL;
}

/* The tag that the state is. One that the store knew stays if it is there. Caller frees. */
static char *find_tag(Op *op, const Layer *layer, const char *name, const Kept *keep)
{
    g_autoptr(ImageInfo) info = NULL;
    if (!op->core->backend->ops->inspect(op->core->backend, layer->path, layer->format, &info, NULL))
        return g_strdup(keep ? keep->tag : name);
    if (keep && image_info_has_tag(info, keep->tag))
        return g_strdup(keep->tag);
    return overlay_tag_of(info, name);
}

static gboolean take_internal(Op *op, Snapshot *snapshot, const char *target, Layer *layer, const Kept *keep,
                              GError **error)
{
    if (!admit_state(op->domain, layer, FALSE, error))
        return FALSE;
    g_autofree char *tag = find_tag(op, layer, snapshot->name, keep);
    snapshot_add_disk(snapshot, target, layer, tag);
    return TRUE;
}

static gboolean take_external(Op *op, Snapshot *snapshot, const char *target, Layer *layer, GError **error)
{
    if (!admit_state(op->domain, layer, TRUE, error))
        return FALSE;
    if (file_id_known(&layer->file) &&
        (!op_take_image(op, layer->path, error) || !op_require_sole(op, target, layer, error) ||
         !op_hold(op, layer, error) || !overlay_freeze(op, target, layer, snapshot, error)))
        return FALSE;
    snapshot_add_disk(snapshot, target, layer, NULL);
    return TRUE;
}

/* Two disks in one image: reverting would apply two states to it, or have two disks write it. */
static gboolean require_own_image(const Snapshot *snapshot, const Layer *layer, GError **error)
{
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const StateDisk *other = snapshot->disks->pdata[i];
        if (other->layer != layer &&
            !(file_id_known(&layer->file) && file_id_equal(&other->layer->file, &layer->file)))
            continue;
        snap_set_error(error, EINVAL, "'%s' is the image of disk '%s' too", layer->path, other->target);
        return FALSE;
    }
    return TRUE;
}

/* Where a disk's state is, as the document says; or as the store knows, if that was all there and is the same. */
static gboolean take_disk(Op *op, Snapshot *snapshot, const SnapshotDef *def, const SnapshotDisk *disk,
                          const Kept *keep, GError **error)
{
    if (keep && keep->layer->frozen) {
        snapshot_add_disk(snapshot, keep->target, keep->layer, keep->tag);
        return TRUE;
    }
    Layer *layer = state_layer(op->core, op->domain, def->domain, disk->name, error);
    if (!layer)
        return FALSE;
    if (require_own_image(snapshot, layer, error) &&
        (disk->mode == MODE_INTERNAL ? take_internal(op, snapshot, disk->name, layer, keep, error)
                                     : take_external(op, snapshot, disk->name, layer, error)))
        return TRUE;
    g_prefix_error(error, "disk '%s': ", disk->name);
    return FALSE;
}

static gboolean take_disks(Op *op, Snapshot *snapshot, const SnapshotDef *def, const SnapshotDef *old,
                           GError **error)
{
    if (!def->domain) /* nor did the stored one say: nothing new is known of the states */
        return TRUE;
    g_autoptr(GArray) kept = keep_disks(snapshot);
    snapshot_clear_disks(snapshot);
    for (guint i = 0; i < def->disks->len; i++) {
        const SnapshotDisk *disk = def->disks->pdata[i];
        if ((disk->mode == MODE_INTERNAL || disk->mode == MODE_EXTERNAL) &&
            !take_disk(op, snapshot, def, disk, find_kept(kept, old, def, disk), error))
            return FALSE;
    }
    return TRUE;
}

static void take_fields(Snapshot *snapshot, const SnapshotDef *def, Domain *domain)
{
    g_free(snapshot->description);
    snapshot->description = g_strdup(def->description);
    snapshot->state = def->state;
    snapshot_set_memory(snapshot, def->memory, def->memory_file);
    snapshot->time = def->creation_time;
    snapshot->parent = def->parent ? domain_find_snapshot(domain, def->parent) : NULL;
    domain_sort_snapshots(domain);
}

/* Another name in the document renames; the children's documents follow. */
static gboolean take_name(Op *op, Snapshot *snapshot, const char *name, GError **error)
{
    if (strcmp(snapshot->name, name) == 0)
        return TRUE;
    if (domain_find_snapshot(op->domain, name)) {
        snap_set_error(error, EEXIST, "there is a snapshot '%s' already", name);
        return FALSE;
    }
    g_autoptr(GPtrArray) children = domain_children(op->domain, snapshot);
    op_remove_snapshot(op, snapshot->name);
    g_ptr_array_add(op->gone, g_strdup(snapshot->name));
    domain_rename_snapshot(op->domain, snapshot, name);
    for (guint i = 0; i < children->len; i++)
        if (!op_rewrite_snapshot(op, children->pdata[i], error))
            return FALSE;
    return TRUE;
}

/* What the document leaves to what is there: the machine, secrets, and names of overlays. */
static gboolean complete(Op *op, SnapshotDef *def, const SnapshotDef *old, GError **error)
{
    if (!def->domain && old && old->domain) {
        def->domain = domain_def_copy(old->domain);
        if (!snapshot_def_align_disks(def, def->domain, error))
            return FALSE;
    } else if (old) {
        snapshot_def_restore_secrets(def, old);
    }
    return redefine_name_overlays(op->core, def, error);
}

static gboolean redefine(Op *op, Snapshot *existing, SnapshotDef *def, RedefineFlags flags, GError **error)
{
    g_autoptr(SnapshotDef) old = NULL;
    if (existing) {
        old = store_read_snapshot(op->core->store, op->domain->name, existing->name, error);
        if (!old)
            return FALSE;
    }
    if (!redefine_check(op->domain, def, existing, old, flags, error) || !complete(op, def, old, error))
        return FALSE;
    Snapshot *snapshot = existing ? existing : domain_add_snapshot(op->domain, def->name, def->creation_time);
    if (!take_name(op, snapshot, def->name, error) || !take_disks(op, snapshot, def, old, error))
        return FALSE;
    take_fields(snapshot, def, op->domain);
    undo_forget(op);
    op_prune(op);
    if (flags & REDEFINE_CURRENT)
        op->domain->current = snapshot;
    if (!plan_prepare(op->plan, op->cancel, error) || !overlay_record(op, error) ||
        !op_write_snapshot(op, snapshot, def, error))
        return FALSE;
    op_write_sidecar(op);
    return op_commit(op, error, "redefine '%s'", def->name);
}

gboolean core_redefine(Engine *engine, EngineId domain, EngineId id, const char *xml, gsize len,
                       RedefineFlags flags, GCancellable *cancel, GError **error)
{
    g_autoptr(SnapshotDef) def = snapshot_def_parse(xml, len, error);
    if (!def)
        return FALSE;
    g_autoptr(Op) op = op_begin((Core *)engine, domain, cancel, error, "redefine '%s'", def->name);
    if (op) {
        Snapshot *existing =
            id ? domain_snapshot(op->domain, id) : domain_find_snapshot(op->domain, def->name);
        if (id && !existing)
            snap_set_error(error, ENOENT, "it is gone");
        else if (redefine(op, existing, def, flags, error))
            return TRUE;
    }
    return FALSE;
}

static gboolean describe(Op *op, Snapshot *snapshot, const char *description, GError **error)
{
    if (!g_utf8_validate(description, -1, NULL) || !xml_text_valid(description)) {
        snap_set_error(error, EILSEQ, "the text has characters that XML cannot hold");
        return FALSE;
    }
    if (strlen(description) > XML_MAX_BYTES / 2) {
        snap_set_error(error, E2BIG, "the text is too long");
        return FALSE;
    }
    g_autoptr(SnapshotDef) def =
        store_read_snapshot(op->core->store, op->domain->name, snapshot->name, error);
    if (!def)
        return FALSE;
    g_free(def->description);
    def->description = *description ? g_strdup(description) : NULL;
    g_free(snapshot->description);
    snapshot->description = g_strdup(def->description);
    return op_write_snapshot(op, snapshot, def, error) && op_commit(op, error, "describe '%s'", def->name);
}

gboolean core_describe(Engine *engine, EngineId id, const char *description, GCancellable *cancel,
                       GError **error)
{
    g_autofree char *name = core_name(engine, id);
    EngineId domain = id >> OBJECT_BITS << OBJECT_BITS;
    g_autoptr(Op) op = op_begin((Core *)engine, domain, cancel, error, "describe '%s'", name ? name : "?");
    Snapshot *snapshot = op ? domain_snapshot(op->domain, id) : NULL;
    if (op && !snapshot)
        snap_set_error(error, ENOENT, "it is gone");
    else if (op && describe(op, snapshot, description, error))
        return TRUE;
    return FALSE;
}
