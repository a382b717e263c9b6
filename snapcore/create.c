/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking a snapshot of a domain that is off: request -> rules -> aligned disks -> plan -> commit. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "admit.h"
#include "after.h"
#include "align.h"
#include "chain.h"
#include "error.h"
#include "machines.h"
#include "names.h"
#include "overlay.h"
#include "overlay_target.h"
#include "undo.h"

/* More internal snapshots than this make every operation on them slow (facts/qemu.md A5): then external is the default. */
#define CROWDED 64

/* What is known of one disk of the domain while its snapshot is being taken. */
typedef struct {
    Layer *layer;    /* active; NULL: no local image */
    ImageInfo *info; /* NULL: could not be read, and error says why */
    GError *error;
} DiskState;

static void disk_state_clear(gpointer data)
{
    DiskState *state = data;
    if (state->info)
        image_info_free(state->info);
    g_clear_error(&state->error);
}

/* The snapshot that is being taken. */
typedef struct {
    Op *op;
    const CreateRequest *request;
    gint64 now;
    char *name;
    Snapshot *snapshot; /* NULL: --no-metadata, nothing is recorded */
    GArray *disks;      /* of AlignedDisk */
    GArray *states;     /* of DiskState */
    GString *done;      /* for the log */
} Creation;

static void creation_clear(Creation *creation)
{
    g_free(creation->name);
    g_clear_pointer(&creation->disks, g_array_unref);
    g_clear_pointer(&creation->states, g_array_unref);
    g_string_free(creation->done, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Creation, creation_clear)

/* Look at every disk's image; what is wrong with one matters only if it takes part. */
static GArray *look_at_disks(Op *op, DiskAbility *abilities)
{
    const GPtrArray *disks = op->domain->def->disks;
    GArray *states = g_array_new(FALSE, TRUE, sizeof(DiskState));
    g_array_set_clear_func(states, disk_state_clear);
    for (guint i = 0; i < disks->len; i++) {
        DiskState state = {.layer = domain_active_layer(op->domain, disks->pdata[i])};
        DiskAbility *ability = &abilities[i];
        if (state.layer && layer_is_local(state.layer))
            (void)chain_inspect(op->core, op->domain, state.layer, &state.info, &state.error);
        g_array_append_val(states, state);
        ability->code = state.error ? snap_errno(state.error) : EOPNOTSUPP;
        if (state.error)
            ability->why_not = state.error->message;
        else if (!state.info)
            ability->why_not = "it is on another machine";
        else if (state.layer->format != FORMAT_QCOW2)
            ability->why_not = "only qcow2 images can hold them";
        else if (state.info->n_bitmaps > 0)
            ability->why_not = "the image has persistent dirty bitmaps, it could never be reverted";
        else
            ability->can_internal = TRUE;
        ability->crowded = state.info && state.info->tags->len >= CROWDED;
    }
    return states;
}

static RuleAsk ask_memory(const CreateRequest *request)
{
    switch (request->memory) {
    case MODE_NO:
        return ASK_NO;
    case MODE_INTERNAL:
        return ASK_INTERNAL;
    case MODE_EXTERNAL:
        return ASK_EXTERNAL;
    default:
        return ASK_OMIT;
    }
}

static gboolean any_external(const GArray *disks)
{
    for (guint i = 0; i < disks->len; i++)
        if (g_array_index(disks, AlignedDisk, i).mode == MODE_EXTERNAL)
            return TRUE;
    return FALSE;
}

/* The combination table, for each kind of disk in the request. */
static gboolean check_rules(const CreateRequest *request, const GArray *disks, GError **error)
{
    guint asks = align_asks(disks);
    const Rule *rule;
    for (guint ask = ASK_OMIT; ask <= ASK_EXTERNAL; ask++)
        if ((asks & 1u << ask) &&
            !rules_check(FALSE, ask_memory(request), ask, request->disk_only, &rule, error))
            return FALSE;
    if (request->reuse_external && !any_external(disks))
        snap_set_error(error, EINVAL,
                       "reuse-external: no disk is external (--diskspec DISK,snapshot=external)");
    else if (request->quiesce && !request->disk_only)
        snap_set_error(error, EINVAL,
                       "quiesce goes with disk-only: a memory state needs no frozen file systems");
    else if (request->live)
        snap_set_error(error, EOPNOTSUPP, "live needs a running domain and external memory");
    else
        return TRUE; /* of a domain that is off there is nothing to freeze, and nothing to halt */
    return FALSE;
}

/* --- one disk --- */

/* The tag: like the snapshot's name, or, when nothing else will say it, exactly what was asked for. */
static char *choose_tag(const Creation *creation, const ImageInfo *info, GError **error)
{
    gboolean exact = !creation->snapshot && creation->request->name && *creation->request->name;
    g_autofree char *tag = overlay_tag(info, creation->name);
    if (!exact || strcmp(tag, creation->name) == 0)
        return g_steal_pointer(&tag);
    if (strspn(creation->name, "0123456789") == strlen(creation->name))
        snap_set_error(error, EINVAL, "a tag of digits only would be taken for an id: choose another name");
    else
        snap_set_error(error, EEXIST, "the image has an internal snapshot '%s' already", creation->name);
    return NULL;
}

static gboolean plan_internal(Creation *creation, const AlignedDisk *disk, DiskState *state, GError **error)
{
    const char *target = disk->disk->target;
    g_autofree char *tag = choose_tag(creation, state->info, error);
    if (!tag)
        return FALSE;
    Step *step = plan_step(creation->op->plan, STEP_TAG, 0, target, state->layer->path);
    step->tag = g_strdup(tag);
    if (creation->snapshot)
        snapshot_add_disk(creation->snapshot, target, state->layer, tag);
    else
        domain_release_layer(creation->op->domain, state->layer);
    g_string_append_printf(creation->done, "%s %s internal as %s", creation->done->len ? "," : ":", target,
                           tag);
    return TRUE;
}

static gboolean plan_external(Creation *creation, const AlignedDisk *disk, DiskState *state, GError **error)
{
    Op *op = creation->op;
    const char *target = disk->disk->target;
    Layer *below = state->layer, *overlay;
    if (!op_hold(op, below, error) ||
        !overlay_target_plan(op, disk, below, state->info, creation->name, &overlay, error) ||
        !overlay_freeze(op, target, below, creation->snapshot, error))
        return FALSE;
    if (creation->snapshot)
        snapshot_add_disk(creation->snapshot, target, below, NULL);
    else
        domain_release_layer(op->domain, below);
    overlay_target_point(op, disk, overlay);
    g_string_append_printf(creation->done, "%s %s external", creation->done->len ? "," : ":", target);
    if (!creation->snapshot)
        g_string_append_printf(creation->done, ", what was is '%s'", below->path);
    return TRUE;
}

static gboolean plan_disk(Creation *creation, const AlignedDisk *disk, DiskState *state, GError **error)
{
    gboolean ok;
    if (disk->mode != MODE_INTERNAL && disk->mode != MODE_EXTERNAL)
        return TRUE;
    if (state->error) {
        g_propagate_error(error, g_steal_pointer(&state->error));
        ok = FALSE;
    } else {
        ok = op_take_image(creation->op, state->layer->path, error) &&
             op_require_sole(creation->op, disk->disk->target, state->layer, error) &&
             admit_state(creation->op->domain, state->layer, FALSE, error) &&
             (disk->mode == MODE_INTERNAL ? plan_internal(creation, disk, state, error)
                                          : plan_external(creation, disk, state, error));
    }
    if (!ok)
        g_prefix_error(error, "disk '%s': ", disk->disk->target);
    return ok;
}

/* --- the snapshot --- */

/* The document: every disk of the domain, and the domain as it was just before. */
static SnapshotDef *describe(const Creation *creation, DomainDef *before)
{
    const Snapshot *snapshot = creation->snapshot;
    SnapshotDef *def = snapshot_def_new();
    def->description = g_strdup(snapshot->description);
    def->state = snapshot->state;
    def->creation_time = snapshot->time;
    def->memory = snapshot->memory;
    def->domain = before;
    for (guint i = 0; i < creation->disks->len; i++) {
        const AlignedDisk *aligned = &g_array_index(creation->disks, AlignedDisk, i);
        SnapshotDisk *disk = snapshot_disk_new(aligned->disk->target, aligned->mode);
        if (aligned->mode == MODE_EXTERNAL) {
            const DiskDef *now = domain_def_find_disk(creation->op->domain->def, aligned->disk->target);
            disk->format = aligned->format;
            snapshot_disk_set_source(disk, now->type, now->source);
            if (aligned->request)
                snapshot_disk_take_image(disk, aligned->request);
        }
        g_ptr_array_add(def->disks, disk);
    }
    return def;
}

/* Without metadata a name is no more than a tag, or a part of a file name: only the images set limits. */
static gboolean check_tag(const char *name, GError **error)
{
    if (strlen(name) > NAME_MAX_BYTES)
        snap_set_error(error, ENAMETOOLONG, "the name has more than %d bytes", NAME_MAX_BYTES);
    else if (!g_utf8_validate(name, -1, NULL))
        snap_set_error(error, EILSEQ, "the name is not UTF-8");
    else
        return TRUE;
    return FALSE;
}

/* The name asked for, or the time, made unique: two unnamed ones in one second both succeed (DESIGN 3). */
static char *choose_name(const Domain *domain, const CreateRequest *request, gint64 now, GError **error)
{
    if (request->name && *request->name) {
        if (!(request->no_metadata ? check_tag(request->name, error)
                                   : name_check_new(request->name, NAME_SNAPSHOT, error)))
            return NULL;
        if (request->no_metadata || !domain_find_snapshot(domain, request->name))
            return g_strdup(request->name);
        snap_set_error(error, EEXIST, "there is a snapshot of that name already");
        return NULL;
    }
    char *name = g_strdup_printf("%" G_GINT64_FORMAT, now);
    for (guint i = 1; domain_find_snapshot(domain, name); i++) {
        g_free(name);
        name = g_strdup_printf("%" G_GINT64_FORMAT "-%u", now, i);
    }
    return name;
}

static gboolean add_snapshot(Creation *creation, GError **error)
{
    const CreateRequest *request = creation->request;
    Domain *domain = creation->op->domain;
    creation->name = choose_name(domain, request, creation->now, error);
    if (!creation->name)
        return FALSE;
    if (request->description && !xml_text_valid(request->description)) {
        snap_set_error(error, EILSEQ, "the description has characters that XML cannot hold");
        return FALSE;
    }
    if (request->no_metadata)
        return TRUE;
    Snapshot *snapshot = domain_add_snapshot(domain, creation->name, creation->now);
    snapshot->description =
        request->description && *request->description ? g_strdup(request->description) : NULL;
    snapshot->state = STATE_SHUTOFF;
    snapshot->memory = MODE_NO;
    snapshot->parent = domain->current;
    creation->snapshot = snapshot;
    return TRUE;
}

/* How the store changes. @before: the definition as it was, taken over. */
static gboolean write_all(Creation *creation, DomainDef *before, GError **error)
{
    Op *op = creation->op;
    undo_forget(op);
    if (creation->snapshot) {
        g_autoptr(SnapshotDef) def = describe(creation, before);
        op->domain->current = creation->snapshot;
        if (!after_forget_revert(op, creation->snapshot->parent, error) ||
            !op_write_snapshot(op, creation->snapshot, def, error))
            return FALSE;
    } else {
        domain_def_free(before);
        op_write_released(op);
    }
    if (!op_write_definition(op, error))
        return FALSE;
    op_write_sidecar(op);
    return TRUE;
}

static gboolean commit(Creation *creation, GError **error)
{
    if (creation->op->domain->def->nvram)
        g_string_append(creation->done, "; NVRAM is not captured");
    return op_commit(creation->op, error, "create '%s'%s%s", creation->name,
                     creation->snapshot ? "" : " without metadata", creation->done->str);
}

static gboolean create(Creation *creation, EngineId *ret_snapshot, GError **error)
{
    Op *op = creation->op;
    const CreateRequest *request = creation->request;
    g_autoptr(DomainDef) before = domain_def_copy(op->domain->def);
    g_autofree DiskAbility *abilities = g_new0(DiskAbility, before->disks->len + 1);

    if (!add_snapshot(creation, error) || !op_require_off(op, error))
        return FALSE;
    creation->states = look_at_disks(op, abilities);
    creation->disks =
        align_disks(before, request, abilities, request->plain ? op->core->snapshot : MODE_DEFAULT, error);
    if (!creation->disks || !check_rules(request, creation->disks, error))
        return FALSE;
    for (guint i = 0; i < creation->disks->len; i++)
        if (!plan_disk(creation, &g_array_index(creation->disks, AlignedDisk, i),
                       &g_array_index(creation->states, DiskState, i), error))
            return FALSE;
    if (!plan_prepare(op->plan, op->cancel, error) || !overlay_record(op, error))
        return FALSE;

    EngineId id = creation->snapshot ? creation->snapshot->object.id : 0;
    if (!write_all(creation, g_steal_pointer(&before), error) || !commit(creation, error))
        return FALSE;
    if (ret_snapshot)
        *ret_snapshot = id;
    return TRUE;
}

gboolean core_create(Engine *engine, EngineId domain, const CreateRequest *request, GCancellable *cancel,
                     EngineId *ret_snapshot, GError **error)
{
    const char *name = request->name && *request->name ? request->name : "a snapshot";
    g_autoptr(Op) op = op_begin((Core *)engine, domain, cancel, error, "create '%s'", name);
    g_auto(Creation) creation = {.op = op, .request = request, .now = time(NULL), .done = g_string_new(NULL)};
    return op && create(&creation, ret_snapshot, error);
}
