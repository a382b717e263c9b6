/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The second half of an op: how the store changes, the commit point, and what comes after it. */
#include "op.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "leftovers.h"
#include "machines.h"
#include "mark.h"
#include "strays.h"

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

gboolean op_write_live(Op *op, GError **error)
{
    g_autofree char *text = op->domain->live ? op_definition_text(op->domain->live, error) : NULL;
    if (op->domain->live && !text)
        return FALSE;
    plan_write(op->plan, "live.xml", text);
    return TRUE;
}

void op_write_sidecar(Op *op)
{
    g_autofree char *text = store_domain_json(op->domain);
    plan_write(op->plan, "domain.json", text);
}

char *op_snapshot_text(Snapshot *snapshot, SnapshotDef *def, GError **error)
{
    g_free(def->name);
    def->name = g_strdup(snapshot->name);
    g_free(def->parent);
    def->parent = g_strdup(snapshot->parent ? snapshot->parent->name : NULL);
    if (!def->domain && !def->domain_uuid) /* as libvirt: one of the two is always there */
        def->domain_uuid = g_strdup(snapshot->domain->def->uuid);
    g_autofree char *xml = snapshot_def_format(def);
    if (!check_document(xml, "domainsnapshot", error))
        return NULL;
    snapshot->xml_size = strlen(xml);
    snapshot->xml_time = snapshot->domain->changed;
    snapshot->secret = snapshot_def_has_secret(def);
    snapshot->reverted = def->revert_disks->len > 0;
    return g_steal_pointer(&xml);
}

gboolean op_write_snapshot(Op *op, Snapshot *snapshot, SnapshotDef *def, GError **error)
{
    g_autofree char *xml = op_snapshot_text(snapshot, def, error);
    if (!xml)
        return FALSE;
    g_autofree char *xml_file = store_snapshot_file(snapshot->name, ".xml");
    g_autofree char *json_file = store_snapshot_file(snapshot->name, ".json");
    g_autofree char *json = store_snapshot_json(snapshot);
    plan_write(op->plan, json_file, json); /* first: a document without its sidecar cannot be used */
    plan_write(op->plan, xml_file, xml);
    return TRUE;
}

void op_write_snapshot_sidecar(Op *op, const Snapshot *snapshot)
{
    g_autofree char *file = store_snapshot_file(snapshot->name, ".json");
    g_autofree char *text = store_snapshot_json(snapshot);
    plan_write(op->plan, file, text);
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

void op_write_home(Op *op, const Layer *layer)
{
    StoreWrite *write = store_sidecar_write(op->domain, layer->home);
    plan_write(op->plan, write->file, write->text);
    store_write_free(write);
}

void op_write_released(Op *op)
{
    g_autoptr(GHashTable) homes = g_hash_table_new(NULL, NULL);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, op->domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Layer *layer = value;
        if (layer->released && layer->home && g_hash_table_add(homes, layer->home))
            op_write_home(op, layer);
    }
}

static void set_detached(Op *op, const DiskDef *disk, gboolean detached)
{
    Layer *layer = domain_active_layer(op->domain, disk);
    if (!layer || layer->detached == detached)
        return;
    layer->detached = detached;
    op_write_home(op, layer);
}

void op_note_detached(Op *op, const DomainDef *before, gboolean replaced)
{
    const DomainDef *now = op->domain->def;
    for (guint i = 0; i < before->disks->len; i++) {
        const DiskDef *disk = before->disks->pdata[i];
        if (replaced || !domain_def_find_disk(now, disk->target))
            set_detached(op, disk, TRUE);
    }
    for (guint i = 0; i < now->disks->len; i++)
        set_detached(op, now->disks->pdata[i], FALSE);
}

static gboolean stale_tag(const Layer *layer, const char *tag, guint *ret_at)
{
    return g_ptr_array_find_with_equal_func(layer->stale, tag, g_str_equal, ret_at);
}

gboolean op_is_shared(Op *op, const Layer *layer)
{
    g_autofree char *other = NULL;
    return core_used_elsewhere(op->core, op->domain->object.id, layer->path, &layer->file, FALSE, &other);
}

static Step *plan_drop(Op *op, const char *disk, const Layer *layer, const char *tag)
{
    Step *step = plan_after(op->plan, STEP_DROP_TAG, disk, layer->path);
    step->tag = g_strdup(tag);
    step->mode = layer->frozen ? layer->mode | 0200 : 0;
    return step;
}

void op_add_tag(Op *op, StepKind kind, const char *disk, const Layer *layer, const char *tag)
{
    Step *step = plan_step(op->plan, kind, 0, disk, layer->path);
    step->tag = g_strdup(tag);
    step->doubtful = layer->stale->len > 0; /* why did it fail? */
}

void op_drop_tag(Op *op, const char *disk, Layer *layer, const char *tag)
{
    if (layer_keeps_tags(layer))
        return;
    if (!op_is_shared(op, layer)) {
        (void)plan_drop(op, disk, layer, tag);
        return;
    }
    g_ptr_array_add(layer->stale, g_strdup(tag));
    op_write_home(op, layer);
}

void op_prune(Op *op)
{
    g_autoptr(GPtrArray) pruned = domain_prune_layers(op->domain);
    for (guint i = 0; i < pruned->len; i++) {
        const Layer *layer = pruned->pdata[i];
        if (layer->home) /* it is there still, with another state */
            op_write_home(op, layer);
        if (layer->frozen && !op_is_shared(op, layer))
            plan_after(op->plan, STEP_THAW, layer->path, layer->path)->mode = layer->mode;
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
        if (layer && step->kind == STEP_DROP_TAG && stale_tag(layer, step->tag, &at))
            g_ptr_array_remove_index(layer->stale, at);
        if (layer)
            g_hash_table_add(touched, layer);
    }
    for (guint i = 0; i < failed->len; i++) {
        const Step *step = failed->pdata[i];
        Layer *layer = domain_find_layer(domain, step->path);
        FileLook look;
        if (step->kind == STEP_UNLINK) {
            domain_add_leftover(domain, step->path, &step->id);
            continue;
        }
        const char *left = step->kind == STEP_PUT ? step->keep : step->temp;
        if (left && file_look(left, &look, NULL))
            domain_add_leftover(domain, left, &look.id);
        if (!layer || !step_needs_repair(step))
            continue;
        g_ptr_array_add(layer->stale, g_strdup(step->tag));
        g_hash_table_add(touched, layer);
    }
}

/* @domain is what the store is going to say. */
static gboolean settle(Core *core, Domain *domain, Plan *plan, GError **error)
{
    g_autoptr(GPtrArray) failed = g_ptr_array_new();
    g_autoptr(GHashTable) touched = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) homes = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) writes = g_ptr_array_new_with_free_func((GDestroyNotify)store_write_free);
    GHashTableIter iter;
    gpointer value;

    if (!plan_settle(plan, failed, error))
        return FALSE;
    guint leftovers = domain->leftovers->len;
    note_stale(domain, failed, plan, touched);
    if (domain->leftovers->len != leftovers)
        g_hash_table_add(homes, NULL);
    g_hash_table_iter_init(&iter, touched);
    while (g_hash_table_iter_next(&iter, &value, NULL)) {
        Layer *layer = value;
        FileLook look;
        if (layer->frozen && file_look(layer->path, &look, NULL)) {
            layer->stamp = look.stamp;
            layer->blocks = look.blocks;
        }
        strays_look_layer(core->backend, layer);
        g_hash_table_add(homes, layer->home);
    }
    g_hash_table_iter_init(&iter, homes);
    while (g_hash_table_iter_next(&iter, &value, NULL)) {
        g_ptr_array_add(writes, store_sidecar_write(domain, value));
    }
    return store_apply(core->store, plan_domain(plan), writes, error) && plan_close(plan, error);
}

gboolean op_settle(Core *core, Domain **domain, Plan *plan, GError **error)
{
    g_autoptr(GPtrArray) failed = g_ptr_array_new();
    if (!plan_owes(plan))
        return settle(core, *domain, plan, error);
    if (!plan_settle(plan, failed, error))
        return FALSE;
    Domain *now = store_load(core->store, plan_domain(plan), (*domain)->object.id, error);
    if (!now)
        return FALSE;
    domain_free(*domain);
    *domain = now;
    return settle(core, now, plan, error);
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
        for (guint i = 0; i < layer->stale->len && !layer_keeps_tags(layer) && !op_is_shared(op, layer); i++)
            plan_drop(op, layer->path, layer, layer->stale->pdata[i])->doubtful = TRUE; /* why did it fail? */
    }
}

void core_tell_gone(Core *core, EngineId where, const char *name)
{
    if (core->gone)
        core->gone(core->gone_user, where, name);
}

/* Files that should have gone get another chance now; what fails again stays on the list. */
static void retry_leftovers(Op *op)
{
    if (op->domain->leftovers->len > 0 && leftovers_remove(op->core->backend, op->domain))
        op_write_sidecar(op);
}

/* Look at the images that the op or somebody else may have changed: what does not fit now, and is news? */
static GPtrArray *find_news(Core *core, Domain *domain)
{
    strays_look(core->backend, domain);
    g_autoptr(GPtrArray) all = strays_tell(domain, NULL);
    if (all->len == 0)
        return g_steal_pointer(&all);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    return strays_tell(domain, g_hash_table_lookup(core->domains, &domain->object.id));
}

/* When files were written, not when the op began: what is shown now is what a restart will show. */
static void take_times(Core *core, Domain *domain)
{
    gint64 begun = domain->changed;
    g_autofree char *definition = store_domain_file(core->store, domain->name, "domain.xml");
    FileLook look;
    for (guint i = 0; i < domain->snapshots->len; i++) {
        Snapshot *snapshot = domain->snapshots->pdata[i];
        if (snapshot->xml_time != begun)
            continue;
        g_autofree char *file = store_snapshot_file(snapshot->name, ".xml");
        g_autofree char *path = store_domain_file(core->store, domain->name, file);
        if (file_look(path, &look, NULL))
            snapshot->xml_time = look.stamp.mtime_sec;
    }
    if (file_look(definition, &look, NULL) && look.stamp.mtime_sec > begun)
        domain->changed = look.stamp.mtime_sec;
}

/* Where the file is now that will be called @path. */
static const char *file_called(const Plan *plan, const char *path)
{
    for (guint i = 0; i < plan_afters(plan)->len; i++) {
        const Step *step = plan_afters(plan)->pdata[i];
        if (step->kind == STEP_REPLACE && strcmp(step->path, path) == 0)
            return step->source;
    }
    return path;
}

/* The op's own locks must not keep qemu-img from the files whose tags are to go: from now on nothing depends on them. */
static void let_go(Op *op)
{
    for (guint i = 0; i < plan_afters(op->plan)->len; i++) {
        const Step *step = plan_afters(op->plan)->pdata[i];
        FileLook look;
        if (step->kind != STEP_DROP_TAG || !file_look(file_called(op->plan, step->path), &look, NULL))
            continue;
        for (guint j = op->holds->len; j > 0; j--) {
            int fd = g_array_index(op->holds, int, j - 1);
            struct stat st;
            if (fstat(fd, &st) < 0 || st.st_dev != look.id.dev || st.st_ino != look.id.ino)
                continue;
            close(fd);
            g_array_remove_index(op->holds, j - 1);
        }
    }
}

/* The images that are ours by now, those above all that the op made. */
static void mark_images(Op *op, const Domain *domain)
{
    const GPtrArray *lists[] = {plan_steps(op->plan), plan_afters(op->plan)};
    mark_active(op->core->store, domain);
    for (guint i = 0; i < G_N_ELEMENTS(lists); i++)
        for (guint j = 0; j < lists[i]->len; j++) {
            const Step *step = lists[i]->pdata[j];
            if (step->kind == STEP_FREEZE || step->kind == STEP_REPLACE)
                mark_set(op->core->store, step->path);
        }
}

/* Let *domain be as it is shown now. */
static void take_shown(Core *core, Domain **domain)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    Domain *shown = domain_copy(g_hash_table_lookup(core->domains, &(*domain)->object.id));
    domain_free(*domain);
    *domain = shown;
}

static void say_last(Op *op)
{
    retry_stale(op);
    retry_leftovers(op);
}

gboolean op_ready(Op *op, GError **error)
{
    say_last(op);
    return plan_ready(op->plan, error);
}

gboolean op_commit(Op *op, GError **error, const char *format, ...)
{
    g_autoptr(GError) why = NULL;
    if (!plan_is_ready(op->plan) && !plan_committed(op->plan))
        say_last(op);
    if (!plan_commit(op->plan, error))
        return FALSE;

    op_bring_machine(op);
    let_go(op);
    Domain *domain = g_steal_pointer(&op->domain);
    if (!settle(op->core, domain, op->plan, &why)) { /* it has happened all the same, and will be completed */
        if (plan_owes(op->plan)) /* what a guest may be started from is still the old one */
            take_shown(op->core, &domain);
        domain->broken = g_strdup_printf("the store could not be brought up to date: %s", why->message);
        domain->stuck = TRUE;
    }
    mark_images(op, domain);
    take_times(op->core, domain);
    g_autofree char *name = g_strdup(domain->name);
    EngineId id = domain->object.id;
    g_autoptr(GPtrArray) strays = find_news(op->core, domain);
    core_show(op->core, domain);

    va_list args;
    va_start(args, format);
    g_autofree char *line = format ? g_strdup_vprintf(format, args) : NULL;
    va_end(args);
    if (line)
        core_log(op->core, name, "%s", line);
    if (why)
        core_log(op->core, name, "%s", why->message);
    core_log_strays(op->core, name, strays);
    for (guint i = 0; i < op->gone->len; i++)
        core_tell_gone(op->core, id, op->gone->pdata[i]);
    return TRUE;
}
