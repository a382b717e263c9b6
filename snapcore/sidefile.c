/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sidefile.h"

Step *sidefile_plan(Op *op, StepKind kind, const char *extension, SideFile *file)
{
    const char *domain = op->domain->name;
    g_autofree char *uuid = g_uuid_string_random();
    g_autofree char *name = g_strdup_printf(STORE_FILES "/%s.%s", uuid, extension);
    g_autofree char *path = store_domain_file(op->core->store, domain, name);
    g_autofree char *dir = g_path_get_dirname(path);
    (void)g_mkdir_with_parents(dir, 0700); /* if it fails, the step says so */
    side_file_set(file, name, NULL, TRUE);
    Step *step = plan_step(op->plan, kind, 0, extension, path);
    step->like = store_domain_file(op->core->store, domain, "domain.xml");
    step->mode = 0600;
    return step;
}

gboolean sidefile_record(const Op *op, const SideFile *from, SideFile *to, GError **error)
{
    FileLook look;
    if (!from->path)
        return TRUE;
    g_autofree char *path = store_side_file(op->core->store, op->domain->name, from);
    if (!file_look(path, &look, error))
        return FALSE;
    side_file_set(to, from->path, &look.id, TRUE);
    return TRUE;
}

void sidefile_plan_unlink(Op *op, const char *what, const SideFile *file)
{
    if (!file->path || !file->made)
        return;
    g_autofree char *path = store_side_file(op->core->store, op->domain->name, file);
    plan_after(op->plan, STEP_UNLINK, what, path)->id = file->id;
}
