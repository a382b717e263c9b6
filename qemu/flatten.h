/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Make a chunk of a DiskMap: what of a range of the disk each image of the chain decides, the first that has it. */
#pragma once

#include "diskmap.h"

/* @length bytes, at least 1 and less than 4 GiB, from @offset on, all on the disk that is @images[0]'s. EIO. */
MapChunk *flatten(DiskImage *const *images, guint n_images, guint64 offset, guint64 length, GError **error);
