/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "op.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "error.h"

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

/* The domain with that id, if nothing stands in the way of a job. Under the lock. */
static Domain *find_idle(Core *core, EngineId id, GError **error)
{
    Domain *domain = g_hash_table_lookup(core->domains, &id);
    if (!domain)
        snap_set_error(error, ENOENT, "the domain is gone");
    else if (!check_busy(core, domain->name, error))
        return NULL;
    else if (domain->broken && !domain->stuck)
        snap_set_error(error, EROFS, "domain '%s' is read-only: %s", domain->name, domain->broken);
    else
        return domain;
    return NULL;
}

Op *op_begin(Core *core, EngineId id, GCancellable *cancel, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);

    if (!check_writable(core, error))
        return NULL;
    g_mutex_lock(&core->lock);
    const Domain *domain = find_idle(core, id, error);
    g_autoptr(Op) op =
        domain ? op_new(core, start_job(core, domain->name, g_steal_pointer(&what), cancel)) : NULL;
    gboolean stuck = domain && domain->stuck;
    g_mutex_unlock(&core->lock);
    if (!op || (stuck && !unstick(op, id, error)))
        return NULL;

    g_mutex_lock(&core->lock);
    op->domain = domain_copy(g_hash_table_lookup(core->domains, &id));
    g_mutex_unlock(&core->lock);
    op->domain->changed = time(NULL);
    op->plan = plan_new(core->store, core->backend, op->job->domain, op->job->what);
    return g_steal_pointer(&op);
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
        file_look(path, &look, NULL)
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
static void note_stuck(Core *core, const char *name, const char *stuck)
{
    g_mutex_lock(&core->lock);
    Domain *shown = g_hash_table_lookup(core->by_name, name);
    if (shown && !shown->broken) {
        shown->broken = g_strdup(stuck);
        shown->stuck = TRUE;
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
        note_stuck(core, op->job->domain, plan_stuck(op->plan));
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
        if (!layer || disk->readonly)
            continue;
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

/* The other disk of the domain that has @layer as well, or NULL. Before any disk is pointed elsewhere. */
static const char *other_disk(const Op *op, const Layer *layer, const char *target)
{
    const GPtrArray *disks = op->domain->def->disks;
    for (guint i = 0; i < disks->len; i++) {
        const DiskDef *disk = disks->pdata[i];
        if (strcmp(disk->target, target) != 0 && domain_active_layer(op->domain, disk) == layer)
            return disk->target;
    }
    return NULL;
}

gboolean op_require_sole(Op *op, const char *target, const Layer *layer, GError **error)
{
    g_autofree char *other = NULL;
    const char *twin = other_disk(op, layer, target);
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

/* --- the store's files --- */

/* What is written must be readable again: escaping may have made it too long, and libxml2 writes things that no parser
 * takes back (facts/qemu.md E). */
static gboolean check_document(const char *text, const char *root, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_parse(text, strlen(text), root, error);
    if (!doc)
        g_prefix_error(error, "the document could not be read again: ");
    return doc != NULL;
}

char *op_definition_text(const DomainDef *def, GError **error)
{
    g_autofree char *text = domain_def_format(def);
    return check_document(text, "domain", error) ? g_steal_pointer(&text) : NULL;
}

gboolean op_write_definition(Op *op, GError **error)
{
    g_autofree char *text = op_definition_text(op->domain->def, error);
    if (!text)
        return FALSE;
    op->domain->xml_size = strlen(text);
    plan_write(op->plan, "domain.xml", text);
    return TRUE;
}

void op_write_sidecar(Op *op)
{
    g_autofree char *text = store_domain_json(op->domain);
    plan_write(op->plan, "domain.json", text);
}

gboolean op_write_snapshot(Op *op, Snapshot *snapshot, SnapshotDef *def, GError **error)
{
    g_free(def->name);
    def->name = g_strdup(snapshot->name);
    g_free(def->parent);
    def->parent = g_strdup(snapshot->parent ? snapshot->parent->name : NULL);
    g_autofree char *xml = snapshot_def_format(def);
    if (!check_document(xml, "domainsnapshot", error))
        return FALSE;
    snapshot->xml_size = strlen(xml);
    snapshot->xml_time = op->domain->changed;
    snapshot->secret = snapshot_def_has_secret(def);
    g_autofree char *xml_file = store_snapshot_file(snapshot->name, ".xml");
    g_autofree char *json_file = store_snapshot_file(snapshot->name, ".json");
    g_autofree char *json = store_snapshot_json(snapshot);
    plan_write(op->plan, json_file, json); /* first: a document without its sidecar cannot be used */
    plan_write(op->plan, xml_file, xml);
    return TRUE;
}

void op_remove_snapshot(Op *op, const char *name)
{
    g_autofree char *xml_file = store_snapshot_file(name, ".xml");
    g_autofree char *json_file = store_snapshot_file(name, ".json");
    plan_write(op->plan, xml_file, NULL);
    plan_write(op->plan, json_file, NULL);
}

gboolean op_rewrite_snapshot(Op *op, Snapshot *snapshot, GError **error)
{
    g_autoptr(SnapshotDef) def =
        store_read_snapshot(op->core->store, op->domain->name, snapshot->name, error);
    return def && op_write_snapshot(op, snapshot, def, error);
}

static StoreWrite *sidecar_write(const Domain *domain, const Snapshot *home)
{
    g_autofree char *file = home ? store_snapshot_file(home->name, ".json") : g_strdup("domain.json");
    g_autofree char *text = home ? store_snapshot_json(home) : store_domain_json(domain);
    return store_write_new(file, text);
}

void op_write_home(Op *op, const Layer *layer)
{
    StoreWrite *write = sidecar_write(op->domain, layer->home);
    plan_write(op->plan, write->file, write->text);
    store_write_free(write);
}

static gboolean stale_tag(const Layer *layer, const char *tag, guint *ret_at)
{
    return g_ptr_array_find_with_equal_func(layer->stale, tag, g_str_equal, ret_at);
}

/* Does another domain have the file too, as its own or below it? */
static gboolean is_shared(Op *op, const Layer *layer)
{
    g_autofree char *other = NULL;
    return core_used_elsewhere(op->core, op->domain->object.id, layer->path, &layer->file, FALSE, &other);
}

static void plan_drop(Op *op, const char *disk, const Layer *layer, const char *tag)
{
    Step *step = plan_after(op->plan, STEP_DROP_TAG, disk, layer->path);
    step->tag = g_strdup(tag);
    step->mode = layer->frozen ? layer->mode | 0200 : 0;
}

void op_drop_tag(Op *op, const char *disk, Layer *layer, const char *tag)
{
    if (!is_shared(op, layer)) {
        plan_drop(op, disk, layer, tag);
        return;
    }
    g_ptr_array_add(layer->stale, g_strdup(tag));
    op_write_home(op, layer);
}

void op_prune(Op *op)
{
    GHashTableIter iter;
    gpointer value;
    g_autoptr(GPtrArray) thaws = g_ptr_array_new_with_free_func((GDestroyNotify)step_free);
    g_hash_table_iter_init(&iter, op->domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Layer *layer = value;
        if (!layer->frozen || is_shared(op, layer))
            continue;
        Step *step = step_new(STEP_THAW, 0, layer->path, layer->path);
        step->mode = layer->mode;
        g_ptr_array_add(thaws, step);
    }
    domain_prune_layers(op->domain);
    for (guint i = 0; i < thaws->len; i++) {
        const Step *step = thaws->pdata[i];
        if (!domain_find_layer(op->domain, step->path))
            plan_after(op->plan, STEP_THAW, step->disk, step->path)->mode = step->mode;
    }
}

/* --- commit --- */

/* Tags that could not be dropped go on the layer's list; one that could comes off it. */
static void note_stale(Domain *domain, const GPtrArray *failed, Plan *plan, GHashTable *touched)
{
    for (guint i = 0; i < plan_afters(plan)->len; i++) {
        const Step *step = plan_afters(plan)->pdata[i];
        Layer *layer = domain_find_layer(domain, step->path);
        guint at;
        if (layer && stale_tag(layer, step->tag, &at))
            g_ptr_array_remove_index(layer->stale, at);
        if (layer)
            g_hash_table_add(touched, layer);
    }
    for (guint i = 0; i < failed->len; i++) {
        const Step *step = failed->pdata[i];
        Layer *layer = domain_find_layer(domain, step->path);
        if (!layer || !step_needs_repair(step)) /* a temporary name that stayed: nothing refers to it */
            continue;
        g_ptr_array_add(layer->stale, g_strdup(step->tag));
        g_hash_table_add(touched, layer);
    }
}

gboolean op_settle(Core *core, Domain *domain, Plan *plan, GError **error)
{
    g_autoptr(GPtrArray) failed = g_ptr_array_new();
    g_autoptr(GHashTable) touched = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) homes = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) writes = g_ptr_array_new_with_free_func((GDestroyNotify)store_write_free);
    GHashTableIter iter;
    gpointer value;

    if (!plan_settle(plan, failed, error))
        return FALSE;
    note_stale(domain, failed, plan, touched);
    g_hash_table_iter_init(&iter, touched);
    while (g_hash_table_iter_next(&iter, &value, NULL)) {
        Layer *layer = value;
        FileLook look;
        if (layer->frozen && file_look(layer->path, &look, NULL)) {
            layer->stamp = look.stamp;
            layer->blocks = look.blocks;
        }
        g_hash_table_add(homes, layer->home);
    }
    g_hash_table_iter_init(&iter, homes);
    while (g_hash_table_iter_next(&iter, &value, NULL)) {
        g_ptr_array_add(writes, sidecar_write(domain, value));
    }
    return store_apply(core->store, plan_domain(plan), writes, error) && plan_close(plan, error);
}

/* Somebody dropped a straggler by hand, and a snapshot has a tag of that name again: it is no straggler any more. */
static void forget_named(Op *op, Layer *layer)
{
    gboolean forgot = FALSE;
    for (guint i = layer->stale->len; i > 0; i--)
        if (domain_tag_named(op->domain, layer, layer->stale->pdata[i - 1])) {
            g_ptr_array_remove_index(layer->stale, i - 1);
            forgot = TRUE;
        }
    if (forgot)
        op_write_home(op, layer);
}

/* Tags of earlier operations that could not be dropped then get another chance. */
static void retry_stale(Op *op)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, op->domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Layer *layer = value;
        forget_named(op, layer);
        for (guint i = 0; i < layer->stale->len && !is_shared(op, layer); i++)
            plan_drop(op, layer->path, layer, layer->stale->pdata[i]);
    }
}

void core_tell_gone(Core *core, EngineId where, const char *name)
{
    if (core->gone)
        core->gone(core->gone_user, where, name);
}

gboolean op_commit(Op *op, GError **error, const char *format, ...)
{
    g_autoptr(GError) why = NULL;
    retry_stale(op);
    if (!plan_commit(op->plan, error))
        return FALSE;

    Domain *domain = g_steal_pointer(&op->domain);
    if (!op_settle(op->core, domain, op->plan,
                   &why)) { /* it has happened all the same, and will be completed */
        domain->broken = g_strdup_printf("the store could not be brought up to date: %s", why->message);
        domain->stuck = TRUE;
    }
    g_autofree char *name = g_strdup(domain->name);
    EngineId id = domain->object.id;
    core_show(op->core, domain);

    va_list args;
    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    core_log(op->core, name, "%s", line);
    if (why)
        core_log(op->core, name, "%s", why->message);
    for (guint i = 0; i < op->gone->len; i++)
        core_tell_gone(op->core, id, op->gone->pdata[i]);
    return TRUE;
}
