/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "undo.h"

#include <errno.h>

#include "error.h"
#include "sidefile.h"

#define UNDO_FILE "undo.xml"

void undo_forget(Op *op)
{
    Snapshot *undo = op->domain->undo;
    if (!undo)
        return;
    g_autoptr(GPtrArray) disks = g_steal_pointer(&undo->disks);
    undo->disks = g_ptr_array_new();
    sidefile_plan_unlink(op, "nvram", &undo->nvram);
    domain_clear_undo(op->domain);
    for (guint i = 0; i < disks->len; i++) {
        const StateDisk *disk = disks->pdata[i];
        if (disk->tag && !domain_tag_named(op->domain, disk->layer, disk->tag))
            op_drop_tag(op, disk->target, disk->layer, disk->tag);
    }
    plan_write(op->plan, UNDO_FILE, NULL);
    op_write_sidecar(op);
}

Snapshot *undo_begin(Op *op, GError **error)
{
    g_autofree char *text = op_definition_text(op->domain->def, error);
    if (!text)
        return NULL;
    undo_forget(op);
    Snapshot *undo = domain_new_undo(op->domain);
    undo->parent = op->domain->current;
    plan_write(op->plan, UNDO_FILE, text);
    return undo;
}

void undo_keep_nvram(Op *op, Snapshot *undo, const char *path)
{
    FileLook look;
    if (file_look(path, &look, NULL))
        sidefile_plan(op, STEP_COPY, "nvram", &undo->nvram)->source = g_strdup(path);
}

gboolean undo_record(Op *op, GError **error)
{
    Snapshot *undo = op->domain->undo;
    return !undo || sidefile_record(op, &undo->nvram, &undo->nvram, error);
}

DomainDef *undo_definition(Op *op, GError **error)
{
    g_autofree char *path = store_domain_file(op->core->store, op->domain->name, UNDO_FILE);
    g_autofree char *text = NULL;
    gsize len;
    if (!op->domain->undo) {
        snap_set_error(error, ENOENT, "there is nothing to undo");
        return NULL;
    }
    if (!file_load(path, STORE_TEXT_MAX, &text, &len, error))
        return NULL;
    g_autoptr(DomainDef) def = domain_def_parse(text, len, error);
    if (!def)
        return NULL;
    domain_def_set_name(def, op->domain->name);
    domain_def_set_uuid(def, op->domain->def->uuid);
    return g_steal_pointer(&def);
}
