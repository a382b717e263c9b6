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

/* @path without its last extension, as libvirt cuts it (facts/libvirt-snapshots.md 3.1), but never to nothing. */
static char *cut_extension(const char *path)
{
    const char *base = strrchr(path, '/') + 1;
    const char *dot = strrchr(base, '.');
    return dot && dot != base ? g_strndup(path, (gsize)(dot - path)) : g_strdup(path);
}

/* What overlays on @layer are named from; NULL: it is not a file, and none stood on it or below it yet. */
static char *stem_of(const Layer *layer)
{
    if (layer->stem)
        return g_strdup(layer->stem);
    return layer->type == DISK_FILE ? cut_extension(layer->path) : NULL;
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

/* What names of overlays on @on begin with. Caller frees. */
static char *checked_stem(const Layer *on, GError **error)
{
    g_autofree char *stem = stem_of(on);
    if (!stem)
        snap_set_error(error, EOPNOTSUPP, "no file name can be made from the block device '%s'", on->path);
    else if (strlen(strrchr(stem, '/')) + SUFFIX_ROOM >= NAME_MAX_BYTES)
        snap_set_error(error, ENAMETOOLONG, "no file name can be made from '%s': it is too long", on->path);
    else
        return g_steal_pointer(&stem);
    return NULL;
}

/* @name as a part of a file's name: no slash, and nothing that a path in a definition may not have. Caller frees. */
static char *name_part(const char *name)
{
    GString *part = g_string_new(NULL);
    for (const char *p = name; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        g_string_append_unichar(part, c == '/' || g_unichar_iscntrl(c) ? '_' : c);
    }
    return g_string_free(part, FALSE);
}

char *overlay_exact_name(const Layer *on, const char *name, char **ret_stem, GError **error)
{
    g_autofree char *part = name_part(name);
    g_autofree char *stem = checked_stem(on, error);
    if (!stem)
        return NULL;
    char *path = g_strdup_printf("%s.%s", stem, part);
    *ret_stem = g_steal_pointer(&stem);
    return path;
}

char *overlay_name(Op *op, const Layer *on, const char *wanted, char **ret_stem, GError **error)
{
    g_autofree char *name = name_part(wanted);
    g_autofree char *stem = checked_stem(on, error);
    if (!stem)
        return NULL;
    gsize used = strlen(strrchr(stem, '/'));
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
    if (strcmp(file, "memory") == 0 || strcmp(file, "screenshot.png") == 0)
        return TRUE;
    return g_regex_match_simple("^(?:x?vd|sd|hd|fd|ubd)[a-z]+\\.(?:qcow2|qed|raw)$", file,
                                G_REGEX_DOLLAR_ENDONLY, 0);
}

char *overlay_backing_name(const Domain *domain, const char *path, const Layer *on)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *other = g_path_get_dirname(on->path);
    const char *file = strrchr(on->path, '/') + 1;
    if (on->type != DISK_FILE || strcmp(dir, other) != 0 || is_shown_name(domain, file))
        return g_strdup(on->path);
    return g_strconcat("./", file, NULL);
}

/*
 * A layer on @on, new in op->domain; what file it is is recorded once the steps are done. Where one of the two is a
 * device, names of files are made from the other one.
 */
static Layer *add_layer(Op *op, const char *path, DiskType type, ImageFormat format, Layer *on,
                        const char *stem)
{
    Layer *layer = domain_take_layer(op->domain, path, format);
    g_autofree char *below = on ? stem_of(on) : NULL;
    if (on && !below && type == DISK_FILE)
        on->stem = cut_extension(path);
    layer->type = type;
    layer->backing = g_strdup(on ? on->path : NULL);
    layer->backing_format = on ? on->format : FORMAT_NONE;
    layer->stem = g_strdup(stem || type == DISK_FILE ? stem : below);
    g_ptr_array_add(op->unseen, layer);
    return layer;
}

/* What every new file has in common: the step that makes it, and the record of it. */
static Step *plan_layer(Op *op, StepKind kind, const char *disk, const Layer *like, Layer *on,
                        const char *path, const char *stem, ImageFormat format, guint64 size,
                        Layer **ret_layer, GError **error)
{
    g_assert(like);
    FileLook look;
    g_autofree char *name = on ? overlay_backing_name(op->domain, path, on) : NULL;
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

    *ret_layer = add_layer(op, path, DISK_FILE, format, on, stem);
    (*ret_layer)->made = TRUE;
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
    Layer *on = domain_find_layer(op->domain, from->backing);
    Step *step =
        plan_layer(op, STEP_COPY_OUT, disk, from, on, path, stem, FORMAT_QCOW2, size, ret_layer, error);
    if (!step)
        return FALSE;
    step->source = g_strdup(from->path);
    step->tag = g_strdup(tag);
    return TRUE;
}

guint overlay_active_mode(guint mode)
{
    return mode & 0222 ? mode : mode | 0200;
}

gboolean overlay_plan_place(Op *op, const char *disk, Layer *on, const char *path, DiskType type,
                            ImageFormat format, guint64 size, Layer **ret_layer, GError **error)
{
    Backend *backend = op->core->backend;
    const OverlaySpec spec = {
        .path = path, .format = format, .size = size, .backing_name = on->path, .backing_format = on->format};
    if (strlen(on->path) > MAX_BACKING_NAME) {
        snap_set_error(error, ENAMETOOLONG, "the path '%s' is too long for a backing file", on->path);
        return FALSE;
    }
    if (!backend->ops->place_check(backend, &spec, op->cancel, error))
        return FALSE;
    /* One after the other: were two of them one place by two names, the second would find it taken. */
    Step *step = plan_step(op->plan, STEP_PLACE, plan_next_stage(op->plan), disk, path);
    step->format = format;
    step->size = size;
    step->backing_name = g_strdup(on->path);
    step->backing_format = on->format;
    *ret_layer = add_layer(op, path, type, format, on, NULL);
    return TRUE;
}

Layer *overlay_adopt(Op *op, Layer *on, const char *path, const char *stem, DiskType type, ImageFormat format)
{
    return add_layer(op, path, type, format, on, stem);
}

gboolean overlay_freeze(Op *op, const char *disk, Layer *layer, Snapshot *home, GError **error)
{
    FileLook look;
    if (layer->frozen)
        return TRUE;
    if (!file_look(layer->path, &look, error))
        return FALSE;
    /* The running machine writes it until the very moment (instant.h). */
    Step *step = op->machine ? plan_after(op->plan, STEP_FREEZE, disk, layer->path)
                             : plan_step(op->plan, STEP_FREEZE, 1, disk, layer->path);
    step->mode = look.mode;
    layer->frozen = TRUE;
    layer->mode = overlay_active_mode(look.mode);
    layer->home = home;
    g_ptr_array_add(op->unseen, layer);
    return TRUE;
}

gboolean overlay_record(Op *op, GError **error)
{
    for (guint i = 0; i < op->unseen->len; i++) {
        Layer *layer = op->unseen->pdata[i];
        FileLook look;
        if (!layer_is_local(layer))
            continue;
        if (!file_look(layer->path, &look, error))
            return FALSE;
        layer->file = look.id;
        layer->type = look.block ? DISK_BLOCK : DISK_FILE;
        layer->stamp = look.stamp;
        layer->blocks = look.blocks;
        if (layer->frozen) /* once and for all */
            strays_look_layer(op->core->backend, layer);
    }
    return TRUE;
}
