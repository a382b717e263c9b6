/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "state.h"

#include <errno.h>
#include <string.h>

#include "admit.h"
#include "chain.h"
#include "error.h"

Layer *state_layer(Core *core, Domain *domain, DomainDef *then, const char *target, GError **error)
{
    DiskDef *disk = domain_def_find_disk(then, target);
    if (!disk || !disk->source) {
        snap_set_error(error, EOPNOTSUPP, "disk '%s': the document names no local image for it", target);
        return NULL;
    }
    if (!admit_path(core, then, disk, error) || !chain_record(core, domain, disk, error)) {
        g_prefix_error(error, "disk '%s': ", target);
        return NULL;
    }
    return domain_find_layer(domain, disk->source);
}

static gboolean has_tag(Core *core, const Layer *layer, const char *name)
{
    g_autoptr(ImageInfo) info = NULL;
    if (layer->format != FORMAT_QCOW2 ||
        !core->backend->ops->inspect(core->backend, layer->path, layer->format, &info, NULL))
        return FALSE;
    for (guint i = 0; i < info->tags->len; i++)
        if (strcmp(((ImageTag *)info->tags->pdata[i])->name, name) == 0)
            return TRUE;
    return FALSE;
}

void state_find_tags(Core *core, Snapshot *snapshot)
{
    const Domain *domain = snapshot->domain;
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        Layer *layer = disk->readonly ? NULL : domain_active_layer(domain, disk);
        for (guint n = 0; layer && n < g_hash_table_size(domain->layers);
             n++) { /* bounded even if it were a loop */
            if (has_tag(core, layer, snapshot->name)) {
                snapshot_add_disk(snapshot, disk->target, layer, snapshot->name);
                break;
            }
            layer = domain_find_layer(domain, layer->backing);
        }
    }
}
