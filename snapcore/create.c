/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking a snapshot: request -> rules -> aligned disks -> plan -> the instant, of a machine that runs -> commit. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "admit.h"
#include "after.h"
#include "capture.h"
#include "chain.h"
#include "error.h"
#include "names.h"
#include "overlay.h"
#include "overlay_target.h"
#include "power.h"
#include "undo.h"

/* More internal snapshots than this make every operation on them slow (facts/qemu.md A5): then external is the default. */
#define CROWDED 64

/* What is known of one disk of the domain while its snapshot is being taken. */
typedef struct {
    Layer *layer;    /* active; NULL: no local image */
    ImageInfo *info; /* NULL: could not be read, and error says why */
    GError *error;
} DiskLook;

static void disk_state_clear(gpointer data)
{
    DiskLook *state = data;
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
    GArray *states;     /* of DiskLook */
    Capture capture;    /* of a machine that runs */
    GString *done;      /* for the log */
} Creation;

static void creation_clear(Creation *creation)
{
    g_free(creation->name);
    g_clear_pointer(&creation->disks, g_array_unref);
    g_clear_pointer(&creation->states, g_array_unref);
    capture_clear(&creation->capture);
    g_string_free(creation->done, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Creation, creation_clear)

/* Look at every disk's image; what is wrong with one matters only if it takes part. */
static GArray *look_at_disks(Op *op, DiskAbility *abilities)
{
    const GPtrArray *disks = op->domain->def->disks;
    GArray *states = g_array_new(FALSE, TRUE, sizeof(DiskLook));
    g_array_set_clear_func(states, disk_state_clear);
    for (guint i = 0; i < disks->len; i++) {
        DiskLook state = {.layer = domain_active_layer(op->domain, disks->pdata[i])};
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

static gboolean plan_internal(Creation *creation, const AlignedDisk *disk, DiskLook *state, GError **error)
{
    Op *op = creation->op;
    const char *target = disk->disk->target;
    gboolean together = creation->capture.instant.memory == MODE_INTERNAL;
    g_autofree char *tag =
        together ? g_strdup(creation->capture.tag) : choose_tag(creation, state->info, error);
    if (!tag)
        return FALSE;
    if (op->machine)
        capture_internal(&creation->capture, target, state->layer, tag);
    else
        op_add_tag(op, STEP_TAG, target, state->layer, tag);
    if (creation->snapshot)
        snapshot_add_disk(creation->snapshot, target, state->layer, tag);
    else
        domain_release_layer(op->domain, state->layer);
    g_string_append_printf(creation->done, "%s %s internal as %s", creation->done->len ? "," : ":", target,
                           tag);
    return TRUE;
}

static gboolean plan_external(Creation *creation, const AlignedDisk *disk, DiskLook *state, GError **error)
{
    Op *op = creation->op;
    const char *target = disk->disk->target;
    Layer *below = state->layer, *overlay;
    if ((!op->machine && !op_hold(op, below, error)) ||
        !overlay_target_plan(op, disk, below, state->info, creation->name, &overlay, error) ||
        !overlay_freeze(op, target, below, creation->snapshot, error))
        return FALSE;
    if (creation->snapshot)
        snapshot_add_disk(creation->snapshot, target, below, NULL);
    else
        domain_release_layer(op->domain, below);
    overlay_target_point(op, disk, overlay);
    if (op->machine)
        capture_external(&creation->capture, target, below, overlay);
    g_string_append_printf(creation->done, "%s %s external", creation->done->len ? "," : ":", target);
    if (!creation->snapshot)
        g_string_append_printf(creation->done, ", what was is '%s'", below->path);
    return TRUE;
}

static gboolean plan_disk(Creation *creation, const AlignedDisk *disk, DiskLook *state, GError **error)
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

/* The document: every disk of the domain, and the domain as it was just before: the one that runs, and what else is defined. */
static SnapshotDef *describe(const Creation *creation, DomainDef *before, const DomainDef *inactive)
{
    const Snapshot *snapshot = creation->snapshot;
    SnapshotDef *def = snapshot_def_new();
    def->description = g_strdup(snapshot->description);
    def->state = snapshot->state;
    def->creation_time = snapshot->time;
    def->memory = snapshot->memory;
    if (snapshot->memory == MODE_EXTERNAL)
        def->memory_file = g_strdup(snapshot->memory_file.path);
    def->domain = before;
    if (inactive)
        snapshot_def_set_inactive(def, inactive);
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

/* What was defined just before: of a machine that runs also what it really is. */
typedef struct {
    DomainDef *live; /* NULL: it is off */
    DomainDef *def;
    gboolean
        stranger; /* it runs, and was started by somebody else: nothing better than the definition is known of it */
} Before;

static void before_clear(Before *before)
{
    domain_def_free(before->live);
    domain_def_free(before->def);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Before, before_clear)

static Before look_before(const Op *op)
{
    const Domain *domain = op->domain;
    return (Before){.live = op->machine ? domain_def_copy(domain->live ? domain->live : domain->def) : NULL,
                    .def = domain_def_copy(domain->def),
                    .stranger = op->machine && !domain->live};
}

/* How the store changes. */
static gboolean write_all(Creation *creation, const Before *before, GError **error)
{
    Op *op = creation->op;
    undo_forget(op);
    if (creation->snapshot) {
        g_autoptr(SnapshotDef) def = before->live
                                         ? describe(creation, domain_def_copy(before->live), before->def)
                                         : describe(creation, domain_def_copy(before->def), NULL);
        op->domain->current = creation->snapshot;
        if (!after_forget_revert(op, creation->snapshot->parent, error) ||
            !op_write_snapshot(op, creation->snapshot, def, error))
            return FALSE;
    } else {
        op_write_released(op);
    }
    if (!op_write_definition(op, error) || (op->machine && !op_write_live(op, error)))
        return FALSE;
    op_write_sidecar(op);
    return TRUE;
}

/* Which state it is of the machine that the snapshot holds (facts/libvirt-snapshots.md 4). */
static SnapState state_of(const Capture *capture)
{
    if (!capture->op->machine)
        return STATE_SHUTOFF;
    if (capture->instant.memory == MODE_NO)
        return STATE_DISK_SNAPSHOT;
    return capture->instant.before == RUN_RUNNING ? STATE_RUNNING : STATE_PAUSED;
}

/* What memory there is to be, and with which tag. */
static gboolean decide(Creation *creation, GError **error)
{
    Capture *capture = &creation->capture;
    if (!capture_decide(capture, creation->request, creation->disks, error))
        return FALSE;
    g_autoptr(GPtrArray) infos = g_ptr_array_new();
    for (guint i = 0; i < creation->disks->len; i++)
        if (g_array_index(creation->disks, AlignedDisk, i).mode == MODE_INTERNAL)
            g_ptr_array_add(infos, g_array_index(creation->states, DiskLook, i).info);
    if (capture->instant.memory == MODE_INTERNAL)
        capture_choose_tag(capture, infos);
    if (creation->snapshot)
        creation->snapshot->state = state_of(capture);
    return TRUE;
}

/* The image beside which files go: the first disk's. */
static Layer *first_image(const Creation *creation)
{
    for (guint i = 0; i < creation->states->len; i++) {
        Layer *layer = g_array_index(creation->states, DiskLook, i).layer;
        if (layer && layer->type == DISK_FILE &&
            !g_array_index(creation->disks, AlignedDisk, i).disk->readonly)
            return layer;
    }
    return NULL;
}

static gboolean plan_all(Creation *creation, GError **error)
{
    Layer *first = first_image(creation);
    for (guint i = 0; i < creation->disks->len; i++)
        if (!plan_disk(creation, &g_array_index(creation->disks, AlignedDisk, i),
                       &g_array_index(creation->states, DiskLook, i), error))
            return FALSE;
    return capture_plan_files(&creation->capture, creation->request->memory_file, first, error);
}

static gboolean look(Creation *creation, const Before *before, GError **error)
{
    const CreateRequest *request = creation->request;
    SnapMode silent = request->plain ? creation->op->core->snapshot : MODE_DEFAULT;
    g_autofree DiskAbility *abilities = g_new0(DiskAbility, before->def->disks->len + 1);
    creation->states = look_at_disks(creation->op, abilities);
    creation->disks = align_disks(before->def, request, abilities, silent, error);
    return creation->disks && decide(creation, error);
}

/* After the disks. */
static void say_more(Creation *creation, const DomainDef *def)
{
    const Capture *capture = &creation->capture;
    if (capture->memory.path)
        g_string_append_printf(creation->done, "%s memory in '%s'", creation->done->len ? "," : ":",
                               capture->memory.path);
    else if (capture->instant.memory == MODE_INTERNAL)
        g_string_append(creation->done, ", memory internal");
    if (def->tpm)
        g_string_append(creation->done, "; the state of the TPM is not captured");
}

static gboolean create(Creation *creation, EngineId *ret_snapshot, GError **error)
{
    Op *op = creation->op;
    Capture *capture = &creation->capture;
    if (!add_snapshot(creation, error) || !op_find_machine(op, error))
        return FALSE;
    capture_init(capture, op, creation->name);
    capture->snapshot = creation->snapshot;
    g_auto(Before) before = look_before(op);
    if (!look(creation, &before, error) || !plan_all(creation, error) ||
        !plan_prepare(op->plan, op->cancel, error) || !overlay_record(op, error) ||
        !capture_record(capture, error) || !write_all(creation, &before, error) ||
        !capture_take(capture, before.live, error))
        return FALSE;
    EngineId id = creation->snapshot ? creation->snapshot->object.id : 0;
    say_more(creation, before.def);
    gboolean ok = op_commit(op, error, "create '%s'%s%s", creation->name,
                            creation->snapshot ? "" : " without metadata", creation->done->str);
    capture_end(capture, ok);
    if (!ok)
        return FALSE;
    if (before.stranger && capture->instant.memory != MODE_NO)
        power_note_stranger(op, creation->name);
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
