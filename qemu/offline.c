/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "offline.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "copyout.h"
#include "error.h"
#include "copyup.h"
#include "diskimage.h"
#include "diskopen.h"
#include "fault.h"
#include "linger.h"
#include "lockprobe.h"
#include "placeimage.h"
#include "qcow2.h"
#include "qed.h"
#include "qemuimg.h"
#include "tagtable.h"

/* Longer than any program takes from opening an image to asking for its locks, also on a busy machine. */
#define LINGER_SECONDS 10
#define NBD_IDLE_MS 10000
#define NBD_PATIENCE_MS 15000
#define MAX_TAG_BYTES 255 /* qemu-img cuts a longer one without a word (facts/qemu.md A1) */

typedef struct {
    Backend base;
    char *program;
    Linger *linger;
    NbdKeeper *keeper;
} Offline;

static const char *program_of(Backend *backend)
{
    return ((Offline *)backend->self)->program;
}

static Qcow2Image *read_qcow2(const char *path, GError **error)
{
    g_autoptr(ImageFile) file = image_file_open(path, error);
    return file ? qcow2_read(file, error) : NULL;
}

/* raw: the file is the content. */
static ImageInfo *read_raw(const ImageFile *file)
{
    ImageInfo *info = g_new0(ImageInfo, 1);
    info->format = FORMAT_RAW;
    info->virtual_size = image_file_raw_size(file);
    info->tags = image_tags_new();
    return info;
}

static ImageInfo *read_as(const ImageFile *file, ImageFormat format, GError **error)
{
    switch (format) {
    case FORMAT_RAW:
        return read_raw(file);
    case FORMAT_QED:
        return qed_read(file, error);
    case FORMAT_QCOW2: {
        g_autoptr(Qcow2Image) image = qcow2_read(file, error);
        return image ? g_steal_pointer(&image->info) : NULL;
    }
    case FORMAT_NONE:
        break;
    }
    snap_set_error(error, EINVAL, "the format of '%s' is not given", file->path);
    return NULL;
}

static gboolean offline_inspect(Backend *backend, const char *path, ImageFormat format, ImageInfo **ret_info,
                                GError **error)
{
    g_autoptr(ImageFile) file = image_file_open(path, error);
    ImageInfo *info = file ? read_as(file, format, error) : NULL;
    if (!info)
        return FALSE;
    *ret_info = info;
    return TRUE;
}

static gboolean offline_in_use(Backend *backend, const char *path, ImageUse *ret_use, GError **error)
{
    return lockprobe_in_use(path, ret_use, error);
}

static int offline_hold(Backend *backend, const char *path, GError **error)
{
    g_autoptr(ImageFile) file = image_file_open(path, error);
    if (!file || !lockprobe_keep_writers_out(file->fd, path, error))
        return -1;
    int fd = file->fd;
    file->fd = -1; /* the caller's now */
    return fd;
}

static void offline_let_go(Backend *backend, int fd)
{
    linger_add(((Offline *)backend->self)->linger, fd);
}

/* qemu-img flushes data before metadata, not all that it wrote last, and `convert` nothing at all. */
static gboolean flush(const char *path, GError **error)
{
    g_autoptr(ImageFile) file = image_file_open(path, error);
    if (!file)
        return FALSE;
    if (FAULT("image.flush") || fsync(file->fd) < 0) {
        snap_set_errno(error, errno, "cannot flush '%s'", path);
        return FALSE;
    }
    return TRUE;
}

/* qemu-img would make a missing file itself, with an owner and a mode of its own choice. */
static gboolean check_new_file(const char *path, GError **error)
{
    struct stat st;
    if (lstat(path, &st) < 0) {
        snap_set_errno(error, errno, "cannot look at '%s'", path);
        return FALSE;
    }
    if (!S_ISREG(st.st_mode)) {
        snap_set_error(error, EINVAL, "'%s' is not a regular file", path);
        return FALSE;
    }
    return TRUE;
}

static gboolean offline_overlay_create(Backend *backend, const OverlaySpec *spec, GCancellable *cancel,
                                       GError **error)
{
    return check_new_file(spec->path, error) &&
           qemuimg_create(program_of(backend), spec, (QemuImgGeometry){0}, cancel, error) &&
           flush(spec->path, error);
}

static gboolean offline_place_check(Backend *backend, const OverlaySpec *spec, GCancellable *cancel,
                                    GError **error)
{
    return place_image_check(spec, cancel, error);
}

static gboolean offline_place_format(Backend *backend, const OverlaySpec *spec, GCancellable *cancel,
                                     GError **error)
{
    return place_image_format(program_of(backend), spec, cancel, error);
}

static gboolean offline_place_clear(Backend *backend, const OverlaySpec *spec, GError **error)
{
    return place_image_clear(program_of(backend), spec, error);
}

static gboolean offline_tag_create(Backend *backend, const char *path, const char *tag, GCancellable *cancel,
                                   GError **error)
{
    gsize len = strlen(tag);
    if (len == 0 || len > MAX_TAG_BYTES) {
        snap_set_error(error, len ? ENAMETOOLONG : EINVAL, "a tag must have 1 to %d bytes", MAX_TAG_BYTES);
        return FALSE;
    }
    return qemuimg_snapshot(program_of(backend), QEMUIMG_TAG_CREATE, path, tag, cancel, error) &&
           flush(path, error);
}

static gboolean offline_tag_apply(Backend *backend, const char *path, const char *tag, GCancellable *cancel,
                                  GError **error)
{
    g_autoptr(Qcow2Image) image = read_qcow2(path, error);
    const ImageTag *found = image ? qcow2_only_tag(image, path, tag, error) : NULL;
    return found &&
           qemuimg_snapshot(program_of(backend), QEMUIMG_TAG_APPLY, path, found->id, cancel, error) &&
           flush(path, error);
}

/* @image: what @file holds. */
static gboolean delete_tag(const char *program, const ImageFile *file, const Qcow2Image *image,
                           const char *tag, GCancellable *cancel, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(TagTable) table =
        qcow2_only_tag(image, file->path, tag, error) ? tag_table_new(file, image, error) : NULL;
    if (!table)
        return FALSE;
    if (qemuimg_snapshot(program, QEMUIMG_TAG_DELETE, file->path, tag, cancel, &why))
        return TRUE;
    if (tag_table_put_back(table, tag, error))
        g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* A tag that is gone already counts as deleted: a killed `-d` removes the name first (facts/qemu.md A4). */
static gboolean offline_tag_delete(Backend *backend, const char *path, const char *tag, GCancellable *cancel,
                                   GError **error)
{
    g_autoptr(ImageFile) file =
        image_file_open(path, error); /* until the end: it keeps readers of tags out */
    g_autoptr(Qcow2Image) image = file ? qcow2_read(file, error) : NULL;
    if (!image)
        return FALSE;
    if (qcow2_count_tags(image, tag) == 0)
        return flush(path, error);
    if (file->fd >= 0 && !lockprobe_drop_tag(file->fd, path, tag, error))
        return FALSE;
    return delete_tag(program_of(backend), file, image, tag, cancel, error) && flush(path, error);
}

static gboolean offline_copy_out(Backend *backend, const char *path, const char *tag, const OverlaySpec *spec,
                                 GCancellable *cancel, GError **error)
{
    return check_new_file(spec->path, error) &&
           copyout(program_of(backend), path, tag, spec, cancel, error) && flush(spec->path, error);
}

static int offline_open_reader(Backend *backend, const char *path, GError **error)
{
    g_autoptr(ImageFile) file = image_file_open(path, error);
    if (!file || !lockprobe_read(file->fd, path, error))
        return -1;
    int fd = file->fd;
    file->fd = -1; /* the caller's now */
    return fd;
}

static DiskReader *offline_open_disk(Backend *backend, const DiskChain *chain, GError **error)
{
    return diskopen(((Offline *)backend->self)->keeper, chain, error);
}

static gboolean offline_disk_size(Backend *backend, const DiskChain *chain, guint64 *ret_size, GError **error)
{
    return disk_image_size(&chain->layers[0], chain->state == DISK_TAG ? chain->tag : NULL, ret_size, error);
}

static int offline_take(Backend *backend, const char *path, GError **error)
{
    g_autoptr(ImageFile) file = image_file_open(path, error);
    if (!file || !lockprobe_take(file->fd, path, error))
        return -1;
    int fd = file->fd;
    file->fd = -1; /* the caller's now */
    return fd;
}

static gboolean offline_commit(Backend *backend, const MergeSpec *spec, int lower_fd,
                               const BackendProgress *progress, GCancellable *cancel, GError **error)
{
    return qemuimg_commit(program_of(backend), spec, lower_fd, progress, cancel, error) &&
           flush(spec->lower, error);
}

static gboolean offline_copy_up(Backend *backend, const char *path, const OverlaySpec *spec,
                                const BackendProgress *progress, GCancellable *cancel, GError **error)
{
    return check_new_file(spec->path, error) &&
           copyup(program_of(backend), path, spec, progress, cancel, error) && flush(spec->path, error);
}

static gboolean offline_set_backing(Backend *backend, const char *path, const char *backing_name,
                                    ImageFormat backing_format, GError **error)
{
    return qemuimg_set_backing(program_of(backend), path, backing_name, backing_format, NULL, error) &&
           flush(path, error);
}

static gboolean offline_check(Backend *backend, const char *path, ImageCheck *ret_check, GError **error)
{
    return qemuimg_check(program_of(backend), path, ret_check, error);
}

static gboolean offline_repair(Backend *backend, const char *path, GError **error)
{
    return qemuimg_repair(program_of(backend), path, error) && flush(path, error);
}

static void offline_free(Backend *backend)
{
    Offline *offline = backend->self;
    linger_free(offline->linger);
    nbdkeeper_unref(offline->keeper);
    g_free(offline->program);
    g_free(offline);
}

Backend *offline_backend_new(const char *qemu_img)
{
    static const BackendOps ops = {
        .inspect = offline_inspect,
        .in_use = offline_in_use,
        .hold = offline_hold,
        .let_go = offline_let_go,
        .overlay_create = offline_overlay_create,
        .place_check = offline_place_check,
        .place_format = offline_place_format,
        .place_clear = offline_place_clear,
        .tag_create = offline_tag_create,
        .tag_apply = offline_tag_apply,
        .tag_delete = offline_tag_delete,
        .copy_out = offline_copy_out,
        .open_reader = offline_open_reader,
        .open_disk = offline_open_disk,
        .disk_size = offline_disk_size,
        .take = offline_take,
        .commit = offline_commit,
        .copy_up = offline_copy_up,
        .set_backing = offline_set_backing,
        .check = offline_check,
        .repair = offline_repair,
        .free = offline_free,
    };
    Offline *offline = g_new0(Offline, 1);
    offline->base = (Backend){.ops = &ops, .self = offline};
    offline->program = g_strdup(qemu_img ? qemu_img : "qemu-img");
    offline->linger = linger_new(LINGER_SECONDS);
    offline->keeper = nbdkeeper_new(NULL, NBD_IDLE_MS, NBD_PATIENCE_MS);
    return &offline->base;
}
