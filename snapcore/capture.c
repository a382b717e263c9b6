/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "capture.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "overlay.h"
#include "sidefile.h"

void capture_init(Capture *capture, Op *op, const char *name)
{
    *capture = (Capture){.op = op,
                         .name = name,
                         .instant = {.memory = MODE_NO},
                         .targets = g_ptr_array_new_with_free_func(g_free),
                         .changes = g_array_new(FALSE, FALSE, sizeof(MachineChange))};
}

void capture_clear(Capture *capture)
{
    g_clear_pointer(&capture->targets, g_ptr_array_unref);
    g_clear_pointer(&capture->changes, g_array_unref);
    g_free(capture->memory.path);
    g_free(capture->nvram.path);
    g_free(capture->screenshot.path);
    g_free(capture->tag);
}

/* --- memory --- */

static RuleAsk ask_memory(SnapMode memory)
{
    switch (memory) {
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

static gboolean has_mode(const GArray *disks, SnapMode mode)
{
    for (guint i = 0; i < disks->len; i++)
        if (g_array_index(disks, AlignedDisk, i).mode == mode)
            return TRUE;
    return FALSE;
}

static SnapMode memory_mode(const CreateRequest *request, gboolean disk_only, const GArray *disks)
{
    if (disk_only || request->memory == MODE_NO)
        return MODE_NO;
    if (request->memory != MODE_DEFAULT)
        return request->memory;
    return has_mode(disks, MODE_INTERNAL) && !has_mode(disks, MODE_EXTERNAL) ? MODE_INTERNAL : MODE_EXTERNAL;
}

static gboolean check_flags(const Capture *capture, const CreateRequest *request, gboolean disk_only,
                            const GArray *disks, GError **error)
{
    if (request->reuse_external && !has_mode(disks, MODE_EXTERNAL))
        snap_set_error(error, EINVAL,
                       "reuse-external: no disk is external (--diskspec DISK,snapshot=external)");
    else if (request->quiesce && !disk_only)
        snap_set_error(error, EINVAL,
                       "quiesce goes with disk-only: a memory state needs no frozen file systems");
    else if (request->live && capture->instant.memory != MODE_EXTERNAL)
        snap_set_error(error, EOPNOTSUPP, "live needs a running domain and external memory");
    else if (request->live && has_mode(disks, MODE_INTERNAL))
        snap_set_error(
            error, EOPNOTSUPP,
            "live goes with external disks: an internal state is of a machine that stands while its "
            "memory is written");
    else
        return TRUE; /* of a domain that is off there is nothing to freeze, and nothing to halt */
    return FALSE;
}

gboolean capture_decide(Capture *capture, const CreateRequest *request, const GArray *disks, GError **error)
{
    Machine *machine = capture->op->machine;
    Instant *instant = &capture->instant;
    gboolean disk_only = request->disk_only || (machine && request->plain && capture->op->core->disk_only);
    guint asks = align_asks(disks);
    const Rule *rule;
    for (guint ask = ASK_OMIT; ask <= ASK_EXTERNAL; ask++)
        if ((asks & 1u << ask) &&
            !rules_check(machine != NULL, ask_memory(request->memory), ask, disk_only, &rule, error))
            return FALSE;
    instant->memory = machine ? memory_mode(request, disk_only, disks) : MODE_NO;
    instant->live = request->live;
    instant->quiesce = request->quiesce;
    instant->halt = request->halt;
    return check_flags(capture, request, disk_only, disks, error) &&
           (!machine || machine->ops->run_state(machine, &instant->before, error));
}

void capture_choose_tag(Capture *capture, const GPtrArray *infos)
{
    g_autoptr(ImageInfo) all = g_new0(ImageInfo, 1);
    all->tags = image_tags_new();
    for (guint i = 0; i < infos->len; i++) {
        const ImageInfo *info = infos->pdata[i];
        for (guint j = 0; info && j < info->tags->len; j++) {
            ImageTag *tag = g_new0(ImageTag, 1);
            tag->name = g_strdup(((ImageTag *)info->tags->pdata[j])->name);
            g_ptr_array_add(all->tags, tag);
        }
    }
    capture->tag = overlay_tag(all, capture->name);
}

/* --- disks --- */

void capture_internal(Capture *capture, const char *target, const Layer *layer, const char *tag)
{
    Step *step = plan_step(capture->op->plan, STEP_CHECKPOINT, 0, target, layer->path);
    step->tag = g_strdup(tag);
    if (capture->instant.memory == MODE_INTERNAL) {
        g_ptr_array_add(capture->targets, g_strdup(target));
        return;
    }
    const MachineChange change = {.target = step->disk, .tag = step->tag};
    g_array_append_val(capture->changes, change);
}

void capture_external(Capture *capture, const char *target, const Layer *below, const Layer *overlay)
{
    const MachineChange change = {.target = target, .overlay = overlay->path, .format = overlay->format};
    g_array_append_val(capture->changes, change);
    plan_add_switch(capture->op->plan, target, below->path, overlay->path);
}

/* --- files --- */

static gboolean choose_memory_path(Capture *capture, const char *file, Layer *like, char **ret_path,
                                   GError **error)
{
    if (file && file_exists(file)) {
        snap_set_error(error, EEXIST, "memory: '%s' exists already", file);
        return FALSE;
    }
    if (file) {
        *ret_path = g_strdup(file);
        return TRUE;
    }
    if (!like) {
        snap_set_error(error, EINVAL,
                       "memory: no disk has a local image beside which it could lie: say where (--memspec)");
        return FALSE;
    }
    g_autofree char *stem = NULL;
    g_autofree char *name = g_strconcat(capture->name, ".mem", NULL);
    *ret_path = overlay_name(capture->op, like, name, &stem, error);
    if (!*ret_path)
        g_prefix_error(error, "memory: ");
    return *ret_path != NULL;
}

/* The smallest disk that qcow2 knows: memory is kept behind its end. */
#define OWN_FILE_SIZE 65536

static gboolean plan_memory(Capture *capture, const char *file, Layer *like, GError **error)
{
    Op *op = capture->op;
    gboolean own = capture->instant.memory == MODE_INTERNAL;
    g_autofree char *path = NULL;
    if (!choose_memory_path(capture, file, like, &path, error))
        return FALSE;
    g_autofree char *definition =
        like ? NULL : store_domain_file(op->core->store, op->domain->name, "domain.xml");
    Step *step = plan_step(op->plan, own ? STEP_OVERLAY : STEP_FILE, 0, "memory", path);
    step->like = g_strdup(like ? like->path : definition);
    step->mode = 0600; /* it holds all that the guest knows */
    step->format = FORMAT_QCOW2;
    step->size = OWN_FILE_SIZE;
    side_file_set(&capture->memory, path, NULL, TRUE);
    return TRUE;
}

gboolean capture_plan_files(Capture *capture, const char *file, Layer *like, GError **error)
{
    const DomainDef *def = capture->op->domain->def;
    SnapMode memory = capture->instant.memory;
    FileLook look;
    if ((memory == MODE_EXTERNAL || (memory == MODE_INTERNAL && capture->targets->len == 0)) &&
        !plan_memory(capture, file, like, error))
        return FALSE;
    if (capture->op->machine)
        plan_set_machine(capture->op->plan, &(PlanMachine){capture->instant.before == RUN_RUNNING,
                                                           capture->instant.halt, capture->instant.quiesce});
    if (!capture->snapshot)
        return TRUE;
    if (capture->op->machine)
        sidefile_plan(capture->op, STEP_FILE, "png", &capture->screenshot);
    if (def->nvram && file_look(def->nvram, &look, NULL))
        sidefile_plan(capture->op, STEP_COPY, "nvram", &capture->nvram)->source = g_strdup(def->nvram);
    return TRUE;
}

/* Into the file that the plan has made, and takes away again if it is undone. */
static gboolean draw(const Op *op, const char *path, GError **error)
{
    g_autofree char *drawn = g_strconcat(path, ".new", NULL);
    gboolean ok =
        op->machine->ops->screenshot(op->machine, drawn, error) && file_copy_into(drawn, path, error);
    return file_remove(drawn, NULL) && ok;
}

/* Without a display, or a picture, there is no such file. */
static void take_picture(Capture *capture)
{
    Op *op = capture->op;
    g_autoptr(GError) why = NULL;
    if (!capture->screenshot.path)
        return;
    g_autofree char *path = store_side_file(op->core->store, op->domain->name, &capture->screenshot);
    if (draw(op, path, &why))
        return;
    if (snap_errno(why) != ENOENT)
        core_log(op->core, op->domain->name, "no picture: %s", why->message);
    (void)file_remove(path, NULL);
    side_file_set(&capture->screenshot, NULL, NULL, FALSE);
}

gboolean capture_record(Capture *capture, GError **error)
{
    Snapshot *snapshot = capture->snapshot;
    if (!snapshot)
        return TRUE;
    take_picture(capture);
    snapshot->memory = capture->instant.memory;
    snapshot->memory_tag = capture->instant.memory == MODE_INTERNAL ? g_strdup(capture->tag) : NULL;
    return sidefile_record(capture->op, &capture->memory, &snapshot->memory_file, error) &&
           sidefile_record(capture->op, &capture->nvram, &snapshot->nvram, error) &&
           sidefile_record(capture->op, &capture->screenshot, &snapshot->screenshot, error);
}

gboolean capture_take(Capture *capture, const DomainDef *before, GError **error)
{
    Instant *instant = &capture->instant;
    if (!capture->op->machine)
        return TRUE;
    gboolean own = instant->memory == MODE_INTERNAL && capture->targets->len == 0;
    g_ptr_array_add(capture->targets, NULL);
    instant->memory_file = instant->memory == MODE_EXTERNAL || own ? capture->memory.path : NULL;
    instant->def = before;
    instant->tag = capture->tag;
    instant->targets = capture->targets;
    instant->changes = capture->changes;
    return instant_take(capture->op, instant, error);
}

void capture_end(Capture *capture, gboolean committed)
{
    instant_end(capture->op, &capture->instant, committed);
}
