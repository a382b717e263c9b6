/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a QEMU that was started and stands still is to be given before it runs: memory from a stream, or a checkpoint. */
#pragma once

#include "launch.h"
#include "machine.h"
#include "qmp.h"

/*
 * Load the memory that the descriptor @fd has from its position on. The QEMU was started with "-incoming defer". A stream
 * that does not fit ends it: ECONNRESET, and its messages say why.
 */
gboolean start_load_memory(Qmp *qmp, int fd, const QmpWait *wait, GError **error);

/*
 * Load the checkpoint @start->tag, of all disks whose image has it. ENOENT: no image has one with memory; else as
 * qmp_job_run().
 */
gboolean start_load_checkpoint(Qmp *qmp, Backend *images, const Launch *launch, const MachineStart *start,
                               const QmpWait *wait, GError **error);
