/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "leftovers.h"

#include "clones.h"

gboolean leftover_is_due(Backend *backend, const Leftover *leftover)
{
    g_autofree char *clone = NULL;
    FileLook look;
    return file_look(leftover->path, &look, NULL) && file_id_same(&leftover->id, &look.id) &&
           clones_find_named(backend, leftover->path, &clone, NULL) && !clone;
}

/* One may stand on another: those above were put on the list first. */
gboolean leftovers_remove(Backend *backend, Domain *domain)
{
    guint before = domain->leftovers->len;
    for (guint i = 0; i < domain->leftovers->len;) {
        const Leftover *leftover = domain->leftovers->pdata[i];
        if (clones_remove_unnamed(backend, leftover->path, &leftover->id, NULL))
            g_ptr_array_remove_index(domain->leftovers, i);
        else
            i++;
    }
    return domain->leftovers->len < before;
}
