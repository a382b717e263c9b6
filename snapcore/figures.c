/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "figures.h"

#include <errno.h>
#include <string.h>

#include "changes.h"
#include "content.h"
#include "error.h"
#include "usage.h"

typedef struct {
    Core *core;
    const Domain *domain;
    GHashTable *infos; /* path -> ImageInfo of an image that holds memory states */
} Figures;

gboolean figures_is_one(EngineText text)
{
    return text == ENGINE_TEXT_USAGE || text == ENGINE_TEXT_CHANGES;
}

static DiskReader *open_disk(gpointer user, EngineId id, GCancellable *cancel, GError **error)
{
    const Figures *figures = user;
    return content_open(figures->core, id, 0, cancel, error);
}

/* NULL: it cannot be read. */
static const ImageInfo *inspect(Figures *figures, const Layer *layer)
{
    const Backend *backend = figures->core->backend;
    ImageInfo *info = g_hash_table_lookup(figures->infos, layer->path);
    if (info || !layer_is_local(layer) || layer->format != FORMAT_QCOW2)
        return info;
    if (!backend->ops->inspect(figures->core->backend, layer->path, layer->format, &info, NULL))
        return NULL;
    g_hash_table_insert(figures->infos, layer->path, info);
    return info;
}

static guint64 memory_inside(gpointer user, const Layer *layer)
{
    guint64 bytes = 0;
    const ImageInfo *info = inspect(user, layer);
    for (guint i = 0; info && i < info->tags->len; i++)
        bytes += ((const ImageTag *)info->tags->pdata[i])->vm_state_size;
    return bytes;
}

/* The memory beside @disk's internal state, in its image. */
static gboolean memory_beside(Figures *figures, const StateDisk *disk, guint64 *bytes)
{
    const ImageInfo *info = inspect(figures, disk->layer);
    for (guint i = 0; info && i < info->tags->len; i++) {
        const ImageTag *tag = info->tags->pdata[i];
        if (strcmp(tag->name, disk->tag) == 0)
            *bytes += tag->vm_state_size;
    }
    return info != NULL;
}

static gboolean memory_of(gpointer user, const Snapshot *snapshot, guint64 *ret_bytes)
{
    Figures *figures = user;
    const Domain *domain = figures->domain;
    const SideFile *file = snapshot ? &snapshot->memory_file : &domain->saved;
    guint64 bytes = 0;
    gboolean known = TRUE;
    if (file->path) {
        FileLook look;
        g_autofree char *path = store_side_file(figures->core->store, domain->name, file);
        known = file_look(path, &look, NULL);
        bytes = known ? look.blocks * 512 : 0;
    }
    for (guint i = 0; known && snapshot && snapshot->memory == MODE_INTERNAL && i < snapshot->disks->len;
         i++) {
        const StateDisk *disk = snapshot->disks->pdata[i];
        known = !disk->tag || memory_beside(figures, disk, &bytes);
    }
    *ret_bytes = bytes;
    return known;
}

static char *make_usage(Figures *figures, GCancellable *cancel, GError **error)
{
    const UsageSource source = {open_disk, memory_of, memory_inside, figures};
    return usage_text(figures->domain, &source, cancel, error);
}

static char *make_changes(Figures *figures, EngineId id, GCancellable *cancel, GError **error)
{
    const ChangesSource source = {open_disk, figures};
    const Snapshot *snapshot = domain_snapshot(figures->domain, id);
    if (snapshot)
        return changes_text(snapshot, &source, cancel, error);
    snap_set_error(error, ENOENT, "it is gone");
    return NULL;
}

/* For stat. */
static void note_size(Core *core, EngineId id, gsize size)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    Domain *domain = core_object(core, id, ENGINE_DOMAIN);
    Snapshot *snapshot = core_object(core, id, ENGINE_SNAPSHOT);
    if (domain)
        domain->usage_size = size;
    else if (snapshot)
        snapshot->changes_size = size;
}

static Domain *copy_domain(Core *core, EngineId id)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    const Domain *domain = core_domain_of(core, id);
    return domain ? domain_copy(domain) : NULL;
}

char *figures_text(Core *core, EngineText text, EngineId id, GCancellable *cancel, GError **error)
{
    g_autoptr(Domain) domain = copy_domain(core, id);
    if (!domain) {
        snap_set_error(error, ENOENT, "it is gone");
        return NULL;
    }
    g_autoptr(GHashTable) infos =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)image_info_free);
    Figures figures = {core, domain, infos};
    char *made = text == ENGINE_TEXT_USAGE ? make_usage(&figures, cancel, error)
                                           : make_changes(&figures, id, cancel, error);
    if (made)
        note_size(core, id, strlen(made));
    return made;
}
