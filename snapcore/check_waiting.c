/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What waits in a domain: what revert --undo brings back, and files of ours that could not be removed yet. */
#include "check_run.h"
#include "leftovers.h"

/* --- undo --- */

#define FORGOTTEN "revert --undo cannot bring it back; the next create, revert, delete or redefine forgets it"

static void check_undo(Check *check, const Domain *domain)
{
    g_autofree char *path = store_domain_file(check->core->store, domain->name, "undo.xml");
    const CheckPlace place = {.domain = domain->name, .file = path};
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;
    gsize len;
    if (!domain->undo) {
        if (file_exists(path) && !domain->broken)
            check_problem(check, &place, "move it somewhere else",
                          "no revert that could be undone goes with it");
        return;
    }
    g_autoptr(DomainDef) def =
        file_load(path, STORE_TEXT_MAX, &text, &len, &why) ? domain_def_parse(text, len, &why) : NULL;
    if (!def)
        check_problem(check, &place, FORGOTTEN, "what the last revert threw away has no definition: %s",
                      why->message);
}

/* --- files that should have gone --- */

static gboolean mend_leftovers(Check *check, gpointer data, GError **error)
{
    Domain *domain = data;
    (void)leftovers_remove(check->core->backend, domain);
    return check_write_sidecar(check, domain, NULL, error);
}

static void check_leftovers(Check *check, Domain *domain)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < domain->leftovers->len; i++) {
        const Leftover *leftover = domain->leftovers->pdata[i];
        if (leftover_is_due(check->core->backend, leftover))
            g_ptr_array_add(paths, g_strdup(leftover->path));
    }
    for (guint i = 0; i < paths->len && !domain->broken; i++) {
        const CheckPlace place = {.domain = domain->name, .file = paths->pdata[i]};
        (void)check_mendable(check, &place, "it is removed, as by the next mount", mend_leftovers, domain,
                             "domsnapfs made it, nothing needs it any more, and it could not be removed yet");
    }
}

void check_waiting(Check *check, Domain *domain)
{
    check_undo(check, domain);
    check_leftovers(check, domain);
}
