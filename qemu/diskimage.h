/* SPDX-License-Identifier: GPL-2.0-or-later */
/* DiskImage: one image of a chain, opened to read its content: locked as its role asks for, its tables' places known. */
#pragma once

#include "backend.h"
#include "diskwatch.h"
#include "imagefile.h"
#include "qcow2_layout.h"

typedef struct {
    ImageFile *file;    /* NULL: it is not on this host, or there is a reader */
    DiskReader *reader; /* all from here on down is read by another one, as if it were raw; or NULL */
    FileId id;
    gboolean raw;
    Qcow2Layout layout; /* of what is not raw */
    guint64 size;       /* virtual, bytes: of whole sectors */
    DiskWatch
        *watch; /* of DISK_ACTIVE: that nobody has written it since before it was first read; else NULL */
} DiskImage;

/*
 * Open @layer, a raw or qcow2 image on this host, in @state; @tag: of DISK_TAG, its name. @based: there is an image below
 * it in the chain. Errors as open_disk; EOPNOTSUPP: it keeps its content elsewhere, or encrypted, or is of another kind.
 */
DiskImage *disk_image_open(const DiskLayer *layer, DiskState state, const char *tag, gboolean based,
                           GError **error);

/*
 * Open @layer, of any kind, for QEMU to read it: locked and compared with its header in the same way, but its tables are not
 * looked at. @state: not DISK_TAG. What is remote is not kept open.
 */
DiskImage *disk_image_hold(const DiskLayer *layer, DiskState state, gboolean based, GError **error);

/* @reader, which is given away, as an image on which others stand. */
DiskImage *disk_image_of(DiskReader *reader);

/* Is what was read of a chain whose first image is @image still right? EIO: somebody has written it, or may. */
gboolean disk_image_check(const DiskImage *image, GError **error);

/* Are @len bytes at @offset inside the disk? EINVAL. */
gboolean disk_image_check_range(const DiskReader *reader, guint64 len, guint64 offset, GError **error);

void disk_image_free(DiskImage *image);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DiskImage, disk_image_free)

/* The virtual size of an image of any kind in its own state, or at the internal snapshot @tag. No lock is taken. */
gboolean disk_image_size(const DiskLayer *layer, const char *tag, guint64 *ret_size, GError **error);
