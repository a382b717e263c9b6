/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model.h"

#include <string.h>

static void state_disk_free(StateDisk *disk)
{
    if (!disk->tag)
        disk->layer->names--;
    g_hash_table_remove(disk->domain->objects, &disk->object.id);
    g_free(disk->target);
    g_free(disk->tag);
    g_free(disk);
}

static void snapshot_free(Snapshot *snapshot)
{
    g_ptr_array_unref(snapshot->disks);
    g_free(snapshot->name);
    g_free(snapshot->description);
    g_free(snapshot->memory_file.path);
    g_free(snapshot->memory_tag);
    g_free(snapshot->nvram.path);
    g_free(snapshot->screenshot.path);
    g_free(snapshot);
}

void snapshot_set_memory(Snapshot *snapshot, SnapMode mode, const char *file)
{
    FileLook look;
    snapshot->memory = mode;
    if (mode == MODE_EXTERNAL && g_strcmp0(file, snapshot->memory_file.path) != 0)
        side_file_set(&snapshot->memory_file, file, file && file_look(file, &look, NULL) ? &look.id : NULL,
                      FALSE);
}

void side_file_set(SideFile *file, const char *path, const FileId *id, gboolean made)
{
    char *copy = g_strdup(path);
    g_free(file->path);
    *file = (SideFile){.path = copy, .id = id ? *id : (FileId){0}, .made = made};
}

static void leftover_free(Leftover *leftover)
{
    g_free(leftover->path);
    g_free(leftover);
}

void domain_add_leftover(Domain *domain, const char *path, const FileId *id)
{
    Leftover *leftover = g_new0(Leftover, 1);
    leftover->path = g_strdup(path);
    leftover->id = *id;
    g_ptr_array_add(domain->leftovers, leftover);
}

static void layer_free(Layer *layer)
{
    g_ptr_array_unref(layer->stale);
    g_clear_pointer(&layer->tags, g_ptr_array_unref);
    g_free(layer->unreadable);
    g_free(layer->path);
    g_free(layer->backing);
    g_free(layer->stem);
    g_free(layer);
}

Domain *domain_new(EngineId id, const char *name)
{
    Domain *domain = g_new0(Domain, 1);
    domain->object = (Object){ENGINE_DOMAIN, id};
    domain->last_id = id;
    domain->name = g_strdup(name);
    domain->snapshots = g_ptr_array_new_with_free_func((GDestroyNotify)snapshot_free);
    domain->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    domain->layers = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)layer_free);
    domain->objects = g_hash_table_new(g_int64_hash, g_int64_equal);
    domain->leftovers = g_ptr_array_new_with_free_func((GDestroyNotify)leftover_free);
    return domain;
}

void domain_clear_undo(Domain *domain)
{
    if (domain->undo)
        snapshot_free(domain->undo);
    domain->undo = NULL;
}

Snapshot *domain_new_undo(Domain *domain)
{
    domain_clear_undo(domain);
    domain->undo = g_new0(Snapshot, 1);
    domain->undo->domain = domain;
    domain->undo->name = g_strdup("undo");
    domain->undo->disks = g_ptr_array_new_with_free_func((GDestroyNotify)state_disk_free);
    return domain->undo;
}

void domain_forget_live(Domain *domain)
{
    g_clear_pointer(&domain->live, domain_def_free);
    g_clear_pointer(&domain->live_process, g_free);
}

void domain_free(Domain *domain)
{
    if (!domain)
        return;
    domain_clear_undo(domain);
    g_ptr_array_unref(domain->snapshots); /* before the layers, which they point to */
    g_hash_table_unref(domain->by_name);
    g_hash_table_unref(domain->objects);
    g_hash_table_unref(domain->layers);
    g_ptr_array_unref(domain->leftovers);
    domain_def_free(domain->def);
    domain_forget_live(domain);
    g_free(domain->saved.path);
    g_free(domain->name);
    g_free(domain->broken);
    g_free(domain->libvirt);
    g_free(domain->libvirt_snapshots);
    g_free(domain->held);
    g_free(domain->tree);
    g_free(domain);
}

static void add_object(Domain *domain, Object *object)
{
    g_hash_table_insert(domain->objects, &object->id, object);
}

static int compare_snapshots(gconstpointer a, gconstpointer b)
{
    const Snapshot *x = *(Snapshot *const *)a, *y = *(Snapshot *const *)b;
    return x->time != y->time ? (x->time > y->time) - (x->time < y->time)
                              : (x->order > y->order) - (x->order < y->order);
}

void domain_sort_snapshots(Domain *domain)
{
    g_ptr_array_sort(domain->snapshots, compare_snapshots);
}

static void insert_snapshot(Domain *domain, Snapshot *snapshot)
{
    guint at = domain->snapshots->len;
    while (at > 0 && compare_snapshots(&domain->snapshots->pdata[at - 1], &snapshot) > 0)
        at--;
    g_ptr_array_insert(domain->snapshots, (int)at, snapshot);
    g_hash_table_insert(domain->by_name, snapshot->name, snapshot);
    add_object(domain, &snapshot->object);
}

static void insert_layer(Domain *domain, Layer *layer)
{
    g_hash_table_insert(domain->layers, layer->path, layer);
    add_object(domain, &layer->object);
}

Snapshot *domain_add_snapshot(Domain *domain, const char *name, gint64 time)
{
    Snapshot *snapshot = g_new0(Snapshot, 1);
    snapshot->object = (Object){ENGINE_SNAPSHOT, ++domain->last_id};
    snapshot->domain = domain;
    snapshot->name = g_strdup(name);
    snapshot->time = time;
    snapshot->order = ++domain->last_order;
    snapshot->disks = g_ptr_array_new_with_free_func((GDestroyNotify)state_disk_free);
    insert_snapshot(domain, snapshot);
    return snapshot;
}

static StateDisk *add_disk(Snapshot *snapshot, EngineId id, const char *target, Layer *layer, const char *tag)
{
    StateDisk *disk = g_new0(StateDisk, 1);
    disk->object = (Object){ENGINE_STATE, id};
    disk->domain = snapshot->domain;
    disk->snapshot = snapshot;
    disk->target = g_strdup(target);
    disk->layer = layer;
    disk->tag = g_strdup(tag);
    if (!tag)
        layer->names++;
    g_ptr_array_add(snapshot->disks, disk);
    add_object(snapshot->domain, &disk->object);
    return disk;
}

void snapshot_add_disk(Snapshot *snapshot, const char *target, Layer *layer, const char *tag)
{
    (void)add_disk(snapshot, ++snapshot->domain->last_id, target, layer, tag);
}

void snapshot_clear_disks(Snapshot *snapshot)
{
    g_ptr_array_set_size(snapshot->disks, 0);
}

void domain_remove_snapshot(Domain *domain, Snapshot *snapshot)
{
    GHashTableIter iter;
    gpointer layer;

    for (guint i = 0; i < domain->snapshots->len; i++) {
        Snapshot *child = domain->snapshots->pdata[i];
        if (child->parent == snapshot)
            child->parent = snapshot->parent;
    }
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &layer))
        if (((Layer *)layer)->home == snapshot)
            ((Layer *)layer)->home = NULL;
    if (domain->current == snapshot)
        domain->current = snapshot->parent;
    if (domain->undo && domain->undo->parent == snapshot)
        domain->undo->parent = snapshot->parent;
    g_hash_table_remove(domain->by_name, snapshot->name);
    g_hash_table_remove(domain->objects, &snapshot->object.id);
    g_ptr_array_remove(domain->snapshots, snapshot);
}

void domain_rename_snapshot(Domain *domain, Snapshot *snapshot, const char *name)
{
    g_hash_table_remove(domain->by_name, snapshot->name);
    g_free(snapshot->name);
    snapshot->name = g_strdup(name);
    g_hash_table_insert(domain->by_name, snapshot->name, snapshot);
}

static Layer *copy_layer(const Layer *layer)
{
    Layer *copy = g_new0(Layer, 1);
    *copy = *layer;
    copy->path = g_strdup(layer->path);
    copy->backing = g_strdup(layer->backing);
    copy->stem = g_strdup(layer->stem);
    copy->stale = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < layer->stale->len; i++)
        g_ptr_array_add(copy->stale, g_strdup(layer->stale->pdata[i]));
    copy->tags = layer->tags ? g_ptr_array_ref(layer->tags) : NULL;
    copy->unreadable = g_strdup(layer->unreadable);
    copy->home = NULL; /* set by the caller, in terms of the new domain */
    copy->names = 0;   /* counted as the states are copied */
    return copy;
}

static Snapshot *copy_snapshot(const Snapshot *snapshot, Domain *into)
{
    Snapshot *copy = g_new0(Snapshot, 1);
    *copy = *snapshot;
    copy->domain = into;
    copy->name = g_strdup(snapshot->name);
    copy->description = g_strdup(snapshot->description);
    copy->memory_file.path = g_strdup(snapshot->memory_file.path);
    copy->memory_tag = g_strdup(snapshot->memory_tag);
    copy->nvram.path = g_strdup(snapshot->nvram.path);
    copy->screenshot.path = g_strdup(snapshot->screenshot.path);
    copy->parent = NULL; /* set by the caller */
    copy->disks = g_ptr_array_new_with_free_func((GDestroyNotify)state_disk_free);
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const StateDisk *disk = snapshot->disks->pdata[i];
        Layer *layer = domain_find_layer(into, disk->layer->path);
        add_disk(copy, disk->object.id, disk->target, layer, disk->tag)->size = disk->size;
    }
    return copy;
}

/* The thing of @domain that has the id of @other, a thing of another copy of the domain. */
static gpointer same_object(const Domain *domain, const Object *other)
{
    return other ? g_hash_table_lookup(domain->objects, &other->id) : NULL;
}

Domain *domain_copy(const Domain *domain)
{
    Domain *copy = domain_new(domain->object.id, domain->name);
    GHashTableIter iter;
    gpointer layer;

    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &layer))
        insert_layer(copy, copy_layer(layer));
    for (guint i = 0; i < domain->snapshots->len; i++)
        insert_snapshot(copy, copy_snapshot(domain->snapshots->pdata[i], copy));
    for (guint i = 0; i < domain->snapshots->len; i++) {
        const Snapshot *snapshot = domain->snapshots->pdata[i];
        Snapshot *mine = same_object(copy, &snapshot->object);
        mine->parent = snapshot->parent ? same_object(copy, &snapshot->parent->object) : NULL;
    }
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &layer))
        if (((Layer *)layer)->home)
            domain_find_layer(copy, ((Layer *)layer)->path)->home =
                same_object(copy, &((Layer *)layer)->home->object);
    if (domain->undo) {
        copy->undo = copy_snapshot(domain->undo, copy);
        copy->undo->parent = domain->undo->parent ? same_object(copy, &domain->undo->parent->object) : NULL;
    }
    copy->current = domain->current ? same_object(copy, &domain->current->object) : NULL;
    copy->def = domain->def ? domain_def_copy(domain->def) : NULL;
    copy->live = domain->live ? domain_def_copy(domain->live) : NULL;
    copy->live_process = g_strdup(domain->live_process);
    side_file_set(&copy->saved, domain->saved.path, &domain->saved.id, domain->saved.made);
    for (guint i = 0; i < domain->leftovers->len; i++) {
        const Leftover *leftover = domain->leftovers->pdata[i];
        domain_add_leftover(copy, leftover->path, &leftover->id);
    }
    copy->broken = g_strdup(domain->broken);
    copy->libvirt = g_strdup(domain->libvirt);
    copy->libvirt_snapshots = g_strdup(domain->libvirt_snapshots);
    copy->held = g_strdup(domain->held);
    copy->last_id = domain->last_id;
    copy->last_order = domain->last_order;
    copy->changed = domain->changed;
    copy->xml_size = domain->xml_size;
    copy->log_size = domain->log_size;
    copy->usage_size = domain->usage_size;
    return copy;
}

Snapshot *domain_find_snapshot(const Domain *domain, const char *name)
{
    return g_hash_table_lookup(domain->by_name, name);
}

Snapshot *domain_snapshot(const Domain *domain, EngineId id)
{
    Object *object = g_hash_table_lookup(domain->objects, &id);
    return object && object->kind == ENGINE_SNAPSHOT ? (Snapshot *)object : NULL;
}

StateDisk *snapshot_find_disk(const Snapshot *snapshot, const char *target)
{
    for (guint i = 0; i < snapshot->disks->len; i++) {
        StateDisk *disk = snapshot->disks->pdata[i];
        if (strcmp(disk->target, target) == 0)
            return disk;
    }
    return NULL;
}

GPtrArray *domain_children(const Domain *domain, const Snapshot *parent)
{
    GPtrArray *children = g_ptr_array_new();
    for (guint i = 0; i < domain->snapshots->len; i++) {
        Snapshot *snapshot = domain->snapshots->pdata[i];
        if (snapshot->parent == parent)
            g_ptr_array_add(children, snapshot);
    }
    return children;
}

gboolean snapshot_descends(const Snapshot *snapshot, const Snapshot *ancestor)
{
    for (; snapshot; snapshot = snapshot->parent)
        if (snapshot == ancestor)
            return TRUE;
    return FALSE;
}

Layer *domain_take_layer(Domain *domain, const char *path, ImageFormat format)
{
    Layer *layer = domain_find_layer(domain, path);
    if (layer)
        return layer;
    layer = g_new0(Layer, 1);
    layer->object = (Object){ENGINE_LAYER, ++domain->last_id};
    layer->path = g_strdup(path);
    layer->format = format;
    layer->stale = g_ptr_array_new_with_free_func(g_free);
    insert_layer(domain, layer);
    return layer;
}

void domain_move_layer(Domain *domain, Layer *layer, const char *path)
{
    GHashTableIter iter;
    gpointer value;
    g_autofree char *old = g_strdup(layer->path);
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Layer *upper = value;
        if (g_strcmp0(upper->backing, old) != 0)
            continue;
        g_free(upper->backing);
        upper->backing = g_strdup(path);
    }
    g_hash_table_steal(domain->layers, old);
    g_free(layer->path);
    layer->path = g_strdup(path);
    g_hash_table_insert(domain->layers, layer->path, layer);
}

void domain_renew_layer(Domain *domain, Layer *layer)
{
    g_hash_table_remove(domain->objects, &layer->object.id);
    layer->object.id = ++domain->last_id;
    add_object(domain, &layer->object);
}

void domain_forget_layer(Domain *domain, Layer *layer)
{
    g_hash_table_remove(domain->objects, &layer->object.id);
    g_hash_table_remove(domain->layers, layer->path);
}

GPtrArray *domain_prune_layers(Domain *domain)
{
    g_autoptr(GHashTable) used = domain_used_layers(domain);
    GPtrArray *pruned = g_ptr_array_new_with_free_func((GDestroyNotify)layer_free);
    GHashTableIter iter;
    gpointer layer;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &layer)) {
        if (g_hash_table_contains(used, layer))
            continue;
        g_hash_table_remove(domain->objects, &((Layer *)layer)->object.id);
        g_hash_table_iter_steal(&iter);
        g_ptr_array_add(pruned, layer);
    }
    return pruned;
}
