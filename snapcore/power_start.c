/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "power.h"

/* --- what machine --- */

/* The definition of @from with today's name and images. */
static DomainDef *definition_for(const Domain *domain, const DomainDef *from, GError **error)
{
    g_autoptr(DomainDef) def = domain_def_copy(from);
    domain_def_set_name(def, domain->def->name);
    domain_def_set_uuid(def, domain->def->uuid);
    for (guint i = 0; from != domain->def && i < def->disks->len; i++) {
        DiskDef *disk = def->disks->pdata[i];
        const DiskDef *now = domain_def_find_disk(domain->def, disk->target);
        const Layer *layer = now ? domain_active_layer(domain, now) : NULL;
        if (!now && disk_def_has_media(disk) && !disk->readonly) {
            snap_set_error(error, EPERM, "disk '%s' has left the domain since", disk->target);
            return NULL;
        }
        if (!layer)
            continue;
        g_autoptr(GPtrArray) backing = domain_backing_list(domain, domain_find_layer(domain, layer->backing));
        if (g_strcmp0(disk->source, layer->path) != 0 || disk->format != layer->format)
            domain_def_set_source(def, disk, layer->type, layer->path, layer->format, backing);
    }
    return g_steal_pointer(&def);
}

/* What lies below each disk's image, as the store knows it: QEMU follows no name in a header. */
static GHashTable *backing_of(const Domain *domain)
{
    GHashTable *backing =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_ptr_array_unref);
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        const Layer *layer = domain_active_layer(domain, disk);
        if (layer)
            g_hash_table_insert(backing, g_strdup(disk->target),
                                domain_backing_list(domain, domain_find_layer(domain, layer->backing)));
    }
    return backing;
}

static void log_notes(Op *op, const GPtrArray *notes)
{
    for (guint i = 0; notes && i < notes->len; i++)
        core_log(op->core, op->domain->name, "start: %s", (const char *)notes->pdata[i]);
}

void power_announce(Op *op, gboolean paused)
{
    plan_set_machine(op->plan, &(PlanMachine){.running = !paused, .begins = TRUE});
}

static gboolean check_backend(const Backend *backend, GError **error)
{
    if (!backend->machines)
        snap_set_error(error, EOPNOTSUPP, "machines cannot be started here");
    return backend->machines != NULL;
}

gboolean power_check_start(const Op *op, const DomainDef *def, GError **error)
{
    Backend *backend = op->core->backend;
    g_autoptr(DomainDef) copy = domain_def_copy(def);
    g_autoptr(GHashTable) backing =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_ptr_array_unref);
    domain_def_set_name(copy, op->domain->def->name);
    domain_def_set_uuid(copy, op->domain->def->uuid);
    for (guint i = 0; i < copy->disks->len; i++) /* what will be below them makes no difference */
        g_hash_table_insert(backing, g_strdup(((DiskDef *)copy->disks->pdata[i])->target), g_ptr_array_new());
    const MachineStart start = {.def = copy, .backing = backing, .paused = TRUE, .memory = -1};
    return check_backend(backend, error) && backend->machines->check(backend, &start, error);
}

/*
 * Where a tag could not be dropped (a disk that failed), the image's header may point at clusters that count as free: what the guest
 * writes would take them from the tags that are left.
 */
static gboolean repair_doubtful(const Op *op, GError **error)
{
    const Domain *domain = op->domain;
    Backend *backend = op->core->backend;
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const Layer *layer = domain_active_layer(domain, domain->def->disks->pdata[i]);
        if (layer && layer->stale->len > 0 && !backend->ops->repair(backend, layer->path, error))
            return FALSE;
    }
    return TRUE;
}

gboolean power_set_up(Op *op, const PowerFrom *from, GError **error)
{
    Backend *backend = op->core->backend;
    Domain *domain = op->domain;
    g_autoptr(GHashTable) backing = backing_of(domain);
    g_autoptr(DomainDef) def = definition_for(domain, from->def, error);
    g_autoptr(DomainDef) live = NULL;
    g_autoptr(GPtrArray) notes = NULL;
    const MachineStart start = {.def = def,
                                .backing = backing,
                                .paused = TRUE,
                                .memory = from->memory,
                                .tag = from->tag,
                                .tag_targets = from->tag_targets,
                                .tag_file = from->tag_file};
    if (!def || !check_backend(backend, error) || !repair_doubtful(op, error))
        return FALSE;
    if (!backend->machines->start(backend, &start, op->cancel, &op->machine, &live, &notes, error)) {
        machines_note(op->core, op->uuid,
                      RUN_OFF); /* of what was there for a moment others may have been told */
        return FALSE;
    }
    plan_use(op->plan, &op->machine->backend); /* the images are its own from now on */
    log_notes(op, notes);
    domain_forget_live(domain);
    domain->live = g_steal_pointer(&live);
    domain->live_process = op->machine->ops->process(op->machine);
    op_write_sidecar(op);
    return op_write_live(op, error);
}

void power_note_stranger(Op *op, const char *what)
{
    core_log(op->core, op->job->domain,
             "the machine was not started by domsnapfs: the memory in %s can be loaded only if its hardware "
             "is what domain.xml says",
             what);
}

gboolean power_check_disks(const Op *op, const char *file, GError **error)
{
    const Domain *domain = op->domain;
    FileLook saved, look;
    if (!file_look(file, &saved, error))
        return FALSE;
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        const Layer *layer = domain_active_layer(domain, disk);
        if (!layer || !layer_is_local(layer) || disk->readonly || !file_look(layer->path, &look, NULL) ||
            look.block)
            continue;
        if (look.stamp.mtime_sec < saved.stamp.mtime_sec || (look.stamp.mtime_sec == saved.stamp.mtime_sec &&
                                                             look.stamp.mtime_nsec <= saved.stamp.mtime_nsec))
            continue;
        snap_set_error(error, EPERM,
                       "disk '%s' has changed since its memory was saved: they do not fit any more",
                       disk->target);
        return FALSE;
    }
    return TRUE;
}

gboolean power_let_run(Op *op, gboolean paused, GError **error)
{
    if (!paused && !op->machine->ops->resume(op->machine, error))
        return FALSE;
    machines_note(op->core, op->uuid, paused ? RUN_PAUSED : RUN_RUNNING);
    return TRUE;
}

gboolean power_end(Op *op, GError **error)
{
    if (!op->machine->ops->destroy(op->machine, NULL, error))
        return FALSE;
    op_forget_machine(op);
    machines_note(op->core, op->uuid, RUN_OFF);
    return TRUE;
}

void power_forget_saved(Op *op)
{
    Domain *domain = op->domain;
    if (!domain->saved.path)
        return;
    g_autofree char *path = store_side_file(op->core->store, domain->name, &domain->saved);
    plan_after(op->plan, STEP_UNLINK, "memory", path)->id = domain->saved.id;
    side_file_set(&domain->saved, NULL, NULL, FALSE);
    op_write_sidecar(op);
}
