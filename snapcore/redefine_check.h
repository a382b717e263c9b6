/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What only the domain can say of a document that is to be redefined, row by row of the table that libvirt goes by
 * (facts/libvirt-snapshots.md 1.3), and stricter than libvirt where an overlay would destroy a state.
 */
#pragma once

#include "op.h"

/*
 * May @def stand in @domain? @existing: the snapshot that it replaces, with its stored document @old; NULL: a new one.
 * EINVAL and EOPNOTSUPP with element and line: another machine's document; no <domain> where none can be inherited; a
 * parent that is unknown or descends from it; a state that REDEFINE_DISK_ONLY or the existing snapshot does not go with;
 * another machine than the existing snapshot's (abi.h).
 */
gboolean redefine_check(const Domain *domain, const SnapshotDef *def, const Snapshot *existing,
                        const SnapshotDef *old, RedefineFlags flags, GError **error);

/*
 * The overlays that the document names: one that it leaves open is called as libvirt would have called it (facts 3.1:
 * exactly STEM.NAME, and the image it stands on must be a regular file that is there). EOPNOTSUPP when there is nothing
 * to name it after; EINVAL when two disks have one overlay, or it is the image that holds a disk's state.
 */
gboolean redefine_name_overlays(Core *core, SnapshotDef *def, GError **error);
