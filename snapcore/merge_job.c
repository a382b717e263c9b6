/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "merge_job.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "machines.h"
#include "merge_join.h"
#include "merge_online.h"
#include "overlay.h"

/* The same layers of the fresh copy that op_again took: as the ids of @ids say, the top last. */
static void find_again(Join *join, const GArray *ids)
{
    GHashTable *objects = join->op->domain->objects;
    GPtrArray *run = join->merge->run;
    for (guint i = 0; i < run->len; i++)
        run->pdata[i] = g_hash_table_lookup(objects, &g_array_index(ids, EngineId, i));
    join->merge->top = g_hash_table_lookup(objects, &g_array_index(ids, EngineId, run->len));
}

static GArray *ids_of(const Merge *merge)
{
    GArray *ids = g_array_new(FALSE, FALSE, sizeof(EngineId));
    for (guint i = 0; i < merge->run->len; i++)
        g_array_append_val(ids, ((Layer *)merge->run->pdata[i])->object.id);
    g_array_append_val(ids, merge->top->object.id);
    return ids;
}

/* --- moving the data --- */

void join_tell(gpointer user, double part)
{
    const Join *join = user;
    op_progress(join->op, join->done + (guint64)(part * (double)join->part), join->total);
}

/* The layers that are written into the lowest one, in the order in which that is done. */
static GPtrArray *uppers(const Merge *merge)
{
    GPtrArray *list = g_ptr_array_new();
    for (guint i = 1; i < merge->run->len; i++)
        g_ptr_array_add(list, merge->run->pdata[i]);
    g_ptr_array_add(list, merge->top);
    return list;
}

/* The run's layers lose their own content. FALSE: all have already. */
static gboolean set_mixed(const Join *join)
{
    const GPtrArray *run = join->merge->run;
    gboolean news = FALSE;
    for (guint i = 0; i < run->len; i++) {
        Layer *layer = run->pdata[i];
        if (layer->mixed)
            continue;
        news = layer->mixed = TRUE;
        op_write_home(join->op, layer);
    }
    return news;
}

gboolean join_open_lowest(Join *join, GError **error)
{
    Layer *layer = join_lowest(join);
    g_autoptr(GArray) ids = ids_of(join->merge);
    if (set_mixed(join)) {
        if (!plan_prepare(join->op->plan, join->op->cancel, error) || !op_commit(join->op, error, NULL))
            return FALSE;
        if (!op_again(join->op, error))
            return FALSE;
        find_again(join, ids);
        layer = join_lowest(join);
    }
    return !layer->frozen || file_set_mode(layer->path, layer->mode | 0200, error);
}

static gboolean write_down(Join *join, GError **error)
{
    g_autoptr(GPtrArray) list = uppers(join->merge);
    const BackendProgress progress = {join_tell, join};
    Backend *backend = join->op->core->backend;
    for (guint i = 0; i < list->len; i++)
        join->total += join_bytes_of(list->pdata[i]);
    for (guint i = 0; i < list->len; i++) {
        const Layer *upper = list->pdata[i];
        const MergeSpec spec = {upper->path, upper->format, join_lowest(join)->path,
                                join_lowest(join)->format};
        join->part = join_bytes_of(upper);
        join_tell(join, 0);
        if (!backend->ops->commit(backend, &spec, join->lower_fd, &progress, join->op->cancel, error))
            return FALSE;
        join->done += join->part;
    }
    return TRUE;
}

/* --- taking the place --- */

Step *join_plan_unlink(Op *op, const Layer *layer)
{
    Step *step = plan_after(op->plan, STEP_UNLINK, layer->path, layer->path);
    step->id = layer->file;
    return step;
}

gboolean join_plan_point(const Join *join, const Layer *to, const Layer *except, GError **error)
{
    Op *op = join->op;
    const Layer *top = join->merge->top;
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, op->domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Layer *layer = value;
        FileLook look;
        if (layer == except || g_strcmp0(layer->backing, top->path) != 0)
            continue;
        if (!op_take_image(op, layer->path, error) || !op_hold(op, layer, error) ||
            !file_look(layer->path, &look, error))
            return FALSE;
        Step *step = plan_step(op->plan, STEP_POINT, 0, layer->path, layer->path);
        step->mode = layer->frozen ? layer->mode | 0200 : 0;
        step->backing_name = overlay_backing_name(op->domain, layer->path, to);
        step->backing_format = to->format;
        step->keep = overlay_backing_name(op->domain, layer->path, top);
        step->backing_was = top->format;
        step->stamp = look.stamp;
        layer->backing_format = to->format;
        g_ptr_array_add(op->unseen, layer);
    }
    return TRUE;
}

/*
 * @joined, of the format @format, takes the top's name, if that is the one that stays, and is frozen if the top was. What
 * changes for who knows the names comes after the commit: before, the top is there, and reads the same.
 */
static gboolean plan_place(const Join *join, const char *joined, ImageFormat format, GError **error)
{
    Op *op = join->op;
    const Layer *top = join->merge->top;
    gboolean replaced = strcmp(merge_path(join->merge), top->path) == 0;
    FileLook look;
    if (!file_look(top->path, &look, error))
        return FALSE;
    if (top->frozen) /* before it has the name: taking this back must not thaw what has the name now */
        plan_step(op->plan, STEP_FREEZE, 1, top->path, joined)->mode = top->mode;
    Step *step = plan_after(op->plan, replaced ? STEP_REPLACE : STEP_RETIRE, top->path, top->path);
    step->source = g_strdup(joined);
    step->format = top->format;
    step->backing_was = format;
    step->id = top->file;
    step->stamp = look.stamp;
    return TRUE;
}

/* --- in the model --- */

/* The states that are tags in @from are in the file that is known as @to from now on. */
static void move_tags(Domain *domain, const Layer *from, Layer *to)
{
    for (guint i = 0; i <= domain->snapshots->len; i++) {
        const Snapshot *snapshot = i < domain->snapshots->len ? domain->snapshots->pdata[i] : domain->undo;
        for (guint j = 0; snapshot && j < snapshot->disks->len; j++) {
            StateDisk *disk = snapshot->disks->pdata[j];
            if (disk->layer == from && disk->tag)
                disk->layer = to;
        }
    }
    g_ptr_array_set_size(to->stale, 0); /* they were in the file that goes */
    for (guint i = 0; i < from->stale->len; i++)
        g_ptr_array_add(to->stale, g_strdup(from->stale->pdata[i]));
}

void join_replace_in_model(const Join *join)
{
    Domain *domain = join->op->domain;
    Layer *top = join->merge->top;
    Layer *low = join_lowest(join);
    const Layer *base = domain_find_layer(domain, low->backing);
    g_autofree char *path = g_strdup(merge_path(join->merge));
    if (join->merge->kind == MERGE_DOWN) {
        move_tags(domain, low, top);
        top->format = low->format;
        top->made = low->made;
        top->type = low->type;
        if (strcmp(path, low->path) == 0) { /* names of overlays are made from it, even if it is a device */
            g_free(top->stem);
            top->stem = g_strdup(low->stem);
        }
    }
    g_free(top->backing);
    top->backing = g_strdup(base ? base->path : NULL);
    top->backing_format = base ? base->format : FORMAT_NONE;
    for (guint i = 0; i < join->merge->run->len; i++)
        domain_forget_layer(domain, join->merge->run->pdata[i]);
    if (strcmp(path, top->path) != 0)
        domain_move_layer(domain, top, path);
    domain_renew_layer(domain, top);
    g_ptr_array_add(join->op->unseen, top);
}

GPtrArray *join_gone_paths(const Merge *merge)
{
    GPtrArray *gone = g_ptr_array_new_with_free_func(g_free);
    const char *path = merge_path(merge);
    for (guint i = 0; i < merge->run->len; i++)
        if (strcmp(((Layer *)merge->run->pdata[i])->path, path) != 0)
            g_ptr_array_add(gone, g_strdup(((Layer *)merge->run->pdata[i])->path));
    const Layer *low = merge->run->pdata[0];
    if (strcmp(merge->top->path, path) != 0 ||
        (merge->kind == MERGE_DOWN && low->format != merge->top->format))
        g_ptr_array_add(gone, g_strdup(merge->top->path));
    return gone;
}

/* The top is recorded as the file @joined, which has its name only later. */
static gboolean record(const Join *join, char *joined, GError **error)
{
    Layer *top = join->merge->top;
    char *path = top->path;
    top->path = joined;
    gboolean ok = overlay_record(join->op, error);
    top->path = path;
    return ok;
}

/* What one stands on goes after it. */
void join_plan_unlink_run(const Join *join)
{
    const Merge *merge = join->merge;
    for (guint i = merge->run->len; i-- > 0;) {
        const Layer *layer = merge->run->pdata[i];
        if (layer->made && (merge->kind != MERGE_DOWN || i > 0)) /* the lowest is the joined one */
            (void)join_plan_unlink(join->op, layer);
    }
}

GHashTable *join_homes(const Merge *merge)
{
    GHashTable *homes = g_hash_table_new(NULL, NULL);
    for (guint i = 0; i < merge->run->len; i++)
        g_hash_table_add(homes, ((Layer *)merge->run->pdata[i])->home);
    return homes;
}

/* Steps are planned, nothing is done yet: do it, and let everybody see it. */
static gboolean commit_join(Join *join, char *joined, GError **error)
{
    Op *op = join->op;
    const Merge *merge = join->merge;
    Layer *top = merge->top;
    if (!join_check_strangers(join, error))
        return FALSE;
    g_autofree char *what = merge_describe(merge);
    g_autoptr(GPtrArray) gone = join_gone_paths(merge);
    g_autoptr(GHashTable) homes = join_homes(merge);
    join_plan_unlink_run(join);
    join_replace_in_model(join);
    return plan_prepare(op->plan, op->cancel, error) && record(join, joined, error) &&
           merge_write_documents(op, gone, top, homes, error) && op_commit(op, error, "merge: %s", what);
}

static gboolean join_down(Join *join, GError **error)
{
    if (!join_open_lowest(join, error) || !write_down(join, error))
        return FALSE;
    const Layer *low = join_lowest(join);
    Layer *top = join->merge->top;
    FileLook look;
    if (!file_look(low->path, &look, error))
        return FALSE;
    guint mode = low->frozen ? low->mode : look.mode; /* of the role that a guest writes it in */
    if (!top->frozen && !file_set_mode(low->path, mode, error))
        return FALSE;
    top->mode = mode;
    g_autofree char *joined = g_strdup(low->path);
    gboolean renamed = strcmp(merge_path(join->merge), top->path) != 0;
    return plan_place(join, joined, low->format, error) &&
           (!renamed || join_plan_point(join, low, NULL, error)) && commit_join(join, joined, error);
}

static gboolean join_up(Join *join, GError **error)
{
    Op *op = join->op;
    const Layer *top = join->merge->top;
    const Layer *base = domain_find_layer(op->domain, join_lowest(join)->backing);
    FileLook look;
    if (!file_look(top->path, &look, error))
        return FALSE;
    Step *step = plan_step(op->plan, STEP_COPY_UP, 0, top->path, top->path);
    step->like = g_strdup(top->path);
    step->mode = top->frozen ? top->mode : look.mode;
    step->format = FORMAT_QCOW2;
    step->size = join->upper_size;
    step->backing_name = base ? overlay_backing_name(op->domain, top->path, base) : NULL;
    step->backing_format = base ? base->format : FORMAT_NONE;
    return plan_place(join, step->temp, FORMAT_QCOW2, error) && commit_join(join, step->temp, error);
}

/* A layer that nothing stands on and no state is. */
static gboolean drop(Join *join, GError **error)
{
    Op *op = join->op;
    Layer *layer = join_lowest(join);
    g_autofree char *path = g_strdup(layer->path);
    Snapshot *home = layer->home;
    join_plan_unlink(op, layer);
    domain_forget_layer(op->domain, layer);
    if (home)
        op_write_snapshot_sidecar(op, home);
    op_write_sidecar(op);
    return merge_write_dropped(op, path, error) && plan_prepare(op->plan, op->cancel, error) &&
           op_commit(op, error, "drop '%s'", path);
}

/* The disk whose guest reads through the top now; NULL: none. */
static const DiskDef *disk_through(const Op *op, const Merge *merge)
{
    const Domain *domain = op->domain;
    for (guint i = 0; merge->top && op->core->backend->machines && i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        guint left = g_hash_table_size(domain->layers);
        for (const Layer *layer = domain_active_layer(domain, disk); layer && left > 0;
             layer = domain_find_layer(domain, layer->backing), left--)
            if (layer == merge->top)
                return disk;
    }
    return NULL;
}

static gboolean carry_out(Op *op, Merge *merge, GError **error)
{
    Join join = {.op = op, .merge = merge, .lower_fd = -1, .disk = disk_through(op, merge)};
    if (join.disk && !op_find_machine(op, error))
        return FALSE;
    if (op->machine)
        return merge_online(&join, error);
    if (!join_choose_way(&join, error) || !join_take_layers(&join, error))
        return FALSE;
    if (merge->kind == MERGE_DROP)
        return drop(&join, error);
    if (merge->kind == MERGE_UP)
        return join_up(&join, error);
    g_autofree char *low = g_strdup(join_lowest(&join)->path);
    guint mode = join_lowest(&join)->frozen ? join_lowest(&join)->mode & ~0222u : 0;
    if (join_down(&join, error))
        return TRUE;
    plan_abort(op->plan);
    if (mode != 0) /* it was given its write bits */
        (void)file_set_mode(low, mode, NULL);
    return FALSE;
}

/* The first merge that was not tried in vain. Its text is remembered in @tried. NULL: none is left. */
static Merge *next_merge(const Domain *domain, GHashTable *tried)
{
    g_autoptr(GPtrArray) merges = merge_choose(domain);
    for (guint i = 0; i < merges->len; i++) {
        char *what = merge_describe(merges->pdata[i]);
        if (g_hash_table_add(tried, what))
            return g_ptr_array_steal_index(merges, i);
    }
    return NULL;
}

/* Tags of deleted snapshots whose image somebody used: every commit tries again to drop them. */
static gboolean drop_tags(Op *op, gint64 changed, GError **error)
{
    Core *core = op->core;
    op_rename(op, "drop tags of deleted snapshots");
    op->domain->changed = changed; /* nothing that is shown does */
    if (!op_find_machine(op, error) || !plan_prepare(op->plan, op->cancel, error) ||
        !op_commit(op, error, NULL))
        return FALSE;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    const Domain *shown = core_domain_of(core, op->id);
    gboolean owes = shown && core_owes_tags(core, shown);
    if (owes)
        snap_set_error(error, EBUSY, "tags of deleted snapshots are in images that are in use");
    return !owes;
}

static gboolean drop_owed_tags(Op *op, GError **error)
{
    Core *core = op->core;
    g_mutex_lock(&core->lock);
    const Domain *shown = core_domain_of(core, op->id);
    gboolean owes = core_owes_tags(core, shown);
    gint64 changed = shown->changed;
    g_mutex_unlock(&core->lock);
    return !owes || drop_tags(op, changed, error);
}

gboolean merge_may_work_later(const GError *why)
{
    int code = why ? snap_errno(why) : 0;
    return code == EBUSY || code == ENOSPC;
}

gboolean merge_domain(Core *core, EngineId id, GHashTable *told, GCancellable *cancel, GError **error)
{
    g_autoptr(GError) blocked = NULL;
    g_autoptr(GHashTable) tried = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (;;) {
        g_autoptr(GError) why = NULL;
        g_autoptr(Op) op = op_begin_yielding(core, id, cancel, error, "merge");
        if (!op)
            return FALSE;
        g_autoptr(Merge) merge = next_merge(op->domain, tried);
        if (!merge) {
            (void)drop_owed_tags(op, blocked ? NULL : &blocked);
            break;
        }
        g_autofree char *what = merge_describe(merge);
        op_rename(op, "merge %s", what);
        if (carry_out(op, merge, &why))
            continue;
        if (snap_errno(why) == EINTR) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        char *line = g_strdup_printf("not merged: %s: %s", what, why->message);
        if (g_hash_table_add(told, line))
            core_log(core, op->job->domain, "%s", line);
        if (merge_may_work_later(why) && !blocked)
            blocked = g_steal_pointer(&why);
    }
    if (!blocked)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&blocked));
    return FALSE;
}
