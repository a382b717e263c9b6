/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "diskimage.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "lockprobe.h"
#include "qed.h"
#include "remote.h"

#define TRIES 16 /* to see a header that a machine writes at the same time twice alike */

static gboolean check_kind(const DiskLayer *layer, GError **error)
{
    if (!remote_is_uri(layer->path) && (layer->format == FORMAT_RAW || layer->format == FORMAT_QCOW2))
        return TRUE;
    snap_set_error(error, EOPNOTSUPP, "'%s' is not a raw or qcow2 image on this host", layer->path);
    return FALSE;
}

static gboolean check_identity(const DiskLayer *layer, const ImageFile *file, FileId *ret_id, GError **error)
{
    FileLook look;
    if (!file_look_open(file->fd, layer->path, &look, error))
        return FALSE;
    if (file_id_known(&layer->id) && !file_id_equal(&layer->id, &look.id)) {
        snap_set_error(error, ESTALE, "'%s' is another file than it was", layer->path);
        return FALSE;
    }
    *ret_id = look.id;
    return TRUE;
}

static gboolean lock_image(DiskImage *image, DiskState state, const char *tag, GError **error)
{
    const ImageFile *file = image->file;
    switch (state) {
    case DISK_FROZEN:
        return lockprobe_read(file->fd, file->path, error) &&
               lockprobe_keep_writers_out(file->fd, file->path, error);
    case DISK_TAG:
        return lockprobe_read_tag(file->fd, file->path, tag, error);
    case DISK_ACTIVE:
        break;
    }
    image->watch = g_new0(DiskWatch, 1);
    return disk_watch_begin(image->watch, file, error);
}

/* Only what the chain says is read below an image, and an image alone must not miss what it stands on. */
static gboolean check_header(const ImageFile *file, const ImageInfo *info, gboolean based, GError **error)
{
    const char *elsewhere = info->encrypted ? "is encrypted" : info->data_file ? "has a data file" : NULL;
    if (elsewhere) {
        snap_set_error(error, EOPNOTSUPP, "'%s' %s", file->path, elsewhere);
        return FALSE;
    }
    if (!!info->backing_name == based)
        return TRUE;
    if (based) {
        snap_set_error(error, EIO, "'%s' should stand on another image, but its header says it stands alone",
                       file->path);
        return FALSE;
    }
    g_autofree char *name = g_utf8_make_valid(info->backing_name, -1);
    snap_set_error(error, EIO, "'%s' should stand alone, but its header says it stands on '%s'", file->path,
                   name);
    return FALSE;
}

/* The state in @header that is called @tag, or the active one. */
static const Qcow2State *find_state(const ImageFile *file, const Qcow2Image *header, const char *tag,
                                    GError **error)
{
    if (!tag)
        return &header->active;
    const ImageTag *found = qcow2_only_tag(header, file->path, tag, error);
    return found ? qcow2_tag_state(header, found) : NULL;
}

static gboolean read_once(ImageFile *file, const char *tag, Qcow2Image **ret_header, Qcow2State *ret_state,
                          GError **error)
{
    g_autoptr(Qcow2Image) header = image_file_measure(file, error) ? qcow2_read(file, error) : NULL;
    const Qcow2State *state = header ? find_state(file, header, tag, error) : NULL;
    if (!state)
        return FALSE;
    *ret_state = *state;
    qcow2_image_free(*ret_header);
    *ret_header = g_steal_pointer(&header);
    return TRUE;
}

/*
 * A machine may be writing the image: the header and the table of snapshots move with each that it takes. What two looks
 * in a row agree on, also that something is wrong, is not half of the one and half of the other.
 */
static gboolean read_moving(ImageFile *file, const char *tag, Qcow2Image **ret_header, Qcow2State *ret_state,
                            GError **error)
{
    g_autoptr(Qcow2Image) header = NULL;
    g_autoptr(GError) last = NULL;
    Qcow2State state = {0}, before = {0};
    for (guint i = 0; i < TRIES; i++, before = state) {
        g_autoptr(GError) why = NULL;
        gboolean read = read_once(file, tag, &header, &state, &why);
        if (read && i > 0 && !last && before.size == state.size && before.l1_offset == state.l1_offset) {
            *ret_header = g_steal_pointer(&header);
            *ret_state = state;
            return TRUE;
        }
        if (why && last && strcmp(why->message, last->message) == 0) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        g_clear_error(&last);
        last = g_steal_pointer(&why);
    }
    snap_set_error(error, EBUSY, "the internal snapshots of '%s' change all the time", file->path);
    return FALSE;
}

static gboolean use_qcow2(DiskImage *image, const char *tag, gboolean based, GError **error)
{
    g_autoptr(Qcow2Image) header = NULL;
    Qcow2State state = {0};
    if (!(tag ? read_moving : read_once)(image->file, tag, &header, &state, error) ||
        !check_header(image->file, header->info, based, error) ||
        !qcow2_layout(image->file, header, &state, &image->layout, error))
        return FALSE;
    image->size = image->layout.size;
    return TRUE;
}

static gboolean use_raw(DiskImage *image, DiskState state, gboolean based, GError **error)
{
    if (based || state == DISK_TAG) {
        snap_set_error(error, EIO, "'%s' is raw: it %s", image->file->path,
                       based ? "stands on nothing" : "has no internal snapshots");
        return FALSE;
    }
    image->raw = TRUE;
    image->size = image_file_raw_size(image->file);
    return TRUE;
}

DiskImage *disk_image_open(const DiskLayer *layer, DiskState state, const char *tag, gboolean based,
                           GError **error)
{
    g_autoptr(DiskImage) image = g_new0(DiskImage, 1);
    if (!check_kind(layer, error))
        return NULL;
    image->file = image_file_open(layer->path, error);
    if (!image->file || !check_identity(layer, image->file, &image->id, error) ||
        !lock_image(image, state, tag, error))
        return NULL;
    gboolean ok = layer->format == FORMAT_RAW
                      ? use_raw(image, state, based, error)
                      : use_qcow2(image, state == DISK_TAG ? tag : NULL, based, error);
    if (!ok || !disk_image_check(image, error))
        return NULL;
    return g_steal_pointer(&image);
}

/* What the header of an image that QEMU is to read says, or NULL; *ret_size: its virtual size. */
static gboolean measure(const ImageFile *file, ImageFormat format, gboolean based, guint64 *ret_size,
                        GError **error)
{
    g_autoptr(Qcow2Image) qcow2 = format == FORMAT_QCOW2 ? qcow2_read(file, error) : NULL;
    g_autoptr(ImageInfo) qed = format == FORMAT_QED ? qed_read(file, error) : NULL;
    const ImageInfo *info = qcow2 ? qcow2->info : qed;
    if (format == FORMAT_RAW && !based)
        *ret_size = image_file_raw_size(file);
    else if (format == FORMAT_RAW)
        snap_set_error(error, EIO, "'%s' is raw: it stands on nothing", file->path);
    else if (info)
        *ret_size = info->virtual_size & ~(guint64)511;
    return format == FORMAT_RAW ? !based : info && check_header(file, info, based, error);
}

DiskImage *disk_image_hold(const DiskLayer *layer, DiskState state, gboolean based, GError **error)
{
    g_autoptr(DiskImage) image = g_new0(DiskImage, 1);
    image->file = image_file_open(layer->path, error);
    if (!image->file || (!image->file->place && (!check_identity(layer, image->file, &image->id, error) ||
                                                 !lock_image(image, state, NULL, error))))
        return NULL;
    if (!measure(image->file, layer->format, based, &image->size, error) || !disk_image_check(image, error))
        return NULL;
    if (image->file->place) /* an export may be for one client at a time */
        g_clear_pointer(&image->file, image_file_close);
    return g_steal_pointer(&image);
}

DiskImage *disk_image_of(DiskReader *reader)
{
    DiskImage *image = g_new0(DiskImage, 1);
    image->reader = reader;
    image->raw = TRUE;
    image->size = reader->size;
    return image;
}

gboolean disk_image_size(const DiskLayer *layer, const char *tag, guint64 *ret_size, GError **error)
{
    g_autoptr(Qcow2Image) header = NULL;
    g_autoptr(ImageFile) file = image_file_open(layer->path, error);
    Qcow2State state;
    if (!file || (!file->place && !check_identity(layer, file, &(FileId){0}, error)))
        return FALSE;
    if (layer->format != FORMAT_QCOW2 && tag) {
        snap_set_error(error, EIO, "'%s' has no internal snapshots: it is not qcow2", file->path);
        return FALSE;
    }
    if (layer->format == FORMAT_RAW) {
        *ret_size = image_file_raw_size(file);
        return TRUE;
    }
    if (layer->format == FORMAT_QED) {
        g_autoptr(ImageInfo) info = qed_read(file, error);
        if (info)
            *ret_size = info->virtual_size;
        return info != NULL;
    }
    if (!(tag ? read_moving : read_once)(file, tag, &header, &state, error))
        return FALSE;
    *ret_size = state.size & ~(guint64)511;
    return TRUE;
}

gboolean disk_image_check(const DiskImage *image, GError **error)
{
    return !image->watch || disk_watch_check(image->watch, error);
}

gboolean disk_image_check_range(const DiskReader *reader, guint64 len, guint64 offset, GError **error)
{
    if (offset <= reader->size && len <= reader->size - offset)
        return TRUE;
    snap_set_error(error, EINVAL, "beyond the end of the disk, which has %" G_GUINT64_FORMAT " bytes",
                   reader->size);
    return FALSE;
}

void disk_image_free(DiskImage *image)
{
    if (!image)
        return;
    image_file_close(image->file);
    disk_reader_free(image->reader);
    g_free(image->watch);
    g_free(image);
}
