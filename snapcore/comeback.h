/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Comeback: the machine's side of a revert (DESIGN 6): in which state it ends, what speaks against it, how it ends now and
 * begins again. The disks are revert.c's business; between end and beginning they are those of a domain that is off.
 *
 * It is always a new QEMU, also for a checkpoint of the very machine that runs: to load that in place stops the guest and
 * throws its memory away before it is known to succeed, leaves no trace by which recovery could tell whether it has, and some
 * disks changed where it has not.
 *
 *   comeback_check   everything that could speak against it, before anything is touched
 *   (the disks are planned)
 *   comeback_end     the running machine ends: as late as can be
 *   (the plan is prepared, op->domain has the new definition)
 *   comeback_begin   a new machine is set up, with the snapshot's memory if it has one
 *   (commit)
 *   comeback_run     and runs
 */
#pragma once

#include "power.h"
#include "saveimage.h"
#include "snapshot.h"

typedef struct {
    Op *op;
    RunState end;   /* off, running, paused */
    Machine *was;   /* the machine that runs now; the op's is none, for it acts on one that is off by then */
    gboolean ended; /* there was one */
    SaveImage *image;   /* of external memory */
    DomainDef *live;    /* of a snapshot with memory: what its machine was */
    char *tag;          /* of internal memory */
    GPtrArray *targets; /* the disks that took part in that (char *), NULL-terminated */
    char *tag_file;     /* the file of its own that holds that */
} Comeback;

/*
 * @def: the snapshot's document; NULL: it is what an undo brings back, which has no memory. @coming: what is going to be
 * defined. EPERM without request->force: a running machine would end stopped; it is another machine than the one that runs; a
 * memory state alone whose disks have changed; a managed save would be lost. EIO, ENOENT, EINVAL: the memory cannot be read.
 * EOPNOTSUPP and others: it could not be started. From then on op->machine is NULL, and a managed save is going to go.
 */
gboolean comeback_check(Comeback *comeback, Op *op, const Snapshot *snapshot, const SnapshotDef *def,
                        const DomainDef *coming, const RevertRequest *request, GError **error);
gboolean comeback_end(Comeback *comeback, GError **error);
gboolean comeback_begin(Comeback *comeback, GError **error);
gboolean comeback_run(Comeback *comeback, GError **error);
void comeback_clear(Comeback *comeback);
