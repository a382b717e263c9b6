/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block nodes of a running machine, also those inside chains: which node has which file. To ask for all of them costs
 * more with each layer that a chain has: only where inner layers matter.
 */
#pragma once

#include "machine_parts.h"

/* All block nodes: name -> what QEMU says of it. */
json_t *running_nodes(Running *running, const QmpWait *wait, GError **error);

/* The node among @nodes, their own string, that has the image @path. EBUSY: several have; ENODEV: none. */
const char *running_layer(json_t *nodes, const char *path, GError **error);

/* The local file below the node that @info tells about. Caller frees; NULL: none. */
char *node_path(const json_t *info);

/* Is it the file @path; is it one without an image format on it? */
gboolean node_has_file(const json_t *info, const char *path);
gboolean node_is_file(const json_t *info);
