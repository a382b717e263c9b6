/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Adopt: an imported domain becomes ours (DESIGN 6). As long as libvirt defines it (domain->libvirt), its images are
 * libvirt's: looked at, never touched, and every change of the domain is refused. When the definition is gone, the first
 * job takes the domain over: what states of snapshots need is frozen, as after a redefine, in a journalled operation of
 * its own. Not if the images are not what was imported: what libvirt did after the import we do not know.
 */
#pragma once

#include "op.h"

/* EROFS with the reason when libvirt still defines @domain, an imported one, or when that cannot be known. */
gboolean adopt_check_released(const Domain *domain, GError **error);

/*
 * Adopt op->domain, and commit: op->domain is then NULL, op->plan spent. EROFS: libvirt still defines it; an image is gone,
 * or another one, or changed; the domain writes what a state needs; an image nobody told us of stands on what it writes.
 * EBUSY: somebody has an image open.
 */
gboolean adopt_domain(Op *op, GError **error);
