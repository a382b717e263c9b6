/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The JSON half of the store: sidecars out (STORE.md has the form). load.c reads them. */
#include <jansson.h>

#include "backend.h"
#include "store.h"

static json_t *optional(const char *text)
{
    return text ? json_string(text) : NULL;
}

static json_t *id_to_json(const FileId *id)
{
    return json_pack("[I, I, I]", (json_int_t)id->ino, (json_int_t)id->birth_sec, (json_int_t)id->birth_nsec);
}

/* An image's tags may be called anything; those that snapshots name are UTF-8. */
static json_t *tags_to_json(const GPtrArray *tags)
{
    json_t *json = json_array();
    for (guint i = 0; i < tags->len; i++) {
        const ImageTag *tag = tags->pdata[i];
        g_autofree char *id = g_utf8_make_valid(tag->id, -1);
        g_autofree char *name = g_utf8_make_valid(tag->name, -1);
        json_array_append_new(json, json_pack("[s, s, I]", id, name, (json_int_t)tag->date_sec));
    }
    return json;
}

static json_t *frozen_to_json(const Layer *layer)
{
    json_t *json = json_pack("{s:I, s:[I, I], s:i, s:I}", "size", (json_int_t)layer->stamp.size, "mtime",
                             (json_int_t)layer->stamp.mtime_sec, (json_int_t)layer->stamp.mtime_nsec, "mode",
                             (int)layer->mode, "blocks", (json_int_t)layer->blocks);
    if (layer->tags)
        json_object_set_new(json, "tags", tags_to_json(layer->tags));
    return json;
}

static json_t *layer_to_json(const Layer *layer)
{
    json_t *json =
        json_pack("{s:s, s:s}", "path", layer->path, "format", image_format_to_string(layer->format));
    if (layer->type != DISK_FILE)
        json_object_set_new(json, "type", json_string(disk_type_to_string(layer->type)));
    if (layer->backing) {
        json_object_set_new(json, "backing", json_string(layer->backing));
        json_object_set_new(json, "backing_format",
                            json_string(image_format_to_string(layer->backing_format)));
    }
    if (file_id_known(&layer->file))
        json_object_set_new(json, "file", id_to_json(&layer->file));
    if (layer->made)
        json_object_set_new(json, "made", json_true());
    if (layer->released)
        json_object_set_new(json, "released", json_true());
    if (layer->detached)
        json_object_set_new(json, "detached", json_true());
    if (layer->template)
        json_object_set_new(json, "template", json_true());
    if (layer->mixed)
        json_object_set_new(json, "mixed", json_true());
    json_object_set_new(json, "stem", optional(layer->stem));
    if (layer->frozen)
        json_object_set_new(json, "frozen", frozen_to_json(layer));
    if (layer->stale->len > 0) {
        json_t *stale = json_array();
        for (guint i = 0; i < layer->stale->len; i++)
            json_array_append_new(stale, json_string(layer->stale->pdata[i]));
        json_object_set_new(json, "stale", stale);
    }
    return json;
}

static int compare_paths(gconstpointer a, gconstpointer b)
{
    return g_strcmp0((*(Layer *const *)a)->path, (*(Layer *const *)b)->path);
}

/* The layers whose home is @home, by path: the same model always gives the same text. */
static json_t *layers_to_json(const Domain *domain, const Snapshot *home)
{
    g_autoptr(GPtrArray) layers = g_ptr_array_new();
    GHashTableIter iter;
    gpointer layer;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &layer))
        if (((Layer *)layer)->home == home)
            g_ptr_array_add(layers, layer);
    g_ptr_array_sort(layers, compare_paths);
    json_t *json = json_array();
    for (guint i = 0; i < layers->len; i++)
        json_array_append_new(json, layer_to_json(layers->pdata[i]));
    return json;
}

static char *dump(json_t *json)
{
    char *text = json_dumps(json, JSON_INDENT(1));
    char *copy = g_strconcat(text, "\n", NULL);
    free(text);
    json_decref(json);
    return copy;
}

static json_t *disks_to_json(const Snapshot *snapshot)
{
    json_t *disks = json_array();
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const StateDisk *disk = snapshot->disks->pdata[i];
        json_t *json = json_pack("{s:s, s:s}", "target", disk->target, "layer", disk->layer->path);
        if (disk->tag)
            json_object_set_new(json, "tag", json_string(disk->tag));
        json_array_append_new(disks, json);
    }
    return disks;
}

static void add_side_file(json_t *json, const char *key, const SideFile *file)
{
    if (!file->path)
        return;
    json_object_set_new(json, key,
                        json_pack("{s:s, s:o, s:b}", "path", file->path, "file", id_to_json(&file->id),
                                  "made", (int)file->made));
}

char *store_domain_json(const Domain *domain)
{
    json_t *json =
        json_pack("{s:i, s:s?, s:o}", "version", 1, "current", domain->current ? domain->current->name : NULL,
                  "layers", layers_to_json(domain, NULL));
    if (domain->libvirt) {
        json_t *from = json_pack("{s:s}", "definition", domain->libvirt);
        json_object_set_new(from, "snapshots", optional(domain->libvirt_snapshots));
        json_object_set_new(json, "libvirt", from);
    }
    if (domain->undo) {
        const Snapshot *parent = domain->undo->parent;
        json_t *undo = json_pack("{s:s?, s:o}", "current", parent ? parent->name : NULL, "disks",
                                 disks_to_json(domain->undo));
        add_side_file(undo, "nvram", &domain->undo->nvram);
        json_object_set_new(json, "undo", undo);
    }
    add_side_file(json, "saved", &domain->saved);
    if (domain->live_process)
        json_object_set_new(json, "process", json_string(domain->live_process));
    for (guint i = 0; i < domain->leftovers->len; i++) {
        const Leftover *leftover = domain->leftovers->pdata[i];
        json_t *list = json_object_get(json, "leftovers");
        if (!list)
            json_object_set_new(json, "leftovers", list = json_array());
        json_array_append_new(
            list, json_pack("{s:s, s:o}", "path", leftover->path, "file", id_to_json(&leftover->id)));
    }
    return dump(json);
}

char *store_snapshot_json(const Snapshot *snapshot)
{
    json_t *json = json_pack("{s:I, s:o, s:o}", "order", (json_int_t)snapshot->order, "disks",
                             disks_to_json(snapshot), "layers", layers_to_json(snapshot->domain, snapshot));
    add_side_file(json, "memory", &snapshot->memory_file);
    json_object_set_new(json, "memory_tag", optional(snapshot->memory_tag));
    add_side_file(json, "nvram", &snapshot->nvram);
    add_side_file(json, "screenshot", &snapshot->screenshot);
    return dump(json);
}

StoreWrite *store_sidecar_write(const Domain *domain, const Snapshot *home)
{
    g_autofree char *file = home ? store_snapshot_file(home->name, ".json") : g_strdup("domain.json");
    g_autofree char *text = home ? store_snapshot_json(home) : store_domain_json(domain);
    return store_write_new(file, text);
}
