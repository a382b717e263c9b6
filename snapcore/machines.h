/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machines: which machine a domain is, whether it runs, and what recovery asks it.
 */
#pragma once

#include "op.h"

/*
 * Three answers (DESIGN 6): *ret_machine is the QEMU that runs @domain, NULL: it is off. EBUSY with the reason: neither is
 * known. Without a backend that knows of machines: off, or EBUSY where an active layer is being written.
 */
gboolean machines_find(Core *core, const Domain *domain, GCancellable *cancel, Machine **ret_machine,
                       GError **error);

/*
 * The same for an op, into op->machine, whose steps act through the machine from now on. A merge that a daemon which died
 * has begun there is ended first. op->domain->live is NULL then unless the machine is the one that it is about. Where it is off, it is made sure that nobody writes its images or what lies below them.
 */
gboolean op_find_machine(Op *op, GError **error);

/* The machine has ended: steps act on the images themselves again. */
void op_forget_machine(Op *op);

/*
 * After the commit, as long as the journal can still bring it there after a crash: the machine ends, or one that was begun
 * runs, as the plan says. What fails its caller tries again.
 */
void op_bring_machine(Op *op);

/* Without a commit: a machine that the plan has begun ends, before its images are what they were. */
void op_end_begun(Op *op);

/* EBUSY "domain is running" unless it is off. */
gboolean op_require_off(Op *op, GError **error);

/*
 * @plan, of @domain as its documents say, was cut short. If it is about a running machine, find that, let the plan act through
 * it (*ret_machine, NULL where it is off; to be freed after the plan), and if the machine was asked, find out whether it
 * has happened: the plan has committed then, or can be undone. A machine that is gone: it has, unless a tag that it was to take
 * is missing, for QEMU may have written the overlays; of a join (plan.h) the headers tell. One that
 * a plan without a commit has begun is ended. EBUSY: it is not known.
 */
gboolean machines_answer(Core *core, const Domain *domain, Plan *plan, Machine **ret_machine, GError **error);

/* The same, and EBUSY only after some seconds: a process that dies keeps its images for a moment, and its monitor. */
gboolean machines_answer_soon(Core *core, const Domain *domain, Plan *plan, Machine **ret_machine,
                              GError **error);

/*
 * op->plan has asked, or its steps may have, and the answer got lost or does not say enough: ask again. op->machine is the
 * machine as it is now, or NULL. *ret_happened: the plan has committed; else it can be undone.
 */
gboolean op_ask_again(Op *op, gboolean *ret_happened, GError **error);

/* What @plan's machine has joined is on stable storage, before anything that it was made from goes. */
gboolean machines_sync_join(const Plan *plan, GError **error);

/* And once the plan is at its end: let the machine go on, or end it, as the plan says. What fails is logged. */
void machines_bring_back(Core *core, const Domain *domain, const Plan *plan, Machine *machine);

/*
 * Does @domain run, as far as is known without asking anybody? Under the lock. Neither is known for a moment when our own work on
 * the images was seen and taken for somebody else's.
 */
gboolean machines_runs(const Core *core, const Domain *domain);

/* Follow the states of the domains that are shown; the lock is not held. unwatch: of a domain that has gone. */
void machines_start(Core *core);
void machines_stop(Core *core);
/* Something was done to the machine: its state is this from now on, until it is told otherwise. */
void machines_note(Core *core, const char *uuid, RunState state);
void machines_watch(Core *core, const Domain *domain);
void machines_unwatch(Core *core, const char *uuid);
