/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "handle.h"

/* One that is open. */
typedef struct {
    gpointer open;
    GDestroyNotify free_open;
} Handle;

struct Handles {
    GMutex lock;
    GHashTable *handles; /* what is open -> Handle */
};

Handles *handles_new(void)
{
    Handles *handles = g_new0(Handles, 1);
    g_mutex_init(&handles->lock);
    handles->handles = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    return handles;
}

void handles_free(Handles *handles)
{
    GHashTableIter iter;
    gpointer value;
    g_autoptr(GHashTable) left = g_steal_pointer(&handles->handles);
    handles->handles = g_hash_table_new_full(NULL, NULL, NULL, g_free); /* freeing takes itself out */
    g_hash_table_iter_init(&iter, left);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        ((Handle *)value)->free_open(((Handle *)value)->open);
    g_hash_table_unref(handles->handles);
    g_mutex_clear(&handles->lock);
    g_free(handles);
}

void handles_add(Handles *handles, gpointer open, GDestroyNotify free_open)
{
    Handle *handle = g_new0(Handle, 1);
    *handle = (Handle){open, free_open};
    g_mutex_lock(&handles->lock);
    g_hash_table_insert(handles->handles, open, handle);
    g_mutex_unlock(&handles->lock);
}

gboolean handles_find(Handles *handles, GDestroyNotify free_open,
                      gboolean (*match)(gpointer open, gpointer user), gpointer user)
{
    GHashTableIter iter;
    gpointer value;
    gboolean found = FALSE;
    g_mutex_lock(&handles->lock);
    g_hash_table_iter_init(&iter, handles->handles);
    while (!found && g_hash_table_iter_next(&iter, NULL, &value)) {
        const Handle *handle = value;
        found = handle->free_open == free_open && match(handle->open, user);
    }
    g_mutex_unlock(&handles->lock);
    return found;
}

void handles_remove(Handles *handles, gpointer open)
{
    g_mutex_lock(&handles->lock);
    g_hash_table_remove(handles->handles, open);
    g_mutex_unlock(&handles->lock);
}
