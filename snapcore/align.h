/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Align: from a create request and a domain's disks to what is done with each disk. One pure function: it looks at no
 * file and changes nothing (facts/libvirt-snapshots.md 3; DESIGN 3 for the default).
 */
#pragma once

#include "domain.h"
#include "request.h"
#include "rules.h"

/* What the caller has found out about the disk's image. */
typedef struct {
    gboolean can_internal;
    gboolean crowded;    /* it can, but holds so many tags already that each operation on them is slow */
    const char *why_not; /* when it can't; belongs to the caller */
    int code;            /* the errno for that */
} DiskAbility;

typedef struct {
    const DiskDef *disk;
    SnapMode mode;               /* no, internal, external, manual: never default */
    ImageFormat format;          /* of the overlay of an external one */
    const SnapshotDisk *request; /* what the request says of this disk, or NULL; belongs to the request */
    gboolean asked;              /* that names a mode, an image or a driver */
    gboolean reuse;              /* the overlay is there already */
} AlignedDisk;

/*
 * One AlignedDisk for each disk of @def, in its order (an array of AlignedDisk). @abilities is parallel to def->disks.
 * @silent: what a disk does about which request and definition are silent; MODE_DEFAULT: internal where every such
 * disk can, external otherwise, or where a disk-only request names other disks and none of them as internal. Errors: EINVAL (unknown disk, named twice, path without external), EOPNOTSUPP (a rule
 * forbids it); the sentence names the disk.
 */
GArray *align_disks(const DomainDef *def, const CreateRequest *request, const DiskAbility *abilities,
                    SnapMode silent, GError **error);

/*
 * What the request asks of the disks, in the words of the combination table, as a set of 1 << RuleAsk: several when
 * disks differ. Omitted only where the request names no disk's mode and some disk takes part.
 */
guint align_asks(const GArray *disks);
