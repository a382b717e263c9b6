/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instant: what is done to a running machine for a snapshot, all of it at one moment (DESIGN 6, facts/qemu.md B):
 *
 *   freeze the guest's file systems             --quiesce
 *   memory into a save image                    external; the machine stands from then on, with --live only then
 *   checkpoint                                  internal memory, and the disks that are internal with it
 *   one transaction over all disks              overlays, and internal states without memory
 *   go on, or end it                            --halt
 *   thaw
 *
 * Files, overlays and the documents are made before; the plan knows them. When anything fails the machine goes on as before,
 * and the plan can be undone; except that the machine has died, or says nothing, with the transaction under way: then it is
 * asked again, and what it says counts (machines.h).
 */
#pragma once

#include "machines.h"

typedef struct {
    RunState before; /* the machine's state */
    SnapMode memory; /* no, internal, external */
    const char *
        memory_file; /* of external memory: the empty file, made before; of internal: the empty qcow2 for it, or NULL */
    const DomainDef *def;     /* of external memory: what the file says the machine is */
    const char *tag;          /* of a checkpoint */
    const GPtrArray *targets; /* of a checkpoint: the disks that take part (char *), NULL-terminated */
    const GArray *changes;    /* of MachineChange */
    gboolean live;
    gboolean quiesce;
    gboolean halt;
} Instant;

/* On success plan_commit is next. op->machine is NULL then if the machine has ended. */
gboolean instant_take(Op *op, const Instant *instant, GError **error);
