/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading the elements that a document to create and one to redefine have in common. Only for snapshot*.c. */
#pragma once

#include "snapshot.h"

/*
 * A child of <disks>, whatever it is called (facts/libvirt-snapshots.md 1.2). The mode stays MODE_DEFAULT where the
 * document is silent. The nodes in the result point into @node, of whose <driver> only what is printed is left.
 */
SnapshotDisk *snapshot_read_disk(xmlNode *node, GError **error);

/* <memory> in @root. Writes MODE_DEFAULT and NULL when there is none. */
gboolean snapshot_read_memory(const xmlNode *root, SnapMode *ret_mode, char **ret_file, GError **error);

/* The text of @root's child @name; NULL when it is absent or empty. Caller frees. */
char *snapshot_read_text(const xmlNode *root, const char *name);
