/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking a snapshot of a domain that is off: request -> rules -> aligned disks -> plan -> commit. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "admit.h"
#include "align.h"
#include "chain.h"
#include "error.h"
#include "names.h"
#include "overlay.h"

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

/* Look at every disk's image; what is wrong with one matters only if it takes part. */
static GArray *look_at_disks(Op *op, DiskAbility *abilities)
{
    const GPtrArray *disks = op->domain->def->disks;
    GArray *states = g_array_new(FALSE, TRUE, sizeof(DiskState));
    g_array_set_clear_func(states, disk_state_clear);
    for (guint i = 0; i < disks->len; i++) {
        DiskState state = {.layer = domain_active_layer(op->domain, disks->pdata[i])};
        DiskAbility *ability = &abilities[i];
        if (state.layer)
            (void)chain_inspect(op->core, op->domain, state.layer, &state.info, &state.error);
        g_array_append_val(states, state);
        if (!state.info)
            ability->why_not = "its image cannot be read";
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

/* The combination table, for each kind of disk in the request. */
static gboolean check_rules(const CreateRequest *request, const GArray *disks, GError **error)
{
    guint asks = align_asks(disks);
    const Rule *rule;
    for (guint ask = ASK_OMIT; ask <= ASK_EXTERNAL; ask++)
        if ((asks & 1u << ask) &&
            !rules_check(FALSE, ask_memory(request), ask, request->disk_only, &rule, error))
            return FALSE;
    if (request->quiesce && !request->disk_only)
        snap_set_error(error, EINVAL,
                       "quiesce goes with disk-only: a memory state needs no frozen file systems");
    else if (request->live)
        snap_set_error(error, EOPNOTSUPP, "live needs a running domain and external memory");
    else
        return TRUE; /* of a domain that is off there is nothing to freeze, and nothing to halt */
    return FALSE;
}

static gboolean plan_internal(Op *op, Snapshot *snapshot, const AlignedDisk *disk, DiskState *state,
                              GError **error)
{
    g_autofree char *tag = overlay_tag(state->info, snapshot->name);
    Step *step = plan_step(op->plan, STEP_TAG, 0, disk->disk->target, state->layer->path);
    step->tag = g_strdup(tag);
    snapshot_add_disk(snapshot, disk->disk->target, state->layer, tag);
    return TRUE;
}

/* An overlay path that the user gave: absolute, free, in a directory that is there. */
static char *given_path(Op *op, const AlignedDisk *disk, GError **error)
{
    g_autofree char *path = chain_real_path(op->core, disk->request->source, error);
    if (!path)
        return NULL;
    if (file_exists(path) || domain_find_layer(op->domain, path)) {
        snap_set_error(error, EEXIST, "'%s' exists already", path);
        return NULL;
    }
    return g_steal_pointer(&path);
}

static gboolean plan_external(Op *op, Snapshot *snapshot, const AlignedDisk *disk, DiskState *state,
                              GError **error)
{
    g_autofree char *stem = NULL;
    g_autofree char *path = disk->request && disk->request->source
                                ? given_path(op, disk, error)
                                : overlay_name(op, state->layer, snapshot->name, &stem, error);
    Layer *overlay;
    DiskDef *def = domain_def_find_disk(op->domain->def, disk->disk->target);
    if (!path || !op_hold(op, state->layer, error) ||
        !overlay_plan(op, def->target, state->layer, path, stem, disk->format, state->info->virtual_size,
                      &overlay, error) ||
        !overlay_freeze(op, def->target, state->layer, snapshot, error))
        return FALSE;
    snapshot_add_disk(snapshot, def->target, state->layer, NULL);

    g_autoptr(GPtrArray) backing = domain_backing_list(op->domain, state->layer);
    domain_def_set_source(op->domain->def, def, DISK_FILE, path, disk->format, backing);
    return TRUE;
}

static gboolean plan_disk(Op *op, Snapshot *snapshot, const AlignedDisk *disk, DiskState *state,
                          GError **error)
{
    gboolean ok;
    if (disk->mode != MODE_INTERNAL && disk->mode != MODE_EXTERNAL)
        return TRUE;
    if (state->error) {
        g_propagate_error(error, g_steal_pointer(&state->error));
        ok = FALSE;
    } else {
        ok = op_take_image(op, state->layer->path, error) &&
             op_require_sole(op, disk->disk->target, state->layer, error) &&
             admit_state(op->domain, state->layer, FALSE, error) &&
             (disk->mode == MODE_INTERNAL ? plan_internal(op, snapshot, disk, state, error)
                                          : plan_external(op, snapshot, disk, state, error));
    }
    if (!ok)
        g_prefix_error(error, "disk '%s': ", disk->disk->target);
    return ok;
}

/* The document: every disk of the domain, and the domain as it was just before. */
static SnapshotDef *describe(const Op *op, const Snapshot *snapshot, const GArray *disks, DomainDef *before)
{
    SnapshotDef *def = snapshot_def_new();
    def->description = g_strdup(snapshot->description);
    def->state = snapshot->state;
    def->creation_time = snapshot->time;
    def->memory = snapshot->memory;
    def->domain = before;
    for (guint i = 0; i < disks->len; i++) {
        const AlignedDisk *aligned = &g_array_index(disks, AlignedDisk, i);
        SnapshotDisk *disk = snapshot_disk_new(aligned->disk->target, aligned->mode);
        if (aligned->mode == MODE_EXTERNAL) {
            const DiskDef *now = domain_def_find_disk(op->domain->def, aligned->disk->target);
            disk->format = aligned->format;
            snapshot_disk_set_source(disk, DISK_FILE, now->source);
            if (aligned->request)
                snapshot_disk_take_image(disk, aligned->request);
        }
        g_ptr_array_add(def->disks, disk);
    }
    return def;
}

/* The name asked for, or the time, made unique: two unnamed ones in one second both succeed (DESIGN 3). */
static char *choose_name(const Domain *domain, const CreateRequest *request, gint64 now, GError **error)
{
    if (request->name && *request->name) {
        if (!name_check_new(request->name, NAME_SNAPSHOT, error))
            return NULL;
        if (!domain_find_snapshot(domain, request->name))
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

static Snapshot *add_snapshot(Op *op, const CreateRequest *request, GError **error)
{
    gint64 now = time(NULL);
    g_autofree char *name = choose_name(op->domain, request, now, error);
    if (!name)
        return NULL;
    if (request->description && !xml_text_valid(request->description)) {
        snap_set_error(error, EILSEQ, "the description has characters that XML cannot hold");
        return NULL;
    }
    Snapshot *snapshot = domain_add_snapshot(op->domain, name, now);
    snapshot->description =
        request->description && *request->description ? g_strdup(request->description) : NULL;
    snapshot->state = STATE_SHUTOFF;
    snapshot->memory = MODE_NO;
    snapshot->parent = op->domain->current;
    return snapshot;
}

static char *summary(const Snapshot *snapshot)
{
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const StateDisk *disk = snapshot->disks->pdata[i];
        g_string_append_printf(out, "%s %s %s%s%s", i ? "," : ":", disk->target,
                               disk->tag ? "internal" : "external", disk->tag ? " as " : "",
                               disk->tag ? disk->tag : "");
    }
    if (snapshot->domain->def->nvram)
        g_string_append(out, "; NVRAM is not captured");
    return g_string_free(out, FALSE);
}

static gboolean create(Op *op, const CreateRequest *request, EngineId *ret_snapshot, GError **error)
{
    const Core *core = op->core;
    g_autoptr(DomainDef) before = domain_def_copy(op->domain->def);
    g_autofree DiskAbility *abilities = g_new0(DiskAbility, before->disks->len + 1);
    g_autoptr(GArray) states = NULL;
    g_autoptr(GArray) disks = NULL;
    g_autoptr(SnapshotDef) def = NULL;

    Snapshot *snapshot = add_snapshot(op, request, error);
    if (!snapshot || !op_require_off(op, error))
        return FALSE;
    states = look_at_disks(op, abilities);
    disks = align_disks(before, request, abilities, request->plain ? core->snapshot : MODE_DEFAULT, error);
    if (!disks || !check_rules(request, disks, error))
        return FALSE;
    for (guint i = 0; i < disks->len; i++)
        if (!plan_disk(op, snapshot, &g_array_index(disks, AlignedDisk, i),
                       &g_array_index(states, DiskState, i), error))
            return FALSE;
    if (!plan_prepare(op->plan, op->cancel, error) || !overlay_record(op, error))
        return FALSE;

    op->domain->current = snapshot;
    g_autofree char *disks_text = summary(snapshot);
    EngineId id = snapshot->object.id;
    g_autofree char *name = g_strdup(snapshot->name);
    def = describe(op, snapshot, disks, g_steal_pointer(&before));
    if (!op_write_snapshot(op, snapshot, def, error))
        return FALSE;
    if (!op_write_definition(op, error))
        return FALSE;
    op_write_sidecar(op);
    if (!op_commit(op, error, "create '%s'%s", name, disks_text))
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
    if (op && create(op, request, ret_snapshot, error))
        return TRUE;
    return FALSE;
}
