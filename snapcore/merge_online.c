/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "merge_online.h"

#include <errno.h>
#include <string.h>

#include "chain.h"
#include "error.h"
#include "machines.h"
#include "merge_job.h"
#include "overlay.h"

typedef struct {
    Join *join;
    char *target;
    RunState before;
    gboolean paused; /* by us */
    Step *retired;   /* that unlinks the layer that was active; NULL: none */
} Online;

/* --- may it be, and how --- */

/* What a guest writes to such a disk goes elsewhere, or nowhere: QEMU does not have the layers as the store says. */
static gboolean check_disk(const DiskDef *disk, GError **error)
{
    if (!disk->readonly && !disk->transient)
        return TRUE;
    snap_set_error(error, EBUSY, "disk '%s' is %s: only when the machine is off", disk->target,
                   disk->readonly ? "read-only" : "transient");
    return FALSE;
}

/* States inside the top stand on what it stands on. */
static gboolean has_tags(const Join *join, gboolean *ret_has, GError **error)
{
    g_autoptr(ImageInfo) info = NULL;
    if (!chain_inspect(join->op->core, join->op->domain, join->merge->top, &info, error))
        return FALSE;
    *ret_has = info->tags->len > 0;
    return TRUE;
}

static gboolean choose_way(Join *join, GError **error)
{
    Merge *merge = join->merge;
    gboolean tags;
    if (!check_disk(join->disk, error) || !has_tags(join, &tags, error))
        return FALSE;
    merge->may_up = merge->may_up && !tags;
    if (merge_in_place(join->op->domain, merge))
        return join_choose_way(join, error) && join_check_layers(join, error);
    snap_set_error(error, EBUSY, "only when the machine is off: what stands on '%s' is not ours",
                   merge->top->path);
    return FALSE;
}

/* What the top is in the way of, between it and the active layer: its header gets another name. NULL: the top is active. */
static Layer *layer_above(const Online *online)
{
    const Domain *domain = online->join->op->domain;
    const Layer *top = online->join->merge->top;
    guint left = g_hash_table_size(domain->layers);
    for (Layer *layer = domain_active_layer(domain, domain_def_find_disk(domain->def, online->target));
         layer && left > 0; layer = domain_find_layer(domain, layer->backing), left--)
        if (g_strcmp0(layer->backing, top->path) == 0)
            return layer;
    return NULL;
}

static Layer *layer_below(const Join *join)
{
    return domain_find_layer(join->op->domain, join_lowest(join)->backing);
}

/* --- the journal --- */

/* Its header is written although it is frozen: the time that is recorded is another one afterwards. */
static void plan_freeze(Op *op, const char *path, guint mode)
{
    plan_after(op->plan, STEP_FREEZE, path, path)->mode = mode;
}

static gboolean plan_above(const Online *online, Layer *above, GError **error)
{
    const Join *join = online->join;
    Op *op = join->op;
    if (!join_plan_point(join, join_lowest(join), above, error))
        return FALSE;
    if (above->frozen) {
        plan_step(op->plan, STEP_OPEN, 0, online->target, above->path)->mode = above->mode;
        plan_freeze(op, above->path, above->mode);
    }
    above->backing_format = join_lowest(join)->format;
    g_ptr_array_add(op->unseen, above);
    plan_set_join(op->plan, &(PlanJoin){join_lowest(join)->path, above->path, above->format,
                                        join->merge->top->path, join_lowest(join)->path});
    return TRUE;
}

static void plan_active(const Online *online)
{
    const Join *join = online->join;
    const char *from = join->merge->top->path, *to = join_lowest(join)->path;
    plan_add_switch(join->op->plan, online->target, from, to);
    plan_set_join(join->op->plan, &(PlanJoin){.into = (char *)to});
}

/* The joined file has the role that the top had. */
static gboolean plan_down(Online *online, GError **error)
{
    const Join *join = online->join;
    Op *op = join->op;
    const Layer *low = join_lowest(join);
    Layer *top = join->merge->top, *above = layer_above(online);
    FileLook look;
    if (!file_look(low->path, &look, error))
        return FALSE;
    guint mode = low->frozen ? low->mode : look.mode;
    if (top->frozen)
        plan_freeze(op, low->path, mode);
    else if (!file_set_mode(low->path, mode, error))
        return FALSE;
    top->mode = mode;
    Step *unlinks = join_plan_unlink(op, top);
    if (above)
        return plan_above(online, above, error);
    online->retired = unlinks;
    plan_active(online);
    return TRUE;
}

static void plan_up(const Online *online)
{
    const Join *join = online->join;
    const Layer *below = layer_below(join);
    const Layer *top = join->merge->top;
    plan_set_join(join->op->plan,
                  &(PlanJoin){top->path, top->path, top->format,
                              ((Layer *)g_ptr_array_index(join->merge->run, join->merge->run->len - 1))->path,
                              below ? below->path : NULL});
}

static gboolean write_all(const Online *online, GError **error)
{
    const Join *join = online->join;
    Op *op = join->op;
    const Merge *merge = join->merge;
    g_autoptr(GPtrArray) gone = join_gone_paths(merge);
    g_autoptr(GHashTable) homes = join_homes(merge);
    join_replace_in_model(join);
    plan_set_machine(op->plan, &(PlanMachine){.running = online->before == RUN_RUNNING});
    return plan_prepare(op->plan, op->cancel, error) && overlay_record(op, error) &&
           merge_write_documents(op, gone, merge->top, homes, error);
}

/* Whoever writes it from now on has started a guest from it by hand, when the daemon and QEMU were dead: then it is kept. */
static gboolean note_stamp(const Online *online, GError **error)
{
    FileLook look;
    if (!online->retired)
        return TRUE;
    if (!file_look(online->retired->path, &look, error))
        return FALSE;
    online->retired->stamp = look.stamp;
    return TRUE;
}

/* All is moved. That the machine stands is in the journal before it does, so that a crash does not leave it so. */
static gboolean before_end(gpointer user, GError **error)
{
    Online *online = user;
    Join *join = online->join;
    Machine *machine = join->op->machine;
    if (!join_check_strangers(join, error) || !machine->ops->run_state(machine, &online->before, error))
        return FALSE;
    if (join->merge->kind == MERGE_UP)
        plan_up(online);
    else if (!plan_down(online, error))
        return FALSE;
    join_plan_unlink_run(join);
    if (!write_all(online, error))
        return FALSE;
    online->paused = TRUE;
    return machine->ops->pause(machine, error) && note_stamp(online, error) && op_ready(join->op, error) &&
           plan_ask(join->op->plan, error);
}

/* --- the job --- */

/* The images that QEMU has no use for afterwards, those above first. The strings are the layers'. */
static GPtrArray *images_gone(const Merge *merge)
{
    GPtrArray *gone = g_ptr_array_new_with_free_func(g_free);
    gboolean down = merge->kind == MERGE_DOWN;
    if (down)
        g_ptr_array_add(gone, g_strdup(merge->top->path));
    for (guint i = merge->run->len; i-- > (down ? 1 : 0);)
        g_ptr_array_add(gone, g_strdup(((Layer *)merge->run->pdata[i])->path));
    return gone;
}

static guint64 bytes_to_move(const Merge *merge)
{
    gboolean down = merge->kind == MERGE_DOWN;
    guint64 bytes = down ? join_bytes_of(merge->top) : 0;
    for (guint i = down ? 1 : 0; i < merge->run->len; i++)
        bytes += join_bytes_of(merge->run->pdata[i]);
    return bytes;
}

static gboolean run_job(Online *online, GError **error)
{
    Join *join = online->join;
    const Op *op = join->op;
    const Merge *merge = join->merge;
    const BackendProgress progress = {join_tell, join};
    gboolean up = merge->kind == MERGE_UP;
    const Layer *base = up ? layer_below(join) : join_lowest(join);
    const Layer *header = up ? merge->top : layer_above(online);
    g_autoptr(GPtrArray) gone = images_gone(merge);
    g_autofree char *top_path = g_strdup(merge->top->path), *base_path = g_strdup(base ? base->path : NULL);
    g_autofree char *name = base && header ? overlay_backing_name(op->domain, header->path, base) : NULL;
    const MachineMerge job = {.target = online->target,
                              .up = up,
                              .top = top_path,
                              .base = base_path,
                              .backing_name = name,
                              .gone = gone,
                              .before_end = before_end,
                              .user = online,
                              .progress = &progress};
    join->total = join->part = bytes_to_move(merge);
    join_tell(join, 0);
    return op->machine->ops->merge(op->machine, &job, op->cancel, error) &&
           machines_sync_join(op->plan, error);
}

/* The chain may have changed all the same: what QEMU and the headers say counts. */
static gboolean has_happened(Op *op, GError **why)
{
    g_autoptr(GError) unknown = NULL;
    gboolean happened = FALSE;
    if (plan_asked(op->plan) && !op_ask_again(op, &happened, &unknown))
        g_prefix_error(why, "whether the layers are joined is not known (%s): ", unknown->message);
    return happened;
}

/* Machines end when they like: then the layers are joined without it, later. */
static void make_busy(GError *why)
{
    if (why->domain == SNAP_ERROR &&
        (why->code == ECONNRESET || why->code == EPROTO || why->code == EINPROGRESS || why->code == ENODEV))
        why->code = EBUSY;
}

static gboolean join_and_commit(Online *online, GError **error)
{
    Op *op = online->join->op;
    g_autofree char *what = merge_describe(online->join->merge);
    GError *why = NULL;
    op_rename(op, "merge %s", what);
    if (run_job(online, &why) || has_happened(op, &why)) {
        g_clear_error(&why);
        return op_commit(op, error, "merge: %s", what);
    }
    make_busy(why);
    g_propagate_error(error, why);
    return FALSE;
}

/* As long as only the machine knows which image it writes, it must not write it: if it died nobody would know. */
static gboolean may_go_on(const Plan *plan)
{
    return !plan_asked(plan) || plan_join(plan)->path;
}

static void go_on(const Online *online)
{
    Op *op = online->join->op;
    g_autoptr(GError) why = NULL;
    if (op->machine && may_go_on(op->plan) && online->paused && online->before == RUN_RUNNING &&
        !op->machine->ops->resume(op->machine, &why))
        core_log(op->core, op->job->domain, "the machine does not go on: %s", why->message);
}

gboolean merge_online(Join *join, GError **error)
{
    g_autofree char *target = g_strdup(join->disk->target);
    Online online = {.join = join, .target = target};
    if (!choose_way(join, error))
        return FALSE;
    g_autofree char *low = g_strdup(join_lowest(join)->path);
    guint mode = join_lowest(join)->frozen ? join_lowest(join)->mode & ~0222u : 0;
    gboolean down = join->merge->kind == MERGE_DOWN;
    gboolean ok = (!down || join_open_lowest(join, error)) && join_and_commit(&online, error);
    go_on(&online);
    if (!ok)
        plan_abort(join->op->plan);
    if (!ok && down && mode != 0 && !plan_asked(join->op->plan)) /* it was given its write bits */
        (void)file_set_mode(low, mode, NULL);
    return ok;
}
