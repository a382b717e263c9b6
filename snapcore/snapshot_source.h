/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The <source> of a snapshot's disk, where it says more than a path: a network image, security labels, and what belongs
 * to the image (<encryption> and the like). It is checked and brought into the form in which libvirt prints it; what
 * libvirt does not know is dropped.
 */
#pragma once

#include "format.h"
#include "xml.h"

/*
 * Read @source of a disk of @type. *ret_node: a node of its own that the caller frees with xmlFreeNode, or NULL when
 * there is nothing beyond the path of a local image. EINVAL.
 */
gboolean snapshot_source_read(const xmlNode *source, DiskType type, xmlNode **ret_node, GError **error);

/* A <source> for the local image @path with the security labels that @from (may be NULL) has; NULL when it has none. */
xmlNode *snapshot_source_relabel(const xmlNode *from, DiskType type, const char *path);

/* Could such an image be created, as far as @source (may be NULL) tells? EOPNOTSUPP: not one that is encrypted, say. */
gboolean snapshot_source_check_create(const xmlNode *source, GError **error);

/* The attribute of a local <source> that holds the path. */
const char *snapshot_source_path_attr(DiskType type);
