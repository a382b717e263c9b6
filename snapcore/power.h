/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Power: starting a domain's machine, for whoever does it: a command, a revert. The machine is always set up without
 * running, what it was started as is recorded, and only then it runs: a crash in between leaves a machine that stands.
 */
#pragma once

#include "machines.h"

typedef struct {
    const DomainDef *
        def; /* what machine: its disks are pointed at the domain's active layers; name and uuid are the domain's */
    int memory;                     /* a migration stream to begin from; -1: none */
    const char *tag;                /* a checkpoint to begin from; NULL: none */
    const char *const *tag_targets; /* the disks that took part in that one, NULL-terminated */
    const char *tag_file;           /* the file of its own that holds that one's memory, or NULL */
} PowerFrom;

/* Before anything of it: recovery shall know that a machine is begun, which is to run or (@paused) to stand at the end. */
void power_announce(Op *op, gboolean paused);

/* Could a machine as @def be started here, as far as that can be known without doing it? EOPNOTSUPP, ENOENT, EINVAL. */
gboolean power_check_start(const Op *op, const DomainDef *def, GError **error);

/*
 * Start op->domain's machine, which is off, and let it stand: op->machine. The plan is prepared. op->domain->live and the plan's live.xml say what it
 * is. What is not as the definition says is logged.
 */
gboolean power_set_up(Op *op, const PowerFrom *from, GError **error);

/* EPERM: a disk has changed since the memory in the save image @file was written: its guest would ruin it. */
gboolean power_check_disks(const Op *op, const char *file, GError **error);

/* Into the log, of the memory in @what: of what machine it is only its user knows, for no domain->live says so. */
void power_note_stranger(Op *op, const char *what);

/* After the commit: let it run, and tell its state; @paused: only tell. */
gboolean power_let_run(Op *op, gboolean paused, GError **error);

/* End op->machine. */
gboolean power_end(Op *op, GError **error);

/* Forget the managed save: its file goes once the op has committed. Nothing when there is none. */
void power_forget_saved(Op *op);
