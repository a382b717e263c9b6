/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "plan_parts.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "fault.h"

static void switch_free(PlanSwitch *each)
{
    g_free(each->disk);
    g_free(each->from);
    g_free(each->to);
    g_free(each);
}

static void join_free(PlanJoin *join)
{
    if (!join)
        return;
    g_free(join->into);
    g_free(join->path);
    g_free(join->from);
    g_free(join->to);
    g_free(join);
}

Plan *plan_new(const Store *store, Backend *backend, const char *domain, const char *what)
{
    Plan *plan = g_new0(Plan, 1);
    plan->store = store;
    plan->backend = backend;
    plan->domain = g_strdup(domain);
    plan->what = g_strdup(what);
    plan->steps = g_ptr_array_new_with_free_func((GDestroyNotify)step_free);
    plan->after = g_ptr_array_new_with_free_func((GDestroyNotify)step_free);
    plan->writes = g_ptr_array_new_with_free_func((GDestroyNotify)store_write_free);
    plan->switches = g_ptr_array_new_with_free_func((GDestroyNotify)switch_free);
    return plan;
}

static Step *add_step(GPtrArray *list, StepKind kind, guint stage, const char *disk, const char *path)
{
    Step *step = step_new(kind, stage, disk, path);
    g_ptr_array_add(list, step);
    return step;
}

Step *plan_step(Plan *plan, StepKind kind, guint stage, const char *disk, const char *path)
{
    return add_step(plan->steps, kind, stage, disk, path);
}

Step *plan_after(Plan *plan, StepKind kind, const char *disk, const char *path)
{
    return add_step(plan->after, kind, 0, disk, path);
}

guint plan_next_stage(const Plan *plan)
{
    guint next = 0;
    for (guint i = 0; i < plan->steps->len; i++)
        next = MAX(next, ((Step *)plan->steps->pdata[i])->stage + 1);
    return next;
}

void plan_write(Plan *plan, const char *file, const char *text)
{
    g_ptr_array_add(plan->writes, store_write_new(file, text));
}

void plan_use(Plan *plan, Backend *backend)
{
    plan->backend = backend;
}

void plan_set_machine(Plan *plan, const PlanMachine *machine)
{
    plan->has_machine = TRUE;
    plan->machine = *machine;
}

const PlanMachine *plan_machine(const Plan *plan)
{
    return plan->has_machine ? &plan->machine : NULL;
}

void plan_add_switch(Plan *plan, const char *disk, const char *from, const char *to)
{
    PlanSwitch *each = g_new0(PlanSwitch, 1);
    *each = (PlanSwitch){g_strdup(disk), g_strdup(from), g_strdup(to)};
    g_ptr_array_add(plan->switches, each);
}

const GPtrArray *plan_switches(const Plan *plan)
{
    return plan->switches;
}

void plan_set_join(Plan *plan, const PlanJoin *join)
{
    join_free(plan->join);
    plan->join = g_new0(PlanJoin, 1);
    *plan->join = (PlanJoin){g_strdup(join->into), g_strdup(join->path), join->format, g_strdup(join->from),
                             g_strdup(join->to)};
}

const PlanJoin *plan_join(const Plan *plan)
{
    return plan->join;
}

gboolean plan_asked(const Plan *plan)
{
    return plan->asked;
}

const char *plan_what(const Plan *plan)
{
    return plan->what;
}

const char *plan_domain(const Plan *plan)
{
    return plan->domain;
}

gboolean plan_committed(const Plan *plan)
{
    return plan->committed;
}

const GPtrArray *plan_steps(const Plan *plan)
{
    return plan->steps;
}

const GPtrArray *plan_afters(const Plan *plan)
{
    return plan->after;
}

gboolean plan_owes(const Plan *plan)
{
    if (plan->found_asked)
        return TRUE;
    for (guint i = 0; i < plan->after->len; i++)
        if (step_is_needed(plan->after->pdata[i]))
            return TRUE;
    return FALSE;
}

const char *plan_stuck(const Plan *plan)
{
    return plan->stuck;
}

gboolean plan_in_doubt(const Plan *plan)
{
    return plan->in_doubt;
}

gboolean plan_close(Plan *plan, GError **error)
{
    g_autofree char *path = store_domain_file(plan->store, plan->domain, "journal.json");
    if (!FAULT_POINT("plan.close", error) || !file_remove(path, error) ||
        !FAULT_POINT("plan.close.after", error))
        return FALSE;
    plan->prepared = FALSE;
    return TRUE;
}

/* --- doing --- */

typedef struct {
    const Step *step;
    Backend *backend;
    GCancellable *cancel;
    GThread *thread;
    GError *error;
    gboolean ok;
} Run;

static gpointer run_step(gpointer data)
{
    Run *run = data;
    run->ok = step_do(run->step, run->backend, run->cancel, &run->error);
    return NULL;
}

/* All steps of a stage, each in a thread of its own but the last, which this thread does. Waits for all. */
static gboolean run_stage(Plan *plan, guint stage, GCancellable *cancel, GError **error)
{
    g_autoptr(GArray) runs = g_array_new(FALSE, TRUE, sizeof(Run));
    for (guint i = 0; i < plan->steps->len; i++) {
        const Step *step = plan->steps->pdata[i];
        Run run = {.step = step, .backend = plan->backend, .cancel = cancel};
        if (step->stage == stage)
            g_array_append_val(runs, run);
    }
    for (guint i = 0; i + 1 < runs->len; i++)
        g_array_index(runs, Run, i).thread = g_thread_new("step", run_step, &g_array_index(runs, Run, i));
    if (runs->len > 0)
        run_step(&g_array_index(runs, Run, runs->len - 1));

    gboolean ok = TRUE;
    for (guint i = 0; i < runs->len; i++) {
        Run *run = &g_array_index(runs, Run, i);
        if (run->thread)
            g_thread_join(run->thread);
        if (!run->ok && ok)
            g_propagate_error(error, run->error); /* the first disk's reason; the others' follow suit */
        else
            g_clear_error(&run->error);
        ok = ok && run->ok;
    }
    return ok;
}

static gboolean run_steps(Plan *plan, GCancellable *cancel, GError **error)
{
    guint end = plan_next_stage(plan);
    for (guint stage = 0; stage < end; stage++) {
        if (!run_stage(plan, stage, cancel, error))
            return FALSE;
        if (g_cancellable_is_cancelled(cancel)) {
            snap_set_error(error, EINTR, "cancelled");
            return FALSE;
        }
    }
    return TRUE;
}

/* Of a write that failed: for want of room, say, before the journal was replaced; or only when that was to be durable? */
static gboolean journal_may_say(const Plan *plan, gboolean (*what)(const Plan *journal))
{
    g_autoptr(GError) why = NULL;
    g_autoptr(Plan) journal = plan_read_journal(plan->store, plan->backend, plan->domain, &why);
    return why || (journal && what(journal));
}

gboolean plan_ready(Plan *plan, GError **error)
{
    return FAULT_POINT("plan.ready", error) && plan_ready_journal(plan, error);
}

gboolean plan_is_ready(const Plan *plan)
{
    return plan->ready != NULL;
}

/* Once: what fails with the one that is ready does not fail for want of room. */
static gboolean write_commit(Plan *plan, GError **error)
{
    if (!plan->ready)
        return plan_write_journal(plan, error);
    gboolean ok = plan_take_ready(plan, error);
    plan_forget_ready(plan);
    return ok;
}

gboolean plan_commit(Plan *plan, GError **error)
{
    gboolean asked = plan->asked;
    if (plan->committed)
        return TRUE;
    plan->committed = TRUE;
    plan->asked = FALSE;
    if (FAULT_POINT("plan.commit", error) && write_commit(plan, error) &&
        FAULT_POINT("plan.commit.after", error))
        return TRUE;
    plan->committed = FALSE;
    plan->asked = asked;
    plan->in_doubt = journal_may_say(plan, plan_committed);
    return FALSE;
}

gboolean plan_write_files(Plan *plan, GError **error)
{
    return FAULT_POINT("plan.settle", error) && store_apply(plan->store, plan->domain, plan->writes, error) &&
           FAULT_POINT("plan.settle.after", error);
}

/* What the store is going to say is made true first. */
static gboolean do_needed(const Plan *plan, GError **error)
{
    for (guint i = 0; i < plan->after->len; i++) {
        const Step *step = plan->after->pdata[i];
        if (step_is_needed(step) && !step_do(step, plan->backend, NULL, error))
            return FALSE;
    }
    return TRUE;
}

gboolean plan_settle(Plan *plan, GPtrArray *failed, GError **error)
{
    if (!do_needed(plan, error) || !plan_write_files(plan, error))
        return FALSE;
    for (guint i = 0; i < plan->steps->len; i++)
        if (!step_finish(plan->steps->pdata[i], plan->backend, NULL))
            g_ptr_array_add(failed, plan->steps->pdata[i]);
    for (guint i = 0; i < plan->after->len; i++)
        if (!step_is_needed(plan->after->pdata[i]) &&
            !step_do(plan->after->pdata[i], plan->backend, NULL, NULL))
            g_ptr_array_add(failed, plan->after->pdata[i]);
    return TRUE;
}

gboolean plan_ask(Plan *plan, GError **error)
{
    if (!plan->ready && !plan_ready(plan, error))
        return FALSE;
    plan->asked = TRUE;
    if (FAULT_POINT("plan.ask", error) && plan_write_journal(plan, error) &&
        FAULT_POINT("plan.ask.after", error))
        return TRUE;
    if (journal_may_say(plan, plan_asked))
        (void)plan_answer_no(plan, NULL);
    else
        plan->asked = FALSE; /* and it can be undone, however full the disk is */
    return FALSE;
}

void plan_cut_short(Plan *plan)
{
    plan->cut_short = TRUE;
}

gboolean plan_answer_no(Plan *plan, GError **error)
{
    plan_forget_ready(plan); /* and there is room again for what is written now */
    plan->asked = FALSE;
    if (FAULT_POINT("plan.answer", error) && plan_write_journal(plan, error))
        return TRUE;
    plan->asked = TRUE;
    return FALSE;
}

/* How long recovery waits for a qemu-img that a killed daemon left at work. */
#define LEFT_BEHIND_TRIES 100
#define READER_TRIES 10 /* for somebody who looks at the image */
#define LEFT_BEHIND_PAUSE (G_USEC_PER_SEC / 10)

static gboolean repair_image(Plan *plan, const Step *step, guint tries, GError **error)
{
    for (guint try = 1;; try++) {
        g_autoptr(GError) why = NULL;
        if (FAULT_POINT("plan.repair", &why) && plan->backend->ops->repair(plan->backend, step->path, &why))
            return TRUE;
        if (snap_errno(why) != EBUSY || try >= tries) {
            g_propagate_prefixed_error(error, g_steal_pointer(&why), "disk '%s': ", step->disk);
            return FALSE;
        }
        g_usleep(LEFT_BEHIND_PAUSE);
    }
}

/*
 * Mend what a kill, or a disk that fails, in the middle of a snapshot operation leaves in the images of @steps (facts/qemu.md
 * A4). FALSE: one could not be mended. Nothing more may be written into such a one, for its header may point at clusters
 * that count as free; what could be lost then is other snapshots.
 */
static gboolean repair_images(Plan *plan, const GPtrArray *steps, guint tries, GError **error)
{
    gboolean all = TRUE;
    for (guint i = 0; i < steps->len; i++) {
        Step *step = steps->pdata[i];
        gboolean frozen =
            step->kind == STEP_DROP_TAG && step->mode != 0; /* the step itself freezes it again */
        if (!step_needs_repair(step) || !file_exists(step->path))
            continue;
        step->doubtful = (frozen && !file_set_mode(step->path, step->mode, all ? error : NULL)) ||
                         !repair_image(plan, step, tries, all ? error : NULL);
        all = all && !step->doubtful;
    }
    return all;
}

/* As long as the journal may say that it has happened, nothing must be undone: after a kill, recovery would go forward. */
static gboolean take_commit_back(Plan *plan, GError **error)
{
    if (!plan->in_doubt)
        return TRUE;
    if (!FAULT_POINT("plan.revoke", error) || !plan_write_journal(plan, error))
        return FALSE;
    plan->in_doubt = FALSE;
    return TRUE;
}

/* Undo all steps, last first, whatever was done of them; then the journal goes. */
static gboolean undo(Plan *plan, GError **error)
{
    if (!take_commit_back(plan, error) || !FAULT_POINT("plan.undo", error))
        return FALSE;
    for (guint i = plan->steps->len; i > 0; i--)
        if (!step_undo(plan->steps->pdata[i - 1], plan->backend, error))
            return FALSE;
    return plan_close(plan, error);
}

static void undo_or_stick(Plan *plan)
{
    g_autoptr(GError) why = NULL;
    plan->prepared =
        FALSE; /* once is enough in this process; if it fails the journal stays for the next start */
    if (plan->asked) {
        plan->stuck = g_strdup_printf("whether '%s' has happened only the machine knows", plan->what);
        return;
    }
    if ((!plan->cut_short || repair_images(plan, plan->steps, READER_TRIES, &why)) && undo(plan, &why))
        return;
    plan->stuck = g_strdup_printf(plan->in_doubt ? "the next start decides whether '%s' has happened: %s"
                                                 : "'%s' could not be undone: %s",
                                  plan->what, why->message);
}

static gboolean write_intent(const Plan *plan, GError **error)
{
    return FAULT_POINT("plan.intent", error) && plan_write_journal(plan, error) &&
           FAULT_POINT("plan.intent.after", error);
}

gboolean plan_prepare(Plan *plan, GCancellable *cancel, GError **error)
{
    plan->prepared = TRUE;
    g_autoptr(GError) why = NULL;
    gboolean silent = plan->steps->len == 0 && !plan->has_machine; /* nothing is touched before the commit */
    if ((silent || write_intent(plan, &why)) && run_steps(plan, cancel, &why))
        return TRUE;
    plan->cut_short = step_was_cut_short(why);
    g_propagate_error(error, g_steal_pointer(&why));
    undo_or_stick(plan);
    return FALSE;
}

gboolean plan_recover(Plan *plan, GPtrArray *failed, GError **error)
{
    g_assert(!plan->asked);
    if (!plan->committed)
        return repair_images(plan, plan->steps, LEFT_BEHIND_TRIES, error) && undo(plan, error);
    /* What is left is cleaning up: where that fails, it is tried again with a later operation. */
    (void)repair_images(plan, plan->steps, READER_TRIES, NULL);
    (void)repair_images(plan, plan->after, READER_TRIES, NULL);
    return plan_settle(plan, failed, error);
}

void plan_abort(Plan *plan)
{
    if (plan->prepared && !plan->committed)
        undo_or_stick(plan);
}

void plan_free(Plan *plan)
{
    if (!plan)
        return;
    plan_abort(plan);
    plan_forget_ready(plan);
    g_ptr_array_unref(plan->steps);
    g_ptr_array_unref(plan->after);
    g_ptr_array_unref(plan->writes);
    g_ptr_array_unref(plan->switches);
    join_free(plan->join);
    g_free(plan->domain);
    g_free(plan->what);
    g_free(plan->stuck);
    g_free(plan);
}
