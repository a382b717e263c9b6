/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The layers of a domain: which is which, what stands on what, and what is still needed (model.h). */
#include <string.h>

#include "model.h"

gboolean layer_is_local(const Layer *layer)
{
    return layer->type != DISK_NETWORK;
}

gboolean layer_changed(const Layer *layer, const FileLook *look)
{
    return layer->frozen && !layer->mixed && file_changed(&layer->stamp, look);
}

gboolean layer_is_same_file(const Layer *layer, const char *path, const FileId *file)
{
    return strcmp(layer->path, path) == 0 ||
           (file && file_id_known(file) && file->dev == layer->file.dev && file->ino == layer->file.ino);
}

Layer *domain_find_layer(const Domain *domain, const char *path)
{
    return path ? g_hash_table_lookup(domain->layers, path) : NULL;
}

Layer *domain_active_layer(const Domain *domain, const DiskDef *disk)
{
    return domain_find_layer(domain, disk->type == DISK_NETWORK ? disk->uri : disk->source);
}

gboolean domain_layer_is_active(const Domain *domain, const Layer *layer)
{
    for (guint i = 0; i < domain->def->disks->len; i++)
        if (domain_active_layer(domain, domain->def->disks->pdata[i]) == layer)
            return TRUE;
    return FALSE;
}

gboolean domain_names_image(const Domain *domain, const char *path, const FileId *file, gboolean active_only)
{
    GHashTableIter iter;
    gpointer layer;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &layer))
        if (layer_is_same_file(layer, path, file) && (!active_only || domain_layer_is_active(domain, layer)))
            return TRUE;
    for (guint i = 0; i < domain->def->disks->len; i++)
        if (g_strcmp0(((DiskDef *)domain->def->disks->pdata[i])->uri, path) == 0)
            return TRUE;
    return FALSE;
}

GPtrArray *domain_backing_list(const Domain *domain, const Layer *layer)
{
    GPtrArray *backing = g_ptr_array_new_with_free_func((GDestroyNotify)backing_def_free);
    for (; layer && backing->len < g_hash_table_size(domain->layers);
         layer = domain_find_layer(domain, layer->backing))
        g_ptr_array_add(backing, backing_def_new(layer->type, layer->path, layer->format));
    return backing;
}

gboolean domain_layer_is_stood_on(const Domain *domain, const Layer *layer)
{
    GHashTableIter iter;
    gpointer other;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &other))
        if (g_strcmp0(((Layer *)other)->backing, layer->path) == 0)
            return TRUE;
    return FALSE;
}

void domain_release_layer(Domain *domain, Layer *layer)
{
    for (guint i = 0; layer && i < g_hash_table_size(domain->layers); i++) {
        layer->released = TRUE;
        layer->made = FALSE;
        g_ptr_array_set_size(layer->stale, 0);
        layer = domain_find_layer(domain, layer->backing);
    }
}

gboolean layer_keeps_tags(const Layer *layer)
{
    return layer->released && layer->frozen;
}

gboolean layer_is_kept(const Layer *layer)
{
    return layer->released || layer->detached;
}

static gboolean names_tag(const Snapshot *snapshot, const Layer *layer, const char *tag)
{
    for (guint j = 0; j < snapshot->disks->len; j++) {
        const StateDisk *disk = snapshot->disks->pdata[j];
        if (disk->layer == layer && g_strcmp0(disk->tag, tag) == 0)
            return TRUE;
    }
    return FALSE;
}

gboolean domain_tag_named(const Domain *domain, const Layer *layer, const char *tag)
{
    if (domain->undo && names_tag(domain->undo, layer, tag))
        return TRUE;
    for (guint i = 0; i < domain->snapshots->len; i++)
        if (names_tag(domain->snapshots->pdata[i], layer, tag))
            return TRUE;
    return FALSE;
}

guint domain_layer_names(const Domain *domain, const Layer *layer)
{
    guint names = layer->names;
    for (guint i = 0; i < domain->def->disks->len; i++)
        names += domain_active_layer(domain, domain->def->disks->pdata[i]) == layer;
    return MAX(names, 1);
}

static int compare_texts(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

GPtrArray *domain_missing_images(const Domain *domain)
{
    GPtrArray *missing = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter iter;
    gpointer layer;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &layer))
        if (layer_is_local(layer) && !file_id_known(&((Layer *)layer)->file))
            g_ptr_array_add(missing, g_strdup(((Layer *)layer)->path));
    g_ptr_array_sort(missing, compare_texts);
    return missing;
}

/* Mark @layer and all below it in @used. */
static void use_chain(const Domain *domain, Layer *layer, GHashTable *used)
{
    while (layer && g_hash_table_add(used, layer))
        layer = domain_find_layer(domain, layer->backing);
}

static void need_states(const Domain *domain, const Snapshot *snapshot, GHashTable *needed)
{
    for (guint j = 0; j < snapshot->disks->len; j++) {
        const StateDisk *disk = snapshot->disks->pdata[j];
        /* An internal state needs what lies below its file, but not the file's own content. */
        use_chain(domain, disk->tag ? domain_find_layer(domain, disk->layer->backing) : disk->layer, needed);
    }
}

GHashTable *domain_needed_layers(const Domain *domain)
{
    GHashTable *needed = g_hash_table_new(NULL, NULL);
    for (guint i = 0; i < domain->snapshots->len; i++)
        need_states(domain, domain->snapshots->pdata[i], needed);
    if (domain->undo)
        need_states(domain, domain->undo, needed);
    return needed;
}

gboolean domain_layer_is_needed(const Domain *domain, const Layer *layer)
{
    g_autoptr(GHashTable) needed = domain_needed_layers(domain);
    return g_hash_table_contains(needed, layer);
}

static void use_states(const Domain *domain, const Snapshot *snapshot, GHashTable *used)
{
    for (guint j = 0; j < snapshot->disks->len; j++)
        use_chain(domain, ((StateDisk *)snapshot->disks->pdata[j])->layer, used);
}

GHashTable *domain_used_layers(const Domain *domain)
{
    GHashTable *used = g_hash_table_new(NULL, NULL);
    GHashTableIter iter;
    gpointer layer;

    for (guint i = 0; i < domain->def->disks->len; i++)
        use_chain(domain, domain_active_layer(domain, domain->def->disks->pdata[i]), used);
    for (guint i = 0; i < domain->snapshots->len; i++)
        use_states(domain, domain->snapshots->pdata[i], used);
    if (domain->undo)
        use_states(domain, domain->undo, used);
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &layer))
        if (((Layer *)layer)->made || !layer_is_local(layer))
            use_chain(domain, layer, used);
    return used;
}
