/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "after.h"

#include <string.h>

static SnapshotDef *read_document(Op *op, const Snapshot *snapshot, GError **error)
{
    return store_read_snapshot(op->core->store, op->domain->name, snapshot->name, error);
}

static SnapshotDisk *find_listed(const GPtrArray *disks, const char *target)
{
    for (guint i = 0; i < disks->len; i++) {
        SnapshotDisk *disk = disks->pdata[i];
        if (g_strcmp0(disk->name, target) == 0)
            return disk;
    }
    return NULL;
}

static gboolean stands_on(const Layer *upper, const StateDisk *state)
{
    return upper && g_strcmp0(upper->backing, state->layer->path) == 0;
}

/* What the guest writes now on the disk's state, or NULL. */
static const Layer *written_now(const Domain *domain, const Snapshot *snapshot, const StateDisk *state)
{
    const DiskDef *disk =
        domain->current == snapshot ? domain_def_find_disk(domain->def, state->target) : NULL;
    const Layer *layer = disk ? domain_active_layer(domain, disk) : NULL;
    return stands_on(layer, state) ? layer : NULL;
}

/* What stands on the disk's state: a child's state, or else any other layer. NULL: nothing is left. */
static const Layer *any_other(const Domain *domain, const Snapshot *snapshot, const StateDisk *state)
{
    g_autoptr(GPtrArray) children = domain_children(domain, snapshot);
    for (guint i = 0; i < children->len; i++) {
        const StateDisk *child = snapshot_find_disk(children->pdata[i], state->target);
        if (child && stands_on(child->layer, state))
            return child->layer;
    }
    const Layer *first = NULL;
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (stands_on(value, state) && (!first || strcmp(((Layer *)value)->path, first->path) < 0))
            first = value;
    return first;
}

static gboolean point_at(SnapshotDisk *disk, const Layer *layer)
{
    if (g_strcmp0(disk->source, layer->path) == 0 && disk->format == layer->format)
        return FALSE;
    snapshot_disk_set_source(disk, layer->type, layer->path);
    disk->format = layer->format;
    return TRUE;
}

/* <disks>: with children what it says stays, unless that is gone. */
static gboolean say_overlay(const Domain *domain, const Snapshot *snapshot, const StateDisk *state,
                            gboolean children, SnapshotDisk *listed)
{
    const Layer *now = written_now(domain, snapshot, state);
    if (!listed || listed->type == DISK_NETWORK)
        return FALSE;
    if (!children && now)
        return layer_is_local(now) && point_at(listed, now);
    if (!listed->source || stands_on(domain_find_layer(domain, listed->source), state))
        return FALSE;
    const Layer *other = any_other(domain, snapshot, state);
    return other && layer_is_local(other) && point_at(listed, other);
}

/* <revertDisks>: what is written on the state of a snapshot that has children, beside them. */
static gboolean say_revert(const Domain *domain, const Snapshot *snapshot, const StateDisk *state,
                           const SnapshotDisk *listed, GPtrArray *disks)
{
    const Layer *now = written_now(domain, snapshot, state);
    if (!now || !layer_is_local(now) || (listed && g_strcmp0(listed->source, now->path) == 0))
        return FALSE;
    SnapshotDisk *disk = find_listed(disks, state->target);
    if (!disk) {
        disk = snapshot_disk_new(state->target, MODE_EXTERNAL);
        g_ptr_array_add(disks, disk);
    }
    return point_at(disk, now);
}

gboolean after_write(Op *op, Snapshot *snapshot, GError **error)
{
    if (!snapshot)
        return TRUE;
    const Domain *domain = op->domain;
    g_autoptr(SnapshotDef) def = read_document(op, snapshot, error);
    g_autoptr(GPtrArray) children = domain_children(domain, snapshot);
    if (!def)
        return FALSE;
    gboolean changed = FALSE;
    if (children->len == 0 && def->revert_disks->len > 0) {
        g_ptr_array_set_size(def->revert_disks, 0);
        changed = TRUE;
    }
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const StateDisk *state = snapshot->disks->pdata[i];
        SnapshotDisk *listed = find_listed(def->disks, state->target);
        if (state->tag)
            continue;
        changed |= say_overlay(domain, snapshot, state, children->len > 0, listed);
        if (children->len > 0)
            changed |= say_revert(domain, snapshot, state, listed, def->revert_disks);
    }
    return !changed || op_write_snapshot(op, snapshot, def, error);
}

gboolean after_forget_revert(Op *op, Snapshot *snapshot, GError **error)
{
    if (!snapshot || !snapshot->reverted)
        return TRUE;
    g_autoptr(SnapshotDef) def = read_document(op, snapshot, error);
    if (!def)
        return FALSE;
    g_ptr_array_set_size(def->revert_disks, 0);
    return op_write_snapshot(op, snapshot, def, error);
}
