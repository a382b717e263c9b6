/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A snapshot's document from outside: redefine (facts/libvirt-snapshots.md 1.3), and its description alone. */
#include <errno.h>
#include <string.h>

#include "chain.h"
#include "error.h"
#include "names.h"
#include "overlay.h"

/* The rules of the table that need the domain: whose document is it, may it stand there? */
static gboolean check_document(const Domain *domain, const SnapshotDef *def, const SnapshotDef *old,
                               const Snapshot *existing, GError **error)
{
    const char *uuid = def->domain ? def->domain->uuid : def->domain_uuid;
    const Snapshot *parent = def->parent ? domain_find_snapshot(domain, def->parent) : NULL;
    gboolean was_active = old && (old->state == STATE_RUNNING || old->state == STATE_PAUSED);
    gboolean is_active = def->state == STATE_RUNNING || def->state == STATE_PAUSED;
    if (uuid && strcmp(uuid, domain->def->uuid) != 0)
        snap_set_error(error, EINVAL, "the document is about the domain with the uuid '%s'", uuid);
    else if (!def->domain && !(old && old->domain))
        snap_set_error(error, EINVAL, "the document has no <domain>");
    else if (def->parent && !parent)
        snap_set_error(error, EINVAL, "its parent '%s' does not exist", def->parent);
    else if (existing && parent && snapshot_descends(parent, existing))
        snap_set_error(error, EINVAL, "its parent '%s' descends from it", def->parent);
    else if (old && (was_active != is_active ||
                     (old->state == STATE_DISK_SNAPSHOT) != (def->state == STATE_DISK_SNAPSHOT)))
        snap_set_error(error, EINVAL, "the state cannot change from '%s' to '%s'",
                       snap_state_to_string(old->state), snap_state_to_string(def->state));
    else
        return name_check_document(def->name, NAME_SNAPSHOT, error);
    return FALSE;
}

/* Does the document say the same of this disk as before? Then what the store knows of it stays. */
static gboolean same_disk(const SnapshotDef *old, const SnapshotDef *def, const SnapshotDisk *disk)
{
    const SnapshotDisk *was = old ? snapshot_def_find_disk(old, disk->name) : NULL;
    const DiskDef *was_def = old && old->domain ? domain_def_find_disk(old->domain, disk->name) : NULL;
    const DiskDef *is_def = def->domain ? domain_def_find_disk(def->domain, disk->name) : was_def;
    return was && was->mode == disk->mode && g_strcmp0(was->source, disk->source) == 0 && was_def && is_def &&
           g_strcmp0(was_def->source, is_def->source) == 0;
}

/* A disk that the store does not know from this snapshot: the document says where its state is. */
static gboolean take_disk(Op *op, Snapshot *snapshot, const SnapshotDef *def, const SnapshotDisk *disk,
                          GError **error)
{
    DiskDef *at = domain_def_find_disk(def->domain, disk->name);
    if (!at || !at->source) {
        snap_set_error(error, EOPNOTSUPP, "disk '%s': the document names no local image for it", disk->name);
        return FALSE;
    }
    g_autofree char *real = chain_real_path(op->core, at->source, error);
    if (!real)
        return FALSE;
    if (strcmp(real, at->source) != 0)
        domain_def_set_path(at, real);
    if (!chain_record(op->core, op->domain, at, error)) {
        g_prefix_error(error, "disk '%s': ", disk->name);
        return FALSE;
    }
    Layer *layer = domain_find_layer(op->domain, real);
    if (disk->mode == MODE_INTERNAL) {
        snapshot_add_disk(snapshot, disk->name, layer, snapshot->name);
        return TRUE;
    }
    if (domain_layer_is_active(op->domain, layer)) {
        snap_set_error(
            error, EINVAL,
            "disk '%s': '%s' is what the domain writes now, it cannot be the state of a snapshot: first "
            "point the domain at the overlay",
            disk->name, real);
        return FALSE;
    }
    if (file_id_known(&layer->file) &&
        (!op_take_image(op, layer->path, error) || !op_require_sole(op, disk->name, layer, error) ||
         !op_hold(op, layer, error) || !overlay_freeze(op, disk->name, layer, snapshot, error)))
        return FALSE;
    snapshot_add_disk(snapshot, disk->name, layer, NULL);
    return TRUE;
}

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

static gboolean take_disks(Op *op, Snapshot *snapshot, const SnapshotDef *def, const SnapshotDef *old,
                           GError **error)
{
    g_autoptr(GArray) kept = g_array_new(FALSE, TRUE, sizeof(Kept));
    g_array_set_clear_func(kept, kept_clear);
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const StateDisk *disk = snapshot->disks->pdata[i];
        Kept keep = {g_strdup(disk->target), disk->layer, g_strdup(disk->tag)};
        g_array_append_val(kept, keep);
    }
    snapshot_clear_disks(snapshot);
    for (guint i = 0; i < def->disks->len; i++) {
        const SnapshotDisk *disk = def->disks->pdata[i];
        const Kept *keep = NULL;
        for (guint j = 0; j < kept->len && same_disk(old, def, disk); j++)
            if (strcmp(g_array_index(kept, Kept, j).target, disk->name) == 0)
                keep = &g_array_index(kept, Kept, j);
        if (keep)
            snapshot_add_disk(snapshot, keep->target, keep->layer, keep->tag);
        else if ((disk->mode == MODE_INTERNAL || disk->mode == MODE_EXTERNAL) &&
                 !take_disk(op, snapshot, def, disk, error))
            return FALSE;
    }
    return TRUE;
}

static void take_fields(Snapshot *snapshot, const SnapshotDef *def, Domain *domain)
{
    g_free(snapshot->description);
    snapshot->description = g_strdup(def->description);
    snapshot->state = def->state;
    snapshot->memory = def->memory;
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

static gboolean redefine(Op *op, Snapshot *existing, SnapshotDef *def, gboolean current, GError **error)
{
    g_autoptr(SnapshotDef) old = NULL;
    if (existing) {
        old = store_read_snapshot(op->core->store, op->domain->name, existing->name, error);
        if (!old)
            return FALSE;
    }
    if (!check_document(op->domain, def, old, existing, error))
        return FALSE;
    if (!def->domain) {
        def->domain = domain_def_copy(old->domain);
        if (!snapshot_def_align_disks(def, def->domain, error))
            return FALSE;
    } else if (old) {
        snapshot_def_restore_secrets(def, old);
    }
    Snapshot *snapshot = existing ? existing : domain_add_snapshot(op->domain, def->name, def->creation_time);
    if (!take_name(op, snapshot, def->name, error) || !take_disks(op, snapshot, def, old, error))
        return FALSE;
    take_fields(snapshot, def, op->domain);
    if (current)
        op->domain->current = snapshot;
    if (!plan_prepare(op->plan, op->cancel, error) || !overlay_record(op, error) ||
        !op_write_snapshot(op, snapshot, def, error))
        return FALSE;
    op_write_sidecar(op);
    return op_commit(op, error, "redefine '%s'", def->name);
}

gboolean core_redefine(Engine *engine, EngineId domain, EngineId id, const char *xml, gsize len,
                       gboolean current, GCancellable *cancel, GError **error)
{
    g_autoptr(SnapshotDef) def = snapshot_def_parse(xml, len, error);
    if (!def) {
        return FALSE;
    }
    g_autoptr(Op) op = op_begin((Core *)engine, domain, cancel, error, "redefine '%s'", def->name);
    if (op) {
        Snapshot *existing =
            id ? g_hash_table_lookup(op->domain->objects, &id) : domain_find_snapshot(op->domain, def->name);
        if (id && !existing)
            snap_set_error(error, ENOENT, "it is gone");
        else if (redefine(op, existing, def, current, error))
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
    Snapshot *snapshot = op ? g_hash_table_lookup(op->domain->objects, &id) : NULL;
    if (op && !snapshot)
        snap_set_error(error, ENOENT, "it is gone");
    else if (op && describe(op, snapshot, description, error))
        return TRUE;
    return FALSE;
}
