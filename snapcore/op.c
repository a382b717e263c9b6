/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first half of an op: a domain busy, names and images taken, machines that are off. */
#include "op.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "adopt.h"
#include "error.h"
#include "remote.h"

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
    g_autoptr(Plan) plan = plan_read_journal(core->store, core->backend, op->job->domain, &why);
    g_mutex_lock(&core->lock);
    g_autoptr(Domain) copy = domain_copy(g_hash_table_lookup(core->domains, &id));
    g_mutex_unlock(&core->lock);
    gboolean ok = !why;
    if (plan && plan_committed(plan))
        ok = op_settle(core, copy, plan, &why);
    else if (plan)
        ok = plan_recover(plan, failed, &why);
    if (!ok) {
        snap_set_error(error, EROFS, "domain '%s' is read-only: '%s' is still under way: %s", op->job->domain,
                       plan ? plan_what(plan) : "its journal", why->message);
        return FALSE;
    }
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
 * The domain with that id, if nothing stands in the way of a job; @as_is: not the state of its images either, if it was
 * imported, for then they are not ours. Under the lock.
 */
static Domain *find_idle(Core *core, EngineId id, gboolean as_is, GError **error)
{
    Domain *domain = g_hash_table_lookup(core->domains, &id);
    if (!domain)
        snap_set_error(error, ENOENT, "the domain is gone");
    else if (!check_busy(core, domain->name, error))
        return NULL;
    else if (domain->broken && !domain->stuck && !(as_is && domain->libvirt))
        snap_set_error(error, EROFS, "domain '%s' is read-only: %s", domain->name, domain->broken);
    else
        return domain;
    return NULL;
}

/* The private copy, and the plan that its changes will be. */
static void open_copy(Op *op, EngineId id, const char *what)
{
    Core *core = op->core;
    g_mutex_lock(&core->lock);
    op->domain = domain_copy(g_hash_table_lookup(core->domains, &id));
    g_mutex_unlock(&core->lock);
    op->domain->changed = time(NULL);
    op->plan = plan_new(core->store, core->backend, op->job->domain, what);
}

/* An imported domain is adopted before anything else is done to it, in an operation of its own. */
static gboolean adopt_first(Op *op, EngineId id, GError **error)
{
    g_autoptr(GError) why = NULL;
    open_copy(op, id, "adopt");
    if (adopt_domain(op, &why)) {
        g_clear_pointer(&op->plan, plan_free);
        return TRUE;
    }
    core_note_held(op->core, id, why->message);
    if (snap_errno(why) == EROFS)
        g_prefix_error(&why, "domain '%s' is read-only: ", op->job->domain);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

static Op *begin(Core *core, EngineId id, gboolean as_is, GCancellable *cancel, char *what, GError **error)
{
    g_autofree char *text = what;
    if (!check_writable(core, error))
        return NULL;
    g_mutex_lock(&core->lock);
    const Domain *domain = find_idle(core, id, as_is, error);
    g_autoptr(Op) op =
        domain ? op_new(core, start_job(core, domain->name, g_steal_pointer(&text), cancel)) : NULL;
    gboolean stuck = domain && domain->stuck;
    gboolean imported = domain && domain->libvirt && !as_is;
    g_mutex_unlock(&core->lock);
    if (!op || (stuck && !unstick(op, id, error)) || (imported && !adopt_first(op, id, error)))
        return NULL;
    open_copy(op, id, op->job->what);
    return g_steal_pointer(&op);
}

Op *op_begin(Core *core, EngineId id, GCancellable *cancel, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *what = g_strdup_vprintf(format, args);
    va_end(args);
    return begin(core, id, FALSE, cancel, what, error);
}

Op *op_begin_as_is(Core *core, EngineId id, GCancellable *cancel, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *what = g_strdup_vprintf(format, args);
    va_end(args);
    return begin(core, id, TRUE, cancel, what, error);
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

gboolean op_take_image(Op *op, const char *path, GError **error)
{
    FileLook look;
    g_autofree char *name =
        remote_is_uri(path) ? g_strconcat("/", path, NULL)
        : file_look(path, &look, NULL)
            ? g_strdup_printf("/%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, look.id.dev, look.id.ino)
            : g_strdup(path);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&op->core->lock);
    const Job *job = g_hash_table_lookup(op->core->busy, name);
    if (job && job != op->job) {
        snap_set_error(error, EBUSY, "job %u of domain '%s' is at work on '%s'", job->number, job->domain,
                       path);
        return FALSE;
    }
    if (!job) {
        g_hash_table_insert(op->core->busy, g_strdup(name), op->job);
        g_ptr_array_add(op->names, g_steal_pointer(&name));
    }
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

    g_mutex_lock(&core->lock);
    g_hash_table_remove(core->busy, op->job->domain);
    for (guint i = 0; i < op->names->len; i++)
        g_hash_table_remove(core->busy, op->names->pdata[i]);
    g_ptr_array_remove(core->jobs, op->job);
    g_cond_broadcast(&core->idle);
    g_mutex_unlock(&core->lock);
    job_free(op->job);
    g_ptr_array_unref(op->names);
    g_free(op);
}

/* --- images --- */

gboolean op_require_off(Op *op, GError **error)
{
    const GPtrArray *disks = op->domain->def->disks;
    for (guint i = 0; i < disks->len; i++) {
        const DiskDef *disk = disks->pdata[i];
        const Layer *layer = domain_active_layer(op->domain, disk);
        ImageUse use;
        g_autoptr(GError) why = NULL;
        if (!layer || !layer_is_local(layer) || disk->readonly)
            continue; /* NBD has no locks */
        if (!op->core->backend->ops->in_use(op->core->backend, layer->path, &use, &why)) {
            if (snap_errno(why) == ENOENT)
                continue; /* only what needs the image fails, and says so itself */
            g_propagate_prefixed_error(error, g_steal_pointer(&why), "disk '%s': ", disk->target);
            return FALSE;
        }
        if (use == USE_WRITER) {
            snap_set_error(error, EBUSY, "domain is running: disk '%s': another process writes '%s'",
                           disk->target, layer->path);
            return FALSE;
        }
    }
    return TRUE;
}

const char *op_other_disk(const Op *op, const Layer *layer, const char *target)
{
    const GPtrArray *disks = op->domain->def->disks;
    for (guint i = 0; i < disks->len; i++) {
        const DiskDef *disk = disks->pdata[i];
        const Layer *other = domain_active_layer(op->domain, disk);
        if (strcmp(disk->target, target) != 0 && other &&
            layer_is_same_file(other, layer->path, &layer->file))
            return disk->target;
    }
    return NULL;
}

gboolean op_require_sole(Op *op, const char *target, const Layer *layer, GError **error)
{
    g_autofree char *other = NULL;
    const char *twin = op_other_disk(op, layer, target);
    if (twin)
        snap_set_error(error, EBUSY, "'%s' is also disk '%s'", layer->path, twin);
    else if (core_used_elsewhere(op->core, op->domain->object.id, layer->path, &layer->file, TRUE, &other))
        snap_set_error(error, EBUSY, "'%s' is also a disk of domain '%s'", layer->path, other);
    else
        return TRUE;
    return FALSE;
}

gboolean op_hold(Op *op, const Layer *layer, GError **error)
{
    int fd = op->core->backend->ops->hold(op->core->backend, layer->path, error);
    if (fd < 0)
        return FALSE;
    g_array_append_val(op->holds, fd);
    return TRUE;
}
