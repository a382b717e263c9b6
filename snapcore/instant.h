/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instant: what is done to a running machine for a snapshot, all of it at one moment (DESIGN 6, facts/qemu.md B):
 *
 *   freeze the guest's file systems             --quiesce
 *   stop                                        where more than one thing follows, and --halt
 *   internal states of disks                    beside external memory
 *   memory into a save image                    external; with --live the machine stands from its end on
 *   checkpoint                                  internal memory, and the disks that are internal with it
 *   one transaction over all disks              overlays, and internal states without memory
 *   go on
 *   thaw
 *
 * Files, overlays and the documents are made before; the plan knows them. When anything fails the machine goes on as before,
 * and the plan can be undone; except that the machine has died, or says nothing, with the transaction under way: then it is
 * asked again, and what it says counts (machines.h). With --halt it stands until all is committed, and is ended then: what it
 * has in its memory is nowhere else before.
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

/* All has been said to the plan. On success plan_commit is next. op->machine is NULL if the machine has died, which may be a success, too. */
gboolean instant_take(Op *op, const Instant *instant, GError **error);

/* After instant_take has succeeded: end the machine, if it is to be; not committed: let it go on. */
void instant_end(Op *op, const Instant *instant, gboolean committed);
