/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Going back to a snapshot: what becomes of the disks, which are those of a domain that is off by then (comeback.h).
 *
 * External state: a new overlay on the frozen layer; no old layer is touched. Internal state: applied in place, if the
 * file holding it is nobody's frozen layer; the state before is kept in a tag of its own until the commit, so that a
 * failure on the second disk takes the first one back. Otherwise the state is copied out into a new layer.
 */
#include <errno.h>
#include <string.h>

#include "admit.h"
#include "after.h"
#include "chain.h"
#include "comeback.h"
#include "delete.h"
#include "error.h"
#include "overlay.h"
#include "undo.h"

/* What of the new definition disk @disk shall be pointed at; the layer is in op->domain. */
typedef struct {
    DiskDef *disk;
    Layer *layer;
} Target;

typedef struct {
    Op *op;
    const Snapshot *to; /* a snapshot, or what the last revert threw away */
    const char *name;   /* what new layers are named after */
    gboolean undoing;
    gboolean delete_children;
    Snapshot *undo; /* what is thrown away now; NULL: nothing is to be kept */
    DomainDef *def; /* the definition that comes */
    Comeback comeback;
    GArray *targets; /* of Target */
} Revert;

/* What disk @target's guest wrote until now waits for an undo. */
static void keep_active(const Revert *revert, const char *target)
{
    const Domain *domain = revert->op->domain;
    const DiskDef *now = domain_def_find_disk(domain->def, target);
    Layer *layer = now ? domain_active_layer(domain, now) : NULL;
    if (revert->undo && layer)
        snapshot_add_disk(revert->undo, target, layer, NULL);
}

static gboolean plan_overlay(Revert *revert, const StateDisk *state, Layer **ret_layer, GError **error)
{
    Op *op = revert->op;
    g_autoptr(ImageInfo) info = NULL;
    g_autofree char *stem = NULL;
    if (!chain_inspect(op->core, op->domain, state->layer, &info, error) || !op_hold(op, state->layer, error))
        return FALSE;
    g_autofree char *path = overlay_name(op, state->layer, revert->name, &stem, error);
    return path && overlay_freeze(op, state->target, state->layer, state->layer->home, error) &&
           overlay_plan(op, state->target, state->layer, path, stem, FORMAT_QCOW2, info->virtual_size,
                        ret_layer, error);
}

/* A state that is a layer's own content: an overlay on it; what was active before, and nothing else since, as it is. */
static gboolean plan_external(Revert *revert, const StateDisk *state, Layer **ret_layer, GError **error)
{
    Op *op = revert->op;
    if (!revert->undoing || state->layer->frozen || domain_layer_is_stood_on(op->domain, state->layer)) {
        if (!plan_overlay(revert, state, ret_layer, error))
            return FALSE;
        keep_active(revert, state->target);
        return TRUE;
    }
    g_autoptr(ImageInfo) info = NULL;
    if (!op_take_image(op, state->layer->path, error) ||
        !chain_inspect(op->core, op->domain, state->layer, &info, error))
        return FALSE;
    *ret_layer = state->layer;
    return TRUE;
}

/*
 * May the state be applied to the file that holds it? Not if anything needs that file's own content: another disk's
 * image it may be that a document says that the state is in, or a definition that came later. And only if the domain
 * writes that file now: of a disk that was taken out, what it has is the user's, and undo would not bring it back.
 */
static gboolean can_apply(Op *op, const StateDisk *state)
{
    const Layer *layer = state->layer;
    return domain_layer_is_active(op->domain, layer) && !layer->frozen &&
           !domain_layer_is_stood_on(op->domain, layer) && !op_other_disk(op, layer, state->target) &&
           !op_is_shared(op, layer) && !chain_has_clone(op->core, op->domain, layer);
}

static const ImageTag *find_tag(const ImageInfo *info, const StateDisk *state, GError **error)
{
    const ImageTag *found = NULL;
    for (guint i = 0; i < info->tags->len; i++) {
        const ImageTag *tag = info->tags->pdata[i];
        if (strcmp(tag->name, state->tag) != 0)
            continue;
        if (found) {
            snap_set_error(error, EIO, "'%s' has two internal snapshots '%s'", state->layer->path,
                           state->tag);
            return NULL;
        }
        found = tag;
    }
    if (!found)
        snap_set_error(error, EIO, "'%s' has no internal snapshot '%s' any more", state->layer->path,
                       state->tag);
    return found;
}

/*
 * The state before is kept in a hidden tag: to take the step back, and then for undo, unless that is not wanted. Where
 * the guest wrote another file until now, it is that one that waits for an undo.
 */
static void plan_apply(Revert *revert, const StateDisk *state, const ImageInfo *info)
{
    Op *op = revert->op;
    const DiskDef *now = domain_def_find_disk(op->domain->def, state->target);
    gboolean written = now && domain_active_layer(op->domain, now) == state->layer;
    g_autofree char *uuid = g_uuid_string_random();
    g_autofree char *want = g_strconcat("domsnapfs-", uuid, NULL);
    g_autofree char *keep = overlay_tag(info, want);
    StepKind kind = revert->undo && written ? STEP_TAG : STEP_KEEP;
    op_add_tag(op, kind, state->target, state->layer, keep);
    Step *step = plan_step(op->plan, STEP_APPLY, 1, state->target, state->layer->path);
    step->tag = g_strdup(state->tag);
    step->keep = g_strdup(keep);
    if (!written)
        keep_active(revert, state->target);
    else if (revert->undo)
        snapshot_add_disk(revert->undo, state->target, state->layer, keep);
}

static gboolean plan_internal(Revert *revert, const StateDisk *state, Layer **ret_layer, GError **error)
{
    Op *op = revert->op;
    g_autoptr(ImageInfo) info = NULL;
    if (!chain_inspect(op->core, op->domain, state->layer, &info, error))
        return FALSE;
    const ImageTag *tag = find_tag(info, state, error);
    if (!tag)
        return FALSE;
    if (!op_take_image(op, state->layer->path, error))
        return FALSE;
    if (can_apply(op, state)) {
        if (info->n_bitmaps > 0) {
            snap_set_error(error, EOPNOTSUPP,
                           "'%s' has persistent dirty bitmaps: its internal snapshots cannot be "
                           "applied; remove them with qemu-img bitmap --remove",
                           state->layer->path);
            return FALSE;
        }
        plan_apply(revert, state, info);
        *ret_layer = state->layer;
        return TRUE;
    }
    g_autofree char *stem = NULL;
    g_autofree char *path = overlay_name(op, state->layer, revert->name, &stem, error);
    if (!path || !op_hold(op, state->layer, error) ||
        !overlay_plan_copy(op, state->target, state->layer, state->tag, path, stem, info->virtual_size,
                           ret_layer, error))
        return FALSE;
    if (tag->vm_state_size > 0) /* the copy has the memory, too, until it has been loaded */
        op_drop_tag(op, state->target, *ret_layer, state->tag);
    keep_active(revert, state->target);
    return TRUE;
}

/* Does the definition say it already: this image, and of what lies below it nothing else than @backing? */
static gboolean is_pointed_at(const DiskDef *disk, const Layer *layer, const GPtrArray *backing)
{
    if (g_strcmp0(disk->source, layer->path) != 0 || disk->format != layer->format ||
        disk->backing->len > backing->len)
        return FALSE;
    for (guint i = 0; i < disk->backing->len; i++)
        if (g_strcmp0(((BackingDef *)disk->backing->pdata[i])->path,
                      ((BackingDef *)backing->pdata[i])->path) != 0)
            return FALSE;
    return TRUE;
}

/* Point @disk of the new definition at @layer. */
static void point_disk(const Domain *domain, DomainDef *def, DiskDef *disk, const Layer *layer)
{
    g_autoptr(GPtrArray) backing = domain_backing_list(domain, domain_find_layer(domain, layer->backing));
    if (is_pointed_at(disk, layer, backing))
        return;
    domain_def_set_source(def, disk, layer->type, layer->path, layer->format, backing);
}

/*
 * A disk that did not take part and has left the domain since comes back with the image it had then. If states stand
 * on that by now, the guest must not write it: an overlay, or a refusal where they are another domain's.
 */
static gboolean plan_absent(Revert *revert, DiskDef *disk, Layer **ret_layer, GError **error)
{
    Op *op = revert->op;
    Core *core = op->core;
    if ((disk->type != DISK_FILE && disk->type != DISK_BLOCK) || !disk->source)
        return TRUE;
    if (!admit_path(core, revert->def, disk, error) || !op_take_image(op, disk->source, error) ||
        (!disk->readonly && !admit_writing(core, op->domain->object.id, FALSE, disk->source, error)) ||
        !chain_record(core, op->domain, disk, error))
        return FALSE;
    Layer *layer = domain_find_layer(op->domain, disk->source);
    if (!admit_content(layer, error))
        return FALSE;
    if (!disk->readonly && (layer->frozen || domain_layer_is_needed(op->domain, layer))) {
        const StateDisk state = {.target = disk->target, .layer = layer};
        return plan_overlay(revert, &state, ret_layer, error);
    }
    *ret_layer = layer;
    return TRUE;
}

static const Layer *local_layer(const Domain *domain, const DiskDef *disk)
{
    const Layer *layer = domain_active_layer(domain, disk);
    return layer && layer_is_local(layer) ? layer : NULL;
}

/* One disk of the definition that comes; a disk that did not take part stays as it is now. */
static gboolean plan_disk(Revert *revert, DiskDef *disk, GError **error)
{
    const Domain *domain = revert->op->domain;
    const StateDisk *state = snapshot_find_disk(revert->to, disk->target);
    const DiskDef *now = domain_def_find_disk(domain->def, disk->target);
    Target target = {.disk = disk};
    gboolean ok = TRUE;
    if (state && state->tag)
        ok = plan_internal(revert, state, &target.layer, error);
    else if (state)
        ok = plan_external(revert, state, &target.layer, error);
    else if (now && !local_layer(domain, now))
        domain_def_take_source(revert->def, disk, now); /* empty by now, or not a file */
    else if (now)
        target.layer = domain_active_layer(domain, now);
    else
        ok = plan_absent(revert, disk, &target.layer, error);
    if (!ok) {
        g_prefix_error(error, "disk '%s': ", disk->target);
        return FALSE;
    }
    if (target.layer)
        g_array_append_val(revert->targets, target);
    return TRUE;
}

/* The definition of then, under today's name and uuid (DESIGN 3): of a machine that ran, what was defined beside it. */
static DomainDef *definition_of(Op *op, SnapshotDef *def, gboolean force, GError **error)
{
    if (!def->domain) {
        if (force)
            return domain_def_copy(op->domain->def);
        snap_set_error(error, EPERM,
                       "the snapshot does not say what the domain was like: use --force to keep the "
                       "present definition");
        return NULL;
    }
    g_autoptr(DomainDef) domain = def->inactive_domain ? domain_def_parse_node(def->inactive_domain, error)
                                                       : domain_def_copy(def->domain);
    if (!domain)
        return NULL;
    domain_def_set_name(domain, op->domain->name);
    domain_def_set_uuid(domain, op->domain->def->uuid);
    return g_steal_pointer(&domain);
}

/* For recovery: which images the machine that comes has where the one of now has others. */
static void tell_switches(Revert *revert)
{
    const Domain *domain = revert->op->domain;
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *now = domain->def->disks->pdata[i];
        const Layer *layer = local_layer(domain, now);
        const Layer *then = NULL;
        for (guint j = 0; j < revert->targets->len; j++) {
            const Target *target = &g_array_index(revert->targets, Target, j);
            if (strcmp(target->disk->target, now->target) == 0)
                then = target->layer;
        }
        if (layer && layer != then)
            plan_add_switch(revert->op->plan, now->target, layer->path, then ? then->path : NULL);
    }
}

/* Are there steps that change what the machine of now may have open? */
static gboolean is_in_its_way(const Plan *plan)
{
    for (guint i = 0; i < plan_steps(plan)->len; i++) {
        const Step *step = plan_steps(plan)->pdata[i];
        if (step->kind != STEP_OVERLAY && step->kind != STEP_COPY_OUT)
            return TRUE;
    }
    return plan_switches(plan)->len == 0;
}

/* What needs no machine to be off is done first: if it fails, that has not been ended. */
static gboolean prepare(Revert *revert, GError **error)
{
    Op *op = revert->op;
    tell_switches(revert);
    gboolean first = is_in_its_way(op->plan);
    return (!first || comeback_end(&revert->comeback, error)) && plan_prepare(op->plan, op->cancel, error) &&
           (first || comeback_end(&revert->comeback, error)) && overlay_record(op, error) &&
           (revert->undoing || undo_record(op, error));
}

/* All disks planned: do it, and let the definition and what is current be those of then. */
static gboolean carry_out(Revert *revert, Snapshot *current, GError **error)
{
    Op *op = revert->op;
    for (guint i = 0; i < revert->def->disks->len; i++)
        if (!plan_disk(revert, revert->def->disks->pdata[i], error))
            return FALSE;
    if (!prepare(revert, error))
        return FALSE;
    for (guint i = 0; i < revert->targets->len; i++) {
        const Target *target = &g_array_index(revert->targets, Target, i);
        point_disk(op->domain, revert->def, target->disk, target->layer);
    }
    g_autoptr(DomainDef) before = g_steal_pointer(&op->domain->def);
    op->domain->def = g_steal_pointer(&revert->def);
    op_note_detached(op, before, FALSE);
    Snapshot *was_current = op->domain->current;
    op->domain->current = current;
    if (was_current != current && !after_forget_revert(op, was_current, error))
        return FALSE;
    if (revert->undoing)
        undo_forget(op);
    if (revert->delete_children && !delete_names(op, current, DELETE_CHILDREN_ONLY, error))
        return FALSE;
    op_prune(op);
    if (!after_write(op, current, error) || !op_write_definition(op, error))
        return FALSE;
    op_write_sidecar(op);
    for (guint i = 0; i < op->unseen->len; i++) /* a layer that was missing when its snapshot was redefined */
        if (((Layer *)op->unseen->pdata[i])->home)
            op_write_home(op, op->unseen->pdata[i]);
    return TRUE;
}

static void revert_clear(Revert *revert)
{
    domain_def_free(revert->def);
    comeback_clear(&revert->comeback);
    g_array_unref(revert->targets);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Revert, revert_clear)

/* @source NULL: it goes. After what is copied from it. */
static void put_nvram(Op *op, const char *path, char *source)
{
    FileLook look;
    Step *step = plan_step(op->plan, STEP_PUT, 1, "nvram", path);
    step->source = source;
    step->like = g_strdup(source ? source : path);
    step->keep = step_temp_name(path);
    step->mode = file_look(path, &look, NULL) ? look.mode : 0600;
}

/* The NVRAM comes back as it was; with reset_nvram it goes, and the next start makes it anew from the template. */
static void plan_nvram(const Revert *revert, const RevertRequest *request)
{
    Op *op = revert->op;
    const char *path = op->domain->def->nvram;
    const SideFile *then = &revert->to->nvram;
    if (!path || (!request->reset_nvram && !then->path))
        return;
    if (revert->undo)
        undo_keep_nvram(op, revert->undo, path);
    put_nvram(op, path,
              request->reset_nvram ? NULL : store_side_file(op->core->store, op->domain->name, then));
}

/* It failed; if there was a machine, it does not run any more. */
static gboolean lost(const Revert *revert, GError **error)
{
    if (revert->comeback.ended)
        g_prefix_error(error, "the machine was ended, its disks are as they were: ");
    return FALSE;
}

static gboolean revert_to(Op *op, const RevertRequest *request, GError **error)
{
    Snapshot *snapshot = domain_find_snapshot(op->domain, request->name);
    g_auto(Revert) revert = {.op = op,
                             .to = snapshot,
                             .name = request->name,
                             .delete_children = request->delete_children,
                             .targets = g_array_new(FALSE, TRUE, sizeof(Target))};
    if (!snapshot) {
        snap_set_error(error, ENOENT, "there is no such snapshot");
        return FALSE;
    }
    g_autoptr(SnapshotDef) def =
        store_read_snapshot(op->core->store, op->domain->name, snapshot->name, error);
    if (!def || !(revert.def = definition_of(op, def, request->force, error)) ||
        !op_find_machine(op, error) ||
        !comeback_check(&revert.comeback, op, snapshot, def, revert.def, request, error))
        return FALSE;
    if (request->discard)
        undo_forget(op);
    else if (!(revert.undo = undo_begin(op, error)))
        return FALSE;
    plan_nvram(&revert, request);
    if (carry_out(&revert, snapshot, error) && comeback_begin(&revert.comeback, error) &&
        op_commit(op, error, "revert to '%s'%s%s", request->name,
                  request->delete_children ? ", its descendants deleted" : "",
                  request->discard ? ", nothing kept" : ""))
        return comeback_run(&revert.comeback, error);
    return lost(&revert, error);
}

/* What was memory is gone: it comes back as a machine that is off, or boots. */
static gboolean revert_undo(Op *op, const RevertRequest *request, GError **error)
{
    g_auto(Revert) revert = {.op = op,
                             .to = op->domain->undo,
                             .name = "undo",
                             .undoing = TRUE,
                             .targets = g_array_new(FALSE, TRUE, sizeof(Target))};
    if (!(revert.def = undo_definition(op, error)) || !op_find_machine(op, error) ||
        !comeback_check(&revert.comeback, op, op->domain->undo, NULL, revert.def, request, error))
        return FALSE;
    if (revert.def->nvram && revert.to->nvram.path)
        put_nvram(op, revert.def->nvram,
                  store_side_file(op->core->store, op->domain->name, &revert.to->nvram));
    if (carry_out(&revert, op->domain->undo->parent, error) && comeback_begin(&revert.comeback, error) &&
        op_commit(op, error, "revert undone"))
        return comeback_run(&revert.comeback, error);
    return lost(&revert, error);
}

gboolean core_revert(Engine *engine, EngineId domain, const RevertRequest *request, GCancellable *cancel,
                     GError **error)
{
    g_autoptr(Op) op = request->undo
                           ? op_begin((Core *)engine, domain, cancel, error, "undo the last revert")
                           : op_begin((Core *)engine, domain, cancel, error, "revert to '%s'", request->name);
    return op && (request->undo ? revert_undo(op, request, error) : revert_to(op, request, error));
}
