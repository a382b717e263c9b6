/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SnapshotDisk: one disk of a snapshot, asked for or recorded. An element of <disks> (facts/libvirt-snapshots.md 1.1,
 * 1.2), or a --diskspec. What it says of an image is about the overlay: what comes *after* the snapshot.
 */
#pragma once

#include "format.h"
#include "xml.h"

typedef struct {
    char *name;         /* the domain disk's target; in a request also an absolute source path */
    SnapMode mode;      /* MODE_DEFAULT: as the domain and the defaults say */
    DiskType type;      /* of the overlay: file, block or network */
    ImageFormat format; /* driver type of the overlay; FORMAT_NONE: none is said */
    guint64 cache_size; /* <metadata_cache><max_size>, bytes; 0: none is said */
    char *source;       /* path of the overlay, file= or dev=; NULL: none is said, or it is a network one */
    /*
     * The whole <source> where that is more than a path (snapshot_source.h): network, or with <seclabel>s, which may
     * stand there without a path too; else NULL. Belongs to the disk, not to a document. Whoever changes source calls
     * snapshot_disk_set_source.
     */
    xmlNode *source_node;
    gboolean delete_in_progress; /* <snapshotDeleteInProgress/> */
    long line;                   /* in the document that was read; 0: in none */
} SnapshotDisk;

SnapshotDisk *snapshot_disk_new(const char *name, SnapMode mode);
void snapshot_disk_free(SnapshotDisk *disk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapshotDisk, snapshot_disk_free)

/*
 * A child of <disks>, whatever it is called (facts 1.2). The mode stays MODE_DEFAULT where the document is silent and
 * names no image. EINVAL, EOPNOTSUPP with element, disk and line.
 */
SnapshotDisk *snapshot_disk_read(const xmlNode *node, GError **error);

/* Append the element in libvirt's layout. */
void snapshot_disk_write(GString *out, const SnapshotDisk *disk);

/*
 * The rules that a document and a diskspec share: the path is absolute, a path or a format without a mode asks for
 * external, an image goes with external only. EINVAL, EOPNOTSUPP; nothing is changed then.
 */
gboolean snapshot_disk_finish(SnapshotDisk *disk, GError **error);

/* Let the overlay be the local image @path (NULL: none is said) of @type. <seclabel>s stay. */
void snapshot_disk_set_source(SnapshotDisk *disk, DiskType type, const char *path);

/* Give @disk what @asked says of its overlay beyond the path: cache size, security labels, and a network source. */
void snapshot_disk_take_image(SnapshotDisk *disk, const SnapshotDisk *asked);

/* Is there an image in it: a path, or a network source? */
gboolean snapshot_disk_names_image(const SnapshotDisk *disk);
