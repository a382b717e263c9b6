/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Place: a block device or an NBD export. Unlike a file it is there already, has a size of its own, and cannot be
 * published under a name once it is complete: what is written is there. Used by one thread at a time.
 *
 * To write it, a device is claimed exclusively (so it is not mounted, no part of a volume or RAID, and nobody can make
 * it so meanwhile), and QEMU programs are kept from writing it. An export has no such thing: who else is connected to
 * the server cannot be found out.
 */
#pragma once

#include <gio/gio.h>

typedef struct Place Place;

typedef struct {
    gboolean (*read)(Place *place, guint64 offset, void *buffer, gsize len, GError **error);
    gboolean (*write)(Place *place, guint64 offset, const void *buffer, gsize len, GError **error);
    gboolean (*flush)(Place *place, GError **error); /* on stable storage */
    void (*close)(Place *place);
} PlaceOps;

struct Place {
    const PlaceOps *ops;
    char *path; /* of the device, or the URI (remote.h) */
    guint64 size;
};

typedef enum {
    PLACE_READ,
    PLACE_CLAIM, /* exclusive and for writing, but nothing will be written yet: udev need not look at it again */
    PLACE_WRITE,
} PlaceAccess;

/*
 * Open @path: a device, or the URI of an export. EBUSY: somebody uses the device; EINVAL: it is none; EROFS; for an
 * export what connecting says, ETIMEDOUT.
 */
Place *place_open(const char *path, PlaceAccess access, GCancellable *cancel, GError **error);
void place_close(Place *place);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Place, place_close)
