/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a merge changes in the store: the documents that named an image that is gone, and the sidecars. */
#include <string.h>

#include "after.h"
#include "merge_job.h"

/* Cheap, before a document is parsed: does its text hold any of the paths? */
static gboolean text_names(Op *op, const Snapshot *snapshot, const GPtrArray *gone, gboolean *ret_names,
                           GError **error)
{
    g_autofree char *file = store_snapshot_file(snapshot->name, ".xml");
    g_autofree char *path = store_domain_file(op->core->store, op->domain->name, file);
    g_autofree char *text = NULL;
    if (!file_load(path, STORE_TEXT_MAX, &text, NULL, error))
        return FALSE;
    *ret_names = FALSE;
    for (guint i = 0; i < gone->len && !*ret_names; i++) {
        g_autoptr(GString) escaped = g_string_new(NULL);
        xml_write_escaped(escaped, gone->pdata[i]);
        *ret_names = strstr(text, escaped->str) != NULL;
    }
    return TRUE;
}

static gboolean write_document(Op *op, Snapshot *snapshot, const GPtrArray *gone, const Layer *joined,
                               gboolean *ret_written, GError **error)
{
    gboolean names;
    *ret_written = FALSE;
    if (!text_names(op, snapshot, gone, &names, error))
        return FALSE;
    if (!names)
        return TRUE;
    g_autoptr(SnapshotDef) def =
        store_read_snapshot(op->core->store, op->domain->name, snapshot->name, error);
    if (!def)
        return FALSE;
    for (guint i = 0; i < gone->len; i++)
        *ret_written |=
            snapshot_def_replace_image(def, gone->pdata[i], joined->path, joined->type, joined->format);
    return !*ret_written || op_write_snapshot(op, snapshot, def, error);
}

/* Does the sidecar of @snapshot say anything of the joined layer, or of one that stands on it? */
static gboolean sidecar_names(const Snapshot *snapshot, const Layer *joined, GHashTable *homes)
{
    if (g_hash_table_contains(homes, snapshot))
        return TRUE;
    for (guint i = 0; i < snapshot->disks->len; i++)
        if (((StateDisk *)snapshot->disks->pdata[i])->layer == joined)
            return TRUE;
    return FALSE;
}

static GHashTable *homes_of(const Domain *domain, const Layer *joined)
{
    GHashTable *homes = g_hash_table_new(NULL, NULL);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Layer *layer = value;
        if (layer == joined || g_strcmp0(layer->backing, joined->path) == 0)
            g_hash_table_add(homes, layer->home);
    }
    return homes;
}

static gboolean replace_in_definition(DomainDef **def, const GPtrArray *gone, const Layer *joined)
{
    gboolean news = FALSE;
    for (guint i = 0; i < gone->len; i++) {
        DomainDef *changed =
            domain_def_replace_image(*def, gone->pdata[i], joined->path, joined->type, joined->format);
        if (!changed)
            continue;
        domain_def_free(*def);
        *def = changed;
        news = TRUE;
    }
    return news;
}

gboolean merge_write_documents(Op *op, const GPtrArray *gone, const Layer *joined, GHashTable *homes_of_gone,
                               GError **error)
{
    g_autoptr(GHashTable) homes = homes_of(op->domain, joined);
    for (guint i = 0; i < op->domain->snapshots->len; i++) {
        Snapshot *snapshot = op->domain->snapshots->pdata[i];
        gboolean written;
        if (!write_document(op, snapshot, gone, joined, &written, error))
            return FALSE;
        if (!written &&
            (sidecar_names(snapshot, joined, homes) || g_hash_table_contains(homes_of_gone, snapshot)))
            op_write_snapshot_sidecar(op, snapshot);
    }
    replace_in_definition(&op->domain->def, gone, joined);
    op_write_sidecar(op);
    if (op->domain->live && replace_in_definition(&op->domain->live, gone, joined) &&
        !op_write_live(op, error))
        return FALSE;
    return op_write_definition(op, error);
}

gboolean merge_write_dropped(Op *op, const char *path, GError **error)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new();
    g_ptr_array_add(gone, (gpointer)path);
    for (guint i = 0; i < op->domain->snapshots->len; i++) {
        Snapshot *snapshot = op->domain->snapshots->pdata[i];
        gboolean names;
        if (!text_names(op, snapshot, gone, &names, error) || (names && !after_write(op, snapshot, error)))
            return FALSE;
    }
    return TRUE;
}
