/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mirror.h"

/* --- making and copying --- */

static GHashTable *contents_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_bytes_unref);
}

static GHashTable *texts_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
}

static GHashTable *contents_copy(GHashTable *from)
{
    GHashTable *to = contents_new();
    GHashTableIter iter;
    gpointer key, value;
    g_hash_table_iter_init(&iter, from);
    while (g_hash_table_iter_next(&iter, &key, &value))
        g_hash_table_insert(to, g_strdup(key), g_bytes_ref(value));
    return to;
}

static GHashTable *texts_copy(GHashTable *from)
{
    GHashTable *to = texts_new();
    GHashTableIter iter;
    gpointer key, value;
    g_hash_table_iter_init(&iter, from);
    while (g_hash_table_iter_next(&iter, &key, &value))
        g_hash_table_insert(to, g_strdup(key), g_strdup(value));
    return to;
}

static MirrorState *state_new(const char *name, const char *parent, GHashTable *disks, GHashTable *attached)
{
    MirrorState *state = g_new0(MirrorState, 1);
    state->name = g_strdup(name);
    state->parent = g_strdup(parent);
    state->disks = disks;
    state->attached = attached;
    return state;
}

static void state_free(MirrorState *state)
{
    if (!state)
        return;
    g_free(state->name);
    g_free(state->parent);
    g_hash_table_unref(state->disks);
    g_hash_table_unref(state->attached);
    g_free(state);
}

static MirrorState *state_copy(const MirrorState *state)
{
    return state_new(state->name, state->parent, contents_copy(state->disks), texts_copy(state->attached));
}

Mirror *mirror_new(const char *domain)
{
    Mirror *mirror = g_new0(Mirror, 1);
    mirror->domain = g_strdup(domain);
    mirror->states = g_ptr_array_new_with_free_func((GDestroyNotify)state_free);
    mirror->now = contents_new();
    mirror->kept = contents_new();
    mirror->mine = texts_new();
    mirror->clones = texts_new();
    mirror->outside = texts_new();
    return mirror;
}

Mirror *mirror_copy(const Mirror *mirror)
{
    Mirror *copy = g_new0(Mirror, 1);
    *copy = *mirror;
    copy->domain = g_strdup(mirror->domain);
    copy->current = g_strdup(mirror->current);
    copy->states = g_ptr_array_new_with_free_func((GDestroyNotify)state_free);
    for (guint i = 0; i < mirror->states->len; i++)
        g_ptr_array_add(copy->states, state_copy(mirror->states->pdata[i]));
    copy->undo = mirror->undo ? state_copy(mirror->undo) : NULL;
    copy->now = contents_copy(mirror->now);
    copy->kept = contents_copy(mirror->kept);
    copy->mine = texts_copy(mirror->mine);
    copy->clones = texts_copy(mirror->clones);
    copy->outside = texts_copy(mirror->outside);
    return copy;
}

void mirror_free(Mirror *mirror)
{
    if (!mirror)
        return;
    g_free(mirror->domain);
    g_free(mirror->current);
    g_ptr_array_unref(mirror->states);
    state_free(mirror->undo);
    g_hash_table_unref(mirror->now);
    g_hash_table_unref(mirror->kept);
    g_hash_table_unref(mirror->mine);
    g_hash_table_unref(mirror->clones);
    g_hash_table_unref(mirror->outside);
    g_free(mirror);
}

MirrorState *mirror_find(const Mirror *mirror, const char *name)
{
    for (guint i = 0; i < mirror->states->len; i++)
        if (g_strcmp0(((MirrorState *)mirror->states->pdata[i])->name, name) == 0)
            return mirror->states->pdata[i];
    return NULL;
}

GPtrArray *mirror_keys(GHashTable *table)
{
    GPtrArray *keys = g_ptr_array_new();
    GHashTableIter iter;
    gpointer key;
    g_hash_table_iter_init(&iter, table);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        g_ptr_array_add(keys, key);
    g_ptr_array_sort(keys, compare_texts);
    return keys;
}

/* --- what was done --- */

static void put(GHashTable *table, const char *key, GBytes *content)
{
    g_hash_table_insert(table, g_strdup(key), g_bytes_ref(content));
}

static void forget_undo(Mirror *mirror)
{
    g_clear_pointer(&mirror->undo, state_free);
    mirror->undo_open = FALSE;
}

static void set_current(Mirror *mirror, const char *name)
{
    char *copy = g_strdup(name);
    g_free(mirror->current);
    mirror->current = copy;
}

void mirror_attach(Mirror *mirror, const char *target, const char *path, GBytes *content)
{
    put(mirror->now, target, content);
    g_hash_table_remove(mirror->kept, path);
    g_hash_table_remove(mirror->outside, path);
    forget_undo(mirror);
}

/* The image that disk @target wrote to is the user's now. */
static void take_out(Mirror *mirror, const char *target, const char *path)
{
    put(mirror->kept, path, g_hash_table_lookup(mirror->now, target));
    g_hash_table_insert(mirror->outside, g_strdup(path), g_strdup(target));
    mirror->released = mirror->released || !g_hash_table_contains(mirror->mine, path);
}

void mirror_detach(Mirror *mirror, const char *target, const char *path)
{
    take_out(mirror, target, path);
    g_hash_table_remove(mirror->now, target);
    forget_undo(mirror);
}

void mirror_write(Mirror *mirror, const char *target, GBytes *content)
{
    put(mirror->now, target, content);
}

void mirror_create(Mirror *mirror, const char *name, GHashTable *left_out, GHashTable *paths)
{
    GHashTable *disks = contents_copy(mirror->now);
    GHashTableIter iter;
    gpointer target;
    g_hash_table_iter_init(&iter, left_out);
    while (g_hash_table_iter_next(&iter, &target, NULL))
        g_hash_table_remove(disks, target);
    g_ptr_array_add(mirror->states, state_new(name, mirror->current, disks, texts_copy(paths)));
    set_current(mirror, name);
    forget_undo(mirror);
}

/* What the domain has after going to @to, of which a disk may come back that was taken out. NULL: nobody knows. */
static GHashTable *contents_at(const Mirror *mirror, const MirrorState *to)
{
    g_autoptr(GHashTable) then = contents_new();
    GHashTableIter iter;
    gpointer target, path;
    g_hash_table_iter_init(&iter, to->attached);
    while (g_hash_table_iter_next(&iter, &target, &path)) {
        GBytes *content = g_hash_table_lookup(to->disks, target);
        if (!content)
            content = g_hash_table_lookup(mirror->now, target);
        if (!content)
            content = g_hash_table_lookup(mirror->kept, path);
        if (!content)
            return NULL;
        put(then, target, content);
    }
    return g_steal_pointer(&then);
}

/* Disks that come back with the image they had (undo brings back all of them so): it is not the user's any more. */
static void come_back(Mirror *mirror, const MirrorState *to)
{
    GHashTableIter iter;
    gpointer target, path;
    g_hash_table_iter_init(&iter, to->attached);
    while (g_hash_table_iter_next(&iter, &target, &path)) {
        if ((to != mirror->undo && g_hash_table_contains(to->disks, target)) ||
            g_hash_table_contains(mirror->now, target))
            continue;
        g_hash_table_remove(mirror->kept, path);
        g_hash_table_remove(mirror->outside, path);
    }
}

/* Of disks that leave what they wrote to stays: it is the user's. */
static void leave_out(Mirror *mirror, const MirrorState *to, GHashTable *paths)
{
    GHashTableIter iter;
    gpointer target;
    g_hash_table_iter_init(&iter, mirror->now);
    while (g_hash_table_iter_next(&iter, &target, NULL))
        if (!g_hash_table_contains(to->attached, target))
            take_out(mirror, target, g_hash_table_lookup(paths, target));
}

/* What is thrown away by going to @to: of disks that it changes, or that leave. */
static MirrorState *thrown_away(const Mirror *mirror, const MirrorState *to, GHashTable *paths)
{
    GHashTable *disks = contents_new();
    GHashTableIter iter;
    gpointer target, content;
    g_hash_table_iter_init(&iter, mirror->now);
    while (g_hash_table_iter_next(&iter, &target, &content))
        if (g_hash_table_contains(to->disks, target) || !g_hash_table_contains(to->attached, target))
            put(disks, target, content);
    return state_new("undo", mirror->current, disks, texts_copy(paths));
}

/* FALSE: nobody knows what there is then. */
static gboolean go_to(Mirror *mirror, const MirrorState *to, GHashTable *paths)
{
    GHashTable *then = contents_at(mirror, to);
    if (!then)
        return FALSE;
    leave_out(mirror, to, paths);
    come_back(mirror, to);
    g_hash_table_unref(mirror->now);
    mirror->now = then;
    return TRUE;
}

static gboolean descends(const Mirror *mirror, const MirrorState *state, const char *name)
{
    while (state && strcmp(state->name, name) != 0)
        state = mirror_find(mirror, state->parent);
    return state != NULL;
}

static void replace_text(char **text, const char *from, const char *to)
{
    if (g_strcmp0(*text, from) != 0)
        return;
    char *copy = g_strdup(to);
    g_free(*text);
    *text = copy;
}

/* Whatever calls a snapshot @from calls it @to (NULL: none) from now on. */
static void refer(Mirror *mirror, const char *from, const char *to)
{
    for (guint i = 0; i < mirror->states->len; i++)
        replace_text(&((MirrorState *)mirror->states->pdata[i])->parent, from, to);
    replace_text(&mirror->current, from, to);
    if (mirror->undo)
        replace_text(&mirror->undo->parent, from, to);
}

/* Names go, and nothing else. */
static void drop_names(Mirror *mirror, const char *taken, DeleteFlags flags)
{
    g_autofree char *name = g_strdup(taken);
    g_autoptr(GPtrArray) gone = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < mirror->states->len; i++) {
        const MirrorState *state = mirror->states->pdata[i];
        gboolean same = strcmp(state->name, name) == 0;
        gboolean below = !same && descends(mirror, state, name);
        if ((same && !(flags & DELETE_CHILDREN_ONLY)) ||
            (below && (flags & (DELETE_CHILDREN | DELETE_CHILDREN_ONLY))))
            g_ptr_array_add(gone, g_strdup(state->name));
    }
    for (guint i = 0; i < gone->len; i++) {
        MirrorState *state = mirror_find(mirror, gone->pdata[i]);
        refer(mirror, state->name, state->parent);
        g_ptr_array_remove(mirror->states, state);
    }
}

void mirror_delete(Mirror *mirror, const char *name, DeleteFlags flags)
{
    drop_names(mirror, name, flags);
    forget_undo(mirror);
}

gboolean mirror_revert(Mirror *mirror, const char *name, gboolean discard, gboolean delete_children,
                       GHashTable *paths)
{
    const MirrorState *to = mirror_find(mirror, name);
    MirrorState *undo = thrown_away(mirror, to, paths);
    if (!go_to(mirror, to, paths)) {
        state_free(undo);
        return FALSE;
    }
    forget_undo(mirror);
    if (discard)
        state_free(undo);
    else
        mirror->undo = undo;
    set_current(mirror, name);
    if (delete_children)
        drop_names(mirror, name, DELETE_CHILDREN_ONLY);
    return TRUE;
}

gboolean mirror_undo(Mirror *mirror, GHashTable *paths)
{
    if (!go_to(mirror, mirror->undo, paths))
        return FALSE;
    set_current(mirror, mirror->undo->parent);
    forget_undo(mirror);
    return TRUE;
}

void mirror_rename(Mirror *mirror, const char *name, const char *to)
{
    MirrorState *state = mirror_find(mirror, name);
    g_autofree char *old = g_strdup(name);
    refer(mirror, old, to);
    g_free(state->name);
    state->name = g_strdup(to);
}
