/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Overlay target: where the overlay of one disk goes when a snapshot is taken. Everything that could speak against it is
 * found out here, before anything is touched (DESIGN 3: nothing is ever overwritten).
 *
 *   nothing said        a generated name beside the image
 *   a path              of a file that does not exist yet, or of a block device that is blank
 *   a network <source>  an NBD export that is blank
 *   reuse_external      the same names, but the image must be there and is used as it is: an overlay on exactly the
 *                       layer that the disk has now, made by whoever asks, and used by nobody
 */
#pragma once

#include "align.h"
#include "overlay.h"

/*
 * Choose and plan the overlay of @disk on its active layer @on, of which @info is the header. @name: the snapshot's.
 * *ret_layer belongs to the domain. The sentence of a failure does not name the disk: the caller does.
 */
gboolean overlay_target_plan(Op *op, const AlignedDisk *disk, Layer *on, const ImageInfo *info,
                             const char *name, Layer **ret_layer, GError **error);

/* Point the disk of op->domain's definition at @overlay, with what the request says of it besides. */
void overlay_target_point(Op *op, const AlignedDisk *disk, const Layer *overlay);
