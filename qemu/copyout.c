/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "copyout.h"

#include <errno.h>

#include "copyfile.h"
#include "error.h"
#include "qcow2.h"
#include "qemuimg.h"

static Qcow2Image *read_image(const char *path, GError **error)
{
    g_autoptr(ImageFile) file = image_file_open(path, error);
    return file ? qcow2_read(file, error) : NULL;
}

/* Everything that would make the copy something else than the state. */
static gboolean check_request(const char *path, const Qcow2Image *image, const OverlaySpec *spec,
                              GError **error)
{
    if (spec->format != FORMAT_QCOW2) {
        snap_set_error(error, EOPNOTSUPP, "a state of '%s' can only become a qcow2 image", path);
        return FALSE;
    }
    if (image->info->encrypted || image->info->data_file) {
        snap_set_error(error, EOPNOTSUPP,
                       "'%s' is encrypted or has a data file: its states cannot be copied out", path);
        return FALSE;
    }
    if (!image->info->backing_name != !spec->backing_name) {
        snap_set_error(error, EINVAL, "'%s' %s a backing file, the copy of its state would not be the same",
                       path, spec->backing_name ? "has not" : "has");
        return FALSE;
    }
    return TRUE;
}

/* Does the new image have the geometry on which the safety of qemuimg_convert_state rests? */
static gboolean check_target(const Qcow2Image *image, const OverlaySpec *spec, GError **error)
{
    g_autoptr(Qcow2Image) target = read_image(spec->path, error);
    if (!target)
        return FALSE;
    if (target->info->cluster_size != image->info->cluster_size ||
        target->extended_l2 != image->extended_l2 || target->info->virtual_size != spec->size) {
        snap_set_error(error, EIO, "'%s' was not made as it was asked for", spec->path);
        return FALSE;
    }
    return TRUE;
}

/* The usual way: only what the state has of its own is copied. */
static gboolean copy_clusters(const char *program, const char *path, const Qcow2Image *image, const char *id,
                              const OverlaySpec *spec, GCancellable *cancel, GError **error)
{
    QemuImgGeometry geometry = {image->info->cluster_size, image->extended_l2};
    return qemuimg_create(program, spec, geometry, cancel, error) && check_target(image, spec, error) &&
           qemuimg_convert_state(program, path, id, spec, geometry.cluster_size, cancel, error);
}

/* Delete the tags of the copy but @keep: other states are not its business. Each by name, as often as the name is
 * there. */
static gboolean delete_tags(const char *program, const Qcow2Image *image, const char *keep, const char *path,
                            GCancellable *cancel, GError **error)
{
    for (guint i = 0; i < image->info->tags->len; i++) {
        const ImageTag *tag = g_ptr_array_index(image->info->tags, i);
        if (g_strcmp0(tag->name, keep) == 0)
            continue;
        if (!qemuimg_snapshot(program, QEMUIMG_TAG_DELETE, path, tag->name, cancel, error))
            return FALSE;
    }
    return TRUE;
}

/*
 * The whole file is copied, and the state made the present one there. For one with memory, which no conversion carries; and
 * when the image was resized since: qemu-img shows an old state only with the present size (tried: its end is cut off, or a
 * tail appears).
 */
static gboolean copy_whole(const char *program, const char *path, const Qcow2Image *image,
                           const ImageTag *tag, const OverlaySpec *spec, GCancellable *cancel, GError **error)
{
    const char *keep = tag->vm_state_size > 0 ? tag->name : NULL;
    return copyfile(path, spec->path, cancel, error) &&
           qemuimg_set_backing(program, spec->path, spec->backing_name, spec->backing_format, cancel,
                               error) &&
           qemuimg_snapshot(program, QEMUIMG_TAG_APPLY, spec->path, tag->id, cancel, error) &&
           delete_tags(program, image, keep, spec->path, cancel, error);
}

gboolean copyout(const char *program, const char *path, const char *tag, const OverlaySpec *spec,
                 GCancellable *cancel, GError **error)
{
    g_autoptr(Qcow2Image) image = read_image(path, error);
    const ImageTag *found = image ? qcow2_only_tag(image, path, tag, error) : NULL;
    if (!found || !check_request(path, image, spec, error))
        return FALSE;
    guint64 size = qcow2_tag_state(image, found)->size;
    OverlaySpec sized = *spec;
    sized.size = size; /* the state's own, whatever the caller took it to be */
    return size == image->info->virtual_size && found->vm_state_size == 0
               ? copy_clusters(program, path, image, found->id, &sized, cancel, error)
               : copy_whole(program, path, image, found, &sized, cancel, error);
}
