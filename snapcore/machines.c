/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machines.h"

#include <errno.h>
#include <string.h>

#include "chain.h"
#include "error.h"

/* --- which machine --- */

/* What @spec points to: the model's own, and this. */
typedef struct {
    MachineSpec spec;
    GArray *disks;
} Spec;

static void spec_clear(Spec *spec)
{
    g_array_unref(spec->disks);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Spec, spec_clear)

static const char *switched(const Plan *plan, const char *target, const char *path)
{
    for (guint i = 0; plan && i < plan_switches(plan)->len; i++) {
        const PlanSwitch *each = plan_switches(plan)->pdata[i];
        if (strcmp(each->disk, target) == 0)
            return each->to;
    }
    return path;
}

/* The machine that @domain is; or will be, once it has switched as @plan (NULL: nothing) says. */
static Spec spec_of(const Domain *domain, const Plan *plan)
{
    Spec spec = {.disks = g_array_new(FALSE, FALSE, sizeof(MachineDisk))};
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        const Layer *layer = domain_active_layer(domain, disk);
        if (!layer || !layer_is_local(layer))
            continue;
        const MachineDisk each = {disk->target, switched(plan, disk->target, layer->path),
                                  disk->readonly || disk->transient};
        if (each.path)
            g_array_append_val(spec.disks, each);
    }
    spec.spec = (MachineSpec){.name = domain->def->name,
                              .uuid = domain->def->uuid,
                              .disks = spec.disks,
                              .nvram = domain->def->nvram};
    return spec;
}

static gboolean find(Core *core, const Domain *domain, const Plan *plan, GCancellable *cancel,
                     Machine **ret_machine, GError **error)
{
    Backend *backend = core->backend;
    g_auto(Spec) spec = spec_of(domain, plan);
    if (backend->machines)
        return backend->machines->find(backend, &spec.spec, cancel, ret_machine, error);
    *ret_machine = NULL;
    return TRUE;
}

gboolean machines_find(Core *core, const Domain *domain, GCancellable *cancel, Machine **ret_machine,
                       GError **error)
{
    return find(core, domain, NULL, cancel, ret_machine, error);
}

/* What is known of a QEMU that we have started says nothing of one that somebody else has started since. */
static void check_live(Op *op)
{
    Domain *domain = op->domain;
    g_autofree char *process = op->machine ? op->machine->ops->process(op->machine) : NULL;
    if (!domain->live || (process && g_strcmp0(process, domain->live_process) == 0))
        return;
    domain_forget_live(domain);
    plan_write(op->plan, "live.xml", NULL);
    op_write_sidecar(op);
}

static gboolean require_unwritten(Op *op, GError **error)
{
    if (!op_require_unwritten(op, error))
        return FALSE;
    check_live(op);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&op->core->lock);
    op->job->off = TRUE;
    return TRUE;
}

gboolean op_find_machine(Op *op, GError **error)
{
    Machine *machine;
    g_assert(!op->machine);
    if (!machines_find(op->core, op->domain, op->cancel, &machine, error))
        return FALSE;
    if (!machine)
        return require_unwritten(op, error);
    op->machine = machine;
    plan_use(op->plan, &machine->backend);
    check_live(op);
    return machine->ops->merge_stop(machine, error);
}

void op_forget_machine(Op *op)
{
    plan_use(op->plan, op->core->backend);
    g_clear_pointer(&op->machine, machine_free);
}

void op_bring_machine(Op *op)
{
    const PlanMachine *will = plan_machine(op->plan);
    if (!op->machine || !will)
        return;
    if (will->ends && op->machine->ops->destroy(op->machine, NULL, NULL)) {
        op_forget_machine(op);
        machines_note(op->core, op->uuid, RUN_OFF);
    } else if (!will->ends && will->begins && will->running && op->machine->ops->resume(op->machine, NULL)) {
        machines_note(op->core, op->uuid, RUN_RUNNING);
    }
}

void op_end_begun(Op *op)
{
    const PlanMachine *will = op->plan ? plan_machine(op->plan) : NULL;
    g_autoptr(GError) why = NULL;
    if (!op->machine || !will || !will->begins || plan_committed(op->plan))
        return;
    if (!op->machine->ops->destroy(op->machine, NULL, &why))
        core_log(op->core, op->job->domain, "the machine that was begun could not be ended: %s",
                 why->message);
    op_forget_machine(op);
    machines_note(op->core, op->uuid, RUN_OFF);
}

gboolean op_require_off(Op *op, GError **error)
{
    g_autoptr(Machine) machine = NULL;
    if (!machines_find(op->core, op->domain, op->cancel, &machine, error))
        return FALSE;
    if (!machine)
        return require_unwritten(op, error);
    snap_set_error(error, EBUSY, "domain is running");
    return FALSE;
}

/* --- what recovery asks --- */

/* The machine is off: has every disk the tag that the transaction was to give it? */
static gboolean has_all_tags(Core *core, const Plan *plan, gboolean *ret_all, GError **error)
{
    gboolean all = TRUE;
    for (guint i = 0; all && i < plan_steps(plan)->len; i++) {
        const Step *step = plan_steps(plan)->pdata[i];
        g_autoptr(ImageInfo) info = NULL;
        if (step->kind != STEP_CHECKPOINT)
            continue;
        if (!core->backend->ops->inspect(core->backend, step->path, FORMAT_QCOW2, &info, error))
            return FALSE;
        all = image_info_has_tag(info, step->tag);
    }
    *ret_all = all;
    return TRUE;
}

/* *ret_machine: it runs, on the layers that @plan is about to leave (*ret_switched: or has left); NULL: it is off. */
static gboolean find_either(Core *core, const Domain *domain, const Plan *plan, Machine **ret_machine,
                            gboolean *ret_switched, GError **error)
{
    g_autoptr(GError) why = NULL;
    Machine *machine;
    if (find(core, domain, NULL, NULL, &machine, &why) && (machine || !plan_switches(plan)->len)) {
        *ret_machine = machine;
        *ret_switched = FALSE;
        return TRUE;
    }
    /* Of both it must be known: the one that is off leaves the other's layers alone. */
    if (!find(core, domain, plan, NULL, &machine, error))
        return FALSE;
    if (!machine && why) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    *ret_machine = machine;
    *ret_switched = machine != NULL;
    return TRUE;
}

/* --- joins --- */

/* @path (NULL: none) and @other, both real: the same file? */
static gboolean is_same_file(const char *path, const char *other)
{
    FileLook a, b;
    return g_strcmp0(path, other) == 0 || (path && other && file_look(path, &a, NULL) &&
                                           file_look(other, &b, NULL) && file_id_same(&a.id, &b.id));
}

/* The disk that was to switch writes the one or the other. */
static gboolean ask_active(const Plan *plan, Machine *machine, gboolean *ret_happened, GError **error)
{
    const PlanSwitch *each = plan_switches(plan)->pdata[0];
    g_autofree char *path = NULL;
    if (!machine->ops->active_path(machine, each->disk, &path, error))
        return FALSE;
    *ret_happened = is_same_file(path, each->to);
    if (*ret_happened || is_same_file(path, each->from))
        return TRUE;
    snap_set_error(error, EBUSY, "disk '%s': the machine writes '%s', neither '%s' nor '%s'", each->disk,
                   path, each->from, each->to);
    return FALSE;
}

static gboolean ask_header(Core *core, const PlanJoin *join, gboolean *ret_happened, GError **error)
{
    Backend *backend = core->backend;
    g_autoptr(ImageInfo) info = NULL;
    g_autofree char *backing = NULL;
    if (!backend->ops->inspect(backend, join->path, join->format, &info, error))
        return FALSE;
    if (info->backing_name) {
        backing = chain_backing_path(core, join->path, info->backing_name, error);
        if (!backing)
            return FALSE;
    }
    *ret_happened = is_same_file(backing, join->to);
    if (*ret_happened || is_same_file(backing, join->from))
        return TRUE;
    snap_set_error(error, EIO, "'%s' stands on '%s', neither on '%s' nor on '%s'", join->path,
                   backing ? backing : "nothing", join->from ? join->from : "nothing",
                   join->to ? join->to : "nothing");
    return FALSE;
}

gboolean machines_sync_join(const Plan *plan, GError **error)
{
    const PlanJoin *join = plan_join(plan);
    return file_sync(join->into, error) && (!join->path || file_sync(join->path, error));
}

/* Has it come to an end before it was told to? Without a header the guest has stood still since: both views are the same. */
static gboolean ask_join(Core *core, const Plan *plan, Machine *machine, gboolean *ret_happened,
                         GError **error)
{
    const PlanJoin *join = plan_join(plan);
    *ret_happened = FALSE;
    if (join->path ? !ask_header(core, join, ret_happened, error)
                   : machine && !ask_active(plan, machine, ret_happened, error))
        return FALSE;
    return !*ret_happened || machines_sync_join(plan, error);
}

/* QEMU has images open still that are about to go. */
static gboolean close_joined(const Plan *plan, Machine *machine, GError **error)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new();
    for (guint i = 0; i < plan_afters(plan)->len; i++) {
        const Step *step = plan_afters(plan)->pdata[i];
        if (step->kind == STEP_UNLINK)
            g_ptr_array_add(gone, step->path);
    }
    return machine->ops->close_images(machine, gone, error);
}

/* --- both --- */

void machines_bring_back(Core *core, const Domain *domain, const Plan *plan, Machine *machine)
{
    const PlanMachine *was = plan_machine(plan);
    g_autoptr(GError) why = NULL;
    if (was->begins && !plan_committed(plan))
        return; /* what runs is the machine from before */
    gboolean ends = plan_committed(plan) && was->ends;
    if (!ends && !was->running)
        return;
    if (ends ? machine->ops->destroy(machine, NULL, &why) : machine->ops->resume(machine, &why))
        machines_note(core, domain->def->uuid, ends ? RUN_OFF : RUN_RUNNING);
    else
        core_log(core, domain->name, "the machine %s: %s", ends ? "could not be ended" : "does not go on",
                 why->message);
    g_clear_error(&why);
    if (!ends && was->freezes &&
        !machine->ops->thaw(machine, &why)) /* by its agent, which must run to do so */
        core_log(core, domain->name, "the guest's file systems could not be thawed: %s", why->message);
}

/*
 * What a daemon that died has begun in the machine ends, for it must not go on behind what is decided now. One that the plan has
 * begun itself does nothing of the kind, and may not be whole yet.
 */
static gboolean end_left(const Plan *plan, Machine *machine, GError **error)
{
    if (plan_machine(plan)->begins && !plan_committed(plan))
        return TRUE;
    return machine->ops->merge_stop(machine, error) && machine->ops->memory_stop(machine, error);
}

/* @machine (NULL: it is off) is how it is; of a plan that is no join, @switched says on which layers. */
static gboolean decide(Core *core, Plan *plan, Machine *machine, gboolean switched, GError **error)
{
    if (machine && !end_left(plan, machine, error))
        return FALSE;
    if (plan_asked(plan)) {
        if (plan_join(plan) ? !ask_join(core, plan, machine, &switched, error)
                            : !machine && !has_all_tags(core, plan, &switched, error))
            return FALSE;
        if (switched ? !plan_commit(plan, error) : !plan_answer_no(plan, error))
            return FALSE;
    }
    return !machine || !plan_join(plan) || !plan_committed(plan) || close_joined(plan, machine, error);
}

/*
 * What an uncommitted plan has begun ends, for it has not run yet. One that runs was let run by somebody else: what it
 * stands on stays.
 */
static gboolean end_begun(const Plan *plan, Machine **machine, gboolean switched, GError **error)
{
    RunState state;
    if (!*machine || (!switched && plan_switches(plan)->len > 0))
        return TRUE; /* the one from before */
    if (!(*machine)->ops->run_state(*machine, &state, error))
        return FALSE;
    if (state == RUN_RUNNING) {
        if (plan_steps(plan)->len == 0)
            return TRUE;
        snap_set_error(error, EBUSY, "somebody has let the machine run in the middle of it: end it first");
        return FALSE;
    }
    if (!(*machine)->ops->destroy(*machine, NULL, error))
        return FALSE;
    g_clear_pointer(machine, machine_free);
    return TRUE;
}

gboolean machines_answer(Core *core, const Domain *domain, Plan *plan, Machine **ret_machine, GError **error)
{
    g_autoptr(Machine) machine = NULL;
    gboolean switched;
    if (!core->backend->machines || !plan_machine(plan)) {
        *ret_machine = NULL;
        return TRUE;
    }
    if (!find_either(core, domain, plan, &machine, &switched, error) ||
        !decide(core, plan, machine, switched, error))
        return FALSE;
    if (plan_machine(plan)->begins && !plan_committed(plan) && !end_begun(plan, &machine, switched, error))
        return FALSE;
    plan_use(plan, machine ? &machine->backend : core->backend);
    *ret_machine = g_steal_pointer(&machine);
    return TRUE;
}

#define ANSWER_TRIES 100
#define ANSWER_PAUSE (G_USEC_PER_SEC / 20)

gboolean machines_answer_soon(Core *core, const Domain *domain, Plan *plan, Machine **ret_machine,
                              GError **error)
{
    for (guint try = 1;; try++) {
        g_autoptr(GError) why = NULL;
        if (machines_answer(core, domain, plan, ret_machine, &why))
            return TRUE;
        if (snap_errno(why) != EBUSY || try >= ANSWER_TRIES) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        g_usleep(ANSWER_PAUSE);
    }
}

gboolean op_ask_again(Op *op, gboolean *ret_happened, GError **error)
{
    Core *core = op->core;
    RunState state;
    if (plan_join(op->plan) &&
        op->machine->ops->run_state(op->machine, &state, NULL)) { /* it is still there */
        if (!decide(core, op->plan, op->machine, FALSE, error))
            return FALSE;
        *ret_happened = plan_committed(op->plan);
        return TRUE;
    }
    op_forget_machine(op); /* it would keep the next one waiting */
    g_mutex_lock(&core->lock);
    g_autoptr(Domain) shown = domain_copy(g_hash_table_lookup(core->domains, &op->id));
    g_mutex_unlock(&core->lock);
    if (!machines_answer_soon(core, shown, op->plan, &op->machine, error))
        return FALSE;
    if (!op->machine)
        plan_cut_short(op->plan);
    *ret_happened = plan_committed(op->plan);
    return TRUE;
}

/* --- their states --- */

gboolean machines_runs(const Core *core, const Domain *domain)
{
    RunState state = GPOINTER_TO_INT(g_hash_table_lookup(core->states, domain->def->uuid));
    return state == RUN_RUNNING || state == RUN_PAUSED;
}

/* In any thread. */
static void told(gpointer user, const char *uuid, RunState state)
{
    Core *core = user;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    if (state == RUN_OFF)
        g_hash_table_remove(core->states, uuid);
    else
        g_hash_table_insert(core->states, g_strdup(uuid), GINT_TO_POINTER(state));
}

/* Under the lock. */
static const Domain *shown_as(const Core *core, const char *uuid)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, core->domains);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (strcmp(((Domain *)value)->def->uuid, uuid) == 0)
            return value;
    return NULL;
}

/* What was told meanwhile may be newer, or older, than what was done: it is told once more. */
void machines_note(Core *core, const char *uuid, RunState state)
{
    told(core, uuid, state);
    g_mutex_lock(&core->lock);
    const Domain *shown = shown_as(core, uuid);
    g_autoptr(Domain) domain = shown ? domain_copy(shown) : NULL;
    g_mutex_unlock(&core->lock);
    if (domain)
        machines_watch(core, domain);
}

void machines_watch(Core *core, const Domain *domain)
{
    const MachineBackend *machines = core->backend->machines;
    if (!machines || !machines->watch || domain->libvirt)
        return;
    g_auto(Spec) spec = spec_of(domain, NULL);
    machines->watch(core->backend, &spec.spec);
}

void machines_unwatch(Core *core, const char *uuid)
{
    const MachineBackend *machines = core->backend->machines;
    if (machines && machines->unwatch)
        machines->unwatch(core->backend, uuid);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    g_hash_table_remove(core->states, uuid);
}

void machines_start(Core *core)
{
    const MachineBackend *machines = core->backend->machines;
    if (machines && machines->set_told)
        machines->set_told(core->backend, told, core);
}

void machines_stop(Core *core)
{
    const MachineBackend *machines = core->backend->machines;
    if (machines && machines->set_told)
        machines->set_told(core->backend, NULL, NULL);
}
