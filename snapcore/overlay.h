/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Overlay: how new layers and tags are named, planned and recorded, and how a layer is frozen (DESIGN 3, 4). Used by
 * create and revert.
 */
#pragma once

#include "op.h"

/*
 * A free path "stem.NAME" for an overlay on @on: its stem, or its own path without the last extension. What exists
 * already, as a file or in the store, or is too long gets a suffix. *ret_stem (caller frees) is what the next one is
 * named from. EEXIST when no suffix helps, EOPNOTSUPP for a block device.
 */
char *overlay_name(Op *op, const Layer *on, const char *name, char **ret_stem, GError **error);

/*
 * The tag of the snapshot @name in an image that has @info's tags and that came with its document alone: the one called
 * so, else the one overlay_tag would have given. When there is neither: @name. Caller frees.
 */
char *overlay_tag_of(const ImageInfo *info, const char *name);

/* The same without a suffix, whatever is there. */
char *overlay_exact_name(const Layer *on, const char *name, char **ret_stem, GError **error);

/*
 * The name of @on in the header of @path: "./name" in one directory, so that a moved directory stays whole. Devices
 * have several names and do not move. Caller frees.
 */
char *overlay_backing_name(const Domain *domain, const char *path, const Layer *on);

/* A free tag like @name in an image that has @info's tags. All digits never: qemu-img would take it for an id. */
char *overlay_tag(const ImageInfo *info, const char *name);

/*
 * Plan an overlay @path on @on with @size bytes: a step in stage 0, and the new layer in op->domain. *ret_layer
 * belongs to the domain. EEXIST when there is anything called @path.
 */
gboolean overlay_plan(Op *op, const char *disk, Layer *on, const char *path, const char *stem,
                      ImageFormat format, guint64 size, Layer **ret_layer, GError **error);

/* Plan a new qcow2 layer @path that is a copy of the internal state @tag of @from, on the same backing. */
gboolean overlay_plan_copy(Op *op, const char *disk, Layer *from, const char *tag, const char *path,
                           const char *stem, guint64 size, Layer **ret_layer, GError **error);

/*
 * The permission bits that an image of @mode has when it is written. One without any write bit came in as another
 * store's frozen layer: thawed with these bits it could never be written again, so its owner may.
 */
guint overlay_active_mode(guint mode);

/*
 * Plan an overlay on the place @path, a block device: it is there already, and must be blank (backend.h). The layer is
 * not ours to unlink. EEXIST, EBUSY, ENOSPC, EOPNOTSUPP.
 */
gboolean overlay_plan_place(Op *op, const char *disk, Layer *on, const char *path, DiskType type,
                            ImageFormat format, guint64 size, Layer **ret_layer, GError **error);

/* Record the image @path, which is there already and is not ours, as the layer above @on. Belongs to the domain. */
Layer *overlay_adopt(Op *op, Layer *on, const char *path, const char *stem, DiskType type,
                     ImageFormat format);

/* Plan to freeze @layer: from the commit on its content must not change. Recorded with @home. Fine when it is frozen. */
gboolean overlay_freeze(Op *op, const char *disk, Layer *layer, Snapshot *home, GError **error);

/* After plan_prepare: record what files the new and the frozen layers are. */
gboolean overlay_record(Op *op, GError **error);
