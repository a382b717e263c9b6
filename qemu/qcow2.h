/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A qcow2 image's header and snapshot table, read natively (QEMU's docs/interop/qcow2.txt): one open and a
 * handful of preads instead of a child process of 4 ms, and never the backing file.
 */
#pragma once

#include "backend.h"
#include "imagefile.h"

/* A state of the disk: its size, and where the table that leads to its content is. Nothing of it is checked but the size. */
typedef struct {
    guint64 size; /* virtual, bytes */
    guint64 l1_offset;
    guint32 l1_entries;
} Qcow2State;

/* What the header says beyond ImageInfo. */
typedef struct {
    ImageInfo *info;
    guint version;        /* 2 or 3 */
    guint cluster_bits;   /* 9 to 21 */
    gboolean extended_l2; /* clusters are allocated in 32 parts */
    gboolean zstd;        /* how clusters are compressed; else with zlib */
    gboolean corrupt;     /* marked so: not to be used before a repair */
    Qcow2State active;
    GArray *states; /* of Qcow2State: each of info->tags, same index */
} Qcow2Image;

/*
 * Read @file. EINVAL: not qcow2; EIO: damaged; EOPNOTSUPP: a version or a feature that QEMU 7.2 does not
 * know. Bounds are QEMU's own: 65536 snapshots, 64 MiB of snapshot table, 1023 bytes of backing name.
 */
Qcow2Image *qcow2_read(const ImageFile *file, GError **error);
void qcow2_image_free(Qcow2Image *image);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qcow2Image, qcow2_image_free)

/* How many tags are called @name. */
guint qcow2_count_tags(const Qcow2Image *image, const char *name);

/*
 * The tag called @name. ENOENT: there is none; EINVAL: several have that name, or another has its id too, so
 * that qemu-img cannot be told which one is meant. Belongs to @image.
 */
const ImageTag *qcow2_only_tag(const Qcow2Image *image, const char *path, const char *name, GError **error);

/* The state at @tag, which is one of @image's. */
const Qcow2State *qcow2_tag_state(const Qcow2Image *image, const ImageTag *tag);
