/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DiskMap: where each byte of a disk comes from, through a whole chain of images. The disk is cut in chunks; a chunk is made
 * when it is first asked for, by walking down the chain until all of it is decided, and kept among the last used ones, of
 * bounded memory. So a chain of any depth costs nothing once a chunk is there. All functions may be called by several
 * threads at once.
 */
#pragma once

#include "diskimage.h"
#include "qcow2_map.h"

typedef struct {
    guint64 at;    /* as in MapPiece */
    guint32 start; /* in the chunk; it ends where the next one starts */
    guint16 image; /* which one of the chain */
    guint8 kind;   /* MapKind, never MAP_BELOW */
} MapExtent;

/* Never changed once it is made. */
typedef struct {
    gint references;
    guint n_extents;
    guint64 offset; /* on the disk */
    guint64 length;
    MapExtent extents[];
} MapChunk;

typedef struct DiskMap DiskMap;

/* The map of the chain @images, at least one and at most 65535, which stays the caller's. */
DiskMap *diskmap_new(DiskImage *const *images, guint n_images);
void diskmap_free(DiskMap *map);

/* The chunk that @offset, which is on the disk, is in; to be given back with map_chunk_unref. EIO. */
MapChunk *diskmap_chunk(DiskMap *map, guint64 offset, GError **error);
void map_chunk_unref(MapChunk *chunk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MapChunk, map_chunk_unref)

/* Zeros from @offset, which is the end of a chunk, to where this returns, for which no chunk need be made. */
guint64 diskmap_zeros_until(const DiskMap *map, guint64 offset);

/* The index of the extent of @chunk that @offset on the disk is in. */
guint map_chunk_find(const MapChunk *chunk, guint64 offset);

/* The offset on the disk at which extent @index ends. */
guint64 map_chunk_end(const MapChunk *chunk, guint index);
