/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "merge.h"

#include <string.h>

/* Who needs what, counted once. */
typedef struct {
    const Domain *domain;
    GHashTable *upper;  /* Layer -> the one Layer that stands on it, or itself when several do */
    GHashTable *held;   /* set of Layers whose content is a state, or the user's */
    GHashTable *tagged; /* set of Layers that hold a state as a tag */
} Needs;

static void hold_snapshot(Needs *needs, const Snapshot *snapshot)
{
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const StateDisk *disk = snapshot->disks->pdata[i];
        g_hash_table_add(disk->tag ? needs->tagged : needs->held, disk->layer);
    }
}

static void stand(Needs *needs, Layer *upper, Layer *lower)
{
    if (lower && !g_hash_table_insert(needs->upper, lower, upper))
        g_hash_table_insert(needs->upper, lower, lower);
}

static void needs_init(Needs *needs, const Domain *domain)
{
    *needs = (Needs){domain, g_hash_table_new(NULL, NULL), g_hash_table_new(NULL, NULL),
                     g_hash_table_new(NULL, NULL)};
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Layer *layer = value;
        stand(needs, layer, domain_find_layer(domain, layer->backing));
        if (layer_is_kept(layer))
            g_hash_table_add(needs->held, layer);
    }
    for (guint i = 0; i < domain->snapshots->len; i++)
        hold_snapshot(needs, domain->snapshots->pdata[i]);
    if (domain->undo)
        hold_snapshot(needs, domain->undo);
    for (guint i = 0; i < domain->def->disks->len; i++) {
        Layer *layer = domain_active_layer(domain, domain->def->disks->pdata[i]);
        if (layer)
            g_hash_table_add(needs->held, layer);
    }
}

static void needs_clear(Needs *needs)
{
    g_hash_table_unref(needs->upper);
    g_hash_table_unref(needs->held);
    g_hash_table_unref(needs->tagged);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Needs, needs_clear)

/* May @layer's file go, or another file come in its place? */
static gboolean may_go(const Needs *needs, const Layer *layer)
{
    return layer->made && layer->type == DISK_FILE && !layer_is_kept(layer) && file_id_known(&layer->file) &&
           !g_hash_table_contains(needs->tagged, layer);
}

/*
 * May others' data be written into @layer, whose own content is nobody's? Not into what lay below the first image, and
 * not into a device that may turn out to be too small: a raw one has room for what its guest could write.
 */
static gboolean may_be_written(const Layer *layer)
{
    return (layer->made || !layer->template) && !layer_is_kept(layer) && file_id_known(&layer->file) &&
           (layer->type == DISK_FILE || (layer->type == DISK_BLOCK && layer->format == FORMAT_RAW));
}

static gboolean is_nameless(const Needs *needs, const Layer *layer)
{
    return !g_hash_table_contains(needs->held, layer);
}

static Merge *merge_new(MergeKind kind, Layer *top)
{
    Merge *merge = g_new0(Merge, 1);
    merge->kind = kind;
    merge->top = top;
    merge->run = g_ptr_array_new();
    return merge;
}

void merge_free(Merge *merge)
{
    if (!merge)
        return;
    g_ptr_array_unref(merge->run);
    g_free(merge);
}

/* Where the joined layer gets another name, what stands on @top is pointed at that: a header we may write? */
static gboolean uppers_ours(const Domain *domain, const Layer *top)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Layer *layer = value;
        if (g_strcmp0(layer->backing, top->path) == 0 &&
            (!layer->made || layer_is_kept(layer) || layer->format != FORMAT_QCOW2))
            return FALSE;
    }
    return TRUE;
}

/*
 * Into the lowest one, unless that would let the top's name be a file of another format: what stands on it says which it
 * is, and would be unreadable in between.
 */
static gboolean choose_kind(const Needs *needs, Merge *merge)
{
    const Layer *low = merge->run->pdata[0];
    if (!low->made)
        return uppers_ours(needs->domain, merge->top);
    if (low->format == merge->top->format)
        return TRUE;
    if (merge->may_up)
        merge->kind = MERGE_UP;
    return merge->may_up || !g_hash_table_contains(needs->upper, merge->top);
}

/* The run below @top. Its lowest layer may hold tags or be the first image, those between must be able to go. */
static Merge *run_below(const Needs *needs, Layer *top)
{
    g_autoptr(Merge) merge = merge_new(MERGE_DOWN, top);
    if (!may_go(needs, top))
        return NULL;
    gboolean all_go = TRUE;
    for (Layer *layer = domain_find_layer(needs->domain, top->backing);
         layer && is_nameless(needs, layer) && g_hash_table_lookup(needs->upper, layer) != layer;
         layer = domain_find_layer(needs->domain, layer->backing)) {
        gboolean goes = may_go(needs, layer);
        if (!goes && !may_be_written(layer))
            break;
        g_ptr_array_insert(merge->run, 0, layer);
        all_go = all_go && goes;
        if (!goes)
            break; /* written into, but not away */
    }
    if (merge->run->len == 0)
        return NULL;
    merge->may_up = all_go && top->format == FORMAT_QCOW2;
    return choose_kind(needs, merge) ? g_steal_pointer(&merge) : NULL;
}

/* Is @layer the top of what can be joined, rather than one in the middle of a run? */
static gboolean is_top(const Needs *needs, Layer *layer)
{
    Layer *upper = g_hash_table_lookup(needs->upper, layer);
    return !is_nameless(needs, layer) || !upper || upper == layer || !may_go(needs, upper) ||
           !may_go(needs, layer);
}

GPtrArray *merge_choose(const Domain *domain)
{
    GPtrArray *merges = g_ptr_array_new_with_free_func((GDestroyNotify)merge_free);
    g_auto(Needs) needs;
    needs_init(&needs, domain);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Layer *layer = value;
        gboolean leaf = !g_hash_table_contains(needs.upper, layer);
        Merge *merge = NULL;
        if (leaf && is_nameless(&needs, layer)) {
            if (may_go(&needs, layer)) {
                merge = merge_new(MERGE_DROP, NULL);
                g_ptr_array_add(merge->run, layer);
            }
        } else if (is_top(&needs, layer)) {
            merge = run_below(&needs, layer);
        }
        if (merge)
            g_ptr_array_add(merges, merge);
    }
    return merges;
}

/* Into a frozen top nothing is written: it has a stamp. */
gboolean merge_in_place(const Domain *domain, Merge *merge)
{
    merge->may_up = merge->may_up && domain_layer_is_active(domain, merge->top);
    gboolean may_down = uppers_ours(domain, merge->top);
    merge->kind = may_down ? MERGE_DOWN : MERGE_UP;
    merge->in_place = TRUE;
    return may_down || merge->may_up;
}

static const Layer *lowest(const Merge *merge)
{
    return merge->run->pdata[0];
}

const char *merge_path(const Merge *merge)
{
    if (!merge->top)
        return NULL;
    gboolean moves = lowest(merge)->made && !merge->in_place;
    return merge->kind == MERGE_UP || moves ? merge->top->path : lowest(merge)->path;
}

char *merge_describe(const Merge *merge)
{
    GString *out = g_string_new(NULL);
    const char *path = merge_path(merge);
    for (guint i = 0; i < merge->run->len; i++) {
        const Layer *layer = merge->run->pdata[i];
        if (g_strcmp0(layer->path, path) != 0)
            g_string_append_printf(out, "%s'%s'", out->len ? ", " : "", strrchr(layer->path, '/') + 1);
    }
    if (merge->top && strcmp(merge->top->path, path) != 0)
        g_string_append_printf(out, "%s'%s'", out->len ? ", " : "", strrchr(merge->top->path, '/') + 1);
    if (path)
        g_string_append_printf(out, " into '%s'", strrchr(path, '/') + 1);
    return g_string_free(out, FALSE);
}
