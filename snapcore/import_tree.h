/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree that libvirt's files of snapshots form, by the rules of import.h. Only for import.c. */
#pragma once

#include "libvirt_dirs.h"
#include "model.h"

typedef struct ImportNode ImportNode;
struct ImportNode {
    const LibvirtSnapshot *file;
    ImportNode *parent;
    Snapshot *snapshot; /* what it became; NULL: not yet, or left out */
    guint mark;         /* while loops are looked for */
    gboolean placed;
};

typedef struct {
    GPtrArray *nodes; /* of ImportNode, each behind its parent, otherwise by time */
    ImportNode *current;
} ImportTree;

/* Of @files (of LibvirtSnapshot), which must live as long. What is not as it should be is appended to @said. */
ImportTree *import_tree_new(const GPtrArray *files, GPtrArray *said);
void import_tree_free(ImportTree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImportTree, import_tree_free)

/* The snapshot that @node's is a child of: its parent's, or the next above one that was left out. */
Snapshot *import_node_parent(const ImportNode *node);
