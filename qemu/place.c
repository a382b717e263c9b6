/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening places, and those that are devices. */
#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend.h"
#include "error.h"
#include "fault.h"
#include "files.h"
#include "lockprobe.h"
#include "nbdplace.h"
#include "remote.h"

typedef struct {
    Place base;
    int fd;
} Device;

static gboolean device_read(Place *place, guint64 offset, void *buffer, gsize len, GError **error)
{
    const Device *device = (const Device *)place;
    for (gsize done = 0; done < len;) {
        ssize_t n = pread(device->fd, (char *)buffer + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            snap_set_errno(error, n < 0 ? errno : EIO, "cannot read '%s'", place->path);
            return FALSE;
        }
        done += (gsize)n;
    }
    return TRUE;
}

static gboolean device_write(Place *place, guint64 offset, const void *buffer, gsize len, GError **error)
{
    const Device *device = (const Device *)place;
    for (gsize done = 0; done < len;) {
        ssize_t n = FAULT("place.write")
                        ? -1
                        : pwrite(device->fd, (const char *)buffer + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            snap_set_errno(error, n < 0 ? errno : EIO, "cannot write '%s'", place->path);
            return FALSE;
        }
        done += (gsize)n;
    }
    return TRUE;
}

static gboolean device_flush(Place *place, GError **error)
{
    if (fsync(((const Device *)place)->fd) == 0)
        return TRUE;
    snap_set_errno(error, errno, "cannot flush '%s'", place->path);
    return FALSE;
}

static void device_close(Place *place)
{
    close(((const Device *)place)->fd);
}

static const PlaceOps device_ops = {
    .read = device_read,
    .write = device_write,
    .flush = device_flush,
    .close = device_close,
};

/* Nobody may have it open; from now on no QEMU program writes it. */
static gboolean claim(const Device *device, GError **error)
{
    ImageUse use;
    if (!lockprobe_in_use(device->base.path, &use, error))
        return FALSE;
    if (use != USE_NONE) {
        snap_set_error(error, EBUSY, "another process has '%s' open", device->base.path);
        return FALSE;
    }
    return lockprobe_keep_writers_out(device->fd, device->base.path, error);
}

static int open_device(const char *path, PlaceAccess access, GError **error)
{
    g_autoptr(GError) why = NULL;
    static const int flags[] = {
        [PLACE_READ] = O_RDONLY, [PLACE_CLAIM] = O_RDONLY | O_EXCL, [PLACE_WRITE] = O_RDWR | O_EXCL};
    int fd = file_open_image(path, flags[access], &why);
    if (fd >= 0)
        return fd;
    if (snap_errno(why) == EBUSY)
        snap_set_error(error, EBUSY, "'%s' is in use: mounted, or a part of another device", path);
    else
        g_propagate_error(error, g_steal_pointer(&why));
    return -1;
}

static Place *device_open(const char *path, PlaceAccess access, GError **error)
{
    int fd = open_device(path, access, error);
    if (fd < 0)
        return NULL;
    struct stat st;
    Device *device = g_new0(Device, 1);
    device->base = (Place){.ops = &device_ops, .path = g_strdup(path)};
    device->fd = fd;
    g_autoptr(Place) place = &device->base;
    off_t size = lseek(fd, 0, SEEK_END);
    if (fstat(fd, &st) < 0 || size < 0) {
        snap_set_errno(error, errno, "cannot tell the size of '%s'", path);
        return NULL;
    }
    if (!S_ISBLK(st.st_mode)) {
        snap_set_error(error, EINVAL, "'%s' is not a block device", path);
        return NULL;
    }
    place->size = (guint64)size;
    if (access != PLACE_READ && !claim(device, error))
        return NULL;
    return g_steal_pointer(&place);
}

Place *place_open(const char *path, PlaceAccess access, GCancellable *cancel, GError **error)
{
    return remote_is_uri(path) ? nbd_place_open(path, access, cancel, error)
                               : device_open(path, access, error);
}

void place_close(Place *place)
{
    if (!place)
        return;
    place->ops->close(place);
    g_free(place->path);
    g_free(place);
}
