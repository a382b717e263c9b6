/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "comeback.h"

#include <errno.h>
#include <string.h>

#include "abi.h"
#include "error.h"

void comeback_clear(Comeback *comeback)
{
    g_clear_pointer(&comeback->image, saveimage_close);
    domain_def_free(comeback->live);
    machine_free(comeback->was);
    g_free(comeback->tag);
    g_clear_pointer(&comeback->targets, g_ptr_array_unref);
    g_free(comeback->tag_file);
}

static gboolean has_memory(const Snapshot *snapshot)
{
    return snapshot->memory == MODE_INTERNAL || snapshot->memory == MODE_EXTERNAL;
}

/* facts/libvirt-snapshots.md 6.2 */
static RunState end_state(const Snapshot *snapshot, const RevertRequest *request)
{
    if (request->running)
        return RUN_RUNNING;
    if (request->paused)
        return RUN_PAUSED;
    if (!has_memory(snapshot))
        return RUN_OFF;
    return snapshot->state == STATE_PAUSED ? RUN_PAUSED : RUN_RUNNING;
}

/* --- memory --- */

static gboolean open_image(Comeback *comeback, const Snapshot *snapshot, GError **error)
{
    g_autoptr(SaveImage) image = NULL;
    if (!snapshot->memory_file.path)
        snap_set_error(error, ENOENT, "its memory file is not known");
    else
        image = saveimage_open(snapshot->memory_file.path, error);
    if (image && !comeback->live)
        comeback->live = domain_def_copy(image->def);
    if (image && saveimage_fits(image, comeback->live, error))
        comeback->image = g_steal_pointer(&image);
    if (!comeback->image)
        g_prefix_error(error, "memory: ");
    return comeback->image != NULL;
}

static const ImageTag *tag_called(const ImageInfo *info, const char *name)
{
    for (guint i = 0; i < info->tags->len; i++)
        if (strcmp(((ImageTag *)info->tags->pdata[i])->name, name) == 0)
            return info->tags->pdata[i];
    return NULL;
}

/* Is there memory in the tag @tag of the image? */
static gboolean holds_memory(const Comeback *comeback, const char *path, const char *tag)
{
    Backend *backend = comeback->op->core->backend;
    g_autoptr(ImageInfo) info = NULL;
    const ImageTag *found =
        backend->ops->inspect(backend, path, FORMAT_QCOW2, &info, NULL) ? tag_called(info, tag) : NULL;
    return found && found->vm_state_size > 0;
}

static void take_checkpoint(Comeback *comeback, const Snapshot *snapshot, const char *tag)
{
    comeback->tag = g_strdup(tag);
    comeback->targets = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const StateDisk *disk = snapshot->disks->pdata[i];
        if (g_strcmp0(disk->tag, tag) == 0)
            g_ptr_array_add(comeback->targets, g_strdup(disk->target));
    }
    g_ptr_array_add(comeback->targets, NULL);
}

static gboolean find_checkpoint(Comeback *comeback, const Snapshot *snapshot, GError **error)
{
    if (snapshot->memory_file.path && snapshot->memory_tag &&
        holds_memory(comeback, snapshot->memory_file.path, snapshot->memory_tag)) {
        take_checkpoint(comeback, snapshot, snapshot->memory_tag);
        comeback->tag_file = g_strdup(snapshot->memory_file.path);
        return TRUE;
    }
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const StateDisk *disk = snapshot->disks->pdata[i];
        if (!disk->tag || !holds_memory(comeback, disk->layer->path, disk->tag))
            continue;
        take_checkpoint(comeback, snapshot, disk->tag);
        return TRUE;
    }
    snap_set_error(error, EIO, "no image holds its memory any more");
    return FALSE;
}

/* Of what machine the document does not always say: the memory file does, else it must be the present one. */
static gboolean find_memory(Comeback *comeback, const Snapshot *snapshot, const SnapshotDef *def,
                            GError **error)
{
    const Domain *domain = comeback->op->domain;
    if (!has_memory(snapshot) || comeback->end == RUN_OFF)
        return TRUE;
    if (def->domain)
        comeback->live = domain_def_copy(def->domain);
    if (snapshot->memory == MODE_EXTERNAL)
        return open_image(comeback, snapshot, error);
    if (!comeback->live)
        comeback->live = domain_def_copy(domain->live ? domain->live : domain->def);
    return find_checkpoint(comeback, snapshot, error);
}

/* --- what speaks against it --- */

static gboolean check_memory_alone(const Comeback *comeback, const Snapshot *snapshot, GError **error)
{
    if ((!comeback->image && !comeback->tag) || snapshot->disks->len > 0)
        return TRUE;
    if (!comeback->op->machine)
        return power_check_disks(comeback->op, snapshot->memory_file.path, error);
    snap_set_error(error, EPERM,
                   "it is a state of the memory alone, and the machine has run on: its disks are others now");
    return FALSE;
}

/* What runs is compared with what ran, and what is defined with what was: a definition leaves open what a start decides. */
static gboolean check_hardware(const Comeback *comeback, const SnapshotDef *def, const DomainDef *coming,
                               GError **error)
{
    const Domain *domain = comeback->op->domain;
    if (domain->live && def && def->domain && def->inactive_domain)
        return abi_check(def->domain, domain->live, error);
    return abi_check(coming, domain->def, error);
}

static gboolean check_allowed(const Comeback *comeback, const Snapshot *snapshot, const SnapshotDef *def,
                              const DomainDef *coming, GError **error)
{
    const Domain *domain = comeback->op->domain;
    g_autoptr(GError) why = NULL;
    if (domain->saved.path)
        snap_set_error(error, EPERM, "a managed save would be lost: use --force");
    else if (comeback->op->machine && comeback->end == RUN_OFF)
        snap_set_error(error, EPERM,
                       "the machine runs, and would end stopped: use --force, --running or --paused");
    else if (comeback->op->machine && !check_hardware(comeback, def, coming, &why))
        snap_set_error(error, EPERM,
                       "it is another machine than the one that runs (--force starts it anew): %s",
                       why->message);
    else
        return check_memory_alone(comeback, snapshot, error);
    return FALSE;
}

/* From here on all is planned as for a machine that is off. */
static void set_aside(Comeback *comeback)
{
    Op *op = comeback->op;
    power_forget_saved(op);
    comeback->was = g_steal_pointer(&op->machine);
    plan_use(op->plan, op->core->backend);
    if (comeback->end != RUN_OFF)
        power_announce(op, comeback->end == RUN_PAUSED);
}

gboolean comeback_check(Comeback *comeback, Op *op, const Snapshot *snapshot, const SnapshotDef *def,
                        const DomainDef *coming, const RevertRequest *request, GError **error)
{
    comeback->op = op;
    comeback->end = end_state(snapshot, request);
    if (request->running && request->paused) {
        snap_set_error(error, EINVAL, "running and paused exclude each other");
        return FALSE;
    }
    if (!find_memory(comeback, snapshot, def, error) ||
        (!request->force && !check_allowed(comeback, snapshot, def, coming, error)))
        return FALSE;
    if (comeback->end != RUN_OFF && !power_check_start(op, comeback->live ? comeback->live : coming, error))
        return FALSE;
    set_aside(comeback);
    return TRUE;
}

/* --- doing --- */

gboolean comeback_end(Comeback *comeback, GError **error)
{
    Op *op = comeback->op;
    if (!comeback->was)
        return TRUE;
    if (!comeback->was->ops->destroy(comeback->was, NULL, error))
        return FALSE;
    g_clear_pointer(&comeback->was, machine_free);
    comeback->ended = TRUE;
    machines_note(op->core, op->uuid, RUN_OFF);
    return TRUE;
}

gboolean comeback_begin(Comeback *comeback, GError **error)
{
    Op *op = comeback->op;
    if (comeback->end == RUN_OFF)
        return TRUE;
    const GPtrArray *targets = comeback->targets;
    const PowerFrom from = {.def = comeback->live ? comeback->live : op->domain->def,
                            .memory = comeback->image ? comeback->image->fd : -1,
                            .tag = comeback->tag,
                            .tag_targets = targets ? (const char *const *)targets->pdata : NULL,
                            .tag_file = comeback->tag_file};
    return power_set_up(op, &from, error);
}

gboolean comeback_run(Comeback *comeback, GError **error)
{
    return comeback->end == RUN_OFF || power_let_run(comeback->op, comeback->end == RUN_PAUSED, error);
}
