/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Deleting snapshots: the name goes, at once and in every tree shape; layers stay (DESIGN 4). A tag that nothing
 * names any more is dropped after the commit.
 */
#include <errno.h>

#include "after.h"
#include "delete.h"
#include "error.h"
#include "machines.h"
#include "sidefile.h"
#include "undo.h"

/* The snapshots to delete, parents after their children. */
static GPtrArray *choose(const Domain *domain, Snapshot *snapshot, DeleteFlags flags)
{
    GPtrArray *chosen = g_ptr_array_new();
    if (!(flags & (DELETE_CHILDREN | DELETE_CHILDREN_ONLY))) {
        g_ptr_array_add(chosen, snapshot);
        return chosen;
    }
    for (guint i = domain->snapshots->len; i > 0; i--) {
        Snapshot *other = domain->snapshots->pdata[i - 1];
        if (snapshot_descends(other, snapshot) && !(other == snapshot && (flags & DELETE_CHILDREN_ONLY)))
            g_ptr_array_add(chosen, other);
    }
    return chosen;
}

static void release(Domain *domain, const Snapshot *snapshot)
{
    for (guint i = 0; i < snapshot->disks->len; i++)
        domain_release_layer(domain, ((StateDisk *)snapshot->disks->pdata[i])->layer);
}

/* An internal state that loses its name: its tag goes after the commit. Layer and tag are remembered until then. */
typedef struct {
    Layer *layer;
    char *disk;
    char *tag;
} Tag;

static void tag_clear(gpointer data)
{
    g_free(((Tag *)data)->disk);
    g_free(((Tag *)data)->tag);
}

static void collect_tags(const Snapshot *snapshot, GArray *tags)
{
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const StateDisk *disk = snapshot->disks->pdata[i];
        Tag tag = {disk->layer, g_strdup(disk->target), g_strdup(disk->tag)};
        g_array_append_val(tags, tag);
    }
}

static void drop_tags(Op *op, const GArray *tags)
{
    for (guint i = 0; i < tags->len; i++) {
        const Tag *tag = &g_array_index(tags, Tag, i);
        if (tag->tag && !domain_tag_named(op->domain, tag->layer, tag->tag))
            op_drop_tag(op, tag->disk, tag->layer, tag->tag);
    }
}

/* What goes with the snapshot; @released: its memory stays, in the user's hands. */
static void remove_files(Op *op, const Snapshot *snapshot, gboolean released)
{
    if (!released)
        sidefile_plan_unlink(op, "memory", &snapshot->memory_file);
    sidefile_plan_unlink(op, "nvram", &snapshot->nvram);
    sidefile_plan_unlink(op, "screenshot", &snapshot->screenshot);
}

/* Take one snapshot out; @adopted: the snapshots that have another parent now. */
static void remove_one(Op *op, Snapshot *snapshot, GHashTable *adopted)
{
    g_autoptr(GPtrArray) children = domain_children(op->domain, snapshot);
    for (guint i = 0; i < children->len; i++)
        g_hash_table_add(adopted, children->pdata[i]);
    g_hash_table_remove(adopted, snapshot);
    g_ptr_array_add(op->gone, g_strdup(snapshot->name));
    op_remove_snapshot(op, snapshot->name);
    domain_remove_snapshot(op->domain, snapshot);
}

gboolean delete_names(Op *op, Snapshot *snapshot, DeleteFlags flags, GError **error)
{
    g_autoptr(GPtrArray) chosen = choose(op->domain, snapshot, flags);
    g_autoptr(GArray) tags = g_array_new(FALSE, TRUE, sizeof(Tag));
    g_autoptr(GHashTable) adopted = g_hash_table_new(NULL, NULL);
    g_array_set_clear_func(tags, tag_clear);

    for (guint i = 0; i < chosen->len; i++) {
        if (flags & DELETE_METADATA)
            release(op->domain, chosen->pdata[i]);
        else
            collect_tags(chosen->pdata[i], tags);
        remove_files(op, chosen->pdata[i], (flags & DELETE_METADATA) != 0);
        remove_one(op, chosen->pdata[i], adopted);
    }
    GHashTableIter iter;
    gpointer child;
    g_hash_table_iter_init(&iter, adopted);
    while (g_hash_table_iter_next(&iter, &child, NULL))
        if (!op_rewrite_snapshot(op, child, error))
            return FALSE;
    if (flags & DELETE_METADATA)
        op_write_released(op);
    drop_tags(op, tags);
    return TRUE;
}

static gboolean delete (Op *op, Snapshot *snapshot, DeleteFlags flags, GError **error)
{
    g_autofree char *name = g_strdup(snapshot->name);
    if (!(flags & DELETE_METADATA) && !op_find_machine(op, error))
        return FALSE;
    undo_forget(op);
    if (!delete_names(op, snapshot, flags, error))
        return FALSE;
    op_prune(op);
    op_write_sidecar(op);
    return after_write(op, op->domain->current, error) && plan_prepare(op->plan, op->cancel, error) &&
           op_commit(op, error, "delete '%s'%s", name,
                     flags & DELETE_CHILDREN        ? " and its descendants"
                     : flags & DELETE_CHILDREN_ONLY ? ": its descendants"
                                                    : "");
}

gboolean core_delete(Engine *engine, EngineId id, DeleteFlags flags, GCancellable *cancel, GError **error)
{
    g_autofree char *name = core_name(engine, id);
    EngineId domain = id >> OBJECT_BITS << OBJECT_BITS;
    g_autoptr(Op) op = op_begin((Core *)engine, domain, cancel, error, "delete '%s'", name ? name : "?");
    Snapshot *snapshot = op ? domain_snapshot(op->domain, id) : NULL;
    if (op && !snapshot)
        snap_set_error(error, ENOENT, "it is gone");
    else if (op && delete (op, snapshot, flags, error))
        return TRUE;
    return FALSE;
}
