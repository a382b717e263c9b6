/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "placeimage.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "place.h"
#include "qemuimg.h"

#define MIB (1024u * 1024)
#define CLUSTER 65536u /* qemu-img's default */
#define SECTOR 512u    /* is written whole or not at all */
#define L1_REACH                                                                                             \
    ((guint64)CLUSTER / 8 * (CLUSTER / 8) * CLUSTER) /* of the disk, by a cluster of the L1 table */
#define OTHER_CLUSTERS 3                             /* header, reference counts' table and block */

/* --- the area --- */

/* How long qemu-img's empty image of that virtual size may be. */
static guint64 metadata_size(guint64 virtual_size)
{
    return (OTHER_CLUSTERS + MAX((virtual_size + L1_REACH - 1) / L1_REACH, 1)) * CLUSTER;
}

/* What must be blank: whole MiBs, as far as the place reaches. */
static gsize area_of(const Place *place, const OverlaySpec *spec)
{
    guint64 area = (metadata_size(spec->size) + MIB - 1) / MIB * MIB;
    return (gsize)MIN(area, place->size / SECTOR * SECTOR);
}

static gboolean is_zero(const guint8 *data, gsize len)
{
    return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

/* The bytes of the area. Caller frees. */
static guint8 *read_area(Place *place, gsize area, GError **error)
{
    g_autofree guint8 *data = g_malloc0(area);
    for (gsize at = 0; at < area; at += CLUSTER)
        if (!place->ops->read(place, at, data + at, MIN(CLUSTER, area - at), error))
            return NULL;
    return g_steal_pointer(&data);
}

static gboolean check_blank(Place *place, gsize area, GError **error)
{
    g_autofree guint8 *data = read_area(place, area, error);
    if (!data)
        return FALSE;
    if (is_zero(data, area))
        return TRUE;
    guint mib = (guint)((area + MIB - 1) / MIB);
    snap_set_error(
        error, EEXIST,
        "'%s' is not blank: there is something in its first %u MiB, and nothing is ever overwritten; "
        "if nobody needs it, wipe it with dd if=/dev/zero bs=1M count=%u",
        place->path, mib, mib);
    return FALSE;
}

static gboolean check_fit(const Place *place, const OverlaySpec *spec, GError **error)
{
    if (spec->format != FORMAT_QCOW2) {
        snap_set_error(error, EOPNOTSUPP,
                       "only a qcow2 overlay can be made on '%s': %s needs a file that grows", place->path,
                       image_format_to_string(spec->format));
        return FALSE;
    }
    if (place->size < metadata_size(spec->size)) {
        snap_set_error(error, ENOSPC,
                       "'%s' has %" G_GUINT64_FORMAT
                       " bytes, not even an empty overlay fits (%" G_GUINT64_FORMAT ")",
                       place->path, place->size, metadata_size(spec->size));
        return FALSE;
    }
    return TRUE;
}

/* udev and LVM look into every device that was open: a moment later it is free. */
#define TRIES 20
#define PAUSE (G_USEC_PER_SEC / 10)

static Place *open_to_write(const OverlaySpec *spec, GCancellable *cancel, GError **error)
{
    for (guint try = 1;; try++) {
        g_autoptr(GError) why = NULL;
        Place *place = place_open(spec->path, PLACE_WRITE, cancel, &why);
        if (place)
            return place;
        if (snap_errno(why) != EBUSY || try == TRIES) {
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
        g_usleep(PAUSE);
    }
}

static gboolean check_place(Place *place, const OverlaySpec *spec, GError **error)
{
    return check_fit(place, spec, error) && check_blank(place, area_of(place, spec), error);
}

/* --- the image --- */

static gboolean read_image(int fd, guint8 *data, gsize area, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size < 0 || (gsize)st.st_size > area) {
        snap_set_error(error, EIO, "qemu-img create: the empty image is larger than it should be");
        return FALSE;
    }
    for (gsize done = 0; done < (gsize)st.st_size;) {
        ssize_t n = pread(fd, data + done, (gsize)st.st_size - done, (off_t)done);
        if (n <= 0) {
            snap_set_errno(error, n < 0 ? errno : EIO, "cannot read an image in memory");
            return FALSE;
        }
        done += (gsize)n;
    }
    return TRUE;
}

/* The bytes of the area with the empty overlay in it. Caller frees. */
static guint8 *make_image(const char *program, const OverlaySpec *spec, gsize area, GCancellable *cancel,
                          GError **error)
{
    g_autofree guint8 *data = g_malloc0(area);
    int fd = memfd_create("domsnapfs-overlay", MFD_CLOEXEC);
    if (fd < 0) {
        snap_set_errno(error, errno, "cannot make a file in memory");
        return NULL;
    }
    gboolean ok = qemuimg_create_in(program, spec, fd, cancel, error) && read_image(fd, data, area, error);
    close(fd);
    return ok ? g_steal_pointer(&data) : NULL;
}

/* Write what of @data is not zero, the first cluster last: without a header it is no image. */
static gboolean write_image(Place *place, const guint8 *data, gsize area, GError **error)
{
    for (gsize at = (area - 1) / CLUSTER * CLUSTER; at > 0; at -= CLUSTER) {
        gsize len = MIN(CLUSTER, area - at);
        if (!is_zero(data + at, len) && !place->ops->write(place, at, data + at, len, error))
            return FALSE;
    }
    return place->ops->flush(place, error) && place->ops->write(place, 0, data, MIN(CLUSTER, area), error) &&
           place->ops->flush(place, error);
}

/* Is each sector of @there blank or what @image has in its place? */
static gboolean is_ours(const guint8 *there, const guint8 *image, gsize area)
{
    for (gsize at = 0; at < area; at += SECTOR) {
        gsize len = MIN(SECTOR, area - at);
        if (!is_zero(there + at, len) && memcmp(there + at, image + at, len) != 0)
            return FALSE;
    }
    return TRUE;
}

/* The header first: from then on it is no image. */
static gboolean write_zeros(Place *place, const guint8 *there, gsize area, GError **error)
{
    static const guint8 zeros[CLUSTER];
    for (gsize at = 0; at < area; at += CLUSTER) {
        gsize len = MIN(CLUSTER, area - at);
        if (!is_zero(there + at, len) && !place->ops->write(place, at, zeros, len, error))
            return FALSE;
    }
    return place->ops->flush(place, error);
}

/* --- what the backend does --- */

gboolean place_image_check(const OverlaySpec *spec, GCancellable *cancel, GError **error)
{
    g_autoptr(Place) place = place_open(spec->path, PLACE_CLAIM, cancel, error);
    return place && check_place(place, spec, error);
}

gboolean place_image_format(const char *program, const OverlaySpec *spec, GCancellable *cancel,
                            GError **error)
{
    g_autoptr(Place) place = open_to_write(spec, cancel, error);
    if (!place || !check_place(place, spec, error))
        return FALSE;
    gsize area = area_of(place, spec);
    g_autofree guint8 *image = make_image(program, spec, area, cancel, error);
    return image && write_image(place, image, area, error);
}

gboolean place_image_clear(const char *program, const OverlaySpec *spec, GError **error)
{
    g_autoptr(Place) place = open_to_write(spec, NULL, NULL);
    if (!place || !check_fit(place, spec, NULL))
        return TRUE;
    gsize area = area_of(place, spec);
    g_autofree guint8 *there = read_area(place, area, error);
    if (!there || is_zero(there, area))
        return there != NULL;
    g_autofree guint8 *image = make_image(program, spec, area, NULL, error);
    if (!image)
        return FALSE;
    return !is_ours(there, image, area) || write_zeros(place, there, area, error);
}
