/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "import_tree.h"

#include <string.h>

void import_tree_free(ImportTree *tree)
{
    if (!tree)
        return;
    g_ptr_array_unref(tree->nodes);
    g_free(tree);
}

Snapshot *import_node_parent(const ImportNode *node)
{
    const ImportNode *above = node->parent;
    while (above && !above->snapshot)
        above = above->parent;
    return above ? above->snapshot : NULL;
}

/* Parents by name. FALSE: one is missing. */
static gboolean join(const GPtrArray *nodes, GPtrArray *said)
{
    g_autoptr(GHashTable) by_name = g_hash_table_new(g_str_hash, g_str_equal);
    gboolean whole = TRUE;
    for (guint i = 0; i < nodes->len; i++)
        g_hash_table_insert(by_name, ((ImportNode *)nodes->pdata[i])->file->name, nodes->pdata[i]);
    for (guint i = 0; i < nodes->len; i++) {
        ImportNode *node = nodes->pdata[i];
        if (!node->file->parent)
            continue;
        node->parent = g_hash_table_lookup(by_name, node->file->parent);
        if (node->parent)
            continue;
        g_ptr_array_add(said, g_strdup_printf("snapshot '%s': its parent '%s' is missing: it is a root now",
                                              node->file->name, node->file->parent));
        whole = FALSE;
    }
    return whole;
}

/* Cut loops open. Each node is passed once: a walk upwards ends at what an earlier one has seen. FALSE: there was one. */
static gboolean cut_loops(const GPtrArray *nodes, GPtrArray *said)
{
    gboolean whole = TRUE;
    for (guint i = 0; i < nodes->len; i++) {
        ImportNode *node = nodes->pdata[i];
        while (node->mark == 0) {
            node->mark = i + 1;
            if (!node->parent)
                break;
            if (node->parent->mark == i + 1) {
                g_ptr_array_add(
                    said, g_strdup_printf("snapshot '%s': its parent '%s' descends from it: it is a root now",
                                          node->file->name, node->file->parent));
                node->parent = NULL;
                whole = FALSE;
                break;
            }
            node = node->parent;
        }
    }
    return whole;
}

/* As libvirt: the last one that is marked, none in a tree that is not whole. */
static ImportNode *find_current(const GPtrArray *nodes, gboolean whole, GPtrArray *said)
{
    ImportNode *current = NULL;
    guint n = 0;
    for (guint i = 0; i < nodes->len; i++) {
        ImportNode *node = nodes->pdata[i];
        if (!node->file->active)
            continue;
        current = node;
        n++;
    }
    if (current && !whole)
        g_ptr_array_add(said, g_strdup_printf("the tree is not whole: no snapshot is current ('%s' was)",
                                              current->file->name));
    else if (n > 1)
        g_ptr_array_add(
            said, g_strdup_printf("%u snapshots are marked as the current one: '%s', read last, is taken", n,
                                  current->file->name));
    return whole ? current : NULL;
}

static int compare_nodes(gconstpointer a, gconstpointer b)
{
    const LibvirtSnapshot *x = (*(ImportNode *const *)a)->file, *y = (*(ImportNode *const *)b)->file;
    return x->time != y->time ? (x->time > y->time) - (x->time < y->time) : strcmp(x->name, y->name);
}

/* By time, but each behind its parent. Moves the nodes into a new array. */
static GPtrArray *put_in_order(GPtrArray *nodes)
{
    GPtrArray *ordered = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) waiting = g_ptr_array_new();
    g_ptr_array_sort(nodes, compare_nodes);
    for (guint i = 0; i < nodes->len; i++) {
        for (ImportNode *node = nodes->pdata[i]; node && !node->placed; node = node->parent) {
            node->placed = TRUE;
            g_ptr_array_add(waiting, node);
        }
        while (waiting->len > 0)
            g_ptr_array_add(ordered, g_ptr_array_steal_index(waiting, waiting->len - 1));
    }
    return ordered;
}

ImportTree *import_tree_new(const GPtrArray *files, GPtrArray *said)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    ImportTree *tree = g_new0(ImportTree, 1);
    for (guint i = 0; i < files->len; i++) {
        ImportNode *node = g_new0(ImportNode, 1);
        node->file = files->pdata[i];
        g_ptr_array_add(nodes, node);
    }
    gboolean joined = join(nodes, said);
    gboolean cut = cut_loops(nodes, said);
    tree->current = find_current(nodes, joined && cut, said);
    tree->nodes = put_in_order(nodes);
    return tree;
}
