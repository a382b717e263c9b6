/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * After: what a snapshot's document says of the images that were written after it (facts/libvirt-snapshots.md 6.4, 7.4).
 * <disks> names the overlay with which the snapshot was taken. A revert to it makes another one: that takes the place
 * of the first in <disks> when the snapshot has no children, and is in <revertDisks>, beside it, when it has. There it is
 * as long as the snapshot is current. To us all this says nothing: who stands on what is known from the layers. But
 * libvirt deletes and reverts by it, so it has to be true.
 */
#pragma once

#include "op.h"

/* Let the document of @snapshot (NULL: fine) say what stands on its states now. Nothing when it says so already. */
gboolean after_write(Op *op, Snapshot *snapshot, GError **error);

/* @snapshot (NULL: fine) is not current any more, or has another child: no <revertDisks>. */
gboolean after_forget_revert(Op *op, Snapshot *snapshot, GError **error);
