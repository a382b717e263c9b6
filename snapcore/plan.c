/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "plan.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "fault.h"

struct Plan {
    const Store *store;
    Backend *backend;
    char *domain;
    char *what;
    GPtrArray *steps;
    GPtrArray *after;
    GPtrArray *writes;   /* of StoreWrite */
    GPtrArray *switches; /* of PlanSwitch */
    gboolean has_machine;
    PlanMachine machine;
    PlanJoin *join;
    gboolean asked; /* a machine may have been told to switch */
    gboolean
        found_asked; /* so it was when the journal was read: what the store said then is not what it is going to say */
    gboolean prepared;  /* the journal is there, steps may have been done */
    gboolean cut_short; /* a child, or the machine, was ended in the middle of a step */
    gboolean committed;
    gboolean in_doubt; /* a commit failed, but not before its journal was there */
    char *stuck;
};

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

/* --- the journal --- */

/* NULL: one of them cannot be said in JSON. A journal without it would not undo it. */
static json_t *steps_to_json(const GPtrArray *steps)
{
    json_t *json = json_array();
    for (guint i = 0; i < steps->len; i++) {
        if (json_array_append_new(json, step_to_json(steps->pdata[i])) == 0)
            continue;
        json_decref(json);
        return NULL;
    }
    return json;
}

static json_t *writes_to_json(const GPtrArray *writes)
{
    json_t *json = json_array();
    for (guint i = 0; i < writes->len; i++) {
        const StoreWrite *write = writes->pdata[i];
        if (json_array_append_new(json, json_pack("{s:s, s:s?}", "file", write->file, "text", write->text)) ==
            0)
            continue;
        json_decref(json);
        return NULL;
    }
    return json;
}

static json_t *switches_to_json(const GPtrArray *switches)
{
    json_t *json = json_array();
    for (guint i = 0; i < switches->len; i++) {
        const PlanSwitch *each = switches->pdata[i];
        if (json_array_append_new(json, json_pack("{s:s, s:s, s:s*}", "disk", each->disk, "from", each->from,
                                                  "to", each->to)) == 0)
            continue;
        json_decref(json);
        return NULL;
    }
    return json;
}

static json_t *machine_to_json(const Plan *plan)
{
    const PlanMachine *machine = &plan->machine;
    if (!plan->has_machine)
        return json_null();
    return json_pack("{s:b, s:b, s:b, s:b}", "running", machine->running, "ends", machine->ends, "freezes",
                     machine->freezes, "begins", machine->begins);
}

static json_t *join_to_json(const PlanJoin *join)
{
    if (!join)
        return json_null();
    return json_pack("{s:s, s:s*, s:s, s:s*, s:s*}", "into", join->into, "path", join->path, "format",
                     image_format_to_string(join->format), "from", join->from, "to", join->to);
}

static gboolean write_journal(const Plan *plan, GError **error)
{
    json_t *json = json_pack("{s:i, s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "version", 1, "what",
                             plan->what, "committed", (int)plan->committed, "asked", (int)plan->asked,
                             "machine", machine_to_json(plan), "switches", switches_to_json(plan->switches),
                             "join", join_to_json(plan->join), "steps", steps_to_json(plan->steps), "after",
                             steps_to_json(plan->after), "writes", writes_to_json(plan->writes));
    if (!json) {
        snap_set_error(error, EILSEQ, "the journal: a name is not UTF-8");
        return FALSE;
    }
    char *text = json_dumps(json, JSON_INDENT(1));
    json_decref(json);
    g_autofree char *path = store_domain_file(plan->store, plan->domain, "journal.json");
    gsize len = strlen(text);
    gboolean ok = len <= STORE_JSON_MAX;
    if (!ok)
        snap_set_error(error, EFBIG, "the journal would be too large to be read again");
    ok = ok && file_replace(path, text, len, error);
    free(text);
    return ok;
}

static gboolean read_steps(GPtrArray *into, json_t *steps, GError **error)
{
    size_t i;
    json_t *json;
    json_array_foreach (steps, i, json) {
        Step *step = step_from_json(json, error);
        if (!step)
            return FALSE;
        g_ptr_array_add(into, step);
    }
    return TRUE;
}

/* Does the relative path @file stay below its directory? (a snapshot may well be called "a..b") */
static gboolean is_inside(const char *file)
{
    g_auto(GStrv) parts = g_strsplit(file, "/", -1);
    return !g_path_is_absolute(file) && !g_strv_contains((const char *const *)parts, "..");
}

static gboolean read_writes(GPtrArray *into, json_t *writes, GError **error)
{
    size_t i;
    json_t *json;
    json_array_foreach (writes, i, json) {
        const char *file;
        json_t *text = NULL;
        if (json_unpack(json, "{s:s, s:o}", "file", &file, "text", &text) < 0 || !is_inside(file) ||
            !(json_is_string(text) || json_is_null(text))) {
            snap_set_error(error, EINVAL, "a write that is not as the format says");
            return FALSE;
        }
        g_ptr_array_add(into, store_write_new(file, json_string_value(text)));
    }
    return TRUE;
}

static void read_machine(Plan *plan, json_t *json)
{
    int running = FALSE, ends = FALSE, freezes = FALSE, begins = FALSE;
    if (!json_is_object(json) || json_unpack(json, "{s:b, s:b, s:b, s?b}", "running", &running, "ends", &ends,
                                             "freezes", &freezes, "begins", &begins) < 0)
        return;
    plan_set_machine(plan, &(PlanMachine){running, ends, freezes, begins});
}

static gboolean is_path_or_null(const char *path)
{
    return !path || g_path_is_absolute(path);
}

static gboolean read_join(Plan *plan, json_t *json, GError **error)
{
    const char *into = NULL, *path = NULL, *format = NULL, *from = NULL, *to = NULL;
    PlanJoin join = {0};
    if (!json || json_is_null(json))
        return TRUE;
    if (json_unpack(json, "{s:s, s?s, s:s, s?s, s?s}", "into", &into, "path", &path, "format", &format,
                    "from", &from, "to", &to) < 0 ||
        !g_path_is_absolute(into) || !is_path_or_null(path) || !is_path_or_null(from) ||
        !is_path_or_null(to)) {
        snap_set_error(error, EINVAL, "a join that is not as the format says");
        return FALSE;
    }
    join = (PlanJoin){(char *)into, (char *)path, FORMAT_NONE, (char *)from, (char *)to};
    (void)image_format_from_string(format, &join.format);
    plan_set_join(plan, &join);
    return TRUE;
}

static gboolean read_switches(Plan *plan, json_t *switches, GError **error)
{
    size_t i;
    json_t *json;
    json_array_foreach (switches, i, json) {
        const char *disk, *from, *to = NULL;
        if (json_unpack(json, "{s:s, s:s, s?s}", "disk", &disk, "from", &from, "to", &to) < 0) {
            snap_set_error(error, EINVAL, "a switch that is not as the format says");
            return FALSE;
        }
        plan_add_switch(plan, disk, from, to);
    }
    return TRUE;
}

static Plan *parse_journal(const Store *store, Backend *backend, const char *domain, json_t *json,
                           GError **error)
{
    int version, committed, asked = FALSE;
    const char *what;
    json_t *steps, *after, *writes, *switches = NULL;
    if (json_unpack(json, "{s:i, s:s, s:b, s?b, s?o, s:o, s:o, s:o}", "version", &version, "what", &what,
                    "committed", &committed, "asked", &asked, "switches", &switches, "steps", &steps, "after",
                    &after, "writes", &writes) < 0 ||
        version != 1 || !json_is_array(steps) || !json_is_array(after) || !json_is_array(writes)) {
        snap_set_error(error, EINVAL, "not as the format says");
        return NULL;
    }
    g_autoptr(Plan) plan = plan_new(store, backend, domain, what);
    if (!read_steps(plan->steps, steps, error) || !read_steps(plan->after, after, error) ||
        !read_writes(plan->writes, writes, error) || !read_switches(plan, switches, error) ||
        !read_join(plan, json_object_get(json, "join"), error))
        return NULL;
    plan->committed = committed;
    plan->asked = plan->found_asked = asked && !committed;
    read_machine(plan, json_object_get(json, "machine"));
    return g_steal_pointer(&plan);
}

Plan *plan_read_journal(const Store *store, Backend *backend, const char *domain, GError **error)
{
    g_autofree char *path = store_domain_file(store, domain, "journal.json");
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;
    gsize len;
    if (!file_load(path, STORE_JSON_MAX, &text, &len, &why)) {
        if (snap_errno(why) != ENOENT)
            g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    json_error_t at;
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &at);
    if (!json) {
        snap_set_error(error, EINVAL, "journal '%s', line %d: %s", path, at.line, at.text);
        return NULL;
    }
    Plan *plan = parse_journal(store, backend, domain, json, error);
    if (!plan)
        g_prefix_error(error, "journal '%s': ", path);
    json_decref(json);
    return plan;
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

gboolean plan_commit(Plan *plan, GError **error)
{
    gboolean asked = plan->asked;
    plan->committed = TRUE;
    plan->asked = FALSE;
    if (FAULT_POINT("plan.commit", error) && write_journal(plan, error) &&
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
    plan->asked = TRUE;
    if (FAULT_POINT("plan.ask", error) && write_journal(plan, error) && FAULT_POINT("plan.ask.after", error))
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
    plan->asked = FALSE;
    if (FAULT_POINT("plan.answer", error) && write_journal(plan, error))
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
 * Mend what a kill in the middle of a snapshot operation leaves in the images of @steps (facts/qemu.md A4). With
 * @must (FALSE: as far as it goes), an image that cannot be mended is an error.
 */
static gboolean repair_images(Plan *plan, const GPtrArray *steps, gboolean must, GError **error)
{
    for (guint i = 0; i < steps->len; i++) {
        const Step *step = steps->pdata[i];
        gboolean frozen =
            step->kind == STEP_DROP_TAG && step->mode != 0; /* the step itself freezes it again */
        if (!step_needs_repair(step) || !file_exists(step->path) ||
            (frozen && !file_set_mode(step->path, step->mode, NULL)))
            continue;
        if (!repair_image(plan, step, must ? LEFT_BEHIND_TRIES : READER_TRIES, must ? error : NULL) && must)
            return FALSE;
    }
    return TRUE;
}

/* As long as the journal may say that it has happened, nothing must be undone: after a kill, recovery would go forward. */
static gboolean take_commit_back(Plan *plan, GError **error)
{
    if (!plan->in_doubt)
        return TRUE;
    if (!FAULT_POINT("plan.revoke", error) || !write_journal(plan, error))
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
    if (plan->cut_short)
        (void)repair_images(plan, plan->steps, FALSE, NULL);
    if (undo(plan, &why))
        return;
    plan->stuck = g_strdup_printf(plan->in_doubt ? "the next start decides whether '%s' has happened: %s"
                                                 : "'%s' could not be undone: %s",
                                  plan->what, why->message);
}

static gboolean write_intent(const Plan *plan, GError **error)
{
    return FAULT_POINT("plan.intent", error) && write_journal(plan, error) &&
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
        return repair_images(plan, plan->steps, TRUE, error) && undo(plan, error);
    /* What is left is cleaning up: where that fails, it is tried again with a later operation. */
    (void)repair_images(plan, plan->steps, FALSE, NULL);
    (void)repair_images(plan, plan->after, FALSE, NULL);
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
