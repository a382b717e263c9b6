/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plan: an operation as a list of steps with exactly one commit point, and its journal (DESIGN 5).
 *
 *   plan_new, plan_step..., plan_after...   say what is to be done
 *   plan_prepare                            journal the intent, carry out the steps
 *   plan_write...                           say how the store's files change
 *   plan_commit                             the commit point: the journal holds the new files' whole texts
 *   plan_settle                             write the files, take temporaries away, carry out what comes after
 *   plan_close                              the journal goes
 *
 * Of a running machine the commit is not ours alone to decide: its images change in a transaction of its own. Then
 *
 *   plan_ready                              what the commit is going to write is there, so that it needs no room
 *   plan_ask                                the journal holds the new files' texts, and which images the machine is to switch to
 *   (the transaction)
 *   plan_commit, or plan_answer             it has happened, or has not
 *
 * and a crash in between is decided by whoever looks at the machine (machines.h).
 *
 * A plan that is freed between prepare and commit is undone. The journal, STORE/domains/ENTRY/journal.json, is described in
 * STORE.md. It is replaced durably as a whole, so it is always one of: absent (nothing under way), not committed (undo the
 * steps, last first) or committed (write the files again, go on).
 */
#pragma once

#include "step.h"
#include "store.h"

typedef struct Plan Plan;

/* @domain names the directory of the store that the journal goes to. Nothing is done yet. */
Plan *plan_new(const Store *store, Backend *backend, const char *domain, const char *what);

/* The journal an earlier process left, or NULL with no error when there is none. */
Plan *plan_read_journal(const Store *store, Backend *backend, const char *domain, GError **error);

/* Undo if need be; frees. */
void plan_free(Plan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Plan, plan_free)

/* Add a step (the plan owns it; fill in its fields). plan_after: carried out after the commit. */
Step *plan_step(Plan *plan, StepKind kind, guint stage, const char *disk, const char *path);
Step *plan_after(Plan *plan, StepKind kind, const char *disk, const char *path);

/* A stage of its own behind those of all steps so far. */
guint plan_next_stage(const Plan *plan);

/* Write @text (NULL: remove) to @file of the domain's directory at the commit. */
void plan_write(Plan *plan, const char *file, const char *text);

/* On failure everything is undone; *error then says why it failed. */
gboolean plan_prepare(Plan *plan, GCancellable *cancel, GError **error);

/* Nothing when it has committed already. */
gboolean plan_commit(Plan *plan, GError **error);

/* From now on steps are carried out, undone and finished through @backend, which must live as long. */
void plan_use(Plan *plan, Backend *backend);

/*
 * The plan is about a machine that runs; recovery brings that to what it was, or was to be.
 *   running  it ran, and goes on when all is over
 *   ends     but after a commit it is to be ended
 *   freezes  its file systems may have been frozen
 *   begins   it is one that the plan starts: as long as nothing is committed it has not run yet, and ends with the undoing;
 *            after the commit it is to run if @running says so
 */
typedef struct {
    gboolean running;
    gboolean ends;
    gboolean freezes;
    gboolean begins;
} PlanMachine;
void plan_set_machine(Plan *plan, const PlanMachine *machine);
/* NULL: it is about images alone. */
const PlanMachine *plan_machine(const Plan *plan);

/* Disk @disk of the machine, which writes @from, is going to write @to; NULL: there is no such disk any more. */
typedef struct {
    char *disk;
    char *from;
    char *to;
} PlanSwitch;
void plan_add_switch(Plan *plan, const char *disk, const char *from, const char *to);
const GPtrArray *plan_switches(const Plan *plan);

/*
 * The machine is going to join layers (merge_online.h): what it has open is written into @into, and then the header of @path
 * says that it stands on @to, and no longer on @from. That is what tells whether it has happened. Without a @path there is
 * none: the switches tell, and where the machine is gone it has not. Paths are real ones; NULL, of the last two: on nothing.
 */
typedef struct {
    char *into;
    char *path;
    ImageFormat format; /* of path */
    char *from;
    char *to;
} PlanJoin;
void plan_set_join(Plan *plan, const PlanJoin *join); /* is copied */
const PlanJoin *plan_join(const Plan *plan);          /* NULL: it joins nothing */

/*
 * All has been said that the commit is to say: it is written beside the journal, and takes its place at the commit. Nothing
 * can be said to the plan any more.
 */
gboolean plan_ready(Plan *plan, GError **error);
gboolean plan_is_ready(const Plan *plan);

/*
 * The machine is about to be told. Until plan_commit or plan_answer nothing is undone, whatever becomes of the plan: it is
 * stuck then, and the journal remembers.
 */
gboolean plan_ask(Plan *plan, GError **error);
gboolean plan_asked(const Plan *plan);

/* The machine has died with it under way: what it wrote is mended before anything is undone. */
void plan_cut_short(Plan *plan);

/* It is known that it has not happened: the plan can be undone. */
gboolean plan_answer_no(Plan *plan, GError **error);

/* The first part of settling a committed plan: the store's files. No image is touched, nobody is waited for. */
gboolean plan_write_files(Plan *plan, GError **error);

/*
 * Go forward; may be repeated. Cleaning up that fails is no failure of the operation: the step is appended to @failed
 * (of Step, owned by the plan). Fails when the store cannot be written, or a needed step cannot be done: then the
 * journal stays.
 */
gboolean plan_settle(Plan *plan, GPtrArray *failed, GError **error);

/* Remove the journal of a settled or undone plan. */
gboolean plan_close(Plan *plan, GError **error);

/* Undo what plan_prepare did, now; nothing when it was not prepared or has committed. */
void plan_abort(Plan *plan);

/* After the last call with a failed undo: why the journal is still there, or NULL. */
const char *plan_stuck(const Plan *plan);

/* Is it so because the commit may have happened? Then only a process that reads the store anew can go on. */
gboolean plan_in_doubt(const Plan *plan);

/* Recovery: bring a plan that plan_read_journal gave to its end, forward or back. @failed as for plan_settle. */
gboolean plan_recover(Plan *plan, GPtrArray *failed, GError **error);

const char *plan_what(const Plan *plan);
const char *plan_domain(const Plan *plan);
gboolean plan_committed(const Plan *plan);
/*
 * Has the plan not yet been what the store says when that was read: is there a step after the commit that must be done
 * first, or was it only found out since, from the machine, that it has committed?
 */
gboolean plan_owes(const Plan *plan);
/* The steps of plan_step and of plan_after (of Step). */
const GPtrArray *plan_steps(const Plan *plan);
const GPtrArray *plan_afters(const Plan *plan);
