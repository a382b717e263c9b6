/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "names.h"
#include "strays.h"

#define MAX_SUFFIX 100000
#define MAX_BACKING_NAME 1023 /* bytes, of the qcow2 format */
#define MAX_TAG 255           /* bytes; qemu-img cuts longer ones silently (facts/qemu.md A1) */
#define SUFFIX_ROOM 12

/* The path without its last extension, as libvirt cuts it (facts/libvirt-snapshots.md 3.1), but never to nothing. */
static char *stem_of(const Layer *layer)
{
    if (layer->stem)
        return g_strdup(layer->stem);
    const char *base = strrchr(layer->path, '/') + 1;
    const char *dot = strrchr(base, '.');
    return dot && dot != base ? g_strndup(layer->path, (gsize)(dot - layer->path)) : g_strdup(layer->path);
}

/* The longest beginning of @text of at most @max bytes that ends between characters. */
static char *cut(const char *text, gsize max)
{
    gsize len = strlen(text);
    if (len <= max)
        return g_strdup(text);
    while (max > 0 && ((guchar)text[max] & 0xC0) == 0x80)
        max--;
    return g_strndup(text, max);
}

static gboolean path_taken(Op *op, const char *path)
{
    g_autofree char *other = NULL;
    return file_exists(path) || domain_find_layer(op->domain, path) ||
           core_used_elsewhere(op->core, op->domain->object.id, path, NULL, FALSE, &other);
}

char *overlay_name(Op *op, const Layer *on, const char *name, char **ret_stem, GError **error)
{
    g_autofree char *stem = stem_of(on);
    const char *base = strrchr(stem, '/') + 1;
    gsize used = strlen(base) + 1;
    if (g_str_has_prefix(stem, "/dev/")) {
        snap_set_error(error, EOPNOTSUPP, "no file name can be made from the block device '%s'", on->path);
        return NULL;
    }
    if (used + SUFFIX_ROOM >= NAME_MAX_BYTES) {
        snap_set_error(error, ENAMETOOLONG, "no file name can be made from '%s': it is too long", on->path);
        return NULL;
    }
    gboolean fits = used + strlen(name) <= NAME_MAX_BYTES;
    g_autofree char *kept = cut(name, fits ? strlen(name) : NAME_MAX_BYTES - used - SUFFIX_ROOM);
    for (guint i = fits ? 0 : 1; i < MAX_SUFFIX; i++) {
        if (i == 1 && fits && used + strlen(kept) + SUFFIX_ROOM > NAME_MAX_BYTES) {
            char *shorter = cut(name, NAME_MAX_BYTES - used - SUFFIX_ROOM);
            g_free(kept);
            kept = shorter;
        }
        g_autofree char *path =
            i == 0 ? g_strdup_printf("%s.%s", stem, kept) : g_strdup_printf("%s.%s-%u", stem, kept, i);
        if (path_taken(op, path))
            continue;
        *ret_stem = g_steal_pointer(&stem);
        return g_steal_pointer(&path);
    }
    snap_set_error(error, EEXIST, "every name like '%s.%s' is taken", stem, name);
    return NULL;
}

static gboolean is_digits(const char *name)
{
    return strspn(name, "0123456789") == strlen(name);
}

#define BEFORE_DIGITS "snap-"

char *overlay_tag_of(const ImageInfo *info, const char *name)
{
    g_autofree char *other = g_strconcat(BEFORE_DIGITS, name, NULL);
    gboolean is_other = is_digits(name) && !image_info_has_tag(info, name) && image_info_has_tag(info, other);
    return is_other ? g_steal_pointer(&other) : g_strdup(name);
}

char *overlay_tag(const ImageInfo *info, const char *name)
{
    gboolean digits = is_digits(name);
    g_autofree char *kept = cut(name, MAX_TAG - SUFFIX_ROOM);
    g_autofree char *base = digits ? g_strconcat(BEFORE_DIGITS, kept, NULL) : NULL;
    char *tag = g_strdup(digits ? base : strlen(name) <= MAX_TAG ? name : kept);
    for (guint i = 1; image_info_has_tag(info, tag); i++) {
        g_free(tag);
        tag = g_strdup_printf("%s-%u", digits ? base : kept, i);
    }
    return tag;
}

/*
 * Is @file what the mount calls a disk's layer ("vda.qcow2"), or would call one that is added later? To whoever reads
 * through the mount a relative backing name would then be that layer itself: a loop, or another disk's bytes without
 * a word.
 */
static gboolean is_shown_name(const Domain *domain, const char *file)
{
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const char *target = ((DiskDef *)domain->def->disks->pdata[i])->target;
        gsize len = strlen(target);
        if (strncmp(file, target, len) == 0 && file[len] == '.')
            return TRUE;
    }
    return g_regex_match_simple("^(?:x?vd|sd|hd|fd|ubd)[a-z]+\\.(?:qcow2|qed|raw)$", file, G_REGEX_DOLLAR_ENDONLY, 0);
}

/* The name of @backing in the header of @path: "./name" in one directory, so that a moved directory stays whole. */
static char *backing_name(const Domain *domain, const char *path, const char *backing)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *other = g_path_get_dirname(backing);
    const char *file = strrchr(backing, '/') + 1;
    if (strcmp(dir, other) != 0 || is_shown_name(domain, file))
        return g_strdup(backing);
    return g_strconcat("./", file, NULL);
}

/* What every new layer has in common: the step that makes its file, and the record of it. */
static Step *plan_layer(Op *op, StepKind kind, const char *disk, const Layer *like, const Layer *on,
                        const char *path, const char *stem, ImageFormat format, guint64 size,
                        Layer **ret_layer, GError **error)
{
    g_assert(like);
    FileLook look;
    g_autofree char *name = on ? backing_name(op->domain, path, on->path) : NULL;
    if (!file_look(like->path, &look, error))
        return NULL;
    if (file_exists(path)) {
        snap_set_error(error, EEXIST, "disk '%s': '%s' exists already", disk, path);
        return NULL;
    }
    if (name && strlen(name) > MAX_BACKING_NAME) {
        snap_set_error(error, ENAMETOOLONG, "disk '%s': the path '%s' is too long for a backing file", disk,
                       on->path);
        return NULL;
    }
    Step *step = plan_step(op->plan, kind, 0, disk, path);
    step->like = g_strdup(like->path);
    step->mode = like->frozen ? like->mode : look.mode;
    step->format = format;
    step->size = size;
    step->backing_name = g_steal_pointer(&name);
    step->backing_format = on ? on->format : FORMAT_NONE;

    Layer *layer = domain_take_layer(op->domain, path, format);
    layer->backing = g_strdup(on ? on->path : NULL);
    layer->backing_format = step->backing_format;
    layer->made = TRUE;
    layer->stem = g_strdup(stem);
    g_ptr_array_add(op->unseen, layer);
    *ret_layer = layer;
    return step;
}

gboolean overlay_plan(Op *op, const char *disk, Layer *on, const char *path, const char *stem,
                      ImageFormat format, guint64 size, Layer **ret_layer, GError **error)
{
    return plan_layer(op, STEP_OVERLAY, disk, on, on, path, stem, format, size, ret_layer, error) != NULL;
}

gboolean overlay_plan_copy(Op *op, const char *disk, Layer *from, const char *tag, const char *path,
                           const char *stem, guint64 size, Layer **ret_layer, GError **error)
{
    const Layer *on = domain_find_layer(op->domain, from->backing);
    Step *step =
        plan_layer(op, STEP_COPY_OUT, disk, from, on, path, stem, FORMAT_QCOW2, size, ret_layer, error);
    if (!step)
        return FALSE;
    step->source = g_strdup(from->path);
    step->tag = g_strdup(tag);
    return TRUE;
}

gboolean overlay_freeze(Op *op, const char *disk, Layer *layer, Snapshot *home, GError **error)
{
    FileLook look;
    if (layer->frozen)
        return TRUE;
    if (!file_look(layer->path, &look, error))
        return FALSE;
    Step *step = plan_step(op->plan, STEP_FREEZE, 1, disk, layer->path);
    step->mode = look.mode;
    layer->frozen = TRUE;
    layer->mode = look.mode;
    layer->home = home;
    g_ptr_array_add(op->unseen, layer);
    return TRUE;
}

gboolean overlay_record(Op *op, GError **error)
{
    for (guint i = 0; i < op->unseen->len; i++) {
        Layer *layer = op->unseen->pdata[i];
        FileLook look;
        if (!file_look(layer->path, &look, error))
            return FALSE;
        layer->file = look.id;
        layer->stamp = look.stamp;
        layer->blocks = look.blocks;
        if (layer->frozen) /* once and for all */
            strays_look_layer(op->core->backend, layer);
    }
    return TRUE;
}
