/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The begin and the end of an op: a domain that is busy with it, names, the private copy. */
#include "op.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "adopt.h"
#include "error.h"
#include "machines.h"
#include "merger.h"

/*
 * Who begins: a user's command; one that takes an imported domain as it is; one to the machine alone, which also a domain that
 * is read-only may have running; the merger, which gives way to all others.
 */
typedef enum {
    USER,
    AS_IS,
    MACHINE,
    MERGER,
} Beginner;

/* --- jobs and busy names; all under the lock --- */

static void job_free(Job *job)
{
    g_free(job->domain);
    g_free(job->what);
    g_object_unref(job->cancel);
    g_free(job);
}

static Job *start_job(Core *core, const char *domain, char *what, GCancellable *cancel)
{
    Job *job = g_new0(Job, 1);
    job->number = ++core->last_job;
    job->domain = g_strdup(domain);
    job->what = what;
    job->started = g_get_monotonic_time();
    job->cancel = cancel ? g_object_ref(cancel) : g_cancellable_new();
    g_ptr_array_add(core->jobs, job);
    g_hash_table_insert(core->busy, g_strdup(domain), job);
    return job;
}

static gboolean check_busy(Core *core, const char *name, GError **error)
{
    const Job *job = g_hash_table_lookup(core->busy, name);
    if (job)
        snap_set_error(error, EBUSY, "job %u is at work on '%s' (%s)", job->number, name, job->what);
    return !job;
}

static gboolean check_free_name(Core *core, const char *name, GError **error)
{
    if (g_hash_table_contains(core->by_name, name)) {
        snap_set_error(error, EEXIST, "there is a domain '%s' already", name);
        return FALSE;
    }
    return check_busy(core, name, error);
}

static Op *op_new(Core *core, Job *job)
{
    Op *op = g_new0(Op, 1);
    op->core = core;
    op->job = job;
    op->cancel = job->cancel;
    op->holds = g_array_new(FALSE, FALSE, sizeof(int));
    op->gone = g_ptr_array_new_with_free_func(g_free);
    op->unseen = g_ptr_array_new();
    op->names = g_ptr_array_new_with_free_func(g_free);
    return op;
}

static gboolean check_writable(const Core *core, GError **error)
{
    if (core->read_only)
        snap_set_error(error, EROFS, "mounted read-only");
    return !core->read_only;
}

/* A thing that only this process does not have in order any more is in order again. Under the lock. */
static void mend(Domain *shown)
{
    shown->stuck = FALSE;
    g_clear_pointer(&shown->broken, g_free);
    g_clear_pointer(&shown->tree, g_free);
}

/*
 * An earlier operation could be neither completed nor undone (a full disk, say), and its journal is still there: try
 * again. The domain is busy with @op.
 */
static gboolean unstick(Op *op, EngineId id, GError **error)
{
    Core *core = op->core;
    g_autoptr(GError) why = NULL;
    g_autoptr(GPtrArray) failed = g_ptr_array_new();
    g_autoptr(Machine) machine = NULL; /* goes after the plan */
    g_autoptr(Plan) plan = plan_read_journal(core->store, core->backend, op->job->domain, &why);
    g_mutex_lock(&core->lock);
    g_autoptr(Domain) copy = domain_copy(g_hash_table_lookup(core->domains, &id));
    g_mutex_unlock(&core->lock);
    gboolean ok = !why && (!plan || machines_answer(core, copy, plan, &machine, &why));
    if (ok && plan && plan_committed(plan))
        ok = op_settle(core, &copy, plan, &why);
    else if (ok && plan)
        ok = plan_recover(plan, failed, &why);
    if (!ok) {
        snap_set_error(error, EROFS, "domain '%s' is read-only: '%s' is still under way: %s", op->job->domain,
                       plan ? plan_what(plan) : "its journal", why->message);
        return FALSE;
    }
    if (machine)
        machines_bring_back(core, copy, plan, machine);
    mend(copy);
    if (plan && plan_committed(plan)) {
        core_show(core, g_steal_pointer(&copy));
        return TRUE;
    }
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    mend(g_hash_table_lookup(core->domains, &id));
    return TRUE;
}

/*
 * The domain with that id, if nothing stands in the way of a job of @who; AS_IS: not the state of its images either, if
 * it was imported, for then they are not ours. Under the lock.
 */
static Domain *find_idle(Core *core, EngineId id, Beginner who, GError **error)
{
    Domain *domain = g_hash_table_lookup(core->domains, &id);
    if (!domain)
        snap_set_error(error, ENOENT, "the domain is gone");
    else if (!check_busy(core, domain->name, error))
        return NULL;
    else if (domain->broken && !domain->stuck && who != MACHINE && !(who == AS_IS && domain->libvirt))
        snap_set_error(error, EROFS, "domain '%s' is read-only: %s", domain->name, domain->broken);
    else if (who == MERGER && domain->libvirt)
        snap_set_error(error, EROFS, "domain '%s' is libvirt's", domain->name);
    else
        return domain;
    return NULL;
}

/* Work in the background gives way: cancelled, it ends soon. Under the lock, which is let go meanwhile. */
static void push_aside(Core *core, EngineId id)
{
    for (;;) {
        const Domain *domain = g_hash_table_lookup(core->domains, &id);
        const Job *job = domain ? g_hash_table_lookup(core->busy, domain->name) : NULL;
        if (!job || !job->yields)
            return;
        g_autoptr(GCancellable) cancel = g_object_ref(job->cancel);
        g_mutex_unlock(&core->lock);
        g_cancellable_cancel(cancel);
        g_mutex_lock(&core->lock);
        domain = g_hash_table_lookup(core->domains, &id);
        if (domain && g_hash_table_lookup(core->busy, domain->name) == job)
            g_cond_wait(&core->idle, &core->lock);
    }
}

/* A fresh private copy, and the plan that its changes will be. */
static void take_copy(Op *op, const char *what)
{
    Core *core = op->core;
    plan_free(op->plan);
    domain_free(op->domain);
    g_ptr_array_set_size(op->unseen, 0);
    g_ptr_array_set_size(op->gone, 0);
    g_mutex_lock(&core->lock);
    op->domain = domain_copy(g_hash_table_lookup(core->domains, &op->id));
    g_mutex_unlock(&core->lock);
    op->domain->changed = time(NULL);
    g_free(op->uuid);
    op->uuid = g_strdup(op->domain->def->uuid);
    op->plan =
        plan_new(core->store, op->machine ? &op->machine->backend : core->backend, op->job->domain, what);
}

/* An imported domain is adopted before anything else is done to it, in an operation of its own. */
static gboolean adopt_first(Op *op, GError **error)
{
    g_autoptr(GError) why = NULL;
    take_copy(op, "adopt");
    if (adopt_domain(op, &why)) {
        g_clear_pointer(&op->plan, plan_free);
        return TRUE;
    }
    core_note_held(op->core, op->id, why->message);
    if (snap_errno(why) == EROFS)
        g_prefix_error(&why, "domain '%s' is read-only: ", op->job->domain);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

gboolean op_again(Op *op, GError **error)
{
    g_mutex_lock(&op->core->lock);
    const Domain *shown = g_hash_table_lookup(op->core->domains, &op->id);
    gboolean stuck = shown->stuck;
    g_mutex_unlock(&op->core->lock);
    if (stuck && !unstick(op, op->id, error))
        return FALSE;
    take_copy(op, op->job->what);
    return TRUE;
}

static Op *begin(Core *core, EngineId id, Beginner who, GCancellable *cancel, char *taken, GError **error)
{
    g_autofree char *what = taken;
    if (!check_writable(core, error))
        return NULL;
    g_mutex_lock(&core->lock);
    if (who != MERGER)
        push_aside(core, id);
    const Domain *domain = find_idle(core, id, who, error);
    g_autoptr(Op) op =
        domain ? op_new(core, start_job(core, domain->name, g_steal_pointer(&what), cancel)) : NULL;
    gboolean stuck = domain && domain->stuck && who != MACHINE;
    gboolean imported = domain && domain->libvirt && who != AS_IS;
    if (op) {
        op->id = id;
        op->job->yields = who == MERGER;
    }
    g_mutex_unlock(&core->lock);
    if (!op || (stuck && !unstick(op, id, error)) || (imported && !adopt_first(op, error)))
        return NULL;
    take_copy(op, op->job->what);
    return g_steal_pointer(&op);
}

void op_rename(Op *op, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&op->core->lock);
    g_free(op->job->what);
    op->job->what = what;
}

void op_progress(Op *op, guint64 done, guint64 total)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&op->core->lock);
    if (op->job->total == 0)
        op->job->moving = g_get_monotonic_time();
    op->job->done = done;
    op->job->total = total;
}

Op *op_begin_yielding(Core *core, EngineId id, GCancellable *cancel, GError **error, const char *what)
{
    return begin(core, id, MERGER, cancel, g_strdup(what), error);
}

Op *op_begin(Core *core, EngineId id, GCancellable *cancel, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *what = g_strdup_vprintf(format, args);
    va_end(args);
    return begin(core, id, USER, cancel, what, error);
}

Op *op_begin_machine(Core *core, EngineId id, GCancellable *cancel, GError **error, const char *what)
{
    return begin(core, id, MACHINE, cancel, g_strdup(what), error);
}

Op *op_begin_as_is(Core *core, EngineId id, GCancellable *cancel, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *what = g_strdup_vprintf(format, args);
    va_end(args);
    return begin(core, id, AS_IS, cancel, what, error);
}

Op *op_begin_name(Core *core, const char *name, GCancellable *cancel, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);

    if (!check_writable(core, error))
        return NULL;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    if (!check_free_name(core, name, error))
        return NULL;
    return op_new(core, start_job(core, name, g_steal_pointer(&what), cancel));
}

gboolean op_take_name(Op *op, const char *name, GError **error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&op->core->lock);
    if (!check_free_name(op->core, name, error))
        return FALSE;
    g_hash_table_insert(op->core->busy, g_strdup(name), op->job);
    g_ptr_array_add(op->names, g_strdup(name));
    return TRUE;
}

/* A plan whose undoing failed leaves its domain read-only: the journal is there, the next start tries again. */
static void note_stuck(Core *core, const char *name, const char *stuck, gboolean again)
{
    g_mutex_lock(&core->lock);
    Domain *shown = g_hash_table_lookup(core->by_name, name);
    if (shown && !shown->broken) {
        shown->broken = g_strdup(stuck);
        shown->stuck = again;
        g_clear_pointer(&shown->tree, g_free);
    }
    g_mutex_unlock(&core->lock);
    core_log(core, name, "%s", stuck);
}

void op_free(Op *op)
{
    if (!op)
        return;
    Core *core = op->core;
    op_end_begun(op);
    if (op->plan && !plan_committed(op->plan))
        plan_abort(op->plan);
    if (op->plan && plan_stuck(op->plan))
        note_stuck(core, op->job->domain, plan_stuck(op->plan), !plan_in_doubt(op->plan));
    plan_free(op->plan);
    for (guint i = 0; i < op->holds->len; i++)
        close(g_array_index(op->holds, int, i));
    g_array_unref(op->holds);
    g_ptr_array_unref(op->gone);
    g_ptr_array_unref(op->unseen);
    domain_free(op->domain);
    machine_free(op->machine);
    g_free(op->uuid);

    g_mutex_lock(&core->lock);
    g_hash_table_remove(core->busy, op->job->domain);
    for (guint i = 0; i < op->names->len; i++)
        g_hash_table_remove(core->busy, op->names->pdata[i]);
    g_ptr_array_remove(core->jobs, op->job);
    if (op->id && !op->job->yields)
        merger_schedule(core->merger, op->id);
    g_cond_broadcast(&core->idle);
    g_mutex_unlock(&core->lock);
    job_free(op->job);
    g_ptr_array_unref(op->names);
    g_free(op);
}
