/* SPDX-License-Identifier: GPL-2.0-or-later */
/* MachineBackend.check, and start: what was started, as a Machine. */
#include "start.h"

/* What the machine has; strings are those of @def. What is written to a transient disk does not reach its image. */
static void describe(const DomainDef *def, MachineSpec *spec, GArray *disks)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const DiskDef *disk = def->disks->pdata[i];
        MachineDisk there = {disk->target, disk->source, disk->readonly || disk->transient};
        if (disk->source)
            g_array_append_val(disks, there);
    }
    *spec = (MachineSpec){.name = def->name, .uuid = def->uuid, .disks = disks, .nvram = def->nvram};
}

gboolean online_check(Backend *backend, const MachineStart *start, GError **error)
{
    return start_check(((Online *)backend)->directory, start, error);
}

gboolean online_start(Backend *backend, const MachineStart *start, GCancellable *cancel,
                      Machine **ret_machine, DomainDef **ret_def, GPtrArray **ret_notes, GError **error)
{
    Online *online = (Online *)backend;
    Qmp *qmp = start_machine(backend, online->directory, start, cancel, ret_def, ret_notes, error);
    if (!qmp)
        return FALSE;
    MachineSpec spec;
    g_autoptr(GArray) disks = g_array_new(FALSE, FALSE, sizeof(MachineDisk));
    describe(*ret_def, &spec, disks);
    *ret_machine = qmp_machine_new(online, qmp, &spec);
    return TRUE;
}
