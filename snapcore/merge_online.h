/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Merges of layers that a running machine has open (DESIGN 4, 6; facts/qemu.md B6): a block job of its own moves the data, and no
 * file gets another name, because QEMU opens images again by name.
 *
 *   the top is the active layer, down    QEMU writes the lowest layer afterwards: disk and documents follow
 *   it is not, down                      QEMU writes the lowest layer's name into the header of what stands on the top
 *   the top is the active layer, up      QEMU writes into the top's header what the run stood on
 *
 * While the job moves data nothing is journalled but that the run is mixed, as offline: the view through every layer above is
 * right at every moment. When all is moved the machine is paused, which lets QEMU write out all that it has in mind; then the
 * journal asks (plan.h), the chain changes, the plan commits, and only then the machine goes on. So a QEMU that dies in
 * between, and is started again from the one name or the other, reads the same.
 *
 * QEMU's locks keep all others out of what it has open. A job that is left when the daemon dies waits before its last step for
 * ever; whoever finds the machine next ends it (machines.h).
 */
#pragma once

#include "merge_join.h"

/* Carry out the merge of @join, whose top disk join->disk of op->machine reads through. As merge_domain() (merge_job.h). */
gboolean merge_online(Join *join, GError **error);
