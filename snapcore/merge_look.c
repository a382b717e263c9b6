/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Before anything is moved: is each layer what is recorded, does nobody else need it, and which way is right? */
#include "merge_join.h"

#include <errno.h>
#include <string.h>

#include "chain.h"
#include "error.h"

Layer *join_lowest(const Join *join)
{
    return join->merge->run->pdata[0];
}

/* Whoever stands on @layer without our knowing would read other bytes, or nothing. */
static gboolean check_strangers(const Join *join, const Layer *layer, GError **error)
{
    g_autofree char *clone = NULL;
    if (!chain_find_clone(join->op->core, join->op->domain, layer, FALSE, &clone, error))
        return FALSE;
    if (clone)
        snap_set_error(error, EBUSY, "an image that this domain does not know stands on '%s': '%s'",
                       layer->path, clone);
    return !clone;
}

/* What the user has taken by hand stays the user's: with @layer's file it would go. */
static gboolean check_tags(const Join *join, const Layer *layer, const ImageInfo *info, GError **error)
{
    for (guint i = 0; i < info->tags->len; i++) {
        const char *name = ((const ImageTag *)info->tags->pdata[i])->name;
        if (domain_tag_named(join->op->domain, layer, name) ||
            g_ptr_array_find_with_equal_func(layer->stale, name, g_str_equal, NULL))
            continue;
        snap_set_error(error, EBUSY,
                       "'%s' has the internal snapshot '%s', which no snapshot names: delete it, or "
                       "name it (redefine)",
                       layer->path, name);
        return FALSE;
    }
    return TRUE;
}

/* @goes: its file does. */
static gboolean check_layer(const Join *join, const Layer *layer, gboolean goes, GError **error)
{
    Op *op = join->op;
    FileLook look;
    g_autoptr(ImageInfo) info = NULL;
    if (!file_look(layer->path, &look, error) || !op_take_image(op, layer->path, error))
        return FALSE;
    if (look.block != (layer->type == DISK_BLOCK))
        snap_set_error(error, EIO, "'%s' %s a block device", layer->path,
                       look.block ? "has become" : "is no longer");
    else if (!file_id_equal(&look.id, &layer->file))
        snap_set_error(error, EIO, "'%s' is not the file that was recorded", layer->path);
    else if (op_is_shared(op, layer))
        snap_set_error(error, EBUSY, "another domain has '%s', too", layer->path);
    else
        return chain_inspect(op->core, op->domain, layer, &info, error) &&
               (!goes || check_tags(join, layer, info, error));
    return FALSE;
}

gboolean join_check_strangers(const Join *join, GError **error)
{
    const Merge *merge = join->merge;
    for (guint i = 0; i < merge->run->len; i++)
        if (!check_strangers(join, merge->run->pdata[i], error))
            return FALSE;
    return !merge->top || strcmp(merge_path(merge), merge->top->path) == 0 ||
           check_strangers(join, merge->top, error);
}

static gboolean size_of(const Join *join, const Layer *layer, guint64 *ret_size, GError **error)
{
    g_autoptr(ImageInfo) info = NULL;
    if (!chain_inspect(join->op->core, join->op->domain, layer, &info, error))
        return FALSE;
    *ret_size = info->virtual_size;
    return TRUE;
}

guint64 join_bytes_of(const Layer *layer)
{
    FileLook look;
    if (!file_look(layer->path, &look, NULL))
        return 0;
    return look.block ? 0 : MIN(look.stamp.size, look.blocks * 512); /* file systems may set more aside */
}

/*
 * Down moves all but the lowest layer, up all but the top, which is copied first, unless it is written in place. So up is
 * cheaper only where that copy costs nothing, and the lowest layer is the smaller one.
 */
static gboolean is_up_cheaper(const Merge *merge)
{
    return merge->may_up && join_bytes_of(merge->run->pdata[0]) < join_bytes_of(merge->top) &&
           (merge->in_place || file_copies_for_free(merge->top->path));
}

/*
 * The sizes along the run, from the lowest one up: *ret_smaller is the index in it of the first layer that is smaller
 * than what it stands on (the run's length: the top), or -1.
 */
static gboolean look_at_sizes(Join *join, guint64 *ret_first, int *ret_smaller, GError **error)
{
    const Merge *merge = join->merge;
    guint64 size = 0;
    *ret_smaller = -1;
    for (guint i = 0; i <= merge->run->len; i++) {
        const Layer *layer = i < merge->run->len ? merge->run->pdata[i] : merge->top;
        if (!size_of(join, layer, &join->upper_size, error))
            return FALSE;
        if (i == 0)
            *ret_first = join->upper_size;
        else if (join->upper_size < size && *ret_smaller < 0)
            *ret_smaller = (int)i;
        size = join->upper_size;
    }
    return TRUE;
}

/* What a shrunk layer hides must not come to light again: those from it on are joined, without what it stands on. */
static gboolean cut_below(const Merge *merge, guint smaller, GError **error)
{
    if (smaller < merge->run->len) {
        g_ptr_array_remove_range(merge->run, 0, smaller);
        return TRUE;
    }
    snap_set_error(error, EOPNOTSUPP, "'%s' is smaller than what it stands on, and cannot be copied up",
                   merge->top->path);
    return FALSE;
}

gboolean join_choose_way(Join *join, GError **error)
{
    Merge *merge = join->merge;
    guint64 first;
    int smaller;
    if (merge->kind == MERGE_DROP)
        return TRUE;
    do {
        if (!look_at_sizes(join, &first, &smaller, error))
            return FALSE;
        if (merge->may_up && (smaller >= 0 || is_up_cheaper(merge)))
            merge->kind = MERGE_UP;
        if (merge->kind == MERGE_UP)
            return TRUE;
        if (smaller >= 0 && !cut_below(merge, (guint)smaller, error))
            return FALSE;
    } while (smaller >= 0);
    if (join_lowest(join)->type != DISK_BLOCK || join->upper_size <= first)
        return TRUE;
    snap_set_error(error, EOPNOTSUPP, "'%s' is too small: the disk has grown to %" G_GUINT64_FORMAT " bytes",
                   join_lowest(join)->path, join->upper_size);
    return FALSE;
}

gboolean join_take_layers(Join *join, GError **error)
{
    const Merge *merge = join->merge;
    for (guint i = 0; i < merge->run->len; i++) {
        const Layer *layer = merge->run->pdata[i];
        gboolean whole = i == 0 && merge->kind != MERGE_UP;
        if (!(whole ? op_take(join->op, layer, &join->lower_fd, error) : op_hold(join->op, layer, error)) ||
            !check_layer(join, layer, i > 0 || merge->kind != MERGE_DOWN, error) ||
            !check_strangers(join, layer, error))
            return FALSE;
    }
    if (!merge->top)
        return TRUE;
    gboolean renamed = strcmp(merge_path(merge), merge->top->path) != 0;
    return op_hold(join->op, merge->top, error) &&
           check_layer(join, merge->top, merge->kind == MERGE_DOWN, error) &&
           (!renamed || check_strangers(join, merge->top, error));
}

gboolean join_check_layers(const Join *join, GError **error)
{
    const Merge *merge = join->merge;
    for (guint i = 0; i < merge->run->len; i++) {
        const Layer *layer = merge->run->pdata[i];
        if (!check_layer(join, layer, i > 0 || merge->kind != MERGE_DOWN, error) ||
            !check_strangers(join, layer, error))
            return FALSE;
    }
    gboolean goes = merge->kind == MERGE_DOWN;
    return check_layer(join, merge->top, goes, error) && (!goes || check_strangers(join, merge->top, error));
}
