/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What one qcow2 image says of a disk's bytes, from its L1 and L2 tables: just the entries needed are read, whatever sizes
 * the image claims.
 */
#pragma once

#include "qcow2_layout.h"

typedef enum {
    MAP_BELOW, /* nothing: it is as in the image below */
    MAP_ZERO,
    MAP_DATA,
    MAP_COMPRESSED,
} MapKind;

typedef struct {
    MapKind kind;
    guint64 length; /* bytes for which this is so */
    guint64 at;     /* MAP_DATA: where in the file. MAP_COMPRESSED: see qcow2_compressed() */
} MapPiece;

#define MAP_L1_ENTRIES 64
#define MAP_L2_WORDS 4096

/* The entries that were read last: for pieces asked for one after the other, few reads do. */
typedef struct {
    const ImageFile *file;
    const Qcow2Layout *layout;
    guint64 end; /* of the disk's bytes that are going to be asked for */
    guint64 l1_first;
    guint l1_count;
    guint64 first; /* cluster */
    guint count;   /* clusters */
    guint64 l1[MAP_L1_ENTRIES];
    guint64 l2[MAP_L2_WORDS];
} Qcow2Window;

/* Begin with another image, or another range: pieces of it before @end, which is not beyond the state's size. */
void qcow2_window_open(Qcow2Window *window, const ImageFile *file, const Qcow2Layout *layout, guint64 end);

/*
 * What is at @offset: as much as is alike up to @limit (not over window->end), more or less. Compressed: never beyond the
 * cluster. EIO.
 */
gboolean qcow2_map(Qcow2Window *window, guint64 offset, guint64 limit, MapPiece *ret_piece, GError **error);

/*
 * The image has nothing of its own from @offset to where this returns, nor, as a rule, much before: its L1 table has no
 * entry there. @offset itself when there may be something. At most @limit, which is not beyond the state's size.
 */
guint64 qcow2_nothing_until(const ImageFile *file, const Qcow2Layout *layout, guint64 offset, guint64 limit);

/* Where a compressed cluster is, from a piece's @at: the bytes that may be its own; fewer are, as a rule. */
void qcow2_compressed(const Qcow2Layout *layout, guint64 at, guint64 *ret_offset, guint64 *ret_length);
