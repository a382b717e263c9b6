/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "leftovers.h"

#include "clones.h"

static gboolean is_there(const Leftover *leftover)
{
    FileLook look;
    return file_look(leftover->path, &look, NULL) && file_id_same(&leftover->id, &look.id);
}

gboolean leftover_is_due(Backend *backend, const Leftover *leftover)
{
    g_autofree char *clone = NULL;
    return is_there(leftover) && clones_find_named(backend, leftover->path, &clone, NULL) && !clone;
}

/* Has it gone, by us or by others? */
static gboolean is_gone(Backend *backend, const Leftover *leftover)
{
    if (!is_there(leftover))
        return TRUE;
    return leftover_is_due(backend, leftover) && file_remove_if(leftover->path, &leftover->id, NULL);
}

/* One may stand on another: those above were put on the list first. */
gboolean leftovers_remove(Backend *backend, Domain *domain)
{
    guint before = domain->leftovers->len;
    for (guint i = 0; i < domain->leftovers->len;) {
        if (is_gone(backend, domain->leftovers->pdata[i]))
            g_ptr_array_remove_index(domain->leftovers, i);
        else
            i++;
    }
    return domain->leftovers->len < before;
}
