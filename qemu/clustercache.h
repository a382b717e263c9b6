/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ClusterCache: the compressed clusters that were unpacked last, of bounded memory. When several threads want one at the
 * same time, one unpacks it and the others wait for it.
 */
#pragma once

#include "diskimage.h"

typedef struct ClusterCache ClusterCache;

ClusterCache *cluster_cache_new(void);
void cluster_cache_free(ClusterCache *cache);

/*
 * What the compressed cluster at @at (of a MapPiece) of @image holds, one cluster long. EIO: it does not unpack. NULL when
 * it fails.
 */
GBytes *cluster_cache_get(ClusterCache *cache, const DiskImage *image, guint64 at, GError **error);
